//! What changed between two versions of the registry, and a digest by which two copies are compared.
//!
//! Nothing is ever removed from a registry, so a delta is a set of rows as they are from now on.

use super::{Dealer, Manager, Registry, RegistryError, Terminal, Variety};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;
use zeroize::Zeroizing;

/// Rows that are new or different in a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The version that it changes.
    pub from: u64,
    /// The version that it makes.
    pub to: u64,
    /// The digest of that version.
    pub digest: u64,
    /// Varieties, as they are then.
    pub varieties: Vec<Variety>,
    /// Dealers, as they are then.
    pub dealers: Vec<Dealer>,
    /// Terminals, as they are then.
    pub terminals: Vec<Terminal>,
    /// Managers, as they are then.
    #[serde(default)]
    pub managers: Vec<Manager>,
}

impl Delta {
    /// How many rows it brings.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.varieties.len() + self.dealers.len() + self.terminals.len() + self.managers.len()
    }
}

/// Why a delta cannot be applied: the node asks for the whole registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It changes another version.
    #[error("it changes version {from}, and version {held} is here")]
    Version {
        /// What it changes.
        from: u64,
        /// What there is.
        held: u64,
    },
    /// A row contradicts what there is.
    #[error(transparent)]
    Row(#[from] RegistryError),
    /// The outcome is not what it is at the hub.
    #[error("the registry differs from the hub's after it")]
    Digest,
}

impl Registry {
    /// Makes the next version from this one.
    ///
    /// # Errors
    /// [`DeltaError`]; the registry may hold a part of the delta then, and is to be dropped.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), DeltaError> {
        if delta.from != self.version {
            return Err(DeltaError::Version { from: delta.from, held: self.version });
        }
        for variety in &delta.varieties {
            self.put_variety(variety.clone())?;
        }
        for dealer in &delta.dealers {
            self.put_dealer(dealer.clone())?;
        }
        self.put_terminals(&delta.terminals)?;
        for manager in &delta.managers {
            self.put_manager(manager.clone())?;
        }
        self.version = delta.to;
        if self.digest() == delta.digest { Ok(()) } else { Err(DeltaError::Digest) }
    }

    /// Equal for two registries if and only if, but for chance, all their rows are equal: the sum of the rows' xxh3. The
    /// version does not enter.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// A row's part of the digest: xxh3 over its kind and its fields, in their order, numbers little-endian, texts behind
/// their length.
pub(super) trait Digest {
    fn digest(&self) -> u64;
}

impl Digest for Variety {
    fn digest(&self) -> u64 {
        let mut row = vec![1];
        row.extend_from_slice(&self.id.0.to_le_bytes());
        text(&mut row, self.code.as_bytes());
        row.extend_from_slice(&self.product.to_le_bytes());
        row.extend_from_slice(&self.face_value.to_le_bytes());
        row.extend_from_slice(&self.currency);
        row.extend_from_slice(&[self.currency_digits, self.charset as u8]);
        text(&mut row, &self.name);
        text(&mut row, &self.receipt);
        row.extend_from_slice(&self.minimum_life_days.to_le_bytes());
        xxh3_64(&row)
    }
}

impl Digest for Dealer {
    fn digest(&self) -> u64 {
        let mut row = vec![2];
        row.extend_from_slice(&self.id.to_le_bytes());
        text(&mut row, self.name.as_bytes());
        row.push(self.state as u8);
        xxh3_64(&row)
    }
}

impl Digest for Terminal {
    fn digest(&self) -> u64 {
        let mut row = Zeroizing::new([0; 50]);
        row[0] = 3;
        row[1..9].copy_from_slice(&self.id.0.to_le_bytes());
        row[9..13].copy_from_slice(&self.dealer.to_le_bytes());
        row[13..17].copy_from_slice(&self.key_epoch.0.to_le_bytes());
        row[17..49].copy_from_slice(self.key.expose());
        row[49] = self.state as u8;
        xxh3_64(&*row)
    }
}

impl Digest for Manager {
    fn digest(&self) -> u64 {
        let mut row = Zeroizing::new(vec![4]);
        row.extend_from_slice(&self.id.0.to_le_bytes());
        text(&mut row, self.name.as_bytes());
        row.extend_from_slice(self.key.expose());
        row.push(self.state as u8);
        xxh3_64(&row)
    }
}

