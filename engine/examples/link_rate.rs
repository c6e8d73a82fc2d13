//! How fast sealed bulk goes over one link on loopback: both ends in this process, each on its thread.
//!
//! `cargo run --release -p engine --example link_rate [megabytes]`

use bytes::Bytes;
use engine::cli::{clock, random};
use engine::ids::SellerId;
use engine::journal::record::Stream;
use engine::link::{CHUNK_BYTES_MAX, CHUNKS_IN_FLIGHT_MAX, ToHub, ToNode};
use engine::net::link::{Keyring, LinkEvent, LinkKey, LinkOptions, LinkServer, Role, Uplink, UplinkIdentity};
use engine::stock::NodeKeys;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::time::Instant;

fn main() {
    let megabytes: u64 = std::env::args().nth(1).map_or(2_000, |text| text.parse().expect("megabytes"));
    let (node, keys) = (SellerId(1), NodeKeys::from_node_key(&[1; 32]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let keyring = Arc::new(Keyring::default());
    keyring.set(node, LinkKey::of(&keys));
    let (to_hub, hub_events) = mpsc::channel();
    let deliver = move |event: LinkEvent<ToHub>| drop(to_hub.send(event));
    let options = LinkOptions::default();
    let hub = LinkServer::start(listener, keyring, deliver, clock, random, options).expect("a hub");
    let identity = UplinkIdentity { node, role: Role::Server, workers: 1, key: LinkKey::of(&keys) };
    let (to_node, node_events) = mpsc::channel();
    let deliver = move |event: LinkEvent<ToNode>| drop(to_node.send(event));
    let uplink = Uplink::start(vec![address], identity, deliver, clock, random, options).expect("a node");
    let Ok(LinkEvent::Up { connection, .. }) = hub_events.recv() else { panic!("no link") };
    let Ok(LinkEvent::Up { connection: at_node, .. }) = node_events.recv() else { panic!("no link") };
    hub.send(connection, ToNode::JournalAcked { position: 0 });

    // Windows as a transfer has them: four of them open, each reported at half.
    let bytes = Bytes::from(vec![7; CHUNK_BYTES_MAX as usize]);
    let chunks = megabytes * 1_000_000 / u64::from(CHUNK_BYTES_MAX);
    let window = u64::from(CHUNKS_IN_FLIGHT_MAX) * 4;
    let send = |number| {
        hub.send(connection, ToNode::Chunk { stream: Stream::Bulk, number, offset: 0, bytes: bytes.clone() });
    };
    let start = Instant::now();
    (0..window.min(chunks)).for_each(send);
    let mut sent = window.min(chunks);
    let receiver = std::thread::spawn(move || {
        let mut arrived = 0;
        while arrived < chunks {
            match node_events.recv() {
                Ok(LinkEvent::Message { message: ToNode::Chunk { .. }, .. }) => arrived += 1,
                Ok(LinkEvent::Message { .. }) => continue,
                other => panic!("{other:?}"),
            }
            if arrived % u64::from(CHUNKS_IN_FLIGHT_MAX / 2) == 0 {
                uplink.send(at_node, ToHub::Progress { stream: Stream::Bulk, number: arrived, bytes: 0 });
            }
        }
        uplink
    });
    while sent < chunks {
        match hub_events.recv() {
            Ok(LinkEvent::Message { message: ToHub::Progress { number, .. }, .. }) => {
                let end = chunks.min(number + window);
                (sent..end).for_each(send);
                sent = end;
            }
            other => panic!("{other:?}"),
        }
    }
    let uplink = receiver.join().expect("all chunks");
    let seconds = start.elapsed().as_secs_f64();
    let rate = (chunks * u64::from(CHUNK_BYTES_MAX)) as f64 / 1e6 / seconds;
    println!("{rate:.0} MB/s of sealed bulk over one link ({chunks} chunks in {seconds:.2} s)");
    uplink.stop();
    hub.stop();
}
