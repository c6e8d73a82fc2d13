//! One complete session per suite and mode with fixed keys: handshake and the first frames.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use serde_json::{Value, json};

use super::{Vector, golden, hex, unhex};
use crate::codec::{encode_reply, encode_request};
use crate::frame::FRAME_BYTES_MAX;
use crate::message::*;
use crate::noise;
use crate::session::{
    Acceptor, HANDSHAKE_BYTES, HELLO_BYTES, HandshakeInbound, Inbound, Mode, PROLOGUE_BYTES, SellerSession,
    Suite, TerminalHandshake, TerminalInbound, TerminalSession,
};

#[test]
fn sessions_are_as_the_vectors_say() {
    let variants =
        [(Suite::AesGcm, Mode::Sealed), (Suite::ChaChaPoly, Mode::Sealed), (Suite::AesGcm, Mode::Clear)];
    let vectors: Vec<Vector> = variants.iter().map(|(suite, mode)| session(*suite, *mode)).collect();
    let about = "Whole sessions with fixed keys. `frames` are in the order sent; `inner` is what each holds. Never use \
                 these ephemeral keys, or any twice.";
    for (found, (suite, mode)) in golden("sessions.json", about, &vectors).iter().zip(variants) {
        read_back(found, suite, mode);
    }
}

fn session(suite: Suite, mode: Mode) -> Vector {
    let (mut terminal, mut seller, hello, handshake) = ends(suite, mode);
    let message = hello[PROLOGUE_BYTES..].try_into().unwrap();
    let (_, keys) = noise::respond(suite, &hello[..PROLOGUE_BYTES], &KEY, &SELLER_RANDOM, message).unwrap();
    let mut frames: Vec<Value> = Vec::new();
    let (mut inner, mut out) = ([0; FRAME_BYTES_MAX], [0; FRAME_BYTES_MAX]);
    for step in steps() {
        let (from, inner_length, length) = match &step {
            Step::Ask(correlation, request) => {
                let inner_length = encode_request(*correlation, request, &mut inner);
                ("terminal", inner_length, terminal.send(*correlation, request, &mut out))
            }
            Step::Answer(correlation, reply) => {
                let inner_length = encode_reply(*correlation, reply, &mut inner);
                ("seller", inner_length, seller.send(*correlation, reply, &mut out))
            }
        };
        frames.push(
            json!({ "from": from, "inner": hex(&inner[..inner_length]), "frame": hex(&out[..length]) }),
        );
    }
    vec![
        ("noise", json!(suite.noise_name())),
        ("mode", json!(mode as u8)),
        ("terminal", json!(std::format!("0x{:016x}", TERMINAL.0))),
        ("key_epoch", json!(EPOCH.0)),
        ("terminal_key", hex(&KEY)),
        ("terminal_ephemeral_private", hex(&TERMINAL_RANDOM)),
        ("seller_ephemeral_private", hex(&SELLER_RANDOM)),
        ("prologue", hex(&hello[..PROLOGUE_BYTES])),
        ("hello", hex(&hello)),
        ("handshake", hex(&handshake)),
        ("key_terminal_to_seller", hex(keys.terminal_to_seller.as_slice())),
        ("key_seller_to_terminal", hex(keys.seller_to_terminal.as_slice())),
        ("frames", Value::from(frames)),
    ]
}

/// Both ends, fed only with what stands in the file, understand every frame of it.
fn read_back(found: &Value, suite: Suite, mode: Mode) {
    let (mut terminal, mut seller, hello, handshake) = ends(suite, mode);
    assert_eq!((unhex(&found["hello"]), unhex(&found["handshake"])), (hello.to_vec(), handshake.to_vec()));
    let frames = found["frames"].as_array().unwrap();
    assert_eq!(frames.len(), steps().len());
    for (frame, step) in frames.iter().zip(steps()) {
        let mut frame = unhex(&frame["frame"]);
        let length = frame.len();
        match step {
            Step::Ask(correlation, request) => {
                let read = seller.receive(&mut frame);
                assert_eq!(read, Ok(Some((length, Inbound::Request { correlation, request }))));
            }
            Step::Answer(correlation, reply) => {
                let read = terminal.receive(&mut frame);
                assert_eq!(read, Ok(Some((length, TerminalInbound::Reply { correlation, reply }))));
            }
        }
    }
}

fn ends(
    suite: Suite,
    mode: Mode,
) -> (TerminalSession, SellerSession, [u8; HELLO_BYTES], [u8; HANDSHAKE_BYTES]) {
    let (mut hello, mut answer) = ([0; HELLO_BYTES], [0; HANDSHAKE_BYTES]);
    let (mut handshake, _) =
        TerminalHandshake::start(TERMINAL, EPOCH, suite, mode, &KEY, &TERMINAL_RANDOM, &mut hello);
    let acceptor = Acceptor::new(true);
    let (_, read) = acceptor.hello(&hello).unwrap().unwrap();
    let (seller, _) = acceptor.accept(&read, &KEY, &SELLER_RANDOM, &mut answer).unwrap();
    let Ok(Some((_, HandshakeInbound::Session(terminal)))) = handshake.receive(&answer) else {
        panic!("the handshake fails")
    };
    (terminal, seller, hello, answer)
}

enum Step {
    Ask(u16, Request),
    Answer(u16, Reply),
}

fn steps() -> [Step; 7] {
    let welcome = Welcome {
        seller: SellerId(7),
        key_epoch: EPOCH,
        next_sequence: 13,
        window_base: 13,
        window: 64,
        ping_interval_s: 60,
        back_off_min_ms: 500,
        back_off_max_ms: 30_000,
        catalogue_version: 42,
        addresses: Addresses::default(),
    };
    let vend = Vend {
        attempt: Attempt::First,
        sequence: 13,
        product: 1001,
        face_value: 5000,
        deadline_ms: 20_000,
        confirmed: 0,
    };
    let sold = Sold {
        sequence: 13,
        reference: 65_541,
        copy: 0,
        expiry: 20_271_231,
        pin: Text::new(b"4929-1183-7740-2256").unwrap(),
        serial: Text::new(b"ZA0000012345").unwrap(),
    };
    let state = Reply::State { sequence: 13, state: SequenceState::Confirmed, reference: 65_541 };
    [
        Step::Answer(0, Reply::Welcome(Box::new(welcome))),
        Step::Ask(1, Request::Login(Box::new(Login::EMPTY))),
        Step::Ask(2, Request::Vend(vend)),
        Step::Answer(1, Reply::Resolved(Box::new(Resolved::EMPTY))),
        Step::Answer(2, Reply::Sold(sold)),
        Step::Ask(3, Request::Confirm { sequence: 13 }),
        Step::Answer(3, state),
    ]
}

const TERMINAL: TerminalId = TerminalId(0x0102_0304_0506_0708);
const EPOCH: KeyEpoch = KeyEpoch(3);
const KEY: [u8; 32] = counting(0x40);
const TERMINAL_RANDOM: [u8; 32] = counting(0x80);
const SELLER_RANDOM: [u8; 32] = counting(0xc0);

const fn counting(first: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = first + at as u8;
        at += 1;
    }
    bytes
}
