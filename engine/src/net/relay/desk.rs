//! The relay's thread: what happens on all its sockets, in turns.

use super::RelayLimits;
use super::stats::{RelayStats, add};
use super::terminal::Phase;
use super::terminals::{Session, Terminals};
use super::upstream::{Upstream, line_of};
use crate::ids::TerminalId;
use crate::limits::{READ_BYTES_MAX, RELAY_HOLD_MS, RELAY_RENEW_MS, STOP_MS_MAX, WAIT_MS};
use crate::net::front::{is_of_one_connection, say_bye};
use crate::net::link::Fault;
use crate::net::reading::Received;
use crate::net::{Clock, WAKE, wait};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::control::{ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_pong};
use wire::frame::{Class, FRAME_BYTES_MAX, Header, Kind};
use wire::session::{Acceptor, HELLO_BYTES};

pub(super) struct Desk {
    poll: Poll,
    listener: TcpListener,
    terminals: Terminals,
    upstream: Upstream,
    /// Hellos that wait while no server can be reached, the oldest first: by when, and whose.
    waiting: VecDeque<(u64, u64)>,
    /// Every message of these was answered in this turn.
    settled: Vec<u64>,
    buffer: Box<[u8]>,
    due: Vec<u64>,
    /// The listener may have more.
    acceptable: bool,
    /// The system had no room for another connection: not before this, in monotonic milliseconds.
    accept_after_ms: u64,
    stop: Arc<AtomicBool>,
    stop_by_ms: Option<u64>,
    stats: Arc<RelayStats>,
    clock: Clock,
}

