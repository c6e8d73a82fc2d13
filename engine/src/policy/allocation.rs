//! Who gets what of the hub's stock, and what happens to those who get less than they asked for.

use super::Rules;
use super::position::{Central, Position, Request, Standing};
use super::rate::Cover;
use super::reason::{Reason, Wait};
use super::recall::{Need, Recall, recall_for, take_back};
use super::share::{Share, raise};
use crate::ids::SellerId;
use std::collections::BTreeMap;

/// All that is known of one variety when decisions are made.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The hub's own stock.
    pub central: Central,
    /// Each node once.
    pub nodes: &'a [Position],
    /// What is open, in order of arrival.
    pub requests: &'a [Request],
    /// PINs that may be taken back though nobody asks for them, from [`super::Churn::take_back_max`].
    pub take_back_max: u64,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// From the hub to nodes; together never more than the hub has.
    pub transfers: Vec<Transfer>,
    /// From nodes to the hub.
    pub recalls: Vec<Recall>,
    /// Of every request what it does not get now.
    pub queued: Vec<Queued>,
}

/// Stock that the hub gives to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Who gets it.
    pub node: SellerId,
    /// Which of its requests it answers; `None`: it did not ask.
    pub request: Option<u64>,
    /// PINs, more than 0.
    pub pins: u64,
    /// Why.
    pub reason: Reason,
}

/// What a request has to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queued {
    /// Who asked.
    pub node: SellerId,
    /// The number of its request.
    pub request: u64,
    /// PINs that it did not get.
    pub pins: u64,
    /// Of these: on their way to the hub, or called for by this plan.
    pub coming: u64,
    /// Why the rest waits, or all of it if all is coming.
    pub wait: Wait,
}

/// Decides about one variety.
///
/// 1. Urgent requests, in order of arrival, from the hub's stock.
/// 2. Ordinary requests from what is left: all of it if it is enough, else shared so that hours of cover meet.
/// 3. What is still lacking and not on its way back is recalled ([`recall_for`]); urgent first, then the shortest cover.
/// 4. What nodes have above their high marks is taken back, within its bound ([`take_back`]).
///
/// For every request what it is granted and what is queued are together what it asked for.
#[must_use]
pub fn allocate(view: &View<'_>, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    let mut left = view.central.on_hand;
    let mut askers: BTreeMap<SellerId, Asker<'_>> = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for request in view.requests.iter().filter(|request| request.pins > 0) {
        match admit(request, view.nodes) {
            Ok(node) => {
                askers.entry(request.node).or_insert_with(|| Asker::new(node));
                open.push(Open { request: *request, lacking: request.pins });
            }
            Err(wait) => plan.queued.push(Queued {
                node: request.node,
                request: request.id,
                pins: request.pins,
                coming: 0,
                wait,
            }),
        }
    }
    urgent(&mut open, &mut askers, &mut left, &mut plan);
    ordinary(&mut open, &mut askers, left, &mut plan);
    recall_and_queue(open, &askers, view, rules, &mut plan);
    if !view.central.is_draining {
        let asks = |node: &Position| askers.contains_key(&node.node);
        let gives = |node: &Position| plan.recalls.iter().any(|recall| recall.node == node.node);
        let idle: Vec<Position> =
            view.nodes.iter().filter(|node| !asks(node) && !gives(node)).copied().collect();
        plan.recalls.extend(take_back(&idle, view.take_back_max));
    }
    plan
}

fn admit<'a>(request: &Request, nodes: &'a [Position]) -> Result<&'a Position, Wait> {
    let node = nodes.iter().find(|node| node.node == request.node).ok_or(Wait::Unknown)?;
    match node.standing {
        Standing::Open => Ok(node),
        Standing::Away => Err(Wait::Away),
        Standing::Draining => Err(Wait::Draining),
    }
}

/// A request that may be met.
struct Open {
    request: Request,
    /// PINs it has not been granted.
    lacking: u64,
}

/// A node that asks.
struct Asker<'a> {
    position: &'a Position,
    /// PINs granted by this plan.
    granted: u64,
}

impl<'a> Asker<'a> {
    fn new(position: &'a Position) -> Self {
        Self { position, granted: 0 }
    }

    fn held(&self) -> u64 {
        self.position.held().saturating_add(self.granted)
    }

    fn room(&self) -> u64 {
        self.position.room.map_or(u64::MAX, |room| room.saturating_sub(self.granted))
    }
}

