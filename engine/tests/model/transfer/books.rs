//! What a node keeps through a loss of power.

use engine::journal::Record;
use engine::journal::record::TransferFact;
use std::collections::{BTreeMap, BTreeSet};

/// The fold of what is durable at one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Books {
    /// The node's inventory: each PIN with its generation.
    pub(super) held: BTreeMap<u32, u32>,
    pub(super) sold: BTreeSet<u32>,
    /// The highest generation recorded of each PIN.
    pub(super) known: BTreeMap<u32, u32>,
    /// One for each link.
    pub(super) links: Vec<LinkBooks>,
}

/// Both directions of one link.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct LinkBooks {
    /// The highest number given.
    pub(super) given: u64,
    pub(super) open: BTreeMap<u64, TransferFact>,
    /// The watermark: the highest number with an outcome here.
    pub(super) taken: u64,
    pub(super) outcomes: BTreeMap<u64, (TransferFact, bool)>,
}

/// One fact on its way to the disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Entry {
    /// Of a transfer over a link.
    Step(usize, Record),
    /// A PIN was sold.
    Sold(u32),
}

impl Books {
    /// Takes in a fact that is durable now. `files`: the contents that are, by PIN and generation.
    ///
    /// # Errors
    /// What the fact contradicts.
    pub(super) fn apply(
        &mut self,
        entry: &Entry,
        files: &mut BTreeSet<(u32, u32)>,
    ) -> Result<(), &'static str> {
        let (link, record) = match *entry {
            Entry::Sold(pin) => {
                self.held.remove(&pin).ok_or("sold what was not held")?;
                self.sold.insert(pin);
                return Ok(());
            }
            Entry::Step(link, record) => (link, record),
        };
        let books = &mut self.links[link];
        match record {
            Record::Given(fact) => {
                let generation = self.held.remove(&fact.span.start).ok_or("gave what was not held")?;
                if fact.generation <= generation {
                    return Err("gave it under no higher generation");
                }
                if fact.number != books.given + 1 {
                    return Err("an OUT out of order");
                }
                books.given = fact.number;
                books.open.insert(fact.number, fact);
                self.know(&fact);
            }
            Record::Settled { transfer, accepted } => {
                books.open.remove(&transfer.number).ok_or("settled what was not open")?;
                if !accepted {
                    self.held.insert(transfer.span.start, transfer.generation);
                }
            }
            Record::Received(fact) => {
                books.conclude(fact, true)?;
                if !files.remove(&(fact.span.start, fact.generation)) {
                    return Err("an IN before its content");
                }
                if self.known.get(&fact.span.start).is_some_and(|known| fact.generation <= *known) {
                    return Err("took it under a known generation");
                }
                self.held.insert(fact.span.start, fact.generation);
                self.know(&fact);
            }
            Record::Refused(fact) => books.conclude(fact, false)?,
            _ => return Err("a record that belongs to no transfer"),
        }
        Ok(())
    }

    fn know(&mut self, fact: &TransferFact) {
        let known = self.known.entry(fact.span.start).or_default();
        *known = fact.generation.max(*known);
    }
}

impl LinkBooks {
    fn conclude(&mut self, fact: TransferFact, accepted: bool) -> Result<(), &'static str> {
        if fact.number != self.taken + 1 {
            return Err("an outcome out of order");
        }
        self.taken = fact.number;
        self.outcomes.retain(|&number, _| number >= fact.settled_below);
        self.outcomes.insert(fact.number, (fact, accepted));
        Ok(())
    }
}
