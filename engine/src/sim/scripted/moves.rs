//! Stock on demand: the hub's own first, then from those who can spare it.

use super::*;
use crate::journal::record::Stream;
use crate::policy::{Reason, Wait};
use std::collections::HashSet;

const MARKS: (u64, u64, u64) = (100, 500, 800);

/// A has 500, B 950 and C 600, all with the same marks; the hub has the rest of `pins`.
fn three_nodes(pins: u32) -> Net {
    let mut net = Net::new(&[(500, 500, 800), (950, 950, 2_000), (600, 600, 800)], pins);
    (0..3).for_each(|site| net.set_levels(site, MARKS));
    net.settle();
    assert_eq!((net.stocks(), net.recalls.len()), (vec![500, 950, 600], 0));
    net
}

#[test]
fn h02_below_the_low_mark_one_request_brings_a_node_to_its_target() {
    let mut net = Net::new(&[MARKS], 2_000);
    assert_eq!(net.stock(0), 500);
    net.sell(0, 400);
    net.settle();
    assert_eq!((net.stock(0), net.offers), (100, 1), "at the mark: nothing");
    net.sell(0, 1);
    net.settle();
    assert_eq!((net.stock(0), net.offers), (500, 2));
    net.check();
}

#[test]
fn h03_what_the_hub_lacks_comes_from_the_one_above_its_high_mark_and_no_more_than_that() {
    let mut net = three_nodes(2_050);
    let at_b: HashSet<_> = {
        let ledger = net.sites[1].node.books().unwrap().ledger();
        let spans = ledger.inventory.holdings().map(|held| held.span);
        spans.flat_map(|span| (span.start..span.end).map(move |index| (span.block, index))).collect()
    };
    net.sell(0, 401);
    net.settle();
    assert_eq!(net.recalls, [(1, 401)], "only B is asked, for what A lacks");
    assert_eq!(net.stocks(), [500, 549, 600]);
    let reason = net.returns(0).len() + net.returns(2).len();
    assert_eq!(reason, 0, "nobody else gave anything");
    for row in net.returns(1) {
        let found = net.hub.explain(Way::FromNode, net.node(1), Stream::Bulk, row.number).unwrap();
        let Some(Reason::Surplus { lacking: 401, first, .. }) = found.reason else { panic!("{found:?}") };
        assert_eq!(first, net.node(0));
    }
    net.set_levels(0, (0, 1, 800));
    let sold = net.sell(0, 500);
    let from_b = sold.iter().filter(|pin| at_b.contains(&(pin.block(), u32::from(pin.index())))).count();
    assert_eq!(from_b, 401, "B's serials are sold at A");
    net.check();
}

#[test]
fn h03_the_hub_serves_from_its_own_stock_first_and_collects_the_rest() {
    let mut net = three_nodes(2_350);
    let offers = net.offers;
    net.sell(0, 401);
    net.settle();
    assert_eq!(net.recalls, [(1, 101)]);
    assert_eq!(net.stocks(), [500, 849, 600]);
    assert!(net.offers > offers);
    net.check();
}

#[test]
fn h03_who_is_not_critical_waits_with_a_reason_while_nobody_is_above_the_high_mark() {
    let mut net = Net::new(&[MARKS, MARKS], 1_000);
    // Sold over days, 99 last for long.
    for _ in 0..401 {
        net.sell(0, 1);
        net.pass(3_600_000);
    }
    net.settle();
    let [waiting] = net.hub.waiting()[..] else { panic!("one request waits") };
    assert_eq!((waiting.pins, waiting.is_urgent), (401, false));
    assert!(matches!(waiting.wait, Wait::NotCritical { .. }), "{waiting:?}");
    assert_eq!((net.recalls.len(), net.stocks()), (0, vec![99, 500]));
    net.mint(1_000);
    net.settle();
    assert_eq!((net.stock(0), net.hub.waiting().len()), (500, 0), "met when stock arrives");
    net.check();
}

#[test]
fn h03_a_waiting_terminal_gets_a_pin_that_another_node_holds() {
    let mut net = Net::new(&[(1, 1, 10), (60, 60, 100)], 61);
    assert_eq!(net.stocks(), [1, 60]);
    net.set_levels(1, (10, 60, 100));
    net.settle();
    net.sell(0, 5);
    net.settle();
    assert!(net.recalls.iter().all(|(site, _)| *site == 1), "{:?}", net.recalls);
    net.check();
}

#[test]
fn h04_while_sales_race_exactly_the_unsold_come_back_and_are_never_sold_there() {
    for seed in 0..8 {
        let mut net = Net::new(&[(0, 1, 2), (600, 600, 5_000)], 601);
        net.dice = Dice::new(seed);
        net.set_levels(1, (0, 1, 2));
        net.settle();
        let mut sold = Vec::new();
        // A wants 300 while B sells.
        net.sites[0].levels = Levels::new(300, 301, 400).unwrap();
        net.restart(0);
        for round in 0..250 {
            net.ask(1);
            if net.dice.below(3) == 0 {
                net.turn();
            }
            if round == 40 && seed % 2 == 1 {
                net.restart(1);
            }
            if round == 60 && seed % 4 > 1 {
                net.restart_hub();
            }
        }
        net.settle();
        for answer in net.answers(1) {
            if let Sale::Sold(pin) = answer {
                sold.push((pin.block(), u32::from(pin.index())));
            }
        }
        let returned: Vec<_> = net.returns(1);
        let count: u32 = returned.iter().map(|row| row.span.len()).sum();
        assert!(count >= 290, "seed {seed}: {count} came back");
        for (block, index) in sold {
            let back =
                returned.iter().any(|r| r.span.block == block && (r.span.start..r.span.end).contains(&index));
            assert!(!back, "seed {seed}: {block:?} {index} was sold and came back");
        }
        net.check();
    }
}

#[test]
fn h05_under_shifting_demand_nodes_keep_to_their_bands_without_going_back_and_forth() {
    let marks = (30, 60, 90);
    let mut net = Net::new(&[marks; 3], 3_000);
    let (mut sold, mut in_band, mut looks) = (0, 0, 0);
    for hour in 0..72 {
        // Each day another node sells most.
        let busy = hour / 24;
        for site in 0..3 {
            let pins = if site == busy { 16 } else { 4 };
            sold += net.sell(site, pins).len();
        }
        net.pass(3_500_000);
        net.settle();
        for stock in net.stocks() {
            looks += 1;
            in_band += usize::from((marks.0..=marks.2).contains(&stock));
        }
    }
    let recalled: u32 = net.recalls.iter().map(|(_, pins)| pins).sum();
    assert_eq!(sold, 72 * 24, "no stock-out while the network had stock");
    assert!(f64::from(recalled) <= 0.05 * sold as f64, "{recalled} recalled for {sold} sold");
    assert_eq!(in_band, looks, "every node within its band");
    net.check();
}
