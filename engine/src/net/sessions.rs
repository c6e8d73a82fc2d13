//! The sessions of one worker, and its replies on their way to them.

use super::meddler::Meddler;
use super::outbox::Outbox;
use super::session::{Phase, Session};
use super::slots::Slots;
use super::stats::{Stats, count, uncount};
use crate::ids::TerminalId;
use crate::seller::{ABROAD, Asker, Replies};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye, encode_error};
use wire::message::{Addresses, Reply};

/// Sessions by key; a key names one session for ever.
pub(super) struct Sessions<M> {
    slots: Slots<Session>,
    by_terminal: HashMap<TerminalId, u64>,
    pub(super) outbox: Outbox,
    /// Sessions that have something to send.
    touched: Vec<u64>,
    /// Sessions that may have something to read.
    ready: VecDeque<u64>,
    /// Replies to terminals of other sellers, under the sessions that stand for their questions.
    pub(super) abroad: VecDeque<(u64, Reply)>,
    stats: Arc<Stats>,
    pub(super) meddler: M,
}

impl<M> Sessions<M> {
    pub(super) fn new(stats: Arc<Stats>, meddler: M) -> Self {
        Self {
            slots: Slots::default(),
            by_terminal: HashMap::new(),
            outbox: Outbox::default(),
            touched: Vec::new(),
            ready: VecDeque::new(),
            abroad: VecDeque::new(),
            stats,
            meddler,
        }
    }

    /// The slot that the next session gets: what its socket is registered under.
    pub(super) fn next_slot(&mut self) -> usize {
        self.slots.next_slot()
    }

    /// Puts a session into [`Sessions::next_slot`].
    pub(super) fn insert(&mut self, session: Session) -> u64 {
        self.slots.insert(session)
    }

    pub(super) fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.slots.get_mut(key)
    }

    /// The key of the session in a slot, if there is one.
    pub(super) fn key_at(&self, at: usize) -> Option<u64> {
        self.slots.key_at(at)
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.slots()
    }

    /// Whether there is no session.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.count() == 0
    }

    /// Ends a session and its connection.
    pub(super) fn remove(&mut self, key: u64) {
        self.leave(key);
        self.slots.remove(key);
    }

    /// The session's first sealed frame has opened; returns the terminal's earlier session, if it had one.
    pub(super) fn log_in(&mut self, key: u64) -> Option<u64> {
        let session = self.session(key)?;
        session.phase = Phase::LoggedIn;
        let terminal = session.terminal();
        count(&self.stats.logins);
        count(&self.stats.sessions);
        self.by_terminal.insert(terminal, key)
    }

    /// Sends a session away in good order. What it asked for is no longer of interest.
    pub(super) fn dismiss(&mut self, key: u64, reason: ByeReason, wait_ms: u32, now_ms: u64) {
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_bye(&Bye { reason, wait_ms, addresses: Addresses::default() }, &mut frame);
        self.last_words(key, &frame[..length], now_ms);
    }

    /// Ends a session because of what the terminal did.
    pub(super) fn fault(&mut self, key: u64, code: ErrorCode, now_ms: u64) {
        count(&self.stats.faults);
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_error(code, &mut frame);
        self.last_words(key, &frame[..length], now_ms);
    }

    fn last_words(&mut self, key: u64, frame: &[u8], now_ms: u64) {
        self.leave(key);
        let Some(session) = self.session(key).filter(|session| session.phase != Phase::Closing) else {
            return;
        };
        session.put(frame);
        session.phase = Phase::Closing;
        session.heard_ms = now_ms;
        self.touched.push(key);
    }

    fn leave(&mut self, key: u64) {
        let Some(session) = self.session(key) else { return };
        if session.phase != Phase::LoggedIn {
            return;
        }
        let terminal = session.terminal();
        uncount(&self.stats.sessions);
        if self.by_terminal.get(&terminal) == Some(&key) {
            self.by_terminal.remove(&terminal);
        }
    }

    /// Notes that a session may have something to read.
    pub(super) fn list(&mut self, key: u64) {
        if let Some(session) = self.session(key)
            && !session.listed
        {
            session.listed = true;
            self.ready.push_back(key);
        }
    }

    /// The next session that may have something to read.
    pub(super) fn poll_ready(&mut self) -> Option<u64> {
        let key = self.ready.pop_front()?;
        if let Some(session) = self.session(key) {
            session.listed = false;
        }
        Some(key)
    }

    /// How many sessions may have something to read.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Notes that a session has something to send.
    pub(super) fn touch(&mut self, key: u64) {
        self.touched.push(key);
    }

    /// The next session that has something to send.
    pub(super) fn poll_touched(&mut self) -> Option<u64> {
        self.touched.pop()
    }

    /// Encodes a reply; it leaves when its records are durable.
    pub(super) fn send(&mut self, key: u64, correlation: u16, reply: &Reply) {
        let session = self.slots.get_mut(key).filter(|session| session.phase != Phase::Closing);
        let Some(session) = session else { return };
        self.stats.count_reply(reply);
        session.waiting_bytes += self.outbox.push(key, |out| session.wire.send(correlation, reply, out));
    }

    /// Moves what may leave to its sessions.
    pub(super) fn release(&mut self, durable: u64) {
        let Self { slots, outbox, touched, .. } = self;
        outbox.release(durable, |key, bytes| {
            if let Some(session) = slots.get_mut(key) {
                session.waiting_bytes -= bytes.len();
                // After the last words nothing is said.
                if session.phase != Phase::Closing {
                    session.put(bytes);
                    touched.push(key);
                }
            }
        });
    }
}

impl<M: Meddler> Replies for Sessions<M> {
    fn reply(&mut self, asker: &Asker, reply: &Reply) {
        if asker.session >= ABROAD {
            return self.abroad.push_back((asker.session, reply.clone()));
        }
        match self.meddler.reply(asker, reply) {
            None => self.send(asker.session, asker.correlation, reply),
            Some(instead) => {
                for (asker, reply) in instead {
                    self.send(asker.session, asker.correlation, &reply);
                }
            }
        }
    }
}
