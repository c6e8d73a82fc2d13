//! What a run came to, and what that is worth.

use crate::check::{Findings, Wrong};
use crate::environment::Environment;
use crate::options::{Rate, RunOptions};
use crate::receipts::Compared;
use crate::summary::grouped;
use crate::tally::{Counts, Interval};
use crate::words::OUT_OF_STOCK;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Instant;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The machine.
    pub environment: Environment,
    /// The load.
    pub load: Load,
    /// When the first sale was to begin.
    pub began: Instant,
    /// Everything that was counted.
    pub counts: Counts,
    /// PINs that came between start and end of the run.
    pub sold_in_time: u64,
    /// The seconds of the run, and what came after its end as one more.
    pub intervals: Vec<Interval>,
    /// Nanoseconds from the intended send time to the PIN.
    pub latency: Histogram<u64>,
    /// Nanoseconds from the first actual send to the PIN.
    pub service: Histogram<u64>,
    /// The longest time in which no PIN came, in nanoseconds.
    pub longest_gap_ns: u64,
    /// What the load generator itself did.
    pub own: Own,
    /// Sequences whose outcome nobody knows.
    pub unresolved: u64,
    /// Questions after the run that were not answered.
    pub unanswered: u64,
    /// How far what was received was compared.
    pub reconciled: Reconciled,
    /// What is wrong.
    pub findings: Findings,
    /// What will limit, or may have limited, the run.
    pub notes: Vec<String>,
    /// The judgement.
    pub verdict: Verdict,
}

/// The load of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Where.
    pub target: String,
    /// Terminals.
    pub terminals: usize,
    /// Sales in flight per terminal, at most.
    pub window: usize,
    /// Vends a second; none: closed loop.
    pub rate: Option<f64>,
    /// Exponential gaps.
    pub poisson: bool,
    /// How long sales began, in seconds.
    pub duration_s: f64,
    /// Threads.
    pub threads: usize,
    /// Sealed sessions.
    pub sealed: bool,
    /// The cipher suite.
    pub suite: &'static str,
    /// How many varieties were asked for.
    pub varieties: usize,
}

impl Load {
    pub(crate) fn of(
        options: &RunOptions,
        target: String,
        terminals: usize,
        threads: usize,
        varieties: usize,
    ) -> Self {
        Self {
            target,
            terminals,
            window: usize::from(options.window),
            rate: match options.rate {
                Rate::Max => None,
                Rate::PerSecond(rate) => Some(rate),
            },
            poisson: options.poisson,
            duration_s: options.duration.as_secs_f64(),
            threads,
            sealed: !options.clear,
            suite: if options.chacha { "ChaCha20-Poly1305" } else { "AES-256-GCM" },
            varieties,
        }
    }
}

/// What the load generator itself did.
#[derive(Clone, Debug, Serialize)]
pub struct Own {
    /// Processor seconds of its threads while they sold.
    pub cpu_s: f64,
    /// The busiest thread's part of the time not spent waiting, 0 to 1.
    pub busiest: f64,
    /// Open loop: how much later than it could a vend was sent because of loadgen itself, in microseconds: median, 99th
    /// percentile and most.
    pub lateness_us: Option<(u64, u64, u64)>,
    /// Open loop: vends that were due and never sent.
    pub unsent: u64,
    /// Whether the load generator, not the network, was at its limit.
    pub is_bottleneck: bool,
    /// Open loop: whether its own lateness is a part of the latencies that matters.
    pub is_late: bool,
}

/// How far what was received was compared with what the network says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reconciled {
    /// Sales that the seller was asked about again.
    pub rechecked: u64,
    /// Whether the books agree with every receipt and balance; `None`: they were not compared.
    pub books: Option<bool>,
    /// How far the receipts and the books agree.
    pub compared: Option<Compared>,
    /// Why the books could not be read after the run.
    pub unread: Option<String>,
}

/// What a run is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its figures mean what they say.
    Valid,
    /// They do not, because of this.
    Invalid(Vec<String>),
    /// The network broke its promise.
    Violated,
}

impl Verdict {
    /// 0 valid, 1 violated, 3 invalid.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Violated => 1,
            Self::Invalid(_) => 3,
        }
    }

    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Violated => "violated",
            Self::Invalid(_) => "invalid",
        }
    }
}

impl Outcome {
    /// PINs a second between start and end.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.sold_in_time as f64 / self.load.duration_s
    }

    /// Judges.
    pub(crate) fn judge(&self, options: &RunOptions, missing: usize) -> Verdict {
        if !self.findings.is_empty() {
            return Verdict::Violated;
        }
        let mut why = Vec::new();
        let counts = &self.counts;
        let dry = counts.declined.count(OUT_OF_STOCK);
        if missing > 0 {
            why.push(format!("{missing} terminals could not connect: {}", counts.connects_failed));
        }
        if dry > 0 && !options.until_empty {
            why.push(format!(
                "the stock ran out: {dry} vends were declined (--until-empty if that is meant)"
            ));
        }
        if counts.declined.total() > dry {
            why.push(format!("vends were declined: {}", counts.declined));
        }
        let used = counts.refused.total() - counts.refused.count("window full");
        if used > 0 {
            why.push(format!(
                "questions were refused: {}; does another machine play these terminals?",
                counts.refused
            ));
        }
        if self.unresolved > 0 {
            why.push(format!("the outcome of {} sequences is not known", self.unresolved));
        }
        if self.unanswered > 0 {
            why.push(format!("the seller did not say what became of {} sales", self.unanswered));
        }
        why.extend(self.reconciled.unread.clone());
        if counts.sold == 0 {
            why.push("nothing was sold".to_owned());
        }
        let offered = counts.begun + self.own.unsent;
        if self.own.unsent * 100 > offered {
            why.push(format!(
                "{} of {offered} vends were due and never sent: the network or the window cannot carry this rate",
                self.own.unsent
            ));
        }
        if why.is_empty() { Verdict::Valid } else { Verdict::Invalid(why) }
    }

    /// The last part of the verdict's line: how far things were compared.
    #[must_use]
    pub fn comparison(&self) -> String {
        let Reconciled { rechecked, books, compared, unread } = &self.reconciled;
        let rechecked = format!("{} sales rechecked with the seller", grouped(*rechecked));
        match (books, compared, unread) {
            (Some(true), Some(compared), _) => {
                format!("all {} receipts are in the books, {rechecked}", grouped(compared.agreed))
            }
            (Some(_), ..) => format!("the books disagree, {rechecked}"),
            (None, _, Some(_)) => format!("the books cannot be read, {rechecked}"),
            (None, ..) => format!("{rechecked}, not reconciled with the books (--books)"),
        }
    }

    /// Sold twice, lost: the two that everybody asks for.
    #[must_use]
    pub fn twice_and_lost(&self) -> (u64, u64) {
        (self.findings.count(Wrong::SoldTwice), self.findings.count(Wrong::Lost))
    }
}
