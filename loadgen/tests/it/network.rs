//! The real network: in a process of its own, or, all its threads, in the test's, so that something can stand between a
//! worker and its terminals.

use engine::admin::{MintOrder, Reply as Answer, Request as Ask, Site, VarietyRow, ask, serve};
use engine::cli::{clock, random};
use engine::net::{Meddler, listen};
use engine::network::{Failure, Network, Options, Selling, Status};
use engine::policy::Levels;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A network that sells and answers its operators.
pub(crate) struct Live {
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
    /// The terminals' keys.
    pub(crate) terminals: PathBuf,
    pins: u32,
    running: Running,
}

enum Running {
    Inside(Option<Box<Network>>),
    Process(Child),
}

impl Live {
    /// Starts one in a new folder, with terminals and so many PINs of each of two varieties.
    pub(crate) fn start<M: Meddler>(
        folder: &Path,
        terminals: u32,
        pins: u32,
        meddler: impl Fn(usize) -> M,
    ) -> Self {
        let data = folder.join("network");
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let pins_all = u64::from(pins);
        let levels = Levels::new(pins_all, pins_all, pins_all).unwrap().into();
        let selling = Selling {
            listener,
            others: Default::default(),
            links: None,
            clear: true,
            workers: 2,
            connections_max: 1000,
            levels,
        };
        let options = Options::whole(&data, vec![selling], 4 << 20, clock, random, fatal).unwrap();
        let network = Network::start_with(options, meddler).unwrap();
        serve(&data, network.office().clone(), Site { stop: None }).unwrap();
        let terminals_file = folder.join("terminals.csv");
        let running = Running::Inside(Some(Box::new(network)));
        let live = Self { address, data, terminals: terminals_file, pins, running };
        live.furnish(terminals);
        live
    }

    /// The same as a process.
    pub(crate) fn start_process(folder: &Path, terminals: u32, pins: u32) -> Self {
        let data = folder.join("network");
        let (process, address) = spawn(&data, SocketAddr::from(([127, 0, 0, 1], 0)), pins);
        let terminals_file = folder.join("terminals.csv");
        let live =
            Self { address, data, terminals: terminals_file, pins, running: Running::Process(process) };
        live.furnish(terminals);
        live
    }

    /// Kills the process and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        let Running::Process(process) = &mut self.running else { panic!("it is no process") };
        process.kill().unwrap();
        process.wait().unwrap();
        *process = spawn(&self.data, self.address, self.pins).0;
    }

    /// What a command of the operators says as JSON.
    pub(crate) fn pinwheel(&self, arguments: &[&str]) -> Value {
        let output = pinwheel(&self.data).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// PINs sold.
    pub(crate) fn sold(&self) -> u64 {
        match self.ask(&Ask::Status) {
            Answer::Status(status) => sold(&status),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until so many PINs were sold.
    pub(crate) fn await_sales(&self, count: u64) {
        self.wait("sales", |status| sold(status) >= count);
    }

    fn furnish(&self, terminals: u32) {
        let pins = self.pins;
        self.ask(&Ask::AddDealer { name: "Corner shop".to_owned() });
        for (code, product) in [("airtime", 1001), ("power", 2001)] {
            self.ask(&Ask::AddVariety(VarietyRow {
                id: 0,
                code: code.to_owned(),
                product,
                face_value: 1000,
                currency: "ZAR".to_owned(),
                currency_digits: 2,
                name: code.to_owned(),
                receipt: String::new(),
                minimum_life_days: 0,
            }));
            let variety = code.to_owned();
            self.ask(&Ask::Mint(MintOrder {
                variety,
                count: pins,
                length: 16,
                letters: false,
                check: true,
                expiry: 0,
            }));
        }
        let Answer::Keys { keys } = self.ask(&Ask::AddTerminals { count: terminals, ids: vec![], dealer: 1 })
        else {
            panic!("no keys");
        };
        let mut text = "terminal,dealer,key_epoch,key\n".to_owned();
        for key in keys {
            let hex = key.key.expose().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            writeln!(text, "{},{},{},{hex}", key.terminal, key.dealer, key.key_epoch).unwrap();
        }
        std::fs::write(&self.terminals, text).unwrap();
        self.wait("the stock", |status| status.varieties.iter().all(|v| v.sellable == u64::from(pins)));
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Status) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.ask(&Ask::Status) {
                Answer::Status(status) if is_so(&status) => return,
                other => assert!(Instant::now() < until, "waited in vain for {what}: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ask(&self, request: &Ask) -> Answer {
        match ask(&self.data, request, None, drop).unwrap() {
            Answer::No { reason } => panic!("{reason}"),
            reply => reply,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Inside(network) => network.take().into_iter().for_each(|network| network.stop()),
            Running::Process(process) => {
                // It may have ended by itself.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

fn sold(status: &Status) -> u64 {
    status.varieties.iter().map(|variety| variety.sold).sum()
}

/// The `pinwheel` command: loadgen is that under this name.
fn pinwheel(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg0("pinwheel").arg("--json").arg("--data").arg(data);
    command
}

fn spawn(data: &Path, address: SocketAddr, pins: u32) -> (Child, SocketAddr) {
    let (address, pins) = (address.to_string(), pins.to_string());
    let mut process = pinwheel(data)
        .args([
            "up",
            "--empty",
            "--servers",
            "1",
            "--no-managers",
            "--listen",
            &address,
            "--low",
            &pins,
            "--target",
            &pins,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    let address = said["address"].as_str().unwrap().parse().unwrap();
    (process, address)
}

/// Its thread ends, and whoever asks for it hears nothing.
fn fatal(failure: &Failure) -> ! {
    panic!("{failure}");
}

const PATIENCE: Duration = Duration::from_secs(30);
