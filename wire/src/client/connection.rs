//! One TCP connection with a session on it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::client::Config;
use crate::control::{self, Bye, ByeReason, CONTROL_BYTES_MAX, ErrorNotice};
use crate::frame::FRAME_BYTES_MAX;
use crate::message::{Addresses, Reply, Request, Welcome};
use crate::session::{
    HELLO_BYTES, HandshakeInbound, SessionError, TerminalHandshake, TerminalInbound, TerminalSession,
};

/// Why a connection is of no more use.
#[derive(Debug)]
pub(super) enum Fault {
    /// The network failed or the seller closed.
    Io(io::Error),
    /// No answer in time.
    Deadline,
    /// The seller sent what it must not.
    Peer(SessionError),
    /// The seller sent us away.
    Bye(Bye),
    /// The seller refused what we sent.
    Error(ErrorNotice),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Deadline,
            _ => Self::Io(error),
        }
    }
}

impl From<SessionError> for Fault {
    fn from(error: SessionError) -> Self {
        Self::Peer(error)
    }
}

pub(super) struct Connection {
    stream: Incoming,
    session: TerminalSession,
    correlation: u16,
}

impl Connection {
    /// Shakes hands; returns the seller's welcome too. The stream stays with the caller when it is sent away.
    pub(super) fn open(
        fresh: &mut Option<Incoming>,
        config: &Config,
        random: &[u8; 32],
        until: Instant,
    ) -> Result<(Self, Welcome), Fault> {
        let gone = || Fault::Io(io::Error::from(io::ErrorKind::NotConnected));
        let stream = fresh.as_mut().ok_or_else(gone)?;
        let Config { terminal, key_epoch, suite, mode, key, .. } = config;
        let mut hello = [0; HELLO_BYTES];
        let (mut handshake, length) =
            TerminalHandshake::start(*terminal, *key_epoch, *suite, *mode, key, random, &mut hello);
        stream.write(&hello[..length], until)?;
        let session = match stream.next(until, |bytes| handshake.receive(bytes))? {
            HandshakeInbound::Session(session) => session,
            HandshakeInbound::Bye(bye) => return Err(Fault::Bye(*bye)),
            HandshakeInbound::Error(notice) => return Err(Fault::Error(notice)),
        };
        let stream = fresh.take().ok_or_else(gone)?;
        let mut connection = Self { stream, session, correlation: 0 };
        match connection.receive(until) {
            Ok((_, Reply::Welcome(welcome))) => Ok((connection, *welcome)),
            Ok(_) => Err(SessionError::OutOfOrder.into()),
            Err(fault) => {
                *fresh = Some(connection.stream);
                Err(fault)
            }
        }
    }

    /// Sends a request and returns the correlation of its answer.
    pub(super) fn send(&mut self, request: &Request, until: Instant) -> Result<u16, Fault> {
        self.correlation = self.correlation.wrapping_add(1).max(1);
        let mut frame = [0; FRAME_BYTES_MAX];
        let length = self.session.send(self.correlation, request, &mut frame);
        self.stream.write(&frame[..length], until)?;
        Ok(self.correlation)
    }

    /// Waits for the next reply, answering pings meanwhile.
    pub(super) fn receive(&mut self, until: Instant) -> Result<(u16, Reply), Fault> {
        loop {
            let session = &mut self.session;
            match self.stream.next(until, |bytes| session.receive(bytes))? {
                TerminalInbound::Reply { correlation, reply } => return Ok((correlation, reply)),
                TerminalInbound::Ping { correlation } => {
                    let mut pong = [0; CONTROL_BYTES_MAX];
                    let length = control::encode_pong(correlation, &mut pong);
                    self.stream.write(&pong[..length], until)?;
                }
                TerminalInbound::Pong { .. } => {}
                TerminalInbound::Bye(bye) => return Err(Fault::Bye(*bye)),
                TerminalInbound::Error(notice) => return Err(Fault::Error(notice)),
            }
        }
    }

    /// Sends a ping without waiting for its pong.
    pub(super) fn ping(&mut self, until: Instant) -> Result<(), Fault> {
        let mut ping = [0; CONTROL_BYTES_MAX];
        let length = control::encode_ping(0, &mut ping);
        self.stream.write(&ping[..length], until)
    }

    /// The stream, whose session is over.
    pub(super) fn into_stream(self) -> Incoming {
        self.stream
    }

    /// Says good-bye; what becomes of it does not matter.
    pub(super) fn close(mut self) {
        let bye = Bye { reason: ByeReason::Done, wait_ms: 0, addresses: Addresses::default() };
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = control::encode_bye(&bye, &mut frame);
        let _ = self.stream.write(&frame[..length], Instant::now() + Duration::from_millis(100));
    }
}

/// The stream and what was read of it; one frame always fits.
pub(super) struct Incoming {
    stream: TcpStream,
    buffer: [u8; FRAME_BYTES_MAX],
    start: usize,
    end: usize,
}

impl Incoming {
    /// Connects.
    pub(super) fn connect(address: SocketAddr, until: Instant) -> Result<Self, Fault> {
        let stream = TcpStream::connect_timeout(&address, left(until)?)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: [0; FRAME_BYTES_MAX], start: 0, end: 0 })
    }

    fn write(&mut self, bytes: &[u8], until: Instant) -> Result<(), Fault> {
        self.stream.set_write_timeout(Some(left(until)?))?;
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads until `take` makes something of the bytes at the front.
    fn next<T>(
        &mut self,
        until: Instant,
        mut take: impl FnMut(&mut [u8]) -> Result<Option<(usize, T)>, SessionError>,
    ) -> Result<T, Fault> {
        loop {
            if let Some((consumed, value)) = take(&mut self.buffer[self.start..self.end])? {
                self.start += consumed;
                return Ok(value);
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.stream.set_read_timeout(Some(left(until)?))?;
            match self.stream.read(&mut self.buffer[self.end..])? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                read => self.end += read,
            }
        }
    }
}

/// The time that is left, never zero.
fn left(until: Instant) -> Result<Duration, Fault> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Fault::Deadline) } else { Ok(left.max(Duration::from_millis(1))) }
}
