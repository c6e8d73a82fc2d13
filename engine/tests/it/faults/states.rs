//! Either end is killed in every state of a transfer, as `spec/stock-transfer.md` draws them: down and up, in bulk and urgent,
//! accepted and refused. One end is stopped as it says that it is in the state, and then one of the two is killed.

use super::pair::End::{self, Hub, Server};
use super::pair::{Pair, SERVER};
use crate::network::{holds, is_reported, node, sell, settle};
use crate::support::ends::{Ends, State, with_either_end};
use crate::support::nodes::Site;
use crate::support::process::minting;
use crate::support::small_disk::SmallDisk;
use crate::support::{lacking, scratch};
use engine::admin::{Reply as Answer, Request as Ask};
use engine::network::Status;
use engine::stock::segment::HEADER_BYTES;
use std::fs;
use std::path::Path;

/// The states of a transfer to the server that is accepted.
const DOWN: [State<End>; 9] = [
    (Hub, "giver RECORDING"),
    (Hub, "giver OUT"),
    (Hub, "giver SETTLING accepted"),
    (Hub, "giver ACCEPTED"),
    (Server, "taker FILLING"),
    (Server, "taker WRITING"),
    (Server, "taker WRITTEN"),
    (Server, "taker RECORDING accepted"),
    (Server, "taker RECEIVED"),
];

#[test]
fn h01_law_3_a_kill_of_either_end_in_any_state_of_a_transfer_to_a_server_loses_and_doubles_nothing() {
    let scratch = scratch();
    let mut pair = Pair::new(Site::with_holds(scratch.path()), (200_000, 200_000, 200_000), 0);
    pair.start(Server);
    let mut sold = Vec::new();
    for (round, (state, killed)) in (1..).zip(with_either_end::<Pair>(&DOWN)) {
        // The answer may never come: whoever would give it is killed.
        let mut minting_aside = None;
        pair.kill_in(state, killed, |pair| {
            minting_aside = Some(pair.hub().ask_aside(minting("v1", 100)));
        });
        minting_aside.unwrap().join().unwrap();
        pair.hub().audit();
        let left = round * 100 - sold.len() as u64;
        pair.server().wait_for("all of it", |status| holds(status, left));
        sold.push(sell(pair.server(), &pair.key, round, 1));
    }
    pair.settle(&sold);
}

#[test]
fn h04_law_3_a_kill_of_either_end_in_any_state_of_a_transfer_to_the_hub_loses_and_doubles_nothing() {
    const STATES: [State<End>; 8] = [
        (Server, "giver RECORDING"),
        (Server, "giver OUT"),
        (Server, "giver SETTLING accepted"),
        (Server, "giver ACCEPTED"),
        (Hub, "taker WRITING"),
        (Hub, "taker WRITTEN"),
        (Hub, "taker RECORDING accepted"),
        (Hub, "taker RECEIVED"),
    ];
    let scratch = scratch();
    let mut pair = Pair::new(Site::with_holds(scratch.path()), (1, 1000, 2000), 1000);
    pair.start(Server);
    pair.server().wait_for("all of it", |status| holds(status, 1000));
    for (state, killed) in with_either_end::<Pair>(&STATES) {
        let mut draining = None;
        pair.kill_in(state, killed, |pair| draining = Some(pair.hub().ask_aside(drain(true))));
        draining.unwrap().join().unwrap();
        pair.hub().audit();
        pair.back_from_drain(1000);
    }
    let sold = [sell(pair.server(), &pair.key, 1, 1)];
    pair.settle(&sold);
}

#[test]
fn law_3_a_kill_of_either_end_in_any_state_of_an_urgent_transfer_loses_and_doubles_nothing() {
    let scratch = scratch();
    let mut pair = Pair::new(Site::with_holds(scratch.path()), (0, 1, 1), 200);
    pair.start(Server);
    let (mut sold, mut sequence) = (Vec::new(), 0);
    for (state, killed) in with_either_end::<Pair>(&DOWN) {
        // A kill may leave a PIN behind that came for a vend which had gone: it is sold first.
        pair.server().wait_for("all is reported", is_reported);
        let at_rest = |status: &Status| status.varieties[0].in_transfer == 0;
        while pair.hub().wait_for("nothing is on its way", at_rest).varieties[0].at_seller > 0 {
            sequence += 1;
            sold.push(sell(pair.server(), &pair.key, sequence, 1));
            pair.server().wait_for("all is reported", is_reported);
        }
        sequence += 1;
        let key = pair.key.clone();
        sold.push(pair.kill_in_vend(state, killed, &key, sequence));
        pair.hub().audit();
    }
    pair.settle(&sold);
}

