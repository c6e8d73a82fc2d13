//! One connection with a worker of the server, and the sessions on it.
//!
//! What terminals say in one turn is gathered into one batch, sealed and written together. What the worker says goes from the
//! decrypted bytes straight into the terminals' sockets.

use super::RelayIdentity;
use super::terminals::{Delivered, Terminals};
use crate::ids::SellerId;
use crate::limits::{RELAY_OPENS_MAX, RELAY_UNSENT_BYTES_MAX};
use crate::link::{
    CarriedBatch, CarriedItems, CarriedWhat, Carrying, NotUnderstood, Others, from_server_bytes_max,
};
use crate::net::Random;
use crate::net::link::{CarryingLine, Fault, LinkOptions, Pipe};
use mio::net::TcpStream;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use wire::link::{Channel, LinkError, LinkHandshake, LinkIntroduction, Role, VERSION_OTHERS};
use wire::message::Addresses;
use wire::session::HELLO_BYTES;
use zeroize::Zeroizing;

pub(super) struct Line {
    /// The worker that is called, from 0.
    worker: u16,
    phase: Phase,
    /// Each session's terminal.
    sessions: HashMap<u32, Carried, BuildHasherDefault<NumberHasher>>,
    next_session: u32,
    /// Sessions in which the worker has said nothing.
    unanswered: u32,
    /// Hellos that wait their turn, the oldest first: by when, and whose.
    pub(super) queue: VecDeque<(u64, u64)>,
    /// Terminals that are not read while too much waits to be sent here.
    held: VecDeque<u64>,
    /// Sessions whose terminals were lost while the worker spoke to them.
    lost: Vec<u32>,
    options: LinkOptions,
}

/// A session of this connection.
struct Carried {
    terminal: u64,
    is_answered: bool,
}

enum Phase {
    Connecting(Pipe),
    Shaking(Pipe, Box<LinkHandshake>),
    /// The worker has to say who carries.
    Shaken(CarryingLine),
    Up(CarryingLine),
    /// Between two phases, and never seen.
    Over,
}

impl Line {
    /// Begins to connect.
    pub(super) fn new(stream: TcpStream, worker: u16, options: LinkOptions) -> Self {
        let mut pipe = Pipe::new(stream);
        // Connected once it may be written to.
        (pipe.readable, pipe.writable) = (false, false);
        Self {
            worker,
            phase: Phase::Connecting(pipe),
            sessions: HashMap::default(),
            next_session: 1,
            unanswered: 0,
            queue: VecDeque::new(),
            held: VecDeque::new(),
            lost: Vec::new(),
            options,
        }
    }

    /// What polling found.
    pub(super) fn handle_event(&mut self, readable: bool, writable: bool) {
        match &mut self.phase {
            Phase::Connecting(pipe) | Phase::Shaking(pipe, _) => {
                pipe.readable |= readable;
                pipe.writable |= writable;
            }
            Phase::Shaken(line) | Phase::Up(line) => line.handle_event(readable, writable),
            Phase::Over => {}
        }
    }

    /// Goes on with the handshake; what the worker says of itself once it has.
    pub(super) fn come_up(
        &mut self,
        identity: &RelayIdentity,
        link_id: u64,
        others: &Addresses,
        random: Random,
        now_ms: u64,
    ) -> Result<Option<Carrying>, Fault> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Connecting(mut pipe) if pipe.writable => {
                    if let Some(error) = pipe.stream().take_error()? {
                        return Err(error.into());
                    }
                    pipe.stream().set_nodelay(true)?;
                    let mut fresh = Zeroizing::new([0; 32]);
                    random(&mut *fresh);
                    let introduction = LinkIntroduction {
                        node: identity.manager,
                        role: Role::Hcm,
                        channel: Channel::Sessions,
                        workers: self.worker,
                        link_id,
                    };
                    let key = identity.key.expose();
                    let (handshake, hello) =
                        LinkHandshake::start(&introduction, key, &fresh, from_server_bytes_max);
                    pipe.output().extend_from_slice(&hello);
                    pipe.write(usize::MAX, now_ms)?;
                    self.phase = Phase::Shaking(pipe, Box::new(handshake));
                }
                Phase::Shaking(mut pipe, mut handshake) => {
                    if let Some((length, session)) = handshake.receive(pipe.unread())? {
                        pipe.consume(length);
                        // A server of an earlier version has no such message: its welcomes name no addresses.
                        let may_tell = session.version() >= VERSION_OTHERS && others.count > 0;
                        let mut line = CarryingLine::new(pipe, session, self.options, now_ms);
                        if may_tell {
                            line.send(Others::KIND, &Others(*others).encode());
                        }
                        line.flush(now_ms)?;
                        self.phase = Phase::Shaken(line);
                        continue;
                    }
                    let read = pipe.read()?;
                    self.phase = Phase::Shaking(pipe, handshake);
                    if read == 0 {
                        return Ok(None);
                    }
                }
                Phase::Shaken(mut line) => {
                    let said = line.receive(now_ms, |kind, body| match kind {
                        Carrying::KIND => Carrying::decode(body).map_err(Fault::from),
                        _ => Err(LinkError::OutOfOrder.into()),
                    })?;
                    let Some(said) = said.transpose()? else {
                        self.phase = Phase::Shaken(line);
                        return Ok(None);
                    };
                    self.phase = Phase::Up(line);
                    return Ok(Some(said));
                }
                other => {
                    self.phase = other;
                    return Ok(None);
                }
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

