//! The seller's end.

use crate::codec::{encode_reply, request_body};
use crate::control::{Bye, Control, ErrorCode, ErrorNotice};
use crate::frame::{FrameError, HEADER_BYTES, Header, Kind, VERSION_CONNECTION, VERSION_MAX, VERSION_MIN};
use crate::message::{KeyEpoch, Reply, Request, TerminalId};
use crate::noise::{self, NOISE_MESSAGE_BYTES};
use crate::session::transport::{Opened, Transport};
use crate::session::{HANDSHAKE_BYTES, HELLO_BYTES, Mode, PROLOGUE_BYTES, SessionError, Suite};
use alloc::boxed::Box;

/// Takes connections up to the seller's handshake frame; holds nothing of any one of them.
///
/// Reading a hello and answering it are two steps because the key is looked up between them.
#[derive(Clone, Copy, Debug)]
pub struct Acceptor {
    clear_allowed: bool,
}

impl Acceptor {
    /// An acceptor that refuses clear mode unless `clear_allowed`.
    #[must_use]
    pub const fn new(clear_allowed: bool) -> Self {
        Self { clear_allowed }
    }

    /// Reads the hello at the front of `bytes` and returns its length too; `None` while it is incomplete.
    ///
    /// # Errors
    /// What the peer did wrong: `OutOfOrder` if it is no hello, `Frame` with `Version` if no version is common,
    /// `Suite`, `Mode`.
    pub fn hello(&self, bytes: &[u8]) -> Result<Option<(usize, Hello)>, SessionError> {
        let Some(header) = Header::parse(bytes, 0)? else { return Ok(None) };
        if header.kind != Kind::Hello {
            return Err(SessionError::OutOfOrder);
        }
        let mut raw = [0; HELLO_BYTES];
        raw.copy_from_slice(&bytes[..header.length]);
        let hello = Hello::parse(raw)?;
        if hello.mode == Mode::Clear && !self.clear_allowed {
            return Err(SessionError::Mode);
        }
        Ok(Some((header.length, hello)))
    }

    /// Makes the handshake, writes the seller's handshake frame to the front of `out` and returns its length too.
    ///
    /// For a terminal or key epoch that is not known, give a random key: the outcome is then the same as for a wrong
    /// key. `random` must be fresh for every call. The caller must change nothing on behalf of the terminal before its
    /// first message comes through the session, because a hello can be replayed.
    ///
    /// # Errors
    /// [`AcceptError`] if the terminal does not know `psk`.
    ///
    /// # Panics
    /// If `out` is shorter than [`HANDSHAKE_BYTES`].
    pub fn accept(
        &self,
        hello: &Hello,
        psk: &[u8; 32],
        random: &[u8; 32],
        out: &mut [u8],
    ) -> Result<(SellerSession, usize), AcceptError> {
        let (prologue, message) = hello.raw.split_at(PROLOGUE_BYTES);
        let message: &[u8; NOISE_MESSAGE_BYTES] =
            message.try_into().expect("HELLO_BYTES leaves exactly that");
        let (answer, keys) =
            noise::respond(hello.suite, prologue, psk, random, message).map_err(|_| AcceptError)?;
        let header =
            Header { length: HANDSHAKE_BYTES, kind: Kind::Handshake, version: hello.version, correlation: 0 };
        out[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        out[HEADER_BYTES..HANDSHAKE_BYTES].copy_from_slice(&answer);
        let session = SellerSession {
            transport: Transport::new(
                hello.mode,
                hello.suite,
                &keys.seller_to_terminal,
                &keys.terminal_to_seller,
            ),
            terminal: hello.terminal,
            key_epoch: hello.key_epoch,
            logged_in: false,
            over: None,
        };
        Ok((session, HANDSHAKE_BYTES))
    }
}

/// The terminal does not know the key. Its code is [`ErrorCode::Authentication`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("authentication failed")]
pub struct AcceptError;

impl AcceptError {
    /// The code to send before closing.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        ErrorCode::Authentication
    }
}

/// What a terminal says of itself before it has proved anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Who it says it is.
    pub terminal: TerminalId,
    /// Which of its keys it uses.
    pub key_epoch: KeyEpoch,
    /// The primitives it chose.
    pub suite: Suite,
    /// The mode it asks for.
    pub mode: Mode,
    /// The highest version that both ends understand.
    pub version: u8,
    raw: [u8; HELLO_BYTES],
}

