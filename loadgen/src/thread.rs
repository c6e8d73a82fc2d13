//! One thread of a run: an event loop over thousands of connections.

use crate::alarm::Alarm;
use crate::check::{Book, Findings};
use crate::connection::{Connection, Question, What};
use crate::desk::{Desk, Plan, Step};
use crate::environment::thread_cpu_ns;
use crate::pace::{Pace, Schedule};
use crate::receipts::Sequence;
use crate::sequences::{SequencesError, Writer};
use crate::tally::{Interval, Pieces};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Release};
use std::sync::mpsc::Sender;
use std::time::Duration;
use wire::message::SellerId;

/// What a thread says while it runs.
#[derive(Debug)]
pub(crate) enum Report {
    /// A second is over.
    Interval(Box<Interval>),
    /// It ends.
    Ended(Box<Result<Ended, ThreadError>>),
}

/// What a thread leaves behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) book: Book,
    pub(crate) findings: Findings,
    pub(crate) pieces: Pieces,
    pub(crate) lateness: Histogram<u64>,
    /// Processor time while it sold, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Time while it sold that it did not wait for the seller or the schedule, in nanoseconds.
    pub(crate) busy_ns: u64,
    /// Sequences whose outcome it does not know.
    pub(crate) unresolved: usize,
    /// They and their sellers.
    pub(crate) open: Vec<(u32, Sequence)>,
    /// Questions after the run that were not answered.
    pub(crate) unanswered: usize,
    /// Open loop: vends that were due and never sent.
    pub(crate) unsent: u64,
}

/// Why a thread cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// No events.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[from] io::Error),
    /// Sequences cannot be kept.
    #[error(transparent)]
    Sequences(#[from] SequencesError),
}

/// Where a thread stands, for the main thread: the step it is in, counted from one, and what is not done in it. Zero is
/// a thread that has not said anything.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    fn publish(&self, step: Step, left: usize) {
        self.0.store((step as u64 + 1) << 32 | left as u64, Release);
    }

    /// What is left to do in `step`; `None` while the thread has not begun it.
    pub(crate) fn left(&self, step: Step) -> Option<usize> {
        let value = self.0.load(std::sync::atomic::Ordering::Acquire);
        (value >> 32 == step as u64 + 1).then_some((value & 0xffff_ffff) as usize)
    }
}

/// How much the seller is asked after the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Recheck {
    /// Nothing.
    None,
    /// The latest sales of each terminal, as many as a window has.
    Window,
    /// Every sale.
    All,
}

/// Plays the terminals of `range` until the main thread says leave. `index` counts the threads.
pub(crate) fn run(
    plan: &Arc<Plan>,
    range: Range<usize>,
    index: usize,
    threads: usize,
    recheck: &dyn Fn() -> Recheck,
    progress: &Progress,
    reports: &Sender<Report>,
) {
    let ended = Thread::new(plan, range, index, threads).and_then(|mut thread| {
        thread.run(recheck, progress, reports)?;
        Ok(thread.end())
    });
    // If nobody listens the run is over.
    let _ = reports.send(Report::Ended(Box::new(ended)));
}

struct Thread {
    poll: Poll,
    alarm: Alarm,
    connections: Vec<Connection>,
    first: usize,
    desk: Desk,
    writer: Writer,
    schedule: Option<Schedule>,
    started: bool,
    index: usize,
    threads: usize,
    sweep_due_ns: u64,
    cpu_ns: (u64, u64),
    busy_ns: u64,
}

impl Thread {
    fn new(plan: &Arc<Plan>, range: Range<usize>, index: usize, threads: usize) -> Result<Self, ThreadError> {
        let desk = Desk::new(Arc::clone(plan));
        let first = range.start;
        let connections = range.map(|terminal| Connection::new(terminal as u32, &desk)).collect();
        let poll = Poll::new()?;
        Ok(Self {
            alarm: Alarm::new(poll.registry(), ALARM)?,
            poll,
            connections,
            first,
            writer: plan.sequences.writer(index)?,
            desk,
            schedule: None,
            started: false,
            index,
            threads,
            sweep_due_ns: 0,
            cpu_ns: (0, 0),
            busy_ns: 0,
        })
    }

