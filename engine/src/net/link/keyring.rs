//! Who may have a link with the hub.

use crate::ids::SellerId;
use crate::stock::NodeKeys;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

/// The pre-shared key of one node's links, derived from its node key. Erased from memory when dropped.
#[derive(Clone)]
pub struct LinkKey(Zeroizing<[u8; 32]>);

impl LinkKey {
    /// The key of the node that has these keys.
    #[must_use]
    pub fn of(keys: &NodeKeys) -> Self {
        Self(Zeroizing::new(*keys.link_psk()))
    }

    pub(in crate::net) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey")
    }
}

/// The keys of all nodes that the hub knows. It changes while links are up: a change counts from the next handshake on.
#[derive(Default, Debug)]
pub struct Keyring(RwLock<HashMap<SellerId, LinkKey>>);

impl Keyring {
    /// A node may have a link with this key from now on, and with no other.
    pub fn set(&self, node: SellerId, key: LinkKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node, key);
    }

    /// A node may have no new link from now on.
    pub fn remove(&self, node: SellerId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    pub(super) fn find(&self, node: SellerId) -> Option<LinkKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }
}
