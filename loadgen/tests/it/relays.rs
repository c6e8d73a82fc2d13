//! Many host connection managers, each with terminals of its own on a network of their own, and one server.

use crate::runs::result;
use engine::admin::{KeyRow, MintOrder, Reply as Answer, Request as Ask, VarietyRow, ask};
use engine::network::Status;
use netns::Namespaces;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

#[path = "../../../engine/tests/it/support/netns.rs"]
mod netns;

const RELAYS: usize = 3;
const TERMINALS: u32 = 1_000;
const PINS: u32 = 20_000;

/// Processes that are killed when the test ends.
struct Town {
    spaces: Namespaces,
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Town {
    /// Starts a process of `pinwheel` in a namespace.
    fn start(&mut self, namespace: &str, command: &str, name: &str, config: &str) {
        let path = self.folder.path().join(format!("{name}.toml"));
        fs::write(&path, config).unwrap();
        let mut process = self.spaces.command(namespace, "pinwheel");
        process.env("PATH", self.program_path()).args([command, "--config"]).arg(path);
        process.stdin(Stdio::null()).stdout(Stdio::null());
        self.processes.push(process.stderr(Stdio::null()).spawn().unwrap());
        self.wait(name, "it to answer", |_| true);
    }

    /// Where the `pinwheel` command is found: loadgen is that under this name.
    fn program_path(&self) -> String {
        let path = self.folder.path().join("pinwheel");
        if !path.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_loadgen"), &path).unwrap();
        }
        format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap())
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, name: &str, request: &Ask) -> Answer {
        match ask(&self.data(name), request, None, drop).unwrap() {
            Answer::No { reason } => panic!("{reason}"),
            reply => reply,
        }
    }

    fn wait(&self, name: &str, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let until = Instant::now() + PATIENCE;
        loop {
            match ask(&self.data(name), &Ask::Status, None, drop) {
                Ok(Answer::Status(status)) if is_so(&status) => return *status,
                other => assert!(Instant::now() < until, "waited in vain for {what}: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn admit(&self, name: &str, relay: bool) {
        let name_of = name.to_owned();
        match self.ask("hub", &Ask::AddNode { name: name_of, below: None, relay }) {
            Answer::Node { token, .. } => fs::write(self.data(&format!("{name}.token")), token).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// New terminals' keys, in a file.
    fn add_terminals(&self, file: &Path) {
        let request = Ask::AddTerminals { count: TERMINALS, ids: vec![], dealer: 1 };
        let Answer::Keys { keys } = self.ask("hub", &request) else { panic!("no keys") };
        let mut text = "terminal,dealer,key_epoch,key\n".to_owned();
        for KeyRow { terminal, dealer, key_epoch, key } in keys {
            let hex = key.expose().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            writeln!(text, "{terminal},{dealer},{key_epoch},{hex}").unwrap();
        }
        fs::write(file, text).unwrap();
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn m11_many_managers_each_with_its_own_terminals_on_its_own_network_and_one_server() {
    let (relays, tills): (Vec<_>, Vec<_>) =
        (1..=RELAYS).map(|at| (format!("relay{at}"), format!("tills{at}"))).unzip();
    let names: Vec<&str> =
        ["core"].into_iter().chain(relays.iter().chain(&tills).map(String::as_str)).collect();
    let Some(spaces) = Namespaces::new(&names) else {
        return lacking("network namespaces (root, `ip netns`)");
    };
    for (at, (relay, tills)) in (1..).zip(relays.iter().zip(&tills)) {
        let [core_side, relay_side] = [1, 2].map(|host| format!("10.71.{at}.{host}/24"));
        let [gate, till_side] = [1, 2].map(|host| format!("10.72.{at}.{host}/24"));
        if !spaces.wire([("core", &core_side), (relay, &relay_side)])
            || !spaces.wire([(relay, &gate), (tills, &till_side)])
        {
            return lacking("virtual Ethernet devices between network namespaces");
        }
    }
    let mut town = Town { spaces, folder: tempfile::tempdir().unwrap(), processes: Vec::new() };
    town.start("core", "hub", "hub", "data = \"hub\"\nlisten = \"127.0.0.1:7700\"\n");
    town.ask("hub", &Ask::AddDealer { name: "Shop".to_owned() });
    town.ask("hub", &Ask::AddVariety(variety()));
    let (variety, count) = ("airtime".to_owned(), PINS);
    let mint = MintOrder { variety, count, length: 16, letters: false, check: true, expiry: 0 };
    town.ask("hub", &Ask::Mint(mint));
    let files: Vec<PathBuf> = tills.iter().map(|name| town.data(&format!("{name}.csv"))).collect();
    files.iter().for_each(|file| town.add_terminals(file));
    town.admit("server", false);
    relays.iter().for_each(|relay| town.admit(relay, true));
    let server = format!(
        "data = \"server\"\nlisten = \"127.0.0.1:7601\"\nlinks = \"0.0.0.0:7701\"\nhub = [\"127.0.0.1:7700\"]\n\
         token_file = \"server.token\"\nworkers = 2\n\
         levels = {{ low = {PINS}, target = {PINS}, high = {PINS} }}\n"
    );
    town.start("core", "server", "server", &server);
    town.wait("server", "stock", |status| status.varieties.iter().any(|v| v.sellable == u64::from(PINS)));
    for (at, relay) in (1..).zip(&relays) {
        let config = format!(
            "mode = \"relay\"\nlisten = \"10.72.{at}.1:7651\"\nservers = [\"10.71.{at}.1:7701\"]\n\
             token_file = \"{relay}.token\"\nrun_dir = \"{relay}\"\n"
        );
        town.start(relay, "hcm", relay, &config);
        town.wait(relay, "the server", |status| {
            status.relay.as_ref().is_some_and(|relay| relay.server.is_some())
        });
        assert!(!town.spaces.has_route(&tills[at - 1], &format!("10.71.{at}.1")));
    }
    let mut runs = Vec::new();
    for (at, (name, file)) in (1..).zip(tills.iter().zip(&files)) {
        let mut run = town.spaces.command(name, env!("CARGO_BIN_EXE_loadgen"));
        run.args(["run", "--quiet", "--json", "--target", &format!("10.72.{at}.1:7651"), "--terminals"]);
        run.arg(file).arg("--state").arg(town.data(&format!("{name}-state"))).arg("--books");
        run.arg(town.data("hub")).args(["--shared", "--threads", "1", "--rate", "250", "--duration", "6s"]);
        runs.push(run.stdout(Stdio::piped()).spawn().unwrap());
    }
    let mut sold = 0;
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let code = output.status.code();
        let result = result(&output);
        // 3: this machine was too slow for the rate, which says nothing about the answers.
        assert!(matches!(code, Some(0 | 3)), "{result}");
        assert_eq!(result["reconciled"]["books"], true, "{result}");
        assert_eq!(result["unresolved"], 0, "every request is answered: {result}");
        assert_eq!(result["counts"]["connections_lost"], serde_json::json!({}), "{result}");
        assert_eq!(result["reconciled"]["compared"]["agreed"], result["counts"]["sold"], "{result}");
        sold += result["counts"]["sold"].as_u64().unwrap();
    }
    let status = town.wait("hub", "all sales", |status| status.varieties[0].sold >= sold);
    assert_eq!(status.varieties[0].sold, sold);
    assert!(sold > 1_000, "only {sold} were sold");
    for relay in &relays {
        let status = town.wait(relay, "an answer", |_| true).relay.unwrap();
        assert!(status.logins >= u64::from(TERMINALS) && status.in_flight == 0, "{status:?}");
    }
}

fn variety() -> VarietyRow {
    VarietyRow {
        id: 0,
        code: "airtime".to_owned(),
        product: 1001,
        face_value: 1000,
        currency: "ZAR".to_owned(),
        currency_digits: 2,
        name: "Airtime".to_owned(),
        receipt: String::new(),
        minimum_life_days: 0,
    }
}

/// Names what a test machine lacks. Under `PINWHEEL_REQUIRE_ALL=1` lacking it is a failure.
fn lacking(what: &str) {
    let required = std::env::var("PINWHEEL_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "PINWHEEL_REQUIRE_ALL is set and this machine lacks {what}");
    // Not by the macro, whose output is shown of failed tests only.
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("DID NOT RUN: this machine lacks {what}\n"),
    );
}

const PATIENCE: Duration = Duration::from_secs(60);