fn urgent(open: &mut [Open], askers: &mut BTreeMap<SellerId, Asker<'_>>, left: &mut u64, plan: &mut Plan) {
    for Open { request, lacking } in open.iter_mut().filter(|open| open.request.is_urgent) {
        let asker = askers.get_mut(&request.node).expect("every open request has its asker");
        let pins = (*lacking).min(*left).min(asker.room());
        if pins > 0 {
            let reason = Reason::Urgent { asked: request.pins };
            plan.transfers.push(Transfer { node: request.node, request: Some(request.id), pins, reason });
            (*left, *lacking) = (*left - pins, *lacking - pins);
            asker.granted += pins;
        }
    }
}

fn ordinary(open: &mut [Open], askers: &mut BTreeMap<SellerId, Asker<'_>>, central: u64, plan: &mut Plan) {
    let mut asked: BTreeMap<SellerId, u64> = BTreeMap::new();
    for open in open.iter().filter(|open| !open.request.is_urgent) {
        let sum = asked.entry(open.request.node).or_default();
        *sum = sum.saturating_add(open.lacking);
    }
    let shares: Vec<Share> = asked
        .iter()
        .map(|(node, asked)| {
            let asker = &askers[node];
            let max = (*asked).min(asker.room());
            Share { held: asker.held(), rate: asker.position.rate, max }
        })
        .collect();
    let asked_by_all = shares.iter().fold(0, |sum: u64, share| sum.saturating_add(share.max));
    let mut given: BTreeMap<SellerId, u64> = asked.keys().copied().zip(raise(central, &shares)).collect();
    for Open { request, lacking } in open.iter_mut().filter(|open| !open.request.is_urgent) {
        let share = given.get_mut(&request.node).expect("every ordinary request has its share");
        let pins = (*share).min(*lacking);
        if pins == 0 {
            continue;
        }
        let asker = askers.get_mut(&request.node).expect("every open request has its asker");
        let (asked, held) = (request.pins, asker.held());
        asker.granted += pins;
        *share -= pins;
        *lacking -= pins;
        let reason = if asked_by_all <= central {
            Reason::Asked { asked, held, target: asker.position.levels.target() }
        } else {
            Reason::Shared {
                asked,
                central,
                asked_by_all,
                cover: Cover::of(asker.held(), asker.position.rate),
            }
        };
        plan.transfers.push(Transfer { node: request.node, request: Some(request.id), pins, reason });
    }
}

/// Recalls what those lack who did not get all they asked for, and says for each why it waits.
fn recall_and_queue(
    mut open: Vec<Open>,
    askers: &BTreeMap<SellerId, Asker<'_>>,
    view: &View<'_>,
    rules: &Rules,
    plan: &mut Plan,
) {
    open.retain(|open| open.lacking > 0);
    // Stable: of equals the first that asked.
    open.sort_by_key(|Open { request, .. }| {
        let asker = &askers[&request.node];
        let cover = Cover::of(asker.held(), asker.position.rate);
        (!request.is_urgent, if request.is_urgent { Cover::UNENDING } else { cover })
    });
    // What is on its way already goes to the first in order.
    let mut coming = view.central.returning;
    let mut room: BTreeMap<SellerId, u64> = BTreeMap::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    for Open { request, lacking } in open {
        let asker = &askers[&request.node];
        let room = room.entry(request.node).or_insert(asker.room());
        let wanted = lacking.min(*room);
        *room -= wanted;
        let on_its_way = wanted.min(coming);
        coming -= on_its_way;
        let need = Need {
            node: request.node,
            lacking: wanted - on_its_way,
            is_urgent: request.is_urgent,
            held: asker.held().saturating_add(on_its_way),
            rate: asker.position.rate,
        };
        waiting.push(Waiting { request, lacking, wanted, coming: on_its_way, need });
    }
    let needs: Vec<Need> =
        waiting.iter().map(|waiting| waiting.need).filter(|need| need.lacking > 0).collect();
    let recalls = match view.central.is_draining {
        true => Vec::new(),
        false => {
            // Who is given something gives nothing. Who has asked and is not short any more may: its wish is of yesterday.
            let gets = |node: &Position| askers.get(&node.node).is_some_and(|asker| asker.granted > 0);
            let others: Vec<Position> = view.nodes.iter().filter(|node| !gets(node)).copied().collect();
            recall_for(&needs, &others, rules)
        }
    };
    let mut called = recalls.iter().map(|recall| recall.pins).sum::<u64>();
    plan.recalls = recalls;
    for Waiting { request, lacking, wanted, mut coming, need } in waiting {
        let for_it = need.lacking.min(called);
        called -= for_it;
        coming += for_it;
        let wait = if coming == lacking {
            Wait::Coming
        } else if coming == wanted {
            Wait::NoRoom
        } else if view.central.is_draining {
            Wait::HubDraining
        } else if need.is_critical(rules) {
            Wait::NothingToSpare
        } else {
            Wait::NotCritical { cover: need.cover(), critical: Cover::from_h(rules.critical_h) }
        };
        plan.queued.push(Queued { node: request.node, request: request.id, pins: lacking, coming, wait });
    }
}

