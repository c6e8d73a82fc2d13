//! Terminals, and callers that are none, that send what they should not. Each gets its code, alone.

use super::script::{Said, Scene, Till, hello, sealed};
use std::sync::atomic::Ordering::Relaxed;
use wire::control::ErrorCode;
use wire::link::{Channel, LinkHandshake, LinkIntroduction, Role};
use wire::session::{HELLO_BYTES, Mode};

#[test]
fn what_is_no_hello_gets_its_code_and_nobody_else_notices() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let (mut honest, session) = scene.open(&mut server, 6);
    let good = hello(5, Mode::Sealed);
    let changed = |at: usize, byte: u8| {
        let mut hello = good.clone();
        hello[at] = byte;
        hello
    };
    let introduction = LinkIntroduction {
        node: super::script::MANAGER,
        role: Role::Server,
        channel: Channel::Control,
        workers: 1,
        link_id: 1,
    };
    let link_hello = LinkHandshake::start(&introduction, &[1; 32], &[2; 32], |_| None).1;
    let cases = [
        ("garbage", b"GET / HTTP/1.1\r\nHost: till\r\n\r\n".to_vec(), ErrorCode::TooLarge),
        ("zeros", vec![0; 400], ErrorCode::Malformed),
        ("an oversized length", vec![0x01, 0x02], ErrorCode::TooLarge),
        ("a length that no hello has", changed(0, 71), ErrorCode::Malformed),
        ("an unknown kind", vec![16, 0, 0x77, 1, 0, 0, 0, 0], ErrorCode::Kind),
        ("a hello of the link protocol", link_hello.to_vec(), ErrorCode::Kind),
        ("a header of another version", changed(3, 9), ErrorCode::Version),
        ("versions that are all too new", [&good[..8], &[7, 9], &good[10..]].concat(), ErrorCode::Version),
        ("an unknown flag", changed(4, 1), ErrorCode::Flags),
        ("an unknown suite", changed(10, 9), ErrorCode::Suite),
        ("clear mode", hello(5, Mode::Clear), ErrorCode::Mode),
        ("a ping before the hello", vec![8, 0, 3, 1, 0, 0, 0, 0], ErrorCode::OutOfOrder),
        ("a sealed frame before the hello", sealed(9, 40), ErrorCode::OutOfOrder),
        ("a request in clear", [&[16, 0, 0x13, 1, 0, 0, 0, 0][..], &[1; 8]].concat(), ErrorCode::OutOfOrder),
    ];
    for (at, (what, bytes, code)) in cases.into_iter().enumerate() {
        let mut till = scene.connect();
        till.send(&bytes);
        assert_eq!(till.last_error(), code, "{what}");
        assert_eq!(scene.relay.stats().faults.load(Relaxed), at as u64 + 1);
        honest.send(&sealed(1, 40));
        assert_eq!(server[0].frames_of(session, 40), sealed(1, 40), "{what}");
    }
    // A frame that never ends is nothing yet; the connection's end is an end.
    for length in [0, 1, 7, HELLO_BYTES - 1] {
        let mut till = scene.connect();
        till.send(&good[..length]);
    }
    scene.wait_for("one connection", |stats| stats.connections.load(Relaxed) == 1);
}

#[test]
fn what_does_not_belong_into_a_session_ends_it_with_its_code() {
    let scene = Scene::new(1);
    let mut server = scene.server();
    let request = [&[16, 0, 0x13, 1, 0, 0, 0, 0][..], &[1; 8]].concat();
    let handshake = [&[56, 0, 2, 1, 0, 0, 0, 0][..], &[1; 48]].concat();
    let mut flagged = sealed(1, 40);
    flagged[4] = 1;
    let cases = [
        ("a second hello", hello(5, Mode::Sealed), ErrorCode::OutOfOrder),
        ("a server's handshake", handshake, ErrorCode::OutOfOrder),
        ("a request in clear", request, ErrorCode::Kind),
        ("a frame too short to be sealed", vec![20, 0, 15, 0, 0, 0, 0, 0], ErrorCode::Malformed),
        ("a flag", flagged, ErrorCode::Flags),
        ("a length beyond all", vec![1, 2], ErrorCode::TooLarge),
    ];
    for (what, bytes, code) in cases {
        let (mut till, session) = scene.open(&mut server, 5);
        // What came before it is carried.
        till.send(&[sealed(4, 40), bytes].concat());
        assert_eq!(till.last_error(), code, "{what}");
        assert_eq!(server[0].next(), (session, Said::Frames(sealed(4, 40))), "{what}");
        assert_eq!(server[0].next(), (session, Said::End), "{what}");
    }
}

#[test]
fn a_server_that_breaks_the_protocol_is_lost_and_terminals_stay() {
    let scene = Scene::new(1);
    let bad: [&dyn Fn(&mut super::script::Worker); 2] = [
        // Only a manager opens sessions.
        &|worker| {
            let hello = hello(1, Mode::Sealed);
            let source = "192.0.2.1:1".parse().unwrap();
            worker.batch().open(1, source, hello.as_slice().try_into().unwrap());
            worker.flush().unwrap();
        },
        &|worker| worker.send_raw(0x0201, &[1, 2, 3]),
    ];
    let mut till: Option<Till> = None;
    for (at, do_it) in bad.iter().enumerate() {
        let mut server = scene.server();
        let mut honest = till.take().unwrap_or_else(|| scene.connect());
        scene.open_on(&mut honest, &mut server, 5);
        do_it(&mut server[0]);
        assert_eq!(honest.bye().reason, wire::control::ByeReason::Renew);
        assert_eq!(scene.relay.stats().server().losses, at as u64 + 1);
        till = Some(honest);
    }
}
