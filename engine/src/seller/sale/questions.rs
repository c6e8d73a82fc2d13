//! What a terminal asks about its sequences: confirm, void, status, reprint, and what it brings to its login.

use super::{Asker, Lookup, Replies, Seller, Service, later, refuse, state_of};
use crate::ids::{PinId, SellerId, VarietyId};
use crate::journal::Record;
use crate::limits::REPRINTS_MAX;
use crate::seller::{Answer, Sealed};
use crate::time::Now;
use wire::message::{
    LaterReason, Login, Outcome, RefuseReason, Resolved, SequenceState, Sold, UNRESOLVED_MAX,
};

impl<S: Sealed> Seller<S> {
    pub(super) fn confirm(&mut self, asker: &Asker, sequence: u64, now: &Now, replies: &mut impl Replies) {
        match self.answer(asker, sequence) {
            Answer::Closed => self.look_up(asker, sequence, false, replies),
            Answer::Open => refuse(asker, sequence, RefuseReason::NothingSold, replies),
            Answer::Sold { state: SequenceState::Sold, .. }
                if !self.note_confirmed(asker, sequence + 1, 1, now) =>
            {
                later(asker, sequence, LaterReason::Disk, replies);
            }
            _ => self.status(asker, sequence, replies),
        }
    }

    pub(super) fn void(&mut self, asker: &Asker, sequence: u64, now: &Now, replies: &mut impl Replies) {
        let vend = asker.names(sequence);
        let at_ms = now.unix_ms;
        let fact = match self.answer(asker, sequence) {
            Answer::Closed => return self.look_up(asker, sequence, false, replies),
            Answer::Open => {
                let window = self.windows.window(asker.terminal, asker.key_epoch);
                if window.is_none_or(|window| window.admit(sequence, 0).is_err()) {
                    return refuse(asker, sequence, RefuseReason::WindowFull, replies);
                }
                Some(Record::Blocked { vend, at_ms })
            }
            Answer::Sold { pin, state: SequenceState::Sold, .. } => {
                let variety = self.library.shelf(pin).map_or(VarietyId(0), |shelf| shelf.variety);
                Some(Record::Voided { vend, pin, variety, at_ms })
            }
            Answer::Sold { .. } | Answer::Declined { .. } | Answer::Blocked => None,
        };
        if let Some(fact) = fact {
            if !self.reserve(1) {
                return later(asker, sequence, LaterReason::Disk, replies);
            }
            self.unpark(|parked| parked.asker.is_same_vend(parked.vend.sequence, asker, sequence));
            self.record(&fact);
        }
        self.status(asker, sequence, replies);
    }

    pub(super) fn status(&mut self, asker: &Asker, sequence: u64, replies: &mut impl Replies) {
        match self.answer(asker, sequence) {
            Answer::Closed => self.look_up(asker, sequence, false, replies),
            Answer::Open if self.has_left() => later(asker, sequence, LaterReason::Stopping, replies),
            answer => replies.reply(asker, &state_of(sequence, &answer)),
        }
    }

    /// Whether the hub may have said by now that what was never sold here never will be: it is not called open any more.
    fn has_left(&self) -> bool {
        self.service == Service::Closed
    }

    pub(super) fn reprint(&mut self, asker: &Asker, sequence: u64, now: &Now, replies: &mut impl Replies) {
        match self.answer(asker, sequence) {
            Answer::Closed => self.look_up(asker, sequence, true, replies),
            Answer::Sold { state: SequenceState::Voided, .. }
            | Answer::Open
            | Answer::Declined { .. }
            | Answer::Blocked => refuse(asker, sequence, RefuseReason::NothingSold, replies),
            Answer::Sold { pin, copies, .. } => self.reprint_sold(asker, sequence, pin, copies, now, replies),
        }
    }

    pub(super) fn reprint_sold(
        &mut self,
        asker: &Asker,
        sequence: u64,
        pin: PinId,
        copies: u8,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        if copies >= REPRINTS_MAX {
            return refuse(asker, sequence, RefuseReason::ReprintLimit, replies);
        }
        if !self.reserve(1) {
            return later(asker, sequence, LaterReason::Disk, replies);
        }
        self.record(&Record::Reprinted { vend: asker.names(sequence), pin, at_ms: now.unix_ms });
        self.reply_sold(asker, sequence, pin, u16::from(copies) + 1, replies);
    }

    /// The PIN of a sequence in the window that was sold and not voided, as it was sold.
    pub fn sold_again(&mut self, asker: &Asker, sequence: u64) -> Option<Sold> {
        match self.answer(asker, sequence) {
            Answer::Sold { pin, state, .. } if state != SequenceState::Voided => self.open(sequence, pin, 0),
            _ => None,
        }
    }

    /// What a login brings, each still in doubt.
    pub(super) fn brought_by(login: &Login) -> Resolved {
        let unknown = Outcome { seller: SellerId(0), sequence: 0, state: SequenceState::Open, reference: 0 };
        let mut resolved = Resolved { count: login.count, outcomes: [unknown; UNRESOLVED_MAX] };
        let brought = &login.unresolved[..usize::from(login.count).min(UNRESOLVED_MAX)];
        for (outcome, &(seller, sequence)) in resolved.outcomes.iter_mut().zip(brought) {
            *outcome = Outcome { seller, sequence, state: SequenceState::InDoubt, reference: 0 };
        }
        resolved
    }

    /// Says of this seller's own sequences what they are now: what comes of them may come while others are asked.
    pub(super) fn resolve_own(&mut self, asker: &Asker, resolved: &mut Resolved) {
        let brought = usize::from(resolved.count).min(UNRESOLVED_MAX);
        for outcome in &mut resolved.outcomes[..brought] {
            if outcome.seller == self.id {
                let answer = self.answer(asker, outcome.sequence);
                (outcome.state, outcome.reference) = match answer {
                    Answer::Open if self.has_left() => (SequenceState::InDoubt, 0),
                    answer => (answer.state(), answer.reference()),
                };
            }
        }
    }

    pub(super) fn answer(&mut self, asker: &Asker, sequence: u64) -> Answer {
        let window = self.windows.window(asker.terminal, asker.key_epoch);
        window.map_or(Answer::Closed, |window| window.answer(sequence))
    }

    fn look_up(&mut self, asker: &Asker, sequence: u64, reprint: bool, replies: &mut impl Replies) {
        if sequence == 0 {
            return refuse(asker, sequence, RefuseReason::NothingSold, replies);
        }
        if reprint && !self.reprinting.insert(asker.names(sequence)) {
            return later(asker, sequence, LaterReason::Busy, replies);
        }
        self.lookups.push(Lookup { asker: *asker, reprint, sequence });
    }
}
