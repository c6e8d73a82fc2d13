//! Caches that are declared lost, and servers after them. Hub, server and cache are processes of their own.

use crate::network::{holds, is_reported, node, sell, sell_out};
use crate::support::command::{Said, pinwheel};
use crate::support::nodes::{Settings, Site};
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::scratch;
use engine::admin::KeyRow;
use engine::network::{Status, VarietyStatus};
use std::time::Duration;
use tempfile::TempDir;
use wire::message::{Attempt, LaterReason, Reply};

/// A hub, a server with a cache, and a cache that has reported 20 sales, sold 15 more while nobody could reach it, and was killed.
struct Case {
    scratch: TempDir,
    hub: Process,
    server: Option<Process>,
    /// From the cache to the server.
    wire: Proxy,
    keys: Vec<KeyRow>,
    cache: u32,
    /// Serials, in the order in which they were sold.
    sold: Vec<String>,
}

const RECEIVED: u64 = 600;
const REPORTED: u64 = 20;
const UNREPORTED: u64 = 15;
/// What the cache held when its last report was made.
const AT_CACHE: u64 = 80;

impl Case {
    fn begin() -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let (hub, keys) = site.furnished_hub(3, RECEIVED as u32);
        site.admit(&hub, "server");
        let cache = site.admit_below(&hub, "cache", "server");
        site.admit(&hub, "other");
        let server = site.server("server", hub.address, &settings((50, 200, 400)));
        let wire = Proxy::start(links(&server), Duration::ZERO);
        let process = site.cache("cache", wire.address, &settings((10, 100, 200)));
        process.wait_for("its stock", |status| holds(status, 100));
        let mut sold: Vec<_> = (1..=REPORTED).map(|n| sell(&process, &keys[0], n, 1)).collect();
        process.wait_for("its sales at the hub", is_reported);
        hub.wait_for("its sales", |status| status.varieties[0].sold == REPORTED);
        let case = Self { scratch, hub, server: Some(server), wire, keys, cache, sold: Vec::new() };
        case.refused(&["node", "lost", "cache", "--yes"], "[node_connected]");
        case.wire.cut();
        case.hub.wait_for("the cut", |status| !node(status, cache).linked);
        sold.extend((1..=UNREPORTED).map(|n| sell(&process, &case.keys[0], REPORTED + n, 1)));
        process.kill();
        Self { sold, ..case }
    }

    fn site(&self) -> Site {
        Site::new(self.scratch.path())
    }

    fn say(&self, arguments: &[&str]) -> Said {
        pinwheel(&self.site().data("hub"), arguments)
    }

    fn refused(&self, arguments: &[&str], code: &str) {
        let said = self.say(arguments);
        assert!(said.code == 1 && said.errors.contains(code), "{said:?}");
    }

    fn lose(&self, name: &str) -> u64 {
        let said = self.say(&["node", "lost", name, "--yes", "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        said.json()["holds"][0]["pins"].as_u64().unwrap()
    }

    fn variety(&self) -> VarietyStatus {
        self.hub.audit();
        self.hub.status().varieties.remove(0)
    }

    fn start_cache(&self) -> Process {
        self.wire.heal();
        self.site().cache("cache", self.wire.address, &settings((10, 100, 200)))
    }

    fn server(&self) -> &Process {
        self.server.as_ref().unwrap()
    }

    fn restart_server(&mut self) {
        self.server.take().into_iter().for_each(Process::kill);
        let server = self.site().server("server", self.hub.address, &settings((50, 200, 400)));
        self.wire.aim(links(&server));
        self.server = Some(server);
    }

    /// Another server sells all it can get; no serial came before.
    fn sell_out(&mut self) -> u64 {
        let other = self.site().server("other", self.hub.address, &settings((100, 300, 600)));
        sell_out(&other, &self.keys[2], &mut self.sold)
    }
}

fn settings(levels: (u64, u64, u64)) -> Settings {
    Settings { levels, ..Settings::default() }
}

fn links(server: &Process) -> std::net::SocketAddr {
    server.status().sellers[0].links.clone().unwrap().parse().unwrap()
}

fn knows_it_is_lost(status: &Status) -> bool {
    status.sellers[0].below.iter().any(|below| below.lost)
}

#[test]
fn law_1_a_lost_cache_holds_in_doubt_exactly_what_it_had_and_its_server_goes_on() {
    let mut case = Case::begin();
    case.refused(&["node", "lost", "server", "--yes"], "[node_connected]");
    assert_eq!(case.variety().in_doubt, 0, "unreachable is not lost");
    assert_eq!(case.lose("cache"), AT_CACHE);
    case.server().wait_for("the news", knows_it_is_lost);
    case.restart_server();
    case.server().wait_for("the news", knows_it_is_lost);
    let variety = case.variety();
    assert_eq!((variety.in_doubt, variety.sold), (AT_CACHE, REPORTED), "{variety:?}");
    case.refused(&["node", "lost", "cache", "--yes"], "[node_lost]");
    assert!(case.say(&["status"]).ok().contains("lost, 80 in doubt"));
    // The server sells what it has, and nobody gets what is in doubt.
    case.sold.push(sell(case.server(), &case.keys[1], 1, 1));
    case.server().wait_for("its sales at the hub", is_reported);
    case.sell_out();
    assert_eq!(case.variety().in_doubt, AT_CACHE);
    let said = case.say(&["node", "settle", "cache", "--as", "withdrawn", "--yes", "--json"]);
    assert_eq!((said.code, &said.json()["holds"][0]["pins"]), (0, &AT_CACHE.into()), "{said:?}");
    let variety = case.variety();
    assert_eq!((variety.in_doubt, variety.withdrawn), (0, AT_CACHE), "{variety:?}");
}

#[test]
fn law_3_a_lost_cache_that_comes_back_hands_in_its_sales_through_its_server_and_the_hub_has_the_rest() {
    for killed in ["nobody", "cache", "server", "hub"] {
        let mut case = Case::begin();
        assert_eq!(case.lose("cache"), AT_CACHE);
        // Five of what it still has are written off meanwhile: the last of the ranges.
        let listed = case.say(&["node", "doubts", "cache", "--json"]).json();
        let last = listed.as_array().unwrap().last().unwrap()["serials"][1].as_str().unwrap().to_owned();
        let one = format!("{last}..{last}");
        let settle = ["node", "settle", "cache", "--as", "withdrawn", "--yes", "--json"];
        let said = case.say(&[&settle[..], &["--serials", &one]].concat());
        assert_eq!((said.code, &said.json()["holds"][0]["pins"]), (0, &1.into()), "{said:?}");
        let mut back = case.start_cache();
        match killed {
            "cache" => {
                case.hub
                    .wait_for("its late sales", |status| status.varieties[0].sold == REPORTED + UNREPORTED);
                back.kill();
                back = case.start_cache();
            }
            "server" => case.restart_server(),
            "hub" => {
                // It listens elsewhere then: the server is started again.
                let site = case.site();
                case.hub.kill();
                case.hub = site.hub();
                case.restart_server();
            }
            _ => {}
        }
        case.hub.wait_for("all of it settled", |_| case.variety().in_doubt == 0);
        back.wait_for("nothing left", |status| holds(status, 0));
        assert!(back.said().contains("[declared_lost]"), "{}", back.said());
        let reply = back.till(&case.keys[0]).vend(Attempt::First, 36, (1, 1000), 0).unwrap();
        assert!(matches!(reply, Reply::Later { reason: LaterReason::Stopping, .. }), "{killed}: {reply:?}");
        case.hub.wait_for("the rest at the hub", |_| {
            let variety = case.variety();
            variety.withdrawn == 1 && variety.sold == REPORTED + UNREPORTED && variety.in_transfer == 0
        });
        case.server().wait_for("its journal at the hub", is_reported);
        case.sell_out();
        case.server().wait_for("its journal at the hub", is_reported);
        let variety = case.variety();
        assert_eq!((variety.withdrawn, variety.in_doubt), (1, 0), "{killed}: law 6: {variety:?}");
        assert!(!case.sold.contains(&last), "{killed}: law 6: what was written off was sold");
    }
}

#[test]
fn law_1_a_server_is_lost_after_its_cache_and_both_hand_in_what_they_have() {
    let mut case = Case::begin();
    case.sold.push(sell(case.server(), &case.keys[1], 1, 1));
    case.server().wait_for("its sales at the hub", is_reported);
    case.server.take().unwrap().kill();
    case.hub.wait_for("the cut", |status| !node(status, case.cache - 1).linked);
    let said = case.say(&["node", "lost", "server", "--yes"]);
    assert!(said.code == 1 && said.errors.contains("[node_has_children]"), "{said:?}");
    assert!(said.errors.contains("cache"), "it says which: {said:?}");
    assert_eq!(case.lose("cache"), AT_CACHE);
    let at_server = case.lose("server");
    let variety = case.variety();
    assert_eq!(variety.in_doubt, AT_CACHE + at_server, "{variety:?}");
    // Both come back, the cache first.
    let back = case.start_cache();
    case.restart_server();
    case.hub.wait_for("all of it settled", |_| {
        let variety = case.variety();
        variety.in_doubt == 0 && variety.at_seller == 0 && variety.in_transfer == 0
    });
    back.wait_for("nothing left", |status| holds(status, 0));
    let variety = case.variety();
    assert_eq!((variety.sold, variety.withdrawn), (REPORTED + UNREPORTED + 1, 0), "{variety:?}");
    case.sell_out();
    let variety = case.variety();
    assert_eq!((variety.sold, variety.in_doubt), (RECEIVED, 0), "{variety:?}");
}
