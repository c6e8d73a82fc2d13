//! The registry on its way to the nodes: the last changes, what each node holds, and how far behind it is.

use super::books::Change;
use super::node::Node;
use super::{Hub, Output, Store};
use crate::disk::Disk;
use crate::ids::SellerId;
use crate::link::ToNode;
use crate::registry::{Delta, Registry};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The last changes, so that a node that was away for a while need not be sent everything.
#[derive(Default)]
pub(super) struct Changes {
    deltas: VecDeque<Arc<Delta>>,
    rows: usize,
}

impl Changes {
    /// Remembers the change that a commit made.
    pub(super) fn push(&mut self, delta: Delta) -> Arc<Delta> {
        let delta = Arc::new(delta);
        self.rows += delta.rows();
        self.deltas.push_back(Arc::clone(&delta));
        while self.deltas.len() > DELTAS_MAX || (self.rows > ROWS_MAX && self.deltas.len() > 1) {
            self.rows -= self.deltas.pop_front().map_or(0, |delta| delta.rows());
        }
        delta
    }

    /// What makes the current version from the one that a node holds; `None` if that is not known any more, or if what it
    /// holds under that number is something else.
    fn since(&self, version: u64, digest: u64) -> Option<impl Iterator<Item = &Arc<Delta>>> {
        let at = self.deltas.iter().position(|delta| delta.to == version && delta.digest == digest)?;
        Some(self.deltas.iter().skip(at + 1))
    }
}

/// What a node holds of the registry.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Held {
    /// Version and digest that are durable there; 0: not known.
    pub(super) version: u64,
    pub(super) digest: u64,
    /// Since when it has been behind, in Unix milliseconds; 0: it is not.
    pub(super) behind_since_ms: u64,
}

/// How far a node's registry is behind the hub's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RegistryLag {
    /// The version that is durable at the node; 0: not known.
    pub version: u64,
    /// Versions that it lacks.
    pub versions: u64,
    /// For how long it has lacked one, in milliseconds.
    pub ms: u64,
    /// It holds the current version, and its digest is the hub's.
    pub agrees: bool,
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// How far a node's registry is behind, as of `now_ms`.
    #[must_use]
    pub fn registry_lag(&self, node: SellerId, now_ms: u64) -> Option<RegistryLag> {
        let held = self.nodes.get(&node)?.registry;
        let current = &self.registry;
        let versions = current.version().saturating_sub(held.version);
        let since = held.behind_since_ms;
        Some(RegistryLag {
            version: held.version,
            versions,
            ms: if versions > 0 && since > 0 { now_ms.saturating_sub(since) } else { 0 },
            agrees: (held.version, held.digest) == (current.version(), current.digest()),
        })
    }

    /// The change that the rows of a commit make, from the version before.
    pub(super) fn delta(&self, changes: &[Change], from: u64) -> Delta {
        let registry: &Registry = &self.registry;
        let (mut varieties, mut dealers, mut terminals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut managers = BTreeSet::new();
        for change in changes {
            match change {
                Change::Variety(row) => _ = varieties.insert(row.id),
                Change::Dealer(row) => _ = dealers.insert(row.id),
                Change::Terminal(row) => _ = terminals.insert(row.id),
                Change::Manager(row) => _ = managers.insert(row.id),
                _ => {}
            }
        }
        Delta {
            from,
            to: registry.version(),
            digest: registry.digest(),
            varieties: varieties.into_iter().filter_map(|id| registry.variety(id).cloned()).collect(),
            dealers: dealers.into_iter().filter_map(|id| registry.dealer(id).cloned()).collect(),
            terminals: terminals.into_iter().filter_map(|id| registry.terminal(id).cloned()).collect(),
            managers: managers.into_iter().filter_map(|id| registry.manager(id).cloned()).collect(),
        }
    }

    /// A node said what it holds; what it lacks is sent, if nothing is on its way to it.
    pub(super) fn registry_held(&mut self, node: SellerId, version: u64, digest: u64) {
        let (current, now_ms) = ((self.registry.version(), self.registry.digest()), self.now_ms);
        let Some(live) = self.nodes.get_mut(&node) else { return };
        live.hold(version, digest, current.0, now_ms);
        // Version 0: it asks for the whole. The current version with another digest: its copy is damaged.
        if version == 0 || (version == current.0 && digest != current.1) {
            self.stage(Output::Send { node, message: ToNode::Registry(Arc::clone(&self.registry)) });
        }
    }

    /// What a node that has just said hello lacks.
    pub(super) fn registry_for(&self, node: SellerId) -> Vec<ToNode> {
        let Some(Held { version, digest, .. }) = self.nodes.get(&node).map(|live| live.registry) else {
            return Vec::new();
        };
        if (version, digest) == (self.registry.version(), self.registry.digest()) {
            return Vec::new();
        }
        match self.registry_changes.since(version, digest) {
            Some(deltas) => deltas.map(|delta| ToNode::RegistryDelta(Arc::clone(delta))).collect(),
            None => vec![ToNode::Registry(Arc::clone(&self.registry))],
        }
    }
}

impl Node {
    /// Notes what the node holds of the registry, of which `current` is the newest version.
    pub(super) fn hold(&mut self, version: u64, digest: u64, current: u64, now_ms: u64) {
        let since = match self.registry.behind_since_ms {
            _ if version >= current => 0,
            0 => now_ms,
            since => since,
        };
        self.registry = Held { version, digest, behind_since_ms: since };
    }

    /// There is a newer version than what it holds.
    pub(super) fn fall_behind(&mut self, now_ms: u64) {
        if self.registry.behind_since_ms == 0 {
            self.registry.behind_since_ms = now_ms;
        }
    }
}

/// Changes remembered.
const DELTAS_MAX: usize = 1024;
/// Rows in them.
const ROWS_MAX: usize = 100_000;
