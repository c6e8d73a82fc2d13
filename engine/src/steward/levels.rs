//! When to ask for stock, and for how much.

use crate::ids::VarietyId;
use crate::time::Now;
use std::collections::BTreeMap;

/// The marks of one node: below `low` it asks for as much as brings it to `target`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// PINs of one variety below which it asks.
    pub low: u32,
    /// PINs of one variety that it asks up to.
    pub target: u32,
}

/// The requests of one node that are open, by variety.
#[derive(Debug)]
pub(super) struct Needs {
    levels: Levels,
    by_variety: BTreeMap<VarietyId, Need>,
    /// The disk had no room for what came: nothing is asked for before this, in [`Now::monotonic_ms`].
    rest_until_ms: u64,
    /// How long the last such rest was; 0: there has been room since.
    rest_ms: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Need {
    /// The open request; 0: none.
    request: u64,
    asked: u32,
    /// The hub had less than was asked for: not before this, in [`Now::monotonic_ms`], unless stock arrives.
    not_before_ms: u64,
}

impl Needs {
    pub(super) fn new(levels: Levels) -> Self {
        Self { levels, by_variety: BTreeMap::new(), rest_until_ms: 0, rest_ms: 0 }
    }

    /// How many PINs to ask for now under the number `request`, if any: `held` are there or on their way.
    pub(super) fn next_request(
        &mut self,
        variety: VarietyId,
        held: u64,
        now: &Now,
        request: u64,
    ) -> Option<u32> {
        if self.is_resting(now) {
            return None;
        }
        let need = self.by_variety.entry(variety).or_default();
        if need.request != 0 || held >= u64::from(self.levels.low) || now.monotonic_ms < need.not_before_ms {
            return None;
        }
        let count = u32::try_from(u64::from(self.levels.target) - held).ok().filter(|count| *count > 0)?;
        *need = Need { request, asked: count, not_before_ms: 0 };
        Some(count)
    }

    pub(super) fn handle_answered(&mut self, request: u64, granted: u32, now: &Now) {
        if let Some(need) = self.by_variety.values_mut().find(|need| need.request == request) {
            need.request = 0;
            if granted < need.asked {
                need.not_before_ms = now.monotonic_ms + ASK_AGAIN_MS;
            }
        }
    }

    pub(super) fn handle_stock_arrived(&mut self, variety: VarietyId) {
        self.by_variety.entry(variety).or_default().not_before_ms = 0;
    }

    /// Whether it is of no use to ask for anything, because there was no room for what came last.
    pub(super) fn is_resting(&self, now: &Now) -> bool {
        now.monotonic_ms < self.rest_until_ms
    }

    /// What came had to be refused for lack of room. Every refusal costs both ends a record, so the rests grow.
    pub(super) fn handle_no_room(&mut self, now: &Now) {
        if !self.is_resting(now) {
            self.rest_ms = (self.rest_ms * 2).clamp(REST_MS_MIN, REST_MS_MAX);
            self.rest_until_ms = now.monotonic_ms + self.rest_ms;
        }
    }

    /// There was room for what came.
    pub(super) fn handle_room(&mut self) {
        (self.rest_ms, self.rest_until_ms) = (0, 0);
    }

    pub(super) fn handle_cut(&mut self) {
        self.by_variety.clear();
    }
}

/// How long to wait before asking a hub again that had nothing, in milliseconds.
const ASK_AGAIN_MS: u64 = 5_000;
/// The first rest of a node whose disk is full, in milliseconds.
const REST_MS_MIN: u64 = 2_000;
/// Its longest.
const REST_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h02_below_the_low_mark_one_request_up_to_the_target() {
        let mut needs = Needs::new(Levels { low: 100, target: 500 });
        let now = Now::default();
        let (a, b) = (VarietyId(1), VarietyId(2));
        assert_eq!(needs.next_request(a, 100, &now, 1), None, "at the mark: nothing");
        assert_eq!(needs.next_request(a, 99, &now, 1), Some(401));
        assert_eq!(needs.next_request(a, 98, &now, 2), None, "one request at a time");
        assert_eq!(needs.next_request(b, 400, &now, 2), None, "each variety by itself");
        needs.handle_answered(1, 401, &now);
        assert_eq!(needs.next_request(a, 99, &now, 2), Some(401));
        needs.handle_answered(2, 0, &now);
        assert_eq!(needs.next_request(a, 0, &now, 3), None, "the hub had nothing");
        needs.handle_stock_arrived(a);
        assert_eq!(needs.next_request(a, 0, &now, 3), Some(500));
    }
    #[test]
    fn law_8_a_node_without_room_asks_ever_more_rarely_until_there_is_room() {
        let mut needs = Needs::new(Levels { low: 100, target: 500 });
        let mut now = Now::default();
        let mut asked = 0;
        for request in 1..=3_600_000 / 50 {
            now.monotonic_ms += 50;
            if needs.next_request(VarietyId(1), 0, &now, request).is_some() {
                asked += 1;
                needs.handle_no_room(&now);
                needs.handle_answered(request, 500, &now);
                needs.handle_stock_arrived(VarietyId(1));
            }
        }
        assert!((50..70).contains(&asked), "{asked} refusals in an hour");
        needs.handle_room();
        assert_eq!(needs.next_request(VarietyId(1), 0, &now, 1), Some(500));
    }
}
