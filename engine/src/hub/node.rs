//! What the hub holds of one node while it runs.

use super::archive::Archive;
use super::books::{Books, Drain, Fate, NodeRow, Place};
use super::doubts::Late;
use super::registry::Held;
use super::sales::Count;
use super::{HubError, NodeFault};
use crate::disk::Disk;
use crate::ids::{KeyEpoch, SellerId, TerminalId, VarietyId};
use crate::journal::Position;
use crate::journal::batch::{self, BrokenRange, Chain};
use crate::journal::record::{Stream, TransferFact};
use crate::ledger::Taken;
use crate::link::{Offer, Report, StockReport, ToHub};
use crate::policy::{Reason, Wait};
use crate::stock::{NodeKeys, WrappedKey};
use crate::transfer::{Giver, Taker, TransferFault};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use zeroize::Zeroizing;

/// One node: its transfers, what it waits for, and its journal.
pub(super) struct Node {
    pub(super) seller: SellerId,
    pub(super) name: String,
    /// The server that it is below; `None`: it is below the hub.
    pub(super) below: Option<SellerId>,
    pub(super) wrapped_key: WrappedKey,
    /// Its keys, as derived from the node key; only the link's is used here.
    pub(super) keys: NodeKeys,
    /// By [`Stream`].
    pub(super) givers: [Giver; 2],
    /// What it holds of the registry.
    pub(super) registry: Held,
    /// Takes what comes back.
    pub(super) taker: Taker,
    /// What is durable of that, but for what the next commit brings.
    pub(super) taken: Taken,
    /// Offers of the node that wait to be compared with the hub's own records.
    pub(super) comparing: Vec<Offer>,
    /// Why what it offers comes back, by number of the transfer; as far as it is known.
    pub(super) return_reasons: BTreeMap<u64, Reason>,
    /// Whether a connection has said hello.
    pub(super) greeted: bool,
    /// Stands in what it has written to its journal since it was started.
    pub(super) mark: u64,
    /// What it said of stock before it was [proven](Node::is_proven).
    pub(super) unheard: Vec<ToHub>,
    /// It did something that closes its connection, and what it says until that is closed is not heard.
    pub(super) refused: bool,
    /// Whether it has offered again what was open, in this connection.
    pub(super) resumed: bool,
    /// What it asked for, in order of arrival.
    pub(super) needs: Vec<Need>,
    /// What is promised to it in bulk and not in a transfer yet, in order.
    pub(super) grants: VecDeque<Grant>,
    /// What was called back from it in this connection, by number.
    pub(super) recalls: BTreeMap<u64, Called>,
    /// What it has, as last reported to this start of the hub; `None`: it has not reported yet.
    pub(super) stock: Option<BTreeMap<VarietyId, Reported>>,
    /// Whether it has reported in this connection.
    pub(super) has_reported: bool,
    /// From its last report: where its journal ended.
    pub(super) journal_end: u64,
    /// From its last report: transfers to the hub that it had not settled.
    pub(super) returns_open: u32,
    /// It had no room for what it was given: nothing is given before this, in [`Hub::elapsed_ms`](super::Hub).
    pub(super) rests_until_ms: u64,
    /// Whether it is going offline.
    pub(super) drain: Option<Drain>,
    /// Whether it belongs to the network.
    pub(super) fate: Fate,
    /// When it was last heard, in milliseconds of Unix time; 0: never.
    pub(super) heard_ms: u64,
    /// Where its journal ended when it stopped with nothing left, if it was not heard since.
    pub(super) farewell: Option<u64>,
    pub(super) archive: Archive,
    /// The archive is committed up to here.
    pub(super) journal_acked: u64,
    /// Ranges that continue `journal_acked`.
    pub(super) journal: Vec<Bytes>,
    /// What they say of sales.
    pub(super) sales: Count,
    /// What they say of what is in doubt, if it is lost, or a node below it is.
    pub(super) late: Late,
    /// Whether a node below it was declared lost.
    pub(super) has_lost_below: bool,
    /// Where the journal stands after them.
    pub(super) journal_chain: Chain,
    /// Whether a range came that is not answered yet.
    pub(super) journal_heard: bool,
    /// After a full disk: not before this, in [`Hub::elapsed_ms`](super::Hub).
    pub(super) archive_after_ms: u64,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Its place in the order of arrival of all requests.
    pub(super) id: u64,
    /// The node's number for it.
    pub(super) request: u64,
    pub(super) variety: VarietyId,
    pub(super) is_urgent: bool,
    /// PINs asked for.
    pub(super) wanted: u32,
    /// PINs promised or given.
    pub(super) granted: u32,
    /// PINs that are in a transfer to the node, or were.
    pub(super) given: u32,
    /// Why the rest waits.
    pub(super) wait: Option<Wait>,
}

