//! The promise, shown: a network whose processes are killed again and again while a thousand terminals buy from it.
//!
//! The network is a hub, two servers, a relay and a cache, each of them this program once more, started under the name `pinwheel`.

mod network;

use crate::options::{DemoOptions, Rate, RecheckChoice, RunOptions};
use crate::outcome::{Outcome, Verdict};
use crate::run::{RunError, run_and_say_when};
use crate::summary::{duration, grouped};
use engine::admin::AskError;
use network::{Network, Node};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

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
    say(&format!(
        "starting a hub, two servers, a relay and a cache in {}, and minting PINs",
        folder.display()
    ));
    let wanted = f64::from(options.rate) * options.duration.as_secs_f64();
    let mut network = Network::start(&folder, wanted as u32, options.terminals)?;
    say(&format!(
        "{} terminals buy {} PINs a second for {:.0} s; every {} s one of the five is killed, or all are",
        grouped(options.terminals.into()),
        grouped(options.rate.into()),
        options.duration.as_secs_f64(),
        KILL_EVERY.as_secs()
    ));
    let report = folder.join("report.html");
    let run_options = load(options, &network, report.clone(), folder.join("terminals"));
    let (selling, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (outcome, kills) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_again_and_again(&mut network, options.duration, &selling, &over));
        let outcome = run_and_say_when(&run_options, &mut io::stderr(), &|| selling.store(true, Relaxed));
        over.store(true, Relaxed);
        (outcome, killer.join())
    });
    let kills = kills.expect("the killer does not panic")?;
    let outcome = outcome?;
    say(&text(&outcome, &kills, &report));
    Ok(outcome.verdict.exit_code())
}

/// How often what was killed.
type Kills = BTreeMap<&'static str, u32>;

fn text(outcome: &Outcome, kills: &Kills, report: &Path) -> String {
    let (twice, lost) = outcome.twice_and_lost();
    let found: u64 = outcome.findings.counts.values().sum();
    let mut text = String::new();
    let mut row = |name: &str, value: String| text.push_str(&format!("  {name:<22}{value}\n"));
    row("sold", format!("{} PINs to {} terminals", grouped(outcome.counts.sold), outcome.load.terminals));
    let each: Vec<_> = kills.iter().map(|(name, count)| format!("{name} {count}")).collect();
    row("kills (SIGKILL)", format!("{}: {}", kills.values().sum::<u32>(), each.join(", ")));
    row("longest interruption", format!("{} without a sale anywhere", duration(outcome.longest_gap_ns)));
    row("longest wait", format!("{} of a terminal for its PIN", duration(outcome.latency.max())));
    let (brought, given_up) = (outcome.counts.through_others, outcome.counts.given_up);
    row(
        "settled elsewhere",
        format!("{} sales of terminals that lost their seller, {brought} with a PIN", brought + given_up),
    );
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

fn load(options: &DemoOptions, network: &Network, report: PathBuf, state: PathBuf) -> RunOptions {
    let target: Vec<_> = network.addresses().iter().map(ToString::to_string).collect();
    RunOptions {
        target: target.join(","),
        terminals: vec![network.terminals().display().to_string()],
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
        books: Some(network.books()),
        shared: false,
        until_empty: false,
        state,
        json: false,
        hlog: None,
        report: Some(report),
        quiet: false,
    }
}

/// From the first sale until `most` is over, one after the other and then all at once; returns how often.
fn kill_again_and_again(
    network: &mut Network,
    most: Duration,
    selling: &AtomicBool,
    over: &AtomicBool,
) -> Result<Kills, DemoError> {
    while !selling.load(Relaxed) && !over.load(Relaxed) {
        std::thread::sleep(TICK);
    }
    let start = Instant::now();
    let mut kills = Kills::new();
    let in_turn = Node::IN_TURN.iter().map(|node| Some(*node)).chain([None]).cycle();
    for (at, node) in (1..).zip(in_turn) {
        let next = KILL_EVERY * at;
        if next + KILL_EVERY / 2 > most {
            break;
        }
        while start.elapsed() < next {
            if over.load(Relaxed) {
                return Ok(kills);
            }
            std::thread::sleep(TICK);
        }
        match node {
            Some(node) => network.kill_and_restart(&[node])?,
            None => network.kill_and_restart(&Node::ALL)?,
        }
        *kills.entry(node.map_or("all at once", Node::name)).or_default() += 1;
    }
    Ok(kills)
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
const TICK: Duration = Duration::from_millis(10);