impl Desk {
    pub(super) fn new(
        poll: Poll,
        listener: std::net::TcpListener,
        limits: RelayLimits,
        upstream: Upstream,
        stats: Arc<RelayStats>,
        stop: Arc<AtomicBool>,
        clock: Clock,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let terminals = Terminals::new(limits, Arc::clone(&stats), clock().monotonic_ms);
        Ok(Self {
            poll,
            listener,
            terminals,
            upstream,
            waiting: VecDeque::new(),
            settled: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into(),
            due: Vec::new(),
            acceptable: true,
            accept_after_ms: 0,
            stop,
            stop_by_ms: None,
            stats,
            clock,
        })
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            tracing::error!("the relay's thread cannot poll, and ends: {error}");
        }
        self.upstream.fail(&Fault::Ours("the manager stops".into()), (self.clock)().monotonic_ms);
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut pressing = false;
        loop {
            let wait_ms = self.wait_ms(pressing);
            wait(&mut self.poll, &mut events, Duration::from_millis(wait_ms))?;
            let now_ms = (self.clock)().monotonic_ms;
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTENER => self.acceptable = true,
                    token => match line_of(token) {
                        Some(line) => self.upstream.handle_event(event, line),
                        None => self.handle_event(event, now_ms),
                    },
                }
            }
            pressing = self.turn(now_ms);
            if self.stop.load(Ordering::Acquire) && self.has_stopped(now_ms) {
                return Ok(());
            }
        }
    }

    fn wait_ms(&self, pressing: bool) -> u64 {
        if pressing || self.terminals.ready() > 0 {
            return 0;
        }
        self.upstream.wait_ms((self.clock)().monotonic_ms).min(TURN_MS_MAX)
    }

    fn handle_event(&mut self, event: &mio::event::Event, now_ms: u64) {
        let Some(key) = self.terminals.key_at(event.token().0) else { return };
        let Some(terminal) = self.terminals.get(key) else { return };
        if event.is_readable() || event.is_error() {
            terminal.readable = true;
            terminal.ended |= event.is_read_closed();
            self.terminals.list(key);
        }
        // Nearly every event says that it is writable.
        if event.is_writable() {
            let session = self.terminals.flush(key, now_ms);
            self.end_session(session);
        }
    }

    /// One turn; whether the next should follow at once.
    fn turn(&mut self, now_ms: u64) -> bool {
        let mut pressing = match self.hear(now_ms) {
            Ok(pressing) => pressing,
            Err(fault) => {
                self.lose_server(&fault, now_ms);
                false
            }
        };
        if self.stop_by_ms.is_none() {
            self.accept(now_ms);
        }
        self.read_ready(now_ms);
        self.open_waiting(now_ms);
        self.end_overdue(now_ms);
        if let Err(fault) = self.upstream.tick(now_ms).and_then(|()| self.upstream.flush(now_ms)) {
            self.lose_server(&fault, now_ms);
        }
        for line in &mut self.upstream.lines {
            if let Some(held) = line.held() {
                self.terminals.list_held(held);
                pressing = true;
            }
        }
        pressing
    }

    /// Takes what the server says; whether there may be more.
    fn hear(&mut self, now_ms: u64) -> Result<bool, Fault> {
        if self.upstream.come_up(self.poll.registry(), now_ms)? {
            for (due_ms, key) in std::mem::take(&mut self.waiting) {
                if let Some(line) = self.hello_of(key).and_then(|id| self.upstream.line_of(id)) {
                    self.upstream.lines[line].queue.push_back((due_ms, key));
                }
            }
        }
        let mut pressing = false;
        if self.upstream.is_up() {
            for line in &mut self.upstream.lines {
                pressing |= line.receive(&mut self.terminals, &mut self.settled, now_ms)?;
            }
        }
        let settled = std::mem::take(&mut self.settled);
        if self.stop_by_ms.is_some() {
            for key in &settled {
                self.dismiss(*key, ByeReason::Stopping, WAIT_MS, now_ms);
            }
        }
        self.settled = settled;
        self.settled.clear();
        Ok(pressing)
    }

    /// The server cannot be reached any more: all sessions are over, and their terminals begin anew, spread over a while.
    fn lose_server(&mut self, fault: &Fault, now_ms: u64) {
        for line in &mut self.upstream.lines {
            let mut held = line.take_held();
            self.terminals.list_held(&mut held);
        }
        let keys = self.upstream.fail(fault, now_ms);
        let wait_ms = renew_wait_ms(keys.len());
        for key in keys {
            if self.stop_by_ms.is_some() {
                self.terminals.dismiss(key, ByeReason::Stopping, WAIT_MS, now_ms);
            } else if self.terminals.get(key).is_some_and(|terminal| matches!(terminal.phase, Phase::Waiting))
            {
                // It has not asked for long: its hello is as good for the next server.
                self.waiting.push_back((now_ms + RELAY_HOLD_MS, key));
            } else {
                self.terminals.renew(key, wait_ms, now_ms);
            }
        }
    }

    fn accept(&mut self, now_ms: u64) {
        while self.acceptable && now_ms >= self.accept_after_ms && !self.terminals.has_many_unknown() {
            match self.listener.accept() {
                Ok((stream, address)) => self.admit(stream, address, now_ms),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections for a moment: {error}");
                    self.accept_after_ms = now_ms + ACCEPT_AGAIN_MS;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, address: SocketAddr, now_ms: u64) {
        if !self.terminals.may_come(address) {
            add(&self.stats.turned_away, 1);
            return say_bye(&mut stream, ByeReason::Busy);
        }
        let token = Token(self.terminals.next_slot());
        let both = Interest::READABLE | Interest::WRITABLE;
        // Small replies must not wait for each other.
        let prepared =
            stream.set_nodelay(true).and_then(|()| self.poll.registry().register(&mut stream, token, both));
        if prepared.is_ok() {
            self.terminals.insert(stream, address, now_ms);
        }
    }

    fn read_ready(&mut self, now_ms: u64) {
        for _ in 0..self.terminals.ready() {
            let Some(key) = self.terminals.poll_ready() else { return };
            self.read_one(key, now_ms);
        }
    }

    fn read_one(&mut self, key: u64, now_ms: u64) {
        let Some((terminal, pool)) = self.terminals.get_with_pool(key) else { return };
        match &terminal.phase {
            // What follows a hello waits for its answer.
            Phase::Waiting => {
                terminal.listed = false;
                return;
            }
            // Nothing new is carried any more.
            Phase::Carried(_) if self.stop_by_ms.is_some() => {
                terminal.listed = false;
                return;
            }
            Phase::Carried(carriage) => {
                let line = &mut self.upstream.lines[carriage.line];
                if line.is_full() {
                    return line.hold(key);
                }
            }
            Phase::Fresh | Phase::Renewing { .. } | Phase::Closing => {}
        }
        terminal.listed = false;
        let mut buffer = std::mem::take(&mut self.buffer);
        let held = terminal.input.len();
        buffer[..held].copy_from_slice(&terminal.input);
        if held > 0 {
            pool.give(std::mem::take(&mut terminal.input));
        }
        let mut end = held;
        let mut is_over = false;
        if terminal.readable || terminal.ended {
            match terminal.read(&mut buffer[held..held + READ_BYTES_MAX]) {
                Received::Bytes(bytes) => end += bytes,
                Received::Nothing => {}
                Received::End => is_over = true,
            }
        }
        if end > held {
            terminal.heard_ms = now_ms;
        }
        let taken = self.take_frames(key, &buffer[..end], now_ms);
        if is_over {
            let session = self.terminals.remove(key);
            self.end_session(session);
        } else if let Some((terminal, pool)) = self.terminals.get_with_pool(key) {
            if taken < end {
                terminal.input = pool.take();
                terminal.input.extend_from_slice(&buffer[taken..end]);
            }
            if terminal.readable {
                self.terminals.list(key);
            }
        }
        self.buffer = buffer;
    }

    /// Takes frames from the front of `bytes`; returns how many bytes it took.
    fn take_frames(&mut self, key: u64, bytes: &[u8], now_ms: u64) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(terminal) = self.terminals.get(key) else { return bytes.len() };
            let taken = match &terminal.phase {
                Phase::Closing => return bytes.len(),
                Phase::Waiting => return at,
                Phase::Fresh | Phase::Renewing { .. } => self.take_outside(key, &bytes[at..], now_ms),
                Phase::Carried(carriage) => {
                    let session = (carriage.line, carriage.session);
                    self.take_inside(key, session, &bytes[at..], now_ms)
                }
            };
            match taken {
                0 => return at,
                taken => at += taken,
            }
        }
        at
    }

    /// Takes a frame where there is no session: a hello stays, and what is left of an earlier session is dropped.
    fn take_outside(&mut self, key: u64, bytes: &[u8], now_ms: u64) -> usize {
        let is_fresh = self.terminals.get(key).is_some_and(|terminal| matches!(terminal.phase, Phase::Fresh));
        let header = match Header::parse(bytes, 0) {
            Ok(None) => return 0,
            Ok(Some(header)) => header,
            Err(error) => return self.fault(key, error.into(), bytes, now_ms),
        };
        match header.kind {
            Kind::Hello => match ACCEPTOR.hello(bytes) {
                Ok(Some((_, hello))) => {
                    self.wait_for_server(key, hello.terminal, now_ms);
                    0
                }
                Ok(None) => 0,
                Err(error) => self.fault(key, error.code(), bytes, now_ms),
            },
            Kind::Bye | Kind::Error => self.leave(key, bytes),
            // They were on their way when the session ended. A pong would stand before the answer to the hello.
            Kind::Ping | Kind::Pong | Kind::Sealed if !is_fresh => header.length,
            _ => self.fault(key, ErrorCode::OutOfOrder, bytes, now_ms),
        }
    }

    /// Takes frames of a session: all that are sealed and follow each other, or one that is not.
    fn take_inside(&mut self, key: u64, (line, session): Session, bytes: &[u8], now_ms: u64) -> usize {
        let (mut end, mut messages) = (0, 0);
        loop {
            let header = match Header::parse(&bytes[end..], 0) {
                Ok(Some(header)) if header.kind == Kind::Sealed => {
                    end += header.length;
                    messages += 1;
                    continue;
                }
                other => other,
            };
            if end > 0 {
                self.upstream.lines[line].frames(session, &bytes[..end]);
                self.terminals.asked(key, messages);
            }
            let rest = &bytes[end..];
            return end
                + match header {
                    Ok(None) => 0,
                    Ok(Some(header)) => match header.kind {
                        Kind::Ping => self.pong(key, header.correlation, header.length, now_ms),
                        Kind::Pong => header.length,
                        Kind::Bye | Kind::Error => self.leave(key, rest),
                        kind => {
                            let is_greeting = kind.class() == Class::Connection;
                            let code = if is_greeting { ErrorCode::OutOfOrder } else { ErrorCode::Kind };
                            self.fault(key, code, rest, now_ms)
                        }
                    },
                    Err(error) => self.fault(key, error.into(), rest, now_ms),
                };
        }
    }

    fn pong(&mut self, key: u64, correlation: u16, ping_bytes: usize, now_ms: u64) -> usize {
        let mut pong = [0; CONTROL_BYTES_MAX];
        let length = encode_pong(correlation, &mut pong);
        if let Err(session) = self.terminals.put(key, &pong[..length], now_ms) {
            self.end_session(session);
        }
        ping_bytes
    }

    /// The terminal is told what it did wrong; nothing more of it is of interest.
    fn fault(&mut self, key: u64, code: ErrorCode, rest: &[u8], now_ms: u64) -> usize {
        let session = self.terminals.fault(key, code, now_ms);
        self.end_session(session);
        rest.len()
    }

    /// The terminal leaves.
    fn leave(&mut self, key: u64, rest: &[u8]) -> usize {
        let session = self.terminals.remove(key);
        self.end_session(session);
        rest.len()
    }

    fn dismiss(&mut self, key: u64, reason: ByeReason, wait_ms: u32, now_ms: u64) {
        let session = self.terminals.dismiss(key, reason, wait_ms, now_ms);
        self.end_session(session);
    }

    fn end_session(&mut self, session: Option<Session>) {
        if let Some((line, session)) = session
            && let Some(line) = self.upstream.lines.get_mut(line)
        {
            line.end_session(session);
        }
    }

    /// A hello has come.
    fn wait_for_server(&mut self, key: u64, id: TerminalId, now_ms: u64) {
        if let Some(terminal) = self.terminals.get(key) {
            (terminal.phase, terminal.since_ms) = (Phase::Waiting, now_ms);
        }
        let entry = (now_ms + RELAY_HOLD_MS, key);
        match self.upstream.line_of(id) {
            Some(line) => self.upstream.lines[line].queue.push_back(entry),
            None => self.waiting.push_back(entry),
        }
    }

    /// Whose hello waits on this connection.
    fn hello_of(&mut self, key: u64) -> Option<TerminalId> {
        let terminal = self.terminals.get(key)?;
        let is_waiting = matches!(terminal.phase, Phase::Waiting);
        let hello = is_waiting.then(|| ACCEPTOR.hello(&terminal.input).ok().flatten()).flatten();
        hello.map(|(_, hello)| hello.terminal)
    }

    /// Sends hellos on, each worker's in turn, no more than it can have on their way; who waits too long is asked to come again.
    fn open_waiting(&mut self, now_ms: u64) {
        let mut waiting = self.waiting.len();
        for at in 0..self.upstream.lines.len() {
            while let Some(session) = self.upstream.lines[at].next_session()
                && let Some((_, key)) = self.upstream.lines[at].queue.pop_front()
            {
                let Some(terminal) = self.terminals.get(key) else { continue };
                let is_waiting = matches!(terminal.phase, Phase::Waiting);
                let Some(hello) = terminal.input.first_chunk::<HELLO_BYTES>().filter(|_| is_waiting) else {
                    continue;
                };
                let opened = self.upstream.lines[at].open(key, terminal.address, hello);
                self.terminals.carry(key, (at, session), HELLO_BYTES, now_ms);
                if let Err(fault) = opened {
                    return self.lose_server(&fault, now_ms);
                }
            }
            waiting += self.upstream.lines[at].queue.len();
        }
        self.stats.waiting.store(waiting as u64, Ordering::Relaxed);
        let wait_ms = renew_wait_ms(self.terminals.count());
        while let Some(&(_, key)) = self.waiting.front().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.waiting.pop_front();
            self.ask_again(key, wait_ms, now_ms);
        }
        for at in 0..self.upstream.lines.len() {
            while let Some(key) = self.upstream.lines[at].poll_overdue(now_ms) {
                self.ask_again(key, wait_ms, now_ms);
            }
        }
    }

    fn ask_again(&mut self, key: u64, wait_ms: u32, now_ms: u64) {
        if self.terminals.get(key).is_some_and(|terminal| matches!(terminal.phase, Phase::Waiting)) {
            self.terminals.renew(key, wait_ms, now_ms);
        }
    }

    fn end_overdue(&mut self, now_ms: u64) {
        let mut due = std::mem::take(&mut self.due);
        while self.terminals.poll_due(now_ms, &mut due) {
            for key in due.drain(..) {
                self.end_one(key, now_ms);
            }
        }
        self.due = due;
    }

    fn end_one(&mut self, key: u64, now_ms: u64) {
        let Some(terminal) = self.terminals.get(key) else { return };
        let session = match &terminal.phase {
            _ if terminal.is_stalled(now_ms) => {
                add(&self.stats.cut, 1);
                self.terminals.remove(key)
            }
            Phase::Fresh | Phase::Renewing { .. } => self.terminals.fault(key, ErrorCode::Timeout, now_ms),
            Phase::Carried(carriage) if !carriage.is_answered() => {
                let wait_ms = renew_wait_ms(self.terminals.count());
                self.terminals.renew(key, wait_ms, now_ms)
            }
            Phase::Carried(_) => self.terminals.dismiss(key, ByeReason::Idle, 0, now_ms),
            Phase::Closing => self.terminals.remove(key),
            Phase::Waiting => None,
        };
        self.end_session(session);
    }

    /// Whether everything in flight is answered and everybody sent away, or time is up.
    fn has_stopped(&mut self, now_ms: u64) -> bool {
        let begins = self.stop_by_ms.is_none();
        let by_ms = *self.stop_by_ms.get_or_insert(now_ms + STOP_MS_MAX);
        let time_is_up = now_ms >= by_ms;
        if begins || time_is_up {
            for at in 0..self.terminals.slots() {
                let Some(key) = self.terminals.key_at(at) else { continue };
                let owes = |phase: &Phase| matches!(phase, Phase::Carried(carriage) if carriage.owed > 0);
                if time_is_up || !self.terminals.get(key).is_some_and(|terminal| owes(&terminal.phase)) {
                    self.dismiss(key, ByeReason::Stopping, WAIT_MS, now_ms);
                }
            }
            if self.upstream.flush(now_ms).is_err() {
                tracing::debug!("the server has gone before the manager");
            }
        }
        time_is_up || self.terminals.count() == 0
    }
}

/// How long so many terminals are asked to wait, in milliseconds; each draws from that to twice that.
fn renew_wait_ms(terminals: usize) -> u32 {
    let (least, most) = RELAY_RENEW_MS;
    let spread = u32::try_from(terminals / RENEWALS_PER_MS).unwrap_or(most);
    least.saturating_add(spread).min(most)
}

const ACCEPTOR: Acceptor = Acceptor::new(false);
const LISTENER: Token = Token(usize::MAX - 1);
/// What was held back, less than a frame and a read, and what is read.
const BUFFER_BYTES: usize = FRAME_BYTES_MAX + 2 * READ_BYTES_MAX;
/// Events taken at once, and so messages batched: few enough that what the system keeps of their sockets is still in the
/// processor's cache when they are read.
const EVENTS_MAX: usize = 256;
/// How often it looks for what is overdue, in milliseconds.
const TURN_MS_MAX: u64 = 50;
/// How long it waits when the system has no room for another connection, in milliseconds.
const ACCEPT_AGAIN_MS: u64 = 100;
/// Handshakes that a server makes in a millisecond.
const RENEWALS_PER_MS: usize = 10;
