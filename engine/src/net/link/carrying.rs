//! A sealed connection that carries terminals' sessions, for either end: batches in, batches out.

use super::LinkOptions;
use super::fault::Fault;
use super::pipe::Pipe;
use crate::link::CarriedBatch;
use mio::net::TcpStream;
use wire::link::{LinkError, LinkInbound, LinkSession, encode_link_error};

/// One connection after its handshake.
pub(in crate::net) struct CarryingLine {
    pipe: Pipe,
    session: LinkSession,
    /// What this end says next.
    batch: CarriedBatch,
    /// There may be something to take in.
    is_ready: bool,
    heard_ms: u64,
    ping_at_ms: u64,
    pings: u64,
    options: LinkOptions,
}

impl CarryingLine {
    /// A connection whose handshake is over. This end's open is on its way.
    pub(in crate::net) fn new(
        mut pipe: Pipe,
        mut session: LinkSession,
        options: LinkOptions,
        now_ms: u64,
    ) -> Self {
        session.send_open(pipe.output());
        let ping_at_ms = now_ms + options.ping_ms;
        let batch = CarriedBatch::default();
        Self { pipe, session, batch, is_ready: true, heard_ms: now_ms, ping_at_ms, pings: 0, options }
    }

    /// What polling found.
    pub(in crate::net) fn handle_event(&mut self, readable: bool, writable: bool) {
        self.pipe.readable |= readable;
        self.is_ready |= readable;
        self.pipe.writable |= writable;
    }

    /// Whether there may be something to take in.
    pub(in crate::net) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Bytes that the system has not taken, and those that are not sealed yet.
    pub(in crate::net) fn unsent(&self) -> usize {
        self.pipe.unsent() + self.batch.len()
    }

    /// What this end says next.
    pub(in crate::net) fn batch(&mut self) -> &mut CarriedBatch {
        &mut self.batch
    }

    /// Says something that is no batch.
    pub(in crate::net) fn send(&mut self, kind: u16, body: &[u8]) {
        self.session.send_message(kind, false, &[body], self.pipe.output());
    }

    /// Takes in one message, with the bytes that have come; `None` when there is none for now. Shows kind and body to `take`.
    ///
    /// # Errors
    /// [`Fault`]: the connection is over.
    pub(in crate::net) fn receive<T>(
        &mut self,
        now_ms: u64,
        mut take: impl FnMut(u16, &[u8]) -> T,
    ) -> Result<Option<T>, Fault> {
        loop {
            let Some((length, inbound)) = self.session.receive(self.pipe.unread())? else {
                if self.pipe.read()? == 0 {
                    self.is_ready = false;
                    return Ok(None);
                }
                self.heard_ms = now_ms;
                continue;
            };
            let mut taken = None;
            let mut pong = None;
            match inbound {
                LinkInbound::Message { kind, body } => taken = Some(take(kind, &body)),
                LinkInbound::Ping { number } => pong = Some(number),
                LinkInbound::Open | LinkInbound::Fragment | LinkInbound::Pong { .. } => {}
                LinkInbound::Close { why } => return Err(Fault::Said(why.to_owned())),
            }
            self.pipe.consume(length);
            if let Some(number) = pong {
                if self.pipe.unsent() > PONGS_BYTES_MAX {
                    return Err(Fault::Full(self.pipe.unsent()));
                }
                self.session.send_pong(number, self.pipe.output());
            }
            if taken.is_some() {
                return Ok(taken);
            }
        }
    }

    /// Seals the batch and writes what the system takes.
    ///
    /// # Errors
    /// [`Fault`]: the connection is over.
    pub(in crate::net) fn flush(&mut self, now_ms: u64) -> Result<(), Fault> {
        let Self { pipe, session, batch, .. } = self;
        if !batch.is_empty() {
            let output = pipe.output();
            batch.messages(|body| session.send_message(CarriedBatch::KIND, false, &[body], output));
        }
        if pipe.unsent() > self.options.outbound_bytes_max {
            return Err(Fault::Full(pipe.unsent()));
        }
        while pipe.write(usize::MAX, now_ms)? > 0 {}
        Ok(())
    }

    /// Pings, and sees whether the other end is alive. `is_read`: whether this end reads what comes.
    ///
    /// # Errors
    /// [`Fault`]: it is not.
    pub(in crate::net) fn tick(&mut self, now_ms: u64, is_read: bool) -> Result<(), Fault> {
        let LinkOptions { silence_ms, ping_ms, .. } = self.options;
        if !is_read {
            self.heard_ms = now_ms;
        }
        if now_ms >= self.heard_ms + silence_ms {
            return Err(Fault::Silent(silence_ms));
        }
        if self.pipe.blocked_since_ms().is_some_and(|since_ms| now_ms >= since_ms + silence_ms) {
            return Err(Fault::Stalled(silence_ms));
        }
        if now_ms >= self.ping_at_ms {
            self.ping_at_ms = now_ms + ping_ms;
            self.pings += 1;
            self.session.send_ping(self.pings, self.pipe.output());
        }
        self.flush(now_ms)
    }

    /// Says why, as far as there is room to say it. Keep the stream a moment, so that it arrives.
    pub(in crate::net) fn end(mut self, fault: &Fault, now_ms: u64) -> Option<TcpStream> {
        let code = match fault {
            Fault::Closed | Fault::Io(_) | Fault::Refused(_) | Fault::Said(_) => return None,
            Fault::Protocol(error) => error.code(),
            Fault::Message(_) => LinkError::Frame(wire::frame::FrameError::Malformed).code(),
            _ => None,
        };
        match code {
            Some(code) => self.pipe.output().extend_from_slice(&encode_link_error(code)),
            None => self.session.send_close(&fault.to_string(), self.pipe.output()),
        }
        self.pipe.finish(now_ms)
    }
}

/// Bytes that wait beyond which no more pings are answered: the other end asks without listening.
const PONGS_BYTES_MAX: usize = 1 << 20;
