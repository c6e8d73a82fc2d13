//! The steward's thread: the link with the hub, transfers, lanes, and the shipping of the journal.

use super::committing::Prepared;
use super::hub::HubMessage;
use super::office::Standing;
use super::{Failure, Nudge, spawn};
use crate::commit::RecordSender;
use crate::disk::mapped::MappedDisk;
use crate::ids::VarietyId;
use crate::journal::{JournalReader, Position};
use crate::link::{ToHub, ToNode};
use crate::net::{Clock, FrontHandle, WorkerHandle, WorkerMessage};
use crate::steward::{Content, Shipping, Steward, StewardAction, TICK_MS};
use crossbeam::channel::{Receiver, Sender, after, never, select, unbounded};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// What the hub's thread, or the one that stops the node, tells the steward.
pub(super) enum StewardMessage {
    /// Over the connection of this number.
    Link(u64, LinkEvent),
    /// Report what is left of the journal, and end.
    Stop,
}

/// What happens on a connection.
pub(super) enum LinkEvent {
    /// The hub says something.
    Message(ToNode),
    /// The hub is gone, or has closed it.
    Cut,
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
    committer: &mut Prepared,
    reader: JournalReader<MappedDisk>,
    hub: Sender<HubMessage>,
    dry: Receiver<(usize, VarietyId)>,
    workers: Vec<WorkerHandle<Content<MappedDisk>>>,
    front: FrontHandle,
    standing: Arc<Standing>,
    clock: Clock,
    fatal: fn(&Failure) -> !,
) -> StewardingHandle {
    let (nudge, nudges) = Nudge::new();
    let records = committer.sender(Arc::new(nudge));
    // What the two ends may have on its way is bounded by the link's protocol: chunks, ranges and requests in flight.
    let (sender, messages) = unbounded();
    let desk = Desk {
        steward,
        records,
        shipping: Shipping::new(reader.clone()),
        reader,
        hub,
        own: sender.clone(),
        connection: 0,
        connect_at_ms: Some(0),
        workers,
        front,
        standing,
        tick_at_ms: 0,
        clock,
    };
    let thread = spawn("steward", fatal, move || desk.run(&messages, dry, &nudges));
    StewardingHandle { thread, messages: sender }
}

struct Desk {
    steward: Steward<MappedDisk>,
    records: RecordSender,
    shipping: Shipping<MappedDisk>,
    reader: JournalReader<MappedDisk>,
    hub: Sender<HubMessage>,
    /// Given to the hub with each connection.
    own: Sender<StewardMessage>,
    /// Counts the connections; whatever comes over an earlier one is dropped.
    connection: u64,
    /// When to connect again, unless connected; in monotonic milliseconds.
    connect_at_ms: Option<u64>,
    workers: Vec<WorkerHandle<Content<MappedDisk>>>,
    front: FrontHandle,
    standing: Arc<Standing>,
    tick_at_ms: u64,
    clock: Clock,
}

impl Desk {
    fn run(
        mut self,
        messages: &Receiver<StewardMessage>,
        mut dry: Receiver<(usize, VarietyId)>,
        nudges: &Receiver<()>,
    ) -> Result<(), Failure> {
        let mut stop_by_ms = None;
        self.act()?;
        loop {
            let mut message = None;
            let mut signal = None;
            select! {
                recv(messages) -> got => message = got.ok(),
                recv(dry) -> got => match got {
                    Ok(got) => signal = Some(got),
                    Err(_) => dry = never(),
                },
                recv(nudges) -> _ => {}
                recv(after(Duration::from_millis(TICK_MS))) -> _ => {}
            }
            let now = (self.clock)();
            for _ in 0..MESSAGES_PER_TURN {
                // Taken only when there is a turn for it: what is left stays where it is.
                let Some(taken) = message.take().or_else(|| messages.try_recv().ok()) else { break };
                match taken {
                    StewardMessage::Link(connection, event) if connection == self.connection => {
                        match event {
                            LinkEvent::Message(message) => self.steward.handle_message(message, &now)?,
                            LinkEvent::Cut => self.cut(now.monotonic_ms),
                        }
                        self.act()?;
                    }
                    StewardMessage::Link(..) => {}
                    StewardMessage::Stop => stop_by_ms = Some(now.monotonic_ms + STOP_MS_MAX),
                }
            }
            for _ in 0..MESSAGES_PER_TURN {
                let Some((worker, variety)) = signal.take().or_else(|| dry.try_recv().ok()) else { break };
                self.steward.handle_dry(worker, variety, &now);
                self.act()?;
            }
            self.steward.handle_durable(self.records.durable(), &now)?;
            self.steward.handle_journal_durable(self.reader.durable().0);
            if now.monotonic_ms >= self.tick_at_ms {
                self.tick_at_ms = now.monotonic_ms + TICK_MS;
                self.tick();
            }
            self.act()?;
            if let Some(range) = self.shipping.poll(now.monotonic_ms).map_err(Failure::Journal)? {
                self.send(range);
            }
            if let Some(by_ms) = stop_by_ms
                && (self.shipping.unreported_bytes() == 0 || now.monotonic_ms >= by_ms)
                && self.records.durable() == self.records.submitted()
            {
                return Ok(());
            }
        }
    }

