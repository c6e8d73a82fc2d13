//! What is in the hub's inventory and may be given, in the order in which it is given.

use super::books::{Books, Place};
use crate::ids::{BlockId, Span, VarietyId};
use crate::stock::Expiry;
use std::collections::BTreeMap;

/// The pieces in the hub's inventory from which stock may be given, what expires first in front.
pub(super) struct Shelf {
    pieces: BTreeMap<VarietyId, BTreeMap<(Expiry, BlockId, u32), u32>>,
    /// PINs of blocks that are set aside.
    aside: BTreeMap<VarietyId, u64>,
}

impl Shelf {
    pub(super) fn new(books: &Books) -> Self {
        let mut shelf = Self { pieces: BTreeMap::new(), aside: BTreeMap::new() };
        for piece in books.pieces.values().filter(|piece| piece.place == Place::Hub) {
            shelf.put(books, piece.span);
        }
        shelf
    }

    pub(super) fn put(&mut self, books: &Books, span: Span) -> VarietyId {
        let properties = books.blocks[&span.block].properties;
        let pieces = self.pieces.entry(properties.variety).or_default();
        pieces.insert((properties.expiry, span.block, span.start), span.end);
        properties.variety
    }

    pub(super) fn take(&mut self, books: &Books, span: Span) -> VarietyId {
        let properties = books.blocks[&span.block].properties;
        if let Some(pieces) = self.pieces.get_mut(&properties.variety) {
            pieces.remove(&(properties.expiry, span.block, span.start));
        }
        properties.variety
    }

    pub(super) fn first(&self, variety: VarietyId, now_ms: u64, life_days: u32) -> Option<Span> {
        let lives = |expiry: Expiry| expiry.days_left(now_ms).is_some_and(|left| left >= life_days);
        let mut pieces = self.pieces.get(&variety)?.iter();
        let (&(_, block, start), &end) = pieces.find(|((expiry, _, _), _)| lives(*expiry))?;
        Some(Span { block, start, end })
    }

    pub(super) fn set_aside(&mut self, block: BlockId) {
        for (&variety, pieces) in &mut self.pieces {
            let lost = pieces.extract_if(.., |(_, of, _), _| *of == block);
            let lost: u64 = lost.map(|((_, _, start), end)| u64::from(end - start)).sum();
            *self.aside.entry(variety).or_default() += lost;
        }
    }

    /// How many PINs may not be given any more: they live too short, or their block is set aside.
    pub(super) fn spoilt(&self, variety: VarietyId, now_ms: u64, life_days: u32) -> u64 {
        let pieces = self.pieces.get(&variety).into_iter().flatten();
        let all: u64 = pieces.map(|((_, _, start), end)| u64::from(end - start)).sum();
        let too_old = all - self.count(variety, now_ms, life_days);
        too_old + self.aside.get(&variety).copied().unwrap_or(0)
    }

    /// PINs of a variety that live for so many days more, and so may be given.
    pub(super) fn count(&self, variety: VarietyId, now_ms: u64, life_days: u32) -> u64 {
        let lives = |expiry: Expiry| expiry.days_left(now_ms).is_some_and(|left| left >= life_days);
        let pieces = self.pieces.get(&variety).into_iter().flatten();
        let alive = pieces.filter(|((expiry, _, _), _)| lives(*expiry));
        alive.map(|((_, _, start), end)| u64::from(end - start)).sum()
    }
}
