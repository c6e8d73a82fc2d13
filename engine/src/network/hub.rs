//! The hub's thread: take everything that is ready, commit once, release the effects. A full disk drops the hub and loads
//! it again when there may be room; any other failure ends the process.

use super::answering::ArchiveQuestion;
use super::{Failure, Nudge, spawn};
use crate::commit::Wake;
use crate::disk::mapped::MappedDisk;
use crate::hub::{Command, CommandError, Done, Hub, HubError, Output, SqliteStore, Supply};
use crate::ids::{BatchId, SellerId};
use crate::limits::SETTLING_MAX;
use crate::link::{ToHub, ToNode, Told};
use crate::net::link::{Keyring, LinkEvent, LinkKey, LinkOptions, LinkServer, LinkServerHandle};
use crate::net::{Clock, Random};
use crate::stock::NodeKeys;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The hub as it runs here.
pub(super) type LiveHub = Hub<SqliteStore, MappedDisk>;

/// A question, which answers itself.
pub(super) type Look = Box<dyn FnOnce(&LiveHub) + Send>;

/// What others want of the hub.
pub(super) enum HubMessage {
    /// Something happens on a link.
    Link(LinkEvent<ToHub>),
    /// An operator's command.
    Command(Command, Sender<Result<Done, CommandError>>),
    /// A node is answered: which, its question, the answer.
    Tell(SellerId, u64, Told),
    /// Someone looks.
    Look(Look),
    /// End.
    Stop,
}

/// The batches whose PINs and serials count as seen: committed, or being taken in by a job of this process.
#[derive(Default)]
pub(super) struct Batches {
    counting: Mutex<BatchCounts>,
}

#[derive(Default)]
struct BatchCounts {
    committed: BTreeSet<BatchId>,
    /// Under way. The hub must not be loaded while there is one.
    jobs: BTreeSet<BatchId>,
}

impl Batches {
    pub(super) fn counts(&self, batch: BatchId) -> bool {
        let counting = self.lock();
        counting.committed.contains(&batch) || counting.jobs.contains(&batch)
    }

    /// A job begins.
    pub(super) fn begin(&self, batch: BatchId) {
        self.lock().jobs.insert(batch);
    }

    /// A job has ended, and nobody will commit its batch any more if it is not committed by now.
    pub(super) fn end(&self, batch: BatchId, committed: bool) {
        let mut counting = self.lock();
        counting.jobs.remove(&batch);
        if committed {
            counting.committed.insert(batch);
        }
    }

    fn have_jobs(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    fn load(&self, hub: &LiveHub) {
        self.lock().committed = hub.batches().map(|row| row.batch).collect();
    }

    fn lock(&self) -> MutexGuard<'_, BatchCounts> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running thread.
pub(super) struct HubHandle {
    thread: JoinHandle<()>,
    messages: Sender<HubMessage>,
}

impl HubHandle {
    pub(super) fn sender(&self) -> Sender<HubMessage> {
        self.messages.clone()
    }

    pub(super) fn command(&self, command: Command) -> Result<Result<Done, CommandError>, Failure> {
        command_hub(&self.messages, command).ok_or(Failure::HubGone)
    }

    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&LiveHub) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        ask_hub(&self.messages, question).ok_or(Failure::HubGone)
    }

    /// Answers a node's question about a sequence, from any thread.
    pub(super) fn teller(&self) -> impl Fn(SellerId, u64, Told) + Send + 'static {
        let messages = self.messages.clone();
        // When the hub's thread has ended, nobody waits.
        move |node, question, told| drop(messages.send(HubMessage::Tell(node, question, told)))
    }

    pub(super) fn stop(self) {
        let _ = self.messages.send(HubMessage::Stop);
        let _ = self.thread.join();
    }
}

/// Has a command done; `None` when the hub could not: it may or may not be done then.
pub(super) fn command_hub(hub: &Sender<HubMessage>, command: Command) -> Option<Result<Done, CommandError>> {
    let (reply, answer) = bounded(1);
    hub.send(HubMessage::Command(command, reply)).ok()?;
    answer.recv().ok()
}

/// Asks the hub something; `None` when it cannot answer now.
pub(super) fn ask_hub<T: Send + 'static>(
    hub: &Sender<HubMessage>,
    question: impl FnOnce(&LiveHub) -> T + Send + 'static,
) -> Option<T> {
    let (reply, answer) = bounded(1);
    let question = Box::new(move |hub: &LiveHub| drop(reply.send(question(hub))));
    hub.send(HubMessage::Look(question)).ok()?;
    answer.recv().ok()
}

