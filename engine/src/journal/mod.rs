//! The journal: one node's only source of truth. `spec/journal.md` draws its bytes and argues its recovery.
//!
//! [`Journal`] is the single writer, [`Upkeep`] makes and recycles segments from another thread, [`JournalReader`] reads
//! what is durable from any thread, [`Space`] counts room before a record exists.

pub mod batch;
mod marks;
mod open;
mod reader;
pub mod record;
mod segments;
mod space;
#[cfg(test)]
mod tests;

pub use open::{Recovery, Visit, VisitError};
pub use reader::{JournalReader, Shipment};
pub use record::Record;
pub use segments::Upkeep;
pub use space::Space;

use crate::disk::{Disk, DiskError, Region};
use crate::planted::{self, Fault};
use batch::{BATCH_BYTES_MAX, Chain, SLOT_BYTES};
use record::RecordBytes;
use segments::{Segment, Shared};
use std::fmt;
use std::sync::Arc;

/// A byte offset in the endless journal: segment number × segment size + offset in the segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a journal is laid out and what it holds back.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Size of a segment file, a multiple of 4096. Fixed for the life of a journal.
    pub segment_bytes: u64,
    /// Records for which there is room when sales are refused.
    pub control_reserve_records: u32,
    /// How many segments [`Upkeep`] makes ready beyond the current one, at least 1.
    pub segments_ahead: usize,
    /// How many recycled segments it keeps beyond those, so that a journal in steady use is written where it was written
    /// before and nothing is zeroed; the rest is removed.
    pub segments_spare: usize,
    /// Stands in every batch of this opening: to be drawn at random where a copy of the files may ever be opened beside them.
    pub mark: u64,
}

impl JournalOptions {
    /// The defaults for segments of another size: an eighth of a small segment is reserved.
    #[must_use]
    pub fn with_segment_bytes(segment_bytes: u64) -> Self {
        let eighth = u32::try_from(segment_bytes / 8 / (2 * SLOT_BYTES as u64)).unwrap_or(u32::MAX);
        let control_reserve_records = CONTROL_RESERVE_RECORDS.min(eighth);
        let (segments_ahead, segments_spare) = (SEGMENTS_AHEAD, SEGMENTS_SPARE);
        Self { segment_bytes, control_reserve_records, segments_ahead, segments_spare, mark: 0 }
    }

    /// The same for an opening with this mark.
    #[must_use]
    pub fn marked(self, mark: u64) -> Self {
        Self { mark, ..self }
    }

    /// How many segments beyond the current one are worth keeping.
    fn segments_kept(&self) -> usize {
        self.segments_ahead + self.segments_spare
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self::with_segment_bytes(SEGMENT_BYTES)
    }
}

/// The journal's single writer.
///
/// At most one batch is ever unsynced, so every batch proves that all before it are durable. Drive it in this order:
/// [`append`](Self::append) at most [`room`](Self::room) records whose room was reserved in [`Space`],
/// [`sync`](Self::sync), and only then tell anyone. After a failed sync the journal is poisoned for ever: nobody can know
/// what is durable, and the node has to stop. [`Upkeep::prepare`] is to be called from time to time, from any thread.
pub struct Journal<D: Disk> {
    shared: Arc<Shared<D>>,
    current: Segment<D::Region>,
    /// Offset in the current segment where the next batch goes, if it fits.
    tail: usize,
    chain: Chain,
    /// End of the last batch that was synced.
    durable: Position,
    /// The last batch has no records: there is nothing to prove.
    last_is_empty: bool,
    poisoned: bool,
    /// The batch being written, kept for its capacity.
    buffer: Vec<u8>,
    recovery: Recovery,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal of a node, or begins one where there is none.
    ///
    /// `visit` is shown every batch's records above `from` (below it all is folded into a checkpoint already; 0 without
    /// one), with the position where the batch ends. `proven` is the highest position that anyone else knows to be durable, as a
    /// checkpoint or upstream does. On return all that was visited is durable, whatever the last process left
    /// unsynced, and a batch of a new boot epoch is written.
    ///
    /// # Errors
    /// [`JournalError`]. [`JournalError::Corrupt`] when a batch does not verify although it was durable once;
    /// [`JournalError::Record`] with what `visit` returned.
    pub fn open(
        disk: Arc<D>,
        options: JournalOptions,
        from: Position,
        proven: Position,
        visit: &mut Visit<'_>,
    ) -> Result<Self, JournalError> {
        open::open(disk, options, from, proven, visit)
    }

    /// How many records the next [`append`](Self::append) takes at most: what the current segment has left, or 0 if a
    /// new segment is needed and none is ready.
    #[must_use]
    pub fn room(&self) -> usize {
        let segment_slots = self.shared.segment_bytes() / SLOT_BYTES;
        let left_slots = segment_slots - self.tail / SLOT_BYTES;
        let usable_slots = match left_slots {
            0 | 1 if self.shared.lock_ready().is_empty() => return 0,
            0 | 1 => segment_slots,
            left => left,
        };
        usable_slots.min(BATCH_BYTES_MAX / SLOT_BYTES) - 1
    }

    /// Stores records as one batch, which is not durable yet; returns where it ends.
    ///
    /// # Panics
    /// When the batch before it is not synced, the journal is poisoned, or the records are none or more than
    /// [`room`](Self::room): mistakes of the caller that must not reach the disk.
    pub fn append(&mut self, records: &[RecordBytes]) -> Position {
        assert!(!records.is_empty() && records.len() <= self.room(), "no room for {}", records.len());
        self.write(records);
        self.shared.space.settle(records.len());
        self.chain.end
    }

