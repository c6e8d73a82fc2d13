//! What this machine can do at most under Pinwheel's load, and how far Pinwheel is from it: all in one run, side by side.
//!
//! `cargo bench -p benches --bench limits [-- --seconds N] [--rounds N] [--loads 50,1000,50x64,paced,idle,cold,recovery]
//! [--subjects durable,clear] [--stock PINS] [--restart-pins PINS]`. A load is a number of connections, with `x` and the
//! window if it is not 1. The server has core 0, the client core 1. Subjects: a bare mio echo with 64-byte questions and
//! 96-byte answers; the same with a group commit before each answer (the durable echo); Redis `LPOP` with `appendfsync
//! always` and `everysec`, where Redis is installed; Pinwheel in clear and sealed. `CPU` is processor seconds of the
//! server per million answers. `idle`, `cold` and `recovery` compare nothing: they print a figure beside its floor.

mod idle;
mod pinwheel;
mod redis;
mod restart;

use benches::client::{self, Measured};
use benches::process::{CLIENT_CORE, Child, Result, pin};
use std::path::PathBuf;
use std::time::Duration;

fn main() -> Result<()> {
    // The servers are this program again.
    benches::network::become_pinwheel();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "serve-echo"] => return benches::echo::serve(),
        [_, "serve-durable", folder] => return benches::echo::serve_durable(folder),
        _ => {}
    }
    let options = Options::parse(&arguments)?;
    if std::thread::available_parallelism()?.get() < 2 {
        println!("this machine has one core: client and servers share it, and the ratios mean little");
    }
    pin(std::process::id(), &CLIENT_CORE.to_string());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut subjects = Subjects::start(&options, folder.path())?;
    if options.loads.iter().any(Load::is_of_sales) {
        println!("{HEAD}");
    }
    for load in &options.loads {
        subjects.bear(*load, &options)?;
    }
    Ok(())
}

/// Waits until nothing that was written before is on its way to the disk any more.
fn settle() {
    // Without it the figures hold as well, only less steadily.
    let _ = std::process::Command::new("sync").status();
}

struct Options {
    time: Duration,
    rounds: u32,
    loads: Vec<Load>,
    /// Those whose names contain one of these; empty: all.
    subjects: Vec<String>,
    stock: u32,
    restart_pins: u32,
}

/// What a subject has to bear.
#[derive(Clone, Copy)]
enum Load {
    /// A closed loop: each of so many connections has so many questions under way.
    Closed { connections: usize, window: usize },
    /// A thousand sales a second.
    Paced,
    /// Terminals that are logged in and silent.
    Idle,
    /// The first sale after a start with a large stock.
    Cold,
    /// The first sale after a start with a long journal.
    Recovery,
}

impl std::str::FromStr for Load {
    type Err = Box<dyn std::error::Error>;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "paced" => return Ok(Self::Paced),
            "idle" => return Ok(Self::Idle),
            "cold" => return Ok(Self::Cold),
            "recovery" => return Ok(Self::Recovery),
            _ => {}
        }
        let (connections, window) = text.split_once('x').unwrap_or((text, "1"));
        Ok(Self::Closed { connections: connections.parse()?, window: window.parse()? })
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let (mut loads, mut subjects) = (LOADS.to_owned(), String::new());
        let (mut time, mut stock) = (Duration::from_secs(2), None);
        let mut rounds = 3;
        let mut restart_pins = RESTART_PINS;
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--seconds" => time = Duration::from_secs_f64(value()?.parse()?),
                "--loads" => loads = value()?,
                "--subjects" => subjects = value()?,
                "--rounds" => rounds = value()?.parse()?,
                "--stock" => stock = Some(value()?.parse()?),
                "--restart-pins" => restart_pins = value()?.parse()?,
                // Cargo says so of itself.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        let loads = loads.split(',').map(str::parse).collect::<Result<Vec<Load>>>()?;
        let subjects = subjects.split(',').filter(|name| !name.is_empty()).map(str::to_lowercase).collect();
        let wanted: f64 = loads.iter().map(Load::pins_per_second).sum();
        let stock = stock.unwrap_or((f64::from(rounds) * time.as_secs_f64() * wanted) as u32);
        Ok(Self { time, rounds, loads, subjects, stock, restart_pins })
    }

    fn wants(&self, subject: &str) -> bool {
        let subject = subject.to_lowercase();
        self.subjects.is_empty() || self.subjects.iter().any(|name| subject.contains(name))
    }

    fn connections_max(&self) -> usize {
        let closed = |load: &Load| match load {
            Load::Closed { connections, .. } => *connections,
            _ => PACED_CONNECTIONS,
        };
        self.loads.iter().map(closed).max().unwrap_or(PACED_CONNECTIONS)
    }
}

