//! Which nodes give stock back, and how much.
//!
//! For those who asked, when the hub has none left: first from nodes above their high marks, the largest surplus first,
//! down to their targets. If that is not enough, for waiting terminals and for nodes whose cover is critical: from the
//! longest cover downward, never below the giver's low mark, until covers meet. Nobody gives more than is lacking.
//!
//! What keeps stock from going back and forth: nothing is recalled for a node that is merely below its low mark unless
//! another is above its high one; a giver ends at its target, and asks again only below its low mark; a node that was helped
//! ends below every giver's cover, so roles do not swap; a giver has something to give or is left alone; and what nobody
//! asked for is taken back only within a share of sales ([`super::Churn`]) and in no smaller pieces than from high to
//! target.

use super::Rules;
use super::position::{Position, Standing};
use super::rate::{Cover, Rate};
use super::reason::Reason;
use super::share::{Share, lower, meet};
use crate::ids::SellerId;
use std::cmp::Reverse;

/// What a node lacks and the hub does not have, also not on its way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// Who lacks it.
    pub node: SellerId,
    /// PINs, more than 0.
    pub lacking: u64,
    /// Terminals wait for them now.
    pub is_urgent: bool,
    /// PINs that the node has or will have without them.
    pub held: u64,
    /// How fast it sells.
    pub rate: Rate,
}

impl Need {
    /// How long the node's stock lasts without what it lacks.
    #[must_use]
    pub fn cover(&self) -> Cover {
        Cover::of(self.held, self.rate)
    }

    /// Whether others are to give from below their high marks.
    #[must_use]
    pub fn is_critical(&self, rules: &Rules) -> bool {
        self.is_urgent || self.cover() < Cover::from_h(rules.critical_h)
    }
}

/// Stock that one node is to give back to the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recall {
    /// Who gives.
    pub node: SellerId,
    /// PINs, more than 0.
    pub pins: u64,
    /// Why.
    pub reason: Reason,
}

/// What to recall for `needs`, which stand in the order in which they are to be met. Nodes that are critical themselves give
/// nothing, and nothing is recalled for a node that is above its high mark and has no terminal waiting.
#[must_use]
pub fn recall_for(needs: &[Need], nodes: &[Position], rules: &Rules) -> Vec<Recall> {
    let mut recalls = Vec::new();
    let is_donor = |node: &&Position| {
        let is_critical = |need: &Need| need.node == node.node && need.is_critical(rules);
        node.standing == Standing::Open && !needs.iter().any(is_critical)
    };
    let mut donors: Vec<Donor<'_>> = nodes.iter().filter(is_donor).map(Donor::new).collect();
    let mut needs = needs.to_vec();
    needs.retain(|need| {
        let is_rich = |donor: &Donor<'_>| donor.position.node == need.node && donor.surplus() > 0;
        !donors.iter().any(is_rich)
    });
    from_surplus(&mut needs, &mut donors, &mut recalls);
    level(&mut needs, |need| need.is_urgent, &mut donors, &mut recalls);
    level(&mut needs, |need| !need.is_urgent && need.is_critical(rules), &mut donors, &mut recalls);
    recalls
}

/// What to take back though nobody asked for it: what nodes above their high marks have beyond their targets, the largest
/// surplus first, `pins_max` in all.
#[must_use]
pub fn take_back(nodes: &[Position], mut pins_max: u64) -> Vec<Recall> {
    let mut rich: Vec<_> = nodes
        .iter()
        .filter(|node| node.standing == Standing::Open)
        .map(Donor::new)
        .filter(|donor| donor.surplus() > 0)
        .collect();
    rich.sort_by_key(|donor| (Reverse(donor.surplus()), donor.position.node));
    let mut recalls = Vec::new();
    for donor in rich {
        let (had, levels) = (donor.left, donor.position.levels);
        let pins = donor.surplus().min(pins_max);
        // In small pieces, each as soon as the next few sales allow it, the cost would be all in the moves.
        if pins > levels.high() - levels.target() {
            pins_max -= pins;
            let reason = Reason::TakenBack { had, high: levels.high(), target: levels.target() };
            recalls.push(Recall { node: donor.position.node, pins, reason });
        }
    }
    recalls
}

/// A node that may give.
struct Donor<'a> {
    position: &'a Position,
    /// PINs it has and nobody has called for.
    left: u64,
}

impl<'a> Donor<'a> {
    fn new(position: &'a Position) -> Self {
        Self { position, left: position.spare() }
    }

    /// PINs beyond its target, if it is above its high mark.
    fn surplus(&self) -> u64 {
        let levels = self.position.levels;
        if self.left > levels.high() { self.left - levels.target() } else { 0 }
    }

    /// What it may give down to its low mark; with `in_pieces` nothing rather than a few PINs.
    fn share(&self, in_pieces: bool) -> Share {
        let low = self.position.levels.low();
        let piece = if in_pieces { low / LEAST_PIECE_OF_LOW } else { 0 };
        let above = self.left.saturating_sub(low);
        let max = if above < piece { 0 } else { above };
        Share { held: self.left, rate: self.position.rate, max }
    }
}

