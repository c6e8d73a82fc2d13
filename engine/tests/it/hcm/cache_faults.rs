//! Kills and pauses of a cache and its server, and cuts between them, in mid-sale; then receipts against the books.

use super::cache::{Cache, Server, Tree};
use super::relay::OF;
use crate::network::{holds, is_reported};
use crate::support::ends::Ends;
use crate::support::load::{Load, check_books, check_live};
use crate::support::nodes::Site;
use crate::support::process::SMALL_SEGMENT_BYTES;
use crate::support::scratch;
use std::thread;
use std::time::Duration;

#[test]
fn law_1_2_4_kills_pauses_and_cuts_of_cache_and_server_in_mid_sale_lose_no_pin_and_sell_none_twice() {
    let scratch = scratch();
    // Little in advance: transfers, also urgent ones, are on their way at every moment.
    let levels = [(1_000, 2_000, 20_000), (20, 100, 200)];
    let mut tree = Tree::new(Site::new(scratch.path()), levels, 1, 30_000);
    let keys = tree.hub.add_terminals(8);
    tree.cache().wait_for("its first stock", |status| holds(status, 100));
    keys.iter().for_each(|key| tree.cache().await_terminal(key));
    let load = Load::start_paced(tree.cache(), &keys, OF, REST);
    let mut dice = 0x9e37_79b9_u64;
    let mut moment = |least_ms: u64, more_ms: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The only thing waited for is the passing of time: the moment of the fault is to be anywhere.
        thread::sleep(Duration::from_millis(least_ms + (dice >> 33) % more_ms));
    };
    for round in 0..21 {
        moment(100, 200);
        match round % 7 {
            0 => {
                tree.start(Cache);
                load.moved_to(tree.cache());
            }
            1 => tree.start(Server),
            2 | 3 => {
                let paused = tree.end(if round % 7 == 2 { Cache } else { Server });
                paused.signal("STOP");
                moment(50, 300);
                paused.signal("CONT");
            }
            // From the server to the hub, and from the cache to the server.
            4 | 5 => {
                let wire = &tree.wires[round % 7 - 4];
                wire.cut();
                moment(50, 300);
                wire.heal();
            }
            // What is said up there arrives, and no answer does.
            _ => {
                tree.wires[1].deafen();
                moment(50, 300);
                tree.wires[1].heal();
            }
        }
    }
    let told = load.finish();
    let sold: usize = told.iter().map(|told| told.sold.len()).sum();
    check_live(tree.cache(), &keys, &told, OF);
    tree.cache().wait_for("its sales at the hub", is_reported);
    tree.server().wait_for("its journal at the hub", is_reported);
    let status = tree.hub.wait_for("the sales", |status| status.varieties[0].sold >= sold as u64);
    assert_eq!(status.varieties[0].sold, sold as u64);
    tree.hub.audit();
    let seller = &tree.cache().status().sellers[0];
    assert!(seller.sales_waited < seller.sales && seller.hit_rate().is_some(), "{seller:?}");
    tree.kill(Cache);
    check_books(&tree.site.data("cache"), SMALL_SEGMENT_BYTES, &keys, &told);
    println!("{sold} PINs sold by a cache, none twice, none lost");
    assert!((501..30_000).contains(&sold), "{sold} PINs were sold: all the time, and never all");
}

/// After each sale of a till: some thousand sales a second would be all there is before the last fault.
const REST: Duration = Duration::from_millis(4);
