//! A timing wheel (Varghese and Lauck, 1987, scheme 4): setting a timer and finding it due cost the same however many there are.

/// Timers of up to [`HORIZON_MS`], a tick late at most. Later ones come early, at the horizon; the owner sets them again.
pub(super) struct Wheel {
    slots: Vec<Vec<Timer>>,
    /// The slot of the tick that began last.
    at: usize,
    /// When that tick began.
    at_ms: u64,
}

/// A key, and the time it was set for: an owner that has set another time since knows the old one by it.
pub(super) type Timer = (u64, u64);

impl Wheel {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], at: 0, at_ms: now_ms }
    }

    /// Sets a timer; the time that it is set for.
    pub(super) fn set(&mut self, key: u64, due_ms: u64) -> u64 {
        let due_ms = due_ms.clamp(self.at_ms, self.at_ms + HORIZON_MS);
        let ticks = (due_ms - self.at_ms) / TICK_MS + 1;
        let slot = (self.at + ticks as usize) % SLOTS;
        self.slots[slot].push((key, due_ms));
        due_ms
    }

    /// Moves on to `now_ms`; the next tick's timers, which are due, until there are none.
    pub(super) fn poll(&mut self, now_ms: u64) -> Option<Vec<Timer>> {
        while self.at_ms + TICK_MS <= now_ms {
            self.at = (self.at + 1) % SLOTS;
            self.at_ms += TICK_MS;
            // Its room goes with it: after a burst every slot in turn would have been the fullest.
            let due = std::mem::take(&mut self.slots[self.at]);
            if !due.is_empty() {
                return Some(due);
            }
        }
        None
    }
}

/// How precise it is, in milliseconds.
const TICK_MS: u64 = 250;
const SLOTS: usize = 512;
/// Longest wait, in milliseconds.
pub(super) const HORIZON_MS: u64 = TICK_MS * (SLOTS as u64 - 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_comes_once_not_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new(1_000);
        let dues: Vec<u64> = (0..400).map(|at| 1_000 + at * 311).collect();
        for (key, due_ms) in dues.iter().enumerate() {
            assert_eq!(wheel.set(key as u64, *due_ms), *due_ms);
        }
        let mut come = vec![None; dues.len()];
        for now_ms in (1_000..140_000).step_by(17) {
            while let Some(timers) = wheel.poll(now_ms) {
                for (key, due_ms) in timers {
                    assert_eq!(due_ms, dues[key as usize]);
                    assert_eq!(come[key as usize].replace(now_ms), None);
                }
            }
        }
        for (due_ms, come_ms) in dues.iter().zip(come) {
            let late_ms = come_ms.unwrap() - due_ms;
            assert!(late_ms <= TICK_MS + 17, "{late_ms} late");
        }
    }

    #[test]
    fn what_lies_beyond_the_horizon_comes_at_it() {
        let mut wheel = Wheel::new(0);
        assert_eq!(wheel.set(1, u64::MAX), HORIZON_MS);
        assert_eq!(wheel.poll(HORIZON_MS - 1), None);
        assert_eq!(wheel.poll(HORIZON_MS + TICK_MS), Some(vec![(1, HORIZON_MS)]));
        wheel.poll(10_000_000);
        assert_eq!(wheel.set(2, 5), 10_000_000, "what is overdue comes next");
    }
}