fn from_surplus(needs: &mut [Need], donors: &mut [Donor<'_>], recalls: &mut Vec<Recall>) {
    let Some(first) = needs.iter().find(|need| need.lacking > 0).map(|need| need.node) else {
        return;
    };
    let mut by_surplus: Vec<usize> = (0..donors.len()).collect();
    by_surplus.sort_by_key(|at| (Reverse(donors[*at].surplus()), donors[*at].position.node));
    let mut lacking = total(needs, |_| true);
    for at in by_surplus {
        let donor = &mut donors[at];
        let pins = donor.surplus().min(lacking);
        if pins == 0 {
            break;
        }
        let (had, levels) = (donor.left, donor.position.levels);
        let reason = Reason::Surplus { lacking, first, had, high: levels.high(), target: levels.target() };
        recalls.push(Recall { node: donor.position.node, pins, reason });
        donor.left -= pins;
        lacking -= pins;
        meet_in_order(needs, |_| true, pins);
    }
}

/// Takes from the longest cover downward for those needs that are meant: one whose terminals wait gets what it lacks, others
/// as much as makes covers meet.
fn level(
    needs: &mut [Need],
    is_meant: impl Fn(&Need) -> bool,
    donors: &mut [Donor<'_>],
    recalls: &mut Vec<Recall>,
) {
    let Some(first) = needs.iter().find(|need| need.lacking > 0 && is_meant(need)).copied() else {
        return;
    };
    let lacking = total(needs, &is_meant);
    let givers: Vec<Share> = donors.iter().map(|donor| donor.share(!first.is_urgent)).collect();
    let pins = if first.is_urgent {
        lacking
    } else {
        let open = needs.iter().filter(|need| need.lacking > 0 && is_meant(need));
        let takers: Vec<Share> =
            open.map(|need| Share { held: need.held, rate: need.rate, max: need.lacking }).collect();
        meet(&takers, &givers)
    };
    let given = lower(pins, &givers);
    for (donor, pins) in donors.iter_mut().zip(given).filter(|(_, pins)| *pins > 0) {
        let reason = Reason::Levelled {
            lacking,
            first: first.node,
            cover: (!first.is_urgent).then(|| first.cover()),
            had: donor.left,
            had_cover: Cover::of(donor.left, donor.position.rate),
            low: donor.position.levels.low(),
        };
        recalls.push(Recall { node: donor.position.node, pins, reason });
        donor.left -= pins;
        meet_in_order(needs, &is_meant, pins);
    }
}

fn total(needs: &[Need], is_meant: impl Fn(&Need) -> bool) -> u64 {
    needs.iter().filter(|need| is_meant(need)).fold(0, |sum, need| sum.saturating_add(need.lacking))
}

fn meet_in_order(needs: &mut [Need], is_meant: impl Fn(&Need) -> bool, mut pins: u64) {
    for need in needs.iter_mut() {
        if is_meant(need) {
            let met = need.lacking.min(pins);
            need.lacking -= met;
            need.held = need.held.saturating_add(met);
            pins -= met;
        }
    }
}

/// A node gives for a critical one only if it is above its low mark by one part in so many of it: a low mark that falls with
/// the rate of sales would else release PIN after PIN, each as a move of its own.
const LEAST_PIECE_OF_LOW: u64 = 10;

#[cfg(test)]
pub(super) mod tests {
    use super::super::levels::Levels;
    use super::*;
    use proptest::prelude::*;

    fn node(id: u32, on_hand: u64, per_hour: f64) -> Position {
        let levels = Levels::new(100, 500, 800).unwrap();
        let rate = Rate::from_pins_per_hour(per_hour);
        Position { node: SellerId(id), on_hand, levels, rate, ..Position::default() }
    }

    fn need(node: u32, lacking: u64, held: u64) -> Need {
        let rate = Rate::from_pins_per_hour(50.0);
        Need { node: SellerId(node), lacking, is_urgent: false, held, rate }
    }

    fn given(recalls: &[Recall]) -> Vec<(u32, u64)> {
        recalls.iter().map(|recall| (recall.node.0, recall.pins)).collect()
    }

    #[test]
    fn h03_only_the_node_above_its_high_mark_gives_and_no_more_than_is_lacking() {
        let nodes = [node(1, 99, 50.0), node(2, 2_000, 50.0), node(3, 500, 50.0)];
        assert_eq!(given(&recall_for(&[need(1, 401, 99)], &nodes, &Rules::default())), [(2, 401)]);
    }

    #[test]
    fn the_largest_surplus_first_down_to_the_target() {
        let nodes = [node(2, 900, 1.0), node(3, 1_500, 1.0), node(4, 800, 1.0)];
        let recalls = recall_for(&[need(1, 1_200, 400)], &nodes, &Rules::default());
        assert_eq!(given(&recalls), [(3, 1_000), (2, 200)]);
        let recalls = recall_for(&[need(1, 5_000, 400)], &nodes, &Rules::default());
        assert_eq!(given(&recalls), [(3, 1_000), (2, 400)], "its cover is not critical");
    }

    #[test]
    fn for_a_critical_node_covers_meet_and_no_giver_goes_below_its_low_mark() {
        let nodes = [node(1, 50, 50.0), node(2, 700, 50.0), node(3, 150, 1.0)];
        let recalls = recall_for(&[need(1, 450, 50)], &nodes, &Rules::default());
        assert_eq!(given(&recalls), [(2, 300), (3, 50)], "400 each, 8 h; 3 gives down to its low mark");
    }

    #[test]
    fn a_waiting_terminal_is_helped_by_the_longest_cover_above_a_low_mark() {
        let nodes = [node(2, 300, 10.0), node(3, 300, 50.0), node(4, 90, 0.0)];
        let urgent = Need { is_urgent: true, ..need(1, 1, 0) };
        assert_eq!(given(&recall_for(&[urgent], &nodes, &Rules::default())), [(2, 1)]);
    }

    #[test]
    fn unreachable_is_not_lost_and_a_draining_node_gives_all_by_itself() {
        for standing in [Standing::Away, Standing::Draining] {
            let nodes = [Position { standing, ..node(2, 9_000, 1.0) }];
            assert_eq!(recall_for(&[need(1, 401, 0)], &nodes, &Rules::default()), []);
            assert_eq!(take_back(&nodes, 10_000), []);
        }
    }

    #[test]
    fn h05_what_nobody_asked_for_is_taken_back_in_whole_pieces() {
        let nodes = [node(2, 900, 1.0), node(3, 800, 1.0)];
        assert_eq!(given(&take_back(&nodes, 10_000)), [(2, 400)], "at the mark is not above it");
        assert_eq!(given(&take_back(&nodes, 300)), []);
        assert_eq!(given(&take_back(&nodes, 301)), [(2, 301)]);
        let called = [Position { recalling: 100, ..nodes[0] }];
        assert_eq!(take_back(&called, 10_000), [], "what is called for already is gone");
    }

    pub(in crate::policy) fn positions() -> impl Strategy<Value = Vec<Position>> {
        let position = (
            prop_oneof![4 => Just(Standing::Open), 1 => Just(Standing::Away), 1 => Just(Standing::Draining)],
            (0_u64..3_000, 0_u64..300, 0_u64..300),
            (0_u64..500, 0_u64..500, 1_u64..500),
            prop_oneof![Just(0), 0_u64..200_000],
            prop_oneof![Just(None), (0_u64..1_000).prop_map(Some)],
        );
        prop::collection::vec(position, 0..6).prop_map(|all| {
            let build = |(at, (standing, (on_hand, in_flight, recalling), levels, rate, room))| {
                let (low, more, rest): (u64, u64, u64) = levels;
                let levels = Levels::new(low, low + more + 1, low + more + rest).unwrap();
                let node = SellerId(u32::try_from(at).unwrap() + 1);
                Position { node, standing, on_hand, in_flight, recalling, levels, rate: Rate(rate), room }
            };
            all.into_iter().enumerate().map(build).collect()
        })
    }

    proptest! {
        #[test]
        fn no_giver_falls_below_its_mark_and_no_more_comes_than_is_lacking(
            nodes in positions(),
            asked in prop::collection::vec((1_u32..8, 1_u64..3_000, any::<bool>(), 0_u64..500, 0_u64..200_000), 0..4),
        ) {
            let needs: Vec<Need> = asked
                .into_iter()
                .map(|(node, lacking, is_urgent, held, rate)| Need {
                    node: SellerId(node), lacking, is_urgent, held, rate: Rate(rate),
                })
                .collect();
            let rules = Rules::default();
            let recalls = recall_for(&needs, &nodes, &rules);
            let lacking: u64 = needs.iter().map(|need| need.lacking).sum();
            prop_assert!(recalls.iter().map(|recall| recall.pins).sum::<u64>() <= lacking);
            let some_critical = needs.iter().any(|need| need.is_critical(&rules));
            for node in &nodes {
                let of_node = || recalls.iter().filter(|recall| recall.node == node.node);
                let given: u64 = of_node().map(|recall| recall.pins).sum();
                if given == 0 {
                    continue;
                }
                prop_assert!(node.standing == Standing::Open);
                prop_assert!(needs.iter().all(|need| need.node != node.node || !need.is_critical(&rules)));
                let left = node.spare() - given;
                let is_levelled = of_node().any(|recall| matches!(recall.reason, Reason::Levelled { .. }));
                if is_levelled {
                    prop_assert!(some_critical && left >= node.levels.low());
                } else {
                    prop_assert!(node.spare() > node.levels.high() && left >= node.levels.target());
                }
            }
        }

        #[test]
        fn taking_back_ends_at_targets_and_within_its_bound(nodes in positions(), pins_max in 0_u64..5_000) {
            let recalls = take_back(&nodes, pins_max);
            prop_assert!(recalls.iter().map(|recall| recall.pins).sum::<u64>() <= pins_max);
            for recall in recalls {
                let node = nodes.iter().find(|node| node.node == recall.node).unwrap();
                prop_assert!(node.spare() > node.levels.high());
                prop_assert!(node.spare() - recall.pins >= node.levels.target());
            }
        }
    }
}
