//! The steward: one per selling node. It keeps the node stocked: talks with upstream, takes transfers, splits what
//! arrives into the workers' lanes, helps dry lanes, withdraws what expired, ships the journal.
//!
//! # Driving it
//! A pure state machine but for the small state files that it writes, and the segment files that it opens, through [`Disk`]. Hand in
//! messages from upstream, signals from workers, the durable count of its own records, and [`Steward::handle_tick`] about every
//! [`TICK_MS`]. After each call take [`Steward::poll_action`] until it is empty, do what it says in that order, and take the
//! records made ([`Steward::records`]) to the journal.

mod asking;
mod below;
mod content;
mod levels;
mod place;
mod registry;
mod reporting;
mod returns;
mod sales;
mod segments;
mod shipping;
mod state;
mod taking;
#[cfg(test)]
mod tests;

pub use below::{ChildFault, ChildView};
pub use content::Content;
pub use levels::LevelRules;
pub use place::NodePlace;
pub use shipping::Shipping;
pub use taking::SegmentWrite;

use crate::disk::{Disk, DiskError};
use crate::ids::{SellerId, Span, VarietyId};
use crate::journal::record::{RecordBytes, Stream, WithdrawReason};
use crate::journal::{Record, Space};
use crate::ledger::Ledger;
use crate::limits::PARK_MS_MAX;
use crate::link::{ToHub, ToNode};
use crate::planted::{self, Fault};
use crate::pool::{Range, Shelf, Shelves};
use crate::registry::Registry;
use crate::registry::sealed::SealedError;
use crate::seller::{Library, Service};
use crate::stock::keys::WrongWrapping;
use crate::stock::{NodeKeys, SegmentError};
use crate::time::Now;
use crate::transfer::{Giver, Taker, TransferFault};
use below::{CHILDREN_FILE, Children};
use levels::Needs;
use place::{Leave, PLACE_FILE};
pub use registry::stored_registry;
use registry::{REGISTRY_FILE, RegistryCopy};
use returns::{RETURNS, Recalling};
use sales::Sales;
use segments::Segments;
use state::HUB_EPOCH_FILE;
use std::collections::VecDeque;
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
    segments: Segments<D>,
    takers: [Taker; 2],
    /// Gives stock back.
    giver: Giver,
    /// The nodes below.
    children: Children,
    /// What lost nodes below gave back: it is for upstream alone, which knows what may be sold of it.
    upward: VecDeque<(Arc<Shelf<Content<D>>>, Span)>,
    /// What upstream has called back and has not been told the end of.
    recalls: VecDeque<Recalling>,
    /// Whether the node belongs to the network.
    place: NodePlace,
    /// A full disk did not take that yet.
    place_unstored: bool,
    leave: Leave,
    /// What terminals may have of it.
    service: Service,
    /// Whether the node is going offline: nothing new is sold.
    draining: bool,
    rules: LevelRules,
    sales: Sales,
    needs: Needs,
    /// When the next report is due, in [`Now::monotonic_ms`].
    report_at_ms: u64,
    /// Where the journal ended durably a moment ago.
    journal_end: u64,
    /// Vends that wait for a PIN: worker and variety, oldest first.
    waiting: VecDeque<Waiting>,
    registry: RegistryCopy<D>,
    hub_epoch: u64,
    /// The one that a start would find.
    epoch_stored: u64,
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
    recorded: VecDeque<(u64, OnLink, Recorded)>,
    last_withdrawal_day: u32,
    actions: VecDeque<StewardAction<D>>,
}

/// What the owner of a [`Steward`] must do.
pub enum StewardAction<D: Disk> {
    /// Send it upstream.
    Send(ToHub),
    /// Put a segment that came into its file, then call [`Steward::handle_written`]. It may take its time: a segment is some
    /// megabytes, and what a terminal waits for is not to wait behind it.
    Write(Box<SegmentWrite>),
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
    /// Tell all workers what terminals may have of the node.
    Service(Service),
    /// Tell the operator that the node was declared lost, or has left.
    Place(NodePlace),
    /// Send it to a node below, if that is connected.
    SendBelow {
        /// To whom.
        node: SellerId,
        /// What.
        message: ToNode,
    },
    /// Close the link of a node below, behind what was sent over it.
    CloseBelow {
        /// Whose.
        node: SellerId,
        /// Why.
        why: String,
    },
    /// [`Steward::children`] has changed: who may call.
    Children,
    /// Upstream broke the protocol: drop the link and tell the operator. Selling goes on.
    Drop(UpstreamFault),
}

/// How upstream broke the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpstreamFault {
    /// In a transfer.
    #[error(transparent)]
    Transfer(#[from] TransferFault),
    /// It did not greet first.
    #[error("ready came before the welcome")]
    ReadyFirst,
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
    /// The file with the node's place in the network is damaged.
    #[error("{PLACE_FILE} is damaged: restore it from a copy")]
    Place,
    /// The hub has a journal of this node that this one does not continue.
    #[error(
        "the hub holds a journal of this seller that its own does not continue: this is an old copy, or its journal was \
         damaged, and it must not sell"
    )]
    OldCopy,
    /// The file with the nodes below is damaged.
    #[error("{CHILDREN_FILE} is damaged: restore it from a copy")]
    Children,
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

