//! Stands between a hub and one server as each other's end of the link, and so can do to their messages what no wire can:
//! links are sealed, and TCP keeps the order.

use bytes::Bytes;
use engine::cli::{clock, random};
use engine::ids::SellerId;
use engine::link::{ToHub, ToNode};
use engine::net::link::{
    Keyring, LinkEvent, LinkKey, LinkOptions, LinkServer, LinkServerHandle, Role, Uplink, UplinkHandle,
    UplinkIdentity,
};
use engine::network::JoinToken;
use engine::stock::NodeKeys;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) enum Passing {
    Up(ToHub),
    Down(ToNode),
}

/// What comes out for what went in; for nothing, when nothing came for a while.
pub(crate) type Meddle = Box<dyn FnMut(Option<Passing>) -> Vec<Passing> + Send>;

/// Carries the messages of one node, whose key it has, until the test ends.
pub(crate) struct Relay {
    /// Where the server connects instead.
    pub(crate) address: SocketAddr,
    meddle: Arc<Mutex<Option<Meddle>>>,
    events: Sender<Event>,
}

enum Event {
    OfServer(LinkEvent<ToHub>),
    OfHub(LinkEvent<ToNode>),
    Cut,
}

impl Relay {
    /// Between the hub at an address and the server with a join token.
    pub(crate) fn start(hub: SocketAddr, token: &JoinToken) -> Self {
        let keys = NodeKeys::from_node_key(token.node_key.expose());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let keyring = Arc::new(Keyring::default());
        keyring.set(token.seller, LinkKey::of(&keys));
        let (events, queue) = channel();
        let (of_server, of_hub) = (events.clone(), events.clone());
        let server = LinkServer::start(
            listener,
            keyring,
            move |event| drop(of_server.send(Event::OfServer(event))),
            clock,
            random,
            LinkOptions::default(),
        );
        let (node, role) = (token.seller, Role::Server);
        let uplink = Uplink::start(
            vec![hub.to_string()],
            UplinkIdentity { node, role, workers: 1, key: LinkKey::of(&keys) },
            move |event| drop(of_hub.send(Event::OfHub(event))),
            clock,
            random,
            LinkOptions { back_off_ms: (10, 50), ..LinkOptions::default() },
        );
        let meddle = Arc::<Mutex<Option<Meddle>>>::default();
        let desk = Desk {
            node,
            server: server.unwrap(),
            uplink: uplink.unwrap(),
            at_server: None,
            at_hub: None,
            waiting: Vec::new(),
            meddle: Arc::clone(&meddle),
        };
        std::thread::spawn(move || desk.run(&queue));
        Self { address, meddle, events }
    }

    /// From now on this is done to every message.
    pub(crate) fn meddle(&self, meddle: impl FnMut(Option<Passing>) -> Vec<Passing> + Send + 'static) {
        *self.meddle.lock().unwrap() = Some(Box::new(meddle));
    }

    /// From now on nothing is done to any, in connections that begin anew.
    pub(crate) fn be_honest(&self) {
        *self.meddle.lock().unwrap() = None;
        self.events.send(Event::Cut).unwrap();
    }
}

struct Desk {
    node: SellerId,
    server: LinkServerHandle,
    uplink: UplinkHandle,
    /// The connection with each.
    at_server: Option<u64>,
    at_hub: Option<u64>,
    /// Said by the server while there is no connection with the hub.
    waiting: Vec<ToHub>,
    meddle: Arc<Mutex<Option<Meddle>>>,
}

impl Desk {
    fn run(mut self, queue: &Receiver<Event>) {
        loop {
            let event = match queue.recv_timeout(QUIET) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    self.pass(None);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match event {
                Event::OfServer(LinkEvent::Up { connection, .. }) => {
                    self.leave_hub("the server begins anew");
                    self.at_server = Some(connection);
                }
                Event::OfServer(LinkEvent::Message { connection, message, .. }) => {
                    if self.at_server == Some(connection) {
                        self.pass(Some(Passing::Up(message)));
                    }
                }
                Event::OfServer(LinkEvent::Down { connection, why, .. }) => {
                    if self.at_server == Some(connection) {
                        self.at_server = None;
                        self.leave_hub(&why);
                    }
                }
                Event::OfHub(LinkEvent::Up { connection, .. }) => {
                    self.at_hub = Some(connection);
                    for message in std::mem::take(&mut self.waiting) {
                        self.send(Passing::Up(message));
                    }
                }
                Event::OfHub(LinkEvent::Message { connection, message, .. }) => {
                    if self.at_hub == Some(connection) {
                        self.pass(Some(Passing::Down(message)));
                    }
                }
                Event::OfHub(LinkEvent::Down { connection, why, .. }) => {
                    if self.at_hub == Some(connection) {
                        self.at_hub = None;
                        self.leave_server(&why);
                    }
                }
                Event::Cut => {
                    self.leave_server("cut");
                    self.leave_hub("cut");
                }
            }
        }
    }

    fn pass(&mut self, message: Option<Passing>) {
        let changed = match self.meddle.lock().unwrap().as_mut() {
            Some(meddle) => meddle(message),
            None => Vec::from_iter(message),
        };
        changed.into_iter().for_each(|message| self.send(message));
    }

    fn send(&mut self, message: Passing) {
        match (message, self.at_hub, self.at_server) {
            (Passing::Up(message), Some(connection), _) => self.uplink.send(connection, message),
            (Passing::Up(message), None, _) => self.waiting.push(message),
            (Passing::Down(message), _, Some(connection)) => self.server.send(connection, message),
            (Passing::Down(_), _, None) => {}
        }
    }

    fn leave_hub(&mut self, why: &str) {
        self.waiting.clear();
        if let Some(connection) = self.at_hub.take() {
            self.uplink.reconnect(connection, format!("node {}: {why}", self.node.0));
        }
    }

    fn leave_server(&mut self, why: &str) {
        self.waiting.clear();
        if let Some(connection) = self.at_server.take() {
            self.server.close(connection, why);
        }
    }
}

/// The same bytes but for one bit.
pub(crate) fn damaged(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[0] ^= 1;
    Bytes::from(bytes)
}

/// When nothing has come for so long, nothing comes for now.
const QUIET: Duration = Duration::from_millis(20);
