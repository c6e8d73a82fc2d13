//! Law 1 as arithmetic: every PIN ever received is in exactly one place.
//!
//! Read the sellers' books first, each up to a durable journal position, and the hub's after. What the hub then says it
//! gave with a number above the seller's watermark was in transfer when the seller's books were read, whatever the hub
//! thinks of it by now; what it says it gave with a number up to the watermark must be in the seller's books.

mod report;
mod sweep;
#[cfg(test)]
mod tests;

pub use report::{Finding, FindingKind, Report, Tally};

use crate::hub::books::Place;
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::journal::record::Stream;

/// What the hub believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubBooks {
    /// Every block ever received.
    pub blocks: Vec<BlockBook>,
    /// Every piece of every block.
    pub pieces: Vec<PieceBook>,
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
    /// Every segment the seller ever took and did not give back.
    pub segments: Vec<SegmentBook>,
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
}

/// Compares the books.
#[must_use]
pub fn audit(hub: &HubBooks, sellers: &[SellerBooks]) -> Report {
    sweep::sweep(hub, sellers)
}
