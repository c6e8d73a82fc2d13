//! A first look at the seller: does it know the terminals, and what does it sell?

use crate::terminals::Terminal;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye};
use wire::frame::FRAME_BYTES_MAX;
use wire::message::{Addresses, CatalogueEntry, Login, Reply, Request, SellerId};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, SessionError, Suite, TerminalHandshake, TerminalInbound,
    TerminalSession,
};

/// Why there is no run against this seller.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody is there, or not for long.
    #[error("cannot talk to {0}: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// The seller refuses this terminal or this kind of session.
    #[error("{0} refuses terminal {1}: {2}")]
    Refused(SocketAddr, u64, &'static str),
    /// The seller is busy or stopping.
    #[error("{0} sends terminal {1} away: {2:?}")]
    SentAway(SocketAddr, u64, ByeReason),
    /// It is no seller of this protocol.
    #[error("{0} does not speak the terminal protocol: {1}")]
    Protocol(SocketAddr, SessionError),
}

/// What a first look at a seller tells.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its number.
    pub seller: SellerId,
    /// What it sells.
    pub catalogue: Vec<CatalogueEntry>,
}

/// Logs `terminal` in and reads the whole catalogue.
///
/// # Errors
/// [`ProbeError`].
pub(crate) fn look(
    target: SocketAddr,
    terminal: &Terminal,
    suite: Suite,
    mode: Mode,
) -> Result<Seen, ProbeError> {
    let mut stream = connect(target).map_err(|error| ProbeError::Unreachable(target, error))?;
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|_| ProbeError::Unreachable(target, io::Error::other("no randomness")))?;
    let mut hello = [0; HELLO_BYTES];
    let Terminal { id, key_epoch, key } = terminal;
    let (mut handshake, length) =
        TerminalHandshake::start(*id, *key_epoch, suite, mode, key, &random, &mut hello);
    stream.send(&hello[..length])?;
    let mut session = match stream.next(|bytes| handshake.receive(bytes))? {
        HandshakeInbound::Session(session) => session,
        HandshakeInbound::Bye(bye) => return Err(ProbeError::SentAway(target, id.0, bye.reason)),
        HandshakeInbound::Error(notice) => return Err(refused(target, id.0, notice.code)),
    };
    let seller = loop {
        if let Reply::Welcome(welcome) = reply(&mut stream, &mut session, id.0)? {
            break welcome.seller;
        }
    };
    ask(&mut stream, &mut session, &Request::Login(Box::new(Login::EMPTY)))?;
    reply(&mut stream, &mut session, id.0)?;
    let (mut entries, mut version) = (Vec::new(), None);
    loop {
        let from = u16::try_from(entries.len()).unwrap_or(u16::MAX);
        ask(&mut stream, &mut session, &Request::Catalogue { from })?;
        let Reply::Catalogue(page) = reply(&mut stream, &mut session, id.0)? else { continue };
        if version.replace(page.version).is_some_and(|before| before != page.version) {
            entries.clear();
            continue;
        }
        entries.extend_from_slice(page.list());
        if page.list().is_empty() || entries.len() >= usize::from(page.total) {
            break;
        }
    }
    let bye = Bye { reason: ByeReason::Done, wait_ms: 0, addresses: Addresses::default() };
    let mut frame = [0; CONTROL_BYTES_MAX];
    let length = encode_bye(&bye, &mut frame);
    stream.send(&frame[..length])?;
    Ok(Seen { seller, catalogue: entries })
}

fn ask(stream: &mut Stream, session: &mut TerminalSession, request: &Request) -> Result<(), ProbeError> {
    let mut frame = [0; FRAME_BYTES_MAX];
    let length = session.send(1, request, &mut frame);
    stream.send(&frame[..length])
}

fn reply(stream: &mut Stream, session: &mut TerminalSession, terminal: u64) -> Result<Reply, ProbeError> {
    loop {
        match stream.next(|bytes| session.receive(bytes))? {
            TerminalInbound::Reply { reply, .. } => return Ok(reply),
            TerminalInbound::Bye(bye) => {
                return Err(ProbeError::SentAway(stream.target, terminal, bye.reason));
            }
            TerminalInbound::Error(notice) => return Err(refused(stream.target, terminal, notice.code)),
            TerminalInbound::Ping { .. } | TerminalInbound::Pong { .. } => {}
        }
    }
}

fn refused(target: SocketAddr, terminal: u64, code: ErrorCode) -> ProbeError {
    let why = match code {
        ErrorCode::Authentication => "it does not know the terminal or its key: is this the network's file?",
        ErrorCode::Mode => {
            "it does not allow clear sessions: start it with clear ones allowed, or leave --clear out"
        }
        ErrorCode::Suite => "it does not have this suite",
        ErrorCode::Version => "it speaks another version of the protocol",
        _ => "it finds the session at fault",
    };
    ProbeError::Refused(target, terminal, why)
}

fn connect(target: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Stream { stream, target, buffer: Vec::new() })
}

struct Stream {
    stream: TcpStream,
    target: SocketAddr,
    buffer: Vec<u8>,
}

impl Stream {
    fn send(&mut self, bytes: &[u8]) -> Result<(), ProbeError> {
        self.stream.write_all(bytes).map_err(|error| ProbeError::Unreachable(self.target, error))
    }

    fn next<T>(
        &mut self,
        mut take: impl FnMut(&mut [u8]) -> Result<Option<(usize, T)>, SessionError>,
    ) -> Result<T, ProbeError> {
        loop {
            let taken = take(&mut self.buffer).map_err(|error| ProbeError::Protocol(self.target, error))?;
            if let Some((length, value)) = taken {
                self.buffer.drain(..length);
                return Ok(value);
            }
            let mut bytes = [0; FRAME_BYTES_MAX];
            let read = self.stream.read(&mut bytes).and_then(|read| match read {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            });
            let read = read.map_err(|error| ProbeError::Unreachable(self.target, error))?;
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
