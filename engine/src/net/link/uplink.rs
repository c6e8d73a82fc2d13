//! A node's end: keeps a link with its hub.

use super::fault::Fault;
use super::keyring::LinkKey;
use super::pacing::Bucket;
use super::pair::Link;
use super::uplink_attempt::Attempt;
use super::{LinkEvent, LinkOptions, Role};
use crate::commit::Wake;
use crate::ids::SellerId;
use crate::link::{LinkMessage, ToHub, ToNode};
use crate::net::{Clock, Random, WAKE, Waker, wait};
use crossbeam::channel::{Receiver, Sender, unbounded};
use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::link::Channel;

/// Keeps a node's link with its hub.
#[derive(Debug)]
pub struct Uplink;

/// Who calls, and with which key.
#[derive(Clone, Debug)]
pub struct UplinkIdentity {
    /// The node.
    pub node: SellerId,
    /// What it is.
    pub role: Role,
    /// Between how many workers its terminals are spread.
    pub workers: u16,
    /// Of its node key.
    pub key: LinkKey,
}

/// Reaches a running [`Uplink`] from any thread.
#[derive(Clone)]
pub struct UplinkHandle {
    commands: Sender<Command>,
    waker: Waker,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    failure: Arc<Mutex<Option<String>>>,
}

enum Command {
    Send(u64, ToHub),
    Reconnect(u64, String),
    Stop,
}

impl Uplink {
    /// Starts the thread. `deliver` is called on it, with every event in order; it must not block. `addresses` are of the
    /// form `host:port` and tried in turn. `random` is for keys.
    ///
    /// # Errors
    /// There is no address, or the system has no more of what polling or a thread needs.
    pub fn start(
        addresses: Vec<String>,
        identity: UplinkIdentity,
        deliver: impl Fn(LinkEvent<ToNode>) + Send + 'static,
        clock: Clock,
        random: Random,
        options: LinkOptions,
    ) -> io::Result<UplinkHandle> {
        if addresses.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the hub has no address"));
        }
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKE)?));
        // What a node has on its way is bounded by the link's protocol, and taken in every turn.
        let (sender, commands) = unbounded();
        let now_ms = clock().monotonic_ms;
        let failure = Arc::<Mutex<Option<String>>>::default();
        let desk = Desk {
            poll,
            addresses,
            identity,
            deliver,
            commands,
            state: State::Waiting { until_ms: now_ms },
            attempts: 0,
            next_connection: 1,
            up_at_ms: now_ms,
            bucket: Bucket::new(options.bulk_bytes_per_s, now_ms),
            failure: Arc::clone(&failure),
            options,
            clock,
            random,
        };
        let thread = std::thread::Builder::new().name("uplink".into()).spawn(move || desk.run())?;
        Ok(UplinkHandle { commands: sender, waker, thread: Arc::new(Mutex::new(Some(thread))), failure })
    }
}

impl UplinkHandle {
    /// Sends a message over a link; nothing happens if that is gone.
    pub fn send(&self, connection: u64, message: ToHub) {
        self.command(Command::Send(connection, message));
    }

    /// Ends a link, tells the hub why and tries again; its `Down` follows unless it is gone already.
    pub fn reconnect(&self, connection: u64, why: impl Into<String>) {
        self.command(Command::Reconnect(connection, why.into()));
    }

