//! A disk of its own that a test can fill.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tmpfs, gone when dropped.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one; `None` if this process may not.
    pub(crate) fn mount(at: &Path, size_bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).expect("the scratch directory can be written to");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "tmpfs"]).arg(at);
        let done = mount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then(|| Self { at: at.to_owned() })
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("there is an entry left");
        // Whoever works there may give some of its own room back meanwhile.
        let is_full = (0..FILLS_MAX).any(|_| {
            for piece in [1 << 20, 4096] {
                while ballast.write_all(&vec![1; piece]).is_ok() {}
            }
            ballast.write(&[1]).is_err()
        });
        assert!(is_full, "the disk takes more and more");
    }

    /// Gives that back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The process that used it may be a moment from its end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

const FILLS_MAX: u32 = 100;
