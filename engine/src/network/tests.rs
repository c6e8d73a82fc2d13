//! A whole network over real sockets, threads and files.

use super::{Network, Options, Selling};
use crate::admin::{MintOrder, Reply as Answer, Request as Ask, Site, VarietyRow, answer};
use crate::cli::{clock, random};
use crate::ids::{KeyEpoch, TerminalId, VarietyId};
use crate::net::listen;
use crate::policy::Levels;
use crate::registry::TerminalKey;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use wire::client::{Client, ClientError, Config, MemoryStore, SaleId, Vended};
use wire::control::{ByeReason, ErrorCode};
use wire::message::{Attempt, DeclineReason, Login, RefuseReason, Reply, Request, SequenceState, Sold, Vend};
use wire::session::{
    HELLO_BYTES, HandshakeInbound, Mode, Suite, TerminalHandshake, TerminalInbound, TerminalSession,
};

const PATIENCE: Duration = Duration::from_secs(20);
const PRODUCT: u32 = 7;
const FACE: u64 = 1000;

/// A network in a directory that goes with it.
struct Bench {
    network: Option<Network>,
    address: SocketAddr,
    keys: Vec<TerminalKey>,
    /// Low mark and target.
    levels: (u64, u64),
    directory: tempfile::TempDir,
}

impl Bench {
    /// With two terminals and so many PINs of one variety.
    fn new(pins: u32, levels: (u64, u64)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (network, address) = start(directory.path(), levels);
        let mut bench = Self { network: Some(network), address, keys: Vec::new(), levels, directory };
        bench.ask(Ask::AddDealer { name: "Shop".into() });
        bench.ask(Ask::AddVariety(VarietyRow {
            id: 0,
            code: "v".into(),
            product: PRODUCT,
            face_value: FACE,
            currency: "ZAR".into(),
            currency_digits: 2,
            name: "V".into(),
            receipt: String::new(),
            minimum_life_days: 0,
        }));
        match bench.ask(Ask::AddTerminals { count: 2, ids: Vec::new(), dealer: 1 }) {
            Answer::Keys { keys } => bench.keys = keys.into_iter().map(|row| row.key).collect(),
            other => panic!("{other:?}"),
        }
        bench.mint(pins);
        if levels.0 > 0 && pins > 0 {
            bench.until(|bench| bench.office().sellable(VarietyId(1)) > 0);
        }
        // The front knows its terminals.
        bench.until(|bench| bench.client(1).connect(PATIENCE).is_ok());
        bench
    }

    fn office(&self) -> &super::Office {
        self.network.as_ref().unwrap().office()
    }

    fn ask(&self, request: Ask) -> Answer {
        let site = Site { stop: None };
        answer(request, self.office(), &site, &mut std::io::empty(), &mut |_| Ok(()))
    }

    fn mint(&self, count: u32) {
        if count > 0 {
            let order =
                MintOrder { variety: "v".into(), count, length: 16, letters: false, check: false, expiry: 0 };
            assert!(matches!(self.ask(Ask::Mint(order)), Answer::Delivered(_)));
        }
    }

    fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "it never comes");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn restart(&mut self) {
        self.network.take().unwrap().stop();
        let (network, address) = start(self.directory.path(), self.levels);
        (self.network, self.address) = (Some(network), address);
    }

    fn client(&self, terminal: u64) -> Client<MemoryStore> {
        let key = *self.keys[terminal as usize - 1].expose();
        let config = Config::new(self.address, TerminalId(terminal), KeyEpoch(1), key);
        Client::new(config, MemoryStore::default()).unwrap()
    }

    fn raw(&self, terminal: u64) -> Raw {
        let key = *self.keys[terminal as usize - 1].expose();
        let mut raw = Raw::open(self.address, terminal, &key, Mode::Sealed).unwrap();
        assert!(matches!(raw.reply(), Reply::Welcome(_)));
        raw
    }

    /// Law 1, and that one who behaves is served.
    fn check(&self) {
        assert!(matches!(bought(self.client(2).vend(PRODUCT, FACE, PATIENCE)), (_, Sold { copy: 0, .. })));
        match self.ask(Ask::Audit) {
            Answer::Audit { balanced, text, .. } => assert!(balanced, "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

fn start(data: &std::path::Path, (low, target): (u64, u64)) -> (Network, SocketAddr) {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let levels = Levels::new(low, target, 2 * target).unwrap().into();
    let selling = Selling {
        listener,
        others: Default::default(),
        links: None,
        clear: false,
        workers: 2,
        connections_max: 1000,
        levels,
    };
    let fatal = |failure: &super::Failure| panic!("{failure}");
    let options = Options::whole(data, vec![selling], 1 << 20, clock, random, fatal).unwrap();
    (Network::start(options).unwrap(), address)
}

fn bought(vended: Result<Vended, ClientError>) -> (SaleId, Sold) {
    match vended {
        Ok(Vended::Sold(id, sold)) => (id, sold),
        other => panic!("sold was expected, not {other:?}"),
    }
}

const STOCKED: (u64, u64) = (50, 200);

#[test]
fn a_sold_pin_stays_sold_and_is_repeated_after_a_restart() {
    let mut bench = Bench::new(1000, STOCKED);
    let mut raw = bench.raw(1);
    raw.send(&Request::Login(Box::new(Login::EMPTY)));
    raw.send(&vend(Attempt::First, 1));
    assert!(matches!(raw.reply(), Reply::Resolved(_)));
    let Reply::Sold(first) = raw.reply() else { panic!("sold was expected") };
    bench.restart();
    bench.until(|bench| bench.client(2).connect(PATIENCE).is_ok());
    let mut raw = bench.raw(1);
    raw.send(&Request::Login(Box::new(Login::EMPTY)));
    assert!(matches!(raw.reply(), Reply::Resolved(_)));
    raw.send(&vend(Attempt::First, 1));
    let used = Reply::Refused { sequence: 1, reason: RefuseReason::SequenceUsed };
    assert_eq!(raw.receive(), Heard::Reply(Box::new(used)));
    raw.send(&vend(Attempt::Repeat, 1));
    assert_eq!(raw.receive(), Heard::Reply(Box::new(Reply::Sold(first))));
    bench.check();
}

#[test]
fn what_left_the_window_is_answered_from_the_history_and_reprints_are_limited() {
    let bench = Bench::new(1000, STOCKED);
    let mut client = bench.client(1);
    let (id, first) = bought(client.vend(PRODUCT, FACE, PATIENCE));
    client.confirm(id, PATIENCE).unwrap();
    for _ in 0..70 {
        let (id, _) = bought(client.vend(PRODUCT, FACE, PATIENCE));
        client.confirm(id, PATIENCE).unwrap();
    }
    assert_eq!(client.status(id, PATIENCE).unwrap(), (SequenceState::Confirmed, first.reference));
    for copy in 1..=3 {
        assert_eq!(client.reprint(id, PATIENCE).unwrap(), Sold { copy, ..first });
        std::thread::sleep(Duration::from_millis(50));
    }
    let refused = client.reprint(id, PATIENCE).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { reason: RefuseReason::ReprintLimit, .. }), "{refused}");
    bench.check();
}

#[test]
fn a_seller_without_stock_of_its_own_sells_by_urgent_transfer_until_the_network_has_none() {
    let bench = Bench::new(3, (0, 1));
    let mut client = bench.client(1);
    for _ in 0..3 {
        let (id, _) = bought(client.vend(PRODUCT, FACE, PATIENCE));
        client.confirm(id, PATIENCE).unwrap();
    }
    let declined = client.vend(PRODUCT, FACE, PATIENCE).unwrap();
    assert!(matches!(declined, Vended::Declined(_, DeclineReason::OutOfStock)), "{declined:?}");
    bench.mint(2);
    bought(client.vend(PRODUCT, FACE, PATIENCE));
    bench.check();
}

#[test]
fn the_journal_is_reported_and_recycled_over_many_segments() {
    let mut bench = Bench::new(20_000, (18_000, 20_000));
    let mut clients = [bench.client(1), bench.client(2)];
    // More than two segments; how many sales that is depends on how many of them share a batch.
    for _ in 0..18 {
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || {
                    for _ in 0..500 {
                        let (id, _) = bought(client.vend(PRODUCT, FACE, PATIENCE));
                        client.confirm(id, PATIENCE).unwrap();
                    }
                });
            }
        });
        if bench.office().status().unwrap().sellers[0].journal_durable > 2 << 20 {
            break;
        }
    }
    let first = bench.directory.path().join("server-1/journal/0000000000000000.seg");
    bench.until(|bench| {
        let status = &bench.office().status().unwrap().sellers[0];
        assert!(status.linked);
        status.journal_durable > 2 << 20
            && status.journal_acknowledged >= status.journal_durable - 256
            && !first.exists()
    });
    bench.restart();
    bench.until(|bench| bench.client(2).connect(PATIENCE).is_ok());
    bench.check();
}

