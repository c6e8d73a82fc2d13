//! What the connections of one thread share.

use crate::catalogue::{Variety, choose};
use crate::check::{Book, Findings};
use crate::pace::Pace;
use crate::sales::Flight;
use crate::sequences::{Sequences, Series};
use crate::tally::{Interval, Pieces, histogram};
use crate::terminals::Terminal;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Acquire};
use std::time::Instant;
use wire::message::{Attempt, Vend};
use wire::session::{Mode, Suite};

/// What all threads of a run share.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where terminals connect at first, each of them in turn.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) terminals: Vec<Terminal>,
    /// This run's, then those that only the run before asked for.
    pub(crate) varieties: Vec<Variety>,
    pub(crate) varieties_now: usize,
    /// What the run before asked for, as indexes of `varieties`.
    pub(crate) varieties_earlier: Vec<u16>,
    pub(crate) suite: Suite,
    pub(crate) mode: Mode,
    pub(crate) window: usize,
    pub(crate) pace: Pace,
    pub(crate) reply_timeout_ns: u64,
    pub(crate) sequences: Sequences,
    pub(crate) origin: Instant,
    pub(crate) signal: Signal,
}

/// How the main thread steers the others.
#[derive(Debug)]
pub(crate) struct Signal {
    /// A [`Step`].
    pub(crate) step: AtomicU8,
    /// When selling begins and ends, in nanoseconds since the origin.
    pub(crate) start_ns: AtomicU64,
    pub(crate) end_ns: AtomicU64,
    /// Sales of all threads, a second behind.
    pub(crate) sold: AtomicU64,
}

impl Default for Signal {
    fn default() -> Self {
        Self {
            step: AtomicU8::new(0),
            start_ns: AtomicU64::new(u64::MAX),
            end_ns: AtomicU64::new(u64::MAX),
            sold: AtomicU64::new(0),
        }
    }
}

/// The steps of a run, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Step {
    /// Everybody connects.
    Connect,
    /// Sales begin between start and end.
    Sell,
    /// What is open is finished, and what was printed confirmed.
    Finish,
    /// The seller is asked what it sold.
    Recheck,
    /// Everybody leaves.
    Leave,
}

impl Step {
    pub(crate) const ALL: [Self; 5] = [Self::Connect, Self::Sell, Self::Finish, Self::Recheck, Self::Leave];
}

/// What a connection may do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Begin nothing.
    Waiting,
    /// Begin sales as the window has room.
    Closed,
    /// Begin sales when the schedule says.
    Open,
    /// Ask what is to be asked after the run.
    After,
}

/// What the connections of one thread share.
pub(crate) struct Desk {
    pub(crate) plan: Arc<Plan>,
    pub(crate) step: Step,
    start_ns: u64,
    end_ns: u64,
    pub(crate) buffer: Vec<u8>,
    /// Terminals that could begin a sale, longest idle first.
    pub(crate) idle: VecDeque<u32>,
    /// Terminals that need sequences reserved.
    pub(crate) wanting: Vec<u32>,
    pub(crate) interval: Interval,
    pub(crate) pieces: Pieces,
    pub(crate) book: Book,
    pub(crate) findings: Findings,
    /// How much later than it could have been a vend was sent because of this thread, in nanoseconds.
    pub(crate) lateness: Histogram<u64>,
}

impl Desk {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            step: Step::Connect,
            start_ns: u64::MAX,
            end_ns: u64::MAX,
            buffer: vec![0; crate::connection::BUFFER_BYTES],
            idle: VecDeque::new(),
            wanting: Vec::new(),
            interval: Interval::new(0),
            pieces: Pieces::default(),
            book: Book::default(),
            findings: Findings::default(),
            lateness: histogram(),
        }
    }

    /// Nanoseconds since the plan's origin.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.plan.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Looks at what the main thread wants; true if the step is new.
    pub(crate) fn look(&mut self) -> bool {
        let before = (self.step, self.start_ns);
        let signal = &self.plan.signal;
        // Pairs with the release in `run`: the times are set before the step.
        self.step = Step::ALL[usize::from(signal.step.load(Acquire)).min(Step::ALL.len() - 1)];
        self.start_ns = signal.start_ns.load(Acquire);
        self.end_ns = signal.end_ns.load(Acquire);
        before != (self.step, self.start_ns)
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// Whether sales may begin at this time.
    pub(crate) fn is_selling(&self, now_ns: u64) -> bool {
        self.step == Step::Sell && (self.start_ns..self.end_ns).contains(&now_ns)
    }

    pub(crate) fn stage(&self, now_ns: u64) -> Stage {
        match self.plan.pace {
            _ if self.is_after() => Stage::After,
            _ if !self.is_selling(now_ns) => Stage::Waiting,
            Pace::Closed => Stage::Closed,
            Pace::Open { .. } => Stage::Open,
        }
    }

    /// Whether the sales are over.
    pub(crate) fn is_after(&self) -> bool {
        self.step >= Step::Finish
    }

    pub(crate) fn terminal(&self, index: u32) -> &Terminal {
        &self.plan.terminals[index as usize]
    }

    pub(crate) fn target(&self, terminal: u32) -> SocketAddr {
        self.plan.targets[terminal as usize % self.plan.targets.len()]
    }

    pub(crate) fn protection(&self) -> (Suite, Mode) {
        (self.plan.suite, self.plan.mode)
    }

    pub(crate) fn window(&self) -> usize {
        self.plan.window
    }

    pub(crate) fn varieties(&self) -> usize {
        self.plan.varieties_now
    }

    pub(crate) fn reply_timeout_ns(&self) -> u64 {
        self.plan.reply_timeout_ns
    }

    pub(crate) fn vend(&self, attempt: Attempt, sequence: u64, variety: u16, confirmed: u64) -> Vend {
        let Variety { product, face_value } = self.plan.varieties[usize::from(variety)];
        let deadline_ms = u32::try_from(self.plan.reply_timeout_ns / 1_000_000).unwrap_or(u32::MAX);
        Vend { attempt, sequence, product, face_value, deadline_ms, confirmed }
    }

    /// What an earlier run reserved.
    pub(crate) fn reserved_earlier(&self, series: Series) -> u64 {
        self.plan.sequences.reserved_below(series)
    }

    /// What an earlier run asked for at a sequence.
    pub(crate) fn earlier_variety(&self, terminal: u64, sequence: u64) -> u16 {
        let earlier = &self.plan.varieties_earlier;
        if earlier.is_empty() { 0 } else { earlier[choose(earlier.len(), terminal, sequence)] }
    }

    /// This terminal may not sell on before sequences are reserved for it.
    pub(crate) fn reserve_for(&mut self, terminal: u32) {
        if !self.wanting.contains(&terminal) {
            self.wanting.push(terminal);
        }
    }

    /// A PIN came for a sale of this run.
    pub(crate) fn sold(&mut self, flight: &Flight, now_ns: u64) {
        self.interval.counts.sold += 1;
        self.interval.latency.saturating_record(now_ns.saturating_sub(flight.intended_ns));
        self.interval.service.saturating_record(now_ns.saturating_sub(flight.first_ns));
        self.pieces.add(now_ns.saturating_sub(self.start_ns));
    }
}
