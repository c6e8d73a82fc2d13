//! One connection with a worker of the server, and the sessions on it.
//!
//! What terminals say in one turn is gathered into one batch, sealed and written together. What the worker says goes from the
//! decrypted bytes straight into the terminals' sockets.

use super::RelayIdentity;
use super::terminals::{Delivered, Terminals};
use crate::ids::SellerId;
use crate::limits::{RELAY_OPENS_MAX, RELAY_UNSENT_BYTES_MAX};
use crate::link::{CarriedBatch, CarriedItems, CarriedWhat, Carrying, from_server_bytes_max};
use crate::net::Random;
use crate::net::link::{Fault, LinkOptions, Pipe};
use mio::net::TcpStream;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use wire::link::{
    Channel, LinkError, LinkHandshake, LinkInbound, LinkIntroduction, LinkSession, Role, encode_link_error,
};
use wire::session::HELLO_BYTES;
use zeroize::Zeroizing;

pub(super) struct Line {
    /// The worker that is called, from 0.
    worker: u16,
    pipe: Pipe,
    phase: Phase,
    batch: CarriedBatch,
    sessions: HashMap<u32, Carried, BuildHasherDefault<NumberHasher>>,
    next_session: u32,
    /// Sessions in which the worker has said nothing.
    unanswered: u32,
    /// Hellos that wait their turn, the oldest first: by when, and whose.
    pub(super) queue: VecDeque<(u64, u64)>,
    /// Terminals that are not read while too much waits to be sent here.
    held: VecDeque<u64>,
    heard_ms: u64,
    ping_at_ms: u64,
    pings: u64,
    options: LinkOptions,
}

/// A session of this connection.
struct Carried {
    terminal: u64,
    is_answered: bool,
}

enum Phase {
    Connecting,
    Shaking(Box<LinkHandshake>),
    /// The server's open is due.
    Shaken(Box<LinkSession>),
    /// It has to say who carries.
    Opened(Box<LinkSession>),
    Up(Box<LinkSession>),
}

impl Line {
    /// Begins to connect.
    pub(super) fn new(stream: TcpStream, worker: u16, options: LinkOptions, now_ms: u64) -> Self {
        let mut pipe = Pipe::new(stream);
        // Connected once it may be written to.
        (pipe.readable, pipe.writable) = (false, false);
        Self {
            worker,
            pipe,
            phase: Phase::Connecting,
            batch: CarriedBatch::default(),
            sessions: HashMap::default(),
            next_session: 1,
            unanswered: 0,
            queue: VecDeque::new(),
            held: VecDeque::new(),
            heard_ms: now_ms,
            ping_at_ms: now_ms + options.ping_ms,
            pings: 0,
            options,
        }
    }