#[test]
fn a_second_session_replaces_the_first_when_its_login_opens_and_not_before() {
    let bench = Bench::new(100, STOCKED);
    let mut first = bench.raw(1);
    first.send(&Request::Login(Box::new(Login::EMPTY)));
    assert!(matches!(first.reply(), Reply::Resolved(_)));
    let mut second = bench.raw(1);
    first.send(&Request::Status { sequence: 5 });
    assert!(matches!(first.reply(), Reply::State { .. }), "a hello alone replaces nobody");
    second.send(&Request::Login(Box::new(Login::EMPTY)));
    assert!(matches!(second.reply(), Reply::Resolved(_)));
    assert_eq!(first.receive(), Heard::Bye(ByeReason::Replaced));
    assert_eq!(first.receive(), Heard::End);
    bench.check();
}

#[test]
fn a_new_key_ends_the_session_of_the_old_one() {
    let bench = Bench::new(100, STOCKED);
    let mut raw = bench.raw(1);
    raw.send(&Request::Login(Box::new(Login::EMPTY)));
    assert!(matches!(raw.reply(), Reply::Resolved(_)));
    assert!(matches!(bench.ask(Ask::Rekey { terminal: 1 }), Answer::Keys { .. }));
    assert_eq!(raw.receive(), Heard::Bye(ByeReason::Done));
    let rejected = bench.client(1).connect(PATIENCE).unwrap_err();
    assert!(matches!(rejected, ClientError::Rejected(ErrorCode::Authentication)), "{rejected}");
    bench.check();
}

#[test]
fn every_session_is_told_when_the_node_stops() {
    let mut bench = Bench::new(100, STOCKED);
    let mut raw = bench.raw(1);
    raw.send(&Request::Login(Box::new(Login::EMPTY)));
    assert!(matches!(raw.reply(), Reply::Resolved(_)));
    bench.network.take().unwrap().stop();
    assert_eq!(raw.receive(), Heard::Bye(ByeReason::Stopping));
    assert_eq!(raw.receive(), Heard::End);
}

#[test]
fn what_is_wrong_ends_its_own_connection_with_a_code() {
    let bench = Bench::new(100, STOCKED);
    let heard = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(bench.address).unwrap();
        stream.write_all(bytes).unwrap();
        Raw::bare(stream).receive()
    };
    assert_eq!(heard(b"GET / HTTP/1.1\r\n\r\n"), Heard::Error(ErrorCode::TooLarge));
    assert!(matches!(heard(&[0; 64]), Heard::Error(_)));
    let key = *bench.keys[0].expose();
    let open = |terminal, key, mode| Raw::open(bench.address, terminal, key, mode).err();
    assert_eq!(open(1, &[9; 32], Mode::Sealed), Some(Heard::Error(ErrorCode::Authentication)));
    assert_eq!(open(77, &key, Mode::Sealed), Some(Heard::Error(ErrorCode::Authentication)));
    assert_eq!(open(1, &key, Mode::Clear), Some(Heard::Error(ErrorCode::Mode)));

    let mut raw = bench.raw(1);
    raw.send(&vend(Attempt::First, 1));
    assert_eq!(raw.receive(), Heard::Error(ErrorCode::OutOfOrder));
    assert_eq!(raw.receive(), Heard::End);

    let mut raw = bench.raw(1);
    let mut frame = raw.frame(&Request::Login(Box::new(Login::EMPTY)));
    *frame.last_mut().unwrap() ^= 1;
    raw.stream.write_all(&frame).unwrap();
    assert_eq!(raw.receive(), Heard::Error(ErrorCode::Unsealing));

    let mut raw = bench.raw(1);
    let login = raw.frame(&Request::Login(Box::new(Login::EMPTY)));
    raw.stream.write_all(&login).unwrap();
    assert!(matches!(raw.reply(), Reply::Resolved(_)));
    raw.stream.write_all(&login).unwrap();
    assert_eq!(raw.receive(), Heard::Error(ErrorCode::Unsealing), "a replayed frame");
    bench.check();
}

#[test]
fn a_hello_or_a_login_that_never_comes_times_out() {
    let bench = Bench::new(100, STOCKED);
    let mut silent = Raw::bare(TcpStream::connect(bench.address).unwrap());
    let mut unlogged = bench.raw(1);
    assert_eq!(silent.receive(), Heard::Error(ErrorCode::Timeout));
    assert_eq!(unlogged.receive(), Heard::Error(ErrorCode::Timeout));
    bench.check();
}

