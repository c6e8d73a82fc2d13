//! Where the hub keeps its books: two methods, so that SQLite, memory and what may come are alike.

use super::books::{Books, Change};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keeps a hub's books. One hub at a time: a start shuts out whoever started before.
pub trait Store {
    /// Reads everything and starts a new epoch, durably: the returned books carry it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load(&mut self) -> Result<Books, StoreError>;

    /// Makes all changes durable, in order, or none of them. Comes after [`Store::load`].
    ///
    /// # Errors
    /// [`StoreError`]; the hub's memory is ahead of its store then, so the hub must be dropped and loaded again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another hub has started on the same store.
    #[error(
        "another hub has started on this store (its epoch is {theirs}, this one's {ours}): this one stops"
    )]
    Fenced {
        /// This hub's epoch.
        ours: u64,
        /// The store's.
        theirs: u64,
    },
    /// The database failed.
    #[error("the hub's database failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The directory of the database could not be synced.
    #[error("the hub's database directory failed: {0}")]
    Io(#[from] std::io::Error),
    /// The database was written by a newer program.
    #[error("the hub's database has version {found}; this program knows versions up to {known}")]
    Newer {
        /// The database's version.
        found: u32,
        /// The highest one understood.
        known: u32,
    },
    /// A row contradicts its type.
    #[error("the hub's database is damaged: {0}")]
    Damaged(&'static str),
}

impl StoreError {
    /// Whether the cause is lack of room, which passes: load again later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sql(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// A store in memory, for tests and simulation. Clones share the books: dropping a hub and loading a clone is what a
/// crash leaves, everything up to the last commit.
#[derive(Clone, Default)]
pub struct MemoryStore {
    books: Arc<Mutex<Books>>,
    /// The epoch this handle has loaded.
    epoch: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds these books.
    #[must_use]
    pub fn with(books: Books) -> Self {
        Self { books: Arc::new(Mutex::new(books)), epoch: 0 }
    }

    /// What is committed.
    #[must_use]
    pub fn books(&self) -> Books {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Books, StoreError> {
        let mut books = self.lock();
        books.epoch += 1;
        let loaded = books.clone();
        drop(books);
        self.epoch = loaded.epoch;
        Ok(loaded)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut books = self.lock();
        if books.epoch != self.epoch {
            return Err(StoreError::Fenced { ours: self.epoch, theirs: books.epoch });
        }
        changes.iter().for_each(|change| books.apply(change));
        Ok(())
    }
}
