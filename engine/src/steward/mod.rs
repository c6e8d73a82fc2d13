//! The steward: one per selling node. It keeps the node stocked: talks with upstream, takes transfers, splits what
//! arrives into the workers' lanes, helps dry lanes, withdraws what expired, ships the journal.
//!
//! # Driving it
//! A pure state machine but for the segment files and small state files that it writes through [`Disk`]. Hand in
//! messages from upstream, signals from workers, the durable count of its own records, and [`Steward::handle_tick`] about every
//! [`TICK_MS`]. After each call take [`Steward::poll_action`] until it is empty, do what it says in that order, and take the
//! records made ([`Steward::records`]) to the journal.

mod content;
mod levels;
mod registry;
mod shipping;
#[cfg(test)]
mod tests;

pub use content::Content;
pub use levels::Levels;
pub use shipping::Shipping;

use crate::disk::{Disk, DiskError};
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::journal::record::{RecordBytes, Stream, WithdrawReason};
use crate::journal::{Record, Space};
use crate::ledger::Ledger;
use crate::limits::PARK_MS_MAX;
use crate::link::{Offer, ToHub, ToNode};
use crate::pool::{Range, Shelf, Shelves};
use crate::registry::sealed::SealedError;
use crate::registry::{Delta, Registry};
use crate::seller::Library;
use crate::stock::keys::WrongWrapping;
use crate::stock::segment::{segment_path, write_segment};
use crate::stock::{NodeKeys, SegmentError, SegmentHeader};
use crate::time::Now;
use crate::transfer::{Taker, TakerAction, TransferFault, open_max};
use levels::Needs;
use registry::{Misfit, OpenError, REGISTRY_FILE, RegistryCopy};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How often [`Steward::handle_tick`] is due, in milliseconds.
pub const TICK_MS: u64 = 50;

/// Keeps one node stocked.
pub struct Steward<D: Disk> {
    node: SellerId,
    disk: Arc<D>,
    keys: NodeKeys,
    /// Wraps data keys on the link with upstream.
    link_keys: Arc<NodeKeys>,
    space: Arc<Space>,
    library: Arc<Library<Content<D>>>,
    shelves: Shelves<Content<D>>,
    /// Highest generation of every span that ever came here.
    generations: BTreeMap<BlockId, Vec<(Span, u32)>>,
    takers: [Taker; 2],
    needs: Needs,
    /// Vends that wait for a PIN: worker and variety, oldest first.
    waiting: VecDeque<Waiting>,
    registry: RegistryCopy<D>,
    hub_epoch: u64,
    /// A full disk did not take the hub's epoch yet.
    epoch_unstored: bool,
    /// When what a full disk did not take is tried again, in [`Now::monotonic_ms`].
    store_again_ms: u64,
    link: Link,
    next_request: u64,
    records: Vec<RecordBytes>,
    /// Records that wait for room in the journal.
    unmade: VecDeque<Record>,
    made: u64,
    /// Transfers whose record is on its way: it is durable when this many are.
    recorded: VecDeque<(u64, Stream, u64)>,
    last_withdrawal_day: u32,
    actions: VecDeque<StewardAction<D>>,
}

/// What the owner of a [`Steward`] must do.
pub enum StewardAction<D: Disk> {
    /// Send it upstream.
    Send(ToHub),
    /// Hand a range to a worker.
    Range {
        /// Which.
        worker: usize,
        /// The range.
        range: Arc<Range<Content<D>>>,
    },
    /// Tell a worker that the network has no PIN of a variety.
    OutOfStock {
        /// Which worker.
        worker: usize,
        /// The variety.
        variety: VarietyId,
    },
    /// Give all workers, and the front, a new registry.
    Registry(Arc<Registry>),
    /// The hub holds the journal up to here.
    Acknowledged {
        /// The position.
        position: u64,
    },
    /// Upstream broke the protocol: drop the link and tell the operator. Selling goes on.
    Drop(TransferFault),
}

