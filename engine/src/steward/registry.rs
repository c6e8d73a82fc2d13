//! A node's copy of the registry: the whole of it in one sealed file, and beside it the changes since, one sealed file
//! each, so that a change costs what it changes. From time to time the whole is written again.

use crate::disk::{Disk, DiskError};
use crate::registry::sealed::{SealedError, decode_sealed, encode_sealed};
use crate::registry::{Delta, DeltaError, Registry};
use crate::stock::NodeKeys;
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
        Ok(Self { disk, key, current: Arc::new(current), stored, deltas, rows })
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

    /// Upstream sent the whole.
    pub(super) fn replace(&mut self, registry: Arc<Registry>) {
        self.current = registry;
        // Whatever version it is: what is stored is another one.
        self.stored = u64::MAX;
    }

    /// Upstream sent a change. It is in force at once, and stored if there is room.
    ///
    /// # Errors
    /// [`DeltaError`]: nothing changed; ask for the whole.
    pub(super) fn apply(&mut self, delta: &Delta) -> Result<Result<(), DiskError>, DeltaError> {
        let mut next = Registry::clone(&self.current);
        next.apply(delta)?;
        let continues = self.stored == delta.from;
        self.current = Arc::new(next);
        let enough = self.deltas >= DELTAS_MAX || self.rows + delta.rows() > ROWS_MIN.max(self.all_rows() / 4);
        if !continues || enough {
            return Ok(self.store());
        }
        let path = format!("{DELTA_DIRECTORY}/{:016x}", delta.to);
        let file = encode_sealed(delta, &self.key, nonce(delta.to, 1));
        let written = self.disk.write(&path, &[&file]);
        if written.is_ok() {
            self.stored = delta.to;
            self.deltas += 1;
            self.rows += delta.rows();
        }
        Ok(written)
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

/// Why the copy cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Sealed(SealedError),
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
/// Changes kept beside the whole.
const DELTAS_MAX: usize = 256;
/// Rows in them that are never too many.
const ROWS_MIN: usize = 1_000;
