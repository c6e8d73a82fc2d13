//! What a run finds, says and returns.

use crate::seller::{Fault, Seller, terminals};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const TERMINALS: u64 = 20;

fn loadgen(folder: &Path, seller: &Seller, more: &[&str]) -> Output {
    let file = terminals(folder, TERMINALS);
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "--quiet", "--target", &seller.address.to_string(), "--terminals"])
        .arg(file)
        .arg("--state")
        .arg(folder.join("state"))
        .args(["--duration", "600ms", "--reply-timeout", "400ms"])
        .args(more)
        .output()
        .unwrap()
}

pub(crate) fn result(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {output:?}"))
}

fn run(fault: Fault, more: &[&str]) -> (i32, Value, Seller) {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::start(fault);
    let mut arguments = vec!["--json"];
    arguments.extend(more);
    let output = loadgen(folder.path(), &seller, &arguments);
    let code = output.status.code().unwrap();
    (code, result(&output), seller)
}

#[test]
fn an_honest_seller_makes_a_valid_run_in_every_mode() {
    let ways: [&[&str]; 6] = [
        &[],
        &["--clear", "--window", "8"],
        &["--chacha", "--threads", "3"],
        &["--window", "64", "--terminals", "5"],
        &["--rate", "2000", "--window", "64"],
        &["--rate", "2000", "--window", "64", "--poisson", "--threads", "2", "--clear"],
    ];
    for more in ways {
        // The file is named once more where the number of terminals is.
        let folder = tempfile::tempdir().unwrap();
        let file = terminals(folder.path(), TERMINALS).display().to_string();
        let mut arguments = more.to_vec();
        if let Some(at) = arguments.iter().position(|word| *word == "--terminals") {
            arguments.insert(at + 1, &file);
        }
        let (code, result, seller) = run_plain(&arguments);
        assert_eq!(code, 0, "{more:?}: {result}");
        assert_eq!(result["verdict"], "valid");
        assert_eq!(result["counts"]["sold"], seller.sales());
        assert_eq!(result["counts"]["rechecked"], seller.sales(), "every sale is asked for again");
        assert_eq!(seller.unconfirmed(), 0, "every sale is confirmed");
        assert!(result["latency_us"]["p50"].as_f64().unwrap() > 0.0);
        if more.contains(&"--rate") {
            let sold = result["sold_per_second"].as_f64().unwrap();
            assert!((1700.0..=2300.0).contains(&sold), "{sold} a second");
        }
    }
}

#[test]
fn nobody_sells_before_everybody_has_come() {
    let (code, result, seller) = run(Fault::WelcomesOneLate, &[]);
    assert_eq!(code, 0, "{result}");
    assert_eq!(seller.logged_in_first(), Some(TERMINALS as usize));
}

/// Like [`run`], with `--terminals` only where the arguments do not have it.
fn run_plain(more: &[&str]) -> (i32, Value, Seller) {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::start(Fault::None);
    let file = terminals(folder.path(), TERMINALS).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([
        "run",
        "--quiet",
        "--json",
        "--duration",
        "600ms",
        "--target",
        &seller.address.to_string(),
    ]);
    command.arg("--state").arg(folder.path().join("state"));
    if !more.contains(&"--terminals") {
        command.args(["--terminals", &file]);
    }
    let output = command.args(more).output().unwrap();
    (output.status.code().unwrap(), result(&output), seller)
}

#[test]
fn a_pin_that_is_sold_twice_is_found_every_time() {
    for more in [&[][..], &["--clear", "--window", "16"], &["--rate", "1000"]] {
        let (code, result, _) = run(Fault::SellsTwice, more);
        assert_eq!(code, 1, "{result}");
        assert!(result["findings"]["counts"]["sold_twice"].as_u64().unwrap() >= 1);
    }
}

#[test]
fn swapped_replies_are_found_every_time() {
    for more in [&[][..], &["--clear", "--window", "16"], &["--rate", "1000"]] {
        let (code, result, _) = run(Fault::SwapsReplies, more);
        assert_eq!(code, 1, "{result}");
        assert!(result["findings"]["counts"]["answer_changed"].as_u64().unwrap() >= 2, "{result}");
    }
}

#[test]
fn a_lost_sale_is_found_every_time() {
    for more in [&[][..], &["--clear", "--window", "16"], &["--rate", "1000"]] {
        let (code, result, _) = run(Fault::Forgets, more);
        assert_eq!(code, 1, "{result}");
        assert!(result["findings"]["counts"]["lost"].as_u64().unwrap() >= 1, "{result}");
    }
}

