//! Sends the durable journal upstream, one range at a time, each from where the last acknowledgement ended.

use crate::disk::Disk;
use crate::journal::{JournalError, JournalReader, Position};
use crate::link::ToHub;
use bytes::Bytes;

/// Ships one node's journal.
pub struct Shipping<D: Disk> {
    reader: JournalReader<D>,
    acknowledged: Position,
    /// Where the range on its way ends.
    on_its_way: Option<Position>,
    connected: bool,
}

impl<D: Disk> Shipping<D> {
    /// Ships what `reader` reads.
    #[must_use]
    pub fn new(reader: JournalReader<D>) -> Self {
        Self { reader, acknowledged: Position(0), on_its_way: None, connected: false }
    }

    /// Upstream holds everything below.
    #[must_use]
    pub fn acknowledged(&self) -> Position {
        self.acknowledged
    }

    /// Durable bytes that upstream does not hold yet.
    #[must_use]
    pub fn unreported_bytes(&self) -> u64 {
        self.reader.durable().0.saturating_sub(self.acknowledged.0)
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

    /// The next range to send, if there is one and none is on its way.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn poll(&mut self) -> Result<Option<ToHub>, JournalError> {
        if !self.connected || self.on_its_way.is_some() {
            return Ok(None);
        }
        let Some(shipment) = self.reader.read(self.acknowledged, RANGE_BYTES_MAX)? else { return Ok(None) };
        self.on_its_way = Some(shipment.end);
        let from = self.acknowledged;
        // The slot that may be left over at the end of a segment goes along, as zeros: positions are offsets there too.
        let left_over = usize::try_from(shipment.start.0 - from.0).expect("a slot is left over at most");
        let mut bytes = vec![0; left_over];
        bytes.extend_from_slice(&shipment.bytes);
        Ok(Some(ToHub::Journal { from: from.0, bytes: Bytes::from(bytes) }))
    }
}

/// Most bytes of one range.
const RANGE_BYTES_MAX: usize = 1 << 20;
