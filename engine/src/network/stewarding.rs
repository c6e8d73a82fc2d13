//! The steward's thread: the link with the hub, transfers, lanes, and the shipping of the journal.

use super::committing::Prepared;
use super::downlinks::{self, Managers};
use super::office::Standing;
use super::segment_writing::{SegmentWriter, Written};
use super::{Failure, Nudge, spawn};
use crate::commit::RecordSender;
use crate::disk::mapped::MappedDisk;
use crate::ids::{SellerId, VarietyId};
use crate::journal::{JournalError, JournalReader, Position};
use crate::link::{Asked, Questions, ToHub, ToNode, Told};
use crate::net::link::{
    LinkEvent, LinkKey, LinkOptions, LinkServerHandle, Role, Uplink, UplinkHandle, UplinkIdentity,
};
use crate::net::{Abroad, Clock, FrontHandle, Random, WorkerHandle, WorkerMessage, home};
use crate::seller::Service;
use crate::steward::{Content, NodePlace, Shipping, Steward, StewardAction, TICK_MS};
use crate::time::Now;
use crossbeam::channel::{Receiver, Sender, after, never, select, unbounded};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// What the links, or the thread that stops the node, tell the steward.
pub(super) enum StewardMessage {
    /// Something happens on the link.
    Link(LinkEvent<ToNode>),
    /// Something happens on the link of a node below.
    Below(LinkEvent<ToHub>),
    /// Report what is left of the journal, and end.
    Stop,
}

/// Where upstream is, and who this node is there.
pub(super) struct Upstream {
    pub(super) addresses: Vec<String>,
    pub(super) node: SellerId,
    pub(super) key: LinkKey,
}

/// The running thread.
pub(super) struct StewardingHandle {
    thread: JoinHandle<()>,
    messages: Sender<StewardMessage>,
}

impl StewardingHandle {
    pub(super) fn stop(self) {
        let _ = self.messages.send(StewardMessage::Stop);
        let _ = self.thread.join();
    }
}

#[expect(clippy::too_many_arguments, reason = "one owner hands it everything once")]
pub(super) fn start(
    steward: Steward<MappedDisk>,
    disk: Arc<MappedDisk>,
    committer: &mut Prepared,
    boot: u32,
    reader: JournalReader<MappedDisk>,
    upstream: Upstream,
    links: Option<TcpListener>,
    dry: Receiver<(usize, VarietyId)>,
    abroad: Receiver<Abroad>,
    workers: Vec<WorkerHandle<Content<MappedDisk>>>,
    front: FrontHandle,
    managers: Managers,
    standing: Arc<Standing>,
    clock: Clock,
    random: Random,
    fatal: fn(&Failure) -> !,
) -> Result<StewardingHandle, Failure> {
    let (nudge, nudges) = Nudge::new();
    let records = committer.sender(Arc::new(nudge));
    // What the two ends may have on its way is bounded by the link's protocol: chunks, ranges and requests in flight.
    let (sender, messages) = unbounded();
    let Upstream { addresses, node, key } = upstream;
    let own = sender.clone();
    // When the steward's thread has ended, so will the process.
    let deliver = move |event| drop(own.send(StewardMessage::Link(event)));
    let workers_count = u16::try_from(workers.len()).unwrap_or(u16::MAX);
    let identity = UplinkIdentity { node, role: Role::Server, workers: workers_count, key };
    let uplink = Uplink::start(addresses, identity, deliver, clock, random, LinkOptions::default());
    let uplink = uplink.map_err(Failure::Poll)?;
    let below = links.map(|listener| {
        let own = sender.clone();
        let deliver = move |event| drop(own.send(StewardMessage::Below(event)));
        downlinks::start(listener, &managers, workers.clone(), deliver, clock, random)
    });
    let below = below.transpose()?;
    standing.open.store(steward.service() == Service::Open, Relaxed);
    let (writer, written) = SegmentWriter::start(&disk, fatal);
    let desk = Desk {
        steward,
        disk,
        writer,
        records,
        shipping: Shipping::new(reader.clone()),
        reader,
        uplink,
        connection: None,
        below,
        below_links: BTreeMap::new(),
        workers,
        front,
        managers,
        standing,
        tick_at_ms: 0,
        questions: Questions::new(boot),
        clock,
    };
    let thread = spawn("steward", fatal, move || desk.run(&messages, dry, abroad, &nudges, &written));
    Ok(StewardingHandle { thread, messages: sender })
}