#[expect(clippy::too_many_arguments, reason = "one owner hands it everything once")]
pub(super) fn start(
    database: PathBuf,
    disk: Arc<MappedDisk>,
    keys: Arc<NodeKeys>,
    links: Option<(TcpListener, LinkOptions)>,
    may_be_absent: bool,
    supply: Option<(Supply, Nudge)>,
    clock: Clock,
    random: Random,
    fatal: fn(&Failure) -> !,
) -> Result<(HubHandle, Arc<Batches>, Receiver<ArchiveQuestion>), Failure> {
    let batches = Arc::<Batches>::default();
    let keyring = Arc::<Keyring>::default();
    let hub = match load(&database, &disk, &keys) {
        Ok(hub) => Some(hub),
        // What is at the sellers can be sold without it.
        Err(error) if error.is_full() && may_be_absent => {
            tracing::warn!("the hub's disk is full, trying again in a moment: {error}");
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(hub) = &hub {
        batches.load(hub);
        fill(&keyring, hub)?;
    }
    // Operators wait for their answers, and nodes keep to the link's protocol: what is on its way is bounded.
    let (sender, messages) = unbounded();
    let server = links.map(|(listener, options)| {
        let hub = sender.clone();
        // When the hub's thread has ended, so will the process.
        let deliver = move |event| drop(hub.send(HubMessage::Link(event)));
        let keyring = Arc::clone(&keyring);
        LinkServer::start(listener, keyring, deliver, clock, random, options)
    });
    let server = server.transpose().map_err(Failure::Poll)?;
    let (questions, asked) = bounded(SETTLING_MAX);
    let desk = Desk {
        database,
        disk,
        keys,
        batches: Arc::clone(&batches),
        supply,
        keyring,
        server,
        links: BTreeMap::new(),
        questions,
        clock,
        random,
    };
    let thread = spawn("hub", fatal, move || desk.run(hub, &messages));
    Ok((HubHandle { thread, messages: sender }, batches, asked))
}

/// Lets every node in that the hub knows.
fn fill(keyring: &Keyring, hub: &LiveHub) -> Result<(), HubError> {
    for (node, _) in hub.nodes() {
        if let Some(key) = hub.node_key(node)? {
            keyring.set(node, LinkKey::of(&NodeKeys::from_node_key(key.expose())));
        }
    }
    Ok(())
}

fn load(database: &Path, disk: &Arc<MappedDisk>, keys: &Arc<NodeKeys>) -> Result<LiveHub, HubError> {
    let hub = Hub::load(SqliteStore::open(database)?, Arc::clone(disk), Arc::clone(keys))?;
    tracing::info!(epoch = hub.epoch(), "hub started");
    Ok(hub)
}

struct Desk {
    database: PathBuf,
    disk: Arc<MappedDisk>,
    keys: Arc<NodeKeys>,
    batches: Arc<Batches>,
    /// Who supplies what, and whom to wake when an order is to be placed; none if nobody is there to place it.
    supply: Option<(Supply, Nudge)>,
    /// Who may connect.
    keyring: Arc<Keyring>,
    /// None if only commands are worked on.
    server: Option<LinkServerHandle>,
    /// The connection of each node that has one.
    links: BTreeMap<SellerId, u64>,
    /// Questions about sequences of sellers that answer no more.
    questions: Sender<ArchiveQuestion>,
    clock: Clock,
    random: Random,
}

impl Desk {
    fn run(mut self, hub: Option<LiveHub>, messages: &Receiver<HubMessage>) -> Result<(), Failure> {
        let ended = self.run_to_end(hub, messages);
        if let Some(server) = self.server.take() {
            server.stop();
        }
        ended
    }

    fn run_to_end(
        &mut self,
        mut hub: Option<LiveHub>,
        messages: &Receiver<HubMessage>,
    ) -> Result<(), Failure> {
        loop {
            let loaded = match hub.take() {
                Some(hub) => Some(hub),
                None => self.load_again(messages)?,
            };
            let Some(mut loaded) = loaded else { return Ok(()) };
            match self.serve(&mut loaded, messages) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_full() => {
                    tracing::warn!("the hub's disk is full, trying again in a moment: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Works until it is told to stop.
    fn serve(&mut self, hub: &mut LiveHub, messages: &Receiver<HubMessage>) -> Result<(), HubError> {
        let mut tickets = HashMap::new();
        let mut looks: Vec<Look> = Vec::new();
        let mut next_ticket = 0;
        if let Some((supply, _)) = &self.supply {
            hub.handle_supply(supply.clone(), (self.clock)().unix_ms);
        }
        loop {
            let mut message = messages.recv_timeout(TURN).ok();
            let mut stopping = false;
            for _ in 0..MESSAGES_PER_COMMIT {
                // Taken only when there is a turn for it: what is left stays where it is.
                let Some(taken) = message.take().or_else(|| messages.try_recv().ok()) else { break };
                match taken {
                    HubMessage::Link(event) => self.take(hub, event)?,
                    HubMessage::Command(command, reply) => {
                        let random = self.random;
                        tickets.insert(next_ticket, reply);
                        let now_ms = (self.clock)().unix_ms;
                        hub.handle_command(next_ticket, command, now_ms, &mut |bytes| random(bytes))?;
                        next_ticket += 1;
                    }
                    HubMessage::Tell(node, question, told) => self.tell(node, question, told),
                    HubMessage::Look(question) => looks.push(question),
                    HubMessage::Stop => stopping = true,
                }
            }
            hub.handle_tick((self.clock)().unix_ms);
            hub.commit()?;
            while let Some(output) = hub.poll_output() {
                self.put_out(output, &mut tickets);
            }
            // They see what is committed.
            looks.drain(..).for_each(|question| question(hub));
            if stopping {
                return Ok(());
            }
        }
    }

    fn take(&mut self, hub: &mut LiveHub, event: LinkEvent<ToHub>) -> Result<(), HubError> {
        match event {
            LinkEvent::Up { connection, node, address, .. } => {
                tracing::info!(node = node.0, %address, "node connected");
                self.links.insert(node, connection);
                hub.handle_cut(node);
            }
            LinkEvent::Message { connection, node, message } => {
                // What came over a connection that was closed here is not heard any more.
                if self.links.get(&node) == Some(&connection) {
                    hub.handle_link(node, message, (self.clock)().unix_ms)?;
                }
            }
            LinkEvent::Down { connection, node, why } => {
                if self.links.get(&node) == Some(&connection) {
                    tracing::warn!(node = node.0, "node disconnected: {why}");
                    self.links.remove(&node);
                    hub.handle_cut(node);
                }
            }
        }
        Ok(())
    }

    fn put_out(&mut self, output: Output, tickets: &mut HashMap<u64, Sender<Result<Done, CommandError>>>) {
        match output {
            Output::Send { node, message } => {
                if let (Some(server), Some(&connection)) = (&self.server, self.links.get(&node)) {
                    server.send(connection, message);
                }
            }
            Output::Close { node, fault } => {
                tracing::error!(node = node.0, "connection closed: {fault}");
                if let (Some(server), Some(connection)) = (&self.server, self.links.remove(&node)) {
                    server.close(connection, fault.to_string());
                }
            }
            Output::Done { ticket, result } => {
                if let Ok(Done::Node { seller, node_key }) = &result {
                    let keys = NodeKeys::from_node_key(node_key.expose());
                    self.keyring.set(*seller, LinkKey::of(&keys));
                }
                if let Some(reply) = tickets.remove(&ticket) {
                    // The asker may have given up.
                    let _ = reply.send(result);
                }
            }
            Output::PlaceOrder { .. } => {
                if let Some((_, buyer)) = &self.supply {
                    buyer.wake();
                }
            }
            Output::AnswerFor { node, question, seller, asked } => {
                let question = ArchiveQuestion { node, question, seller, asked };
                if let Err(full) = self.questions.try_send(question) {
                    let ArchiveQuestion { node, question, .. } = full.into_inner();
                    self.tell(node, question, Told::IN_DOUBT);
                }
            }
            Output::Alarm(alarm) => tracing::warn!("{alarm}"),
        }
    }

    fn tell(&self, node: SellerId, question: u64, told: Told) {
        if let (Some(server), Some(&connection)) = (&self.server, self.links.get(&node)) {
            server.send(connection, ToNode::Told { question, told });
        }
    }

    /// Sends every node away: what it said is forgotten, and it begins again.
    fn close_all(&mut self) {
        for (_, connection) in std::mem::take(&mut self.links) {
            if let Some(server) = &self.server {
                server.close(connection, "the hub's disk is full".to_owned());
            }
        }
    }

    /// Waits, then loads the hub again, until there is room; `None` when it is told to stop meanwhile.
    fn load_again(&mut self, messages: &Receiver<HubMessage>) -> Result<Option<LiveHub>, Failure> {
        self.close_all();
        loop {
            // Who asks meanwhile hears that there is no answer. Jobs end by that, too.
            let end_ms = (self.clock)().monotonic_ms + LOAD_AGAIN_MS;
            let mut left = Duration::from_millis(LOAD_AGAIN_MS);
            while let Ok(message) = messages.recv_timeout(left) {
                match message {
                    HubMessage::Stop => return Ok(None),
                    HubMessage::Link(LinkEvent::Up { connection, node, .. }) => {
                        self.links.insert(node, connection);
                        self.close_all();
                    }
                    _ => {}
                }
                left = Duration::from_millis(end_ms.saturating_sub((self.clock)().monotonic_ms));
            }
            if self.batches.have_jobs() {
                continue;
            }
            match load(&self.database, &self.disk, &self.keys) {
                Ok(hub) => {
                    self.batches.load(&hub);
                    fill(&self.keyring, &hub)?;
                    return Ok(Some(hub));
                }
                Err(error) if error.is_full() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How long the hub waits for something to do; a commit is tried after that in any case.
const TURN: Duration = Duration::from_secs(1);
/// Messages taken before a commit.
const MESSAGES_PER_COMMIT: usize = 1024;
/// How long a full disk is left alone, in milliseconds.
const LOAD_AGAIN_MS: u64 = 1_000;
