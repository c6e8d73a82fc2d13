//! What the archived journal of a node, and that of its server, say of what the node holds.

use crate::ids::BlockId;
use crate::journal::Position;
use crate::journal::record::Stream;
use crate::ledger::{Below, Ledger, Spans};
use std::collections::BTreeMap;

/// What the archived journal of a node says it does not hold any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Up to where the journal was read.
    pub position: u64,
    /// The highest number of a transfer upstream that it tells of.
    pub given: u64,
    /// Sold or withdrawn there, by block.
    pub pins: BTreeMap<BlockId, Spans>,
    /// Of a node below a server: what the archived journal of that says it was given.
    pub from_server: Option<FromServer>,
}

/// What the archived journal of a server says of a node below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromServer {
    /// Up to where the journal was read; what follows the hub reads itself.
    pub position: u64,
    /// What it comes to.
    pub books: Below,
}

impl Spent {
    /// What the journal comes to, folded up to `position`.
    #[must_use]
    pub fn of(position: Position, ledger: &Ledger) -> Self {
        let mut pins = BTreeMap::<BlockId, Spans>::new();
        for held in ledger.inventory.holdings() {
            let of_block = pins.entry(held.span.block).or_default();
            for &(start, end) in held.sold.intervals().iter().chain(held.withdrawn.intervals()) {
                of_block.insert(start, end);
            }
        }
        let given = ledger.given[Stream::Bulk as usize].highest;
        Self { position: position.0, given, pins, from_server: None }
    }

    /// The same of a node below a server, the journal of which was folded up to `position`.
    #[must_use]
    pub fn given_by(self, position: Position, books: Below) -> Self {
        Self { from_server: Some(FromServer { position: position.0, books }), ..self }
    }

    /// Adds what a node below it, which has left or is lost, has sold or withdrawn of what it was given.
    pub fn add_below(&mut self, below: &Self) {
        for (&block, spans) in &below.pins {
            let of_block = self.pins.entry(block).or_default();
            spans.intervals().iter().for_each(|&(start, end)| of_block.insert(start, end));
        }
    }
}
