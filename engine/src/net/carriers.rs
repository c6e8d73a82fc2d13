//! The connections of host connection managers to one worker, and which of its sessions each carries.

use super::link::{CarryingArrival, CarryingLine, Fault, LinkOptions};
use super::slots::Slots;
use crate::ids::SellerId;
use crate::limits::{CARRIED_SESSIONS_MAX, CARRIER_UNSENT_BYTES_MAX};
use crate::link::Carrying;
use mio::event::Event;
use std::collections::HashMap;
use std::net::SocketAddr;
use wire::message::Addresses;

/// Managers' connections by key; a key names one connection for ever.
#[derive(Default)]
pub(super) struct Carriers {
    slots: Slots<Carrier>,
    /// Those that have something to send.
    touched: Vec<u64>,
}

/// One manager's connection.
pub(super) struct Carrier {
    pub(super) line: CarryingLine,
    pub(super) manager: SellerId,
    pub(super) address: SocketAddr,
    /// Where else its terminals may connect.
    pub(super) others: Addresses,
    /// Its sessions that are not over.
    sessions: HashMap<u32, Place>,
    /// The number of the last one that was opened.
    last: Option<u32>,
    is_touched: bool,
}

/// How far a carried session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The front works out its handshake.
    Shaking,
    /// The worker's session with this key.
    Session(u64),
}

/// Why a session is not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotOpened {
    /// Its number was used before: the connection ends.
    Number,
    /// There are too many.
    Busy,
}

impl Carriers {
    /// The slot that the next connection gets: what its socket is registered under.
    pub(super) fn next_slot(&mut self) -> usize {
        self.slots.next_slot()
    }

    /// Puts a connection into [`Carriers::next_slot`] and says to its manager who this is.
    pub(super) fn insert(&mut self, arrival: Box<CarryingArrival>, carrying: Carrying, now_ms: u64) -> u64 {
        let CarryingArrival { pipe, session, said, address } = *arrival;
        let mut line = CarryingLine::new(pipe, session, LinkOptions::default(), now_ms);
        line.send(Carrying::KIND, &carrying.encode());
        let (manager, sessions) = (said.node, HashMap::new());
        let others = Addresses::default();
        let carrier = Carrier { line, manager, address, others, sessions, last: None, is_touched: false };
        let key = self.slots.insert(carrier);
        self.touch(key);
        key
    }

    pub(super) fn get(&mut self, key: u64) -> Option<&mut Carrier> {
        self.slots.get_mut(key)
    }

    /// The key of the connection in a slot, if there is one.
    pub(super) fn key_at(&self, at: usize) -> Option<u64> {
        self.slots.key_at(at)
    }

    /// The key of a manager's connection, if it has one.
    pub(super) fn of_manager(&self, manager: SellerId) -> Option<u64> {
        self.slots.iter().find(|(_, carrier)| carrier.manager == manager).map(|(key, _)| key)
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.slots()
    }

    /// What polling found of the connection in a slot.
    pub(super) fn handle_event(&mut self, at: usize, event: &Event) {
        let Some(key) = self.key_at(at) else { return };
        if let Some(carrier) = self.get(key) {
            let is_readable = event.is_readable() || event.is_read_closed() || event.is_error();
            carrier.line.handle_event(is_readable, event.is_writable() || event.is_error());
            if carrier.line.unsent() > 0 {
                self.touch(key);
            }
        }
    }

    /// Whether one has something to take in, and may.
    pub(super) fn is_pressing(&self) -> bool {
        self.slots.iter().any(|(_, carrier)| carrier.line.is_ready() && carrier.may_read())
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, key: u64) -> Option<Carrier> {
        self.slots.remove(key)
    }

    /// Notes that a connection has something to send.
    pub(super) fn touch(&mut self, key: u64) {
        if let Some(carrier) = self.get(key)
            && !carrier.is_touched
        {
            carrier.is_touched = true;
            self.touched.push(key);
        }
    }

    /// Sends what there is to send; those that are over, and why.
    pub(super) fn flush(&mut self, now_ms: u64) -> Vec<(u64, Fault)> {
        let mut over = Vec::new();
        while let Some(key) = self.touched.pop() {
            let Some(carrier) = self.get(key) else { continue };
            carrier.is_touched = false;
            if let Err(fault) = carrier.line.flush(now_ms) {
                over.push((key, fault));
            }
        }
        over
    }

    /// Adds frames of a session to what its connection says next.
    pub(super) fn put(&mut self, key: u64, number: u32, frames: &[u8]) {
        if let Some(carrier) = self.get(key)
            && !frames.is_empty()
        {
            carrier.line.batch().frames(number, frames);
            self.touch(key);
        }
    }

    /// A session is over before it began: its terminal hears why.
    pub(super) fn refuse(&mut self, key: u64, number: u32, frame: &[u8]) {
        if let Some(carrier) = self.get(key) {
            carrier.sessions.remove(&number);
            carrier.line.batch().frames(number, frame);
            carrier.line.batch().end(number);
            self.touch(key);
        }
    }

    /// A session is over, for this end.
    pub(super) fn finish(&mut self, key: u64, number: u32) {
        if let Some(carrier) = self.get(key)
            && carrier.sessions.remove(&number).is_some()
        {
            carrier.line.batch().end(number);
            self.touch(key);
        }
    }
}

impl Carrier {
    /// Whether more may be read: not while its manager does not take what it gets.
    pub(super) fn may_read(&self) -> bool {
        self.line.unsent() < CARRIER_UNSENT_BYTES_MAX
    }

    /// A terminal wants a session.
    pub(super) fn open(&mut self, number: u32) -> Result<(), NotOpened> {
        if self.last.is_some_and(|last| number <= last) {
            return Err(NotOpened::Number);
        }
        self.last = Some(number);
        if self.sessions.len() >= CARRIED_SESSIONS_MAX {
            return Err(NotOpened::Busy);
        }
        self.sessions.insert(number, Place::Shaking);
        Ok(())
    }

    pub(super) fn session(&self, number: u32) -> Option<Place> {
        self.sessions.get(&number).copied()
    }

    /// Its handshake is made: this is the worker's session, unless it is over already.
    pub(super) fn settle(&mut self, number: u32, key: u64) {
        if let Some(place) = self.sessions.get_mut(&number) {
            *place = Place::Session(key);
        }
    }

    /// The manager says that a session is over.
    pub(super) fn handle_end(&mut self, number: u32) -> Option<Place> {
        self.sessions.remove(&number)
    }

    /// All sessions that are not over.
    pub(super) fn sessions(&self) -> impl Iterator<Item = Place> {
        self.sessions.values().copied()
    }
}
