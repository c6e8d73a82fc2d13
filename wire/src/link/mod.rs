//! The link protocol between a hub and its nodes, below its messages: frames, the handshake, and both ends of a sealed
//! connection as state machines without I/O.
//!
//! `spec/link.md` is the authority on every byte. A link is two connections with one random link id: [`Channel::Control`]
//! and [`Channel::Bulk`]. Each has a handshake and keys of its own; messages keep their order within one of them only.
//!
//! ```text
//!   node                                       hub
//!   LinkHandshake::start ────hello──────────►  LinkHello::read, look up the key, LinkHello::accept
//!   LinkHandshake::receive ◄─handshake───────
//!   LinkSession::send_open ──open───────────►  LinkSession::receive: only now it is the node, and no replay
//!   LinkSession::receive ◄───open────────────  LinkSession::send_open, once both connections have come so far
//!   … messages, pings, pongs, either way; close …
//! ```
//!
//! To drive a machine: append what the socket yields to a buffer, call `receive` with the buffer until it returns
//! `None` (incomplete) and drop what each call consumed. After an error the connection is over: send
//! [`encode_link_error`] with [`LinkError::code`] and close.

mod frame;
mod handshake;
mod session;
#[cfg(test)]
mod tests;

pub use frame::{
    ERROR_BYTES, FRAGMENT_BYTES_MAX, HANDSHAKE_BYTES, HELLO_BYTES, LINK_FRAME_BYTES_MAX, VERSION_MAX,
    VERSION_MIN, VERSION_OTHERS, encode_link_error,
};
#[cfg(test)]
pub(crate) use handshake::PROLOGUE_BYTES;
pub use handshake::{LinkHandshake, LinkHello, LinkIntroduction};
pub use session::{CLOSE_BYTES_MAX, LinkInbound, LinkSession, MessageLimit};

use crate::control::{ErrorCode, ErrorNotice};
use crate::frame::FrameError;
use crate::message::coded;

/// What a node is in the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Role {
    /// It sells to terminals that connect to it.
    Server = 1,
    /// It is a host connection manager.
    Hcm = 2,
}

/// What a connection is for: a link has one of each of the first two; sessions of terminals have connections of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Channel {
    /// What somebody may be waiting for.
    Control = 0,
    /// What is long: stock in bulk, journals, registries.
    Bulk = 1,
    /// Sessions of terminals, carried between a host connection manager and a worker of a server.
    Sessions = 2,
}

coded! {
    Role { Server, Hcm }
    Channel { Control, Bulk, Sessions }
}

/// Why a connection of a link is over. Always the peer's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// Bytes that are no frame, or a frame that does not belong here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It speaks another protocol with the same framing.
    #[error("not the link protocol")]
    Protocol,
    /// A sealed frame that does not open: altered, replayed, out of order or under another key.
    #[error("sealed frame does not open")]
    Unsealing,
    /// Not what has to come first, something that comes only once, or a message between the fragments of another.
    #[error("message out of order")]
    OutOfOrder,
    /// The peer does not know the node's key, or the node is not known.
    #[error("authentication failed: unknown node, or another key")]
    Authentication,
    /// A suite that this end does not have.
    #[error("unknown suite")]
    Suite,
    /// No message has this kind.
    #[error("unknown kind of message: {kind:#06x}")]
    Message {
        /// The kind.
        kind: u16,
    },
    /// A message is longer than its kind allows.
    #[error("a message of kind {kind:#06x} is longer than {bytes_max} bytes")]
    TooLong {
        /// The kind.
        kind: u16,
        /// The limit.
        bytes_max: usize,
    },
    /// The peer closes the connection because of what it received.
    #[error("the peer refuses: {:?} (it understands versions {} to {})", .0.code, .0.version_min, .0.version_max)]
    Refused(ErrorNotice),
}

impl LinkError {
    /// The code to send before closing; `None` when the peer has already closed.
    #[must_use]
    pub fn code(self) -> Option<ErrorCode> {
        Some(match self {
            Self::Frame(error) => error.into(),
            Self::Protocol | Self::Message { .. } => ErrorCode::Kind,
            Self::Unsealing => ErrorCode::Unsealing,
            Self::OutOfOrder => ErrorCode::OutOfOrder,
            Self::Authentication => ErrorCode::Authentication,
            Self::Suite => ErrorCode::Suite,
            Self::TooLong { .. } => ErrorCode::TooLarge,
            Self::Refused(_) => return None,
        })
    }
}
