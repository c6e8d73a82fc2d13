//! One sealed connection of a link.
//!
//! ```text
//!  outer header   0      1       2              4
//!  8 bytes        | type | flags | message kind | body …        | tag, 16 bytes
//!                 └────────────── encrypted ────────────────────┘
//! ```

use super::LinkError;
use super::frame::{FRAGMENT_BYTES_MAX, FrameHeader, FrameKind, INNER_HEADER_BYTES, read_error};
use crate::cipher::Cipher;
use crate::codec::Reader;
use crate::frame::{FrameError, HEADER_BYTES, TAG_BYTES};
use crate::noise::Keys;
use crate::session::Suite;
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Most bytes that a message of a kind may have; `None`: there is no such kind, or not in the version that was agreed.
pub type MessageLimit = fn(kind: u16) -> Option<usize>;

/// Most bytes of what a close says.
pub const CLOSE_BYTES_MAX: usize = 200;

/// Either end of one connection after its handshake.
///
/// It holds the order: the first frame that `receive` returns is an open, and no other is. That this end's own first
/// frame is an open is the caller's part.
pub struct LinkSession {
    seal: Cipher,
    open: Cipher,
    version: u8,
    limit: MessageLimit,
    opened: bool,
    /// The message whose fragments are arriving: its kind and what there is of it.
    assembly: Option<(u16, Vec<u8>)>,
    over: Option<LinkError>,
}

/// One frame from the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkInbound<'a> {
    /// The other end has proved itself.
    Open,
    /// A whole message.
    Message {
        /// What it is.
        kind: u16,
        /// Its bytes; owned if it came in fragments.
        body: Cow<'a, [u8]>,
    },
    /// Part of a message; more is to come.
    Fragment,
    /// Answer with a pong.
    Ping {
        /// Chosen by the sender.
        number: u64,
    },
    /// The connection is alive.
    Pong {
        /// The ping's.
        number: u64,
    },
    /// The other end closes the link in good order, and says why.
    Close {
        /// For the operator.
        why: &'a str,
    },
}

/// Whose end of the handshake.
#[derive(Clone, Copy)]
pub(super) enum End {
    Node,
    Hub,
}

impl LinkSession {
    pub(super) fn new(end: End, keys: &Keys, version: u8, limit: MessageLimit) -> Self {
        // The node makes the first step, as the terminal does in its protocol.
        let (up, down) = (&keys.terminal_to_seller, &keys.seller_to_terminal);
        let (seal, open) = match end {
            End::Node => (up, down),
            End::Hub => (down, up),
        };
        let cipher = |key| Cipher::new(Suite::AesGcm, key);
        let (seal, open) = (cipher(seal), cipher(open));
        Self { seal, open, version, limit, opened: false, assembly: None, over: None }
    }

    /// The agreed version.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Appends this end's first frame to `out`. It repeats the version under seal, so that nobody can lower it unseen.
    pub fn send_open(&mut self, out: &mut Vec<u8>) {
        self.send(Type::Open, 0, 0, &[&[self.version, 0, 0, 0]], out);
    }

    /// Appends a frame to `out` with a message, or with the next part of it: `more` if it is not the last. All parts have
    /// the kind of the message, and other messages come only after the last. The body is what `parts` are together.
    ///
    /// # Panics
    /// If `parts` are together longer than [`FRAGMENT_BYTES_MAX`], or empty with `more`.
    pub fn send_message(&mut self, kind: u16, more: bool, parts: &[&[u8]], out: &mut Vec<u8>) {
        assert!(!more || parts.iter().any(|part| !part.is_empty()), "a message makes progress");
        self.send(Type::Message, u8::from(more) * FLAG_MORE, kind, parts, out);
    }

    /// Appends a ping to `out`.
    pub fn send_ping(&mut self, number: u64, out: &mut Vec<u8>) {
        self.send(Type::Ping, 0, 0, &[&number.to_le_bytes()], out);
    }

    /// Appends a pong to `out`.
    pub fn send_pong(&mut self, number: u64, out: &mut Vec<u8>) {
        self.send(Type::Pong, 0, 0, &[&number.to_le_bytes()], out);
    }

    /// Appends a close to `out`, the last frame of this end; `why` is cut to [`CLOSE_BYTES_MAX`].
    pub fn send_close(&mut self, why: &str, out: &mut Vec<u8>) {
        let why = &why[..why.floor_char_boundary(CLOSE_BYTES_MAX)];
        self.send(Type::Close, 0, 0, &[why.as_bytes()], out);
    }

    /// Takes the frame at the front of `bytes`, decrypting in place, and returns its length too; `None` while it is
    /// incomplete. `bytes` must not be shown again up to that length.
    ///
    /// # Errors
    /// What the peer did wrong; the connection is over and every further call says the same.
    pub fn receive<'a>(
        &mut self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(usize, LinkInbound<'a>)>, LinkError> {
        if let Some(error) = self.over {
            return Err(error);
        }
        let received = self.receive_next(bytes);
        if let Err(error) = &received {
            self.over = Some(*error);
            self.assembly = None;
        }
        received
    }