#[test]
fn a_pin_of_another_variety_is_found() {
    let (code, result, _) = run(Fault::OtherVariety, &[]);
    assert_eq!(code, 1, "{result}");
    assert!(result["findings"]["counts"]["other_variety"].as_u64().unwrap() >= 1);
}

#[test]
fn a_broken_connection_is_made_again_and_its_sales_are_repeated() {
    for fault in [Fault::Hangs, Fault::AnotherPinOnRepeat] {
        let (code, result, _) = run(fault, &["--window", "4"]);
        // Without the books nobody can know that a PIN was taken for nothing.
        assert_eq!(code, 0, "{result}");
        assert!(result["counts"]["repeats"].as_u64().unwrap() >= 1);
        assert_eq!(result["counts"]["connections_lost"]["closed by the seller"], 1);
    }
}

#[test]
fn a_renewed_session_goes_on_over_the_same_connection_and_its_sales_are_repeated() {
    let (code, result, _) = run(Fault::Renews, &["--window", "4"]);
    assert_eq!(code, 0, "{result}");
    assert_eq!(
        (&result["counts"]["renewals"], &result["counts"]["timeouts"]),
        (&Value::from(1), &Value::from(0))
    );
    assert!(result["counts"]["repeats"].as_u64().unwrap() >= 1);
    assert_eq!(result["counts"]["connections_lost"], serde_json::json!({}));
}

#[test]
fn later_is_counted_apart_and_asked_again() {
    let (code, result, seller) = run(Fault::Later, &[]);
    assert_eq!(code, 0, "{result}");
    assert_eq!(result["counts"]["later"]["busy"], 3);
    assert_eq!(result["counts"]["sold"], seller.sales());
}

#[test]
fn running_out_of_stock_makes_a_run_invalid_unless_it_is_meant() {
    let (code, result, _) = run(Fault::RunsOut, &[]);
    assert_eq!((code, &result["verdict"]), (3, &Value::from("invalid")), "{result}");
    assert_eq!(result["counts"]["sold"], 100, "only what is sold counts");
    let (code, result, _) = run(Fault::RunsOut, &["--until-empty"]);
    assert_eq!(code, 0, "{result}");
}

#[test]
fn a_second_run_goes_on_where_the_first_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::start(Fault::None);
    let file = terminals(folder.path(), TERMINALS);
    let mut first = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "--quiet", "--target", &seller.address.to_string(), "--terminals"])
        .arg(&file)
        .arg("--state")
        .arg(folder.path().join("state"))
        .args(["--duration", "60s", "--window", "16"])
        .spawn()
        .unwrap();
    while seller.sales() < 500 {
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let output = loadgen(folder.path(), &seller, &["--json"]);
    let result = result(&output);
    assert_eq!(output.status.code(), Some(0), "{result}");
    assert!(result["counts"]["resumed"].as_u64().unwrap() > 0, "its last sales were not confirmed: {result}");
    assert_eq!(seller.unconfirmed(), 0);
}

#[test]
fn wrong_usage_and_a_run_that_cannot_begin_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::start(Fault::None);
    let code = |more: &[&str]| loadgen(folder.path(), &seller, more).status.code();
    assert_eq!(code(&["--window", "65"]), Some(2));
    assert_eq!(code(&["--product", "77"]), Some(2));
    let nobody = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", "--target", "127.0.0.1:1", "--terminals"])
        .arg(terminals(folder.path(), 1))
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("cannot talk to 127.0.0.1:1"));
}

#[test]
fn the_report_is_one_page_without_scripts_and_the_log_can_be_read_back() {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::start(Fault::None);
    let (page, log) = (folder.path().join("run.html"), folder.path().join("run.hlog"));
    let (page_name, log_name) = (page.display().to_string(), log.display().to_string());
    let output = loadgen(folder.path(), &seller, &["--report", &page_name, "--hlog", &log_name]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("VALID; ") && text.contains("not reconciled with the books"), "{text}");
    assert!(text.lines().count() <= 24, "one screen");
    let html = std::fs::read_to_string(page).unwrap();
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(!html.contains("<script") && !html.contains("<link") && !html.contains(" src="));
    let bytes = std::fs::read(log).unwrap();
    let entries: Vec<_> = IntervalLogIterator::new(&bytes).collect::<Result<_, _>>().unwrap();
    assert!(entries.iter().any(|entry| matches!(entry, LogEntry::Interval(_))));
}
