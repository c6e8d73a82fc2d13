//! A hub and several servers, each a process of its own, over real links.

use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::{PATIENCE, Process};
use crate::support::proxy::Proxy;
use crate::support::scratch;
use crate::support::till::serial;
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use engine::network::{Move, NodeStatus, SellerStatus, Status};
use engine::registry::State;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::message::{Attempt, DeclineReason, Reply};

/// What every test with PINs asserts in the end: law 1, and that no serial was sold twice.
pub(crate) fn settle(hub: &Process, servers: &[&Process], sold: &[String]) {
    servers.iter().for_each(|server| _ = server.wait_for("its sales at the hub", is_reported));
    let count = |status: &Status| status.varieties.iter().map(|variety| variety.sold).sum::<u64>();
    let status = hub.wait_for("the sales of all", |status| count(status) == sold.len() as u64);
    hub.audit();
    for variety in &status.varieties {
        let sum = variety.hub + variety.in_transfer + variety.at_seller + variety.sold + variety.withdrawn;
        assert_eq!(sum, variety.received, "{variety:?}");
    }
    let distinct: BTreeSet<_> = sold.iter().collect();
    assert_eq!(distinct.len(), sold.len(), "a serial was sold twice");
}

/// Whether the hub has all of a server's journal.
pub(crate) fn is_reported(server: &Status) -> bool {
    let seller = &server.sellers[0];
    seller.linked && seller.journal_acknowledged >= seller.journal_durable
}

/// Whether a server can sell so many PINs of its first variety.
pub(crate) fn holds(server: &Status, pins: u64) -> bool {
    server.varieties.first().is_some_and(|variety| variety.sellable == pins)
}

/// Sells one PIN of a product; its serial.
pub(crate) fn sell(server: &Process, key: &KeyRow, sequence: u64, product: u32) -> String {
    let mut till = server.till(key);
    let sold = till.sell(Attempt::First, sequence, (product, 1000)).unwrap();
    serial(&sold)
}

/// A server sells all that it can get to one terminal, which has bought nothing there yet; how much that was. None of it is among
/// what was sold before, and all of it is added.
pub(crate) fn sell_out(server: &Process, key: &KeyRow, sold: &mut Vec<String>) -> u64 {
    let mut till = server.till(key);
    let (mut sequence, mut attempt, before) = (0, Attempt::First, sold.len());
    let by = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < by, "it sells for ever");
        sequence += u64::from(attempt == Attempt::First);
        match till.vend(attempt, sequence, (1, 1000), u64::from(sequence > 1)).unwrap() {
            Reply::Sold(got) => {
                sold.push(serial(&got));
                attempt = Attempt::First;
            }
            Reply::Declined { reason: DeclineReason::OutOfStock, .. } => break,
            Reply::Later { .. } => attempt = Attempt::Repeat,
            reply => panic!("{reply:?}"),
        }
    }
    server.wait_for("its sales at the hub", is_reported);
    let distinct: BTreeSet<_> = sold.iter().collect();
    assert_eq!(distinct.len(), sold.len(), "law 1: a serial was sold twice");
    (sold.len() - before) as u64
}

pub(crate) fn node(status: &Status, seller: u32) -> NodeStatus {
    let nodes = &status.hub.as_ref().unwrap().nodes;
    nodes.iter().find(|node| node.seller == seller).unwrap().clone()
}

/// The other ends of a process's TCP connections.
fn peers(pid: u32) -> BTreeSet<u16> {
    let inodes: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let ports = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields[2].rsplit(':').next()?, 16).ok()?;
        (port != 0 && inodes.contains(fields[9])).then_some(port)
    });
    ports.collect()
}

