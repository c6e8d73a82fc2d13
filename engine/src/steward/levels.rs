//! When to ask for stock, and for how much.

use crate::ids::VarietyId;
use crate::policy::{AutoLevels, LevelRule, Levels, Rate};
use crate::time::Now;
use std::collections::BTreeMap;

/// Where the marks of one node come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LevelRules {
    /// For every variety that has no rule of its own.
    pub every: LevelRule,
    /// By the variety's code.
    pub by_code: BTreeMap<String, LevelRule>,
    /// How marks follow sales where they are to.
    pub auto: AutoLevels,
}

impl LevelRules {
    /// The marks for the variety with this code when it sells at `rate`.
    #[must_use]
    pub fn levels(&self, code: &str, rate: Rate) -> Levels {
        self.by_code.get(code).unwrap_or(&self.every).levels(rate, &self.auto)
    }
}

impl From<Levels> for LevelRules {
    fn from(levels: Levels) -> Self {
        Self { every: LevelRule::Fixed(levels), ..Self::default() }
    }
}

/// The requests of one node that are open, by variety.
#[derive(Debug, Default)]
pub(super) struct Needs {
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
    /// How many PINs to ask for now under the number `request`, if any: `held` are there or on their way, and nodes below wait
    /// for `below` of them.
    pub(super) fn next_request(
        &mut self,
        variety: VarietyId,
        levels: Levels,
        held: u64,
        below: u64,
        now: &Now,
        request: u64,
    ) -> Option<u32> {
        if self.is_resting(now) {
            return None;
        }
        let need = self.by_variety.entry(variety).or_default();
        if need.request != 0 || now.monotonic_ms < need.not_before_ms {
            return None;
        }
        let own = levels.shortfall(held.saturating_sub(below));
        // They get what is above the low mark: so much more than that is needed, whatever the target is.
        let all = if below > 0 { (levels.low() + below).saturating_sub(held) } else { 0 };
        let shortfall = own.max(all);
        let count = u32::try_from(shortfall).unwrap_or(u32::MAX);
        if count == 0 {
            return None;
        }
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
        let mut needs = Needs::default();
        let levels = Levels::new(100, 500, 800).unwrap();
        let now = Now::default();
        let (a, b) = (VarietyId(1), VarietyId(2));
        assert_eq!(needs.next_request(a, levels, 100, 0, &now, 1), None, "at the mark: nothing");
        assert_eq!(needs.next_request(a, levels, 99, 0, &now, 1), Some(401));
        assert_eq!(needs.next_request(a, levels, 98, 0, &now, 2), None, "one request at a time");
        assert_eq!(needs.next_request(b, levels, 400, 0, &now, 2), None, "each variety by itself");
        needs.handle_answered(1, 401, &now);
        assert_eq!(needs.next_request(a, levels, 99, 0, &now, 2), Some(401));
        needs.handle_answered(2, 0, &now);
        assert_eq!(needs.next_request(a, levels, 0, 0, &now, 3), None, "the hub had nothing");
        needs.handle_stock_arrived(a);
        assert_eq!(needs.next_request(a, levels, 0, 0, &now, 3), Some(500));
    }

    #[test]
    fn what_nodes_below_wait_for_is_asked_for_beside_the_own_marks() {
        let ask = |levels, held, below| {
            Needs::default().next_request(VarietyId(1), levels, held, below, &Now::default(), 1)
        };
        let levels = Levels::new(100, 500, 800).unwrap();
        assert_eq!(ask(levels, 400, 0), None);
        assert_eq!(ask(levels, 400, 300), None, "they get it of what is above the low mark");
        assert_eq!(ask(levels, 400, 301), Some(401), "and then this node is below its own");
        assert_eq!(ask(levels, 0, 2_000), Some(2_100));
        let none = Levels::new(0, 1, 1).unwrap();
        assert_eq!(ask(none, 0, 50), Some(50));
    }

    #[test]
    fn law_8_a_node_without_room_asks_ever_more_rarely_until_there_is_room() {
        let mut needs = Needs::default();
        let levels = Levels::new(100, 500, 800).unwrap();
        let mut now = Now::default();
        let mut asked = 0;
        for request in 1..=3_600_000 / 50 {
            now.monotonic_ms += 50;
            if needs.next_request(VarietyId(1), levels, 0, 0, &now, request).is_some() {
                asked += 1;
                needs.handle_no_room(&now);
                needs.handle_answered(request, 500, &now);
                needs.handle_stock_arrived(VarietyId(1));
            }
        }
        assert!((50..70).contains(&asked), "{asked} refusals in an hour");
        needs.handle_room();
        assert_eq!(needs.next_request(VarietyId(1), levels, 0, 0, &now, 1), Some(500));
    }
}
