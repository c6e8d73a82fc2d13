//! Old copies of data directories, and two nodes with one identity.

use super::pair::End::{Hub, Server};
use super::pair::{Pair, SERVER};
use crate::network::{copy, holds, is_reported, sell};
use crate::support::ends::Ends;
use crate::support::nodes::Site;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::scratch;
use engine::cli::code;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// How a process ended, and what it said.
type End = (Option<i32>, String);

impl Pair {
    /// A server with 500 PINs of 1000, whose hub knows all that it has done.
    fn at_work(directory: &Path) -> Self {
        let mut pair = Self::new(Site::new(directory), (100, 500, 800), 1000);
        pair.start(Server);
        pair.server().wait_for("stock", |status| holds(status, 500));
        pair.server().wait_for("all is reported", is_reported);
        pair
    }

    /// The server sells some, and the hub is told.
    fn sell(&self, sequences: std::ops::RangeInclusive<u64>) -> Vec<String> {
        let sold = sequences.map(|sequence| sell(self.server(), &self.key, sequence, 1)).collect();
        self.server().wait_for("all is reported", is_reported);
        sold
    }

    /// Starts the hub once more, and has the server meet it.
    fn restart_hub(&mut self) {
        self.start(Hub);
        self.server().wait_for("the link", is_reported);
    }

    /// Runs the copy of the hub's directory in its place, to its end.
    fn run_old_hub(&mut self) -> End {
        self.kill(Hub);
        let [data, old, newest] = ["hub", "old", "newest"].map(|name| self.site.data(name));
        fs::rename(&data, &newest).unwrap();
        fs::rename(&old, &data).unwrap();
        let ended = match self.site.try_hub() {
            Ok(copy) => {
                self.wire.aim(copy.address);
                end_of(copy)
            }
            Err(output) => said(&output),
        };
        fs::rename(&data, &old).unwrap();
        fs::rename(&newest, &data).unwrap();
        ended
    }
}

#[test]
fn law_1_an_old_copy_of_the_hub_stops_at_the_call_of_a_server_that_has_seen_a_newer_one() {
    let scratch = scratch();
    let mut pair = Pair::at_work(scratch.path());
    pair.kill(Hub);
    copy(&pair.site.data("hub"), &pair.site.data("old"));
    // Twice, so that a start of the copy does not make up for it.
    (0..2).for_each(|_| pair.restart_hub());
    let mut sold = pair.sell(1..=5);
    let (code, said) = pair.run_old_hub();
    assert_eq!(code, STOPPED, "{said}");
    assert!(said.contains("has seen hub epoch 3, this hub has 2: this is an old copy"), "{said}");
    // Nobody listened to it: the true one goes on.
    sold.extend((6..=10).map(|sequence| sell(pair.server(), &pair.key, sequence, 1)));
    pair.restart_hub();
    pair.settle(&sold);
}

#[test]
fn law_1_a_hub_restored_from_a_copy_stops_also_when_its_epoch_says_nothing() {
    let scratch = scratch();
    let mut pair = Pair::at_work(scratch.path());
    pair.kill(Hub);
    copy(&pair.site.data("hub"), &pair.site.data("old"));
    pair.restart_hub();
    let sold = pair.sell(1..=5);
    // The copy comes to the epoch that the server knows, and lacks what was acknowledged in it.
    let (code, said) = pair.run_old_hub();
    assert_eq!(code, STOPPED, "{said}");
    assert!(said.contains("this hub holds it up to") && said.contains("this is an old copy"), "{said}");
    pair.restart_hub();
    pair.settle(&sold);
}

/// Starts a copy of the server's directory beside it, on a wire of its own.
fn twin(pair: &Pair, wire: &Proxy) -> Result<Process, Output> {
    pair.site.try_server("twin", wire.address, &pair.settings)
}

#[test]
fn law_1_of_two_servers_with_one_identity_the_one_that_is_behind_is_stopped_and_the_other_sells_on() {
    let scratch = scratch();
    let mut pair = Pair::at_work(scratch.path());
    pair.kill(Server);
    copy(&pair.site.data(SERVER), &pair.site.data("twin"));
    pair.start(Server);
    let mut sold = pair.sell(1..=5);
    let wire = Proxy::start(pair.hub().address, Duration::ZERO);
    let (code, said) = twin(&pair, &wire).map_or_else(|output| said(&output), end_of);
    assert_eq!(code, STOPPED, "{said}");
    assert!(said.contains("this is an old copy and must not sell"), "{said}");
    assert!(pair.hub().said().contains("replaced by a link from"), "{}", pair.hub().said());
    sold.extend(pair.sell(6..=10));
    pair.settle(&sold);
}

#[test]
fn law_1_of_two_servers_with_one_identity_the_one_whose_journal_is_another_is_stopped_however_long_it_is() {
    let scratch = scratch();
    let mut pair = Pair::at_work(scratch.path());
    pair.kill(Server);
    copy(&pair.site.data(SERVER), &pair.site.data("twin"));
    pair.start(Server);
    // It is cut off from the hub, so that nobody can keep it from selling what the other one sells too.
    let wire = Proxy::start(pair.hub().address, Duration::ZERO);
    wire.cut();
    let twin = twin(&pair, &wire).unwrap_or_else(|output| panic!("{}", said(&output).1));
    (1..=9).for_each(|sequence| _ = sell(&twin, &pair.key, sequence, 1));
    let mut sold = pair.sell(1..=5);
    wire.heal();
    let (code, said) = end_of(twin);
    assert_eq!(code, STOPPED, "{said}");
    assert!(said.contains("this is an old copy") && said.contains("it must not sell"), "{said}");
    sold.extend(pair.sell(6..=10));
    // The hub believes the one that it knows.
    pair.settle(&sold);
}

fn end_of(process: Process) -> End {
    let (status, said) = process.wait();
    (status.code(), said)
}

fn said(output: &Output) -> End {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const STOPPED: Option<i32> = Some(code::STOPPED as i32);
