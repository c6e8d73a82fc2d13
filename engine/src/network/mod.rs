//! The threads of a process: a hub, sellers, or a whole network of both, each node with a data directory, a key file and
//! threads of its own. Hub and sellers talk over links also when they share a process.
//!
//! This is wiring: it makes threads around the state machines and channels between them, and decides nothing. Clock,
//! randomness, and what to do when a thread cannot go on are handed in.
//!
//! ```text
//!  front ─arrivals─► workers ─records─► committer ─durable─► workers, steward
//!                     │   ▲ ranges, registry       ▲ records
//!                     dry └────────── steward ─────┘
//!                     lookups ─► bookkeeper   │
//!                                           link ─► hub ◄─commands─ office ◄─ command line
//! ```

mod acquiring;
mod answering;
mod backlog;
mod bookkeeping;
mod committing;
mod downlinks;
mod failure;
mod hub;
mod hub_node;
mod join;
mod office;
mod relay_node;
mod segment_writing;
mod seller_node;
mod stewarding;
#[cfg(test)]
mod tests;

pub use failure::Failure;
pub use join::{JoinToken, NotAToken};
pub use office::{
    BelowStatus, Beyond, Delivered, Doubt, DrainStatus, HubStatus, LostNode, LostStatus, ManagerStatus, Move,
    NodeStatus, NotDone, Office, PinsOf, SellerStatus, SellerStockStatus, SequenceAnswer, Status,
    StockStatus, VarietyStatus, WaitingStatus, Which,
};
pub(crate) use office::{is_pin_due, sold_again};
pub use relay_node::{RelayDesk, RelayNode, RelayNodeOptions, RelayStatus};

use crate::commit::Wake;
use crate::disk::lock::DirLock;
use crate::net::relay::RelayOptions;
use crate::net::{Clock, Honest, Meddler, Random};
use crate::steward::LevelRules;
use acquiring::AcquiringHandle;
use crossbeam::channel::{Receiver, Sender, bounded};
use hub::HubHandle;
use hub_node::{Buying, HubNode};
use seller_node::SellerNode;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};
use wire::message::Addresses;

/// What to run.
pub struct Options {
    /// The data directory of the process: its lock and its operators' socket are there. If it runs one node, it is that
    /// node's; otherwise the nodes have directories in it.
    pub data: PathBuf,
    /// The hub, if it is to run here.
    pub hub: Option<HubOptions>,
    /// The sellers to run here. One that is below another of them comes behind it.
    pub sellers: Vec<SellerOptions>,
    /// A relay to run here, of the hub that runs here.
    pub relay: Option<RelayHere>,
    /// Reads the clocks.
    pub clock: Clock,
    /// Fills bytes from a cryptographic generator.
    pub random: Random,
    /// Called by a thread that cannot go on: the process has to end at once, without a word to anyone.
    pub fatal: fn(&Failure) -> !,
}

/// How to run a hub.
pub struct HubOptions {
    /// Its data directory.
    pub data: PathBuf,
    /// Where nodes connect; `None`: only the stores are opened, for a command that works on them while nothing runs.
    pub links: Option<TcpListener>,
    /// What all nodes together are sent in bulk, in bytes per second; `None`: no limit.
    pub bulk_bytes_per_s: Option<u64>,
}

/// How to run a seller.
pub struct SellerOptions {
    /// Its data directory.
    pub data: PathBuf,
    /// Where its stock comes from.
    pub upstream: Upstream,
    /// Sell, and how; `None`: only the stores are opened, for a command that works on them while nothing runs.
    pub selling: Option<Selling>,
    /// Size of a journal segment when the journal is begun, in bytes; a journal keeps the size it was begun with.
    pub segment_bytes: u64,
    /// After how many seconds sales that the hub does not know of are an alarm.
    pub unreported_alarm_s: u32,
}

/// [`SellerOptions::unreported_alarm_s`] where nothing is said, in seconds.
pub const UNREPORTED_ALARM_S: u32 = 60;

/// Where a seller's stock comes from.
pub enum Upstream {
    /// The hub of the same process, which makes a node of this name when the seller starts for the first time.
    Here {
        /// The name.
        name: String,
        /// The server of the same process that it is below.
        below: Option<Below>,
    },
    /// A hub elsewhere.
    At {
        /// `host:port`; tried in turn.
        addresses: Vec<String>,
        /// Needed the first time; kept from then on.
        token: Option<JoinToken>,
    },
}

/// A server that a seller of the same process is below.
pub struct Below {
    /// Its name.
    pub server: String,
    /// Where nodes connect there.
    pub address: SocketAddr,
}

/// How to run a relay beside its hub, which knows it by name and makes it when it starts for the first time.
pub struct RelayHere {
    /// The name.
    pub name: String,
    /// Where terminals connect.
    pub listener: TcpListener,
    /// Where it carries sessions to, and its limits.
    pub relay: RelayOptions,
}

