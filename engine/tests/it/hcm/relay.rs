//! Terminals, a relay, a server and a hub, each a process of its own.

use crate::support::memory::find_digits;
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::Process;
use crate::support::raw::{connect_from, last_error, rejection};
use crate::support::scratch;
use crate::support::till::Till;
use engine::admin::{KeyRow, Reply as Answer, Request as Ask, VarietyRow};
use engine::network::Status;
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use wire::control::ErrorCode;
use wire::link::{Channel, LinkHandshake, LinkIntroduction, Role};
use wire::message::{Attempt, DeclineReason, Reply, Request, SellerId, SequenceState};
use wire::session::Mode;

/// One hub, one server, one relay.
pub(super) struct Street {
    pub(super) hub: Process,
    pub(super) server: Process,
    pub(super) relay: Process,
    pub(super) keys: Vec<KeyRow>,
    pub(super) links: SocketAddr,
    pub(super) site: Site,
    pub(super) settings: Settings,
    pub(super) scratch: tempfile::TempDir,
}

impl Street {
    /// With so many terminals, and so much stock of the varieties that `furnish` makes, all of it at the server.
    pub(super) fn new(terminals: u32, varieties: &[&str], pins: u32, furnish: impl FnOnce(&Process)) -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let hub = site.hub();
        furnish(&hub);
        let keys = hub.add_terminals(terminals);
        varieties.iter().for_each(|variety| hub.mint(variety, pins));
        site.admit(&hub, "server-1");
        site.admit_relay(&hub, "kiosks");
        let pins = u64::from(pins);
        let links = crate::support::nodes::free_port();
        let settings = Settings { levels: (pins, pins, 2 * pins), links, ..Settings::default() };
        let server = site.server("server-1", hub.address, &settings);
        let is_stocked = |status: &Status| status.varieties.iter().all(|v| v.sellable == pins);
        server.wait_for("stock", |status| !status.varieties.is_empty() && is_stocked(status));
        let relay = site.relay("kiosks", &[links]);
        relay.wait_for("the server", |status| status.relay.as_ref().unwrap().server.is_some());
        Self { hub, server, relay, keys, links, site, settings, scratch }
    }

    /// With one variety, product 1 with a face value of 1000.
    pub(super) fn small(terminals: u32, pins: u32) -> Self {
        Self::new(terminals, &["v1"], pins, |hub| furnish(hub, 1))
    }

    /// PINs sold, as the hub counts them.
    pub(super) fn sold(&self) -> u64 {
        sold(&self.hub.status())
    }

    /// Waits until the hub has counted so many, and finds that there are no more.
    pub(super) fn await_sold(&self, count: u64) {
        let is_known =
            |status: &Status| status.sellers[0].journal_acknowledged == status.sellers[0].journal_durable;
        self.server.wait_for("the journal at the hub", is_known);
        self.hub.wait_for("sales", |status| sold(status) >= count);
        assert_eq!(self.sold(), count);
    }
}

fn sold(status: &Status) -> u64 {
    status.varieties.iter().map(|variety| variety.sold).sum()
}

pub(super) const OF: (u32, u64) = (1, 1000);

#[test]
fn m01_every_product_and_denomination_brings_a_matching_pin_and_an_invalid_pair_none() {
    let products = [11, 12, 13];
    let faces = [500, 1000, 2500];
    let pairs: Vec<(u32, u64)> =
        products.iter().flat_map(|product| faces.iter().map(|face| (*product, *face))).collect();
    let code = |(product, face): (u32, u64)| format!("p{product}-{face}");
    let codes: Vec<String> = pairs.iter().map(|pair| code(*pair)).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    let street = Street::new(1, &codes, 20, |hub| {
        hub.ask(&Ask::AddDealer { name: "Shop".into() });
        for (product, face_value) in &pairs {
            let row = VarietyRow {
                id: 0,
                code: code((*product, *face_value)),
                product: *product,
                face_value: *face_value,
                currency: "ZAR".into(),
                currency_digits: 2,
                name: "Airtime".into(),
                receipt: String::new(),
                minimum_life_days: 0,
            };
            assert!(matches!(hub.ask(&Ask::AddVariety(row)), Answer::Added { .. }));
        }
    });
    let mut till = street.relay.till(&street.keys[0]);
    let mut pins = HashSet::new();
    for (sequence, pair) in (1..).zip(&pairs) {
        let bought = till.sell(Attempt::First, sequence, *pair).unwrap();
        assert!(pins.insert(bought.pin.as_bytes().to_vec()));
        let of_pair = |status: &Status| {
            let its = status.varieties.iter().find(|variety| variety.code == code(*pair));
            its.is_some_and(|variety| variety.sellable == 19)
        };
        street.server.wait_for("one PIN less of that variety", of_pair);
    }
    let next = pairs.len() as u64 + 1;
    for (sequence, pair) in (next..).zip([(11, 999), (14, 500), (0, 0)]) {
        let answer = till.vend(Attempt::First, sequence, pair, 0).unwrap();
        let declined = matches!(answer, Reply::Declined { reason: DeclineReason::NoSuchVariety, .. });
        assert!(declined, "{pair:?}: {answer:?}");
    }
    street.await_sold(pairs.len() as u64);
    let status = street.hub.status();
    assert!(status.varieties.iter().all(|variety| variety.sold == 1), "{:?}", status.varieties);
    street.hub.audit();
}

