//! A node's copy of the registry: the whole of it in one sealed file, and beside it the changes since, one sealed file
//! each, so that a change costs what it changes. From time to time the whole is written again.

use super::StewardError;
use crate::disk::{Disk, DiskError};
use crate::registry::sealed::{SealedError, decode_sealed, encode_sealed};
use crate::registry::{Delta, Registry};
use crate::stock::NodeKeys;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The registry in force at a node, and how much of it is durable there.
pub(super) struct RegistryCopy<D: Disk> {
    disk: Arc<D>,
    key: [u8; 32],
    current: Arc<Registry>,
    /// The version that a start would find.
    stored: u64,
    /// Changes since the whole was written: how many, and rows in them.
    deltas: usize,
    rows: usize,
    /// Changes that came before what they change, by that version.
    early: BTreeMap<u64, Arc<Delta>>,
    /// The whole has been asked for.
    asked: bool,
}

/// A change that does not follow what is here.
pub(super) struct Misfit {
    /// Whether to ask for the whole.
    pub(super) ask: bool,
}

impl<D: Disk> RegistryCopy<D> {
    /// What the disk holds; an empty registry if it holds none.
    ///
    /// A change that cannot be read ends the copy before it: upstream says the rest again.
    pub(super) fn open(disk: Arc<D>, keys: &NodeKeys) -> Result<Self, OpenError> {
        let key = *keys.registry();
        let whole = || match disk.open(REGISTRY_FILE) {
            Ok(file) => decode_sealed::<Registry>(file.as_ref(), &key).map_err(OpenError::Sealed),
            Err(error) if error.is_missing() => Ok(Registry::default()),
            Err(error) => Err(error.into()),
        };
        let mut current = whole()?;
        let mut names = disk.list(DELTA_DIRECTORY)?;
        names.sort_unstable();
        let (mut deltas, mut rows) = (0, 0);
        for name in names {
            let path = format!("{DELTA_DIRECTORY}/{name}");
            match decode_sealed::<Delta>(disk.open(&path)?.as_ref(), &key) {
                Ok(delta) if delta.from == current.version() => {
                    if current.apply(&delta).is_err() {
                        // It was right when it was written. Upstream will say all of it again.
                        (current, deltas, rows) = (whole()?, 0, 0);
                        break;
                    }
                    deltas += 1;
                    rows += delta.rows();
                }
                // One from before the whole was written, or one that follows what cannot be read.
                _ => disk.remove(&path)?,
            }
        }
        let stored = current.version();
        Ok(Self {
            disk,
            key,
            current: Arc::new(current),
            stored,
            deltas,
            rows,
            early: BTreeMap::new(),
            asked: false,
        })
    }

    pub(super) fn current(&self) -> &Arc<Registry> {
        &self.current
    }

    /// The version that is durable here.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Whether a start would find less than what is in force.
    pub(super) fn is_behind(&self) -> bool {
        self.stored != self.current.version()
    }

    /// Upstream sent the whole; whether it changes anything. One that is older than what is here was overtaken on its way.
    pub(super) fn replace(&mut self, registry: Arc<Registry>) -> bool {
        self.asked = false;
        let held = self.current.version();
        if registry.version() < held || registry == self.current {
            return false;
        }
        self.current = registry;
        // What is stored is another one, whatever its version.
        self.stored = u64::MAX;
        while let Some(delta) = self.early.remove(&self.current.version()) {
            let mut next = Registry::clone(&self.current);
            if next.apply(&delta).is_err() {
                break;
            }
            self.current = Arc::new(next);
        }
        self.early.clear();
        true
    }

    /// Upstream sent a change. It is in force at once, and stored if there is room.
    ///
    /// # Errors
    /// [`Misfit`]: nothing is changed by it now.
    pub(super) fn apply(&mut self, delta: Arc<Delta>) -> Result<Result<(), DiskError>, Misfit> {
        let mut next = Registry::clone(&self.current);
        if next.apply(&delta).is_err() {
            // It follows what has not come yet, or the copy is wrong.
            if delta.to > self.current.version() && self.early.len() < EARLY_MAX {
                self.early.insert(delta.from, delta);
            }
            return Err(Misfit { ask: !std::mem::replace(&mut self.asked, true) });
        }
        let continues = self.stored == delta.from;
        self.current = Arc::new(next);
        let enough =
            self.deltas >= DELTAS_MAX || self.rows + delta.rows() > ROWS_MIN.max(self.all_rows() / 4);
        if !continues || enough {
            return Ok(self.store());
        }
        let path = format!("{DELTA_DIRECTORY}/{:016x}", delta.to);
        let file = encode_sealed(&*delta, &self.key, nonce(delta.to, 1));
        let written = self.disk.write(&path, &[&file]);
        if written.is_ok() {
            self.stored = delta.to;
            self.deltas += 1;
            self.rows += delta.rows();
        }
        Ok(written)
    }

    /// The connection is gone, and with it what was on its way.
    pub(super) fn handle_cut(&mut self) {
        self.early.clear();
        self.asked = false;
    }

