//! What a connection asks of sequences beside its sales: of its own seller, or through it of others.

use std::collections::VecDeque;
use wire::message::{Request, SellerId, Settle, SettleAction};
use wire::session::Suite;

/// Something to ask of a sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) seller: SellerId,
    pub(crate) sequence: u64,
    pub(crate) what: What,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// It was printed.
    Confirm,
    /// After the run: is it sold, under this reference?
    Status {
        /// What was received.
        reference: u64,
    },
    /// What became of it, and if nothing did, nothing shall: of another seller's only.
    Resolve,
    /// The PIN that it was sold, which its terminal does not have: of another seller's only.
    Pin,
}

impl Question {
    /// The request that asks it of the seller, or of another one through that.
    pub(super) fn request(&self, connected: SellerId, suite: Suite) -> Request {
        let &Self { seller, sequence, what } = self;
        let action = match what {
            What::Confirm if seller == connected => return Request::Confirm { sequence },
            What::Status { .. } if seller == connected => return Request::Status { sequence },
            What::Confirm => SettleAction::Confirm,
            What::Status { .. } => SettleAction::Status,
            What::Resolve => SettleAction::Resolve,
            What::Pin => SettleAction::Pin,
        };
        Request::Settle(Settle { seller, sequence, action, suite })
    }

    /// Whether a terminal cannot go on without the answer.
    fn is_pressing(&self) -> bool {
        matches!(self.what, What::Resolve | What::Pin)
    }
}

/// Questions to be asked, and asked.
#[derive(Default)]
pub(super) struct Questions {
    /// Asked at once.
    pressing: VecDeque<Question>,
    /// Asked after the run.
    later: VecDeque<Question>,
    asked: Vec<Question>,
    not_before_ns: u64,
}

impl Questions {
    pub(super) fn add(&mut self, question: Question) {
        let queue = if question.is_pressing() { &mut self.pressing } else { &mut self.later };
        queue.push_back(question);
    }

    /// The same, for when so much time has passed.
    pub(super) fn add_after(&mut self, question: Question, ns: u64) {
        self.not_before_ns = ns;
        self.add(question);
    }

    /// Whatever was asked has no answer any more.
    pub(super) fn ask_again(&mut self) {
        for question in std::mem::take(&mut self.asked) {
            self.add(question);
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.pressing.len() + self.later.len() + self.asked.len()
    }

    /// Whether there is something to ask during the run.
    pub(super) fn are_waiting(&self) -> bool {
        !self.pressing.is_empty()
    }

    /// Whether this is asked, or will be.
    pub(super) fn has(&self, seller: SellerId, sequence: u64) -> bool {
        let mut all = self.pressing.iter().chain(&self.asked);
        all.any(|question| {
            question.is_pressing() && (question.seller, question.sequence) == (seller, sequence)
        })
    }

    /// The terminal is at this seller again and asks it as always.
    pub(super) fn drop_pressing_of(&mut self, seller: SellerId) {
        self.pressing.retain(|question| question.seller != seller);
    }

    /// The next to ask.
    pub(super) fn poll(&mut self, is_after: bool, now_ns: u64) -> Option<Question> {
        if now_ns < self.not_before_ns || self.asked.len() >= ASKED_MAX {
            return None;
        }
        let question = match self.pressing.pop_front() {
            None if is_after => self.later.pop_front()?,
            pressing => pressing?,
        };
        self.asked.push(question);
        Some(question)
    }

    /// The question that is answered now.
    pub(super) fn take_asked(&mut self, seller: SellerId, sequence: u64) -> Option<Question> {
        let is_it = |question: &Question| (question.seller, question.sequence) == (seller, sequence);
        let at = self.asked.iter().position(is_it)?;
        Some(self.asked.swap_remove(at))
    }
}

/// Questions in flight at a time.
const ASKED_MAX: usize = 16;
