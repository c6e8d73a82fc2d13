//! Storage as the engine sees it: preallocated regions that are stored to and synced, and immutable files.
//!
//! [`mapped`] is the real thing, files behind memory mappings; [`heap`] is its twin for tests and simulation, which
//! knows for every sector what is stored and what is durable, and can lose power.

pub mod heap;
pub mod lock;
pub mod mapped;

use std::fmt;

/// Durability is spoken of in sectors of this many bytes: a sector holds its old or its new content after power loss,
/// or, when torn, new bytes up to some point and old bytes from there on.
pub const SECTOR_BYTES: usize = 512;

/// A directory of files. Paths are relative, `/`-separated, without `..`.
pub trait Disk: Send + Sync + 'static {
    /// A file that is stored to in place.
    type Region: Region;
    /// The bytes of an immutable file.
    type Content: AsRef<[u8]> + Send + Sync + 'static;

    /// Creates a file of `size_bytes` zeros, written and synced with its directory entry; replaces any of that name.
    ///
    /// # Errors
    /// [`DiskError`], with [`DiskError::is_full`] when there is no room; nothing of that name is left then.
    fn create_region(&self, path: &str, size_bytes: u64) -> Result<Self::Region, DiskError>;

    /// Opens a file made by [`Disk::create_region`]. A region has one owner at a time.
    ///
    /// # Errors
    /// [`DiskError`].
    fn open_region(&self, path: &str) -> Result<Self::Region, DiskError>;

    /// Writes a whole file so that after power loss either the old or the new one is there: temporary file, sync,
    /// rename, sync of the directory. Durable on return. Missing directories are made.
    ///
    /// # Errors
    /// [`DiskError`]; the old file is untouched then.
    fn write(&self, path: &str, parts: &[&[u8]]) -> Result<(), DiskError>;

    /// Opens an immutable file for reading. The file is never written again while it is open.
    ///
    /// # Errors
    /// [`DiskError`].
    fn open(&self, path: &str) -> Result<Self::Content, DiskError>;

    /// Reads part of a file, also of one that is open as a region, in place of what `into` held: what is stored there,
    /// durable or not. Fewer bytes than `length` only at the file's end.
    ///
    /// # Errors
    /// [`DiskError`]; `into` holds anything then.
    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), DiskError>;

    /// Adds bytes to the end of a file (made when missing) and syncs it; returns the file's new length.
    ///
    /// # Errors
    /// [`DiskError`]; some of the bytes may be there then.
    fn append(&self, path: &str, bytes: &[u8]) -> Result<u64, DiskError>;

    /// Cuts a file to `length` bytes and syncs it.
    ///
    /// # Errors
    /// [`DiskError`].
    fn truncate(&self, path: &str, length: u64) -> Result<(), DiskError>;

    /// Renames a file, durably, replacing any of the new name.
    ///
    /// # Errors
    /// [`DiskError`].
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file; it is no error if it is not there. Durable on return.
    ///
    /// # Errors
    /// [`DiskError`].
    fn remove(&self, path: &str) -> Result<(), DiskError>;

    /// The names of the files in a directory, sorted; empty if there is no such directory. Temporary files are left out.
    ///
    /// # Errors
    /// [`DiskError`].
    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError>;
}

/// A file of fixed size that is stored to in place. What is stored is visible to [`Region::bytes`] at once, and durable
/// after the next [`Region::sync`].
pub trait Region: Send + 'static {
    /// The whole content as stored, durable or not.
    fn bytes(&self) -> &[u8];

    /// Stores bytes.
    ///
    /// # Panics
    /// When they do not fit: the caller knows the size.
    fn store(&mut self, offset: usize, bytes: &[u8]);

    /// Makes everything stored so far durable.
    ///
    /// # Errors
    /// [`DiskError`]; nothing may be assumed about what is durable then, and a second sync that succeeds proves nothing.
    fn sync(&mut self) -> Result<(), DiskError>;
}

/// What went wrong with which file.
#[derive(Debug)]
pub struct DiskError {
    /// The file.
    pub path: String,
    /// What was being done, as a verb: "sync", "create".
    pub action: &'static str,
    /// What the system said.
    pub source: std::io::Error,
}

impl DiskError {
    /// Whether the cause is lack of room, which passes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::QuotaExceeded
                | std::io::ErrorKind::FileTooLarge
        )
    }
}

impl DiskError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.action, self.path, self.source)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
