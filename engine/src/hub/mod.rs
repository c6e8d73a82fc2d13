//! The hub: central inventory, registry and archive of its nodes' journals.
//!
//! [`Hub`] is a pure state machine over a [`Store`] and a [`Disk`](crate::disk::Disk): take everything that is ready
//! (`handle_*`), [`Hub::commit`] once, then do what [`Hub::poll_output`] says. `spec/hub.md` describes the store and the
//! order of effects.

mod allotting;
mod archive;
mod below;
pub mod books;
mod commands;
mod contents;
pub mod doubts;
mod drains;
mod leaving;
mod machine;
mod node;
pub mod orders;
mod registry;
mod returns;
pub mod sales;
mod serve;
mod settling;
mod shelf;
pub mod sqlite;
pub mod store;
#[cfg(test)]
mod tests;

pub use allotting::{NodeStock, Waiting};
pub use archive::read_archive;
pub use commands::{Command, CommandError, Done, NewKey, Terminals};
pub use doubts::{DoubtRow, DoubtState, Spent};
pub use drains::{HubDrain, NodeDrain};
pub use machine::Hub;
pub use orders::{OrderRow, OrderState, SupplierKind, Supply};
pub use registry::RegistryLag;
pub use returns::Traffic;
pub use sqlite::SqliteStore;
pub use store::{MemoryStore, Store, StoreError};

use crate::disk::DiskError;
use crate::ids::{BlockId, OrderId, SellerId};
use crate::journal::batch::BrokenRange;
use crate::link::{Asked, ToNode};
use crate::stock::SegmentError;
use crate::transfer::TransferFault;

/// What the owner of a [`Hub`] must do, in order.
#[derive(Debug)]
pub enum Output {
    /// Send a message over the node's connection.
    Send {
        /// To whom.
        node: SellerId,
        /// What.
        message: ToNode,
    },
    /// Close the node's connection and tell the operator why. The hub has forgotten the connection already.
    Close {
        /// Whose.
        node: SellerId,
        /// Why.
        fault: NodeFault,
    },
    /// Answer a command.
    Done {
        /// Which.
        ticket: u64,
        /// What came of it.
        result: Result<Done, CommandError>,
    },
    /// Tell a supplier of an order. Look at the order first: it may have changed since.
    PlaceOrder {
        /// Which.
        number: OrderId,
    },
    /// Answer a node's question about a sequence of a seller that is lost or has left, from its archive.
    AnswerFor {
        /// Who asks.
        node: SellerId,
        /// Its question.
        question: u64,
        /// Whose sequence.
        seller: SellerId,
        /// Which, and what is asked of it; nothing can be changed any more.
        asked: Asked,
    },
    /// Something the operator should know; the hub goes on without what is named.
    Alarm(Alarm),
}

