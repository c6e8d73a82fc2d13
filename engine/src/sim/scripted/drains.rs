//! Going offline, and coming back.

use super::*;

const MARKS: (u64, u64, u64) = (100, 500, 800);

#[test]
fn h07_a_node_that_goes_offline_under_load_reaches_zero_and_its_rest_is_sold_elsewhere() {
    let mut net = Net::new(&[MARKS, MARKS], 1_000);
    net.sell(0, 350);
    // A second later the hub knows that.
    net.settle();
    // In flight when it begins.
    net.ask(1);
    net.drain(1, true);
    net.settle();
    assert!(matches!(net.answers(1)[..], [Sale::Sold(_)]), "what was in flight is finished");
    net.ask(1);
    net.settle();
    assert_eq!(net.answers(1), [Sale::Later(LaterReason::Stopping)], "new ones are sent away");
    let drain = net.hub.node_drain(net.node(1)).unwrap();
    assert_eq!((drain.left, drain.moved, drain.is_gone), (0, 499, true), "{drain:?}");
    assert_eq!(net.stocks(), [500, 0], "passed on up to the target of the other; the rest is at the hub");
    assert_eq!(net.hub.available(VARIETY), 149);
    net.sell(0, 600);
    net.check();
    net.drain(1, false);
    net.settle();
    assert_eq!(net.hub.node_drain(net.node(1)), None);
    assert!(net.recalls.is_empty(), "it gives back by itself");
}

#[test]
fn h07_a_node_that_goes_offline_reaches_zero_through_kills_at_every_step() {
    for at in 0..14 {
        for what in [Restart(1), RestartHub, Cut(1)] {
            let mut net = Net::new(&[(0, 1, 800), (300, 300, 800)], 301);
            net.drain(1, true);
            net.turn_through(20, at, what);
            let drain = net.hub.node_drain(net.node(1)).unwrap();
            assert_eq!((drain.left, drain.moved, drain.is_gone), (0, 300, true), "{what:?} at {at}");
            assert_eq!((net.stock(1), net.hub.available(VARIETY)), (0, 300));
            net.check();
        }
    }
}

#[test]
fn h07_going_offline_can_be_reversed_half_way() {
    let mut net = Net::new(&[MARKS], 500);
    net.drain(0, true);
    (0..3).for_each(|_| _ = net.turn());
    net.drain(0, false);
    net.settle();
    assert_eq!(net.stock(0) + net.hub.available(VARIETY), 500);
    net.sell(0, 1);
    net.check();
}

#[test]
fn h08_a_hub_that_goes_offline_gives_all_away_and_sends_nothing_again_when_it_is_back() {
    let mut net = Net::new(&[MARKS; 3], 5_000);
    assert_eq!(net.hub.available(VARIETY), 3_500);
    net.sell(2, 50);
    net.order(Command::DrainHub { on: true });
    assert!(!net.hub.hub_drain().unwrap().is_done);
    net.settle();
    let drain = net.hub.hub_drain().unwrap();
    assert_eq!((drain.left, drain.in_transfer, drain.moved, drain.is_done), (0, 0, 3_500, true), "{drain:?}");
    assert_eq!(net.stocks().iter().sum::<u64>(), 4_950);
    net.is_up = false;
    for _ in 0..24 {
        (0..3).for_each(|site| _ = net.sell(site, 10));
        net.pass(3_600_000);
    }
    let offers = net.offers;
    net.restart_hub();
    net.settle();
    assert_eq!((net.offers, net.hub.hub_drain().unwrap().is_done), (offers, true), "nothing is sent again");
    net.check();
    net.order(Command::DrainHub { on: false });
    net.mint(100);
    net.settle();
    assert_eq!(net.hub.available(VARIETY), 100, "it keeps what nobody asks for again");
    net.check();
}

#[test]
fn h08_a_hub_that_goes_offline_gives_all_away_through_kills_at_every_step() {
    for at in 0..14 {
        for what in [Restart(1), RestartHub] {
            let mut net = Net::new(&[(10, 20, 30); 2], 400);
            net.order(Command::DrainHub { on: true });
            net.turn_through(20, at, what);
            let drain = net.hub.hub_drain().unwrap();
            assert_eq!(
                (drain.left, drain.is_done, net.stocks().iter().sum()),
                (0, true, 400_u64),
                "{what:?} at {at}"
            );
            net.check();
        }
    }
}

#[test]
fn h08_a_hub_that_goes_offline_says_why_something_stays() {
    let mut net = Net::new(&[MARKS], 600);
    net.drain(0, true);
    net.settle();
    net.order(Command::DrainHub { on: true });
    net.settle();
    let drain = net.hub.hub_drain().unwrap();
    assert_eq!((drain.left, drain.is_done), (600, false));
    let [(VARIETY, rest)] = drain.stuck[..] else { panic!("{drain:?}") };
    assert_eq!((rest.pins, rest.why), (600, crate::policy::Stuck::NoNode));
    net.check();
}
