//! The unit of writing: one header and its records, under one chained checksum.

use super::{
    Position,
    record::{RECORD_BYTES, RecordBytes},
};
use crate::planted::{self, Fault};
use xxhash_rust::xxh3::xxh3_64;

/// Size of a slot: a header or a record. Everything in a segment is aligned to it.
pub const SLOT_BYTES: usize = RECORD_BYTES;

/// Most bytes of one batch, its header included.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// A whole batch that lies where its header says and has the checksum its header says.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What the header says.
    pub header: Header,
    /// Header and records.
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch at the beginning of `bytes`, which lie at `position`. Whether it follows the batch before it is
    /// for [`Chain::admit`] to say.
    #[must_use]
    pub fn parse(bytes: &'a [u8], position: Position) -> Option<Self> {
        let header = Header::decode(bytes.first_chunk()?)?;
        let length = header.length_bytes();
        let is_here = header.position == position || planted::is(Fault::TrustStaleBatch);
        if !is_here || length > BATCH_BYTES_MAX {
            return None;
        }
        let bytes = bytes.get(..length)?;
        (xxh3_64(&bytes[POSITION..]) == header.checksum).then_some(Self { header, bytes })
    }

    /// The batch at the beginning of `bytes`, which was [parsed](Self::parse) there before.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn verified(bytes: &'a [u8]) -> Self {
        let header = bytes.first_chunk().and_then(Header::decode).expect("a batch was parsed here before");
        Self { header, bytes: &bytes[..header.length_bytes()] }
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &'a [RecordBytes] {
        let (records, rest) = self.bytes[SLOT_BYTES..].as_chunks::<RECORD_BYTES>();
        debug_assert!(rest.is_empty(), "a batch is whole slots");
        records
    }

    /// Where the batch ends.
    #[must_use]
    pub fn end(&self) -> Position {
        self.header.end()
    }
}

/// What stands before the records of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Of this batch.
    pub checksum: u64,
    /// Where the header lies.
    pub position: Position,
    /// Counts batches, empty ones too, from 0.
    pub number: u64,
    /// Where the batch before this one ends, which was durable when this one was written.
    pub proven: Position,
    /// Of the batch before this one; 0 before the first.
    pub previous_checksum: u64,
    /// Counts the openings of the journal, from 1.
    pub boot_epoch: u32,
    /// How many records follow.
    pub record_count: u32,
    /// Drawn at random for each opening, and the same in all its batches: two that go on from copies of one journal never look
    /// alike.
    pub mark: u64,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        (bytes[..CHECKSUM] == MAGIC).then(|| Self {
            checksum: word(CHECKSUM),
            position: Position(word(POSITION)),
            number: word(NUMBER),
            proven: Position(word(PROVEN)),
            previous_checksum: word(PREVIOUS_CHECKSUM),
            boot_epoch: half(BOOT_EPOCH),
            record_count: half(RECORD_COUNT),
            mark: word(MARK),
        })
    }

    fn length_bytes(&self) -> usize {
        (self.record_count as usize).saturating_add(1).saturating_mul(SLOT_BYTES)
    }

    /// Where the batch ends.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.position.0 + self.length_bytes() as u64)
    }
}

/// Where a journal stands between two batches: what the next one must say to be the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    /// Where the last batch ends.
    pub end: Position,
    /// Number of the next batch.
    pub number: u64,
    /// Checksum of the last batch.
    pub checksum: u64,
    /// Boot epoch of the last batch; 0 before the first.
    pub boot_epoch: u32,
    /// Mark of the opening that the last batch is of.
    pub mark: u64,
}

impl Chain {
    /// Takes the next batch if it is the one that follows; otherwise nothing changes.
    #[must_use]
    pub fn admit(&mut self, header: &Header) -> bool {
        // A new opening of the journal begins with a batch of its own, so epochs go up one by one.
        let follows = header.number == self.number
            && header.previous_checksum == self.checksum
            && header.proven == self.end
            && header.position >= self.end
            && (header.boot_epoch == self.boot_epoch + 1
                || (header.boot_epoch, header.mark) == (self.boot_epoch, self.mark));
        let is_stale = planted::is(Fault::TrustStaleBatch) && header.position < self.end;
        if follows || is_stale {
            *self = Self::after(header);
        }
        follows || is_stale
    }

    /// Where a journal stands after a batch that is taken on trust: the first one in the oldest segment.
    #[must_use]
    pub fn after(header: &Header) -> Self {
        Self {
            end: header.end(),
            number: header.number + 1,
            checksum: header.checksum,
            boot_epoch: header.boot_epoch,
            mark: header.mark,
        }
    }

