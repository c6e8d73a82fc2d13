//! One worker's ranges of one variety, first expiry first.

use super::{Range, Shelf};
use crate::ids::PinId;
use std::collections::VecDeque;
use std::sync::Arc;

/// The ranges of one variety that one worker claims from.
#[derive(Debug)]
pub struct Lane<S> {
    /// Sorted by expiry; of the same expiry, in order of arrival.
    ranges: VecDeque<Arc<Range<S>>>,
}

impl<S> Default for Lane<S> {
    fn default() -> Self {
        Self { ranges: VecDeque::new() }
    }
}

impl<S> Lane<S> {
    /// Adds a range behind those that expire no later.
    pub fn add(&mut self, range: Arc<Range<S>>) {
        let at = self.ranges.partition_point(|held| held.shelf.last_day <= range.shelf.last_day);
        self.ranges.insert(at, range);
    }

    /// Takes the front PIN of the first range that `is_sellable` allows, or `None` if the lane is dry. Ranges that are
    /// empty or may not be sold any more are dropped: the steward keeps them and withdraws what is left.
    pub fn claim(&mut self, is_sellable: impl Fn(&Shelf<S>) -> bool) -> Option<(PinId, &Shelf<S>)> {
        let pin = loop {
            let range = self.ranges.front()?;
            if is_sellable(&range.shelf)
                && let Some(pin) = range.claim()
            {
                break pin;
            }
            self.ranges.pop_front();
        };
        Some((pin, &self.ranges.front()?.shelf))
    }

    /// PINs left in all its ranges.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.remaining())).sum()
    }

    /// Whether no PIN is left.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.ranges.iter().all(|range| range.remaining() == 0)
    }
}
