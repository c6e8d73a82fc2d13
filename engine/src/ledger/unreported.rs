//! What was sold and is not known upstream yet: if this node's disk died, nobody would know of it.

use super::BookkeeperError;
use crate::disk::Disk;
use crate::ids::VarietyId;
use crate::journal::batch::Batch;
use crate::journal::{JournalError, JournalReader, Position, Record};
use std::collections::{BTreeMap, VecDeque};

/// Counts the sales in the part of the durable journal that upstream has not acknowledged.
pub struct Unreported<D: Disk> {
    reader: JournalReader<D>,
    /// Counted up to here.
    position: Position,
    /// What was counted, oldest first.
    stretches: VecDeque<Stretch>,
    /// What was read last, kept for its capacity.
    buffer: Vec<u8>,
}

/// Sales that upstream has not acknowledged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UnreportedSales {
    /// PINs sold, by variety.
    pub pins: BTreeMap<VarietyId, u64>,
    /// When the first of them was sold, in milliseconds of Unix time.
    pub since_ms: Option<u64>,
}

/// Some batches that follow each other.
struct Stretch {
    end: Position,
    sales: UnreportedSales,
}

impl<D: Disk> Unreported<D> {
    /// Counts in what `reader` reads.
    #[must_use]
    pub fn new(reader: JournalReader<D>) -> Self {
        Self { reader, position: Position(0), stretches: VecDeque::new(), buffer: Vec::new() }
    }

    /// Forgets what lies below `acknowledged` and counts on, about `bytes_max` bytes; false when it stood at the journal's
    /// durable end already.
    ///
    /// # Errors
    /// [`BookkeeperError`].
    pub fn advance(&mut self, acknowledged: Position, bytes_max: usize) -> Result<bool, BookkeeperError> {
        while self.stretches.front().is_some_and(|stretch| stretch.end <= acknowledged) {
            self.stretches.pop_front();
        }
        self.position = self.position.max(acknowledged);
        let read = match self.reader.read_into(self.position, bytes_max, &mut self.buffer) {
            // What is given back is acknowledged, though nobody may have said so since the start.
            Err(JournalError::Recycled { oldest, .. }) => {
                self.position = oldest;
                return Ok(true);
            }
            read => read?,
        };
        let Some(range) = read else { return Ok(false) };
        let mut sales = UnreportedSales::default();
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let batch = Batch::verified(rest);
            let position = batch.end();
            for bytes in batch.records() {
                let record = Record::decode(bytes);
                let record = record.map_err(|source| BookkeeperError::Unknown { position, source })?;
                if let Record::Sold { variety, at_ms, .. } = record {
                    sales.add(variety, 1, at_ms);
                }
            }
            rest = &rest[(position.0 - batch.header.position.0) as usize..];
        }
        self.position = range.end;
        self.stretches.push_back(Stretch { end: range.end, sales });
        if self.stretches.len() > STRETCHES_MAX {
            self.merge_pairs();
        }
        Ok(true)
    }

    /// What was counted. A stretch of which only a part is acknowledged still counts as a whole.
    #[must_use]
    pub fn sales(&self) -> UnreportedSales {
        let mut all = UnreportedSales::default();
        self.stretches.iter().for_each(|stretch| all.add_all(&stretch.sales));
        all
    }

    fn merge_pairs(&mut self) {
        let mut merged = VecDeque::with_capacity(STRETCHES_MAX);
        for (nth, stretch) in self.stretches.drain(..).enumerate() {
            match merged.back_mut() {
                Some(Stretch { end, sales }) if nth % 2 == 1 => {
                    *end = stretch.end;
                    sales.add_all(&stretch.sales);
                }
                _ => merged.push_back(stretch),
            }
        }
        self.stretches = merged;
    }
}

impl UnreportedSales {
    fn add(&mut self, variety: VarietyId, pins: u64, at_ms: u64) {
        *self.pins.entry(variety).or_default() += pins;
        self.since_ms = Some(self.since_ms.map_or(at_ms, |since_ms| since_ms.min(at_ms)));
    }

    fn add_all(&mut self, other: &Self) {
        for (&variety, &pins) in &other.pins {
            self.add(variety, pins, other.since_ms.unwrap_or(u64::MAX));
        }
    }
}