    fn tick(&mut self) {
        let now = (self.clock)();
        if self.connect_at_ms.is_some_and(|at_ms| at_ms <= now.monotonic_ms) {
            self.connect_at_ms = None;
            self.connection += 1;
            let _ = self.hub.send(HubMessage::Connect(self.connection, self.own.clone()));
            self.steward.handle_connected(self.shipping.acknowledged().0);
        }
        self.steward.handle_tick(&now);
        let registry = Arc::clone(self.steward.registry());
        let in_stock = registry.varieties().map(|v| (v.id, self.steward.in_stock(v.id, &now))).collect();
        self.standing.set_in_stock(in_stock);
        self.standing.set_registry(registry);
        self.standing.linked.store(self.steward.is_linked(), Relaxed);
        self.standing.unreported_bytes.store(self.shipping.unreported_bytes(), Relaxed);
    }

    /// Does what the steward says, in order, and takes its records to the journal's queue as far as there is room.
    fn act(&mut self) -> Result<(), Failure> {
        while let Some(action) = self.steward.poll_action() {
            match action {
                StewardAction::Send(message) => self.send(message),
                StewardAction::Range { worker, range } => {
                    self.workers[worker].send(WorkerMessage::Range(range));
                }
                StewardAction::OutOfStock { worker, variety } => {
                    self.workers[worker].send(WorkerMessage::OutOfStock(variety));
                }
                StewardAction::Registry(registry) => {
                    for worker in &self.workers {
                        worker.send(WorkerMessage::Registry(Arc::clone(&registry)));
                    }
                    self.front.registry(registry);
                }
                StewardAction::Drain(on) => {
                    for worker in &self.workers {
                        worker.send(WorkerMessage::Drain(on));
                    }
                }
                StewardAction::Acknowledged { position } => {
                    let durable = self.reader.durable().0;
                    if position > durable {
                        return Err(Failure::OldSeller { archived: position, durable });
                    }
                    self.shipping.handle_acknowledged(Position(position));
                    self.standing.acknowledged.store(position, Relaxed);
                }
                StewardAction::Drop(fault) => {
                    tracing::error!("the hub broke the protocol, connecting again: {fault}");
                    let _ = self.hub.send(HubMessage::Disconnect(self.connection));
                    let now_ms = (self.clock)().monotonic_ms;
                    self.cut(now_ms);
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

    fn cut(&mut self, now_ms: u64) {
        self.steward.handle_cut();
        self.shipping.handle_cut();
        self.connection += 1;
        self.connect_at_ms = Some(now_ms + CONNECT_AGAIN_MS);
    }

    fn send(&self, message: ToHub) {
        // When the hub's thread has ended, so will this one.
        let _ = self.hub.send(HubMessage::Link(self.connection, message));
    }
}

/// How long to wait before connecting again, in milliseconds.
const CONNECT_AGAIN_MS: u64 = 1_000;
/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 256;
/// How long a stopping steward tries to report the rest of the journal, in milliseconds.
const STOP_MS_MAX: u64 = 2_000;
