//! Stock transfer: a segment moves from one node's inventory to another's exactly once, whatever is lost on the way.
//!
//! A link has, for each direction and [`Stream`], one [`Giver`] and one [`Taker`]. Both are pure: events go in,
//! actions come out, and the owner does what they say, in order. The argument that no PIN ever has two owners or none
//! stands in `spec/stock-transfer.md`; what it rests on here:
//!
//! - the giver emits an offer only after [`Giver::handle_given`] said that its OUT is durable;
//! - the taker emits an answer only after [`Taker::handle_recorded`] said that its IN or REFUSED is durable, and
//!   records IN only after [`Taker::handle_written`] said that the content and its directory entry are;
//! - numbers are given, offered and recorded in order, so one watermark says which numbers are known.

mod giver;
mod taker;
#[cfg(test)]
mod tests;

pub use giver::{Giver, GiverAction};
pub use taker::{Taker, TakerAction};

use crate::ids::SellerId;
use crate::journal::record::{Stream, TransferFact};

/// What the other end of a link did against the protocol: close the connection and tell the operator. None of these
/// changes what this end holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferFault {
    /// An offer or a chunk contradicts itself.
    #[error("transfer {number}: {what}")]
    Malformed {
        /// The transfer.
        number: u64,
        /// In what way.
        what: &'static str,
    },
    /// A number was skipped.
    #[error("transfer {number} came where {expected} was due")]
    Gap {
        /// The number that came.
        number: u64,
        /// The number that was due.
        expected: u64,
    },
    /// A known number came with another segment: the giver has lost its memory, as a copy restored from a backup has.
    #[error(
        "transfer {number} was offered before with another segment: the giver runs on an old copy of its books"
    )]
    Renumbered {
        /// The number.
        number: u64,
    },
    /// The giver asks again about a transfer that it said it had settled: its books are an old copy.
    #[error("transfer {number} was settled before: the giver runs on an old copy of its books")]
    SettledBefore {
        /// The number.
        number: u64,
    },
    /// The taker speaks of a transfer that was never offered: this end's books may be an old copy.
    #[error("transfer {number} was never offered: these books may be an old copy")]
    NeverOffered {
        /// The number.
        number: u64,
    },
    /// The taker answered both ways.
    #[error("transfer {number} was answered both ways")]
    Contradiction {
        /// The number.
        number: u64,
    },
    /// More offers at once than are allowed.
    #[error("more than {open_max} transfers at once")]
    TooMany {
        /// The limit.
        open_max: usize,
    },
}

impl TransferFault {
    /// Whether it proves that the giver runs on an old copy of its books.
    #[must_use]
    pub fn shows_old_giver(&self) -> bool {
        matches!(self, Self::Renumbered { .. } | Self::SettledBefore { .. })
    }
}

/// Most transfers of a stream that may be open at once at either end.
#[must_use]
pub const fn open_max(stream: Stream) -> usize {
    match stream {
        Stream::Bulk => 4,
        Stream::Urgent => 1024,
    }
}

/// One line for each state that a transfer enters at this end, for operators who look for a transfer that does not end. It
/// is said before anything that comes of the state leaves this process.
fn say(end: &str, node: SellerId, fact: &TransferFact, state: &str) {
    let TransferFact { stream, number, span, generation, .. } = *fact;
    let (block, pins) = (span.block.0, span.len());
    tracing::debug!(
        "{end} {state}: node {}, {stream:?} {number}, {pins} PINs of block {block:#x} from {}, generation {generation}",
        node.0,
        span.start
    );
}
