//! A selling node on a disk in memory, with its threads as steps: what the real threads do between two waits.

use super::dice::Dice;
use crate::commit::{Committer, RecordSender, Wake};
use crate::disk::DiskError;
use crate::disk::heap::HeapDisk;
use crate::ids::{SellerId, TerminalId};
use crate::journal::record::{Stream, VendName};
use crate::journal::{JournalError, JournalOptions, Position, Upkeep};
use crate::ledger::{Bookkeeper, BookkeeperError};
use crate::link::{Asked, Questions, ToHub, ToNode, Told};
use crate::seller::{ABROAD, AskedHere, Asker, Lookup, Replies, Seller};
use crate::steward::{Content, LevelRules, SegmentWrite, Shipping, Steward, StewardAction, StewardError};
use crate::stock::segment::{HEADER_BYTES, segment_path};
use crate::stock::{NodeKeys, PIN_RECORD_BYTES};
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use wire::message::{Reply, Request};

/// One node.
pub(super) struct Node {
    workers: Vec<Worker>,
    committer: Committer<HeapDisk>,
    /// How far the batch under way has come.
    commit_step: CommitStep,
    steward: Steward<HeapDisk>,
    steward_sender: RecordSender,
    shipping: Shipping<HeapDisk>,
    bookkeeper: Bookkeeper<HeapDisk>,
    upkeep: Upkeep<HeapDisk>,
    disk: Arc<HeapDisk>,
    /// Segments that are to be put into their files.
    writes: VecDeque<Box<SegmentWrite>>,
    /// Messages for the hub that the pipe has not taken yet.
    pub(super) to_hub: VecDeque<ToHub>,
    /// Messages for nodes below.
    pub(super) to_below: VecDeque<(SellerId, ToNode)>,
    /// Replies that left, for the network to carry.
    pub(super) replies: VecDeque<(Asker, Reply)>,
    /// What was said on links and has to be durable.
    pub(super) claims: Vec<Claim>,
    /// Nodes below whose links this node has closed.
    pub(super) closed: Vec<(SellerId, String)>,
    /// Why this node wants another connection with upstream, if it does.
    pub(super) hangs_up: Option<String>,
    /// Questions of terminals here on their way: worker and number there.
    questions: Questions<(usize, u64)>,
    /// Questions of terminals elsewhere.
    asked: BTreeMap<u64, VendName>,
    /// Whether the hello of the connection with upstream is out: nothing goes before it.
    has_called: bool,
    /// There is no room for the next segment that comes.
    pub(super) refuses_write: bool,
    /// Whether its workers have ended, because it is to stop in good order.
    is_stopping: bool,
}

/// Something that was said and may not be said before it is durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claim {
    /// A segment was offered, upstream or to a node below.
    Given(Option<SellerId>, Stream, u64),
    /// A transfer was answered.
    Answered(Option<SellerId>, Stream, u64),
    /// A terminal at another seller was told what became of a sequence.
    Told(VendName, Told),
}

/// What stops a node.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodeStop {
    /// Its books or journal.
    #[error(transparent)]
    Bookkeeper(#[from] BookkeeperError),
    /// Its steward.
    #[error(transparent)]
    Steward(#[from] StewardError),
    /// Upstream holds more of its journal than it has.
    #[error("upstream holds the journal up to {archived}, here it ends at {durable}: this is an old copy")]
    OldSeller {
        /// What upstream has.
        archived: u64,
        /// What is here.
        durable: u64,
    },
}

impl NodeStop {
    /// Whether the cause is lack of room, which passes.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Bookkeeper(error) => error.is_full(),
            Self::Steward(StewardError::Disk(error)) => error.is_full(),
            _ => false,
        }
    }

    /// Whether a node that was started on an old copy has found that out.
    pub(super) fn is_old_copy(&self) -> bool {
        matches!(self, Self::OldSeller { .. } | Self::Steward(StewardError::OldCopy))
            || matches!(
                self,
                Self::Bookkeeper(
                    BookkeeperError::Journal(JournalError::Corrupt { .. } | JournalError::Recycled { .. })
                    // It was given what it still has: it does not know that it gave that back. Nobody heard that it took it.
                    | BookkeeperError::Contradiction { .. }
                )
            )
    }
}