/// A record whose durability somebody waits for, with the number of its transfer.
#[derive(Clone, Copy, Debug)]
enum Recorded {
    /// An IN or REFUSED.
    Taken(Stream, u64),
    /// An OUT.
    Given(Stream, u64),
    /// A settlement.
    Settled(Stream, u64),
}

/// The node below whose link it is about; `None`: the link with upstream.
type OnLink = Option<SellerId>;

/// Who waits for a PIN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Waiter {
    /// A vend of a worker's.
    Worker(usize),
    /// A node below, with its number for the request.
    Below(SellerId, u64),
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    who: Waiter,
    variety: VarietyId,
    /// The urgent request made for it in this connection; 0: none.
    request: u64,
    /// By then the terminal has been told to come back; in [`Now::monotonic_ms`].
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
        rules: LevelRules,
        ledger: &Ledger,
    ) -> Result<Self, StewardError> {
        let registry = RegistryCopy::open(Arc::clone(&disk), &keys)?;
        let hub_epoch = state::load(&*disk)?;
        let place = place::load(&*disk)?;
        let taker = |stream| {
            let taken = ledger.taken(stream);
            Taker::new(stream, taken.highest, taken.outcomes.values().copied()).on_link_of(node)
        };
        let given = &ledger.given[RETURNS as usize];
        let giver = Giver::new(RETURNS, given.highest, given.open.values().copied());
        let giver = giver.without_content().on_link_of(node);
        let mut steward = Self {
            node,
            disk,
            keys,
            link_keys,
            space,
            library: Arc::default(),
            shelves: Shelves::new(workers),
            segments: Segments::new(),
            takers: [taker(Stream::Bulk), taker(Stream::Urgent)],
            giver,
            children: Children::new(ledger),
            upward: VecDeque::new(),
            recalls: VecDeque::new(),
            place,
            place_unstored: false,
            leave: Leave::NotTaken,
            service: Service::Open,
            draining: false,
            rules,
            sales: Sales::new(ledger),
            needs: Needs::default(),
            report_at_ms: 0,
            journal_end: 0,
            waiting: VecDeque::new(),
            registry,
            hub_epoch,
            epoch_stored: hub_epoch,
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
        steward.load_children()?;
        for holding in ledger.inventory.holdings() {
            let shelf =
                steward.open_shelf(holding.span, holding.generation, (holding.given, holding.refused))?;
            let is_from_lost = steward.is_lost_below(holding.from);
            if is_from_lost {
                // Also what is in a transfer upstream that may yet be refused.
                steward.segments.set_unsellable(&shelf);
            }
            for &(start, end) in holding.in_stock().intervals() {
                if is_from_lost {
                    steward.send_up(&shelf, Span { start, end, ..holding.span });
                } else {
                    steward.stock(&shelf, start, end);
                }
            }
        }
        if place != NodePlace::Member {
            steward.actions.push_back(StewardAction::Place(place));
            steward.serve(place.service());
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

    /// A connection to upstream is open. `acknowledged` is the journal position that upstream is known to hold, `mark` that of the
    /// journal's opening.
    pub fn handle_connected(&mut self, acknowledged: u64, mark: u64) {
        self.link = Link::Down;
        self.send(ToHub::Hello {
            node: self.node,
            hub_epoch: self.hub_epoch,
            journal_from: acknowledged,
            journal_mark: mark,
            workers: u16::try_from(self.shelves.lanes()).unwrap_or(u16::MAX),
            registry_version: self.registry.stored(),
            registry_digest: if self.registry.is_behind() { 0 } else { self.registry.current().digest() },
        });
    }

    /// The connection to upstream is gone, with everything on its way.
    pub fn handle_cut(&mut self) {
        self.link = Link::Down;
        self.leave = Leave::NotTaken;
        self.actions.retain(|action| !matches!(action, StewardAction::Send(_)));
        self.takers.iter_mut().for_each(Taker::handle_cut);
        self.giver.handle_cut();
        self.recalls.clear();
        self.needs.handle_cut();
        self.registry.handle_cut();
        self.cut_children_off();
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
                // A welcome is due once; said again it must not undo the ready that came meanwhile.
                if self.link != Link::Down {
                    return Ok(());
                }
                self.link = Link::Resuming;
                self.report_at_ms = 0;
                self.actions.push_back(StewardAction::Acknowledged { position: journal_acked });
                self.offer_again(now);
                self.introduce_children();
                self.note_archived(journal_acked);
            }
            // Without a welcome nothing would ever be reported or asked for.
            ToNode::Ready if self.link == Link::Down => {
                self.actions.push_back(StewardAction::Drop(UpstreamFault::ReadyFirst));
            }
            ToNode::Ready => {
                self.link = Link::Ready;
                self.report(now);
                self.ask(now);
            }
            ToNode::Offer(offer) => {
                let generation = self.segments.generation(offer.span);
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
                self.note_archived(position);
            }
            ToNode::Registry(registry) => self.take_registry(registry, now)?,
            ToNode::RegistryDelta(delta) => self.take_delta(delta, now)?,
            ToNode::Recall { recall, variety, count } => self.handle_recall(recall, variety, count),
            ToNode::Answer { stream: RETURNS, number, accepted } => {
                self.handle_answer(number, accepted, now);
            }
            ToNode::Drain { on } => self.handle_drain(on, now)?,
            ToNode::Lost => {
                self.set_place(NodePlace::Lost, now)?;
                self.serve(NodePlace::Lost.service());
            }
            ToNode::Closed => {
                self.set_place(NodePlace::Left, now)?;
                self.serve(NodePlace::Left.service());
            }
            ToNode::Farewell => self.leave = Leave::Taken,
            ToNode::OldCopy => return Err(StewardError::OldCopy),
            ToNode::Children(children) => self.take_children(&children, now)?,
            ToNode::Below { node, message } => self.hear_for_child(node, &message),
            // It has offered nothing in the other stream, and waits for nobody's progress.
            // Questions about sequences are the workers'.
            ToNode::Answer { .. } | ToNode::Progress { .. } | ToNode::Asked { .. } | ToNode::Told { .. } => {}
        }
        Ok(())
    }

    /// A worker has a vend of this variety and no PIN for it.
    pub fn handle_dry(&mut self, worker: usize, variety: VarietyId, now: &Now) {
        if self.draining {
            return;
        }
        let until_ms = now.monotonic_ms + PARK_MS_MAX;
        self.waiting.push_back(Waiting { who: Waiter::Worker(worker), variety, request: 0, until_ms });
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
        while let Some(&(made, link, recorded)) = self.recorded.front()
            && made <= durable
        {
            self.recorded.pop_front();
            if let Some(node) = link {
                self.child_recorded(node, recorded, now)?;
                continue;
            }
            match recorded {
                Recorded::Taken(stream, number) => {
                    self.taker(stream).handle_recorded(number);
                    self.follow(Ok(()), stream, now)?;
                }
                Recorded::Given(_, number) => self.handle_given(number, now),
                Recorded::Settled(_, number) => self.handle_settled(number, now),
            }
        }
        Ok(())
    }

    /// The journal is durable up to this position.
    pub fn handle_journal_durable(&mut self, end: u64) {
        self.journal_end = end;
    }

    /// Time went by.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn handle_tick(&mut self, now: &Now) -> Result<(), StewardError> {
        self.make_records();
        if self.last_withdrawal_day != now.day() {
            self.last_withdrawal_day = now.day();
            self.withdraw_expired(now);
        }
        // Who waited for so long was told to come back, and is heard of again when it does.
        self.waiting.retain(|waiting| waiting.until_ms > now.monotonic_ms);
        if planted::is(Fault::CancelByTimeout) {
            self.cancel_unanswered(now);
            self.cancel_unanswered_below(now);
        }
        self.give_back();
        self.serve_waiting(now);
        self.tick_children(now)?;
        self.report(now);
        self.ask(now);
        Ok(())
    }

    /// Splits PINs of a segment between the lanes.
    fn stock(&mut self, shelf: &Arc<Shelf<Content<D>>>, start: u32, end: u32) {
        self.sales.handle_stocked(shelf.variety, u64::from(end - start));
        let handed = self.shelves.add(shelf, start, end);
        self.hand_out(handed);
    }

    fn open_shelf(
        &mut self,
        span: Span,
        generation: u32,
        (given, refused): (u32, u32),
    ) -> Result<Arc<Shelf<Content<D>>>, StewardError> {
        let shelf = Arc::new(Content::open(&*self.disk, span, generation, self.keys.at_rest())?);
        self.segments.add(shelf.clone(), given, refused);
        self.library.add(shelf.clone());
        Ok(shelf)
    }

    fn withdraw_expired(&mut self, now: &Now) {
        let today = now.day();
        for (shelf, span) in self.shelves.cut_done(|shelf| shelf.last_day < today) {
            let (variety, reason) = (shelf.variety, WithdrawReason::Expired);
            self.sales.handle_cut(variety, u64::from(span.len()));
            self.unmade.push_back(Record::Withdrawn { span, variety, reason, at_ms: now.unix_ms });
        }
        self.make_records();
    }

    /// Makes records as far as the journal has room.
    fn make_records(&mut self) {
        while let Some(record) = self.unmade.front() {
            if !self.space.try_reserve_control(1) {
                return;
            }
            self.records.push(record.encode());
            self.made += 1;
            if let Some((link, recorded)) = Self::recorded_of(record) {
                self.recorded.push_back((self.made, link, recorded));
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

/// Vends that are remembered to be waiting; the oldest are forgotten first, as they time out first.
const WAITING_MAX: usize = 4096;
