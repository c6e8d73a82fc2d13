//! Stand-in for the sockets of a link within one process.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use crate::ids::SellerId;
use crate::link::{ToHub, ToNode};
use crate::registry::TerminalKey;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

pub enum LinkEvent<M> {
    Up { connection: u64, node: SellerId, workers: u16, address: SocketAddr },
    Message { connection: u64, node: SellerId, message: M },
    Down { connection: u64, node: SellerId, why: String },
}

#[derive(Default)]
pub struct Keyring(Mutex<BTreeMap<SellerId, TerminalKey>>);
impl Keyring {
    pub fn set(&self, node: SellerId, key: TerminalKey) {
        self.0.lock().unwrap().insert(node, key);
    }
}

type ToNodeFn = Arc<dyn Fn(LinkEvent<ToNode>) + Send + Sync>;
struct Server {
    deliver: Box<dyn Fn(LinkEvent<ToHub>) + Send>,
    connections: BTreeMap<u64, (SellerId, ToNodeFn)>,
}
type Servers = Mutex<BTreeMap<u16, Arc<Mutex<Server>>>>;
fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(Servers::default)
}
static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Clone)]
pub struct LinkServerHandle(u16, Arc<Mutex<Server>>, Arc<TcpListener>);
pub struct LinkServer;
impl LinkServer {
    pub fn start(
        listener: TcpListener,
        _keyring: Arc<Keyring>,
        deliver: impl Fn(LinkEvent<ToHub>) + Send + 'static,
    ) -> LinkServerHandle {
        let port = listener.local_addr().unwrap().port();
        let server =
            Arc::new(Mutex::new(Server { deliver: Box::new(deliver), connections: BTreeMap::new() }));
        servers().lock().unwrap().insert(port, server.clone());
        LinkServerHandle(port, server, Arc::new(listener))
    }
}
impl LinkServerHandle {
    pub fn send(&self, connection: u64, message: ToNode) {
        let to = self.1.lock().unwrap().connections.get(&connection).cloned();
        if let Some((node, to)) = to {
            to(LinkEvent::Message { connection, node, message });
        }
    }
    pub fn close(&self, connection: u64, why: String) {
        let to = self.1.lock().unwrap().connections.remove(&connection);
        if let Some((node, to)) = to {
            to(LinkEvent::Down { connection, node, why });
        }
    }
    pub fn stop(&self) {
        servers().lock().unwrap().remove(&self.0);
        let all = std::mem::take(&mut self.1.lock().unwrap().connections);
        for (connection, (node, to)) in all {
            to(LinkEvent::Down { connection, node, why: "stopped".into() });
        }
    }
}

pub struct UplinkHandle {
    node: SellerId,
    port: u16,
    current: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}
pub struct Uplink;
impl Uplink {
    pub fn start(
        addresses: Vec<String>,
        node: SellerId,
        _key: TerminalKey,
        workers: u16,
        deliver: impl Fn(LinkEvent<ToNode>) + Send + Sync + 'static,
    ) -> UplinkHandle {
        let port: u16 = addresses[0].rsplit(':').next().unwrap().parse().unwrap();
        let (current, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let deliver: ToNodeFn = Arc::new(deliver);
        let (c, s) = (current.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !s.load(SeqCst) {
                if c.load(SeqCst) == 0
                    && let Some(server) = servers().lock().unwrap().get(&port).cloned()
                {
                    let connection = NEXT.fetch_add(1, SeqCst);
                    let address = SocketAddr::from(([127, 0, 0, 1], port));
                    let mut server = server.lock().unwrap();
                    let (c2, d2) = (c.clone(), deliver.clone());
                    let to: ToNodeFn = Arc::new(move |event| {
                        if matches!(event, LinkEvent::Down { .. }) {
                            let _ = c2.compare_exchange(connection, 0, SeqCst, SeqCst);
                        }
                        d2(event);
                    });
                    server.connections.insert(connection, (node, to));
                    c.store(connection, SeqCst);
                    (server.deliver)(LinkEvent::Up { connection, node, workers, address });
                    deliver(LinkEvent::Up { connection, node, workers, address });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        UplinkHandle { node, port, current, stop, thread: Some(thread) }
    }
}
impl UplinkHandle {
    fn server(&self) -> Option<Arc<Mutex<Server>>> {
        servers().lock().unwrap().get(&self.port).cloned()
    }
    pub fn send(&self, connection: u64, message: ToHub) {
        if self.current.load(SeqCst) == connection
            && let Some(server) = self.server()
        {
            (server.lock().unwrap().deliver)(LinkEvent::Message { connection, node: self.node, message });
        }
    }
    pub fn reconnect(&self, connection: u64) {
        let Some(server) = self.server() else { return };
        let mut server = server.lock().unwrap();
        if server.connections.remove(&connection).is_some() {
            let _ = self.current.compare_exchange(connection, 0, SeqCst, SeqCst);
            (server.deliver)(LinkEvent::Down { connection, node: self.node, why: "reconnect".into() });
        }
    }
    pub fn stop(mut self) {
        self.stop.store(true, SeqCst);
        let _ = self.thread.take().unwrap().join();
        let connection = self.current.load(SeqCst);
        self.reconnect_at(connection);
    }
    fn reconnect_at(&self, connection: u64) {
        if connection > 0
            && let Some(server) = self.server()
        {
            let mut server = server.lock().unwrap();
            server.connections.remove(&connection);
            (server.deliver)(LinkEvent::Down { connection, node: self.node, why: "stop".into() });
        }
    }
}