/// How to sell.
pub struct Selling {
    /// Where terminals connect.
    pub listener: TcpListener,
    /// Where else they may connect: their welcomes say so.
    pub others: Addresses,
    /// Where host connection managers connect, if any may.
    pub links: Option<TcpListener>,
    /// Whether terminals may talk in clear.
    pub clear: bool,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Most connections at a time.
    pub connections_max: usize,
    /// The seller's marks.
    pub levels: LevelRules,
}

impl Options {
    /// A whole network under one directory: the hub in `hub`, and as many sellers as ways to sell in `server-1`,
    /// `server-2` and so on.
    ///
    /// # Errors
    /// No port for the links can be had on loopback.
    pub fn whole(
        data: &Path,
        selling: Vec<Selling>,
        segment_bytes: u64,
        clock: Clock,
        random: Random,
        fatal: fn(&Failure) -> !,
    ) -> Result<Self, Failure> {
        let links = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(Failure::Poll)?;
        let hub = Some(HubOptions { data: data.join(HUB), links: Some(links), bulk_bytes_per_s: None });
        let seller = |(at, selling)| {
            let name = format!("{SERVER}{}", at + 1);
            let data = data.join(&name);
            let upstream = Upstream::Here { name, below: None };
            let selling = Some(selling);
            SellerOptions { data, upstream, selling, segment_bytes, unreported_alarm_s: UNREPORTED_ALARM_S }
        };
        let sellers = selling.into_iter().enumerate().map(seller).collect();
        Ok(Self { data: data.to_owned(), hub, sellers, relay: None, clock, random, fatal })
    }

    /// Adds a cache below the first server, `cache-1`, and a relay, `relay-1`, that carries sessions to any of the servers. Those
    /// must take managers.
    #[must_use]
    pub fn with_managers(mut self, cache: Selling, listener: TcpListener, relay: RelayOptions) -> Self {
        let links =
            self.sellers.first().and_then(|first| first.selling.as_ref()?.links.as_ref()?.local_addr().ok());
        if let (Some(first), Some(address)) = (self.sellers.first(), links) {
            let (name, server) = (format!("{CACHE}1"), format!("{SERVER}1"));
            let below = Some(Below { server, address });
            let (segment_bytes, unreported_alarm_s) = (first.segment_bytes, first.unreported_alarm_s);
            let (data, selling) = (self.data.join(&name), Some(cache));
            let upstream = Upstream::Here { name, below };
            self.sellers.push(SellerOptions { data, upstream, selling, segment_bytes, unreported_alarm_s });
        }
        self.relay = Some(RelayHere { name: format!("{RELAY}1"), listener, relay });
        self
    }

    /// What is in a data directory, to work on it while nothing runs; `None` if it holds no node.
    #[must_use]
    pub fn at_rest(data: &Path, clock: Clock, random: Random, fatal: fn(&Failure) -> !) -> Option<Self> {
        let seller = |data: &Path, upstream| {
            let segment_bytes = crate::journal::SEGMENT_BYTES;
            let unreported_alarm_s = UNREPORTED_ALARM_S;
            SellerOptions {
                data: data.to_owned(),
                upstream,
                selling: None,
                segment_bytes,
                unreported_alarm_s,
            }
        };
        let is_hub = |data: &Path| data.join("hub.db").exists();
        let (mut hub, mut sellers) = (None, Vec::new());
        if data.join(HUB).exists() {
            hub = Some(HubOptions { data: data.join(HUB), links: None, bulk_bytes_per_s: None });
            for prefix in [SERVER, CACHE] {
                let names = (1..).map(|number| format!("{prefix}{number}"));
                sellers.extend(names.map_while(|name| {
                    let data = data.join(&name);
                    join::joined(&data).map(|_| seller(&data, Upstream::Here { name, below: None }))
                }));
            }
        } else if is_hub(data) {
            hub = Some(HubOptions { data: data.to_owned(), links: None, bulk_bytes_per_s: None });
        } else if join::joined(data).is_some() {
            sellers.push(seller(data, Upstream::At { addresses: Vec::new(), token: None }));
        }
        let is_any = hub.is_some() || !sellers.is_empty();
        is_any.then(|| Self { data: data.to_owned(), hub, sellers, relay: None, clock, random, fatal })
    }
}

/// A running process's nodes.
pub struct Network {
    office: Office,
    /// The hub, and the thread that answers for sellers that do not any more.
    hub: Option<(HubHandle, JoinHandle<()>)>,
    acquiring: Option<AcquiringHandle>,
    sellers: Vec<SellerNode>,
    relay: Option<RelayNode>,
    _locks: Vec<DirLock>,
}

impl Network {
    /// Takes the data directories, recovers what is in them, and starts.
    ///
    /// # Errors
    /// [`Failure`]; nothing runs then.
    pub fn start(options: Options) -> Result<Self, Failure> {
        Self::start_with(options, |_| Honest)
    }