impl Hello {
    fn parse(raw: [u8; HELLO_BYTES]) -> Result<Self, SessionError> {
        let [version_min, version_max, suite, mode] = [raw[8], raw[9], raw[10], raw[11]];
        if version_min > version_max {
            return Err(FrameError::Malformed.into());
        }
        let version = version_max.min(VERSION_MAX);
        if version < version_min.max(VERSION_MIN) || raw[3] != VERSION_CONNECTION {
            return Err(FrameError::Version.into());
        }
        let mut reader = crate::codec::Reader::new(&raw[12..]);
        let (key_epoch, terminal) = (KeyEpoch(reader.u32()?), TerminalId(reader.u64()?));
        let suite = Suite::from_byte(suite).ok_or(SessionError::Suite)?;
        let mode = Mode::from_byte(mode).ok_or(FrameError::Malformed)?;
        Ok(Self { terminal, key_epoch, suite, mode, version, raw })
    }
}

/// The seller's end of one session, from the welcome on.
///
/// It holds the order of messages: the first request that `receive` returns is a login, and no other is.
pub struct SellerSession {
    transport: Transport,
    terminal: TerminalId,
    key_epoch: KeyEpoch,
    logged_in: bool,
    over: Option<SessionError>,
}

/// One frame from the terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inbound {
    /// A question; answer with the same correlation.
    Request {
        /// The terminal's.
        correlation: u16,
        /// The question.
        request: Request,
    },
    /// Answer with a pong.
    Ping {
        /// The terminal's.
        correlation: u16,
    },
    /// The terminal is alive.
    Pong {
        /// The ping's.
        correlation: u16,
    },
    /// The terminal closes the connection.
    Bye(Box<Bye>),
    /// The terminal closes the connection because of what it received.
    Error(ErrorNotice),
}

impl SellerSession {
    /// Who proved to know the terminal's key.
    #[must_use]
    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    /// The epoch of that key.
    #[must_use]
    pub fn key_epoch(&self) -> KeyEpoch {
        self.key_epoch
    }

    /// How messages are protected.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.transport.mode()
    }

    /// Whether the login has come: the terminal is then certainly there, and not a replayed hello.
    #[must_use]
    pub fn logged_in(&self) -> bool {
        self.logged_in
    }

    /// Gives back the memory that the next frame can do without for a moment: a kilobyte of a sealed session's keys in
    /// expanded form. For sessions that are silent; the next frame takes a microsecond more.
    pub fn rest(&mut self) {
        self.transport.rest();
    }

    /// Takes the frame at the front of `bytes`, decrypting in place, and returns its length too; `None` while it is
    /// incomplete. `bytes` must not be shown again up to that length.
    ///
    /// # Errors
    /// What the terminal did wrong; the session is over and every further call says the same.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<Option<(usize, Inbound)>, SessionError> {
        if let Some(error) = self.over {
            return Err(error);
        }
        let received = self.receive_next(bytes);
        if let Err(error) = &received {
            self.over = Some(*error);
        }
        received
    }

    /// Writes a reply as one frame to the front of `out` and returns its length in bytes.
    ///
    /// # Panics
    /// If `out` is shorter than the frame; [`crate::frame::REPLY_BYTES_MAX`] is always enough.
    pub fn send(&mut self, correlation: u16, reply: &Reply, out: &mut [u8]) -> usize {
        self.transport.send(out, |inner| encode_reply(correlation, reply, inner))
    }

    fn receive_next(&mut self, bytes: &mut [u8]) -> Result<Option<(usize, Inbound)>, SessionError> {
        let Some((length, opened)) = self.transport.open(bytes)? else { return Ok(None) };
        let inbound = match opened {
            Opened::Message(kind, correlation, body) => {
                let request = request_body(kind, body)?;
                if matches!(request, Request::Login(_)) == self.logged_in {
                    return Err(SessionError::OutOfOrder);
                }
                self.logged_in = true;
                Inbound::Request { correlation, request }
            }
            Opened::Control(Control::Ping { correlation }) => Inbound::Ping { correlation },
            Opened::Control(Control::Pong { correlation }) => Inbound::Pong { correlation },
            Opened::Control(Control::Bye(bye)) => Inbound::Bye(bye),
            Opened::Control(Control::Error(notice)) => Inbound::Error(notice),
        };
        Ok(Some((length, inbound)))
    }
}

impl core::fmt::Debug for SellerSession {
    /// Says whose session it is, and nothing of its keys.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SellerSession")
            .field("terminal", &self.terminal)
            .field("key_epoch", &self.key_epoch)
            .field("logged_in", &self.logged_in)
            .finish_non_exhaustive()
    }
}