impl Need {
    pub(super) fn new(id: u64, request: u64, variety: VarietyId, wanted: u32, is_urgent: bool) -> Self {
        Self { id, request, variety, is_urgent, wanted, granted: 0, given: 0, wait: None }
    }
}

/// Stock promised in bulk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// The request it serves, by [`Need::id`]; `None`: nobody asked.
    pub(super) need: Option<u64>,
    pub(super) variety: VarietyId,
    /// PINs that are in no transfer yet.
    pub(super) left: u64,
    pub(super) reason: Reason,
}

/// Stock called back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    pub(super) variety: VarietyId,
    /// PINs that will come: those asked for, or fewer once the node said that it has no more.
    pub(super) expected: u64,
    /// Whether the node has said so.
    pub(super) is_answered: bool,
    /// Of these, PINs that were offered.
    pub(super) offered: u64,
    pub(super) reason: Reason,
}

/// What a node said it has of one variety, and what has happened since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) report: StockReport,
    /// PINs that it took since.
    pub(super) came: u64,
    /// PINs that it offered since.
    pub(super) went: u64,
}

impl Reported {
    /// PINs that it has in stock now, sales since the report aside.
    pub(super) fn on_hand(&self) -> u64 {
        self.report.on_hand.saturating_add(self.came).saturating_sub(self.went)
    }
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
            below: row.below,
            wrapped_key: row.wrapped_key,
            keys: NodeKeys::from_node_key(&node_key),
            givers: [
                Giver::new(Stream::Bulk, row.given[0], bulk).on_link_of(row.seller),
                Giver::new(Stream::Urgent, row.given[1], urgent).on_link_of(row.seller),
            ],
            registry: Held::default(),
            taker: Taker::new(Stream::Bulk, row.taken, row.returns.values().copied())
                .without_content()
                .on_link_of(row.seller),
            taken: Taken { highest: row.taken, outcomes: row.returns.clone() },
            comparing: Vec::new(),
            return_reasons: BTreeMap::new(),
            greeted: false,
            mark: 0,
            unheard: Vec::new(),
            refused: false,
            resumed: false,
            needs: Vec::new(),
            grants: VecDeque::new(),
            recalls: BTreeMap::new(),
            stock: None,
            has_reported: false,
            journal_end: u64::MAX,
            returns_open: u32::MAX,
            rests_until_ms: 0,
            drain: row.drain,
            fate: row.fate,
            heard_ms: row.heard_ms,
            farewell: row.farewell,
            journal_chain: archive.chain(),
            archive,
            journal_acked: row.journal_acked,
            journal: Vec::new(),
            sales: Count::default(),
            late: Late::default(),
            has_lost_below: false,
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
            below: self.below,
            wrapped_key: self.wrapped_key,
            given: [self.givers[0].highest(), self.givers[1].highest()],
            journal_acked: self.journal_acked,
            taken: self.taken.highest,
            returns: self.taken.outcomes.clone(),
            drain: self.drain,
            fate: self.fate,
            heard_ms: self.heard_ms,
            farewell: self.farewell,
        }
    }

    /// Forgets the connection.
    pub(super) fn cut(&mut self) {
        self.greeted = false;
        self.refused = false;
        self.unheard.clear();
        self.givers.iter_mut().for_each(Giver::handle_cut);
        self.taker.handle_cut();
        self.resumed = false;
        self.has_reported = false;
        self.journal_end = u64::MAX;
        self.needs.clear();
        self.grants.clear();
        self.recalls.clear();
        self.journal.clear();
        self.sales = Count::default();
        self.late = Late::default();
        self.journal_chain = self.archive.chain();
        self.journal_heard = false;
    }

    /// A request arrives. An urgent one too many is not taken.
    pub(super) fn need(&mut self, need: Need) -> Result<bool, NodeFault> {
        if need.request == 0 || need.wanted == 0 {
            return Err(NodeFault::Malformed);
        }
        let alike = self.needs.iter().filter(|open| open.is_urgent == need.is_urgent).count();
        if alike >= NEEDS_MAX {
            return if need.is_urgent { Ok(false) } else { Err(NodeFault::TooManyRequests(NEEDS_MAX)) };
        }
        self.needs.push(need);
        Ok(true)
    }

    /// What the node has.
    ///
    /// # Errors
    /// [`NodeFault::Journal`]: its journal ends where the archive has got to, and the archive is of another opening.
    pub(super) fn handle_report(&mut self, report: &Report) -> Result<(), NodeFault> {
        // It has not looked at its journal yet if that has no end. What a node below a server says may be older than its journal
        // here: they come over different channels, and through the server.
        let is_known = (1..=self.journal_chain.end.0).contains(&report.journal_end);
        if is_known && self.below.is_none() && !self.is_proven() {
            return Err(BrokenRange { position: Position(report.journal_end) }.into());
        }
        self.has_reported = true;
        self.journal_end = report.journal_end;
        self.returns_open = report.returns_open;
        let reported =
            |report: &StockReport| (report.variety, Reported { report: *report, came: 0, went: 0 });
        self.stock = Some(report.stock.iter().map(reported).collect());
        Ok(())
    }

    /// The taker of a transfer answers. What it has taken is part of what it has from now on: its next report says so.
    pub(super) fn handle_answer(
        &mut self,
        stream: Stream,
        number: u64,
        accepted: bool,
    ) -> Result<(), TransferFault> {
        let giver = &mut self.givers[stream as usize];
        let fact = giver.unanswered().find(|fact| fact.number == number).copied();
        giver.handle_answer(number, accepted)?;
        if let Some(fact) = fact.filter(|_| accepted)
            && let Some(reported) = self.reported_mut(fact.variety)
        {
            reported.came += u64::from(fact.span.len());
        }
        Ok(())
    }

    /// PINs in transfers that are not answered, in either direction.
    pub(super) fn open_pins(&self) -> u64 {
        let down = self.givers.iter().flat_map(Giver::unanswered).map(|fact| fact.span);
        let up = self.taker.arriving().map(|offer| offer.span);
        down.chain(up).map(|span| u64::from(span.len())).sum()
    }

    /// PINs of a variety that are on their way to the node, or promised to it.
    pub(super) fn in_flight(&self, variety: VarietyId) -> u64 {
        let open = self.givers.iter().flat_map(Giver::unanswered).filter(|fact| fact.variety == variety);
        open.map(|fact| u64::from(fact.span.len())).sum::<u64>() + self.promised(variety)
    }

    /// PINs of a variety that are promised to the node and in no transfer yet.
    pub(super) fn promised(&self, variety: VarietyId) -> u64 {
        self.grants.iter().filter(|grant| grant.variety == variety).map(|grant| grant.left).sum()
    }

    /// PINs of a variety that open recalls will bring and that were not offered yet.
    pub(super) fn called(&self, variety: VarietyId) -> u64 {
        let called = self.recalls.values().filter(|called| called.variety == variety);
        called.map(|called| called.expected - called.offered).sum()
    }

    /// PINs of a variety that are in transfer from the node.
    pub(super) fn returning(&self, variety: VarietyId) -> u64 {
        let offers = self.taker.arriving().filter(|offer| offer.properties.variety == variety);
        offers.map(|offer| u64::from(offer.span.len())).sum()
    }

    /// PINs of a variety that it has in stock, as far as the hub knows.
    pub(super) fn on_hand(&self, variety: VarietyId) -> u64 {
        self.reported(variety).map_or(0, Reported::on_hand)
    }

    /// What it has said of a variety.
    pub(super) fn reported(&self, variety: VarietyId) -> Option<&Reported> {
        self.stock.as_ref()?.get(&variety)
    }

    /// The same, to be corrected by what has come and gone since.
    pub(super) fn reported_mut(&mut self, variety: VarietyId) -> Option<&mut Reported> {
        self.stock.as_mut()?.get_mut(&variety)
    }

    /// Whether its journal, as far as it has come, has been seen to be the one that is archived. Whoever is started on an old copy never
    /// is: a copy is opened under another mark, and what it writes then does not continue the archive.
    pub(super) fn is_proven(&self) -> bool {
        self.journal_chain.mark == self.mark
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
        let may_settle = self.has_lost_below || matches!(self.fate, Fate::Lost { .. });
        let (sales, late) = (&mut self.sales, &mut self.late);
        self.journal_chain.admit_range(Position(from), bytes, &mut |_, record| {
            sales.add(record);
            if may_settle {
                late.add(record);
            } else {
                late.add_below(record);
            }
        })?;
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

/// Most requests of a kind, in bulk or urgent, that a node may have waiting.
pub(super) const NEEDS_MAX: usize = 1024;
/// Journal ranges taken between two commits; the rest comes again.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;
const SLOT_BYTES: u64 = batch::SLOT_BYTES as u64;
