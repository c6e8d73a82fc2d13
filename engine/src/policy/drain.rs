//! Going offline: a node returns all it has, the hub gives away all it has.

use super::allocation::Transfer;
use super::position::{Position, Standing};
use super::rate::Cover;
use super::reason::{Reason, Stuck};
use super::recall::Recall;
use super::share::{Share, raise};

/// Stock that nobody gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remainder {
    /// PINs, more than 0.
    pub pins: u64,
    /// Why nobody gets them.
    pub why: Stuck,
}

/// What a node that goes offline is asked for: all it has that nobody has called for. `None`: nothing, for now; what is on its
/// way to it comes back when it has arrived.
#[must_use]
pub fn return_all(leaving: &Position) -> Option<Recall> {
    let pins = leaving.spare();
    let reason = Reason::NodeDrain { had: leaving.on_hand };
    (pins > 0).then_some(Recall { node: leaving.node, pins, reason })
}

/// Who gets what came back from a node that goes offline, once all requests have been served: nodes that are there and below
/// their targets, up to their targets, those with the shortest cover first. The rest stays at the hub.
#[must_use]
pub fn pass_on(returned: u64, nodes: &[Position]) -> (Vec<Transfer>, Option<Remainder>) {
    let to_target = |node: &Position| node.levels.target().saturating_sub(node.held());
    let reason = |node: &Position, _| Reason::PassedOn { held: node.held(), target: node.levels.target() };
    share_out(returned, nodes, to_target, reason, Stuck::AtTarget)
}

/// How the hub gives away its whole stock before it goes offline: to all nodes that are there, those with the shortest cover
/// first until covers meet, and on from there, so that all last equally long; past their high marks if need be. Something
/// remains only where no node is there or none has room.
#[must_use]
pub fn distribute_hub(on_hand: u64, nodes: &[Position]) -> (Vec<Transfer>, Option<Remainder>) {
    let reason = |node: &Position, pins| Reason::HubDrain {
        central: on_hand,
        cover: Cover::of(node.held().saturating_add(pins), node.rate),
    };
    share_out(on_hand, nodes, |_| u64::MAX, reason, Stuck::NoRoom)
}

fn share_out(
    pins: u64,
    nodes: &[Position],
    wants: impl Fn(&Position) -> u64,
    reason: impl Fn(&Position, u64) -> Reason,
    rest: Stuck,
) -> (Vec<Transfer>, Option<Remainder>) {
    let mut open: Vec<&Position> = nodes.iter().filter(|node| node.standing == Standing::Open).collect();
    open.sort_by_key(|node| node.node);
    let max = |node: &Position| wants(node).min(node.room.unwrap_or(u64::MAX));
    let shares: Vec<Share> =
        open.iter().map(|node| Share { held: node.held(), rate: node.rate, max: max(node) }).collect();
    let given = raise(pins, &shares);
    let left = pins - given.iter().sum::<u64>();
    let transfers = open
        .iter()
        .zip(given)
        .filter(|(_, pins)| *pins > 0)
        .map(|(node, pins)| Transfer { node: node.node, request: None, pins, reason: reason(node, pins) })
        .collect();
    let why = if open.is_empty() { Stuck::NoNode } else { rest };
    (transfers, (left > 0).then_some(Remainder { pins: left, why }))
}

#[cfg(test)]
mod tests {
    use super::super::levels::Levels;
    use super::super::rate::Rate;
    use super::super::recall::tests::positions;
    use super::*;
    use crate::ids::SellerId;
    use proptest::prelude::*;

    fn node(id: u32, on_hand: u64, per_hour: f64) -> Position {
        let levels = Levels::new(100, 500, 800).unwrap();
        let rate = Rate::from_pins_per_hour(per_hour);
        Position { node: SellerId(id), on_hand, levels, rate, ..Position::default() }
    }

    fn given(transfers: &[Transfer]) -> Vec<(u32, u64)> {
        transfers.iter().map(|given| (given.node.0, given.pins)).collect()
    }

    #[test]
    fn h07_a_leaving_node_returns_all_and_it_goes_to_those_below_their_targets() {
        let leaving = Position { standing: Standing::Draining, recalling: 40, ..node(1, 640, 10.0) };
        assert_eq!(return_all(&leaving).unwrap().pins, 600, "40 are on their way already");
        assert_eq!(return_all(&Position { on_hand: 40, ..leaving }), None);
        let nodes = [leaving, node(2, 300, 10.0), node(3, 450, 10.0), node(4, 900, 10.0)];
        let (transfers, rest) = pass_on(600, &nodes);
        assert_eq!(given(&transfers), [(2, 200), (3, 50)]);
        assert_eq!(rest, Some(Remainder { pins: 350, why: Stuck::AtTarget }));
    }

    #[test]
    fn h08_a_leaving_hub_gives_away_all_so_that_everybody_lasts_equally_long() {
        let away = Position { standing: Standing::Away, ..node(4, 0, 10.0) };
        let nodes = [node(1, 0, 10.0), node(2, 100, 30.0), node(3, 50, 0.0), away];
        let (transfers, rest) = distribute_hub(3_900, &nodes);
        assert_eq!(given(&transfers), [(1, 1_000), (2, 2_900)], "100 h; what does not sell has enough");
        assert_eq!(rest, None);
        assert_eq!(distribute_hub(5, &[away]).1, Some(Remainder { pins: 5, why: Stuck::NoNode }));
    }

    proptest! {
        #[test]
        fn h08_nothing_stays_at_the_hub_while_a_node_is_there_that_has_room(
            nodes in positions(), on_hand in 0_u64..100_000,
        ) {
            let (transfers, rest) = distribute_hub(on_hand, &nodes);
            let left = rest.map_or(0, |rest| rest.pins);
            prop_assert_eq!(transfers.iter().map(|given| given.pins).sum::<u64>() + left, on_hand);
            for node in nodes.iter().filter(|node| node.standing == Standing::Open) {
                let got: u64 =
                    transfers.iter().filter(|given| given.node == node.node).map(|given| given.pins).sum();
                prop_assert!(node.room.is_none_or(|room| got <= room));
                prop_assert!(left == 0 || node.room == Some(got));
            }
            prop_assert!(left == 0 || rest.unwrap().why == Stuck::NoRoom
                || nodes.iter().all(|node| node.standing != Standing::Open));
        }

        #[test]
        fn h07_what_came_back_brings_nobody_above_the_target(nodes in positions(), returned in 0_u64..5_000) {
            let (transfers, rest) = pass_on(returned, &nodes);
            let left = rest.map_or(0, |rest| rest.pins);
            prop_assert_eq!(transfers.iter().map(|given| given.pins).sum::<u64>() + left, returned);
            for given in transfers {
                let node = nodes.iter().find(|node| node.node == given.node).unwrap();
                prop_assert!(node.standing == Standing::Open && node.held() + given.pins <= node.levels.target());
            }
        }
    }
}
