//! A till: what it stores before it sends, and what it does with what it is told (`spec/wire.md`, section 11).

use super::Flaw;
use super::seller::{Action, Answer, State};
use std::collections::{BTreeMap, BTreeSet};

/// A sale that is not settled yet, as stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Sale {
    pub(super) seller: usize,
    pub(super) sequence: u8,
    /// Who waits for the paper.
    pub(super) customer: u8,
    pub(super) kept: Kept,
}

/// What is stored of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kept {
    Asked,
    /// Asked, and another seller said that it was sold: the PIN is to be fetched.
    AskedAndSold,
    Printed,
    Abandoned,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Asked {
    /// Whose sequence.
    pub(super) seller: usize,
    pub(super) sequence: u8,
    pub(super) action: Action,
}

/// The only terminal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Terminal {
    /// The seller it is connected with.
    pub(super) at: Option<usize>,
    pub(super) waits_for: Option<Asked>,
    pub(super) sales: Vec<Sale>,
    /// Who wants a PIN and has none on its way.
    pub(super) customers: BTreeSet<u8>,
    /// The highest sequence used at each seller.
    pub(super) used: [u8; 2],
    /// For the properties: what it printed, and what it was told for good.
    pub(super) printed: BTreeMap<(usize, u8), (u8, u8)>,
    pub(super) told: BTreeMap<(usize, u8), State>,
    pub(super) printed_twice: bool,
}

impl Terminal {
    /// What to ask about a sale at the seller it is connected with.
    pub(super) fn question(&self, sale: &Sale, flaw: Option<Flaw>) -> Asked {
        let is_home = self.at == Some(sale.seller) || flaw == Some(Flaw::NumberOfAnother);
        let action = match (sale.kept, is_home) {
            (Kept::Asked | Kept::AskedAndSold, true) => Action::Vend,
            (Kept::Asked, false) => Action::Resolve,
            (Kept::AskedAndSold, false) => Action::Pin,
            (Kept::Printed, _) => Action::Confirm,
            (Kept::Abandoned, _) => Action::Void,
        };
        let seller = if is_home { self.at.unwrap_or(sale.seller) } else { sale.seller };
        Asked { seller, sequence: sale.sequence, action }
    }

    /// Stores a new sale at the seller it is connected with.
    pub(super) fn begin(&mut self, customer: u8, next_sequence: u8) {
        let seller = self.at.expect("it is connected");
        let sequence = next_sequence.max(self.used[seller] + 1);
        self.used[seller] = sequence;
        self.customers.remove(&customer);
        self.sales.push(Sale { seller, sequence, customer, kept: Kept::Asked });
    }

    /// Hears what became of a sequence.
    pub(super) fn hear(&mut self, asked: Asked, state: State, flaw: Option<Flaw>) {
        let names = |sale: &Sale| {
            sale.sequence == asked.sequence
                && (sale.seller == asked.seller || flaw == Some(Flaw::NumberOfAnother))
        };
        let Some(at) = self.sales.iter().position(names) else { return };
        let sale = &mut self.sales[at];
        match (state, sale.kept) {
            (State::Is(Answer::Sold(_)), Kept::Asked) if asked.action == Action::Resolve => {
                sale.kept = Kept::AskedAndSold;
            }
            (State::Is(Answer::Sold(pin) | Answer::Confirmed(pin)), Kept::Asked | Kept::AskedAndSold) => {
                sale.kept = Kept::Printed;
                let (key, customer) = ((sale.seller, sale.sequence), sale.customer);
                let earlier = self.printed.insert(key, (pin, customer));
                self.printed_twice |= earlier.is_some_and(|earlier| earlier != (pin, customer));
            }
            (State::Is(Answer::Sold(_)) | State::SoldSomething | State::Later | State::InDoubt, _) => {}
            (State::Is(_) | State::Unsettled, kept) => {
                self.told.insert((sale.seller, sale.sequence), state);
                if matches!(kept, Kept::Asked | Kept::AskedAndSold) {
                    // Its customer still waits.
                    self.customers.insert(sale.customer);
                }
                self.sales.remove(at);
            }
        }
    }
}
