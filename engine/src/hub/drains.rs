//! Going offline: a node, which gives all it has back first, and the hub, which gives all it has away first.

use super::books::{Change, Drain, Fate, Place};
use super::commands::{CommandError, Done};
use super::node::Node;
use super::{Hub, Output, Store};
use crate::disk::Disk;
use crate::ids::{SellerId, VarietyId};
use crate::link::ToNode;
use crate::policy::Remainder;
use crate::transfer::Giver;

/// How far a node has come that goes offline. Amounts are PINs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeDrain {
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// What it still has, by its last report, and what is on its way from it or to it.
    pub left: u64,
    /// What it has given back.
    pub moved: u64,
    /// Whether nothing of it is needed any more: its stock is 0, no transfer is open at either end, and its journal is held
    /// here to its end. Until it says something else; only a connected node can be gone.
    pub is_gone: bool,
}

/// How far a hub has come that goes offline. Amounts are PINs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubDrain {
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// What may be given and is in no transfer.
    pub left: u64,
    /// What was given since it began.
    pub moved: u64,
    /// What is in transfers to nodes that have not answered.
    pub in_transfer: u64,
    /// What may not be given: it expires too soon for its variety, or its block is set aside.
    pub kept: u64,
    /// What nobody takes now, and why, by variety.
    pub stuck: Vec<(VarietyId, Remainder)>,
    /// Whether all that may be given was given, and taken.
    pub is_done: bool,
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// Has a node go offline, or not.
    pub(super) fn drain_node(&mut self, node: SellerId, on: bool) -> Result<Done, CommandError> {
        let (now_ms, varieties) = (self.now_ms, self.varieties());
        let live = self.nodes.get_mut(&node).ok_or(CommandError::NoSuchNode(node))?;
        match live.fate {
            Fate::Lost { .. } => return Err(CommandError::NodeLost(live.name.clone())),
            Fate::Closed { .. } => return Err(CommandError::NodeClosed(live.name.clone())),
            Fate::Member => {}
        }
        if live.drain.is_some() == on {
            return Ok(Done::State);
        }
        live.farewell = None;
        live.drain = on.then_some(Drain { since_ms: now_ms, moved: 0 });
        // What was promised to it is for others, if it leaves.
        let promised = std::mem::take(&mut live.grants);
        for grant in &promised {
            if let Some(need) = live.needs.iter_mut().find(|need| Some(need.id) == grant.need) {
                need.granted -= grant.left as u32;
            }
        }
        let row = live.row();
        // One below a server hears it from there.
        if live.greeted && live.below.is_none() {
            self.stage(Output::Send { node, message: ToNode::Drain { on } });
        }
        self.change(Change::Node(row));
        self.dirty.extend(varieties);
        Ok(Done::State)
    }

    /// Has the hub go offline, or not.
    pub(super) fn drain_hub(&mut self, on: bool) -> Done {
        if self.books.drain.is_some() != on {
            self.change(Change::Drain(on.then_some(Drain { since_ms: self.now_ms, moved: 0 })));
            self.stuck.clear();
            self.dirty.extend(self.varieties());
        }
        Done::State
    }

    /// How far a node has come that goes offline; `None` if it does not.
    #[must_use]
    pub fn node_drain(&self, node: SellerId) -> Option<NodeDrain> {
        let live = self.nodes.get(&node)?;
        let Drain { since_ms, moved } = live.drain?;
        let open: u64 = live.givers.iter().flat_map(Giver::open).map(|fact| u64::from(fact.span.len())).sum();
        let returning: u64 = live.taker.arriving().map(|offer| u64::from(offer.span.len())).sum();
        let on_hand = live.on_hand_in_all();
        let is_there = |child: &&Node| child.greeted || child.fate == Fate::Member;
        let below = self.nodes.values().filter(|child| child.below == Some(node));
        let below: Vec<_> = below.filter(is_there).collect();
        let on_hand_below: u64 = below.iter().map(|child| child.on_hand_in_all()).sum();
        let left = open + returning + on_hand + on_hand_below;
        // One below a server has nothing to offer again here.
        let is_resumed = live.resumed || live.below.is_some();
        let is_gone =
            left == 0 && is_resumed && live.is_at_rest() && below.iter().all(|child| child.is_empty());
        Some(NodeDrain { since_ms, left, moved, is_gone })
    }

    /// How far the hub has come if it goes offline; `None` if it does not.
    #[must_use]
    pub fn hub_drain(&self) -> Option<HubDrain> {
        let Drain { since_ms, moved } = self.books.drain?;
        let left: u64 = self.varieties().iter().map(|variety| self.available(*variety)).sum();
        let open = self.nodes.values().flat_map(|node| &node.givers).flat_map(Giver::open);
        let in_transfer = open.map(|fact| u64::from(fact.span.len())).sum();
        let own = self.books.pieces.values().filter(|piece| piece.place == Place::Hub);
        let own: u64 = own.map(|piece| u64::from(piece.span.len())).sum();
        let stuck = self.stuck.iter().map(|(variety, rest)| (*variety, *rest)).collect();
        let (kept, is_done) = (own.saturating_sub(left), left == 0 && in_transfer == 0);
        Some(HubDrain { since_ms, left, moved, in_transfer, kept, stuck, is_done })
    }

    pub(super) fn varieties(&self) -> Vec<VarietyId> {
        self.registry.varieties().map(|variety| variety.id).collect()
    }
}

impl Node {
    /// Whether it is connected, has no transfer open by its own account, and all of its journal is here.
    fn is_at_rest(&self) -> bool {
        let has_reported = self.greeted && self.has_reported && self.returns_open == 0;
        has_reported && self.journal_acked >= self.journal_end
    }

    /// Whether nothing can come of it any more: it has nothing, was never there, or has left.
    fn is_empty(&self) -> bool {
        let was_never_there = self.heard_ms == 0 && self.journal_acked == 0;
        let is_closed = matches!(self.fate, Fate::Closed { .. });
        was_never_there || is_closed || (self.is_at_rest() && self.on_hand_in_all() == 0)
    }

    fn on_hand_in_all(&self) -> u64 {
        self.stock.iter().flatten().map(|(_, reported)| reported.on_hand()).sum()
    }
}
