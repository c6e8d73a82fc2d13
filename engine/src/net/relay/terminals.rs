//! All connections of terminals at a relay, their timers, and how many each source has.

use super::RelayLimits;
use super::pool::Pool;
use super::stats::{RelayStats, add, subtract};
use super::terminal::{Carriage, Phase, Put, Terminal};
use super::wheel::Wheel;
use crate::limits::{LOGIN_MS_MAX, UNAUTHENTICATED_MAX, UNAUTHENTICATED_PER_SOURCE_MAX};
use crate::net::front::source_of;
use crate::net::slots::Slots;
use mio::net::TcpStream;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye, encode_error};
use wire::message::Addresses;

/// Connections by key; a key names one for ever.
pub(super) struct Terminals {
    slots: Slots<Terminal>,
    by_source: HashMap<IpAddr, Source>,
    /// Connections that no server has answered yet.
    unknown: usize,
    /// Connections that may have something to read.
    ready: VecDeque<u64>,
    wheel: Wheel,
    pub(super) pool: Pool,
    limits: RelayLimits,
    pub(super) stats: Arc<RelayStats>,
}

/// How many connections come from one place.
#[derive(Default)]
struct Source {
    all: u32,
    unknown: u32,
}

/// Where a session goes that has to be ended there: worker and number.
pub(super) type Session = (usize, u32);

/// What became of bytes for a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivered {
    /// They are on their way.
    Sent,
    /// They are on their way, and every message of the terminal is answered.
    Settled,
    /// The connection is gone, and the session with it.
    Lost,
}

