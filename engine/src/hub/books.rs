//! What the hub knows, as rows, and how it changes.

use super::doubts::DoubtRow;
use super::orders::OrderRow;
use super::sales::SalesRow;
use crate::ids::{BatchId, BlockId, KeyEpoch, OrderId, SellerId, Span, TerminalId, VarietyId};
use crate::intake::Source;
use crate::journal::record::{Stream, TransferFact};
use crate::policy::Reason;
use crate::registry::{Dealer, State, Variety};
use crate::stock::{BlockProperties, WrappedKey};
use std::collections::BTreeMap;

/// All rows of a hub's store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Counts the starts of the hub: whoever holds a lower one is out of date.
    pub epoch: u64,
    /// Numbers to give next.
    pub counters: Counters,
    /// By id.
    pub varieties: BTreeMap<VarietyId, Variety>,
    /// By id.
    pub dealers: BTreeMap<u32, Dealer>,
    /// By id.
    pub terminals: BTreeMap<TerminalId, TerminalRow>,
    /// By number, of those of nodes.
    pub managers: BTreeMap<SellerId, ManagerRow>,
    /// By id.
    pub nodes: BTreeMap<SellerId, NodeRow>,
    /// By id.
    pub batches: BTreeMap<BatchId, BatchRow>,
    /// By id.
    pub blocks: BTreeMap<BlockId, BlockRow>,
    /// By block and first index. The pieces of a block cover it without gap or overlap.
    pub pieces: BTreeMap<(BlockId, u32), PieceRow>,
    /// By number.
    pub orders: BTreeMap<OrderId, OrderRow>,
    /// What was sold, by variety.
    pub sales: BTreeMap<VarietyId, SalesRow>,
    /// Up to which position each node's archived journal is counted in `sales`; in step with `journal_acked`, but for
    /// archives that are older than the count.
    pub counted: BTreeMap<SellerId, u64>,
    /// By id, which grows: the latest moves of stock.
    pub moves: BTreeMap<u64, MoveRow>,
    /// Whether the hub is going offline.
    pub drain: Option<Drain>,
    /// What lost nodes held and what became of it, by node, block and first index. The ranges of a node do not overlap.
    pub doubts: BTreeMap<(SellerId, BlockId, u32), DoubtRow>,
}

impl Books {
    /// Puts one row in the place of the one with its key, if there is one. A piece that shrinks or grows changes its
    /// `end`; its neighbours come in the same commit.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Counters(counters) => self.counters = *counters,
            Change::Variety(row) => _ = self.varieties.insert(row.id, row.clone()),
            Change::Dealer(row) => _ = self.dealers.insert(row.id, row.clone()),
            Change::Terminal(row) => _ = self.terminals.insert(row.id, row.clone()),
            Change::Manager(row) => _ = self.managers.insert(row.id, row.clone()),
            Change::Node(row) => _ = self.nodes.insert(row.seller, row.clone()),
            Change::Batch(row) => _ = self.batches.insert(row.batch, row.clone()),
            Change::Block(row) => _ = self.blocks.insert(row.properties.block, *row),
            Change::Piece(row) => _ = self.pieces.insert((row.span.block, row.span.start), *row),
            Change::Order(row) => _ = self.orders.insert(row.number, row.clone()),
            Change::Sales(row) => _ = self.sales.insert(row.variety, row.clone()),
            Change::Counted(node, position) => _ = self.counted.insert(*node, *position),
            Change::Move(row) => _ = self.moves.insert(row.id, *row),
            Change::ForgetMoves { below } => self.moves = self.moves.split_off(below),
            Change::Drain(drain) => self.drain = *drain,
            Change::Doubt(row) => {
                _ = self.doubts.insert((row.node, row.span.block, row.span.start), row.clone());
            }
            Change::ForgetDoubt(node, block, first) => _ = self.doubts.remove(&(*node, *block, *first)),
        }
    }
}

/// One row as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The numbers to give next.
    Counters(Counters),
    /// A variety.
    Variety(Variety),
    /// A dealer.
    Dealer(Dealer),
    /// A terminal.
    Terminal(TerminalRow),
    /// A host connection manager that relays.
    Manager(ManagerRow),
    /// A node.
    Node(NodeRow),
    /// A batch.
    Batch(BatchRow),
    /// A block.
    Block(BlockRow),
    /// A piece of a block.
    Piece(PieceRow),
    /// An order.
    Order(OrderRow),
    /// What was sold of a variety.
    Sales(SalesRow),
    /// The journal of a node is counted up to here.
    Counted(SellerId, u64),
    /// A move of stock.
    Move(MoveRow),
    /// Moves with lower ids are forgotten.
    ForgetMoves {
        /// The lowest id that stays.
        below: u64,
    },
    /// Whether the hub is going offline.
    Drain(Option<Drain>),
    /// A range of what a lost node held.
    Doubt(DoubtRow),
    /// The range of this node that begins there has become a part of another.
    ForgetDoubt(SellerId, BlockId, u32),
}

