//! What this machine can do at most under Pinwheel's load, and how far Pinwheel is from it: all in one run, side by side.
//!
//! `cargo bench -p benches --bench limits [-- --seconds N] [--connections 50,1000] [--stock PINS]`. The server has core 0,
//! the client core 1. Subjects: a bare mio echo with 64-byte questions and 96-byte answers; the same with a group commit
//! before each answer (the durable echo); Redis `LPOP` with `appendfsync always` and `everysec`, where Redis is
//! installed; Pinwheel in clear and sealed. `CPU` is processor seconds of the server per million answers.

mod client;
mod echo;
mod pinwheel;
mod process;
mod redis;

use client::Measured;
use process::{Child, Result, pin};
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
    pin(std::process::id(), CLIENT_CORE);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut subjects = Subjects::start(&options, folder.path())?;
    println!("{HEAD}");
    for (connections, window) in options.loads() {
        subjects.measure(connections, window, options.time)?;
    }
    subjects.measure_paced(options.time)?;
    Ok(())
}

struct Options {
    time: Duration,
    connections: Vec<usize>,
    stock: u32,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options =
            Self { time: Duration::from_secs(4), connections: vec![50, 1000, 4000, 9000], stock: 0 };
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--seconds" => options.time = Duration::from_secs_f64(value()?.parse()?),
                "--connections" => {
                    options.connections =
                        value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
                }
                "--stock" => options.stock = value()?.parse()?,
                // Cargo says so of itself.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        if options.stock == 0 {
            options.stock = (options.time.as_secs_f64() * PINS_PER_SECOND) as u32;
        }
        Ok(options)
    }

    /// Connections and window of each load.
    fn loads(&self) -> Vec<(usize, usize)> {
        self.connections.iter().map(|connections| (*connections, 1)).chain([(50, 64)]).collect()
    }
}

struct Subjects {
    echo: Child,
    durable: Child,
    redis: Vec<(&'static str, Child)>,
    pinwheel: pinwheel::Pinwheel,
}

impl Subjects {
    fn start(options: &Options, folder: &std::path::Path) -> Result<Self> {
        let echo = Child::this("echo", &["serve-echo"])?;
        let durable = Child::this("durable", &["serve-durable", &folder.display().to_string()])?;
        let redis = redis::start(folder)?;
        let terminals = options.connections.iter().copied().max().unwrap_or(50).max(50);
        println!("minting {} PINs for Pinwheel to sell …", options.stock);
        let pinwheel = pinwheel::Pinwheel::start(&folder.join("network"), terminals, options.stock)?;
        Ok(Self { echo, durable, redis, pinwheel })
    }

    /// One load on all subjects, and the ratios.
    fn measure(&mut self, connections: usize, window: usize, time: Duration) -> Result<()> {
        println!("-- {connections} connections, window {window}");
        let bare = |child: &Child, shape| client::run(child, shape, connections, window, time);
        let echo = bare(&self.echo, client::ECHO)?;
        echo.print("echo", None, None);
        let durable = bare(&self.durable, client::ECHO)?;
        durable.print("durable echo", Some(&durable), None);
        let mut always = None;
        for (name, child) in &self.redis {
            let redis = bare(child, client::REDIS)?;
            redis.print(name, Some(&durable), None);
            always = always.or(Some(redis));
        }
        for is_clear in [true, false] {
            let name = if is_clear { "Pinwheel, clear" } else { "Pinwheel, sealed" };
            let sold = self.pinwheel.sell(connections, window, None, is_clear, time)?;
            sold.print(name, Some(&durable), always.as_ref());
        }
        Ok(())
    }

    /// A thousand sales a second, against the durable echo at one connection.
    fn measure_paced(&mut self, time: Duration) -> Result<()> {
        println!(
            "-- 1,000 a second on 50 connections (open loop); durable echo: one connection, window 1 (closed loop)"
        );
        let durable = client::run(&self.durable, client::ECHO, 1, 1, time)?;
        durable.print("durable echo", None, None);
        for is_clear in [true, false] {
            let name = if is_clear { "Pinwheel, clear" } else { "Pinwheel, sealed" };
            let sold = self.pinwheel.sell(50, 1, Some(1000.0), is_clear, time)?;
            sold.print(name, None, None);
            let ratio = |quantile| sold.at_us(quantile) / durable.at_us(quantile);
            println!("{:>56} times durable: p50 {:.2}, p99.9 {:.2}", "", ratio(0.5), ratio(0.999));
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
/// Stock for each second of measuring a load: clear and sealed, all loads together.
const PINS_PER_SECOND: f64 = 5e6;
