//! Both ends of a range in one word. The argument for its orderings stands in [`super`].

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// An interval `next..end` that shrinks from both ends: `next` in the low half of the word, `end` in the high half.
#[derive(Debug)]
pub struct Cursor(AtomicU64);

impl Cursor {
    /// The interval `start..end`.
    ///
    /// # Panics
    /// When `start > end`.
    #[must_use]
    pub fn new(start: u32, end: u32) -> Self {
        assert!(start <= end, "an interval does not end before it starts");
        Self(AtomicU64::new(pack(start, end)))
    }

    /// Takes the front value, or `None` if the interval is empty.
    pub fn claim(&self) -> Option<u32> {
        // Relaxed, here and below: see the module above.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (next, end) = unpack(seen);
            if next == end {
                return None;
            }
            match self.0.compare_exchange_weak(
                seen,
                pack(next + 1, end),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(next),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes up to `count` values from the back, as `start..end`; `None` if the interval is empty or `count` is 0.
    pub fn cut(&self, count: u32) -> Option<(u32, u32)> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (next, end) = unpack(seen);
            let start = end.saturating_sub(count).max(next);
            if start == end {
                return None;
            }
            match self.0.compare_exchange_weak(seen, pack(next, start), Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some((start, end)),
                Err(now) => seen = now,
            }
        }
    }

    /// How many values are left.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        let (next, end) = unpack(self.0.load(Ordering::Relaxed));
        end - next
    }
}

fn pack(next: u32, end: u32) -> u64 {
    u64::from(end) << 32 | u64::from(next)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word & 0xffff_ffff) as u32, (word >> 32) as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn claims_come_from_the_front_and_cuts_from_the_back_until_nothing_is_left() {
        let cursor = Cursor::new(10, 15);
        assert_eq!(cursor.claim(), Some(10));
        assert_eq!(cursor.cut(2), Some((13, 15)));
        assert_eq!(cursor.cut(0), None);
        assert_eq!(cursor.remaining(), 2);
        assert_eq!(cursor.cut(9), Some((11, 13)), "no more than there is");
        assert_eq!((cursor.claim(), cursor.cut(1)), (None, None));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    /// One claimant and two cutters: every value leaves exactly once.
    #[test]
    fn every_value_leaves_exactly_once() {
        loom::model(|| {
            let cursor = Arc::new(Cursor::new(0, 3));
            let cutters: Vec<_> = (0..2)
                .map(|_| {
                    let cursor = cursor.clone();
                    loom::thread::spawn(move || cursor.cut(1).into_iter().flat_map(|(s, e)| s..e).collect())
                })
                .collect();
            let mut taken: Vec<u32> = (0..2).filter_map(|_| cursor.claim()).collect();
            for cutter in cutters {
                let cut: Vec<u32> = cutter.join().unwrap();
                taken.extend(cut);
            }
            taken.extend(std::iter::from_fn(|| cursor.claim()));
            taken.sort_unstable();
            assert_eq!(taken, [0, 1, 2]);
        });
    }
}
