//! What became of sequences that left their terminal's window: the only records that are looked up on disk.
//!
//! A *run* is an immutable file of entries sorted by (terminal, key epoch, sequence), 32 bytes each, written together
//! with a checkpoint. A sequence leaves its window once; only a reprint puts a later entry beside that. When [`RUNS_MERGED`] runs of about one size have
//! come together they are merged into one, so that a look-up searches few files.

use crate::disk::{Disk, DiskError};
use crate::ids::{IdMap, KeyEpoch, PinId, TerminalId};
use crate::journal::record::VendName;
use crate::seller::Answer;
use std::sync::Arc;
use wire::message::SequenceState;
use xxhash_rust::xxh3::xxh3_64;

/// How a sequence ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its state.
    pub state: SequenceState,
    /// Its PIN, if one was sold.
    pub pin: Option<PinId>,
    /// How often it was reprinted.
    pub copies: u8,
}

/// The runs of a node, and the entries that are in no run yet.
pub struct History<D: Disk> {
    disk: Arc<D>,
    runs: Vec<Run<D>>,
    /// Entries in no run yet that came last, in the order they came: they are sorted only when somebody looks.
    fresh: Vec<Entry>,
    /// The other entries in no run yet, sorted: sequences leave a terminal's window in order, so most are put at the end.
    pending: IdMap<TerminalId, Vec<Entry>>,
}

/// Why the history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk said so.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A run is damaged.
    #[error("{path} is damaged: restore it from a copy, or remove it and lose the status of old sequences")]
    Damaged {
        /// The file.
        path: String,
    },
}