struct Worker {
    seller: Seller<Content<HeapDisk>>,
    sender: RecordSender,
    held: Held,
    /// Questions for the history, which may be asked when so many records are durable.
    lookups: VecDeque<(u64, Lookup)>,
    asked_here: AskedHere,
}

/// Replies that wait until the records they depend on are durable.
#[derive(Default)]
struct Held {
    queue: VecDeque<(u64, Asker, Reply)>,
    /// How many at the end of `queue` are not told yet what they depend on.
    unsettled: usize,
    /// What is for terminals elsewhere, and waits no longer than until its question is looked up.
    abroad: VecDeque<(u64, Reply)>,
}

impl Replies for Held {
    fn reply(&mut self, asker: &Asker, reply: &Reply) {
        if asker.session >= ABROAD {
            self.abroad.push_back((asker.session, reply.clone()));
            return;
        }
        self.queue.push_back((u64::MAX, *asker, reply.clone()));
        self.unsettled += 1;
    }
}

impl Held {
    /// Replies given out since the last time depend on `made` records.
    fn settle(&mut self, made: u64) {
        let unsettled = std::mem::take(&mut self.unsettled);
        self.queue.iter_mut().rev().take(unsettled).for_each(|(ticket, ..)| *ticket = made);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CommitStep {
    Gather,
    Append,
    Sync,
    Publish,
}

impl Node {
    /// The books of a node whose disk is this one, if it were started now.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn recover(disk: Arc<HeapDisk>) -> Result<Bookkeeper<HeapDisk>, NodeStop> {
        let options = JournalOptions::with_segment_bytes(SEGMENT_BYTES);
        Ok(Bookkeeper::recover(disk, options, CHECKPOINT_BYTES)?.0)
    }

    /// Starts a node on what is on the disk; `mark` is that of its journal's opening.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn boot(
        id: SellerId,
        disk: Arc<HeapDisk>,
        workers: usize,
        levels: LevelRules,
        link_keys: Arc<NodeKeys>,
        mark: u64,
    ) -> Result<Self, NodeStop> {
        let options = JournalOptions::with_segment_bytes(SEGMENT_BYTES).marked(mark);
        let (bookkeeper, journal) = Bookkeeper::recover(disk.clone(), options, CHECKPOINT_BYTES)?;
        let (space, upkeep, boot) = (journal.space(), journal.upkeep(), journal.boot_epoch());
        let shipping = Shipping::new(journal.reader());
        let ledger = bookkeeper.ledger();
        let keys = NodeKeys::from_node_key(&[2; 32]);
        let own_disk = Arc::clone(&disk);
        let steward = Steward::new(id, disk, keys, link_keys, space.clone(), workers, levels, ledger)?;
        let mut committer = Committer::new(journal, Arc::new(Nobody));
        let windows = ledger.windows.clone().split(workers, |terminal| home(terminal, workers));
        let workers = windows.into_iter().map(|windows| {
            let registry = steward.registry().clone();
            let seller = Seller::new(id, registry, steward.library(), windows, space.clone());
            let seller = seller.with_service(steward.service());
            Worker {
                seller,
                sender: committer.sender(Arc::new(Nobody)),
                held: Held::default(),
                lookups: VecDeque::new(),
                asked_here: AskedHere::default(),
            }
        });
        let workers = workers.collect();
        let steward_sender = committer.sender(Arc::new(Nobody));
        Ok(Self {
            workers,
            committer,
            commit_step: CommitStep::Gather,
            steward,
            steward_sender,
            shipping,
            bookkeeper,
            upkeep,
            disk: own_disk,
            writes: VecDeque::new(),
            to_hub: VecDeque::new(),
            to_below: VecDeque::new(),
            replies: VecDeque::new(),
            claims: Vec::new(),
            closed: Vec::new(),
            hangs_up: None,
            questions: Questions::new(boot),
            asked: BTreeMap::new(),
            has_called: false,
            refuses_write: false,
            is_stopping: false,
        })
    }

