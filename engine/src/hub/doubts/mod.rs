//! What a lost node held: in doubt by range until its late journal or an operator settles it. `spec/hub.md` says why a range
//! may go where.
//!
//! The pieces stay as they were given: the ranges lie over them, and say what is known of each.

mod late;
mod row;

pub(super) use late::Late;
pub use row::{DoubtRow, DoubtState};

use super::books::{Change, Fate, PieceRow, Place};
use super::commands::{CommandError, Done};
use super::{Alarm, Hub, Output, Store};
use crate::audit::DoubtBook;
use crate::disk::Disk;
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::journal::Position;
use crate::journal::record::Stream;
use crate::ledger::{Ledger, Spans};
use row::{find, repaint};
use std::collections::BTreeMap;

/// What the archived journal of a node says it does not hold any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Up to where the journal was read.
    pub position: u64,
    /// The highest number of a transfer to the hub that it tells of.
    pub given: u64,
    /// Sold or withdrawn there, by block.
    pub pins: BTreeMap<BlockId, Spans>,
}

impl Spent {
    /// What the journal comes to, folded up to `position`.
    #[must_use]
    pub fn of(position: Position, ledger: &Ledger) -> Self {
        let mut pins = BTreeMap::<BlockId, Spans>::new();
        for held in ledger.inventory.holdings() {
            let of_block = pins.entry(held.span.block).or_default();
            for &(start, end) in held.sold.intervals().iter().chain(held.withdrawn.intervals()) {
                of_block.insert(start, end);
            }
        }
        Self { position: position.0, given: ledger.given[Stream::Bulk as usize].highest, pins }
    }

    /// Adds what a node below it, which has left, has sold or withdrawn of what it was given.
    pub fn add_below(&mut self, below: &Self) {
        for (&block, spans) in &below.pins {
            let of_block = self.pins.entry(block).or_default();
            spans.intervals().iter().for_each(|&(start, end)| of_block.insert(start, end));
        }
    }
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// An operator declares a node lost. `spent` is what its archive comes to, read to its end.
    pub(super) fn lose_node(&mut self, node: SellerId, spent: &Spent) -> Result<Done, CommandError> {
        self.check_losable(node)?;
        self.check_spent(node, spent)?;
        let (at_ms, varieties) = (self.now_ms, self.varieties());
        let held = self.spans_held(node, spent);
        let doubts = self.by_variety(&held);
        let live = self.nodes.get_mut(&node).expect("it was looked up");
        live.fate = Fate::Lost { at_ms, given: spent.given };
        live.late = Late::default();
        live.drain = None;
        live.farewell = None;
        let row = live.row();
        self.change(Change::Node(row));
        for span in held {
            let row = DoubtRow { node, span, state: DoubtState::InDoubt, at_ms, note: String::new() };
            self.change(Change::Doubt(row));
        }
        self.dirty.extend(varieties);
        Ok(Done::Doubts(doubts))
    }

    /// Whether a node may be declared lost.
    ///
    /// # Errors
    /// [`CommandError`]: it is connected, is lost already, has left, or is no node.
    pub fn check_losable(&self, node: SellerId) -> Result<(), CommandError> {
        let live = self.nodes.get(&node).ok_or(CommandError::NoSuchNode(node))?;
        match live.fate {
            Fate::Lost { .. } => Err(CommandError::NodeLost(live.name.clone())),
            Fate::Closed { .. } => Err(CommandError::NodeClosed(live.name.clone())),
            Fate::Member if live.greeted => Err(CommandError::NodeConnected(live.name.clone())),
            // What it holds is its server's to say.
            Fate::Member if live.below.is_some() => Err(CommandError::NodeBelow(live.name.clone())),
            Fate::Member => self.check_childless(node),
        }
    }

    /// PINs that a node holds, or that are on their way to it or from it, as far as the hub can know, by variety.
    #[must_use]
    pub fn held_by(&self, node: SellerId, spent: &Spent) -> Vec<(VarietyId, u64)> {
        self.by_variety(&self.spans_held(node, spent))
    }

