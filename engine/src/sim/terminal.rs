//! A terminal that behaves as real ones do: it stores before it sends, gives up waiting, asks again, goes to another seller and
//! settles from there what it left open, and is sometimes wiped.

use super::broken::{Concerned, broken};
use super::dice::Dice;
use super::oracle::{Oracle, Sequence};
use crate::ids::{KeyEpoch, SellerId, TerminalId};
use std::collections::BTreeMap;
use wire::message::{
    Attempt, Login, Outcome, RefuseReason, Reply, Request, SequenceState, Settle, SettleAction, Settled,
    UNRESOLVED_MAX, Vend, Welcome,
};
use wire::session::Suite;

/// One till.
pub(super) struct Terminal {
    /// Its number.
    pub(super) id: TerminalId,
    /// Its key's number.
    pub(super) key_epoch: KeyEpoch,
    key: [u8; 32],
    /// Its connection: a reply to an older one never arrives.
    pub(super) session: u64,
    /// Whether the welcome has been seen.
    pub(super) logged_in: bool,
    /// Whether it has brought to its seller what it left open elsewhere.
    brought: bool,
    /// Who its seller is, by the last welcome.
    seller: SellerId,
    /// What it stored, through every reconnect, by seller.
    stored: BTreeMap<SellerId, Stored>,
    correlation: u16,
    /// In which step each question of this connection was asked.
    asked_at: BTreeMap<u16, u64>,
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
    /// How it was last asked about from another seller, and by which request.
    settling: Option<(u16, SettleAction)>,
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
    pub(super) fn new(id: TerminalId, key_epoch: KeyEpoch, key: [u8; 32]) -> Self {
        Self {
            id,
            key_epoch,
            key,
            session: 0,
            logged_in: false,
            brought: false,
            seller: SellerId(0),
            stored: BTreeMap::new(),
            correlation: 0,
            asked_at: BTreeMap::new(),
            wiped: false,
            finishing: false,
        }
    }

