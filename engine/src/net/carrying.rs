//! What a worker does for terminals whose sessions host connection managers carry: their frames come and go in batches, all else
//! is as for terminals with connections of their own.

use super::carriers::{NotOpened, Place};
use super::front::{CarriedHello, Shaken};
use super::home;
use super::link::Fault;
use super::meddler::Meddler;
use super::session::{Line, Phase, Session};
use super::stats::{count, uncount};
use super::worker::{CARRIERS, Worker};
use crate::ids::SellerId;
use crate::limits::{CARRIED_INPUT_BYTES_MAX, READ_BYTES_MAX, UNAUTHENTICATED_MAX, WAIT_MS};
use crate::link::{Carried, CarriedItems, CarriedWhat, Carrying, NotUnderstood, Others};
use crate::registry::State;
use crate::seller::Sealed;
use crate::time::Now;
use mio::{Interest, Token};
use wire::control::{Bye, ByeReason, CONTROL_BYTES_MAX, ErrorCode, encode_bye, encode_error};
use wire::frame::HEADER_BYTES;
use wire::message::Addresses;
use wire::session::{Acceptor, HELLO_BYTES};

impl<S: Sealed, M: Meddler> Worker<S, M> {
    /// Takes in managers' connections, and handshakes that the front has worked out.
    pub(super) fn take_carriers(&mut self, now: &Now) {
        while let Some(mut arrival) = self.port.carriers.pop() {
            let (manager, address, worker) = (arrival.manager(), arrival.address, arrival.worker());
            if let Some(before) = self.carriers.of_manager(manager) {
                self.end_carrier(
                    before,
                    &Fault::Ours(format!("replaced by a connection from {address}")),
                    now,
                );
            }
            let token = Token(CARRIERS + self.carriers.next_slot());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let stream = arrival.pipe.stream();
            if let Err(error) = self.port.poll.registry().register(stream, token, interest) {
                tracing::warn!("a connection is lost: {error}");
                continue;
            }
            let number = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
            let (workers, worker) = (number(self.workers), number(worker));
            let carrying = Carrying { seller: self.seller.id(), workers, worker };
            let key = self.carriers.insert(arrival, carrying, now.monotonic_ms);
            count(&self.stats.carriers);
            tracing::info!(manager = manager.0, %address, worker, "carries sessions");
            if !self.may_carry(manager) {
                self.end_carrier(key, &Fault::Ours(NOT_LET_IN.into()), now);
            }
        }
        while let Some(Shaken { carrier, number, made }) = self.port.shaken.pop() {
            self.shaking -= 1;
            let Some(made) = made else {
                self.refuse_carried(carrier, number, ErrorCode::Authentication);
                continue;
            };
            let (wire, handshake) = *made;
            // Its manager may have said meanwhile that it is over.
            let is_wanted = |place| place == Some(Place::Shaking);
            if !self.carriers.get(carrier).is_some_and(|carrier| is_wanted(carrier.session(number))) {
                continue;
            }
            let line = Line::Carried { carrier, number };
            let key = self.sessions.insert(Session::new(line, wire, Vec::new(), now.monotonic_ms));
            if let Some(carrier) = self.carriers.get(carrier) {
                carrier.settle(number, key);
            }
            self.carriers.put(carrier, number, &handshake);
            self.welcome(key, now);
        }
    }

    /// Takes in what managers' connections bring.
    pub(super) fn read_carriers(&mut self, now: &Now) {
        for at in 0..self.carriers.slots() {
            let Some(key) = self.carriers.key_at(at) else { continue };
            for _ in 0..MESSAGES_PER_TURN {
                let is_stopping = self.stop_by_ms.is_some();
                let Some(carrier) = self.carriers.get(key) else { break };
                if is_stopping || !carrier.line.is_ready() || !carrier.may_read() || !self.has_room() {
                    break;
                }
                // The batch is taken out of the way, because each of its items may change anything.
                let mut batch = std::mem::take(&mut self.batch);
                batch.clear();
                let Some(carrier) = self.carriers.get(key) else { break };
                let received = carrier.line.receive(now.monotonic_ms, |kind, body| {
                    batch.extend_from_slice(body);
                    kind
                });
                let outcome = match received {
                    Ok(Some(Others::KIND)) => Others::decode(&batch).map_err(Fault::from).map(|others| {
                        carrier.others = others.0;
                        true
                    }),
                    Ok(Some(_)) => self.take_items(key, &batch, now).map(|()| true),
                    Ok(None) => Ok(false),
                    Err(fault) => Err(fault),
                };
                self.batch = batch;
                match outcome {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(fault) => {
                        self.end_carrier(key, &fault, now);
                        break;
                    }
                }
            }
        }
    }

    fn take_items(&mut self, key: u64, batch: &[u8], now: &Now) -> Result<(), Fault> {
        for item in CarriedItems::new(batch) {
            let Carried { session: number, what } = item?;
            match what {
                CarriedWhat::Open { hello, .. } => self.open_carried(key, number, hello)?,
                CarriedWhat::Frames(bytes) => self.put_carried(key, number, bytes, now),
                CarriedWhat::End => {
                    let over = self.carriers.get(key).and_then(|carrier| carrier.handle_end(number));
                    if let Some(Place::Session(session)) = over {
                        self.close(session);
                    }
                }
            }
        }
        Ok(())
    }