impl Load {
    /// Whether the subjects are compared under it.
    fn is_of_sales(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Paced)
    }

    /// The most that clear and sealed together may sell.
    fn pins_per_second(&self) -> f64 {
        match self {
            Self::Closed { window: 1, .. } => 0.4e6,
            Self::Closed { .. } => 3e6,
            Self::Paced => 2e3,
            Self::Idle | Self::Cold | Self::Recovery => 0.0,
        }
    }
}

struct Subjects {
    bare: Vec<(&'static str, client::Shape, Child)>,
    pinwheel: Option<pinwheel::Pinwheel>,
    sold: Vec<(&'static str, bool)>,
    folder: PathBuf,
    stocked: Option<restart::Stocked>,
    restart_pins: u32,
}

impl Subjects {
    fn start(options: &Options, folder: &std::path::Path) -> Result<Self> {
        let mut subjects = Self {
            bare: Vec::new(),
            pinwheel: None,
            sold: Vec::new(),
            folder: folder.to_owned(),
            stocked: None,
            restart_pins: options.restart_pins,
        };
        if !options.loads.iter().any(Load::is_of_sales) {
            return Ok(subjects);
        }
        let bare = &mut subjects.bare;
        if options.wants(ECHO) {
            bare.push((ECHO, client::ECHO, Child::this("echo", &["serve-echo"])?));
        }
        if options.wants(DURABLE) {
            let child = Child::this("durable", &["serve-durable", &folder.display().to_string()])?;
            bare.push((DURABLE, client::ECHO, child));
        }
        for (name, policy) in [(ALWAYS, "always"), ("Redis everysec", "everysec")] {
            if options.wants(name)
                && let Some(child) = redis::start(folder, policy)?
            {
                bare.push((name, client::REDIS, child));
            }
        }
        let mut sold = vec![(CLEAR, true), (SEALED, false)];
        sold.retain(|(name, _)| options.wants(name));
        if !sold.is_empty() {
            println!("minting {} PINs for Pinwheel to sell …", options.stock);
            let folder = folder.join("network");
            subjects.pinwheel =
                Some(pinwheel::Pinwheel::start(&folder, options.connections_max(), options.stock)?);
        }
        subjects.sold = sold;
        Ok(subjects)
    }

    /// A network with millions of PINs that does not run; made when it is first wanted.
    fn stocked(&mut self) -> Result<&mut Option<restart::Stocked>> {
        if self.stocked.is_none() {
            let folder = tempfile::tempdir_in(&self.folder)?.keep();
            self.stocked = Some(restart::Stocked::prepare(&folder, self.restart_pins)?);
        }
        Ok(&mut self.stocked)
    }

    fn bear(&mut self, load: Load, options: &Options) -> Result<()> {
        match load {
            Load::Closed { connections, window } => self.measure(connections, window, options),
            Load::Paced => self.measure_paced(options),
            Load::Idle => idle::measure(&self.folder.join("idle")),
            Load::Cold => self.stocked()?.as_ref().map_or(Ok(()), restart::Stocked::start_cold),
            Load::Recovery => self.stocked()?.take().map_or(Ok(()), restart::Stocked::recover),
        }
    }

    /// One load on all subjects in turn, round after round, and the ratios.
    fn measure(&self, connections: usize, window: usize, options: &Options) -> Result<()> {
        println!("-- {connections} connections, window {window}");
        let time = options.time;
        let mut rounds = Rounds::default();
        for _ in 0..options.rounds {
            settle();
            for (name, shape, child) in &self.bare {
                rounds.add(name, client::run(child, *shape, connections, window, time)?);
            }
            for (name, is_clear) in &self.sold {
                let Some(pinwheel) = &self.pinwheel else { continue };
                rounds.add(name, pinwheel.sell(connections, window, None, *is_clear, time)?);
            }
        }
        rounds.print();
        let sealed_to_clear = rounds.ratio(SEALED, CLEAR, Measured::rate);
        if let Some(ratio) = sealed_to_clear {
            println!("{:>56} sealed / clear: {ratio:.2}", "");
        }
        Ok(())
    }

    /// A thousand sales a second, against the durable echo at one connection, whose processors never rest, and against
    /// the durable echo at the same pace, whose processors rest as Pinwheel's do.
    fn measure_paced(&self, options: &Options) -> Result<()> {
        println!(
            "-- {PACE} a second on {PACED_CONNECTIONS} connections (open loop); durable echo: one connection, window 1 \
             (closed loop), and paced as Pinwheel is"
        );
        let time = options.time;
        let mut rounds = Rounds::default();
        for _ in 0..options.rounds {
            settle();
            for (name, shape, child) in self.bare.iter().filter(|(name, ..)| *name == DURABLE) {
                rounds.add(name, client::run(child, *shape, 1, 1, time)?);
                rounds.add(DURABLE_PACED, benches::paced::run(child, *shape, PACED_CONNECTIONS, PACE, time)?);
            }
            for (name, is_clear) in &self.sold {
                let Some(pinwheel) = &self.pinwheel else { continue };
                rounds.add(name, pinwheel.sell(PACED_CONNECTIONS, 1, Some(PACE.into()), *is_clear, time)?);
            }
        }
        rounds.print();
        for (name, _) in &self.sold {
            for to in [DURABLE, DURABLE_PACED] {
                let ratio = |quantile| rounds.ratio(name, to, move |measured| measured.at_us(quantile));
                if let (Some(p50), Some(p999)) = (ratio(0.5), ratio(0.999)) {
                    println!("{name:>38}, times {to}: p50 {p50:.2}, p99.9 {p999:.2}");
                }
            }
        }
        Ok(())
    }
}

/// What was measured of each subject, round after round: subjects of one round are compared with each other, because a
/// shared machine is another one a minute later, and the median round counts.
#[derive(Default)]
struct Rounds(Vec<(String, Vec<Measured>)>);

impl Rounds {
    fn add(&mut self, name: &str, measured: Measured) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, rounds)) => rounds.push(measured),
            None => self.0.push((name.to_owned(), vec![measured])),
        }
    }

    fn of(&self, name: &str) -> Option<&[Measured]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, rounds)| &rounds[..])
    }

    /// How one subject's figure compares with another's.
    fn ratio(&self, name: &str, to: &str, figure: impl Fn(&Measured) -> f64) -> Option<f64> {
        let (ours, theirs) = (self.of(name)?, self.of(to)?);
        median(ours.iter().zip(theirs).map(|(ours, theirs)| figure(ours) / figure(theirs)).collect())
    }

    fn print(&self) {
        for (name, rounds) in &self.0 {
            let figure = |figure: &dyn Fn(&Measured) -> f64| {
                median(rounds.iter().map(figure).collect()).unwrap_or_default()
            };
            let ratio = |to: &str, figure: fn(&Measured) -> f64| {
                self.ratio(name, to, figure).map_or_else(String::new, |ratio| format!("{ratio:.2}"))
            };
            let remarks: std::collections::BTreeSet<String> = rounds.iter().map(Measured::remark).collect();
            println!(
                "{name:<18}{:>11.0}{:>9.0}{:>9.0}{:>10.0}{:>8.2}{:>10}{:>9}{:>10}  {}",
                figure(&Measured::rate),
                figure(&|measured| measured.at_us(0.5)),
                figure(&|measured| measured.at_us(0.99)),
                figure(&|measured| measured.at_us(0.999)),
                figure(&Measured::server_cpu_s_per_million),
                ratio(DURABLE, Measured::rate),
                ratio(ALWAYS, Measured::rate),
                ratio(DURABLE, Measured::server_cpu_s_per_million),
                remarks.into_iter().filter(|remark| !remark.is_empty()).collect::<Vec<_>>().join("; "),
            );
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

const HEAD: &str =
    "subject             answers/s   p50 µs   p99 µs  p99.9 µs     CPU  /durable  /always  CPU/dur.";
const LOADS: &str = "50,1000,4000,9000,50x64,paced,idle,cold,recovery";
const RESTART_PINS: u32 = 10_000_000;
const PACED_CONNECTIONS: usize = 50;
/// Questions a second.
const PACE: u32 = 1000;
const ECHO: &str = "echo";
const DURABLE: &str = "durable echo";
const DURABLE_PACED: &str = "durable, paced";
const ALWAYS: &str = "Redis always";
const CLEAR: &str = "Pinwheel, clear";
const SEALED: &str = "Pinwheel, sealed";
