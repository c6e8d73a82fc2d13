//! Connections that do what they should not. Each gets its code or its time-out, alone: another till goes on selling.

use crate::support::process::{OF, PATIENCE, Process};
use crate::support::raw::{connect_from, connect_narrow, last_error, rejection};
use crate::support::scratch;
use crate::support::till::{Lost, Till};
use engine::admin::KeyRow;
use engine::limits::LOGIN_MS_MAX;
use engine::registry::TerminalKey;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use wire::control::ErrorCode;
use wire::message::{Attempt, KeyEpoch, Login, Reply, Request, TerminalId, Vend};
use wire::session::{HELLO_BYTES, Mode, Suite, TerminalHandshake};

/// A till that must not notice anything.
struct Honest {
    till: Till,
    sold: u64,
}

impl Honest {
    fn new(network: &Process, key: &KeyRow) -> Self {
        Self { till: network.till(key), sold: 0 }
    }

    fn sells(&mut self) {
        self.sold += 1;
        self.till.sell(Attempt::First, self.sold, OF).unwrap();
    }
}

#[test]
fn law_9_what_is_no_hello_gets_its_code_and_nobody_else_notices() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 1_000);
    let keys = network.add_terminals(2);
    let mut honest = Honest::new(&network, &keys[0]);
    let hello = hello(&keys[1]);
    let changed = |at: usize, byte: u8| {
        let mut hello = hello.clone();
        hello[at] = byte;
        hello
    };
    for (what, bytes, code) in [
        ("garbage", b"GET / HTTP/1.1\r\nHost: till\r\n\r\n".to_vec(), ErrorCode::TooLarge),
        ("zeros", vec![0; 400], ErrorCode::Malformed),
        ("an oversized length", vec![0x01, 0x02], ErrorCode::TooLarge),
        ("a length that no hello has", changed(0, 71), ErrorCode::Malformed),
        ("an unknown kind", vec![16, 0, 0x77, 1, 0, 0, 0, 0], ErrorCode::Kind),
        ("a header of another version", changed(3, 9), ErrorCode::Version),
        ("versions that are all too new", [&hello[..8], &[7, 9], &hello[10..]].concat(), ErrorCode::Version),
        ("versions upside down", [&hello[..8], &[2, 1], &hello[10..]].concat(), ErrorCode::Malformed),
        ("an unknown flag", changed(4, 1), ErrorCode::Flags),
        ("an unknown suite", changed(10, 9), ErrorCode::Suite),
        ("clear mode where it is not allowed", changed(11, 1), ErrorCode::Mode),
        ("a ping before the hello", vec![8, 0, 3, 1, 0, 0, 0, 0], ErrorCode::OutOfOrder),
        (
            "a sealed frame before the hello",
            [&[32, 0, 15, 0, 0, 0, 0, 0], &[9; 24][..]].concat(),
            ErrorCode::OutOfOrder,
        ),
        (
            "a bit flipped in the hello",
            changed(HELLO_BYTES - 1, !hello[HELLO_BYTES - 1]),
            ErrorCode::Authentication,
        ),
    ] {
        assert_eq!(rejection(network.address, &bytes), code, "{what}");
        honest.sells();
    }
    // A frame that never ends is nothing yet; the connection's end is an end.
    for length in [0, 1, 7, HELLO_BYTES - 1] {
        let mut stream = connect_from([127, 0, 0, 1], network.address);
        stream.write_all(&hello[..length]).unwrap();
        drop(stream);
        honest.sells();
    }
    network.wait_for("one connection", |status| status.sellers[0].connections == 1);
    network.audit();
}

#[test]
fn an_unknown_terminal_a_wrong_key_and_another_epoch_are_told_the_same() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 1_000);
    let keys = network.add_terminals(2);
    let mut honest = Honest::new(&network, &keys[0]);
    network.await_terminal(&keys[1]);
    let rejected = network.status().sellers[0].rejected;
    for impostor in [
        KeyRow { terminal: 999_999, ..keys[1].clone() },
        KeyRow { key: TerminalKey::new([7; 32]), ..keys[1].clone() },
        KeyRow { key: keys[0].key.clone(), ..keys[1].clone() },
        KeyRow { key_epoch: keys[1].key_epoch + 1, ..keys[1].clone() },
    ] {
        let lost = Till::connect(network.address, &impostor, PATIENCE).err().unwrap();
        assert_eq!(lost.code(), ErrorCode::Authentication);
        honest.sells();
    }
    assert_eq!(network.status().sellers[0].rejected, rejected + 4);
}

