//! From workers to the journal and back: records in, durable counts out.
//!
//! Each writer owns a [`RecordSender`], a ring of its own into the one [`Committer`]. Group commit falls out: while one
//! sync runs, the rings fill, and the next batch takes what is there. No step allocates once the buffers exist.

mod handoff;
mod sender;
#[cfg(test)]
mod tests;

pub use sender::RecordSender;

use crate::disk::Disk;
use crate::journal::batch::{BATCH_BYTES_MAX, SLOT_BYTES};
use crate::journal::record::RecordBytes;
use crate::journal::{Journal, JournalError, Position};
use handoff::{Doze, Progress};
use sender::Ring;
use std::sync::Arc;

/// Makes a thread look again. It may be called at any time, from any thread, and must be remembered when the thread is
/// not waiting yet, as `Thread::unpark` and a mio waker do.
pub trait Wake: Send + Sync + 'static {
    /// Wakes it.
    fn wake(&self);
}

/// The journal's only writer, as steps, so that a simulator can put anything between them.
///
/// Drive it as [`gather`](Self::gather) → [`append`](Self::append) → [`sync`](Self::sync) →
/// [`publish`](Self::publish), or all at once by [`commit`](Self::commit). When there is nothing to gather, ask
/// [`may_sleep`](Self::may_sleep) before waiting for the wake given to [`Committer::new`]. An error from `sync` is final:
/// the process has to end without publishing.
pub struct Committer<D: Disk> {
    journal: Journal<D>,
    lanes: Vec<Lane>,
    /// The lane to be taken from first in the next batch, so that none starves.
    first_lane: usize,
    /// What the next batch holds.
    batch: Vec<RecordBytes>,
    step: Step,
    doze: Arc<Doze>,
    wake: Arc<dyn Wake>,
}

impl<D: Disk> Committer<D> {
    /// `wake` makes the caller look again when a sender submits while it waits.
    #[must_use]
    pub fn new(journal: Journal<D>, wake: Arc<dyn Wake>) -> Self {
        Self {
            journal,
            lanes: Vec::new(),
            first_lane: 0,
            batch: Vec::with_capacity(BATCH_BYTES_MAX / SLOT_BYTES),
            step: Step::Gathering,
            doze: Arc::default(),
            wake,
        }
    }

    /// Adds a writer. `wake` is called after each publication that made some of its records durable.
    #[must_use]
    pub fn sender(&mut self, wake: Arc<dyn Wake>) -> RecordSender {
        let ring = Arc::new(Ring::new());
        let progress = Arc::<Progress>::default();
        self.lanes.push(Lane {
            ring: Arc::clone(&ring),
            front: Vec::new(),
            taken: 0,
            in_batch: 0,
            durable: 0,
            progress: Arc::clone(&progress),
            wake,
        });
        RecordSender::new(ring, progress, Arc::clone(&self.doze), Arc::clone(&self.wake))
    }

    /// Takes what the senders submitted, as much as one batch holds; says whether there is anything to append. It may be
    /// called again before [`append`](Self::append); after it, it takes nothing until the batch is published.
    pub fn gather(&mut self) -> bool {
        if self.step != Step::Gathering {
            return false;
        }
        self.doze.end();
        let mut room = self.journal.room().saturating_sub(self.batch.len());
        let lanes = self.lanes.len();
        loop {
            let mut idle = true;
            for offset in 0..lanes {
                let lane = &mut self.lanes[(self.first_lane + offset) % lanes];
                let taken = lane.take(room, &mut self.batch);
                room -= taken;
                idle &= taken == 0;
            }
            if idle {
                break;
            }
        }
        !self.batch.is_empty()
    }

    /// Stores the batch that was gathered. It is not durable.
    ///
    /// # Panics
    /// When nothing was gathered, or the batch before it is not published.
    pub fn append(&mut self) -> Position {
        assert!(self.step == Step::Gathering, "the batch before is published first");
        self.step = Step::Appended;
        self.journal.append(&self.batch)
    }

    /// Makes the appended batch durable.
    ///
    /// # Errors
    /// [`JournalError`], for ever after: nothing may be published any more.
    pub fn sync(&mut self) -> Result<Position, JournalError> {
        let position = self.journal.sync()?;
        if self.step == Step::Appended {
            self.step = Step::Synced;
        }
        Ok(position)
    }

    /// Tells every sender that had records in the batch how many of its records are durable now, then wakes it.
    ///
    /// # Panics
    /// When the batch is not synced: nothing may be visible before it is durable.
    pub fn publish(&mut self) {
        assert!(self.step == Step::Synced, "durable before visible");
        for lane in self.lanes.iter_mut().filter(|lane| lane.in_batch > 0) {
            lane.durable += std::mem::take(&mut lane.in_batch);
            lane.progress.publish(lane.durable);
            lane.wake.wake();
        }
        self.batch.clear();
        self.first_lane = (self.first_lane + 1) % self.lanes.len().max(1);
        self.step = Step::Gathering;
    }

    /// All four steps; says whether there was anything to commit.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn commit(&mut self) -> Result<bool, JournalError> {
        let any = self.gather();
        if any {
            self.append();
            self.sync()?;
            self.publish();
        }
        Ok(any)
    }

    /// For a moment without records: proves the last batch durable, see [`Journal::prove`]. Says whether it wrote.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn prove(&mut self) -> Result<bool, JournalError> {
        let writes = self.step == Step::Gathering && self.journal.prove();
        if writes {
            self.journal.sync()?;
        }
        Ok(writes)
    }

    /// Announces that the caller is about to wait; false when something was submitted meanwhile, so that it must gather
    /// instead. After true every submission wakes it.
    pub fn may_sleep(&mut self) -> bool {
        self.doze.begin();
        let may_sleep = self.lanes.iter().all(Lane::is_idle);
        if !may_sleep {
            self.doze.end();
        }
        may_sleep
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal<D> {
        &self.journal
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Gathering,
    Appended,
    Synced,
}

/// The committer's end of one sender.
struct Lane {
    ring: Arc<Ring>,
    /// What was taken from the ring and does not fit the batch entirely.
    front: Vec<RecordBytes>,
    /// How many of `front` are in a batch already.
    taken: usize,
    in_batch: u64,
    durable: u64,
    progress: Arc<Progress>,
    wake: Arc<dyn Wake>,
}

impl Lane {
    /// Moves at most `room` records, and at most one submission, into the batch; returns how many.
    fn take(&mut self, room: usize, batch: &mut Vec<RecordBytes>) -> usize {
        if room == 0 {
            return 0;
        }
        if self.taken == self.front.len() {
            let Some(next) = self.ring.take() else { return 0 };
            let mut spent = std::mem::replace(&mut self.front, next);
            spent.clear();
            self.ring.recycle(spent);
            self.taken = 0;
        }
        let records = &self.front[self.taken..];
        let records = &records[..records.len().min(room)];
        batch.extend_from_slice(records);
        self.taken += records.len();
        self.in_batch += records.len() as u64;
        records.len()
    }

    fn is_idle(&self) -> bool {
        self.taken == self.front.len() && self.ring.is_empty()
    }
}