    /// A carried terminal wants a session.
    fn open_carried(&mut self, key: u64, number: u32, hello: &[u8; HELLO_BYTES]) -> Result<(), Fault> {
        let Some(carrier) = self.carriers.get(key) else { return Ok(()) };
        match carrier.open(number) {
            Err(NotOpened::Number) => return Err(NotUnderstood("a session's number was used before").into()),
            Err(NotOpened::Busy) => self.send_away_carried(key, number),
            Ok(()) if self.shaking >= UNAUTHENTICATED_MAX => self.send_away_carried(key, number),
            // Clear mode shows PINs to the network between here and the terminal.
            Ok(()) => match Acceptor::new(false).hello(hello) {
                Ok(Some((_, hello))) if home(hello.terminal, self.workers) == self.reports.worker => {
                    self.shaking += 1;
                    let worker = self.reports.worker;
                    self.front.shake(CarriedHello { worker, carrier: key, number, hello });
                }
                // It is another worker's terminal: the manager is wrong, and the terminal can only come again.
                Ok(_) => self.send_away_carried(key, number),
                Err(error) => self.refuse_carried(key, number, error.code()),
            },
        }
        Ok(())
    }

    fn refuse_carried(&mut self, key: u64, number: u32, code: ErrorCode) {
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_error(code, &mut frame);
        self.carriers.refuse(key, number, &frame[..length]);
    }

    fn send_away_carried(&mut self, key: u64, number: u32) {
        let mut frame = [0; CONTROL_BYTES_MAX];
        let bye = Bye { reason: ByeReason::Busy, wait_ms: WAIT_MS, addresses: Addresses::default() };
        let length = encode_bye(&bye, &mut frame);
        self.carriers.refuse(key, number, &frame[..length]);
    }

    /// Bytes of a carried session have come.
    fn put_carried(&mut self, key: u64, number: u32, bytes: &[u8], now: &Now) {
        let place = self.carriers.get(key).and_then(|carrier| carrier.session(number));
        let Some(Place::Session(session_key)) = place else { return };
        let Some(session) = self.sessions.session(session_key) else { return };
        if session.phase == Phase::Closing {
            return;
        }
        session.heard_ms = now.monotonic_ms;
        session.input.extend_from_slice(bytes);
        if session.input.len() > CARRIED_INPUT_BYTES_MAX {
            self.end(session_key);
            self.sessions.fault(session_key, ErrorCode::Limit, now.monotonic_ms);
            return;
        }
        self.sessions.list(session_key);
    }

    /// Takes frames of a carried session, as many as a turn has room for.
    pub(super) fn take_carried(&mut self, key: u64, now: &Now) {
        let Some(session) = self.sessions.session(key) else { return };
        let end = session.input.len().min(READ_BYTES_MAX);
        self.buffer[..end].copy_from_slice(&session.input[..end]);
        let taken = self.take_frames(key, end, now);
        let Some(session) = self.sessions.session(key).filter(|session| session.phase != Phase::Closing)
        else {
            return;
        };
        session.input.drain(..taken);
        // What is left is a part of a frame, or had to wait.
        if session.input.len() >= HEADER_BYTES && (taken > 0 || !self.has_room()) {
            self.sessions.list(key);
        }
    }

    /// Whether the registry in force lets a manager in.
    fn may_carry(&self, manager: SellerId) -> bool {
        self.seller.registry().manager(manager).is_some_and(|manager| manager.state == State::Active)
    }

    /// Compares managers' connections with the registry in force.
    pub(super) fn recheck_carriers(&mut self, now: &Now) {
        for at in 0..self.carriers.slots() {
            let Some(key) = self.carriers.key_at(at) else { continue };
            let manager = self.carriers.get(key).map(|carrier| carrier.manager);
            if manager.is_some_and(|manager| !self.may_carry(manager)) {
                self.end_carrier(key, &Fault::Ours(NOT_LET_IN.into()), now);
            }
        }
    }

    /// Pings managers, and ends connections on which nothing moves.
    pub(super) fn sweep_carriers(&mut self, now: &Now) {
        for at in 0..self.carriers.slots() {
            let Some(key) = self.carriers.key_at(at) else { continue };
            let has_room = self.has_room();
            let Some(carrier) = self.carriers.get(key) else { continue };
            let is_read = has_room && carrier.may_read();
            if let Err(fault) = carrier.line.tick(now.monotonic_ms, is_read) {
                self.end_carrier(key, &fault, now);
            }
        }
    }

    /// Ends a manager's connection, and all sessions on it.
    pub(super) fn end_carrier(&mut self, key: u64, fault: &Fault, now: &Now) {
        let Some(carrier) = self.carriers.remove(key) else { return };
        uncount(&self.stats.carriers);
        for place in carrier.sessions() {
            if let Place::Session(session) = place {
                self.close(session);
            }
        }
        let (manager, address) = (carrier.manager, carrier.address);
        tracing::info!(manager = manager.0, %address, "carries sessions no more: {fault}");
        // Last words are few: the system has them when this returns, or nobody listens.
        drop(carrier.line.end(fault, now.monotonic_ms));
    }

    /// Ends all of them: their terminals are to go to another server.
    pub(super) fn end_carriers(&mut self, now: &Now) {
        for at in 0..self.carriers.slots() {
            if let Some(key) = self.carriers.key_at(at) {
                self.end_carrier(key, &Fault::Ours("the server stops".into()), now);
            }
        }
    }
}

const NOT_LET_IN: &str = "this manager is suspended or closed [manager_not_active]";
/// Messages that one connection brings in one turn.
const MESSAGES_PER_TURN: usize = 8;
