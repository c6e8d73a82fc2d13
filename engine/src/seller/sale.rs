//! The sale itself: one worker's share of a seller as a pure state machine.
//!
//! # Driving it
//! Hand in requests of logged-in terminals ([`Seller::handle_request`]), ranges, registries and the steward's word that
//! the network has nothing; call [`Seller::handle_timeout`] at [`Seller::next_timeout`]. After each round take the records made
//! ([`Seller::records`]) to the journal, in order. Every reply that was given out carries the count of records it
//! depends on ([`Seller::made`] at that time, all of them to be safe) and may leave only when that many are durable.

use super::library::{Library, Sealed};
use super::{Answer, Windows};
use crate::ids::{KeyEpoch, PinId, SellerId, Span, TerminalId, VarietyId};
use crate::journal::record::{RecordBytes, VendName, WithdrawReason};
use crate::journal::{Record, Space};
use crate::ledger as history;
use crate::limits::{
    BACK_OFF_MAX_MS, BACK_OFF_MIN_MS, PARK_MS_MAX, PARKED_VENDS_MAX, PING_INTERVAL_S,
    RECORDS_RESERVED_AT_ONCE, REPRINTS_MAX, WAIT_MS,
};
use crate::pool::{Lane, Range};
use crate::registry::{Registry, State};
use crate::time::Now;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use wire::message::{
    Addresses, Attempt, DeclineReason, LaterReason, Login, Outcome, Pin, RefuseReason, Reply, Request,
    Resolved, SequenceState, Serial, Sold, UNRESOLVED_MAX, Vend, WINDOW, Welcome,
};

