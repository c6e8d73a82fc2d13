//! What is below a server: the connections of host connection managers, and who may have one.

use super::Failure;
use crate::net::link::{Keyring, LinkEvent, LinkKey, LinkOptions, LinkServer, LinkServerHandle};
use crate::net::{Clock, Random, WorkerHandle, carry_to};
use crate::registry::{Registry, State};
use crate::stock::NodeKeys;
use std::net::TcpListener;
use std::sync::Arc;

/// The keys of the managers that the registry lets in. A change counts from the next handshake on; workers cut what is up.
#[derive(Clone, Default)]
pub(super) struct Managers(Arc<Keyring>);

impl Managers {
    /// A registry that is in force from now on.
    pub(super) fn registry(&self, registry: &Registry) {
        for manager in registry.managers() {
            if manager.state == State::Active {
                let keys = NodeKeys::from_node_key(manager.key.expose());
                self.0.set(manager.id, LinkKey::of(&keys));
            } else {
                self.0.remove(manager.id);
            }
        }
    }
}

/// Takes the connections of managers to the workers that they call.
pub(super) fn start<S: Send + Sync + 'static>(
    listener: TcpListener,
    managers: &Managers,
    workers: Vec<WorkerHandle<S>>,
    clock: Clock,
    random: Random,
) -> Result<LinkServerHandle, Failure> {
    let keyring = Arc::clone(&managers.0);
    // A manager that relays has no link.
    let deliver = |event: LinkEvent<_>| {
        if let LinkEvent::Up { node, address, .. } = event {
            tracing::warn!(node = node.0, %address, "wants a link, and is not below this server");
        }
    };
    let carry = carry_to(workers);
    let server =
        LinkServer::start_carrying(listener, keyring, deliver, carry, clock, random, LinkOptions::default());
    server.map_err(Failure::Poll)
}
