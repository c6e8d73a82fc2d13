//! The server that sessions are carried to: which one, the connections with its workers, and when to try again.

use super::line::Line;
use super::stats::RelayStats;
use super::{RelayIdentity, RelayOptions};
use crate::commit::Wake;
use crate::ids::{SellerId, TerminalId};
use crate::net::link::Fault;
use crate::net::{Clock, Random, Waker, home};
use crossbeam::channel::{Receiver, Sender, bounded};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

pub(super) struct Upstream {
    identity: RelayIdentity,
    options: RelayOptions,
    state: State,
    pub(super) lines: Vec<Line>,
    /// Since a server was there for long.
    attempts: usize,
    link_id: u64,
    /// What a name's addresses are comes from a thread of its own: asking may take long.
    found: (Sender<Found>, Receiver<Found>),
    /// Connections that were told why and may still have to hear it.
    leaving: VecDeque<(u64, TcpStream)>,
    waker: Waker,
    stats: Arc<RelayStats>,
    clock: Clock,
    random: Random,
}

type Found = io::Result<Vec<SocketAddr>>;

enum State {
    Waiting { until_ms: u64 },
    Asking,
    Coming { address: SocketAddr, due_ms: u64, server: Option<(SellerId, u16)> },
    Up { since_ms: u64 },
}

impl Upstream {
    pub(super) fn new(
        identity: RelayIdentity,
        options: RelayOptions,
        waker: Waker,
        stats: Arc<RelayStats>,
        clock: Clock,
        random: Random,
    ) -> Self {
        Self {
            identity,
            options,
            state: State::Waiting { until_ms: 0 },
            lines: Vec::new(),
            attempts: 0,
            link_id: 0,
            found: bounded(1),
            leaving: VecDeque::new(),
            waker,
            stats,
            clock,
            random,
        }
    }

    /// Whether sessions can be carried.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// The connection with the terminal's home worker, if sessions can be carried.
    pub(super) fn line_of(&self, terminal: TerminalId) -> Option<usize> {
        self.is_up().then(|| home(terminal, self.lines.len()))
    }

    /// How long until it has to be looked at, in milliseconds.
    pub(super) fn wait_ms(&self, now_ms: u64) -> u64 {
        match self.state {
            State::Waiting { until_ms } => until_ms.saturating_sub(now_ms),
            _ => u64::MAX,
        }
    }

    /// What has happened on a socket.
    pub(super) fn handle_event(&mut self, event: &mio::event::Event, line: usize) {
        if let Some(line) = self.lines.get_mut(line) {
            let is_readable = event.is_readable() || event.is_read_closed() || event.is_error();
            line.handle_event(is_readable, event.is_writable() || event.is_error());
        }
    }

    /// Goes on with coming up; whether it has just come up.
    ///
    /// # Errors
    /// Why it cannot; [`Upstream::fail`] is the caller's part.
    pub(super) fn come_up(&mut self, registry: &Registry, now_ms: u64) -> Result<bool, Fault> {
        match &self.state {
            State::Waiting { until_ms } if now_ms < *until_ms => Ok(false),
            State::Waiting { .. } => {
                self.ask()?;
                self.take_found(registry, now_ms)?;
                Ok(false)
            }
            State::Asking => self.take_found(registry, now_ms).map(|()| false),
            State::Coming { .. } => self.step(registry, now_ms),
            State::Up { .. } => Ok(false),
        }
    }

    /// Gives up what there is, and waits before the next attempt; those whose sessions are over, or who waited.
    pub(super) fn fail(&mut self, fault: &Fault, now_ms: u64) -> Vec<u64> {
        let why = fault.to_string();
        let mut keys = Vec::new();
        for line in self.lines.drain(..) {
            let (stream, of_line) = line.end(fault, now_ms);
            keys.extend(of_line);
            self.leaving.extend(stream.map(|stream| (now_ms + LEAVE_MS, stream)));
        }
        let address = self.stats.server().address;
        match self.state {
            State::Up { since_ms } => {
                tracing::warn!(sessions = keys.len(), "the connection with the server is gone: {why}");
                if now_ms >= since_ms + GOOD_MS {
                    self.attempts = 0;
                }
            }
            State::Coming { address, .. } => {
                tracing::warn!("no connection with the server at {address}: {why}");
            }
            State::Waiting { .. } | State::Asking => tracing::warn!("no connection with a server: {why}"),
        }
        self.stats.change_server(|server| {
            server.losses += u64::from(address.is_some());
            (server.address, server.failure) = (None, Some(why));
        });
        self.state = State::Waiting { until_ms: now_ms + self.back_off_ms() };
        keys
    }