#[test]
fn h01_a_hub_stocks_several_dispersed_servers_with_several_varieties_and_they_sell() {
    const DELAY: Duration = Duration::from_millis(80);
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 3);
    let keys = hub.add_terminals(3);
    for variety in ["v1", "v2", "v3"] {
        hub.mint(variety, 3000);
    }
    let names = ["north", "east", "south"];
    let wires = names.map(|_| Proxy::start(hub.address, DELAY));
    names.iter().for_each(|name| _ = site.admit(&hub, name));
    let servers: Vec<_> = names
        .iter()
        .zip(&wires)
        .map(|(name, wire)| site.server(name, wire.address, &Settings::default()))
        .collect();
    let mut sold = Vec::new();
    for (server, key) in servers.iter().zip(&keys) {
        server.wait_for("its first stock", |status| {
            status.varieties.len() == 3 && status.varieties.iter().all(|variety| variety.sellable == 500)
        });
        for (sequence, product) in (1..=30).zip([1, 2, 3].into_iter().cycle()) {
            sold.push(sell(server, key, sequence, product));
        }
    }
    // A server talks with its wire, and with nobody else.
    for (server, wire) in servers.iter().zip(&wires) {
        assert_eq!(peers(server.pid()), BTreeSet::from([wire.address.port()]));
    }
    settle(&hub, &servers.iter().collect::<Vec<_>>(), &sold);
    let status = hub.status();
    assert!(status.varieties.iter().all(|variety| (variety.hub, variety.sold) == (1500, 30)), "{status:?}");
}

#[test]
fn h02_below_the_low_mark_a_server_asks_once_for_what_brings_that_variety_to_its_target() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 2);
    let keys = hub.add_terminals(1);
    hub.mint("v1", 2000);
    hub.mint("v2", 2000);
    site.admit(&hub, "north");
    let wire = Proxy::start(hub.address, Duration::ZERO);
    let server = site.server("north", wire.address, &Settings::default());
    server.wait_for("the first stock", |status| {
        status.varieties.len() == 2 && status.varieties.iter().all(|variety| variety.sellable == 500)
    });
    let mut till = server.till(&keys[0]);
    let mut sold = Vec::new();
    let mut sell = |sequence| {
        let got = till.sell(Attempt::First, sequence, (1, 1000)).unwrap();
        sold.push(serial(&got));
    };
    (1..=400).for_each(&mut sell);
    // What a server does by itself it does within some ticks of 50 ms; a sale's way to the hub takes longer.
    let reported =
        |status: &Status| status.sellers[0].journal_acknowledged == status.sellers[0].journal_durable;
    server.wait_for("all is reported", reported);
    let at_low = hub.status();
    assert_eq!((at_low.varieties[0].hub, at_low.varieties[0].at_seller), (1500, 100), "at the mark: nothing");
    sell(401);
    server.wait_for("the refill", |status| status.varieties[0].sellable == 500);
    server.wait_for("all is reported", reported);
    let status = hub.status();
    assert_eq!(status.varieties[0].hub, 1500 - 401, "one request, for 401");
    assert_eq!((status.varieties[1].hub, status.varieties[1].at_seller), (1500, 500), "the other: untouched");
    settle(&hub, &[&server], &sold);
}

