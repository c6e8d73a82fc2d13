//! Runs against a real process, reconciled with its books.

use crate::network::Live;
use crate::runs::result;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn start(folder: &Path, network: &Live, books: &Path, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "--quiet", "--json", "--target", &network.address.to_string(), "--terminals"])
        .arg(&network.terminals)
        // The last terminal is somebody else's.
        .arg((TERMINALS - 1).to_string())
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--books")
        .arg(books)
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(loadgen: Child) -> (Option<i32>, Value) {
    let output = loadgen.wait_with_output().unwrap();
    (output.status.code(), result(&output))
}

#[test]
fn every_receipt_is_found_in_the_books_by_directory_and_by_socket() {
    for books in ["", "pinwheel.sock"] {
        let folder = tempfile::tempdir().unwrap();
        let network = Live::start_process(folder.path(), TERMINALS, 30_000);
        let books = network.data.join(books);
        let (code, result) = end(start(folder.path(), &network, &books, &SHORT));
        assert_eq!(code, Some(0), "{result}");
        let compared = &result["reconciled"]["compared"];
        assert_eq!(compared["agreed"], result["counts"]["sold"], "{result}");
        assert_eq!((&compared["others"], &compared["open"]), (&Value::from(0), &Value::from(0)));
    }
}

#[test]
fn a_sale_to_another_till_is_found_unless_it_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let network = Live::start_process(folder.path(), TERMINALS, 60_000);
    let (keys, other) = (network.terminals.display().to_string(), TERMINALS.to_string());
    for (shared, expected) in [(&[][..], 1), (&["--shared"][..], 0)] {
        // So slow that a disk that stalls for a fifth of a second at the end leaves no vend unsent.
        let load = [&["--duration", "4s", "--rate", "50"], shared].concat();
        let before = network.sold();
        let loadgen = start(folder.path(), &network, &network.data, &load);
        network.await_sales(before + 50);
        network.pinwheel(&["buy", "--variety", "power", "--terminal", &other, "--keys", &keys]);
        let (code, result) = end(loadgen);
        assert_eq!(code, Some(expected), "{result}");
        assert_eq!(result["reconciled"]["compared"]["others"], 1, "{result}");
        assert_eq!(result["reconciled"]["compared"]["agreed"], result["counts"]["sold"], "{result}");
        let wrong = &result["findings"]["counts"]["books"];
        assert_eq!(wrong.as_i64().unwrap_or(0), i64::from(expected), "{result}");
    }
}

#[test]
fn sales_that_a_killed_run_began_are_found_in_the_books_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = Live::start_process(folder.path(), TERMINALS, 60_000);
    let load = ["--duration", "60s", "--window", "16", "--rate", "2000"];
    let mut killed = start(folder.path(), &network, &network.data, &load);
    network.await_sales(1000);
    killed.kill().unwrap();
    killed.wait().unwrap();
    network.kill_and_restart();
    let (code, result) = end(start(folder.path(), &network, &network.data, &SHORT));
    assert_eq!(code, Some(0), "{result}");
    let count = |name: &str| result["counts"][name].as_u64().unwrap();
    assert!(count("resumed") > 0, "its last sales were not confirmed: {result}");
    let compared = &result["reconciled"]["compared"];
    assert_eq!(compared["agreed"], count("sold") + count("resumed"), "{result}");
}

/// When the shelf is empty every vend asks the steward and the hub: what they have to say to each other piles up.
#[test]
fn a_run_that_sells_everything_is_in_the_books_too() {
    let folder = tempfile::tempdir().unwrap();
    let network = Live::start_process(folder.path(), TERMINALS, 2_000);
    let load = ["--duration", "2s", "--window", "64", "--until-empty"];
    let (code, result) = end(start(folder.path(), &network, &network.data, &load));
    assert_eq!(code, Some(0), "{result}");
    assert_eq!(result["reconciled"]["compared"]["agreed"], 4_000, "{result}");
}

#[test]
fn books_that_cannot_be_read_afterwards_make_a_run_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let network = Live::start_process(folder.path(), TERMINALS, 60_000);
    let load = ["--duration", "2s", "--rate", "1000"];
    let loadgen = start(folder.path(), &network, &network.data, &load);
    network.await_sales(20);
    std::fs::remove_file(network.data.join("pinwheel.sock")).unwrap();
    let (code, result) = end(loadgen);
    assert_eq!(code, Some(3), "{result}");
    let reasons = result["reasons"].to_string();
    assert!(reasons.contains("cannot read the books"), "{result}");
}

const TERMINALS: u32 = 12;
/// A fast machine may sell all there is in that time.
const SHORT: [&str; 3] = ["--duration", "500ms", "--until-empty"];
