//! `pinwheel up` with its two managers.

use crate::network::is_reported;
use crate::support::command::pinwheel;
use crate::support::process::Process;
use crate::support::scratch;
use engine::admin::Request as Ask;
use engine::network::Status;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// Where each listens: both servers, the relay, the cache.
fn addresses(status: &Status) -> Vec<SocketAddr> {
    let mut all: Vec<_> = status.sellers.iter().filter_map(|seller| seller.address.clone()).collect();
    let cache = all.pop().unwrap();
    all.extend(status.relay.iter().map(|relay| relay.address.clone()));
    all.push(cache);
    all.iter().map(|address| address.parse().unwrap()).collect()
}

fn buy(data: &Path, at: SocketAddr, terminal: usize) -> String {
    let (at, terminal) = (at.to_string(), terminal.to_string());
    let slip = pinwheel(data, &["--json", "buy", "--at", &at, "--terminal", &terminal]).json();
    assert_eq!(slip["outcome"], "sold", "{slip}");
    slip["serial"].as_str().unwrap().to_owned()
}

#[test]
fn up_runs_a_hub_two_servers_a_relay_and_a_cache_and_its_terminals_buy_at_any() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::start(&data);
    let is_whole = |status: &Status| {
        status.relay.as_ref().is_some_and(|relay| relay.server.is_some())
            && status.sellers.len() == 3
            && status.sellers.iter().all(|seller| seller.linked)
            && status.sellers[2].stock.iter().all(|stock| stock.sellable > 0 && stock.target > 0)
    };
    let status = network.wait_for("all five", is_whole);
    let all = addresses(&status);
    let mut serials: Vec<_> = (1..).zip(&all).map(|(terminal, at)| buy(&data, *at, terminal)).collect();
    // Each names the others to its terminals.
    let tills = data.join("tills");
    for (terminal, at) in (1..).zip(&all) {
        let kept = std::fs::read_to_string(tills.join(terminal.to_string())).unwrap();
        let others: BTreeSet<_> =
            all.iter().filter(|other| *other != at).map(|other| format!("address {other}")).collect();
        let named = kept.lines().filter(|line| line.starts_with("address"));
        assert_eq!(named.map(str::to_owned).collect::<BTreeSet<_>>(), others);
    }
    let status = network.status();
    let (cache, relay) = (&status.sellers[2], status.relay.as_ref().unwrap());
    assert_eq!((cache.sales, cache.sales_waited, cache.hit_rate()), (1, 0, Some(1.0)));
    assert!(relay.logins == 1 && relay.requests > 0, "{relay:?}");
    let text = pinwheel(&data, &["status"]).ok();
    for part in ["cache-1 (seller 3)", "relay-1 (relay 4)", "hit rate 100.0 %", "logins since the start"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns: {text}");
    network.audit();
    // It ends in good order: everything is reported, and nothing is on its way.
    network.ask(&Ask::Stop);
    assert!(network.wait().0.success());
    assert!(pinwheel(&data, &["audit"]).ok().contains("balanced"));
    let network = Process::start(&data);
    let status = network.wait_for("all five", is_whole);
    serials.extend((1..).zip(addresses(&status)).map(|(terminal, at)| buy(&data, at, terminal)));
    network.wait_for("the books", is_reported);
    network.audit();
    let distinct: BTreeSet<_> = serials.iter().collect();
    assert_eq!(distinct.len(), 8, "{serials:?}");
}

#[test]
fn a_network_that_was_begun_without_managers_gets_them_with_its_next_start() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::start_with(&data, &["--no-managers"]);
    let status = network.status();
    assert!(status.relay.is_none() && status.sellers.len() == 2);
    let own = |status: &Status| status.sellers[0].seller;
    let before = own(&status);
    network.kill();
    let network = Process::start(&data);
    let status = network.wait_for("the cache's stock", |status| {
        status.sellers.len() == 3 && status.sellers[2].stock.iter().all(|stock| stock.sellable > 0)
    });
    assert_eq!(own(&status), before);
    buy(&data, *addresses(&status).last().unwrap(), 1);
    network.audit();
    // Without its data a cache that has sold cannot start again, as no seller can.
    network.wait_for("its journal at the hub", |status| {
        let cache = &status.sellers[2];
        cache.journal_acknowledged > 0 && cache.journal_acknowledged >= cache.journal_durable
    });
    network.kill();
    std::fs::remove_dir_all(data.join("cache-1")).unwrap();
    let Err(output) = Process::try_start(&data, &[]) else {
        panic!("an empty seller took a known one's place")
    };
    assert!(String::from_utf8_lossy(&output.stderr).contains("is gone: restore it"), "{output:?}");
    Process::start_with(&data, &["--no-managers"]).ask(&Ask::Audit);
}

#[test]
fn a_cache_whose_server_is_lost_is_left_out_and_the_rest_starts() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::start_with(&data, &["--no-managers", "--empty"]);
    network.kill();
    assert_eq!(pinwheel(&data, &["node", "lost", "server-1", "--yes"]).code, 0);
    let network = Process::start_with(&data, &["--empty"]);
    let status = network.status();
    assert_eq!(status.sellers.len(), 2, "the cache is left out");
    assert!(network.said().contains("[not_admitted]"), "{}", network.said());
}
