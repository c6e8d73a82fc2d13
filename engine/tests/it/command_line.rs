//! The command line, on real files and a real process.

use crate::support::command::pinwheel;
use crate::support::process::{OF, PATIENCE, Process, VARIETY};
use crate::support::scratch;
use crate::support::till::Till;
use engine::admin::KeyRow;
use engine::cli::code;
use rusqlite::Connection;
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wire::control::ErrorCode;
use wire::message::{Attempt, Request};

#[test]
fn files_of_both_built_in_profiles_are_taken_in_while_it_sells_and_while_nothing_runs() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::begin_small(&data, &[], 0);
    let key = &network.add_terminals(1)[0];
    let comma = file(scratch.path(), "comma.csv", &comma_separated(0..50));
    let intake = |path: &Path, profile| {
        pinwheel(&data, &["intake", path.to_str().unwrap(), "--variety", VARIETY, "--profile", profile])
    };
    let said = intake(&comma, "serial-pin-expiry").ok();
    assert!(said.contains("50 PINs of airtime-za-10 received: batch 1, 1 block"), "{said}");
    let mut till = network.till(key);
    let sold = till.sell(Attempt::First, 1, OF).unwrap();
    assert_eq!(sold.expiry, 20_991_231);
    let index = sold.reference & 0xffff;
    assert_eq!(sold.serial.as_bytes(), format!("C{index:07}").as_bytes());
    assert_eq!(sold.pin.as_bytes(), format!("10{index:012}").as_bytes());
    network.signal("TERM");
    assert!(network.wait().0.success());

    let pipe = file(scratch.path(), "pipe.txt", &pipe_delimited(0..30, 30));
    let path = pipe.to_str().unwrap();
    let arguments = ["intake", path, "--variety", VARIETY, "--profile", "pipe-detail", "--json"];
    let said = pinwheel(&data, &arguments);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.json(), serde_json::json!({ "batch": 2, "variety": VARIETY, "pins": 30, "blocks": 1 }));
    let said = pinwheel(&data, &["audit", "--json"]);
    assert_eq!((said.code, &said.json()["balanced"]), (0, &true.into()));
    assert_eq!(said.json()["varieties"]["1"]["received"], 80);

    let network = Process::start_small(&data, &[]);
    network.wait_for("all of it", |status| status.varieties[0].sellable == 79);
    let mut till = network.till(key);
    let mut pins = HashSet::from([sold.pin.as_bytes().to_vec()]);
    for sequence in 2..=80 {
        let sold = till.sell(Attempt::First, sequence, OF).unwrap();
        assert!(pins.insert(sold.pin.as_bytes().to_vec()), "law 1");
        till.ask(&Request::Confirm { sequence }).unwrap();
    }
    network.audit();
}

#[test]
fn a_demand_trace_is_simulated_and_a_faulty_one_is_refused_with_line_and_column() {
    let scratch = scratch();
    let data = scratch.path().join("none");
    let simulate = |trace: &Path, more: &[&str]| {
        let arguments = ["simulate", "policy", "--demand", trace.to_str().unwrap()];
        pinwheel(&data, &[&arguments, more].concat())
    };
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/demand/steady.csv");
    let said = simulate(&trace, &["--json"]);
    assert_eq!((said.code, &said.json()["stock_outs"]), (0, &0.into()), "{said:?}");
    assert!(simulate(&trace, &[]).ok().contains("PINs per PIN sold"));
    assert!(!data.exists(), "it needs no data directory");

    let faulty = file(scratch.path(), "faulty.csv", "hour,node,variety,vends\n0,north,a,many\n");
    let said = simulate(&faulty, &[]);
    assert_eq!(said.code, i32::from(code::NO));
    assert!(said.errors.contains("faulty.csv: line 2, column 4: vends: \"many\" is not"), "{}", said.errors);
    assert!(said.errors.contains("[number]"), "{}", said.errors);
    let nodes = file(scratch.path(), "nodes.toml", "hub_stok = 1\n");
    let said = simulate(&trace, &["--nodes", nodes.to_str().unwrap()]);
    assert_eq!(said.code, i32::from(code::NO));
    assert!(said.errors.contains("nodes.toml: line 1, column 1: unknown field"), "{}", said.errors);
}

