//! The front: takes connections up to the end of their handshake and hands them to the terminal's home worker.

use super::seats::{Seat, Seats};
use super::stats::{Stats, count};
use super::worker::WorkerHandle;
use super::{Clock, Random, WAKE, Waker, home, wait};
use crate::commit::Wake;
use crate::limits::{
    BACKLOG, LINGER_MS_MAX, LOGIN_MS_MAX, UNAUTHENTICATED_MAX, UNAUTHENTICATED_PER_SOURCE_MAX,
};
use crate::registry::{Registry, State};
use crossbeam::channel::{Receiver, Sender, unbounded};
use crossbeam::queue::{ArrayQueue, SegQueue};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye, encode_error};
use wire::frame::FRAME_BYTES_MAX;
use wire::message::Addresses;
use wire::session::{Acceptor, HANDSHAKE_BYTES, Hello, SellerSession};
use zeroize::Zeroizing;

/// A carried terminal's hello, on its way from its home worker.
pub(super) struct CarriedHello {
    pub(super) worker: usize,
    /// The manager's connection at that worker, and the session's number on it.
    pub(super) carrier: u64,
    pub(super) number: u32,
    pub(super) hello: Hello,
}

/// What came of it, on its way back.
pub(super) struct Shaken {
    pub(super) carrier: u64,
    pub(super) number: u32,
    /// The session and the handshake frame; `None`: the terminal does not know its key.
    pub(super) made: Option<Box<(SellerSession, [u8; HANDSHAKE_BYTES])>>,
}

/// A connection whose terminal knows its key, on its way to its home worker.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) session: SellerSession,
    /// What came after the hello.
    pub(super) unread: Vec<u8>,
    pub(super) seat: Seat,
}

/// Opens a listening socket.
///
/// # Errors
/// What the system says, for instance that the address is in use.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listen_on(address, None)
}

/// The same on one network device, by its name, if one is named.
///
/// # Errors
/// As [`listen`], and that there is no such device.
pub fn listen_on(address: SocketAddr, device: Option<&str>) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Reaches the front from any thread.
#[derive(Clone)]
pub struct FrontHandle {
    messages: Sender<Message>,
    waker: Waker,
}

impl FrontHandle {
    /// A registry that is in force from now on.
    pub fn registry(&self, registry: Arc<Registry>) {
        self.send(Message::Registry(registry));
    }

    /// Accepts no more, and ends.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    /// Works out a carried terminal's handshake.
    pub(super) fn shake(&self, hello: CarriedHello) {
        self.send(Message::Shake(Box::new(hello)));
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_ok() {
            self.waker.wake();
        }
    }
}

enum Message {
    Registry(Arc<Registry>),
    Shake(Box<CarriedHello>),
    Stop,
}

/// Accepts and shakes hands. [`Front::run`] is its thread.
pub struct Front {
    poll: Poll,
    listener: TcpListener,
    acceptor: Acceptor,
    registry: Arc<Registry>,
    homes: Vec<Home>,
    messages: Receiver<Message>,
    seats: Seats,
    pending: HashMap<usize, Pending>,
    next_token: usize,
    by_source: HashMap<IpAddr, u32>,
    /// When each connection must be gone, in order; of those that went before, too.
    deadlines: VecDeque<(u64, usize)>,
    /// Connections that were told why and may still have to hear it.
    leaving: VecDeque<(u64, TcpStream, Seat)>,
    /// The listener may have more.
    acceptable: bool,
    /// The system had no room for another connection: not before this, in monotonic milliseconds.
    accept_after_ms: u64,
    stats: Arc<Stats>,
    clock: Clock,
    random: Random,
}

/// Where a worker takes its new connections.
struct Home {
    arrivals: Arc<ArrayQueue<Arrival>>,
    shaken: Arc<SegQueue<Shaken>>,
    wake: Box<dyn Wake>,
}

/// A connection that has not finished its handshake.
struct Pending {
    stream: TcpStream,
    source: IpAddr,
    input: Vec<u8>,
    seat: Seat,
}

