//! What the seller's answers mean to a connection, and what it asks after the run.

use super::Connection;
use super::questions::{Question, What};
use crate::check::{Sale, UNASKED, Wrong};
use crate::desk::Desk;
use crate::sales::{FalseWelcome, Meaning, Purpose};
use crate::words::{declined_word, later_word, refused_word};
use wire::message::{Request, SellerId, SequenceState, Sold, Welcome};
use wire::session::Suite;

impl Connection {
    pub(super) fn take_welcome(&mut self, welcome: &Welcome, desk: &mut Desk, now_ns: u64) {
        let terminal = desk.terminal(self.terminal);
        let series = (terminal.id, terminal.key_epoch, welcome.seller);
        let number = terminal.id.0;
        let reserved = desk.reserved_earlier(series);
        self.turn_to(welcome.seller, desk);
        let variety = |sequence| desk.earlier_variety(number, sequence);
        match self.sales.welcome(welcome, reserved, variety, now_ns) {
            Ok(()) => {}
            Err(FalseWelcome::Forgot { answered, next }) => {
                desk.findings.add(Wrong::Lost, || {
                    format!(
                        "terminal {number}: sequence {answered} was answered, the seller's next is {next}"
                    )
                });
                return self.fall("false welcome", desk, now_ns);
            }
            Err(FalseWelcome::Window) => return self.fall("false welcome", desk, now_ns),
        }
        self.questions.ask_again();
        (self.welcome, self.welcomed, self.attempts) = (Some(*welcome), true, 0);
        self.known_good = self.address;
        let login = Request::Login(Box::new(self.sales.login(&self.elsewhere)));
        self.put(&login);
        self.flush(desk, now_ns);
    }

    pub(super) fn take_meaning(&mut self, meaning: &Meaning<'_>, desk: &mut Desk, now_ns: u64) {
        let number = desk.terminal(self.terminal).id.0;
        let here = self.sales.seller().unwrap_or_default();
        match meaning {
            Meaning::Sold(flight, sold) => {
                match flight.purpose {
                    Purpose::Sale => desk.sold(flight, now_ns),
                    Purpose::Resumed => desk.interval.counts.resumed += 1,
                    // It was to be voided: a PIN that nobody asked for.
                    Purpose::Void => desk.findings.add(Wrong::Misplaced, || {
                        format!("terminal {number}: a PIN answers the void of sequence {}", flight.sequence)
                    }),
                }
                let resumed = flight.purpose == Purpose::Resumed;
                desk.book.push(Sale { resumed, ..self.sale(here, sold, flight.variety) });
            }
            Meaning::Unasked(sold) => desk.book.push(self.sale(here, sold, UNASKED)),
            Meaning::Declined(flight, reason) => {
                if flight.purpose == Purpose::Sale {
                    desk.interval.counts.declined.add(declined_word(*reason));
                }
            }
            Meaning::GivenUp => desk.interval.counts.given_up += 1,
            Meaning::Later(reason) => desk.interval.counts.later.add(later_word(*reason)),
            Meaning::Refused(reason) => desk.interval.counts.refused.add(refused_word(*reason)),
            Meaning::State { sequence, state, reference } => {
                if let Some(question) = self.questions.take_asked(here, *sequence) {
                    self.take_said(question, *state, *reference, desk);
                }
            }
            Meaning::StateLater { sequence, wait_ms } => {
                if let Some(question) = self.questions.take_asked(here, *sequence) {
                    self.questions.add_after(question, now_ns + u64::from(*wait_ms) * 1_000_000);
                }
            }
            Meaning::StateRefused { sequence, reason } => {
                self.questions.take_asked(here, *sequence);
                desk.findings.add(Wrong::Lost, || {
                    format!(
                        "terminal {number} sequence {sequence}: sold, and then \"{}\"",
                        refused_word(*reason)
                    )
                });
            }
            Meaning::Misplaced { sequence } => desk.findings.add(Wrong::Misplaced, || {
                format!("terminal {number}: the answer to another question names sequence {sequence}")
            }),
            Meaning::Nothing => {}
        }
    }

    /// What its seller says of a sequence that was answered before.
    pub(super) fn take_said(
        &mut self,
        question: Question,
        state: SequenceState,
        reference: u64,
        desk: &mut Desk,
    ) {
        let number = desk.terminal(self.terminal).id.0;
        let Question { sequence, what, .. } = question;
        let is_sold = matches!(state, SequenceState::Sold | SequenceState::Confirmed);
        match what {
            What::Confirm if state == SequenceState::Confirmed => {}
            What::Status { reference: sold } if is_sold && reference == sold => {
                desk.interval.counts.rechecked += 1;
            }
            What::Status { reference: sold } if is_sold => {
                desk.findings.add(Wrong::AnswerChanged, || {
                    format!(
                        "terminal {number} sequence {sequence}: sold as {sold}, its status says {reference}"
                    )
                });
            }
            What::Confirm | What::Status { .. } | What::Resolve | What::Pin => {
                desk.findings.add(Wrong::Lost, || {
                    format!("terminal {number} sequence {sequence}: sold, and then {state:?}")
                });
            }
        }
    }

    /// After the run: what the last vends could not confirm, here or at earlier sellers.
    pub(super) fn confirm_the_rest(&mut self) {
        if self.sales.in_flight() > 0 {
            return;
        }
        for sales in self.elsewhere.iter_mut().chain([&mut self.sales]) {
            let Some(seller) = sales.seller() else { continue };
            while let Some(sequence) = sales.poll_unconfirmed() {
                self.questions.add(Question { seller, sequence, what: What::Confirm });
            }
        }
    }

    /// Asks what there is to ask.
    pub(super) fn ask(&mut self, is_after: bool, suite: Suite, now_ns: u64) {
        let Some(here) = self.sales.seller() else { return };
        while let Some(question) = self.questions.poll(is_after, now_ns) {
            self.put(&question.request(here, suite));
        }
    }

    pub(super) fn sale(&self, seller: SellerId, sold: &Sold, variety: u16) -> Sale {
        let (seller, terminal, resumed) = (seller.0, self.terminal, false);
        let Sold { sequence, reference, pin, serial, .. } = *sold;
        Sale { seller, sequence, reference, terminal, variety, resumed, pin, serial }
    }
}
