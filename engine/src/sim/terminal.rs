//! A terminal that behaves as real ones do: it stores before it sends, gives up waiting, asks again, and is sometimes
//! wiped.

use super::dice::Dice;
use super::oracle::Oracle;
use crate::ids::{KeyEpoch, TerminalId};
use std::collections::BTreeMap;
use wire::message::{Attempt, RefuseReason, Reply, Request, SequenceState, Vend};

/// One till.
pub(super) struct Terminal {
    /// Its number.
    pub(super) id: TerminalId,
    /// Its key's number.
    pub(super) key_epoch: KeyEpoch,
    /// Its connection: a reply to an older one never arrives.
    pub(super) session: u64,
    /// Whether the welcome has been seen.
    pub(super) logged_in: bool,
    /// What it stored, through every reconnect.
    stored: Stored,
    correlation: u16,
    /// Lost its storage at least once.
    wiped: bool,
    /// Wishes no new sale any more.
    pub(super) finishing: bool,
}

#[derive(Default)]
struct Stored {
    next: u64,
    /// Sequences that may have been sent and whose outcome is not settled.
    open: BTreeMap<u64, Open>,
}

#[derive(Clone, Copy)]
struct Open {
    product: u32,
    face_value: u64,
    stage: Stage,
    /// When it was last asked about.
    asked_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Stored, not sent.
    Stored,
    /// Sent; no answer yet.
    Sent,
    /// A PIN came and was printed; the seller does not know yet.
    Printed,
    /// It is to be voided, whatever it is.
    Unwanted,
}

impl Terminal {
    /// A terminal that never sold.
    #[must_use]
    pub(super) fn new(id: TerminalId, key_epoch: KeyEpoch) -> Self {
        Self {
            id,
            key_epoch,
            session: 0,
            logged_in: false,
            stored: Stored::default(),
            correlation: 0,
            wiped: false,
            finishing: false,
        }
    }