#[test]
fn m02_n_requests_over_a_relay_are_n_sales_at_the_server() {
    let street = Street::small(4, 1_000);
    let sell = |key: &KeyRow| {
        let mut till = street.relay.till(key);
        let sell = |sequence| till.sell(Attempt::First, sequence, OF).unwrap().reference;
        let sold = (1..=60).map(sell).collect::<Vec<_>>();
        (till, sold)
    };
    let tills: Vec<(Till, Vec<u64>)> = std::thread::scope(|scope| {
        let tills: Vec<_> = street.keys.iter().map(|key| scope.spawn(|| sell(key))).collect();
        tills.into_iter().map(|till| till.join().unwrap()).collect()
    });
    let references: HashSet<u64> = tills.iter().flat_map(|(_, sold)| sold.iter().copied()).collect();
    assert_eq!(references.len(), 240);
    street.await_sold(240);
    let server = street.server.status().sellers[0].clone();
    assert_eq!((server.answered_sold, server.sessions, server.carriers), (240, 4, 1));
    let relay = street.relay.status().relay.unwrap();
    // Four logins, some of them twice, because a till that is not known yet asks again.
    assert!(relay.requests >= 244 && relay.in_flight == 0, "{relay:?}");
    assert_eq!((relay.sessions, relay.seller, relay.workers), (4, 1, 1));
    street.hub.audit();
}