    /// Ends the link and the thread, and waits for that.
    pub fn stop(&self) {
        self.command(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Why the last attempt failed, or the last link ended; `None` while a link is up.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

struct Desk<F> {
    poll: Poll,
    addresses: Vec<String>,
    identity: UplinkIdentity,
    deliver: F,
    commands: Receiver<Command>,
    state: State,
    /// Since a link was up for long.
    attempts: usize,
    next_connection: u64,
    /// When the last link came up.
    up_at_ms: u64,
    bucket: Bucket,
    failure: Arc<Mutex<Option<String>>>,
    options: LinkOptions,
    clock: Clock,
    random: Random,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum State {
    Waiting { until_ms: u64 },
    Trying(Attempt),
    Up { connection: u64, link: Link<ToNode> },
}

impl<F: Fn(LinkEvent<ToNode>)> Desk<F> {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            tracing::error!("the uplink's thread cannot poll, and ends: {error}");
        }
        self.fail(&Fault::Ours("the node stops".into()));
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut pressing = false;
        loop {
            let wait_ms = self.wait_ms(pressing);
            wait(&mut self.poll, &mut events, Duration::from_millis(wait_ms))?;
            let now_ms = (self.clock)().monotonic_ms;
            if !self.take_commands() {
                return Ok(());
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                let channel = if event.token() == token_of(Channel::Control) {
                    Channel::Control
                } else {
                    Channel::Bulk
                };
                let pipe = match &mut self.state {
                    State::Waiting { .. } => continue,
                    State::Trying(attempt) => attempt.pipe(channel),
                    State::Up { link, .. } => link.line(channel).pipe(),
                };
                pipe.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                pipe.writable |= event.is_writable() || event.is_error();
            }
            pressing = match self.turn(now_ms) {
                Ok(pressing) => pressing,
                Err(fault) => {
                    self.fail(&fault);
                    false
                }
            };
        }
    }

    fn wait_ms(&self, pressing: bool) -> u64 {
        match &self.state {
            _ if pressing => 0,
            State::Waiting { until_ms } => {
                until_ms.saturating_sub((self.clock)().monotonic_ms).min(TURN_MS_MAX)
            }
            State::Up { link, .. } if link.has_unsent_bulk() && self.options.bulk_bytes_per_s.is_some() => {
                PACED_TURN_MS
            }
            _ => TURN_MS_MAX,
        }
    }

    /// Takes what the node wants; whether to go on.
    fn take_commands(&mut self) -> bool {
        let mut broken = None;
        while let Ok(command) = self.commands.try_recv() {
            match (command, &mut self.state) {
                (Command::Stop, _) => return false,
                (Command::Send(to, message), State::Up { connection, link }) if *connection == to => {
                    broken = link.push(message.channel(), message.encode()).err().or(broken);
                }
                (Command::Reconnect(which, why), State::Up { connection, .. }) if *connection == which => {
                    self.fail(&Fault::Ours(why));
                }
                (Command::Send(..) | Command::Reconnect(..), _) => {}
            }
        }
        if let Some(fault) = broken {
            self.fail(&fault);
        }
        true
    }

    fn turn(&mut self, now_ms: u64) -> Result<bool, Fault> {
        match &mut self.state {
            State::Waiting { until_ms } if now_ms < *until_ms => Ok(false),
            State::Waiting { .. } => {
                let attempt = self.attempt(now_ms)?;
                self.state = State::Trying(attempt);
                Ok(true)
            }
            State::Trying(attempt) => {
                if !attempt.step(self.identity.key.expose(), self.random, now_ms)? {
                    return Ok(false);
                }
                let State::Trying(attempt) =
                    std::mem::replace(&mut self.state, State::Waiting { until_ms: now_ms })
                else {
                    return Ok(false);
                };
                let (address, link) = attempt.finish(self.options, now_ms)?;
                let UplinkIdentity { node, role, workers, .. } = self.identity;
                let connection = self.next_connection;
                self.next_connection += 1;
                self.up_at_ms = now_ms;
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.state = State::Up { connection, link };
                (self.deliver)(LinkEvent::Up { connection, node, role, workers, address });
                Ok(true)
            }
            State::Up { connection, link } => {
                let (connection, node) = (*connection, self.identity.node);
                let deliver = &self.deliver;
                let hand_on = |message| deliver(LinkEvent::Message { connection, node, message });
                let control = link.serve_control(now_ms, hand_on)?;
                let bulk = link.serve_bulk(now_ms, &mut self.bucket, hand_on)?;
                link.tick(now_ms)?;
                Ok(control | bulk)
            }
        }
    }

    fn attempt(&mut self, now_ms: u64) -> Result<Attempt, Fault> {
        let (round, at) = (self.attempts / self.addresses.len(), self.attempts % self.addresses.len());
        self.attempts += 1;
        // A name may have several addresses; each has its round.
        let found: Vec<SocketAddr> = self.addresses[at].to_socket_addrs()?.collect();
        let address = found.get(round % found.len().max(1)).copied();
        let address = address.ok_or_else(|| Fault::Ours("the hub's name has no address".into()))?;
        let random = self.random;
        let mut link_id = [0; 8];
        random(&mut link_id);
        let times = (now_ms, now_ms + self.options.handshake_ms);
        let UplinkIdentity { node, role, workers, .. } = self.identity;
        let introduction = wire::link::LinkIntroduction {
            node,
            role,
            channel: Channel::Control,
            workers,
            link_id: u64::from_le_bytes(link_id),
        };
        let mut register = |stream: &mut TcpStream, channel| {
            let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
            self.poll.registry().register(stream, token_of(channel), both)
        };
        Ok(Attempt::start(address, introduction, times, &mut register)?)
    }

    /// Gives up what there is, and waits before the next attempt.
    fn fail(&mut self, fault: &Fault) {
        let now_ms = (self.clock)().monotonic_ms;
        let why = fault.to_string();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
        match std::mem::replace(&mut self.state, State::Waiting { until_ms: now_ms }) {
            State::Up { connection, link } => {
                let _ = link.end(fault).map(|pipe| pipe.finish(now_ms));
                if now_ms >= self.up_at_ms + GOOD_MS {
                    self.attempts = 0;
                }
                tracing::warn!("the link with the hub is down: {why}");
                (self.deliver)(LinkEvent::Down { connection, node: self.identity.node, why });
            }
            State::Trying(attempt) => tracing::warn!("no link with the hub at {}: {why}", attempt.address()),
            State::Waiting { .. } => tracing::warn!("no link with the hub: {why}"),
        }
        self.state = State::Waiting { until_ms: now_ms + self.back_off_ms() };
    }

    /// Doubles with every round through the addresses, and is spread over its upper half, so that the nodes of a hub that
    /// starts again do not all come at once.
    fn back_off_ms(&self) -> u64 {
        let (least, most) = self.options.back_off_ms;
        let rounds = self.attempts.saturating_sub(1) / self.addresses.len();
        let longest = least.saturating_mul(1 << rounds.min(16)).min(most);
        let mut dice = [0; 8];
        (self.random)(&mut dice);
        let half = longest / 2;
        longest - u64::from_le_bytes(dice) % (half + 1)
    }
}

fn token_of(channel: Channel) -> Token {
    Token(channel as usize)
}

const EVENTS_MAX: usize = 16;
/// How often it looks for what is overdue, in milliseconds.
const TURN_MS_MAX: u64 = 50;
/// The same while bulk waits for its budget.
const PACED_TURN_MS: u64 = 5;
/// A link that was up for so long was a good one: the next attempt comes soon. In milliseconds.
const GOOD_MS: u64 = 5_000;
