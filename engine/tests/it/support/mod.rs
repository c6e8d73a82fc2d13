//! A real network in a process of its own, and tills that talk to it byte by byte.

pub(crate) mod command;
pub(crate) mod ends;
pub(crate) mod hold;
pub(crate) mod load;
pub(crate) mod manager;
pub(crate) mod memory;
pub(crate) mod netns;
pub(crate) mod nodes;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod small_disk;
pub(crate) mod till;

use std::io::Write;
use std::path::PathBuf;

/// Names what a test machine lacks. Under `PINWHEEL_REQUIRE_ALL=1` lacking it is a failure.
pub(crate) fn lacking(what: &str) {
    let required = std::env::var("PINWHEEL_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "PINWHEEL_REQUIRE_ALL is set and this machine lacks {what}");
    // Not by the macro, whose output is shown of failed tests only.
    let _ = writeln!(std::io::stderr(), "DID NOT RUN: this machine lacks {what}");
}

/// A temporary directory on the disk that the tests are built on, removed when dropped.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR")))
        .expect("the build directory can be written to")
}
