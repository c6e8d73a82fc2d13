//! What must hold, judged from outside: from what terminals were told and what the disks say, never from the engine's
//! own counters.

use super::broken::{Concerned, broken};
use crate::ids::{KeyEpoch, PinId, SellerId, TerminalId};
use crate::journal::record::VendName;
use crate::ledger::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use wire::message::{Reply, SequenceState, Sold};

/// A sequence in the whole network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Sequence {
    pub(super) seller: SellerId,
    pub(super) vend: VendName,
}

impl Sequence {
    pub(super) fn new(seller: SellerId, terminal: TerminalId, key_epoch: KeyEpoch, sequence: u64) -> Self {
        Self { seller, vend: VendName { terminal, key_epoch, sequence } }
    }
}

/// Remembers every answer that reached a terminal.
#[derive(Default)]
pub(super) struct Oracle {
    pins: BTreeMap<PinId, (Vec<u8>, Vec<u8>)>,
    secrets: BTreeSet<Vec<u8>>,
    buyers: BTreeMap<PinId, Sequence>,
    voided: BTreeSet<PinId>,
    answers: BTreeMap<Sequence, Told>,
    copies: BTreeSet<(Sequence, u16)>,
    /// Sellers that have left, and in which step they heard so if they were started all the same: what they never sold is blocked,
    /// and nobody records it.
    closed: BTreeMap<SellerId, Option<u64>>,
    /// Sales that a terminal heard of.
    pub(super) sold: u64,
    /// When each sequence was first told to have a final state.
    ended_at: BTreeMap<Sequence, u64>,
    /// When each was first told to have any answer.
    told_at: BTreeMap<Sequence, u64>,
    /// The step that the run is in.
    pub(super) step: u64,
    /// The step in which the question was asked that is being answered. What was answered since does not bind the answer: it may
    /// have been on its way longer.
    pub(super) asked_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Sold(PinId, SequenceState),
    Declined,
    Blocked,
    /// Its seller was lost: settled by its late journal, or between people.
    Unsettled,
}

impl Oracle {
    /// A PIN exists in the network.
    pub(super) fn minted(&mut self, id: PinId, pin: Vec<u8>, serial: Vec<u8>) {
        self.secrets.insert(pin.clone());
        let twice = self.pins.insert(id, (pin, serial));
        assert!(twice.is_none(), "{id:?} was made twice");
    }

    /// A seller has left.
    pub(super) fn closed(&mut self, seller: SellerId) {
        self.closed.insert(seller, None);
    }

    /// A seller that has left and was started all the same is told so, and has stored it: from now on it knows, for ever.
    pub(super) fn heard_that_it_left(&mut self, seller: SellerId, step: u64) {
        self.closed.entry(seller).or_default().get_or_insert(step);
    }

    /// All PINs that exist.
    pub(super) fn pins(&self) -> impl Iterator<Item = PinId> {
        self.pins.keys().copied()
    }

    /// A terminal was given a PIN.
    pub(super) fn sold(&mut self, sequence: Sequence, sold: &Sold) {
        self.told_at.entry(sequence).or_insert(self.step);
        let pin = PinId(sold.reference);
        let fail = |law, what: String| broken(law, what, Concerned::sale(sequence, pin));
        let Some((secret, serial)) = self.pins.get(&pin) else {
            fail(1, format!("{sequence:?} got {pin:?}, which nobody made"))
        };
        if sold.pin.as_bytes() != secret || sold.serial.as_bytes() != serial {
            fail(4, format!("{sequence:?} got another PIN or serial than {pin:?} has"));
        }
        let buyer = *self.buyers.entry(pin).or_insert(sequence);
        if buyer != sequence {
            let mut concerned = Concerned::sale(sequence, pin);
            concerned.sequences.push(buyer);
            let law = if self.voided.contains(&pin) { 6 } else { 1 };
            broken(law, format!("{pin:?} was sold to {buyer:?} and then to {sequence:?}"), concerned);
        }
        if sold.copy > 0 && !self.copies.insert((sequence, sold.copy)) {
            fail(4, format!("{sequence:?}: copy {} twice", sold.copy));
        }
        if sold.copy > 3 {
            fail(4, format!("{sequence:?}: {} copies", sold.copy));
        }
        match self.answers.insert(sequence, Told::Sold(pin, SequenceState::Sold)) {
            None | Some(Told::Unsettled) => self.sold += 1,
            Some(Told::Sold(before, state)) => {
                if before != pin {
                    let mut concerned = Concerned::sale(sequence, pin);
                    concerned.pins.push(before);
                    broken(4, format!("{sequence:?} got {before:?} and then {pin:?}"), concerned);
                }
                self.answers.insert(sequence, Told::Sold(pin, state));
            }
            Some(told) => fail(4, format!("{sequence:?} was told {told:?} and then got {pin:?}")),
        }
    }

