//! Frames that belong to the TCP connection: ping, pong, bye and error.
//!
//! They are clear and anyone on the path can forge them, so they mean only "alive" or "connect again" and never
//! answer a request.

use crate::codec::{Reader, Writer, read_addresses, write_addresses};
use crate::frame::{FrameError, HEADER_BYTES, Header, Kind, VERSION_CONNECTION, VERSION_MAX, VERSION_MIN};
use crate::message::{Addresses, coded};
use alloc::boxed::Box;

/// Room for any frame of this module, in bytes.
pub const CONTROL_BYTES_MAX: usize = HEADER_BYTES + Kind::Bye.body_bytes().1;

/// The sender closes the connection in good order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bye {
    /// Why.
    pub reason: ByeReason,
    /// Connect again no sooner than this, in milliseconds.
    pub wait_ms: u32,
    /// Where to connect instead; empty: the same address.
    pub addresses: Addresses,
}

/// Why a connection ends in good order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ByeReason {
    /// The sender has nothing more to say.
    Done = 1,
    /// The seller is stopping.
    Stopping = 2,
    /// Nothing was received for too long.
    Idle = 3,
    /// The same terminal connected again.
    Replaced = 4,
    /// Another address serves this terminal.
    Redirect = 5,
    /// The seller has too many connections.
    Busy = 6,
    /// The session is over and the connection stays: hello again, on it or on another.
    Renew = 7,
}

/// What was wrong with what the sender of an error received; it closes the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ErrorCode {
    /// A length, code, count or reserved byte that no valid frame has.
    Malformed = 1,
    /// Longer than its kind allows.
    TooLarge = 2,
    /// No common version.
    Version = 3,
    /// A kind that does not exist or does not belong here.
    Kind = 4,
    /// A flag that does not exist.
    Flags = 5,
    /// Wrong checksum.
    Checksum = 6,
    /// Unknown terminal, unknown key epoch or wrong key.
    Authentication = 7,
    /// A suite that the seller does not have.
    Suite = 8,
    /// Clear mode where it is not allowed.
    Mode = 9,
    /// A sealed frame that does not open: altered, replayed, out of order or under another key.
    Unsealing = 10,
    /// No login first, a second login, or a hello inside a session.
    OutOfOrder = 11,
    /// What had to come did not come in time.
    Timeout = 12,
    /// More requests in flight or unread replies than are allowed.
    Limit = 13,
}

coded! {
    ByeReason { Done, Stopping, Idle, Replaced, Redirect, Busy, Renew }
    ErrorCode {
        Malformed, TooLarge, Version, Kind, Flags, Checksum, Authentication, Suite, Mode, Unsealing, OutOfOrder,
        Timeout, Limit
    }
}

/// An error frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorNotice {
    /// What was wrong.
    pub code: ErrorCode,
    /// The lowest version the sender understands.
    pub version_min: u8,
    /// The highest version the sender understands.
    pub version_max: u8,
}

/// A frame that belongs to the connection, but not to the handshake. A bye is boxed because it is rare, and larger than a
/// request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// Asks for a pong with this correlation.
    Ping {
        /// Chosen by the sender.
        correlation: u16,
    },
    /// Answers a ping.
    Pong {
        /// The ping's.
        correlation: u16,
    },
    /// The peer closes the connection in good order.
    Bye(Box<Bye>),
    /// The peer closes the connection because of what it received.
    Error(ErrorNotice),
}

/// Writes a ping to the front of `out` and returns its length in bytes.
///
/// # Panics
/// If `out` is shorter than [`CONTROL_BYTES_MAX`].
pub fn encode_ping(correlation: u16, out: &mut [u8]) -> usize {
    finish(Kind::Ping, correlation, 0, out)
}

/// Writes a pong to the front of `out` and returns its length in bytes.
///
/// # Panics
/// If `out` is shorter than [`CONTROL_BYTES_MAX`].
pub fn encode_pong(correlation: u16, out: &mut [u8]) -> usize {
    finish(Kind::Pong, correlation, 0, out)
}

/// Writes a bye to the front of `out` and returns its length in bytes.
///
/// # Panics
/// If `out` is shorter than [`CONTROL_BYTES_MAX`].
pub fn encode_bye(bye: &Bye, out: &mut [u8]) -> usize {
    let mut body = Writer::new(&mut out[HEADER_BYTES..]);
    let count = bye.addresses.entries().len();
    body.bytes(&[bye.reason as u8, u8::try_from(count).expect("at most ADDRESSES_MAX"), 0, 0]);
    body.u32(bye.wait_ms);
    write_addresses(&mut body, &bye.addresses);
    let length = body.length();
    finish(Kind::Bye, 0, length, out)
}

/// Writes an error with this crate's range of versions to the front of `out` and returns its length in bytes.
///
/// # Panics
/// If `out` is shorter than [`CONTROL_BYTES_MAX`].
pub fn encode_error(code: ErrorCode, out: &mut [u8]) -> usize {
    out[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&[code as u8, VERSION_MIN, VERSION_MAX, 0]);
    finish(Kind::Error, 0, 4, out)
}

fn finish(kind: Kind, correlation: u16, body_bytes: usize, out: &mut [u8]) -> usize {
    let length = HEADER_BYTES + body_bytes;
    let header = Header { length, kind, version: VERSION_CONNECTION, correlation };
    out[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    length
}

/// Reads one complete ping, pong, bye or error.
///
/// # Errors
/// `Kind` for every other kind, `Malformed`.
pub fn decode_control(header: &Header, body: &[u8]) -> Result<Control, FrameError> {
    if header.version != VERSION_CONNECTION {
        return Err(FrameError::Version);
    }
    let correlation = header.correlation;
    let mut reader = Reader::new(body);
    let control = match header.kind {
        Kind::Ping => Control::Ping { correlation },
        Kind::Pong => Control::Pong { correlation },
        Kind::Bye => {
            let reason = reader.coded(ByeReason::from_byte)?;
            let count = reader.u8()?;
            reader.zeros(2)?;
            let wait_ms = reader.u32()?;
            let addresses = read_addresses(&mut reader, count)?;
            Control::Bye(Box::new(Bye { reason, wait_ms, addresses }))
        }
        Kind::Error => {
            let code = reader.coded(ErrorCode::from_byte)?;
            let (version_min, version_max) = (reader.u8()?, reader.u8()?);
            reader.zeros(1)?;
            Control::Error(ErrorNotice { code, version_min, version_max })
        }
        _ => return Err(FrameError::Kind),
    };
    reader.end()?;
    Ok(control)
}
