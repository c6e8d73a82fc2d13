//! The sale itself: one worker's share of a seller as a pure state machine.
//!
//! # Driving it
//! Hand in requests of logged-in terminals ([`Seller::handle_request`]), ranges, registries and the steward's word that
//! the network has nothing; call [`Seller::handle_timeout`] at [`Seller::next_timeout`]. After each round take the records made
//! ([`Seller::records`]) to the journal, in order. Every reply that was given out carries the count of records it
//! depends on ([`Seller::made`] at that time, all of them to be safe) and may leave only when that many are durable.

mod questions;
mod settling;
mod vend;

use super::library::{Library, Sealed};
use super::{Answer, Windows};
use crate::ids::{IdMap, KeyEpoch, PinId, SellerId, TerminalId, VarietyId};
use crate::journal::record::{RecordBytes, VendName};
use crate::journal::{Record, Space};
use crate::ledger as history;
use crate::limits::{BACK_OFF_MAX_MS, BACK_OFF_MIN_MS, PING_INTERVAL_S, RECORDS_RESERVED_AT_ONCE, WAIT_MS};
use crate::pool::{Lane, Range};
use crate::registry::Registry;
use crate::time::Now;
pub use settling::Question;
use settling::Settling;
use std::collections::HashSet;
use std::sync::Arc;
use wire::message::{
    Addresses, DeclineReason, LaterReason, Pin, RefuseReason, Reply, Request, SequenceState, Serial, Sold,
    Vend, WINDOW, Welcome,
};

/// Sells to the terminals of one worker.
pub struct Seller<S> {
    id: SellerId,
    registry: Arc<Registry>,
    library: Arc<Library<S>>,
    space: Arc<Space>,
    windows: Windows,
    lanes: IdMap<VarietyId, Lane<S>>,
    parked: Vec<Parked>,
    records: Vec<RecordBytes>,
    made: u64,
    reserved: u32,
    dry: Vec<VarietyId>,
    lookups: Vec<Lookup>,
    /// Reprints that the history was asked for: one at a time of a sequence, so that each is counted before the next.
    reprinting: HashSet<VendName>,
    /// What is asked of other sellers.
    settling: Settling,
    stopping: bool,
    service: Service,
    tally: SaleTally,
}

/// How many sales found their PIN here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SaleTally {
    /// Sales made since the start.
    pub sold: u64,
    /// Those of them that waited for a PIN: one that an urgent transfer brought, or that was cut from another worker's lane. A vend
    /// that was put off and asked again counts by its last time.
    pub waited: u64,
}

/// What terminals may have of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Service {
    /// Everything.
    #[default]
    Open,
    /// It goes offline: nothing new is sold, and questions about what was sold are answered as always.
    Draining,
    /// It has left: whatever would make a record is put off.
    Closed,
}

/// Who asked: where the reply goes and whose sequences are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// The session, in the caller's own numbering; not reused while a vend of it may be parked.
    pub session: u64,
    /// The terminal that the session authenticated.
    pub terminal: TerminalId,
    /// The key epoch of the session.
    pub key_epoch: KeyEpoch,
    /// The terminal's dealer.
    pub dealer: u32,
    /// The request's correlation, for its reply.
    pub correlation: u16,
}

/// Takes replies away.
pub trait Replies {
    /// A reply for `asker`. It may leave when as many records as were made until now are durable.
    fn reply(&mut self, asker: &Asker, reply: &Reply);
}

/// A question about a sequence that has left the window, for the history to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// Who asked.
    pub asker: Asker,
    /// Status, confirm and void ask for the state only; a reprint for the PIN.
    pub reprint: bool,
    /// The sequence.
    pub sequence: u64,
}

/// A vend that waits for a PIN to arrive.
#[derive(Clone, Copy, Debug)]
struct Parked {
    asker: Asker,
    vend: Vend,
    variety: VarietyId,
    until_ms: u64,
}