impl Front {
    /// A front for these workers.
    ///
    /// # Errors
    /// The system has no more of what polling needs.
    #[expect(clippy::too_many_arguments, reason = "one owner hands it everything once")]
    pub fn new<S: Send + Sync + 'static>(
        listener: std::net::TcpListener,
        acceptor: Acceptor,
        registry: Arc<Registry>,
        workers: &[WorkerHandle<S>],
        seats: Seats,
        stats: Arc<Stats>,
        clock: Clock,
        random: Random,
    ) -> io::Result<(Self, FrontHandle)> {
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKE)?));
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        // Registries are few, and the front always takes them.
        let (sender, messages) = unbounded();
        let homes = workers.iter().map(|worker| Home {
            arrivals: Arc::clone(&worker.arrivals),
            shaken: Arc::clone(&worker.shaken),
            wake: Box::new(worker.clone()),
        });
        let front = Self {
            poll,
            listener,
            acceptor,
            registry,
            homes: homes.collect(),
            messages,
            seats,
            pending: HashMap::new(),
            next_token: 0,
            by_source: HashMap::new(),
            deadlines: VecDeque::new(),
            leaving: VecDeque::new(),
            acceptable: true,
            accept_after_ms: 0,
            stats,
            clock,
            random,
        };
        Ok((front, FrontHandle { messages: sender, waker }))
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// The system cannot poll.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let wait_ms = if self.messages.is_empty() { TURN_MS_MAX } else { 0 };
            wait(&mut self.poll, &mut events, Duration::from_millis(wait_ms))?;
            // Handshakes are long: those of carried terminals and the others have their turns.
            for message in self.messages.try_iter().take(MESSAGES_PER_TURN) {
                match message {
                    Message::Registry(registry) => self.registry = registry,
                    Message::Shake(hello) => self.shake_carried(&hello),
                    Message::Stop => {
                        self.pending.drain().for_each(|(_, mut pending)| {
                            say_bye(&mut pending.stream, ByeReason::Stopping);
                        });
                        return Ok(());
                    }
                }
            }
            let now_ms = (self.clock)().monotonic_ms;
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTENER => self.acceptable = true,
                    Token(token) => self.read(token, now_ms),
                }
            }
            self.accept(now_ms);
            self.end_overdue(now_ms);
        }
    }

    fn accept(&mut self, now_ms: u64) {
        while self.acceptable && now_ms >= self.accept_after_ms && self.pending.len() < UNAUTHENTICATED_MAX {
            match self.listener.accept() {
                Ok((stream, address)) => self.admit(stream, source_of(address), now_ms),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections for a moment: {error}");
                    self.accept_after_ms = now_ms + ACCEPT_AGAIN_MS;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, source: IpAddr, now_ms: u64) {
        count(&self.stats.accepted);
        let from_there = self.by_source.entry(source).or_default();
        let seat = self.seats.take().filter(|_| *from_there < UNAUTHENTICATED_PER_SOURCE_MAX);
        let Some(seat) = seat else {
            if *from_there == 0 {
                self.by_source.remove(&source);
            }
            count(&self.stats.turned_away);
            return say_bye(&mut stream, ByeReason::Busy);
        };
        let token = self.next_token;
        // Small replies must not wait for each other.
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| self.poll.registry().register(&mut stream, Token(token), Interest::READABLE));
        if prepared.is_err() {
            return;
        }
        *from_there += 1;
        self.next_token = (self.next_token + 1) % TOKENS;
        self.deadlines.push_back((now_ms + LOGIN_MS_MAX, token));
        let input = Vec::with_capacity(FRAME_BYTES_MAX);
        self.pending.insert(token, Pending { stream, source, input, seat });
    }

    fn read(&mut self, token: usize, now_ms: u64) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        let mut buffer = [0; FRAME_BYTES_MAX];
        loop {
            match pending.stream.read(&mut buffer) {
                Ok(0) => return drop(self.take(token)),
                Ok(bytes) => pending.input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return drop(self.take(token)),
            }
            match self.acceptor.hello(&pending.input) {
                Ok(None) => {}
                Ok(Some((length, hello))) => return self.shake_hands(token, length, &hello, now_ms),
                Err(error) => return self.reject(token, error.code(), now_ms),
            }
        }
    }

    /// Answers a hello; `None`: the terminal does not know its key, or is not known.
    fn answer(&self, hello: &Hello) -> Option<(SellerSession, [u8; HANDSHAKE_BYTES])> {
        let known = self.registry.terminal(hello.terminal);
        let known = known
            .filter(|known| known.key_epoch == hello.key_epoch && known.state == State::Active)
            .map(|known| known.key.clone());
        let mut psk = Zeroizing::new([0; 32]);
        match &known {
            Some(key) => *psk = *key.expose(),
            // An unknown terminal must look like a wrong key, in every way.
            None => (self.random)(&mut *psk),
        }
        let mut random = Zeroizing::new([0; 32]);
        (self.random)(&mut *random);
        let mut answer = [0; HANDSHAKE_BYTES];
        let (session, _) = self.acceptor.accept(hello, &psk, &random, &mut answer).ok()?;
        Some((session, answer))
    }

    fn shake_carried(&self, hello: &CarriedHello) {
        let made = self.answer(&hello.hello).map(Box::new);
        if made.is_none() {
            count(&self.stats.rejected);
        }
        let &CarriedHello { worker, carrier, number, .. } = hello;
        self.homes[worker].shaken.push(Shaken { carrier, number, made });
        self.homes[worker].wake.wake();
    }

    fn shake_hands(&mut self, token: usize, length: usize, hello: &Hello, now_ms: u64) {
        let Some((session, answer)) = self.answer(hello) else {
            return self.reject(token, ErrorCode::Authentication, now_ms);
        };
        let Some(mut pending) = self.take(token) else { return };
        // An empty socket buffer takes such a small frame whole.
        let answered = pending.stream.write_all(&answer);
        if answered.is_err() || self.poll.registry().deregister(&mut pending.stream).is_err() {
            return;
        }
        let Pending { stream, mut input, seat, .. } = pending;
        let unread = input.split_off(length);
        let home = &self.homes[home(hello.terminal, self.homes.len())];
        match home.arrivals.push(Arrival { stream, session, unread, seat }) {
            Ok(()) => home.wake.wake(),
            Err(mut arrival) => {
                count(&self.stats.turned_away);
                say_bye(&mut arrival.stream, ByeReason::Busy);
            }
        }
    }

    /// Says what was wrong and lets the connection end when that has been heard.
    fn reject(&mut self, token: usize, code: ErrorCode, now_ms: u64) {
        count(&self.stats.rejected);
        let Some(Pending { mut stream, seat, .. }) = self.take(token) else { return };
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_error(code, &mut frame);
        // Unread bytes would reset the connection and take the error with them.
        let mut rest = [0; FRAME_BYTES_MAX];
        let _ = stream.read(&mut rest);
        if stream.write_all(&frame[..length]).and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
            self.leaving.push_back((now_ms + LINGER_MS_MAX, stream, seat));
        }
    }

    fn end_overdue(&mut self, now_ms: u64) {
        while let Some(&(due_ms, token)) = self.deadlines.front()
            && due_ms <= now_ms
        {
            self.deadlines.pop_front();
            self.reject_if_pending(token, now_ms);
        }
        while self.leaving.front().is_some_and(|(due_ms, ..)| *due_ms <= now_ms)
            || self.leaving.len() > UNAUTHENTICATED_MAX
        {
            self.leaving.pop_front();
        }
    }

    fn reject_if_pending(&mut self, token: usize, now_ms: u64) {
        if self.pending.contains_key(&token) {
            self.reject(token, ErrorCode::Timeout, now_ms);
        }
    }

    fn take(&mut self, token: usize) -> Option<Pending> {
        let pending = self.pending.remove(&token)?;
        if let Some(from_there) = self.by_source.get_mut(&pending.source) {
            *from_there -= 1;
            if *from_there == 0 {
                self.by_source.remove(&pending.source);
            }
        }
        Some(pending)
    }
}

