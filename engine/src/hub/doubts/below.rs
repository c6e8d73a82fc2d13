//! Lost nodes that are below a server. What such a node holds is told by two archives: its server's, of what it was given and gave
//! back, and its own, of what it sold. In the hub's books the pieces stay the server's.

use super::super::books::{Fate, Place};
use super::row::{find, gaps};
use super::{DoubtRow, DoubtState, Spent, common};
use crate::disk::Disk;
use crate::hub::commands::CommandError;
use crate::hub::{Hub, HubError, Store, read_archive};
use crate::ids::{SellerId, Span};
use crate::journal::Position;
use crate::journal::batch::Batch;
use crate::journal::record::{Record, TransferFact, TransferStep};
use crate::ledger::{Below, Spans};

impl<S: Store, D: Disk> Hub<S, D> {
    /// Whether a node was declared lost.
    #[must_use]
    pub fn is_lost(&self, node: SellerId) -> bool {
        self.nodes.get(&node).is_some_and(|live| matches!(live.fate, Fate::Lost { .. }))
    }

    /// The nodes below a server that were declared lost.
    pub(super) fn lost_children(&self, server: SellerId) -> Vec<SellerId> {
        self.children(server).filter(|child| self.is_lost(*child)).collect()
    }

    /// What a node below a server was given and did not give back, to the end of its server's archive. The server goes on while
    /// archives are read, so what was added since is read here.
    pub(super) fn books_below(
        &self,
        node: SellerId,
        spent: &Spent,
    ) -> Result<Result<Below, CommandError>, HubError> {
        let acked = self.parent(node).and_then(|server| self.journal_acked(server)).unwrap_or(0);
        let (Some(server), Some(read)) = (self.parent(node), &spent.from_server) else {
            return Ok(Err(CommandError::JournalMoved));
        };
        if acked.checked_sub(read.position).is_none_or(|more| more > READ_MAX) {
            return Ok(Err(CommandError::JournalMoved));
        }
        let (mut books, mut at) = (read.books.clone(), Position(read.position));
        let damaged = |position: Position| HubError::ArchiveDamaged {
            node: server,
            path: format!("archive/{:08x}", server.0),
            position: position.0,
        };
        while let Some(shipment) = read_archive(&*self.disk, server, at, Position(acked), READ_BYTES)? {
            let (mut position, mut bytes) = (shipment.start, &shipment.bytes[..]);
            while let Some(batch) = Batch::parse(bytes, position) {
                for record in batch.records() {
                    if let Ok(Record::Below { node: of, step }) = Record::decode(record)
                        && of == node
                    {
                        books.apply(&step).map_err(|_| damaged(position))?;
                    }
                }
                bytes = &bytes[(batch.end().0 - position.0) as usize..];
                position = batch.end();
            }
            at = shipment.end;
        }
        Ok(Ok(books))
    }

    /// A server's journal tells of transfers with nodes below it: what is in doubt moves with them.
    pub(super) fn settle_below(&mut self, server: SellerId, steps: &[(SellerId, TransferStep)]) {
        for &(child, step) in steps {
            if !self.is_lost(child) {
                continue;
            }
            match step {
                TransferStep::Given(fact) => {
                    for span in self.given_before(server, &fact) {
                        self.pass_doubt(server, child, span, DoubtState::Passed);
                    }
                }
                TransferStep::Received(fact) | TransferStep::Settled { transfer: fact, accepted: false } => {
                    for span in self.given_before(server, &fact) {
                        self.pass_doubt(child, server, span, DoubtState::Returned);
                    }
                }
                TransferStep::Settled { accepted: true, .. } | TransferStep::Refused(_) => {}
            }
        }
    }

    /// The parts of a transfer's span that a server still has by the hub's books as it had them then. What has come back to the
    /// hub since, it was said of then what became of it.
    pub(super) fn given_before(&self, server: SellerId, fact: &TransferFact) -> Vec<Span> {
        let is_its = |place: Place| matches!(place, Place::Given { node, .. } if node == server);
        let pieces = self.pieces_over(fact.span).filter(|piece| piece.generation < fact.generation);
        pieces.filter(|piece| is_its(piece.place)).filter_map(|piece| common(piece.span, fact.span)).collect()
    }

    /// What was in doubt or written off at one end of a link is so at the other; whatever comes to a lost node is in doubt there.
    fn pass_doubt(&mut self, from: SellerId, to: SellerId, span: Span, becomes: DoubtState) {
        use DoubtState::{InDoubt, WrittenOff};
        let written_off = find(&self.books, from, span).filter(|row| row.state == WrittenOff);
        let written_off = written_off.filter_map(|row| Some((common(row.span, span)?, row.note.clone())));
        let written_off: Vec<_> = written_off.collect();
        self.repaint(from, span, |state| matches!(state, InDoubt | WrittenOff).then_some(becomes), Some(""));
        if self.is_lost(to) {
            self.cover(to, span, InDoubt, "");
        }
        for (span, note) in written_off {
            self.cover(to, span, WrittenOff, &note);
        }
    }

    /// All of a span is in this state at a node from now on, whether anything was said of it before or not.
    fn cover(&mut self, node: SellerId, span: Span, state: DoubtState, note: &str) {
        self.doubt_gaps(node, span, state);
        self.repaint(node, span, |_| Some(state), Some(note));
    }

    /// Says of the parts of a span of which nothing was said yet that they are in this state.
    pub(super) fn doubt_gaps(&mut self, node: SellerId, span: Span, state: DoubtState) {
        let at_ms = self.now_ms;
        for span in gaps(&self.books, node, span) {
            let row = DoubtRow { node, span, state, at_ms, note: String::new() };
            self.change(super::Change::Doubt(row));
        }
    }

    /// Leaves out what is in doubt or written off at lost nodes below a server.
    pub(super) fn without_doubts_below(&self, server: SellerId, span: Span, left: &mut Spans) {
        for child in self.lost_children(server) {
            let is_open = |row: &&DoubtRow| matches!(row.state, DoubtState::InDoubt | DoubtState::WrittenOff);
            let open = find(&self.books, child, span).filter(is_open);
            open.filter_map(|row| common(row.span, span)).for_each(|span| left.remove(span.start, span.end));
        }
    }
}

/// Most bytes of a server's archive that are read while the hub does nothing else.
const READ_MAX: u64 = 64 << 20;
/// Archive bytes read at a time.
const READ_BYTES: usize = 4 << 20;