#[test]
fn h09_what_is_changed_at_the_hub_holds_at_every_server_within_a_second_and_copies_agree_after_a_cut() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let (hub, keys) = site.furnished_hub(2, 2000);
    let names = ["north", "east"];
    let sellers = names.map(|name| site.admit(&hub, name));
    let wires = names.map(|_| Proxy::start(hub.address, Duration::ZERO));
    let servers: Vec<_> = names
        .iter()
        .zip(&wires)
        .map(|(name, wire)| site.server(name, wire.address, &Settings::default()))
        .collect();
    let mut tills: Vec<_> = servers.iter().zip(&keys).map(|(server, key)| server.till(key)).collect();
    servers.iter().for_each(|server| {
        server.wait_for("stock", |status| holds(status, 500));
    });
    let mut sold = Vec::new();
    let mut vend = |till: usize, sequence, face_value| {
        let reply = tills[till].vend(Attempt::First, sequence, (1, face_value), 0).unwrap();
        if let Reply::Sold(got) = &reply {
            sold.push(serial(got));
        }
        reply
    };
    (0..2).for_each(|till| assert!(matches!(vend(till, 1, 1000), Reply::Sold(_))));
    let agree = |status: &Status| sellers.iter().all(|seller| node(status, *seller).registry_agrees);
    hub.wait_for("equal copies", agree);

    // A dealer is suspended, a price is changed: each time so that the effect is looked for until it is there.
    let mut next = [2, 2];
    let mut within_a_second = |ask: Ask, face_value, is_wanted: &dyn Fn(&Reply) -> bool| {
        assert!(matches!(hub.ask(&ask), Answer::Changed { .. }));
        let changed = Instant::now();
        for (till, next) in next.iter_mut().enumerate() {
            loop {
                let reply = vend(till, *next, face_value);
                *next += 1;
                if is_wanted(&reply) {
                    break;
                }
                assert!(changed.elapsed() < Duration::from_secs(1), "till {till}: {reply:?}");
            }
        }
        assert!(changed.elapsed() < Duration::from_secs(1));
    };
    let declined = |wanted: DeclineReason| move |reply: &Reply| matches!(reply, Reply::Declined { reason, .. } if *reason == wanted);
    let dealer = |state| Ask::SetDealer { dealer: 1, state };
    within_a_second(dealer(State::Suspended), 1000, &declined(DeclineReason::DealerInactive));
    within_a_second(dealer(State::Active), 1000, &|reply| matches!(reply, Reply::Sold(_)));
    let Answer::Varieties { mut varieties } = hub.ask(&Ask::ListVarieties) else { panic!("no varieties") };
    varieties[0].face_value = 1200;
    let price = Ask::Import { varieties, dealers: Vec::new() };
    within_a_second(price, 1000, &declined(DeclineReason::NoSuchVariety));
    within_a_second(dealer(State::Active), 1200, &|reply| matches!(reply, Reply::Sold(_)));

    // One server is cut off while more is changed; the lag is a published number.
    hub.wait_for("equal copies", agree);
    wires[1].cut();
    hub.wait_for("the cut", |status| !node(status, sellers[1]).linked);
    for _ in 0..3 {
        hub.add_terminals(5);
    }
    hub.wait_for("the lag of one", |status| {
        let [near, far] = sellers.map(|seller| node(status, seller));
        near.registry_agrees && far.registry_lag_versions == 3 && far.registry_lag_ms > 0
    });
    wires[1].heal();
    let healed = Instant::now();
    hub.wait_for("equal copies", agree);
    assert!(healed.elapsed() < Duration::from_secs(5), "{:?}", healed.elapsed());
    settle(&hub, &servers.iter().collect::<Vec<_>>(), &sold);
}

#[test]
fn h10_stock_comes_because_a_client_asks_and_before_any_does_and_a_stocked_server_asks_nobody() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(2);
    hub.mint("v1", 2000);
    for name in ["lean", "stocked"] {
        site.admit(&hub, name);
    }
    let mut sold = Vec::new();
    // It never asks for itself: every PIN comes because a client wants it.
    let lean = site.server("lean", hub.address, &Settings { levels: (0, 1, 1), ..Settings::default() });
    for sequence in 1..=5 {
        // What a status says of stock is some ticks old.
        lean.wait_for("nothing in stock", |status| {
            status.varieties.iter().all(|variety| variety.sellable == 0)
        });
        sold.push(sell(&lean, &keys[0], sequence, 1));
    }
    assert_eq!(hub.status().varieties[0].hub, 1995);
    // It has asked before there was any client.
    let wire = Proxy::start(hub.address, Duration::ZERO);
    let stocked =
        site.server("stocked", wire.address, &Settings { levels: (0, 500, 800), ..Settings::default() });
    assert_eq!(stocked.status().varieties.iter().map(|variety| variety.sellable).sum::<u64>(), 0);
    stocked.kill();
    let stocked = site.server("stocked", wire.address, &Settings::default());
    stocked.wait_for("stock without a client", |status| holds(status, 500));
    assert_eq!(stocked.status().sellers[0].requests, 0);
    stocked.await_terminal(&keys[1]);
    // A hub that is paused answers nothing: the sales of a stocked server do not notice.
    hub.signal("STOP");
    for sequence in 1..=100 {
        sold.push(sell(&stocked, &keys[1], sequence, 1));
    }
    hub.signal("CONT");
    settle(&hub, &[&lean, &stocked], &sold);
}