    /// A terminal was declined for good.
    pub(super) fn declined(&mut self, sequence: Sequence) {
        self.ended_at.entry(sequence).or_insert(self.step);
        self.told_at.entry(sequence).or_insert(self.step);
        let before = self.answers.insert(sequence, Told::Declined);
        let agrees = matches!(before, None | Some(Told::Declined | Told::Blocked | Told::Unsettled));
        if !agrees {
            let what = format!("{sequence:?} was told {before:?} and then declined");
            broken(4, what, Concerned::sequence(sequence));
        }
    }

    /// A terminal was told the state of a sequence, by its seller or through another.
    pub(super) fn state(&mut self, sequence: Sequence, state: SequenceState, reference: u64) {
        let before = self.answers.get(&sequence).copied();
        let pin = PinId(reference);
        let since = |map: &BTreeMap<Sequence, u64>| map.get(&sequence).is_some_and(|at| self.asked_at <= *at);
        // It may have been said before what is known by now, and have been on its way longer.
        let is_stale =
            if state == SequenceState::Open { since(&self.told_at) } else { since(&self.ended_at) };
        if is_stale && !state.is_final() {
            return;
        }
        if state.is_final() {
            self.ended_at.entry(sequence).or_insert(self.step);
        }
        if !matches!(state, SequenceState::Open | SequenceState::InDoubt) {
            self.told_at.entry(sequence).or_insert(self.step);
        }
        let after = match (before, state) {
            // Nothing new: in doubt is no answer, and what a lost seller had not reported nobody else knows.
            (_, SequenceState::InDoubt)
            | (Some(_), SequenceState::Unsettled)
            | (None | Some(Told::Unsettled), SequenceState::Open)
            | (Some(Told::Declined), SequenceState::Declined | SequenceState::Blocked)
            | (Some(Told::Blocked), SequenceState::Blocked) => before,
            // It has left, was started all the same, and did not know yet: it sells nothing, whatever it says.
            (Some(Told::Blocked), SequenceState::Open) if self.may_not_know_that_it_left(sequence.seller) => {
                before
            }
            (None, SequenceState::Unsettled) => Some(Told::Unsettled),
            (None | Some(Told::Unsettled), SequenceState::Blocked) => Some(Told::Blocked),
            (None | Some(Told::Unsettled), SequenceState::Declined) => Some(Told::Declined),
            (
                None | Some(Told::Unsettled),
                SequenceState::Sold | SequenceState::Confirmed | SequenceState::Voided,
            ) if reference != 0 => Some(Told::Sold(pin, state)),
            (
                Some(Told::Sold(had, told)),
                SequenceState::Sold | SequenceState::Confirmed | SequenceState::Voided,
            ) if reference == 0 || had == pin => {
                if told.is_final() && told != state {
                    let what = format!("{sequence:?} ({had:?}) was {told:?} for good and then {state:?}");
                    broken(4, what, Concerned::sale(sequence, had));
                }
                Some(Told::Sold(had, state))
            }
            (told, _) => {
                let what = format!("{sequence:?} was told {told:?} and is now {state:?} {pin:?}");
                let mut concerned = Concerned::sale(sequence, pin);
                concerned.pins.extend(match told {
                    Some(Told::Sold(had, _)) => Some(had),
                    _ => None,
                });
                broken(4, what, concerned)
            }
        };
        if let Some(Told::Sold(pin, SequenceState::Voided)) = after {
            self.voided.insert(pin);
        }
        if let Some(Told::Sold(pin, _)) = after {
            let buyer = *self.buyers.entry(pin).or_insert(sequence);
            if buyer != sequence {
                let mut concerned = Concerned::sale(sequence, pin);
                concerned.sequences.push(buyer);
                broken(1, format!("{pin:?} is said to be sold to {buyer:?} and {sequence:?}"), concerned);
            }
        }
        if let Some(after) = after {
            self.answers.insert(sequence, after);
        }
    }

