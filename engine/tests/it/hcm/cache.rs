//! Host connection managers that cache: sellers whose stock comes from a server. Hub, server and manager are processes of their
//! own.

use crate::network::{holds, is_reported, node, sell, settle};
use crate::support::ends::{Ends, State, with_either_end};
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::{Process, minting};
use crate::support::proxy::Proxy;
use crate::support::scratch;
use crate::support::till::serial;
pub(super) use End::{Cache, Server};
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use engine::network::Status;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use wire::message::Attempt;

/// A hub, a server below it, and a cache below that. Server and cache can be killed and started again.
pub(super) struct Tree {
    pub(super) site: Site,
    pub(super) hub: Process,
    /// From the server to the hub, and from the cache to the server.
    pub(super) wires: [Proxy; 2],
    server: Option<Process>,
    cache: Option<Process>,
    settings: [Settings; 2],
    /// The numbers of both.
    sellers: [u32; 2],
    pub(super) key: KeyRow,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Server,
    Cache,
}

impl Tree {
    /// Server and cache with these marks, started, and so much of each of `v1` to `v<varieties>` at the hub.
    pub(super) fn new(site: Site, levels: [(u64, u64, u64); 2], varieties: u32, stock: u32) -> Self {
        let hub = site.hub();
        furnish(&hub, varieties);
        let key = hub.add_terminals(1).remove(0);
        for variety in (1..=varieties).filter(|_| stock > 0) {
            hub.mint(&format!("v{variety}"), stock);
        }
        let server = site.admit(&hub, "server");
        let cache = site.admit_below(&hub, "cache", "server");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let wires = [hub.address, nowhere].map(|target| Proxy::start(target, Duration::ZERO));
        let settings = levels.map(|levels| Settings { levels, ..Settings::default() });
        let sellers = [server, cache];
        let mut tree = Self { site, hub, wires, server: None, cache: None, settings, sellers, key };
        tree.start(Server);
        tree.start(Cache);
        tree
    }

    pub(super) fn server(&self) -> &Process {
        self.server.as_ref().unwrap()
    }

    pub(super) fn cache(&self) -> &Process {
        self.cache.as_ref().unwrap()
    }

    pub(super) fn kill(&mut self, end: End) {
        let process = if end == Server { self.server.take() } else { self.cache.take() };
        process.into_iter().for_each(Process::kill);
    }

    fn vend(&self, sequence: u64) -> String {
        sell(self.cache(), &self.key, sequence, 1)
    }

    /// Law 1, and that each serial was sold once, by the books of the whole network.
    fn settle(&self, sold: &[String]) {
        settle(&self.hub, &[self.cache(), self.server()], sold);
    }
}

impl Ends for Tree {
    type End = End;
    const ENDS: [End; 2] = [Server, Cache];

    fn end(&self, end: End) -> &Process {
        if end == Server { self.server() } else { self.cache() }
    }

    fn start(&mut self, end: End) {
        self.kill(end);
        match end {
            Server => {
                let server = self.site.server("server", self.wires[0].address, &self.settings[0]);
                let links = server.status().sellers[0].links.clone().unwrap();
                self.wires[1].aim(links.parse().unwrap());
                self.server = Some(server);
            }
            Cache => {
                self.cache = Some(self.site.cache("cache", self.wires[1].address, &self.settings[1]));
            }
        }
    }

    fn below(&self) -> u32 {
        self.sellers[1]
    }
}

/// The states of a transfer from the server to the cache that is accepted.
const DOWN: [State<End>; 9] = [
    (Server, "giver RECORDING: node NODE,"),
    (Server, "giver OUT: node NODE,"),
    (Server, "giver SETTLING accepted: node NODE,"),
    (Server, "giver ACCEPTED: node NODE,"),
    (Cache, "taker FILLING"),
    (Cache, "taker WRITING"),
    (Cache, "taker WRITTEN"),
    (Cache, "taker RECORDING accepted"),
    (Cache, "taker RECEIVED"),
];