    /// Whether every sequence it ever used is settled.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        self.stored.values().all(|stored| stored.open.is_empty())
    }

    /// What is not settled, for whoever wonders why.
    pub(super) fn unsettled(&self) -> String {
        let open = self.stored.iter().flat_map(|(seller, stored)| {
            stored
                .open
                .iter()
                .map(move |(sequence, open)| format!("{}/{sequence} {:?}", seller.0, open.stage))
        });
        format!("at node {}: {}", self.seller.0, open.collect::<Vec<_>>().join(", "))
    }

    /// Loses its storage: a later customer must never get an earlier one's PIN.
    pub(super) fn wipe(&mut self) {
        self.stored.clear();
        self.logged_in = false;
        self.wiped = true;
    }

    /// Is given a new key: it numbers anew, and its operator settles what was open.
    pub(super) fn rekey(&mut self, key_epoch: KeyEpoch, key: [u8; 32]) {
        (self.key_epoch, self.key) = (key_epoch, key);
        self.stored.clear();
        self.logged_in = false;
        self.wiped = false;
    }

    /// Connects anew: what was on the old connection is lost.
    pub(super) fn connect(&mut self) {
        self.session += 1;
        self.logged_in = false;
        self.brought = false;
        self.asked_at.clear();
    }

    fn handle_welcome(&mut self, welcome: &Welcome) {
        self.logged_in = true;
        self.seller = welcome.seller;
        let stored = self.stored.entry(welcome.seller).or_default();
        if stored.next == 0 {
            // Nothing stored: what is not final was an earlier life's, and nobody will print it.
            for sequence in welcome.window_base..welcome.next_sequence {
                let stage = Stage::Unwanted;
                let open = Open { product: 0, face_value: 0, stage, asked_ms: 0, settling: None };
                stored.open.insert(sequence, open);
            }
            stored.next = welcome.next_sequence;
        }
    }

    /// What it does next, if anything.
    pub(super) fn act(&mut self, dice: &mut Dice, now_ms: u64, step: u64) -> Option<(u16, Request)> {
        if !self.logged_in {
            return None;
        }
        self.correlation = self.correlation.wrapping_add(1);
        let request = self.next_request(dice, now_ms)?;
        self.asked_at.insert(self.correlation, step);
        Some((self.correlation, request))
    }

    fn next_request(&mut self, dice: &mut Dice, now_ms: u64) -> Option<Request> {
        if !std::mem::replace(&mut self.brought, true) && dice.one_in(2) {
            return Some(Request::Login(Box::new(self.login())));
        }
        let is_due = |open: &Open| {
            let patience_ms = if open.settling.is_some() { SETTLING_PATIENCE_MS } else { PATIENCE_MS };
            open.stage == Stage::Stored || now_ms.saturating_sub(open.asked_ms) > patience_ms
        };
        let all = self.stored.iter().flat_map(|(seller, stored)| {
            stored.open.iter().map(move |(sequence, open)| (*seller, *sequence, *open))
        });
        let due: Vec<_> = all.filter(|(_, _, open)| is_due(open)).collect();
        if !due.is_empty() && !dice.one_in(8) {
            let (seller, sequence, open) = due[dice.below(due.len() as u64) as usize];
            return if seller == self.seller {
                self.ask(sequence, open, dice, now_ms)
            } else {
                Some(self.settle(seller, sequence, open, dice, now_ms))
            };
        }
        if dice.one_in(64) {
            return Some(Request::Catalogue { from: dice.below(8) as u16 });
        }
        let stored = self.stored.get_mut(&self.seller)?;
        if dice.one_in(8) && stored.next > 1 {
            let sequence = 1 + dice.below(stored.next - 1);
            let is_status = dice.one_in(3);
            return Some(if is_status {
                Request::Status { sequence }
            } else {
                Request::Reprint { sequence }
            });
        }
        if self.finishing || stored.open.len() >= OPEN_MAX {
            return None;
        }
        let sequence = stored.next;
        stored.next += 1;
        let (product, face_value) = (1 + dice.below(3) as u32, 500 * (1 + dice.below(2)));
        let stage = Stage::Stored;
        stored.open.insert(sequence, Open { product, face_value, stage, asked_ms: now_ms, settling: None });
        // Stored, and not sent yet: it may be cut off here.
        None
    }

    /// What it left open anywhere. Whoever brings a sequence wants no PIN for it any more, if there is none yet.
    fn login(&self) -> Login {
        let mut login = Login::EMPTY;
        let open = self.stored.iter().flat_map(|(seller, stored)| {
            let brought = stored.open.iter().filter(|(_, open)| open.stage != Stage::Stored);
            brought.map(move |(sequence, _)| (*seller, *sequence))
        });
        for pair in open.take(UNRESOLVED_MAX) {
            login.unresolved[usize::from(login.count)] = pair;
            login.count += 1;
        }
        login
    }

    /// A reply on this connection.
    pub(super) fn handle_reply(
        &mut self,
        correlation: u16,
        reply: &Reply,
        dice: &mut Dice,
        oracle: &mut Oracle,
    ) {
        let seller = self.seller;
        oracle.asked_at = self.asked_at.get(&correlation).copied().unwrap_or(0);
        let named = |sequence| Sequence::new(seller, self.id, self.key_epoch, sequence);
        match reply {
            Reply::Sold(sold) => {
                oracle.sold(named(sold.sequence), sold);
                self.print(seller, sold.sequence, dice);
            }
            Reply::Declined { sequence, .. } => {
                oracle.declined(named(*sequence));
                self.close(seller, *sequence);
            }
            Reply::State { sequence, state, reference } => {
                oracle.state(named(*sequence), *state, *reference);
                if state.is_final() {
                    self.close(seller, *sequence);
                }
            }
            Reply::Refused { sequence, reason } => match reason {
                // It was confirmed by a bit, and 64 others came since.
                RefuseReason::Closed => self.close(seller, *sequence),
                // The last two answer a reprint.
                RefuseReason::WindowFull | RefuseReason::NothingSold | RefuseReason::ReprintLimit => {}
                // A vend of its earlier life was still waiting for a PIN at the seller, and got one.
                RefuseReason::SequenceUsed | RefuseReason::OtherVariety if self.wiped => {
                    if let Some(open) = self.open(seller, *sequence) {
                        open.stage = Stage::Unwanted;
                    }
                }
                other => {
                    let what = format!("terminal {:?} was refused sequence {sequence}: {other:?}", self.id);
                    broken(4, what, Concerned::sequence(named(*sequence)));
                }
            },
            Reply::Welcome(welcome) => self.handle_welcome(welcome),
            Reply::Resolved(resolved) => {
                for outcome in resolved.list() {
                    self.handle_outcome(outcome, oracle);
                }
            }
            Reply::Settled(settled) => self.handle_settled(correlation, settled, dice, oracle),
            Reply::Later { .. } | Reply::Catalogue(_) => {}
        }
    }

    fn handle_outcome(&mut self, outcome: &Outcome, oracle: &mut Oracle) {
        let &Outcome { seller, sequence, state, reference } = outcome;
        oracle.state(Sequence::new(seller, self.id, self.key_epoch, sequence), state, reference);
        if state.is_final() {
            self.close(seller, sequence);
        }
    }

    fn handle_settled(&mut self, correlation: u16, settled: &Settled, dice: &mut Dice, oracle: &mut Oracle) {
        let &Settled { seller, sequence, state, reference, sealed } = settled;
        let name = Sequence::new(seller, self.id, self.key_epoch, sequence);
        oracle.state(name, state, reference);
        if !sealed.is_none() {
            match sealed.open(&self.key, Suite::AesGcm, seller, sequence) {
                Ok(sold) => {
                    oracle.sold(name, &sold);
                    self.print(seller, sequence, dice);
                }
                Err(_) => broken(4, format!("the box for {name:?} does not open"), Concerned::sequence(name)),
            }
        }
        let Some(open) = self.open(seller, sequence) else { return };
        let asked = open.settling.filter(|(asked, _)| *asked == correlation).map(|(_, action)| action);
        match (state, asked) {
            (state, _) if state.is_final() => self.close(seller, sequence),
            // Nothing can be changed any more: its seller is lost.
            (SequenceState::Sold, Some(SettleAction::Confirm | SettleAction::Void)) => {
                self.close(seller, sequence);
            }
            // It is not to be had any more.
            (SequenceState::Sold, Some(SettleAction::Pin)) if sealed.is_none() => {
                open.stage = Stage::Unwanted;
            }
            _ => {}
        }
    }

    /// A PIN came: it is printed, or the customer has left.
    fn print(&mut self, seller: SellerId, sequence: u64, dice: &mut Dice) {
        let Some(open) = self.open(seller, sequence) else { return };
        if matches!(open.stage, Stage::Sent | Stage::Stored) {
            open.stage = if dice.one_in(12) { Stage::Unwanted } else { Stage::Printed };
            open.asked_ms = 0;
        }
    }

    fn open(&mut self, seller: SellerId, sequence: u64) -> Option<&mut Open> {
        self.stored.get_mut(&seller)?.open.get_mut(&sequence)
    }

    fn close(&mut self, seller: SellerId, sequence: u64) {
        self.stored.entry(seller).or_default().open.remove(&sequence);
    }

    /// Asks its own seller about a sequence.
    fn ask(&mut self, sequence: u64, open: Open, dice: &mut Dice, now_ms: u64) -> Option<Request> {
        let confirmed = self.confirmed_bits(sequence);
        let stored = self.open(self.seller, sequence)?;
        stored.asked_ms = now_ms;
        stored.settling = None;
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
                let deadline_ms = 200 * (1 + dice.below(10)) as u32;
                Request::Vend(Vend { attempt, sequence, product, face_value, deadline_ms, confirmed })
            }
            Stage::Printed if dice.one_in(4) => Request::Status { sequence },
            Stage::Printed => Request::Confirm { sequence },
            Stage::Unwanted => Request::Void { sequence },
        })
    }

    /// Asks about a sequence of another seller.
    fn settle(
        &mut self,
        seller: SellerId,
        sequence: u64,
        open: Open,
        dice: &mut Dice,
        now_ms: u64,
    ) -> Request {
        let correlation = self.correlation;
        let action = match open.stage {
            Stage::Stored | Stage::Sent => match dice.below(4) {
                0 => SettleAction::Resolve,
                1 => SettleAction::Status,
                _ => SettleAction::Pin,
            },
            Stage::Printed => SettleAction::Confirm,
            Stage::Unwanted => SettleAction::Void,
        };
        if let Some(stored) = self.open(seller, sequence) {
            stored.asked_ms = now_ms;
            stored.settling = Some((correlation, action));
            // Nobody waits there any more: what was never sent is not sent now.
            stored.stage = match (stored.stage, action) {
                (_, SettleAction::Resolve) => Stage::Unwanted,
                (Stage::Stored, _) => Stage::Sent,
                (stage, _) => stage,
            };
        }
        Request::Settle(Settle { seller, sequence, action, suite: Suite::AesGcm })
    }

    fn confirmed_bits(&self, sequence: u64) -> u64 {
        let Some(stored) = self.stored.get(&self.seller) else { return 0 };
        let printed = stored.open.range(..sequence).filter(|(_, open)| open.stage == Stage::Printed);
        let distances = printed.map(|(printed, _)| sequence - 1 - printed).filter(|distance| *distance < 64);
        distances.map(|distance| 1 << distance).sum()
    }
}

/// Sequences a terminal uses at a time at one seller.
const OPEN_MAX: usize = 4;
/// How long it waits for an answer.
const PATIENCE_MS: u64 = 300;
/// How long for an answer of another seller.
const SETTLING_PATIENCE_MS: u64 = 4_000;
