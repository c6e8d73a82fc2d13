//! The program as an operator types it.

use super::process::PINWHEEL;
use std::path::Path;
use std::process::{Command, Stdio};

/// What one command came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Said {
    /// Standard output, if all went well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Standard output as JSON, whatever the exit code.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs one command for a data directory, to its end.
pub(crate) fn pinwheel(data: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(PINWHEEL);
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("the program can be started");
    Said {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("what it says is text"),
        errors: String::from_utf8(output.stderr).expect("what it says is text"),
    }
}