#[test]
fn law_9_what_does_not_belong_into_a_sealed_session_ends_that_session_with_its_code() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 1_000);
    let keys = network.add_terminals(2);
    let mut honest = Honest::new(&network, &keys[0]);
    let key = &keys[1];
    let mut case = |what: &str, code, do_it: &dyn Fn(&mut Till)| {
        let mut till = network.till(key);
        do_it(&mut till);
        let lost = loop {
            match till.receive() {
                Ok(_) => {}
                Err(lost) => break lost,
            }
        };
        assert_eq!(lost.code(), code, "{what}");
        assert!(matches!(till.receive(), Err(Lost::Io(_))), "{what}: the connection ends");
        honest.sells();
    };
    let write = |till: &mut Till, bytes: &[u8]| till.stream.write_all(bytes).unwrap();
    case("a replayed frame", ErrorCode::Unsealing, &|till| {
        let frame = till.frame(&Request::Status { sequence: 1 });
        write(till, &frame);
        write(till, &frame);
    });
    case("frames in another order", ErrorCode::Unsealing, &|till| {
        let _first = till.frame(&Request::Status { sequence: 1 });
        let second = till.frame(&Request::Status { sequence: 1 });
        write(till, &second);
    });
    case("a flipped bit", ErrorCode::Unsealing, &|till| {
        let mut frame = till.frame(&vend(1));
        frame[20] ^= 1;
        write(till, &frame);
    });
    case("a second login", ErrorCode::OutOfOrder, &|till| {
        till.send(&Request::Login(Box::new(Login::EMPTY))).unwrap();
    });
    case("a hello inside a session", ErrorCode::OutOfOrder, &|till| write(till, &hello(key)));
    case("a clear request", ErrorCode::Kind, &|till| {
        write(till, &[16, 0, 0x15, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    });
    case("an oversized frame", ErrorCode::TooLarge, &|till| write(till, &[1, 2, 15, 0, 0, 0, 0, 0]));
    case("garbage", ErrorCode::Malformed, &|till| write(till, &[0; 64]));
    case("an unknown kind", ErrorCode::Kind, &|till| write(till, &[8, 0, 0x5f, 1, 0, 0, 0, 0]));

    // Before the login nothing else is heard.
    let mut till = Till::connect_unlogged(network.address, key, Mode::Sealed, PATIENCE).unwrap();
    till.send(&vend(1)).unwrap();
    assert_eq!(till.receive().err().unwrap().code(), ErrorCode::OutOfOrder);
    honest.sells();
    let mut till = network.till(key);
    assert_eq!(till.welcome.next_sequence, 1, "none of that was a sale");
    till.sell(Attempt::First, 1, OF).unwrap();
    network.audit();
}

#[test]
fn in_clear_mode_a_wrong_checksum_ends_the_session_and_what_is_right_is_answered() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &["--clear"], 1_000);
    let keys = network.add_terminals(2);
    let mut honest = Honest::new(&network, &keys[0]);
    network.await_terminal(&keys[1]);
    let connect = || {
        let mut till = Till::connect_unlogged(network.address, &keys[1], Mode::Clear, PATIENCE).unwrap();
        till.ask(&Request::Login(Box::new(Login::EMPTY))).unwrap();
        till
    };
    let mut till = connect();
    let mut frame = till.frame(&vend(1));
    frame[10] ^= 1;
    till.stream.write_all(&frame).unwrap();
    assert_eq!(till.receive().err().unwrap().code(), ErrorCode::Checksum);
    honest.sells();
    let mut till = connect();
    till.stream
        .write_all(&[32, 0, 15, 0, 0, 0, 0, 0])
        .and_then(|()| till.stream.write_all(&[9; 24]))
        .unwrap();
    assert_eq!(till.receive().err().unwrap().code(), ErrorCode::Kind, "a sealed frame");
    honest.sells();
    connect().sell(Attempt::First, 1, OF).unwrap();
    network.audit();
}

