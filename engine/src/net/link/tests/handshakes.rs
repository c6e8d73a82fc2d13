use super::raw::{connect, introduction, is_closed, raw_node, read_frame, shake};
use super::*;
use crate::link::LinkMessage;
use crate::net::{Front, Seats, Stats, listen};
use std::io::Write;
use wire::control::ErrorCode;
use wire::link::{Channel, LinkHandshake, LinkIntroduction, LinkSession, encode_link_error};
use wire::message::{KeyEpoch, TerminalId};
use wire::session::{Acceptor, Mode, Suite, TerminalHandshake};

fn hello(said: &LinkIntroduction, keys: &NodeKeys) -> Vec<u8> {
    LinkHandshake::start(said, keys.link_psk(), &[3; 32], ToNode::bytes_max).1.to_vec()
}

/// What a hub says to these bytes before it closes.
fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let frame = read_frame(&mut stream);
    assert!(is_closed(&mut stream));
    frame
}

#[test]
fn an_unknown_node_and_a_wrong_key_are_answered_alike() {
    let hub = hub(LinkOptions::default());
    let said = introduction(Channel::Control, 1);
    let wrong_key = answer(hub.address, &hello(&said, &NodeKeys::from_node_key(&[8; 32])));
    let unknown = answer(hub.address, &hello(&LinkIntroduction { node: SellerId(8), ..said }, &node_keys()));
    assert_eq!(wrong_key, unknown);
    assert_eq!(wrong_key, encode_link_error(ErrorCode::Authentication));
    assert!(hub.events.is_empty());
}

#[test]
fn a_node_with_a_wrong_key_hears_of_it_and_comes_up_once_the_hub_has_the_right_one() {
    let hub = hub(LinkOptions::default());
    let keys = NodeKeys::from_node_key(&[8; 32]);
    let node = node_with(&[hub.address], &keys, LinkOptions::default());
    until("the node is refused", || node.handle.failure().is_some_and(|why| why.contains("Authentication")));
    hub.keyring.set(NODE, LinkKey::of(&keys));
    up(&node.events);
    assert_eq!(up(&hub.events).0, 1);
    assert_eq!(node.handle.failure(), None);
}

#[test]
fn a_removed_node_gets_no_new_link() {
    let hub = hub(LinkOptions::default());
    let node = node(&[hub.address]);
    let (at_hub, _) = up(&hub.events);
    let (at_node, _) = up(&node.events);
    hub.keyring.remove(NODE);
    hub.handle.close(at_hub, "removed");
    assert_eq!(down(&node.events, at_node), "the other end closed the link: removed");
    until("the node is refused", || node.handle.failure().is_some_and(|why| why.contains("Authentication")));
}

#[test]
fn a_replayed_hello_gets_no_link_and_ends_none() {
    let hub = hub(LinkOptions { handshake_ms: 2_000, ..LinkOptions::default() });
    let mut lines = raw_node(hub.address, 5);
    let (number, _) = up(&hub.events);
    // The same hellos again, as somebody who heard them would say them.
    let replays = [Channel::Control, Channel::Bulk].map(|channel| {
        let (_, hello) = shake(hub.address, &introduction(channel, 5));
        let mut stream = connect(hub.address);
        stream.write_all(&hello).unwrap();
        assert_eq!(read_frame(&mut stream).len(), wire::link::HANDSHAKE_BYTES);
        stream
    });
    for mut replay in replays {
        assert_eq!(read_frame(&mut replay), encode_link_error(ErrorCode::Timeout));
        assert!(is_closed(&mut replay));
    }
    lines[0].send(&ToHub::Ready);
    assert!(matches!(message(&hub.events), ToHub::Ready), "nothing else happened");
    lines[1].write(|session, out| session.send_close("done", out));
    assert_eq!(down(&hub.events, number), "the other end closed the link: done");
}

