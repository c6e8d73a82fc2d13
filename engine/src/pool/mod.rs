//! The pool: the in-memory face of a node's inventory from which workers claim PINs.
//!
//! A segment that a node owns is split into *ranges*, each handed to one worker's *lane* of its variety. The algorithm
//! is a bounded interval with two ends in one word: the lane's worker, the range's only claimant, takes PINs from the
//! front; everything else (recalls, urgent transfers upward, help for a dry lane) is cut from the back by the steward.
//! Both ends live in one atomic `u64` ([`Cursor`]), so every PIN leaves a range exactly once, by the total order of
//! that word's modifications alone.
//!
//! Lane lists have one owner each: the worker. The steward hands it ranges through a bounded lock-free queue and keeps
//! its own list of the same ranges to cut from ([`Shelves`]). Nothing is shared but cursors, so no list needs
//! reclamation, and a worker never waits: a dry lane parks its vend, and the steward cuts a range for it from the
//! back of a sibling's.
//!
//! Orderings: the queue's hand-off publishes a range's immutable parts (content, key, expiry) to its worker. A cursor
//! publishes nothing but itself, so its operations are relaxed: atomic read-modify-writes of one word form a single
//! total order whatever their ordering, and neither side reads other memory on the strength of a cursor's value. The
//! loom test in `cursor` and the many-thread test in `tests/it/pool.rs` check both statements.

mod cursor;
mod lane;
mod shelves;

pub use cursor::Cursor;
pub use lane::Lane;
pub use shelves::{Handed, Shelves};

use crate::ids::{BlockId, PinId, Span, VarietyId};
use std::sync::Arc;

/// What a pool needs to know of the segment whose PINs it hands out. `S` is the content; the pool never looks into it.
#[derive(Debug)]
pub struct Shelf<S> {
    /// The block.
    pub block: BlockId,
    /// Its variety.
    pub variety: VarietyId,
    /// Last day on which its PINs are valid, in days since 1970-01-01 (UTC); `u32::MAX`: no end.
    pub last_day: u32,
    /// The sealed records and the key that opens them.
    pub content: S,
}

/// Contiguous PINs of one segment with one claimant.
#[derive(Debug)]
pub struct Range<S> {
    /// The segment.
    pub shelf: Arc<Shelf<S>>,
    cursor: Cursor,
}

impl<S> Range<S> {
    /// The PINs `start..end` of a segment's block.
    ///
    /// # Panics
    /// When `start > end` or `end > 65,536`.
    #[must_use]
    pub fn new(shelf: Arc<Shelf<S>>, start: u32, end: u32) -> Self {
        Self { shelf, cursor: Cursor::new(start, end) }
    }

    /// Takes the front PIN. To be called by the range's one claimant.
    pub fn claim(&self) -> Option<PinId> {
        let index = self.cursor.claim()?;
        let index = u16::try_from(index).expect("a range ends at 65,536 at most");
        Some(PinId::new(self.shelf.block, index))
    }

    /// Cuts up to `count` PINs from the back.
    pub fn cut(&self, count: u32) -> Option<Span> {
        let (start, end) = self.cursor.cut(count)?;
        Some(Span { block: self.shelf.block, start, end })
    }

    /// How many PINs are left; already less, perhaps, when the caller looks.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.cursor.remaining()
    }
}
