//! What the terminals of a run keep on disk: which sequences they may have used.
//!
//! A terminal must know after a loss of power which sequences it may have sent. Instead of one write a sale, each
//! terminal reserves a stretch of sequences at a time, durably, before it sends the first of them; within a stretch the
//! variety follows from terminal and sequence. What an earlier run reserved is sent as a repeat.

use crate::catalogue::Variety;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use wire::message::{KeyEpoch, SellerId, TerminalId};

/// Whose sequences: each seller numbers a terminal's sequences itself, per key epoch.
pub(crate) type Series = (TerminalId, KeyEpoch, SellerId);

/// The directory in which terminals keep their reservations; one process at a time.
#[derive(Debug)]
pub(crate) struct Sequences {
    folder: PathBuf,
    reserved_below: HashMap<Series, u64>,
    earlier_varieties: Vec<Variety>,
    _lock: File,
}

/// Why reservations cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SequencesError {
    /// The storage failed.
    #[error("cannot keep the terminals' sequences in {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two processes that are the same terminals would void each other's sales.
    #[error("{path} is in use by another loadgen: give each its own --state and its own terminals")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

impl Sequences {
    /// Opens the folder, made if need be, and reads what earlier runs reserved. `varieties` are what this run will ask for.
    ///
    /// # Errors
    /// [`SequencesError`].
    pub(crate) fn open(folder: &Path, varieties: &[Variety]) -> Result<Self, SequencesError> {
        let failed = |source| SequencesError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SequencesError::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut reserved_below = HashMap::new();
        let mut old = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(FILE_PREFIX) && path.extension().is_some_and(|extension| extension == "csv") {
                read_reservations(&path, &mut reserved_below).map_err(failed)?;
                old.push(path);
            }
        }
        let earlier_varieties = read_varieties(&folder.join(VARIETIES_FILE)).map_err(failed)?;
        let sequences = Self { folder: folder.to_owned(), reserved_below, earlier_varieties, _lock: lock };
        sequences.compact(&old, varieties).map_err(failed)?;
        Ok(sequences)
    }

    /// Sequences of earlier runs end below this; 0 if there are none.
    #[must_use]
    pub(crate) fn reserved_below(&self, series: Series) -> u64 {
        self.reserved_below.get(&series).copied().unwrap_or(0)
    }

    /// What the run before asked for.
    #[must_use]
    pub(crate) fn earlier_varieties(&self) -> &[Variety] {
        &self.earlier_varieties
    }

    /// Where one thread notes its reservations.
    ///
    /// # Errors
    /// [`SequencesError`].
    pub(crate) fn writer(&self, thread: usize) -> Result<Writer, SequencesError> {
        let path = self.folder.join(format!("{FILE_PREFIX}{thread}.csv"));
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.and_then(|file| sync_folder(&self.folder).map(|()| file));
        let file = file.map_err(|source| SequencesError::Io { path: path.clone(), source })?;
        Ok(Writer { file, path, waiting: Vec::new() })
    }

    /// One file in place of many.
    fn compact(&self, old: &[PathBuf], varieties: &[Variety]) -> io::Result<()> {
        let mut text = String::new();
        for ((terminal, key_epoch, seller), below) in &self.reserved_below {
            text += &line(*terminal, *key_epoch, *seller, *below);
        }
        let compacted = self.folder.join(format!("{FILE_PREFIX}earlier.csv"));
        replace(&compacted, text.as_bytes())?;
        for path in old.iter().filter(|path| **path != compacted) {
            fs::remove_file(path)?;
        }
        let lines: String =
            varieties.iter().map(|variety| format!("{},{}\n", variety.product, variety.face_value)).collect();
        replace(&self.folder.join(VARIETIES_FILE), lines.as_bytes())
    }
}

/// One thread's reservations.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    waiting: Vec<u8>,
}

impl Writer {
    /// Notes that sequences below `below` may be sent; only after the next [`sync`](Self::sync) may they.
    pub(crate) fn reserve(&mut self, (terminal, key_epoch, seller): Series, below: u64) {
        self.waiting.extend_from_slice(line(terminal, key_epoch, seller, below).as_bytes());
    }

    /// Makes what was noted durable; does nothing if that is so already.
    ///
    /// # Errors
    /// [`SequencesError`]: nothing noted since the last success may be sent.
    pub(crate) fn sync(&mut self) -> Result<(), SequencesError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.waiting).and_then(|()| self.file.sync_data());
        written.map_err(|source| SequencesError::Io { path: self.path.clone(), source })?;
        self.waiting.clear();
        Ok(())
    }
}

/// The sum at the end shows a line that was not written as a whole.
fn line(terminal: TerminalId, key_epoch: KeyEpoch, seller: SellerId, below: u64) -> String {
    format!("{},{},{},{below},{:x}\n", terminal.0, key_epoch.0, seller.0, sum(terminal.0, below))
}

fn sum(terminal: u64, below: u64) -> u64 {
    (terminal.rotate_left(17) ^ below).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn read_reservations(path: &Path, into: &mut HashMap<Series, u64>) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let mut fields = line.split(',');
        let mut number = |radix| u64::from_str_radix(fields.next()?, radix).ok();
        let parsed = (|| Some((number(10)?, number(10)?, number(10)?, number(10)?, number(16)?)))();
        // A torn line was never relied upon: its sync did not return.
        let Some((terminal, key_epoch, seller, below, check)) = parsed else { continue };
        let (Ok(key_epoch), Ok(seller)) = (u32::try_from(key_epoch), u32::try_from(seller)) else { continue };
        if check == sum(terminal, below) {
            let series = (TerminalId(terminal), KeyEpoch(key_epoch), SellerId(seller));
            let most = into.entry(series).or_default();
            *most = below.max(*most);
        }
    }
    Ok(())
}

fn read_varieties(path: &Path) -> io::Result<Vec<Variety>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let variety = |line: &str| {
        let (product, face_value) = line.split_once(',')?;
        Some(Variety { product: product.parse().ok()?, face_value: face_value.parse().ok()? })
    };
    Ok(text.lines().filter_map(variety).collect())
}

/// Replaces a file as a whole, durably.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// How many sequences a terminal reserves at a time: a disk write every million sales.
pub(crate) const STRETCH: u64 = 1 << 20;
const FILE_PREFIX: &str = "sequences-";
const VARIETIES_FILE: &str = "varieties.csv";

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: Series = (TerminalId(5), KeyEpoch(1), SellerId(2));

    #[test]
    fn a_reservation_outlives_the_process_and_a_torn_line_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let varieties = [Variety { product: 3, face_value: 1000 }];
        {
            let sequences = Sequences::open(folder.path(), &varieties).unwrap();
            assert_eq!(sequences.reserved_below(SERIES), 0);
            assert!(sequences.earlier_varieties().is_empty());
            let mut writer = sequences.writer(0).unwrap();
            writer.reserve(SERIES, 100);
            writer.reserve(SERIES, 200);
            writer.sync().unwrap();
            writer.file.write_all(b"5,1,2,3000").unwrap();
        }
        for _ in 0..2 {
            let sequences = Sequences::open(folder.path(), &varieties).unwrap();
            assert_eq!(sequences.reserved_below(SERIES), 200);
            assert_eq!(sequences.earlier_varieties(), varieties);
        }
    }

    #[test]
    fn two_processes_cannot_be_the_same_terminals() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Sequences::open(folder.path(), &[]).unwrap();
        assert!(matches!(Sequences::open(folder.path(), &[]), Err(SequencesError::InUse { .. })));
    }
}