    /// Takes in what came, a few messages of it; whether there may be more. Adds those to `settled` whose every message is
    /// answered.
    pub(super) fn receive(
        &mut self,
        terminals: &mut Terminals,
        settled: &mut Vec<u64>,
        now_ms: u64,
    ) -> Result<bool, Fault> {
        let Self { phase: Phase::Up(line), sessions, unanswered, lost, .. } = self else { return Ok(false) };
        let mut is_more = line.is_ready();
        for _ in 0..MESSAGES_PER_TURN {
            if !is_more {
                break;
            }
            let taken = line.receive(now_ms, |kind, body| {
                if kind != CarriedBatch::KIND {
                    return Err(Fault::from(LinkError::OutOfOrder));
                }
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
                                lost.push(item.session);
                            }
                        },
                        CarriedWhat::End => {
                            sessions.remove(&item.session);
                            terminals.last_words(key, &[], now_ms);
                        }
                        CarriedWhat::Open { .. } => {
                            return Err(NotUnderstood("the server opens a session").into());
                        }
                    }
                }
                Ok(())
            })?;
            is_more = taken.transpose()?.is_some();
        }
        lost.drain(..).for_each(|session| line.batch().end(session));
        Ok(is_more)
    }

    /// The number of the next session, if one more hello may be on its way.
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
        if let Phase::Up(line) = &mut self.phase {
            line.batch().open(session, source, hello);
            self.sessions.insert(session, Carried { terminal: key, is_answered: false });
            self.unanswered += 1;
        }
        Ok(())
    }

    /// The next of those who have waited for too long.
    pub(super) fn poll_overdue(&mut self, now_ms: u64) -> Option<u64> {
        self.queue.pop_front_if(|(due_ms, _)| *due_ms <= now_ms).map(|(_, key)| key)
    }

    /// Adds what a terminal says.
    pub(super) fn frames(&mut self, session: u32, bytes: &[u8]) {
        if let Phase::Up(line) = &mut self.phase {
            line.batch().frames(session, bytes);
        }
    }

    /// Ends a session.
    pub(super) fn end_session(&mut self, session: u32) {
        if let Some(carried) = self.sessions.remove(&session)
            && let Phase::Up(line) = &mut self.phase
        {
            self.unanswered -= u32::from(!carried.is_answered);
            line.batch().end(session);
        }
    }

    /// Whether so much waits that terminals should not be read for this worker.
    pub(super) fn is_full(&self) -> bool {
        self.unsent() > RELAY_UNSENT_BYTES_MAX
    }

    fn unsent(&self) -> usize {
        match &self.phase {
            Phase::Up(line) => line.unsent(),
            _ => 0,
        }
    }

    /// Holds a terminal back until there is room.
    pub(super) fn hold(&mut self, key: u64) {
        self.held.push_back(key);
    }

    /// Those who were held back, once there is room.
    pub(super) fn held(&mut self) -> Option<&mut VecDeque<u64>> {
        let has_room = self.unsent() <= RELAY_UNSENT_BYTES_MAX / 2;
        (has_room && !self.held.is_empty()).then_some(&mut self.held)
    }

    /// Seals the batch and sends what waits.
    pub(super) fn flush(&mut self, now_ms: u64) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Up(line) if line.unsent() > 0 => line.flush(now_ms),
            _ => Ok(()),
        }
    }

    /// Pings, and sees whether the other end is alive.
    pub(super) fn tick(&mut self, now_ms: u64) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Up(line) => line.tick(now_ms, true),
            _ => Ok(()),
        }
    }

    /// Says why and gives the connection up; the terminals of its sessions, and those who waited for it, are the caller's now.
    pub(super) fn end(self, fault: &Fault, now_ms: u64) -> (Option<TcpStream>, Vec<u64>) {
        let mut keys: Vec<u64> = self.sessions.into_values().map(|carried| carried.terminal).collect();
        keys.extend(self.queue.iter().map(|(_, key)| key));
        let stream = match self.phase {
            Phase::Shaken(line) | Phase::Up(line) => line.end(fault, now_ms),
            Phase::Connecting(_) | Phase::Shaking(..) | Phase::Over => None,
        };
        (stream, keys)
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

/// Messages taken from one worker in one turn.
const MESSAGES_PER_TURN: usize = 8;
