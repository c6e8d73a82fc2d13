//! Real processes in trouble: a hub, two servers, a relay and a cache, with tills on all of them that sell without end, and with
//! the load generator, while processes are killed, stopped for a while, cut off, slowed down and deafened, and disks are full.
//! Then what the tills hold is compared with what the processes say, with the hub's ledger, and with the journals.
//!
//! `PINWHEEL_SEED` chooses what happens (it is printed), `PINWHEEL_CHAOS_S` for how long.

mod loadgen;
mod town;
mod trouble;

use crate::network::is_reported;
use crate::support::load::{Load, check_books, check_live};
use crate::support::nodes::Site;
use crate::support::process::SMALL_SEGMENT_BYTES;
use crate::support::{lacking, scratch};
use engine::admin::KeyRow;
use loadgen::Loadgen;
use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use town::Town;
use town::Who::{self, Cache, Hub, One, Two};
use trouble::{Dice, Trouble};

const TILLS: usize = 2;
const STOCK: u32 = 50_000;
const OF: (u32, u64) = (1, 1000);

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("it is a number"))
}

#[test]
fn laws_1_2_4_8_kills_stops_cuts_delays_and_full_disks_of_five_processes() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let seed = environment("PINWHEEL_SEED").unwrap_or(now.subsec_nanos().into());
    let seconds = environment("PINWHEEL_CHAOS_S").unwrap_or(15);
    println!("PINWHEEL_SEED={seed} PINWHEEL_CHAOS_S={seconds}");
    let scratch = scratch();
    let mut town = Town::new(Site::new(scratch.path()), STOCK, seconds);
    if town.disk(Hub).is_none() {
        lacking("the right to mount a tmpfs");
    }
    let keys = town.of(Hub).add_terminals((Who::SELLING.len() * TILLS + loadgen::TERMINALS) as u32);
    let (keys, others) = keys.split_at(Who::SELLING.len() * TILLS);
    let groups: Vec<(Who, &[KeyRow])> = Who::SELLING.into_iter().zip(keys.chunks(TILLS)).collect();
    for (who, keys) in &groups {
        keys.iter().for_each(|key| town.of(*who).await_terminal(key));
    }
    let loadgen = Loadgen::start(scratch.path(), &town, others, seconds);
    if loadgen.is_none() {
        lacking(
            "the load generator beside the program under test: `cargo build -p loadgen` in the same profile",
        );
    } else {
        // It looks at the hub's books before it begins, and when it has ended: nobody else may sell then.
        town.of(Hub).wait_for("the load generator's first sale", |status| status.varieties[1].sold > 0);
    }
    // So slow in a long run that each sale can still be looked up in the end.
    let rest = Duration::from_millis(10 * seconds.div_ceil(30).max(1));
    let loads: Vec<_> =
        groups.iter().map(|(who, keys)| Load::start_paced(town.of(*who), keys, OF, rest)).collect();

    let (mut dice, mut kills, mut troubles) = (Dice(seed), [0; 5], 0);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let (trouble, victims) = (dice.troubles(), dice.victims());
        println!("{trouble:?}, killed: {victims:?}");
        trouble.iter().for_each(|trouble| trouble.begin(&town));
        troubles += trouble.len();
        dice.moment();
        victims.iter().for_each(|who| town.kill(*who));
        dice.moment();
        // A hub without room for its epoch is there, and answers nobody: it is started when there is room.
        let (later, now) = victims
            .into_iter()
            .partition::<Vec<_>, _>(|who| *who == Hub && trouble.contains(&Trouble::FullDisk(Hub)));
        let start = |town: &mut Town, who: Who| {
            town.start(who);
            let moved = groups.iter().zip(&loads).filter(|((group, _), _)| *group == who);
            moved.for_each(|(_, load)| load.moved_to(town.of(who)));
        };
        for &who in &now {
            start(&mut town, who);
        }
        dice.moment();
        trouble.iter().for_each(|trouble| trouble.end(&town));
        for &who in &later {
            start(&mut town, who);
        }
        now.iter().chain(&later).for_each(|who| kills[*who as usize] += 1);
        dice.moment();
    }

    let told: Vec<_> = loads.into_iter().map(Load::finish).collect();
    let by_loadgen = loadgen.map(Loadgen::finish);
    let receipts: Vec<u64> =
        told.iter().flatten().flat_map(|told| told.sold.values().map(|(_, reference)| *reference)).collect();
    let distinct: HashSet<_> = receipts.iter().collect();
    assert_eq!(distinct.len(), receipts.len(), "law 1: a PIN is on two receipts");
    for ((who, keys), told) in groups.iter().zip(&told) {
        check_live(town.of(*who), keys, told, OF);
    }
    for who in [One, Two, Cache] {
        town.of(who).wait_for("its journal at the hub", is_reported);
    }
    let sold = receipts.len() as u64;
    let status = town.of(Hub).wait_for("all sales", |status| status.varieties[0].sold == sold);
    for variety in &status.varieties {
        let sum = variety.hub + variety.in_transfer + variety.at_seller + variety.sold + variety.withdrawn;
        assert_eq!(sum, variety.received, "{variety:?}");
    }
    // A sequence that the load generator gave up may be a sale all the same.
    assert!(status.varieties[1].sold >= by_loadgen.unwrap_or(0), "{:?}", status.varieties[1]);
    town.of(Hub).audit();
    Who::ALL.into_iter().for_each(|who| town.kill(who));
    for ((who, keys), told) in groups.iter().zip(&told) {
        check_books(&town.data(who.seller()), SMALL_SEGMENT_BYTES, keys, told);
    }
    println!(
        "{sold} PINs sold to tills and {by_loadgen:?} to the load generator through {troubles} troubles and {} kills: \
         {kills:?} of {:?}",
        kills.iter().sum::<u32>(),
        Who::ALL
    );
    assert!(sold > 100, "only {sold} PINs were sold");
}