#[test]
fn law_3_a_kill_of_either_end_in_any_state_of_a_refusal_by_a_full_server_brings_the_stock_back() {
    const STATES: [State<End>; 5] = [
        (Server, "taker REFUSING"),
        (Server, "taker RECORDING refused"),
        (Server, "taker REFUSED"),
        (Hub, "giver SETTLING refused"),
        (Hub, "giver REFUSED"),
    ];
    let scratch = scratch();
    let site = Site::with_holds(scratch.path());
    let Some(disk) = SmallDisk::mount(&site.data(SERVER), 16 << 20) else {
        return lacking("the right to mount a tmpfs");
    };
    let mut pair = Pair::new(site, (200, 200, 200), 0);
    pair.start(Server);
    pair.server().wait_for("the link", |status| status.sellers[0].linked);
    disk.fill();
    pair.hub().mint("v1", 200);
    for (state, killed) in with_either_end::<Pair>(&STATES) {
        // Both rest after a refusal, and none after a start.
        pair.wire.cut();
        pair.start(Hub);
        pair.start(Server);
        pair.kill_in(state, killed, |pair| pair.wire.heal());
        pair.hub().wait_for("the stock is back", |status| {
            let variety = &status.varieties[0];
            (variety.hub, variety.in_transfer, variety.at_seller) == (200, 0, 0)
        });
        pair.hub().audit();
    }
    // What it could not take is sold elsewhere; when it has room, it gets its own.
    pair.site.admit(pair.hub(), "east");
    let east = pair.site.server("east", pair.hub().address, &pair.settings);
    east.wait_for("what was refused", |status| holds(status, 200));
    let mut sold = vec![sell(&east, &pair.key, 1, 1)];
    disk.free();
    pair.hub().mint("v1", 300);
    pair.start(Server);
    pair.server().wait_for("stock", |status| holds(status, 200));
    sold.push(sell(pair.server(), &pair.key, 1, 1));
    settle(pair.hub(), &[pair.server(), &east], &sold);
    drop(pair);
}

#[test]
fn law_3_a_kill_of_either_end_in_any_state_of_a_refusal_by_the_hub_leaves_the_stock_with_the_server() {
    const STATES: [State<End>; 5] = [
        (Hub, "taker REFUSING"),
        (Hub, "taker RECORDING refused"),
        (Hub, "taker REFUSED"),
        (Server, "giver SETTLING refused"),
        (Server, "giver REFUSED"),
    ];
    let scratch = scratch();
    let mut pair = Pair::new(Site::with_holds(scratch.path()), (1, 500, 800), 500);
    pair.start(Server);
    pair.server().wait_for("all of it", |status| holds(status, 500));
    // The hub cannot read its own copy any more, and so cannot compare.
    let blocks = fs::read_dir(pair.site.data("hub").join("blocks")).unwrap();
    let blocks: Vec<_> = blocks.map(|entry| entry.unwrap().path()).collect();
    let [block] = &blocks[..] else { panic!("one delivery is one block: {blocks:?}") };
    pair.kill(Hub);
    flip(block);
    pair.start(Hub);
    assert!(matches!(pair.hub().ask(&drain(true)), Answer::Changed { .. }));
    for (state, killed) in with_either_end::<Pair>(&STATES) {
        // What was refused is not offered again before the next start.
        pair.wire.cut();
        pair.start(Hub);
        pair.start(Server);
        pair.kill_in(state, killed, |pair| pair.wire.heal());
        // By what is durable: the hub knows that it was given, and then that it was put back.
        pair.server().wait_for("all is reported", is_reported);
        pair.hub().wait_for("the stock is there", |status| {
            let variety = &status.varieties[0];
            (variety.hub, variety.in_transfer, variety.at_seller) == (0, 0, 500)
        });
        pair.hub().audit();
    }
    // It can again: all comes back.
    pair.kill(Hub);
    flip(block);
    pair.start(Hub);
    pair.start(Server);
    pair.back_from_drain(500);
    let sold = [sell(pair.server(), &pair.key, 1, 1)];
    pair.settle(&sold);
}

impl Pair {
    /// Waits until the server has gone offline and all its stock is at the hub, and calls it back.
    fn back_from_drain(&self, stock: u64) {
        self.hub().wait_for("the end of the drain", |status| {
            let drain = node(status, self.seller).drain;
            drain.is_some_and(|drain| drain.is_done) && status.varieties[0].hub == stock
        });
        assert!(matches!(self.hub().ask(&drain(false)), Answer::Changed { .. }));
        // What can be sold is told a moment late: by its books, too, it has gone and come back.
        let has_come = |status: &Status| holds(status, stock) && status.varieties[0].at_seller == stock;
        self.server().wait_for("all of it", has_come);
    }
}

fn drain(on: bool) -> Ask {
    Ask::Drain { node: SERVER.to_owned(), on }
}

/// Damages a file, or undoes that.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[HEADER_BYTES] ^= 0x40;
    fs::write(path, bytes).unwrap();
}
