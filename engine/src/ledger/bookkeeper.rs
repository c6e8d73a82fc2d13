//! Follows the durable journal: keeps the ledger, writes checkpoints, gives journal segments back, answers from history.

use super::{CheckpointError, Checkpoints, Contradiction, History, HistoryError, Ledger, Outcome};
use crate::disk::{Disk, DiskError};
use crate::journal::batch::Batch;
use crate::journal::record::{RecordBytes, UnknownRecord, VendName, terminal_of};
use crate::journal::{Journal, JournalError, JournalOptions, JournalReader, Position, Record, Upkeep};
use crate::planted::{self, Fault};
use crate::seller::Answer;
use std::sync::Arc;

/// The reader at the journal's durable end. It sees nothing but durable records, so what it knows survives anything.
pub struct Bookkeeper<D: Disk> {
    disk: Arc<D>,
    reader: JournalReader<D>,
    upkeep: Upkeep<D>,
    checkpoints: Checkpoints<D>,
    ledger: Ledger,
    history: History<D>,
    position: Position,
    /// What was read last, kept for its capacity.
    buffer: Vec<u8>,
    checkpointed: Position,
    checkpoint_bytes: u64,
    /// Files of the history that the last durable checkpoint may name and the next one does not.
    dropped: Vec<String>,
}

/// Why the books cannot be kept. Only a full disk passes; the others stop the node.
#[derive(Debug, thiserror::Error)]
pub enum BookkeeperError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Another file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record of a kind that this version does not know.
    #[error("the journal before position {position}: {source}: was it written by a later version?")]
    Unknown {
        /// Where its batch ends.
        position: Position,
        /// Which.
        source: UnknownRecord,
    },
    /// A record that contradicts those before it.
    #[error("the journal before position {position}: {source}")]
    Contradiction {
        /// Where its batch ends.
        position: Position,
        /// Which.
        source: Contradiction,
    },
}

impl BookkeeperError {
    /// Whether the cause is lack of room, which passes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_full(),
            Self::Disk(error)
            | Self::Checkpoint(CheckpointError::Disk(error))
            | Self::History(HistoryError::Disk(error)) => error.is_full(),
            _ => false,
        }
    }
}

impl<D: Disk> Bookkeeper<D> {
    /// Recovers a node: the latest checkpoint, and everything in the journal above it, durable again by the time this
    /// returns. Also the journal to write on.
    ///
    /// # Errors
    /// [`BookkeeperError`]; the node must not start then.
    pub fn recover(
        disk: Arc<D>,
        options: JournalOptions,
        checkpoint_bytes: u64,
    ) -> Result<(Self, Journal<D>), BookkeeperError> {
        let checkpoints = Checkpoints::new(disk.clone());
        let checkpoint = checkpoints.load()?;
        let mut history = History::open(disk.clone(), &checkpoint.runs)?;
        let mut ledger = checkpoint.ledger;
        let from = checkpoint.position;
        let journal = Journal::open(disk.clone(), options, from, from, &mut |position, records| {
            apply(&mut ledger, &mut history, position, records).map_err(Into::into)
        })?;
        let bookkeeper = Self {
            disk,
            reader: journal.reader(),
            upkeep: journal.upkeep(),
            checkpoints,
            ledger,
            history,
            position: journal.durable(),
            buffer: Vec::new(),
            checkpointed: from,
            checkpoint_bytes,
            dropped: Vec::new(),
        };
        Ok((bookkeeper, journal))
    }