/// Numbers to give next; none is ever given twice, whatever becomes of what it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The registry's version as it stands.
    pub registry_version: u64,
    /// The next batch.
    pub batch: u64,
    /// The next block.
    pub block: u64,
    /// The next variety.
    pub variety: u32,
    /// The next dealer.
    pub dealer: u32,
    /// The next terminal, unless a higher one was named by the operator.
    pub terminal: u64,
    /// The next seller.
    pub seller: u32,
    /// The next order.
    pub order: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            registry_version: 0,
            batch: 1,
            block: 1,
            variety: 1,
            dealer: 1,
            terminal: 1,
            seller: 1,
            order: 1,
        }
    }
}

/// A terminal, with its key sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalRow {
    /// Its number.
    pub id: TerminalId,
    /// Its dealer.
    pub dealer: u32,
    /// Counts its keys.
    pub key_epoch: KeyEpoch,
    /// The key of that epoch, wrapped under the hub's key for terminals.
    pub wrapped_key: WrappedKey,
    /// Whether it may sell.
    pub state: State,
}

/// A host connection manager that relays, with its key sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerRow {
    /// Its number, never given to another, nor to a node.
    pub id: SellerId,
    /// What operators call it; no node is called so.
    pub name: String,
    /// Its node key, wrapped as a node's.
    pub wrapped_key: WrappedKey,
    /// Whether servers let it in.
    pub state: State,
}

/// A node below the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number, never given to another.
    pub seller: SellerId,
    /// What operators call it.
    pub name: String,
    /// The node key, wrapped under the hub's key for terminals as the key of terminal 0, which no terminal is, with
    /// the seller's number as key epoch.
    pub wrapped_key: WrappedKey,
    /// The highest transfer number given, by [`Stream`].
    pub given: [u64; 2],
    /// The node's journal is archived up to this position.
    pub journal_acked: u64,
    /// The highest number of a transfer from the node that was taken or refused; 0: none.
    pub taken: u64,
    /// How those ended that the node may still ask about, by number: taken or not.
    pub returns: BTreeMap<u64, (TransferFact, bool)>,
    /// Whether the node is going offline.
    pub drain: Option<Drain>,
    /// Whether it belongs to the network.
    pub fate: Fate,
    /// When it was last heard, in milliseconds of Unix time, as of the last change of this row; 0: never.
    pub heard_ms: u64,
    /// Where its journal ended when it stopped with nothing left; `None`: it has not, or was heard again.
    pub farewell: Option<u64>,
}

/// Whether a node belongs to the network. Its number is never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fate {
    /// It does, whether it can be reached or not.
    #[default]
    Member,
    /// An operator has declared it lost: what it held is in doubt.
    Lost {
        /// When, in milliseconds of Unix time.
        at_ms: u64,
        /// The highest number of a transfer to the hub that its archived journal tells of.
        given: u64,
    },
    /// It has left with nothing open: the hub answers for its sequences.
    Closed {
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
}

/// That somebody is going offline, and gives its stock away first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// PINs that it has given away since.
    pub moved: u64,
}

/// One transfer, and why it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveRow {
    /// Grows with every move.
    pub id: u64,
    /// In which direction.
    pub way: Way,
    /// To or from whom.
    pub node: SellerId,
    /// The transfer's numbering.
    pub stream: Stream,
    /// The transfer's number.
    pub number: u64,
    /// Of what.
    pub variety: VarietyId,
    /// Which PINs.
    pub span: Span,
    /// Their ownership generation from then on.
    pub generation: u32,
    /// Why; `None`: it was called for in an earlier connection, and is not known any more.
    pub reason: Option<Reason>,
    /// When, in milliseconds of Unix time: to a node, when it was given; from a node, when it was taken.
    pub at_ms: u64,
}

/// A direction on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Way {
    /// From the hub to a node.
    ToNode = 0,
    /// From a node to the hub.
    FromNode = 1,
}

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// Its number.
    pub batch: BatchId,
    /// What was delivered.
    pub variety: VarietyId,
    /// How many PINs.
    pub received: u64,
    /// When it was committed, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Where it came from.
    pub source: Source,
}

/// One block. Its file is [`crate::stock::segment::block_path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRow {
    /// What its PINs have in common.
    pub properties: BlockProperties,
    /// How many PINs.
    pub count: u32,
    /// Its data key, wrapped under the hub's key at rest.
    pub wrapped_key: WrappedKey,
}

/// A part of a block that is in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceRow {
    /// The part.
    pub span: Span,
    /// Its ownership generation: 1 as delivered, one more with every OUT.
    pub generation: u32,
    /// Where it is.
    pub place: Place,
}

/// Where a piece is, as far as the hub knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the hub's inventory.
    Hub,
    /// Given to a node: in the transfer of this number until that is settled, then the node's.
    Given {
        /// To whom.
        node: SellerId,
        /// The transfer's numbering.
        stream: Stream,
        /// The transfer's number.
        number: u64,
        /// Whether the node's acceptance is durable here.
        settled: bool,
    },
    /// At the hub, and never given again: an operator wrote it off while it was in doubt.
    Withdrawn,
}
