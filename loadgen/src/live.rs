//! The line that says how a run goes.

use crate::summary::{duration, grouped};
use crate::tally::Interval;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

/// Merges the threads' seconds as they come in, and says each when it is whole.
pub(crate) struct Live<'a> {
    out: &'a mut dyn Write,
    threads: usize,
    total: Duration,
    stock: Option<u64>,
    quiet: bool,
    in_place: bool,
    sold: u64,
    seconds: BTreeMap<u64, (usize, Interval)>,
}

impl<'a> Live<'a> {
    /// `stock`: PINs that could be sold at the start, if that is known.
    pub(crate) fn new(out: &'a mut dyn Write, threads: usize, total: Duration, quiet: bool) -> Self {
        let in_place = io::stderr().is_terminal();
        Self { out, threads, total, stock: None, quiet, in_place, sold: 0, seconds: BTreeMap::new() }
    }

    /// PINs that can be sold, if that is known.
    pub(crate) fn set_stock(&mut self, stock: Option<u64>) {
        self.stock = stock;
    }

    /// Says something on a line of its own.
    pub(crate) fn say(&mut self, what: &str) {
        if !self.quiet {
            let _ = writeln!(self.out, "{what}");
        }
    }

    /// Says something that the next will replace.
    pub(crate) fn say_for_now(&mut self, what: &str) {
        if !self.quiet {
            let (start, end) = if self.in_place { ("\r\x1b[K", "") } else { ("", "\n") };
            let _ = write!(self.out, "{start}{what}{end}");
            let _ = self.out.flush();
        }
    }

    /// Takes in one thread's second.
    pub(crate) fn add(&mut self, interval: &Interval) {
        let second = interval.second;
        let (reported, merged) = self.seconds.entry(second).or_insert_with(|| (0, Interval::new(second)));
        merged.merge(interval);
        *reported += 1;
        if *reported == self.threads && Duration::from_secs(second) < self.total {
            let line = line(merged, self.total);
            self.sold += merged.counts.sold;
            let rate = merged.counts.sold;
            let lasts = match self.stock {
                Some(stock) if rate > 0 => {
                    format!("  stock lasts {} s", stock.saturating_sub(self.sold) / rate)
                }
                _ => String::new(),
            };
            self.say_for_now(&(line + &lasts));
        }
    }

    /// The seconds of the run; what came after its end is one more.
    pub(crate) fn finish(&mut self) -> Vec<Interval> {
        if self.in_place {
            self.say_for_now("");
        }
        let within = self.total.as_secs_f64().ceil() as u64;
        let mut intervals: Vec<Interval> = (0..=within).map(Interval::new).collect();
        for (second, (_, interval)) in std::mem::take(&mut self.seconds) {
            intervals[second.min(within) as usize].merge(&interval);
        }
        intervals
    }
}

fn line(interval: &Interval, total: Duration) -> String {
    let quantile = |at| duration(interval.latency.value_at_quantile(at));
    let mut line = format!(
        "{:>4} of {:.0} s  {:>9} sold/s  p50 {}  p99 {}  p99.9 {}",
        interval.second + 1,
        total.as_secs_f64(),
        grouped(interval.counts.sold),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
    );
    let counts = &interval.counts;
    let others = [
        ("later", counts.later.total()),
        ("declined", counts.declined.total()),
        ("refused", counts.refused.total()),
        ("timeouts", counts.timeouts),
        ("lost connections", counts.connections_lost.total()),
    ];
    for (name, count) in others.into_iter().filter(|(_, count)| *count > 0) {
        line += &format!("  {name} {count}");
    }
    line
}
