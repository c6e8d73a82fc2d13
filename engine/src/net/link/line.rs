//! One sealed connection of a link: messages in, messages out.

use super::fault::Fault;
use super::pipe::Pipe;
use super::{LinkOptions, pacing::Bucket};
use crate::link::{Channel, Encoded, LinkMessage};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use wire::link::{FRAGMENT_BYTES_MAX, LinkError, LinkInbound, LinkSession, encode_link_error};
use zeroize::Zeroizing;

pub(super) struct Line {
    channel: Channel,
    pipe: Pipe,
    session: LinkSession,
    /// Not sealed yet. Of the first, `begun` bytes are.
    queue: VecDeque<Encoded>,
    begun: usize,
    queued_bytes: usize,
    heard_ms: u64,
    ping_at_ms: u64,
    pings: u64,
    options: LinkOptions,
}

impl Line {
    pub(super) fn new(
        channel: Channel,
        pipe: Pipe,
        session: LinkSession,
        options: LinkOptions,
        now_ms: u64,
    ) -> Self {
        Self {
            channel,
            pipe,
            session,
            queue: VecDeque::new(),
            begun: 0,
            queued_bytes: 0,
            heard_ms: now_ms,
            ping_at_ms: now_ms + options.ping_ms,
            pings: 0,
            options,
        }
    }

