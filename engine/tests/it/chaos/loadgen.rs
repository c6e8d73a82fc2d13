//! The load generator among the tills: a process of its own that judges what it is told by itself.

use super::town::Who::{Cache, Hub, Two};
use super::town::{Town, write_keys};
use crate::support::process::PINWHEEL;
use engine::admin::KeyRow;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How many terminals it plays.
pub(super) const TERMINALS: usize = 10;
/// What they buy. The others do not, so that the hub's count of it is theirs.
const PRODUCT: &str = "2";
/// Vends a second.
const RATE: &str = "50";

/// Killed when dropped.
pub(super) struct Loadgen(Option<Child>);

impl Loadgen {
    /// Sells at [`Two`] and [`Cache`] until some time after the last trouble; none, if it was not built.
    pub(super) fn start(folder: &Path, town: &Town, keys: &[KeyRow], seconds: u64) -> Option<Self> {
        let program = Path::new(PINWHEEL).with_file_name("loadgen");
        if !program.exists() {
            return None;
        }
        let file = folder.join("terminals.csv");
        write_keys(&file, keys);
        for who in [Two, Cache] {
            keys.iter().for_each(|key| town.of(who).await_terminal(key));
        }
        let [two, cache] = town.doors();
        let duration = Duration::from_secs(seconds) + AFTERWARDS;
        let child = Command::new(program)
            .args([
                "run",
                "--quiet",
                "--json",
                "--threads",
                "1",
                "--shared",
                "--product",
                PRODUCT,
                "--rate",
                RATE,
            ])
            .args(["--target", &format!("{two},{cache}"), "--duration", &format!("{}s", duration.as_secs())])
            .arg("--terminals")
            .arg(file)
            .arg("--state")
            .arg(folder.join("loadgen-state"))
            .arg("--books")
            .arg(town.data(Hub))
            .stdout(Stdio::piped())
            .spawn();
        Some(Self(Some(child.expect("it can be started"))))
    }

    /// Waits for its judgement, which must be that no promise was broken; how many PINs it bought. Its figures mean nothing here.
    pub(super) fn finish(mut self) -> u64 {
        let child = self.0.take().expect("it is taken here alone");
        let output = child.wait_with_output().expect("it is our child");
        let text = String::from_utf8_lossy(&output.stdout);
        let result: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(matches!(output.status.code(), Some(0 | 3)), "the load generator found this: {text}");
        assert_eq!(result["findings"]["counts"].as_object().map_or(0, serde_json::Map::len), 0, "{text}");
        result["counts"]["sold"].as_u64().expect("it counts")
    }
}

impl Drop for Loadgen {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last trouble may begin at the end of its time, and whoever was killed in it needs a moment.
const AFTERWARDS: Duration = Duration::from_secs(10);
