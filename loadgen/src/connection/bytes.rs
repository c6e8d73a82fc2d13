//! A connection's bytes: handshake, frames in and out, and its end.

use super::{Connection, Phase};
use crate::check::Wrong;
use crate::desk::Desk;
use crate::sales::correlation_of;
use crate::words::{bye_word, error_word, io_word};
use std::io::{self, Read as _, Write as _};
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, ErrorNotice, encode_error, encode_pong};
use wire::frame::{FRAME_BYTES_MAX, REQUEST_BYTES_MAX};
use wire::message::{Reply, Request};
use wire::session::{HELLO_BYTES, HandshakeInbound, SessionError, TerminalHandshake, TerminalInbound};

impl Connection {
    /// Gives the socket what was put; what it does not take goes when it is ready.
    pub(super) fn flush(&mut self, desk: &mut Desk, now_ns: u64) {
        if self.output.is_empty() {
            return;
        }
        let Some(stream) = &mut self.stream else { return };
        let mut written = 0;
        while written < self.output.len() {
            match stream.write(&self.output[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fall(io_word(&error), desk, now_ns),
            }
        }
        self.output.drain(..written);
        self.sent_ns = now_ns;
    }

    pub(super) fn begin_handshake(&mut self, desk: &mut Desk, now_ns: u64) -> bool {
        let Some(stream) = &self.stream else { return false };
        let connected = match stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => stream.peer_addr(),
        };
        match connected {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return false,
            Err(error) => {
                self.fall(io_word(&error), desk, now_ns);
                return false;
            }
            Ok(_) => {}
        }
        // Without it the run is slower, and the figures show it.
        let _ = stream.set_nodelay(true);
        let mut random = [0; 32];
        if getrandom::fill(&mut random).is_err() {
            self.fall("no randomness", desk, now_ns);
            return false;
        }
        let terminal = desk.terminal(self.terminal);
        let mut hello = [0; HELLO_BYTES];
        let (suite, mode) = desk.protection();
        let (handshake, length) = TerminalHandshake::start(
            terminal.id,
            terminal.key_epoch,
            suite,
            mode,
            &terminal.key,
            &random,
            &mut hello,
        );
        self.output.extend_from_slice(&hello[..length]);
        self.phase = Phase::Handshaking(Box::new(handshake));
        self.flush(desk, now_ns);
        !matches!(self.phase, Phase::Down { .. })
    }