#[test]
fn a_faulty_file_is_refused_whole_with_the_first_twenty_faults_by_line_and_their_count() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::begin_small(&data, &[], 0);
    let mut text = comma_separated(0..100);
    let faulty: String = (0..30).map(|at| format!("C9{at:06},no pin!,2099-12-31\n")).collect();
    text.push_str(&faulty);
    let path = file(scratch.path(), "faulty.csv", &text);
    let refused = |path: &Path, profile: &str| {
        let path = path.to_str().unwrap();
        let said = pinwheel(&data, &["intake", path, "--variety", VARIETY, "--profile", profile]);
        assert_eq!((said.code, said.out.as_str()), (i32::from(code::NO), ""), "{said:?}");
        said.errors
    };
    let errors = refused(&path, "serial-pin-expiry");
    assert!(errors.contains("nothing was taken in: 30 faults"), "{errors}");
    let lines: Vec<u32> = errors
        .lines()
        .filter_map(|line| line.trim().strip_prefix("line ")?.split_once(':')?.0.parse().ok())
        .collect();
    assert_eq!(lines, (102..122).collect::<Vec<_>>(), "{errors}");
    assert!(errors.contains("and 10 more") && !errors.contains("no pin!"), "{errors}");

    // What a balance line counts must be there, and nothing twice, in one file or ever.
    let short = file(scratch.path(), "short.txt", &pipe_delimited(0..5, 6));
    assert!(
        refused(&short, "pipe-detail").contains("line 7: the balance line counts 6 PINs, the file has 5")
    );
    let twice = comma_separated(0..3) + "C8000000,10000000000001,2099-12-31\n";
    let twice = file(scratch.path(), "twice.csv", &twice);
    assert!(refused(&twice, "serial-pin-expiry").contains("line 5: the PIN is that of line 3 too"));
    assert_eq!(network.status().varieties[0].received, 0, "all or nothing");
    let good = file(scratch.path(), "good.csv", &comma_separated(0..100));
    let good_path = good.to_str().unwrap();
    let good_intake = ["intake", good_path, "--variety", VARIETY, "--profile", "serial-pin-expiry"];
    pinwheel(&data, &good_intake).ok();
    let errors = refused(&good, "serial-pin-expiry");
    assert!(errors.contains("200 faults") && errors.contains("was seen before: batch "), "{errors}");
    assert_eq!(network.status().varieties[0].received, 100);

    let unknown = pinwheel(&data, &["intake", good_path, "--variety", VARIETY, "--profile", "other"]);
    assert!(
        unknown.code == i32::from(code::NO) && unknown.errors.contains("serial-pin-expiry"),
        "{unknown:?}"
    );
    let unknown = pinwheel(&data, &["intake", good_path, "--variety", "other", "--profile", "pipe-detail"]);
    assert!(unknown.code == i32::from(code::NO) && unknown.errors.contains("no variety"), "{unknown:?}");
    let missing = pinwheel(&data, &["intake", "/nowhere", "--variety", VARIETY, "--profile", "pipe-detail"]);
    assert!(missing.code == i32::from(code::NO) && missing.errors.contains("/nowhere"), "{missing:?}");
    assert_eq!(pinwheel(&data, &["intake"]).code, i32::from(code::USAGE));
    let elsewhere = scratch.path().join("elsewhere");
    for command in ["status", "audit", "stop"] {
        assert_eq!(pinwheel(&elsewhere, &[command]).code, i32::from(code::UNREACHABLE), "{command}");
    }
    network.audit();
}

