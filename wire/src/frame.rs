//! Frames: an 8-byte header, a body, and the limits of each kind.
//!
//! ```text
//!  0        2      3         4       6             8
//!  | length | kind | version | flags | correlation | body … | [XXH32, clear mode only]
//! ```

/// Longest frame of the terminal protocol, in bytes, with everything.
pub const FRAME_BYTES_MAX: usize = 512;
/// Length of every header, in bytes.
pub const HEADER_BYTES: usize = 8;
/// Length of the tag that ends a sealed frame, in bytes.
pub const TAG_BYTES: usize = 16;
/// Length of the checksum that ends a message in clear mode, in bytes.
pub const TRAILER_BYTES: usize = 4;
/// What sealing adds to a message's own header and body, in bytes.
pub const SEALING_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// Longest reply as a frame, sealed, in bytes.
pub const REPLY_BYTES_MAX: usize = HEADER_BYTES + Kind::CataloguePage.body_bytes().1 + SEALING_BYTES;
/// Longest request as a frame, sealed, in bytes.
pub const REQUEST_BYTES_MAX: usize = HEADER_BYTES + Kind::Login.body_bytes().1 + SEALING_BYTES;
/// Lowest protocol version understood.
pub const VERSION_MIN: u8 = 1;
/// Highest protocol version understood.
pub const VERSION_MAX: u8 = 1;
/// The version in the header of frames that belong to the connection: their layout never changes.
pub const VERSION_CONNECTION: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Opens a connection; carries the first handshake message.
    Hello = 0x01,
    /// The seller's handshake message.
    Handshake = 0x02,
    /// Asks for a pong.
    Ping = 0x03,
    /// Answers a ping.
    Pong = 0x04,
    /// The sender closes the connection in good order.
    Bye = 0x05,
    /// The sender closes the connection because of what it received.
    Error = 0x06,
    /// An encrypted message.
    Sealed = 0x0f,
    /// [`crate::message::Request::Login`].
    Login = 0x10,
    /// [`crate::message::Request::Catalogue`].
    Catalogue = 0x11,
    /// [`crate::message::Request::Vend`].
    Vend = 0x12,
    /// [`crate::message::Request::Confirm`].
    Confirm = 0x13,
    /// [`crate::message::Request::Void`].
    Void = 0x14,
    /// [`crate::message::Request::Status`].
    Status = 0x15,
    /// [`crate::message::Request::Reprint`].
    Reprint = 0x16,
    /// [`crate::message::Request::Settle`].
    Settle = 0x17,
    /// [`crate::message::Reply::Welcome`].
    Welcome = 0x20,
    /// [`crate::message::Reply::Resolved`].
    Resolved = 0x21,
    /// [`crate::message::Reply::Catalogue`].
    CataloguePage = 0x22,
    /// [`crate::message::Reply::Sold`].
    Sold = 0x23,
    /// [`crate::message::Reply::Declined`].
    Declined = 0x24,
    /// [`crate::message::Reply::Later`].
    Later = 0x25,
    /// [`crate::message::Reply::Refused`].
    Refused = 0x26,
    /// [`crate::message::Reply::State`].
    State = 0x27,
    /// [`crate::message::Reply::Settled`].
    Settled = 0x28,
}

crate::message::coded! {
    Kind {
        Hello, Handshake, Ping, Pong, Bye, Error, Sealed, Login, Catalogue, Vend, Confirm, Void, Status, Reprint,
        Settle, Welcome, Resolved, CataloguePage, Sold, Declined, Later, Refused, State, Settled
    }
}

/// Who says a kind of frame, and in what form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Clear and without trailer, from either side: belongs to the TCP connection.
    Connection,
    /// Holds one request or reply, encrypted.
    Sealed,
    /// Terminal to seller.
    Request,
    /// Seller to terminal.
    Reply,
}

impl Kind {
    /// Who says it, and in what form.
    #[must_use]
    pub const fn class(self) -> Class {
        match self as u8 {
            0x01..=0x06 => Class::Connection,
            0x0f => Class::Sealed,
            0x10..=0x1f => Class::Request,
            _ => Class::Reply,
        }
    }

