//! Thousands of terminals that come at once: they are shed fairly, those who are there sell on, and all are in soon.

use super::relay::{OF, Street};
use crate::support::process::{PATIENCE, Process};
use engine::admin::KeyRow;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use wire::control::ByeReason;
use wire::message::{Attempt, KeyEpoch, Login, Reply, Request, TerminalId};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, SessionError, Suite, TerminalHandshake, TerminalInbound,
    TerminalSession,
};

/// One terminal that comes until it is in.
struct Comer<'a> {
    key: &'a KeyRow,
    stream: Option<TcpStream>,
    handshake: Option<TerminalHandshake>,
    session: Option<TerminalSession>,
    input: Vec<u8>,
    not_before: Instant,
    attempts: u32,
    is_in: bool,
}

impl<'a> Comer<'a> {
    fn new(key: &'a KeyRow) -> Self {
        let (stream, handshake, session, input) = (None, None, None, Vec::new());
        Self { key, stream, handshake, session, input, not_before: Instant::now(), attempts: 0, is_in: false }
    }

    /// Connects, or says hello again on its connection.
    fn come(&mut self, to: &Process) {
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&to.address, PATIENCE).unwrap();
            stream.set_nonblocking(true).unwrap();
            self.stream = Some(stream);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).unwrap();
        let mut hello = [0; HELLO_BYTES];
        let (terminal, epoch) = (TerminalId(self.key.terminal), KeyEpoch(self.key.key_epoch));
        let key = self.key.key.expose();
        let (handshake, length) =
            TerminalHandshake::start(terminal, epoch, Suite::AesGcm, Mode::Sealed, key, &random, &mut hello);
        self.attempts += 1;
        self.input.clear();
        (self.handshake, self.session) = (Some(handshake), None);
        // Who is turned away at the door may be gone before it has said hello.
        let _ = self.stream.as_mut().unwrap().write_all(&hello[..length]);
    }

    /// Takes what has come.
    fn hear(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut buffer = [0; 1024];
        let is_over = match stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(bytes) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                false
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        while let Ok(true) = self.take() {}
        if is_over && !self.is_in {
            (self.stream, self.handshake, self.session) = (None, None, None);
            // Its last words may have been lost with the connection.
            if self.not_before <= Instant::now() {
                self.put_off(LOST_WAIT_MS);
            }
        }
    }

    /// Takes one frame; whether there may be another.
    fn take(&mut self) -> Result<bool, SessionError> {
        let taken = if let Some(handshake) = &mut self.handshake {
            match handshake.receive(&self.input)? {
                None => return Ok(false),
                Some((length, HandshakeInbound::Session(session))) => {
                    (self.session, self.handshake) = (Some(session), None);
                    length
                }
                Some((length, HandshakeInbound::Bye(bye))) => {
                    self.sent_away(bye.reason, bye.wait_ms);
                    length
                }
                Some((_, other)) => panic!("{other:?}"),
            }
        } else if let Some(session) = &mut self.session {
            let Some((length, inbound)) = session.receive(&mut self.input)? else { return Ok(false) };
            match inbound {
                TerminalInbound::Reply { reply: Reply::Welcome(_), .. } => {
                    let mut frame = [0; 512];
                    let login = session.send(1, &Request::Login(Box::new(Login::EMPTY)), &mut frame);
                    self.stream.as_mut().unwrap().write_all(&frame[..login]).unwrap();
                }
                TerminalInbound::Reply { reply: Reply::Resolved(_), .. } => self.is_in = true,
                TerminalInbound::Bye(bye) => self.sent_away(bye.reason, bye.wait_ms),
                _ => {}
            }
            length
        } else {
            return Ok(false);
        };
        self.input.drain(..taken.min(self.input.len()));
        Ok(!self.input.is_empty())
    }

    fn sent_away(&mut self, reason: ByeReason, wait_ms: u32) {
        assert!(matches!(reason, ByeReason::Busy | ByeReason::Renew), "{reason:?}");
        self.put_off(wait_ms);
        (self.handshake, self.session) = (None, None);
        if reason != ByeReason::Renew {
            self.stream = None;
        }
    }

    /// Not all in step: from the wait to twice that.
    fn put_off(&mut self, wait_ms: u32) {
        let more_ms = u64::from(wait_ms) * (self.key.terminal % 64) / 64;
        self.not_before = Instant::now() + Duration::from_millis(u64::from(wait_ms) + more_ms);
    }

    /// Whether it is to come again now.
    fn is_due(&self) -> bool {
        self.handshake.is_none() && self.session.is_none() && self.not_before <= Instant::now()
    }
}

/// All come at once, and come again as they are told, until all are in. How often the unluckiest came.
fn storm(to: &Process, keys: &[KeyRow]) -> u32 {
    let mut comers: Vec<_> = keys.iter().map(Comer::new).collect();
    let by = Instant::now() + PATIENCE;
    while comers.iter().any(|comer| !comer.is_in) {
        for comer in comers.iter_mut().filter(|comer| !comer.is_in) {
            if comer.is_due() {
                comer.come(to);
            }
            comer.hear();
        }
        let left = comers.iter().filter(|comer| !comer.is_in).count();
        assert!(Instant::now() < by, "{left} are not in");
    }
    comers.iter().map(|comer| comer.attempts).max().unwrap()
}

#[test]
fn law_9_a_storm_of_terminals_at_a_relay_and_at_a_server_is_shed_fairly_and_all_are_in_soon() {
    // Their connections have two ends, and this one is the tests'.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let street = Street::small(COMERS + 1, 1_000);
    let (own, comers) = street.keys.split_last().unwrap();
    street.server.await_terminal(own);
    for at in [&street.relay, &street.server] {
        let mut till = at.till(own);
        let sequence = till.welcome.next_sequence;
        let begun = Instant::now();
        let (attempts, sold) = std::thread::scope(|scope| {
            let storm = scope.spawn(|| storm(at, comers));
            // Who is logged in goes on selling through it.
            let mut sold = 0;
            while !storm.is_finished() {
                till.sell(Attempt::First, sequence + sold, OF).unwrap();
                sold += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            (storm.join().unwrap(), sold)
        });
        println!(
            "{COMERS} at once: in after {:?}, at most {attempts} attempts, {sold} sold meanwhile",
            begun.elapsed()
        );
        assert!(sold > 0);
        // Some are turned away, and nobody again and again.
        assert!(attempts <= ATTEMPTS_MAX, "{attempts} attempts");
        at.wait_for("the connections' end", |status| match &status.relay {
            Some(relay) => relay.connections <= 1 && relay.waiting == 0,
            None => status.sellers[0].connections <= 1,
        });
        let mut till = at.till(&comers[0]);
        till.sell(Attempt::First, till.welcome.next_sequence, OF).unwrap();
    }
}

const COMERS: u32 = 3_000;
/// A thousand of one source may shake hands at a time.
const ATTEMPTS_MAX: u32 = 12;
/// How long a terminal waits whose connection was lost without a word, in milliseconds.
const LOST_WAIT_MS: u32 = 500;
