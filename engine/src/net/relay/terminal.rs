//! One terminal's connection at a relay: its socket, and how far it has come.

use super::pool::Pool;
use crate::limits::{IDLE_MS_MAX, LINGER_MS_MAX, LOGIN_MS_MAX, RELAY_UNREAD_BYTES_MAX, STALL_MS_MAX};
use crate::net::reading::{Received, read_once};
use mio::net::TcpStream;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr};

/// A connection. Idle, it holds no buffer.
pub(super) struct Terminal {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) phase: Phase,
    /// Received and not taken in yet: part of a frame, or a hello that waits.
    pub(super) input: Vec<u8>,
    /// What the socket did not take: `output[sent..]`.
    output: Vec<u8>,
    sent: usize,
    /// The socket may have more to read.
    pub(super) readable: bool,
    /// The terminal will send no more: what is there is to be read up to its end.
    pub(super) ended: bool,
    /// It stands in a list of connections to read.
    pub(super) listed: bool,
    /// A server has answered it on this connection: it does not count among those that nobody knows.
    pub(super) is_known: bool,
    /// When this phase began.
    pub(super) since_ms: u64,
    /// When something was heard last.
    pub(super) heard_ms: u64,
    /// Since when it takes nothing of what waits for it.
    stalled_since_ms: Option<u64>,
    /// The time that its timer is set for.
    pub(super) armed_ms: u64,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its first hello is due.
    Fresh,
    /// Its hello is at the front of the input and waits for the server.
    Waiting,
    /// Its session is carried.
    Carried(Carriage),
    /// It was told to say hello again, by then.
    Renewing {
        /// In monotonic milliseconds.
        by_ms: u64,
    },
    /// Last words are on their way; what comes is thrown away.
    Closing,
}

/// A session on its way between a terminal and a worker.
#[derive(Debug)]
pub(super) struct Carriage {
    /// The worker.
    pub(super) line: usize,
    /// The session's number on the connection with it.
    pub(super) session: u32,
    /// Messages that have no answer yet.
    pub(super) owed: u32,
    replies: FrameCount,
    /// Handshake and welcome, which answer no message.
    greetings: u8,
}

/// What a terminal's socket made of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    /// They are sent, or will be.
    Taken,
    /// The terminal reads too little: the connection has to go.
    TooMuch,
    /// The connection is gone.
    Gone,
}

impl Terminal {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, now_ms: u64) -> Self {
        Self {
            stream,
            address,
            phase: Phase::Fresh,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            readable: true,
            ended: false,
            listed: false,
            is_known: false,
            since_ms: now_ms,
            heard_ms: now_ms,
            stalled_since_ms: None,
            armed_ms: 0,
        }
    }

    /// When it has to be looked at, if nothing happens before.
    pub(super) fn due_ms(&self) -> u64 {
        let due_ms = match &self.phase {
            Phase::Fresh => self.since_ms + LOGIN_MS_MAX,
            // The queue it stands in looks after it.
            Phase::Waiting => u64::MAX,
            Phase::Carried(carriage) if !carriage.is_answered() => self.since_ms + LOGIN_MS_MAX,
            Phase::Carried(_) => self.heard_ms + IDLE_MS_MAX,
            Phase::Renewing { by_ms } => *by_ms,
            Phase::Closing => self.since_ms + LINGER_MS_MAX,
        };
        due_ms.min(self.stalled_since_ms.map_or(u64::MAX, |since_ms| since_ms + STALL_MS_MAX))
    }

    /// Whether it has taken nothing for too long.
    pub(super) fn is_stalled(&self, now_ms: u64) -> bool {
        self.stalled_since_ms.is_some_and(|since_ms| now_ms >= since_ms + STALL_MS_MAX)
    }

    /// Whether bytes wait for it.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Sends bytes, or keeps what the socket does not take.
    pub(super) fn put(&mut self, bytes: &[u8], pool: &mut Pool, now_ms: u64) -> Put {
        let mut rest = bytes;
        while !self.has_unsent() && !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Put::Gone,
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Put::Gone,
            }
        }
        if rest.is_empty() {
            return Put::Taken;
        }
        if self.output.len() - self.sent + rest.len() > RELAY_UNREAD_BYTES_MAX {
            return Put::TooMuch;
        }
        if self.output.capacity() == 0 {
            self.output = pool.take();
        }
        self.stalled_since_ms.get_or_insert(now_ms);
        self.output.extend_from_slice(rest);
        Put::Taken
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, pool: &mut Pool, now_ms: u64) -> Put {
        while self.has_unsent() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Put::Gone,
                Ok(sent) => {
                    self.sent += sent;
                    self.stalled_since_ms = Some(now_ms);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Put::Taken,
                Err(_) => return Put::Gone,
            }
        }
        self.stalled_since_ms = None;
        self.sent = 0;
        pool.give(std::mem::take(&mut self.output));
        Put::Taken
    }

    /// Says that nothing follows, once everything has gone.
    pub(super) fn shut(&mut self) {
        if !self.has_unsent() {
            // The terminal may have closed first: then there is nothing to shut.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Received {
        read_once(&mut self.stream, &mut self.readable, self.ended, buffer)
    }

    /// Gives its buffers back.
    pub(super) fn give_back(&mut self, pool: &mut Pool) {
        pool.give(std::mem::take(&mut self.input));
        pool.give(std::mem::take(&mut self.output));
        self.sent = 0;
    }
}

