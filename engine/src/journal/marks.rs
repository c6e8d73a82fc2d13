//! What the writer, upkeep and the readers of a journal tell each other without a lock.
//!
//! They stand apart from the files so that loom can run every interleaving of them (`engine/loom`).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Three numbers, each with one thread at a time that writes it.
#[derive(Debug)]
pub(super) struct Marks {
    /// The writer's segment.
    current: AtomicU64,
    /// The lowest segment that is not given up.
    oldest: AtomicU64,
    /// Everything below this position is durable.
    durable: AtomicU64,
}

impl Marks {
    pub(super) fn new(current: u64, oldest: u64) -> Self {
        Self { current: AtomicU64::new(current), oldest: AtomicU64::new(oldest), durable: AtomicU64::new(0) }
    }

    /// Called by the writer after a sync.
    pub(super) fn publish_durable(&self, position: u64) {
        // Pairs with the load in `durable`: who sees the position may rely on the bytes.
        self.durable.store(position, Ordering::Release);
    }

    pub(super) fn durable(&self) -> u64 {
        // Pairs with the store in `publish_durable`.
        self.durable.load(Ordering::Acquire)
    }

    /// Called by the writer when it has let go of the segment before this one.
    pub(super) fn move_to(&self, segment: u64) {
        // Pairs with the load in `current`: who sees the number may rename the file of the one before.
        self.current.store(segment, Ordering::Release);
    }

    pub(super) fn current(&self) -> u64 {
        // Pairs with the store in `move_to`.
        self.current.load(Ordering::Acquire)
    }

    /// Called by upkeep before the bytes of the segments below `oldest` may change.
    pub(super) fn give_up_below(&self, oldest: u64) {
        self.oldest.store(oldest, Ordering::Relaxed);
        // The number is seen before any byte that changes after it. Pairs with the fence in `oldest_after_reading`, as in a
        // sequence lock with one writer.
        fence(Ordering::Release);
    }

    /// Called by upkeep when nothing has come of giving segments up.
    pub(super) fn take_back(&self, oldest: u64) {
        self.oldest.store(oldest, Ordering::Release);
    }

    pub(super) fn oldest(&self) -> u64 {
        // For upkeep, which alone writes it, and for whoever wants to know.
        self.oldest.load(Ordering::Relaxed)
    }

    /// Called by a reader after it has read: bytes of segments from here on are what they were.
    pub(super) fn oldest_after_reading(&self) -> u64 {
        // Pairs with the fence in `give_up_below`. A load that acquires would not do: what was read before it could still be
        // newer than what it sees.
        fence(Ordering::Acquire);
        self.oldest.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two threads over the same marks and one word that stands for what they speak of.
    fn run(first: fn(&Marks, &AtomicU64), second: fn(&Marks, &AtomicU64)) {
        loom::model(move || {
            let shared = Arc::new((Marks::new(0, 0), AtomicU64::new(0)));
            let other = shared.clone();
            let thread = thread::spawn(move || first(&other.0, &other.1));
            second(&shared.0, &shared.1);
            thread.join().unwrap();
        });
    }

    #[test]
    fn who_sees_a_position_sees_the_bytes_below_it() {
        run(
            |marks, bytes| {
                bytes.store(1, Ordering::Relaxed);
                marks.publish_durable(64);
            },
            |marks, bytes| {
                if marks.durable() == 64 {
                    assert_eq!(bytes.load(Ordering::Relaxed), 1);
                }
            },
        );
    }

    #[test]
    fn a_segment_is_renamed_only_when_the_writer_has_let_go_of_it() {
        run(
            |marks, let_go| {
                let_go.store(1, Ordering::Relaxed);
                marks.move_to(1);
            },
            |marks, let_go| {
                if marks.current() == 1 {
                    assert_eq!(let_go.load(Ordering::Relaxed), 1);
                }
            },
        );
    }

    #[test]
    fn what_was_read_of_a_segment_that_is_not_given_up_is_what_was_there() {
        run(
            |marks, bytes| {
                marks.give_up_below(1);
                bytes.store(1, Ordering::Relaxed);
            },
            |marks, bytes| {
                let read = bytes.load(Ordering::Relaxed);
                if marks.oldest_after_reading() == 0 {
                    assert_eq!(read, 0, "bytes of another segment");
                }
            },
        );
    }
}
