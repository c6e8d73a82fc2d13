//! Bytes to either end of either handshake, and of a session behind it. In clear mode every frame is given its right length
//! and checksum, so that what is in it is judged.

use wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, TRAILER_BYTES};
use wire::link::{Channel, LinkHandshake, LinkHello, LinkIntroduction, Role};
use wire::message::{KeyEpoch, Login, Request, SellerId, TerminalId};
use wire::session::{
    Acceptor, HANDSHAKE_BYTES, HELLO_BYTES, HandshakeInbound, Inbound, Mode, Suite, TerminalHandshake,
    TerminalInbound,
};
use xxhash_rust::xxh32::xxh32;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&role, bytes)) = bytes.split_first() else { return };
    match role % 8 {
        0 => acceptor(bytes),
        1 => drop(terminal().0.receive(bytes)),
        2 => link_server(bytes),
        3 => link_node(bytes),
        4 => clear_seller(bytes),
        5 => clear_terminal(bytes),
        6 => sealed(bytes),
        _ => open_link(bytes),
    }
}

fn acceptor(bytes: &[u8]) {
    let acceptor = Acceptor::new(true);
    if let Ok(Some((length, hello))) = acceptor.hello(bytes) {
        assert_eq!(length, HELLO_BYTES);
        let _ = acceptor.accept(&hello, &KEY, &[0x22; 32], &mut [0; HANDSHAKE_BYTES]);
    }
}

fn link_server(bytes: &[u8]) {
    if let Ok(Some((length, hello))) = LinkHello::read(bytes) {
        assert!(length <= bytes.len());
        let _ = hello.accept(&KEY, &[0x22; 32], |_| Some(64));
    }
}

fn link_node(bytes: &[u8]) {
    let (mut handshake, _) = LinkHandshake::start(&introduction(), &KEY, &[0x11; 32], |_| Some(64));
    let _ = handshake.receive(bytes);
}

/// Both ends of a link that are open, and bytes of nobody.
fn open_link(bytes: &[u8]) {
    let (mut node, hello) = LinkHandshake::start(&introduction(), &KEY, &[0x11; 32], |_| Some(64));
    let (_, hello) = LinkHello::read(&hello).expect("it is ours").expect("it is whole");
    let (mut hub, answer) = hello.accept(&KEY, &[0x22; 32], |_| Some(64)).expect("the keys agree");
    let (_, mut node) = node.receive(&answer).expect("it is ours").expect("it is whole");
    let mut sent = Vec::new();
    node.send_open(&mut sent);
    // What one end sends the other understands, whatever the message is and however it is cut.
    let mut expected = Vec::new();
    for (at, part) in bytes.chunks(16).take(8).enumerate() {
        let kind = (at / 2) as u16;
        node.send_message(kind, at % 2 == 0, &[part], &mut sent);
        expected.extend_from_slice(part);
    }
    let mut input = sent.as_mut_slice();
    while !input.is_empty() {
        let length = match hub.receive(input) {
            Ok(Some((length, _))) => length,
            Ok(None) => break,
            // Too long for its kind.
            Err(_) => return,
        };
        input = &mut input[length..];
    }
    let mut raw = bytes.to_vec();
    if let Ok(Some((length, inbound))) = hub.receive(&mut raw) {
        panic!("nobody sealed these {length} bytes: {inbound:?}");
    }
}

/// Either end of a sealed session, and bytes of nobody: what is clear may say that the connection is alive or over, and no more.
fn sealed(bytes: &[u8]) {
    let (mut terminal, mut seller) = seller(Mode::Sealed);
    if let Ok(Some((length, Inbound::Request { request, .. }))) = seller.receive(&mut bytes.to_vec()) {
        panic!("nobody sealed these {length} bytes: {request:?}");
    }
    if let Ok(Some((length, TerminalInbound::Reply { reply, .. }))) = terminal.receive(&mut bytes.to_vec()) {
        panic!("nobody sealed these {length} bytes: {reply:?}");
    }
}

fn clear_seller(bytes: &[u8]) {
    let (_, mut seller) = seller(Mode::Clear);
    let mut login = [0; FRAME_BYTES_MAX];
    let length = wire::codec::encode_request(1, &Request::Login(Box::new(Login::EMPTY)), &mut login);
    let first = frame(&login[..length]);
    // With or without a login first.
    let without = bytes.first().is_some_and(|first| first & 1 == 1);
    let frames = bytes.get(1..).unwrap_or(&[]).chunks(64).map(frame);
    for mut frame in std::iter::once(first).filter(|_| !without).chain(frames) {
        match seller.receive(&mut frame) {
            Ok(Some((length, _))) => assert_eq!(length, frame.len()),
            Ok(None) => return,
            Err(error) => {
                let _ = error.code();
                assert!(seller.receive(&mut frame).is_err(), "it stays over");
                return;
            }
        }
    }
}

fn clear_terminal(bytes: &[u8]) {
    let (mut terminal, _) = seller(Mode::Clear);
    for mut frame in bytes.chunks(200).map(frame) {
        match terminal.receive(&mut frame) {
            Ok(Some((length, _))) => assert!(length <= frame.len()),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Whatever it is, with the right length and the right checksum.
fn frame(inner: &[u8]) -> Vec<u8> {
    let mut frame = inner.to_vec();
    frame.resize(inner.len().clamp(HEADER_BYTES, FRAME_BYTES_MAX - TRAILER_BYTES), 0);
    let length = (frame.len() + TRAILER_BYTES) as u16;
    frame[..2].copy_from_slice(&length.to_le_bytes());
    let checksum = xxh32(&frame, 0);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame
}

fn terminal() -> (TerminalHandshake, [u8; HELLO_BYTES]) {
    hello(Mode::Clear)
}

fn hello(mode: Mode) -> (TerminalHandshake, [u8; HELLO_BYTES]) {
    let mut hello = [0; HELLO_BYTES];
    let (id, epoch) = (TerminalId(1), KeyEpoch(3));
    let (handshake, _) =
        TerminalHandshake::start(id, epoch, Suite::ChaChaPoly, mode, &KEY, &[0x11; 32], &mut hello);
    (handshake, hello)
}

fn seller(mode: Mode) -> (wire::session::TerminalSession, wire::session::SellerSession) {
    let (mut handshake, hello) = hello(mode);
    let acceptor = Acceptor::new(true);
    let (_, hello) = acceptor.hello(&hello).expect("it is ours").expect("it is whole");
    let mut answer = [0; HANDSHAKE_BYTES];
    let (seller, _) = acceptor.accept(&hello, &KEY, &[0x22; 32], &mut answer).expect("the keys agree");
    match handshake.receive(&answer) {
        Ok(Some((_, HandshakeInbound::Session(terminal)))) => (terminal, seller),
        other => panic!("{other:?}"),
    }
}

fn introduction() -> LinkIntroduction {
    LinkIntroduction {
        node: SellerId(1),
        role: Role::Server,
        channel: Channel::Control,
        workers: 1,
        link_id: 7,
    }
}

const KEY: [u8; 32] = [0x4b; 32];
