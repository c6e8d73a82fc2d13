//! How much of each variety was sold, and how fast: worked out from what went into the lanes and what is left there, since
//! workers sell without telling the steward.

use crate::ids::VarietyId;
use crate::ledger::Ledger;
use crate::policy::{Rate, SalesRate};
use std::collections::BTreeMap;

/// The sales of one node, by variety.
#[derive(Debug, Default)]
pub(super) struct Sales {
    by_variety: BTreeMap<VarietyId, Sold>,
}

#[derive(Debug)]
struct Sold {
    /// Sold since the journal began, as far as it is known.
    total: u64,
    /// PINs that were in the lanes when they were last looked at, and came or were cut since.
    expected: u64,
    rate: SalesRate,
}

impl Sales {
    /// What a node with these books has sold. Its lanes are empty yet.
    pub(super) fn new(ledger: &Ledger) -> Self {
        let mut sales = Self::default();
        for holding in ledger.inventory.holdings() {
            sales.sold(holding.variety).total += holding.sold.len();
        }
        sales
    }

    /// PINs were put into lanes.
    pub(super) fn handle_stocked(&mut self, variety: VarietyId, pins: u64) {
        self.sold(variety).expected += pins;
    }

    /// PINs were cut from lanes, not to be sold here.
    pub(super) fn handle_cut(&mut self, variety: VarietyId, pins: u64) {
        let sold = self.sold(variety);
        sold.expected = sold.expected.saturating_sub(pins);
    }

    /// The lanes hold `left` PINs of a variety; `is_dry`: none of them may be sold. A PIN that was found damaged counts as
    /// sold: nobody but its worker can tell them apart.
    pub(super) fn handle_seen(&mut self, variety: VarietyId, left: u64, is_dry: bool, now_ms: u64) {
        let sold = self.sold(variety);
        let pins = sold.expected.saturating_sub(left);
        sold.expected = left;
        sold.total += pins;
        if pins == 0 && is_dry {
            sold.rate.handle_empty(now_ms);
        } else {
            sold.rate.handle_sold(pins, now_ms);
        }
    }

    /// PINs sold since the journal began. After a crash it may be less than before: what was not durable was not sold.
    pub(super) fn total(&self, variety: VarietyId) -> u64 {
        self.by_variety.get(&variety).map_or(0, |sold| sold.total)
    }

    /// How fast a variety sells.
    pub(super) fn rate(&self, variety: VarietyId) -> Rate {
        self.by_variety.get(&variety).map_or(Rate::NONE, |sold| sold.rate.rate())
    }

    fn sold(&mut self, variety: VarietyId) -> &mut Sold {
        let unknown = || Sold { total: 0, expected: 0, rate: SalesRate::new(SMOOTHING_H) };
        self.by_variety.entry(variety).or_insert_with(unknown)
    }
}

/// What was sold so many hours ago counts 1/e of what is sold now.
const SMOOTHING_H: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_the_lanes_and_was_not_cut_was_sold() {
        let (mut sales, variety) = (Sales::default(), VarietyId(1));
        sales.handle_stocked(variety, 100);
        sales.handle_seen(variety, 100, false, 0);
        sales.handle_cut(variety, 20);
        sales.handle_stocked(variety, 5);
        sales.handle_seen(variety, 75, false, 3_600_000);
        assert_eq!((sales.total(variety), sales.rate(variety)), (10, Rate(10_000)));
        sales.handle_seen(variety, 0, true, 7_200_000);
        assert_eq!(sales.total(variety), 85);
        let rate = sales.rate(variety);
        sales.handle_seen(variety, 0, true, 360_000_000);
        assert_eq!(sales.rate(variety), rate, "time without stock says nothing");
    }
}
