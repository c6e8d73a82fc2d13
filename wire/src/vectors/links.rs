//! One connection of a link with fixed keys: handshake and one frame of every type.

use std::vec;
use std::vec::Vec;

use serde_json::{Value, json};

use super::{Vector, golden, hex, number, unhex};
use crate::control::ErrorCode;
use crate::link::{
    Channel, LinkHandshake, LinkHello, LinkInbound, LinkIntroduction, LinkSession, PROLOGUE_BYTES, Role,
    encode_link_error,
};
use crate::message::SellerId;
use crate::noise;
use crate::session::Suite;

#[test]
fn links_are_as_the_vectors_say() {
    let about = "Whole connections of a link with fixed keys. `frames` are in the order sent; `inner` is what each holds. \
                 Never use these ephemeral keys, or any twice.";
    let vectors = [Channel::Control, Channel::Bulk].map(connection);
    for (found, channel) in
        golden("links.json", about, &vectors).iter().zip([Channel::Control, Channel::Bulk])
    {
        read_back(found, channel);
    }
}

fn connection(channel: Channel) -> Vector {
    let Ends { mut node, mut hub, hello, answer } = ends(channel);
    let message = hello[PROLOGUE_BYTES..].try_into().unwrap();
    let (_, keys) =
        noise::respond(Suite::AesGcm, &hello[..PROLOGUE_BYTES], &KEY, &HUB_RANDOM, message).unwrap();
    let mut frames: Vec<Value> = Vec::new();
    for (from, inner, write) in STEPS {
        let mut frame = Vec::new();
        write(if *from == "node" { &mut node } else { &mut hub }, &mut frame);
        frames.push(json!({ "from": from, "inner": hex(inner), "frame": hex(&frame) }));
    }
    vec![
        ("noise", json!(Suite::AesGcm.noise_name())),
        ("node", number(u64::from(introduction(channel).node.0))),
        ("role", json!(introduction(channel).role as u8)),
        ("channel", json!(channel as u8)),
        ("workers", json!(introduction(channel).workers)),
        ("link_id", number(introduction(channel).link_id)),
        ("link_key", hex(&KEY)),
        ("node_ephemeral_private", hex(&NODE_RANDOM)),
        ("hub_ephemeral_private", hex(&HUB_RANDOM)),
        ("prologue", hex(&hello[..PROLOGUE_BYTES])),
        ("hello", hex(&hello)),
        ("handshake", hex(&answer)),
        ("key_node_to_hub", hex(keys.terminal_to_seller.as_slice())),
        ("key_hub_to_node", hex(keys.seller_to_terminal.as_slice())),
        ("frames", Value::from(frames)),
        ("error_authentication", hex(&encode_link_error(ErrorCode::Authentication))),
    ]
}

/// Both ends, fed only with what stands in the file, understand every frame of it.
fn read_back(found: &Value, channel: Channel) {
    let Ends { mut node, mut hub, hello, answer } = ends(channel);
    assert_eq!((unhex(&found["hello"]), unhex(&found["handshake"])), (hello, answer));
    let frames = found["frames"].as_array().unwrap();
    assert_eq!(frames.len(), STEPS.len());
    for (frame, (from, inner, _)) in frames.iter().zip(STEPS) {
        assert_eq!(unhex(&frame["inner"]), *inner);
        let mut bytes = unhex(&frame["frame"]);
        let length = bytes.len();
        let reader = if *from == "node" { &mut hub } else { &mut node };
        let (read, inbound) = reader.receive(&mut bytes).unwrap().unwrap();
        assert_eq!(read, length);
        let (first, body) = (inner[0], &inner[4..]);
        match inbound {
            LinkInbound::Open => assert_eq!(first, 0),
            LinkInbound::Message { kind, body: read } => {
                assert_eq!((kind, &*read), (u16::from(inner[2]), b"in two parts".as_slice()));
            }
            LinkInbound::Fragment => assert_eq!((first, inner[1]), (1, 1)),
            LinkInbound::Ping { number } => assert_eq!((2, &number.to_le_bytes()[..]), (first, body)),
            LinkInbound::Pong { number } => assert_eq!((3, &number.to_le_bytes()[..]), (first, body)),
            LinkInbound::Close { why } => assert_eq!((4, why.as_bytes()), (first, body)),
        }
    }
}

struct Ends {
    node: LinkSession,
    hub: LinkSession,
    hello: Vec<u8>,
    answer: Vec<u8>,
}

fn ends(channel: Channel) -> Ends {
    let limit = |kind| (kind == 5).then_some(100);
    let (mut handshake, hello) = LinkHandshake::start(&introduction(channel), &KEY, &NODE_RANDOM, limit);
    let (hub, answer) = LinkHello::read(&hello).unwrap().unwrap().1.accept(&KEY, &HUB_RANDOM, limit).unwrap();
    let (_, node) = handshake.receive(&answer).unwrap().unwrap();
    Ends { node, hub, hello: hello.to_vec(), answer: answer.to_vec() }
}

fn introduction(channel: Channel) -> LinkIntroduction {
    let (node, link_id) = (SellerId(0x0102_0304), 0x1112_1314_1516_1718);
    LinkIntroduction { node, role: Role::Server, channel, workers: 2, link_id }
}

type Write = fn(&mut LinkSession, &mut Vec<u8>);

const STEPS: &[(&str, &[u8], Write)] = &[
    ("node", &[0, 0, 0, 0, 2, 0, 0, 0], LinkSession::send_open),
    ("hub", &[0, 0, 0, 0, 2, 0, 0, 0], LinkSession::send_open),
    ("node", b"\x01\x01\x05\x00in two ", |end, out| end.send_message(5, true, &[b"in two "], out)),
    ("node", &[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0], |end, out| end.send_ping(9, out)),
    ("hub", &[3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0], |end, out| end.send_pong(9, out)),
    ("node", b"\x01\x00\x05\x00parts", |end, out| end.send_message(5, false, &[b"parts"], out)),
    ("hub", b"\x04\x00\x00\x00stopping", |end, out| end.send_close("stopping", out)),
];

const KEY: [u8; 32] = [0x4b; 32];
const NODE_RANDOM: [u8; 32] = [0x91; 32];
const HUB_RANDOM: [u8; 32] = [0xd3; 32];
