//! What a lost node held: in doubt by range until its late journal or an operator settles it. `spec/hub.md` says why a range
//! may go where.
//!
//! The pieces stay as they were given: the ranges lie over them, and say what is known of each.

mod below;
mod late;
mod row;
mod spent;

pub(super) use late::Late;
pub use row::{DoubtRow, DoubtState};
pub use spent::{FromServer, Spent};

use super::books::{Change, Fate, PieceRow, Place};
use super::commands::{CommandError, Done};
use super::{Alarm, Hub, HubError, Output, Store};
use crate::audit::DoubtBook;
use crate::disk::Disk;
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::ledger::Spans;
use row::{find, repaint};
use std::collections::BTreeMap;

impl<S: Store, D: Disk> Hub<S, D> {
    /// An operator declares a node lost. `spent` is what its archive comes to, read to its end.
    pub(super) fn lose_node(
        &mut self,
        node: SellerId,
        spent: &Spent,
    ) -> Result<Result<Done, CommandError>, HubError> {
        if let Err(error) = self.check_losable(node).and_then(|()| self.check_spent(node, spent)) {
            return Ok(Err(error));
        }
        let (at_ms, varieties) = (self.now_ms, self.varieties());
        let held = match self.spans_held(node, spent)? {
            Ok(held) => held,
            Err(error) => return Ok(Err(error)),
        };
        let doubts = self.by_variety(&held);
        let live = self.nodes.get_mut(&node).expect("it was looked up");
        live.fate = Fate::Lost { at_ms, given: spent.given };
        live.late = Late::default();
        live.drain = None;
        live.farewell = None;
        let (row, server) = (live.row(), live.below);
        self.change(Change::Node(row));
        // What is written off already stays that.
        held.into_iter().for_each(|span| self.doubt_gaps(node, span, DoubtState::InDoubt));
        if let Some(live) = server.and_then(|server| self.nodes.get_mut(&server)) {
            live.has_lost_below = true;
        }
        self.tell_parent(node)?;
        self.dirty.extend(varieties);
        Ok(Ok(Done::Doubts(doubts)))
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
            // What these have is theirs, and where it is only they can say.
            Fate::Member => self.check_below(node, |child| child.fate != Fate::Member),
        }
    }

    /// PINs that a node holds, or that are on their way to it or from it, as far as the hub can know, by variety.
    ///
    /// # Errors
    /// [`HubError`]: an archive cannot be read. [`CommandError::JournalMoved`]: it has grown too far since it was.
    pub fn held_by(
        &self,
        node: SellerId,
        spent: &Spent,
    ) -> Result<Result<Vec<(VarietyId, u64)>, CommandError>, HubError> {
        Ok(self.spans_held(node, spent)?.map(|held| self.by_variety(&held)))
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
        self.settle_below(node, &late.below);
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
        // It may have come to a server from a lost node below it, and that may not be known here yet.
        let nodes = [vec![node], self.lost_children(node)].concat();
        let mut written_off = Spans::default();
        for node in &nodes {
            let rows = find(&self.books, *node, span).filter(|row| row.state == DoubtState::WrittenOff);
            let parts = rows.filter_map(|row| common(row.span, span));
            parts.for_each(|part| written_off.insert(part.start, part.end));
        }
        let mut at = span.start;
        for &(start, end) in written_off.intervals() {
            let part = Span { start, end, ..span };
            self.put_piece(Span { start: at, end: part.start, ..span }, generation, Place::Hub);
            self.put_piece(part, generation, Place::Withdrawn);
            at = part.end;
        }
        self.put_piece(Span { start: at, ..span }, generation, Place::Hub);
        for node in nodes {
            let becomes = |state| (state == DoubtState::InDoubt).then_some(DoubtState::Returned);
            self.repaint(node, span, becomes, None);
        }
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
            // What a node below a server has is in a piece that was given to that.
            let server = self.parent(row.node);
            for piece in self.pieces_over(row.span) {
                // What is the hub's again says so itself.
                if matches!(piece.place, Place::Given { node, .. } if node == row.node || Some(node) == server)
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

    /// The parts of what was given to a node that it has not spent, and that are not in doubt at a lost one below it.
    pub(super) fn spans_held(
        &self,
        node: SellerId,
        spent: &Spent,
    ) -> Result<Result<Vec<Span>, CommandError>, HubError> {
        let given: Vec<Span> = if let Some(server) = self.parent(node) {
            match self.books_below(node, spent)? {
                // Its server may have had some of it back, and given it to the hub, before the archive says so.
                Ok(books) => {
                    books.pieces().flat_map(|piece| self.given_before(server, &piece.fact())).collect()
                }
                Err(error) => return Ok(Err(error)),
            }
        } else {
            let is_given =
                |piece: &&PieceRow| matches!(piece.place, Place::Given { node: to, .. } if to == node);
            self.books.pieces.values().filter(is_given).map(|piece| piece.span).collect()
        };
        let mut held = Vec::new();
        for whole in given {
            let mut left = Spans::of(whole.start, whole.end);
            for &(start, end) in spent.pins.get(&whole.block).map_or(&[][..], Spans::intervals) {
                left.remove(start, end);
            }
            self.without_doubts_below(node, whole, &mut left);
            let span = |&(start, end): &(u32, u32)| Span { start, end, ..whole };
            held.extend(left.intervals().iter().map(span));
        }
        Ok(Ok(held))
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