/// The states of a transfer back from the cache.
const UP: [State<End>; 8] = [
    (Cache, "giver RECORDING"),
    (Cache, "giver OUT"),
    (Cache, "giver SETTLING accepted"),
    (Cache, "giver ACCEPTED"),
    (Server, "taker WRITING: node NODE,"),
    (Server, "taker WRITTEN: node NODE,"),
    (Server, "taker RECORDING accepted: node NODE,"),
    (Server, "taker RECEIVED: node NODE,"),
];

fn drain(node: &str, on: bool) -> Ask {
    Ask::Drain { node: node.to_owned(), on }
}

/// Asks for nothing in advance.
const NOTHING: (u64, u64, u64) = (0, 1, 1);

fn tree(directory: &Path, levels: [(u64, u64, u64); 2], varieties: u32, stock: u32) -> Tree {
    Tree::new(Site::new(directory), levels, varieties, stock)
}

#[test]
fn m02_a_cache_without_stock_asks_for_each_pin_because_a_terminal_asked() {
    let scratch = scratch();
    let tree = tree(scratch.path(), [NOTHING, NOTHING], 1, 100);
    let sold: Vec<_> = (1..=20).map(|sequence| tree.vend(sequence)).collect();
    tree.settle(&sold);
    let Answer::Moves { moves } = tree.hub.ask(&Ask::ListMoves { most: 1000 }) else { panic!("moves") };
    assert_eq!(moves.len(), 20, "one for each request");
    assert!(moves.iter().all(|made| made.is_urgent && made.pins == 1 && made.to_node), "{moves:?}");
    let server = &tree.server().status().sellers[0];
    assert_eq!((server.requests, server.answered_sold), (0, 0), "the sales are the cache's");
    assert_eq!(tree.cache().status().sellers[0].answered_sold, 20);
    assert_eq!(tree.hub.status().varieties[0].hub, 80);
}

#[test]
fn m03_a_cache_is_filled_before_any_terminal_connects() {
    let scratch = scratch();
    let tree = tree(scratch.path(), [(100, 500, 800), (20, 60, 100)], 2, 1000);
    let filled = |status: &Status| {
        status.varieties.len() == 2 && status.varieties.iter().all(|variety| variety.sellable == 60)
    };
    let status = tree.cache().wait_for("its first stock", filled);
    assert_eq!((status.sellers[0].connections, status.sellers[0].requests), (0, 0));
    // It shows at its server and at the hub.
    let below = |status: &Status| {
        let below = &status.sellers[0].below;
        below.len() == 1 && below[0].linked && below[0].on_hand == 120 && below[0].name == "cache"
    };
    tree.server().wait_for("the cache's report", below);
    let reported = |status: &Status| {
        let of_cache = status.hub.as_ref().unwrap().stock.iter().filter(|row| row.seller == tree.sellers[1]);
        of_cache.filter_map(|row| row.on_hand).sum::<u64>() == 120
    };
    let status = tree.hub.wait_for("the cache's report at the hub", reported);
    let row = node(&status, tree.sellers[1]);
    assert_eq!((row.below, row.linked), (Some(tree.sellers[0]), true));
    tree.hub.wait_for("its copy of the registry", |status| node(status, tree.sellers[1]).registry_agrees);
    let sold: Vec<_> = (1..=30).map(|sequence| tree.vend(sequence)).collect();
    tree.settle(&sold);
}