#[test]
fn the_connections_of_a_link_agree_and_come_once_each() {
    let hub = hub(LinkOptions::default());
    let (mut control, _) = shake(hub.address, &introduction(Channel::Control, 5));
    control.write(LinkSession::send_open);
    let others = [
        introduction(Channel::Control, 5),
        LinkIntroduction { workers: 9, ..introduction(Channel::Bulk, 5) },
    ];
    for said in others {
        let (mut line, _) = shake(hub.address, &said);
        line.write(LinkSession::send_open);
        assert_eq!(read_frame(&mut line.stream), encode_link_error(ErrorCode::OutOfOrder));
        assert!(is_closed(&mut line.stream));
    }
    let (mut elsewhere, _) = shake(hub.address, &introduction(Channel::Bulk, 6));
    elsewhere.write(LinkSession::send_open);
    let (mut bulk, _) = shake(hub.address, &introduction(Channel::Bulk, 5));
    assert!(hub.events.is_empty(), "not before its first sealed frame");
    bulk.write(LinkSession::send_open);
    control.expect_open();
    bulk.expect_open();
    up(&hub.events);
}

#[test]
fn a_second_link_replaces_the_first_and_the_events_say_from_where() {
    let hub = hub(LinkOptions::default());
    let mut first = raw_node(hub.address, 5);
    let (one, address_one) = up(&hub.events);
    let _second = raw_node(hub.address, 6);
    let why = down(&hub.events, one);
    let (two, address_two) = up(&hub.events);
    assert_eq!(two, one + 1);
    assert_eq!(why, format!("replaced by a link from {address_two}; this one came from {address_one}"));
    for line in &mut first {
        line.next(|inbound| assert_eq!(*inbound, wire::link::LinkInbound::Close { why: &why }));
        assert!(is_closed(&mut line.stream));
    }
}

#[test]
fn connections_that_say_nothing_do_not_keep_a_node_out() {
    let hub = hub(LinkOptions { handshakes_max: 4, ..LinkOptions::default() });
    let mut silent: Vec<_> = (0..20).map(|_| connect(hub.address)).collect();
    let _lines = raw_node(hub.address, 5);
    up(&hub.events);
    assert!(is_closed(&mut silent[0]), "the oldest went first");
}

#[test]
fn m09_each_port_refuses_the_other_protocol_with_a_coded_error() {
    let hub = hub(LinkOptions::default());
    let mut terminal = [0; wire::session::HELLO_BYTES];
    let (mut handshake, _) = TerminalHandshake::start(
        TerminalId(1),
        KeyEpoch(1),
        Suite::AesGcm,
        Mode::Sealed,
        &[5; 32],
        &[6; 32],
        &mut terminal,
    );
    let frame = answer(hub.address, &terminal);
    let Ok(Some((_, wire::session::HandshakeInbound::Error(notice)))) = handshake.receive(&frame) else {
        panic!("a terminal understands the answer")
    };
    assert_eq!(notice.code, ErrorCode::Kind);

    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (seats, stats) = (Seats::new(10), Arc::new(Stats::default()));
    let acceptor = Acceptor::new(false);
    let (front, handle) =
        Front::new::<()>(listener, acceptor, Arc::default(), &[], seats, stats, clock, random).unwrap();
    let front = std::thread::spawn(move || front.run());
    let said = introduction(Channel::Control, 1);
    let (mut handshake, hello) = LinkHandshake::start(&said, &[5; 32], &[6; 32], ToNode::bytes_max);
    let refused = handshake.receive(&answer(address, &hello)).unwrap_err();
    // Each says the versions of its own protocol.
    let (version_min, version_max) = (wire::frame::VERSION_MIN, wire::frame::VERSION_MAX);
    let notice = wire::control::ErrorNotice { version_min, version_max, ..notice };
    assert_eq!(refused, wire::link::LinkError::Refused(notice));
    handle.stop();
    front.join().unwrap().unwrap();
}
