//! A relaying host connection manager as a node: its number and key, its thread, and how it stands. It keeps nothing.

use super::hub_node::HubNode;
use super::join::relay_here;
use super::{Failure, JoinToken, RelayHere, Status};
use crate::disk::lock::DirLock;
use crate::net::link::LinkKey;
use crate::net::relay::{Relay, RelayHandle, RelayIdentity, RelayOptions};
use crate::net::{Clock, Random};
use crate::stock::NodeKeys;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How to run a relay.
pub struct RelayNodeOptions {
    /// Where terminals connect.
    pub listener: TcpListener,
    /// Who it is. It is not kept, and so needed at every start.
    pub token: JoinToken,
    /// Where it carries sessions to, and its limits.
    pub relay: RelayOptions,
    /// Where operators' commands reach it: a lock and a socket are there, and nothing else. `None`: nowhere.
    pub run_dir: Option<PathBuf>,
    /// Reads the clocks.
    pub clock: Clock,
    /// Fills bytes from a cryptographic generator.
    pub random: Random,
}

/// A running relay.
pub struct RelayNode {
    desk: RelayDesk,
    _lock: Option<DirLock>,
}

/// Answers operators, from any thread.
#[derive(Clone)]
pub struct RelayDesk {
    handle: RelayHandle,
    address: SocketAddr,
    manager: u32,
    clock: Clock,
    started_unix_ms: u64,
}

/// How a relay stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Its number.
    pub manager: u32,
    /// Where terminals connect.
    pub address: String,
    /// The link address of the server that sessions are carried to; none: none can be reached.
    pub server: Option<String>,
    /// That server's number, of the last one if there is none.
    pub seller: u32,
    /// Its workers.
    pub workers: u16,
    /// Since when it is connected, in milliseconds of Unix time.
    pub server_since_ms: u64,
    /// Why there is none.
    pub failure: Option<String>,
    /// How often a server was lost.
    pub losses: u64,
    /// Connections of terminals.
    pub connections: u64,
    /// Sessions carried: terminals whose handshake with the server is done.
    pub sessions: u64,
    /// Messages of terminals that have no answer yet.
    pub in_flight: u64,
    /// Hellos that wait for the server.
    pub waiting: u64,
    /// Since the start: connections accepted.
    pub accepted: u64,
    /// Since the start: sessions whose handshake was done.
    pub logins: u64,
    /// Since the start: messages of terminals carried.
    pub requests: u64,
    /// Since the start: connections refused because there were too many.
    pub turned_away: u64,
    /// Since the start: connections ended because of what the terminal sent, or did not send.
    pub faults: u64,
    /// Since the start: connections cut because the terminal did not read.
    pub cut: u64,
    /// Since the start: times a terminal was told to begin a new session.
    pub renewed: u64,
}

/// Starts a relay beside its hub; none if the hub does not make it or cannot say its key now.
pub(super) fn start_here(
    here: RelayHere,
    hub: Option<&HubNode>,
    clock: Clock,
    random: Random,
) -> Result<Option<RelayNode>, Failure> {
    let RelayHere { name, listener, relay } = here;
    let Some(hub) = hub else { return Ok(None) };
    let token = match relay_here(&name, &hub.handle) {
        Ok(token) => token,
        Err(failure @ (Failure::NotAdmitted { .. } | Failure::HubGone)) => {
            tracing::warn!("{name} is left out until the next start: {failure} [not_admitted]");
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    RelayNode::start(RelayNodeOptions { listener, token, relay, run_dir: None, clock, random }).map(Some)
}

impl RelayNode {
    /// Starts its thread.
    ///
    /// # Errors
    /// The run directory is in use or cannot be made, or the system has no more of what polling or a thread needs.
    pub fn start(options: RelayNodeOptions) -> Result<Self, Failure> {
        let RelayNodeOptions { listener, token, relay, run_dir, clock, random } = options;
        let lock = run_dir.map(DirLock::acquire).transpose()?;
        let address = listener.local_addr().map_err(Failure::Poll)?;
        let key = LinkKey::of(&NodeKeys::from_node_key(token.node_key.expose()));
        let identity = RelayIdentity { manager: token.seller, key };
        let manager = identity.manager.0;
        let handle = Relay::start(listener, identity, &relay, clock, random).map_err(Failure::Poll)?;
        let started_unix_ms = clock().unix_ms;
        Ok(Self { desk: RelayDesk { handle, address, manager, clock, started_unix_ms }, _lock: lock })
    }

    /// Answers operators; to be cloned for every thread that asks.
    #[must_use]
    pub fn desk(&self) -> &RelayDesk {
        &self.desk
    }

    /// Ends in good order: what was asked is still answered for a moment, then terminals are sent away.
    pub fn stop(self) {
        self.desk.handle.stop();
    }
}

impl RelayDesk {
    /// How its process stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let now_ms = (self.clock)().unix_ms;
        Status {
            pid: std::process::id(),
            now_ms,
            uptime_s: now_ms.saturating_sub(self.started_unix_ms) / 1000,
            relay: Some(self.relay()),
            ..Status::default()
        }
    }

    /// How it stands.
    #[must_use]
    pub fn relay(&self) -> RelayStatus {
        let stats = self.handle.stats();
        let server = stats.server();
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        RelayStatus {
            manager: self.manager,
            address: self.address.to_string(),
            server: server.address.map(|address| address.to_string()),
            seller: server.seller,
            workers: server.workers,
            server_since_ms: server.since_ms,
            failure: server.failure,
            losses: server.losses,
            connections: count(&stats.connections),
            sessions: count(&stats.sessions),
            in_flight: count(&stats.in_flight),
            waiting: count(&stats.waiting),
            accepted: count(&stats.accepted),
            logins: count(&stats.logins),
            requests: count(&stats.requests),
            turned_away: count(&stats.turned_away),
            faults: count(&stats.faults),
            cut: count(&stats.cut),
            renewed: count(&stats.renewed),
        }
    }
}
