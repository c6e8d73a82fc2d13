//! What a terminal must still know after it lost power.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

use crate::client::SaleId;
use crate::message::{KeyEpoch, SellerId};

/// One sale that the terminal began and whose final state it does not know yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sale {
    /// Seller and sequence.
    pub id: SaleId,
    /// The product asked for.
    pub product: u32,
    /// The face value asked for, in minor units.
    pub face_value: u64,
    /// How far it came at the terminal.
    pub state: SaleState,
}

/// How far a sale came at the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaleState {
    /// A vend may have been sent; nothing was printed.
    Asked,
    /// Printed; the seller has not yet said that it knows.
    Printed,
    /// Given up, nothing was handed out; the seller has not yet said that it knows.
    Abandoned,
}

/// Everything that a terminal keeps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TerminalState {
    /// The key epoch that all sales belong to.
    pub key_epoch: KeyEpoch,
    /// The unresolved sales.
    pub sales: Vec<Sale>,
    /// Where else the last welcome said that it may connect.
    pub addresses: Vec<SocketAddr>,
}

/// Keeps a [`TerminalState`] through a loss of power.
pub trait Store {
    /// What was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn load(&mut self) -> Result<Option<TerminalState>, StoreError>;

    /// Replaces the state as a whole; on return it is durable.
    ///
    /// # Errors
    /// [`StoreError`] if it may not be durable.
    fn save(&mut self, state: &TerminalState) -> Result<(), StoreError>;
}

/// A terminal's state that cannot be kept: its operator must mend the storage.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage failed.
    #[error("the terminal's state in {path} cannot be read or written: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two processes that are the same terminal would void each other's sales.
    #[error("{path} is in use: another process is this terminal now")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// What is stored was not written by this store.
    #[error("{path}, line {line}: not a terminal's state; restore the file or remove it to start over")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first bad line, from 1.
        line: usize,
    },
}

/// Keeps nothing beyond the process: for tests, and for terminals that may void after every restart.
#[derive(Clone, Default, Debug)]
pub struct MemoryStore(Option<TerminalState>);

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Option<TerminalState>, StoreError> {
        Ok(self.0.clone())
    }

    fn save(&mut self, state: &TerminalState) -> Result<(), StoreError> {
        self.0 = Some(state.clone());
        Ok(())
    }
}

/// Keeps the state in one small text file, replaced atomically. From the first use on it holds a lock on a file
/// beside it, so that a terminal is one process at a time.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    lock: Option<File>,
}

impl FileStore {
    /// A store in the file at `path`, which need not exist; its folder must.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), lock: None }
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.path.clone();
        let file = match File::create(self.beside(".lock")) {
            Ok(file) => file,
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        Ok(())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn replace(&self, content: &str) -> io::Result<()> {
        let temporary = self.beside(".new");
        let mut file = File::create(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Store for FileStore {
    fn load(&mut self) -> Result<Option<TerminalState>, StoreError> {
        self.lock()?;
        match fs::read_to_string(&self.path) {
            Ok(content) => parse(&content)
                .map(Some)
                .map_err(|line| StoreError::Damaged { path: self.path.clone(), line }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StoreError::Damaged { path: self.path.clone(), line: 1 })
            }
            Err(source) => Err(StoreError::Io { path: self.path.clone(), source }),
        }
    }

    fn save(&mut self, state: &TerminalState) -> Result<(), StoreError> {
        self.lock()?;
        self.replace(&format(state)).map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }
}

fn format(state: &TerminalState) -> String {
    use std::fmt::Write as _;
    let mut content = String::new();
    let _ = writeln!(content, "{FIRST_LINE}\nepoch {}", state.key_epoch.0);
    for Sale { id, product, face_value, state } in &state.sales {
        let state = state_name(*state);
        let _ = writeln!(content, "sale {} {} {product} {face_value} {state}", id.seller.0, id.sequence);
    }
    for address in &state.addresses {
        let _ = writeln!(content, "address {address}");
    }
    content
}

/// The state, or the number of the first bad line.
fn parse(content: &str) -> Result<TerminalState, usize> {
    let mut lines = (1_usize..).zip(content.lines());
    lines.next().filter(|(_, line)| *line == FIRST_LINE).ok_or(1_usize)?;
    let epoch =
        lines.next().and_then(|(_, line)| line.strip_prefix("epoch ")?.parse().ok()).ok_or(2_usize)?;
    let mut state = TerminalState { key_epoch: KeyEpoch(epoch), ..TerminalState::default() };
    for (number, line) in lines {
        match line.strip_prefix("address ") {
            Some(address) => state.addresses.push(address.parse().map_err(|_| number)?),
            None => state.sales.push(parse_sale(line).ok_or(number)?),
        }
    }
    Ok(state)
}

fn parse_sale(line: &str) -> Option<Sale> {
    let mut fields = line.strip_prefix("sale ")?.split(' ');
    let sale = Sale {
        id: SaleId { seller: SellerId(fields.next()?.parse().ok()?), sequence: fields.next()?.parse().ok()? },
        product: fields.next()?.parse().ok()?,
        face_value: fields.next()?.parse().ok()?,
        state: {
            let name = fields.next()?;
            STATES.into_iter().find(|state| state_name(*state) == name)?
        },
    };
    fields.next().is_none().then_some(sale)
}

fn state_name(state: SaleState) -> &'static str {
    match state {
        SaleState::Asked => "asked",
        SaleState::Printed => "printed",
        SaleState::Abandoned => "abandoned",
    }
}

const FIRST_LINE: &str = "pinwheel terminal state 1";
const STATES: [SaleState; 3] = [SaleState::Asked, SaleState::Printed, SaleState::Abandoned];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_store_gives_back_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::new(folder.path().join("terminal"));
        assert_eq!(store.load().unwrap(), None);
        let mut state = TerminalState { key_epoch: KeyEpoch(4), ..TerminalState::default() };
        state.addresses =
            Vec::from(["10.0.0.1:7601".parse().unwrap(), "[2001:db8::1]:7602".parse().unwrap()]);
        for (sequence, state_of_sale) in (1..).zip(STATES) {
            let id = SaleId { seller: SellerId(9), sequence };
            state.sales.push(Sale { id, product: 3, face_value: 5000, state: state_of_sale });
            store.save(&state).unwrap();
            assert_eq!(store.load().unwrap(), Some(state.clone()));
        }
    }

    #[test]
    fn a_terminal_is_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("terminal");
        let mut first = FileStore::new(&path);
        first.load().unwrap();
        assert!(matches!(FileStore::new(&path).load(), Err(StoreError::InUse { .. })));
        drop(first);
        FileStore::new(&path).load().unwrap();
    }

    #[test]
    fn a_damaged_file_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("terminal");
        let mut store = FileStore::new(&path);
        let good = format!("{FIRST_LINE}\nepoch 1\nsale 1 2 3 4 asked\n");
        fs::write(&path, &good).unwrap();
        assert_eq!(store.load().unwrap().unwrap().sales.len(), 1);
        for (line, bad) in [
            (1, good.replace("state 1", "state 2")),
            (2, good.replace("epoch 1", "epoch -1")),
            (3, good.replace("asked", "askd")),
            (3, good.replace("asked", "asked 5")),
            (4, good.clone() + "address 10.0.0.1\n"),
            (1, String::new()),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(store.load(), Err(StoreError::Damaged { line: told, .. }) if told == line));
        }
    }
}