/// Either end is killed again and again while stock is on its way over a slow wire.
#[test]
fn h01_law_3_kills_of_either_end_in_mid_transfer_neither_lose_nor_double_a_pin() {
    const ROUNDS: u64 = 12;
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let mut hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    site.admit(&hub, "north");
    let wire = Proxy::start(hub.address, Duration::from_millis(3));
    let settings = Settings { levels: (200_000, 200_000, 200_000), ..Settings::default() };
    let mut server = site.server("north", wire.address, &settings);
    let mut sold = Vec::new();
    for round in 1..=ROUNDS {
        // A block of 10,000 PINs is 640,000 bytes: the kill comes at another place each time.
        let begun = wire.bytes();
        hub.mint("v1", 10_000);
        let until = Instant::now() + Duration::from_secs(20);
        while wire.bytes() < begun + round * 50_000 && Instant::now() < until {
            std::thread::yield_now();
        }
        if round % 2 == 0 {
            hub.kill();
            hub = site.hub();
            wire.aim(hub.address);
        } else {
            server.kill();
            server = site.server("north", wire.address, &settings);
        }
        hub.audit();
        server.wait_for("all of it", |status| holds(status, round * 10_000 - sold.len() as u64));
        sold.push(sell(&server, &keys[0], round, 1));
    }
    settle(&hub, &[&server], &sold);
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn law_1_a_restored_server_is_refused_at_first_contact_and_sells_no_more() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    hub.mint("v1", 1000);
    site.admit(&hub, "north");
    let settings = Settings::default();
    let server = site.server("north", hub.address, &settings);
    server
        .wait_for("stock", |status| status.varieties.first().is_some_and(|variety| variety.sellable == 500));
    server.kill();
    copy(&site.data("north"), &site.data("old"));
    let server = site.server("north", hub.address, &settings);
    let sold: Vec<_> = (1..=5).map(|sequence| sell(&server, &keys[0], sequence, 1)).collect();
    settle(&hub, &[&server], &sold);
    server.kill();
    // The copy from before takes the server's place.
    fs::rename(site.data("north"), site.data("newest")).unwrap();
    fs::rename(site.data("old"), site.data("north")).unwrap();
    let said = match site.try_server("north", hub.address, &settings) {
        Err(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Ok(restored) => {
            let (status, said) = restored.wait();
            assert!(!status.success());
            said
        }
    };
    assert!(said.contains("old copy"), "{said}");
    fs::remove_dir_all(site.data("north")).unwrap();
    fs::rename(site.data("newest"), site.data("north")).unwrap();
    let server = site.server("north", hub.address, &settings);
    settle(&hub, &[&server], &sold);
}

#[test]
fn law_8_a_link_that_hears_nothing_is_given_up_and_made_again() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    let seller = site.admit(&hub, "north");
    let wire = Proxy::start(hub.address, Duration::ZERO);
    let server = site.server("north", wire.address, &Settings::default());
    hub.wait_for("the link", |status| node(status, seller).linked);
    wire.deafen();
    hub.mint("v1", 1000);
    server.wait_for("silence is noticed", |status| !status.sellers[0].linked);
    wire.heal();
    server
        .wait_for("stock", |status| status.varieties.first().is_some_and(|variety| variety.sellable == 500));
    let sold = [sell(&server, &keys[0], 1, 1)];
    settle(&hub, &[&server], &sold);
}

