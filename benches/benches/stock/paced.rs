//! Stock in bulk while the server sells: what each does to the other.

use crate::site::{Server, Site};
use crate::{Options, median, print_rounds};
use benches::floor::Floor;
use benches::network::Sales;
use benches::process::{CLIENT_CORE, Result, pin};
use hdrhistogram::Histogram;
use loadgen::outcome::{Outcome, Verdict};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Moves without sales and without a pace; then, with the hub's pace, sells at half the peak without and with a move,
/// round after round.
///
/// The server has core 0 and the load generator core 1, as in `limits`; the hub may use both, since there is no third.
pub(crate) fn measure(folder: &Path, options: &Options) -> Result<()> {
    println!("-- {} PINs move to a server that sells, {} rounds", options.pins, options.rounds);
    let site = Site::start(folder, 1 + 2 * options.rounds)?;
    let server = site.server("north", options.pins)?;
    let terminals = site.terminals(CONNECTIONS, &server)?;
    let shop = Shop { server: &server, terminals, state: folder.join("loadgen") };
    site.stock(&server, FOR_SALE, options.pins)?;
    server.child.pin();
    pin(std::process::id(), &CLIENT_CORE.to_string());
    let mut rounds = Rounds::default();
    for variety in 2..2 + options.rounds {
        let seconds = site.stock(&server, variety, options.pins)?;
        rounds.alone.push(f64::from(options.pins) / seconds / 1e6);
    }
    let site = site.pace_hub(options.bulk_mib_per_s)?;
    let rest = || site.hub.await_rest().and_then(|()| server.child.await_rest());
    rest()?;
    let peak = shop.sell(None, PEAK_TIME, &|| {})?;
    let pace = peak.sold_in_time as f64 / PEAK_TIME.as_secs_f64() / 2.0;
    println!(
        "  the server's peak: {:.0} sales/s on {CONNECTIONS} connections; it sells half of that",
        pace * 2.0
    );

    for round in 0..options.rounds {
        let variety = 2 + options.rounds + round;
        crate::settle();
        let without = shop.sell(Some(pace), TIME, &|| {})?;
        site.hold(variety, options.pins)?;
        let released = RefCell::new(None);
        let with = shop.sell(Some(pace), TIME, &|| *released.borrow_mut() = Some(site.release(variety)))?;
        let start = released.into_inner().ok_or("the sales did not begin")??;
        let (moved, looked) = (server.taken(variety)?, Instant::now());
        let end = server.await_stock(variety, options.pins)?;
        let (moved, by) = if moved < u64::from(options.pins) {
            (moved, looked)
        } else {
            println!(
                "  the move of round {} ended before the sales did: a larger --pins tells more",
                round + 1
            );
            (u64::from(options.pins), end.min(looked))
        };
        let rate = moved as f64 / by.duration_since(start).as_secs_f64();
        rounds.without.push(without.latency);
        rounds.with.push(with.latency);
        rounds.beside.push(rate / 1e6);
        rest()?;
    }
    site.audit()?;
    rounds.print();
    Ok(())
}

#[derive(Default)]
struct Rounds {
    /// How long sales took, in nanoseconds.
    without: Vec<Histogram<u64>>,
    with: Vec<Histogram<u64>>,
    /// How fast stock moved, in million PINs a second.
    alone: Vec<f64>,
    beside: Vec<f64>,
}

impl Rounds {
    fn print(self) {
        let by_round = |rounds: &[Histogram<u64>]| rounds.iter().map(p99_ms).collect::<Vec<_>>();
        print_rounds("p99 of a sale, nothing moves", "ms", &by_round(&self.without));
        print_rounds("p99 of a sale while stock moves", "ms", &by_round(&self.with));
        print_rounds("moved, nothing is sold", "million PINs/s", &self.alone);
        print_rounds("moved during sales", "million PINs/s", &self.beside);
        // Of all rounds together: in the two seconds of one, a single wait for the disk decides.
        let (with, without) = (p99_ms(&pooled(&self.with)), p99_ms(&pooled(&self.without)));
        println!("  p99 of all rounds: {without:.2} ms, while stock moves {with:.2} ms");
        let slower = with / without;
        Floor::at_most(SLOWER_MAX, "times").print("paced: p99 of a sale, with the move", slower);
        let part = median(self.beside) / median(self.alone);
        Floor::at_least(MOVE_PART_MIN, "of it alone").print("paced: rate of the move, with the sales", part);
    }
}

struct Shop<'a> {
    server: &'a Server,
    terminals: PathBuf,
    state: PathBuf,
}

impl Shop<'_> {
    /// Sells for a time: in a closed loop, or at a rate; calls `started` when it begins.
    fn sell(&self, rate: Option<f64>, time: Duration, started: &dyn Fn()) -> Result<Outcome> {
        let target = self.server.child.address.to_string();
        let sales = Sales {
            target: &target,
            terminals: &self.terminals,
            state: &self.state,
            connections: CONNECTIONS,
            window: 1,
            rate,
            product: Some(FOR_SALE as u32),
            is_clear: false,
            time,
        };
        let outcome = loadgen::run::run_and_say_when(&sales.options()?, &mut std::io::sink(), started)?;
        match &outcome.verdict {
            Verdict::Valid => {}
            Verdict::Invalid(why) => println!("  a run says little: {}", why.join("; ")),
            Verdict::Violated => {
                return Err(format!("a promise was broken: {:?}", outcome.findings.examples).into());
            }
        }
        Ok(outcome)
    }
}

fn p99_ms(latency: &Histogram<u64>) -> f64 {
    latency.value_at_quantile(0.99) as f64 / 1e6
}

fn pooled(rounds: &[Histogram<u64>]) -> Histogram<u64> {
    let mut all = rounds[0].clone();
    for round in &rounds[1..] {
        all.add(round).expect("all have the same bounds");
    }
    all
}

/// The variety that is sold.
const FOR_SALE: usize = 1;
const CONNECTIONS: usize = 50;
const PEAK_TIME: Duration = Duration::from_secs(2);
/// A little less than what a move of the default size lasts at the hub's default pace.
const TIME: Duration = Duration::from_millis(1700);
const SLOWER_MAX: f64 = 3.0;
const MOVE_PART_MIN: f64 = 0.25;
