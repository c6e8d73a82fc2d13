use super::raw::raw_hub;
use super::*;
use crate::ids::VarietyId;
use crate::journal::record::Stream;
use crate::link::{CHUNK_BYTES_MAX, RANGE_BYTES_MAX};
use bytes::Bytes;

fn chunk(number: u64) -> ToNode {
    let bytes = Bytes::from(vec![number as u8; CHUNK_BYTES_MAX as usize]);
    ToNode::Chunk { stream: Stream::Bulk, number, offset: 0, bytes }
}

#[test]
fn messages_of_every_length_go_both_ways_whole_and_in_order() {
    let hub = hub(LinkOptions::default());
    let node = node(&[hub.address]);
    let LinkEvent::Up { connection: at_hub, node: name, role, workers, .. } = next(&hub.events) else {
        panic!("it comes up")
    };
    assert_eq!((name, role, workers), (NODE, Role::Server, 3));
    let (at_node, address) = up(&node.events);
    assert_eq!(address, hub.address);

    node.handle.send(at_node, ToHub::Urgent { request: 1, variety: VarietyId(2) });
    assert!(matches!(message(&hub.events), ToHub::Urgent { request: 1, .. }));
    let range = Bytes::from((0..RANGE_BYTES_MAX).map(|n| (n >> 3) as u8).collect::<Vec<_>>());
    node.handle.send(at_node, ToHub::Journal { from: 64, bytes: range.clone() });
    node.handle.send(at_node, ToHub::Journal { from: 65, bytes: Bytes::from_static(b"next") });
    let ToHub::Journal { from: 64, bytes } = message(&hub.events) else { panic!("the range") };
    assert_eq!(bytes, range);
    assert!(matches!(message(&hub.events), ToHub::Journal { from: 65, .. }));

    hub.handle.send(at_hub, ToNode::JournalAcked { position: 9 });
    let ToNode::JournalAcked { position: 9 } = message(&node.events) else { panic!("the acknowledgement") };
    for number in 0..100 {
        hub.handle.send(at_hub, chunk(number));
    }
    for expected in 0..100 {
        let ToNode::Chunk { number, bytes, .. } = message(&node.events) else { panic!("a chunk") };
        assert_eq!((number, bytes.len()), (expected, CHUNK_BYTES_MAX as usize));
        assert!(bytes.iter().all(|byte| *byte == expected as u8));
    }
    node.handle.stop();
    assert_eq!(down(&hub.events, at_hub), "the other end closed the link: the node stops");
}

#[test]
fn a_registry_of_many_frames_arrives() {
    let hub = hub(LinkOptions::default());
    let node = node(&[hub.address]);
    let (at_hub, _) = up(&hub.events);
    up(&node.events);
    let varieties = (1..3000).map(crate::registry::tests::variety).collect();
    let registry = Arc::new(crate::registry::Registry::new(5, varieties, vec![], vec![]).unwrap());
    hub.handle.send(at_hub, ToNode::JournalAcked { position: 0 });
    hub.handle.send(at_hub, ToNode::Registry(Arc::clone(&registry)));
    assert!(matches!(message(&node.events), ToNode::JournalAcked { .. }));
    let ToNode::Registry(arrived) = message(&node.events) else { panic!("a registry") };
    assert_eq!(arrived, registry);
}

#[test]
fn control_overtakes_bulk_that_waits_for_its_budget() {
    let hub = hub(LinkOptions { bulk_bytes_per_s: Some(2_000_000), ..LinkOptions::default() });
    let node = node(&[hub.address]);
    let (at_hub, _) = up(&hub.events);
    up(&node.events);
    hub.handle.send(at_hub, ToNode::JournalAcked { position: 0 });
    assert!(matches!(message(&node.events), ToNode::JournalAcked { .. }));
    let start = Instant::now();
    let chunks = 30;
    (0..chunks).for_each(|number| hub.handle.send(at_hub, chunk(number)));
    hub.handle.send(at_hub, ToNode::JournalAcked { position: 1 });
    let order: Vec<_> = (0..=chunks).map(|_| message(&node.events)).collect();
    let place = order.iter().position(|message| matches!(message, ToNode::JournalAcked { .. })).unwrap();
    assert!(place < order.len() / 2, "came as number {place}");
    // 64 KiB may go at once; of the rest no test machine makes more than there is.
    let bytes = chunks as f64 * f64::from(CHUNK_BYTES_MAX);
    let least_s = (bytes - 65_536.0) / 2_000_000.0;
    assert!(start.elapsed().as_secs_f64() >= least_s * 0.95, "{:?} is too fast", start.elapsed());
}

