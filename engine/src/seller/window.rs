//! What a seller remembers of one terminal: the outcomes of its most recent sequences.
//!
//! A window holds the [`WINDOW`] sequences up to the highest one used. It slides when a higher one is used, and never
//! past a sequence without final state, so that a question can be repeated until its answer is known to have arrived.

use crate::ids::{KeyEpoch, PinId, VarietyId};
use crate::journal::Record;
use std::collections::VecDeque;
use wire::message::{DeclineReason, SequenceState, WINDOW};

/// The recent sequences of one terminal under one key epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    key_epoch: KeyEpoch,
    /// The highest sequence used; 0: none.
    top: u64,
    /// The outcomes of the sequences up to `top`, the last `slots.len()` of them.
    slots: VecDeque<Slot>,
}

/// The remembered answer to a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// No answer yet.
    Open,
    /// A PIN was sold; `state` is Sold, Confirmed or Voided.
    Sold {
        /// The PIN.
        pin: PinId,
        /// Whether it was confirmed or voided.
        state: SequenceState,
        /// How often it was reprinted.
        copies: u8,
    },
    /// Declined for good.
    Declined {
        /// Why.
        reason: DeclineReason,
        /// What was asked for; 0 if there is no such variety.
        variety: VarietyId,
    },
    /// Voided before it was sold.
    Blocked,
    /// Below the window: only the history knows.
    Closed,
}

/// A sequence lies so far above one without final state that the window cannot reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowFull;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    answer: Answer,
    /// When it was sold, in seconds of Unix time.
    at_s: u32,
}

const OPEN: Slot = Slot { answer: Answer::Open, at_s: 0 };
/// A sold sequence that nobody confirmed or voided counts as confirmed after this long.
const UNCONFIRMED_S_MAX: u32 = 24 * 60 * 60;

impl Window {
    /// The window of a terminal that never asked under this key epoch.
    #[must_use]
    pub fn new(key_epoch: KeyEpoch) -> Self {
        Self { key_epoch, top: 0, slots: VecDeque::new() }
    }

    /// The key epoch whose sequences these are.
    #[must_use]
    pub fn key_epoch(&self) -> KeyEpoch {
        self.key_epoch
    }