struct Desk {
    steward: Steward<MappedDisk>,
    disk: Arc<MappedDisk>,
    writer: SegmentWriter,
    records: RecordSender,
    shipping: Shipping<MappedDisk>,
    reader: JournalReader<MappedDisk>,
    uplink: UplinkHandle,
    /// The connection to upstream, if there is one; what comes over an earlier one is dropped.
    connection: Option<u64>,
    /// The links of nodes below; none if nobody can call here.
    below: Option<LinkServerHandle>,
    /// The connection of each node below that has one.
    below_links: BTreeMap<SellerId, u64>,
    workers: Vec<WorkerHandle<Content<MappedDisk>>>,
    front: FrontHandle,
    managers: Managers,
    standing: Arc<Standing>,
    tick_at_ms: u64,
    /// What terminals here have asked of other sellers in this connection: the worker and its number.
    questions: Questions<(usize, u64)>,
    clock: Clock,
}

impl Desk {
    fn run(
        mut self,
        messages: &Receiver<StewardMessage>,
        dry: Receiver<(usize, VarietyId)>,
        abroad: Receiver<Abroad>,
        nudges: &Receiver<()>,
        written: &Receiver<Written>,
    ) -> Result<(), Failure> {
        let ended = self.run_to_end(messages, dry, abroad, nudges, written);
        if let Some(below) = &self.below {
            below.stop();
        }
        self.uplink.stop();
        self.writer.stop();
        ended
    }

    fn run_to_end(
        &mut self,
        messages: &Receiver<StewardMessage>,
        mut dry: Receiver<(usize, VarietyId)>,
        mut abroad: Receiver<Abroad>,
        nudges: &Receiver<()>,
        written: &Receiver<Written>,
    ) -> Result<(), Failure> {
        let mut stop_by_ms = None;
        self.act()?;
        loop {
            let mut message = None;
            let mut signal = None;
            let mut said = None;
            let mut segment = None;
            select! {
                recv(messages) -> got => message = got.ok(),
                recv(dry) -> got => match got {
                    Ok(got) => signal = Some(got),
                    Err(_) => dry = never(),
                },
                recv(abroad) -> got => match got {
                    Ok(got) => said = Some(got),
                    Err(_) => abroad = never(),
                },
                recv(nudges) -> _ => {}
                recv(written) -> got => segment = got.ok(),
                recv(after(Duration::from_millis(TICK_MS))) -> _ => {}
            }
            let now = (self.clock)();
            for _ in 0..MESSAGES_PER_TURN {
                // Taken only when there is a turn for it: what is left stays where it is.
                let Some(taken) = message.take().or_else(|| messages.try_recv().ok()) else { break };
                match taken {
                    StewardMessage::Link(event) => {
                        self.link(event, &now)?;
                        self.act()?;
                    }
                    StewardMessage::Below(event) => {
                        self.link_below(event, &now)?;
                        self.act()?;
                    }
                    StewardMessage::Stop => stop_by_ms = Some(now.monotonic_ms + STOP_MS_MAX),
                }
            }
            for _ in 0..MESSAGES_PER_TURN {
                let Some((worker, variety)) = signal.take().or_else(|| dry.try_recv().ok()) else { break };
                self.steward.handle_dry(worker, variety, &now);
                self.act()?;
            }
            for _ in 0..MESSAGES_PER_TURN {
                let Some(said) = said.take().or_else(|| abroad.try_recv().ok()) else { break };
                self.say_abroad(said);
            }
            while let Some((write, result)) = segment.take().or_else(|| written.try_recv().ok()) {
                self.steward.handle_written(&write, result, &now)?;
                self.act()?;
            }
            self.steward.handle_durable(self.records.durable(), &now)?;
            self.steward.handle_journal_durable(self.reader.durable().0);
            if now.monotonic_ms >= self.tick_at_ms {
                self.tick_at_ms = now.monotonic_ms + TICK_MS;
                self.tick()?;
            }
            self.act()?;
            if let Some(range) = self.ship(&now)? {
                self.send(range);
            }
            if let Some(by_ms) = stop_by_ms
                && self.records.durable() == self.records.submitted()
            {
                let is_reported = self.shipping.unreported_bytes() == 0;
                let waits = is_reported && self.steward.handle_stop(self.shipping.durable().0, &now)?;
                self.act()?;
                if now.monotonic_ms >= by_ms || (is_reported && !waits) {
                    return Ok(());
                }
            }
        }
    }

