//! Networks and nodes as processes: this program as the `pinwheel` command, what operators ask of them, and their load.

use crate::client::Measured;
use crate::process::{Child, Result};
use engine::admin::{KeyRow, MintOrder, Reply, Request, VarietyRow, ask};
use engine::network::Status;
use loadgen::options::{Rate, RecheckChoice, RunOptions};
use loadgen::outcome::Verdict;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What this program is called when it is to be the `pinwheel` command.
pub const NAME: &str = "pinwheel";
/// The denomination of what is sold, in minor units.
pub const FACE_VALUE: u64 = 1000;

/// Runs the `pinwheel` command and ends the process, if it was called so.
pub fn become_pinwheel() {
    if std::env::args_os().next().is_some_and(|name| name == OsStr::new(NAME)) {
        let code = engine::cli::main();
        // An exit code cannot be turned into an error.
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
}

/// This program as the `pinwheel` command for a data directory.
///
/// # Errors
/// The system does not tell where this program is.
pub fn command(data: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(NAME).arg("--data").arg(data).env("PINWHEEL_LOG", "warn");
    Ok(command)
}

/// Asks what runs in a data directory.
///
/// # Errors
/// It says no, or nothing.
pub fn done(data: &Path, request: &Request) -> Result<Reply> {
    match ask(data, request, None, drop)? {
        Reply::No { reason } => Err(reason.into()),
        reply => Ok(reply),
    }
}

/// How what runs in a data directory stands.
///
/// # Errors
/// It does not say.
pub fn status(data: &Path) -> Result<Status> {
    match done(data, &Request::Status)? {
        Reply::Status(status) => Ok(*status),
        other => Err(format!("a status was asked for: {other:?}").into()),
    }
}

/// Waits until the status is as wanted, looking every few milliseconds.
///
/// # Errors
/// It is not, in two minutes.
pub fn wait_for(data: &Path, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Instant> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = status(data)?;
        if is_so(&found) {
            return Ok(Instant::now());
        }
        if Instant::now() > until {
            return Err(format!("waited in vain for {what}: {found:?}").into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Adds a dealer, and varieties by code and product code.
///
/// # Errors
/// The hub says no.
pub fn furnish(data: &Path, varieties: &[(&str, u32)]) -> Result<()> {
    done(data, &Request::AddDealer { name: "Limits".to_owned() })?;
    for &(code, product) in varieties {
        done(data, &Request::AddVariety(variety_row(code, product)))?;
    }
    Ok(())
}

/// A variety as [`furnish`] adds it.
#[must_use]
pub fn variety_row(code: &str, product: u32) -> VarietyRow {
    VarietyRow {
        id: 0,
        code: code.to_owned(),
        product,
        face_value: FACE_VALUE,
        currency: "ZAR".to_owned(),
        currency_digits: 2,
        name: "Limits".to_owned(),
        receipt: String::new(),
        minimum_life_days: 0,
    }
}

/// Issues so many PINs of a variety, with their last day as YYYYMMDD; 0: they do not expire.
///
/// # Errors
/// The hub says no.
pub fn mint(data: &Path, variety: &str, pins: u32, expiry: u32) -> Result<()> {
    let mut left = pins;
    while left > 0 {
        let count = left.min(MINT_MAX);
        let variety = variety.to_owned();
        let order = MintOrder { variety, count, length: 16, letters: false, check: false, expiry };
        done(data, &Request::Mint(order))?;
        left -= count;
    }
    Ok(())
}

/// Adds terminals and writes their keys to a file.
///
/// # Errors
/// The command fails.
pub fn add_terminals(data: &Path, count: usize, file: &Path) -> Result<()> {
    let mut add = command(data)?;
    add.args(["terminal", "add", "--count", &count.to_string(), "--out"]).arg(file);
    if add.stdout(std::process::Stdio::null()).status()?.success() {
        return Ok(());
    }
    Err("no terminals were added".into())
}

/// The terminals of such a file, and their keys.
///
/// # Errors
/// It cannot be read.
pub fn terminal_keys(file: &Path) -> Result<Vec<KeyRow>> {
    let text = std::fs::read_to_string(file)?;
    text.lines().skip(1).map(|line| key_row(line).ok_or_else(|| "a line is no key".into())).collect()
}

/// One line of a file of terminals.
fn key_row(line: &str) -> Option<KeyRow> {
    let [terminal, dealer, key_epoch, key] = line.split(',').collect::<Vec<_>>()[..] else { return None };
    let key = serde_json::from_value(key.into()).ok()?;
    Some(KeyRow {
        terminal: terminal.parse().ok()?,
        dealer: dealer.parse().ok()?,
        key_epoch: key_epoch.parse().ok()?,
        key,
    })
}

/// What a run of the load generator is like.
#[derive(Clone, Copy)]
pub struct Sales<'a> {
    /// Where terminals connect, `host:port`.
    pub target: &'a str,
    /// The file of terminals.
    pub terminals: &'a Path,
    /// Where the load generator keeps sequences.
    pub state: &'a Path,
    /// How many of the terminals take part.
    pub connections: usize,
    /// Vends that each has in flight.
    pub window: usize,
    /// Vends a second of all together; `None`: as many as go.
    pub rate: Option<f64>,
    /// The product sold; `None`: all.
    pub product: Option<u32>,
    /// Whether terminals talk in clear.
    pub is_clear: bool,
    /// For how long.
    pub time: Duration,
}

impl Sales<'_> {
    /// The same for the load generator: one thread, which says nothing.
    ///
    /// # Errors
    /// The window is beyond what the protocol can say.
    pub fn options(&self) -> Result<RunOptions> {
        Ok(RunOptions {
            target: self.target.to_owned(),
            terminals: vec![self.terminals.display().to_string(), self.connections.to_string()],
            window: u16::try_from(self.window)?,
            rate: self.rate.map_or(Rate::Max, Rate::PerSecond),
            duration: self.time,
            poisson: false,
            threads: Some(1),
            product: self.product,
            face: None,
            clear: self.is_clear,
            chacha: false,
            reply_timeout: Duration::from_secs(10),
            recheck: RecheckChoice::None,
            books: None,
            shared: false,
            until_empty: false,
            state: self.state.to_owned(),
            json: false,
            hlog: None,
            report: None,
            quiet: true,
        })
    }
}

/// Sells for a time through `child`, once it and `resting` have nothing left to do of what was before; processor time is that of
/// `child`.
///
/// # Errors
/// The run did not take place.
pub fn sell(child: &Child, resting: &Child, sales: &Sales<'_>) -> Result<Measured> {
    let options = sales.options()?;
    // What the load before left to do, as filing what was sold, is not this one's.
    resting.await_rest()?;
    let is_over = AtomicBool::new(false);
    let (outcome, samples) = std::thread::scope(|scope| {
        let meter = scope.spawn(|| sample(child, &is_over));
        let outcome = loadgen::run::run(&options, &mut std::io::sink());
        is_over.store(true, Relaxed);
        (outcome, meter.join())
    });
    let (outcome, samples) = (outcome?, samples.map_err(|_| "the meter panicked")?);
    let spent = |until: Instant| {
        let before = samples.iter().take_while(|(at, _)| *at <= until).last();
        before.or(samples.first()).map_or(0.0, |(_, cpu_s)| *cpu_s)
    };
    let trouble = match &outcome.verdict {
        Verdict::Valid => None,
        Verdict::Violated => Some(format!("CORRECTNESS VIOLATED: {:?}", outcome.findings.examples)),
        Verdict::Invalid(why) => Some(format!("invalid: {}", why.join("; "))),
    };
    Ok(Measured {
        answers: outcome.sold_in_time,
        seconds: sales.time.as_secs_f64(),
        server_cpu_s: spent(outcome.began + sales.time) - spent(outcome.began),
        latency: outcome.latency,
        client_busy: if sales.rate.is_some() { 0.0 } else { outcome.own.busiest },
        trouble,
    })
}

/// The processor time of a server as it goes on.
fn sample(child: &Child, is_over: &AtomicBool) -> Vec<(Instant, f64)> {
    let mut samples = Vec::new();
    while !is_over.load(Relaxed) {
        samples.push((Instant::now(), child.cpu_s()));
        std::thread::sleep(Duration::from_millis(10));
    }
    samples
}

const MINT_MAX: u32 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