#[test]
fn h09_sales_that_the_hub_does_not_know_of_are_counted_and_valued_until_it_does() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    hub.mint("v1", 1000);
    site.admit(&hub, "north");
    let wire = Proxy::start(hub.address, Duration::ZERO);
    let server = site.server("north", wire.address, &Settings::default());
    server.wait_for("stock", |status| holds(status, 500));
    let mut sold = vec![sell(&server, &keys[0], 1, 1)];
    server.wait_for("a report", |status| {
        let seller = &status.sellers[0];
        seller.journal_acknowledged == seller.journal_durable && seller.unreported_since_ms.is_none()
    });
    wire.deafen();
    sold.extend((2..=4).map(|sequence| sell(&server, &keys[0], sequence, 1)));
    let told = server.wait_for("what is unreported", |status| status.sellers[0].unreported_sales == 3);
    let SellerStatus { unreported_value, unreported_since_ms, .. } = &told.sellers[0];
    assert_eq!(unreported_value[..], ["30.00 ZAR"]);
    assert!(unreported_since_ms.is_some_and(|since_ms| since_ms <= told.now_ms));
    // Killed, it counts what its journal holds, whatever of that the hub had already.
    server.kill();
    let server = site.server("north", wire.address, &Settings::default());
    server.wait_for("the same after a restart", |status| status.sellers[0].unreported_sales >= 3);
    wire.heal();
    server.wait_for("the report", |status| status.sellers[0].unreported_since_ms.is_none());
    settle(&hub, &[&server], &sold);
}

/// The latest moves of stock, latest first.
fn moves(hub: &Process) -> Vec<Move> {
    match hub.ask(&Ask::ListMoves { most: 1000 }) {
        Answer::Moves { moves } => moves,
        other => panic!("{other:?}"),
    }
}

#[test]
fn h03_what_the_hub_lacks_it_calls_from_the_one_server_above_its_high_mark_and_no_more_than_is_needed() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    hub.mint("v1", 1500);
    let [a, b, c] = ["a", "b", "c"].map(|name| site.admit(&hub, name));
    let levels = |levels| Settings { levels, ..Settings::default() };
    let between = site.server("c", hub.address, &levels((100, 500, 800)));
    between.wait_for("its stock", |status| holds(status, 500));
    let above = site.server("b", hub.address, &levels((1000, 1000, 1000)));
    above.wait_for("its stock", |status| holds(status, 1000));
    above.kill();
    let above = site.server("b", hub.address, &levels((100, 300, 500)));
    hub.wait_for("the report of the new marks", |status| {
        let stock = &status.hub.as_ref().unwrap().stock;
        stock.iter().any(|row| (row.seller, row.high, row.on_hand) == (b, Some(500), Some(1000)))
    });
    let before = moves(&hub).first().unwrap().id;
    let below = site.server("a", hub.address, &levels((100, 400, 800)));
    below.wait_for("what was called for it", |status| holds(status, 400));
    let made: Vec<_> = moves(&hub).into_iter().filter(|row| row.id > before).collect();
    let from: BTreeSet<_> = made.iter().filter(|row| !row.to_node).map(|row| row.seller).collect();
    let to: BTreeSet<_> = made.iter().filter(|row| row.to_node).map(|row| row.seller).collect();
    assert_eq!((from, to), (BTreeSet::from([b]), BTreeSet::from([a])), "only b is asked, not {c}");
    let count = |to_node| made.iter().filter(|row| row.to_node == to_node).map(|row| row.pins).sum::<u32>();
    assert_eq!((count(false), count(true)), (400, 400), "{made:?}");
    assert!(made.iter().any(|row| row.why.contains("above its high mark")), "{made:?}");
    assert!(holds(&above.status(), 600) && holds(&between.status(), 500));
    // What b gave up is sold at a.
    let sold: Vec<_> = (1..=20).map(|sequence| sell(&below, &keys[0], sequence, 1)).collect();
    settle(&hub, &[&above, &between, &below], &sold);
}