impl Terminals {
    pub(super) fn new(limits: RelayLimits, stats: Arc<RelayStats>, now_ms: u64) -> Self {
        Self {
            slots: Slots::default(),
            by_source: HashMap::new(),
            unknown: 0,
            ready: VecDeque::new(),
            wheel: Wheel::new(now_ms),
            pool: Pool::default(),
            limits,
            stats,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.count()
    }

    /// Whether so many are unknown that more have to wait in the kernel.
    pub(super) fn has_many_unknown(&self) -> bool {
        self.unknown >= UNAUTHENTICATED_MAX
    }

    /// The slot that the next connection gets: what its socket is registered under.
    pub(super) fn next_slot(&mut self) -> usize {
        self.slots.next_slot()
    }

    /// Whether another connection may come from there.
    pub(super) fn may_come(&self, address: SocketAddr) -> bool {
        let from_there = self.by_source.get(&source_of(address));
        self.count() < self.limits.connections_max
            && from_there.is_none_or(|source| {
                source.all < self.limits.connections_per_source_max
                    && source.unknown < UNAUTHENTICATED_PER_SOURCE_MAX
            })
    }

    /// Puts a connection into [`Terminals::next_slot`].
    pub(super) fn insert(&mut self, stream: TcpStream, address: SocketAddr, now_ms: u64) {
        let source = self.by_source.entry(source_of(address)).or_default();
        source.all += 1;
        source.unknown += 1;
        self.unknown += 1;
        let key = self.slots.insert(Terminal::new(stream, address, now_ms));
        add(&self.stats.accepted, 1);
        add(&self.stats.connections, 1);
        self.arm(key);
        self.list(key);
    }

    pub(super) fn get(&mut self, key: u64) -> Option<&mut Terminal> {
        self.slots.get_mut(key)
    }

    /// A connection, and the buffers that it may need.
    pub(super) fn get_with_pool(&mut self, key: u64) -> Option<(&mut Terminal, &mut Pool)> {
        let Self { slots, pool, .. } = self;
        Some((slots.get_mut(key)?, pool))
    }

    /// The key of the connection in a slot, if there is one.
    pub(super) fn key_at(&self, at: usize) -> Option<u64> {
        self.slots.key_at(at)
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.slots()
    }

    /// Notes that a connection may have something to read.
    pub(super) fn list(&mut self, key: u64) {
        if let Some(terminal) = self.get(key)
            && !terminal.listed
        {
            terminal.listed = true;
            self.ready.push_back(key);
        }
    }

    /// Notes it again for connections that were held back.
    pub(super) fn list_held(&mut self, held: &mut VecDeque<u64>) {
        self.ready.append(held);
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next connection that may have something to read.
    pub(super) fn poll_ready(&mut self) -> Option<u64> {
        self.ready.pop_front()
    }

    /// Begins to carry a session whose hello, at the front of the input, has been sent on.
    pub(super) fn carry(&mut self, key: u64, session: Session, hello_bytes: usize, now_ms: u64) {
        let Some((terminal, pool)) = self.get_with_pool(key) else { return };
        terminal.phase = Phase::Carried(Carriage::new(session.0, session.1));
        terminal.since_ms = now_ms;
        terminal.input.drain(..hello_bytes);
        let may_go_on = terminal.readable || terminal.ended || !terminal.input.is_empty();
        if terminal.input.is_empty() {
            pool.give(std::mem::take(&mut terminal.input));
        }
        self.arm(key);
        if may_go_on {
            self.list(key);
        }
    }

    /// Takes what the server says in a session.
    pub(super) fn deliver(&mut self, key: u64, bytes: &[u8], now_ms: u64) -> Delivered {
        let Some((terminal, pool)) = self.get_with_pool(key) else { return Delivered::Lost };
        let Phase::Carried(carriage) = &mut terminal.phase else { return Delivered::Lost };
        let was_up = carriage.is_up();
        let answered = carriage.count_replies(bytes);
        let (is_up, is_settled) = (carriage.is_up(), carriage.owed == 0);
        let was_stalled = terminal.has_unsent();
        let put = terminal.put(bytes, pool, now_ms);
        let has_stalled = !was_stalled && terminal.has_unsent();
        let becomes_known = is_up && !terminal.is_known;
        terminal.is_known |= is_up;
        let address = terminal.address;
        subtract(&self.stats.in_flight, answered.into());
        if is_up && !was_up {
            add(&self.stats.logins, 1);
            add(&self.stats.sessions, 1);
        }
        if becomes_known {
            self.knows(address);
        }
        match put {
            Put::Taken => {
                if has_stalled {
                    self.arm(key);
                }
                return if is_settled { Delivered::Settled } else { Delivered::Sent };
            }
            Put::TooMuch => {
                tracing::debug!(%address, "cut: the terminal does not read");
                add(&self.stats.cut, 1);
            }
            Put::Gone => {}
        }
        self.remove(key);
        Delivered::Lost
    }

    /// Counts messages that are sent on.
    pub(super) fn asked(&mut self, key: u64, messages: u32) {
        if let Some(Terminal { phase: Phase::Carried(carriage), .. }) = self.get(key) {
            carriage.owed += messages;
            add(&self.stats.requests, messages.into());
            add(&self.stats.in_flight, messages.into());
        }
    }

    /// Sends bytes of the relay's own; false if the connection is gone now, and where its session was.
    pub(super) fn put(&mut self, key: u64, bytes: &[u8], now_ms: u64) -> Result<(), Option<Session>> {
        let Some((terminal, pool)) = self.get_with_pool(key) else { return Err(None) };
        let was_stalled = terminal.has_unsent();
        let put = terminal.put(bytes, pool, now_ms);
        let has_stalled = !was_stalled && terminal.has_unsent();
        match put {
            Put::Taken => {
                if has_stalled {
                    self.arm(key);
                }
                return Ok(());
            }
            Put::TooMuch => add(&self.stats.cut, 1),
            Put::Gone => {}
        }
        Err(self.remove(key))
    }

    /// The socket has room again.
    pub(super) fn flush(&mut self, key: u64, now_ms: u64) -> Option<Session> {
        let (terminal, pool) = self.get_with_pool(key)?;
        if !terminal.has_unsent() {
            return None;
        }
        match terminal.flush(pool, now_ms) {
            Put::Taken => {
                if matches!(terminal.phase, Phase::Closing) {
                    terminal.shut();
                }
                None
            }
            Put::TooMuch | Put::Gone => self.remove(key),
        }
    }

    /// Tells a terminal to say hello again no sooner than `wait_ms`; its session, if it had one, is over.
    pub(super) fn renew(&mut self, key: u64, wait_ms: u32, now_ms: u64) -> Option<Session> {
        let session = self.leave_session(key);
        let (terminal, pool) = self.get_with_pool(key)?;
        terminal.phase = Phase::Renewing { by_ms: now_ms + 2 * u64::from(wait_ms) + LOGIN_MS_MAX };
        terminal.since_ms = now_ms;
        pool.give(std::mem::take(&mut terminal.input));
        let may_go_on = terminal.readable || terminal.ended;
        add(&self.stats.renewed, 1);
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_bye(&bye(ByeReason::Renew, wait_ms), &mut frame);
        if self.put(key, &frame[..length], now_ms).is_ok() {
            self.arm(key);
            if may_go_on {
                self.list(key);
            }
        }
        session
    }

    /// Sends a terminal away in good order.
    pub(super) fn dismiss(
        &mut self,
        key: u64,
        reason: ByeReason,
        wait_ms: u32,
        now_ms: u64,
    ) -> Option<Session> {
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_bye(&bye(reason, wait_ms), &mut frame);
        self.last_words(key, &frame[..length], now_ms)
    }

    /// Ends a connection because of what the terminal did.
    pub(super) fn fault(&mut self, key: u64, code: ErrorCode, now_ms: u64) -> Option<Session> {
        add(&self.stats.faults, 1);
        if let Some(terminal) = self.get(key) {
            tracing::debug!(address = %terminal.address, "a terminal's connection ends: {code:?}");
        }
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_error(code, &mut frame);
        self.last_words(key, &frame[..length], now_ms)
    }

    /// Ends a connection when these words, if any, and what waits before them have gone; the session that it had.
    pub(super) fn last_words(&mut self, key: u64, words: &[u8], now_ms: u64) -> Option<Session> {
        let terminal = self.get(key)?;
        if matches!(terminal.phase, Phase::Closing) {
            return None;
        }
        let session = self.leave_session(key);
        let (terminal, pool) = self.get_with_pool(key)?;
        terminal.phase = Phase::Closing;
        terminal.since_ms = now_ms;
        pool.give(std::mem::take(&mut terminal.input));
        if self.put(key, words, now_ms).is_ok() {
            if let Some(terminal) = self.get(key) {
                terminal.shut();
            }
            self.arm(key);
            // Unread bytes would reset the connection and take the last words with them.
            self.list(key);
        }
        session
    }

    /// Ends a connection at once; the session that it had.
    pub(super) fn remove(&mut self, key: u64) -> Option<Session> {
        let session = self.leave_session(key);
        let (terminal, pool) = self.get_with_pool(key)?;
        terminal.give_back(pool);
        let (source, is_known) = (source_of(terminal.address), terminal.is_known);
        self.slots.remove(key);
        subtract(&self.stats.connections, 1);
        self.unknown -= usize::from(!is_known);
        if let Some(count) = self.by_source.get_mut(&source) {
            count.all -= 1;
            count.unknown -= u32::from(!is_known);
            if count.all == 0 {
                self.by_source.remove(&source);
            }
        }
        session
    }

    /// Connections whose time has come, or some of them; `None` when there are no more.
    pub(super) fn poll_due(&mut self, now_ms: u64, due: &mut Vec<u64>) -> bool {
        let Some(timers) = self.wheel.poll(now_ms) else { return false };
        for (key, set_ms) in timers {
            let Some(terminal) = self.get(key).filter(|terminal| terminal.armed_ms == set_ms) else {
                continue;
            };
            if terminal.due_ms() <= now_ms {
                due.push(key);
            }
            terminal.armed_ms = 0;
            self.arm(key);
        }
        true
    }

    /// Sets the timer, unless it is set for a time that is early enough: what is early is looked at and set anew.
    fn arm(&mut self, key: u64) {
        let Some(terminal) = self.get(key) else { return };
        let due_ms = terminal.due_ms();
        if terminal.armed_ms == 0 || terminal.armed_ms > due_ms {
            let armed_ms = self.wheel.set(key, due_ms);
            if let Some(terminal) = self.get(key) {
                terminal.armed_ms = armed_ms;
            }
        }
    }

    fn knows(&mut self, address: SocketAddr) {
        self.unknown -= 1;
        if let Some(source) = self.by_source.get_mut(&source_of(address)) {
            source.unknown -= 1;
        }
    }

    /// The session that a connection had, and has no more.
    fn leave_session(&mut self, key: u64) -> Option<Session> {
        let terminal = self.get(key)?;
        let Phase::Carried(carriage) = &terminal.phase else { return None };
        let (session, owed, was_up) = ((carriage.line, carriage.session), carriage.owed, carriage.is_up());
        terminal.phase = Phase::Fresh;
        subtract(&self.stats.in_flight, owed.into());
        subtract(&self.stats.sessions, u64::from(was_up));
        Some(session)
    }
}

fn bye(reason: ByeReason, wait_ms: u32) -> Bye {
    Bye { reason, wait_ms, addresses: Addresses::default() }
}
