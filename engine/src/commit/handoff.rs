//! The two small protocols between threads: publish → durable → wake, and submit → wake the committer.
//!
//! They stand apart from the rings so that loom can run every interleaving of them.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// How many of one sender's records are durable. One writer, one reader.
#[derive(Debug, Default)]
pub(super) struct Progress {
    durable: AtomicU64,
}

impl Progress {
    /// Called by the committer after the sync. The wake that follows orders nothing: whoever sees the count sees the
    /// sync before it, because this release pairs with the acquire in `durable`.
    pub(super) fn publish(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
    }

    pub(super) fn durable(&self) -> u64 {
        // Pairs with the release in `publish`.
        self.durable.load(Ordering::Acquire)
    }
}

/// Whether the committer waits, or is about to: a sender wakes it only then.
///
/// This is Dekker's protocol. The committer says that it dozes, then looks into the rings; a sender fills its ring, then
/// looks whether the committer dozes. The two fences order each one's store before its load, so at least one of them
/// sees the other.
#[derive(Debug, Default)]
pub(super) struct Doze {
    dozing: AtomicBool,
}

impl Doze {
    /// Called by the committer before it looks into the rings for the last time.
    pub(super) fn begin(&self) {
        self.dozing.store(true, Ordering::Relaxed);
        // Pairs with the fence in `disturb`.
        fence(Ordering::SeqCst);
    }

    /// Called by the committer when it is awake. A sender that still sees it doze wakes it for nothing.
    pub(super) fn end(&self) {
        self.dozing.store(false, Ordering::Relaxed);
    }

    /// Called by a sender after it filled its ring; says whether it must wake the committer.
    pub(super) fn disturb(&self) -> bool {
        // Pairs with the fence in `begin`.
        fence(Ordering::SeqCst);
        // The ring itself carries the records: nothing else is ordered by this. Only the committer writes the flag, so
        // several senders may wake it at once, which costs less than to agree on one of them.
        self.dozing.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::{Arc, Notify, atomic::AtomicUsize};
    use loom::thread;

    #[test]
    fn no_reply_leaves_before_its_record_is_durable_and_no_wake_is_lost() {
        loom::model(|| {
            let progress = Arc::new(Progress { durable: AtomicU64::new(0) });
            let waker = Arc::new(Notify::new());
            // Stands for the disk: what the sync did, as another thread sees it without ordering of its own.
            let synced = Arc::new(AtomicU64::new(0));
            let committer = {
                let (progress, waker, synced) = (progress.clone(), waker.clone(), synced.clone());
                thread::spawn(move || {
                    for batch in 1..=2 {
                        synced.store(batch, Ordering::Relaxed);
                        progress.publish(batch);
                        waker.notify();
                    }
                })
            };
            let mut durable = 0;
            while durable < 2 {
                durable = progress.durable();
                assert!(synced.load(Ordering::Relaxed) >= durable, "visible before durable");
                if durable < 2 {
                    // A lost wake-up would be a deadlock, which loom reports.
                    waker.wait();
                }
            }
            committer.join().unwrap();
        });
    }

    #[test]
    fn a_submission_is_seen_by_the_committer_before_it_sleeps_or_wakes_it() {
        loom::model(|| {
            let doze = Arc::new(Doze { dozing: AtomicBool::new(false) });
            let waker = Arc::new(Notify::new());
            let ring = Arc::new(AtomicUsize::new(0));
            // One sender shows it: senders share nothing but the flag, which they only read.
            let sender = {
                let (doze, waker, ring) = (doze.clone(), waker.clone(), ring.clone());
                thread::spawn(move || {
                    for submission in 1..=2 {
                        ring.store(submission, Ordering::Release);
                        if doze.disturb() {
                            waker.notify();
                        }
                    }
                })
            };
            let mut seen = 0;
            while seen < 2 {
                doze.end();
                let gathered = ring.load(Ordering::Acquire);
                if gathered == seen {
                    doze.begin();
                    if ring.load(Ordering::Acquire) == seen {
                        // A submission that neither saw would be a deadlock, which loom reports.
                        waker.wait();
                    }
                }
                seen = gathered;
            }
            sender.join().unwrap();
        });
    }
}
