//! Thousands of terminals in one thread that do nothing but log in, stay, answer and come back when they are told to.

use benches::process::Result;
use engine::admin::KeyRow;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire::control::{ByeReason, CONTROL_BYTES_MAX, encode_ping};
use wire::frame::REQUEST_BYTES_MAX;
use wire::message::{KeyEpoch, Login, Reply, Request, TerminalId};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, Suite, TerminalHandshake, TerminalInbound, TerminalSession,
};

/// Terminals on connections of their own.
pub(crate) struct Crowd {
    poll: Poll,
    keys: Vec<KeyRow>,
    members: Vec<Member>,
    /// Who says hello again, and when.
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
    logged_in: usize,
    pongs: usize,
    dice: u64,
}

struct Member {
    stream: TcpStream,
    stage: Stage,
    input: Vec<u8>,
}

enum Stage {
    Away,
    Shaking(Box<TerminalHandshake>),
    Welcomed(Box<TerminalSession>),
    LoggedIn(Box<TerminalSession>),
}

impl Crowd {
    pub(crate) fn new(keys: Vec<KeyRow>) -> Result<Self> {
        let poll = Poll::new()?;
        let (members, waiting) = (Vec::new(), BinaryHeap::new());
        Ok(Self { poll, keys, members, waiting, logged_in: 0, pongs: 0, dice: 1 })
    }

    /// How many are logged in.
    pub(crate) fn logged_in(&self) -> usize {
        self.logged_in
    }

    /// Connects and logs in until there are so many.
    pub(crate) fn grow(&mut self, address: SocketAddr, count: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.logged_in < count {
            while self.members.len() < count && self.members.len() < self.logged_in + AT_ONCE {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let mut stream = TcpStream::from_std(stream);
                let at = self.members.len();
                self.poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
                self.members.push(Member { stream, stage: Stage::Away, input: Vec::new() });
                self.say_hello(at)?;
            }
            self.turn()?;
            if Instant::now() > until {
                return Err(format!("only {} of {count} are logged in", self.logged_in).into());
            }
        }
        Ok(())
    }

    /// Goes on until so many are logged in, or time is up; when that was.
    pub(crate) fn until(&mut self, is_so: impl Fn(&Self) -> bool, patience: Duration) -> Result<Instant> {
        let until = Instant::now() + patience;
        while !is_so(self) {
            self.turn()?;
            if Instant::now() > until {
                let (logged_in, all) = (self.logged_in, self.members.len());
                return Err(format!("{logged_in} of {all} are logged in, {} pongs came", self.pongs).into());
            }
        }
        Ok(Instant::now())
    }

    /// All ask whether somebody is there; how long it took until the last had its answer.
    pub(crate) fn ping(&mut self) -> Result<Duration> {
        self.pongs = 0;
        let mut frame = [0; CONTROL_BYTES_MAX];
        let length = encode_ping(7, &mut frame);
        let begun = Instant::now();
        for at in 0..self.members.len() {
            self.members[at].stream.write_all(&frame[..length])?;
            if at % AT_ONCE == 0 {
                self.turn()?;
            }
        }
        let all = self.members.len();
        Ok(self.until(|crowd| crowd.pongs >= all, PATIENCE)?.duration_since(begun))
    }

    fn turn(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let now = Instant::now();
        while let Some(&Reverse((due, at))) = self.waiting.peek()
            && due <= now
        {
            self.waiting.pop();
            self.say_hello(at)?;
        }
        let wait = self.waiting.peek().map_or(LOOK, |Reverse((due, _))| due.saturating_duration_since(now));
        self.poll.poll(&mut events, Some(wait.min(LOOK)))?;
        for event in &events {
            self.read(event.token().0)?;
        }
        Ok(())
    }

    fn say_hello(&mut self, at: usize) -> Result<()> {
        // Nobody listens here: what matters is that each is another.
        let random: [u8; 32] = std::array::from_fn(|_| self.dice());
        let key = &self.keys[at];
        let mut hello = [0; HELLO_BYTES];
        let (handshake, length) = TerminalHandshake::start(
            TerminalId(key.terminal),
            KeyEpoch(key.key_epoch),
            Suite::AesGcm,
            Mode::Sealed,
            key.key.expose(),
            &random,
            &mut hello,
        );
        let member = &mut self.members[at];
        member.stage = Stage::Shaking(Box::new(handshake));
        Ok(member.stream.write_all(&hello[..length])?)
    }

    fn dice(&mut self) -> u8 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 56) as u8
    }

    fn read(&mut self, at: usize) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.members[at].stream.read(&mut buffer) {
                Ok(0) => return Err(format!("connection {at} was closed").into()),
                Ok(bytes) => self.members[at].input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut input = std::mem::take(&mut self.members[at].input);
        while let Some(length) = self.take(at, &mut input)? {
            input.drain(..length);
        }
        // Nothing is kept between frames: it is the other end's memory that is measured.
        self.members[at].input = if input.is_empty() { Vec::new() } else { input };
        Ok(())
    }

    /// Takes one frame; its length.
    fn take(&mut self, at: usize, input: &mut [u8]) -> Result<Option<usize>> {
        let member = &mut self.members[at];
        let (length, inbound) = match &mut member.stage {
            Stage::Away => {
                // Between a bye and the next hello nothing but a pong can come.
                return Ok((!input.is_empty()).then_some(input.len()));
            }
            Stage::Shaking(handshake) => match handshake.receive(input)? {
                None => return Ok(None),
                Some((length, HandshakeInbound::Session(session))) => {
                    member.stage = Stage::Welcomed(Box::new(session));
                    return Ok(Some(length));
                }
                Some((length, HandshakeInbound::Bye(bye))) => (length, TerminalInbound::Bye(bye)),
                Some((_, other)) => return Err(format!("terminal {at} is refused: {other:?}").into()),
            },
            Stage::Welcomed(session) | Stage::LoggedIn(session) => match session.receive(input)? {
                None => return Ok(None),
                Some(received) => received,
            },
        };
        match inbound {
            TerminalInbound::Reply { reply: Reply::Welcome(_), .. } => {
                if let Stage::Welcomed(session) = &mut member.stage {
                    let mut frame = [0; REQUEST_BYTES_MAX];
                    let length = session.send(1, &Request::Login(Box::new(Login::EMPTY)), &mut frame);
                    member.stream.write_all(&frame[..length])?;
                }
            }
            TerminalInbound::Reply { reply: Reply::Resolved(_), .. } => {
                if let Stage::Welcomed(session) = std::mem::replace(&mut member.stage, Stage::Away) {
                    member.stage = Stage::LoggedIn(session);
                    self.logged_in += 1;
                }
            }
            TerminalInbound::Pong { .. } => self.pongs += 1,
            TerminalInbound::Bye(bye) if bye.reason == ByeReason::Renew => {
                if matches!(member.stage, Stage::LoggedIn(_)) {
                    self.logged_in -= 1;
                }
                member.stage = Stage::Away;
                // From the wait to twice that, as every terminal should.
                let part = u64::from(self.dice()) * u64::from(bye.wait_ms) / 256;
                let due = Instant::now() + Duration::from_millis(u64::from(bye.wait_ms) + part);
                self.waiting.push(Reverse((due, at)));
            }
            TerminalInbound::Ping { .. } => {}
            other => return Err(format!("terminal {at} hears {other:?}").into()),
        }
        Ok(Some(length))
    }
}

/// Logins under way at a time.
const AT_ONCE: usize = 256;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