#[test]
fn h07_a_server_that_goes_offline_under_load_returns_all_it_has_and_that_is_sold_elsewhere() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(3);
    hub.mint("v1", 1000);
    let [leaving, _] = ["north", "east"].map(|name| site.admit(&hub, name));
    let mut north = site.server("north", hub.address, &Settings::default());
    let east = site.server("east", hub.address, &Settings::default());
    [&north, &east].into_iter().for_each(|server| {
        server.wait_for("stock", |status| holds(status, 500));
    });
    // Two tills sell until they are sent away.
    let (begun, has_begun) = std::sync::mpsc::channel();
    let tills = keys[..2].iter().map(|key| (north.till(key), begun.clone())).map(|(mut till, begun)| {
        std::thread::spawn(move || {
            let mut sold = Vec::new();
            for sequence in 1.. {
                match till.vend(Attempt::First, sequence, (1, 1000), 0).unwrap() {
                    Reply::Sold(got) => {
                        sold.push(serial(&got));
                    }
                    Reply::Later { .. } => return sold,
                    other => panic!("{other:?}"),
                }
                if sequence == 20 {
                    begun.send(()).unwrap();
                }
            }
            unreachable!("there are not so many PINs")
        })
    });
    let tills: Vec<_> = tills.collect();
    (0..2).for_each(|_| has_begun.recv_timeout(Duration::from_secs(30)).unwrap());
    let drain = Ask::Drain { node: "north".to_owned(), on: true };
    assert!(matches!(hub.ask(&drain), Answer::Changed { .. }));
    let mut sold: Vec<_> = tills.into_iter().flat_map(|till| till.join().unwrap()).collect();
    assert!(sold.len() >= 40 && sold.len() < 500, "{}", sold.len());
    // Killed in the middle of it, it goes on leaving.
    north.kill();
    north = site.server("north", hub.address, &Settings::default());
    let status = hub.wait_for("the end of the drain", |status| {
        node(status, leaving).drain.is_some_and(|drain| drain.is_done)
    });
    let drain = node(&status, leaving).drain.unwrap();
    assert_eq!((drain.left, drain.moved), (0, 500 - sold.len() as u64));
    assert!(holds(&north.status(), 0));
    north.kill();
    for sequence in 1..=1000 - sold.len() as u64 {
        sold.push(sell(&east, &keys[2], sequence, 1));
    }
    assert_eq!(sold.len(), 1000);
    settle(&hub, &[&east], &sold);
}

#[test]
fn h08_a_hub_that_goes_offline_first_gives_its_stock_to_the_servers_which_sell_on_without_it() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(2);
    hub.mint("v1", 3000);
    ["north", "east"].iter().for_each(|name| _ = site.admit(&hub, name));
    let wires = [0, 1].map(|_| Proxy::start(hub.address, Duration::ZERO));
    let servers: Vec<_> = ["north", "east"]
        .iter()
        .zip(&wires)
        .map(|(name, wire)| site.server(name, wire.address, &Settings::default()))
        .collect();
    servers.iter().for_each(|server| _ = server.wait_for("stock", |status| holds(status, 500)));
    assert!(matches!(hub.ask(&Ask::DrainHub { on: true }), Answer::Changed { .. }));
    let status = hub.wait_for("the end of the drain", |status| {
        status.hub.as_ref().unwrap().drain.as_ref().is_some_and(|drain| drain.is_done)
    });
    assert_eq!(status.varieties[0].hub, 0);
    // What a server has is known from its journal, which comes a moment later.
    hub.wait_for("all at the servers", |status| status.varieties[0].at_seller == 3000);
    let before = moves(&hub);
    hub.kill();
    let mut sold = Vec::new();
    for (server, key) in servers.iter().zip(&keys) {
        server.wait_for("the hub's absence", |status| !status.sellers[0].linked);
        // More than it had before the hub went.
        sold.extend((1..=600).map(|sequence| sell(server, key, sequence, 1)));
    }
    let hub = site.hub();
    wires.iter().for_each(|wire| wire.aim(hub.address));
    settle(&hub, &servers.iter().collect::<Vec<_>>(), &sold);
    assert_eq!(moves(&hub), before, "nothing is sent again");
    assert!(matches!(hub.ask(&Ask::DrainHub { on: false }), Answer::Changed { .. }));
    assert!(hub.status().hub.unwrap().drain.is_none());
}