    fn link(&mut self, event: LinkEvent<ToNode>, now: &Now) -> Result<(), Failure> {
        match event {
            LinkEvent::Up { connection, address, .. } => {
                tracing::info!(%address, "connected to the hub");
                self.cut();
                self.connection = Some(connection);
                self.steward.handle_connected(self.shipping.acknowledged().0, self.shipping.mark());
            }
            LinkEvent::Message { connection, message, .. } => {
                if self.connection == Some(connection) {
                    match message {
                        ToNode::Asked { question, asked } => self.asked(question, asked),
                        ToNode::Told { question, told } => self.told(question, told),
                        message => self.steward.handle_message(message, now)?,
                    }
                }
            }
            LinkEvent::Down { connection, why, .. } => {
                if self.connection == Some(connection) {
                    tracing::warn!("the hub is gone, selling what is here: {why}");
                    self.cut();
                }
            }
        }
        Ok(())
    }

    /// A worker says something to another seller.
    fn say_abroad(&mut self, said: Abroad) {
        match said {
            Abroad::Told { question, told } => self.send(ToHub::Told { question, told }),
            Abroad::Question { worker, question } if self.steward.is_linked() => {
                let (seller, asked) = (question.seller, question.asked);
                let question = self.questions.ask((worker, question.number));
                self.send(ToHub::Ask { question, seller, asked });
            }
            Abroad::Question { worker, question } => {
                self.workers[worker].send(WorkerMessage::Told(question.number, Told::IN_DOUBT));
            }
        }
    }

    /// A terminal of another seller asks about a sequence of one of its home worker here.
    fn asked(&mut self, question: u64, asked: Asked) {
        let worker = home(asked.vend.terminal, self.workers.len());
        self.workers[worker].send(WorkerMessage::Asked(question, asked));
    }

    /// What another seller says.
    fn told(&mut self, question: u64, told: Told) {
        if let Some((worker, number)) = self.questions.take(question) {
            self.workers[worker].send(WorkerMessage::Told(number, told));
        }
    }

