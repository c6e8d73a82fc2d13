//! The promise, shown: a network that is killed again and again while a thousand terminals buy from it.
//!
//! The network is this program once more, started under the name `pinwheel`.

use crate::options::{DemoOptions, Rate, RecheckChoice, RunOptions};
use crate::outcome::{Outcome, Verdict};
use crate::run::{RunError, run_and_say_when};
use crate::summary::{duration, grouped};
use crate::{probe, terminals};
use engine::admin::{AskError, MintOrder, Reply, Request, VarietyRow, ask};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use wire::session::{Mode, Suite};

/// Why there was no demonstration.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file or process cannot be made.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
    /// The network did not start.
    #[error("the network did not start; {0} says why")]
    NotStarted(PathBuf),
    /// The network did not answer its operator.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The network said no to its operator.
    #[error("the network refuses to be set up: {0}")]
    No(String),
    /// The load did not begin.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Whether this process was started to be the network of a demonstration.
#[must_use]
pub fn is_the_network() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NETWORK)
}

/// Starts a network, sells, kills and restarts it, and prints what came of it; returns the exit code.
///
/// # Errors
/// [`DemoError`] if it could not take place.
pub fn demo(options: &DemoOptions) -> Result<u8, DemoError> {
    let folder = options.folder.clone().unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        PathBuf::from(format!("pinwheel-demo-{}", now.as_secs()))
    });
    fs::create_dir_all(folder.parent().unwrap_or(Path::new("."))).map_err(failed("make the folder"))?;
    fs::create_dir(&folder).map_err(failed("make a new folder"))?;
    say(&format!("starting a network in {} and minting PINs", folder.display()));
    let mut network = Network::start(&folder, options)?;
    let terminals = network.set_up(options)?;
    network.await_ready(&terminals)?;
    say(&format!(
        "{} terminals buy {} PINs a second for {:.0} s; the network is killed every {} s",
        grouped(options.terminals.into()),
        grouped(options.rate.into()),
        options.duration.as_secs_f64(),
        KILL_EVERY.as_secs()
    ));
    let report = folder.join("report.html");
    let run_options = load(options, &network, &terminals, report.clone(), folder.join("terminals"));
    let (selling, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (outcome, kills) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_again_and_again(&mut network, options.duration, &selling, &over));
        let outcome = run_and_say_when(&run_options, &mut io::stderr(), &|| selling.store(true, Relaxed));
        over.store(true, Relaxed);
        (outcome, killer.join())
    });
    let kills = kills.expect("the killer does not panic")?;
    let outcome = outcome?;
    say(&text(&outcome, kills, &report));
    Ok(outcome.verdict.exit_code())
}

fn text(outcome: &Outcome, kills: u32, report: &Path) -> String {
    let (twice, lost) = outcome.twice_and_lost();
    let found: u64 = outcome.findings.counts.values().sum();
    let mut text = String::new();
    let mut row = |name: &str, value: String| text.push_str(&format!("  {name:<22}{value}\n"));
    row("sold", format!("{} PINs to {} terminals", grouped(outcome.counts.sold), outcome.load.terminals));
    row("kills (SIGKILL)", kills.to_string());
    row("longest interruption", duration(outcome.longest_gap_ns));
    row("sold twice", twice.to_string());
    row("lost", lost.to_string());
    row("unsettled", outcome.unresolved.to_string());
    if found > twice + lost {
        row("other faults", (found - twice - lost).to_string());
    }
    let books = match (outcome.reconciled.books, &outcome.reconciled.compared) {
        (Some(true), Some(compared)) => {
            format!("balance, and hold each of the {} sales", grouped(compared.agreed))
        }
        (Some(_), _) => "DO NOT AGREE".to_owned(),
        (None, _) => "cannot be read".to_owned(),
    };
    row("books", books);
    for example in &outcome.findings.examples {
        row("", example.clone());
    }
    if let Verdict::Invalid(why) = &outcome.verdict {
        row("not a valid run", why.join("; "));
    }
    row("report", report.display().to_string());
    format!("\n{text}")
}

fn load(
    options: &DemoOptions,
    network: &Network,
    terminals: &Path,
    report: PathBuf,
    state: PathBuf,
) -> RunOptions {
    RunOptions {
        target: network.address.to_string(),
        terminals: vec![terminals.display().to_string()],
        window: 4,
        rate: Rate::PerSecond(options.rate.into()),
        duration: options.duration,
        poisson: true,
        threads: Some(1),
        product: None,
        face: None,
        clear: false,
        chacha: false,
        reply_timeout: Duration::from_secs(5),
        recheck: RecheckChoice::All,
        books: Some(network.data.clone()),
        shared: false,
        until_empty: false,
        state,
        json: false,
        hlog: None,
        report: Some(report),
        quiet: false,
    }
}

/// From the first sale until `most` is over; returns how often.
fn kill_again_and_again(
    network: &mut Network,
    most: Duration,
    selling: &AtomicBool,
    over: &AtomicBool,
) -> Result<u32, DemoError> {
    while !selling.load(Relaxed) && !over.load(Relaxed) {
        std::thread::sleep(TICK);
    }
    let start = Instant::now();
    let mut kills = 0;
    loop {
        let next = KILL_EVERY * (kills + 1);
        if next + KILL_EVERY / 2 > most {
            return Ok(kills);
        }
        while start.elapsed() < next {
            if over.load(Relaxed) {
                return Ok(kills);
            }
            std::thread::sleep(TICK);
        }
        network.kill_and_restart()?;
        kills += 1;
    }
}

