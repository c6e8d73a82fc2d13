//! Stock on its way to a seller, in a real process.

use crate::support::process::{OF, Process, VARIETY};
use crate::support::scratch;
use wire::message::{Attempt, DeclineReason, Reply, Request, SequenceState};

/// A seller that never asks in bulk gets every PIN it sells by a transfer of its own.
#[test]
fn m05_a_variety_with_stock_only_at_the_hub_is_sold_by_urgent_transfers_and_declined_when_there_is_none() {
    const STOCK: u64 = 25;
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &["--low", "0", "--target", "1"], 0);
    let keys = network.add_terminals(2);
    network.mint(VARIETY, STOCK as u32);
    let mut till = network.till(&keys[0]);
    for sequence in 1..=STOCK {
        let status = network.status();
        assert_eq!(status.varieties[0].at_seller, 0, "nothing lies at the seller");
        till.sell(Attempt::First, sequence, OF).unwrap();
    }
    let status = network.status();
    assert_eq!((status.varieties[0].hub, status.varieties[0].sold), (0, STOCK));
    let declined = |reply| matches!(reply, Reply::Declined { reason: DeclineReason::OutOfStock, .. });
    assert!(declined(till.vend(Attempt::First, STOCK + 1, OF, 0).unwrap()));

    network.mint(VARIETY, 1);
    assert!(declined(till.vend(Attempt::Repeat, STOCK + 1, OF, 0).unwrap()), "law 4: final");
    assert_eq!(till.state(&Request::Status { sequence: STOCK + 1 }).unwrap(), SequenceState::Declined);
    till.sell(Attempt::First, STOCK + 2, OF).unwrap();
    assert!(declined(network.till(&keys[1]).vend(Attempt::First, 1, OF, 0).unwrap()));
    network.audit();
}

#[test]
fn h10_a_seller_is_refilled_by_its_watermarks_before_it_runs_dry() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &["--low", "20", "--target", "60"], 0);
    let key = &network.add_terminals(1)[0];
    network.mint(VARIETY, 200);
    let at_seller = |status: &engine::network::Status| status.varieties[0].at_seller;
    network.wait_for("the first filling", |status| at_seller(status) == 60);
    let mut till = network.till(key);
    for sequence in 1..=40 {
        till.sell(Attempt::First, sequence, OF).unwrap();
    }
    assert_eq!(at_seller(&network.status()), 20, "at the low mark nothing is asked for");
    till.sell(Attempt::First, 41, OF).unwrap();
    network.wait_for("the second filling", |status| at_seller(status) == 60);
    // To the last PIN.
    for sequence in 42..=200 {
        till.sell(Attempt::First, sequence, OF).unwrap();
    }
    let last = till.vend(Attempt::First, 201, OF, 0).unwrap();
    assert!(matches!(last, Reply::Declined { reason: DeclineReason::OutOfStock, .. }), "{last:?}");
    network.audit();
}
