//! Both ends over real sockets, against each other and against ends that do not keep to the protocol.

mod faults;
mod handshakes;
mod life;
mod proxy;
mod raw;

use super::{Keyring, LinkEvent, LinkKey, LinkOptions, LinkServer, LinkServerHandle, Role, Uplink};
use super::{UplinkHandle, UplinkIdentity};
use crate::cli::{clock, random};
use crate::ids::SellerId;
use crate::link::{ToHub, ToNode};
use crate::stock::NodeKeys;
use crossbeam::channel::{Receiver, unbounded};
use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODE: SellerId = SellerId(7);

fn node_keys() -> NodeKeys {
    NodeKeys::from_node_key(&[9; 32])
}

/// A running hub end that knows [`NODE`].
struct Hub {
    handle: LinkServerHandle,
    events: Receiver<LinkEvent<ToHub>>,
    keyring: Arc<Keyring>,
    address: SocketAddr,
}

fn hub(options: LinkOptions) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let keyring = Arc::new(Keyring::default());
    keyring.set(NODE, LinkKey::of(&node_keys()));
    let (sender, events) = unbounded();
    let deliver = move |event| drop(sender.send(event));
    let handle = LinkServer::start(listener, Arc::clone(&keyring), deliver, clock, random, options).unwrap();
    Hub { handle, events, keyring, address }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// A running node end.
struct Node {
    handle: UplinkHandle,
    events: Receiver<LinkEvent<ToNode>>,
}

fn node(addresses: &[SocketAddr]) -> Node {
    node_with(addresses, &node_keys(), LinkOptions::default())
}

fn node_with(addresses: &[SocketAddr], keys: &NodeKeys, options: LinkOptions) -> Node {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let identity = UplinkIdentity { node: NODE, role: Role::Server, workers: 3, key: LinkKey::of(keys) };
    let (sender, events) = unbounded();
    let deliver = move |event| drop(sender.send(event));
    let handle = Uplink::start(addresses, identity, deliver, clock, random, options).unwrap();
    Node { handle, events }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// The next event, which must come.
fn next<M>(events: &Receiver<LinkEvent<M>>) -> LinkEvent<M> {
    events.recv_timeout(PATIENCE).expect("an event comes")
}

/// The number and the address of the link that comes up next, and nothing before it.
fn up<M: Debug>(events: &Receiver<LinkEvent<M>>) -> (u64, SocketAddr) {
    match next(events) {
        LinkEvent::Up { connection, address, .. } => (connection, address),
        other => panic!("{other:?} where an up was due"),
    }
}

/// Why the link with this number goes down next, and nothing before it.
fn down<M: Debug>(events: &Receiver<LinkEvent<M>>, number: u64) -> String {
    match next(events) {
        LinkEvent::Down { connection, why, .. } if connection == number => why,
        other => panic!("{other:?} where the down of {number} was due"),
    }
}

/// The message that comes next, and nothing before it.
fn message<M: Debug>(events: &Receiver<LinkEvent<M>>) -> M {
    match next(events) {
        LinkEvent::Message { message, .. } => message,
        other => panic!("{other:?} where a message was due"),
    }
}

/// Looks until something is so, for a bounded time.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