    /// Like [`Network::start`], with what comes between each worker and its terminals, by the worker's number.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub fn start_with<M: Meddler>(options: Options, meddler: impl Fn(usize) -> M) -> Result<Self, Failure> {
        let Options { data, hub, sellers, relay, clock, random, fatal } = options;
        let mut locks = vec![DirLock::acquire(&data)?];
        let mut lock = |of: &Path| -> Result<usize, Failure> {
            if of != data {
                locks.push(DirLock::acquire(of)?);
                return Ok(locks.len() - 1);
            }
            Ok(0)
        };
        let mut nodes = Vec::new();
        let hub = hub.map(|hub| Ok::<_, Failure>((lock(&hub.data)?, hub))).transpose()?;
        for seller in sellers {
            nodes.push((lock(&seller.data)?, seller));
        }
        let may_be_absent = nodes.iter().all(|(_, seller)| join::joined(&seller.data).is_some());
        let may_be_absent = may_be_absent && !nodes.is_empty();
        let hub =
            hub.map(|(lock, hub)| hub_node::start(hub, &locks[lock], may_be_absent, clock, random, fatal));
        let hub = hub.transpose()?;
        let (mut sellers, mut desks) = (Vec::new(), Vec::new());
        for (lock, seller) in nodes {
            let started =
                seller_node::start(seller, &locks[lock], hub.as_ref(), clock, random, fatal, &meddler);
            match started {
                Ok((seller, desk)) => {
                    sellers.push(seller);
                    desks.push(desk);
                }
                // What was there before it sells without it.
                Err(Failure::NotAdmitted { name, why }) => {
                    tracing::warn!("{name} is left out: {why} [not_admitted]");
                }
                Err(failure) => return Err(failure),
            }
        }
        let relay =
            relay.and_then(|relay| relay_node::start_here(relay, hub.as_ref(), clock, random).transpose());
        let relay = relay.transpose()?;
        let (hub, desk, buying) = match hub {
            Some(HubNode { handle, desk, buying, questions }) => {
                (Some((handle, questions)), Some(desk), buying)
            }
            None => (None, None, None),
        };
        let relay_desk = relay.as_ref().map(|relay| relay.desk().clone());
        let office = Office::new(desk, desks, relay_desk, clock, random);
        let hub = hub.map(|(hub, questions)| {
            let answering = answering::start(questions, office.clone(), &hub, fatal);
            (hub, answering)
        });
        let acquiring = buying.map(|Buying { suppliers, waker, wake }| {
            acquiring::start(suppliers, office.clone(), waker, wake, fatal)
        });
        Ok(Self { office, hub, acquiring, sellers, relay, _locks: locks })
    }

    /// Answers for the process to its operators; to be cloned for every thread that asks.
    #[must_use]
    pub fn office(&self) -> &Office {
        &self.office
    }

    /// Ends in good order: sellers take no more connections, finish what is in flight, send the terminals away, report
    /// the rest of their journals, write a checkpoint; then the hub ends. Nothing depends on it having been called.
    pub fn stop(self) {
        let Self { office, hub, acquiring, sellers, relay, _locks } = self;
        if let Some(acquiring) = acquiring {
            acquiring.stop();
        }
        if let Some(relay) = relay {
            relay.stop();
        }
        // What is below reports through what is above, and each of a tier waits for others: a tier at a time, all of it at once.
        let (below, above): (Vec<_>, Vec<_>) = sellers.into_iter().partition(SellerNode::is_below);
        for tier in [below, above] {
            std::thread::scope(|scope| {
                for seller in tier {
                    scope.spawn(|| seller.stop());
                }
            });
        }
        drop(office);
        if let Some((hub, answering)) = hub {
            hub.stop();
            let _ = answering.join();
        }
    }
}

/// Starts a thread that ends the process when it cannot go on.
fn spawn(
    name: &str,
    fatal: fn(&Failure) -> !,
    run: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> JoinHandle<()> {
    let guarded = move || {
        if let Err(failure) = run() {
            fatal(&failure);
        }
    };
    Builder::new().name(name.to_owned()).spawn(guarded).expect("the system has room for another thread")
}

/// Wakes a thread that waits on a channel with room for one.
#[derive(Clone)]
struct Nudge(Sender<()>);

impl Nudge {
    fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Self(sender), receiver)
    }
}

impl Wake for Nudge {
    fn wake(&self) {
        // When there is one already, the thread will look again anyway.
        let _ = self.0.try_send(());
    }
}

/// The hub's directory in that of a whole network.
const HUB: &str = "hub";
/// The sellers' directories, and their names, begin so and end with a number.
const SERVER: &str = "server-";
/// The same for caches below a server.
const CACHE: &str = "cache-";
/// The same for relays' names.
const RELAY: &str = "relay-";
