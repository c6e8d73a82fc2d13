//! The committer's thread: gather, append, sync, publish; and in a quiet moment prove the last batch.

use super::{Failure, spawn};
use crate::commit::{Committer, Wake};
use crate::disk::mapped::MappedDisk;
use crate::journal::Journal;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread, current, park_timeout, yield_now};
use std::time::Duration;

/// A committer with the way to wake its thread.
pub(super) struct Prepared {
    committer: Committer<MappedDisk>,
    unpark: Arc<Unpark>,
}

impl Prepared {
    pub(super) fn sender(&mut self, wake: Arc<dyn Wake>) -> crate::commit::RecordSender {
        self.committer.sender(wake)
    }
}

pub(super) fn prepare(journal: Journal<MappedDisk>) -> Prepared {
    let unpark = Arc::<Unpark>::default();
    Prepared { committer: Committer::new(journal, Arc::clone(&unpark) as Arc<dyn Wake>), unpark }
}

/// The running thread.
pub(super) struct CommittingHandle {
    thread: JoinHandle<()>,
    unpark: Arc<Unpark>,
    stopping: Arc<AtomicBool>,
}

impl CommittingHandle {
    /// Commits what was submitted, and ends.
    pub(super) fn stop(self) {
        self.stopping.store(true, Release);
        self.unpark.wake();
        let _ = self.thread.join();
    }
}

pub(super) fn start(prepared: Prepared, fatal: fn(&Failure) -> !) -> CommittingHandle {
    let Prepared { mut committer, unpark } = prepared;
    let stopping = Arc::<AtomicBool>::default();
    let (to_unpark, is_stopping) = (Arc::clone(&unpark), Arc::clone(&stopping));
    let thread = spawn("committer", fatal, move || {
        // Nobody else sets it.
        let _ = to_unpark.0.set(current());
        loop {
            let is_last = is_stopping.load(Acquire);
            while committer.commit().map_err(Failure::NotDurable)? {
                // Workers on this processor go first: with what they have ready the next batch is larger, and a batch
                // costs the same whatever is in it. Where workers have processors of their own this takes no time.
                yield_now();
            }
            if is_last {
                committer.prove().map_err(Failure::NotDurable)?;
                return Ok(());
            }
            if committer.may_sleep() {
                park_timeout(QUIET);
                // Whatever ended the wait: if nothing was submitted meanwhile, the moment was quiet.
                if committer.may_sleep() {
                    committer.prove().map_err(Failure::NotDurable)?;
                }
            }
        }
    });
    CommittingHandle { thread, unpark, stopping }
}

/// Unparks the thread once it is known; before that it has not looked yet.
#[derive(Default)]
struct Unpark(OnceLock<Thread>);

impl Wake for Unpark {
    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// After so long without a record the last batch is proven.
const QUIET: Duration = Duration::from_millis(100);