    /// An operator writes off what is in doubt at a node: of one variety or all, and only in these spans, if any are named.
    pub(super) fn write_off(
        &mut self,
        node: SellerId,
        variety: Option<VarietyId>,
        spans: Option<&[Span]>,
        note: &str,
    ) -> Result<Done, CommandError> {
        let live = self.nodes.get(&node).ok_or(CommandError::NoSuchNode(node))?;
        let name = live.name.clone();
        if !matches!(live.fate, Fate::Lost { .. }) {
            return Err(CommandError::NodeNotLost(name));
        }
        if note.len() > NOTE_BYTES_MAX {
            return Err(CommandError::NoteTooLong(NOTE_BYTES_MAX));
        }
        let in_doubt = self.doubts_of(node).filter(|row| row.state == DoubtState::InDoubt);
        let in_doubt: Vec<Span> = in_doubt.map(|row| row.span).collect();
        let wanted = |span: &Span| variety.is_none_or(|variety| self.variety_of(span.block) == Some(variety));
        let mut chosen = Vec::new();
        for span in in_doubt.into_iter().filter(wanted) {
            match spans {
                None => chosen.push(span),
                Some(spans) => chosen.extend(spans.iter().filter_map(|other| common(span, *other))),
            }
        }
        if chosen.is_empty() {
            return Err(CommandError::NothingInDoubt(name));
        }
        let settled = self.by_variety(&chosen);
        for span in chosen {
            let becomes = |state| (state == DoubtState::InDoubt).then_some(DoubtState::WrittenOff);
            self.repaint(node, span, becomes, Some(note));
        }
        self.dirty.extend(settled.iter().map(|(variety, _)| *variety));
        Ok(Done::Doubts(settled))
    }

    /// What lost nodes held and what became of it, by node, block and index.
    pub fn doubts(&self) -> impl Iterator<Item = &DoubtRow> {
        self.books.doubts.values()
    }

    /// The same of one node.
    pub fn doubts_of(&self, node: SellerId) -> impl Iterator<Item = &DoubtRow> {
        let (from, to) = ((node, BlockId(0), 0), (node, BlockId(u64::MAX), u32::MAX));
        self.books.doubts.range(from..=to).map(|(_, row)| row)
    }

    /// PINs of a variety that are no stock though nobody has sold them: in doubt, or written off.
    pub(super) fn doubtful(&self, variety: VarietyId) -> u64 {
        let counts = |row: &&DoubtRow| {
            let is_out = matches!(row.state, DoubtState::InDoubt | DoubtState::WrittenOff);
            is_out && self.variety_of(row.span.block) == Some(variety)
        };
        self.doubts().filter(counts).map(|row| u64::from(row.span.len())).sum()
    }

    /// What a late journal says settles what it is about. Sales are what they are, also of what was written off meanwhile.
    pub(super) fn settle_late(&mut self, node: SellerId, late: &Late) {
        use DoubtState::{InDoubt, Sold, Withdrawn, WrittenOff};
        let mut sold_after_all = 0;
        for span in late.sold() {
            let written_off = find(&self.books, node, span).filter(|row| row.state == WrittenOff);
            let written_off = written_off.filter_map(|row| common(row.span, span));
            sold_after_all += written_off.map(|span| u64::from(span.len())).sum::<u64>();
            self.repaint(node, span, |state| matches!(state, InDoubt | WrittenOff).then_some(Sold), None);
        }
        for span in late.withdrawn() {
            // What was sold and is withdrawn was voided.
            let is_settled = |state| matches!(state, InDoubt | Sold | WrittenOff);
            self.repaint(node, span, |state| is_settled(state).then_some(Withdrawn), None);
        }
        if sold_after_all > 0 {
            self.stage(Output::Alarm(Alarm::WrittenOffWasSold { node, pins: sold_after_all }));
        }
    }

    /// A span that was in a transfer is at the hub from now on: what was written off of it never to be given again.
    pub(super) fn own_again(&mut self, node: SellerId, span: Span, generation: u32) {
        let written_off = find(&self.books, node, span).filter(|row| row.state == DoubtState::WrittenOff);
        let written_off: Vec<Span> = written_off.filter_map(|row| common(row.span, span)).collect();
        let mut at = span.start;
        for part in written_off {
            self.put_piece(Span { start: at, end: part.start, ..span }, generation, Place::Hub);
            self.put_piece(part, generation, Place::Withdrawn);
            at = part.end;
        }
        self.put_piece(Span { start: at, ..span }, generation, Place::Hub);
        self.repaint(
            node,
            span,
            |state| (state == DoubtState::InDoubt).then_some(DoubtState::Returned),
            None,
        );
    }