#[test]
fn a_reader_that_never_reads_is_cut_and_holds_up_nobody() {
    let bench = Bench::new(100, STOCKED);
    let mut raw = bench.raw(1);
    raw.send(&Request::Login(Box::new(Login::EMPTY)));
    raw.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let start = Instant::now();
    let (mut pending, mut sent) = (Vec::new(), 0);
    loop {
        if pending.is_empty() {
            pending = (0..100u8).flat_map(|_| raw.frame(&Request::Catalogue { from: 0 })).collect();
        }
        match raw.stream.write(&pending) {
            Ok(written) => {
                pending.drain(..written);
                sent += written;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                bench.check();
                assert!(start.elapsed() < 2 * PATIENCE, "it is never cut");
            }
            Err(_) => break,
        }
        assert!(sent < 64 << 20, "it took {sent} bytes without being read");
    }
    bench.check();
}

fn vend(attempt: Attempt, sequence: u64) -> Request {
    Request::Vend(Vend {
        attempt,
        sequence,
        product: PRODUCT,
        face_value: FACE,
        deadline_ms: 5_000,
        confirmed: 0,
    })
}

/// A terminal that does as it is told, right or wrong.
struct Raw {
    stream: TcpStream,
    session: Option<TerminalSession>,
    input: Vec<u8>,
    correlation: u16,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Reply(Box<Reply>),
    Bye(ByeReason),
    Error(ErrorCode),
    End,
}

impl Raw {
    fn bare(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, session: None, input: Vec::new(), correlation: 0 }
    }

    fn open(address: SocketAddr, terminal: u64, key: &[u8; 32], mode: Mode) -> Result<Self, Heard> {
        let mut raw = Self::bare(TcpStream::connect(address).unwrap());
        let mut fresh = [0; 32];
        random(&mut fresh);
        let (id, epoch) = (TerminalId(terminal), KeyEpoch(1));
        let mut hello = [0; HELLO_BYTES];
        let (mut handshake, length) =
            TerminalHandshake::start(id, epoch, Suite::AesGcm, mode, key, &fresh, &mut hello);
        raw.stream.write_all(&hello[..length]).unwrap();
        loop {
            if let Some((length, inbound)) = handshake.receive(&raw.input).unwrap() {
                raw.input.drain(..length);
                match inbound {
                    HandshakeInbound::Session(session) => raw.session = Some(session),
                    HandshakeInbound::Bye(bye) => return Err(Heard::Bye(bye.reason)),
                    HandshakeInbound::Error(notice) => return Err(Heard::Error(notice.code)),
                }
                return Ok(raw);
            }
            if !raw.read() {
                return Err(Heard::End);
            }
        }
    }

    fn frame(&mut self, request: &Request) -> Vec<u8> {
        let mut frame = [0; 512];
        self.correlation = self.correlation.wrapping_add(1);
        let length = self.session.as_mut().unwrap().send(self.correlation, request, &mut frame);
        frame[..length].to_vec()
    }

    fn send(&mut self, request: &Request) {
        let frame = self.frame(request);
        self.stream.write_all(&frame).unwrap();
    }

    fn reply(&mut self) -> Reply {
        match self.receive() {
            Heard::Reply(reply) => *reply,
            other => panic!("a reply was expected, not {other:?}"),
        }
    }

    fn receive(&mut self) -> Heard {
        loop {
            let heard = match &mut self.session {
                Some(session) => session.receive(&mut self.input).unwrap().map(|(length, inbound)| {
                    let heard = match inbound {
                        TerminalInbound::Reply { reply, .. } => Heard::Reply(Box::new(reply)),
                        TerminalInbound::Bye(bye) => Heard::Bye(bye.reason),
                        TerminalInbound::Error(notice) => Heard::Error(notice.code),
                        TerminalInbound::Ping { .. } | TerminalInbound::Pong { .. } => {
                            panic!("nobody pinged")
                        }
                    };
                    (length, heard)
                }),
                None => {
                    let header = wire::frame::Header::parse(&self.input, 0).unwrap();
                    header.map(|header| {
                        let body = &self.input[wire::frame::HEADER_BYTES..header.length];
                        let heard = match wire::control::decode_control(&header, body).unwrap() {
                            wire::control::Control::Bye(bye) => Heard::Bye(bye.reason),
                            wire::control::Control::Error(notice) => Heard::Error(notice.code),
                            other => panic!("{other:?}"),
                        };
                        (header.length, heard)
                    })
                }
            };
            if let Some((length, heard)) = heard {
                self.input.drain(..length);
                return heard;
            }
            if !self.read() {
                return Heard::End;
            }
        }
    }

    /// False at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(bytes) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                bytes > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}
