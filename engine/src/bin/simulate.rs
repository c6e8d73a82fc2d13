//! Runs simulated networks: see `spec/testing.md`.

use clap::Parser;
use engine::planted::{self, Fault};
use engine::sim::{Kind, Kinds, Plan, Summary, Trace, attempt, never_seen, shrink};
use std::collections::{BTreeMap, BTreeSet};
use std::io::stdout;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Simulate whole networks on virtual time, with faults, and judge them by the laws.
///
/// A run follows from its seed. Every other option replaces something that is drawn from the seed; a failing run prints
/// those that give it again.
#[derive(Parser)]
struct Options {
    /// The first seed; drawn at random and printed if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many runs, from that seed on.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// No new run begins after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Go on after a failure, and say at the end how many there were.
    #[arg(long)]
    keep_going: bool,
    /// Print every event.
    #[arg(long)]
    trace: bool,
    /// Make a failing run smaller before it is shown.
    #[arg(long)]
    shrink: bool,
    /// Plant a mistake and show how it is caught; `all`: each of them in turn.
    #[arg(long)]
    planted: Option<String>,
    /// List the kinds of faults and the mistakes that can be planted.
    #[arg(long)]
    list: bool,
    /// Steps with faults.
    #[arg(long)]
    steps: Option<u64>,
    /// Terminals.
    #[arg(long)]
    terminals: Option<u32>,
    /// Servers.
    #[arg(long)]
    servers: Option<u32>,
    /// Nodes below servers.
    #[arg(long)]
    caches: Option<u32>,
    /// Workers of each node.
    #[arg(long)]
    workers: Option<u32>,
    /// One step in so many begins with a fault.
    #[arg(long)]
    rarity: Option<u64>,
    /// PINs of each variety that does not run out.
    #[arg(long)]
    stock: Option<u32>,
    /// Whether nodes hold little.
    #[arg(long)]
    scarce: Option<bool>,
    /// Relays.
    #[arg(long)]
    relays: Option<u32>,
    /// Whether one variety comes by thousands.
    #[arg(long)]
    bulk: Option<bool>,
    /// The kinds of faults, with commas between them.
    #[arg(long)]
    kinds: Option<Kinds>,
    /// Kinds of faults that are not among those drawn, with commas between them.
    #[arg(long)]
    without: Option<Kinds>,
    /// Only these faults, by their number in the run, with commas between them; `none`.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    let ended = match options.planted.as_deref() {
        Some("all") => Fault::ALL.iter().try_for_each(|fault| catch(&options, *fault, false)),
        Some(word) => word.parse().and_then(|fault| catch(&options, fault, true)),
        None => hunt(&options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn first_seed(&self) -> u64 {
        let random = || {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map(|()| u64::from(u32::from_le_bytes(bytes)))
        };
        self.seed.or_else(|| random().ok()).unwrap_or(1)
    }

    fn plan(&self, seed: u64) -> Result<Plan, String> {
        let drawn = Plan::of(seed);
        let mut kinds = self.kinds.unwrap_or(drawn.kinds);
        self.without.into_iter().flat_map(Kinds::iter).for_each(|kind| kinds.remove(kind));
        let only = self.only.as_deref().map(|only| {
            let numbers = only.split(',').filter(|number| *number != "none");
            numbers
                .map(|number| number.parse().map_err(|_| format!("{number} is no fault's number")))
                .collect()
        });
        Ok(Plan {
            seed,
            steps: self.steps.unwrap_or(drawn.steps),
            terminals: self.terminals.unwrap_or(drawn.terminals).max(1),
            servers: self.servers.unwrap_or(drawn.servers).max(1),
            caches: self.caches.unwrap_or(drawn.caches),
            workers: self.workers.unwrap_or(drawn.workers).max(1),
            rarity: self.rarity.unwrap_or(drawn.rarity).max(1),
            stock: self.stock.unwrap_or(drawn.stock).max(1),
            scarce: self.scarce.unwrap_or(drawn.scarce),
            relays: self.relays.unwrap_or(drawn.relays),
            bulk: self.bulk.unwrap_or(drawn.bulk),
            kinds,
            only: only.transpose()?,
            planted: None,
        })
    }
}

fn list() {
    println!("kinds of faults (--kinds):");
    Kind::ALL.iter().for_each(|kind| println!("  {:24} {}", kind.word(), kind.what()));
    println!("mistakes (--planted, in a program built with --features planted):");
    Fault::ALL.iter().for_each(|fault| println!("  {:24} {}", fault.word(), fault.what()));
}

/// Runs one seed after the other; the first failure ends it.
fn hunt(options: &Options) -> Result<(), String> {
    let (first, begun) = (options.first_seed(), Instant::now());
    println!("seeds from {first} on");
    let mut total = Summary::default();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut failures, mut seen) = (0, BTreeSet::new());
    let (mut runs, mut fewest) = (0, Summary { crashes: u64::MAX, steps: u64::MAX, ..Summary::default() });
    for seed in first..first.saturating_add(options.runs) {
        if options.seconds.is_some_and(|seconds| begun.elapsed() > Duration::from_secs(seconds)) {
            break;
        }
        let plan = options.plan(seed)?;
        let mut trace = Trace::new(options.trace);
        let run = attempt(&plan, &mut trace);
        trace.events().iter().for_each(|event| println!("{event}"));
        match run {
            Ok(summary) => {
                if options.runs == 1 {
                    println!("{plan}: {summary:?}, hash {:#018x}", trace.hash());
                }
                runs += 1;
                total.steps += summary.steps;
                total.sold += summary.sold;
                total.crashes += summary.crashes;
                total.faults += summary.faults;
                fewest.steps = fewest.steps.min(summary.steps);
                fewest.crashes = fewest.crashes.min(summary.crashes);
                trace.counts().iter().for_each(|(name, count)| *counts.entry(*name).or_default() += *count);
            }
            Err(failure) if options.keep_going => {
                let kind: String = failure.what.chars().filter(|c| !c.is_ascii_digit()).take(50).collect();
                if seen.insert((failure.law, kind)) {
                    println!("{}\n", show(options, *failure));
                } else {
                    println!("{failure}\n");
                }
                failures += 1;
            }
            Err(failure) => return Err(show(options, *failure)),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("how often:");
    counts.iter().for_each(|(name, count)| println!("  {name:28} {count}"));
    let never = never_seen(&counts);
    println!("never: {}", if never.is_empty() { "-".to_owned() } else { never.join(", ") });
    println!(
        "{runs} runs from seed {first}, each of at least {} events and {} crashes, in which no law was broken: {} events, {:.0} events/s, \
         {} sales, {} crashes, {} faults, {seconds:.0} s",
        fewest.steps,
        fewest.crashes,
        total.steps,
        total.steps as f64 / seconds,
        total.sold,
        total.crashes,
        total.faults,
    );
    match failures {
        0 => Ok(()),
        count => Err(format!("{count} more runs failed: one of each kind is explained")),
    }
}

/// A failure as text, smaller first if that is wanted.
fn show(options: &Options, failure: engine::sim::Failure) -> String {
    let failure = if options.shrink {
        println!("{failure}\nlooking for a smaller run:");
        shrink(failure, SHRINK_RUNS_MAX, |smaller| println!("  step {}: {}", smaller.step, smaller.plan))
    } else {
        failure
    };
    match failure.explain(&mut stdout().lock()) {
        Ok(()) => "a law was broken".to_owned(),
        Err(error) => format!("{failure}\n{error}"),
    }
}

/// Plants a mistake and looks for a run that shows it.
fn catch(options: &Options, fault: Fault, explains: bool) -> Result<(), String> {
    if !planted::is_possible() {
        return Err("faults are planted in a program built with --features planted".to_owned());
    }
    let (first, begun) = (options.seed.unwrap_or(1), Instant::now());
    let runs = options.runs.max(PLANTED_RUNS_MAX);
    for seed in first..first + runs {
        let plan = Plan { planted: Some(fault), ..options.plan(seed)? };
        let Err(failure) = attempt(&plan, &mut Trace::default()) else { continue };
        let (run, seconds) = (seed - first + 1, begun.elapsed().as_secs_f64());
        println!(
            "{fault}: caught in run {run}, step {}, after {seconds:.1} s: law {}",
            failure.step, failure.law
        );
        if explains {
            println!("{}", show(options, *failure));
        }
        return Ok(());
    }
    Err(format!("{fault}: NOT CAUGHT in {runs} runs from seed {first} on"))
}

/// By so many runs every planted mistake has to be caught.
const PLANTED_RUNS_MAX: u64 = 300;
const SHRINK_RUNS_MAX: u32 = 600;
