//! SIGKILL at any moment, on real processes with real files.

use crate::support::load::{Load, check_books, check_live};
use crate::support::process::Process;
use crate::support::scratch;
use engine::journal::SEGMENT_BYTES;
use std::thread;
use std::time::Duration;

const KILLS: usize = 50;
const TILLS: u32 = 8;

/// Tills sell without pause while the network is killed and started fifty times. After each start everything that a
/// till was told still holds.
#[test]
fn law_1_2_4_fifty_kills_under_load_lose_no_pin_and_sell_none_twice() {
    let scratch = scratch();
    let mut network = Process::start(scratch.path());
    let (code, product, face_value) = network.variety();
    network.mint(&code, 20_000);
    let keys = network.add_terminals(TILLS);
    let load = Load::start(&network, &keys, (product, face_value));
    let mut dice = 0x9e37_79b9_u64;
    for _ in 0..KILLS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The only thing waited for is the passing of time: the moment of the kill is to be anywhere.
        thread::sleep(Duration::from_millis(20 + (dice >> 33) % 150));
        network.kill();
        network = Process::start(scratch.path());
        load.moved_to(&network);
        network.audit();
        network.mint(&code, 5_000);
    }
    let told = load.finish();
    network.audit();
    check_live(&network, &keys, &told, (product, face_value));
    network.kill();
    check_books(&scratch.path().join("server-1"), SEGMENT_BYTES, &keys, &told);
    let sold: usize = told.iter().map(|told| told.sold.len()).sum();
    println!("{KILLS} kills, {sold} PINs sold, none twice, none lost");
    assert!(sold > 1000, "only {sold} PINs were sold");
}