/// What a node did against the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// There is no such node.
    #[error("there is no such node")]
    Unknown,
    /// The node has left the network.
    #[error(
        "this node has left the network for good, and needs a number of its own to join again [node_closed]"
    )]
    Closed,
    /// It speaks for a node that is not below it, or says what such a node has to say itself.
    #[error("it speaks for node {}, which is not below it, or says what is not for it to say", .0.0)]
    NotBelow(SellerId),
    /// A message came before the hello.
    #[error("a message came before the hello")]
    HelloMissing,
    /// More requests at once than are allowed.
    #[error("more than {0} requests at once")]
    TooManyRequests(usize),
    /// A request has number 0 or asks for nothing.
    #[error("a request has no number or asks for nothing")]
    Malformed,
    /// A transfer went wrong.
    #[error(transparent)]
    Transfer(#[from] TransferFault),
    /// Its journal does not continue what was archived of it: it was damaged, or the node runs on an old copy of its
    /// data directory.
    #[error("{0}: it was damaged, or the node runs on an old copy of its data directory")]
    Journal(#[from] BrokenRange),
}

/// What stops a hub. Drop it; unless the cause lasts, loading it again is safe at any time.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The store failed, or another hub has started on it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A node has seen a newer hub: this one is an old copy.
    #[error(
        "node {node:?} has seen hub epoch {theirs}, this hub has {ours}: this is an old copy and must not run"
    )]
    OldCopy {
        /// Who said so.
        node: SellerId,
        /// This hub's epoch.
        ours: u64,
        /// The epoch the node has seen.
        theirs: u64,
    },
    /// A node was told that more of its journal is held than there is: this hub is an old copy.
    #[error(
        "the journal of node {node:?} was acknowledged up to {theirs}, this hub holds it up to {ours}: this is an old \
         copy and must not run"
    )]
    OldArchive {
        /// Who said so.
        node: SellerId,
        /// What this hub holds.
        ours: u64,
        /// What was acknowledged.
        theirs: u64,
    },
    /// The file of a block that the hub still answers for is missing or damaged.
    #[error("block {:#x} cannot be read: {source}", block.0)]
    Block {
        /// The block.
        block: BlockId,
        /// What is wrong.
        source: SegmentError,
    },
    /// The file of a block that the hub still answers for has changed since it was written.
    #[error("the records of block {:#x} do not match their checksum", block.0)]
    BlockDamaged {
        /// The block.
        block: BlockId,
    },
    /// The hub's key file is not the one that the store was written with.
    #[error("a key in the hub's database does not open: is this the key file it was made with?")]
    Key,
    /// The archive holds less of a node's journal than was acknowledged.
    #[error("{path} holds {found} bytes of the journal of node {node:?}, {acked} were acknowledged")]
    Archive {
        /// Whose journal.
        node: SellerId,
        /// The file.
        path: String,
        /// Bytes found.
        found: u64,
        /// Bytes that were acknowledged.
        acked: u64,
    },
    /// A file of the archive does not verify.
    #[error("{path}, which holds the journal of node {node:?}, is damaged at position {position}")]
    ArchiveDamaged {
        /// Whose journal.
        node: SellerId,
        /// The file.
        path: String,
        /// The journal position of the first batch that does not verify.
        position: u64,
    },
    /// The registry in the store contradicts itself.
    #[error("the registry in the hub's database is damaged: {0}")]
    Registry(#[from] crate::registry::RegistryError),
    /// An earlier error: this hub should have been dropped.
    #[error("the hub failed before and was not loaded again")]
    Failed,
}

impl HubError {
    /// Whether the cause is lack of room, which passes: load the hub again after a while.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Disk(error) => error.is_full(),
            _ => false,
        }
    }
}

/// Something the operator should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// A block in the inventory cannot be read; nothing is given from it.
    #[error("block {:#x} is set aside: {what}", block.0)]
    BlockSetAside {
        /// The block.
        block: BlockId,
        /// What is wrong.
        what: String,
    },
    /// There is no room for a node's journal: the node keeps it until there is.
    #[error("no room to archive the journal of node {node:?}")]
    ArchiveFull {
        /// Whose journal.
        node: SellerId,
    },
    /// The hub was stopped while an order was being placed, or placing it failed half-way.
    #[error(
        "order {} may or may not have reached supplier {supplier}: it is in doubt and is not sent again unless you say \
         `pinwheel order resend {}`",
        number.0, number.0
    )]
    OrderInDoubt {
        /// Which order.
        number: OrderId,
        /// From whom.
        supplier: String,
    },
    /// An order was given up while it was being placed.
    #[error("order {} had gone out when it was cancelled: it stands", number.0)]
    OrderPlacedAfterAll {
        /// Which order.
        number: OrderId,
    },
    /// A lost node's late journal tells of sales of what was written off. Nobody else has had it.
    #[error("{pins} PINs that were written off at node {node:?} had been sold there: they count as sold")]
    WrittenOffWasSold {
        /// Which node.
        node: SellerId,
        /// How many.
        pins: u64,
    },
    /// A node refused a segment; it is in the hub's inventory again.
    #[error("node {node:?} refused transfer {number}")]
    Refused {
        /// Who.
        node: SellerId,
        /// Which transfer.
        number: u64,
    },
    /// The hub refused what a node offered; it is the node's again.
    #[error("transfer {number} from node {node:?} is refused: {what}")]
    ReturnRefused {
        /// Who offered it.
        node: SellerId,
        /// Which transfer.
        number: u64,
        /// Why.
        what: &'static str,
    },
}
