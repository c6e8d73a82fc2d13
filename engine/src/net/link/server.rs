//! The hub's end: takes the connections of all nodes up to their links.

use super::fault::Fault;
use super::keyring::Keyring;
use super::pacing::Bucket;
use super::pipe::Pipe;
use super::server_links::{Links, Partner};
use super::{LinkEvent, LinkOptions};
use crate::commit::Wake;
use crate::ids::SellerId;
use crate::link::{
    Channel, Encoded, LinkMessage, ToHub, ToNode, from_first_manager_bytes_max, from_manager_bytes_max,
};
use crate::net::{Clock, Random, WAKE, Waker, wait};
use crate::registry::Registry;
use crossbeam::channel::{Receiver, Sender, unbounded};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::link::{
    LinkError, LinkHello, LinkInbound, LinkIntroduction, LinkSession, Role, VERSION_OTHERS, encode_link_error,
};
use zeroize::Zeroizing;

/// Serves the links of all nodes of a hub.
#[derive(Debug)]
pub struct LinkServer;

/// Reaches a running [`LinkServer`] from any thread.
#[derive(Clone)]
pub struct LinkServerHandle {
    commands: Sender<Command>,
    waker: Waker,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A connection that is to carry terminals' sessions, of a manager that is proved.
pub struct CarryingArrival {
    pub(in crate::net) pipe: Pipe,
    pub(in crate::net) session: LinkSession,
    pub(in crate::net) said: LinkIntroduction,
    pub(in crate::net) address: SocketAddr,
}

impl CarryingArrival {
    /// The manager.
    #[must_use]
    pub fn manager(&self) -> SellerId {
        self.said.node
    }

    /// The worker that it calls, from 0; there may be none of that number.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.said.workers.into()
    }
}

/// Takes connections that carry sessions, on the links' thread; gives back what it does not take.
pub type CarryTo = Box<dyn Fn(Box<CarryingArrival>) -> Result<(), Box<CarryingArrival>> + Send>;

enum Command {
    Send(u64, ToNode),
    Close(u64, String),
    Stop,
}

impl LinkServer {
    /// Starts the thread. `deliver` is called on it, with every event in order; it must not block. Nothing is carried here.
    ///
    /// # Errors
    /// The system has no more of what polling or a thread needs.
    pub fn start(
        listener: std::net::TcpListener,
        keyring: Arc<Keyring>,
        deliver: impl Fn(LinkEvent<ToHub>) + Send + 'static,
        clock: Clock,
        random: Random,
        options: LinkOptions,
    ) -> io::Result<LinkServerHandle> {
        Self::start_carrying(listener, keyring, deliver, Box::new(Err), clock, random, options)
    }

    /// The same where terminals' sessions are carried, too: their connections go to `carry`.
    ///
    /// # Errors
    /// The system has no more of what polling or a thread needs.
    pub fn start_carrying(
        listener: std::net::TcpListener,
        keyring: Arc<Keyring>,
        deliver: impl Fn(LinkEvent<ToHub>) + Send + 'static,
        carry: CarryTo,
        clock: Clock,
        random: Random,
        options: LinkOptions,
    ) -> io::Result<LinkServerHandle> {
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKE)?));
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        // What the hub has on its way is bounded by the link's protocol, and taken in every turn.
        let (sender, commands) = unbounded();
        let now_ms = clock().monotonic_ms;
        let desk = Desk {
            poll,
            listener,
            keyring,
            deliver,
            carry,
            commands,
            arrivals: BTreeMap::new(),
            links: Links::new(options),
            next_token: 0,
            leaving: VecDeque::new(),
            bucket: Bucket::new(options.bulk_bytes_per_s, now_ms),
            acceptable: true,
            accept_after_ms: 0,
            options,
            clock,
            random,
        };
        let thread = std::thread::Builder::new().name("links".into()).spawn(move || desk.run())?;
        Ok(LinkServerHandle { commands: sender, waker, thread: Arc::new(Mutex::new(Some(thread))) })
    }
}

impl LinkServerHandle {
    /// Sends a message over a link; nothing happens if that is gone.
    pub fn send(&self, connection: u64, message: ToNode) {
        self.command(Command::Send(connection, message));
    }

