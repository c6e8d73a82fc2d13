//! What both ends share after the handshake: frames to inner form and back, in either mode.

use crate::cipher::Cipher;
use crate::codec::{add_trailer, check_trailer};
use crate::control::{Control, decode_control};
use crate::frame::{Class, FrameError, HEADER_BYTES, Header, Kind, TRAILER_BYTES, VERSION_MAX};
use crate::session::{Mode, SessionError, Suite};

/// The messages' protection.
pub(super) enum Transport {
    Sealed { seal: Cipher, open: Cipher },
    Clear,
}

/// One frame as it came.
pub(super) enum Opened<'a> {
    /// A request or a reply: its kind, its correlation and its body.
    Message(Kind, u16, &'a [u8]),
    Control(Control),
}

impl Transport {
    pub(super) fn new(mode: Mode, suite: Suite, seal: &[u8; 32], open: &[u8; 32]) -> Self {
        match mode {
            Mode::Sealed => Self::Sealed { seal: Cipher::new(suite, seal), open: Cipher::new(suite, open) },
            Mode::Clear => Self::Clear,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::Sealed { .. } => Mode::Sealed,
            Self::Clear => Mode::Clear,
        }
    }

    pub(super) fn rest(&mut self) {
        if let Self::Sealed { seal, open } = self {
            seal.rest();
            open.rest();
        }
    }

    /// Takes the frame at the front of `bytes`, decrypting in place; returns its length too.
    pub(super) fn open<'a>(
        &mut self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(usize, Opened<'a>)>, SessionError> {
        let trailer = match self {
            Self::Sealed { .. } => 0,
            Self::Clear => TRAILER_BYTES,
        };
        let Some(header) = Header::parse(bytes, trailer)? else { return Ok(None) };
        let frame = &mut bytes[..header.length];
        let opened = match (header.kind.class(), self) {
            (Class::Connection, _) => match header.kind {
                Kind::Hello | Kind::Handshake => return Err(SessionError::OutOfOrder),
                _ => Opened::Control(decode_control(&header, &frame[HEADER_BYTES..])?),
            },
            (Class::Sealed, Self::Sealed { open, .. }) => {
                let inner = open.open(&mut frame[HEADER_BYTES..]).map_err(|_| SessionError::Unsealing)?;
                let message = Header::parse(inner, 0)?.filter(|message| message.length == inner.len());
                let message = message.ok_or(FrameError::Malformed)?;
                Opened::Message(message.kind, message.correlation, &inner[HEADER_BYTES..])
            }
            (Class::Request | Class::Reply, Self::Clear) => {
                Opened::Message(header.kind, header.correlation, check_trailer(frame)?)
            }
            (Class::Sealed | Class::Request | Class::Reply, _) => return Err(FrameError::Kind.into()),
        };
        Ok(Some((header.length, opened)))
    }

    /// Writes one frame to the front of `out`; `encode` writes the inner form and returns its length.
    pub(super) fn send(&mut self, out: &mut [u8], encode: impl FnOnce(&mut [u8]) -> usize) -> usize {
        match self {
            Self::Sealed { seal, .. } => {
                let inner_end = HEADER_BYTES + encode(&mut out[HEADER_BYTES..]);
                let tag = seal.seal(&mut out[HEADER_BYTES..inner_end]);
                let length = inner_end + tag.len();
                out[inner_end..length].copy_from_slice(&tag);
                let header = Header { length, kind: Kind::Sealed, version: 0, correlation: 0 };
                out[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
                length
            }
            Self::Clear => {
                let inner_bytes = encode(out);
                add_trailer(inner_bytes, out)
            }
        }
    }
}

const _: () = assert!(
    VERSION_MAX == 1,
    "with a second version the session must hold every message to the one it chose"
);
