//! Questions of terminals elsewhere about sequences of one worker's seller.
//!
//! What a terminal at another seller asks is asked of the own [`Seller`] as by a session that nobody has; its answer may leave, as
//! every reply, when the records that it rests on are durable.

use super::{Asker, Sealed, Seller};
use crate::limits::SETTLING_MAX;
use crate::link::{Asked, Told};
use crate::seller::Replies;
use crate::time::Now;
use std::collections::{HashMap, VecDeque};
use wire::message::{RefuseReason, Reply, Request, SequenceState, SettleAction};
use wire::settlement::SoldBox;

/// What terminals elsewhere ask of this worker's seller.
#[derive(Default)]
pub struct AskedHere {
    open: HashMap<u64, Asked>,
    /// Answers, and how many records must be durable before each leaves.
    told: VecDeque<(u64, u64, Told)>,
}

/// Sessions from here on are nobody's: they stand for questions of terminals elsewhere.
pub const ABROAD: u64 = 1 << 63;

impl AskedHere {
    /// The hub hands on a question about a sequence of this worker's terminal.
    pub fn handle_asked<S: Sealed>(
        &mut self,
        question: u64,
        asked: Asked,
        seller: &mut Seller<S>,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        let has_room = self.open.len() < SETTLING_MAX && question < ABROAD;
        if !has_room || !is_of_known_key(seller, &asked) {
            self.told.push_back((0, question, Told::IN_DOUBT));
            return;
        }
        self.open.insert(question, asked);
        let sequence = asked.vend.sequence;
        let request = match asked.action {
            SettleAction::Resolve | SettleAction::Status | SettleAction::Pin => Request::Status { sequence },
            SettleAction::Confirm => Request::Confirm { sequence },
            SettleAction::Void => Request::Void { sequence },
        };
        seller.handle_request(&asker_of(question, &asked), &request, now, replies);
    }

    /// The own seller's reply to a session from [`ABROAD`] on.
    pub fn handle_reply<S: Sealed>(
        &mut self,
        session: u64,
        reply: &Reply,
        seller: &mut Seller<S>,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        let question = session - ABROAD;
        let Some(&asked) = self.open.get(&question) else { return };
        let sequence = asked.vend.sequence;
        let told = match reply {
            // Its customer is gone, and it was never sold: it must not be sold any more.
            Reply::State { state: SequenceState::Open, .. } if asked.action == SettleAction::Resolve => {
                let asker = asker_of(question, &asked);
                return seller.handle_request(&asker, &Request::Void { sequence }, now, replies);
            }
            reply if asked.action == SettleAction::Pin => with_pin(seller, &asked, state_of(reply)),
            reply => state_of(reply),
        };
        self.open.remove(&question);
        self.told.push_back((seller.made(), question, told));
    }

    /// The hub's number of a question and its answer, if that may leave when so many records are durable.
    #[must_use]
    pub fn answer(&self, durable: u64) -> Option<(u64, Told)> {
        let &(made, question, told) = self.told.front()?;
        (made <= durable).then_some((question, told))
    }

    /// [`AskedHere::answer`] has left.
    pub fn handle_sent(&mut self) {
        self.told.pop_front();
    }
}

/// Adds the PIN to what is said of a sequence, if it was sold and not voided.
fn with_pin<S: Sealed>(seller: &mut Seller<S>, asked: &Asked, told: Told) -> Told {
    if !matches!(told.state, SequenceState::Sold | SequenceState::Confirmed) {
        return told;
    }
    let sold = seller.sold_again(&asker_of(0, asked), asked.vend.sequence);
    let terminal = seller.registry().terminal(asked.vend.terminal);
    match (sold, terminal) {
        (Some(sold), Some(terminal)) if terminal.key_epoch == asked.vend.key_epoch => {
            let sealed = SoldBox::seal(terminal.key.expose(), asked.suite, seller.id(), &sold);
            Told { sealed, ..told }
        }
        _ => told,
    }
}

/// Whether the registry here knows of the key under which the sequence is numbered: a later one would begin another count.
fn is_of_known_key<S: Sealed>(seller: &Seller<S>, asked: &Asked) -> bool {
    let terminal = seller.registry().terminal(asked.vend.terminal);
    terminal.is_some_and(|terminal| asked.vend.key_epoch <= terminal.key_epoch)
}

fn asker_of(question: u64, asked: &Asked) -> Asker {
    let (terminal, key_epoch) = (asked.vend.terminal, asked.vend.key_epoch);
    Asker { session: ABROAD + question, terminal, key_epoch, dealer: 0, correlation: 0 }
}

/// What a reply that is no PIN says of its sequence.
fn state_of(reply: &Reply) -> Told {
    match *reply {
        Reply::State { state, reference, .. } => Told { state, reference, sealed: SoldBox::NONE },
        Reply::Refused { reason: RefuseReason::NothingSold, .. } => {
            Told { state: SequenceState::Open, ..Told::IN_DOUBT }
        }
        _ => Told::IN_DOUBT,
    }
}