/// Why the steward cannot go on: the node stops.
#[derive(Debug, thiserror::Error)]
pub enum StewardError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A segment file in the books is not what it was.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A data key does not open.
    #[error("block {block:#x}: {source}")]
    Key {
        /// The block.
        block: u64,
        /// Why.
        source: WrongWrapping,
    },
    /// The stored registry does not open.
    #[error("{REGISTRY_FILE}: {0}")]
    Registry(SealedError),
    /// The hub has an epoch lower than one seen before.
    #[error(
        "the hub calls itself epoch {hub_epoch}, and epoch {seen} was seen before: it is an old copy; start the latest one"
    )]
    OldHub {
        /// What the hub says.
        hub_epoch: u64,
        /// What was seen.
        seen: u64,
    },
    /// The file with the hub's epoch is damaged.
    #[error("{HUB_EPOCH_FILE} is damaged: restore it from a copy")]
    HubEpoch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// No connection, or no welcome yet.
    Down,
    /// Transfers of earlier connections are being offered again.
    Resuming,
    /// Requests may be made.
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    worker: usize,
    variety: VarietyId,
    /// The urgent request made for it in this connection; 0: none.
    request: u64,
    /// By then its terminal has been told to come back; in [`Now::monotonic_ms`].
    until_ms: u64,
}

impl<D: Disk> Steward<D> {
    /// A steward for a node whose durable books say `ledger`. Opens every segment file that the books name; ranges of
    /// what is in stock are among the first actions.
    ///
    /// # Errors
    /// [`StewardError`]: the node must not start.
    #[expect(clippy::too_many_arguments, reason = "one owner hands it everything once")]
    pub fn new(
        node: SellerId,
        disk: Arc<D>,
        keys: NodeKeys,
        link_keys: Arc<NodeKeys>,
        space: Arc<Space>,
        workers: usize,
        levels: Levels,
        ledger: &Ledger,
    ) -> Result<Self, StewardError> {
        let registry = RegistryCopy::open(Arc::clone(&disk), &keys).map_err(|error| match error {
            OpenError::Disk(error) => StewardError::Disk(error),
            OpenError::Sealed(error) => StewardError::Registry(error),
        })?;
        let hub_epoch = match disk.open(HUB_EPOCH_FILE) {
            Ok(file) => u64::from_le_bytes(file.as_ref().try_into().map_err(|_| StewardError::HubEpoch)?),
            Err(error) if error.is_missing() => 0,
            Err(error) => return Err(error.into()),
        };
        let taker = |stream| {
            let taken = ledger.taken(stream);
            Taker::new(stream, taken.highest, taken.outcomes.values().copied())
        };
        let mut steward = Self {
            node,
            disk,
            keys,
            link_keys,
            space,
            library: Arc::default(),
            shelves: Shelves::new(workers),
            generations: BTreeMap::new(),
            takers: [taker(Stream::Bulk), taker(Stream::Urgent)],
            needs: Needs::new(levels),
            waiting: VecDeque::new(),
            registry,
            hub_epoch,
            epoch_unstored: false,
            store_again_ms: 0,
            link: Link::Down,
            next_request: 1,
            records: Vec::new(),
            unmade: VecDeque::new(),
            made: 0,
            recorded: VecDeque::new(),
            last_withdrawal_day: 0,
            actions: VecDeque::new(),
        };
        for holding in ledger.inventory.holdings() {
            let shelf = steward.open_shelf(holding.span, holding.generation)?;
            for &(start, end) in holding.in_stock().intervals() {
                let handed = steward.shelves.add(&shelf, start, end);
                steward.hand_out(handed);
            }
        }
        Ok(steward)
    }

    /// Every segment content of the node, for its workers.
    #[must_use]
    pub fn library(&self) -> Arc<Library<Content<D>>> {
        self.library.clone()
    }