    /// What the journal up to [`Bookkeeper::position`] comes to.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Up to where the books are kept.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Reads on, up to the journal's durable end, but at most about `bytes_max` bytes; false when it stood there already.
    ///
    /// # Errors
    /// [`BookkeeperError`].
    pub fn advance(&mut self, bytes_max: usize) -> Result<bool, BookkeeperError> {
        let read = self.reader.read_into(self.position, bytes_max, &mut self.buffer)?;
        let Some(range) = read else { return Ok(false) };
        let Self { ledger, history, .. } = self;
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let batch = Batch::verified(rest);
            apply(ledger, history, batch.end(), batch.records())?;
            rest = &rest[(batch.end().0 - batch.header.position.0) as usize..];
        }
        self.position = range.end;
        Ok(true)
    }

    /// Whether enough was read since the last checkpoint to write another.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.position.0 - self.checkpointed.0 >= self.checkpoint_bytes
    }

    /// Writes a checkpoint of what was read so far, then gives journal segments back that lie below it and below
    /// `acknowledged`, the position up to which another holds a copy.
    ///
    /// # Errors
    /// [`BookkeeperError`]; the last checkpoint still holds then.
    pub fn checkpoint(&mut self, acknowledged: Position) -> Result<(), BookkeeperError> {
        if self.position > self.checkpointed {
            let (runs, dropped) = self.history.write(self.position.0)?;
            // Kept until a checkpoint without them is durable, which may take more than one try.
            self.dropped.extend(dropped);
            self.checkpoints.write(&self.ledger, self.position, &runs)?;
            self.checkpointed = self.position;
            while let Some(run) = self.dropped.last() {
                self.disk.remove(run)?;
                self.dropped.pop();
            }
        }
        self.recycle(acknowledged)
    }

    /// Gives journal segments back, as [`Bookkeeper::checkpoint`] does, without writing one.
    ///
    /// # Errors
    /// [`BookkeeperError`].
    pub fn recycle(&mut self, acknowledged: Position) -> Result<(), BookkeeperError> {
        let below = if planted::is(Fault::RecycleEarly) {
            self.position
        } else {
            self.checkpointed.min(acknowledged)
        };
        Ok(self.upkeep.recycle_below(below)?)
    }

    /// What became of a sequence, as far as it is durable and read; `None` if it was never used.
    pub fn find(&mut self, vend: VendName) -> Option<Outcome> {
        let answer = self.ledger.answer(vend);
        match answer {
            Answer::Closed => self.history.find(vend),
            Answer::Open => None,
            Answer::Sold { pin, state, copies } => Some(Outcome { state, pin: Some(pin), copies }),
            Answer::Declined { .. } | Answer::Blocked => {
                Some(Outcome { state: answer.state(), pin: None, copies: 0 })
            }
        }
    }
}

/// Takes in the records of a batch.
fn apply<D: Disk>(
    ledger: &mut Ledger,
    history: &mut History<D>,
    position: Position,
    records: &[RecordBytes],
) -> Result<(), BookkeeperError> {
    for records in records.chunks(WARMED_RECORDS) {
        ledger.windows.warm(records.iter().map(terminal_of));
        for bytes in records {
            apply_one(ledger, history, position, bytes)?;
        }
    }
    Ok(())
}

fn apply_one<D: Disk>(
    ledger: &mut Ledger,
    history: &mut History<D>,
    position: Position,
    bytes: &RecordBytes,
) -> Result<(), BookkeeperError> {
    let record = Record::decode(bytes).map_err(|source| BookkeeperError::Unknown { position, source })?;
    if let Record::Reprinted { vend, .. } = record
        && ledger.answer(vend) == Answer::Closed
    {
        history.add_reprint(vend);
    }
    ledger
        .apply(&record, |vend, answer| history.add(vend, &answer))
        .map_err(|source| BookkeeperError::Contradiction { position, source })
}

/// Records whose windows are fetched from memory together.
const WARMED_RECORDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::ids::{KeyEpoch, TerminalId};
    use std::collections::BTreeSet;

    #[test]
    fn no_file_of_the_history_is_left_over_when_a_checkpoint_failed_after_a_merge() {
        let disk = Arc::new(HeapDisk::new());
        let options = JournalOptions::with_segment_bytes(64 << 10);
        let (mut books, mut journal) = Bookkeeper::recover(disk.clone(), options, 1 << 20).unwrap();
        for round in 1..=9 {
            // Six sequences of a terminal leave its window.
            for sequence in 1..=70 {
                let vend = VendName { terminal: TerminalId(round), key_epoch: KeyEpoch(1), sequence };
                assert!(journal.space().try_reserve(1));
                journal.append(&[Record::Blocked { vend, at_ms: 0 }.encode()]);
                journal.sync().unwrap();
            }
            journal.upkeep().prepare().unwrap();
            while books.advance(usize::MAX).unwrap() {}
            if round == 9 {
                // The merged run is written, the checkpoint that names it is not.
                disk.fail_sync_after(Some(2));
                assert!(books.checkpoint(Position(0)).is_err());
                disk.fail_sync_after(None);
            }
            books.checkpoint(Position(0)).unwrap();
        }
        let named = Checkpoints::new(disk.clone()).load().unwrap().runs;
        let found = disk.list("history").unwrap().into_iter().map(|name| format!("history/{name}"));
        assert_eq!(found.collect::<BTreeSet<_>>(), named.into_iter().collect());
    }
}
