//! What must hold, judged from outside: from what terminals were told and what the disks say, never from the engine's
//! own counters.

use crate::ids::{KeyEpoch, PinId, TerminalId};
use crate::journal::record::VendName;
use crate::ledger::Outcome;
use std::collections::{HashMap, HashSet};
use wire::message::{Reply, SequenceState, Sold};

/// Remembers every answer that reached a terminal.
#[derive(Default)]
pub(super) struct Oracle {
    pins: HashMap<PinId, (Vec<u8>, Vec<u8>)>,
    buyers: HashMap<PinId, VendName>,
    answers: HashMap<VendName, Told>,
    copies: HashSet<(VendName, u16)>,
    /// Sales that a terminal heard of.
    pub(super) sold: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Sold(PinId, SequenceState),
    Declined,
    Blocked,
}

impl Oracle {
    /// A PIN exists in the network.
    pub(super) fn minted(&mut self, id: PinId, pin: Vec<u8>, serial: Vec<u8>) {
        let twice = self.pins.insert(id, (pin, serial));
        assert!(twice.is_none(), "{id:?} was made twice");
    }

    /// All PINs that exist.
    pub(super) fn pins(&self) -> impl Iterator<Item = PinId> {
        self.pins.keys().copied()
    }

    /// A terminal was given a PIN.
    pub(super) fn sold(&mut self, terminal: TerminalId, key_epoch: KeyEpoch, sold: &Sold) {
        let vend = VendName { terminal, key_epoch, sequence: sold.sequence };
        let pin = PinId(sold.reference);
        let (secret, serial) =
            self.pins.get(&pin).unwrap_or_else(|| panic!("{vend:?} got {pin:?}, which nobody made"));
        assert_eq!(sold.pin.as_bytes(), secret, "{vend:?} got another PIN than {pin:?} is");
        assert_eq!(sold.serial.as_bytes(), serial, "{vend:?} got another serial than {pin:?} has");
        let buyer = *self.buyers.entry(pin).or_insert(vend);
        assert_eq!(buyer, vend, "law 1: {pin:?} was sold twice");
        assert!(
            sold.copy == 0 || self.copies.insert((vend, sold.copy)),
            "{vend:?}: copy {} twice",
            sold.copy
        );
        assert!(sold.copy <= 3, "{vend:?}: {} copies", sold.copy);
        match self.answers.insert(vend, Told::Sold(pin, SequenceState::Sold)) {
            None => self.sold += 1,
            Some(Told::Sold(before, state)) => {
                assert_eq!(before, pin, "law 4: {vend:?} got two PINs");
                self.answers.insert(vend, Told::Sold(pin, state));
            }
            Some(told) => panic!("law 4: {vend:?} was told {told:?} and then got {pin:?}"),
        }
    }

    /// A terminal was declined for good.
    pub(super) fn declined(&mut self, terminal: TerminalId, key_epoch: KeyEpoch, sequence: u64) {
        let vend = VendName { terminal, key_epoch, sequence };
        let before = self.answers.insert(vend, Told::Declined);
        let agrees = matches!(before, None | Some(Told::Declined | Told::Blocked));
        assert!(agrees, "law 4: {vend:?} was told {before:?} and then declined");
    }

    /// A terminal was told the state of a sequence.
    pub(super) fn state(
        &mut self,
        terminal: TerminalId,
        key_epoch: KeyEpoch,
        sequence: u64,
        state: SequenceState,
    ) {
        let vend = VendName { terminal, key_epoch, sequence };
        match (self.answers.get_mut(&vend), state) {
            (
                Some(Told::Sold(pin, told)),
                SequenceState::Sold | SequenceState::Confirmed | SequenceState::Voided,
            ) => {
                let keeps = !told.is_final() || *told == state;
                assert!(keeps, "law 4: {vend:?} ({pin:?}) was {told:?} for good and then {state:?}");
                *told = state;
            }
            (Some(Told::Sold(..)), _) => panic!("law 4: {vend:?} was sold and is now {state:?}"),
            (None, SequenceState::Blocked) => {
                self.answers.insert(vend, Told::Blocked);
            }
            (None, _)
            | (Some(Told::Declined), SequenceState::Declined | SequenceState::Blocked)
            | (Some(Told::Blocked), SequenceState::Blocked) => {}
            (told, _) => panic!("law 4: {vend:?} was told {told:?} and is now {state:?}"),
        }
    }

    /// Law 2: what a reply says that is leaving now is durable. `find` asks the books of a seller that lost power just before.
    pub(super) fn check_leaving(
        terminal: TerminalId,
        key_epoch: KeyEpoch,
        reply: &Reply,
        find: impl FnOnce(VendName) -> Option<Outcome>,
    ) {
        let (sequence, told) = match *reply {
            Reply::Sold(sold) => (sold.sequence, Told::Sold(PinId(sold.reference), SequenceState::Sold)),
            Reply::Declined { sequence, .. }
            | Reply::State { sequence, state: SequenceState::Declined, .. } => (sequence, Told::Declined),
            Reply::State { sequence, state: SequenceState::Blocked, .. } => (sequence, Told::Blocked),
            Reply::State { sequence, state, reference } if reference != 0 => {
                (sequence, Told::Sold(PinId(reference), state))
            }
            _ => return,
        };
        let vend = VendName { terminal, key_epoch, sequence };
        check(vend, told, find(vend));
    }

    /// Law 2: everything that a terminal was told is in the durable books of its seller, which says what is its `own`.
    pub(super) fn check_books(
        &self,
        own: impl Fn(VendName) -> bool,
        mut find: impl FnMut(VendName) -> Option<Outcome>,
    ) {
        for (&vend, told) in self.answers.iter().filter(|(vend, _)| own(**vend)) {
            check(vend, *told, find(vend));
        }
    }
}

fn check(vend: VendName, told: Told, found: Option<Outcome>) {
    let holds = match (told, found) {
        (Told::Sold(pin, state), Some(outcome)) => {
            outcome.pin == Some(pin) && (!state.is_final() || outcome.state == state)
        }
        (Told::Declined, Some(outcome)) => {
            matches!(outcome.state, SequenceState::Declined | SequenceState::Blocked)
        }
        (Told::Blocked, Some(outcome)) => outcome.state == SequenceState::Blocked,
        (_, None) => false,
    };
    assert!(holds, "law 2: {vend:?} was told {told:?}; the durable books say {found:?}");
}
