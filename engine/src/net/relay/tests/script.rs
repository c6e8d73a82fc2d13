//! A server that says exactly what a test wants said, and terminals that do: the relay opens no message, so a sealed frame is
//! any bytes in its place.

use crate::ids::SellerId;
use crate::link::{Carried, CarriedBatch, CarriedItems, CarriedWhat, Carrying, from_manager_bytes_max};
use crate::net::link::LinkKey;
use crate::net::relay::{Relay, RelayHandle, RelayIdentity, RelayOptions};
use crate::net::{Clock, home};
use crate::stock::NodeKeys;
use crate::time::Now;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use wire::control::{Bye, Control, ErrorCode, decode_control};
use wire::frame::{HEADER_BYTES, Header, Kind};
use wire::link::{Channel, LinkHello, LinkInbound, LinkIntroduction, LinkSession, Role};
use wire::message::{KeyEpoch, TerminalId};
use wire::session::{HELLO_BYTES, Mode, Suite, TerminalHandshake};

/// A relay, and where its server listens.
pub(super) struct Scene {
    pub(super) relay: RelayHandle,
    /// Where terminals connect.
    pub(super) address: SocketAddr,
    listener: TcpListener,
    workers: u16,
}

impl Scene {
    pub(super) fn new(workers: u16) -> Self {
        Self::with(workers, clock, |_| {})
    }

    /// The same with another clock and other options.
    pub(super) fn with(workers: u16, clock: Clock, change: impl FnOnce(&mut RelayOptions)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut options = RelayOptions::new(vec![listener.local_addr().unwrap().to_string()]);
        change(&mut options);
        let terminals = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = terminals.local_addr().unwrap();
        let identity = RelayIdentity { manager: MANAGER, key: LinkKey::of(&keys()) };
        let relay = Relay::start(terminals, identity, &options, clock, random).unwrap();
        Self { relay, address, listener, workers }
    }

    /// The server's workers, once the relay has called them all.
    pub(super) fn server(&self) -> Vec<Worker> {
        let mut workers: Vec<Worker> = Vec::new();
        while workers.len() < usize::from(self.workers) {
            let (stream, _) = self.listener.accept().unwrap();
            workers.push(Worker::welcome(stream, self.workers));
        }
        workers.sort_by_key(|worker| worker.said.workers);
        let called: Vec<u16> = workers.iter().map(|worker| worker.said.workers).collect();
        assert!(called.iter().copied().eq(0..self.workers), "{called:?}");
        workers
    }

    pub(super) fn connect(&self) -> Till {
        Till::new(TcpStream::connect(self.address).unwrap())
    }

    /// A terminal whose session is open, and its number.
    pub(super) fn open(&self, server: &mut [Worker], id: u64) -> (Till, u32) {
        let mut till = self.connect();
        let session = self.open_on(&mut till, server, id);
        (till, session)
    }

    /// The same on a connection.
    pub(super) fn open_on(&self, till: &mut Till, server: &mut [Worker], id: u64) -> u32 {
        till.send(&hello(id, Mode::Sealed));
        let worker = &mut server[home(TerminalId(id), usize::from(self.workers))];
        let session = match worker.next() {
            (session, Said::Open { source, hello: came }) => {
                assert_eq!(source, till.stream.local_addr().unwrap());
                assert_eq!(came[16..24], id.to_le_bytes());
                session
            }
            other => panic!("{other:?}"),
        };
        worker.frames(session, &greeting());
        assert_eq!(till.read(greeting().len()), greeting());
        session
    }

    /// Waits until a counter is as wanted.
    pub(super) fn wait_for(&self, what: &str, is_so: impl Fn(&super::super::RelayStats) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !is_so(self.relay.stats()) {
            assert!(Instant::now() < by, "waited in vain for: {what}; {:?}", self.relay.stats());
            std::thread::yield_now();
        }
    }
}

/// The server's end of one connection.
pub(super) struct Worker {
    stream: TcpStream,
    session: LinkSession,
    input: Vec<u8>,
    pub(super) said: LinkIntroduction,
    items: VecDeque<(u32, Said)>,
    batch: CarriedBatch,
    /// Items of the longest batch that came.
    pub(super) longest: usize,
}

/// What the relay says of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Open { source: SocketAddr, hello: Vec<u8> },
    Frames(Vec<u8>),
    End,
}

