//! Bytes that changed while nothing ran.

use crate::support::process::{OF, PATIENCE, Process, SMALL};
use crate::support::scratch;
use engine::cli::code;
use engine::journal::Position;
use engine::journal::batch::{Batch, SLOT_BYTES};
use engine::stock::PIN_RECORD_BYTES;
use engine::stock::segment::HEADER_BYTES;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use wire::message::{Attempt, DeclineReason, Reply, Request, SequenceState};

/// Below the highest position that is known to have been durable nothing is guessed.
#[test]
fn law_7_a_flipped_byte_below_the_proven_position_keeps_the_network_from_starting() {
    let scratch = scratch();
    let batches = sell_and_kill(scratch.path());
    let (start, end) = batches[batches.len() / 2];
    let path = journal(scratch.path());
    flip(&path, (start + end) / 2);
    let Err(output) = Process::try_start(scratch.path(), &SMALL) else { panic!("law 7: it started") };
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(code::UNREACHABLE)), "{text}");
    let place = format!("journal/0000000000000000.seg is damaged at byte {start}");
    assert!(text.contains(&place), "{text} does not say {place}");
    flip(&path, (start + end) / 2);
    Process::start_small(scratch.path(), &[]).audit();
}

/// Above it a batch that does not verify is one that never finished.
#[test]
fn law_7_a_torn_tail_above_the_proven_position_is_cut_off() {
    let scratch = scratch();
    let batches = sell_and_kill(scratch.path());
    let path = journal(scratch.path());
    let &(start, end) = batches.last().unwrap();
    flip(&path, start + 20);
    // What a batch would leave that was begun behind it.
    let mut bytes = std::fs::read(&path).unwrap();
    let end = end as usize;
    bytes.copy_within(start as usize..end, end);
    std::fs::write(&path, bytes).unwrap();
    let network = Process::start_small(scratch.path(), &[]);
    network.audit();
    let key = &network.add_terminals(2)[1];
    network.till(key).sell(Attempt::First, 1, OF).unwrap();
    assert_eq!(network.status().varieties[0].sold, SALES + 1, "law 2");
    network.audit();
}

/// A PIN whose record does not open is withdrawn, and the next one is sold.
#[test]
fn law_1_a_damaged_pin_is_withdrawn_and_the_next_one_is_sold() {
    const STOCK: u32 = 10;
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], STOCK);
    let key = &network.add_terminals(1)[0];
    network.kill();
    let stock = scratch.path().join("server-1/stock");
    let files: Vec<PathBuf> = std::fs::read_dir(stock).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [segment] = &files[..] else { panic!("one delivery is one segment: {files:?}") };
    for record in [0, 4] {
        flip(segment, (HEADER_BYTES + record * PIN_RECORD_BYTES + 9) as u64);
    }

    let network = Process::start_small(scratch.path(), &[]);
    let mut till = network.till(key);
    let mut references = HashSet::new();
    for sequence in 1..=8 {
        let sold = till.sell(Attempt::First, sequence, OF).unwrap();
        assert!(references.insert(sold.reference), "law 1: {:#x} is sold twice", sold.reference);
    }
    match till.vend(Attempt::First, 9, OF, 0).unwrap() {
        Reply::Declined { reason: DeclineReason::OutOfStock, .. } => {}
        other => panic!("two of ten are damaged, eight are sold: {other:?}"),
    }
    let status = network.status();
    let [of_variety] = &status.varieties[..] else { panic!("{status:?}") };
    assert_eq!((of_variety.sold, of_variety.withdrawn, of_variety.at_seller), (8, 2, 0));
    network.audit();
}

/// A PIN that was sold and became unreadable is in doubt, never replaced by another.
#[test]
fn law_4_a_sold_pin_that_became_unreadable_is_in_doubt_and_not_replaced() {
    let scratch = scratch();
    let network = Process::begin_small(scratch.path(), &[], 10);
    let key = &network.add_terminals(1)[0];
    let sold = network.till(key).sell(Attempt::First, 1, OF).unwrap();
    network.kill();
    let stock = scratch.path().join("server-1/stock");
    let segment = std::fs::read_dir(stock).unwrap().next().unwrap().unwrap().path();
    let place = HEADER_BYTES + (sold.reference & 0xffff) as usize * PIN_RECORD_BYTES + 9;
    flip(&segment, place as u64);

    let network = Process::start_small(scratch.path(), &[]);
    let mut till = network.till(key);
    let answer = till.vend(Attempt::Repeat, 1, OF, 0).unwrap();
    assert!(matches!(answer, Reply::Later { .. }), "law 4: {answer:?}");
    assert_eq!(till.state(&Request::Status { sequence: 1 }).unwrap(), SequenceState::Sold);
    network.audit();
    network.kill();
    flip(&segment, place as u64);
    let network = Process::start_small(scratch.path(), &[]);
    assert_eq!(network.till(key).sell(Attempt::Repeat, 1, OF).unwrap(), sold);
}

/// Begins a network, sells, kills it at rest; where the batches of its journal begin and end.
fn sell_and_kill(data: &Path) -> Vec<(u64, u64)> {
    let network = Process::begin_small(data, &[], 1_000);
    let key = &network.add_terminals(1)[0];
    let mut till = network.till(key);
    for sequence in 1..=SALES {
        till.sell(Attempt::First, sequence, OF).unwrap();
    }
    // In a moment without sales a batch without records proves the last one.
    let by = Instant::now() + PATIENCE;
    let batches = loop {
        let batches = batches(&std::fs::read(journal(data)).unwrap());
        if batches.last().is_some_and(|(start, end)| end - start == SLOT_BYTES as u64) {
            break batches;
        }
        assert!(Instant::now() < by, "the last sale is never proven");
        thread::sleep(Duration::from_millis(10));
    };
    network.kill();
    assert!(batches.len() as u64 > SALES, "each sale waited for its own batch");
    batches
}

/// Where batches begin and end.
fn batches(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut batches = Vec::new();
    let mut at = 0;
    while let Some(batch) = Batch::parse(&bytes[at as usize..], Position(at)) {
        batches.push((at, batch.end().0));
        at = batch.end().0;
    }
    batches
}

fn journal(data: &Path) -> PathBuf {
    data.join("server-1/journal/0000000000000000.seg")
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

const SALES: u64 = 40;