    pub(super) fn read(&mut self, desk: &mut Desk) {
        let mut buffer = std::mem::take(&mut desk.buffer);
        loop {
            let held = self.input.len();
            buffer[..held].copy_from_slice(&self.input);
            self.input.clear();
            let Some(stream) = &mut self.stream else { break };
            let read = stream.read(&mut buffer[held..]);
            let now_ns = desk.now_ns();
            match read {
                Ok(0) => {
                    self.fall("closed by the seller", desk, now_ns);
                    break;
                }
                Ok(bytes) => {
                    let end = held + bytes;
                    let taken = self.take_frames(&mut buffer[..end], desk, now_ns);
                    if self.stream.is_none() {
                        break;
                    }
                    self.input.extend_from_slice(&buffer[taken..end]);
                    if end < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.input.extend_from_slice(&buffer[..held]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.input.extend_from_slice(&buffer[..held]);
                    break;
                }
                Err(error) => {
                    self.fall(io_word(&error), desk, now_ns);
                    break;
                }
            }
        }
        desk.buffer = buffer;
    }

    /// Takes whole frames from the front of `bytes`; returns how many bytes it took.
    fn take_frames(&mut self, bytes: &mut [u8], desk: &mut Desk, now_ns: u64) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let taken = match &mut self.phase {
                Phase::Handshaking(handshake) => match handshake.receive(&bytes[at..]) {
                    Ok(None) => break,
                    Ok(Some((length, answer))) => {
                        self.take_answer(answer, desk, now_ns);
                        Ok(length)
                    }
                    Err(error) => Err(error),
                },
                Phase::Open(session) => match session.receive(&mut bytes[at..]) {
                    Ok(None) => break,
                    Ok(Some((length, inbound))) => {
                        self.take_inbound(&inbound, desk, now_ns);
                        Ok(length)
                    }
                    Err(error) => Err(error),
                },
                _ => break,
            };
            match taken {
                Ok(length) => at += length,
                Err(error) => {
                    self.fault(error, desk, now_ns);
                    break;
                }
            }
        }
        at
    }

    fn take_answer(&mut self, answer: HandshakeInbound, desk: &mut Desk, now_ns: u64) {
        match answer {
            HandshakeInbound::Session(session) => {
                self.phase = Phase::Open(Box::new(session));
                (self.welcomed, self.since_ns) = (false, now_ns);
            }
            HandshakeInbound::Bye(bye) => self.sent_away(&bye, desk, now_ns),
            HandshakeInbound::Error(notice) => self.refused(notice, desk, now_ns),
        }
    }

    fn take_inbound(&mut self, inbound: &TerminalInbound, desk: &mut Desk, now_ns: u64) {
        match inbound {
            TerminalInbound::Reply { reply: Reply::Welcome(welcome), .. } => {
                self.take_welcome(welcome, desk, now_ns);
            }
            TerminalInbound::Reply { reply: Reply::Resolved(resolved), .. } => {
                self.take_resolved(resolved.list(), desk);
            }
            TerminalInbound::Reply { reply: Reply::Settled(settled), .. } => {
                self.take_settled(settled, desk, now_ns);
            }
            TerminalInbound::Reply { correlation, reply } => {
                let meaning = self.sales.handle_reply(*correlation, reply, now_ns);
                self.take_meaning(&meaning, desk, now_ns);
            }
            TerminalInbound::Ping { correlation } => {
                let mut pong = [0; CONTROL_BYTES_MAX];
                let length = encode_pong(*correlation, &mut pong);
                self.output.extend_from_slice(&pong[..length]);
            }
            TerminalInbound::Pong { .. } => {}
            TerminalInbound::Bye(bye) => self.sent_away(bye, desk, now_ns),
            TerminalInbound::Error(notice) => self.refused(*notice, desk, now_ns),
        }
    }

    /// The seller ends the connection in good order, or only the session on it.
    fn sent_away(&mut self, bye: &Bye, desk: &mut Desk, now_ns: u64) {
        if bye.reason == ByeReason::Renew {
            return self.renew(bye.wait_ms, desk, now_ns);
        }
        self.fall(bye_word(bye.reason), desk, now_ns);
        if let Phase::Down { retry_ns } = &mut self.phase {
            *retry_ns = (*retry_ns).max(now_ns + u64::from(bye.wait_ms) * 1_000_000);
        }
    }

    /// The session is over and the connection stays: everything goes on after a new hello on it, drawn from the wait to twice
    /// that.
    fn renew(&mut self, wait_ms: u32, desk: &mut Desk, now_ns: u64) {
        let mut dice = [0; 4];
        // Behind a frame that has gone in part only a hello would not be one.
        if !self.output.is_empty() || getrandom::fill(&mut dice).is_err() {
            return self.fall("bye: renew", desk, now_ns);
        }
        desk.interval.counts.renewals += 1;
        let wait_ms = u64::from(wait_ms);
        let more_ms = (wait_ms * u64::from(u32::from_le_bytes(dice))) >> 32;
        self.phase = Phase::Renewing { hello_ns: now_ns + (wait_ms + more_ms) * 1_000_000 };
        (self.welcomed, self.since_ns) = (false, now_ns);
        // Whatever was asked will be asked again.
        self.questions.ask_again();
    }

    /// The seller ends the connection because of what it received.
    fn refused(&mut self, notice: ErrorNotice, desk: &mut Desk, now_ns: u64) {
        self.fall(error_word(notice.code), desk, now_ns);
        let hopeless = [ErrorCode::Authentication, ErrorCode::Version, ErrorCode::Suite, ErrorCode::Mode];
        if hopeless.contains(&notice.code) {
            self.phase = Phase::Refused;
        }
    }

    pub(super) fn put(&mut self, request: &Request) {
        let Phase::Open(session) = &mut self.phase else { return };
        let correlation = match request {
            Request::Vend(vend) => correlation_of(vend.sequence),
            Request::Confirm { sequence }
            | Request::Void { sequence }
            | Request::Status { sequence }
            | Request::Reprint { sequence } => correlation_of(*sequence),
            Request::Login(_) | Request::Catalogue { .. } | Request::Settle(_) => 0,
        };
        let at = self.output.len();
        self.output.resize(at + REQUEST_BYTES_MAX, 0);
        let length = session.send(correlation, request, &mut self.output[at..]);
        self.output.truncate(at + length);
    }

    /// The seller sent what it must not: tell it and connect again.
    fn fault(&mut self, error: SessionError, desk: &mut Desk, now_ns: u64) {
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_error(error.code(), &mut frame);
        if let Some(stream) = &mut self.stream {
            // The connection ends anyway.
            let _ = stream.write(&frame[..length]);
        }
        desk.findings.add(Wrong::Misplaced, || format!("the seller breaks the protocol: {error}"));
        self.fall("protocol broken", desk, now_ns);
    }

    /// The connection is gone: connect again after a while.
    pub(super) fn fall(&mut self, why: &'static str, desk: &mut Desk, now_ns: u64) {
        let counts = &mut desk.interval.counts;
        match self.phase {
            Phase::Open(_) if self.welcomed => counts.connections_lost.add(why),
            _ => counts.connects_failed.add(why),
        }
        let (least_ms, most_ms) =
            self.welcome.map_or((200, 10_000), |welcome| (welcome.back_off_min_ms, welcome.back_off_max_ms));
        // It doubles with each round through the addresses.
        let rounds = self.attempts / u32::try_from(self.addresses(desk).len()).unwrap_or(1);
        let doubled = u64::from(least_ms) << rounds.min(10);
        let wait_ms = doubled.min(u64::from(most_ms.max(least_ms)));
        let part = u64::from(self.terminal).wrapping_mul(0x9e37_79b9) % 512;
        self.attempts += 1;
        self.phase = Phase::Down { retry_ns: now_ns + wait_ms * 1_000_000 * (1024 + part) / 1024 };
        self.stream = None;
        self.input.clear();
        self.output.clear();
        // Whatever was asked will be asked again.
        self.questions.ask_again();
    }
}

/// Room for what was left of the frame before and for a long read.
pub(crate) const BUFFER_BYTES: usize = FRAME_BYTES_MAX + (64 << 10);
