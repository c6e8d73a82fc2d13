//! A terminal that went from one seller to another: what is open at the one is settled through the other.

use super::Connection;
use super::questions::{Question, What};
use crate::check::Wrong;
use crate::desk::Desk;
use crate::sales::{Purpose, Sales};
use wire::message::{Outcome, SellerId, SequenceState, Settled};

impl Connection {
    /// Takes up the sales at the seller that it is connected with now.
    pub(super) fn turn_to(&mut self, seller: SellerId, desk: &Desk) {
        if self.sales.seller().is_none_or(|before| before == seller) {
            return;
        }
        let known = self.elsewhere.iter().position(|sales| sales.seller() == Some(seller));
        let sales = match known {
            Some(at) => self.elsewhere.swap_remove(at),
            None => Sales::new(desk.terminal(self.terminal).id),
        };
        let mut left = std::mem::replace(&mut self.sales, sales);
        left.handle_left();
        self.elsewhere.push(left);
        self.questions.drop_pressing_of(seller);
        self.reserved_below = 0;
    }

    /// What is said to a login: what is not settled by it is asked for one by one.
    pub(super) fn take_resolved(&mut self, outcomes: &[Outcome], desk: &mut Desk) {
        let here = self.sales.seller();
        for outcome in outcomes.iter().filter(|outcome| Some(outcome.seller) != here) {
            self.take_outcome(outcome.seller, outcome.sequence, outcome.state, desk);
        }
        let mut open = Vec::new();
        for sales in &self.elsewhere {
            let seller = sales.seller();
            open.extend(sales.settleable().filter_map(|sequence| Some((seller?, sequence))));
        }
        for (seller, sequence) in open {
            if !self.questions.has(seller, sequence) {
                self.questions.add(Question { seller, sequence, what: What::Resolve });
            }
        }
    }

    /// What another seller says through this one.
    pub(super) fn take_settled(&mut self, settled: &Settled, desk: &mut Desk, now_ns: u64) {
        let &Settled { seller, sequence, state, reference, .. } = settled;
        let Some(question) = self.questions.take_asked(seller, sequence) else { return };
        let is_sold = matches!(state, SequenceState::Sold | SequenceState::Confirmed);
        match question.what {
            _ if matches!(state, SequenceState::InDoubt | SequenceState::Open) => {
                self.questions.add_after(question, now_ns + IN_DOUBT_WAIT_NS);
            }
            What::Confirm | What::Status { .. } => self.take_said(question, state, reference, desk),
            What::Resolve => self.take_outcome(seller, sequence, state, desk),
            What::Pin if is_sold => self.take_box(settled, desk, now_ns),
            What::Pin => self.take_outcome(seller, sequence, state, desk),
        }
    }

    /// A sequence of another seller stands so.
    fn take_outcome(&mut self, seller: SellerId, sequence: u64, state: SequenceState, desk: &mut Desk) {
        match state {
            SequenceState::Sold | SequenceState::Confirmed => {
                let wanted = self
                    .sales_at(seller)
                    .is_some_and(|sales| sales.settleable().any(|open| open == sequence));
                if wanted && !self.questions.has(seller, sequence) {
                    self.questions.add(Question { seller, sequence, what: What::Pin });
                }
            }
            SequenceState::InDoubt | SequenceState::Open => {}
            SequenceState::Declined
            | SequenceState::Blocked
            | SequenceState::Voided
            | SequenceState::Unsettled => {
                let is_unsettled = state == SequenceState::Unsettled;
                if self.sales_at(seller).is_some_and(|sales| sales.end_abroad(sequence, is_unsettled))
                    && !is_unsettled
                {
                    desk.interval.counts.given_up += 1;
                }
            }
        }
    }

    /// The PIN of another seller's sequence has come.
    fn take_box(&mut self, settled: &Settled, desk: &mut Desk, now_ns: u64) {
        let &Settled { seller, sequence, .. } = settled;
        let terminal = desk.terminal(self.terminal);
        let (number, suite) = (terminal.id.0, desk.protection().0);
        let Ok(sold) = settled.sealed.open(&terminal.key, suite, seller, sequence) else {
            if settled.sealed.is_none() {
                // Its seller is gone, and nobody else has the PIN.
                if let Some(sales) = self.sales_at(seller) {
                    sales.end_abroad(sequence, true);
                }
            } else {
                desk.findings.add(Wrong::Malformed, || {
                    format!(
                        "terminal {number} sequence {sequence} of seller {}: a box does not open",
                        seller.0
                    )
                });
            }
            return;
        };
        let Some(flight) = self.sales_at(seller).and_then(|sales| sales.land_abroad(sequence)) else {
            return;
        };
        match flight.purpose {
            Purpose::Sale => desk.sold(&flight, now_ns),
            Purpose::Resumed | Purpose::Void => desk.interval.counts.resumed += 1,
        }
        desk.interval.counts.through_others += 1;
        let resumed = flight.purpose == Purpose::Resumed;
        desk.book.push(crate::check::Sale { resumed, ..self.sale(seller, &sold, flight.variety) });
        self.questions.add(Question { seller, sequence, what: What::Confirm });
    }

    fn sales_at(&mut self, seller: SellerId) -> Option<&mut Sales> {
        self.elsewhere.iter_mut().find(|sales| sales.seller() == Some(seller))
    }
}

/// How soon a question that is in doubt is asked again.
const IN_DOUBT_WAIT_NS: u64 = 200_000_000;
