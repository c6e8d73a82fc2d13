//! Nodes below a server that are declared lost, and servers that are lost after them.

use super::*;
use crate::hub::DoubtState;
use crate::ids::Span;

const SERVER: Marks = (100, 500, 800);
const CACHE: Marks = (20, 60, 100);
/// What the server can give up for terminals that wait elsewhere, when its cache has 60.
const ABOVE_LOW: usize = 340;
/// What may come between when the cache, site 1, comes back.
const ANYTHING: [Disturbance; 4] = [Restart(1), Restart(0), RestartHub, Cut(1)];

/// A cache with 60 PINs sold 20 of them, was cut off, and sold 10 more; what was sold, in this order.
fn cut_off() -> (Net, Vec<PinId>) {
    let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE), (None, (0, 1, 800))], 1_000, 7);
    let mut sold = net.sell(1, 20);
    net.settle();
    net.leave(1);
    sold.extend(net.sell(1, 10));
    net.settle();
    (net, sold)
}

impl Net {
    fn lose_with_what_it_had(&mut self, site: usize, pins: u64) {
        assert_eq!(self.lose(site), Ok(Done::Doubts(vec![(VARIETY, pins)])));
    }

    fn write_off(&self, site: usize, spans: Option<Vec<Span>>) -> Command {
        Command::WriteOff { node: self.node(site), variety: None, spans, note: "seen".into() }
    }

    fn sold(&self) -> u64 {
        self.audit_from_archives().varieties[&VARIETY.0].sold
    }
}

#[test]
fn law_1_what_a_lost_cache_held_is_in_doubt_pin_by_pin_and_nobody_gets_it() {
    let (mut net, sold) = cut_off();
    let server = net.own_pins(0);
    assert!(matches!(net.lose(0), Err(CommandError::NodeConnected(_))));
    net.lose_with_what_it_had(1, 40);
    assert!(matches!(net.lose(1), Err(CommandError::NodeLost(_))));
    let expected = net.own_pins(1).into_iter().chain(sold[20..].iter().copied()).collect::<BTreeSet<_>>();
    let rows: Vec<_> = net.hub.doubts().cloned().collect();
    let pins = rows
        .iter()
        .flat_map(|row| (row.span.start..row.span.end).map(|index| PinId::new(row.span.block, index as u16)));
    assert_eq!(pins.collect::<BTreeSet<_>>(), expected, "what it has, and what it sold unseen");
    for _ in 0..2 {
        let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
        assert_eq!((tally.in_doubt, tally.sold), (40, 20));
        assert_eq!(net.hub.network_stock(VARIETY).on_hand, 940);
        net.restart_hub();
        net.settle();
    }
    assert_eq!(net.own_pins(0), server, "its server has what it had");
    net.restart(0);
    net.settle();
    // The third gets what is above the server's low mark, too.
    let others = net.sell_out(2, &sold);
    net.settle();
    assert_eq!(others + net.sell_out(0, &sold), 940);
    net.settle();
    assert_eq!((net.in_doubt(), net.sold()), (40, 960));
    // Nobody answers for it but the hub, and the server may leave when an operator has settled it.
    net.drain(0, true);
    net.settle();
    assert!(net.hub.node_drain(net.node(0)).unwrap().is_gone);
    assert!(net.takes_leave(0));
    net.settle();
    net.leave(0);
    let close = |net: &mut Net| {
        let (node, spent) = (net.node(0), net.spent(0));
        net.try_order(Command::CloseNode { node, spent })
    };
    assert!(matches!(close(&mut net), Err(CommandError::NodeHasChildren { .. })));
    let write_off = net.write_off(1, None);
    net.try_order(write_off).unwrap();
    assert_eq!(close(&mut net), Ok(Done::State));
    let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
    assert_eq!((tally.withdrawn, tally.in_doubt, tally.sold), (40, 0, 960));
}

