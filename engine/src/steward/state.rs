//! State files beside the journal: the registry and the highest hub epoch seen.

use super::registry::Misfit;
use super::{Steward, StewardAction, StewardError};
use crate::disk::{Disk, DiskError};
use crate::link::ToHub;
use crate::registry::{Delta, Registry};
use crate::time::Now;
use std::sync::Arc;

/// The hub epoch as it is stored; 0 where there is no file.
///
/// # Errors
/// [`StewardError`].
pub(super) fn load<D: Disk>(disk: &D) -> Result<u64, StewardError> {
    match disk.open(HUB_EPOCH_FILE) {
        Ok(file) => Ok(u64::from_le_bytes(file.as_ref().try_into().map_err(|_| StewardError::HubEpoch)?)),
        Err(error) if error.is_missing() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

impl<D: Disk> Steward<D> {
    /// Upstream sent the whole registry. Changes travel another way and may have come before it.
    pub(super) fn take_registry(&mut self, registry: Arc<Registry>, now: &Now) -> Result<(), StewardError> {
        if self.registry.replace(registry) {
            self.actions.push_back(StewardAction::Registry(Arc::clone(self.registry.current())));
            self.pass_registry_on(None);
            self.store_state(now)?;
        } else if !self.registry.is_behind() {
            self.say_held();
        }
        Ok(())
    }

    /// Upstream sent a change of it.
    pub(super) fn take_delta(&mut self, delta: Arc<Delta>, now: &Now) -> Result<(), StewardError> {
        match self.registry.apply(Arc::clone(&delta)) {
            Ok(stored) => {
                self.actions.push_back(StewardAction::Registry(Arc::clone(self.registry.current())));
                self.pass_registry_on(Some(delta));
                if self.stored(stored, now)? {
                    self.say_held();
                }
            }
            // Version 0 is what a node holds that has nothing: upstream sends the whole.
            Err(Misfit { ask: true }) => self.send(ToHub::RegistryHeld { version: 0, digest: 0 }),
            Err(Misfit { ask: false }) => {}
        }
        Ok(())
    }

    fn say_held(&mut self) {
        let registry = self.registry.current();
        let (version, digest) = (registry.version(), registry.digest());
        self.send(ToHub::RegistryHeld { version, digest });
    }

    /// Writes the state files that are behind what is in force. A full disk puts that off and stops nothing: the hub says
    /// both again at the next connection.
    pub(super) fn store_state(&mut self, now: &Now) -> Result<(), StewardError> {
        if self.epoch_unstored {
            let written = self.disk.write(HUB_EPOCH_FILE, &[&self.hub_epoch.to_le_bytes()]);
            self.epoch_unstored = !self.stored(written, now)?;
            if !self.epoch_unstored {
                self.epoch_stored = self.hub_epoch;
            }
        }
        if self.children.is_unstored {
            let written = self.store_children();
            self.children.is_unstored = !self.stored(written, now)?;
        }
        if self.place_unstored {
            let written = self.store_place();
            self.place_unstored = !self.stored(written, now)?;
        }
        if self.registry.is_behind() {
            let written = self.registry.store();
            if self.stored(written, now)? {
                self.say_held();
            }
        }
        Ok(())
    }

    /// Whether something could be stored; if not for lack of room, it is tried again later.
    fn stored(&mut self, written: Result<(), DiskError>, now: &Now) -> Result<bool, StewardError> {
        match written {
            Err(error) if error.is_full() => {
                self.store_again_ms = now.monotonic_ms + STORE_AGAIN_MS;
                Ok(false)
            }
            done => Ok(done.map(|()| true)?),
        }
    }
}

/// The highest hub epoch seen.
pub(super) const HUB_EPOCH_FILE: &str = "hub-epoch";
/// How long a full disk is left alone before a state file is tried again, in milliseconds.
const STORE_AGAIN_MS: u64 = 1_000;
