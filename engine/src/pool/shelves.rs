//! The steward's side of the pool: which ranges exist, in whose lane, and what is cut from them.

use super::{Range, Shelf};
use crate::ids::{Span, VarietyId};
use crate::planted::{self, Fault};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every range of a node that may still hold PINs, with its lane.
#[derive(Debug)]
pub struct Shelves<S> {
    lanes: usize,
    ranges: BTreeMap<VarietyId, Vec<Handed<S>>>,
}

/// A range made for a worker's lane, to be handed to it.
pub type Handed<S> = (usize, Arc<Range<S>>);

impl<S> Shelves<S> {
    /// Empty shelves for a node with this many workers.
    ///
    /// # Panics
    /// When there is no worker.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        assert!(lanes > 0, "a node has a worker");
        Self { lanes, ranges: BTreeMap::new() }
    }

    /// How many workers there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Splits unsold PINs of a segment evenly between all lanes.
    pub fn add(&mut self, shelf: &Arc<Shelf<S>>, start: u32, end: u32) -> Vec<Handed<S>> {
        let lanes = u32::try_from(self.lanes).expect("a node has few workers");
        let each = (end - start).div_ceil(lanes).max(1);
        let mut handed: Vec<_> = (0..self.lanes)
            .zip((start..end).step_by(each as usize))
            .map(|(lane, from)| self.add_to(lane, shelf.clone(), from, (from + each).min(end)))
            .collect();
        if planted::is(Fault::TwoClaimants) {
            handed.push(self.add_to(self.lanes - 1, shelf.clone(), start, end));
        }
        handed
    }

    /// Gives PINs of a segment to one lane.
    pub fn add_to(&mut self, lane: usize, shelf: Arc<Shelf<S>>, start: u32, end: u32) -> Handed<S> {
        let variety = shelf.variety;
        let range = Arc::new(Range::new(shelf, start, end));
        self.ranges.entry(variety).or_default().push((lane, range.clone()));
        (lane, range)
    }

    /// Helps a dry lane: cuts half of what the fullest sibling's range holds from its back into a new range for `lane`.
    /// `None` when no sibling has anything that `is_sellable`.
    pub fn help(
        &mut self,
        lane: usize,
        variety: VarietyId,
        is_sellable: impl Fn(&Shelf<S>) -> bool,
    ) -> Option<Handed<S>> {
        self.forget_empty(variety);
        let siblings = self
            .ranges
            .get(&variety)?
            .iter()
            .filter(|(owner, range)| *owner != lane && is_sellable(&range.shelf));
        let (_, fullest) = siblings.max_by_key(|(_, range)| range.remaining())?.clone();
        let span = fullest.cut(fullest.remaining().div_ceil(2))?;
        Some(self.add_to(lane, fullest.shelf.clone(), span.start, span.end))
    }

    /// Cuts up to `count` PINs of a variety from the back of one range: of those that `may_cut` allows, the one that would be
    /// sold last. `None` when there is nothing.
    pub fn cut(
        &mut self,
        variety: VarietyId,
        count: u32,
        may_cut: impl Fn(&Shelf<S>) -> bool,
    ) -> Option<(Arc<Shelf<S>>, Span)> {
        self.forget_empty(variety);
        let ranges = self.ranges.get(&variety)?.iter();
        let mut ranges: Vec<_> =
            ranges.map(|(_, range)| range).filter(|range| may_cut(&range.shelf)).collect();
        ranges.sort_by_key(|range| std::cmp::Reverse(range.shelf.last_day));
        // One may run empty meanwhile.
        ranges.into_iter().find_map(|range| Some((range.shelf.clone(), range.cut(count)?)))
    }

    /// The varieties of which there may be PINs.
    pub fn varieties(&self) -> impl Iterator<Item = VarietyId> {
        self.ranges.iter().filter(|(_, ranges)| !ranges.is_empty()).map(|(variety, _)| *variety)
    }

    /// Cuts everything that `is_done` says may never be sold again.
    pub fn cut_done(&mut self, is_done: impl Fn(&Shelf<S>) -> bool) -> Vec<(Arc<Shelf<S>>, Span)> {
        let done = self.ranges.values().flatten().filter(|(_, range)| is_done(&range.shelf));
        done.filter_map(|(_, range)| Some((range.shelf.clone(), range.cut(u32::MAX)?))).collect()
    }

    /// The same as [`Shelves::remaining`] for one lane.
    pub fn remaining_in(&self, lane: usize, variety: VarietyId, counts: impl Fn(&Shelf<S>) -> bool) -> u64 {
        let ranges = self.ranges.get(&variety).into_iter().flatten();
        let own = ranges.filter(|(owner, range)| *owner == lane && counts(&range.shelf));
        own.map(|(_, range)| u64::from(range.remaining())).sum()
    }

    /// PINs of a variety that lie in ranges which `counts` accepts; already less, perhaps, when the caller looks.
    pub fn remaining(&mut self, variety: VarietyId, counts: impl Fn(&Shelf<S>) -> bool) -> u64 {
        self.forget_empty(variety);
        let ranges =
            self.ranges.get(&variety).into_iter().flatten().filter(|(_, range)| counts(&range.shelf));
        ranges.map(|(_, range)| u64::from(range.remaining())).sum()
    }

    fn forget_empty(&mut self, variety: VarietyId) {
        if let Some(ranges) = self.ranges.get_mut(&variety) {
            ranges.retain(|(_, range)| range.remaining() > 0);
        }
    }
}
