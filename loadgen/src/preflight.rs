//! What will limit a run, said before it starts.

use crate::books::Standing;
use crate::catalogue::Variety;
use crate::environment::{disk_free, local_ports, memory_available};
use crate::options::{Rate, RunOptions};
use std::net::SocketAddr;

/// Why a run cannot begin. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// More connections than open files.
    #[error(
        "{terminals} terminals need {wanted} open files, {allowed} are allowed: raise the hard limit (ulimit -Hn)"
    )]
    OpenFiles {
        /// Terminals of the run.
        terminals: usize,
        /// Files they need.
        wanted: u64,
        /// Files they may have.
        allowed: u64,
    },
    /// More connections than ports to one address.
    #[error(
        "{terminals} connections to one address need as many ports, the system has {ports}: see ip_local_port_range"
    )]
    Ports {
        /// Terminals of the run.
        terminals: usize,
        /// Ports there are.
        ports: u64,
    },
}

/// Looks at files and ports, which a run cannot do without.
///
/// # Errors
/// [`PreflightError`].
pub(crate) fn must_have(terminals: usize, open_files: u64) -> Result<(), PreflightError> {
    let wanted = open_files_for(terminals);
    if open_files < wanted {
        return Err(PreflightError::OpenFiles { terminals, wanted, allowed: open_files });
    }
    let ports = local_ports();
    if terminals as u64 > ports {
        return Err(PreflightError::Ports { terminals, ports });
    }
    Ok(())
}

/// Open files that a run with so many terminals needs.
pub(crate) fn open_files_for(terminals: usize) -> u64 {
    terminals as u64 + 64
}

/// What may end or spoil the run, in words.
pub(crate) fn notes(
    options: &RunOptions,
    targets: &[SocketAddr],
    terminals: usize,
    varieties: &[(Variety, bool)],
    books: Option<&Standing>,
    optimised: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    let empty: Vec<String> = varieties
        .iter()
        .filter(|(_, available)| !available)
        .map(|(variety, _)| variety.to_string())
        .collect();
    if !empty.is_empty() {
        notes.push(format!("the seller has no stock now of {}", empty.join(", ")));
    }
    if let Some(unsold) = books.map(|books| unsold(books, varieties)) {
        notes.push(match options.rate {
            Rate::PerSecond(rate) => {
                let lasts_s = unsold as f64 / rate;
                let short =
                    if lasts_s < options.duration.as_secs_f64() { ": the run will run dry" } else { "" };
                format!("{unsold} PINs in stock last {lasts_s:.0} s{short}")
            }
            Rate::Max => {
                let enough = unsold as f64 / options.duration.as_secs_f64();
                format!("{unsold} PINs in stock are enough up to {enough:.0} sales/s")
            }
        });
    } else {
        notes.push("how long the stock lasts is not known (--books says)".to_owned());
    }
    if let Rate::PerSecond(rate) = options.rate {
        let each = rate / terminals as f64;
        let reach_ms = f64::from(options.window) * 1000.0 / each;
        if reach_ms < 100.0 {
            notes.push(format!(
                "each terminal sells {each:.0} a second with {} in flight: above {reach_ms:.1} ms of latency the rate is not reached",
                options.window
            ));
        }
        let bytes = rate * options.duration.as_secs_f64() * SALE_BYTES;
        if memory_available().is_some_and(|available| bytes > available as f64 / 2.0) {
            notes.push(format!("the sales will take {:.1} GiB of memory", bytes / GIB));
        }
    } else if let Some(available) = memory_available() {
        let sales = available as f64 / SALE_BYTES / options.duration.as_secs_f64();
        notes.push(format!("memory is enough up to {sales:.0} sales/s"));
    }
    if let Some(free) = disk_free(&options.state)
        && free < DISK_LOW
    {
        notes.push(format!("{} MiB are free where the terminals keep their sequences", free >> 20));
    }
    if targets.iter().any(|target| target.ip().is_loopback()) {
        notes.push("network and load generator share this machine's processors".to_owned());
    }
    if !optimised {
        notes.push("this loadgen is a debug build: its own limits are low".to_owned());
    }
    notes
}

/// PINs of these varieties that can still be sold.
pub(crate) fn unsold(books: &Standing, varieties: &[(Variety, bool)]) -> u64 {
    let wanted = |variety: &Variety| varieties.iter().any(|(wanted, _)| wanted == variety);
    books.stock.values().filter(|shelf| wanted(&shelf.variety)).map(|shelf| shelf.unsold).sum()
}

/// Memory for one sale: the record, and its place in the sorted orders of the check.
const SALE_BYTES: f64 = 80.0 + 24.0;
const GIB: f64 = (1u64 << 30) as f64;
const DISK_LOW: u64 = 64 << 20;