    /// The lowest sequence never used.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.top + 1
    }

    /// The lowest sequence without final state; [`Window::next_sequence`] if there is none.
    #[must_use]
    pub fn base(&self) -> u64 {
        let open = self.slots.iter().position(|slot| !slot.answer.state().is_final());
        open.map_or(self.top + 1, |index| self.bottom() + index as u64)
    }

    /// A window read back from a checkpoint: the sequences up to `top`, each with the second of Unix time it was sold in.
    #[must_use]
    pub fn restore(key_epoch: KeyEpoch, top: u64, slots: impl IntoIterator<Item = (Answer, u32)>) -> Self {
        let slots = slots.into_iter().map(|(answer, at_s)| Slot { answer, at_s }).collect();
        Self { key_epoch, top, slots }
    }

    /// What [`Window::restore`] needs, in order.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (Answer, u32)> {
        self.slots.iter().map(|slot| (slot.answer, slot.at_s))
    }

    /// All that the window holds: sequence and answer, in order.
    pub fn answers(&self) -> impl Iterator<Item = (u64, Answer)> {
        (self.bottom()..).zip(self.slots.iter().map(|slot| slot.answer))
    }

    /// What is known of a sequence.
    #[must_use]
    pub fn answer(&self, sequence: u64) -> Answer {
        if sequence > self.top {
            return Answer::Open;
        }
        self.index(sequence).map_or(Answer::Closed, |index| self.slots[index].answer)
    }

    /// Whether a sequence may be used now.
    ///
    /// # Errors
    /// [`WindowFull`] if using it would slide the window past one without final state.
    pub fn admit(&self, sequence: u64) -> Result<(), WindowFull> {
        let lowest_kept = sequence.saturating_sub(WINDOW - 1);
        let pushed_out = lowest_kept.saturating_sub(self.bottom());
        // No more than these are looked at: nearly always none or one. What was never used is not final either.
        let leaving = self.slots.iter().take(usize::try_from(pushed_out).unwrap_or(usize::MAX));
        let final_ones = leaving.take_while(|slot| slot.answer.state().is_final()).count();
        if final_ones as u64 == pushed_out { Ok(()) } else { Err(WindowFull) }
    }

    /// Those of the sequences `below - 1 - i` for the set bits `i` that are sold and not yet confirmed or voided.
    #[must_use]
    pub fn news_of(&self, below: u64, confirmed: u64) -> u64 {
        let mut news = 0;
        let mut left = confirmed;
        while left != 0 {
            let bit = u64::from(left.trailing_zeros());
            left &= left - 1;
            if let Some(sequence) = below.checked_sub(1 + bit)
                && self.answer(sequence).state() == SequenceState::Sold
            {
                news |= 1 << bit;
            }
        }
        news
    }

    /// The sold sequences that have waited too long for a confirmation, as bits for [`Window::next_sequence`].
    #[must_use]
    pub fn aged(&self, now_ms: u64) -> u64 {
        let now_s = seconds(now_ms);
        let aged = self.slots.iter().rev().enumerate().filter(|(_, slot)| {
            slot.answer.state() == SequenceState::Sold && now_s.saturating_sub(slot.at_s) >= UNCONFIRMED_S_MAX
        });
        aged.map(|(bit, _)| 1 << bit).sum()
    }

    /// Takes in a durable or soon to be durable fact about this terminal and key epoch. The one place where a window
    /// changes, live and in recovery. Sequences that leave the window are given to `left`, once each, in order.
    pub fn apply(&mut self, record: &Record, mut left: impl FnMut(u64, Answer)) {
        match *record {
            Record::Sold { vend, pin, confirmed, at_ms, .. } => {
                self.confirm(vend.sequence, confirmed);
                let answer = Answer::Sold { pin, state: SequenceState::Sold, copies: 0 };
                self.set(vend.sequence, Slot { answer, at_s: seconds(at_ms) }, &mut left);
            }
            Record::Declined { vend, reason, variety, confirmed, .. } => {
                self.confirm(vend.sequence, confirmed);
                let slot = Slot { answer: Answer::Declined { reason, variety }, at_s: 0 };
                self.set(vend.sequence, slot, &mut left);
            }
            Record::Confirmed { vend, confirmed, .. } => self.confirm(vend.sequence, confirmed),
            Record::Voided { vend, .. } => self.settle(vend.sequence, SequenceState::Voided),
            Record::Blocked { vend, .. } => {
                self.set(vend.sequence, Slot { answer: Answer::Blocked, at_s: 0 }, &mut left);
            }
            Record::Reprinted { vend, .. } => {
                if let Some(Answer::Sold { copies, .. }) = self.answer_mut(vend.sequence) {
                    *copies = copies.saturating_add(1);
                }
            }
            Record::Withdrawn { .. }
            | Record::Received(_)
            | Record::Refused(_)
            | Record::Given(_)
            | Record::Settled { .. } => {}
        }
    }

    fn confirm(&mut self, below: u64, confirmed: u64) {
        let mut left = self.news_of(below, confirmed);
        while left != 0 {
            let bit = u64::from(left.trailing_zeros());
            left &= left - 1;
            self.settle(below - 1 - bit, SequenceState::Confirmed);
        }
    }

    fn settle(&mut self, sequence: u64, to: SequenceState) {
        if let Some(Answer::Sold { state: state @ SequenceState::Sold, .. }) = self.answer_mut(sequence) {
            *state = to;
        }
    }

    fn set(&mut self, sequence: u64, slot: Slot, left: &mut impl FnMut(u64, Answer)) {
        while self.top < sequence {
            if self.slots.len() as u64 == WINDOW
                && let Some(oldest) = self.slots.pop_front()
            {
                left(self.top + 1 - WINDOW, oldest.answer);
            }
            self.slots.push_back(OPEN);
            self.top += 1;
        }
        if let Some(index) = self.index(sequence) {
            self.slots[index] = slot;
        }
    }

    fn answer_mut(&mut self, sequence: u64) -> Option<&mut Answer> {
        let index = self.index(sequence)?;
        Some(&mut self.slots[index].answer)
    }

    /// The lowest sequence in the window.
    fn bottom(&self) -> u64 {
        self.top + 1 - self.slots.len() as u64
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        let index = sequence.checked_sub(self.bottom())?;
        usize::try_from(index).ok().filter(|index| *index < self.slots.len())
    }
}

impl Answer {
    /// The state that a terminal is told.
    #[must_use]
    pub fn state(&self) -> SequenceState {
        match self {
            Self::Open => SequenceState::Open,
            Self::Sold { state, .. } => *state,
            Self::Declined { .. } => SequenceState::Declined,
            Self::Blocked => SequenceState::Blocked,
            // A final one, but which, only the history can say.
            Self::Closed => SequenceState::InDoubt,
        }
    }

    /// The sale's reference; 0 if there is none.
    #[must_use]
    pub fn reference(&self) -> u64 {
        if let Self::Sold { pin, .. } = self { pin.0 } else { 0 }
    }
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}
