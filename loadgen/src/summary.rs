//! The result on one screen, and as JSON.

use crate::outcome::{Outcome, Verdict};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The result on one screen.
#[must_use]
pub fn text(outcome: &Outcome) -> String {
    let Outcome { load, counts, own, .. } = outcome;
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(format!("{name:<14}{value}"));
    row("load", load_words(outcome));
    row(
        "sold",
        format!(
            "{} in {:.1} s: {} a second{}",
            grouped(outcome.sold_in_time),
            load.duration_s,
            grouped(outcome.rate().round() as u64),
            match counts.sold - outcome.sold_in_time {
                0 => String::new(),
                after => format!(", and {} after the end", grouped(after)),
            }
        ),
    );
    row("latency", percentiles(&outcome.latency));
    if load.rate.is_some() {
        row("from the send", percentiles(&outcome.service));
    }
    row("longest gap", format!("{} without a PIN", duration(outcome.longest_gap_ns)));
    row(
        "not sold",
        format!(
            "later {}, declined {}, refused {}, no answer in time {}",
            counts.later, counts.declined, counts.refused, counts.timeouts
        ),
    );
    row(
        "connections",
        format!(
            "lost {}, attempts failed {}, renewed {}, repeats {}, resumed {}",
            counts.connections_lost, counts.connects_failed, counts.renewals, counts.repeats, counts.resumed
        ),
    );
    row("loadgen", own_words(outcome));
    if let Some((p50, p99, most)) = own.lateness_us {
        row("lateness", format!("p50 {p50} µs, p99 {p99} µs, most {most} µs; never sent {}", own.unsent));
    }
    let (twice, lost) = outcome.twice_and_lost();
    row(
        "checked",
        format!(
            "{} PINs: sold twice {twice}, lost {lost}, other faults {}",
            grouped(counts.sold + counts.resumed),
            others(outcome)
        ),
    );
    for example in outcome.findings.examples.iter().take(EXAMPLES) {
        row("", example.clone());
    }
    row("verdict", verdict(outcome));
    if let Verdict::Invalid(why) = &outcome.verdict {
        for why in why {
            row("", why.clone());
        }
    }
    lines.join("\n")
}

/// The load in words.
#[must_use]
pub fn load_words(outcome: &Outcome) -> String {
    let load = &outcome.load;
    let pace = match load.rate {
        None => "as fast as answers come".to_owned(),
        Some(rate) => {
            format!(
                "{} a second, {}",
                grouped(rate.round() as u64),
                if load.poisson { "Poisson" } else { "evenly" }
            )
        }
    };
    format!(
        "{}, window {}, {pace}, {}, {} on {}",
        count(load.terminals as u64, "terminal", "terminals"),
        load.window,
        count(load.varieties as u64, "variety", "varieties"),
        if load.sealed { format!("sealed ({})", load.suite) } else { "clear".to_owned() },
        load.target
    )
}

/// What the load generator itself did, in words.
#[must_use]
pub fn own_words(outcome: &Outcome) -> String {
    let own = &outcome.own;
    let mut words = format!(
        "{}, {:.2} s of processor, busiest thread {:.0} % busy",
        count(outcome.load.threads as u64, "thread", "threads"),
        own.cpu_s,
        own.busiest * 100.0
    );
    if own.is_bottleneck {
        words += ": THE LOAD GENERATOR IS THE BOTTLENECK";
    }
    if own.is_late {
        words += ": ITS OWN LATENESS IS IN THE LATENCIES";
    }
    words
}

/// The verdict in words.
#[must_use]
pub fn verdict(outcome: &Outcome) -> String {
    let word = match outcome.verdict {
        Verdict::Valid => "VALID",
        Verdict::Invalid(_) => "INVALID",
        Verdict::Violated => "CORRECTNESS VIOLATED",
    };
    format!("{word}; {}", outcome.comparison())
}

fn others(outcome: &Outcome) -> u64 {
    let (twice, lost) = outcome.twice_and_lost();
    outcome.findings.counts.values().sum::<u64>() - twice - lost
}

/// The result as JSON, times in microseconds.
#[must_use]
pub fn json(outcome: &Outcome) -> String {
    let reasons = match &outcome.verdict {
        Verdict::Invalid(why) => why.clone(),
        _ => Vec::new(),
    };
    let seconds: Vec<Value> = outcome
        .intervals
        .iter()
        .map(|interval| {
            json!({
                "second": interval.second,
                "sold": interval.counts.sold,
                "later": interval.counts.later.total(),
                "declined": interval.counts.declined.total(),
                "timeouts": interval.counts.timeouts,
                "p50_us": micros(&interval.latency, 0.5),
                "p99_us": micros(&interval.latency, 0.99),
                "p999_us": micros(&interval.latency, 0.999),
                "max_us": interval.latency.max() / 1000,
            })
        })
        .collect();
    let value = json!({
        "verdict": outcome.verdict.word(),
        "reasons": reasons,
        "findings": outcome.findings,
        "reconciled": outcome.reconciled,
        "load": outcome.load,
        "environment": outcome.environment,
        "sold": outcome.sold_in_time,
        "sold_per_second": outcome.rate(),
        "counts": outcome.counts,
        "latency_us": times(&outcome.latency),
        "service_us": times(&outcome.service),
        "longest_gap_ms": outcome.longest_gap_ns / 1_000_000,
        "loadgen": outcome.own,
        "unresolved": outcome.unresolved,
        "notes": outcome.notes,
        "seconds": seconds,
    });
    value.to_string()
}

fn times(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": micros(histogram, 0.5), "p90": micros(histogram, 0.9), "p99": micros(histogram, 0.99),
        "p999": micros(histogram, 0.999), "p9999": micros(histogram, 0.9999), "max": histogram.max() as f64 / 1e3,
        "mean": histogram.mean() / 1e3,
    })
}

fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let at = |quantile| duration(histogram.value_at_quantile(quantile));
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  most {}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(0.9999),
        duration(histogram.max())
    )
}

/// Nanoseconds as people write them, to three digits.
#[must_use]
pub fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// So many of something.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// Digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Examples of what is wrong that fit a screen.
const EXAMPLES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(duration(850), "0.85 µs");
        assert_eq!(duration(12_340), "12.3 µs");
        assert_eq!(duration(234_000_000), "234 ms");
        assert_eq!(duration(1_500_000_000), "1.50 s");
    }
}