/// Stretches kept apart: more are taken together.
const STRETCHES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::ids::{PinId, TerminalId};
    use crate::journal::record::{VendName, WithdrawReason};
    use crate::journal::{Journal, JournalOptions};
    use std::sync::Arc;
    use wire::message::KeyEpoch;

    fn sold(sequence: u64, variety: u32, at_ms: u64) -> Record {
        let vend = VendName { terminal: TerminalId(7), key_epoch: KeyEpoch(1), sequence };
        Record::Sold { vend, pin: PinId(sequence), variety: VarietyId(variety), confirmed: 0, at_ms }
    }

    fn journal(disk: &Arc<HeapDisk>) -> Journal<HeapDisk> {
        let options = JournalOptions::with_segment_bytes(64 << 10);
        Journal::open(disk.clone(), options, Position(0), Position(0), &mut |_, _| Ok(())).unwrap()
    }

    fn append(journal: &mut Journal<HeapDisk>, records: &[Record]) -> Position {
        let records: Vec<_> = records.iter().map(Record::encode).collect();
        journal.append(&records);
        journal.sync().unwrap()
    }

    #[test]
    fn sales_count_from_when_they_are_durable_until_they_are_acknowledged() {
        let disk = Arc::new(HeapDisk::new());
        let mut journal = journal(&disk);
        let mut unreported = Unreported::new(journal.reader());
        let nothing = unreported.sales();
        assert_eq!((nothing.pins.len(), nothing.since_ms), (0, None));

        let first = append(&mut journal, &[sold(1, 1, 5_000), sold(2, 2, 5_001)]);
        assert!(unreported.advance(Position(0), 1 << 20).unwrap());
        append(&mut journal, &[sold(3, 1, 6_000)]);
        assert!(unreported.advance(Position(0), 1 << 20).unwrap());
        assert!(!unreported.advance(Position(0), 1 << 20).unwrap(), "all is counted");
        let both = unreported.sales();
        assert_eq!(both.pins, BTreeMap::from([(VarietyId(1), 2), (VarietyId(2), 1)]));
        assert_eq!(both.since_ms, Some(5_000));

        unreported.advance(first, 1 << 20).unwrap();
        let rest = unreported.sales();
        assert_eq!((rest.pins, rest.since_ms), (BTreeMap::from([(VarietyId(1), 1)]), Some(6_000)));
        unreported.advance(journal.durable(), 1 << 20).unwrap();
        assert_eq!(unreported.sales(), UnreportedSales::default());
    }

    #[test]
    fn what_is_not_a_sale_does_not_count_and_a_restart_counts_again_what_is_still_there() {
        let disk = Arc::new(HeapDisk::new());
        let mut before = journal(&disk);
        let span = crate::ids::Span { block: crate::ids::BlockId(1), start: 0, end: 3 };
        let reason = WithdrawReason::Expired;
        let withdrawn = Record::Withdrawn { span, variety: VarietyId(1), reason, at_ms: 1 };
        append(&mut before, &[withdrawn, sold(1, 1, 5_000)]);
        drop(before);
        let mut unreported = Unreported::new(journal(&disk).reader());
        while unreported.advance(Position(0), 1 << 20).unwrap() {}
        assert_eq!(unreported.sales().pins, BTreeMap::from([(VarietyId(1), 1)]));
    }

    #[test]
    fn a_long_backlog_is_kept_in_a_bounded_number_of_stretches() {
        let disk = Arc::new(HeapDisk::new());
        let mut journal = journal(&disk);
        let mut unreported = Unreported::new(journal.reader());
        let count = 2 * STRETCHES_MAX as u64;
        for sequence in 1..=count {
            while journal.room() == 0 {
                journal.upkeep().prepare().unwrap();
            }
            append(&mut journal, &[sold(sequence, 1, sequence)]);
            unreported.advance(Position(0), 1).unwrap();
        }
        while unreported.advance(Position(0), 1).unwrap() {}
        assert!(unreported.stretches.len() <= STRETCHES_MAX);
        let sales = unreported.sales();
        assert_eq!((sales.pins[&VarietyId(1)], sales.since_ms), (count, Some(1)));
    }
}
