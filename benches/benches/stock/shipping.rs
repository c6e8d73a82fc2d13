//! A server's journal on its way to the hub's archive, against what a server at its peak writes of it.

use crate::site::Site;
use crate::{Options, median, print_rounds};
use benches::floor::Floor;
use benches::network::{Sales, status, wait_for};
use benches::process::{CLIENT_CORE, Result, pin};
use loadgen::outcome::Verdict;
use std::path::Path;
use std::time::{Duration, Instant};

/// Sells at full speed while the hub hears nothing, then has it hear all of that.
pub(crate) fn measure(folder: &Path, options: &Options) -> Result<()> {
    println!("-- a journal shipped to the hub, {} rounds of {} PINs to sell", options.rounds, options.pins);
    let site = Site::start(folder, options.rounds)?;
    let server = site.server("north", options.pins)?;
    let terminals = site.terminals(CONNECTIONS, &server)?;
    let (state, target) = (folder.join("loadgen"), server.child.address.to_string());
    let (mut peaks, mut rates) = (Vec::new(), Vec::new());
    for variety in 1..=options.rounds {
        site.stock(&server, variety, options.pins)?;
        server.child.await_rest()?;
        site.hub.await_rest()?;
        crate::settle();
        // The peak is the server's on a core of its own; what it writes is held back.
        server.child.pin();
        pin(std::process::id(), &CLIENT_CORE.to_string());
        let position = || Ok::<_, Box<dyn std::error::Error>>(status(&server.data)?.sellers[0].clone());
        let before = position()?;
        site.hub.signal("STOP")?;
        let sales = Sales {
            target: &target,
            terminals: &terminals,
            state: &state,
            connections: CONNECTIONS,
            window: WINDOW,
            rate: None,
            product: Some(variety as u32),
            is_clear: true,
            time: TIME,
        };
        let outcome = loadgen::run::run(&sales.options()?, &mut std::io::sink())?;
        if matches!(outcome.verdict, Verdict::Violated) {
            return Err(format!("a promise was broken: {:?}", outcome.findings.examples).into());
        }
        let after = position()?;
        server.child.unpin();
        let bytes = (after.journal_durable - before.journal_durable) as f64;
        // What was answered after time is in the journal as well.
        let bytes_per_sale = bytes / outcome.counts.sold as f64;
        peaks.push(outcome.sold_in_time as f64 / TIME.as_secs_f64() * bytes_per_sale / 1e6);
        let start = Instant::now();
        site.hub.signal("CONT")?;
        let is_shipped = |status: &engine::network::Status| {
            status.sellers[0].journal_acknowledged >= after.journal_durable
        };
        let end = wait_for(&server.data, "the journal at the hub", is_shipped)?;
        let shipped = (after.journal_durable - after.journal_acknowledged) as f64;
        rates.push(shipped / end.duration_since(start).as_secs_f64() / 1e6);
    }
    print_rounds("journal written at the peak", "MB/s", &peaks);
    print_rounds("shipped and archived", "MB/s", &rates);
    let ratios = rates.iter().zip(&peaks).map(|(rate, peak)| rate / peak).collect();
    Floor::at_least(PEAK_PART_MIN, "of a server's peak").print("shipping", median(ratios));
    site.audit()
}

const CONNECTIONS: usize = 50;
const WINDOW: usize = 64;
const TIME: Duration = Duration::from_secs(2);
const PEAK_PART_MIN: f64 = 1.2;