    /// Whether every sequence it ever used is settled.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        self.stored.open.is_empty()
    }

    /// Loses its storage: a later customer must never get an earlier one's PIN.
    pub(super) fn wipe(&mut self) {
        self.stored = Stored::default();
        self.logged_in = false;
        self.wiped = true;
    }

    /// Is given a new key: it numbers anew, and its operator settles what was open.
    pub(super) fn rekey(&mut self, key_epoch: KeyEpoch) {
        self.key_epoch = key_epoch;
        self.stored = Stored::default();
        self.logged_in = false;
        self.wiped = false;
    }

    fn handle_welcome(&mut self, next: u64, base: u64) {
        self.logged_in = true;
        if self.stored.next == 0 {
            // Nothing stored: what is not final was an earlier life's, and nobody will print it.
            for sequence in base..next {
                let open = Open { product: 0, face_value: 0, stage: Stage::Unwanted, asked_ms: 0 };
                self.stored.open.insert(sequence, open);
            }
            self.stored.next = next;
        }
    }

    /// What it does next, if anything.
    pub(super) fn act(&mut self, dice: &mut Dice, now_ms: u64) -> Option<(u16, Request)> {
        if !self.logged_in {
            return None;
        }
        self.correlation = self.correlation.wrapping_add(1);
        let due = self.stored.open.iter().find(|(_, open)| {
            open.stage == Stage::Stored || now_ms.saturating_sub(open.asked_ms) > PATIENCE_MS
        });
        if let Some((&sequence, &open)) = due {
            return self.ask(sequence, open, dice, now_ms).map(|request| (self.correlation, request));
        }
        if dice.one_in(8) && self.stored.next > 1 {
            let sequence = 1 + dice.below(self.stored.next - 1);
            let is_status = dice.one_in(3);
            let question =
                if is_status { Request::Status { sequence } } else { Request::Reprint { sequence } };
            return Some((self.correlation, question));
        }
        if self.finishing || self.stored.open.len() >= OPEN_MAX {
            return None;
        }
        let sequence = self.stored.next;
        self.stored.next += 1;
        let (product, face_value) = (1 + dice.below(3) as u32, 500 * (1 + dice.below(2)));
        self.stored
            .open
            .insert(sequence, Open { product, face_value, stage: Stage::Stored, asked_ms: now_ms });
        // Stored, and not sent yet: it may be cut off here.
        None
    }

    /// A reply on this connection.
    pub(super) fn handle_reply(&mut self, reply: &Reply, dice: &mut Dice, oracle: &mut Oracle) {
        match reply {
            Reply::Sold(sold) => {
                oracle.sold(self.id, self.key_epoch, sold);
                let Some(open) = self.stored.open.get_mut(&sold.sequence) else { return };
                if matches!(open.stage, Stage::Sent | Stage::Stored) {
                    open.stage = if dice.one_in(12) { Stage::Unwanted } else { Stage::Printed };
                    open.asked_ms = 0;
                }
            }
            Reply::Declined { sequence, .. } => {
                oracle.declined(self.id, self.key_epoch, *sequence);
                self.stored.open.remove(sequence);
            }
            Reply::State { sequence, state, .. } => {
                oracle.state(self.id, self.key_epoch, *sequence, *state);
                if state.is_final() && *state != SequenceState::InDoubt {
                    self.stored.open.remove(sequence);
                }
            }
            Reply::Refused { sequence, reason } => match reason {
                // It was confirmed by a bit, and 64 others came since.
                RefuseReason::Closed => {
                    self.stored.open.remove(sequence);
                }
                // The last two answer a reprint.
                RefuseReason::WindowFull | RefuseReason::NothingSold | RefuseReason::ReprintLimit => {}
                // A vend of its earlier life was still waiting for a PIN at the seller, and got one.
                RefuseReason::SequenceUsed | RefuseReason::OtherVariety if self.wiped => {
                    if let Some(open) = self.stored.open.get_mut(sequence) {
                        open.stage = Stage::Unwanted;
                    }
                }
                other => panic!("terminal {:?} was refused sequence {sequence}: {other:?}", self.id),
            },
            Reply::Welcome(welcome) => self.handle_welcome(welcome.next_sequence, welcome.window_base),
            Reply::Later { .. } | Reply::Resolved(_) | Reply::Catalogue(_) | Reply::Settled(_) => {}
        }
    }

    fn ask(&mut self, sequence: u64, open: Open, dice: &mut Dice, now_ms: u64) -> Option<Request> {
        let stored = self.stored.open.get_mut(&sequence)?;
        stored.asked_ms = now_ms;
        if open.stage == Stage::Sent && dice.one_in(8) {
            // Its customer has left.
            stored.stage = Stage::Unwanted;
            return Some(Request::Void { sequence });
        }
        Some(match open.stage {
            Stage::Stored | Stage::Sent => {
                let attempt = if open.stage == Stage::Stored { Attempt::First } else { Attempt::Repeat };
                stored.stage = Stage::Sent;
                let (product, face_value) = (open.product, open.face_value);
                let confirmed = self.confirmed_bits(sequence);
                let deadline_ms = 200 * (1 + dice.below(10)) as u32;
                Request::Vend(Vend { attempt, sequence, product, face_value, deadline_ms, confirmed })
            }
            Stage::Printed if dice.one_in(4) => Request::Status { sequence },
            Stage::Printed => Request::Confirm { sequence },
            Stage::Unwanted => Request::Void { sequence },
        })
    }

    fn confirmed_bits(&self, sequence: u64) -> u64 {
        let printed = self.stored.open.range(..sequence).filter(|(_, open)| open.stage == Stage::Printed);
        let distances = printed.map(|(printed, _)| sequence - 1 - printed).filter(|distance| *distance < 64);
        distances.map(|distance| 1 << distance).sum()
    }
}

/// Sequences a terminal uses at a time.
const OPEN_MAX: usize = 4;
/// How long it waits for an answer.
const PATIENCE_MS: u64 = 300;
