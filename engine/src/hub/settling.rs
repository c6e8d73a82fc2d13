//! Questions about sequences, from the seller that a terminal is at to the seller that answers for them. The hub hands them on,
//! and remembers nothing of them but who asked.

use super::books::Fate;
use super::{Hub, Output, Store};
use crate::disk::Disk;
use crate::ids::SellerId;
use crate::limits::SETTLING_MAX;
use crate::link::{Asked, ToNode, Told};

/// A question on its way.
#[derive(Clone, Copy)]
pub(super) struct Question {
    /// Who asked, and the number it gave.
    from: SellerId,
    number: u64,
    /// Who was asked.
    seller: SellerId,
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// A node asks about a sequence of another seller.
    pub(super) fn handle_ask(&mut self, from: SellerId, number: u64, seller: SellerId, asked: Asked) {
        let fate = self.nodes.get(&seller).map(|live| (live.fate, live.greeted));
        match fate {
            Some((Fate::Member, true)) if self.has_room_for(from) => {
                let question = self.questions.ask(Question { from, number, seller });
                // Behind its welcome, if that is still to come: nothing may go before it.
                self.stage(Output::Send { node: seller, message: ToNode::Asked { question, asked } });
            }
            // It answers for nothing any more: the hub does, from its archive.
            Some((Fate::Lost { .. } | Fate::Closed { .. }, _)) => {
                self.put_out(Output::AnswerFor { node: from, question: number, seller, asked });
            }
            // It may be away, have no room, or never have been.
            _ => self.tell(from, number, Told::IN_DOUBT),
        }
    }

    /// A node answers.
    pub(super) fn handle_told(&mut self, seller: SellerId, question: u64, told: Told) {
        // Only the one that was asked answers.
        let asked = self.questions.take_if(question, |asked| asked.seller == seller);
        if let Some(Question { from, number, .. }) = asked {
            self.tell(from, number, told);
        }
    }

    /// A node's connection is gone: what it was asked is in doubt, and what it asked is of no interest.
    pub(super) fn cut_questions(&mut self, node: SellerId) {
        let of_node = |question: &Question| question.seller == node || question.from == node;
        for Question { from, number, .. } in self.questions.give_up(of_node) {
            if from != node {
                self.tell(from, number, Told::IN_DOUBT);
            }
        }
    }

    fn tell(&mut self, node: SellerId, question: u64, told: Told) {
        self.put_out(Output::Send { node, message: ToNode::Told { question, told } });
    }

    fn has_room_for(&self, from: SellerId) -> bool {
        self.questions.waiting().filter(|question| question.from == from).count() < SETTLING_MAX
    }
}
