use super::proxy::proxy;
use super::raw::{introduction, is_closed, raw_node, read_frame, shake};
use super::*;
use crate::journal::record::Stream;
use crate::link::{CHUNK_BYTES_MAX, LinkMessage};
use bytes::Bytes;
use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use wire::control::ErrorCode;
use wire::link::{Channel, LinkSession, encode_link_error};

fn chunk(number: u64) -> ToNode {
    let bytes = Bytes::from(vec![7; CHUNK_BYTES_MAX as usize]);
    ToNode::Chunk { stream: Stream::Bulk, number, offset: 0, bytes }
}

#[test]
fn a_link_that_is_cut_in_the_middle_of_a_message_delivers_nothing_of_it() {
    let hub = hub(LinkOptions::default());
    let [mut control, mut bulk] = raw_node(hub.address, 5);
    let (number, _) = up(&hub.events);
    control.send(&ToHub::Ready);
    assert!(matches!(message(&hub.events), ToHub::Ready));
    let range = ToHub::Journal { from: 0, bytes: Bytes::from(vec![1; 1000]) }.encode();
    bulk.write(|session, out| {
        session.send_message(range.kind, true, &[&range.head], out);
        let whole = out.len();
        session.send_message(range.kind, false, &[&range.tail], out);
        out.truncate(whole + 500);
    });
    bulk.stream.shutdown(Shutdown::Both).unwrap();
    assert_eq!(down(&hub.events, number), "the other end closed the connection");
    assert!(is_closed(&mut control.stream), "its other connection goes too");
}

#[test]
fn an_altered_byte_drops_the_link_and_delivers_nothing() {
    let hub = hub(LinkOptions::default());
    let flip = Arc::new(AtomicBool::new(false));
    let node = node(&[proxy(hub.address, &flip, 2_000)]);
    let (at_hub, _) = up(&hub.events);
    let (at_node, _) = up(&node.events);
    hub.handle.send(at_hub, ToNode::JournalAcked { position: 0 });
    assert!(matches!(message(&node.events), ToNode::JournalAcked { .. }));
    flip.store(true, SeqCst);
    hub.handle.send(at_hub, chunk(1));
    let why = down(&node.events, at_node);
    assert_eq!(why, "the other end broke the protocol or was not understood: sealed frame does not open");
    let why = down(&hub.events, at_hub);
    assert!(why.contains("Unsealing"), "{why}");
    let (again, _) = up(&hub.events);
    up(&node.events);
    hub.handle.send(again, ToNode::JournalAcked { position: 1 });
    assert!(matches!(message(&node.events), ToNode::JournalAcked { position: 1 }));
}

#[test]
fn a_peer_that_keeps_talking_but_does_not_read_is_cut() {
    let hub = hub(LinkOptions { silence_ms: 2_000, ..LinkOptions::default() });
    let mut lines = raw_node(hub.address, 5);
    let (number, _) = up(&hub.events);
    // More than the kernel takes of it.
    (0..300).for_each(|n| hub.handle.send(number, chunk(n)));
    let why = loop {
        for line in &mut lines {
            let mut out = Vec::new();
            line.session.send_ping(1, &mut out);
            // The hub may have cut it by now.
            let _ = line.stream.write_all(&out);
        }
        match hub.events.recv_timeout(Duration::from_millis(50)) {
            Ok(LinkEvent::Down { why, .. }) => break why,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    assert_eq!(why, "nothing could be sent for 2000 ms");
}

#[test]
fn what_waits_for_a_peer_is_bounded() {
    let hub = hub(LinkOptions { outbound_bytes_max: 8 << 20, ..LinkOptions::default() });
    let _lines = raw_node(hub.address, 5);
    let (number, _) = up(&hub.events);
    (0..1000).for_each(|n| hub.handle.send(number, chunk(n)));
    let why = down(&hub.events, number);
    assert!(why.starts_with("the other end does not take what is sent"), "{why}");
}

#[test]
fn a_silent_peer_is_cut_on_either_side() {
    let options = LinkOptions { silence_ms: 300, ..LinkOptions::default() };
    let hub = hub(options);
    let _lines = raw_node(hub.address, 5);
    let (number, _) = up(&hub.events);
    assert_eq!(down(&hub.events, number), "nothing was heard for 300 ms");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = node_with(&[listener.local_addr().unwrap()], &node_keys(), options);
    let _lines = super::raw::raw_hub(&listener);
    let (number, _) = up(&node.events);
    assert_eq!(down(&node.events, number), "nothing was heard for 300 ms");
}

#[test]
fn a_hub_that_accepts_and_says_nothing_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = LinkOptions { handshake_ms: 200, ..LinkOptions::default() };
    let node = node_with(&[listener.local_addr().unwrap()], &node_keys(), options);
    until("the node gives up", || {
        node.handle.failure().is_some_and(|why| why == "the link did not come up within 200 ms")
    });
}

#[test]
fn what_is_not_understood_ends_the_link_with_a_code() {
    let hub = hub(LinkOptions::default());
    type Write = fn(&mut LinkSession, &mut Vec<u8>);
    let cases: [(Channel, Write, ErrorCode); 3] = [
        (Channel::Control, |session, out| session.send_message(0x0101, false, &[], out), ErrorCode::Kind),
        (
            Channel::Control,
            |session, out| session.send_message(1, false, &[&[0; 300]], out),
            ErrorCode::TooLarge,
        ),
        (Channel::Bulk, LinkSession::send_open, ErrorCode::OutOfOrder),
    ];
    for (link_id, (channel, write, code)) in (0..).zip(cases) {
        let mut lines = raw_node(hub.address, link_id);
        let (number, _) = up(&hub.events);
        let line = &mut lines[channel as usize];
        line.write(write);
        down(&hub.events, number);
        assert_eq!(read_frame(&mut line.stream), encode_link_error(code));
    }
    // Understood, but not here, or not at all.
    for (channel, kind, body) in [(Channel::Bulk, 9, &b""[..]), (Channel::Control, 9, b"x")] {
        let mut lines = raw_node(hub.address, 9);
        let (number, _) = up(&hub.events);
        lines[channel as usize].write(|session, out| session.send_message(kind, false, &[body], out));
        let why = down(&hub.events, number);
        lines[channel as usize].next(|inbound| {
            assert_eq!(*inbound, wire::link::LinkInbound::Close { why: &why });
        });
    }
}

#[test]
fn many_half_links_and_one_whole_do_not_disturb_each_other() {
    let hub = hub(LinkOptions { handshake_ms: 2_000, ..LinkOptions::default() });
    let halves: Vec<_> = (0..20)
        .map(|link_id| {
            let (mut line, _) = shake(hub.address, &introduction(Channel::Bulk, link_id));
            line.write(LinkSession::send_open);
            line
        })
        .collect();
    let mut lines = raw_node(hub.address, 100);
    let (number, _) = up(&hub.events);
    for mut half in halves {
        assert_eq!(read_frame(&mut half.stream), encode_link_error(ErrorCode::Timeout));
    }
    lines[0].send(&ToHub::Ready);
    assert!(matches!(message(&hub.events), ToHub::Ready));
    hub.handle.close(number, "done");
    assert_eq!(down(&hub.events, number), "done");
}