    /// Pings, and sees whether the server is alive.
    pub(super) fn tick(&mut self, now_ms: u64) -> Result<(), Fault> {
        while self.leaving.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            self.leaving.pop_front();
        }
        if self.is_up() {
            for line in &mut self.lines {
                line.tick(now_ms)?;
            }
        }
        Ok(())
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, now_ms: u64) -> Result<(), Fault> {
        self.lines.iter_mut().try_for_each(|line| line.flush(now_ms))
    }

    /// Asks for the addresses of the next server.
    fn ask(&mut self) -> Result<(), Fault> {
        let server = self.options.servers[self.attempts % self.options.servers.len()].clone();
        self.state = State::Asking;
        let (sender, waker) = (self.found.0.clone(), self.waker.clone());
        if let Ok(address) = server.parse() {
            let _ = sender.try_send(Ok(vec![address]));
            return Ok(());
        }
        let ask = move || {
            // Nobody listens when the relay has ended.
            let _ = sender.try_send(server.to_socket_addrs().map(Iterator::collect));
            waker.wake();
        };
        std::thread::Builder::new().name("names".into()).spawn(ask)?;
        Ok(())
    }

    fn take_found(&mut self, registry: &Registry, now_ms: u64) -> Result<(), Fault> {
        let Ok(found) = self.found.1.try_recv() else { return Ok(()) };
        let round = self.attempts / self.options.servers.len();
        self.attempts += 1;
        let found = found?;
        // A name may have several addresses; each has its round.
        let address = found.get(round % found.len().max(1)).copied();
        let address = address.ok_or_else(|| Fault::Ours("the server's name has no address".into()))?;
        let mut link_id = [0; 8];
        (self.random)(&mut link_id);
        self.link_id = u64::from_le_bytes(link_id);
        let due_ms = now_ms + self.options.link.handshake_ms;
        self.state = State::Coming { address, due_ms, server: None };
        self.call(address, 0, registry)
    }

    fn step(&mut self, registry: &Registry, now_ms: u64) -> Result<bool, Fault> {
        let State::Coming { address, due_ms, server } = &mut self.state else { return Ok(false) };
        let (address, due_ms) = (*address, *due_ms);
        for line in &mut self.lines {
            let others = &self.options.others;
            let said = line.come_up(&self.identity, self.link_id, others, self.random, now_ms)?;
            let Some(said) = said else { continue };
            if !line.is_called(&said, *server) {
                return Err(Fault::Ours("the server's workers do not agree on who they are".into()));
            }
            *server = Some((said.seller, said.workers));
        }
        let Some((seller, workers)) = *server else {
            return self.wait_for(due_ms, now_ms);
        };
        if self.lines.len() == 1 && workers > 1 {
            for worker in 1..workers {
                self.call(address, worker, registry)?;
            }
        }
        if !self.lines.iter().all(Line::is_up) {
            return self.wait_for(due_ms, now_ms);
        }
        self.state = State::Up { since_ms: now_ms };
        let unix_ms = (self.clock)().unix_ms;
        self.stats.change_server(|server| {
            server.address = Some(address);
            (server.seller, server.workers) = (seller.0, workers);
            (server.since_ms, server.failure) = (unix_ms, None);
        });
        tracing::info!(%address, seller = seller.0, workers, "sessions are carried");
        Ok(true)
    }

    fn wait_for(&self, due_ms: u64, now_ms: u64) -> Result<bool, Fault> {
        if now_ms >= due_ms { Err(Fault::Slow(self.options.link.handshake_ms)) } else { Ok(false) }
    }

    /// Begins a connection with one worker.
    fn call(&mut self, address: SocketAddr, worker: u16, registry: &Registry) -> Result<(), Fault> {
        let RelayOptions { server_device, server_source, link, .. } = &self.options;
        let mut stream = connect(address, server_device.as_deref(), *server_source)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token_of(self.lines.len()), both)?;
        self.lines.push(Line::new(stream, worker, *link));
        Ok(())
    }

    /// Doubles with every round through the servers, and is spread over its upper half, so that the relays of a server that
    /// starts again do not all come at once.
    fn back_off_ms(&self) -> u64 {
        let (least, most) = self.options.link.back_off_ms;
        let rounds = self.attempts.saturating_sub(1) / self.options.servers.len();
        let longest = least.saturating_mul(1 << rounds.min(16)).min(most);
        let mut dice = [0; 8];
        (self.random)(&mut dice);
        longest - u64::from_le_bytes(dice) % (longest / 2 + 1)
    }
}

/// Begins to connect, from one device or address if that is wanted.
fn connect(address: SocketAddr, device: Option<&str>, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

pub(super) fn token_of(line: usize) -> Token {
    Token(LINES + line)
}

/// The connection with a worker that a token names.
pub(super) fn line_of(token: Token) -> Option<usize> {
    token.0.checked_sub(LINES)
}

/// Tokens below this are terminals' slots.
const LINES: usize = 1 << 40;
/// A server that was there for so long was a good one: the next attempt comes soon. In milliseconds.
const GOOD_MS: u64 = 5_000;
/// How long the last words to a server may take to arrive, in milliseconds.
const LEAVE_MS: u64 = 1_000;
