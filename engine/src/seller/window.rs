//! What a seller remembers of one terminal: the outcomes of its most recent sequences.
//!
//! A window holds the [`WINDOW`] sequences up to the highest one used. It slides when a higher one is used, and never
//! past a sequence without final state, so that a question can be repeated until its answer is known to have arrived.

use crate::ids::{KeyEpoch, PinId, VarietyId};
use crate::journal::Record;
use std::collections::VecDeque;
use wire::message::{DeclineReason, SequenceState, WINDOW};

/// The recent sequences of one terminal under one key epoch.
///
/// Sets of sequences are words: bit `i` stands for the sequence `top - i`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    key_epoch: KeyEpoch,
    /// The highest sequence used; 0: none.
    top: u64,
    /// Never used.
    open: u64,
    /// Sold, and neither confirmed nor voided.
    unsettled: u64,
    voided: u64,
    /// What came of the sequences up to `top`, the last `slots.len()` of them.
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

/// What came of a sequence, in 16 bytes, because there are very many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    /// The PIN sold, or the variety declined.
    subject: u64,
    /// When it was sold, in seconds of Unix time.
    at_s: u32,
    end: End,
    copies: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Open,
    Sold,
    Declined(DeclineReason),
    Blocked,
}

const OPEN: Slot = Slot { subject: 0, at_s: 0, end: End::Open, copies: 0 };
const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(WINDOW == u64::BITS as u64, "a set of sequences is a word");
/// A sold sequence that nobody confirmed or voided counts as confirmed after this long.
const UNCONFIRMED_S_MAX: u32 = 24 * 60 * 60;

impl Window {
    /// The window of a terminal that never asked under this key epoch.
    #[must_use]
    pub fn new(key_epoch: KeyEpoch) -> Self {
        Self { key_epoch, top: 0, open: 0, unsettled: 0, voided: 0, slots: VecDeque::new() }
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
        let bit = (self.open | self.unsettled).checked_ilog2();
        bit.map_or(self.top + 1, |bit| self.top - u64::from(bit))
    }

    /// A window read back from a checkpoint: the sequences up to `top`, each with the second of Unix time it was sold in.
    #[must_use]
    pub fn restore(key_epoch: KeyEpoch, top: u64, slots: impl IntoIterator<Item = (Answer, u32)>) -> Self {
        let mut window = Self { top, ..Self::new(key_epoch) };
        for (answer, at_s) in slots {
            window.slots.push_back(OPEN);
            for set in [&mut window.open, &mut window.unsettled, &mut window.voided] {
                *set <<= 1;
            }
            window.open |= 1;
            window.put(0, answer, at_s);
        }
        window
    }