    /// Takes a range of whole batches that begins at `start`, as [`JournalReader`](super::JournalReader) ships them, and
    /// shows the records with the end of their batch. Batches that were taken before are skipped, so that a range may
    /// come again.
    ///
    /// # Errors
    /// [`BrokenRange`]; nothing was shown or changed then.
    pub fn admit_range(
        &mut self,
        start: Position,
        bytes: &[u8],
        visit: &mut dyn FnMut(Position, &RecordBytes),
    ) -> Result<(), BrokenRange> {
        let mut after = *self;
        let mut at = 0;
        while at < bytes.len() {
            let position = Position(start.0 + at as u64);
            let batch = Batch::parse(&bytes[at..], position).ok_or(BrokenRange { position })?;
            if batch.end() > after.end && !after.admit(&batch.header) {
                return Err(BrokenRange { position });
            }
            at += batch.bytes.len();
        }
        let mut at = 0;
        while let Some(batch) = Batch::parse(&bytes[at..], Position(start.0 + at as u64)) {
            if batch.end() > self.end {
                batch.records().iter().for_each(|record| visit(batch.end(), record));
            }
            at += batch.bytes.len();
        }
        *self = after;
        Ok(())
    }

    /// Writes the batch that follows, at `position`, over `into`, and moves past it.
    ///
    /// # Panics
    /// When the records are too many for a batch, or one begins with the byte that headers begin with.
    pub(crate) fn encode(&mut self, into: &mut Vec<u8>, position: Position, records: &[RecordBytes]) {
        let length = (records.len() + 1) * SLOT_BYTES;
        assert!(length <= BATCH_BYTES_MAX, "a batch of {} records is too large", records.len());
        assert!(position >= self.end, "batches do not overlap");
        let record_count = u32::try_from(records.len()).expect("bounded by BATCH_BYTES_MAX");
        into.clear();
        into.extend_from_slice(&MAGIC);
        into.extend_from_slice(&[0; 8]);
        for word in [position.0, self.number, self.end.0, self.checksum] {
            into.extend_from_slice(&word.to_le_bytes());
        }
        into.extend_from_slice(&self.boot_epoch.to_le_bytes());
        into.extend_from_slice(&record_count.to_le_bytes());
        into.extend_from_slice(&self.mark.to_le_bytes());
        debug_assert_eq!(into.len(), SLOT_BYTES);
        into.extend_from_slice(records.as_flattened());
        // Recovery looks for headers at every slot; a record must never pass for one.
        assert!(records.iter().all(|record| record[0] != MAGIC[0]), "no record begins as a header does");
        let checksum = xxh3_64(&into[POSITION..]);
        into[CHECKSUM..POSITION].copy_from_slice(&checksum.to_le_bytes());
        *self =
            Self { end: Position(position.0 + length as u64), number: self.number + 1, checksum, ..*self };
    }
}

/// A range of the journal that came from elsewhere does not continue what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the journal that was received is broken at position {position}")]
pub struct BrokenRange {
    /// Where the first batch begins that is damaged or does not follow.
    pub position: Position,
}

/// Begins every header; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"\xf7pinjrn\x01";

// 0 magic | 8 checksum | 16 position | 24 number | 32 proven | 40 previous checksum | 48 boot epoch | 52 record count |
// 56 mark. The checksum covers everything from 16 to the end of the last record.
const CHECKSUM: usize = 8;
const POSITION: usize = 16;
const NUMBER: usize = 24;
const PROVEN: usize = 32;
const PREVIOUS_CHECKSUM: usize = 40;
const BOOT_EPOCH: usize = 48;
const RECORD_COUNT: usize = 52;
const MARK: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8) -> RecordBytes {
        [byte; RECORD_BYTES]
    }

    #[test]
    fn a_batch_survives_and_no_single_flipped_bit_does() {
        let mut chain = Chain { boot_epoch: 1, ..Chain::default() };
        let before = chain;
        let mut bytes = Vec::new();
        chain.encode(&mut bytes, Position(128), &[record(1), record(2)]);
        let batch = Batch::parse(&bytes, Position(128)).unwrap();
        assert_eq!(batch.records(), [record(1), record(2)]);
        let mut reader = before;
        assert!(reader.admit(&batch.header));
        assert_eq!(reader, chain);
        assert!(!reader.admit(&batch.header), "it does not follow itself");
        assert!(Batch::parse(&bytes, Position(192)).is_none(), "elsewhere it is no batch");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::parse(&bytes, Position(128)).is_none(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn only_the_next_batch_is_admitted() {
        let start = Chain { end: Position(64), number: 5, checksum: 77, boot_epoch: 3, mark: 9 };
        let next = Header {
            checksum: 1,
            position: Position(64),
            number: 5,
            proven: Position(64),
            previous_checksum: 77,
            boot_epoch: 3,
            record_count: 0,
            mark: 9,
        };
        let admits = |header: Header| {
            let mut chain = start;
            chain.admit(&header)
        };
        assert!(admits(next));
        assert!(admits(Header { boot_epoch: 4, ..next }));
        assert!(admits(Header { position: Position(128), ..next }), "a slot left over at a segment's end");
        assert!(!admits(Header { number: 6, ..next }));
        assert!(!admits(Header { previous_checksum: 78, ..next }));
        assert!(!admits(Header { proven: Position(0), ..next }));
        assert!(!admits(Header { boot_epoch: 2, ..next }));
        assert!(!admits(Header { boot_epoch: 5, ..next }));
        assert!(!admits(Header { mark: 8, ..next }), "another opening with the number of this one");
        assert!(admits(Header { boot_epoch: 4, mark: 8, ..next }));
    }
}
