//! Durable batches as bytes, to be sent upstream.

use super::batch::{BATCH_BYTES_MAX, Batch, SLOT_BYTES};
use super::{JournalError, Position, segments, segments::Shared};
use crate::disk::Disk;
use std::ops::Range;
use std::sync::Arc;

/// Reads what is durable, from any thread, without touching the writer's mapping.
pub struct JournalReader<D: Disk> {
    shared: Arc<Shared<D>>,
}

/// Whole batches that follow each other in one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shipment {
    /// Where the first batch begins. It may be one slot after what was asked for, at a segment's end.
    pub start: Position,
    /// Where the last batch ends: what to ask for next.
    pub end: Position,
    /// The bytes from `start` to `end`.
    pub bytes: Vec<u8>,
}

impl<D: Disk> JournalReader<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    /// What stands in every batch of this opening.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.shared.options.mark
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.shared.marks.durable())
    }

    /// Where the oldest segment begins: everything below is recycled.
    #[must_use]
    pub fn oldest(&self) -> Position {
        self.shared.position_of(self.shared.marks.oldest())
    }

    /// The batches that follow `from`, which is 0 or the end of a batch: at most `bytes_max` bytes, but at least one
    /// batch. `None` when nothing after `from` is durable. Every batch is verified on the way.
    ///
    /// # Errors
    /// [`JournalError::Recycled`] when `from` lies below the oldest segment, [`JournalError::Corrupt`] when a durable
    /// batch does not verify, [`JournalError::Disk`].
    pub fn read(&self, from: Position, bytes_max: usize) -> Result<Option<Shipment>, JournalError> {
        let mut bytes = Vec::new();
        let read = self.read_into(from, bytes_max, &mut bytes)?;
        Ok(read.map(|Range { start, end }| Shipment { start, end, bytes }))
    }

    /// As [`read`](Self::read), into a buffer that serves again and again: its bytes are those of the range returned.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_into(
        &self,
        from: Position,
        bytes_max: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Range<Position>>, JournalError> {
        let durable = self.durable();
        if from >= durable {
            return Ok(None);
        }
        let segment_bytes = self.shared.options.segment_bytes;
        let (mut number, mut offset) = (from.0 / segment_bytes, from.0 % segment_bytes);
        let mut found = self.read_segment(number, offset, durable, bytes_max, bytes)?;
        if found.is_none() && segment_bytes - offset < 2 * SLOT_BYTES as u64 {
            (number, offset) = (number + 1, 0);
            found = self.read_segment(number, offset, durable, bytes_max, bytes)?;
        }
        let corrupt =
            || JournalError::Corrupt { file: segments::segment_path(number), offset, proven: durable };
        found.map(Some).ok_or_else(corrupt)
    }

    /// `None` when no batch begins there.
    fn read_segment(
        &self,
        number: u64,
        offset: u64,
        durable: Position,
        bytes_max: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Range<Position>>, JournalError> {
        let segment_bytes = self.shared.options.segment_bytes;
        let start = Position(number * segment_bytes + offset);
        let readable_bytes = durable.0.saturating_sub(start.0).min(segment_bytes - offset);
        let length =
            bytes_max.max(BATCH_BYTES_MAX).min(usize::try_from(readable_bytes).unwrap_or(usize::MAX));
        let read = self.shared.disk.read(&segments::segment_path(number), offset, length, bytes);
        // After the read: a segment that was given up before then may already hold other bytes, or none.
        let oldest = self.shared.position_of(self.shared.marks.oldest_after_reading());
        if start < oldest {
            return Err(JournalError::Recycled { asked: start, oldest });
        }
        read?;
        let mut end = start;
        while let Some(batch) = Batch::parse(&bytes[(end.0 - start.0) as usize..], end) {
            if end > start && batch.end().0 - start.0 > bytes_max as u64 {
                break;
            }
            end = batch.end();
        }
        bytes.truncate((end.0 - start.0) as usize);
        Ok((end > start).then_some(start..end))
    }
}

impl<D: Disk> Clone for JournalReader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}