    /// What [`Window::restore`] needs, in order.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (Answer, u32)> {
        (0..self.slots.len()).map(|index| (self.answer_at(index), self.slots[index].at_s))
    }

    /// All that the window holds: sequence and answer, in order.
    pub fn answers(&self) -> impl Iterator<Item = (u64, Answer)> {
        (self.bottom()..).zip(self.slots().map(|(answer, _)| answer))
    }

    /// Looks at what the next record changes; the value means nothing.
    pub(super) fn fetch(&self) -> u64 {
        self.slots.front().map_or(0, |oldest| oldest.subject)
    }

    /// What is known of a sequence.
    #[must_use]
    pub fn answer(&self, sequence: u64) -> Answer {
        if sequence > self.top {
            return Answer::Open;
        }
        self.index(sequence).map_or(Answer::Closed, |index| self.answer_at(index))
    }

    /// Whether a sequence may be used now by a vend that confirms those of `sequence - 1 - i` whose bit `i` is set.
    ///
    /// # Errors
    /// [`WindowFull`] if using it would slide the window past one without final state.
    pub fn admit(&self, sequence: u64, confirmed: u64) -> Result<(), WindowFull> {
        let not_final = self.open | self.unsettled & !self.set_of(sequence, confirmed);
        let leaving = match sequence.saturating_sub(self.top) {
            0 => 0,
            // Of those between, the lowest would leave without ever having been used.
            steps if steps > WINDOW => return Err(WindowFull),
            steps => u64::MAX << (WINDOW - steps),
        };
        if not_final & leaving == 0 { Ok(()) } else { Err(WindowFull) }
    }

    /// Those of the sequences `below - 1 - i` for the set bits `i` that are sold and not yet confirmed or voided.
    #[must_use]
    pub fn news_of(&self, below: u64, confirmed: u64) -> u64 {
        let news = self.unsettled & self.set_of(below, confirmed);
        let next = self.top + 1;
        if below >= next { shift_left(news, below - next) } else { shift_right(news, next - below) }
    }

    /// The sold sequences that have waited too long for a confirmation, as bits for [`Window::next_sequence`].
    #[must_use]
    pub fn aged(&self, now_ms: u64) -> u64 {
        let now_s = seconds(now_ms);
        let newest_first = self.slots.iter().rev().enumerate();
        let aged = newest_first.filter(|(_, slot)| now_s.saturating_sub(slot.at_s) >= UNCONFIRMED_S_MAX);
        self.unsettled & aged.map(|(bit, _)| 1 << bit).sum::<u64>()
    }

    /// Takes in a durable or soon to be durable fact about this terminal and key epoch. The one place where a window
    /// changes, live and in recovery. Sequences that leave the window are given to `left`, once each, in order.
    pub fn apply(&mut self, record: &Record, mut left: impl FnMut(u64, Answer)) {
        match *record {
            Record::Sold { vend, pin, confirmed, at_ms, .. } => {
                self.confirm(vend.sequence, confirmed);
                let answer = Answer::Sold { pin, state: SequenceState::Sold, copies: 0 };
                self.set(vend.sequence, answer, seconds(at_ms), &mut left);
            }
            Record::Declined { vend, reason, variety, confirmed, .. } => {
                self.confirm(vend.sequence, confirmed);
                self.set(vend.sequence, Answer::Declined { reason, variety }, 0, &mut left);
            }
            Record::Confirmed { vend, confirmed, .. } => self.confirm(vend.sequence, confirmed),
            Record::Voided { vend, .. } => {
                let voided = self.unsettled & self.set_of(vend.sequence + 1, 1);
                self.unsettled &= !voided;
                self.voided |= voided;
            }
            Record::Blocked { vend, .. } => self.set(vend.sequence, Answer::Blocked, 0, &mut left),
            Record::Reprinted { vend, .. } => {
                if let Some(index) = self.index(vend.sequence) {
                    let slot = &mut self.slots[index];
                    slot.copies = slot.copies.saturating_add(1);
                }
            }
            Record::Withdrawn { .. }
            | Record::Received(_)
            | Record::Refused(_)
            | Record::Given(_)
            | Record::Settled { .. }
            | Record::Below { .. } => {}
        }
    }

    fn confirm(&mut self, below: u64, confirmed: u64) {
        self.unsettled &= !self.set_of(below, confirmed);
    }

    fn set(&mut self, sequence: u64, answer: Answer, at_s: u32, left: &mut impl FnMut(u64, Answer)) {
        while self.top < sequence {
            if self.slots.len() as u64 == WINDOW {
                left(self.bottom(), self.answer_at(0));
                self.slots.pop_front();
            }
            self.slots.push_back(OPEN);
            self.open = self.open << 1 | 1;
            self.unsettled <<= 1;
            self.voided <<= 1;
            self.top += 1;
        }
        let bit = self.top - sequence;
        if bit < self.slots.len() as u64 {
            self.put(bit, answer, at_s);
        }
    }

    /// Writes an answer in place of the one of the sequence `top - bit`, which is in the window.
    fn put(&mut self, bit: u64, answer: Answer, at_s: u32) {
        let (end, subject, copies) = match answer {
            Answer::Sold { pin, copies, .. } => (End::Sold, pin.0, copies),
            Answer::Declined { reason, variety } => (End::Declined(reason), u64::from(variety.0), 0),
            Answer::Blocked => (End::Blocked, 0, 0),
            Answer::Open | Answer::Closed => (End::Open, 0, 0),
        };
        let state = answer.state();
        for (set, is_in) in [
            (&mut self.open, end == End::Open),
            (&mut self.unsettled, state == SequenceState::Sold),
            (&mut self.voided, state == SequenceState::Voided),
        ] {
            *set = *set & !(1 << bit) | u64::from(is_in) << bit;
        }
        let index = self.slots.len() - 1 - bit as usize;
        self.slots[index] = Slot { subject, at_s, end, copies };
    }

    fn answer_at(&self, index: usize) -> Answer {
        let Slot { subject, end, copies, .. } = self.slots[index];
        match end {
            End::Open => Answer::Open,
            End::Sold => {
                let bit = 1 << (self.slots.len() - 1 - index);
                let state = match () {
                    () if self.unsettled & bit != 0 => SequenceState::Sold,
                    () if self.voided & bit != 0 => SequenceState::Voided,
                    () => SequenceState::Confirmed,
                };
                Answer::Sold { pin: PinId(subject), state, copies }
            }
            End::Declined(reason) => Answer::Declined { reason, variety: VarietyId(subject as u32) },
            End::Blocked => Answer::Blocked,
        }
    }

    /// The sequences `below - 1 - i` for the set bits `i`, as a set of this window.
    fn set_of(&self, below: u64, bits: u64) -> u64 {
        let next = self.top + 1;
        if below >= next { shift_right(bits, below - next) } else { shift_left(bits, next - below) }
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

/// Shifts by any number of bits.
fn shift_left(set: u64, bits: u64) -> u64 {
    if bits < u64::from(u64::BITS) { set << bits } else { 0 }
}

fn shift_right(set: u64, bits: u64) -> u64 {
    if bits < u64::from(u64::BITS) { set >> bits } else { 0 }
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TerminalId;
    use crate::journal::record::VendName;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The same window as a plain map, every rule read off its definition.
    #[derive(Default)]
    struct Plain {
        top: u64,
        answers: BTreeMap<u64, Answer>,
    }

    impl Plain {
        fn answer(&self, sequence: u64) -> Answer {
            if sequence > self.top {
                return Answer::Open;
            }
            self.answers.get(&sequence).copied().unwrap_or(Answer::Closed)
        }

        fn confirm(&mut self, below: u64, confirmed: u64) {
            for bit in (0..64).filter(|bit| confirmed >> bit & 1 == 1) {
                let answer = below.checked_sub(1 + bit).and_then(|sequence| self.answers.get_mut(&sequence));
                if let Some(Answer::Sold { state: state @ SequenceState::Sold, .. }) = answer {
                    *state = SequenceState::Confirmed;
                }
            }
        }

        fn admits(&self, sequence: u64, confirmed: u64) -> bool {
            let mut after = Self { top: self.top, answers: self.answers.clone() };
            after.confirm(sequence, confirmed);
            after.answers.extend((self.top + 1..sequence).map(|skipped| (skipped, Answer::Open)));
            let kept = sequence.saturating_sub(WINDOW - 1);
            after.answers.range(..kept).all(|(_, answer)| answer.state().is_final())
        }

        fn set(&mut self, sequence: u64, answer: Answer) -> Vec<(u64, Answer)> {
            self.answers.extend((self.top + 1..=sequence).map(|skipped| (skipped, Answer::Open)));
            self.top = self.top.max(sequence);
            let kept = self.answers.split_off(&(self.top + 1).saturating_sub(WINDOW));
            let left = std::mem::replace(&mut self.answers, kept);
            self.answers.insert(sequence, answer);
            left.into_iter().collect()
        }
    }

    proptest! {
        #[test]
        fn a_window_is_the_map_of_its_last_sequences(
            steps in prop::collection::vec((0u8..8, 0u64..70, any::<u64>()), 1..300)
        ) {
            let (mut window, mut plain) = (Window::new(KeyEpoch(1)), Plain::default());
            for (step, (kind, distance, bits)) in steps.into_iter().enumerate() {
                // Mostly the next one, at times one before or one far above.
                let sequence = match kind {
                    0..4 => plain.top + 1,
                    4 => plain.top + distance,
                    _ => plain.top.saturating_sub(distance),
                };
                let vend = VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence };
                prop_assert_eq!(window.answer(sequence), plain.answer(sequence));
                let is_open = plain.answer(sequence) == Answer::Open;
                let admitted = plain.admits(sequence, bits);
                if is_open {
                    prop_assert_eq!(window.admit(sequence, bits).is_ok(), admitted, "{} after {}", sequence, plain.top);
                }
                let pin = PinId(step as u64);
                let record = match kind {
                    7 => Record::Confirmed { vend, confirmed: bits, at_ms: 0 },
                    6 if !is_open => Record::Voided { vend, pin, variety: VarietyId(1), at_ms: 0 },
                    5 if matches!(plain.answer(sequence), Answer::Sold { .. }) => Record::Reprinted { vend, pin, at_ms: 0 },
                    _ if !is_open || !admitted => continue,
                    3 => Record::Declined {
                        vend, reason: DeclineReason::OutOfStock, variety: VarietyId(2), confirmed: bits, at_ms: 0
                    },
                    _ => Record::Sold { vend, pin, variety: VarietyId(1), confirmed: bits, at_ms: 0 },
                };
                let mut left = Vec::new();
                window.apply(&record, |sequence, answer| left.push((sequence, answer)));
                let mut expected = Vec::new();
                match record {
                    Record::Confirmed { .. } => plain.confirm(sequence, bits),
                    Record::Voided { .. } => {
                        if let Some(Answer::Sold { state: state @ SequenceState::Sold, .. }) =
                            plain.answers.get_mut(&sequence)
                        {
                            *state = SequenceState::Voided;
                        }
                    }
                    Record::Reprinted { .. } => {
                        if let Some(Answer::Sold { copies, .. }) = plain.answers.get_mut(&sequence) {
                            *copies = copies.saturating_add(1);
                        }
                    }
                    Record::Declined { reason, variety, .. } => {
                        plain.confirm(sequence, bits);
                        expected = plain.set(sequence, Answer::Declined { reason, variety });
                    }
                    _ => {
                        plain.confirm(sequence, bits);
                        let answer = Answer::Sold { pin, state: SequenceState::Sold, copies: 0 };
                        expected = plain.set(sequence, answer);
                    }
                }
                prop_assert_eq!(left, expected);
                let answers: Vec<_> = window.answers().collect();
                prop_assert_eq!(answers, plain.answers.clone().into_iter().collect::<Vec<_>>());
                let open = plain.answers.iter().find(|(_, answer)| !answer.state().is_final());
                prop_assert_eq!(window.base(), open.map_or(plain.top + 1, |(sequence, _)| *sequence));
                let restored = Window::restore(KeyEpoch(1), plain.top, window.slots());
                prop_assert_eq!(&restored, &window);
                let news = window.news_of(sequence, bits);
                prop_assert_eq!(news & !bits, 0);
                for bit in 0..64 {
                    let sold = sequence.checked_sub(1 + bit).is_some_and(|below| {
                        below <= plain.top && plain.answer(below).state() == SequenceState::Sold
                    });
                    prop_assert_eq!(news >> bit & 1 == 1, sold && bits >> bit & 1 == 1);
                }
            }
        }
    }
}
