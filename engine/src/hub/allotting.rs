//! Puts the policy to work: what it needs to know is taken from shelf, reports, requests and transfers; what it decides becomes
//! promises, recalls and answers.

use super::books::Fate;
use super::node::{Called, Grant, Node};
use super::{Hub, HubError, Output, Store};
use crate::disk::Disk;
use crate::ids::{SellerId, VarietyId};
use crate::link::ToNode;
use crate::policy::{
    self, Central, Plan, Position, Queued, Recall, Request, Rules, Standing, Transfer, View, Wait, allocate,
};
use std::collections::BTreeMap;

impl<S: Store, D: Disk> Hub<S, D> {
    /// Decides about every variety of which something has changed, and about all of them once in a while.
    pub(super) fn allot(&mut self) -> Result<(), HubError> {
        if self.elapsed_ms >= self.review_at_ms {
            self.review_at_ms = self.elapsed_ms + REVIEW_MS;
            self.dirty.extend(self.registry.varieties().map(|variety| variety.id));
        }
        // What turns up meanwhile is for the next round.
        for variety in std::mem::take(&mut self.dirty) {
            self.allot_variety(variety)?;
        }
        Ok(())
    }

    fn allot_variety(&mut self, variety: VarietyId) -> Result<(), HubError> {
        let (central, nodes) = (self.central(variety), self.positions(variety));
        let requests = self.requests(variety);
        let take_back_max = self.churn.get(&variety).map_or(0, policy::Churn::take_back_max);
        let view = View { central, nodes: &nodes, requests: &requests, take_back_max };
        let Plan { transfers, recalls, queued } = allocate(&view, &Rules::default());
        for transfer in transfers {
            self.grant(variety, &transfer)?;
        }
        for recall in recalls {
            self.call_back(variety, recall);
        }
        for queued in queued {
            self.queue(&queued);
        }
        self.pass_on(variety);
        self.distribute(variety);
        Ok(())
    }

    /// The hub's own stock of a variety.
    pub(super) fn central(&self, variety: VarietyId) -> Central {
        let leaving = |node: &&Node| node.drain.is_some() && node.greeted && node.below.is_none();
        let coming = |node: &Node| node.called(variety) + node.returning(variety);
        let returning = self.nodes.values().map(coming).sum::<u64>()
            + self.nodes.values().filter(leaving).map(|node| node.on_hand(variety)).sum::<u64>();
        Central { on_hand: self.unpromised(variety), returning, is_draining: self.books.drain.is_some() }
    }

    /// PINs of a variety that may be given and are promised to nobody.
    pub(super) fn unpromised(&self, variety: VarietyId) -> u64 {
        let promised: u64 = self.nodes.values().map(|node| node.promised(variety)).sum();
        self.available(variety).saturating_sub(promised)
    }

    /// What every node has of a variety that has its stock from the hub.
    pub(super) fn positions(&self, variety: VarietyId) -> Vec<Position> {
        let members = self.nodes.values().filter(|node| node.fate == Fate::Member && node.below.is_none());
        members.map(|node| self.position(node, variety)).collect()
    }

    fn position(&self, node: &Node, variety: VarietyId) -> Position {
        let in_flight = node.in_flight(variety);
        let known = Position { node: node.seller, in_flight, ..Position::default() };
        let known = node.reported(variety).map_or(known, |reported| {
            let on_hand = reported.on_hand();
            // Before it has said what it has and what it gives back, it is not asked for more.
            let may_give = node.resumed && node.has_reported;
            let recalling = if may_give { node.called(variety) } else { on_hand };
            let room = reported.report.room.map(|room| room.saturating_sub(in_flight));
            Position {
                on_hand,
                recalling,
                levels: reported.report.levels,
                rate: reported.report.rate,
                room,
                ..known
            }
        });
        Position {
            standing: match (node.greeted, node.drain) {
                (_, Some(_)) => Standing::Draining,
                (true, None) => Standing::Open,
                (false, None) => Standing::Away,
            },
            room: if self.elapsed_ms < node.rests_until_ms { Some(0) } else { known.room },
            ..known
        }
    }

    /// What is asked for and not promised yet, in order of arrival.
    fn requests(&self, variety: VarietyId) -> Vec<Request> {
        let of_node = |node: &Node| {
            let seller = node.seller;
            let open = node.needs.iter().filter(|need| need.variety == variety && need.granted < need.wanted);
            let request = |need: &super::node::Need| Request {
                id: need.id,
                node: seller,
                pins: u64::from(need.wanted - need.granted),
                is_urgent: need.is_urgent,
            };
            open.map(request).collect::<Vec<_>>()
        };
        let mut requests: Vec<_> = self.nodes.values().flat_map(of_node).collect();
        requests.sort_unstable_by_key(|request| request.id);
        requests
    }