    /// Whether where it stands is on its disk.
    pub(super) fn has_stored_its_place(&self) -> bool {
        self.steward.is_place_stored()
    }

    /// Damages the record of some PIN that is in stock, where it lies: to be started anew afterwards, as nobody looks at a
    /// file while it decays. Nothing happens to a node without stock.
    pub(super) fn damage_record(&self, disk: &HeapDisk, dice: &mut Dice) {
        let inventory = &self.bookkeeper.ledger().inventory;
        let stocked: Vec<_> = inventory.holdings().filter(|held| !held.in_stock().is_empty()).collect();
        let Some(held) = stocked.get(dice.below(stocked.len() as u64) as usize) else { return };
        let index = held.in_stock().intervals()[0].0;
        let place = HEADER_BYTES + (index - held.span.start) as usize * PIN_RECORD_BYTES;
        disk.flip_bit(&segment_path(held.span, held.generation), place + dice.below(40) as usize, 3);
    }

    /// A terminal connected: its welcome waits like any reply for what it depends on.
    pub(super) fn handle_connected(&mut self, asker: &Asker) {
        let home = home(asker.terminal, self.workers.len());
        let Worker { seller, held, .. } = &mut self.workers[home];
        let welcome = seller.welcome(asker.terminal, asker.key_epoch);
        held.reply(asker, &Reply::Welcome(Box::new(welcome)));
        held.settle(seller.made());
    }

    /// A terminal's connection ended.
    pub(super) fn handle_closed(&mut self, asker: &Asker) {
        let home = home(asker.terminal, self.workers.len());
        self.workers[home].seller.handle_closed(asker.session);
    }

    /// A request arrives at its home worker: claim and record, all in memory.
    pub(super) fn handle_request(&mut self, asker: &Asker, request: &Request, now: &Now) {
        let home = home(asker.terminal, self.workers.len());
        let worker = &mut self.workers[home];
        if self.is_stopping || worker.sender.room() < RECORDS_PER_REQUEST_MAX {
            return;
        }
        worker.seller.handle_request(asker, request, now, &mut worker.held);
        worker.take_turn(now);
    }