    /// Puts what is the hub's own of a span on the shelf.
    pub(super) fn shelve(&mut self, span: Span) -> VarietyId {
        let pieces = self.books.pieces.range((span.block, span.start)..(span.block, span.end));
        let own = pieces.map(|(_, piece)| piece).filter(|piece| piece.place == Place::Hub);
        for span in own.map(|piece| piece.span).collect::<Vec<_>>() {
            self.shelf.put(&self.books, span);
        }
        self.books.blocks[&span.block].properties.variety
    }

    /// What the audit has to know of lost nodes: up to where their archives go, and what is not settled by their journals.
    pub(super) fn doubt_books(&self) -> (BTreeMap<SellerId, u64>, Vec<DoubtBook>) {
        let lost = self.nodes.values().filter(|node| matches!(node.fate, Fate::Lost { .. }));
        let mut doubts = Vec::new();
        for row in self.doubts() {
            let is_written_off = match row.state {
                DoubtState::InDoubt => false,
                DoubtState::WrittenOff => true,
                _ => continue,
            };
            for piece in self.pieces_over(row.span) {
                // What is the hub's again says so itself.
                if matches!(piece.place, Place::Given { node, .. } if node == row.node)
                    && let Some(span) = common(piece.span, row.span)
                {
                    doubts.push(DoubtBook { seller: row.node, span, is_written_off });
                }
            }
        }
        (lost.map(|node| (node.seller, node.journal_acked)).collect(), doubts)
    }

    pub(super) fn check_spent(&self, node: SellerId, spent: &Spent) -> Result<(), CommandError> {
        let acked = self.nodes.get(&node).map_or(0, |live| live.journal_acked);
        if acked == spent.position { Ok(()) } else { Err(CommandError::JournalMoved) }
    }

    /// The parts of the pieces given to a node that it has not spent.
    pub(super) fn spans_held(&self, node: SellerId, spent: &Spent) -> Vec<Span> {
        let is_given = |piece: &&PieceRow| matches!(piece.place, Place::Given { node: to, .. } if to == node);
        let mut held = Vec::new();
        for piece in self.books.pieces.values().filter(is_given) {
            let mut left = Spans::of(piece.span.start, piece.span.end);
            for &(start, end) in spent.pins.get(&piece.span.block).map_or(&[][..], Spans::intervals) {
                left.remove(start, end);
            }
            let span = |&(start, end): &(u32, u32)| Span { start, end, ..piece.span };
            held.extend(left.intervals().iter().map(span));
        }
        held
    }

    fn pieces_over(&self, span: Span) -> impl Iterator<Item = &PieceRow> {
        let before = self.books.pieces.range(..(span.block, span.start)).next_back();
        let within = self.books.pieces.range((span.block, span.start)..(span.block, span.end));
        before.into_iter().chain(within).map(|(_, piece)| piece)
    }

    fn put_piece(&mut self, span: Span, generation: u32, place: Place) {
        if !span.is_empty() {
            self.change(Change::Piece(PieceRow { span, generation, place }));
        }
    }

    fn repaint(
        &mut self,
        node: SellerId,
        span: Span,
        becomes: impl Fn(DoubtState) -> Option<DoubtState>,
        note: Option<&str>,
    ) {
        for change in repaint(&self.books, node, span, becomes, self.now_ms, note) {
            self.change(change);
        }
    }

    fn by_variety(&self, spans: &[Span]) -> Vec<(VarietyId, u64)> {
        let mut pins = BTreeMap::<VarietyId, u64>::new();
        for span in spans {
            *pins.entry(self.books.blocks[&span.block].properties.variety).or_default() +=
                u64::from(span.len());
        }
        pins.into_iter().collect()
    }

    /// The variety of a block.
    #[must_use]
    pub fn variety_of(&self, block: BlockId) -> Option<VarietyId> {
        self.books.blocks.get(&block).map(|row| row.properties.variety)
    }
}

/// What two spans have in common.
fn common(a: Span, b: Span) -> Option<Span> {
    let (start, end) = (a.start.max(b.start), a.end.min(b.end));
    (a.block == b.block && start < end).then_some(Span { start, end, ..a })
}

/// Longest note of an operator, in bytes.
const NOTE_BYTES_MAX: usize = 200;
