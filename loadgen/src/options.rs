//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// The load generator: terminals by the thousand on the real protocol, and a check of every PIN they get.
///
/// Exit codes: 0 the run is valid; 1 the network broke its promise (a PIN sold twice, lost, swapped or not in the books);
/// 2 wrong usage, or the run could not begin; 3 the run is invalid and its figures mean nothing (the output says why).
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a running network and check what it sells.
    #[command(after_help = EXIT_CODES)]
    Run(Box<RunOptions>),
    /// See the promise kept: start a network, sell to a thousand terminals, kill its hub, servers and managers with SIGKILL, one every
    /// two seconds or all at once, and count what was sold twice and what was lost.
    #[command(after_help = EXIT_CODES)]
    Demo(DemoOptions),
}

/// A demonstration.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// How long to sell: 500ms, 10s, 2m, 1h.
    #[arg(long, value_name = "D", default_value = "20s", value_parser = duration)]
    pub duration: Duration,
    /// Terminals.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub terminals: u32,
    /// Sales a second.
    #[arg(long, value_name = "R", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// A new folder for the network's data and the report [default: pinwheel-demo- and the time].
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// A run.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Where the seller listens, such as 127.0.0.1:7400; of several, with commas between them, terminals begin at each in turn. When
    /// theirs fails they go to others that it named.
    #[arg(long, value_name = "ADDR,…")]
    pub target: String,
    /// The terminals to play: a file as `pinwheel terminal add --out` writes it, a number for the first so many, or both.
    #[arg(long, value_name = "FILE|N", num_args = 1..=2, default_value = DEFAULT_TERMINALS)]
    pub terminals: Vec<String>,
    /// Sales in flight per terminal, 1 to 64. Above 16 a terminal could not bring all of them to its login; loadgen
    /// repeats each instead.
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub window: u16,
    /// Vends a second over all terminals whatever the seller does (open loop), or `max`: each as soon as its window has
    /// room (closed loop).
    #[arg(long, value_name = "R|max", default_value = "max", value_parser = rate)]
    pub rate: Rate,
    /// How long to sell: 500ms, 10s, 2m, 1h.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Random gaps with an exponential distribution instead of equal ones (open loop).
    #[arg(long)]
    pub poisson: bool,
    /// Threads; without it half of the processors.
    #[arg(long, value_name = "T")]
    pub threads: Option<usize>,
    /// Ask for this product only; without it for everything in the catalogue in turn.
    #[arg(long, value_name = "N")]
    pub product: Option<u32>,
    /// Ask for this face value only, in minor units.
    #[arg(long, value_name = "MINOR")]
    pub face: Option<u64>,
    /// Sessions without encryption, where the listener allows them.
    #[arg(long)]
    pub clear: bool,
    /// ChaCha20-Poly1305 instead of AES-256-GCM.
    #[arg(long)]
    pub chacha: bool,
    /// A vend without an answer for so long is repeated on a new connection.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration)]
    pub reply_timeout: Duration,
    /// After the run ask the seller what it sold: every sale, each terminal's last 64, nothing, or every one up to a
    /// million sales and the last 64 above.
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub recheck: RecheckChoice,
    /// The network's data directory, or its socket: compare the books with what terminals received.
    #[arg(long, value_name = "DIR|SOCKET")]
    pub books: Option<PathBuf>,
    /// Others buy from the same network meanwhile: the books may hold more sales than these terminals'.
    #[arg(long)]
    pub shared: bool,
    /// The run is meant to sell everything: running out of stock does not make it invalid.
    #[arg(long)]
    pub until_empty: bool,
    /// Where the terminals keep their sequences from run to run.
    #[arg(long, value_name = "DIR", default_value = "loadgen-state")]
    pub state: PathBuf,
    /// The result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
    /// Latencies second by second, as an HdrHistogram log in nanoseconds.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// The result as one self-contained page.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Nothing while it runs.
    #[arg(long)]
    pub quiet: bool,
}

/// How fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    /// As fast as the seller answers.
    Max,
    /// Vends a second.
    PerSecond(f64),
}

/// What to ask the seller after the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum RecheckChoice {
    /// Every sale up to a million, else the window.
    Auto,
    /// Every sale.
    All,
    /// Each terminal's last 64.
    Window,
    /// Nothing.
    None,
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    match text.replace([',', '_'], "").parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(Rate::PerSecond(rate)),
        _ => Err("neither `max` nor a number of vends a second".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|at: char| !(at.is_ascii_digit() || at == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_s = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("units are ms, s, m and h".to_owned()),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit_s);
    let valid = seconds.filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST_S);
    valid.map(Duration::from_secs_f64).ok_or_else(|| "not a time such as 10s, up to a week".to_owned())
}

/// Where `pinwheel up` writes the sample terminals.
pub const DEFAULT_TERMINALS: &str = "pinwheel-data/terminals.csv";
const LONGEST_S: f64 = 7.0 * 24.0 * 3600.0;
const EXIT_CODES: &str = "Exit codes:
  0  the run is valid
  1  the network broke its promise: a PIN sold twice, lost, swapped, or books that do not balance
  2  wrong usage, or the run could not begin
  3  the run is invalid, its figures mean nothing: the output says why";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert!(duration("10x").is_err() && duration("0s").is_err() && duration("").is_err());
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("10,000"), Ok(Rate::PerSecond(10_000.0)));
        assert!(rate("0").is_err() && rate("fast").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
    }
}