impl Carriage {
    pub(super) fn new(line: usize, session: u32) -> Self {
        Self { line, session, owed: 0, replies: FrameCount::default(), greetings: 0 }
    }

    /// Whether the server has said anything.
    pub(super) fn is_answered(&self) -> bool {
        self.greetings > 0 || self.replies.is_within()
    }

    /// Whether the handshake is done, and the welcome said.
    pub(super) fn is_up(&self) -> bool {
        self.greetings >= GREETINGS
    }

    /// Counts what comes from the server; how many messages it answers.
    pub(super) fn count_replies(&mut self, bytes: &[u8]) -> u32 {
        let frames = self.replies.feed(bytes);
        let greetings = frames.min(u32::from(GREETINGS - self.greetings));
        self.greetings += greetings as u8;
        let answered = (frames - greetings).min(self.owed);
        self.owed -= answered;
        answered
    }
}

/// Counts the frames of a stream that comes in pieces cut anywhere.
#[derive(Default, Debug)]
struct FrameCount {
    /// Bytes that the frame in hand still lacks, once its length is known.
    left: u16,
    /// The first byte of a length whose second is still to come.
    low: Option<u8>,
}

impl FrameCount {
    /// How many frames end in these bytes.
    fn feed(&mut self, bytes: &[u8]) -> u32 {
        let (mut at, mut whole) = (0, 0);
        while at < bytes.len() {
            if self.left > 0 {
                let step = usize::from(self.left).min(bytes.len() - at);
                at += step;
                self.left -= step as u16;
                whole += u32::from(self.left == 0);
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match self.low.take() {
                None => self.low = Some(byte),
                // A frame is at least a header; what is shorter the terminal will refuse.
                Some(low) => self.left = u16::from_le_bytes([low, byte]).max(8) - 2,
            }
        }
        whole
    }

    /// Whether a frame has begun and not ended.
    fn is_within(&self) -> bool {
        self.left > 0 || self.low.is_some()
    }
}

const GREETINGS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        for length in [56_u16, 80, 8, 300, 511, 24] {
            let at = stream.len();
            stream.resize(at + usize::from(length), 0xff);
            stream[at..at + 2].copy_from_slice(&length.to_le_bytes());
        }
        for piece in [1, 2, 3, 7, 55, 57, stream.len()] {
            let mut count = FrameCount::default();
            let whole: u32 = stream.chunks(piece).map(|bytes| count.feed(bytes)).sum();
            assert_eq!((whole, count.is_within()), (6, false), "in pieces of {piece}");
        }
    }

    #[test]
    fn handshake_and_welcome_answer_no_message() {
        let frame = |length: u8| [&[length, 0][..], &vec![0; usize::from(length) - 2]].concat();
        let mut carriage = Carriage::new(0, 1);
        assert!(!carriage.is_answered());
        assert_eq!(carriage.count_replies(&frame(56)[..3]), 0);
        assert!(carriage.is_answered() && !carriage.is_up());
        carriage.owed = 3;
        assert_eq!(carriage.count_replies(&frame(56)[3..]), 0);
        assert_eq!(carriage.count_replies(&[frame(80), frame(30), frame(30)].concat()), 2);
        assert!(carriage.is_up());
        assert_eq!(carriage.owed, 1);
    }
}