/// A request that did not get all it asked for.
struct Waiting {
    request: Request,
    /// PINs it did not get.
    lacking: u64,
    /// Of these: what its node has room for.
    wanted: u64,
    /// Of these: what is on its way to the hub.
    coming: u64,
    /// The rest.
    need: Need,
}

#[cfg(test)]
mod tests {
    use super::super::levels::Levels;
    use super::super::rate::Rate;
    use super::super::recall::tests::positions;
    use super::*;
    use proptest::prelude::*;

    fn node(id: u32, on_hand: u64) -> Position {
        let levels = Levels::new(100, 500, 800).unwrap();
        Position { node: SellerId(id), on_hand, levels, rate: Rate(50_000), ..Position::default() }
    }

    fn ask(node: u32, pins: u64) -> Request {
        Request { id: 1, node: SellerId(node), pins, is_urgent: false }
    }

    fn plan(on_hand: u64, nodes: &[Position], requests: &[Request]) -> Plan {
        let central = Central { on_hand, ..Central::default() };
        allocate(&View { central, nodes, requests, take_back_max: 0 }, &Rules::default())
    }

    #[test]
    fn h03_the_hub_gives_what_it_has_and_calls_the_rest_from_the_one_above_its_high_mark() {
        let nodes = [node(1, 99), node(2, 2_000), node(3, 500)];
        let empty = plan(0, &nodes, &[ask(1, 401)]);
        assert_eq!(empty.transfers, []);
        assert_eq!(
            (empty.recalls[0].node, empty.recalls[0].pins, empty.recalls.len()),
            (SellerId(2), 401, 1)
        );
        let Queued { pins, coming, wait, .. } = empty.queued[0];
        assert_eq!((pins, coming, wait), (401, 401, Wait::Coming));

        let some = plan(300, &nodes, &[ask(1, 401)]);
        assert_eq!((some.transfers[0].pins, some.recalls[0].pins, some.queued[0].pins), (300, 101, 101));
        let enough = plan(401, &nodes, &[ask(1, 401)]);
        assert_eq!((enough.transfers[0].pins, enough.recalls.len(), enough.queued.len()), (401, 0, 0));
    }

    #[test]
    fn what_is_on_its_way_back_is_not_called_for_again() {
        let nodes = [node(1, 99), node(2, 2_000)];
        let central = Central { returning: 400, ..Central::default() };
        let requests = [ask(1, 401)];
        let view = View { central, nodes: &nodes, requests: &requests, take_back_max: 0 };
        let plan = allocate(&view, &Rules::default());
        assert_eq!((plan.recalls.len(), plan.recalls[0].pins, plan.queued[0].coming), (1, 1, 401));
    }

    #[test]
    fn when_it_is_not_enough_for_all_covers_meet_and_waiting_terminals_come_first() {
        let nodes = [node(1, 0), node(2, 90), node(3, 0)];
        let urgent = Request { is_urgent: true, ..ask(3, 10) };
        let plan = plan(120, &nodes, &[ask(1, 500), ask(2, 410), urgent]);
        let given: Vec<_> = plan.transfers.iter().map(|given| (given.node.0, given.pins)).collect();
        assert_eq!(given, [(3, 10), (1, 100), (2, 10)]);
        assert_eq!(
            plan.transfers[1].reason.to_string(),
            "asked for 500 PINs; the hub had 110 for 910 asked by all, shared so that covers meet; lasts 2 h 0 min \
             with this"
        );
    }

    #[test]
    fn a_request_that_cannot_be_met_says_why() {
        let away = Position { standing: Standing::Away, ..node(4, 0) };
        let leaving = Position { standing: Standing::Draining, ..node(5, 0) };
        let full = Position { room: Some(0), ..node(6, 0) };
        let nodes = [node(1, 120), node(2, 0), node(3, 99), away, leaving, full];
        let requests: Vec<Request> = (1..=7).map(|node| ask(node, 400)).collect();
        let plan = plan(0, &nodes, &requests);
        let why = |node: u32| plan.queued.iter().find(|queued| queued.node.0 == node).unwrap().wait;
        let cover = |minutes| Cover::from(Some(minutes));
        assert_eq!(why(1), Wait::NotCritical { cover: cover(144), critical: cover(120) });
        assert_eq!(why(2), Wait::NothingToSpare);
        assert_eq!(why(3), Wait::NothingToSpare);
        assert_eq!(
            (why(4), why(5), why(6), why(7)),
            (Wait::Away, Wait::Draining, Wait::NoRoom, Wait::Unknown)
        );
        assert_eq!(plan.queued.len(), 7);
    }

