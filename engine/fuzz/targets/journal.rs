//! A journal that is written, loses power, starts again and decays at rest. What is found is always a beginning of what was
//! written. Without decay it holds all that was synced; with decay too if the end is known elsewhere, or it does not open; and
//! one bit that decays costs no more than the last batch, which nothing proves.

use arbitrary::{Arbitrary, Unstructured};
use engine::disk::Disk;
use engine::disk::heap::HeapDisk;
use engine::journal::record::{RECORD_BYTES, RecordBytes};
use engine::journal::{Journal, JournalError, JournalOptions, Position};
use std::sync::Arc;

#[derive(Arbitrary, Debug)]
enum Step {
    Append {
        records: u8,
    },
    Sync,
    /// The process ends, and starts again.
    Restart {
        power: Power,
        end_is_known: bool,
    },
    /// A bit of a file changes; it is noticed at the next start, or makes no difference.
    Decay {
        file: u8,
        offset: u16,
        bit: u8,
    },
    /// The other file of the directory is taken for one of the journal's.
    Foreign {
        number: u8,
        bytes: Vec<u8>,
    },
}

#[derive(Arbitrary, Debug)]
enum Power {
    Stays,
    Goes { dice: u64 },
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let steps = std::iter::from_fn(|| if input.is_empty() { None } else { Step::arbitrary(&mut input).ok() });
    let mut site = Site::default();
    let Ok(mut journal) = site.open(false) else { panic!("an empty disk can be begun on") };
    for step in steps.take(STEPS_MAX) {
        match step {
            Step::Append { records } => {
                while journal.upkeep().prepare().expect("this disk has no end") {}
                if journal.is_unsynced() {
                    site.sync(&mut journal);
                }
                let count = usize::from(records).clamp(1, journal.room());
                if journal.space().try_reserve(count) {
                    let from = site.written;
                    let records: Vec<_> = (from..from + count as u64).map(record).collect();
                    journal.append(&records);
                    site.written += count as u64;
                }
            }
            Step::Sync => site.sync(&mut journal),
            Step::Restart { power, end_is_known } => {
                drop(journal);
                if let Power::Goes { mut dice } = power {
                    site.disk.lose_power(|| {
                        dice = dice.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                        (dice >> 32) % 700
                    });
                }
                match site.open(end_is_known) {
                    Ok(again) => journal = again,
                    Err(error) => {
                        assert!(site.decayed > 0, "{error}");
                        return drop(error.to_string());
                    }
                }
            }
            Step::Decay { file, offset, bit } => {
                let files = site.disk.list("journal").expect("it can be listed");
                let name = format!("journal/{}", files[usize::from(file) % files.len()]);
                site.disk.flip_bit(&name, usize::from(offset) % SEGMENT as usize, bit % 8);
                site.decayed += 1;
            }
            Step::Foreign { number, mut bytes } => {
                bytes.resize(SEGMENT as usize, 0);
                let name = format!("journal/{:016x}.seg", u64::from(number) + 2 + site.written / 64);
                site.disk.write(&name, &[&bytes]).expect("this disk has no end");
                site.decayed = u32::MAX / 2;
            }
        }
    }
}

#[derive(Default)]
struct Site {
    disk: HeapDisk,
    /// How many records were written that may be there, and how many must be.
    written: u64,
    synced: u64,
    synced_end: Position,
    /// How many of them another batch says to be durable.
    proven: u64,
    /// How many bits; very many: a whole file.
    decayed: u32,
}

impl Site {
    fn sync(&mut self, journal: &mut Journal<HeapDisk>) {
        let end = journal.sync().expect("this disk does not fail");
        if self.synced < self.written {
            self.proven = self.synced;
        }
        (self.synced, self.synced_end) = (self.written, end);
    }

    fn open(&mut self, end_is_known: bool) -> Result<Journal<HeapDisk>, JournalError> {
        let options = JournalOptions {
            control_reserve_records: 4,
            segments_ahead: 2,
            ..JournalOptions::with_segment_bytes(SEGMENT)
        };
        let proven = if end_is_known { self.synced_end } else { Position(0) };
        let mut found = Vec::new();
        let disk = Arc::new(self.disk.clone());
        let journal = Journal::open(disk, options, Position(0), proven, &mut |_, records| {
            found.extend_from_slice(records);
            Ok(())
        })?;
        let count = found.len() as u64;
        assert!(count <= self.written, "nothing is found that was not written");
        assert!(found.iter().zip(0..).all(|(found, number)| *found == record(number)), "or another record");
        let least = match self.decayed {
            _ if end_is_known => self.synced,
            0 => self.synced,
            1 => self.proven,
            _ => 0,
        };
        assert!(count >= least, "{count} of at least {least} of {}", self.synced);
        self.proven = self.proven.min(count);
        (self.written, self.synced, self.synced_end) = (count, count, journal.durable());
        Ok(journal)
    }
}

fn record(number: u64) -> RecordBytes {
    let mut bytes = [1; RECORD_BYTES];
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

const SEGMENT: u64 = 8192;
const STEPS_MAX: usize = 64;
