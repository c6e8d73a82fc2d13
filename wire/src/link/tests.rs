use super::*;
use crate::control::{Control, decode_control};
use crate::frame::{Header, Kind};
use crate::message::{KeyEpoch, SellerId, TerminalId};
use crate::session::{Acceptor, Mode, Suite, TerminalHandshake};
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

fn introduction() -> LinkIntroduction {
    let channel = Channel::Control;
    LinkIntroduction { node: SellerId(7), role: Role::Server, channel, workers: 4, link_id: 0x1122_3344 }
}

fn limit(kind: u16) -> Option<usize> {
    match kind {
        1 => Some(10),
        2 => Some(200_000),
        _ => None,
    }
}

/// Both ends after their opens.
fn ends() -> (LinkSession, LinkSession) {
    let (mut handshake, hello) = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit);
    let (length, read) = LinkHello::read(&hello).unwrap().unwrap();
    assert_eq!((length, read.introduction), (HELLO_BYTES, introduction()));
    let (mut hub, answer) = read.accept(&[5; 32], &[8; 32], limit).unwrap();
    let (length, mut node) = handshake.receive(&answer).unwrap().unwrap();
    assert_eq!(length, HANDSHAKE_BYTES);
    let mut out = Vec::new();
    node.send_open(&mut out);
    assert_eq!(hub.receive(&mut out).unwrap().unwrap().1, LinkInbound::Open);
    out.clear();
    hub.send_open(&mut out);
    assert_eq!(node.receive(&mut out).unwrap().unwrap().1, LinkInbound::Open);
    (node, hub)
}

/// What one end makes of the frames that `write` has the other write.
fn pass(write: impl FnOnce(&mut LinkSession, &mut Vec<u8>)) -> Result<Vec<(u16, Vec<u8>)>, LinkError> {
    let (mut node, mut hub) = ends();
    let mut out = Vec::new();
    write(&mut node, &mut out);
    let mut at = 0;
    let mut messages = Vec::new();
    while let Some((length, inbound)) = hub.receive(&mut out[at..])? {
        at += length;
        if let LinkInbound::Message { kind, body } = inbound {
            messages.push((kind, body.into_owned()));
        }
    }
    assert_eq!(at, out.len());
    Ok(messages)
}

#[test]
fn messages_arrive_whole_and_in_order_also_in_parts() {
    let long: Vec<u8> = (0..150_000_u32).map(|n| n as u8).collect();
    let messages = pass(|node, out| {
        node.send_message(1, false, &[b"ab", b"", b"c"], out);
        let mut parts = long.chunks(FRAGMENT_BYTES_MAX).peekable();
        while let Some(part) = parts.next() {
            node.send_message(2, parts.peek().is_some(), &[part], out);
            node.send_ping(9, out);
        }
        node.send_message(1, false, &[], out);
    });
    assert_eq!(messages.unwrap(), [(1, b"abc".to_vec()), (2, long.clone()), (1, vec![])]);
}

#[test]
fn a_message_that_is_whole_is_not_copied() {
    let (mut node, mut hub) = ends();
    let mut out = Vec::new();
    node.send_message(1, false, &[b"abc"], &mut out);
    let inbound = hub.receive(&mut out).unwrap().unwrap().1;
    assert_eq!(inbound, LinkInbound::Message { kind: 1, body: Cow::Borrowed(b"abc") });
    assert!(matches!(inbound, LinkInbound::Message { body: Cow::Borrowed(_), .. }));
}

#[test]
fn no_message_outgrows_its_kind_and_no_kind_is_made_up() {
    let too_long = Err(LinkError::TooLong { kind: 1, bytes_max: 10 });
    assert_eq!(pass(|node, out| node.send_message(1, false, &[&[0; 11]], out)), too_long);
    let in_parts = pass(|node, out| {
        node.send_message(1, true, &[&[0; 6]], out);
        node.send_message(1, true, &[&[0; 6]], out);
    });
    assert_eq!(in_parts, too_long);
    assert_eq!(
        pass(|node, out| node.send_message(3, true, &[b"a"], out)),
        Err(LinkError::Message { kind: 3 })
    );
    let mixed = pass(|node, out| {
        node.send_message(2, true, &[b"a"], out);
        node.send_message(1, false, &[b"a"], out);
    });
    assert_eq!(mixed, Err(LinkError::OutOfOrder));
}

#[test]
fn an_open_comes_first_and_once() {
    assert_eq!(pass(LinkSession::send_open), Err(LinkError::OutOfOrder));
    let (_, hello) = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit);
    let (mut handshake, _) = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit);
    let (mut hub, answer) =
        LinkHello::read(&hello).unwrap().unwrap().1.accept(&[5; 32], &[8; 32], limit).unwrap();
    let (_, mut node) = handshake.receive(&answer).unwrap().unwrap();
    let mut out = Vec::new();
    node.send_ping(1, &mut out);
    assert_eq!(hub.receive(&mut out), Err(LinkError::OutOfOrder));
    assert_eq!(hub.receive(&mut []), Err(LinkError::OutOfOrder), "it is over for good");
}

