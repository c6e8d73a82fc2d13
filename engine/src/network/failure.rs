//! Why a network cannot start or cannot go on.

use crate::acquisition::SuppliersError;
use crate::disk::DiskError;
use crate::disk::lock::LockError;
use crate::hub::{CommandError, HubError, StoreError};
use crate::ids::SellerId;
use crate::intake::FingerprintError;
use crate::journal::JournalError;
use crate::ledger::BookkeeperError;
use crate::steward::StewardError;
use crate::stock::KeyFileError;
use std::io;
use std::path::PathBuf;

/// Ends a process, or keeps it from starting. Each says what its operator can do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The data directory is not to be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The fingerprint store.
    #[error(transparent)]
    Fingerprints(#[from] FingerprintError),
    /// Who supplies what.
    #[error(transparent)]
    Suppliers(#[from] SuppliersError),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The hub's thread has ended.
    #[error("the hub has stopped")]
    HubGone,
    /// What the seller knew is not there any more.
    #[error(
        "the hub gave stock to seller {}, and its data in {} is gone: restore it from a copy; \
         a seller that starts empty would not know what it has sold",
        seller.0, directory.display()
    )]
    SellerLost {
        /// Which seller.
        seller: SellerId,
        /// Where its data should be.
        directory: PathBuf,
    },
    /// The hub of the same process does not make it.
    #[error("{name} cannot be added: {why}")]
    NotAdmitted {
        /// The node.
        name: String,
        /// What the hub says.
        why: CommandError,
    },
    /// The directory has never joined a hub.
    #[error(
        "{} belongs to no network yet: `pinwheel node add NAME` at the hub prints a join token; put it into the configuration",
        directory.display()
    )]
    NotJoined {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory belongs to another seller than the token.
    #[error(
        "{} belongs to seller {}, the join token to seller {}: each needs a data directory of its own",
        directory.display(), seller.0, token.0
    )]
    OtherSeller {
        /// The directory.
        directory: PathBuf,
        /// Whose it is.
        seller: SellerId,
        /// Whose token came.
        token: SellerId,
    },
    /// The seller's data is an old copy.
    #[error(
        "the hub holds this seller's journal up to position {archived}, its own ends at {durable}: \
         this is an old copy and must not sell"
    )]
    OldSeller {
        /// What the hub holds.
        archived: u64,
        /// Where the journal here ends.
        durable: u64,
    },
    /// The seller's journal is not the one that the hub holds.
    #[error(
        "the hub holds this seller's journal up to position {archived}, where no batch of its own begins ({source}): this is \
         an old copy, or its journal was damaged, and it must not sell"
    )]
    OtherJournal {
        /// What the hub holds.
        archived: u64,
        /// What is there instead.
        source: JournalError,
    },
    /// The books of the seller.
    #[error(transparent)]
    Books(#[from] BookkeeperError),
    /// The steward.
    #[error(transparent)]
    Steward(#[from] StewardError),
    /// A sync failed: nobody knows what is durable.
    #[error("the journal cannot be made durable, so nothing may be answered any more: {0}")]
    NotDurable(JournalError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(JournalError),
    /// The system has no more of what polling needs.
    #[error("cannot wait for connections: {0}")]
    Poll(io::Error),
}

impl Failure {
    /// Whether a file that was whole once is cut short, damaged or gone.
    #[must_use]
    pub fn is_lost_file(&self) -> bool {
        let (Self::Journal(error) | Self::Books(BookkeeperError::Journal(error))) = self else {
            return false;
        };
        matches!(
            error,
            JournalError::Corrupt { .. } | JournalError::Missing { .. } | JournalError::WrongSize { .. }
        )
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Hub(error.into())
    }
}
