//! A server with nodes below it, which have their stock from it.

use super::*;
use crate::audit::{SellerBooks, audit};

const SERVER: (u64, u64, u64) = (100, 500, 800);
const CACHE: (u64, u64, u64) = (20, 60, 100);
/// A node that asks for nothing in advance.
const NOTHING: (u64, u64, u64) = (0, 1, 1);

/// What the hub's archive of a site comes to.
fn archived(net: &Net, site: usize) -> SellerBooks {
    archived_books(&net.hub, &net.hub_disk, net.node(site))
}

/// Law 1 by what the hub alone holds, at any moment.
fn check_archives(net: &Net) {
    let sellers: Vec<_> = (0..net.sites.len()).map(|site| archived(net, site)).collect();
    let report = audit(&net.hub.audit_books(), &sellers);
    assert!(report.balanced, "law 1 by the archives: {report}");
}

/// Checks with the nodes' own books, too.
fn check(net: &mut Net) {
    net.check();
    check_archives(net);
}

#[test]
fn m03_a_cache_is_filled_by_its_server_before_any_terminal_asks() {
    let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE)], 1_000, 7);
    assert_eq!(net.stocks(), [440, 60]);
    assert_eq!(net.hub.available(VARIETY), 500);
    check(&mut net);
    let pins = net.sell(1, 50);
    net.settle();
    assert_eq!(net.stock(1), 51, "filled up when it was below its mark");
    assert_eq!(pins.iter().collect::<BTreeSet<_>>().len(), 50);
    check(&mut net);
    let report = audit(&net.hub.audit_books(), &[archived(&net, 0), archived(&net, 1)]);
    assert_eq!(report.varieties[&VARIETY.0].sold, 50, "the hub has the journal of the node below");
}

#[test]
fn m02_without_stock_in_advance_every_request_is_an_urgent_transfer_of_one() {
    for server in [SERVER, NOTHING] {
        let mut net = Net::tree(&[(None, server), (Some(0), NOTHING)], 1_000, 7);
        net.sell(1, 30);
        net.settle();
        let books = net.sites[0].audit_books();
        let urgent =
            books.below.iter().filter(|piece| piece.stream == crate::journal::record::Stream::Urgent);
        assert_eq!((books.below.len(), urgent.count()), (30, 30), "{server:?}");
        assert_eq!(net.stock(1), 0);
        check(&mut net);
    }
}

#[test]
fn a_server_with_small_marks_asks_for_what_the_node_below_it_wants() {
    let mut net = Net::tree(&[(None, (5, 10, 20)), (Some(0), (100, 300, 400))], 1_000, 7);
    assert_eq!(net.stock(1), 300);
    check(&mut net);
    net.sell(1, 250);
    net.settle();
    assert_eq!(net.stock(1), 251);
    check(&mut net);
}

#[test]
fn a_variety_that_nobody_has_is_declined_below_a_server_and_one_that_comes_later_is_sold() {
    let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE)], 0, 7);
    net.ask(1);
    net.settle();
    assert_eq!(net.answers(1), [Sale::Declined]);
    net.mint(1_000);
    net.settle();
    net.sell(1, 1);
    assert_eq!(net.stocks(), [440, 59]);
    check(&mut net);
}

#[test]
fn m04_a_cache_sells_on_while_its_server_is_away_and_its_sales_reach_the_hub_later() {
    let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE)], 1_000, 7);
    net.leave(1);
    net.sell(1, 60);
    net.ask(1);
    (0..200).for_each(|_| _ = net.turn());
    assert!(matches!(net.answers(1)[..], [Sale::Later(_)]), "there is no more, and nobody to ask");
    net.restart(0);
    net.settle();
    net.come_back(1);
    net.settle();
    assert!(net.stock(1) >= 60, "filled up, and perhaps one that a terminal had waited for");
    check(&mut net);
    net.sell(1, 1);
}

#[test]
fn with_the_hub_away_a_server_serves_the_nodes_below_it_and_keeps_nothing_of_their_journals() {
    let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE)], 1_000, 7);
    let (hub_had, server) = (net.hub.journal_acked(net.node(1)).unwrap(), net.node(0));
    net.leave(0);
    net.sell(1, 200);
    net.restart(0);
    net.leave(0);
    net.sell(1, 50);
    assert_eq!(net.hub.journal_acked(net.node(1)), Some(hub_had));
    check_archives(&net);
    net.come_back(0);
    net.settle();
    assert!(net.hub.journal_acked(net.node(1)).unwrap() > hub_had);
    assert!(net.hub.is_linked(server));
    check(&mut net);
}