/// The network's process.
struct Network {
    process: Child,
    address: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    pins: u32,
}

impl Network {
    fn start(folder: &Path, options: &DemoOptions) -> Result<Self, DemoError> {
        // The port must be the same after each restart.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(failed("find a free port"))?;
        let (data, log) = (folder.join("network"), folder.join("network.log"));
        let wanted = f64::from(options.rate) * options.duration.as_secs_f64() * SPARE;
        let pins = (wanted / VARIETIES.len() as f64) as u32 + 1000;
        let process = spawn(&data, address, &log, pins)?;
        Ok(Self { process, address, data, log, pins })
    }

    /// A dealer, terminals and stock; returns the file of the terminals' keys.
    fn set_up(&self, options: &DemoOptions) -> Result<PathBuf, DemoError> {
        self.done(&Request::AddDealer { name: "Corner shop".to_owned() })?;
        for (code, product, face_value, name) in VARIETIES {
            self.done(&Request::AddVariety(VarietyRow {
                id: 0,
                code: code.to_owned(),
                product,
                face_value,
                currency: "ZAR".to_owned(),
                currency_digits: 2,
                name: name.to_owned(),
                receipt: String::new(),
                minimum_life_days: 0,
            }))?;
            let (count, variety) = (self.pins, code.to_owned());
            self.done(&Request::Mint(MintOrder {
                variety,
                count,
                length: 16,
                letters: false,
                check: true,
                expiry: 0,
            }))?;
        }
        let file = self.data.join("demo-terminals.csv");
        let added = pinwheel(&self.data)?
            .args(["terminal", "add", "--count", &options.terminals.to_string(), "--out"])
            .arg(&file)
            .stdout(Stdio::null())
            .status();
        match added.map_err(failed("add terminals"))?.success() {
            true => Ok(file),
            false => Err(DemoError::No("no terminals were added".to_owned())),
        }
    }

    /// Waits until the seller knows the terminals and has all the stock: both come to it from the hub.
    fn await_ready(&self, terminals: &Path) -> Result<(), DemoError> {
        let played = terminals::read(terminals, None).map_err(RunError::from)?;
        let wanted = u64::from(self.pins) * VARIETIES.len() as u64;
        let until = Instant::now() + READY_MAX;
        loop {
            let is_stocked = match self.done(&Request::Status)? {
                Reply::Status(status) => status.varieties.iter().map(|v| v.sellable).sum::<u64>() >= wanted,
                _ => false,
            };
            let known = probe::look(self.address, &played[0], Suite::AesGcm, Mode::Sealed);
            match known {
                Ok(_) if is_stocked || Instant::now() > until => return Ok(()),
                Err(error) if Instant::now() > until => return Err(RunError::from(error).into()),
                _ => std::thread::sleep(TICK * 5),
            }
        }
    }

    fn kill_and_restart(&mut self) -> Result<(), DemoError> {
        self.process.kill().map_err(failed("kill the network"))?;
        self.process.wait().map_err(failed("wait for the network's end"))?;
        self.process = spawn(&self.data, self.address, &self.log, self.pins)?;
        Ok(())
    }

    fn done(&self, request: &Request) -> Result<Reply, DemoError> {
        match ask(&self.data, request, None, drop)? {
            Reply::No { reason } => Err(DemoError::No(reason)),
            reply => Ok(reply),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the network and waits until it listens.
fn spawn(data: &Path, address: SocketAddr, log: &Path, pins: u32) -> Result<Child, DemoError> {
    let log_file = File::options().create(true).append(true).open(log).map_err(failed("write the log"))?;
    let pins = pins.to_string();
    let mut process = pinwheel(data)?
        .args([
            "--json",
            "up",
            "--empty",
            "--servers",
            "1",
            "--listen",
            &address.to_string(),
            "--low",
            &pins,
            "--target",
            &pins,
        ])
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(failed("start the network"))?;
    let mut line = String::new();
    let said = process.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    match said {
        Some(Ok(1..)) => Ok(process),
        _ => {
            // It has ended, or will be of no use.
            let _ = process.kill();
            let _ = process.wait();
            Err(DemoError::NotStarted(log.to_owned()))
        }
    }
}

/// This program as the `pinwheel` command.
fn pinwheel(data: &Path) -> Result<Command, DemoError> {
    let mut command = Command::new(std::env::current_exe().map_err(failed("find this program"))?);
    command.arg0(NETWORK).arg("--data").arg(data);
    Ok(command)
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> DemoError {
    move |error| DemoError::System(what, error)
}

fn say(what: &str) {
    // The exit code says the most important part too.
    let _ = writeln!(io::stdout(), "{what}");
}

const NETWORK: &str = "pinwheel";
const KILL_EVERY: Duration = Duration::from_secs(2);
const READY_MAX: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);
/// So much more than will be sold.
const SPARE: f64 = 1.2;
const VARIETIES: [(&str, u32, u64, &str); 2] =
    [("airtime-za-10", 1001, 1000, "Blue Cell airtime"), ("power-za-50", 2001, 5000, "Electricity token")];