#[test]
fn m04_a_cache_sells_without_its_server_and_a_kill_loses_and_doubles_nothing() {
    let scratch = scratch();
    let mut tree = tree(scratch.path(), [(100, 500, 800), (20, 60, 100)], 2, 1000);
    tree.cache().wait_for("its first stock", |status| holds(status, 60));
    tree.kill(Server);
    let mut sold: Vec<_> = (1..=20).map(|sequence| tree.vend(sequence)).collect();
    // In the middle of a sale.
    let (mut till, product) = (tree.cache().till(&tree.key), (1, 1000));
    let vend = std::thread::spawn(move || till.vend(Attempt::First, 21, product, 1));
    tree.start(Cache);
    let _ = vend.join().unwrap();
    let mut till = tree.cache().till(&tree.key);
    // What was answered for is answered alike, and what was not is sold now or then.
    let again = till.sell(Attempt::Repeat, 20, product).unwrap();
    assert_eq!(serial(&again), sold[19]);
    sold.push(serial(&till.sell(Attempt::Repeat, 21, product).unwrap()));
    drop(till);
    sold.extend((22..=41).map(|sequence| tree.vend(sequence)));
    // The other variety is there, too.
    sold.push(sell(tree.cache(), &tree.key, 42, 2));
    tree.hub.audit();
    tree.start(Server);
    tree.cache().wait_for("stock from its server again", |status| holds(status, 60));
    tree.settle(&sold);
}

#[test]
fn m05_what_a_cache_lacks_comes_from_its_server_while_the_rest_is_sold_from_the_cache() {
    let scratch = scratch();
    let mut tree = tree(scratch.path(), [(1, 200, 300), (1, 20, 40)], 2, 400);
    let filled = |status: &Status| {
        status.varieties.len() == 2 && status.varieties.iter().all(|variety| variety.sellable == 20)
    };
    tree.cache().wait_for("its first stock", filled);
    // From now on it asks for nothing in advance.
    tree.settings[1].levels = NOTHING;
    tree.start(Cache);
    let mut sold: Vec<_> = (1..=25).map(|sequence| tree.vend(sequence)).collect();
    sold.extend((26..=30).map(|sequence| sell(tree.cache(), &tree.key, sequence, 2)));
    tree.settle(&sold);
    let sellable =
        |status: &Status| status.varieties.iter().map(|variety| variety.sellable).collect::<Vec<_>>();
    assert_eq!(sellable(&tree.cache().status()), [0, 15], "one is exhausted, the other is not");
    assert_eq!(sellable(&tree.server().status()), [175, 180], "five came one by one");
    assert_eq!(tree.server().status().sellers[0].answered_sold, 0, "the seller of each is the cache");
}

#[test]
fn m04_law_3_a_kill_of_either_end_in_any_state_of_a_transfer_to_a_cache_loses_and_doubles_nothing() {
    let scratch = scratch();
    let levels = [NOTHING, (200_000, 200_000, 200_000)];
    let mut tree = Tree::new(Site::with_holds(scratch.path()), levels, 1, 0);
    let mut sold = Vec::new();
    for (round, (state, killed)) in (1..).zip(with_either_end::<Tree>(&DOWN)) {
        let mut minting_aside = None;
        tree.kill_in(state, killed, |tree| minting_aside = Some(tree.hub.ask_aside(minting("v1", 100))));
        minting_aside.unwrap().join().unwrap();
        tree.hub.audit();
        let left = round * 100 - sold.len() as u64;
        tree.cache().wait_for("all of it", |status| holds(status, left));
        sold.push(tree.vend(round));
    }
    tree.settle(&sold);
}

#[test]
fn m05_law_3_a_kill_of_either_end_in_any_state_of_an_urgent_transfer_to_a_cache_loses_and_doubles_nothing() {
    let scratch = scratch();
    let mut tree = Tree::new(Site::with_holds(scratch.path()), [NOTHING, NOTHING], 1, 200);
    let (mut sold, mut sequence) = (Vec::new(), 0);
    for (state, killed) in with_either_end::<Tree>(&DOWN) {
        // A kill may leave a PIN behind that came for a vend which had gone: it is sold first.
        loop {
            tree.cache().wait_for("all is reported", is_reported);
            let status = tree.hub.wait_for("nothing is on its way", |status| {
                status.varieties[0].in_transfer == 0 && node(status, tree.sellers[1]).linked
            });
            if status.varieties[0].at_seller == 0 {
                break;
            }
            sequence += 1;
            sold.push(tree.vend(sequence));
        }
        sequence += 1;
        let key = tree.key.clone();
        sold.push(tree.kill_in_vend(state, killed, &key, sequence));
        tree.hub.audit();
    }
    tree.settle(&sold);
}