    fn receive_next<'a>(
        &mut self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(usize, LinkInbound<'a>)>, LinkError> {
        let Some(header) = FrameHeader::parse(bytes)? else { return Ok(None) };
        let body = &mut bytes[HEADER_BYTES..header.length];
        match header.kind {
            FrameKind::Sealed => {}
            FrameKind::Error => return Err(LinkError::Refused(read_error(body)?)),
            FrameKind::Hello | FrameKind::Handshake => return Err(LinkError::OutOfOrder),
        }
        let inner: &'a [u8] = self.open.open(body).map_err(|_| LinkError::Unsealing)?;
        let (&[kind, flags, message0, message1], body) =
            inner.split_first_chunk::<INNER_HEADER_BYTES>().ok_or(FrameError::Malformed)?;
        let kind = Type::from_byte(kind).ok_or(FrameError::Kind)?;
        let message = u16::from_le_bytes([message0, message1]);
        let flags_allowed = if kind == Type::Message { FLAG_MORE } else { 0 };
        if flags & !flags_allowed != 0 {
            return Err(FrameError::Flags.into());
        }
        if kind != Type::Message && message != 0 {
            return Err(FrameError::Malformed.into());
        }
        if (kind == Type::Open) == self.opened {
            return Err(LinkError::OutOfOrder);
        }
        let inbound = match kind {
            Type::Open => {
                let mut reader = Reader::new(body);
                if reader.u8()? != self.version {
                    return Err(FrameError::Version.into());
                }
                reader.zeros(3)?;
                reader.end()?;
                self.opened = true;
                LinkInbound::Open
            }
            Type::Message => self.take_part(message, flags & FLAG_MORE != 0, body)?,
            Type::Ping => LinkInbound::Ping { number: whole_u64(body)? },
            Type::Pong => LinkInbound::Pong { number: whole_u64(body)? },
            Type::Close => {
                let why = core::str::from_utf8(body).ok().filter(|why| why.len() <= CLOSE_BYTES_MAX);
                LinkInbound::Close { why: why.ok_or(FrameError::Malformed)? }
            }
        };
        Ok(Some((header.length, inbound)))
    }

    fn take_part<'a>(&mut self, kind: u16, more: bool, part: &'a [u8]) -> Result<LinkInbound<'a>, LinkError> {
        let bytes_max = (self.limit)(kind).ok_or(LinkError::Message { kind })?;
        if more && part.is_empty() {
            return Err(FrameError::Malformed.into());
        }
        let held = match &self.assembly {
            Some((begun, _)) if *begun != kind => return Err(LinkError::OutOfOrder),
            Some((_, held)) => held.len(),
            None => 0,
        };
        if held + part.len() > bytes_max {
            return Err(LinkError::TooLong { kind, bytes_max });
        }
        match (self.assembly.take(), more) {
            (None, false) => Ok(LinkInbound::Message { kind, body: Cow::Borrowed(part) }),
            (begun, more) => {
                let (_, mut held) = begun.unwrap_or_default();
                held.extend_from_slice(part);
                if !more {
                    return Ok(LinkInbound::Message { kind, body: Cow::Owned(held) });
                }
                self.assembly = Some((kind, held));
                Ok(LinkInbound::Fragment)
            }
        }
    }

    fn send(&mut self, kind: Type, flags: u8, message: u16, parts: &[&[u8]], out: &mut Vec<u8>) {
        let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert!(body_bytes <= FRAGMENT_BYTES_MAX, "the caller sends longer messages in parts");
        let [message0, message1] = message.to_le_bytes();
        let inner_header = [kind as u8, flags, message0, message1];
        self.send_sealed(&inner_header, parts, body_bytes, out);
    }

    fn send_sealed(
        &mut self,
        inner_header: &[u8; INNER_HEADER_BYTES],
        parts: &[&[u8]],
        body_bytes: usize,
        out: &mut Vec<u8>,
    ) {
        let length = HEADER_BYTES + INNER_HEADER_BYTES + body_bytes + TAG_BYTES;
        out.reserve(length);
        let header = FrameHeader { length, kind: FrameKind::Sealed, version: 0 };
        out.extend_from_slice(&header.to_bytes());
        let inner_start = out.len();
        out.extend_from_slice(inner_header);
        for part in parts {
            out.extend_from_slice(part);
        }
        let tag = self.seal.seal(&mut out[inner_start..]);
        out.extend_from_slice(&tag);
    }

    /// Seals whatever it is given, as a holder of the key with bad intentions would.
    #[cfg(test)]
    pub(super) fn send_raw(&mut self, inner: &[u8], out: &mut Vec<u8>) {
        let (header, body) = inner.split_first_chunk().expect("an inner header");
        self.send_sealed(header, &[body], body.len(), out);
    }
}

impl core::fmt::Debug for LinkSession {
    /// Says nothing of its keys.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LinkSession").field("opened", &self.opened).finish_non_exhaustive()
    }
}

/// What is in a sealed frame.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Type {
    Open = 0,
    Message = 1,
    Ping = 2,
    Pong = 3,
    Close = 4,
}

impl Type {
    fn from_byte(code: u8) -> Option<Self> {
        let all = [Self::Open, Self::Message, Self::Ping, Self::Pong, Self::Close];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

fn whole_u64(body: &[u8]) -> Result<u64, FrameError> {
    body.try_into().map(u64::from_le_bytes).map_err(|_| FrameError::Malformed)
}

/// The message goes on in the next frame.
const FLAG_MORE: u8 = 1;
