//! One TCP connection with its buffers: bytes in, bytes out, without blocking.

use super::fault::Fault;
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use zeroize::Zeroizing;

pub(in crate::net) struct Pipe {
    stream: TcpStream,
    /// What was read and not consumed is `start..end`. It holds opened messages for a while, and those may hold keys.
    input: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    /// What was not written yet begins at `sent`.
    output: Vec<u8>,
    sent: usize,
    /// There may be something to read.
    pub(in crate::net) readable: bool,
    /// There may be room to write.
    pub(in crate::net) writable: bool,
    /// Since when the system takes nothing, though there is something to write.
    blocked_since_ms: Option<u64>,
}

impl Pipe {
    pub(in crate::net) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Zeroizing::default(),
            start: 0,
            end: 0,
            output: Vec::new(),
            sent: 0,
            readable: true,
            writable: true,
            blocked_since_ms: None,
        }
    }

    pub(in crate::net) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// What was read and not consumed yet.
    pub(in crate::net) fn unread(&mut self) -> &mut [u8] {
        &mut self.input[self.start..self.end]
    }

    pub(in crate::net) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
    }

    /// Reads once; how many bytes came, 0 when there is nothing for now.
    pub(in crate::net) fn read(&mut self) -> Result<usize, Fault> {
        if !self.readable {
            return Ok(0);
        }
        self.make_room();
        loop {
            match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(0);
                }
                Err(error) if is_closed(error.kind()) => return Err(Fault::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where to append what is to be written.
    pub(in crate::net) fn output(&mut self) -> &mut Vec<u8> {
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
        &mut self.output
    }

    /// Bytes that wait to be written.
    pub(in crate::net) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Writes at most `bytes_max` of what waits; how many bytes went, 0 when the system takes nothing for now.
    pub(in crate::net) fn write(&mut self, bytes_max: usize, now_ms: u64) -> Result<usize, Fault> {
        let end = self.output.len().min(self.sent.saturating_add(bytes_max));
        if !self.writable || self.sent == end {
            return Ok(0);
        }
        loop {
            match self.stream.write(&self.output[self.sent..end]) {
                Ok(bytes) => {
                    self.sent += bytes;
                    self.blocked_since_ms = None;
                    return Ok(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.blocked_since_ms.get_or_insert(now_ms);
                    return Ok(0);
                }
                Err(error) if is_closed(error.kind()) => return Err(Fault::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Since when the system has taken nothing, in monotonic milliseconds; `None` when it takes what there is.
    pub(in crate::net) fn blocked_since_ms(&self) -> Option<u64> {
        self.blocked_since_ms
    }

    /// Tries to get rid of what waits, and says that no more will come. Keep the stream a moment: unread bytes would
    /// reset the connection and take the last words with them.
    pub(in crate::net) fn finish(mut self, now_ms: u64) -> Option<TcpStream> {
        // More would be read here only to be thrown away, but for the sake of those words.
        self.start = 0;
        self.end = 0;
        let _ = self.read();
        self.write(usize::MAX, now_ms).ok()?;
        self.stream.shutdown(Shutdown::Write).ok()?;
        Some(self.stream)
    }

    /// Makes room for more input: what is left moves to the front, and a buffer that the last read filled grows.
    fn make_room(&mut self) {
        let was_filled = self.end == self.input.len();
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if was_filled && self.input.len() < INPUT_BYTES_MAX {
            let length = (self.input.len() * 2).clamp(INPUT_BYTES_MIN, INPUT_BYTES_MAX);
            let mut larger = Zeroizing::new(vec![0; length]);
            larger[..self.end].copy_from_slice(&self.input[..self.end]);
            self.input = larger;
        }
        assert!(self.end < self.input.len(), "no frame is longer than the buffer");
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}

/// A connection that was never busy has a buffer of this size.
const INPUT_BYTES_MIN: usize = 4 * 1024;
/// The buffer of a busy one: some frames of the longest.
const INPUT_BYTES_MAX: usize = 256 * 1024;