    pub(super) fn pipe(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    /// Says that the link is up for this end.
    pub(super) fn open(&mut self) {
        self.session.send_open(self.pipe.output());
    }

    pub(super) fn push(&mut self, message: Encoded) -> Result<(), Fault> {
        // One message always fits, however long: it is what is behind it that the other end does not take.
        if self.queued_bytes > self.options.outbound_bytes_max {
            return Err(Fault::Full(self.queued_bytes));
        }
        self.queued_bytes += message.len() + MESSAGE_BYTES;
        self.queue.push_back(message);
        Ok(())
    }

    /// Takes in what came, about `bytes_max` bytes of it, until `take` says that it is enough; whether there may be more.
    pub(super) fn receive<M: LinkMessage>(
        &mut self,
        bytes_max: usize,
        now_ms: u64,
        mut take: impl FnMut(M) -> ControlFlow<()>,
    ) -> Result<bool, Fault> {
        let mut left = bytes_max;
        loop {
            while let Some((length, inbound)) = self.session.receive(self.pipe.unread())? {
                let mut flow = ControlFlow::Continue(());
                let mut pong = None;
                match inbound {
                    LinkInbound::Message { kind, body } => {
                        let message = M::decode(kind, own(body))?;
                        if message.channel() != self.channel {
                            return Err(Fault::Channel);
                        }
                        flow = take(message);
                    }
                    LinkInbound::Ping { number } => pong = Some(number),
                    LinkInbound::Fragment | LinkInbound::Pong { .. } => {}
                    LinkInbound::Close { why } => return Err(Fault::Said(why.to_owned())),
                    LinkInbound::Open => return Err(LinkError::OutOfOrder.into()),
                }
                self.pipe.consume(length);
                if let Some(number) = pong {
                    self.answer_ping(number)?;
                }
                if flow.is_break() {
                    return Ok(false);
                }
            }
            if left == 0 {
                return Ok(true);
            }
            match self.pipe.read()? {
                0 => return Ok(false),
                bytes => {
                    self.heard_ms = now_ms;
                    left = left.saturating_sub(bytes);
                }
            }
        }
    }

    /// Seals and sends what waits, about `bytes_max` bytes of it and not more than `bucket` has; whether there may be more
    /// to send at once.
    pub(super) fn flush(
        &mut self,
        bytes_max: usize,
        now_ms: u64,
        mut bucket: Option<&mut Bucket>,
    ) -> Result<bool, Fault> {
        let mut left = bytes_max;
        while self.pipe.writable {
            self.seal();
            let allowed = bucket.as_mut().map_or(usize::MAX, |bucket| bucket.available(now_ms));
            let sent = self.pipe.write(left.min(allowed), now_ms)?;
            if let Some(bucket) = &mut bucket {
                bucket.spend(sent);
            }
            left = left.saturating_sub(sent);
            if sent == 0 || left == 0 {
                return Ok(left == 0 && self.has_unsent());
            }
        }
        Ok(false)
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.pipe.unsent() > 0 || !self.queue.is_empty()
    }

    /// Pings, and sees whether the other end is alive. `is_read`: whether this end reads what comes.
    pub(super) fn tick(&mut self, now_ms: u64, is_read: bool) -> Result<(), Fault> {
        let LinkOptions { silence_ms, ping_ms, .. } = self.options;
        if is_read && now_ms >= self.heard_ms + silence_ms {
            return Err(Fault::Silent(silence_ms));
        }
        if !is_read {
            self.heard_ms = now_ms;
        }
        if self.pipe.blocked_since_ms().is_some_and(|since_ms| now_ms >= since_ms + silence_ms) {
            return Err(Fault::Stalled(silence_ms));
        }
        if now_ms >= self.ping_at_ms {
            self.ping_at_ms = now_ms + ping_ms;
            // What waits already says as much as a ping would.
            if self.pipe.unsent() == 0 {
                self.pings += 1;
                self.session.send_ping(self.pings, self.pipe.output());
            }
        }
        Ok(())
    }

    /// Says why, as far as there is room to say it, and gives the connection up.
    pub(super) fn end(mut self, fault: &Fault) -> Pipe {
        match fault {
            Fault::Protocol(error) => {
                if let Some(code) = error.code() {
                    self.pipe.output().extend_from_slice(&encode_link_error(code));
                }
            }
            Fault::Closed | Fault::Io(_) | Fault::Refused(_) | Fault::Said(_) => {}
            Fault::Ours(why) => {
                // What was said before it may be the reason. What is long may never go.
                if self.channel == Channel::Control {
                    self.seal();
                }
                self.session.send_close(why, self.pipe.output());
            }
            _ => self.session.send_close(&fault.to_string(), self.pipe.output()),
        }
        self.pipe
    }

    fn answer_ping(&mut self, number: u64) -> Result<(), Fault> {
        if self.pipe.unsent() > SEALED_BYTES_MAX {
            return Err(Fault::Full(self.pipe.unsent()));
        }
        self.session.send_pong(number, self.pipe.output());
        Ok(())
    }

    /// Seals as much as is worth one write, once what was sealed before has gone.
    fn seal(&mut self) {
        while self.pipe.unsent() < WRITE_BYTES
            && let Some(message) = self.queue.front()
        {
            let Encoded { kind, head, tail } = message;
            let head_left = &head[self.begun.min(head.len())..];
            let part = head_left.len().min(FRAGMENT_BYTES_MAX);
            let tail_begun = self.begun.saturating_sub(head.len());
            let tail_end = tail.len().min(tail_begun + FRAGMENT_BYTES_MAX - part);
            let parts = [&head_left[..part], &tail[tail_begun..tail_end]];
            let end = self.begun + parts[0].len() + parts[1].len();
            let more = end < message.len();
            self.session.send_message(*kind, more, &parts, self.pipe.output());
            if more {
                self.begun = end;
            } else {
                self.begun = 0;
                self.queued_bytes -= message.len() + MESSAGE_BYTES;
                self.queue.pop_front();
            }
        }
    }
}

/// A body on its own. One that came in parts may be a registry, with keys in it.
fn own(body: Cow<'_, [u8]>) -> Bytes {
    match body {
        Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        Cow::Owned(bytes) => Bytes::from_owner(Zeroizing::new(bytes)),
    }
}

/// What is sealed before it is written.
const WRITE_BYTES: usize = 128 * 1024;
/// Sealed bytes beyond which no more pings are answered: the other end asks without listening.
const SEALED_BYTES_MAX: usize = 1 << 20;
/// What a message costs in memory beside its bytes.
const MESSAGE_BYTES: usize = 64;
