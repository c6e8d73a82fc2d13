//! Vends: from the request to the record and the reply.

use super::{Asker, Parked, Replies, Seller, Service, later, refuse, sold, state_of};
use crate::ids::{Span, VarietyId};
use crate::journal::Record;
use crate::journal::record::WithdrawReason;
use crate::limits::{PARK_MS_MAX, PARKED_VENDS_MAX};
use crate::planted::{self, Fault};
use crate::registry::State;
use crate::seller::{Answer, Sealed};
use crate::time::Now;
use wire::message::{Attempt, DeclineReason, LaterReason, RefuseReason, Reply, SequenceState, Vend};

impl<S: Sealed> Seller<S> {
    pub(super) fn vend(&mut self, asker: &Asker, vend: &Vend, now: &Now, replies: &mut impl Replies) {
        let Some(window) = self.windows.window(asker.terminal, asker.key_epoch) else {
            return refuse(asker, vend.sequence, RefuseReason::Closed, replies);
        };
        match window.answer(vend.sequence) {
            Answer::Closed => refuse(asker, vend.sequence, RefuseReason::Closed, replies),
            Answer::Open if window.admit(vend.sequence, vend.confirmed).is_ok() => {
                self.vend_open(asker, vend, now, replies);
            }
            Answer::Open => self.vend_beyond(asker, vend, now, replies),
            answer => {
                let news = window.news_of(vend.sequence, vend.confirmed);
                self.note_confirmed(asker, vend.sequence, news, now);
                self.vend_again(asker, vend, &answer, replies);
            }
        }
    }

    /// A vend that fits the window. The record of its sale or decline carries what it confirms; without one, that is
    /// recorded by itself.
    fn vend_open(&mut self, asker: &Asker, vend: &Vend, now: &Now, replies: &mut impl Replies) {
        if self.sell_open(asker, vend, now, replies) {
            return;
        }
        let Some(window) = self.windows.window(asker.terminal, asker.key_epoch) else { return };
        let news = window.news_of(vend.sequence, vend.confirmed);
        self.note_confirmed(asker, vend.sequence, news, now);
    }

    /// A vend for which there is no room in the window, unless old sales count as confirmed.
    fn vend_beyond(&mut self, asker: &Asker, vend: &Vend, now: &Now, replies: &mut impl Replies) {
        let (terminal, key_epoch) = (asker.terminal, asker.key_epoch);
        let Some(window) = self.windows.window(terminal, key_epoch) else { return };
        let (next, aged) = (window.next_sequence(), window.aged(now.unix_ms));
        self.note_confirmed(asker, next, aged, now);
        let Some(window) = self.windows.window(terminal, key_epoch) else { return };
        if window.admit(vend.sequence, vend.confirmed).is_ok() {
            return self.vend_open(asker, vend, now, replies);
        }
        let news = window.news_of(vend.sequence, vend.confirmed);
        self.note_confirmed(asker, vend.sequence, news, now);
        refuse(asker, vend.sequence, RefuseReason::WindowFull, replies);
    }

    /// A vend for a sequence that was answered before.
    fn vend_again(&mut self, asker: &Asker, vend: &Vend, answer: &Answer, replies: &mut impl Replies) {
        let refuse = |reason, replies: &mut _| refuse(asker, vend.sequence, reason, replies);
        if vend.attempt == Attempt::First {
            return refuse(RefuseReason::SequenceUsed, replies);
        }
        let asked = self.registry.variety_by_face(vend.product, vend.face_value);
        // A registry that does not know what is asked for, as an early one may after a start on a full disk, cannot tell.
        let is_other = |variety: VarietyId| asked.is_some_and(|asked| asked != variety);
        match *answer {
            Answer::Sold { pin, state, .. } => {
                let Some(shelf) = self.library.shelf(pin) else {
                    return later(asker, vend.sequence, LaterReason::Busy, replies);
                };
                if is_other(shelf.variety) {
                    refuse(RefuseReason::OtherVariety, replies);
                } else if asked.is_none() {
                    later(asker, vend.sequence, LaterReason::Busy, replies);
                } else if state == SequenceState::Voided {
                    replies.reply(asker, &state_of(vend.sequence, answer));
                } else {
                    self.reply_sold(asker, vend.sequence, pin, 0, replies);
                }
            }
            Answer::Declined { variety, .. } if variety != VarietyId(0) && is_other(variety) => {
                refuse(RefuseReason::OtherVariety, replies);
            }
            Answer::Declined { reason, .. } => {
                replies.reply(asker, &Reply::Declined { sequence: vend.sequence, reason });
            }
            Answer::Blocked => {
                let reason = DeclineReason::Blocked;
                replies.reply(asker, &Reply::Declined { sequence: vend.sequence, reason });
            }
            Answer::Open | Answer::Closed => unreachable!("such a sequence has no answer"),
        }
    }

