//! What a hub and its servers can do with stock, each figure beside its floor: nodes in processes of their own, TCP links
//! over loopback, everything durable in a temporary directory on the disk that this was built on.
//!
//! `cargo bench -p benches --bench stock [-- --rows move,paced,intake,requests,shipping] [--pins N] [--known N]
//! [--rounds N] [--bulk-mib-per-s N]`. `--pins` is what moves in one round, `--known` what the hub has seen before the
//! row `intake`, and the pace is the hub's for bulk
//! in the row `paced`, 0: none; in the others it has none. Rows:
//!
//! - `move`: stock in bulk from the hub to a server, from the moment at which the hub hears the request to the last IN
//!   durable at the server; beside it what the disk takes in of files of the same sizes.
//! - `paced`: the same while the server sells at half its peak: what that does to the slowest sales, and to the move.
//! - `intake`: a supplier's file, parsed, compared with what was ever seen, sealed, durable.
//! - `requests`: small requests of several nodes, each with its OUT durable at the hub.
//! - `shipping`: a journal on its way to the hub's archive, beside what a server at its peak writes of it.

mod bulk;
mod disk;
mod intake;
mod paced;
mod requests;
mod shipping;
mod site;

use benches::process::Result;
use std::path::Path;

fn main() -> Result<()> {
    // The nodes are this program again.
    benches::network::become_pinwheel();
    let options = Options::parse(std::env::args().skip(1))?;
    for row in &options.rows {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        settle();
        row.measure(folder.path(), &options)?;
    }
    Ok(())
}

/// Waits until nothing that was written before is on its way to the disk any more.
fn settle() {
    // Without it the figures hold as well, only less steadily.
    let _ = std::process::Command::new("sync").status();
}

/// How much is measured.
struct Options {
    rows: Vec<Row>,
    /// PINs that move in one round.
    pins: u32,
    /// PINs that the hub has seen before an intake.
    known: u32,
    rounds: usize,
    /// The hub's pace for bulk in the row `paced`, in MiB/s; 0: none; `None`: what hubs have by default.
    bulk_mib_per_s: Option<u32>,
}

#[derive(Clone, Copy)]
enum Row {
    Move,
    Paced,
    Intake,
    Requests,
    Shipping,
}

impl Row {
    fn measure(self, folder: &Path, options: &Options) -> Result<()> {
        match self {
            Self::Move => bulk::measure(folder, options),
            Self::Paced => paced::measure(folder, options),
            Self::Intake => intake::measure(folder, options),
            Self::Requests => requests::measure(folder, options),
            Self::Shipping => shipping::measure(folder, options),
        }
    }
}

impl std::str::FromStr for Row {
    type Err = Box<dyn std::error::Error>;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "move" => Ok(Self::Move),
            "paced" => Ok(Self::Paced),
            "intake" => Ok(Self::Intake),
            "requests" => Ok(Self::Requests),
            "shipping" => Ok(Self::Shipping),
            other => Err(format!("there is no row {other}; there are {ROWS}").into()),
        }
    }
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut rows = ROWS.to_owned();
        let mut options =
            Self { rows: Vec::new(), pins: PINS, known: KNOWN, rounds: ROUNDS, bulk_mib_per_s: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--rows" => rows = value()?,
                "--pins" => options.pins = value()?.parse()?,
                "--known" => options.known = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--bulk-mib-per-s" => options.bulk_mib_per_s = Some(value()?.parse()?),
                // Cargo says so of itself.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        options.rows = rows.split(',').map(str::parse).collect::<Result<_>>()?;
        if options.pins == 0 || options.rounds == 0 {
            return Err("nothing would be measured".into());
        }
        Ok(options)
    }
}

/// The middle one of what the rounds came to.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Every round's figure, so that the spread can be seen.
fn print_rounds(what: &str, unit: &str, values: &[f64]) {
    let values: Vec<_> = values.iter().map(|value| format!("{value:.2}")).collect();
    println!("  {what}, by round: {} {unit}", values.join(", "));
}

const ROWS: &str = "move,paced,intake,requests,shipping";
const PINS: u32 = 3_000_000;
const KNOWN: u32 = 10_000_000;
const ROUNDS: usize = 3;