    fn run(
        &mut self,
        recheck: &dyn Fn() -> Recheck,
        progress: &Progress,
        reports: &Sender<Report>,
    ) -> Result<(), ThreadError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut woke_ns = self.desk.now_ns();
        loop {
            let before = self.desk.step;
            if self.desk.look() {
                if before <= Step::Sell && self.desk.step > Step::Sell {
                    self.issue(self.desk.end_ns());
                }
                if before < Step::Recheck && self.desk.step >= Step::Recheck {
                    self.ask_what_was_sold(recheck());
                }
                self.begin_step();
            }
            if self.desk.step == Step::Leave {
                break;
            }
            let now_ns = self.desk.now_ns();
            self.meter(woke_ns, now_ns);
            let timeout = self.timeout(now_ns)?;
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            woke_ns = self.desk.now_ns();
            if !self.started && self.desk.is_selling(woke_ns) {
                self.started = true;
                self.begin_step();
            }
            for event in events.iter().filter(|event| event.token() != ALARM) {
                self.connections[event.token().0].handle_ready(&mut self.desk);
            }
            self.reserve()?;
            let now_ns = self.desk.now_ns();
            if self.desk.is_selling(now_ns) {
                self.issue(now_ns);
            }
            self.sweep(progress);
            self.roll(reports, woke_ns);
        }
        self.connections.iter_mut().for_each(Connection::leave);
        let last = std::mem::replace(&mut self.desk.interval, Interval::new(u64::MAX));
        // If nobody listens the run is over.
        let _ = reports.send(Report::Interval(Box::new(last)));
        Ok(())
    }

    /// Everybody may have something to do.
    fn begin_step(&mut self) {
        let now_ns = self.desk.now_ns();
        if let (Pace::Open { rate, poisson }, Step::Sell, None) =
            (self.desk.plan.pace, self.desk.step, &self.schedule)
        {
            let start_ns = self.desk.start_ns();
            self.schedule = Some(Schedule::new(rate, poisson, self.index, self.threads, start_ns));
        }
        for connection in &mut self.connections {
            connection.advance(&mut self.desk, now_ns);
        }
        self.sweep_due_ns = now_ns;
    }

    /// How long to wait for sockets. Sweeps may be a millisecond late, which is how precisely the system waits; vends
    /// have the alarm.
    fn timeout(&mut self, now_ns: u64) -> io::Result<Duration> {
        let mut vend_ns = u64::MAX;
        if self.desk.step == Step::Sell && self.desk.start_ns() > now_ns {
            vend_ns = self.desk.start_ns();
        }
        if let Some(schedule) = &self.schedule
            && self.desk.is_selling(now_ns)
            && !self.desk.idle.is_empty()
        {
            vend_ns = vend_ns.min(schedule.next_ns());
        }
        let vend_wait_ns = vend_ns.saturating_sub(now_ns);
        // The last moment is spent asking, so that vends are sent on time; no more of it, because a core that is never
        // idle may be taken away.
        if vend_wait_ns < ASK_NS {
            return Ok(Duration::ZERO);
        }
        if vend_wait_ns < ALARM_NS_MAX {
            self.alarm.set(Duration::from_nanos(vend_wait_ns - ASK_NS + 1))?;
        }
        let wait_ns = self.sweep_due_ns.saturating_sub(now_ns).min(vend_wait_ns);
        Ok(Duration::from_nanos(wait_ns).max(Duration::from_millis(1)))
    }

    /// Sends what the schedule says for before `due_ns`, as far as terminals are free. What this thread was too late for
    /// is sent after the end: the wait for it belongs to the latency.
    fn issue(&mut self, due_ns: u64) {
        let Some(schedule) = &mut self.schedule else { return };
        while schedule.next_ns() < due_ns {
            let Some(terminal) = self.desk.idle.pop_front() else { return };
            let connection = &mut self.connections[terminal as usize - self.first];
            connection.in_idle = false;
            if !connection.can_begin(&self.desk) {
                continue;
            }
            let now_ns = self.desk.now_ns();
            let intended_ns = schedule.take();
            let could_ns = intended_ns.max(connection.idle_since_ns);
            self.desk.lateness.saturating_record(now_ns.saturating_sub(could_ns));
            connection.begin(intended_ns, &mut self.desk, now_ns);
            connection.advance(&mut self.desk, now_ns);
        }
    }

    /// Makes reservations durable, all that are wanted at once, and lets their terminals sell.
    fn reserve(&mut self) -> Result<(), ThreadError> {
        if self.desk.wanting.is_empty() {
            return Ok(());
        }
        let wanting = std::mem::take(&mut self.desk.wanting);
        let mut belows = Vec::with_capacity(wanting.len());
        for terminal in &wanting {
            let reservation = self.connections[*terminal as usize - self.first].reservation(&self.desk);
            if let Some((series, below)) = reservation {
                self.writer.reserve(series, below);
                belows.push((*terminal, below));
            }
        }
        self.writer.sync()?;
        for (terminal, below) in belows {
            let now_ns = self.desk.now_ns();
            self.connections[terminal as usize - self.first].reserved(below, &mut self.desk, now_ns);
        }
        Ok(())
    }

    /// Connects, finds what is overdue, and tells the main thread what is left to do.
    fn sweep(&mut self, progress: &Progress) {
        let now_ns = self.desk.now_ns();
        if now_ns < self.sweep_due_ns {
            return;
        }
        let (mut connecting, mut unready, mut open) = (0, 0, 0);
        for connection in &mut self.connections {
            connection.sweep(&mut self.desk, now_ns);
            connecting += usize::from(connection.is_connecting());
            unready += usize::from(!connection.is_ready() && !connection.is_refused());
            open += connection.outstanding();
        }
        let busy = unready > 0;
        if busy {
            for at in 0..self.connections.len() {
                if connecting >= CONNECTING_MAX {
                    break;
                }
                if self.connections[at].wants_connection(now_ns) {
                    self.connections[at].connect(self.poll.registry(), Token(at), &mut self.desk, now_ns);
                    connecting += 1;
                }
            }
        }
        progress.publish(self.desk.step, if self.desk.is_after() { open } else { unready });
        self.sweep_due_ns = now_ns + if busy { SWEEP_BUSY_NS } else { SWEEP_NS };
    }

    /// Hands in a second that is over.
    fn roll(&mut self, reports: &Sender<Report>, now_ns: u64) {
        let second = now_ns.saturating_sub(self.desk.start_ns()) / 1_000_000_000;
        if second > self.desk.interval.second {
            let over = std::mem::replace(&mut self.desk.interval, Interval::new(second));
            // If nobody listens the run is over.
            let _ = reports.send(Report::Interval(Box::new(over)));
        }
    }

    /// Adds up the processor time and the time not spent waiting.
    fn meter(&mut self, woke_ns: u64, now_ns: u64) {
        if self.desk.is_selling(now_ns) {
            self.busy_ns += now_ns - woke_ns;
            if self.cpu_ns.0 == 0 {
                self.cpu_ns.0 = thread_cpu_ns();
            }
        } else if self.cpu_ns.0 > 0 && self.cpu_ns.1 == 0 {
            self.cpu_ns.1 = thread_cpu_ns();
        }
    }

    /// Gives every connection the questions to ask of its sales.
    fn ask_what_was_sold(&mut self, recheck: Recheck) {
        if recheck == Recheck::None {
            return;
        }
        let mut newest: HashMap<(u32, u32), u64> = HashMap::new();
        for sale in self.desk.book.sales() {
            let top = newest.entry((sale.seller, sale.terminal)).or_default();
            *top = sale.sequence.max(*top);
        }
        for sale in self.desk.book.sales() {
            let old = newest[&(sale.seller, sale.terminal)] - sale.sequence >= wire::message::WINDOW;
            if recheck == Recheck::All || !old {
                let (seller, sequence) = (SellerId(sale.seller), sale.sequence);
                let what = What::Status { reference: sale.reference };
                let question = Question { seller, sequence, what };
                self.connections[sale.terminal as usize - self.first].question(question);
            }
        }
    }

    fn end(self) -> Ended {
        let end_ns = self.desk.end_ns();
        let unsent = self.schedule.map_or(0, |mut schedule| {
            let mut unsent = 0;
            while schedule.next_ns() < end_ns {
                schedule.take();
                unsent += 1;
            }
            unsent
        });
        let open = self.connections.iter().flat_map(|connection| {
            connection.open().map(|(seller, sequence)| (seller, (connection.terminal, sequence)))
        });
        let open: Vec<_> = open.collect();
        Ended {
            unresolved: open.len(),
            open,
            unanswered: self.connections.iter().map(Connection::outstanding).sum(),
            book: self.desk.book,
            findings: self.desk.findings,
            pieces: self.desk.pieces,
            lateness: self.desk.lateness,
            cpu_ns: self.cpu_ns.1.saturating_sub(self.cpu_ns.0),
            busy_ns: self.busy_ns,
            unsent,
        }
    }
}

/// Few enough that what the system keeps of their sockets is still in the processor's cache when they are read.
const EVENTS_MAX: usize = 256;
const ALARM: Token = Token(usize::MAX);
/// A thread wakes so long before a vend is due: twice what the system may be late.
const ASK_NS: u64 = 120_000;
/// Waits from here on may be a millisecond too long.
const ALARM_NS_MAX: u64 = 10_000_000;
/// Connections between their start and their welcome, for one thread.
const CONNECTING_MAX: usize = 256;
const SWEEP_NS: u64 = 20_000_000;
const SWEEP_BUSY_NS: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_before_a_thread_has_said_so() {
        let progress = Progress::default();
        for step in Step::ALL {
            assert_eq!(progress.left(step), None);
        }
        progress.publish(Step::Connect, 3);
        assert_eq!((progress.left(Step::Connect), progress.left(Step::Sell)), (Some(3), None));
        progress.publish(Step::Connect, 0);
        assert_eq!(progress.left(Step::Connect), Some(0));
    }
}