/// Everything that keeps a connection and does nothing with it, at once, while a till sells.
#[test]
fn law_9_whoever_says_nothing_or_never_reads_is_timed_out_and_memory_stays_bounded() {
    const IDLE: usize = 2_000;
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 5_000);
    let keys = network.add_terminals(3);
    let mut honest = Honest::new(&network, &keys[0]);
    keys.iter().for_each(|key| network.await_terminal(key));
    network.wait_for("one connection", |status| status.sellers[0].connections == 1);
    let before = network.resident_bytes();
    let begun = Instant::now();

    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|at| {
            let mut stream = connect_from([127, 0, 0, 2 + (at / 1_000) as u8], network.address);
            // Some say half a hello.
            stream.write_all(&hello(&keys[1])[..at % 40]).unwrap();
            stream
        })
        .collect();
    let unlogged = Till::connect_unlogged(network.address, &keys[1], Mode::Sealed, PATIENCE).unwrap();
    let narrow = connect_narrow(network.address);
    let mut deaf = Till::shake_hands(narrow, &keys[2], Mode::Sealed, PATIENCE).unwrap();
    deaf.ask(&Request::Login(Box::new(Login::EMPTY))).unwrap();
    let deaf = thread::spawn(move || never_read(deaf));
    honest.sells();
    network.wait_for("all of them", |status| status.sellers[0].connections == IDLE + 3);
    let grown = network.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {IDLE} connections");
    honest.sells();

    let mut waiting: Vec<TcpStream> = idle;
    waiting.push(unlogged.stream);
    for mut stream in waiting {
        assert_eq!(last_error(&mut stream), ErrorCode::Timeout);
    }
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(LOGIN_MS_MAX), "after {waited:?} already");
    honest.sells();
    let unread_bytes = deaf.join().unwrap();
    assert!(unread_bytes < 16 << 20, "{unread_bytes} bytes were taken of a terminal that does not read");
    network.wait_for("one connection", |status| status.sellers[0].connections == 1);
    honest.sells();
    let grown = network.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes are kept");
    network.audit();
}

/// Asks without reading until the connection is cut; how many bytes of questions were taken.
fn never_read(mut till: Till) -> usize {
    let mut taken = 0;
    loop {
        let frame = till.frame(&Request::Status { sequence: 1 });
        match till.stream.write(&frame) {
            // What was cut in two has no end any more; nobody reads it.
            Ok(bytes) => taken += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let is_cut = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                assert!(is_cut, "it was not cut: {error}");
                break;
            }
        }
    }
    // Whatever is left in the socket is bounded, too.
    let mut rest = Vec::new();
    let _ = till.stream.read_to_end(&mut rest);
    assert!(rest.len() < 16 << 20);
    taken
}

/// A till that sends much at once and reads is served, however much that is.
#[test]
fn many_requests_at_once_are_all_answered_in_order() {
    const REQUESTS: u64 = 5_000;
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 100);
    let key = &network.add_terminals(1)[0];
    let mut till = network.till(key);
    let mut frames = Vec::new();
    for sequence in 1..=REQUESTS {
        frames.extend(till.frame(&Request::Status { sequence }));
    }
    let mut writer = till.stream.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&frames).unwrap());
    for asked in 1..=REQUESTS {
        match till.receive().unwrap().1 {
            Reply::State { sequence, .. } => assert_eq!(sequence, asked),
            other => panic!("{other:?}"),
        }
    }
    writing.join().unwrap();
}

fn vend(sequence: u64) -> Request {
    let (attempt, (product, face_value)) = (Attempt::First, OF);
    Request::Vend(Vend { attempt, sequence, product, face_value, deadline_ms: 5_000, confirmed: 0 })
}

fn hello(key: &KeyRow) -> Vec<u8> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).unwrap();
    let mut hello = [0; HELLO_BYTES];
    let (terminal, epoch, psk) = (TerminalId(key.terminal), KeyEpoch(key.key_epoch), key.key.expose());
    let start = TerminalHandshake::start;
    let (_, length) = start(terminal, epoch, Suite::AesGcm, Mode::Sealed, psk, &random, &mut hello);
    hello[..length].to_vec()
}