    /// Ends a link and tells the node why; its `Down` follows unless it is gone already.
    pub fn close(&self, connection: u64, why: impl Into<String>) {
        self.command(Command::Close(connection, why.into()));
    }

    /// Ends all links and the thread, and waits for that.
    pub fn stop(&self) {
        self.command(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }
}

struct Desk<F> {
    poll: Poll,
    listener: TcpListener,
    keyring: Arc<Keyring>,
    deliver: F,
    carry: CarryTo,
    commands: Receiver<Command>,
    /// Connections that are not part of a link yet, by token: the oldest first.
    arrivals: BTreeMap<usize, Arrival>,
    links: Links,
    next_token: usize,
    /// Connections that were told why and may still have to hear it.
    leaving: VecDeque<(u64, TcpStream)>,
    bucket: Bucket,
    /// The listener may have more.
    acceptable: bool,
    /// The system had no room for another connection: not before this, in monotonic milliseconds.
    accept_after_ms: u64,
    options: LinkOptions,
    clock: Clock,
    random: Random,
}

/// A connection on its way into a link.
struct Arrival {
    pipe: Pipe,
    address: SocketAddr,
    due_ms: u64,
    phase: Phase,
}

enum Phase {
    /// Its hello is due.
    New,
    /// It may be a replay: its first sealed frame is due.
    Shaken(LinkSession, LinkIntroduction),
    /// It is the node. The link's other connection is due.
    Proved(LinkSession, LinkIntroduction),
}

impl<F: Fn(LinkEvent<ToHub>)> Desk<F> {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            tracing::error!("the links' thread cannot poll, and ends: {error}");
        }
        let now_ms = (self.clock)().monotonic_ms;
        self.links.end_all(&Fault::Ours("the hub stops".into()), now_ms, &self.deliver);
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut pressing = false;
        loop {
            let wait_ms = match (pressing, self.links.wait_for_budget()) {
                (true, _) => 0,
                (false, true) if self.options.bulk_bytes_per_s.is_some() => PACED_TURN_MS,
                _ => TURN_MS_MAX,
            };
            wait(&mut self.poll, &mut events, Duration::from_millis(wait_ms))?;
            let now_ms = (self.clock)().monotonic_ms;
            if !self.take_commands(now_ms) {
                return Ok(());
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTENER => self.acceptable = true,
                    Token(token) => {
                        let arrival = self.arrivals.get_mut(&token).map(|arrival| &mut arrival.pipe);
                        if let Some(pipe) = arrival.or_else(|| self.links.pipe(token)) {
                            pipe.readable |=
                                event.is_readable() || event.is_read_closed() || event.is_error();
                            pipe.writable |= event.is_writable() || event.is_error();
                        }
                    }
                }
            }
            self.accept(now_ms);
            self.welcome(now_ms);
            pressing = self.links.serve(&mut self.bucket, now_ms, &self.deliver);
            self.end_overdue(now_ms);
        }
    }

    /// Takes what the hub wants; whether to go on.
    fn take_commands(&mut self, now_ms: u64) -> bool {
        // A registry goes to every node, and is written out once for all.
        let mut written: Option<(Arc<Registry>, Encoded)> = None;
        for command in self.commands.try_iter() {
            match command {
                Command::Send(connection, message) => {
                    let encoded = match (&message, &written) {
                        (ToNode::Registry(registry), Some((before, encoded)))
                            if Arc::ptr_eq(registry, before) =>
                        {
                            encoded.clone()
                        }
                        _ => message.encode(),
                    };
                    if let ToNode::Registry(registry) = &message {
                        written = Some((Arc::clone(registry), encoded.clone()));
                    }
                    self.links.push(connection, message.channel(), encoded);
                }
                Command::Close(connection, why) => {
                    self.links.end(connection, &Fault::Ours(why), now_ms, &self.deliver);
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn accept(&mut self, now_ms: u64) {
        while self.acceptable && now_ms >= self.accept_after_ms {
            match self.listener.accept() {
                Ok((stream, address)) => self.admit(stream, address, now_ms),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.acceptable = false,
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!("cannot accept links for a moment: {error}");
                    self.accept_after_ms = now_ms + ACCEPT_AGAIN_MS;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, address: SocketAddr, now_ms: u64) {
        let token = self.next_token;
        let both = Interest::READABLE | Interest::WRITABLE;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| self.poll.registry().register(&mut stream, Token(token), both));
        if prepared.is_err() {
            return;
        }
        self.next_token = (self.next_token + 1) % TOKENS;
        // Who floods the hub with connections pushes out his own sooner than one that has only begun: a handshake is short.
        if self.arrivals.len() >= self.options.handshakes_max {
            self.arrivals.pop_first();
        }
        let (pipe, due_ms) = (Pipe::new(stream), now_ms + self.options.handshake_ms);
        self.arrivals.insert(token, Arrival { pipe, address, due_ms, phase: Phase::New });
    }

    /// Goes on with the handshakes.
    fn welcome(&mut self, now_ms: u64) {
        let ready: Vec<_> = self
            .arrivals
            .iter()
            .filter(|(_, arrival)| arrival.pipe.readable)
            .map(|(token, _)| *token)
            .collect();
        for token in ready {
            if let Some(mut arrival) = self.arrivals.remove(&token) {
                match self.step(&mut arrival, now_ms) {
                    Ok(()) => self.place(token, arrival, now_ms),
                    Err(fault) => self.turn_away(arrival, &fault, now_ms),
                }
            }
        }
    }

    /// Takes what has come of one handshake.
    fn step(&mut self, arrival: &mut Arrival, now_ms: u64) -> Result<(), Fault> {
        let Arrival { pipe, phase, .. } = arrival;
        loop {
            match phase {
                Phase::New => {
                    if let Some((length, hello)) = LinkHello::read(pipe.unread())? {
                        pipe.consume(length);
                        *phase = self.shake_hands(pipe, &hello, now_ms)?;
                        continue;
                    }
                }
                Phase::Shaken(session, _) => {
                    if let Some((length, inbound)) = session.receive(pipe.unread())? {
                        debug_assert_eq!(inbound, LinkInbound::Open, "a session begins with that");
                        pipe.consume(length);
                        let Phase::Shaken(session, said) = std::mem::replace(phase, Phase::New) else {
                            unreachable!("that is this arm's phase")
                        };
                        *phase = Phase::Proved(session, said);
                        return Ok(());
                    }
                }
                // What comes now waits until the link is up; a node that says more before is answered late.
                Phase::Proved(..) => {
                    pipe.readable = false;
                    return Ok(());
                }
            }
            if pipe.read()? == 0 {
                return Ok(());
            }
        }
    }

    fn shake_hands(&self, pipe: &mut Pipe, hello: &LinkHello, now_ms: u64) -> Result<Phase, Fault> {
        let said = hello.introduction;
        let known = self.keyring.find(said.node);
        let (mut random, mut psk) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        (self.random)(&mut *random);
        match &known {
            Some(key) => *psk = *key.expose(),
            // A node that is not known must look like a wrong key, in every way.
            None => (self.random)(&mut *psk),
        }
        let limit = match said.channel {
            Channel::Sessions if hello.version >= VERSION_OTHERS => from_manager_bytes_max,
            Channel::Sessions => from_first_manager_bytes_max,
            Channel::Control | Channel::Bulk => ToHub::bytes_max,
        };
        let (session, answer) = hello.accept(&psk, &random, limit)?;
        pipe.output().extend_from_slice(&answer);
        // An empty socket buffer takes such a small frame whole.
        if pipe.write(usize::MAX, now_ms)? != answer.len() {
            return Err(Fault::Closed);
        }
        Ok(Phase::Shaken(session, said))
    }

    /// Puts a connection together with the link's other one, or has it wait for that.
    fn place(&mut self, token: usize, arrival: Arrival, now_ms: u64) {
        let Phase::Proved(_, said) = &arrival.phase else {
            self.arrivals.insert(token, arrival);
            return;
        };
        if said.channel == Channel::Sessions {
            return self.carry(arrival, now_ms);
        }
        let other = |other: &Arrival| match &other.phase {
            Phase::Proved(_, before) if (before.node, before.link_id) == (said.node, said.link_id) => {
                Some(*before)
            }
            _ => None,
        };
        let found = self.arrivals.iter().find_map(|(token, arrival)| Some((*token, other(arrival)?)));
        let Some((other_token, before)) = found else {
            self.arrivals.insert(token, arrival);
            return;
        };
        if before != (LinkIntroduction { channel: before.channel, ..*said }) || before.channel == said.channel
        {
            return self.turn_away(arrival, &LinkError::OutOfOrder.into(), now_ms);
        }
        let Some(before) = self.arrivals.remove(&other_token) else { return };
        let partners = [(token, arrival), (other_token, before)].map(
            |(token, Arrival { mut pipe, address, phase, .. })| {
                // It was not read while it waited.
                pipe.readable = true;
                match phase {
                    Phase::Proved(session, said) => Some(Partner { token, pipe, session, said, address }),
                    Phase::New | Phase::Shaken(..) => None,
                }
            },
        );
        if let [Some(one), Some(other)] = partners {
            self.links.begin(one, other, now_ms, &self.deliver);
        }
    }

    /// Hands a connection that is to carry sessions to whoever does that here.
    fn carry(&mut self, arrival: Arrival, now_ms: u64) {
        let Arrival { mut pipe, address, phase, due_ms } = arrival;
        let Phase::Proved(session, said) = phase else { return };
        if let Err(error) = self.poll.registry().deregister(pipe.stream()) {
            tracing::warn!("a connection is lost: {error}");
            return;
        }
        // It was not read since.
        pipe.readable = true;
        let arrival = Box::new(CarryingArrival { pipe, session, said, address });
        let taken = if said.role == Role::Hcm { (self.carry)(arrival) } else { Err(arrival) };
        if let Err(arrival) = taken {
            let CarryingArrival { pipe, session, said, .. } = *arrival;
            let phase = Phase::Proved(session, said);
            let arrival = Arrival { pipe, address, due_ms, phase };
            self.turn_away(arrival, &LinkError::OutOfOrder.into(), now_ms);
        }
    }

    fn end_overdue(&mut self, now_ms: u64) {
        while let Some(entry) = self.arrivals.first_entry()
            && entry.get().due_ms <= now_ms
        {
            let arrival = entry.remove();
            let fault = Fault::Slow(self.options.handshake_ms);
            self.turn_away(arrival, &fault, now_ms);
        }
        self.leaving.extend(self.links.left().map(|stream| (now_ms + LINGER_MS_MAX, stream)));
        while self.leaving.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms)
            || self.leaving.len() > self.options.handshakes_max
        {
            self.leaving.pop_front();
        }
    }

    /// Says what was wrong and lets the connection end when that has been heard.
    fn turn_away(&mut self, arrival: Arrival, fault: &Fault, now_ms: u64) {
        let Arrival { mut pipe, address, .. } = arrival;
        let code = match fault {
            Fault::Protocol(error) => error.code(),
            Fault::Slow(_) => Some(wire::control::ErrorCode::Timeout),
            _ => None,
        };
        tracing::warn!(%address, "no link: {fault}");
        if let Some(code) = code {
            pipe.output().extend_from_slice(&encode_link_error(code));
            let stream = pipe.finish(now_ms);
            self.leaving.extend(stream.map(|stream| (now_ms + LINGER_MS_MAX, stream)));
        }
    }
}

const LISTENER: Token = Token(usize::MAX - 1);
/// Tokens of connections go round long after the first is gone.
const TOKENS: usize = usize::MAX / 2;
const EVENTS_MAX: usize = 1024;
/// How often it looks for what is overdue, in milliseconds.
const TURN_MS_MAX: u64 = 50;
/// The same while bulk waits for its budget.
const PACED_TURN_MS: u64 = 5;
/// How long it waits when the system has no room for another connection, in milliseconds.
const ACCEPT_AGAIN_MS: u64 = 100;
/// How long the last words to a node may take to arrive, in milliseconds.
const LINGER_MS_MAX: u64 = 1_000;