#[test]
fn m06_a_relay_has_no_data_and_no_sold_pin_in_its_memory() {
    const SALES: u64 = 10_000;
    const TILLS: u64 = 20;
    let street = Street::small(TILLS as u32, SALES as u32);
    let sell = |key: &KeyRow| {
        let mut till = street.relay.till(key);
        let sell = |sequence| till.sell(Attempt::First, sequence, OF).unwrap().pin.as_bytes().to_vec();
        (1..=SALES / TILLS).map(sell).collect::<Vec<_>>()
    };
    let pins: HashSet<Vec<u8>> = std::thread::scope(|scope| {
        let tills: Vec<_> = street.keys.iter().map(|key| scope.spawn(|| sell(key))).collect();
        tills.into_iter().flat_map(|till| till.join().unwrap()).collect()
    });
    assert_eq!(pins.len() as u64, SALES);
    // Those who look know how to find: this process has them all.
    let (_, here) = find_digits(std::process::id(), &pins);
    assert_eq!(here.len() as u64, SALES);
    let (seen, there) = find_digits(street.relay.pid(), &pins);
    assert!(seen > 1 << 20, "only {seen} bytes of the relay's memory could be read");
    assert!(there.is_empty(), "{} sold PINs are in the relay's memory", there.len());

    let mut names: Vec<_> = fs::read_dir(street.site.data("kiosks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "pinwheel.sock"]);
    let open = |process: &str| -> HashSet<PathBuf> {
        let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        files.filter_map(|file| fs::read_link(file.unwrap().path()).ok()).collect()
    };
    // What it was started with is not its own.
    let open: Vec<PathBuf> =
        open(&street.relay.pid().to_string()).difference(&open("self")).cloned().collect();
    let is_lock = |path: &PathBuf| *path == street.site.data("kiosks").join("lock");
    let is_kept = |path: &&PathBuf| path.is_absolute() && path.is_file() && !is_lock(path);
    assert_eq!(open.iter().find(is_kept), None, "a file is open that could keep something");
    street.await_sold(SALES);
}

#[test]
fn m07_one_request_brings_one_pin_and_nothing_comes_unasked() {
    let street = Street::small(1, 100);
    let mut till = street.relay.till(&street.keys[0]);
    for sequence in 1..=20 {
        let asked = till.send(&vend(sequence)).unwrap();
        let barrier = till.send(&Request::Status { sequence }).unwrap();
        let mut replies: Vec<(u16, Reply)> = (0..2).map(|_| till.receive().unwrap()).collect();
        replies.sort_by_key(|(correlation, _)| *correlation);
        assert_eq!([replies[0].0, replies[1].0], [asked, barrier]);
        assert!(matches!(replies[0].1, Reply::Sold(_)), "{replies:?}");
        assert!(matches!(replies[1].1, Reply::State { state: SequenceState::Sold, .. }), "{replies:?}");
    }
    let catalogue = till.ask(&Request::Catalogue { from: 0 }).unwrap();
    assert!(matches!(catalogue, Reply::Catalogue(_)), "it says what there is, and brings none of it");
    street.await_sold(20);
}

fn vend(sequence: u64) -> Request {
    Request::Vend(wire::message::Vend {
        attempt: Attempt::First,
        sequence,
        product: OF.0,
        face_value: OF.1,
        deadline_ms: 5_000,
        confirmed: u64::from(sequence > 1),
    })
}

#[test]
fn m09_each_side_of_a_relay_refuses_the_others_hello_with_a_code() {
    let street = Street::small(1, 100);
    let introduction = LinkIntroduction {
        node: SellerId(2),
        role: Role::Hcm,
        channel: Channel::Sessions,
        workers: 0,
        link_id: 1,
    };
    let link_hello = LinkHandshake::start(&introduction, &[1; 32], &[2; 32], |_| None).1;
    assert_eq!(rejection(street.relay.address, &link_hello), ErrorCode::Kind);
    let mut stream = connect_from([127, 0, 0, 1], street.links);
    stream.write_all(&[72, 0, 1, 1, 0, 0, 0, 0]).unwrap();
    assert_eq!(last_error(&mut stream), ErrorCode::Kind);
    let clear = Till::connect_unlogged(
        street.relay.address,
        &street.keys[0],
        Mode::Clear,
        crate::support::process::PATIENCE,
    );
    assert_eq!(clear.err().unwrap().code(), ErrorCode::Mode);
}

#[test]
fn a_terminal_that_logs_in_twice_is_replaced_also_across_relays() {
    let street = Street::small(1, 100);
    street.site.admit_relay(&street.hub, "other");
    let other = street.site.relay("other", &[street.links]);
    let mut first = street.relay.till(&street.keys[0]);
    first.sell(Attempt::First, 1, OF).unwrap();
    // The other relay comes in when the server has its row of the registry.
    other.wait_for("the server", |status| status.relay.as_ref().unwrap().server.is_some());
    let mut second = other.till(&street.keys[0]);
    let replaced = first.receive().err().unwrap();
    let said = format!("{replaced:?}");
    assert!(said.contains("Replaced"), "{said}");
    assert_eq!(second.welcome.next_sequence, 2);
    second.sell(Attempt::First, 2, OF).unwrap();
    street.await_sold(2);
}

#[test]
fn operators_see_a_relay_and_end_it_and_it_needs_its_token_each_time() {
    let street = Street::small(2, 100);
    let mut till = street.relay.till(&street.keys[0]);
    till.sell(Attempt::First, 1, OF).unwrap();
    let run_dir = street.site.data("kiosks");
    let pinwheel = crate::support::command::pinwheel;
    let text = pinwheel(&run_dir, &["status"]).ok();
    assert!(
        text.contains("1 logged in, 1 connections") && text.contains(&street.links.to_string()),
        "{text}"
    );
    let json = pinwheel(&run_dir, &["--json", "status"]).json();
    assert_eq!(json["relay"]["sessions"], 1);
    let refused = pinwheel(&run_dir, &["audit"]);
    assert!(refused.code == 1 && refused.errors.contains("keeps nothing"), "{refused:?}");
    assert_eq!(pinwheel(&run_dir, &["stop"]).code, 0);
    let said = format!("{:?}", till.receive().err().unwrap());
    assert!(said.contains("Stopping"), "{said}");
    assert!(street.relay.wait().0.success());
    fs::remove_file(street.scratch.path().join("kiosks.token")).unwrap();
    let config = street.scratch.path().join("kiosks.toml").display().to_string();
    let again = pinwheel(&run_dir, &["hcm", "--config", &config]);
    assert!(again.code == 3 && again.errors.contains("join token at every start"), "{again:?}");
}