pub(super) fn say_bye(stream: &mut TcpStream, reason: ByeReason) {
    let mut frame = [0; CONTROL_BYTES_MAX];
    let bye = Bye { reason, wait_ms: BUSY_WAIT_MS, addresses: Addresses::default() };
    let length = encode_bye(&bye, &mut frame);
    // It is a courtesy: who does not hear it sees the connection close.
    let _ = stream.write(&frame[..length]);
}

/// Whom a limit counts: an IPv4 address or an IPv6 network.
pub(super) fn source_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

/// Whether the error is of a connection that was gone before it was accepted.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

const LISTENER: Token = Token(usize::MAX - 1);
/// Tokens of connections go round long after the first is gone.
const TOKENS: usize = usize::MAX / 2;
const EVENTS_MAX: usize = 1024;
/// Messages taken before connections have their turn.
const MESSAGES_PER_TURN: usize = 64;
/// How often it looks for what is overdue, in milliseconds.
const TURN_MS_MAX: u64 = 100;
/// How long it waits when the system has no room for another connection, in milliseconds.
const ACCEPT_AGAIN_MS: u64 = 100;
/// When a terminal that was sent away may come back, in milliseconds.
const BUSY_WAIT_MS: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_per_source_counts_a_whole_network_of_ipv6() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:2]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_eq!(source("[::ffff:10.0.0.1]:1"), source("10.0.0.1:9"));
    }
}