impl<S: Sealed> Seller<S> {
    /// A seller that has no stock yet and remembers `windows`.
    pub fn new(
        id: SellerId,
        registry: Arc<Registry>,
        library: Arc<Library<S>>,
        windows: Windows,
        space: Arc<Space>,
    ) -> Self {
        Self {
            id,
            registry,
            library,
            space,
            windows,
            lanes: IdMap::default(),
            parked: Vec::new(),
            records: Vec::new(),
            made: 0,
            reserved: 0,
            dry: Vec::new(),
            lookups: Vec::new(),
            reprinting: HashSet::new(),
            settling: Settling::default(),
            stopping: false,
            service: Service::Open,
            tally: SaleTally::default(),
        }
    }

    /// How many sales found their PIN here.
    #[must_use]
    pub fn tally(&self) -> SaleTally {
        self.tally
    }

    /// Requests that wait: vends for a PIN, questions for another seller.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.parked.len() + self.settling.open()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SellerId {
        self.id
    }

    /// The registry in force.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Records made since the start; a reply given out now depends on all of them.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// The records made since they were last taken, oldest first. The caller empties it into the journal's queue.
    pub fn records(&mut self) -> &mut Vec<RecordBytes> {
        &mut self.records
    }

    /// The variety of a vend that waits for a PIN because the lane is dry: once for each, since last asked.
    pub fn poll_dry(&mut self) -> Option<VarietyId> {
        self.dry.pop()
    }

    /// Questions for the history, since last asked. Each is to be asked when all records made until then are durable and in
    /// the books, and ends with [`Seller::handle_found`] or [`Seller::handle_unasked`].
    pub fn poll_lookup(&mut self) -> Option<Lookup> {
        self.lookups.pop()
    }

    /// Whether this worker holds a PIN of the variety that may be sold now.
    #[must_use]
    pub fn has_stock(&self, variety: VarietyId, now: &Now) -> bool {
        let first_day = self.first_day(variety, now);
        self.lanes.get(&variety).is_some_and(|lane| !lane.is_dry(|shelf| shelf.last_day >= first_day))
    }

    /// What a terminal is told first. The caller fills in other addresses, if there are any.
    pub fn welcome(&mut self, terminal: TerminalId, key_epoch: KeyEpoch) -> Welcome {
        // What waits under an earlier key would be sold to nobody: its sequences are closed from now on.
        self.unpark(|parked| parked.asker.terminal == terminal && parked.asker.key_epoch < key_epoch);
        let window = self.windows.window(terminal, key_epoch);
        let (next_sequence, window_base) =
            window.map_or((1, 1), |window| (window.next_sequence(), window.base()));
        Welcome {
            seller: self.id,
            key_epoch,
            next_sequence,
            window_base,
            window: WINDOW as u8,
            ping_interval_s: PING_INTERVAL_S,
            back_off_min_ms: BACK_OFF_MIN_MS,
            back_off_max_ms: BACK_OFF_MAX_MS,
            catalogue_version: super::catalogue::catalogue_version(&self.registry),
            addresses: Addresses::default(),
        }
    }

    /// When [`Seller::handle_timeout`] is due, in [`Now::monotonic_ms`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        let parked = self.parked.iter().map(|parked| parked.until_ms).min();
        parked.into_iter().chain(self.next_settling()).min()
    }

    /// A range became this worker's; vends that wait for it are sold.
    pub fn handle_range(&mut self, range: Arc<Range<S>>, now: &Now, replies: &mut impl Replies) {
        let variety = range.shelf.variety;
        self.lanes.entry(variety).or_default().add(range);
        // Only as many as the lane can serve: the others are still being waited for.
        while self.has_stock(variety, now)
            && let Some(at) = self.parked.iter().position(|parked| parked.variety == variety)
        {
            let parked = self.parked.remove(at);
            let before = self.tally.sold;
            // Judged anew: its dealer or its variety may not be what they were when it began to wait.
            self.sell_open(&parked.asker, &parked.vend, now, replies);
            self.tally.waited += self.tally.sold - before;
        }
    }

    /// The network has no PIN of this variety: vends that wait for one are declined.
    pub fn handle_out_of_stock(&mut self, variety: VarietyId, now: &Now, replies: &mut impl Replies) {
        for parked in self.unpark(|parked| parked.variety == variety) {
            self.decline(&parked.asker, &parked.vend, DeclineReason::OutOfStock, variety, now, replies);
        }
    }

    /// A new registry is in force from now on.
    pub fn handle_registry(&mut self, registry: Arc<Registry>) {
        self.registry = registry;
    }

    /// Nothing more will be sold: the node is stopping.
    pub fn handle_stop(&mut self, replies: &mut impl Replies) {
        self.stopping = true;
        for parked in self.unpark(|_| true) {
            later(&parked.asker, parked.vend.sequence, LaterReason::Stopping, replies);
        }
    }

    /// With what terminals may have of the node from the beginning: what the steward says later comes after the first requests.
    #[must_use]
    pub fn with_service(self, service: Service) -> Self {
        Self { service, ..self }
    }

    /// What terminals may have of the node from now on. Who does not get it is told to come back, and finds another seller.
    pub fn handle_service(&mut self, service: Service, replies: &mut impl Replies) {
        self.service = service;
        if service != Service::Open {
            for parked in self.unpark(|_| true) {
                later(&parked.asker, parked.vend.sequence, LaterReason::Stopping, replies);
            }
        }
    }

    /// A session ended: what it waits for is given up, the sequence stays open.
    pub fn handle_closed(&mut self, session: u64) {
        self.parked.retain(|parked| parked.asker.session != session);
        self.forget_settling(session);
    }

    /// Answers vends, and questions to other sellers, that waited long enough.
    pub fn handle_timeout(&mut self, now: &Now, replies: &mut impl Replies) {
        for parked in self.unpark(|parked| parked.until_ms <= now.monotonic_ms) {
            later(&parked.asker, parked.vend.sequence, LaterReason::Stock, replies);
        }
        self.end_settling(now, replies);
    }

    /// What the bookkeeper found for a question of [`Seller::poll_lookup`].
    pub fn handle_found(
        &mut self,
        lookup: &Lookup,
        found: Option<history::Outcome>,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        let Lookup { asker, reprint, sequence } = lookup;
        self.end_lookup(lookup);
        match found {
            Some(history::Outcome { pin: Some(pin), state, copies })
                if *reprint && state != SequenceState::Voided =>
            {
                self.reprint_sold(asker, *sequence, pin, copies, now, replies);
            }
            Some(history::Outcome { pin, state, .. }) if !*reprint => {
                let reference = pin.map_or(0, |pin| pin.0);
                replies.reply(asker, &Reply::State { sequence: *sequence, state, reference });
            }
            _ => refuse(asker, *sequence, RefuseReason::NothingSold, replies),
        }
    }

    /// A question of [`Seller::poll_lookup`] could not be asked: its terminal is to come back.
    pub fn handle_unasked(&mut self, lookup: &Lookup, replies: &mut impl Replies) {
        self.end_lookup(lookup);
        later(&lookup.asker, lookup.sequence, LaterReason::Busy, replies);
    }

    /// A request of a terminal that has logged in (or its login).
    pub fn handle_request(
        &mut self,
        asker: &Asker,
        request: &Request,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        if self.service == Service::Closed
            && let Request::Vend(Vend { sequence, .. })
            | Request::Confirm { sequence }
            | Request::Void { sequence }
            | Request::Reprint { sequence } = request
        {
            return later(asker, *sequence, LaterReason::Stopping, replies);
        }
        match request {
            Request::Vend(vend) => self.vend(asker, vend, now, replies),
            Request::Confirm { sequence } => self.confirm(asker, *sequence, now, replies),
            Request::Void { sequence } => self.void(asker, *sequence, now, replies),
            Request::Status { sequence } => self.status(asker, *sequence, replies),
            Request::Reprint { sequence } => self.reprint(asker, *sequence, now, replies),
            Request::Login(login) => self.log_in(asker, login, now, replies),
            Request::Settle(settle) => self.settle(asker, settle, now, replies),
            Request::Catalogue { from } => {
                let has_stock = |variety| self.has_stock(variety, now);
                let page = super::catalogue::page(&self.registry, *from, has_stock);
                replies.reply(asker, &Reply::Catalogue(Box::new(page)));
            }
        }
    }

    fn end_lookup(&mut self, lookup: &Lookup) {
        if lookup.reprint {
            self.reprinting.remove(&lookup.asker.names(lookup.sequence));
        }
    }

    /// The first day on which a PIN sold now must still be valid.
    fn first_day(&self, variety: VarietyId, now: &Now) -> u32 {
        let life = self.registry.variety(variety).map_or(0, |variety| variety.minimum_life_days);
        now.day().saturating_add(life)
    }

    fn reply_sold(
        &mut self,
        asker: &Asker,
        sequence: u64,
        pin: PinId,
        copy: u16,
        replies: &mut impl Replies,
    ) {
        match self.open(sequence, pin, copy) {
            Some(sold) => replies.reply(asker, &Reply::Sold(sold)),
            // The record was good when it was sold and is not readable now: the operator can restore it.
            None => later(asker, sequence, LaterReason::InDoubt, replies),
        }
    }

    fn open(&self, sequence: u64, pin: PinId, copy: u16) -> Option<Sold> {
        let shelf = self.library.shelf(pin)?;
        let (secret, serial) = shelf.content.open(pin.index())?;
        let expiry = shelf.content.expiry();
        Some(Sold { sequence, reference: pin.0, copy, expiry, pin: secret, serial })
    }

    /// Records confirmations that are news; false when there is no room for the record.
    fn note_confirmed(&mut self, asker: &Asker, below: u64, confirmed: u64, now: &Now) -> bool {
        if confirmed == 0 {
            return true;
        }
        let room = self.reserve(1);
        if room {
            let vend = asker.names(below);
            self.record(&Record::Confirmed { vend, confirmed, at_ms: now.unix_ms });
        }
        room
    }

    fn record(&mut self, record: &Record) {
        debug_assert!(self.reserved > 0, "space is reserved before a record is made");
        self.reserved -= 1;
        self.windows.apply(record, |_, _| {});
        self.records.push(record.encode());
        self.made += 1;
    }

    fn reserve(&mut self, records: u32) -> bool {
        if self.reserved < records {
            let more = RECORDS_RESERVED_AT_ONCE.min(self.space.ahead_records_max()).max(records);
            if self.space.try_reserve(more as usize) {
                self.reserved += more;
            } else if self.space.try_reserve(records as usize) {
                self.reserved += records;
            }
        }
        self.reserved >= records
    }

    fn unpark(&mut self, is_due: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        if self.parked.is_empty() {
            return Vec::new();
        }
        self.parked.extract_if(.., |parked| is_due(parked)).collect()
    }
}

impl Asker {
    /// The name of a sequence of this terminal.
    #[must_use]
    pub fn names(&self, sequence: u64) -> VendName {
        VendName { terminal: self.terminal, key_epoch: self.key_epoch, sequence }
    }

    fn is_same_vend(&self, sequence: u64, other: &Self, other_sequence: u64) -> bool {
        self.names(sequence) == other.names(other_sequence)
    }
}

fn sold(sequence: u64, pin: PinId, copy: u16, expiry: u32, secret: Pin, serial: Serial) -> Reply {
    Reply::Sold(Sold { sequence, reference: pin.0, copy, expiry, pin: secret, serial })
}

fn state_of(sequence: u64, answer: &Answer) -> Reply {
    Reply::State { sequence, state: answer.state(), reference: answer.reference() }
}

fn refuse(asker: &Asker, sequence: u64, reason: RefuseReason, replies: &mut impl Replies) {
    replies.reply(asker, &Reply::Refused { sequence, reason });
}

fn later(asker: &Asker, sequence: u64, reason: LaterReason, replies: &mut impl Replies) {
    replies.reply(asker, &Reply::Later { sequence, reason, wait_ms: WAIT_MS, reference: 0 });
}