impl<D: Disk> History<D> {
    /// Opens the runs that a checkpoint names, and removes others: merged since, or written for a checkpoint that never
    /// came to be, whose entries follow from the journal again.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn open(disk: Arc<D>, names: &[String]) -> Result<Self, HistoryError> {
        for found in disk.list(DIRECTORY)? {
            let path = format!("{DIRECTORY}/{found}");
            if !names.contains(&path) {
                disk.remove(&path)?;
            }
        }
        let runs = names.iter().map(|name| Run::open(&*disk, name)).collect::<Result<_, _>>()?;
        Ok(Self { disk, runs, fresh: Vec::new(), pending: IdMap::default() })
    }

    /// Takes in a sequence that left its window.
    pub fn add(&mut self, vend: VendName, answer: &Answer) {
        let (state, pin, detail) = match *answer {
            Answer::Sold { pin, state, copies } => (state, pin.0, copies),
            Answer::Declined { reason, variety } => {
                (SequenceState::Declined, u64::from(variety.0), reason as u8)
            }
            Answer::Blocked => (SequenceState::Blocked, 0, 0),
            // Skipped and never used: nothing to remember.
            Answer::Open | Answer::Closed => return,
        };
        self.fresh.push(Entry { vend, state, detail, pin });
    }

    /// Takes in a reprint of a sequence that has left its window.
    pub fn add_reprint(&mut self, vend: VendName) {
        if let Some(entry) = self.entry(vend) {
            self.fresh.push(Entry { detail: entry.detail.saturating_add(1), ..entry });
        }
    }

    /// How a sequence ended; `None` if it never left a window.
    pub fn find(&mut self, vend: VendName) -> Option<Outcome> {
        let entry = self.entry(vend)?;
        let is_sold = matches!(
            entry.state,
            SequenceState::Sold | SequenceState::Confirmed | SequenceState::Voided | SequenceState::Unsettled
        );
        let copies = if is_sold { entry.detail } else { 0 };
        Some(Outcome { state: entry.state, pin: is_sold.then_some(PinId(entry.pin)), copies })
    }

    /// Writes what is in no run yet to one named after `number`, durably, merges runs if there are many, and returns
    /// the names for the next checkpoint and of files that are not needed once it is durable.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing changed then, but a file of that number may be left.
    pub fn write(&mut self, number: u64) -> Result<(Vec<String>, Vec<String>), HistoryError> {
        self.sort();
        let mut terminals: Vec<TerminalId> = self.pending.keys().copied().collect();
        terminals.sort_unstable();
        let mut entries = Vec::with_capacity(self.pending.values().map(Vec::len).sum());
        terminals.iter().for_each(|terminal| entries.extend_from_slice(&self.pending[terminal]));
        let mut merged = self.runs.len();
        if !entries.is_empty() {
            while let Some(last) = merged.checked_sub(RUNS_MERGED).map(|from| &self.runs[from..merged])
                && last.iter().all(|run| run.len() <= entries.len().max(RUN_ENTRIES_MIN) * 2)
            {
                for run in last.iter().rev() {
                    entries.extend(run.entries());
                }
                merged -= RUNS_MERGED;
            }
            if merged < self.runs.len() {
                // Stable, and newest first: of several entries of a sequence the latest is kept.
                entries.sort_by_key(|entry| entry.vend);
                entries.dedup_by_key(|entry| entry.vend);
            }
            let name = format!("{DIRECTORY}/{number:016x}.run");
            let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
            entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.encode()));
            let mut header = [0; HEADER_BYTES];
            header[..8].copy_from_slice(MAGIC);
            header[8..16].copy_from_slice(&(entries.len() as u64).to_le_bytes());
            header[16..24].copy_from_slice(&xxh3_64(&bytes).to_le_bytes());
            self.disk.write(&name, &[&header, &bytes])?;
            let run = Run::open(&*self.disk, &name)?;
            let dropped = self.runs.drain(merged..).map(|run| run.name).collect();
            self.runs.push(run);
            self.pending.clear();
            return Ok((self.names(), dropped));
        }
        Ok((self.names(), Vec::new()))
    }

    fn sort(&mut self) {
        for entry in std::mem::take(&mut self.fresh) {
            self.put(entry);
        }
    }

    fn put(&mut self, entry: Entry) {
        let entries = self.pending.entry(entry.vend.terminal).or_default();
        if entries.last().is_none_or(|last| last.vend < entry.vend) {
            return entries.push(entry);
        }
        match entries.binary_search_by_key(&entry.vend, |entry| entry.vend) {
            Ok(at) => entries[at] = entry,
            Err(at) => entries.insert(at, entry),
        }
    }

    /// The latest entry of a sequence.
    fn entry(&mut self, vend: VendName) -> Option<Entry> {
        self.sort();
        let pending = self.pending.get(&vend.terminal).and_then(|entries| {
            let at = entries.binary_search_by_key(&vend, |entry| entry.vend).ok()?;
            Some(entries[at])
        });
        pending.or_else(|| self.runs.iter().rev().find_map(|run| run.find(vend)))
    }

    fn names(&self) -> Vec<String> {
        self.runs.iter().map(|run| run.name.clone()).collect()
    }
}

/// One immutable file.
struct Run<D: Disk> {
    name: String,
    content: D::Content,
}

impl<D: Disk> Run<D> {
    fn open(disk: &D, name: &str) -> Result<Self, HistoryError> {
        let content = disk.open(name)?;
        let run = Self { name: name.to_owned(), content };
        let bytes = run.content.as_ref();
        let is_whole = bytes.len() >= HEADER_BYTES
            && &bytes[..8] == MAGIC
            && u64_at(bytes, 8) == ((bytes.len() - HEADER_BYTES) / ENTRY_BYTES) as u64
            && u64_at(bytes, 16) == xxh3_64(&bytes[HEADER_BYTES..]);
        if is_whole { Ok(run) } else { Err(HistoryError::Damaged { path: name.to_owned() }) }
    }

    fn len(&self) -> usize {
        (self.content.as_ref().len() - HEADER_BYTES) / ENTRY_BYTES
    }

    fn entry(&self, index: usize) -> Entry {
        let at = HEADER_BYTES + index * ENTRY_BYTES;
        Entry::decode(&self.content.as_ref()[at..at + ENTRY_BYTES])
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        (0..self.len()).map(|index| self.entry(index))
    }

