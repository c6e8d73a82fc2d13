//! Law 1 as arithmetic: every PIN ever received is in exactly one place.
//!
//! Read the sellers' books first, each up to a durable journal position, and the hub's after. What the hub then says it
//! gave with a number above the seller's watermark was in transfer when the seller's books were read, whatever the hub
//! thinks of it by now; what it says it gave with a number up to the watermark must be in the seller's books.
//!
//! Nodes below a server have to be read before it, so that its books know of everything that theirs depend on: what the server
//! says it gave to them, and what came back, is then judged by their books as its own are by the hub's.
//!
//! The same the other way: what a seller gave back and the hub had not taken when its books were read is in transfer; what
//! the hub has taken under a number that the seller's books did not know was still at the seller when they were read.

mod report;
mod seller;
mod sweep;
#[cfg(test)]
mod tests;

pub use report::{Finding, FindingKind, Report, Tally};

use crate::hub::books::Place;
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::journal::record::Stream;
use std::collections::BTreeMap;

/// What the hub believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubBooks {
    /// Every block ever received.
    pub blocks: Vec<BlockBook>,
    /// Every piece of every block.
    pub pieces: Vec<PieceBook>,
    /// What came back from each seller.
    pub takers: BTreeMap<SellerId, TakerBook>,
    /// What came back lately: at least everything that came while the books were read.
    pub returned: Vec<ReturnedBook>,
    /// The sellers that were declared lost, and up to where their journals were taken into account here.
    pub lost: BTreeMap<SellerId, u64>,
    /// What was in doubt at them, and is not settled by their journals or back here.
    pub doubts: Vec<DoubtBook>,
}

/// A range that a lost seller held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtBook {
    /// Who held it.
    pub seller: SellerId,
    /// Which PINs.
    pub span: Span,
    /// Whether an operator has written it off.
    pub is_written_off: bool,
}

/// How far the hub has come with what one seller gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakerBook {
    /// How those ended of which the seller may not know yet, by number: taken or refused.
    pub outcomes: BTreeMap<u64, bool>,
}

/// A segment that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnedBook {
    /// From whom.
    pub seller: SellerId,
    /// The transfer's number.
    pub number: u64,
    /// The segment.
    pub span: Span,
    /// Its ownership generation from then on.
    pub generation: u32,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockBook {
    /// Which.
    pub block: BlockId,
    /// Its variety.
    pub variety: VarietyId,
    /// How many PINs it was received with.
    pub count: u32,
}

/// A piece of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceBook {
    /// The piece.
    pub span: Span,
    /// Its ownership generation.
    pub generation: u32,
    /// Where the hub believes it to be.
    pub place: Place,
}

/// What one seller's durable journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SellerBooks {
    /// Whose.
    pub seller: SellerId,
    /// The durable position up to which the journal was folded.
    pub position: u64,
    /// The highest number taken or refused, by [`Stream`].
    pub watermarks: [u64; 2],
    /// The transfers up to the watermarks that were refused and that the giver may not know of yet. Others may be left
    /// out.
    pub refused: Vec<(Stream, u64)>,
    /// Every segment the seller ever took, but for the parts that it gave back.
    pub segments: Vec<SegmentBook>,
    /// The highest number of a transfer back upstream.
    pub given: u64,
    /// The transfers back upstream of which the seller does not know yet how they ended.
    pub returning: Vec<ReturningBook>,
    /// What it gave to nodes below and did not get back.
    pub below: Vec<BelowBook>,
    /// Every segment that ever came back from nodes below.
    pub came_back: Vec<CameBackBook>,
}

/// A segment that a seller gave to a node below it: in transfer until that has taken it, then the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BelowBook {
    /// To whom.
    pub node: SellerId,
    /// The transfer's numbering.
    pub stream: Stream,
    /// The transfer's number.
    pub number: u64,
    /// The segment, or what is left of it there.
    pub span: Span,
    /// The ownership generation under which it was given.
    pub generation: u32,
    /// Its variety.
    pub variety: VarietyId,
}

/// A segment that came back from a node below. Whatever that node had of it under a lower generation it has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameBackBook {
    /// From whom.
    pub node: SellerId,
    /// The segment.
    pub span: Span,
    /// Its ownership generation from then on.
    pub generation: u32,
}

/// A segment that a seller gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturningBook {
    /// The transfer's number.
    pub number: u64,
    /// The segment.
    pub span: Span,
    /// The ownership generation under which the seller had it.
    pub generation: u32,
    /// Its variety.
    pub variety: VarietyId,
    /// The node below that it had come back from; 0: it came from upstream.
    pub from: SellerId,
}

/// One segment at a seller. What is neither sold nor withdrawn is in its stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentBook {
    /// The segment as it was taken.
    pub span: Span,
    /// Its ownership generation.
    pub generation: u32,
    /// Its variety.
    pub variety: VarietyId,
    /// Ranges of block indexes sold and not voided, from the first to one past the last.
    pub sold: Vec<(u32, u32)>,
    /// Ranges of block indexes withdrawn: voided, damaged or expired.
    pub withdrawn: Vec<(u32, u32)>,
    /// The node below that it came back from; 0: it came from upstream.
    pub from: SellerId,
}

/// Compares the books.
#[must_use]
pub fn audit(hub: &HubBooks, sellers: &[SellerBooks]) -> Report {
    sweep::sweep(hub, sellers)
}
