//! What the hub holds of one node while it runs.

use super::archive::Archive;
use super::books::{Books, NodeRow, Place};
use super::registry::Held;
use super::sales::Count;
use super::{HubError, NodeFault};
use crate::disk::Disk;
use crate::ids::{KeyEpoch, SellerId, TerminalId, VarietyId};
use crate::journal::Position;
use crate::journal::batch::{self, Chain};
use crate::journal::record::{Stream, TransferFact};
use crate::stock::{NodeKeys, WrappedKey};
use crate::transfer::Giver;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use zeroize::Zeroizing;

/// One node: its transfers, what it waits for, and its journal.
pub(super) struct Node {
    pub(super) seller: SellerId,
    pub(super) name: String,
    pub(super) wrapped_key: WrappedKey,
    /// Its keys, as derived from the node key; only the link's is used here.
    pub(super) keys: NodeKeys,
    /// By [`Stream`].
    pub(super) givers: [Giver; 2],
    /// What it holds of the registry.
    pub(super) registry: Held,
    /// Whether a connection has said hello.
    pub(super) greeted: bool,
    /// What it asked for in bulk, in order; the first is being served.
    pub(super) needs: VecDeque<Need>,
    pub(super) archive: Archive,
    /// The archive is committed up to here.
    pub(super) journal_acked: u64,
    /// Ranges that continue `journal_acked`.
    pub(super) journal: Vec<Bytes>,
    /// What they say of sales.
    pub(super) sales: Count,
    /// Where the journal stands after them.
    pub(super) journal_chain: Chain,
    /// Whether a range came that is not answered yet.
    pub(super) journal_heard: bool,
    /// After a full disk: not before this time.
    pub(super) archive_after_ms: u64,
}

/// An order in bulk.
pub(super) struct Need {
    pub(super) request: u64,
    pub(super) variety: VarietyId,
    pub(super) wanted: u32,
    pub(super) granted: u32,
}

impl Node {
    /// A node with its open transfers.
    pub(super) fn load<D: Disk>(
        row: &NodeRow,
        open: Vec<TransferFact>,
        disk: &D,
        hub_keys: &NodeKeys,
    ) -> Result<Self, HubError> {
        let archive = Archive::open(disk, row.seller, row.journal_acked)?;
        let node_key = unwrap_node_key(hub_keys, row.seller, &row.wrapped_key)?;
        let (bulk, urgent): (Vec<_>, Vec<_>) = open.into_iter().partition(|fact| fact.stream == Stream::Bulk);
        Ok(Self {
            seller: row.seller,
            name: row.name.clone(),
            wrapped_key: row.wrapped_key,
            keys: NodeKeys::from_node_key(&node_key),
            givers: [
                Giver::new(Stream::Bulk, row.given[0], bulk),
                Giver::new(Stream::Urgent, row.given[1], urgent),
            ],
            registry: Held::default(),
            greeted: false,
            needs: VecDeque::new(),
            journal_chain: archive.chain(),
            archive,
            journal_acked: row.journal_acked,
            journal: Vec::new(),
            sales: Count::default(),
            journal_heard: false,
            archive_after_ms: 0,
        })
    }

    pub(super) fn giver(&mut self, stream: Stream) -> &mut Giver {
        &mut self.givers[stream as usize]
    }

    pub(super) fn row(&self) -> NodeRow {
        NodeRow {
            seller: self.seller,
            name: self.name.clone(),
            wrapped_key: self.wrapped_key,
            given: [self.givers[0].highest(), self.givers[1].highest()],
            journal_acked: self.journal_acked,
        }
    }

    /// Forgets the connection.
    pub(super) fn cut(&mut self) {
        self.greeted = false;
        self.givers.iter_mut().for_each(Giver::handle_cut);
        self.needs.clear();
        self.journal.clear();
        self.sales = Count::default();
        self.journal_chain = self.archive.chain();
        self.journal_heard = false;
    }

    pub(super) fn need(&mut self, need: Need) -> Result<(), NodeFault> {
        if need.request == 0 || need.wanted == 0 {
            return Err(NodeFault::Malformed);
        }
        if self.needs.len() >= NEEDS_MAX {
            return Err(NodeFault::TooManyRequests(NEEDS_MAX));
        }
        self.needs.push_back(need);
        Ok(())
    }

    /// Takes a range of the journal if it begins where the last one ended. Nothing else comes of it before the commit.
    pub(super) fn journal(&mut self, from: u64, bytes: &Bytes) -> Result<(), NodeFault> {
        self.journal_heard = true;
        let held = self.journal.iter().map(|range| range.len() as u64).sum::<u64>();
        let gap = from.checked_sub(self.journal_acked + held);
        // At the end of a segment one slot may be too short for a batch.
        if held >= JOURNAL_BYTES_MAX || bytes.is_empty() || !matches!(gap, Some(0 | SLOT_BYTES)) {
            return Ok(());
        }
        self.journal_chain.admit_range(Position(from), bytes, &mut |_, record| self.sales.add(record))?;
        if gap == Some(SLOT_BYTES) {
            self.journal.push(Bytes::from_static(&[0; SLOT_BYTES as usize]));
        }
        self.journal.push(bytes.clone());
        Ok(())
    }
}

/// The transfers that are not settled, by node.
pub(super) fn open_transfers(books: &Books) -> BTreeMap<SellerId, Vec<TransferFact>> {
    let mut open: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for piece in books.pieces.values() {
        if let Place::Given { node, stream, number, settled: false } = piece.place {
            let (span, generation) = (piece.span, piece.generation);
            let variety = books.blocks[&span.block].properties.variety;
            // What is settled below is worked out by the giver whenever it offers.
            let fact = TransferFact { stream, number, span, generation, variety, settled_below: 1 };
            open.entry(node).or_default().push(fact);
        }
    }
    open
}

pub(super) fn wrap_node_key(hub_keys: &NodeKeys, seller: SellerId, node_key: &[u8; 32]) -> WrappedKey {
    hub_keys.terminals().wrap_terminal(TerminalId(0), KeyEpoch(seller.0), node_key)
}

pub(super) fn unwrap_node_key(
    hub_keys: &NodeKeys,
    seller: SellerId,
    wrapped: &WrappedKey,
) -> Result<Zeroizing<[u8; 32]>, HubError> {
    let opened = hub_keys.terminals().unwrap_terminal(TerminalId(0), KeyEpoch(seller.0), wrapped);
    opened.map_err(|_| HubError::Key)
}

/// Most bulk requests a node may have waiting.
pub(super) const NEEDS_MAX: usize = 1024;
/// Journal ranges taken between two commits; the rest comes again.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;
const SLOT_BYTES: u64 = batch::SLOT_BYTES as u64;