    /// Writes a batch without records, so that the one before it is proven durable: without that, decay of the very
    /// last batch cannot be told from a write that never finished. For idle moments; [`sync`](Self::sync) it like any
    /// other. False, and nothing written, when there is nothing to prove, or no room.
    ///
    /// # Panics
    /// When the batch before it is not synced, or the journal is poisoned.
    pub fn prove(&mut self) -> bool {
        let left = self.shared.segment_bytes() - self.tail;
        let fits = left >= SLOT_BYTES || !self.shared.lock_ready().is_empty();
        let wanted = !self.last_is_empty && fits && self.shared.space.try_take_empty_batch();
        if wanted {
            self.write(&[]);
        }
        wanted
    }

    /// Makes the last batch durable and returns where it ends. Without an unsynced batch it does nothing.
    ///
    /// # Errors
    /// [`JournalError::Disk`] when the system could not; from then on always [`JournalError::Poisoned`].
    pub fn sync(&mut self) -> Result<Position, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if self.durable < self.chain.end {
            if let Err(error) = self.current.region.sync() {
                self.poisoned = true;
                return Err(error.into());
            }
            self.durable = self.chain.end;
            self.shared.marks.publish_durable(self.durable.0);
        }
        Ok(self.durable)
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Whether a batch is appended and not synced.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.durable < self.chain.end
    }

    /// Counts the openings of this journal, this one included.
    #[must_use]
    pub fn boot_epoch(&self) -> u32 {
        self.chain.boot_epoch
    }

    /// What was found when the journal was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The room left, to be shared with all who make records.
    #[must_use]
    pub fn space(&self) -> Arc<Space> {
        Arc::clone(&self.shared.space)
    }

    /// A handle that makes and recycles segments.
    #[must_use]
    pub fn upkeep(&self) -> Upkeep<D> {
        Upkeep::new(Arc::clone(&self.shared))
    }

    /// A handle that reads durable batches.
    #[must_use]
    pub fn reader(&self) -> JournalReader<D> {
        JournalReader::new(Arc::clone(&self.shared))
    }

    fn write(&mut self, records: &[RecordBytes]) {
        assert!(!self.poisoned, "a poisoned journal takes nothing");
        assert!(!self.is_unsynced(), "at most one batch is unsynced");
        if self.shared.segment_bytes() - self.tail < smallest_batch_bytes(records.len()) {
            self.roll();
        }
        let position = Position(self.current.number * self.shared.options.segment_bytes + self.tail as u64);
        self.chain.encode(&mut self.buffer, position, records);
        self.current.region.store(self.tail, &self.buffer);
        if planted::is(Fault::CheckpointLive) {
            self.shared.marks.publish_durable(self.chain.end.0);
        }
        self.tail += self.buffer.len();
        self.last_is_empty = records.is_empty();
    }

    /// Moves on to the next segment. Everything in the current one is synced.
    fn roll(&mut self) {
        let next = self.shared.lock_ready().pop_front().expect("room was reserved, so a segment is ready");
        assert_eq!(next.number, self.current.number + 1, "segments are made in order");
        // A segment counts one slot less than it has: returned if it was used.
        if self.tail == self.shared.segment_bytes() {
            self.shared.space.add(1);
        }
        self.current = next;
        self.tail = 0;
        // After the old region is gone: upkeep may then rename its file.
        self.shared.marks.move_to(self.current.number);
    }
}

/// What a segment must have left so that a batch begins in it. A batch of records is cut to what is left, so only a
/// single slot is ever left over.
fn smallest_batch_bytes(records: usize) -> usize {
    if records == 0 { SLOT_BYTES } else { 2 * SLOT_BYTES }
}

/// Why the journal cannot be opened, written, or read. All but [`Self::Record`] name a file for the operator.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed, or is full: see [`JournalError::is_full`].
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that were durable once are damaged. The node must not start: records after this place may be lost.
    #[error(
        "{file} is damaged at byte {offset}, although the journal was durable up to position {proven}: \
         restore the file from a copy or settle this node as lost"
    )]
    Corrupt {
        /// The segment file.
        file: String,
        /// Where in it the batch begins that does not verify.
        offset: u64,
        /// Up to here the journal is known to have been durable.
        proven: Position,
    },
    /// A segment file that must be there is not.
    #[error("{file} is missing: the journal cannot be read from position {position} on")]
    Missing {
        /// The segment file.
        file: String,
        /// Its first position.
        position: Position,
    },
    /// A segment file has another size than configured.
    #[error("{file} has {found_bytes} bytes; the journal is configured for segments of {expected_bytes}")]
    WrongSize {
        /// The segment file.
        file: String,
        /// Its size.
        found_bytes: u64,
        /// The configured size.
        expected_bytes: u64,
    },
    /// The reader of the journal refused a record that is intact.
    #[error("the record before journal position {position}: {source}")]
    Record {
        /// Where its batch ends.
        position: Position,
        /// What the reader said.
        source: VisitError,
    },
    /// An earlier sync failed.
    #[error("an earlier sync of the journal failed: nothing may be written any more")]
    Poisoned,
    /// The range was recycled.
    #[error("the journal below position {oldest} is recycled; position {asked} was asked for")]
    Recycled {
        /// What was asked for.
        asked: Position,
        /// Where the oldest segment begins.
        oldest: Position,
    },
}

impl JournalError {
    /// Whether the cause is lack of room, which passes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

/// Default size of a segment file.
pub const SEGMENT_BYTES: u64 = 64 << 20;

const CONTROL_RESERVE_RECORDS: u32 = 4096;
const SEGMENTS_AHEAD: usize = 1;
/// A checkpoint comes once in a segment's length, and sets one segment free.
const SEGMENTS_SPARE: usize = 1;