impl Worker {
    fn welcome(mut stream: TcpStream, workers: u16) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut input = Vec::new();
        let (length, hello) = loop {
            match LinkHello::read(&input).unwrap() {
                Some(read) => break read,
                None => more(&mut stream, &mut input).unwrap(),
            }
        };
        input.drain(..length);
        let said = hello.introduction;
        assert_eq!((said.node, said.role, said.channel), (MANAGER, Role::Hcm, Channel::Sessions));
        let mut fresh = [0; 32];
        random(&mut fresh);
        let (mut session, answer) = hello.accept(keys().link_psk(), &fresh, from_manager_bytes_max).unwrap();
        let mut out = answer.to_vec();
        session.send_open(&mut out);
        let carrying = Carrying { seller: SellerId(7), workers, worker: said.workers };
        session.send_message(Carrying::KIND, false, &[&carrying.encode()], &mut out);
        stream.write_all(&out).unwrap();
        let (items, batch) = (VecDeque::new(), CarriedBatch::default());
        Self { stream, session, input, said, items, batch, longest: 0 }
    }

    /// What the relay says next.
    pub(super) fn next(&mut self) -> (u32, Said) {
        self.try_next().unwrap()
    }

    /// The same; an error when there is nothing for a while, or never again.
    pub(super) fn try_next(&mut self) -> io::Result<(u32, Said)> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(item);
            }
            let length = match self.session.receive(&mut self.input).unwrap() {
                None => {
                    more(&mut self.stream, &mut self.input)?;
                    continue;
                }
                Some((length, inbound)) => {
                    if let LinkInbound::Message { body, .. } = inbound {
                        let before = self.items.len();
                        self.items.extend(CarriedItems::new(&body).map(|item| {
                            let Carried { session, what } = item.unwrap();
                            let said = match what {
                                CarriedWhat::Open { source, hello } => {
                                    Said::Open { source, hello: hello.to_vec() }
                                }
                                CarriedWhat::Frames(bytes) => Said::Frames(bytes.to_vec()),
                                CarriedWhat::End => Said::End,
                            };
                            (session, said)
                        }));
                        self.longest = self.longest.max(self.items.len() - before);
                    }
                    length
                }
            };
            self.input.drain(..length);
        }
    }

    /// Frames of this session, so many bytes of them; nothing else may come.
    pub(super) fn frames_of(&mut self, session: u32, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < bytes {
            match self.next() {
                (of, Said::Frames(bytes)) if of == session => all.extend(bytes),
                other => panic!("{other:?} where frames of session {session} were due"),
            }
        }
        all
    }

    pub(super) fn batch(&mut self) -> &mut CarriedBatch {
        &mut self.batch
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        let Self { batch, session, .. } = self;
        batch.messages(|body| session.send_message(CarriedBatch::KIND, false, &[body], &mut out));
        self.stream.write_all(&out)
    }

    /// Says frames of a session at once.
    pub(super) fn frames(&mut self, session: u32, frames: &[u8]) {
        self.batch.frames(session, frames);
        self.flush().unwrap();
    }

    pub(super) fn end(&mut self, session: u32) {
        self.batch.end(session);
        self.flush().unwrap();
    }

    /// Says any message.
    pub(super) fn send_raw(&mut self, kind: u16, body: &[u8]) {
        let mut out = Vec::new();
        self.session.send_message(kind, false, &[body], &mut out);
        self.stream.write_all(&out).unwrap();
    }
}

/// A terminal's connection.
pub(super) struct Till {
    pub(super) stream: TcpStream,
}

impl Till {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(super) fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        self.stream.read_exact(&mut buffer).unwrap();
        buffer
    }

    /// The next frame, which must be one of the connection's own.
    pub(super) fn control(&mut self) -> Control {
        let mut frame = self.read(2);
        let length = usize::from(u16::from_le_bytes([frame[0], frame[1]]));
        frame.extend(self.read(length - 2));
        let header = Header::parse(&frame, 0).unwrap().unwrap();
        decode_control(&header, &frame[HEADER_BYTES..]).unwrap()
    }

    pub(super) fn bye(&mut self) -> Bye {
        match self.control() {
            Control::Bye(bye) => *bye,
            other => panic!("{other:?} where a bye was due"),
        }
    }

    /// The error that the connection ends with.
    pub(super) fn last_error(&mut self) -> ErrorCode {
        let code = match self.control() {
            Control::Error(notice) => notice.code,
            other => panic!("{other:?} where an error was due"),
        };
        self.assert_closed();
        code
    }

    pub(super) fn assert_closed(&mut self) {
        assert_eq!(self.stream.read(&mut [0; 1]).unwrap(), 0, "nothing follows, and the connection ends");
    }
}

/// A frame with the outer header of a sealed one.
pub(super) fn sealed(mark: u8, length: u16) -> Vec<u8> {
    let mut frame = vec![mark; usize::from(length)];
    frame[..HEADER_BYTES].copy_from_slice(&[0, 0, Kind::Sealed as u8, 0, 0, 0, 0, 0]);
    frame[..2].copy_from_slice(&length.to_le_bytes());
    frame
}

/// What a server says first in a session: a handshake and a welcome.
pub(super) fn greeting() -> Vec<u8> {
    let mut frames = vec![9; 56];
    frames[..HEADER_BYTES].copy_from_slice(&[56, 0, Kind::Handshake as u8, 1, 0, 0, 0, 0]);
    frames.extend(sealed(1, 80));
    frames
}

pub(super) fn hello(id: u64, mode: Mode) -> Vec<u8> {
    let mut fresh = [0; 32];
    random(&mut fresh);
    let mut hello = [0; HELLO_BYTES];
    let (suite, epoch) = (Suite::AesGcm, KeyEpoch(1));
    let _ = TerminalHandshake::start(TerminalId(id), epoch, suite, mode, &[7; 32], &fresh, &mut hello);
    hello.to_vec()
}

pub(super) fn keys() -> NodeKeys {
    NodeKeys::from_node_key(&[3; 32])
}

pub(super) fn clock() -> Now {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    Now { monotonic_ms: START.elapsed().as_millis() as u64 + 1_000_000, unix_ms: 1 }
}

pub(super) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

fn more(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    match stream.read(&mut buffer)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        bytes => {
            input.extend_from_slice(&buffer[..bytes]);
            Ok(())
        }
    }
}

pub(super) const MANAGER: SellerId = SellerId(40);
/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
