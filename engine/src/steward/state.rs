//! State files beside the journal: the registry and the highest hub epoch seen.

use super::{Steward, StewardAction, StewardError};
use crate::disk::Disk;
use crate::registry::Registry;
use crate::registry::sealed::{decode_sealed, encode_sealed};
use crate::stock::NodeKeys;
use crate::time::Now;
use std::sync::Arc;

/// The registry and the hub epoch as they are stored; none and 0 where there is no file.
///
/// # Errors
/// [`StewardError`].
pub(super) fn load<D: Disk>(disk: &D, keys: &NodeKeys) -> Result<(Arc<Registry>, u64), StewardError> {
    let registry = match disk.open(REGISTRY_FILE) {
        Ok(file) => Arc::new(decode_sealed(file.as_ref(), keys.registry())?),
        Err(error) if error.is_missing() => Arc::default(),
        Err(error) => return Err(error.into()),
    };
    let hub_epoch = match disk.open(HUB_EPOCH_FILE) {
        Ok(file) => u64::from_le_bytes(file.as_ref().try_into().map_err(|_| StewardError::HubEpoch)?),
        Err(error) if error.is_missing() => 0,
        Err(error) => return Err(error.into()),
    };
    Ok((registry, hub_epoch))
}

impl<D: Disk> Steward<D> {
    pub(super) fn take_registry(&mut self, registry: Arc<Registry>, now: &Now) -> Result<(), StewardError> {
        if registry != self.registry {
            self.registry = registry.clone();
            self.actions.push_back(StewardAction::Registry(registry));
            self.unstored[0] = true;
            self.store_state(now)?;
        }
        Ok(())
    }

    /// Writes the state files that are behind what is in force. A full disk puts that off and stops nothing: the hub says
    /// both again at the next connection.
    pub(super) fn store_state(&mut self, now: &Now) -> Result<(), StewardError> {
        let [registry, hub_epoch] = self.unstored;
        if hub_epoch {
            self.unstored[1] = !self.store(HUB_EPOCH_FILE, &self.hub_epoch.to_le_bytes(), now)?;
        }
        if registry {
            // The version never names two registries, so it makes a nonce that is used once under this key.
            let mut nonce = [0; 12];
            nonce[..8].copy_from_slice(&self.registry.version().to_le_bytes());
            let file = encode_sealed(&self.registry, self.keys.registry(), nonce);
            self.unstored[0] = !self.store(REGISTRY_FILE, &file, now)?;
        }
        Ok(())
    }

    fn store(&mut self, path: &str, bytes: &[u8], now: &Now) -> Result<bool, StewardError> {
        match self.disk.write(path, &[bytes]) {
            Err(error) if error.is_full() => {
                self.store_again_ms = now.monotonic_ms + STORE_AGAIN_MS;
                Ok(false)
            }
            done => Ok(done.map(|()| true)?),
        }
    }
}

/// The node's copy of the registry, sealed under its own key.
pub(super) const REGISTRY_FILE: &str = "registry";
/// The highest hub epoch seen.
pub(super) const HUB_EPOCH_FILE: &str = "hub-epoch";
/// How long a full disk is left alone before a state file is tried again, in milliseconds.
const STORE_AGAIN_MS: u64 = 1_000;
