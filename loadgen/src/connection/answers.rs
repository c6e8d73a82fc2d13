//! What the seller's answers mean to a connection, and what it asks after the run.

use super::Connection;
use crate::check::{Sale, UNASKED, Wrong};
use crate::desk::Desk;
use crate::sales::{FalseWelcome, Meaning, Purpose};
use crate::words::{declined_word, later_word, refused_word};
use wire::message::{Request, SequenceState, Sold, Welcome};

/// Something to ask of a sequence that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    /// Confirm it.
    Confirm { sequence: u64 },
    /// Is it sold, under this reference?
    Status { sequence: u64, reference: u64 },
}

impl Question {
    pub(super) fn sequence(self) -> u64 {
        match self {
            Self::Confirm { sequence } | Self::Status { sequence, .. } => sequence,
        }
    }
}

impl Connection {
    pub(super) fn take_welcome(&mut self, welcome: &Welcome, desk: &mut Desk, now_ns: u64) {
        let terminal = desk.terminal(self.terminal);
        let series = (terminal.id, terminal.key_epoch, welcome.seller);
        let number = terminal.id.0;
        let reserved = desk.reserved_earlier(series);
        if self.welcome.is_some_and(|before| before.seller != welcome.seller) {
            // What was to be asked of one seller means nothing at another.
            self.questions.clear();
            self.asked.clear();
            self.reserved_below = 0;
        }
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
        self.questions.extend(self.asked.drain(..));
        (self.welcome, self.welcomed, self.attempts) = (Some(*welcome), true, 0);
        let login = Request::Login(Box::new(self.sales.login()));
        self.put(&login);
        self.flush(desk, now_ns);
    }

    pub(super) fn take_meaning(&mut self, meaning: &Meaning<'_>, desk: &mut Desk, now_ns: u64) {
        let number = desk.terminal(self.terminal).id.0;
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
                desk.book.push(Sale { resumed, ..self.sale(sold, flight.variety) });
            }
            Meaning::Unasked(sold) => desk.book.push(self.sale(sold, UNASKED)),
            Meaning::Declined(flight, reason) => {
                if flight.purpose == Purpose::Sale {
                    desk.interval.counts.declined.add(declined_word(*reason));
                }
            }
            Meaning::Later(reason) => desk.interval.counts.later.add(later_word(*reason)),
            Meaning::Refused(reason) => desk.interval.counts.refused.add(refused_word(*reason)),
            Meaning::State { sequence, state, reference } => {
                self.take_state(*sequence, *state, *reference, desk);
            }
            Meaning::StateLater { sequence, wait_ms } => {
                if let Some(question) = self.take_asked(*sequence) {
                    self.questions.push_back(question);
                    self.ask_after_ns = now_ns + u64::from(*wait_ms) * 1_000_000;
                }
            }
            Meaning::StateRefused { sequence, reason } => {
                self.take_asked(*sequence);
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

    fn take_state(&mut self, sequence: u64, state: SequenceState, reference: u64, desk: &mut Desk) {
        let number = desk.terminal(self.terminal).id.0;
        let is_sold = matches!(state, SequenceState::Sold | SequenceState::Confirmed);
        match self.take_asked(sequence) {
            Some(Question::Confirm { .. }) if state == SequenceState::Confirmed => {}
            Some(Question::Status { reference: sold, .. }) if is_sold && reference == sold => {
                desk.interval.counts.rechecked += 1;
            }
            Some(Question::Status { reference: sold, .. }) if is_sold => {
                desk.findings.add(Wrong::AnswerChanged, || {
                    format!(
                        "terminal {number} sequence {sequence}: sold as {sold}, its status says {reference}"
                    )
                });
            }
            Some(_) => desk.findings.add(Wrong::Lost, || {
                format!("terminal {number} sequence {sequence}: sold, and then {state:?}")
            }),
            None => {}
        }
    }

    fn take_asked(&mut self, sequence: u64) -> Option<Question> {
        let at = self.asked.iter().position(|question| question.sequence() == sequence)?;
        Some(self.asked.swap_remove(at))
    }

    /// After the run: confirm what the last vends could not, then ask what the seller says it sold.
    pub(super) fn ask(&mut self, now_ns: u64) {
        if self.sales.in_flight() == 0 {
            while let Some(sequence) = self.sales.poll_unconfirmed() {
                self.questions.push_front(Question::Confirm { sequence });
            }
        }
        if now_ns < self.ask_after_ns {
            return;
        }
        while self.asked.len() < ASKED_MAX
            && let Some(question) = self.questions.pop_front()
        {
            let sequence = question.sequence();
            let request = match question {
                Question::Confirm { .. } => Request::Confirm { sequence },
                Question::Status { .. } => Request::Status { sequence },
            };
            self.asked.push(question);
            self.put(&request);
        }
    }

    fn sale(&self, sold: &Sold, variety: u16) -> Sale {
        let Sold { sequence, reference, pin, serial, .. } = *sold;
        Sale { sequence, reference, terminal: self.terminal, variety, resumed: false, pin, serial }
    }
}

/// Questions in flight after the run.
const ASKED_MAX: usize = 16;