#[test]
fn terminals_are_added_imported_and_rekeyed_and_an_old_key_is_worth_nothing() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::begin_small(&data, &[], 100);
    let out = scratch.path().join("keys.csv");
    let add = ["terminal", "add", "--count", "3", "--out", out.to_str().unwrap()];
    let said = pinwheel(&data, &add).ok();
    assert!(said.starts_with("3 terminals added; keys in "), "{said}");
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = pinwheel(&data, &add);
    assert!(again.code == i32::from(code::NO) && again.errors.contains("exists"), "{again:?}");
    let keys = keys(&std::fs::read_to_string(&out).unwrap());
    assert_eq!(keys.iter().map(|key| key.terminal).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(keys.iter().all(|key| key.key_epoch == 1));

    let numbers = file(scratch.path(), "numbers.csv", "shop,terminal\nnorth,70001\nsouth,70002\n");
    let said = pinwheel(&data, &["terminal", "import", numbers.to_str().unwrap(), "--json"]);
    let imported: Vec<KeyRow> = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!(imported.iter().map(|key| key.terminal).collect::<Vec<_>>(), [70_001, 70_002]);
    network.till(&imported[1]).sell(Attempt::First, 1, OF).unwrap();
    let again = pinwheel(&data, &["terminal", "import", numbers.to_str().unwrap()]);
    assert_eq!(again.code, i32::from(code::NO), "{again:?}");
    let listed = pinwheel(&data, &["terminal", "list", "--json"]);
    assert_eq!(listed.json().as_array().unwrap().len(), 5, "all or nothing");
    assert!(!listed.out.contains("\"key\""), "keys are shown once");

    let mut till = network.till(&keys[0]);
    for sequence in 1..=3 {
        till.sell(Attempt::First, sequence, OF).unwrap();
    }
    let said = pinwheel(&data, &["terminal", "rekey", "1", "--json"]);
    let renewed: Vec<KeyRow> = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!((renewed[0].terminal, renewed[0].key_epoch), (1, 2));
    let mut till = network.till(&renewed[0]);
    let refused = Till::connect(network.address, &keys[0], PATIENCE).err().unwrap();
    assert_eq!(refused.code(), ErrorCode::Authentication);
    assert_eq!(till.welcome.next_sequence, 1, "a new key begins a new numbering");
    till.sell(Attempt::First, 1, OF).unwrap();
    let unknown = pinwheel(&data, &["terminal", "rekey", "4711"]);
    assert_eq!(unknown.code, i32::from(code::NO), "{unknown:?}");
    assert_eq!(network.status().varieties[0].sold, 5);
    network.audit();
}

#[test]
fn buy_prints_a_receipt_and_says_by_its_exit_code_what_came_of_it() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let network = Process::begin_small(&data, &[], 3);
    let out = scratch.path().join("keys.csv");
    pinwheel(&data, &["terminal", "add", "--out", out.to_str().unwrap()]).ok();
    let keys_file = out.to_str().unwrap();
    network.await_terminal(&keys(&std::fs::read_to_string(&out).unwrap())[0]);
    let buy = |more: &[&str]| pinwheel(&data, &[&["buy", "--keys", keys_file], more].concat());
    let receipt = buy(&["--variety", VARIETY]).ok();
    for part in ["Airtime", "10.00 ZAR", "Serial", "Reference", "Dial *100*PIN#", "1/1/1"] {
        assert!(receipt.contains(part), "{part} is missing in {receipt}");
    }
    let said = buy(&["--product", "1001", "--face-value", "1000", "--json"]);
    let slip = said.json();
    assert_eq!((said.code, &slip["outcome"], &slip["sequence"]), (0, &"sold".into(), &2.into()));
    assert_eq!(slip["pin"].as_str().unwrap().len(), 16);
    buy(&[]).ok();
    let said = buy(&["--json"]);
    assert_eq!((said.code, &said.json()["outcome"]), (i32::from(code::NO), &"declined".into()));
    assert_eq!(said.json()["reason"], "OutOfStock");
    let said = buy(&["--variety", "other"]);
    assert_eq!(said.code, i32::from(code::NO), "{said:?}");
    let status = pinwheel(&data, &["status", "--json"]).json();
    assert_eq!(
        (&status["varieties"][0]["sold"], &status["varieties"][0]["at_seller"]),
        (&3.into(), &0.into())
    );

    let said = pinwheel(&data, &["stop"]).ok();
    assert_eq!(said, "stopped\n");
    assert!(network.wait().0.success());
    let said = buy(&["--variety", VARIETY, "--patience", "1"]);
    assert_eq!(said.code, i32::from(code::UNREACHABLE), "{said:?}");
    pinwheel(&data, &["audit"]).ok();
}

