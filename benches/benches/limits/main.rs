//! What this machine can do at most under Pinwheel's load, and how far Pinwheel is from it: all in one run, side by side.
//!
//! `cargo bench -p benches --bench limits [-- --seconds N] [--loads 50,1000,50x64,paced] [--subjects durable,clear]
//! [--stock PINS]`. A load is a number of connections, with `x` and the window if it is not 1. The server has core 0, the
//! client core 1. Subjects: a bare mio echo with 64-byte questions and 96-byte answers; the same with a group commit
//! before each answer (the durable echo); Redis `LPOP` with `appendfsync always` and `everysec`, where Redis is
//! installed; Pinwheel in clear and sealed. `CPU` is processor seconds of the server per million answers.

mod client;
mod echo;
mod floor;
mod idle;
mod pinwheel;
mod process;
mod redis;
mod restart;
mod till;

use client::Measured;
use process::{Child, Result, pin};
use std::path::PathBuf;
use std::time::Duration;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // The servers are this program again.
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [pinwheel::NAME, ..] => {
            let code = engine::cli::main();
            // An exit code cannot be turned into an error.
            std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
        }
        [_, "serve-echo"] => return echo::serve(),
        [_, "serve-durable", folder] => return echo::serve_durable(folder),
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
        settle();
        subjects.bear(*load, options.time)?;
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
        let (mut time, mut stock) = (Duration::from_secs(4), None);
        let mut restart_pins = RESTART_PINS;
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--seconds" => time = Duration::from_secs_f64(value()?.parse()?),
                "--loads" => loads = value()?,
                "--subjects" => subjects = value()?,
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
        let stock = stock.unwrap_or((time.as_secs_f64() * wanted) as u32);
        Ok(Self { time, loads, subjects, stock, restart_pins })
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
            Self::Closed { window: 1, .. } => 0.6e6,
            Self::Closed { .. } => 6e6,
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
        let mut sold = vec![("Pinwheel, clear", true), ("Pinwheel, sealed", false)];
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

    fn bear(&mut self, load: Load, time: Duration) -> Result<()> {
        match load {
            Load::Closed { connections, window } => self.measure(connections, window, time),
            Load::Paced => self.measure_paced(time),
            Load::Idle => idle::measure(&self.folder.join("idle")),
            Load::Cold => self.stocked()?.as_ref().map_or(Ok(()), restart::Stocked::start_cold),
            Load::Recovery => self.stocked()?.take().map_or(Ok(()), restart::Stocked::recover),
        }
    }

    /// One load on all subjects, and the ratios.
    fn measure(&self, connections: usize, window: usize, time: Duration) -> Result<()> {
        println!("-- {connections} connections, window {window}");
        let (mut durable, mut always) = (None, None);
        for (name, shape, child) in &self.bare {
            let measured = client::run(child, *shape, connections, window, time)?;
            measured.print(name, durable.as_ref(), always.as_ref());
            match *name {
                DURABLE => durable = Some(measured),
                ALWAYS => always = Some(measured),
                _ => {}
            }
        }
        let mut clear: Option<f64> = None;
        for (name, is_clear) in &self.sold {
            let Some(pinwheel) = &self.pinwheel else { continue };
            let sold = pinwheel.sell(connections, window, None, *is_clear, time)?;
            sold.print(name, durable.as_ref(), always.as_ref());
            if let Some(clear) = clear {
                println!("{:>56} sealed / clear: {:.2}", "", sold.rate() / clear);
            }
            clear = is_clear.then_some(sold.rate());
        }
        Ok(())
    }

    /// A thousand sales a second, against the durable echo at one connection.
    fn measure_paced(&self, time: Duration) -> Result<()> {
        println!(
            "-- 1,000 a second on {PACED_CONNECTIONS} connections (open loop); durable echo: one connection, window 1 \
             (closed loop)"
        );
        let durable = self.bare.iter().find(|(name, ..)| *name == DURABLE);
        let durable = durable.map(|(_, shape, child)| client::run(child, *shape, 1, 1, time)).transpose()?;
        if let Some(durable) = &durable {
            durable.print(DURABLE, None, None);
        }
        for (name, is_clear) in &self.sold {
            let Some(pinwheel) = &self.pinwheel else { continue };
            let sold = pinwheel.sell(PACED_CONNECTIONS, 1, Some(1000.0), *is_clear, time)?;
            sold.print(name, None, None);
            if let Some(durable) = &durable {
                let ratio = |quantile| sold.at_us(quantile) / durable.at_us(quantile);
                println!("{:>56} times durable: p50 {:.2}, p99.9 {:.2}", "", ratio(0.5), ratio(0.999));
            }
        }
        Ok(())
    }
}

impl Measured {
    fn print(&self, name: &str, durable: Option<&Self>, redis: Option<&Self>) {
        let ratio =
            |to: Option<&Self>| to.map_or_else(String::new, |to| format!("{:.2}", self.rate() / to.rate()));
        println!(
            "{name:<22}{:>12.0}{:>10.0}{:>10.0}{:>10.0}{:>8.2}{:>10}{:>10}  {}",
            self.rate(),
            self.at_us(0.5),
            self.at_us(0.99),
            self.at_us(0.999),
            self.server_cpu_s_per_million(),
            ratio(durable),
            ratio(redis),
            self.remark(),
        );
    }
}

const HEAD: &str =
    "subject                  answers/s    p50 µs    p99 µs  p99.9 µs     CPU /durable  / always";
const SERVER_CORE: u32 = 0;
const CLIENT_CORE: u32 = 1;
const LOADS: &str = "50,1000,4000,9000,50x64,paced,idle,cold,recovery";
const RESTART_PINS: u32 = 10_000_000;
const PACED_CONNECTIONS: usize = 50;
const ECHO: &str = "echo";
const DURABLE: &str = "durable echo";
const ALWAYS: &str = "Redis always";