/// Sells to the terminals of one worker.
pub struct Seller<S> {
    id: SellerId,
    registry: Arc<Registry>,
    library: Arc<Library<S>>,
    space: Arc<Space>,
    windows: Windows,
    lanes: HashMap<VarietyId, Lane<S>>,
    parked: Vec<Parked>,
    records: Vec<RecordBytes>,
    made: u64,
    reserved: u32,
    dry: Vec<VarietyId>,
    lookups: Vec<Lookup>,
    /// Reprints that the history was asked for: one at a time of a sequence, so that each is counted before the next.
    reprinting: HashSet<VendName>,
    stopping: bool,
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
            lanes: HashMap::new(),
            parked: Vec::new(),
            records: Vec::new(),
            made: 0,
            reserved: 0,
            dry: Vec::new(),
            lookups: Vec::new(),
            reprinting: HashSet::new(),
            stopping: false,
        }
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
        self.parked.iter().map(|parked| parked.until_ms).min()
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
            // Judged anew: its dealer or its variety may not be what they were when it began to wait.
            self.sell_open(&parked.asker, &parked.vend, now, replies);
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

    /// A session ended: what it waits for is given up, the sequence stays open.
    pub fn handle_closed(&mut self, session: u64) {
        self.parked.retain(|parked| parked.asker.session != session);
    }

    /// Answers vends that waited long enough.
    pub fn handle_timeout(&mut self, now: &Now, replies: &mut impl Replies) {
        for parked in self.unpark(|parked| parked.until_ms <= now.monotonic_ms) {
            later(&parked.asker, parked.vend.sequence, LaterReason::Stock, replies);
        }
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
        match request {
            Request::Vend(vend) => self.vend(asker, vend, now, replies),
            Request::Confirm { sequence } => self.confirm(asker, *sequence, now, replies),
            Request::Void { sequence } => self.void(asker, *sequence, now, replies),
            Request::Status { sequence } => self.status(asker, *sequence, replies),
            Request::Reprint { sequence } => self.reprint(asker, *sequence, now, replies),
            Request::Login(login) => {
                let resolved = self.resolve(asker, login);
                replies.reply(asker, &Reply::Resolved(resolved));
            }
            Request::Catalogue { from } => {
                let has_stock = |variety| self.has_stock(variety, now);
                let page = super::catalogue::page(&self.registry, *from, has_stock);
                replies.reply(asker, &Reply::Catalogue(page));
            }
        }
    }

    fn vend(&mut self, asker: &Asker, vend: &Vend, now: &Now, replies: &mut impl Replies) {
        let refuse = |reason, replies: &mut _| refuse(asker, vend.sequence, reason, replies);
        let Some(window) = self.windows.window(asker.terminal, asker.key_epoch) else {
            return refuse(RefuseReason::Closed, replies);
        };
        let answer = window.answer(vend.sequence);
        if answer == Answer::Closed {
            return refuse(RefuseReason::Closed, replies);
        }
        let news = window.news_of(vend.sequence, vend.confirmed);
        if answer == Answer::Open {
            if news == 0 && window.admit(vend.sequence).is_ok() {
                return self.sell_open(asker, vend, now, replies);
            }
            return self.vend_after_news(asker, vend, news, now, replies);
        }
        self.note_confirmed(asker, vend.sequence, news, now);
        if vend.attempt == Attempt::First {
            return refuse(RefuseReason::SequenceUsed, replies);
        }
        let asked = self.registry.variety_by_face(vend.product, vend.face_value);
        match answer {
            Answer::Sold { pin, state, .. } => {
                let Some(shelf) = self.library.shelf(pin) else {
                    return later(asker, vend.sequence, LaterReason::Busy, replies);
                };
                if asked != Some(shelf.variety) {
                    refuse(RefuseReason::OtherVariety, replies);
                } else if state == SequenceState::Voided {
                    replies.reply(asker, &state_of(vend.sequence, &answer));
                } else {
                    self.reply_sold(asker, vend.sequence, pin, 0, replies);
                }
            }
            Answer::Declined { variety, .. } if variety != VarietyId(0) && asked != Some(variety) => {
                refuse(RefuseReason::OtherVariety, replies);
            }
            Answer::Declined { reason, .. } => {
                replies.reply(asker, &Reply::Declined { sequence: vend.sequence, reason });
            }
            Answer::Blocked => {
                let reason = DeclineReason::Blocked;
                replies.reply(asker, &Reply::Declined { sequence: vend.sequence, reason });
            }
            Answer::Open | Answer::Closed => unreachable!("handled above"),
        }
    }

    /// A vend whose confirmations may make the room that it needs.
    fn vend_after_news(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        news: u64,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        self.note_confirmed(asker, vend.sequence, news, now);
        let (terminal, key_epoch) = (asker.terminal, asker.key_epoch);
        let Some(window) = self.windows.window(terminal, key_epoch) else { return };
        if window.admit(vend.sequence).is_err() {
            let (next, aged) = (window.next_sequence(), window.aged(now.unix_ms));
            self.note_confirmed(asker, next, aged, now);
        }
        let Some(window) = self.windows.window(terminal, key_epoch) else { return };
        match window.admit(vend.sequence) {
            Ok(()) => self.sell_open(asker, vend, now, replies),
            Err(_) => refuse(asker, vend.sequence, RefuseReason::WindowFull, replies),
        }
    }

    /// A vend for a sequence that has no answer yet and fits the window.
    fn sell_open(&mut self, asker: &Asker, vend: &Vend, now: &Now, replies: &mut impl Replies) {
        if self.stopping {
            return later(asker, vend.sequence, LaterReason::Stopping, replies);
        }
        // It waits no longer, whatever comes of it now: else it could get a PIN after a final decline.
        self.unpark(|parked| parked.asker.is_same_vend(parked.vend.sequence, asker, vend.sequence));
        let variety = self.registry.variety_by_face(vend.product, vend.face_value);
        let active = self.registry.dealer(asker.dealer).is_some_and(|dealer| dealer.state == State::Active);
        match variety {
            _ if !active => {
                let variety = variety.unwrap_or(VarietyId(0));
                self.decline(asker, vend, DeclineReason::DealerInactive, variety, now, replies);
            }
            None => self.decline(asker, vend, DeclineReason::NoSuchVariety, VarietyId(0), now, replies),
            Some(variety) => self.sell(asker, vend, variety, now, replies),
        }
    }

    /// Claims, opens and records; or parks the vend until a PIN arrives.
    fn sell(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        variety: VarietyId,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        let first_day = self.first_day(variety, now);
        loop {
            // One record for the sale and one for a damaged PIN in its place: nothing may fail after the claim.
            if !self.reserve(2) {
                return later(asker, vend.sequence, LaterReason::Disk, replies);
            }
            let lane = self.lanes.entry(variety).or_default();
            let Some((pin, shelf)) = lane.claim(|shelf| shelf.last_day >= first_day) else {
                return self.park(asker, vend, variety, now, replies);
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
            return replies.reply(asker, &sold(vend.sequence, pin, 0, expiry, secret, serial));
        }
    }

    /// The first day on which a PIN sold now must still be valid.
    fn first_day(&self, variety: VarietyId, now: &Now) -> u32 {
        let life = self.registry.variety(variety).map_or(0, |variety| variety.minimum_life_days);
        now.day().saturating_add(life)
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

    fn decline(
        &mut self,
        asker: &Asker,
        vend: &Vend,
        reason: DeclineReason,
        variety: VarietyId,
        now: &Now,
        replies: &mut impl Replies,
    ) {
        if !self.reserve(1) {
            return later(asker, vend.sequence, LaterReason::Disk, replies);
        }
        let (vend, confirmed) = (asker.names(vend.sequence), vend.confirmed);
        self.record(&Record::Declined { vend, reason, variety, confirmed, at_ms: now.unix_ms });
        replies.reply(asker, &Reply::Declined { sequence: vend.sequence, reason });
    }

    fn confirm(&mut self, asker: &Asker, sequence: u64, now: &Now, replies: &mut impl Replies) {
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

    fn void(&mut self, asker: &Asker, sequence: u64, now: &Now, replies: &mut impl Replies) {
        let vend = asker.names(sequence);
        let at_ms = now.unix_ms;
        let fact = match self.answer(asker, sequence) {
            Answer::Closed => return self.look_up(asker, sequence, false, replies),
            Answer::Open => {
                let window = self.windows.window(asker.terminal, asker.key_epoch);
                if window.is_none_or(|window| window.admit(sequence).is_err()) {
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

    fn status(&mut self, asker: &Asker, sequence: u64, replies: &mut impl Replies) {
        match self.answer(asker, sequence) {
            Answer::Closed => self.look_up(asker, sequence, false, replies),
            answer => replies.reply(asker, &state_of(sequence, &answer)),
        }
    }

    fn reprint(&mut self, asker: &Asker, sequence: u64, now: &Now, replies: &mut impl Replies) {
        match self.answer(asker, sequence) {
            Answer::Closed => self.look_up(asker, sequence, true, replies),
            Answer::Sold { state: SequenceState::Voided, .. }
            | Answer::Open
            | Answer::Declined { .. }
            | Answer::Blocked => refuse(asker, sequence, RefuseReason::NothingSold, replies),
            Answer::Sold { pin, copies, .. } => self.reprint_sold(asker, sequence, pin, copies, now, replies),
        }
    }

    fn reprint_sold(
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

    fn resolve(&mut self, asker: &Asker, login: &Login) -> Resolved {
        let unknown = Outcome { seller: SellerId(0), sequence: 0, state: SequenceState::Open, reference: 0 };
        let mut resolved = Resolved { count: login.count, outcomes: [unknown; UNRESOLVED_MAX] };
        let brought = &login.unresolved[..usize::from(login.count).min(UNRESOLVED_MAX)];
        for (outcome, &(seller, sequence)) in resolved.outcomes.iter_mut().zip(brought) {
            let (state, reference) = if seller == self.id {
                let answer = self.answer(asker, sequence);
                (answer.state(), answer.reference())
            } else {
                (SequenceState::InDoubt, 0)
            };
            *outcome = Outcome { seller, sequence, state, reference };
        }
        resolved
    }

    fn answer(&mut self, asker: &Asker, sequence: u64) -> Answer {
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

    fn end_lookup(&mut self, lookup: &Lookup) {
        if lookup.reprint {
            self.reprinting.remove(&lookup.asker.names(lookup.sequence));
        }
    }

    fn reply_sold(
        &mut self,
        asker: &Asker,
        sequence: u64,
        pin: PinId,
        copy: u16,
        replies: &mut impl Replies,
    ) {
        let opened = self.library.shelf(pin).and_then(|shelf| {
            let (secret, serial) = shelf.content.open(pin.index())?;
            Some(sold(sequence, pin, copy, shelf.content.expiry(), secret, serial))
        });
        match opened {
            Some(reply) => replies.reply(asker, &reply),
            // The record was good when it was sold and is not readable now: the operator can restore it.
            None => later(asker, sequence, LaterReason::InDoubt, replies),
        }
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
            let more = RECORDS_RESERVED_AT_ONCE;
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
