//! What is below a server: the connections of host connection managers that relay, the links of nodes that have their stock from
//! it, and who may have one.

use super::Failure;
use crate::ids::SellerId;
use crate::link::ToHub;
use crate::net::link::{Keyring, LinkEvent, LinkKey, LinkOptions, LinkServer, LinkServerHandle};
use crate::net::{Clock, Random, WorkerHandle, carry_to};
use crate::registry::{Registry, State};
use crate::stock::NodeKeys;
use std::net::TcpListener;
use std::sync::Arc;

/// The keys of the managers that the registry lets in, and of the nodes below. A change counts from the next handshake on; workers
/// cut what is up.
#[derive(Clone, Default)]
pub(super) struct Managers(Arc<Keyring>);

impl Managers {
    /// A node below may have a link.
    pub(super) fn set(&self, node: SellerId, key: LinkKey) {
        self.0.set(node, key);
    }

    /// Lets the managers in that a registry says are active; after the workers know it, or they would cut them.
    pub(super) fn let_in(&self, registry: &Registry) {
        for manager in registry.managers().filter(|manager| manager.state == State::Active) {
            let keys = NodeKeys::from_node_key(manager.key.expose());
            self.0.set(manager.id, LinkKey::of(&keys));
        }
    }

    /// Keeps all others out; before the workers cut them, or they would come again.
    pub(super) fn keep_out(&self, registry: &Registry) {
        let others = registry.managers().filter(|manager| manager.state != State::Active);
        others.for_each(|manager| self.0.remove(manager.id));
    }
}

/// Takes the connections of managers to the workers that they call, and hands what happens on the links of nodes below to
/// `deliver`.
pub(super) fn start<S: Send + Sync + 'static>(
    listener: TcpListener,
    managers: &Managers,
    workers: Vec<WorkerHandle<S>>,
    deliver: impl Fn(LinkEvent<ToHub>) + Send + 'static,
    clock: Clock,
    random: Random,
) -> Result<LinkServerHandle, Failure> {
    let keyring = Arc::clone(&managers.0);
    let carry = carry_to(workers);
    let server =
        LinkServer::start_carrying(listener, keyring, deliver, carry, clock, random, LinkOptions::default());
    server.map_err(Failure::Poll)
}