#[test]
fn nothing_from_the_bulk_channel_comes_before_the_first_message_of_all() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = node(&[listener.local_addr().unwrap()]);
    let [mut control, mut bulk] = raw_hub(&listener);
    up(&node.events);
    bulk.send(&ToNode::Ready);
    bulk.send(&ToNode::StockArrived { variety: VarietyId(1) });
    // By its second answer the node has had a turn in which the bulk channel was readable.
    control.ping(1);
    control.ping(2);
    assert!(node.events.is_empty());
    control.send(&ToNode::Welcome { hub_epoch: 1, pending: 0, journal_acked: 0 });
    assert!(matches!(message(&node.events), ToNode::Welcome { .. }));
    assert!(matches!(message(&node.events), ToNode::Ready));
    assert!(matches!(message(&node.events), ToNode::StockArrived { .. }));
}

#[test]
fn a_node_comes_back_after_a_close_under_a_new_number() {
    let hub = hub(LinkOptions::default());
    let node = node(&[hub.address]);
    let (at_hub, _) = up(&hub.events);
    let (at_node, _) = up(&node.events);
    hub.handle.close(at_hub, "try again");
    assert_eq!(down(&hub.events, at_hub), "try again");
    assert_eq!(down(&node.events, at_node), "the other end closed the link: try again");
    assert_eq!(up(&hub.events).0, at_hub + 1);
    let (again, _) = up(&node.events);
    assert_eq!(again, at_node + 1);
    // What is meant for the link before goes nowhere.
    node.handle.send(at_node, ToHub::Ready);
    hub.handle.close(at_hub, "late");
    node.handle.reconnect(again, "the hub broke the protocol");
    assert_eq!(down(&node.events, again), "the hub broke the protocol");
    assert_eq!(down(&hub.events, at_hub + 1), "the other end closed the link: the hub broke the protocol");
}

#[test]
fn a_node_goes_through_the_addresses_until_one_answers() {
    let (first, second) = (hub(LinkOptions::default()), hub(LinkOptions::default()));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let node = node(&[nobody, first.address, second.address]);
    let (connection, address) = up(&node.events);
    assert_eq!(address, first.address);
    drop(first);
    assert_eq!(down(&node.events, connection), "the other end closed the link: the hub stops");
    assert_eq!(up(&node.events).1, second.address);
    up(&second.events);
}

#[test]
fn an_idle_link_stays_up_by_its_pings() {
    let options = LinkOptions { ping_ms: 50, silence_ms: 1_500, ..LinkOptions::default() };
    let hub = hub(options);
    let node = node_with(&[hub.address], &node_keys(), options);
    let (at_hub, _) = up(&hub.events);
    up(&node.events);
    assert!(hub.events.recv_timeout(Duration::from_millis(3_500)).is_err(), "nothing happens");
    hub.handle.send(at_hub, ToNode::Drain { on: true });
    assert!(matches!(message(&node.events), ToNode::Drain { on: true }));
}

#[test]
fn what_is_said_just_before_a_link_is_closed_still_arrives() {
    let hub = hub(LinkOptions::default());
    let node = node(&[hub.address]);
    let (at_hub, _) = up(&hub.events);
    let (at_node, _) = up(&node.events);
    hub.handle.send(at_hub, ToNode::OldCopy);
    hub.handle.close(at_hub, "it is told why");
    assert!(matches!(message(&node.events), ToNode::OldCopy));
    assert_eq!(down(&node.events, at_node), "the other end closed the link: it is told why");
}