    /// A message from upstream, and what the steward says to it.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn handle_message(&mut self, message: ToNode, now: &Now) -> Result<(), NodeStop> {
        match message {
            ToNode::Asked { question, asked } => self.handle_asked(question, asked, now),
            ToNode::Told { question, told } => {
                if let Some((worker, number)) = self.questions.take(question) {
                    let Worker { seller, held, .. } = &mut self.workers[worker];
                    seller.handle_told(number, &told, held);
                    held.settle(seller.made());
                }
            }
            message => {
                self.steward.handle_message(message, now)?;
                self.act(now)?;
            }
        }
        Ok(())
    }

    /// A terminal elsewhere asks about a sequence of this node's.
    fn handle_asked(&mut self, question: u64, asked: Asked, now: &Now) {
        if self.is_stopping {
            return;
        }
        self.asked.insert(question, asked.vend);
        let home = home(asked.vend.terminal, self.workers.len());
        let worker = &mut self.workers[home];
        worker.asked_here.handle_asked(question, asked, &mut worker.seller, now, &mut worker.held);
        worker.take_turn(now);
    }

    /// Whether a node below may have a link: its server knows its key.
    pub(super) fn knows_child(&self, node: SellerId) -> bool {
        self.steward.children().any(|(child, _)| child == node)
    }

    /// A message from a node below.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn handle_child_message(
        &mut self,
        node: SellerId,
        message: ToHub,
        now: &Now,
    ) -> Result<(), NodeStop> {
        self.steward.handle_child_message(node, message, now)?;
        self.act(now)
    }

    /// The pipe to a node below was cut, and may be open again.
    pub(super) fn handle_child_cut(&mut self, node: SellerId) {
        self.to_below.retain(|(to, _)| *to != node);
        self.steward.handle_child_down(node);
    }

    /// The pipe to upstream was cut, if there was one, and is open again.
    pub(super) fn handle_reconnected(&mut self) {
        self.handle_unlinked();
        self.steward.handle_connected(self.shipping.acknowledged().0, self.shipping.mark());
    }

    /// The pipe to upstream is cut.
    pub(super) fn handle_unlinked(&mut self) {
        self.to_hub.clear();
        self.hangs_up = None;
        self.has_called = false;
        self.steward.handle_cut();
        self.shipping.handle_cut();
        for (worker, number) in self.questions.give_up(|_| true) {
            let Worker { seller, held, .. } = &mut self.workers[worker];
            seller.handle_told(number, &Told::IN_DOUBT, held);
            held.settle(seller.made());
        }
    }

    /// The node is to stop in good order: its workers end, with all that they had not handed over made durable yet.
    pub(super) fn stop_workers(&mut self) {
        self.is_stopping = true;
        for worker in &mut self.workers {
            worker.seller.records().drain(..).for_each(|record| worker.sender.push(record));
            worker.sender.submit();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// It says, if it can, that it has nothing left. Whether it waits for the answer; `None` while upstream does not have all of its
    /// journal.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn take_leave(&mut self, now: &Now) -> Result<Option<bool>, NodeStop> {
        let is_durable = self.steward_sender.durable() == self.steward_sender.submitted();
        if self.commit_step != CommitStep::Gather || !is_durable || self.shipping.unreported_bytes() > 0 {
            return Ok(None);
        }
        let waits = self.steward.handle_stop(self.shipping.durable().0, now)?;
        self.act(now)?;
        Ok(Some(waits))
    }

    /// One of the node's threads does its next step. Whether it had anything to do.
    ///
    /// # Errors
    /// [`NodeStop`]: the node ends as a process does, with all that it had not made durable.
    pub(super) fn step(&mut self, dice: &mut Dice, now: &Now) -> Result<bool, NodeStop> {
        match dice.below(11) {
            0 | 1 if self.is_stopping => Ok(false),
            0 | 1 => self.step_worker(dice, now),
            2..=5 => self.step_committer(),
            6 | 7 => self.step_steward(now),
            8 => self.step_steward_tick(now),
            9 => self.step_writer(now),
            _ => self.step_bookkeeper(dice),
        }
    }

    /// What the durable journal comes to, read to its end.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn books(&mut self) -> Result<&mut Bookkeeper<HeapDisk>, NodeStop> {
        while self.bookkeeper.advance(usize::MAX)? {}
        Ok(&mut self.bookkeeper)
    }

    fn step_worker(&mut self, dice: &mut Dice, now: &Now) -> Result<bool, NodeStop> {
        let at = dice.below(self.workers.len() as u64) as usize;
        let worker = &mut self.workers[at];
        let before = (worker.seller.records().len(), self.replies.len(), self.to_hub.len());
        let had_records = before.0 > 0;
        for record in worker.seller.records().drain(..) {
            worker.sender.push(record);
        }
        worker.sender.submit();
        let durable = worker.sender.durable();
        while worker.held.queue.front().is_some_and(|(ticket, ..)| *ticket <= durable)
            && let Some((_, asker, reply)) = worker.held.queue.pop_front()
        {
            self.replies.push_back((asker, reply));
        }
        while let Some((question, told)) = worker.asked_here.answer(durable) {
            worker.asked_here.handle_sent();
            if let Some(vend) = self.asked.remove(&question) {
                self.claims.push(Claim::Told(vend, told));
            }
            if self.has_called {
                self.to_hub.push_back(ToHub::Told { question, told });
            }
        }
        while let Some(question) = worker.seller.poll_question() {
            let number = question.number;
            if self.steward.is_linked() {
                let (seller, asked) = (question.seller, question.asked);
                let question = self.questions.ask((at, number));
                self.to_hub.push_back(ToHub::Ask { question, seller, asked });
            } else {
                worker.seller.handle_told(number, &Told::IN_DOUBT, &mut worker.held);
                worker.held.settle(worker.seller.made());
            }
        }
        while let Some(variety) = worker.seller.poll_dry() {
            self.steward.handle_dry(at, variety, now);
        }
        while let Some(&(made, lookup)) = worker.lookups.front()
            && made <= durable
        {
            worker.lookups.pop_front();
            while self.bookkeeper.advance(usize::MAX)? {}
            let found = self.bookkeeper.find(lookup.asker.names(lookup.sequence));
            worker.seller.handle_found(&lookup, found, now, &mut worker.held);
            worker.take_turn(now);
        }
        Ok(had_records || (self.replies.len(), self.to_hub.len()) != (before.1, before.2))
    }

    fn step_committer(&mut self) -> Result<bool, NodeStop> {
        let had_something = self.commit_step != CommitStep::Gather;
        self.commit_step = match self.commit_step {
            CommitStep::Gather if self.committer.gather() => CommitStep::Append,
            CommitStep::Gather => CommitStep::Gather,
            CommitStep::Append => {
                self.committer.append();
                CommitStep::Sync
            }
            CommitStep::Sync => {
                self.committer.sync().map_err(BookkeeperError::from)?;
                CommitStep::Publish
            }
            CommitStep::Publish => {
                self.committer.publish();
                CommitStep::Gather
            }
        };
        Ok(had_something || self.commit_step != CommitStep::Gather)
    }

    fn step_steward(&mut self, now: &Now) -> Result<bool, NodeStop> {
        let said = self.to_hub.len() + self.to_below.len();
        self.steward.handle_durable(self.steward_sender.durable(), now)?;
        self.steward.handle_journal_durable(self.shipping.durable().0);
        self.act(now)?;
        let shipment = self.shipping.poll(now.monotonic_ms).map_err(BookkeeperError::from)?;
        self.to_hub.extend(shipment);
        Ok(self.to_hub.len() + self.to_below.len() > said)
    }

    /// Does what the steward says, in order, and takes its records to the journal's queue.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn act(&mut self, now: &Now) -> Result<(), NodeStop> {
        while let Some(action) = self.steward.poll_action() {
            match action {
                StewardAction::Send(message) => {
                    match &message {
                        ToHub::Offer(offer) => {
                            self.claims.push(Claim::Given(None, offer.stream, offer.number));
                        }
                        ToHub::Answer { stream, number, .. } => {
                            self.claims.push(Claim::Answered(None, *stream, *number));
                        }
                        ToHub::Hello { .. } => self.has_called = true,
                        _ => {}
                    }
                    self.to_hub.push_back(message);
                }
                StewardAction::Write(write) if write.is_urgent() => {
                    let result = write.run(&*self.disk);
                    self.steward.handle_written(&write, result, now)?;
                }
                StewardAction::Write(write) => self.writes.push_back(write),
                StewardAction::Range { worker, range } => {
                    let Worker { seller, held, .. } = &mut self.workers[worker];
                    seller.handle_range(range, now, held);
                    held.settle(seller.made());
                }
                StewardAction::OutOfStock { worker, variety } => {
                    let Worker { seller, held, .. } = &mut self.workers[worker];
                    seller.handle_out_of_stock(variety, now, held);
                    held.settle(seller.made());
                }
                StewardAction::Registry(registry) => {
                    for worker in &mut self.workers {
                        worker.seller.handle_registry(registry.clone());
                    }
                }
                StewardAction::Acknowledged { position } => {
                    let durable = self.shipping.durable().0;
                    if position > durable {
                        return Err(NodeStop::OldSeller { archived: position, durable });
                    }
                    self.shipping.handle_acknowledged(Position(position));
                }
                StewardAction::Place(_) | StewardAction::Children => {}
                StewardAction::Service(service) => {
                    for Worker { seller, held, .. } in &mut self.workers {
                        seller.handle_service(service, held);
                        held.settle(seller.made());
                    }
                }
                StewardAction::Drop(fault) => self.hangs_up = Some(fault.to_string()),
                StewardAction::SendBelow { node, message } => {
                    match &message {
                        ToNode::Offer(offer) => {
                            self.claims.push(Claim::Given(Some(node), offer.stream, offer.number));
                        }
                        ToNode::Answer { stream, number, .. } => {
                            self.claims.push(Claim::Answered(Some(node), *stream, *number));
                        }
                        _ => {}
                    }
                    self.to_below.push_back((node, message));
                }
                StewardAction::CloseBelow { node, why } => self.closed.push((node, why)),
            }
        }
        let room = self.steward_sender.room();
        let records = self.steward.records();
        let fit = records.len().min(room);
        for record in records.drain(..fit) {
            self.steward_sender.push(record);
        }
        self.steward_sender.submit();
        Ok(())
    }

    fn step_writer(&mut self, now: &Now) -> Result<bool, NodeStop> {
        let Some(write) = self.writes.pop_front() else { return Ok(false) };
        let result = if std::mem::take(&mut self.refuses_write) {
            let (path, action) = ("a segment".to_owned(), "write");
            Err(DiskError { path, action, source: std::io::ErrorKind::StorageFull.into() })
        } else {
            write.run(&*self.disk)
        };
        self.steward.handle_written(&write, result, now)?;
        self.act(now)?;
        Ok(true)
    }

    fn step_steward_tick(&mut self, now: &Now) -> Result<bool, NodeStop> {
        self.steward.handle_tick(now)?;
        for Worker { seller, held, .. } in &mut self.workers {
            seller.handle_timeout(now, held);
            held.settle(seller.made());
        }
        self.step_steward(now)
    }

    fn step_bookkeeper(&mut self, dice: &mut Dice) -> Result<bool, NodeStop> {
        let advanced = self.bookkeeper.advance(4096)?;
        let acknowledged = self.shipping.acknowledged();
        let upkept = match self.upkeep.prepare() {
            Err(error) if error.is_full() => Ok(()),
            other => other.map(|_| ()),
        };
        upkept.map_err(BookkeeperError::from)?;
        if self.bookkeeper.wants_checkpoint() || dice.one_in(50) {
            match self.bookkeeper.checkpoint(acknowledged) {
                Err(error) if error.is_full() => {}
                other => other?,
            }
        } else {
            self.bookkeeper.recycle(acknowledged)?;
        }
        Ok(advanced)
    }
}

impl Worker {
    /// After every call of the seller: replies wait for what they rest on, questions for the history are noted.
    fn take_turn(&mut self, now: &Now) {
        let Self { seller, held, lookups, asked_here, .. } = self;
        while let Some((session, reply)) = held.abroad.pop_front() {
            asked_here.handle_reply(session, &reply, seller, now, held);
        }
        held.settle(seller.made());
        while let Some(lookup) = seller.poll_lookup() {
            lookups.push_back((seller.made(), lookup));
        }
    }
}

fn home(terminal: TerminalId, workers: usize) -> usize {
    (terminal.0 % workers as u64) as usize
}

/// Nobody waits: everything is stepped.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// Small, so that a run goes through many segments and checkpoints.
const SEGMENT_BYTES: u64 = 16 << 10;
const CHECKPOINT_BYTES: u64 = 8 << 10;
/// The most records one request makes.
const RECORDS_PER_REQUEST_MAX: usize = 64;