    /// Whether a seller that has left had not heard so when it was asked what it answers now.
    fn may_not_know_that_it_left(&self, seller: SellerId) -> bool {
        self.closed.get(&seller).is_some_and(|heard_at| heard_at.is_none_or(|at| self.asked_at <= at))
    }

    /// Law 2: what a reply says that is leaving now is durable. `find` asks the books of a seller that lost power just before.
    pub(super) fn check_leaving(
        seller: SellerId,
        terminal: TerminalId,
        key_epoch: KeyEpoch,
        reply: &Reply,
        find: impl FnOnce(VendName) -> Option<Outcome>,
    ) {
        let (sequence, told) = match *reply {
            Reply::Sold(sold) => (sold.sequence, Told::Sold(PinId(sold.reference), SequenceState::Sold)),
            Reply::Declined { sequence, .. } => (sequence, Told::Declined),
            Reply::State { sequence, state, reference } => match told_by(state, reference) {
                Some(told) => (sequence, told),
                None => return,
            },
            _ => return,
        };
        let sequence = Sequence::new(seller, terminal, key_epoch, sequence);
        check(sequence, told, find(sequence.vend));
    }

    /// The same for what is said to a terminal at another seller.
    pub(super) fn check_telling(
        sequence: Sequence,
        state: SequenceState,
        reference: u64,
        find: impl FnOnce(VendName) -> Option<Outcome>,
    ) {
        if let Some(told) = told_by(state, reference) {
            check(sequence, told, find(sequence.vend));
        }
    }

    /// Law 2: everything that a terminal was told of a seller's sequences is in that seller's durable books.
    pub(super) fn check_books(&self, seller: SellerId, mut find: impl FnMut(VendName) -> Option<Outcome>) {
        for (&sequence, told) in self.answers.iter().filter(|(sequence, _)| sequence.seller == seller) {
            let found = find(sequence.vend);
            // What the hub says of a seller that has left is the hub's; started all the same, the seller may decline by itself.
            let has_no_pin = found.is_none_or(|outcome| outcome.pin.is_none());
            let is_the_hubs = *told == Told::Blocked && has_no_pin && self.closed.contains_key(&seller);
            if *told != Told::Unsettled && !is_the_hubs {
                check(sequence, *told, found);
            }
        }
    }

    /// Law 10: no PIN in clear.
    pub(super) fn check_clear(&self, whose: &str, bytes: &[u8]) {
        let mut digits = 0;
        for (at, byte) in bytes.iter().enumerate() {
            digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
            if digits >= PIN_DIGITS && self.secrets.contains(&bytes[at + 1 - PIN_DIGITS..=at]) {
                broken(10, format!("a PIN lies in clear in {whose}, at byte {at}"), Concerned::default());
            }
        }
    }
}

/// What a state says that must be durable before it is said.
fn told_by(state: SequenceState, reference: u64) -> Option<Told> {
    match state {
        SequenceState::Declined => Some(Told::Declined),
        SequenceState::Blocked => Some(Told::Blocked),
        SequenceState::Sold | SequenceState::Confirmed | SequenceState::Voided if reference != 0 => {
            Some(Told::Sold(PinId(reference), state))
        }
        _ => None,
    }
}

fn check(sequence: Sequence, told: Told, found: Option<Outcome>) {
    let holds = match (told, found) {
        (Told::Sold(pin, state), Some(outcome)) => {
            outcome.pin == Some(pin) && (!state.is_final() || outcome.state == state)
        }
        (Told::Declined, Some(outcome)) => {
            matches!(outcome.state, SequenceState::Declined | SequenceState::Blocked)
        }
        (Told::Blocked, Some(outcome)) => outcome.state == SequenceState::Blocked,
        (Told::Unsettled, _) => true,
        (_, None) => false,
    };
    if !holds {
        let what = format!("{sequence:?} was told {told:?}; the durable books say {found:?}");
        let mut concerned = Concerned::sequence(sequence);
        concerned.pins.extend(found.and_then(|outcome| outcome.pin));
        if let Told::Sold(pin, _) = told {
            concerned.pins.push(pin);
        }
        broken(2, what, concerned);
    }
}

/// Digits of a PIN that the simulator makes.
pub(super) const PIN_DIGITS: usize = 16;
