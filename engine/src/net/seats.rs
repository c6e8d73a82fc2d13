//! How many connections there are, whoever holds them.

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
#[cfg(not(loom))]
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A bounded number of connections. The count protects no other memory: its operations are relaxed.
#[derive(Clone, Debug)]
pub struct Seats {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl Seats {
    /// So many.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { taken: Arc::new(AtomicUsize::new(0)), max }
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes one until it is dropped; `None` when there is none.
    pub(super) fn take(&self) -> Option<Seat> {
        let take = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, take).ok()?;
        Some(Seat(Arc::clone(&self.taken)))
    }
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_its_connection_ends() {
        let seats = Seats::new(2);
        let (one, _two) = (seats.take().unwrap(), seats.take().unwrap());
        assert!(seats.take().is_none());
        drop(one);
        assert_eq!(seats.taken(), 1);
        assert!(seats.take().is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// Two want the only seat: never more than one has it, and in the end it is free.
    #[test]
    fn no_more_sit_than_there_are_seats() {
        loom::model(|| {
            let seats = Seats::new(1);
            let visit = |seats: &Seats| {
                if let Some(seat) = seats.take() {
                    assert_eq!(seats.taken(), 1);
                    drop(seat);
                }
            };
            let other = {
                let seats = seats.clone();
                thread::spawn(move || visit(&seats))
            };
            visit(&seats);
            other.join().unwrap();
            assert_eq!(seats.taken(), 0);
        });
    }
}