    fn find(&self, vend: VendName) -> Option<Entry> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).vend < vend { low = middle + 1 } else { high = middle }
        }
        (low < self.len()).then(|| self.entry(low)).filter(|entry| entry.vend == vend)
    }
}

/// 0 terminal, 8 sequence, 16 PIN (or the variety declined), 24 key epoch, 28 state, 29 copies (or decline reason).
#[derive(Clone, Copy)]
struct Entry {
    vend: VendName,
    state: SequenceState,
    detail: u8,
    pin: u64,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.vend.terminal.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.vend.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.pin.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.vend.key_epoch.0.to_le_bytes());
        bytes[28] = self.state as u8;
        bytes[29] = self.detail;
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let key_epoch = KeyEpoch(u32::from_le_bytes(std::array::from_fn(|i| bytes[24 + i])));
        let vend = VendName { terminal: TerminalId(u64_at(bytes, 0)), key_epoch, sequence: u64_at(bytes, 8) };
        let state = match bytes[28] {
            1 => SequenceState::Sold,
            2 => SequenceState::Confirmed,
            3 => SequenceState::Voided,
            4 => SequenceState::Declined,
            5 => SequenceState::Blocked,
            _ => SequenceState::Unsettled,
        };
        Self { vend, state, detail: bytes[29], pin: u64_at(bytes, 16) }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

const DIRECTORY: &str = "history";
const MAGIC: &[u8; 8] = b"PWHIST01";
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 32;
/// Runs that are merged into one.
const RUNS_MERGED: usize = 8;
/// Runs below this many entries are merged whatever their size.
const RUN_ENTRIES_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::ids::{BlockId, VarietyId};
    use wire::message::DeclineReason;

    #[test]
    fn every_sequence_that_left_its_window_is_found_again_however_often_runs_were_merged() {
        let disk = Arc::new(HeapDisk::new());
        let mut history = History::open(disk.clone(), &[]).unwrap();
        let mut names = Vec::new();
        let name = |number: u64| VendName {
            terminal: TerminalId(number % 7),
            key_epoch: KeyEpoch(1),
            sequence: number,
        };
        for round in 0..40u64 {
            for number in round * 10..round * 10 + 10 {
                let pin = PinId::new(BlockId(number), 3);
                history.add(name(number), &Answer::Sold { pin, state: SequenceState::Confirmed, copies: 0 });
            }
            let dropped;
            (names, dropped) = history.write(round).unwrap();
            for old in dropped {
                disk.remove(&old).unwrap();
            }
        }
        assert!(names.len() <= 2 * RUNS_MERGED, "{} runs", names.len());
        let mut history = History::open(disk, &names).unwrap();
        for number in 0..400 {
            let outcome = history.find(name(number)).unwrap();
            assert_eq!(outcome.pin, Some(PinId::new(BlockId(number), 3)));
        }
        assert_eq!(history.find(name(400)), None);
    }

    #[test]
    fn a_damaged_run_is_named() {
        let disk = Arc::new(HeapDisk::new());
        let mut history = History::open(disk.clone(), &[]).unwrap();
        let vend = VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence: 1 };
        history.add(vend, &Answer::Declined { reason: DeclineReason::OutOfStock, variety: VarietyId(1) });
        let (names, _) = history.write(1).unwrap();
        disk.flip_bit(&names[0], 70, 1);
        assert!(matches!(History::open(disk, &names), Err(HistoryError::Damaged { .. })));
    }
    #[test]
    fn a_run_that_no_checkpoint_came_to_name_is_removed_at_the_next_start() {
        let disk = Arc::new(HeapDisk::new());
        let mut history = History::open(disk.clone(), &[]).unwrap();
        let vend = |sequence| VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence };
        history.add(vend(1), &Answer::Blocked);
        let (named, _) = history.write(1).unwrap();
        history.add(vend(2), &Answer::Blocked);
        history.write(2).unwrap();
        let mut history = History::open(disk.clone(), &named).unwrap();
        assert_eq!(disk.list(DIRECTORY).unwrap().len(), 1);
        assert!(history.find(vend(1)).is_some() && history.find(vend(2)).is_none());
    }
}
