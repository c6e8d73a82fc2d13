//! One terminal's connection: bytes in, bytes out, and how far it has come.

use super::reading::{Received, read_once};
use super::seats::Seat;
use crate::ids::TerminalId;
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use wire::session::SellerSession;

/// How a session's bytes come and go.
pub(super) enum Line {
    /// Over a connection of its own, which has a seat.
    Socket(TcpStream, #[expect(dead_code, reason = "it is held, and free when this is dropped")] Seat),
    /// Carried, on a manager's connection under this number.
    Carried {
        /// The key of the connection.
        carrier: u64,
        /// The session's number on it.
        number: u32,
    },
}

/// A terminal's session.
pub(super) struct Session {
    line: Line,
    pub(super) wire: SellerSession,
    pub(super) dealer: u32,
    pub(super) phase: Phase,
    /// Received and not taken in yet: part of a frame, or frames that had to wait.
    pub(super) input: Vec<u8>,
    /// May leave, and has not: `output[sent..]`.
    output: Vec<u8>,
    sent: usize,
    /// Bytes in the outbox.
    pub(super) waiting_bytes: usize,
    /// The socket may have more to read.
    pub(super) readable: bool,
    /// The terminal will send no more: what is there is to be read up to its end.
    pub(super) ended: bool,
    /// It stands in the worker's list of sessions to read.
    pub(super) listed: bool,
    /// When something was heard last, or this phase began; in [`crate::time::Now::monotonic_ms`].
    pub(super) heard_ms: u64,
    /// Since when the terminal takes nothing.
    pub(super) stalled_since_ms: Option<u64>,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The welcome is sent; the login has not come.
    Welcomed,
    /// The terminal is certainly there.
    LoggedIn,
    /// Last words are on their way; what comes is thrown away.
    Closing,
}

impl Session {
    pub(super) fn new(line: Line, wire: SellerSession, input: Vec<u8>, now_ms: u64) -> Self {
        Self {
            readable: matches!(line, Line::Socket(..)),
            line,
            wire,
            dealer: 0,
            phase: Phase::Welcomed,
            input,
            output: Vec::new(),
            sent: 0,
            waiting_bytes: 0,
            ended: false,
            listed: false,
            heard_ms: now_ms,
            stalled_since_ms: None,
        }
    }

    pub(super) fn terminal(&self) -> TerminalId {
        self.wire.terminal()
    }

    /// The connection that carries it, and its number there; `None`: it has a connection of its own.
    pub(super) fn carrier(&self) -> Option<(u64, u32)> {
        match self.line {
            Line::Socket(..) => None,
            Line::Carried { carrier, number } => Some((carrier, number)),
        }
    }

    /// Hands over what may leave, of a carried session.
    pub(super) fn take_output(&mut self, put: impl FnOnce(&[u8])) {
        put(&self.output[self.sent..]);
        self.output.clear();
        self.sent = 0;
    }

    /// Adds bytes that may leave.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Whether bytes wait for the terminal to take them.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Gives back what a silent session can do without.
    pub(super) fn rest(&mut self) {
        self.wire.rest();
        if !self.has_unsent() {
            self.output = Vec::new();
            self.sent = 0;
        }
        self.input.shrink_to_fit();
    }

    /// Gives back what the last burst needed: it must not stay for the life of a session, because there are many.
    pub(super) fn shrink(&mut self) {
        self.output.shrink_to(BUFFER_KEPT_BYTES);
        self.input.shrink_to(BUFFER_KEPT_BYTES);
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Received {
        let Line::Socket(stream, _) = &mut self.line else { return Received::Nothing };
        read_once(stream, &mut self.readable, self.ended, buffer)
    }

    /// Writes as much as the terminal takes now, on a connection of its own.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn flush(&mut self, now_ms: u64) -> io::Result<()> {
        let Line::Socket(stream, _) = &mut self.line else { return Ok(()) };
        while self.sent < self.output.len() {
            match stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.sent += bytes;
                    self.stalled_since_ms = None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stalled_since_ms.get_or_insert(now_ms);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.stalled_since_ms = None;
        self.output.clear();
        self.sent = 0;
        if self.phase == Phase::Closing {
            // The terminal may have closed first: then there is nothing to shut.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// How much buffer a session keeps between its sales, for each direction.
const BUFFER_KEPT_BYTES: usize = 1024;