    /// Promises stock, or gives it at once if a terminal waits for it.
    fn grant(&mut self, variety: VarietyId, transfer: &Transfer) -> Result<(), HubError> {
        let &Transfer { node, request, pins, reason } = transfer;
        if let (Some(need), true) = (request, reason.is_urgent()) {
            if !self.serve_urgent(node, need, reason)? {
                self.answer_urgent(node, need, 0);
            }
            return Ok(());
        }
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(()) };
        live.grants.push_back(Grant { need: request, variety, left: pins, reason });
        if let Some(need) = live.needs.iter_mut().find(|need| Some(need.id) == request) {
            // It never gets more than it asked for, and that is a u32.
            need.granted += pins as u32;
            need.wait = None;
        }
        Ok(())
    }

    fn call_back(&mut self, variety: VarietyId, recall: Recall) {
        let Recall { node, pins, reason } = recall;
        let Some(live) = self.nodes.get_mut(&node) else { return };
        let count = u32::try_from(pins).unwrap_or(u32::MAX);
        let number = self.next_recall;
        self.next_recall += 1;
        let expected = u64::from(count);
        live.recalls.insert(number, Called { variety, expected, is_answered: false, offered: 0, reason });
        self.churn.entry(variety).or_default().handle_moved(0, expected, self.now_ms);
        let message = ToNode::Recall { recall: number, variety, count };
        self.stage(Output::Send { node, message });
    }

    /// A request waits; an urgent one only for what is on its way.
    fn queue(&mut self, queued: &Queued) {
        let &Queued { node, request, coming, wait, .. } = queued;
        let Some(live) = self.nodes.get_mut(&node) else { return };
        let Some(need) = live.needs.iter_mut().find(|need| need.id == request) else { return };
        need.wait = Some(wait);
        // A node without room for it is not told that there is none: an answer of none is final for the terminal.
        if need.is_urgent && coming == 0 && wait != Wait::NoRoom {
            self.answer_urgent(node, request, 0);
        }
    }

    /// What came back from nodes that go offline, and what nobody asked for of it, goes to those below their targets.
    fn pass_on(&mut self, variety: VarietyId) {
        let Some(returned) = self.to_pass_on.remove(&variety) else { return };
        let returned = returned.min(self.unpromised(variety));
        let (transfers, _) = policy::pass_on(returned, &self.positions(variety));
        self.promise(variety, &transfers);
    }

    /// A hub that goes offline gives away all it has.
    fn distribute(&mut self, variety: VarietyId) {
        if self.books.drain.is_none() {
            return;
        }
        let left = self.unpromised(variety);
        if left == 0 {
            self.stuck.remove(&variety);
            return;
        }
        let (transfers, rest) = policy::distribute_hub(left, &self.positions(variety));
        self.promise(variety, &transfers);
        match rest {
            Some(rest) => _ = self.stuck.insert(variety, rest),
            None => _ = self.stuck.remove(&variety),
        }
    }

    fn promise(&mut self, variety: VarietyId, transfers: &[Transfer]) {
        for &Transfer { node, pins, reason, .. } in transfers {
            if let Some(live) = self.nodes.get_mut(&node) {
                live.grants.push_back(Grant { need: None, variety, left: pins, reason });
            }
        }
    }

    /// What is asked for and waits, with the reason, in order of arrival.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let of_node = |node: &Node| {
            let seller = node.seller;
            let open = node.needs.iter().filter(|need| need.granted < need.wanted);
            let waiting = open.filter_map(move |need| {
                let (variety, pins) = (need.variety, need.wanted - need.granted);
                let waiting =
                    Waiting { node: seller, variety, pins, is_urgent: need.is_urgent, wait: need.wait? };
                Some((need.id, waiting))
            });
            waiting.collect::<Vec<_>>()
        };
        self.nodes.values().flat_map(of_node).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What every node has of a variety, as far as the hub knows: for status.
    #[must_use]
    pub fn stock_of(&self, variety: VarietyId) -> Vec<NodeStock> {
        let members = self.nodes.values().filter(|node| node.fate == Fate::Member);
        let stock = |node: &Node| NodeStock {
            position: self.position(node, variety),
            has_reported: node.stock.is_some(),
            called_back: node.called(variety),
        };
        members.map(stock).collect()
    }
}

/// What a node has of a variety.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeStock {
    /// What the rules of allocation know of it.
    pub position: Position,
    /// Whether it has said what it has since this hub was started; nobody knows what it has otherwise.
    pub has_reported: bool,
    /// PINs that were called back from it and that it has not given up yet.
    pub called_back: u64,
}

/// A request that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Who asked.
    pub node: SellerId,
    /// For what.
    pub variety: VarietyId,
    /// PINs that it has not been promised.
    pub pins: u32,
    /// Whether a terminal waits for it.
    pub is_urgent: bool,
    /// Why it waits.
    pub wait: Wait,
}

/// How often everything is looked at, whatever happens, in milliseconds.
const REVIEW_MS: u64 = 1_000;