    /// The registry in force.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        self.registry.current()
    }

    /// PINs of a variety that can be sold now.
    pub fn in_stock(&mut self, variety: VarietyId, now: &Now) -> u64 {
        let first_day = self.first_day(variety, now);
        self.shelves.remaining(variety, |shelf| shelf.last_day >= first_day)
    }

    /// Whether upstream answers.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.link == Link::Ready
    }

    /// The records made since they were last taken, oldest first. The caller empties it into the journal's queue.
    pub fn records(&mut self) -> &mut Vec<RecordBytes> {
        &mut self.records
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<StewardAction<D>> {
        self.actions.pop_front()
    }

    /// A connection to upstream is open. `acknowledged` is the journal position that upstream is known to hold.
    pub fn handle_connected(&mut self, acknowledged: u64) {
        self.link = Link::Down;
        self.send(ToHub::Hello {
            node: self.node,
            hub_epoch: self.hub_epoch,
            journal_from: acknowledged,
            workers: u16::try_from(self.shelves.lanes()).unwrap_or(u16::MAX),
            registry_version: self.registry.stored(),
            registry_digest: if self.registry.is_behind() { 0 } else { self.registry.current().digest() },
        });
    }

    /// The connection to upstream is gone, with everything on its way.
    pub fn handle_cut(&mut self) {
        self.link = Link::Down;
        self.actions.retain(|action| !matches!(action, StewardAction::Send(_)));
        self.takers.iter_mut().for_each(Taker::handle_cut);
        self.needs.handle_cut();
        self.registry.handle_cut();
        self.waiting.iter_mut().for_each(|waiting| waiting.request = 0);
    }

    /// A message from upstream.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn handle_message(&mut self, message: ToNode, now: &Now) -> Result<(), StewardError> {
        match message {
            ToNode::Welcome { hub_epoch, journal_acked, .. } => {
                if hub_epoch < self.hub_epoch {
                    return Err(StewardError::OldHub { hub_epoch, seen: self.hub_epoch });
                }
                if hub_epoch > self.hub_epoch {
                    self.hub_epoch = hub_epoch;
                    self.epoch_unstored = true;
                    self.store_state(now)?;
                }
                self.link = Link::Resuming;
                self.actions.push_back(StewardAction::Acknowledged { position: journal_acked });
            }
            ToNode::Ready => {
                self.link = Link::Ready;
                self.ask(now);
            }
            ToNode::Offer(offer) => {
                let generation = self.generation(offer.span);
                let taken = self.taker(offer.stream).handle_offer(offer, generation);
                self.follow(taken, offer.stream, now)?;
            }
            ToNode::Chunk { stream, number, offset, bytes } => {
                let taken = self.taker(stream).handle_chunk(number, offset, &bytes);
                self.follow(taken, stream, now)?;
            }
            ToNode::Answered { request, granted, .. } => self.answered(request, granted, now),
            ToNode::StockArrived { variety } => {
                self.needs.handle_stock_arrived(variety);
                self.ask(now);
            }
            ToNode::JournalAcked { position } => {
                self.actions.push_back(StewardAction::Acknowledged { position });
            }
            ToNode::Registry(registry) => self.take_registry(registry, now)?,
            ToNode::RegistryDelta(delta) => self.take_delta(delta, now)?,
            // This node has none to spare yet.
            ToNode::Recall { recall, .. } => self.send(ToHub::Recalled { recall, count: 0 }),
            // It has offered nothing, and does not leave.
            ToNode::Progress { .. } | ToNode::Answer { .. } | ToNode::Drain { .. } => {}
        }
        Ok(())
    }

    /// A worker has a vend of this variety and no PIN for it.
    pub fn handle_dry(&mut self, worker: usize, variety: VarietyId, now: &Now) {
        let until_ms = now.monotonic_ms + PARK_MS_MAX;
        self.waiting.push_back(Waiting { worker, variety, request: 0, until_ms });
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        self.serve_waiting(now);
        self.ask(now);
    }

    /// So many of the steward's own records are durable.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn handle_durable(&mut self, durable: u64, now: &Now) -> Result<(), StewardError> {
        if now.monotonic_ms >= self.store_again_ms {
            self.store_state(now)?;
        }
        while let Some(&(made, stream, number)) = self.recorded.front()
            && made <= durable
        {
            self.recorded.pop_front();
            self.taker(stream).handle_recorded(number);
            self.follow(Ok(()), stream, now)?;
        }
        Ok(())
    }

    /// Time went by.
    pub fn handle_tick(&mut self, now: &Now) {
        self.make_records();
        if self.last_withdrawal_day != now.day() {
            self.last_withdrawal_day = now.day();
            self.withdraw_expired(now);
        }
        // Who waited for so long was told to come back, and is heard of again when it does.
        self.waiting.retain(|waiting| waiting.until_ms > now.monotonic_ms);
        self.serve_waiting(now);
        self.ask(now);
    }

    /// Does what a taker says.
    fn follow(
        &mut self,
        taken: Result<(), TransferFault>,
        stream: Stream,
        now: &Now,
    ) -> Result<(), StewardError> {
        if let Err(fault) = taken {
            self.actions.push_back(StewardAction::Drop(fault));
        }
        while let Some(action) = self.taker(stream).poll_action() {
            match action {
                TakerAction::WriteContent { offer, bytes } => match self.write_content(&offer, &bytes) {
                    Ok(()) => {
                        self.needs.handle_room();
                        self.taker(stream).handle_written(offer.number);
                    }
                    // The giver keeps it, and is asked again when there may be room.
                    Err(StewardError::Disk(error)) if error.is_full() => {
                        self.needs.handle_no_room(now);
                        self.waiting
                            .retain(|waiting| waiting.request == 0 || waiting.request != offer.request);
                        self.taker(stream).refuse(offer.number);
                    }
                    Err(error) => return Err(error),
                },
                TakerAction::Record(record) => {
                    self.unmade.push_back(record);
                    self.make_records();
                }
                TakerAction::Taken(offer) => self.take(&offer, now)?,
                TakerAction::Progress { number, bytes } => {
                    self.send(ToHub::Progress { stream, number, bytes });
                }
                TakerAction::Answer { number, accepted } => {
                    self.send(ToHub::Answer { stream, number, accepted });
                }
            }
        }
        Ok(())
    }

    fn write_content(&mut self, offer: &Offer, records: &[u8]) -> Result<(), StewardError> {
        let block = offer.span.block;
        let wrong = |source| StewardError::Key { block: block.0, source };
        let key = self.link_keys.link().unwrap(block, &offer.wrapped_key).map_err(wrong)?;
        let header = SegmentHeader {
            properties: offer.properties,
            start: offer.span.start,
            end: offer.span.end,
            generation: offer.generation,
            block_count: offer.block_count,
            key: self.keys.at_rest().wrap(block, &key),
        };
        let path = segment_path(offer.span, offer.generation);
        Ok(write_segment(&*self.disk, &path, &header, &[records])?)
    }

    /// A segment is this node's: it may be sold.
    fn take(&mut self, offer: &Offer, now: &Now) -> Result<(), StewardError> {
        let shelf = self.open_shelf(offer.span, offer.generation)?;
        let Span { start, end, .. } = offer.span;
        let asked_by = self.waiting.iter().position(|w| offer.request != 0 && w.request == offer.request);
        let handed = match asked_by.and_then(|at| self.waiting.remove(at)) {
            Some(waiting) => vec![self.shelves.add_to(waiting.worker, shelf, start, end)],
            None => self.shelves.add(&shelf, start, end),
        };
        self.hand_out(handed);
        self.serve_waiting(now);
        Ok(())
    }

    fn open_shelf(&mut self, span: Span, generation: u32) -> Result<Arc<Shelf<Content<D>>>, StewardError> {
        let shelf = Arc::new(Content::open(&*self.disk, span, generation, self.keys.at_rest())?);
        self.generations.entry(span.block).or_default().push((span, generation));
        self.library.add(shelf.clone());
        Ok(shelf)
    }

    fn generation(&self, span: Span) -> u32 {
        let known = self.generations.get(&span.block).into_iter().flatten();
        let overlapping = known.filter(|(held, _)| held.start < span.end && span.start < held.end);
        overlapping.map(|(_, generation)| *generation).max().unwrap_or(0)
    }

    /// Helps waiting workers from their siblings' ranges, and asks upstream for the rest, one PIN each. A vend that an
    /// urgent request was made for waits for its answer.
    fn serve_waiting(&mut self, now: &Now) {
        if self.waiting.iter().all(|waiting| waiting.request != 0) {
            return;
        }
        let asked = self.waiting.iter().filter(|waiting| waiting.request != 0).count();
        let may_ask = self.link == Link::Ready && !self.needs.is_resting(now);
        let mut questions = if may_ask { URGENT_REQUESTS_MAX.saturating_sub(asked) } else { 0 };
        let mut left = VecDeque::with_capacity(self.waiting.len());
        let mut stocked = BTreeMap::new();
        let mut dry = BTreeSet::new();
        while let Some(mut waiting) = self.waiting.pop_front() {
            let Waiting { worker, variety, request, .. } = waiting;
            if request == 0 && (questions > 0 || !dry.contains(&(worker, variety))) {
                let first_day = self.first_day(variety, now);
                let is_sellable = |shelf: &Shelf<_>| shelf.last_day >= first_day;
                let shelves = &mut self.shelves;
                let own = stocked.entry((worker, variety));
                let own = own.or_insert_with(|| shelves.remaining_in(worker, variety, is_sellable));
                if *own > 0 {
                    *own -= 1;
                    continue;
                }
                if let Some(handed) = shelves.help(worker, variety, is_sellable) {
                    *own = u64::from(handed.1.remaining()).saturating_sub(1);
                    self.hand_out(vec![handed]);
                    continue;
                }
                dry.insert((worker, variety));
                if questions > 0 && self.coming_in_bulk(variety) == 0 {
                    questions -= 1;
                    waiting.request = self.next_request;
                    self.next_request += 1;
                    self.send(ToHub::Urgent { request: waiting.request, variety });
                }
            }
            left.push_back(waiting);
        }
        self.waiting = left;
    }

    /// Asks for stock of every variety that is below its low mark.
    fn ask(&mut self, now: &Now) {
        if self.link != Link::Ready {
            return;
        }
        let registry = Arc::clone(self.registry.current());
        for variety in registry.varieties().map(|variety| variety.id) {
            let coming: u64 =
                self.takers.iter().flat_map(Taker::arriving).map(|offer| coming_of(offer, variety)).sum();
            let held = self.in_stock(variety, now) + coming;
            if let Some(count) = self.needs.next_request(variety, held, now, self.next_request) {
                let request = self.next_request;
                self.next_request += 1;
                self.send(ToHub::Need { request, variety, count });
            }
        }
    }

    fn answered(&mut self, request: u64, granted: u32, now: &Now) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.request == request) {
            if granted > 0 {
                return;
            }
            let Waiting { worker, variety, .. } = self.waiting[at];
            // The hub may have none because this node has it all, or is about to, or has just had no room for it.
            let is_near = self.in_stock(variety, now) + self.coming_in_bulk(variety) > 0;
            if is_near || self.needs.is_resting(now) {
                self.waiting[at].request = 0;
                self.serve_waiting(now);
            } else {
                self.waiting.remove(at);
                self.actions.push_back(StewardAction::OutOfStock { worker, variety });
            }
        } else {
            self.needs.handle_answered(request, granted, now);
        }
    }

    /// Upstream sent the whole registry. Changes travel another way and may have come before it.
    fn take_registry(&mut self, registry: Arc<Registry>, now: &Now) -> Result<(), StewardError> {
        if self.registry.replace(registry) {
            self.actions.push_back(StewardAction::Registry(Arc::clone(self.registry.current())));
            self.store_state(now)?;
        } else if !self.registry.is_behind() {
            self.say_held();
        }
        Ok(())
    }

    /// Upstream sent a change of it.
    fn take_delta(&mut self, delta: Arc<Delta>, now: &Now) -> Result<(), StewardError> {
        match self.registry.apply(delta) {
            Ok(stored) => {
                self.actions.push_back(StewardAction::Registry(Arc::clone(self.registry.current())));
                if self.stored(stored, now)? {
                    self.say_held();
                }
            }
            // Version 0 is what a node holds that has nothing: upstream sends the whole.
            Err(Misfit { ask: true }) => self.send(ToHub::RegistryHeld { version: 0, digest: 0 }),
            Err(Misfit { ask: false }) => {}
        }
        Ok(())
    }

    fn say_held(&mut self) {
        let registry = self.registry.current();
        let (version, digest) = (registry.version(), registry.digest());
        self.send(ToHub::RegistryHeld { version, digest });
    }

    /// Writes the state files that are behind what is in force. A full disk puts that off and stops nothing: the hub says
    /// both again at the next connection.
    fn store_state(&mut self, now: &Now) -> Result<(), StewardError> {
        if self.epoch_unstored {
            let written = self.disk.write(HUB_EPOCH_FILE, &[&self.hub_epoch.to_le_bytes()]);
            self.epoch_unstored = !self.stored(written, now)?;
        }
        if self.registry.is_behind() {
            let written = self.registry.store();
            if self.stored(written, now)? {
                self.say_held();
            }
        }
        Ok(())
    }

    /// Whether something could be stored; if not for lack of room, it is tried again later.
    fn stored(&mut self, written: Result<(), DiskError>, now: &Now) -> Result<bool, StewardError> {
        match written {
            Err(error) if error.is_full() => {
                self.store_again_ms = now.monotonic_ms + STORE_AGAIN_MS;
                Ok(false)
            }
            done => Ok(done.map(|()| true)?),
        }
    }

    fn withdraw_expired(&mut self, now: &Now) {
        let today = now.day();
        for (shelf, span) in self.shelves.cut_done(|shelf| shelf.last_day < today) {
            let (variety, reason) = (shelf.variety, WithdrawReason::Expired);
            self.unmade.push_back(Record::Withdrawn { span, variety, reason, at_ms: now.unix_ms });
        }
        self.make_records();
    }

    /// PINs of a variety that are on their way here, for whoever asks for them.
    fn coming_in_bulk(&self, variety: VarietyId) -> u64 {
        self.takers[Stream::Bulk as usize].arriving().map(|offer| coming_of(offer, variety)).sum()
    }

    /// Makes records as far as the journal has room.
    fn make_records(&mut self) {
        while let Some(record) = self.unmade.front() {
            if !self.space.try_reserve_control(1) {
                return;
            }
            self.records.push(record.encode());
            self.made += 1;
            if let Record::Received(fact) | Record::Refused(fact) = record {
                self.recorded.push_back((self.made, fact.stream, fact.number));
            }
            self.unmade.pop_front();
        }
    }

    fn hand_out(&mut self, handed: Vec<(usize, Arc<Range<Content<D>>>)>) {
        let ranges = handed.into_iter().map(|(worker, range)| StewardAction::Range { worker, range });
        self.actions.extend(ranges);
    }

    /// The first day on which a PIN sold now must still be valid.
    fn first_day(&self, variety: VarietyId, now: &Now) -> u32 {
        let life = self.registry.current().variety(variety).map_or(0, |variety| variety.minimum_life_days);
        now.day().saturating_add(life)
    }

    fn taker(&mut self, stream: Stream) -> &mut Taker {
        &mut self.takers[stream as usize]
    }

    fn send(&mut self, message: ToHub) {
        self.actions.push_back(StewardAction::Send(message));
    }
}

fn coming_of(offer: &Offer, variety: VarietyId) -> u64 {
    if offer.properties.variety == variety { u64::from(offer.span.len()) } else { 0 }
}

/// The node's copy of the registry, sealed under its own key.
/// The highest hub epoch seen.
const HUB_EPOCH_FILE: &str = "hub-epoch";
/// How long a full disk is left alone before a state file is tried again, in milliseconds.
const STORE_AGAIN_MS: u64 = 1_000;
/// Vends that are remembered to be waiting; the oldest are forgotten first, as they time out first.
const WAITING_MAX: usize = 4096;
/// Urgent requests without answer. The hub never has more of them open than a link allows, whatever it has still to
/// commit: more would be answered that there is no stock.
const URGENT_REQUESTS_MAX: usize = open_max(Stream::Urgent) / 4;
