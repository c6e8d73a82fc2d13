//! One process per data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Holds a data directory for this process, as long as it lives: `flock` on a file in it, which the system releases
/// whatever way the process ends.
#[derive(Debug)]
pub struct DirLock {
    directory: PathBuf,
    file: File,
}

impl DirLock {
    /// Takes a directory, making it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(directory: impl Into<PathBuf>) -> Result<Self, LockError> {
        let directory = directory.into();
        let failed = |source| LockError::Io { directory: directory.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let path = directory.join(LOCK_FILE);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The holder writes its id right after it has the lock: for a moment there may be none.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { directory, pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { directory, file })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child process that was just forked and has not yet closed its copy. If this
        // fails, closing follows.
        let _ = self.file.unlock();
    }
}

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {}", directory.display(), holder(*pid))]
    Held {
        /// The data directory.
        directory: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// The directory or its lock file is not accessible.
    #[error("cannot lock {}: {source}", directory.display())]
    Io {
        /// The data directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

const LOCK_FILE: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let lock = DirLock::acquire(&directory).unwrap();
        let error = DirLock::acquire(&directory).unwrap_err();
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()));
        assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
        drop(lock);
        DirLock::acquire(&directory).unwrap();
    }
}
