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

    /// Takes the front PIN of the first range that `is_sellable` allows, or `None` if there is none. Empty ranges are
    /// dropped. What may not be sold now stays: it may be later, when a variety asks for less life; what expired is emptied
    /// by the steward, who withdraws it.
    pub fn claim(&mut self, is_sellable: impl Fn(&Shelf<S>) -> bool) -> Option<(PinId, &Shelf<S>)> {
        let mut at = 0;
        let pin = loop {
            let range = self.ranges.get(at)?;
            if is_sellable(&range.shelf) {
                if let Some(pin) = range.claim() {
                    break pin;
                }
            } else if range.remaining() > 0 {
                at += 1;
                continue;
            }
            self.ranges.remove(at);
        };
        Some((pin, &self.ranges.get(at)?.shelf))
    }

    /// PINs left in all its ranges.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.remaining())).sum()
    }

    /// Whether no PIN is left that `is_sellable` allows.
    #[must_use]
    pub fn is_dry(&self, is_sellable: impl Fn(&Shelf<S>) -> bool) -> bool {
        !self.ranges.iter().any(|range| range.remaining() > 0 && is_sellable(&range.shelf))
    }
}