fn text(row: &mut Vec<u8>, text: &[u8]) {
    row.extend_from_slice(&(text.len() as u64).to_le_bytes());
    row.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{State, TerminalKey};
    use super::*;
    use crate::ids::{KeyEpoch, SellerId, TerminalId};

    fn changed(registry: &Registry) -> (Registry, Delta) {
        let mut next = registry.clone();
        let mut variety = registry.varieties().next().unwrap().clone();
        variety.face_value += 1;
        let dealer = Dealer { id: 77, name: "New".into(), state: State::Active };
        let mut old = registry.terminals()[0].clone();
        old.state = State::Suspended;
        let key = TerminalKey::new([3; 32]);
        let new =
            Terminal { id: TerminalId(1_000), dealer: 77, key_epoch: KeyEpoch(1), key, state: State::Active };
        next.put_variety(variety.clone()).unwrap();
        next.put_dealer(dealer.clone()).unwrap();
        let key = TerminalKey::new([4; 32]);
        let manager = Manager { id: SellerId(9), name: "west".into(), key, state: State::Active };
        next.put_manager(Manager { name: "east".into(), ..manager.clone() }).unwrap();
        next.put_manager(manager.clone()).unwrap();
        let before = Terminal { key_epoch: KeyEpoch(0), ..new.clone() };
        next.put_terminals(&[before, old.clone(), new.clone()]).unwrap();
        next.set_version(registry.version() + 1);
        let delta = Delta {
            from: registry.version(),
            to: next.version(),
            digest: next.digest(),
            varieties: vec![variety],
            dealers: vec![dealer],
            terminals: vec![new, old],
            managers: vec![manager],
        };
        (next, delta)
    }

    #[test]
    fn h09_a_delta_makes_a_copy_equal_and_changes_no_other_version() {
        let registry = sample();
        let (next, delta) = changed(&registry);
        assert_ne!(next.digest(), registry.digest());
        let mut copy = registry.clone();
        copy.apply(&delta).unwrap();
        assert_eq!(copy, next);
        assert_eq!(copy.digest(), next.digest());
        let again = copy.apply(&delta).unwrap_err();
        assert_eq!(again, DeltaError::Version { from: registry.version(), held: next.version() });
        // The old denomination is gone.
        let old = registry.varieties().next().unwrap();
        assert_eq!(copy.variety_by_face(old.product, old.face_value), None);
        assert_eq!(copy.variety_by_face(old.product, old.face_value + 1), Some(old.id));
    }

    #[test]
    fn h09_a_copy_that_differs_is_noticed_by_its_digest() {
        let registry = sample();
        let (_, delta) = changed(&registry);
        let mut copy = registry.clone();
        let mut terminal = copy.terminals().last().unwrap().clone();
        terminal.key = TerminalKey::new([9; 32]);
        copy.put_terminals(&[terminal]).unwrap();
        assert_eq!(copy.apply(&delta), Err(DeltaError::Digest));
    }

    #[test]
    fn h09_the_digest_does_not_depend_on_the_way_to_it() {
        let registry = sample();
        let (next, _) = changed(&registry);
        let made = Registry::new(
            next.version(),
            next.varieties().cloned().collect(),
            next.dealers().cloned().collect(),
            next.terminals().iter().rev().cloned().collect(),
        );
        let mut made = made.unwrap();
        next.managers().for_each(|manager| made.put_manager(manager.clone()).unwrap());
        assert_eq!(made.digest(), next.digest());
    }

    #[test]
    fn every_field_of_a_row_is_in_the_digest() {
        let registry = sample();
        let terminal = registry.terminals()[0].clone();
        let others = [
            Terminal { id: TerminalId(terminal.id.0 + 1), ..terminal.clone() },
            Terminal { dealer: terminal.dealer + 1, ..terminal.clone() },
            Terminal { key_epoch: KeyEpoch(terminal.key_epoch.0 + 1), ..terminal.clone() },
            Terminal { key: TerminalKey::new([0xee; 32]), ..terminal.clone() },
            Terminal { state: State::Closed, ..terminal.clone() },
        ];
        assert!(others.iter().all(|other| other.digest() != terminal.digest()));
        let variety = registry.varieties().next().unwrap().clone();
        let mut other = variety.clone();
        other.receipt.push(b'x');
        assert_ne!(other.digest(), variety.digest());
        let mut moved = variety.clone();
        moved.name.push(moved.receipt.first().copied().unwrap_or(b'x'));
        assert_ne!(moved.digest(), variety.digest());
    }
}