    /// A vend for a sequence that has no answer yet and fits the window. Whether it has one now: a sale or a decline.
    pub(super) fn sell_open(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        now: &Now,
        replies: &mut impl Replies,
    ) -> bool {
        if self.stopping || self.service != Service::Open {
            later(asker, vend.sequence, LaterReason::Stopping, replies);
            return false;
        }
        // It waits no longer, whatever comes of it now: else it could get a PIN after a final decline.
        self.unpark(|parked| parked.asker.is_same_vend(parked.vend.sequence, asker, vend.sequence));
        let variety = self.registry.variety_by_face(vend.product, vend.face_value);
        let active = self.registry.dealer(asker.dealer).is_some_and(|dealer| dealer.state == State::Active);
        match variety {
            _ if !active => {
                let variety = variety.unwrap_or(VarietyId(0));
                self.decline(asker, vend, DeclineReason::DealerInactive, variety, now, replies)
            }
            None => self.decline(asker, vend, DeclineReason::NoSuchVariety, VarietyId(0), now, replies),
            Some(variety) => self.sell(asker, vend, variety, now, replies),
        }
    }

    /// Claims, opens and records; or parks the vend until a PIN arrives. Whether it is sold.
    fn sell(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        variety: VarietyId,
        now: &Now,
        replies: &mut impl Replies,
    ) -> bool {
        let first_day = self.first_day(variety, now);
        loop {
            // One record for the sale and one for a damaged PIN in its place: nothing may fail after the claim.
            if !self.reserve(2) {
                later(asker, vend.sequence, LaterReason::Disk, replies);
                return false;
            }
            let lane = self.lanes.get_mut(&variety);
            let Some((pin, shelf)) = lane.and_then(|lane| lane.claim(|shelf| shelf.last_day >= first_day))
            else {
                self.park(asker, vend, variety, now, replies);
                return false;
            };
            let Some((secret, serial)) = shelf.content.open(pin.index()) else {
                let at = u32::from(pin.index());
                let span = Span { block: pin.block(), start: at, end: at + 1 };
                let reason = WithdrawReason::Damaged;
                self.record(&Record::Withdrawn { span, variety, reason, at_ms: now.unix_ms });
                continue;
            };
            let expiry = shelf.content.expiry();
            let vend_name = asker.names(vend.sequence);
            let confirmed = vend.confirmed;
            self.record(&Record::Sold { vend: vend_name, pin, variety, confirmed, at_ms: now.unix_ms });
            let waiting = self.parked.iter().map(|parked| &parked.asker).find(|waiting| *waiting != asker);
            let to = if planted::is(Fault::AnswerAnotherTerminal) { waiting.unwrap_or(asker) } else { asker };
            replies.reply(to, &sold(vend.sequence, pin, 0, expiry, secret, serial));
            self.tally.sold += 1;
            return true;
        }
    }

    fn park(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        variety: VarietyId,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        if self.parked.len() >= PARKED_VENDS_MAX {
            return later(asker, vend.sequence, LaterReason::Busy, replies);
        }
        let wait_ms = u64::from(vend.deadline_ms).min(PARK_MS_MAX);
        let until_ms = now.monotonic_ms + wait_ms;
        self.parked.push(Parked { asker: *asker, vend: *vend, variety, until_ms });
        self.dry.push(variety);
    }

    /// Ends the sequence without a PIN, if there is room for the record. Whether there was.
    pub(super) fn decline(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        reason: DeclineReason,
        variety: VarietyId,
        now: &Now,
        replies: &mut impl Replies,
    ) -> bool {
        if !self.reserve(1) {
            later(asker, vend.sequence, LaterReason::Disk, replies);
            return false;
        }
        let (vend, confirmed) = (asker.names(vend.sequence), vend.confirmed);
        self.record(&Record::Declined { vend, reason, variety, confirmed, at_ms: now.unix_ms });
        replies.reply(asker, &Reply::Declined { sequence: vend.sequence, reason });
        true
    }
}
