//! Sends the durable journal upstream, one range at a time, each from where the last acknowledgement ended.
//!
//! Every range costs upstream a sync of its own, on what may be the same disk: so a range waits until it is worth one,
//! but never long.

use crate::disk::Disk;
use crate::journal::{JournalError, JournalReader, Position};
use crate::link::{RANGE_BYTES_MAX, ToHub};
use bytes::Bytes;

/// Ships one node's journal.
pub struct Shipping<D: Disk> {
    reader: JournalReader<D>,
    acknowledged: Position,
    /// Where the range on its way ends.
    on_its_way: Option<Position>,
    connected: bool,
    /// When to send what there is, however little; in monotonic milliseconds.
    due_ms: u64,
}

impl<D: Disk> Shipping<D> {
    /// Ships what `reader` reads.
    #[must_use]
    pub fn new(reader: JournalReader<D>) -> Self {
        Self { reader, acknowledged: Position(0), on_its_way: None, connected: false, due_ms: 0 }
    }

    /// Upstream has acknowledged everything below: what it said, or what was recycled because it had said so in an earlier
    /// life of this process.
    #[must_use]
    pub fn acknowledged(&self) -> Position {
        self.acknowledged.max(self.reader.oldest())
    }

    /// What stands in every batch since the journal was opened.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.reader.mark()
    }

    /// Where the journal ends durably.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.reader.durable()
    }

    /// Durable bytes that upstream does not hold yet.
    #[must_use]
    pub fn unreported_bytes(&self) -> u64 {
        self.reader.durable().0.saturating_sub(self.acknowledged().0)
    }

    /// Upstream said up to where it holds the journal.
    pub fn handle_acknowledged(&mut self, position: Position) {
        self.acknowledged = position;
        self.on_its_way = None;
        self.connected = true;
    }

    /// The link is gone.
    pub fn handle_cut(&mut self) {
        self.connected = false;
        self.on_its_way = None;
    }

    /// The next range to send, if there is one that is large or old enough and none is on its way.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn poll(&mut self, now_ms: u64) -> Result<Option<ToHub>, JournalError> {
        let is_due = now_ms >= self.due_ms || self.unreported_bytes() >= RANGE_BYTES_MIN;
        if !self.connected || self.on_its_way.is_some() || !is_due {
            return Ok(None);
        }
        self.due_ms = now_ms + RANGE_AGE_MS_MAX;
        let Some(shipment) = self.reader.read(self.acknowledged, RANGE_BYTES_MAX)? else { return Ok(None) };
        self.on_its_way = Some(shipment.end);
        // It may begin one slot further on, at the end of a segment: the hub knows of that.
        Ok(Some(ToHub::Journal { from: shipment.start.0, bytes: Bytes::from(shipment.bytes) }))
    }
}

/// From so many bytes on a range is sent at once.
const RANGE_BYTES_MIN: u64 = 1 << 20;
/// Less than that is sent after so many milliseconds: well below the second in which a sale is to be known upstream.
const RANGE_AGE_MS_MAX: u64 = 200;