    pub(super) fn pipe(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    /// Goes on with the handshake; what the worker says of itself once it has.
    pub(super) fn come_up(
        &mut self,
        identity: &RelayIdentity,
        link_id: u64,
        random: Random,
        now_ms: u64,
    ) -> Result<Option<Carrying>, Fault> {
        loop {
            match &mut self.phase {
                Phase::Connecting => {
                    if !self.pipe.writable {
                        return Ok(None);
                    }
                    if let Some(error) = self.pipe.stream().take_error()? {
                        return Err(error.into());
                    }
                    self.pipe.stream().set_nodelay(true)?;
                    let mut fresh = Zeroizing::new([0; 32]);
                    random(&mut *fresh);
                    let introduction = LinkIntroduction {
                        node: identity.manager,
                        role: Role::Hcm,
                        channel: Channel::Sessions,
                        workers: self.worker,
                        link_id,
                    };
                    let (handshake, hello) = LinkHandshake::start(
                        &introduction,
                        identity.key.expose(),
                        &fresh,
                        from_server_bytes_max,
                    );
                    self.pipe.output().extend_from_slice(&hello);
                    self.pipe.write(usize::MAX, now_ms)?;
                    self.phase = Phase::Shaking(Box::new(handshake));
                }
                Phase::Shaking(handshake) => {
                    if let Some((length, mut session)) = handshake.receive(self.pipe.unread())? {
                        self.pipe.consume(length);
                        session.send_open(self.pipe.output());
                        self.phase = Phase::Shaken(Box::new(session));
                        continue;
                    }
                }
                Phase::Shaken(session) | Phase::Opened(session) => {
                    let mut said = None;
                    if let Some((length, inbound)) = session.receive(self.pipe.unread())? {
                        match inbound {
                            LinkInbound::Open => {}
                            LinkInbound::Message { kind: Carrying::KIND, body } => {
                                said = Some(Carrying::decode(&body)?);
                            }
                            LinkInbound::Close { why } => return Err(Fault::Said(why.to_owned())),
                            LinkInbound::Ping { .. } | LinkInbound::Pong { .. } => {}
                            LinkInbound::Message { .. } | LinkInbound::Fragment => {
                                return Err(LinkError::OutOfOrder.into());
                            }
                        }
                        self.pipe.consume(length);
                        self.heard_ms = now_ms;
                        self.phase = match std::mem::replace(&mut self.phase, Phase::Connecting) {
                            Phase::Shaken(session) => Phase::Opened(session),
                            Phase::Opened(session) if said.is_some() => Phase::Up(session),
                            other => other,
                        };
                        if said.is_some() {
                            return Ok(said);
                        }
                        continue;
                    }
                }
                Phase::Up(_) => return Ok(None),
            }
            self.pipe.write(usize::MAX, now_ms)?;
            if self.pipe.read()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether it carries sessions.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// Whether this is the worker that was called, of a server that looks as it did to the others.
    pub(super) fn is_called(&self, said: &Carrying, before: Option<(SellerId, u16)>) -> bool {
        said.worker == self.worker && before.is_none_or(|before| before == (said.seller, said.workers))
    }

    /// Takes in what came, about `bytes_max` bytes of it; whether there may be more.
    pub(super) fn receive(
        &mut self,
        bytes_max: usize,
        terminals: &mut Terminals,
        settled: &mut Vec<u64>,
        now_ms: u64,
    ) -> Result<bool, Fault> {
        let Self { pipe, phase: Phase::Up(session), batch, sessions, unanswered, .. } = self else {
            return Ok(false);
        };
        let mut left = bytes_max;
        loop {
            while let Some((length, inbound)) = session.receive(pipe.unread())? {
                let mut pong = None;
                match inbound {
                    LinkInbound::Message { kind: CarriedBatch::KIND, body: Cow::Borrowed(body) } => {
                        for item in CarriedItems::new(body) {
                            let item = item?;
                            // What it does not know was ended here while this was on its way.
                            let Some(carried) = sessions.get_mut(&item.session) else { continue };
                            let key = carried.terminal;
                            *unanswered -= u32::from(!std::mem::replace(&mut carried.is_answered, true));
                            match item.what {
                                CarriedWhat::Frames(bytes) => match terminals.deliver(key, bytes, now_ms) {
                                    Delivered::Sent => {}
                                    Delivered::Settled => settled.push(key),
                                    Delivered::Lost => {
                                        sessions.remove(&item.session);
                                        batch.end(item.session);
                                    }
                                },
                                CarriedWhat::End => {
                                    sessions.remove(&item.session);
                                    terminals.last_words(key, &[], now_ms);
                                }
                                CarriedWhat::Open { .. } => return Err(LinkError::OutOfOrder.into()),
                            }
                        }
                    }
                    LinkInbound::Ping { number } => pong = Some(number),
                    LinkInbound::Pong { .. } => {}
                    LinkInbound::Close { why } => return Err(Fault::Said(why.to_owned())),
                    // Messages in parts, and a second word on who carries, belong nowhere here.
                    LinkInbound::Open | LinkInbound::Fragment | LinkInbound::Message { .. } => {
                        return Err(LinkError::OutOfOrder.into());
                    }
                }
                pipe.consume(length);
                if let Some(number) = pong {
                    session.send_pong(number, pipe.output());
                }
            }
            if left == 0 {
                return Ok(true);
            }
            match pipe.read()? {
                0 => return Ok(false),
                bytes => {
                    self.heard_ms = now_ms;
                    left = left.saturating_sub(bytes);
                }
            }
        }
    }

    /// Whether one more hello may be on its way; if so its session's number.
    pub(super) fn next_session(&self) -> Option<u32> {
        (self.is_up() && self.unanswered < RELAY_OPENS_MAX && !self.is_full()).then_some(self.next_session)
    }

    /// Opens the session of that number.
    ///
    /// # Errors
    /// There are no more numbers: the connection has to begin anew.
    pub(super) fn open(
        &mut self,
        key: u64,
        source: SocketAddr,
        hello: &[u8; HELLO_BYTES],
    ) -> Result<(), Fault> {
        let next = self.next_session.checked_add(1);
        let next = next.ok_or_else(|| Fault::Ours("this connection has had all its sessions".into()))?;
        let session = std::mem::replace(&mut self.next_session, next);
        self.batch.open(session, source, hello);
        self.sessions.insert(session, Carried { terminal: key, is_answered: false });
        self.unanswered += 1;
        Ok(())
    }

    /// The next of those who have waited for too long.
    pub(super) fn poll_overdue(&mut self, now_ms: u64) -> Option<u64> {
        self.queue.pop_front_if(|(due_ms, _)| *due_ms <= now_ms).map(|(_, key)| key)
    }

    /// Adds what a terminal says.
    pub(super) fn frames(&mut self, session: u32, bytes: &[u8]) {
        self.batch.frames(session, bytes);
    }

    /// Ends a session.
    pub(super) fn end_session(&mut self, session: u32) {
        if let Some(carried) = self.sessions.remove(&session) {
            self.unanswered -= u32::from(!carried.is_answered);
            self.batch.end(session);
        }
    }

    /// Whether so much waits that terminals should not be read for this worker.
    pub(super) fn is_full(&self) -> bool {
        self.pipe.unsent() + self.batch.len() > RELAY_UNSENT_BYTES_MAX
    }

    /// Holds a terminal back until there is room.
    pub(super) fn hold(&mut self, key: u64) {
        self.held.push_back(key);
    }

    /// Those who were held back, once there is room.
    pub(super) fn held(&mut self) -> Option<&mut VecDeque<u64>> {
        let has_room = self.pipe.unsent() + self.batch.len() <= RELAY_UNSENT_BYTES_MAX / 2;
        (has_room && !self.held.is_empty()).then_some(&mut self.held)
    }

    /// Seals the batch and sends what waits.
    pub(super) fn flush(&mut self, now_ms: u64) -> Result<(), Fault> {
        let Self { pipe, phase: Phase::Up(session), batch, .. } = self else { return Ok(()) };
        if !batch.is_empty() {
            let output = pipe.output();
            batch.messages(|body| session.send_message(CarriedBatch::KIND, false, &[body], output));
        }
        while pipe.unsent() > 0 && pipe.write(usize::MAX, now_ms)? > 0 {}
        Ok(())
    }

    /// Pings, and sees whether the other end is alive.
    pub(super) fn tick(&mut self, now_ms: u64) -> Result<(), Fault> {
        let LinkOptions { silence_ms, ping_ms, .. } = self.options;
        let Self { pipe, phase: Phase::Up(session), .. } = self else { return Ok(()) };
        if now_ms >= self.heard_ms + silence_ms {
            return Err(Fault::Silent(silence_ms));
        }
        if pipe.blocked_since_ms().is_some_and(|since_ms| now_ms >= since_ms + silence_ms) {
            return Err(Fault::Stalled(silence_ms));
        }
        if now_ms >= self.ping_at_ms {
            self.ping_at_ms = now_ms + ping_ms;
            // What waits already says as much as a ping would.
            if pipe.unsent() == 0 {
                self.pings += 1;
                session.send_ping(self.pings, pipe.output());
            }
        }
        Ok(())
    }

    /// Says why and gives the connection up; its sessions' terminals, and those who waited for it, are the caller's now.
    pub(super) fn end(mut self, fault: &Fault, now_ms: u64) -> (Option<TcpStream>, Vec<u64>) {
        let mut keys: Vec<u64> = self.sessions.into_values().map(|carried| carried.terminal).collect();
        keys.extend(self.queue.iter().map(|(_, key)| key));
        if let Fault::Protocol(error) = fault {
            if let Some(code) = error.code() {
                self.pipe.output().extend_from_slice(&encode_link_error(code));
            }
        } else if let Phase::Up(session) | Phase::Opened(session) = &mut self.phase
            && !matches!(fault, Fault::Closed | Fault::Io(_) | Fault::Refused(_) | Fault::Said(_))
        {
            session.send_close(&fault.to_string(), self.pipe.output());
        }
        (self.pipe.finish(now_ms), keys)
    }

    /// Terminals that are not read at the moment because of this connection.
    pub(super) fn take_held(&mut self) -> VecDeque<u64> {
        std::mem::take(&mut self.held)
    }
}

/// Session numbers are this end's own and follow each other: spreading them over the table is all that is needed (Fibonacci
/// hashing, Knuth, The Art of Computer Programming 3, 6.4).
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