#[test]
fn a_node_below_that_goes_offline_gives_its_stock_back_to_its_server_which_sells_it_and_gives_it_again() {
    let mut net = Net::tree(&[(None, (100, 300, 800)), (Some(0), CACHE), (Some(0), CACHE)], 300, 7);
    net.sell(1, 10);
    net.settle();
    net.drain(1, true);
    net.settle();
    let drain = net.hub.node_drain(net.node(1)).unwrap();
    assert!(drain.is_gone, "{drain:?}");
    assert_eq!(net.stock(1), 0);
    check(&mut net);
    let left = net.stock(0);
    assert_eq!(left + net.stock(2), 290);
    net.sell(2, 200);
    net.sell(0, 20);
    net.settle();
    check(&mut net);
    net.drain(1, false);
    net.settle();
    check(&mut net);
}

#[test]
fn h07_a_server_that_goes_offline_takes_its_nodes_stock_back_first() {
    let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE), (None, SERVER)], 1_000, 7);
    net.sell(1, 5);
    net.settle();
    net.drain(0, true);
    net.ask(1);
    net.settle();
    let drain = net.hub.node_drain(net.node(0)).unwrap();
    assert!(drain.is_gone && drain.left == 0, "{drain:?}");
    assert_eq!((net.stock(0), net.stock(1)), (0, 0));
    let all = net.hub.available(VARIETY) + net.stock(2);
    assert_eq!(all, 994, "one was sold while it began");
    check(&mut net);
}

/// Anything may happen at any time; law 1 holds by the archives at each moment and by all books in the end.
#[test]
fn law_1_holds_through_kills_cuts_drains_and_sales_of_servers_and_the_nodes_below_them() {
    for seed in 0..SEEDS {
        let marks = [(None, SERVER), (Some(0), CACHE), (Some(0), NOTHING), (None, (10, 40, 60))];
        let mut net = Net::tree(&marks, 1_500, seed);
        for _ in 0..EVENTS {
            let site = net.dice.below(4) as usize;
            match net.dice.below(40) {
                0 => net.restart(site),
                1 => {
                    let Net { sites, dice, .. } = &mut net;
                    sites[site].disk.lose_power(|| dice.any());
                    net.restart(site);
                }
                2 => net.restart_hub_unless_away(),
                3 => net.leave(site),
                4..=6 => {
                    let away: Vec<_> = net.away.iter().copied().collect();
                    away.into_iter().for_each(|site| net.come_back(site));
                }
                7 => {
                    let on = net.dice.one_in(2);
                    net.drain(site, on);
                }
                _ => net.ask(site),
            }
            for _ in 0..net.dice.below(6) {
                net.turn();
            }
            if net.dice.one_in(10) {
                check(&mut net);
            }
        }
        let away: Vec<_> = net.away.iter().copied().collect();
        away.into_iter().for_each(|site| net.come_back(site));
        (0..4).for_each(|site| net.drain(site, false));
        net.settle();
        check(&mut net);
        // What everybody says was sold was sold once.
        let mut sold = BTreeSet::new();
        for site in 0..4 {
            for answer in net.answers(site) {
                if let Sale::Sold(pin) = answer {
                    assert!(sold.insert(pin), "seed {seed}: sold twice");
                }
            }
        }
        let sellers: Vec<_> = (0..4).map(|site| archived(&net, site)).collect();
        let tally = audit(&net.hub.audit_books(), &sellers).varieties[&VARIETY.0].clone();
        assert!(tally.sold > 20, "seed {seed}: it sold something: {tally:?}");
        // And all that is left can be brought back to the hub.
        for site in [1, 2, 0, 3] {
            net.drain(site, true);
            net.settle();
        }
        check(&mut net);
        assert_eq!(net.stocks(), [0, 0, 0, 0], "seed {seed}");
    }
}

impl Net {
    /// The hub starts anew; those that cannot reach it stay away.
    fn restart_hub_unless_away(&mut self) {
        self.restart_hub();
        let away: Vec<_> = self.away.iter().copied().collect();
        away.into_iter().for_each(|site| self.leave(site));
    }
}

const SEEDS: u64 = 12;
const EVENTS: u32 = 400;
