//! A disk without room, under a real process.

use crate::support::process::{OF, Process, SMALL, VARIETY};
use crate::support::small_disk::SmallDisk;
use crate::support::till::Till;
use crate::support::{lacking, scratch};
use engine::admin::KeyRow;
use std::collections::BTreeMap;
use wire::message::{Attempt, LaterReason, Reply, Request, SequenceState, Sold, Vend};

/// The seller sells until its journal has no room, says `later` then, and goes on answering everything that needs none;
/// also after a kill and a start on the full disk; and it sells again, without help, as soon as there is room.
#[test]
fn law_8_a_full_disk_puts_sales_off_answers_the_rest_and_recovers_by_itself() {
    let scratch = scratch();
    let Some(disk) = SmallDisk::mount(&scratch.path().join("server-1"), 16 << 20) else {
        return lacking("the right to mount a tmpfs");
    };
    let levels = ["--low", "60000", "--target", "60000"];
    let network = Process::begin_small(scratch.path(), &levels, 60_000);
    let [key, other] = &network.add_terminals(2)[..] else { panic!("two were asked for") };
    let mut till = network.till(key);
    // Never confirmed, so that it stays as it is.
    let sold = network.till(other).sell(Attempt::First, 1, OF).unwrap();
    disk.fill();
    let mut told = BTreeMap::new();
    let open = sell_all_there_is_room_for(&mut till, &mut told);
    assert!(told.len() > 1_000, "only {} sales fit", told.len());
    network.wait_for("a full disk", |status| status.sellers[0].disk_full);
    check_answers(&mut till, &told, open);
    check_sold(&mut network.till(other), &sold);
    network.audit();

    network.kill();
    let network = Process::start_with(scratch.path(), &[&SMALL[..], &levels].concat());
    let mut till = network.till(key);
    check_answers(&mut till, &told, open);
    check_sold(&mut network.till(other), &sold);
    network.audit();

    disk.free();
    network.wait_for("room", |status| !status.sellers[0].disk_full);
    let late = till.sell(Attempt::Repeat, open, OF).unwrap();
    assert!(told.values().all(|earlier| earlier.reference != late.reference), "law 1");
    // What came behind it in its burst may have found room.
    let fresh = told.keys().max().map_or(open, |last| open.max(*last)) + 1;
    till.sell(Attempt::First, fresh, OF).unwrap();
    network.audit();
    let status = network.status();
    assert_eq!(status.varieties[0].sold, told.len() as u64 + 3);
    drop(network);
}

/// Stock that does not fit waits at the hub, and comes by itself when there is room.
#[test]
fn law_8_stock_that_finds_no_room_stays_at_the_hub_until_there_is() {
    let scratch = scratch();
    let Some(disk) = SmallDisk::mount(&scratch.path().join("server-1"), 8 << 20) else {
        return lacking("the right to mount a tmpfs");
    };
    let network = Process::begin_small(scratch.path(), &[], 0);
    let key: &KeyRow = &network.add_terminals(1)[0];
    disk.fill();
    network.mint(VARIETY, 2_000);
    let mut till = network.till(key);
    match till.vend(Attempt::First, 1, OF, 0).unwrap() {
        Reply::Later { reason: LaterReason::Stock | LaterReason::Disk, .. } => {}
        other => panic!("neither sold nor out of stock, but there is none: {other:?}"),
    }
    network.audit();
    disk.free();
    till.sell(Attempt::Repeat, 1, OF).unwrap();
    network.wait_for("the rest", |status| status.varieties[0].sellable == 1_999);
    network.audit();
}

/// Hub and seller on one full disk: it starts, and answers what it knows.
#[test]
fn law_8_a_killed_network_starts_again_on_a_full_disk() {
    let scratch = scratch();
    let Some(disk) = SmallDisk::mount(scratch.path(), 64 << 20) else {
        return lacking("the right to mount a tmpfs");
    };
    let data = scratch.path().join("data");
    let network = Process::begin_small(&data, &[], 1_000);
    let key = &network.add_terminals(1)[0];
    let sold = network.till(key).sell(Attempt::First, 1, OF).unwrap();
    disk.fill();
    network.kill();
    let network = Process::start_small(&data, &[]);
    let mut till = network.till(key);
    check_sold(&mut till, &sold);
    // The seller's journal has room left that it took before.
    till.sell(Attempt::First, 2, OF).unwrap();
    disk.free();
    network.wait_for("room", |status| !status.sellers[0].disk_full && status.sellers[0].linked);
    network.mint(VARIETY, 10);
    network.audit();
    drop(network);
}

/// Vends in bursts; returns the first sequence that stays open.
fn sell_all_there_is_room_for(till: &mut Till, told: &mut BTreeMap<u64, Sold>) -> u64 {
    let mut next = 1;
    loop {
        for sequence in next..next + BURST {
            let (attempt, (product, face_value)) = (Attempt::First, OF);
            // All of the burst before is printed.
            let confirmed = if next == 1 { 0 } else { ((1 << BURST) - 1) << (sequence - next) };
            let vend = Vend { attempt, sequence, product, face_value, deadline_ms: 5_000, confirmed };
            till.send(&Request::Vend(vend)).unwrap();
        }
        let mut put_off = Vec::new();
        for _ in 0..BURST {
            match till.receive().unwrap().1 {
                Reply::Sold(sold) => assert!(told.insert(sold.sequence, sold).is_none()),
                Reply::Later { sequence, reason: LaterReason::Disk, .. } => put_off.push(sequence),
                other => panic!("{other:?}"),
            }
        }
        next += BURST;
        // What one batch saves of its room may be enough for a few more: it is over when nothing more comes of asking.
        let mut tries = 0;
        while let Some(&sequence) = put_off.first() {
            match till.vend(Attempt::Repeat, sequence, OF, 0).unwrap() {
                Reply::Sold(sold) => {
                    assert!(told.insert(sequence, sold).is_none());
                    put_off.remove(0);
                    tries = 0;
                }
                Reply::Later { reason: LaterReason::Disk, .. } if tries == 20 => return sequence,
                Reply::Later { reason: LaterReason::Disk, .. } => tries += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What the till knows is still so, and what needs no room is answered.
fn check_answers(till: &mut Till, told: &BTreeMap<u64, Sold>, open: u64) {
    let state = |till: &mut Till, sequence| till.state(&Request::Status { sequence }).unwrap();
    assert_eq!(state(till, 1), SequenceState::Confirmed, "from the history");
    assert_eq!(state(till, open), SequenceState::Open, "`later` is no answer");
    // Each reprint is recorded.
    let put_off = told.keys().rev().take(8).any(|&sequence| {
        let answer = till.ask(&Request::Reprint { sequence }).unwrap();
        matches!(answer, Reply::Later { reason: LaterReason::Disk, .. })
    });
    assert!(put_off, "reprints are still recorded");
}

/// The one sale of a till gets the same answer.
fn check_sold(till: &mut Till, sold: &Sold) {
    assert_eq!(till.state(&Request::Status { sequence: 1 }).unwrap(), SequenceState::Sold);
    match till.vend(Attempt::Repeat, 1, OF, 0).unwrap() {
        Reply::Sold(again) => assert_eq!(again, *sold, "law 4"),
        other => panic!("a repeat needs no room: {other:?}"),
    }
}

const BURST: u64 = 32;
