//! The fold of a long journal on two processors: what its records come to has two halves that know nothing of each other, stock with
//! its transfers, and sequences. Whoever walks the journal folds the first; the second follows on a thread of its own, chunk by
//! chunk. A short journal is not worth a thread.

use super::bookkeeper::{WARMED_RECORDS, decode, take_in_sequence};
use super::{BookkeeperError, History, Ledger};
use crate::disk::Disk;
use crate::journal::record::{RecordBytes, terminal_of};
use crate::journal::{JournalError, Record, Visit};
use crate::seller::Windows;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::thread::{Scope, ScopedJoinHandle, scope};

/// Folds all that `walk` shows of the journal into `ledger` and `history`, and returns what it returns.
///
/// # Errors
/// Those of `walk`, and in it [`BookkeeperError`] for a record that is unknown or contradicts those before it. Ledger and history are of
/// no use then.
pub(super) fn fold<D: Disk, T>(
    ledger: &mut Ledger,
    history: &mut History<D>,
    walk: impl FnOnce(&mut Visit<'_>) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    let mut windows = std::mem::take(&mut ledger.windows);
    let walked = scope(|scope| {
        let mut sequences = Sequences::Here(Half { windows: &mut windows, history });
        let mut chunk = Vec::new();
        let walked = walk(&mut |position, records| {
            for bytes in records {
                let record = decode(position, bytes)?;
                ledger
                    .apply_to_stock(&record)
                    .map_err(|source| BookkeeperError::Contradiction { position, source })?;
            }
            chunk.extend_from_slice(records);
            if chunk.len() >= CHUNK_RECORDS {
                chunk = sequences.follow(scope, std::mem::take(&mut chunk));
            }
            Ok(())
        });
        sequences.end(&chunk);
        walked
    });
    ledger.windows = windows;
    walked
}

/// The half that is about sequences.
struct Half<'a, D: Disk> {
    windows: &'a mut Windows,
    history: &'a mut History<D>,
}

impl<D: Disk> Half<'_, D> {
    fn take_in(&mut self, records: &[RecordBytes]) {
        for records in records.chunks(WARMED_RECORDS) {
            self.windows.warm(records.iter().map(terminal_of));
            for bytes in records {
                let record = Record::decode(bytes).expect("the other half has decoded it");
                take_in_sequence(self.windows, self.history, &record);
            }
        }
    }
}

/// Where that half is folded.
enum Sequences<'scope, 'a, D: Disk> {
    /// Nowhere yet: there was too little.
    Here(Half<'a, D>),
    There {
        /// Chunks to take in, and those that were.
        full: Sender<Vec<RecordBytes>>,
        empty: Receiver<Vec<RecordBytes>>,
        thread: ScopedJoinHandle<'scope, ()>,
    },
    /// Between two of these, and never seen.
    Nowhere,
}

impl<'scope, 'a: 'scope, D: Disk> Sequences<'scope, 'a, D> {
    /// Has the next chunk taken in, and returns one to fill.
    fn follow(&mut self, scope: &'scope Scope<'scope, '_>, chunk: Vec<RecordBytes>) -> Vec<RecordBytes> {
        *self = match std::mem::replace(self, Self::Nowhere) {
            Self::Here(mut half) => {
                let (full, chunks) = bounded::<Vec<RecordBytes>>(CHUNKS);
                let (taken_in, empty) = bounded(CHUNKS + 1);
                let thread = scope.spawn(move || {
                    for mut chunk in chunks {
                        half.take_in(&chunk);
                        chunk.clear();
                        // Nobody waits for it any more at the end.
                        let _ = taken_in.try_send(chunk);
                    }
                });
                Self::There { full, empty, thread }
            }
            there => there,
        };
        let Self::There { full, empty, .. } = self else { unreachable!("it is there now") };
        // A thread that panicked is found out at the end.
        let _ = full.send(chunk);
        empty.try_recv().unwrap_or_default()
    }

    /// Takes in the rest and waits until everything is.
    fn end(self, rest: &[RecordBytes]) {
        match self {
            Self::Here(mut half) => half.take_in(rest),
            Self::There { full, thread, .. } => {
                let _ = full.send(rest.to_vec());
                drop(full);
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            Self::Nowhere => {}
        }
    }
}

/// Records that go to the other thread together: a mebibyte.
const CHUNK_RECORDS: usize = 16 * 1024;
/// Chunks on their way to it.
const CHUNKS: usize = 4;
