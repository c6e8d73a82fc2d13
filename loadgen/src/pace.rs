//! When the next vend is due.

/// How vends are spaced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Pace {
    /// Closed loop: the next as soon as the window has room.
    Closed,
    /// Open loop: this many a second, whatever the seller does.
    Open {
        /// Vends a second, over all threads.
        rate: f64,
        /// Exponential gaps instead of equal ones.
        poisson: bool,
    },
}

/// The intended send times of one thread's vends, in nanoseconds of the run.
///
/// They do not depend on how the seller answers: a vend that could not be sent in time keeps its intended time, so that
/// the wait before it is part of its latency.
#[derive(Debug)]
pub(crate) struct Schedule {
    next_ns: f64,
    gap_ns: f64,
    dice: Option<Dice>,
}

impl Schedule {
    /// The schedule of thread `index` of `threads`, which share `rate` vends a second evenly. It begins at `start_ns`.
    #[must_use]
    pub(crate) fn new(rate: f64, poisson: bool, index: usize, threads: usize, start_ns: u64) -> Self {
        let gap_ns = 1e9 / rate * threads as f64;
        let mut schedule = Self { next_ns: start_ns as f64, gap_ns, dice: None };
        if poisson {
            schedule.dice = Some(Dice(0x9e37_79b9_7f4a_7c15 ^ index as u64));
            schedule.take();
        } else {
            schedule.next_ns += gap_ns * index as f64 / threads as f64;
        }
        schedule
    }

    /// When the next vend is due.
    #[must_use]
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Takes the next vend's time off the schedule.
    pub(crate) fn take(&mut self) -> u64 {
        let due_ns = self.next_ns();
        self.next_ns += match &mut self.dice {
            Some(dice) => -dice.unit().ln() * self.gap_ns,
            None => self.gap_ns,
        };
        due_ns
    }
}

/// SplitMix64: repeatable, and good enough for gaps.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_constant_rate_interleave_without_drift() {
        let mut threads: Vec<Schedule> =
            (0..4).map(|index| Schedule::new(1e6, false, index, 4, 1000)).collect();
        let mut all: Vec<u64> = Vec::new();
        for thread in &mut threads {
            all.extend((0..250_000).map(|_| thread.take()));
        }
        all.sort_unstable();
        assert!(all.iter().zip(0..).all(|(due_ns, n)| due_ns.abs_diff(1000 + 1000 * n) <= 1));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let mut schedule = Schedule::new(1000.0, true, 0, 1, 0);
        let mut gaps = Vec::new();
        let mut before = schedule.take();
        for _ in 0..100_000 {
            let due = schedule.take();
            gaps.push((due - before) as f64);
            before = due;
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "mean gap {mean}");
        assert!((deviation / mean - 1.0).abs() < 0.02, "deviation {deviation}");
    }
}