#[test]
fn a_wrong_key_an_unknown_node_and_an_altered_hello_are_refused_alike() {
    let (_, hello) = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit);
    let read = |hello: &[u8]| LinkHello::read(hello).unwrap().unwrap().1;
    let refused = |hello: &[u8], key: u8| read(hello).accept(&[key; 32], &[8; 32], limit).unwrap_err();
    assert_eq!(refused(&hello, 4), LinkError::Authentication);
    // Node, workers, link id; the handshake message itself.
    for at in [16, 22, 24, 31, 32, 79] {
        let mut altered = hello;
        altered[at] ^= 1;
        assert_eq!(refused(&altered, 5), LinkError::Authentication, "byte {at}");
    }
    let mut handshake = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit).0;
    let (_, mut answer) = read(&hello).accept(&[5; 32], &[8; 32], limit).unwrap();
    answer[20] ^= 1;
    assert_eq!(handshake.receive(&answer).unwrap_err(), LinkError::Authentication);
}

#[test]
fn an_altered_or_repeated_frame_does_not_open() {
    let (mut node, _) = ends();
    let mut frame = Vec::new();
    node.send_message(1, false, &[b"abc"], &mut frame);
    for at in 8..frame.len() {
        let (_, mut hub) = ends();
        let mut altered = frame.clone();
        altered[at] ^= 0x10;
        assert_eq!(hub.receive(&mut altered), Err(LinkError::Unsealing), "byte {at}");
    }
    let (_, mut hub) = ends();
    assert!(hub.receive(&mut frame.clone()).unwrap().is_some());
    assert_eq!(hub.receive(&mut frame), Err(LinkError::Unsealing), "replayed");
}

#[test]
fn m09_each_protocol_refuses_the_other_with_a_code_that_both_read() {
    let mut terminal = [0; crate::session::HELLO_BYTES];
    let _ = TerminalHandshake::start(
        TerminalId(1),
        KeyEpoch(1),
        Suite::AesGcm,
        Mode::Sealed,
        &[5; 32],
        &[6; 32],
        &mut terminal,
    );
    let error = LinkHello::read(&terminal).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Kind));
    let frame = encode_link_error(ErrorCode::Kind);
    let header = Header::parse(&frame, 0).unwrap().unwrap();
    assert_eq!(header.kind, Kind::Error);
    let notice = ErrorNotice { code: ErrorCode::Kind, version_min: VERSION_MIN, version_max: VERSION_MAX };
    assert_eq!(decode_control(&header, &frame[8..]), Ok(Control::Error(notice)));

    let (mut handshake, hello) = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit);
    let error = Acceptor::new(true).hello(&hello).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Kind);
    let mut frame = [0; crate::control::CONTROL_BYTES_MAX];
    let length = crate::control::encode_error(error.code(), &mut frame);
    let refused = handshake.receive(&frame[..length]).unwrap_err();
    let (version_min, version_max) = (crate::frame::VERSION_MIN, crate::frame::VERSION_MAX);
    let notice = ErrorNotice { version_min, version_max, ..notice };
    assert_eq!((refused, refused.code()), (LinkError::Refused(notice), None));
}

#[test]
fn versions_suites_and_protocols_that_are_not_common_are_named() {
    let (_, hello) = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit);
    let read = |at: usize, value: u8| {
        let mut hello = hello;
        hello[at] = value;
        LinkHello::read(&hello).unwrap_err().code().unwrap()
    };
    assert_eq!(read(8, b'L'), ErrorCode::Kind);
    assert_eq!(read(12, 3), ErrorCode::Malformed, "from 3 to 2");
    assert_eq!(read(13, 0), ErrorCode::Malformed);
    let range = |least_and_most: [u8; 2]| {
        let mut hello = hello;
        hello[12..14].copy_from_slice(&least_and_most);
        LinkHello::read(&hello).map(|read| read.unwrap().1.version).map_err(|error| error.code().unwrap())
    };
    assert_eq!(range([3, 4]), Err(ErrorCode::Version));
    assert_eq!(range([1, 1]), Ok(1), "the highest that both know");
    assert_eq!([range([1, 2]), range([2, 9])], [Ok(2), Ok(2)]);
    assert_eq!(read(14, 2), ErrorCode::Suite);
    assert_eq!(read(15, 0), ErrorCode::Malformed, "role");
    assert_eq!(read(20, 3), ErrorCode::Malformed, "channel");
    assert_eq!(read(2, 0x42), ErrorCode::TooLarge, "a handshake of that length");
    for end in 0..hello.len() {
        assert_eq!(LinkHello::read(&hello[..end]), Ok(None), "incomplete at {end}");
    }
}

#[test]
fn a_close_says_why_within_its_bounds() {
    let (mut node, mut hub) = ends();
    let mut out = Vec::new();
    node.send_close(&"ö".repeat(150), &mut out);
    let inbound = hub.receive(&mut out).unwrap().unwrap().1;
    assert_eq!(inbound, LinkInbound::Close { why: &"ö".repeat(100) });
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_either_end_panic(bytes: Vec<u8>, kind in 0x40_u8..0x50, length in 0_u16..200) {
        let mut framed = length.to_le_bytes().to_vec();
        framed.extend([kind, 0, 0, 0, 0, 0]);
        framed.extend(&bytes);
        for mut bytes in [bytes, framed] {
            let _ = LinkHello::read(&bytes);
            let _ = LinkHandshake::start(&introduction(), &[5; 32], &[6; 32], limit).0.receive(&bytes);
            let _ = ends().0.receive(&mut bytes);
        }
    }

    /// Whatever the key holder says inside a frame.
    #[test]
    fn no_sealed_bytes_make_an_end_panic(inner in proptest::collection::vec(0_u8..6, 4..40)) {
        let (mut node, mut hub) = ends();
        let mut out = Vec::new();
        node.send_raw(&inner, &mut out);
        let _ = hub.receive(&mut out);
    }
}
