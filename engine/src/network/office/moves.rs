//! Moves of stock between the hub and its nodes, and going offline.

use super::super::hub::LiveHub;
use super::{NotDone, Office};
use crate::hub::Command;
use crate::hub::books::{MoveRow, Way};
use crate::ids::SellerId;
use crate::journal::record::Stream;
use crate::policy::Reason;
use serde::{Deserialize, Serialize};

/// A move of stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its number.
    pub id: u64,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The node's number.
    pub seller: u32,
    /// Whether it went from the hub to the node, or back.
    pub to_node: bool,
    /// Whether a terminal waited for it.
    pub is_urgent: bool,
    /// Of what: the variety's code.
    pub code: String,
    /// How many PINs.
    pub pins: u32,
    /// The transfer's number on its link.
    pub number: u64,
    /// The block, the first index in it, and one past the last.
    pub block: u64,
    /// The first index.
    pub first: u32,
    /// One past the last index.
    pub past: u32,
    /// The ownership generation from then on.
    pub generation: u32,
    /// Why, as it was decided.
    pub reason: Option<Reason>,
    /// The same for people.
    pub why: String,
}

impl Office {
    /// The latest moves, latest first.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn moves(&self, most: usize) -> Result<Vec<Move>, NotDone> {
        self.ask(move |hub| hub.moves().take(most).map(|row| of_row(hub, row)).collect())
    }

    /// One move.
    ///
    /// # Errors
    /// [`NotDone::NoSuchMove`].
    pub fn explain(&self, id: u64) -> Result<Move, NotDone> {
        let found = self.ask(move |hub| hub.moves().find(|row| row.id == id).map(|row| of_row(hub, row)))?;
        found.ok_or(NotDone::NoSuchMove(id))
    }

    /// Has a node, by name or number, go offline, or not. It gives all it has back first.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn drain(&self, name: &str, on: bool) -> Result<SellerId, NotDone> {
        let node = self.node_called(name)?;
        self.command(Command::Drain { node, on })?;
        Ok(node)
    }
}

fn of_row(hub: &LiveHub, row: &MoveRow) -> Move {
    let &MoveRow { id, way, node, stream, number, variety, span, generation, reason, at_ms } = row;
    let code = hub.registry().variety(variety).map(|variety| variety.code.clone()).unwrap_or_default();
    let unknown = || "called for in an earlier connection: why is not known any more".to_owned();
    Move {
        id,
        at_ms,
        seller: node.0,
        to_node: way == Way::ToNode,
        is_urgent: stream == Stream::Urgent,
        code,
        pins: span.len(),
        number,
        block: span.block.0,
        first: span.start,
        past: span.end,
        generation,
        reason,
        why: reason.map_or_else(unknown, |reason| reason.to_string()),
    }
}