#[test]
fn law_3_a_lost_cache_that_comes_back_hands_in_its_sales_and_the_hub_has_its_rest() {
    let (mut net, mut sold) = cut_off();
    net.lose_with_what_it_had(1, 40);
    net.settle();
    net.come_back(1);
    net.settle();
    assert_eq!((net.doubts(1, DoubtState::Sold), net.doubts(1, DoubtState::Returned)), (10, 30));
    assert_eq!((net.stock(1), net.stock(0), net.hub.available(VARIETY)), (0, 440, 530));
    net.check_stopped(1);
    net.come_back(1);
    net.settle();
    net.check();
    sold.truncate(30);
    assert_eq!(net.sell_out(2, &sold), 530 + ABOVE_LOW);
    net.settle();
    assert_eq!((net.in_doubt(), net.sold()), (0, 560 + ABOVE_LOW as u64));
}

#[test]
fn law_3_a_lost_cache_comes_back_through_kills_of_any_end_at_every_step() {
    for at in 0..20 {
        for what in ANYTHING {
            let (mut net, sold) = cut_off();
            net.lose_with_what_it_had(1, 40);
            let rows: Vec<_> = net.hub.doubts().map(|row| row.span).collect();
            let last = *rows.last().unwrap();
            let write_off = net.write_off(1, Some(vec![Span { start: last.end - 5, ..last }]));
            net.try_order(write_off).unwrap();
            net.come_back(1);
            net.turn_through(30, at, what);
            let told = format!("{what:?} at {at}");
            assert_eq!((net.doubts(1, DoubtState::Sold), net.in_doubt()), (10, 0), "{told}");
            assert_eq!((net.stock(1), net.stock(0), net.hub.available(VARIETY)), (0, 440, 525), "{told}");
            let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
            assert_eq!((tally.withdrawn, tally.sold), (5, 30), "{told}: law 6: {tally:?}");
            assert_eq!(net.sell_out(2, &sold), 525 + ABOVE_LOW, "{told}");
        }
    }
}

#[test]
fn law_1_a_server_that_does_not_know_of_it_goes_on_and_what_it_gave_is_in_doubt_when_its_journal_says_so() {
    for is_written_off in [false, true] {
        let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE), (None, (0, 1, 800))], 1_000, 7);
        let mut sold = net.sell(1, 20);
        net.settle();
        // The server and all below it are on their own.
        net.leave(0);
        sold.extend(net.sell(1, 100));
        net.lose_with_what_it_had(1, 40);
        if is_written_off {
            let write_off = net.write_off(1, None);
            net.try_order(write_off).unwrap();
        }
        sold.extend(net.sell(1, 7));
        net.settle();
        let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
        assert_eq!((tally.in_doubt + tally.withdrawn, tally.sold), (40, 20));
        net.come_back(0);
        for _ in 0..40 {
            net.turn();
            net.audit_from_archives();
        }
        net.settle();
        let at_hub = net.hub.available(VARIETY);
        let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
        assert_eq!((tally.in_doubt, tally.sold), (0, 127), "{is_written_off}");
        assert_eq!(net.stock(1), 0, "{is_written_off}");
        // Of what was written off some was sold all the same, and the rest is nobody's.
        let withdrawn = tally.withdrawn;
        assert_eq!((1..40).contains(&withdrawn), is_written_off, "{withdrawn}");
        assert_eq!(net.stock(0) + at_hub + withdrawn, 873, "{is_written_off}");
        let others = net.sell_out(2, &sold) as u64;
        net.settle();
        assert_eq!(others + net.stock(0) + withdrawn, 873, "{is_written_off}");
        net.audit_from_archives();
    }
}

#[test]
fn law_1_what_a_cache_gave_back_is_not_in_doubt_there_when_it_is_the_hubs_before_the_servers_journal_says_so()
{
    for at in 0..30 {
        let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE), (None, (0, 1, 800))], 1_000, 7);
        let sold = net.sell(1, 20);
        net.settle();
        // What the cache gives back goes on to the hub at once, and the journals follow in their time.
        net.drain(0, true);
        (0..at).for_each(|_| _ = net.turn());
        net.leave(0);
        let shelf = net.hub.available(VARIETY);
        net.lose(1).unwrap();
        let doubts = net.doubts(1, DoubtState::InDoubt);
        assert!(
            shelf + doubts + sold.len() as u64 <= 1_000,
            "after {at}: {shelf} at the hub, {doubts} in doubt"
        );
        // The hub has given some of it to the server again by the time that the journals are in.
        net.drain(0, false);
        net.come_back(0);
        net.settle();
        net.come_back(1);
        net.settle();
        assert_eq!(net.in_doubt(), 0, "after {at}");
        assert_eq!(net.stocks().iter().sum::<u64>() + net.hub.available(VARIETY), 980, "after {at}");
    }
}

