//! A node that has left: drained, stopped with nothing left, its journal archived to its end. From then on the hub answers
//! for its sequences.

use super::books::{Change, Fate};
use super::commands::{CommandError, Done};
use super::doubts::{DoubtState, Spent};
use super::{Hub, HubError, Output, Store};
use crate::disk::Disk;
use crate::ids::SellerId;
use crate::link::ToNode;

impl<S: Store, D: Disk> Hub<S, D> {
    /// A node stops, having nothing left and all of its journal acknowledged. It counts until the node is heard again.
    pub(super) fn handle_farewell(&mut self, node: SellerId, journal_end: u64) {
        let Some(live) = self.nodes.get_mut(&node) else { return };
        if live.drain.is_some() || matches!(live.fate, Fate::Lost { .. }) {
            live.farewell = Some(journal_end);
            let row = live.row();
            self.change(Change::Node(row));
            self.stage(Output::Send { node, message: ToNode::Farewell });
        }
    }

    /// An operator closes the record of a node. `spent` is what its archive comes to, read to its end.
    pub(super) fn close_node(
        &mut self,
        node: SellerId,
        spent: &Spent,
    ) -> Result<Result<Done, CommandError>, HubError> {
        if let Err(error) = self.check_closable(node).and_then(|()| self.check_spent(node, spent)) {
            return Ok(Err(error));
        }
        let held = match self.spans_held(node, spent)? {
            Ok(held) => held,
            Err(error) => return Ok(Err(error)),
        };
        let at_ms = self.now_ms;
        let live = self.nodes.get_mut(&node).expect("it was looked up");
        let open = live.givers.iter().any(|giver| giver.open_count() > 0);
        if open || !held.is_empty() {
            let pins = held.iter().map(|span| u64::from(span.len())).sum();
            return Ok(Err(CommandError::NodeHolds { name: live.name.clone(), pins }));
        }
        live.fate = Fate::Closed { at_ms };
        live.drain = None;
        let row = live.row();
        self.change(Change::Node(row));
        self.tell_parent(node)?;
        Ok(Ok(Done::State))
    }

    /// Whether the record of a node may be closed, if it holds nothing.
    ///
    /// # Errors
    /// [`CommandError`]: which condition it lacks.
    pub fn check_closable(&self, node: SellerId) -> Result<(), CommandError> {
        self.check_below(node, |child| match child.fate {
            Fate::Closed { .. } => true,
            // Its late journal would have to come through this one.
            Fate::Lost { .. } => self.doubts_of(child.seller).all(|row| row.state != DoubtState::InDoubt),
            Fate::Member => false,
        })?;
        let live = self.nodes.get(&node).ok_or(CommandError::NoSuchNode(node))?;
        let name = || live.name.clone();
        match live.fate {
            Fate::Closed { .. } => return Err(CommandError::NodeClosed(name())),
            Fate::Member if live.drain.is_none() => return Err(CommandError::NodeNotDrained(name())),
            _ if live.greeted => return Err(CommandError::NodeRuns(name())),
            _ => {}
        }
        if live.farewell == Some(live.journal_acked) {
            Ok(())
        } else {
            Err(CommandError::NodeUnfinished(name()))
        }
    }

    /// Whether a node belongs to the network; `None` if there never was one of this number.
    #[must_use]
    pub fn fate(&self, node: SellerId) -> Option<Fate> {
        self.nodes.get(&node).map(|live| live.fate)
    }

    /// When a node was last heard, in milliseconds of Unix time; 0: never.
    #[must_use]
    pub fn heard_ms(&self, node: SellerId) -> u64 {
        self.nodes.get(&node).map_or(0, |live| live.heard_ms)
    }

    /// Whether all that a node's journal will ever hold is archived here: it has stopped with nothing left, and was not heard
    /// since, or its record is closed.
    #[must_use]
    pub fn is_journal_whole(&self, node: SellerId) -> bool {
        let is_whole = |live: &super::node::Node| {
            matches!(live.fate, Fate::Closed { .. }) || live.farewell == Some(live.journal_acked)
        };
        self.nodes.get(&node).is_some_and(is_whole)
    }
}
