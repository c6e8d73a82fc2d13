//! Questions about sequences between a worker and the other sellers of the network, in both directions.
//!
//! What another seller's terminal asks here is asked of the worker's own [`Seller`] as by a session that nobody has; its answer
//! leaves, as every reply does, when the records that it rests on are durable.

use super::meddler::Meddler;
use super::worker::Worker;
use crate::limits::SETTLING_MAX;
use crate::link::{Asked, Told};
use crate::seller::{Asker, Question, Sealed};
use crate::time::Now;
use std::collections::{HashMap, VecDeque};
use wire::message::{Reply, Request, SequenceState, SettleAction};
use wire::settlement::SoldBox;

/// What a worker has to say to other sellers.
#[derive(Clone, Copy, Debug)]
pub enum Abroad {
    /// A terminal here asks.
    Question {
        /// Which worker it is at.
        worker: usize,
        /// What it asks.
        question: Question,
    },
    /// A terminal elsewhere is answered.
    Told {
        /// The hub's question.
        question: u64,
        /// The answer.
        told: Told,
    },
}

/// What terminals elsewhere ask of this worker.
#[derive(Default)]
pub(super) struct AskedHere {
    open: HashMap<u64, Asked>,
    /// Answers, and how many records must be durable before each leaves.
    told: VecDeque<(u64, u64, Told)>,
}

/// Sessions from here on are nobody's: they stand for questions of terminals elsewhere.
pub(super) const ABROAD: u64 = 1 << 63;

impl<S: Sealed, M: Meddler> Worker<S, M> {
    /// The hub hands on a question about a sequence of this worker's terminal.
    pub(super) fn take_asked(&mut self, question: u64, asked: Asked, now: &Now) {
        let has_room = self.asked_here.open.len() < SETTLING_MAX && question < ABROAD;
        if !has_room || !self.is_of_known_key(&asked) {
            self.asked_here.told.push_back((0, question, Told::IN_DOUBT));
            return;
        }
        self.asked_here.open.insert(question, asked);
        let sequence = asked.vend.sequence;
        let request = match asked.action {
            SettleAction::Resolve | SettleAction::Status | SettleAction::Pin => Request::Status { sequence },
            SettleAction::Confirm => Request::Confirm { sequence },
            SettleAction::Void => Request::Void { sequence },
        };
        self.ask_own(question, &asked, &request, now);
    }

    /// Takes what the own seller answers to terminals elsewhere.
    pub(super) fn take_answers(&mut self, now: &Now) {
        while let Some((session, reply)) = self.sessions.abroad.pop_front() {
            let question = session - ABROAD;
            let Some(&asked) = self.asked_here.open.get(&question) else { continue };
            let sequence = asked.vend.sequence;
            let told = match reply {
                // Its customer is gone, and it was never sold: it must not be sold any more.
                Reply::State { state: SequenceState::Open, .. } if asked.action == SettleAction::Resolve => {
                    self.ask_own(question, &asked, &Request::Void { sequence }, now);
                    continue;
                }
                reply if asked.action == SettleAction::Pin => self.with_pin(&asked, state_of(&reply)),
                reply => state_of(&reply),
            };
            self.asked_here.open.remove(&question);
            self.asked_here.told.push_back((self.seller.made(), question, told));
        }
    }

    /// Sends what may leave, and what terminals here ask of other sellers.
    pub(super) fn send_abroad(&mut self) {
        let durable = self.sender.durable();
        while let Some(&(made, question, told)) = self.asked_here.told.front()
            && made <= durable
            && self.reports.abroad.try_send(Abroad::Told { question, told }).is_ok()
        {
            self.asked_here.told.pop_front();
        }
        while let Some(question) = self.seller.poll_question() {
            let worker = self.reports.worker;
            if self.reports.abroad.try_send(Abroad::Question { worker, question }).is_err() {
                self.seller.handle_told(question.number, &Told::IN_DOUBT, &mut self.sessions);
            }
        }
    }

    /// Adds the PIN to what is said of a sequence, if it was sold and not voided.
    fn with_pin(&mut self, asked: &Asked, told: Told) -> Told {
        if !matches!(told.state, SequenceState::Sold | SequenceState::Confirmed) {
            return told;
        }
        let sold = self.seller.sold_again(&asker_of(0, asked), asked.vend.sequence);
        let terminal = self.seller.registry().terminal(asked.vend.terminal);
        match (sold, terminal) {
            (Some(sold), Some(terminal)) if terminal.key_epoch == asked.vend.key_epoch => {
                let sealed = SoldBox::seal(terminal.key.expose(), asked.suite, self.seller.id(), &sold);
                Told { sealed, ..told }
            }
            _ => told,
        }
    }

    /// Whether the registry here knows of the key under which the sequence is numbered: a later one would begin another count.
    fn is_of_known_key(&self, asked: &Asked) -> bool {
        let terminal = self.seller.registry().terminal(asked.vend.terminal);
        terminal.is_some_and(|terminal| asked.vend.key_epoch <= terminal.key_epoch)
    }

    fn ask_own(&mut self, question: u64, asked: &Asked, request: &Request, now: &Now) {
        let asker = asker_of(question, asked);
        self.seller.handle_request(&asker, request, now, &mut self.sessions);
        self.take_lookups();
    }
}

fn asker_of(question: u64, asked: &Asked) -> Asker {
    let (terminal, key_epoch) = (asked.vend.terminal, asked.vend.key_epoch);
    Asker { session: ABROAD + question, terminal, key_epoch, dealer: 0, correlation: 0 }
}

/// What a reply that is no PIN says of its sequence.
fn state_of(reply: &Reply) -> Told {
    match *reply {
        Reply::State { state, reference, .. } => Told { state, reference, sealed: SoldBox::NONE },
        Reply::Refused { reason: wire::message::RefuseReason::NothingSold, .. } => {
            Told { state: SequenceState::Open, ..Told::IN_DOUBT }
        }
        _ => Told::IN_DOUBT,
    }
}