#[test]
fn law_1_a_server_is_lost_after_the_nodes_below_it_and_each_says_what_it_knows_when_it_comes_back() {
    for at in 0..12 {
        for what in ANYTHING {
            let mut net = Net::tree(&[(None, SERVER), (Some(0), CACHE), (None, (0, 1, 800))], 1_000, 7);
            let mut sold = net.sell(1, 20);
            net.settle();
            net.leave(0);
            // What nobody knows: the server gives 80 more to the cache, which sells some of it, and sells 30 itself.
            sold.extend(net.sell(1, 90));
            sold.extend(net.sell(0, 30));
            let Err(CommandError::NodeHasChildren { children, .. }) = net.lose(0) else {
                panic!("the node below it comes first")
            };
            assert_eq!(children, "node 1");
            net.lose_with_what_it_had(1, 40);
            net.lose_with_what_it_had(0, 440);
            assert_eq!(net.in_doubt(), 480);
            net.come_back(0);
            net.turn_through(20, at, what);
            let told = format!("{what:?} at {at}");
            let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
            assert_eq!((tally.in_doubt, tally.sold), (0, 140), "{told}: {tally:?}");
            // One of it goes to the third, which is below its target.
            assert_eq!(net.stocks(), [0, 0, 1], "{told}");
            assert_eq!(net.hub.available(VARIETY), 859, "{told}");
            assert_eq!(net.sell_out(2, &sold), 860, "{told}");
        }
    }
}

/// Anything may happen at any time, a cache or its server be declared lost among it.
#[test]
fn law_1_holds_when_servers_and_the_nodes_below_them_are_lost_amid_kills_and_cuts() {
    for seed in 0..SEEDS {
        let marks = [(None, SERVER), (Some(0), CACHE), (Some(0), CACHE), (None, (10, 40, 60))];
        let mut net = Net::tree(&marks, 1_500, seed);
        let mut sold = BTreeSet::new();
        for _ in 0..EVENTS {
            let site = net.dice.below(4) as usize;
            match net.dice.below(40) {
                0 => net.restart(site),
                1 if net.away.is_empty() => net.restart_hub(),
                2..=4 => net.leave(site),
                5..=6 => {
                    let away: Vec<_> = net.away.iter().copied().collect();
                    away.into_iter().for_each(|site| net.come_back(site));
                }
                7 if net.away.contains(&0) && net.dice.one_in(3) => _ = net.lose(site),
                8 => {
                    let write_off = net.write_off(site, None);
                    // Nothing may be in doubt there.
                    let _ = net.try_order(write_off);
                }
                _ => net.ask(site),
            }
            for _ in 0..net.dice.below(6) {
                net.turn();
            }
            if net.dice.one_in(10) {
                net.audit_from_archives();
            }
            for answer in net.answers(site) {
                if let Sale::Sold(pin) = answer {
                    assert!(sold.insert(pin), "seed {seed}: sold twice");
                }
            }
        }
        let away: Vec<_> = net.away.iter().copied().collect();
        away.into_iter().for_each(|site| net.come_back(site));
        net.settle();
        assert_eq!(net.in_doubt(), 0, "seed {seed}: all came back");
        // And all that is left, but for what was written off, can be brought back to the hub.
        for site in [1, 2, 0, 3] {
            if !net.hub.is_lost(net.node(site)) {
                net.drain(site, true);
            }
            net.settle();
        }
        assert_eq!(net.stocks(), [0, 0, 0, 0], "seed {seed}");
        let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
        assert_eq!(tally.hub + tally.sold + tally.withdrawn, tally.received, "seed {seed}: {tally:?}");
    }
}

const SEEDS: u64 = 12;
const EVENTS: u32 = 300;