#[test]
fn m04_law_3_a_kill_of_either_end_in_any_state_of_a_transfer_back_from_a_cache_loses_and_doubles_nothing() {
    let scratch = scratch();
    let levels = [(1, 200, 1000), (1, 100, 200)];
    let mut tree = Tree::new(Site::with_holds(scratch.path()), levels, 1, 200);
    let at_rest = |tree: &Tree| {
        // By its books, too, it has gone and come back.
        tree.cache()
            .wait_for("its stock", |status| holds(status, 100) && status.varieties[0].at_seller == 100);
    };
    at_rest(&tree);
    for (state, killed) in with_either_end::<Tree>(&UP) {
        let mut draining = None;
        tree.kill_in(state, killed, |tree| {
            draining = Some(tree.hub.ask_aside(drain("cache", true)));
        });
        draining.unwrap().join().unwrap();
        tree.hub.audit();
        tree.hub.wait_for("the end of the drain", |status| {
            let row = node(status, tree.sellers[1]);
            row.linked && row.drain.is_some_and(|drain| drain.is_done)
        });
        tree.server().wait_for("all of it", |status| holds(status, 200));
        assert!(matches!(tree.hub.ask(&drain("cache", false)), Answer::Changed { .. }));
        at_rest(&tree);
    }
    let sold = [tree.vend(1)];
    tree.settle(&sold);
}

#[test]
fn h07_a_cache_gives_its_stock_to_its_server_when_it_goes_offline_and_leaves() {
    let scratch = scratch();
    let mut tree = tree(scratch.path(), [(1, 200, 1000), (10, 100, 200)], 1, 200);
    tree.cache().wait_for("its stock", |status| holds(status, 100));
    let sold = [tree.vend(1)];
    // A server is not closed before those below it.
    assert!(matches!(tree.hub.ask(&drain("server", true)), Answer::Changed { .. }));
    tree.hub.wait_for("the end of the drain", |status| {
        let row = node(status, tree.sellers[0]);
        row.drain.is_some_and(|drain| drain.is_done) && status.varieties[0].hub == 199
    });
    let close = |name: &str| tree.hub.ask(&Ask::CloseNode { node: name.to_owned() });
    let Answer::No { reason } = close("server") else { panic!("it runs, and so does the cache") };
    assert!(reason.ends_with("[node_has_children]"), "{reason}");
    assert!(matches!(tree.hub.ask(&drain("server", false)), Answer::Changed { .. }));
    tree.cache().wait_for("its stock", |status| holds(status, 100));
    // The cache alone.
    assert!(matches!(tree.hub.ask(&drain("cache", true)), Answer::Changed { .. }));
    tree.hub.wait_for("the end of the drain", |status| {
        node(status, tree.sellers[1]).drain.is_some_and(|drain| drain.is_done)
    });
    let cache = tree.cache.take().unwrap();
    cache.ask(&Ask::Stop);
    assert!(cache.wait().0.success());
    tree.hub.wait_for("its farewell", |status| node(status, tree.sellers[1]).may_close);
    let close = |name: &str| tree.hub.ask(&Ask::CloseNode { node: name.to_owned() });
    assert!(!matches!(close("cache"), Answer::No { .. }));
    tree.server().wait_for("what came back", |status| holds(status, 199));
    tree.server().wait_for("its journal at the hub", is_reported);
    tree.hub.audit();
    assert_eq!(tree.hub.status().varieties[0].sold, sold.len() as u64);
    // What comes again with its credentials hears that it has left.
    let closed = |server: &Status| server.sellers[0].below[0].closed;
    tree.server().wait_for("the news", closed);
}
