//! The sockets of links between a hub and its nodes: bytes below, events above. `spec/link.md` says what is on the wire.
//!
//! A hub runs one [`LinkServer`] for all its nodes, a node one [`Uplink`]; each is one thread. Both hand every [`LinkEvent`]
//! to a function of their owner, on that thread, and take messages through a handle from any other. A link is two TCP
//! connections. It is up when both are, and down as soon as one is not; what was on its way is lost then.
//!
//! ```text
//!   handle ──commands──► Link ──► Line (control): queue → seal → Pipe ══ TCP
//!   owner ◄──events─────   └────► Line (bulk):    queue → seal → Pipe ══ TCP
//! ```
//!
//! A connection that carries terminals' sessions belongs to no link: it goes to the worker that it calls as soon as its manager
//! is proved.
//!
//! Control is served before bulk, in both directions. Of each link bulk moves a slice in one turn, so that no node waits for
//! another's.

mod carrying;
mod fault;
mod keyring;
mod line;
mod pacing;
mod pair;
mod pipe;
mod server;
mod server_links;
#[cfg(test)]
mod tests;
mod uplink;
mod uplink_attempt;

pub use keyring::{Keyring, LinkKey};
pub use server::{CarryTo, CarryingArrival, LinkServer, LinkServerHandle};
pub use uplink::{Uplink, UplinkHandle, UplinkIdentity};
pub use wire::link::Role;

pub(super) use carrying::CarryingLine;
pub(super) use fault::Fault;
pub(super) use pipe::Pipe;

use crate::ids::SellerId;
use crate::limits::{
    LINK_BACK_OFF_MAX_MS, LINK_BACK_OFF_MIN_MS, LINK_HANDSHAKE_MS_MAX, LINK_HANDSHAKES_MAX,
    LINK_OUTBOUND_BYTES_MAX, LINK_PING_MS, LINK_SILENCE_MS_MAX,
};
use std::net::SocketAddr;

/// What happens on links, in order.
#[derive(Clone, Debug)]
pub enum LinkEvent<M> {
    /// A link is up. A node has one at a time: if it had another, that one's `Down` came before.
    Up {
        /// Names the link at this end; never used twice in a process.
        connection: u64,
        /// The node.
        node: SellerId,
        /// What the node is.
        role: Role,
        /// Between how many workers its terminals are spread.
        workers: u16,
        /// The other end's address.
        address: SocketAddr,
    },
    /// The other end says something.
    Message {
        /// The link.
        connection: u64,
        /// The node.
        node: SellerId,
        /// What it says.
        message: M,
    },
    /// A link is gone, with everything on its way.
    Down {
        /// The link.
        connection: u64,
        /// The node.
        node: SellerId,
        /// Why, for the operator.
        why: String,
    },
}

/// Bounds and times of one end's links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkOptions {
    /// What all bulk connections of this end together may send, in bytes per second; `None`: no limit.
    pub bulk_bytes_per_s: Option<u64>,
    /// How often either connection is pinged, in milliseconds.
    pub ping_ms: u64,
    /// A connection on which nothing came, or went though it should, for so long is cut; in milliseconds.
    pub silence_ms: u64,
    /// How long a link may take to come up, in milliseconds.
    pub handshake_ms: u64,
    /// Bytes that may wait to be sent on one connection, beside one message; a link with more is cut.
    pub outbound_bytes_max: usize,
    /// Connections at the hub that are not part of a link that is up; the oldest goes when there are more.
    pub handshakes_max: usize,
    /// The shortest and the longest wait of a node between two attempts, in milliseconds, before jitter.
    pub back_off_ms: (u64, u64),
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            bulk_bytes_per_s: None,
            ping_ms: LINK_PING_MS,
            silence_ms: LINK_SILENCE_MS_MAX,
            handshake_ms: LINK_HANDSHAKE_MS_MAX,
            outbound_bytes_max: LINK_OUTBOUND_BYTES_MAX,
            handshakes_max: LINK_HANDSHAKES_MAX,
            back_off_ms: (LINK_BACK_OFF_MIN_MS, LINK_BACK_OFF_MAX_MS),
        }
    }
}
