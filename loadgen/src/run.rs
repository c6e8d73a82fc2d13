//! Conducts a run from the first look at the seller to the verdict.

use crate::books::{Books, BooksError, Standing};
use crate::catalogue::Variety;
use crate::check::{self, Book, Findings, Wrong};
use crate::desk::{Plan, Signal, Step};
use crate::environment::{Environment, raise_open_files};
use crate::live::Live;
use crate::options::{DEFAULT_TERMINALS, Rate, RecheckChoice, RunOptions};
use crate::outcome::{Load, Outcome, Own, Reconciled, Verdict};
use crate::pace::Pace;
use crate::preflight::{self, PreflightError};
use crate::probe::{self, ProbeError};
use crate::receipts::{Compared, Receipts, Sequence};
use crate::sequences::{Sequences, SequencesError};
use crate::tally::{Counts, Pieces, histogram};
use crate::terminals::{self, Terminal, TerminalsError};
use crate::thread::{self, Ended, Progress, Recheck, Report, ThreadError};
use crate::{hlog, report};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use wire::session::{Mode, Suite};

/// Why a run did not take place. All but the last are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address cannot be understood.
    #[error("{0} is no address: {1}")]
    Target(String, io::Error),
    /// No terminals.
    #[error(transparent)]
    Terminals(#[from] TerminalsError),
    /// The seller cannot be talked to.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The catalogue has nothing that was asked for.
    #[error("the seller's catalogue has nothing that --product and --face leave")]
    NothingToBuy,
    /// The machine does not allow it.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Sequences cannot be kept.
    #[error(transparent)]
    Sequences(#[from] SequencesError),
    /// The books cannot be read.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// A thread gave up.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// A result cannot be written.
    #[error("cannot write {0}: {1}")]
    Output(PathBuf, io::Error),
}

/// Conducts a run; says on `out` how it goes.
///
/// # Errors
/// [`RunError`] if it did not take place; whatever the network did wrong is in the outcome.
pub fn run(options: &RunOptions, out: &mut dyn Write) -> Result<Outcome, RunError> {
    run_and_say_when(options, out, &|| {})
}

/// Like [`run`]; calls `started` when everybody is connected and the sales begin.
///
/// # Errors
/// As [`run`].
pub fn run_and_say_when(
    options: &RunOptions,
    out: &mut dyn Write,
    started: &dyn Fn(),
) -> Result<Outcome, RunError> {
    let targets = options.target.split(',').map(str::trim).map(resolve).collect::<Result<Vec<_>, _>>()?;
    let terminals = read_terminals(options)?;
    let count = terminals.len();
    let open_files = raise_open_files(preflight::open_files_for(count));
    preflight::must_have(count, open_files)?;
    let suite = if options.chacha { Suite::ChaChaPoly } else { Suite::AesGcm };
    let mode = if options.clear { Mode::Clear } else { Mode::Sealed };
    let mut sellers = BTreeSet::new();
    let mut catalogue = Vec::new();
    for target in &targets {
        let seen = probe::look(*target, &terminals[0], suite, mode)?;
        sellers.insert(seen.seller.0);
        catalogue = seen.catalogue;
    }
    let wanted: Vec<(Variety, bool)> = catalogue
        .iter()
        .filter(|entry| options.product.is_none_or(|product| product == entry.product))
        .filter(|entry| options.face.is_none_or(|face| face == entry.face_value))
        .map(|entry| (Variety::of(entry), entry.available))
        .collect();
    if wanted.is_empty() {
        return Err(RunError::NothingToBuy);
    }
    let books = options.books.as_deref().map(Books::at);
    let before = books.as_ref().map(|books| books.settled(&sellers)).transpose()?;
    let now: Vec<Variety> = wanted.iter().map(|(variety, _)| *variety).collect();
    let sequences = Sequences::open(&options.state, &now)?;
    let threads = threads(options, count);
    let environment = Environment::observe(&options.state, open_files);
    let notes = preflight::notes(options, &targets, count, &wanted, before.as_ref(), environment.optimised);

    let mut live = Live::new(out, threads, options.duration, options.quiet);
    live.set_stock(before.as_ref().map(|books| preflight::unsold(books, &wanted)));
    for note in &notes {
        live.say(&format!("note: {note}"));
    }
    let names = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let plan = Arc::new(plan(options, targets, terminals, &now, suite, mode, sequences));
    let load = Load::of(options, names, count, threads, now.len());
    let played = play(&plan, options, threads, &mut live, started)?;
    live.say_for_now("comparing every PIN with every other");
    let mut gathered = gather(played, &plan, load, environment, notes, live.finish());
    let books = match (books, before) {
        (Some(books), Some(before)) => Some((books, before, sellers)),
        _ => None,
    };
    judge(&mut gathered, options, &plan, books);
    write_results(&gathered.outcome, options)?;
    Ok(gathered.outcome)
}

fn resolve(target: &str) -> Result<SocketAddr, RunError> {
    let failed = |error| RunError::Target(target.to_owned(), error);
    let mut found = target.to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn read_terminals(options: &RunOptions) -> Result<Vec<Terminal>, RunError> {
    let (mut path, mut count) = (DEFAULT_TERMINALS, None);
    for word in &options.terminals {
        match word.parse() {
            Ok(number) => count = Some(number),
            Err(_) => path = word,
        }
    }
    Ok(terminals::read(Path::new(path), count)?)
}

fn threads(options: &RunOptions, terminals: usize) -> usize {
    let half = std::thread::available_parallelism().map_or(1, usize::from) / 2;
    options.threads.unwrap_or(half).clamp(1, terminals.max(1))
}

fn plan(
    options: &RunOptions,
    targets: Vec<SocketAddr>,
    terminals: Vec<Terminal>,
    now: &[Variety],
    suite: Suite,
    mode: Mode,
    sequences: Sequences,
) -> Plan {
    let mut varieties = now.to_vec();
    let earlier = sequences.earlier_varieties().to_vec();
    let mut varieties_earlier = Vec::new();
    for variety in earlier {
        let at = varieties.iter().position(|known| *known == variety).unwrap_or_else(|| {
            varieties.push(variety);
            varieties.len() - 1
        });
        varieties_earlier.push(at as u16);
    }
    Plan {
        targets,
        terminals,
        varieties_now: now.len(),
        varieties,
        varieties_earlier,
        suite,
        mode,
        window: usize::from(options.window),
        pace: match options.rate {
            Rate::Max => Pace::Closed,
            Rate::PerSecond(rate) => Pace::Open { rate, poisson: options.poisson },
        },
        reply_timeout_ns: u64::try_from(options.reply_timeout.as_nanos()).unwrap_or(u64::MAX),
        sequences,
        origin: Instant::now(),
        signal: Signal::default(),
    }
}

/// What the threads brought back.
struct Played {
    ended: Vec<Ended>,
    missing: usize,
    selling_ns: u64,
}

fn play(
    plan: &Arc<Plan>,
    options: &RunOptions,
    threads: usize,
    live: &mut Live<'_>,
    started: &dyn Fn(),
) -> Result<Played, RunError> {
    let progress: Vec<Progress> = (0..threads).map(|_| Progress::default()).collect();
    let (sender, receiver) = channel();
    let terminals = plan.terminals.len();
    std::thread::scope(|scope| {
        for (index, progress) in progress.iter().enumerate() {
            let range = index * terminals / threads..(index + 1) * terminals / threads;
            let sender = sender.clone();
            let recheck = move || recheck(options, plan);
            scope.spawn(move || thread::run(plan, range, index, threads, &recheck, progress, &sender));
        }
        drop(sender);
        let mut conductor =
            Conductor { plan, progress: &progress, receiver, live, ended: Vec::new(), failed: None };
        let missing = conductor.conduct(options, started);
        let selling_ns = u64::try_from(options.duration.as_nanos()).unwrap_or(u64::MAX);
        match conductor.failed {
            Some(error) => Err(error.into()),
            None => Ok(Played { ended: conductor.ended, missing, selling_ns }),
        }
    })
}

/// How many sales all threads have, as the first of them sees it when the sales are over, decides.
fn recheck(options: &RunOptions, plan: &Plan) -> Recheck {
    match options.recheck {
        RecheckChoice::Window => Recheck::Window,
        RecheckChoice::None => Recheck::None,
        RecheckChoice::Auto if plan.signal.sold.load(Acquire) > RECHECK_ALL_MAX => Recheck::Window,
        RecheckChoice::All | RecheckChoice::Auto => Recheck::All,
    }
}

struct Conductor<'a, 'b> {
    plan: &'a Plan,
    progress: &'a [Progress],
    receiver: Receiver<Report>,
    live: &'a mut Live<'b>,
    ended: Vec<Ended>,
    failed: Option<ThreadError>,
}

impl Conductor<'_, '_> {
    /// Leads the threads through the steps of the run; returns how many terminals never came.
    fn conduct(&mut self, options: &RunOptions, started: &dyn Fn()) -> usize {
        let signal = &self.plan.signal;
        self.live.say_for_now("connecting");
        let missing = self.wait_for(Step::Connect, CONNECT_MAX);
        let origin_ns = |at: Instant| u64::try_from(at.duration_since(self.plan.origin).as_nanos());
        let start = Instant::now() + Duration::from_millis(50);
        let end = start + options.duration;
        signal.start_ns.store(origin_ns(start).unwrap_or(u64::MAX), Release);
        signal.end_ns.store(origin_ns(end).unwrap_or(u64::MAX), Release);
        signal.step.store(Step::Sell as u8, Release);
        started();
        while self.failed.is_none() && Instant::now() < end {
            self.listen((end - Instant::now()).min(TICK));
        }
        self.live.say_for_now("finishing what is open");
        signal.step.store(Step::Finish as u8, Release);
        self.wait_for(Step::Finish, FINISH_MAX.max(options.reply_timeout * 2));
        self.live.say_for_now("asking the seller what it sold");
        signal.step.store(Step::Recheck as u8, Release);
        self.wait_for(Step::Recheck, RECHECK_MAX);
        signal.step.store(Step::Leave as u8, Release);
        while self.ended.len() < self.progress.len() && self.failed.is_none() {
            self.listen(TICK);
        }
        missing
    }

    /// Waits until nothing is left in a step, but not longer than `most`; returns what is left.
    fn wait_for(&mut self, step: Step, most: Duration) -> usize {
        let until = Instant::now() + most;
        loop {
            let left: Option<usize> = self.progress.iter().map(|progress| progress.left(step)).sum();
            match left {
                Some(0) => return 0,
                left if Instant::now() > until || self.failed.is_some() => return left.unwrap_or(0),
                _ => self.listen(TICK / 4),
            }
        }
    }

    fn listen(&mut self, most: Duration) {
        match self.receiver.recv_timeout(most) {
            Ok(Report::Interval(interval)) => {
                self.plan.signal.sold.fetch_add(interval.counts.sold, Release);
                self.live.add(&interval);
            }
            Ok(Report::Ended(ended)) => match *ended {
                Ok(ended) => self.ended.push(ended),
                Err(error) => {
                    self.failed = Some(error);
                    // The others need not go on.
                    self.plan.signal.step.store(Step::Leave as u8, Release);
                }
            },
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// All threads' results.
struct Gathered {
    outcome: Outcome,
    received: Vec<Book>,
    /// Sequences whose outcome is not known, by seller.
    open: HashMap<u32, HashSet<Sequence>>,
    /// Terminals that never came.
    missing: usize,
}

fn gather(
    played: Played,
    plan: &Plan,
    load: Load,
    environment: Environment,
    notes: Vec<String>,
    intervals: Vec<crate::tally::Interval>,
) -> Gathered {
    let (mut latency, mut service, mut counts) = (histogram(), histogram(), Counts::default());
    for interval in &intervals {
        counts.merge(&interval.counts);
        let merged = latency.add(&interval.latency).and_then(|()| service.add(&interval.service));
        merged.expect("all histograms have the same bounds");
    }
    let (mut findings, mut pieces, mut lateness) = (Findings::default(), Pieces::default(), histogram());
    let (mut cpu_ns, mut busiest_ns, mut unsent, mut unresolved, mut unanswered) = (0, 0, 0, 0, 0);
    let (mut received, mut open) = (Vec::new(), HashMap::<u32, HashSet<Sequence>>::new());
    for ended in played.ended {
        findings.merge(&ended.findings);
        pieces.merge(&ended.pieces);
        lateness.add(&ended.lateness).expect("all histograms have the same bounds");
        cpu_ns += ended.cpu_ns;
        busiest_ns = ended.busy_ns.max(busiest_ns);
        unsent += ended.unsent;
        unresolved += ended.unresolved as u64;
        unanswered += ended.unanswered.saturating_sub(ended.unresolved) as u64;
        received.push(ended.book);
        for (seller, sequence) in ended.open {
            open.entry(seller).or_default().insert(sequence);
        }
    }
    let busiest = busiest_ns as f64 / played.selling_ns as f64;
    let at = |quantile| lateness.value_at_quantile(quantile) / 1000;
    let lateness_us = load.rate.map(|_| (at(0.5), at(0.99), lateness.max() / 1000));
    let late = lateness_us.is_some_and(|(_, p99, _)| p99 > LATE_US);
    let own = Own {
        cpu_s: cpu_ns as f64 / 1e9,
        busiest,
        lateness_us,
        unsent,
        is_bottleneck: busiest > BUSY,
        is_late: late,
    };
    check::check(&received, |terminal| plan.terminals[terminal as usize].id.0, &mut findings);
    let outcome = Outcome {
        environment,
        load,
        began: plan.origin + Duration::from_nanos(plan.signal.start_ns.load(Acquire)),
        reconciled: Reconciled { rechecked: counts.rechecked, ..Reconciled::default() },
        counts,
        sold_in_time: pieces.total(played.selling_ns),
        intervals,
        latency,
        service,
        longest_gap_ns: pieces.longest_gap_ns(played.selling_ns),
        own,
        unresolved,
        unanswered,
        findings,
        notes,
        verdict: Verdict::Violated,
    };
    Gathered { outcome, received, open, missing: played.missing }
}

fn judge(
    gathered: &mut Gathered,
    options: &RunOptions,
    plan: &Plan,
    books: Option<(Books, Standing, BTreeSet<u32>)>,
) {
    let Gathered { outcome, received, open, missing } = gathered;
    if let Some((books, before, mut sellers)) = books {
        // Terminals may have gone to others.
        sellers.extend(
            received.iter().flat_map(Book::sales).map(|sale| sale.seller).chain(open.keys().copied()),
        );
        let mut findings = Findings::default();
        let open = std::mem::take(open);
        match reconcile(&books, &before, &sellers, received, open, plan, options.shared, &mut findings) {
            Ok(compared) => {
                outcome.reconciled.books = Some(findings.is_empty());
                outcome.reconciled.compared = Some(compared);
            }
            Err(error) => outcome.reconciled.unread = Some(error.to_string()),
        }
        outcome.findings.merge(&findings);
    }
    outcome.verdict = outcome.judge(options, *missing);
}

/// Holds every receipt against the books of its seller, and every sale in them since before the run against the receipts.
#[expect(clippy::too_many_arguments, reason = "all that a run has brought")]
fn reconcile(
    books: &Books,
    before: &Standing,
    sellers: &BTreeSet<u32>,
    received: &[Book],
    mut open: HashMap<u32, HashSet<Sequence>>,
    plan: &Plan,
    shared: bool,
    findings: &mut Findings,
) -> Result<Compared, BooksError> {
    let after = books.settled(sellers)?;
    let (balanced, text) = books.audit()?;
    if !balanced {
        findings.add(Wrong::Books, || format!("the audit does not balance: {text}"));
    }
    let index = |variety: Variety| plan.varieties.iter().position(|known| *known == variety);
    let varieties = after.stock.values().filter_map(|shelf| Some((shelf.id, index(shelf.variety)? as u16)));
    let varieties: HashMap<u32, u16> = varieties.collect();
    let mut compared = Compared::default();
    for &seller in sellers {
        let since = before.positions.get(&seller).copied().unwrap_or(0);
        let open = open.remove(&seller).unwrap_or_default();
        let mut receipts = Receipts::new(seller, received, &plan.terminals, varieties.clone(), open);
        books.sequences(seller, since, &[], |fact| receipts.take(fact, findings))?;
        let owed = receipts.owed();
        if !owed.is_empty() {
            books.sequences(seller, 0, &owed, |fact| receipts.take_earlier(fact, findings))?;
        }
        compared.merge(receipts.finish(shared, findings));
    }
    Ok(compared)
}

fn write_results(outcome: &Outcome, options: &RunOptions) -> Result<(), RunError> {
    if let Some(path) = &options.hlog {
        let began = outcome.environment.began_unix_s;
        hlog::write(path, began, &outcome.intervals, outcome.load.rate.is_some())
            .map_err(|error| RunError::Output(path.clone(), error))?;
    }
    if let Some(path) = &options.report {
        std::fs::write(path, report::page(outcome)).map_err(|error| RunError::Output(path.clone(), error))?;
    }
    Ok(())
}

const TICK: Duration = Duration::from_millis(40);
const CONNECT_MAX: Duration = Duration::from_secs(60);
const FINISH_MAX: Duration = Duration::from_secs(20);
const RECHECK_MAX: Duration = Duration::from_secs(60);
/// Above so many sales, asking for each takes longer than most runs.
const RECHECK_ALL_MAX: u64 = 1_000_000;
/// A thread that waits for less than this part of the time is at its limit.
const BUSY: f64 = 0.95;
/// Vends that leave so much later than they could are late because of us, in microseconds.
const LATE_US: u64 = 1000;