    /// Something happens on the link of a node below.
    fn link_below(&mut self, event: LinkEvent<ToHub>, now: &Now) -> Result<(), Failure> {
        match event {
            LinkEvent::Up { connection, node, address, .. } => {
                tracing::info!(node = node.0, %address, "node below connected");
                self.below_links.insert(node, connection);
                self.steward.handle_child_up(node);
            }
            LinkEvent::Message { connection, node, message } => {
                // What came over a connection that was closed here is not heard any more.
                if self.below_links.get(&node) == Some(&connection) {
                    self.steward.handle_child_message(node, message, now)?;
                }
            }
            LinkEvent::Down { connection, node, why } => {
                if self.below_links.get(&node) == Some(&connection) {
                    tracing::warn!(node = node.0, "node below disconnected: {why}");
                    self.below_links.remove(&node);
                    self.steward.handle_child_down(node);
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let now = (self.clock)();
        self.steward.handle_tick(&now)?;
        self.standing.set_below(self.steward.child_views().collect());
        let registry = Arc::clone(self.steward.registry());
        let in_stock = registry.varieties().map(|v| (v.id, self.steward.in_stock(v.id, &now))).collect();
        self.standing.set_in_stock(in_stock);
        self.standing.set_registry(registry);
        self.standing.linked.store(self.steward.is_linked(), Relaxed);
        self.standing.unreported_bytes.store(self.shipping.unreported_bytes(), Relaxed);
        Ok(())
    }

    /// Does what the steward says, in order, and takes its records to the journal's queue as far as there is room.
    fn act(&mut self) -> Result<(), Failure> {
        while let Some(action) = self.steward.poll_action() {
            match action {
                StewardAction::Send(message) => {
                    if let ToHub::Report(report) = &message {
                        self.standing.set_levels(&report.stock);
                    }
                    self.send(message);
                }
                StewardAction::Write(write) if write.is_urgent() => {
                    let result = write.run(&*self.disk);
                    self.steward.handle_written(&write, result, &(self.clock)())?;
                }
                StewardAction::Write(write) => self.writer.write(write),
                StewardAction::Range { worker, range } => {
                    self.workers[worker].send(WorkerMessage::Range(range));
                }
                StewardAction::OutOfStock { worker, variety } => {
                    self.workers[worker].send(WorkerMessage::OutOfStock(variety));
                }
                StewardAction::Registry(registry) => {
                    self.managers.keep_out(&registry);
                    for worker in &self.workers {
                        worker.send(WorkerMessage::Registry(Arc::clone(&registry)));
                    }
                    self.managers.let_in(&registry);
                    self.front.registry(registry);
                }
                StewardAction::Service(service) => {
                    self.standing.open.store(service == Service::Open, Relaxed);
                    for worker in &self.workers {
                        worker.send(WorkerMessage::Service(service));
                    }
                }
                StewardAction::Place(NodePlace::Lost) => tracing::error!(
                    "the operator of the hub has declared this seller lost, for good: it sells nothing more, hands in its \
                     journal and gives back what it has [declared_lost]"
                ),
                StewardAction::Place(NodePlace::Left) => tracing::warn!(
                    "this seller has left the network: it answers nobody unless the hub takes it back [node_closed]"
                ),
                StewardAction::Place(NodePlace::Member) => {}
                StewardAction::Acknowledged { position } => {
                    let durable = self.reader.durable().0;
                    if position > durable {
                        return Err(Failure::OldSeller { archived: position, durable });
                    }
                    self.standing.heard.store(true, Relaxed);
                    let known = self.shipping.acknowledged().0;
                    if position < known {
                        // It should have stopped by itself. Nothing is taken from it.
                        tracing::error!(
                            "the hub says that it holds this seller's journal up to position {position}, and has held it \
                             up to {known}: it is an old copy"
                        );
                        self.hang_up(
                            "this hub is an old copy: it has acknowledged more of this node's journal",
                        );
                        continue;
                    }
                    self.shipping.handle_acknowledged(Position(position));
                    self.standing.acknowledged.store(position, Relaxed);
                }
                StewardAction::SendBelow { node, message } => {
                    if let (Some(below), Some(&connection)) = (&self.below, self.below_links.get(&node)) {
                        below.send(connection, message);
                    }
                }
                StewardAction::CloseBelow { node, why } => {
                    tracing::error!(node = node.0, "link of a node below closed: {why}");
                    if let (Some(below), Some(connection)) = (&self.below, self.below_links.remove(&node)) {
                        below.close(connection, why);
                    }
                }
                StewardAction::Children => {
                    for (node, keys) in self.steward.children() {
                        self.managers.set(node, LinkKey::of(keys));
                    }
                }
                StewardAction::Drop(fault) => {
                    tracing::error!("the hub broke the protocol, connecting again: {fault}");
                    self.hang_up(&fault.to_string());
                }
            }
        }
        let room = self.records.room();
        let records = self.steward.records();
        let fit = records.len().min(room);
        for record in records.drain(..fit) {
            self.records.push(record);
        }
        self.records.submit();
        Ok(())
    }

    fn ship(&mut self, now: &Now) -> Result<Option<ToHub>, Failure> {
        let archived = self.shipping.acknowledged().0;
        self.shipping.poll(now.monotonic_ms).map_err(|source| match source {
            JournalError::Corrupt { .. } => Failure::OtherJournal { archived, source },
            other => Failure::Journal(other),
        })
    }

    /// Ends the connection, and says why; another is made.
    fn hang_up(&mut self, why: &str) {
        if let Some(connection) = self.connection {
            self.uplink.reconnect(connection, why);
        }
        self.cut();
    }

    fn cut(&mut self) {
        if self.connection.take().is_some() {
            self.steward.handle_cut();
            self.shipping.handle_cut();
            for (worker, number) in self.questions.give_up(|_| true) {
                self.workers[worker].send(WorkerMessage::Told(number, Told::IN_DOUBT));
            }
        }
    }

    fn send(&self, message: ToHub) {
        if let Some(connection) = self.connection {
            self.uplink.send(connection, message);
        }
    }
}

/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 256;
/// How long a stopping steward tries to report the rest of the journal, in milliseconds.
const STOP_MS_MAX: u64 = 2_000;
