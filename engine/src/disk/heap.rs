//! A disk in memory that can lose power: the twin of the mapped one, for tests and simulation.
//!
//! Every file keeps two contents, what is stored and what is durable. Power loss rolls each unsynced sector, by the
//! seed, to its old content, its new content, or a torn mix.

use super::{Disk, DiskError, Region, SECTOR_BYTES};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle to one in-memory disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct HeapDisk {
    shared: Arc<Mutex<Shared>>,
}

impl HeapDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk with the same content, stored and durable, without a limit and without failing syncs.
    #[must_use]
    pub fn copy(&self) -> Self {
        let files = self.lock().files.clone();
        let shared = Shared { files, ..Shared::default() };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// How many bytes all its files hold.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.lock().held_bytes()
    }

    /// Lets the disk hold at most `bytes` in all its files; less than it holds now makes every growth fail.
    pub fn limit(&self, bytes: Option<u64>) {
        self.lock().limit_bytes = bytes;
    }

    /// Whether there is a limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.lock().limit_bytes.is_some()
    }

    /// Makes every sync fail from the `count`-th from now on (1: the next one); `None`: never.
    pub fn fail_sync_after(&self, count: Option<u64>) {
        self.lock().syncs_until_failure = count;
    }

    /// Cuts the power. Every sector that was stored to since its last sync becomes old, new or torn, as `roll` says:
    /// 0 old, 1 new, otherwise torn with the new bytes up to `roll % 512`. Regions open now are dead: use new ones.
    pub fn lose_power(&self, mut roll: impl FnMut() -> u64) {
        let mut shared = self.lock();
        shared.power_losses += 1;
        for file in shared.files.values_mut() {
            if file.stored == file.durable {
                continue;
            }
            // Of a length that was not synced, too, the old or the new one is there.
            match file.stored.len().cmp(&file.durable.len()) {
                Ordering::Less if roll() != 0 => file.durable.truncate(file.stored.len()),
                Ordering::Greater if roll() != 0 => file.durable.resize(file.stored.len(), 0),
                _ => {}
            }
            let length = file.stored.len().min(file.durable.len());
            for at in (0..length).step_by(SECTOR_BYTES) {
                let end = (at + SECTOR_BYTES).min(length);
                if file.stored[at..end] == file.durable[at..end] {
                    continue;
                }
                let kept = match roll() {
                    0 => 0,
                    1 => end - at,
                    torn => (torn % SECTOR_BYTES as u64) as usize,
                };
                let kept_end = (at + kept).min(end);
                let (stored, durable) = (&file.stored, &mut file.durable);
                durable[at..kept_end].copy_from_slice(&stored[at..kept_end]);
            }
            file.stored = file.durable.clone();
        }
    }

    /// Flips one bit of what is stored and durable, as decay at rest does.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &str, offset: usize, bit: u8) {
        let mut shared = self.lock();
        let file = shared.files.get_mut(path).expect("the test names a file that exists");
        file.stored[offset] ^= 1 << bit;
        file.durable[offset] ^= 1 << bit;
    }

    /// Shows every file with what is stored in it.
    pub fn each_file(&self, mut show: impl FnMut(&str, &[u8])) {
        self.lock().files.iter().for_each(|(path, file)| show(path, &file.stored));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for HeapDisk {
    type Region = HeapRegion;
    type Content = Vec<u8>;

    fn create_region(&self, path: &str, size_bytes: u64) -> Result<HeapRegion, DiskError> {
        let mut shared = self.lock();
        shared.count_sync("create", path)?;
        shared.files.remove(path);
        shared.room_for("create", path, size_bytes)?;
        let zeros = vec![0; usize::try_from(size_bytes).expect("a region fits the address space")];
        shared.files.insert(path.to_owned(), File { stored: zeros.clone(), durable: zeros.clone() });
        let power_losses = shared.power_losses;
        drop(shared);
        Ok(HeapRegion {
            disk: self.clone(),
            path: path.to_owned(),
            bytes: zeros,
            dirty: Vec::new(),
            power_losses,
        })
    }

    fn open_region(&self, path: &str) -> Result<HeapRegion, DiskError> {
        let shared = self.lock();
        let bytes = shared.file("open", path)?.stored.clone();
        let power_losses = shared.power_losses;
        drop(shared);
        Ok(HeapRegion { disk: self.clone(), path: path.to_owned(), bytes, dirty: Vec::new(), power_losses })
    }

    fn write(&self, path: &str, parts: &[&[u8]]) -> Result<(), DiskError> {
        let mut shared = self.lock();
        let content = parts.concat();
        shared.room_for("write", path, content.len() as u64)?;
        shared.count_sync("sync", path)?;
        shared.files.insert(path.to_owned(), File { stored: content.clone(), durable: content });
        Ok(())
    }

    fn open(&self, path: &str) -> Result<Vec<u8>, DiskError> {
        Ok(self.lock().file("open", path)?.stored.clone())
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), DiskError> {
        let shared = self.lock();
        let stored = &shared.file("read", path)?.stored;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(stored.len());
        into.clear();
        into.extend_from_slice(&stored[start..stored.len().min(start.saturating_add(length))]);
        Ok(())
    }

    fn append(&self, path: &str, bytes: &[u8]) -> Result<u64, DiskError> {
        let mut shared = self.lock();
        shared.room_for("append to", path, bytes.len() as u64)?;
        let synced = shared.count_sync("sync", path);
        let file = shared.files.entry(path.to_owned()).or_default();
        file.stored.extend_from_slice(bytes);
        synced?;
        file.durable = file.stored.clone();
        Ok(file.stored.len() as u64)
    }

    fn truncate(&self, path: &str, length: u64) -> Result<(), DiskError> {
        let mut shared = self.lock();
        let synced = shared.count_sync("sync", path);
        let file = shared.files.get_mut(path).ok_or_else(|| missing("truncate", path))?;
        file.stored.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        synced?;
        file.durable = file.stored.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut shared = self.lock();
        shared.count_sync("sync", to)?;
        let file = shared.files.remove(from).ok_or_else(|| missing("rename", from))?;
        shared.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.lock().files.remove(path);
        Ok(())
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        let prefix = format!("{directory}/");
        let shared = self.lock();
        let names = shared.files.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }
}

/// An open region of a [`HeapDisk`].
pub struct HeapRegion {
    disk: HeapDisk,
    path: String,
    bytes: Vec<u8>,
    /// Ranges stored since the last sync.
    dirty: Vec<std::ops::Range<usize>>,
    power_losses: u64,
}

impl Region for HeapRegion {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        let range = offset..offset + bytes.len();
        self.bytes[range.clone()].copy_from_slice(bytes);
        let mut shared = self.disk.lock();
        // A store after a power loss belongs to a dead process.
        if shared.power_losses == self.power_losses
            && let Some(file) = shared.files.get_mut(&self.path)
        {
            file.stored[range.clone()].copy_from_slice(bytes);
        }
        self.dirty.push(range);
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut shared = self.disk.lock();
        shared.count_sync("sync", &self.path)?;
        if shared.power_losses != self.power_losses {
            return Err(missing("sync", &self.path));
        }
        let Some(file) = shared.files.get_mut(&self.path) else { return Err(missing("sync", &self.path)) };
        for range in self.dirty.drain(..) {
            let (stored, durable) = (&file.stored, &mut file.durable);
            durable[range.clone()].copy_from_slice(&stored[range]);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, File>,
    limit_bytes: Option<u64>,
    syncs_until_failure: Option<u64>,
    power_losses: u64,
}

impl Shared {
    fn held_bytes(&self) -> u64 {
        self.files.values().map(|file| file.stored.len() as u64).sum()
    }

    fn file(&self, action: &'static str, path: &str) -> Result<&File, DiskError> {
        self.files.get(path).ok_or_else(|| missing(action, path))
    }

    fn room_for(&self, action: &'static str, path: &str, more_bytes: u64) -> Result<(), DiskError> {
        if self.limit_bytes.is_some_and(|limit| self.held_bytes() + more_bytes > limit) {
            return Err(DiskError {
                path: path.to_owned(),
                action,
                source: Error::from(ErrorKind::StorageFull),
            });
        }
        Ok(())
    }

    fn count_sync(&mut self, action: &'static str, path: &str) -> Result<(), DiskError> {
        match &mut self.syncs_until_failure {
            None => Ok(()),
            Some(0 | 1) => {
                self.syncs_until_failure = Some(0);
                Err(DiskError { path: path.to_owned(), action, source: Error::other("planted sync failure") })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

#[derive(Clone, Default)]
struct File {
    stored: Vec<u8>,
    durable: Vec<u8>,
}

fn missing(action: &'static str, path: &str) -> DiskError {
    DiskError { path: path.to_owned(), action, source: Error::from(ErrorKind::NotFound) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_loss_keeps_what_was_synced_and_any_sectors_of_the_rest() {
        let disk = HeapDisk::new();
        let mut region = disk.create_region("r", 2048).unwrap();
        region.store(0, &[1; 512]);
        region.sync().unwrap();
        region.store(512, &[2; 1536]);
        let mut rolls = [0u64, 1, 100].into_iter();
        disk.lose_power(|| rolls.next().unwrap());
        let after = disk.open("r").unwrap();
        assert_eq!(after[..512], [1; 512], "synced");
        assert_eq!(after[512..1024], [0; 512], "lost");
        assert_eq!(after[1024..1536], [2; 512], "reached the disk");
        assert_eq!(after[1536..1636], [2; 100], "torn: new bytes first");
        assert_eq!(after[1636..], [0; 412], "torn: old bytes after");
        assert!(region.sync().is_err(), "the region died with the power");
    }

    #[test]
    fn a_process_that_dies_without_power_loss_leaves_its_stores_visible_but_not_durable() {
        let disk = HeapDisk::new();
        let mut region = disk.create_region("r", 512).unwrap();
        region.store(0, &[1; 512]);
        drop(region);
        assert_eq!(disk.open_region("r").unwrap().bytes()[0], 1);
        disk.lose_power(|| 0);
        assert_eq!(disk.open_region("r").unwrap().bytes()[0], 0);
    }
}
