//! A wrong server: the real one, which is made to break its promise once. It must be found out every time.

use crate::network::Live;
use crate::runs::result;
use engine::journal::Record;
use engine::journal::record::RecordBytes;
use engine::net::{Honest, Meddler};
use engine::seller::Asker;
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wire::message::{Reply, Sold};

/// What the server does wrong, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// Gives a PIN that it gave before.
    SellsTwice,
    /// The same, under the reference of the PIN that it should have given, so that its books are right.
    OpensAnother,
    /// Gives each of two terminals the other's PIN.
    SwapsReplies,
    /// Gives a PIN and does not record the sale.
    LosesASale,
}

/// One worker's part in a fault at the sale that makes `left` 0.
struct Planted {
    fault: Fault,
    left: Arc<AtomicU64>,
    /// Found its moment, and has not done it yet.
    due: bool,
    earlier: Vec<Sold>,
    held: Option<(Asker, Sold)>,
}

impl Planted {
    /// Whether this sale is the one, or an earlier one was and nothing came of it.
    fn is_due(&mut self) -> bool {
        self.due |= self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) == Ok(1);
        self.due
    }
}

impl Meddler for Planted {
    fn reply(&mut self, asker: &Asker, reply: &Reply) -> Option<Vec<(Asker, Reply)>> {
        let Reply::Sold(sold) = reply else { return None };
        if self.fault == Fault::LosesASale {
            return None;
        }
        let is_kin = |other: &Sold| other.reference >> 16 == sold.reference >> 16;
        if let Some((other, held)) = self.held.take_if(|(other, _)| other.terminal != asker.terminal) {
            self.due = false;
            let theirs = Sold { sequence: held.sequence, ..*sold };
            let ours = Sold { sequence: sold.sequence, ..held };
            return Some(vec![(other, Reply::Sold(theirs)), (*asker, Reply::Sold(ours))]);
        }
        let is_due = self.is_due();
        let earlier = self.earlier.iter().copied().find(is_kin);
        if !is_due || self.held.is_some() {
            self.earlier.push(*sold);
            return None;
        }
        if self.fault == Fault::SwapsReplies {
            self.held = Some((*asker, *sold));
            return Some(Vec::new());
        }
        let earlier = earlier?;
        self.due = false;
        let sold = match self.fault {
            Fault::SellsTwice => Sold { sequence: sold.sequence, ..earlier },
            _ => Sold { pin: earlier.pin, serial: earlier.serial, ..*sold },
        };
        Some(vec![(*asker, Reply::Sold(sold))])
    }

    fn record(&mut self, record: &mut RecordBytes) {
        if self.fault == Fault::LosesASale
            && let Ok(Record::Sold { vend, at_ms, .. }) = Record::decode(record)
            && self.is_due()
        {
            self.due = false;
            *record = Record::Confirmed { vend, confirmed: 0, at_ms }.encode();
        }
    }
}

/// Runs against a network that does wrong at its `at`th sale: longer, where the machine is too busy to come to that sale.
fn run(fault: Option<Fault>, at: u64, more: &[&str]) -> (Option<i32>, Value) {
    let runs = ["500ms", "2s", "8s"].map(|duration| move || run_for(duration, fault, at, more));
    let had_its_moment = |(code, result, left): (_, _, u64)| (left == 0).then_some((code, result));
    runs.into_iter().find_map(|run| had_its_moment(run())).expect("the fault has its moment")
}

/// How it ended, what it found, and how many sales were left to the wrong one.
fn run_for(duration: &str, fault: Option<Fault>, at: u64, more: &[&str]) -> (Option<i32>, Value, u64) {
    let folder = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicU64::new(at));
    let planted = |fault, left: &Arc<AtomicU64>| Planted {
        fault,
        left: Arc::clone(left),
        due: false,
        earlier: Vec::new(),
        held: None,
    };
    let live = match fault {
        Some(fault) => Live::start(folder.path(), TERMINALS, PINS, |_| planted(fault, &left)),
        None => Live::start(folder.path(), TERMINALS, PINS, |_| Honest),
    };
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        // A fast machine may sell all there is in that time.
        .args(["run", "--quiet", "--json", "--duration", duration, "--until-empty"])
        .args(["--target", &live.address.to_string()])
        .arg("--terminals")
        .arg(&live.terminals)
        .arg("--state")
        .arg(folder.path().join("state"))
        .arg("--books")
        .arg(&live.data)
        .args(more)
        .output()
        .unwrap();
    let result = result(&output);
    (output.status.code(), result, left.load(Relaxed))
}

fn is_found(fault: Fault, words: &[&str]) {
    for (at, load) in (1..).map(|run| 37 * run).zip(LOADS.iter().cycle()).take(RUNS) {
        let (code, result) = run(Some(fault), at, load);
        assert_eq!(code, Some(1), "{fault:?} at sale {at}, {load:?}: {result}");
        assert_eq!(result["verdict"], "violated");
        for word in words {
            let count = result["findings"]["counts"][word].as_u64();
            assert!(count >= Some(1), "{word}; {fault:?} at sale {at}, {load:?}: {result}");
        }
    }
}

#[test]
fn the_real_server_without_a_fault_is_found_good() {
    // Closed loops: whether a machine can carry a rate is another matter.
    for load in LOADS.iter().filter(|load| !load.contains(&"--rate")) {
        let (code, result) = run(None, 0, load);
        assert_eq!(code, Some(0), "{load:?}: {result}");
        assert_eq!(result["reconciled"]["books"], true, "{result}");
    }
}

#[test]
fn a_pin_that_the_real_server_gives_twice_is_found_every_time() {
    is_found(Fault::SellsTwice, &["sold_twice", "books"]);
}

#[test]
fn a_pin_given_twice_is_found_although_the_books_are_right() {
    is_found(Fault::OpensAnother, &["sold_twice"]);
}

#[test]
fn replies_that_the_real_server_swaps_are_found_every_time() {
    is_found(Fault::SwapsReplies, &["answer_changed", "books"]);
}

#[test]
fn a_sale_that_the_real_server_loses_is_found_every_time() {
    is_found(Fault::LosesASale, &["books"]);
}

const TERMINALS: u32 = 20;
const PINS: u32 = 60_000;
const RUNS: usize = 4;
const LOADS: [&[&str]; 4] =
    [&[], &["--clear", "--window", "16"], &["--rate", "1000", "--poisson"], &["--chacha", "--threads", "2"]];
