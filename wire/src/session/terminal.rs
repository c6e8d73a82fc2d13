//! The terminal's end.

use crate::codec::{encode_request, reply_body};
use crate::control::{Bye, Control, ErrorNotice, decode_control};
use crate::frame::{
    Class, FrameError, HEADER_BYTES, Header, Kind, VERSION_CONNECTION, VERSION_MAX, VERSION_MIN,
};
use crate::message::{KeyEpoch, Reply, Request, TerminalId};
use crate::noise::{Initiator, NOISE_MESSAGE_BYTES};
use crate::session::transport::{Opened, Transport};
use crate::session::{HELLO_BYTES, Mode, PROLOGUE_BYTES, SessionError, Suite};
use alloc::boxed::Box;

/// The terminal's end between its hello and the seller's handshake frame.
pub struct TerminalHandshake {
    initiator: Initiator,
    suite: Suite,
    mode: Mode,
}

/// What answers a hello.
#[derive(Debug)]
pub enum HandshakeInbound {
    /// The seller knows the key too.
    Session(TerminalSession),
    /// Connect again later or elsewhere.
    Bye(Box<Bye>),
    /// The seller refuses this hello.
    Error(ErrorNotice),
}

impl TerminalHandshake {
    /// Writes the hello frame to the front of `out` and returns its length too. `random` must be fresh.
    ///
    /// # Panics
    /// If `out` is shorter than [`HELLO_BYTES`].
    #[must_use]
    pub fn start(
        terminal: TerminalId,
        key_epoch: KeyEpoch,
        suite: Suite,
        mode: Mode,
        psk: &[u8; 32],
        random: &[u8; 32],
        out: &mut [u8],
    ) -> (Self, usize) {
        let header =
            Header { length: HELLO_BYTES, kind: Kind::Hello, version: VERSION_CONNECTION, correlation: 0 };
        let mut body = crate::codec::Writer::new(out);
        body.bytes(&header.to_bytes());
        body.bytes(&[VERSION_MIN, VERSION_MAX, suite as u8, mode as u8]);
        body.u32(key_epoch.0);
        body.u64(terminal.0);
        assert_eq!(body.length(), PROLOGUE_BYTES, "the prologue ends where the handshake message begins");
        let (initiator, message) = Initiator::start(suite, &out[..PROLOGUE_BYTES], psk, random);
        out[PROLOGUE_BYTES..HELLO_BYTES].copy_from_slice(&message);
        (Self { initiator, suite, mode }, HELLO_BYTES)
    }

    /// Takes the frame at the front of `bytes` and returns its length too; `None` while it is incomplete.
    ///
    /// # Errors
    /// What the seller did wrong; `Authentication` if it does not know the key. The connection is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<(usize, HandshakeInbound)>, SessionError> {
        let Some(header) = Header::parse(bytes, 0)? else { return Ok(None) };
        if header.kind.class() != Class::Connection {
            return Err(SessionError::OutOfOrder);
        }
        let body = &bytes[HEADER_BYTES..header.length];
        let inbound = match header.kind {
            Kind::Handshake => {
                let message: &[u8; NOISE_MESSAGE_BYTES] =
                    body.try_into().map_err(|_| FrameError::Malformed)?;
                let keys = self.initiator.finish(message).map_err(|_| SessionError::Authentication)?;
                let (seal, open) = (&keys.terminal_to_seller, &keys.seller_to_terminal);
                let transport = Transport::new(self.mode, self.suite, seal, open);
                HandshakeInbound::Session(TerminalSession { transport, welcomed: false, over: None })
            }
            _ => match decode_control(&header, body)? {
                Control::Bye(bye) => HandshakeInbound::Bye(bye),
                Control::Error(notice) => HandshakeInbound::Error(notice),
                Control::Ping { .. } | Control::Pong { .. } => return Err(SessionError::OutOfOrder),
            },
        };
        Ok(Some((header.length, inbound)))
    }
}

/// The terminal's end of one session, from the welcome on.
///
/// It holds the order of messages: the first reply that `receive` returns is a welcome, and no other is. That the
/// terminal's own first request is a login is the caller's part.
pub struct TerminalSession {
    transport: Transport,
    welcomed: bool,
    over: Option<SessionError>,
}

/// One frame from the seller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TerminalInbound {
    /// An answer, or the welcome.
    Reply {
        /// The request's; 0 for the welcome.
        correlation: u16,
        /// The answer.
        reply: Reply,
    },
    /// Answer with a pong.
    Ping {
        /// The seller's.
        correlation: u16,
    },
    /// The connection is alive.
    Pong {
        /// The ping's.
        correlation: u16,
    },
    /// Connect again later or elsewhere.
    Bye(Box<Bye>),
    /// The seller closes the connection because of what it received.
    Error(ErrorNotice),
}

impl TerminalSession {
    /// How messages are protected.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.transport.mode()
    }

    /// Takes the frame at the front of `bytes`, decrypting in place, and returns its length too; `None` while it is
    /// incomplete. `bytes` must not be shown again up to that length.
    ///
    /// # Errors
    /// What the seller did wrong; the session is over and every further call says the same.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<Option<(usize, TerminalInbound)>, SessionError> {
        if let Some(error) = self.over {
            return Err(error);
        }
        let received = self.receive_next(bytes);
        if let Err(error) = &received {
            self.over = Some(*error);
        }
        received
    }

    /// Writes a request as one frame to the front of `out` and returns its length in bytes.
    ///
    /// # Panics
    /// If `out` is shorter than the frame; [`crate::frame::REQUEST_BYTES_MAX`] is always enough.
    pub fn send(&mut self, correlation: u16, request: &Request, out: &mut [u8]) -> usize {
        self.transport.send(out, |inner| encode_request(correlation, request, inner))
    }

    fn receive_next(&mut self, bytes: &mut [u8]) -> Result<Option<(usize, TerminalInbound)>, SessionError> {
        let Some((length, opened)) = self.transport.open(bytes)? else { return Ok(None) };
        let inbound = match opened {
            Opened::Message(kind, correlation, body) => {
                let reply = reply_body(kind, body)?;
                if matches!(reply, Reply::Welcome(_)) == self.welcomed {
                    return Err(SessionError::OutOfOrder);
                }
                self.welcomed = true;
                TerminalInbound::Reply { correlation, reply }
            }
            Opened::Control(Control::Ping { correlation }) => TerminalInbound::Ping { correlation },
            Opened::Control(Control::Pong { correlation }) => TerminalInbound::Pong { correlation },
            Opened::Control(Control::Bye(bye)) => TerminalInbound::Bye(bye),
            Opened::Control(Control::Error(notice)) => TerminalInbound::Error(notice),
        };
        Ok(Some((length, inbound)))
    }
}

impl core::fmt::Debug for TerminalSession {
    /// Says nothing of its keys.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TerminalSession").field("welcomed", &self.welcomed).finish_non_exhaustive()
    }
}
