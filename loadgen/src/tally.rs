//! What a thread counts and times.

use hdrhistogram::Histogram;
use serde::Serialize;

/// How often what happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Sales begun.
    pub begun: u64,
    /// PINs received for sales of this run.
    pub sold: u64,
    /// PINs received for sales that an earlier run began.
    pub resumed: u64,
    /// Questions asked again.
    pub repeats: u64,
    /// Answers "later", by reason.
    pub later: Reasons,
    /// Declines, by reason.
    pub declined: Reasons,
    /// Vends that had not been sold when their terminals went to another seller, and never will be.
    pub given_up: u64,
    /// PINs that came through another seller than the one that sold them.
    pub through_others: u64,
    /// Refusals, by reason.
    pub refused: Reasons,
    /// Vends that were not answered in time.
    pub timeouts: u64,
    /// Connections that ended before the run did, by cause.
    pub connections_lost: Reasons,
    /// Sessions that ended while the connection stayed.
    pub renewals: u64,
    /// Attempts to connect that failed, by cause.
    pub connects_failed: Reasons,
    /// Answers to status and confirm that were as they should be.
    pub rechecked: u64,
}

impl Counts {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.begun += other.begun;
        self.sold += other.sold;
        self.resumed += other.resumed;
        self.repeats += other.repeats;
        self.later.merge(&other.later);
        self.declined.merge(&other.declined);
        self.given_up += other.given_up;
        self.through_others += other.through_others;
        self.refused.merge(&other.refused);
        self.timeouts += other.timeouts;
        self.connections_lost.merge(&other.connections_lost);
        self.renewals += other.renewals;
        self.connects_failed.merge(&other.connects_failed);
        self.rechecked += other.rechecked;
    }
}

/// Counts by a name.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Reasons(std::collections::BTreeMap<&'static str, u64>);

impl Reasons {
    /// One more.
    pub fn add(&mut self, reason: &'static str) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many of one.
    #[must_use]
    pub fn count(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    fn merge(&mut self, other: &Self) {
        for (reason, count) in &other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }
}

impl std::fmt::Display for Reasons {
    /// `12 (busy 10, stock 2)`, or `0`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.total())?;
        for (place, (reason, count)) in self.0.iter().enumerate() {
            write!(f, "{}{reason} {count}", if place == 0 { " (" } else { ", " })?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// One second of one thread, or of all.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Which second of the run, from 0.
    pub second: u64,
    /// What happened in it.
    pub counts: Counts,
    /// Nanoseconds from the intended send time to the PIN.
    pub latency: Histogram<u64>,
    /// Nanoseconds from the first actual send to the PIN.
    pub service: Histogram<u64>,
}

impl Interval {
    /// An empty one.
    #[must_use]
    pub fn new(second: u64) -> Self {
        Self { second, counts: Counts::default(), latency: histogram(), service: histogram() }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        let merged = self.latency.add(&other.latency).and_then(|()| self.service.add(&other.service));
        merged.expect("all histograms have the same bounds");
    }
}

/// For times in nanoseconds: 1 µs to an hour, three digits.
#[must_use]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).expect("these bounds are valid")
}

/// Seconds or parts of a second in 10 ms pieces: how many PINs came in each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(Vec<u32>);

impl Pieces {
    /// One more at this time of the run, in nanoseconds.
    pub(crate) fn add(&mut self, at_ns: u64) {
        let piece = (at_ns / PIECE_NS) as usize;
        if self.0.len() <= piece {
            self.0.resize(piece + 1, 0);
        }
        self.0[piece] += 1;
    }

    /// Adds another's.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own += other;
        }
    }

    /// How many came up to `until_ns`.
    #[must_use]
    pub(crate) fn total(&self, until_ns: u64) -> u64 {
        self.0.iter().take((until_ns / PIECE_NS) as usize).map(|piece| u64::from(*piece)).sum()
    }

    /// The longest time up to `until_ns` in which no PIN came, in nanoseconds, to the next lower 10 ms.
    #[must_use]
    pub(crate) fn longest_gap_ns(&self, until_ns: u64) -> u64 {
        let pieces = (until_ns / PIECE_NS) as usize;
        let (mut longest, mut current) = (0u64, 0u64);
        for piece in 0..pieces {
            current = if self.0.get(piece).copied().unwrap_or(0) == 0 { current + 1 } else { 0 };
            longest = longest.max(current);
        }
        longest * PIECE_NS
    }
}

const PIECE_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_the_longest_time_without_a_pin() {
        let mut pieces = Pieces::default();
        for at_ms in [5, 15, 100, 105, 300] {
            pieces.add(at_ms * 1_000_000);
        }
        assert_eq!(pieces.longest_gap_ns(310_000_000), 190_000_000);
        assert_eq!(pieces.longest_gap_ns(800_000_000), 490_000_000);
    }

    #[test]
    fn reasons_are_shown_apart() {
        let mut reasons = Reasons::default();
        assert_eq!(reasons.to_string(), "0");
        reasons.add("stock");
        reasons.add("busy");
        reasons.add("busy");
        assert_eq!(reasons.to_string(), "3 (busy 2, stock 1)");
    }
}
