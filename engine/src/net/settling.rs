//! Questions about sequences between a worker and the other sellers of the network, in both directions: what
//! [`AskedHere`](crate::seller::AskedHere) has to do with a worker's threads and channels.

use super::meddler::Meddler;
use super::worker::Worker;
use crate::link::{Asked, Told};
use crate::seller::{Question, Sealed};
use crate::time::Now;

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

impl<S: Sealed, M: Meddler> Worker<S, M> {
    /// The hub hands on a question about a sequence of this worker's terminal.
    pub(super) fn take_asked(&mut self, question: u64, asked: Asked, now: &Now) {
        self.asked_here.handle_asked(question, asked, &mut self.seller, now, &mut self.sessions);
        self.take_lookups();
    }

    /// Takes what the own seller answers to terminals elsewhere.
    pub(super) fn take_answers(&mut self, now: &Now) {
        while let Some((session, reply)) = self.sessions.abroad.pop_front() {
            self.asked_here.handle_reply(session, &reply, &mut self.seller, now, &mut self.sessions);
            self.take_lookups();
        }
    }

    /// Sends what may leave, and what terminals here ask of other sellers.
    pub(super) fn send_abroad(&mut self) {
        let durable = self.sender.durable();
        while let Some((question, told)) = self.asked_here.answer(durable)
            && self.reports.abroad.try_send(Abroad::Told { question, told }).is_ok()
        {
            self.asked_here.handle_sent();
        }
        while let Some(question) = self.seller.poll_question() {
            let worker = self.reports.worker;
            if self.reports.abroad.try_send(Abroad::Question { worker, question }).is_err() {
                self.seller.handle_told(question.number, &Told::IN_DOUBT, &mut self.sessions);
            }
        }
    }
}
