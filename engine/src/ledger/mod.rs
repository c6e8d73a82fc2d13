//! The durable state of a selling node: what its journal, folded from the beginning, comes to.
//!
//! [`Ledger`] is that fold. Recovery, checkpoints, the audit and the history all use it, so there is one reading of
//! every record. It is never copied from live memory: the live state runs ahead of what is durable.

mod below;
mod bookkeeper;
mod checkpoint;
mod facts;
mod history;
mod inventory;
mod spans;
mod unreported;

pub use below::{Below, PieceBelow};
pub use bookkeeper::{Bookkeeper, BookkeeperError};
pub use checkpoint::{CheckpointError, Checkpoints};
pub use facts::{FactState, SequenceFact, facts};
pub use history::{History, HistoryError, Outcome};
pub use inventory::{Contradiction, Holding, Inventory};
pub use spans::Spans;
pub use unreported::{Unreported, UnreportedSales};

use crate::ids::SellerId;
use crate::journal::Record;
use crate::journal::record::{Stream, TransferFact, TransferStep, VendName};
use crate::seller::{Answer, Windows};
use std::collections::BTreeMap;

/// Everything durable that a selling node knows, except the contents of its segments and its registry.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Recent sequences by terminal.
    pub windows: Windows,
    /// Segments held and what became of their PINs.
    pub inventory: Inventory,
    /// Transfers from upstream, by [`Stream`].
    pub taken: [Taken; 2],
    /// Transfers back upstream, by [`Stream`].
    pub given: [Given; 2],
    /// Transfers with the nodes below, and what they hold.
    pub below: BTreeMap<SellerId, Below>,
    /// How often PINs were reprinted.
    pub reprints: u64,
}

/// What the taking end of a link must remember of one stream.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The highest number answered; 0: none.
    pub highest: u64,
    /// How those ended that the giver may still ask about: accepted or not.
    pub outcomes: BTreeMap<u64, (TransferFact, bool)>,
}

/// What the giving end of a link must remember of one stream.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Given {
    /// The highest number given; 0: none.
    pub highest: u64,
    /// Those without a durable answer.
    pub open: BTreeMap<u64, TransferFact>,
}

impl Ledger {
    /// Takes in the next record of the journal. Sequences that leave their terminal's window are given to `left`.
    ///
    /// # Errors
    /// [`Contradiction`] if the record cannot follow those before it: the journal is not this node's, or there is a
    /// mistake in this program. Nothing may be sold then.
    pub fn apply(
        &mut self,
        record: &Record,
        left: impl FnMut(VendName, Answer),
    ) -> Result<(), Contradiction> {
        match *record {
            Record::Sold { pin, .. } => self.inventory.sell(pin)?,
            Record::Voided { pin, .. } => self.inventory.void(pin)?,
            Record::Withdrawn { span, .. } => self.inventory.withdraw(span)?,
            Record::Reprinted { .. } => self.reprints += 1,
            Record::Received(fact) => {
                self.inventory.receive(&fact)?;
                self.taken[fact.stream as usize].answer(fact, true);
            }
            Record::Refused(fact) => self.taken[fact.stream as usize].answer(fact, false),
            Record::Given(fact) => {
                self.inventory.give(&fact)?;
                let given = &mut self.given[fact.stream as usize];
                given.highest = given.highest.max(fact.number);
                given.open.insert(fact.number, fact);
            }
            Record::Settled { transfer, accepted } => {
                if !accepted {
                    self.inventory.take_back(&transfer)?;
                }
                self.given[transfer.stream as usize].open.remove(&transfer.number);
            }
            Record::Below { node, step } => {
                match step {
                    TransferStep::Given(fact) => self.inventory.give(&fact)?,
                    TransferStep::Settled { transfer, accepted: false } => {
                        self.inventory.take_back(&transfer)?;
                    }
                    TransferStep::Received(fact) => self.inventory.receive_from(node, &fact)?,
                    TransferStep::Settled { accepted: true, .. } | TransferStep::Refused(_) => {}
                }
                self.below.entry(node).or_default().apply(&step)?;
            }
            Record::Declined { .. } | Record::Confirmed { .. } | Record::Blocked { .. } => {}
        }
        self.windows.apply(record, left);
        Ok(())
    }

    /// What is remembered of transfers from upstream in one stream.
    #[must_use]
    pub fn taken(&self, stream: Stream) -> &Taken {
        &self.taken[stream as usize]
    }

    /// What the windows know of a sequence.
    #[must_use]
    pub fn answer(&self, vend: VendName) -> Answer {
        self.windows.answer(vend)
    }
}

impl Taken {
    /// A transfer has its outcome: the next one in the order of numbers. Outcomes that the giver has settled are forgotten.
    pub fn answer(&mut self, fact: TransferFact, accepted: bool) {
        self.highest = self.highest.max(fact.number);
        self.outcomes.insert(fact.number, (fact, accepted));
        self.outcomes = self.outcomes.split_off(&fact.settled_below);
    }
}
