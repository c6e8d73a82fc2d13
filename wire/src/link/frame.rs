//! Frames of a link: the terminal protocol's header with longer frames and kinds of their own.
//!
//! ```text
//!  0        2      3         4       6          8
//!  | length | kind | version | flags | zero     | body …
//! ```
//! The kinds are disjoint from the terminal protocol's, but for the error frame, which is the same: who calls at the wrong
//! port understands the answer.

use crate::codec::Reader;
use crate::control::{ErrorCode, ErrorNotice};
use crate::frame::{FrameError, HEADER_BYTES, Kind, TAG_BYTES};

/// Longest frame of a link, in bytes, with everything.
pub const LINK_FRAME_BYTES_MAX: usize = u16::MAX as usize;
/// Length of a link's hello, in bytes.
pub const HELLO_BYTES: usize = 80;
/// Length of the hub's handshake frame, in bytes.
pub const HANDSHAKE_BYTES: usize = HEADER_BYTES + crate::noise::NOISE_MESSAGE_BYTES;
/// Length of an error frame, in bytes.
pub const ERROR_BYTES: usize = HEADER_BYTES + Kind::Error.body_bytes().1;
/// Length of the header inside a sealed frame, in bytes.
pub(super) const INNER_HEADER_BYTES: usize = 4;
/// Most bytes of a message in one frame.
pub const FRAGMENT_BYTES_MAX: usize = LINK_FRAME_BYTES_MAX - HEADER_BYTES - INNER_HEADER_BYTES - TAG_BYTES;
/// Lowest version of the link protocol understood.
pub const VERSION_MIN: u8 = 1;
/// Highest version of the link protocol understood. From [`VERSION_OTHERS`] on a manager may say where else its terminals may
/// connect; nothing else differs.
pub const VERSION_MAX: u8 = VERSION_OTHERS;
/// The version in which the message of a manager's other addresses came.
pub const VERSION_OTHERS: u8 = 2;
/// In the header of frames that come before a version is agreed: their layout never changes.
pub(super) const VERSION_CONNECTION: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum FrameKind {
    /// The terminal protocol's error frame.
    Error = Kind::Error as u8,
    /// Opens a connection; carries the first handshake message.
    Hello = 0x41,
    /// The hub's handshake message.
    Handshake = 0x42,
    /// Everything else, encrypted.
    Sealed = 0x4f,
}

impl FrameKind {
    fn from_byte(code: u8) -> Option<Self> {
        [Self::Error, Self::Hello, Self::Handshake, Self::Sealed].into_iter().find(|kind| *kind as u8 == code)
    }

    /// The least and the most bytes of a whole frame.
    const fn bytes(self) -> (usize, usize) {
        match self {
            Self::Error => (ERROR_BYTES, ERROR_BYTES),
            Self::Hello => (HELLO_BYTES, HELLO_BYTES),
            Self::Handshake => (HANDSHAKE_BYTES, HANDSHAKE_BYTES),
            Self::Sealed => (HEADER_BYTES + INNER_HEADER_BYTES + TAG_BYTES, LINK_FRAME_BYTES_MAX),
        }
    }
}

/// The header of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    /// Of the whole frame, in bytes.
    pub(super) length: usize,
    pub(super) kind: FrameKind,
    /// 0 in a sealed frame, the agreed one in a handshake, otherwise [`VERSION_CONNECTION`].
    pub(super) version: u8,
}

impl FrameHeader {
    /// Reads the header of the frame at the front of `bytes`; `None` while the frame is incomplete. What can be judged is
    /// judged before the frame is complete, so that a bad one cannot hold a connection by never ending.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*length));
        if length < HEADER_BYTES {
            return Err(FrameError::Malformed);
        }
        let Some((&[kind], rest)) = rest.split_first_chunk::<1>() else { return Ok(None) };
        let kind = FrameKind::from_byte(kind).ok_or(FrameError::Kind)?;
        let (least, most) = kind.bytes();
        if length < least {
            return Err(FrameError::Malformed);
        }
        if length > most {
            return Err(FrameError::TooLarge);
        }
        let Some((&[version], rest)) = rest.split_first_chunk::<1>() else { return Ok(None) };
        let versions = match kind {
            FrameKind::Sealed => 0..=0,
            FrameKind::Handshake => VERSION_MIN..=VERSION_MAX,
            FrameKind::Hello | FrameKind::Error => VERSION_CONNECTION..=VERSION_CONNECTION,
        };
        if !versions.contains(&version) {
            return Err(FrameError::Version);
        }
        let Some((flags, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        if *flags != [0, 0] {
            return Err(FrameError::Flags);
        }
        let Some((zero, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        if *zero != [0, 0] {
            return Err(FrameError::Malformed);
        }
        Ok((bytes.len() >= length).then_some(Self { length, kind, version }))
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [l0, l1] =
            u16::try_from(self.length).expect("no frame is longer than LINK_FRAME_BYTES_MAX").to_le_bytes();
        [l0, l1, self.kind as u8, self.version, 0, 0, 0, 0]
    }
}

/// An error frame with the link protocol's range of versions.
#[must_use]
pub fn encode_link_error(code: ErrorCode) -> [u8; ERROR_BYTES] {
    let header = FrameHeader { length: ERROR_BYTES, kind: FrameKind::Error, version: VERSION_CONNECTION };
    let mut frame = [0; ERROR_BYTES];
    frame[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    frame[HEADER_BYTES..].copy_from_slice(&[code as u8, VERSION_MIN, VERSION_MAX, 0]);
    frame
}

/// Reads the body of an error frame.
pub(super) fn read_error(body: &[u8]) -> Result<ErrorNotice, FrameError> {
    let mut reader = Reader::new(body);
    let code = reader.coded(ErrorCode::from_byte)?;
    let (version_min, version_max) = (reader.u8()?, reader.u8()?);
    reader.zeros(1)?;
    reader.end()?;
    Ok(ErrorNotice { code, version_min, version_max })
}
