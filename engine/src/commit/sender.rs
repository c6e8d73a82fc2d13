//! A writer's end: a bounded ring of record buffers that go round.

use super::Wake;
use super::handoff::{Doze, Progress};
use crate::journal::record::RecordBytes;
use crate::planted::{self, Fault};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// One writer's way into the journal. Its records become durable in the order it pushed them.
///
/// Ask [`room`](Self::room) before making a record (and reserve its place in the journal's space), because
/// [`push`](Self::push) must not fail. A reply that depends on the record pushed last is free to leave as soon as
/// [`durable`](Self::durable) reaches what [`submitted`](Self::submitted) returned after the push.
pub struct RecordSender {
    ring: Arc<Ring>,
    /// Pushed, not handed over yet.
    current: Vec<RecordBytes>,
    submitted: u64,
    progress: Arc<Progress>,
    doze: Arc<Doze>,
    committer: Arc<dyn Wake>,
}

impl RecordSender {
    pub(super) fn new(
        ring: Arc<Ring>,
        progress: Arc<Progress>,
        doze: Arc<Doze>,
        committer: Arc<dyn Wake>,
    ) -> Self {
        let current = ring.buffer();
        Self { ring, current, submitted: 0, progress, doze, committer }
    }

    /// How many records can be pushed now, for sure.
    #[must_use]
    pub fn room(&self) -> usize {
        SUBMISSION_RECORDS_MAX - self.current.len() + SUBMISSION_RECORDS_MAX * self.ring.free()
    }

    /// Adds a record.
    ///
    /// # Panics
    /// When there is no [`room`](Self::room).
    pub fn push(&mut self, record: RecordBytes) {
        if self.current.len() == SUBMISSION_RECORDS_MAX {
            let handed_over = self.submit();
            assert!(handed_over, "room is asked for before a record is made");
        }
        self.current.push(record);
        self.submitted += 1;
    }

    /// Hands what was pushed to the committer; false when its ring is full, and then it is to be called again after the
    /// next wake. Pushing alone never starts a commit: call this at the end of each turn.
    pub fn submit(&mut self) -> bool {
        if self.current.is_empty() {
            return true;
        }
        if self.ring.free() == 0 {
            return false;
        }
        let next = self.ring.buffer();
        self.ring.put(std::mem::replace(&mut self.current, next));
        if self.doze.disturb() {
            self.committer.wake();
        }
        true
    }

    /// How many records were pushed so far.
    #[must_use]
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// How many of the pushed records are durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        if planted::is(Fault::ReplyBeforeDurable) {
            return self.submitted;
        }
        self.progress.durable()
    }
}

/// Two bounded queues: full buffers to the committer, empty ones back.
pub(super) struct Ring {
    full: ArrayQueue<Vec<RecordBytes>>,
    empty: ArrayQueue<Vec<RecordBytes>>,
}

impl Ring {
    pub(super) fn new() -> Self {
        // One buffer is with the sender; two are with the committer between the moment it takes the next one and gives
        // back the last; the others are in the queues. So neither ever finds its queue in the wrong state.
        let empty = ArrayQueue::new(SUBMISSIONS_MAX + 3);
        while empty.push(Vec::with_capacity(SUBMISSION_RECORDS_MAX)).is_ok() {}
        Self { full: ArrayQueue::new(SUBMISSIONS_MAX), empty }
    }

    /// How many submissions fit, at least: only the sender makes it fewer.
    fn free(&self) -> usize {
        self.full.capacity() - self.full.len()
    }

    pub(super) fn buffer(&self) -> Vec<RecordBytes> {
        self.empty.pop().expect("there are more buffers than places elsewhere")
    }

    pub(super) fn put(&self, buffer: Vec<RecordBytes>) {
        self.full.push(buffer).expect("the sender saw a free place, and nobody else fills it");
    }

    pub(super) fn take(&self) -> Option<Vec<RecordBytes>> {
        self.full.pop()
    }

    pub(super) fn recycle(&self, buffer: Vec<RecordBytes>) {
        // The committer begins with a buffer that never was in the ring, and has no capacity.
        if buffer.capacity() > 0 {
            self.empty.push(buffer).expect("no more buffers exist than this queue holds");
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

/// Most records in one submission.
pub(super) const SUBMISSION_RECORDS_MAX: usize = 512;

/// Most submissions on their way to the committer.
pub(super) const SUBMISSIONS_MAX: usize = 8;