    #[test]
    fn a_hub_that_goes_offline_gives_but_calls_nothing_back() {
        let nodes = [node(1, 0), node(2, 2_000)];
        let central = Central { on_hand: 100, returning: 0, is_draining: true };
        let requests = [ask(1, 500)];
        let view = View { central, nodes: &nodes, requests: &requests, take_back_max: 9_000 };
        let plan = allocate(&view, &Rules::default());
        assert_eq!((plan.transfers[0].pins, plan.recalls.len()), (100, 0));
        assert_eq!(plan.queued[0].wait, Wait::HubDraining);
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_and_every_request_is_met_or_queued_with_a_reason(
            nodes in positions(),
            asked in prop::collection::vec((1_u32..8, 0_u64..2_000, any::<bool>()), 0..10),
            on_hand in 0_u64..5_000, returning in 0_u64..1_000, is_draining in any::<bool>(),
            take_back_max in 0_u64..3_000,
        ) {
            let requests: Vec<Request> = (1..)
                .zip(asked)
                .map(|(id, (node, pins, is_urgent))| Request { id, node: SellerId(node), pins, is_urgent })
                .collect();
            let central = Central { on_hand, returning, is_draining };
            let view = View { central, nodes: &nodes, requests: &requests, take_back_max };
            let plan = allocate(&view, &Rules::default());

            let given: u64 = plan.transfers.iter().map(|given| given.pins).sum();
            prop_assert!(given <= on_hand);
            prop_assert!(plan.transfers.iter().all(|given| given.pins > 0));
            for request in &requests {
                let granted: u64 = plan
                    .transfers
                    .iter()
                    .filter(|given| given.request == Some(request.id))
                    .map(|given| { assert_eq!(given.node, request.node); given.pins })
                    .sum();
                let queued: Vec<&Queued> = plan.queued.iter().filter(|queued| queued.request == request.id).collect();
                prop_assert!(queued.len() <= 1);
                prop_assert_eq!(granted + queued.iter().map(|queued| queued.pins).sum::<u64>(), request.pins);
                prop_assert!(queued.iter().all(|queued| queued.coming <= queued.pins && queued.pins > 0));
            }
            for node in &nodes {
                let got: u64 =
                    plan.transfers.iter().filter(|given| given.node == node.node).map(|given| given.pins).sum();
                prop_assert!(got == 0 || node.standing == Standing::Open);
                prop_assert!(node.room.is_none_or(|room| got <= room));
                let back: u64 =
                    plan.recalls.iter().filter(|recall| recall.node == node.node).map(|recall| recall.pins).sum();
                prop_assert!(back == 0 || (got == 0 && !is_draining));
                prop_assert!(back == 0 || node.spare() - back >= node.levels.low());
                // Nothing is left at the hub while somebody who has room waits.
                let waits = plan.queued.iter().any(|queued| queued.node == node.node);
                if node.standing == Standing::Open && waits && node.room.is_none_or(|room| got < room) {
                    prop_assert_eq!(given, on_hand);
                }
            }
            // Together no more is called for than is lacking, but for what is taken back unasked.
            let called: u64 = plan.recalls.iter().filter(|r| !matches!(r.reason, Reason::TakenBack { .. })).map(|r| r.pins).sum();
            let lacking: u64 = plan.queued.iter().map(|queued| queued.pins).sum();
            prop_assert!(called <= lacking);
            prop_assert!(plan.recalls.iter().map(|r| r.pins).sum::<u64>() - called <= take_back_max);
        }

        #[test]
        fn the_same_view_gives_the_same_plan_in_any_order_of_nodes(
            nodes in positions(), asked in prop::collection::vec(1_u64..2_000, 6), on_hand in 0_u64..5_000,
        ) {
            let requests: Vec<Request> = (1..).zip(asked).map(|(id, pins)| Request {
                id, node: SellerId(u32::try_from(id).unwrap()), pins, is_urgent: false,
            }).collect();
            let mut turned = nodes.clone();
            turned.reverse();
            let granted = |plan: Plan| plan.transfers;
            prop_assert_eq!(granted(plan(on_hand, &nodes, &requests)), granted(plan(on_hand, &turned, &requests)));
        }
    }
}