/// Somebody's hand in the books: the audit says so, by its exit code and by the serials.
#[test]
fn law_1_books_that_differ_make_the_audit_fail_and_name_the_serials() {
    let scratch = scratch();
    let data = scratch.path();
    let network = Process::begin_small(data, &["--low", "10", "--target", "20"], 0);
    network.mint(VARIETY, 100);
    network.wait_for("stock", |status| status.varieties[0].at_seller == 20);
    let key = &network.add_terminals(1)[0];
    network.till(key).sell(Attempt::First, 1, OF).unwrap();
    pinwheel(data, &["audit"]).ok();
    network.kill();
    let balanced = pinwheel(data, &["audit"]).ok();
    assert!(balanced.ends_with("balanced: every PIN is in exactly one place\n"), "{balanced}");

    // The hub forgets the first ten of the PINs that it still has.
    let change = |sql: &str| {
        let books = Connection::open(data.join("hub/hub.db")).unwrap();
        assert_eq!(books.execute(sql, []).unwrap(), 1, "{sql}");
    };
    change("UPDATE piece SET first = first + 10 WHERE node IS NULL");
    let said = pinwheel(data, &["audit"]);
    assert_eq!(said.code, i32::from(code::NO), "{said:?}");
    assert!(said.out.contains("10 PINs in no place") && said.out.ends_with("NOT BALANCED\n"), "{}", said.out);
    let json = pinwheel(data, &["audit", "--json"]).json();
    assert_eq!(json["balanced"], false);
    let [finding] = &json["findings"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(finding["kind"], "missing");
    let (start, serials) = (finding["start"].as_u64().unwrap(), &finding["serials"]);
    // Serials of PINs of our own count from 1.
    assert_eq!(serials[0], format!("P000001{:08}", start + 1));
    assert_eq!(serials[1], format!("P000001{:08}", start + 10));
    let said_serials =
        format!("serials {} to {}", serials[0].as_str().unwrap(), serials[1].as_str().unwrap());
    assert!(said.out.contains(&said_serials), "{} does not say {said_serials}", said.out);
    change("UPDATE piece SET first = first - 10 WHERE node IS NULL");
    pinwheel(data, &["audit"]).ok();
}

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn comma_separated(numbers: std::ops::Range<u32>) -> String {
    let rows: String = numbers.map(|at| format!("C{at:07},10{at:012},2099-12-31\n")).collect();
    format!("serial,pin,expiry\n{rows}")
}

fn pipe_delimited(numbers: std::ops::Range<u32>, balance: u32) -> String {
    let rows: String = numbers.map(|at| format!("D|Blue Cell|10.00|B{at:07}|20{at:012}|9.20\n")).collect();
    format!("H|Blue Cell|2026-11-01\n{rows}B|{balance}\n")
}

fn keys(text: &str) -> Vec<KeyRow> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
}

#[test]
fn an_empty_network_is_set_up_and_sells_by_commands_alone() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let _network = Process::start_with(&data, &["--empty", "--servers", "1"]);
    assert_eq!(pinwheel(&data, &["dealer", "add", "Corner shop"]).ok(), "dealer 1 added\n");
    let airtime = ["variety", "add", "--code", "air-5", "--product", "9", "--face-value", "500"];
    let rest = ["--currency", "ZAR", "--name", "Airtime"];
    pinwheel(&data, &[&airtime[..], &rest[..]].concat()).ok();
    pinwheel(&data, &["mint", "--variety", "air-5", "--count", "20"]).ok();
    let keys = scratch.path().join("keys.csv");
    let keys = keys.to_str().unwrap();
    pinwheel(&data, &["terminal", "add", "--out", keys]).ok();
    let receipt = pinwheel(&data, &["buy", "--variety", "air-5", "--keys", keys]).ok();
    assert!(receipt.contains("5.00 ZAR"), "{receipt}");
    assert!(pinwheel(&data, &["audit"]).ok().contains("balanced"));
}
