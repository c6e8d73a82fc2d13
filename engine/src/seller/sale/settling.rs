//! Sequences of other sellers: a terminal that lost its reply there asks here, and the question goes through the network.
//! Nothing about them is decided or remembered here.

use super::{Asker, Replies, Seller};
use crate::ids::SellerId;
use crate::limits::{SETTLE_MS_MAX, SETTLING_MAX};
use crate::link::{Asked, Told};
use crate::planted::{self, Fault};
use crate::seller::Sealed;
use crate::time::Now;
use wire::message::{Login, Outcome, Reply, Resolved, SequenceState, Settle, SettleAction, Settled};
use wire::session::Suite;

/// A question for the seller of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Names it at this worker.
    pub number: u64,
    /// Who is to be asked.
    pub seller: SellerId,
    /// What.
    pub asked: Asked,
}

/// A question that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    number: u64,
    asker: Asker,
    seller: SellerId,
    sequence: u64,
    /// The place in the login that brought it; `None`: it was asked by itself.
    place: Option<usize>,
    until_ms: u64,
}

/// A login whose answer waits for other sellers'.
#[derive(Debug)]
struct Waiting {
    asker: Asker,
    resolved: Box<Resolved>,
    left: usize,
}

/// What a worker's terminals ask of other sellers.
#[derive(Default)]
pub(super) struct Settling {
    next: u64,
    open: Vec<Open>,
    logins: Vec<Waiting>,
    questions: Vec<Question>,
}

impl<S: Sealed> Seller<S> {
    /// A question for the seller of a sequence, since last asked. Each ends with [`Seller::handle_told`] or its time-out.
    pub fn poll_question(&mut self) -> Option<Question> {
        self.settling.questions.pop()
    }

    /// What the seller of a sequence says, or that it cannot be asked.
    pub fn handle_told(&mut self, number: u64, told: &Told, replies: &mut impl Replies) {
        let open = &mut self.settling.open;
        // It may have taken too long, or its terminal may be gone.
        let Some(at) = open.iter().position(|open| open.number == number) else { return };
        let open = open.swap_remove(at);
        self.settle_one(&open, told, replies);
    }

    /// Answers a login: at once, if all that it brings is this seller's.
    pub(super) fn log_in(&mut self, asker: &Asker, login: &Login, now: &Now, replies: &mut impl Replies) {
        let mut resolved = Box::new(Self::brought_by(login));
        let foreign = resolved.list().iter().enumerate().filter(|(_, outcome)| outcome.seller != self.id);
        let foreign: Vec<_> = foreign.map(|(place, outcome)| (place, *outcome)).collect();
        if foreign.is_empty() || !self.settling.has_room(foreign.len()) {
            self.resolve_own(asker, &mut resolved);
            return replies.reply(asker, &Reply::Resolved(resolved));
        }
        self.settling.logins.push(Waiting { asker: *asker, resolved, left: foreign.len() });
        for (place, Outcome { seller, sequence, .. }) in foreign {
            // What was never sold there must not be sold any more: its customer is gone.
            let (action, suite) = (SettleAction::Resolve, Suite::AesGcm);
            let settle = Settle { seller, sequence, action, suite };
            self.settling.ask(asker, &settle, Some(place), now);
        }
    }

    /// A terminal asks about one sequence.
    pub(super) fn settle(&mut self, asker: &Asker, settle: &Settle, now: &Now, replies: &mut impl Replies) {
        if planted::is(Fault::AnswerForAnother) {
            let answer = self.answer(asker, settle.sequence);
            let (state, reference) = (answer.state(), answer.reference());
            let told = Told { state, reference, ..Told::IN_DOUBT };
            return replies.reply(asker, &settled(settle.seller, settle.sequence, &told));
        }
        // Its own sequences have questions of their own.
        if settle.seller == self.id || !self.settling.has_room(1) {
            let &Settle { seller, sequence, .. } = settle;
            return replies.reply(asker, &settled(seller, sequence, &Told::IN_DOUBT));
        }
        self.settling.ask(asker, settle, None, now);
    }

    pub(super) fn next_settling(&self) -> Option<u64> {
        self.settling.open.iter().map(|open| open.until_ms).min()
    }

    /// Answers questions that waited long enough.
    pub(super) fn end_settling(&mut self, now: &Now, replies: &mut impl Replies) {
        let overdue = |open: &mut Open| open.until_ms <= now.monotonic_ms;
        let overdue: Vec<_> = self.settling.open.extract_if(.., overdue).collect();
        overdue.iter().for_each(|open| self.settle_one(open, &Told::IN_DOUBT, replies));
    }

    /// A session ended: nobody waits for what it asked.
    pub(super) fn forget_settling(&mut self, session: u64) {
        self.settling.open.retain(|open| open.asker.session != session);
        self.settling.logins.retain(|login| login.asker.session != session);
    }

    fn settle_one(&mut self, open: &Open, told: &Told, replies: &mut impl Replies) {
        let &Open { asker, seller, sequence, place, .. } = open;
        let Some(place) = place else {
            return replies.reply(&asker, &settled(seller, sequence, told));
        };
        let logins = &mut self.settling.logins;
        let Some(at) = logins.iter().position(|login| login.asker.session == asker.session) else { return };
        let login = &mut logins[at];
        let (state, reference) = (told.state, told.reference);
        login.resolved.outcomes[place] = Outcome { seller, sequence, state, reference };
        login.left -= 1;
        if login.left == 0 {
            let Waiting { asker, mut resolved, .. } = logins.swap_remove(at);
            self.resolve_own(&asker, &mut resolved);
            replies.reply(&asker, &Reply::Resolved(resolved));
        }
    }
}

impl Settling {
    /// Questions that are not answered yet.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    fn has_room(&self, questions: usize) -> bool {
        self.open.len() + questions <= SETTLING_MAX
    }

    fn ask(&mut self, asker: &Asker, settle: &Settle, place: Option<usize>, now: &Now) {
        let &Settle { seller, sequence, action, suite } = settle;
        self.next += 1;
        let number = self.next;
        let until_ms = now.monotonic_ms + SETTLE_MS_MAX;
        self.open.push(Open { number, asker: *asker, seller, sequence, place, until_ms });
        let asked = Asked { vend: asker.names(sequence), action, suite };
        self.questions.push(Question { number, seller, asked });
    }
}

fn settled(seller: SellerId, sequence: u64, told: &Told) -> Reply {
    let &Told { state, reference, sealed } = told;
    debug_assert!(sealed.is_none() || state != SequenceState::InDoubt, "a box comes with a state");
    Reply::Settled(Box::new(Settled { seller, sequence, state, reference, sealed }))
}