    /// Writes the whole, if that is needed.
    pub(super) fn store(&mut self) -> Result<(), DiskError> {
        let version = self.current.version();
        let file = encode_sealed(&*self.current, &self.key, nonce(version, 0));
        self.disk.write(REGISTRY_FILE, &[&file])?;
        self.stored = version;
        (self.deltas, self.rows) = (0, 0);
        for name in self.disk.list(DELTA_DIRECTORY)? {
            self.disk.remove(&format!("{DELTA_DIRECTORY}/{name}"))?;
        }
        Ok(())
    }

    fn all_rows(&self) -> usize {
        let registry = &self.current;
        registry.varieties().len() + registry.dealers().len() + registry.terminals().len()
    }
}

/// The registry that a node's disk holds.
///
/// # Errors
/// [`StewardError`].
pub fn stored_registry<D: Disk>(disk: &Arc<D>, keys: &NodeKeys) -> Result<Arc<Registry>, StewardError> {
    Ok(Arc::clone(RegistryCopy::open(Arc::clone(disk), keys)?.current()))
}

/// Why the copy cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Sealed(SealedError),
}

impl From<OpenError> for StewardError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk(error) => Self::Disk(error),
            OpenError::Sealed(error) => Self::Registry(error),
        }
    }
}

/// A version never names two registries, nor two changes, so this is used once under the node's key.
fn nonce(version: u64, kind: u8) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&version.to_le_bytes());
    nonce[8] = kind;
    nonce
}

/// The whole.
pub(super) const REGISTRY_FILE: &str = "registry";
/// The changes since.
const DELTA_DIRECTORY: &str = "registry-changes";
/// Changes kept that came too early.
const EARLY_MAX: usize = 1024;
/// Changes kept beside the whole.
const DELTAS_MAX: usize = 256;
/// Rows in them that are never too many.
const ROWS_MIN: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::registry::{Dealer, State};

    /// Version `n` has dealers 1 to n.
    fn version(n: u64) -> Registry {
        let mut registry = Registry::default();
        (1..=n).for_each(|id| registry.put_dealer(dealer(id)).unwrap());
        registry.set_version(n);
        registry
    }

    fn dealer(id: u64) -> Dealer {
        Dealer { id: id as u32, name: format!("dealer {id}"), state: State::Active }
    }

    fn change(to: u64) -> Arc<Delta> {
        let (from, digest) = (to - 1, version(to).digest());
        Arc::new(Delta { from, to, digest, dealers: vec![dealer(to)], ..Delta::default() })
    }

    fn open(disk: &Arc<HeapDisk>) -> RegistryCopy<HeapDisk> {
        RegistryCopy::open(Arc::clone(disk), &NodeKeys::from_node_key(&[7; 32])).unwrap()
    }

    #[test]
    fn h09_changes_survive_a_restart_and_the_whole_is_written_again_from_time_to_time() {
        let disk = Arc::new(HeapDisk::new());
        let mut copy = open(&disk);
        assert!(copy.replace(Arc::new(version(1))));
        assert!(copy.is_behind());
        copy.store().unwrap();
        for to in 2..=1500 {
            assert!(matches!(copy.apply(change(to)), Ok(Ok(()))));
            assert!(!copy.is_behind() && disk.list(DELTA_DIRECTORY).unwrap().len() <= DELTAS_MAX);
            if to % 100 == 50 {
                copy = open(&disk);
                assert_eq!(**copy.current(), version(to));
            }
        }
        assert_eq!(**open(&disk).current(), version(1500));
    }

    #[test]
    fn h09_a_change_that_overtakes_the_whole_waits_for_it() {
        let disk = Arc::new(HeapDisk::new());
        let mut copy = open(&disk);
        assert!(matches!(copy.apply(change(6)), Err(Misfit { ask: true })));
        assert!(matches!(copy.apply(change(7)), Err(Misfit { ask: false })), "it is asked for once");
        assert!(copy.replace(Arc::new(version(5))));
        assert_eq!(**copy.current(), version(7));
        assert!(!copy.replace(Arc::new(version(6))), "an older one was overtaken");
        assert!(matches!(copy.apply(change(8)), Ok(Ok(()))));
        assert_eq!(**open(&disk).current(), version(8));
    }

    #[test]
    fn h09_what_cannot_be_read_is_left_to_upstream() {
        let disk = Arc::new(HeapDisk::new());
        let mut copy = open(&disk);
        copy.replace(Arc::new(version(1)));
        copy.store().unwrap();
        (2..=4).for_each(|to| assert!(matches!(copy.apply(change(to)), Ok(Ok(())))));
        disk.write(&format!("{DELTA_DIRECTORY}/{:016x}", 3), &[b"damaged"]).unwrap();
        assert_eq!(**open(&disk).current(), version(2));
        assert_eq!(disk.list(DELTA_DIRECTORY).unwrap().len(), 1, "and does not stay");
    }
}
