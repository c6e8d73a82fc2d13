//! Both ends of a session between a terminal and its seller, as state machines without I/O.
//!
//! ```text
//!   terminal                                   seller
//!   TerminalHandshake::start ──hello────────►  Acceptor::hello, look up the key, Acceptor::accept
//!   TerminalHandshake::receive ◄──handshake──
//!   TerminalSession::receive ◄──welcome──────  SellerSession::send
//!   TerminalSession::send ──login, vend──────► SellerSession::receive
//! ```
//!
//! To drive a machine: append what the socket yields to a buffer, call `receive` with the buffer until it returns
//! `None` (incomplete) and drop what each call consumed. After an error the session is over: send the error frame
//! for [`SessionError::code`] and close.

mod seller;
mod terminal;
mod transport;

pub use self::seller::{AcceptError, Acceptor, Hello, Inbound, SellerSession};
pub use self::terminal::{HandshakeInbound, TerminalHandshake, TerminalInbound, TerminalSession};

use crate::control::ErrorCode;
use crate::frame::{FrameError, HEADER_BYTES, Kind};

/// Length of a hello frame, in bytes.
pub const HELLO_BYTES: usize = HEADER_BYTES + Kind::Hello.body_bytes().1;
/// Length of the seller's handshake frame, in bytes.
pub const HANDSHAKE_BYTES: usize = HEADER_BYTES + Kind::Handshake.body_bytes().1;
/// Front part of a hello frame that both ends put under the handshake as its prologue, in bytes.
pub(crate) const PROLOGUE_BYTES: usize = 24;

/// The primitives of handshake and session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Suite {
    /// X25519, AES-256-GCM, SHA-256.
    AesGcm = 1,
    /// X25519, ChaCha20-Poly1305, SHA-256.
    ChaChaPoly = 2,
}

impl Suite {
    /// The full name of the Noise protocol.
    #[must_use]
    pub fn noise_name(self) -> &'static str {
        match self {
            Self::AesGcm => "Noise_NNpsk0_25519_AESGCM_SHA256",
            Self::ChaChaPoly => "Noise_NNpsk0_25519_ChaChaPoly_SHA256",
        }
    }
}

/// What happens to messages after the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Mode {
    /// They are encrypted.
    Sealed = 0,
    /// They are sent in clear with a checksum: only where the listener allows it.
    Clear = 1,
}

crate::message::coded! {
    Suite { AesGcm, ChaChaPoly }
    Mode { Sealed, Clear }
}

/// Why a session is over. Always the peer's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    /// Bytes that are no frame, or a frame that does not belong here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A sealed frame that does not open: altered, replayed, out of order or under another key.
    #[error("sealed frame does not open")]
    Unsealing,
    /// Not the message that has to come first, or one that comes only once.
    #[error("message out of order")]
    OutOfOrder,
    /// The peer does not know the terminal's key.
    #[error("authentication failed")]
    Authentication,
    /// A suite that this end does not have.
    #[error("unknown suite")]
    Suite,
    /// Clear mode where it is not allowed.
    #[error("clear mode is not allowed")]
    Mode,
}

impl SessionError {
    /// The code to send before closing.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.into(),
            Self::Unsealing => ErrorCode::Unsealing,
            Self::OutOfOrder => ErrorCode::OutOfOrder,
            Self::Authentication => ErrorCode::Authentication,
            Self::Suite => ErrorCode::Suite,
            Self::Mode => ErrorCode::Mode,
        }
    }
}

impl From<FrameError> for ErrorCode {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Malformed => Self::Malformed,
            FrameError::TooLarge => Self::TooLarge,
            FrameError::Version => Self::Version,
            FrameError::Kind => Self::Kind,
            FrameError::Flags => Self::Flags,
            FrameError::Checksum => Self::Checksum,
        }
    }
}