    /// The least and the most bytes that a body may have; between header and trailer or tag.
    #[must_use]
    pub const fn body_bytes(self) -> (usize, usize) {
        match self {
            Self::Hello => (64, 64),
            Self::Handshake => (48, 48),
            Self::Ping | Self::Pong => (0, 0),
            Self::Bye => (8, 8 + 4 * 18),
            Self::Error => (4, 4),
            Self::Sealed => (HEADER_BYTES + TAG_BYTES, FRAME_BYTES_MAX - HEADER_BYTES),
            Self::Login => (4, 4 + 16 * 12),
            Self::Catalogue => (2, 2),
            Self::Vend => (33, 33),
            Self::Confirm | Self::Void | Self::Status | Self::Reprint => (8, 8),
            Self::Settle => (16, 16),
            Self::Welcome => (40, 40 + 4 * 18),
            Self::Resolved => (4, 4 + 16 * 24),
            Self::CataloguePage => (12, 12 + 2 * (20 + 40 + 160)),
            Self::Sold => (24, 24 + 26 + 20),
            Self::Declined | Self::Refused => (9, 9),
            Self::Later => (21, 21),
            Self::State => (17, 17),
            Self::Settled => (24, 24 + 102),
        }
    }
}

/// Why bytes are not a frame. Always the peer's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A length, code, count or reserved byte that no valid frame has.
    #[error("malformed frame")]
    Malformed,
    /// Longer than its kind allows.
    #[error("frame too large")]
    TooLarge,
    /// A version outside [`VERSION_MIN`]..=[`VERSION_MAX`].
    #[error("unknown version")]
    Version,
    /// A kind that does not exist or does not belong here.
    #[error("unknown or unexpected kind of frame")]
    Kind,
    /// A flag that does not exist.
    #[error("unknown flag")]
    Flags,
    /// The trailer does not match header and body.
    #[error("wrong checksum")]
    Checksum,
}

/// The header of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Of the whole frame with header and trailer, in bytes.
    pub length: usize,
    /// What the frame is.
    pub kind: Kind,
    /// The version of its layout; 0 in a sealed frame's outer header.
    pub version: u8,
    /// Chosen by the asker, echoed in the answer.
    pub correlation: u16,
}

impl Header {
    /// Reads the header of the frame at the front of `bytes`; `None` while the frame is incomplete.
    ///
    /// Requests and replies must have room for `trailer` more bytes after their body. What can be judged is judged
    /// before the frame is complete, so that a bad frame cannot hold a connection by never ending.
    ///
    /// # Errors
    /// Every [`FrameError`] but `Checksum`.
    pub fn parse(bytes: &[u8], trailer: usize) -> Result<Option<Self>, FrameError> {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*length));
        if length < HEADER_BYTES {
            return Err(FrameError::Malformed);
        }
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        let Some((&[kind, version], rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let sealed = kind == Kind::Sealed as u8;
        if sealed && version != 0 {
            return Err(FrameError::Malformed);
        }
        if !sealed && !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(FrameError::Version);
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind)?;
        let (least, most) = kind.body_bytes();
        let around = match kind.class() {
            Class::Request | Class::Reply => HEADER_BYTES + trailer,
            Class::Connection | Class::Sealed => HEADER_BYTES,
        };
        if length < least + around {
            return Err(FrameError::Malformed);
        }
        if length > most + around {
            return Err(FrameError::TooLarge);
        }
        let Some((flags, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        if *flags != [0, 0] {
            return Err(FrameError::Flags);
        }
        let Some((correlation, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let correlation = u16::from_le_bytes(*correlation);
        if sealed && correlation != 0 {
            return Err(FrameError::Malformed);
        }
        if bytes.len() < length {
            return Ok(None);
        }
        Ok(Some(Self { length, kind, version, correlation }))
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [l0, l1] =
            u16::try_from(self.length).expect("no frame is longer than FRAME_BYTES_MAX").to_le_bytes();
        let [c0, c1] = self.correlation.to_le_bytes();
        [l0, l1, self.kind as u8, self.version, 0, 0, c0, c1]
    }
}

const _: () = assert!(REPLY_BYTES_MAX <= FRAME_BYTES_MAX && REQUEST_BYTES_MAX <= FRAME_BYTES_MAX);
