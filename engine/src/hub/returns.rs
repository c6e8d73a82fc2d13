//! Stock that comes back: compared with the hub's own records, taken or refused, and put on the shelf.
//!
//! No content travels: the hub has the file of every block. A node offers what it took from the hub, so the hub waits until it
//! knows that the node did, and a piece is in one place in its books at any time.

use super::books::{Change, Fate, MoveRow, PieceRow, Place, Way};
use super::machine::Effect;
use super::node::Called;
use super::{Alarm, Hub, HubError, NodeFault, Output, Store};
use crate::disk::Disk;
use crate::ids::{SellerId, Span};
use crate::journal::record::{Record, Stream, TransferFact};
use crate::link::{Offer, ToNode};
use crate::policy::Reason;
use crate::stock::segment::checksum;
use crate::transfer::TakerAction;

impl<S: Store, D: Disk> Hub<S, D> {
    /// A node offers stock.
    pub(super) fn handle_offer(&mut self, node: SellerId, offer: Offer) -> Result<(), NodeFault> {
        let known = self.generation(offer.span);
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(()) };
        let is_new = offer.number > live.taken.highest
            && !live.taker.incoming().any(|incoming| incoming.number == offer.number);
        live.taker.handle_offer(offer, known)?;
        if is_new {
            let (variety, pins) = (offer.properties.variety, u64::from(offer.span.len()));
            let called = live.recalls.get(&offer.request).filter(|called| called.variety == variety);
            let had = live.on_hand(variety);
            let leaves = match live.fate {
                Fate::Lost { .. } => Some(Reason::NodeLost { had }),
                _ => live.drain.map(|_| Reason::NodeDrain { had }),
            };
            let is_called = called.is_some();
            if let Some(reason) = called.map(|called| called.reason).or(leaves) {
                live.return_reasons.insert(offer.number, reason);
            }
            if let Some(reported) = live.reported_mut(variety) {
                reported.went += pins;
            }
            if is_called {
                live.change_recall(offer.request, |called| called.offered += pins);
            }
            self.dirty.insert(variety);
        }
        self.run_taker(node, false);
        Ok(())
    }

    /// A node has offered all it will offer for a recall.
    pub(super) fn handle_recalled(&mut self, node: SellerId, recall: u64, count: u32) {
        let Some(live) = self.nodes.get_mut(&node) else { return };
        let Some(&Called { variety, expected, .. }) = live.recalls.get(&recall) else { return };
        let count = u64::from(count).min(expected);
        if count < expected {
            // It has no more, whatever its last report said.
            if let Some(reported) = live.reported_mut(variety) {
                reported.went = u64::MAX;
            }
        }
        live.change_recall(recall, |called| {
            called.expected = count.max(called.offered);
            called.is_answered = true;
        });
        self.dirty.insert(variety);
    }

    /// Compares what is offered with the hub's own records, and decides. What the hub does not know yet that the node took
    /// waits until it does.
    pub(super) fn compare_returns(&mut self) -> Result<(), HubError> {
        let waiting = |node: &&super::node::Node| !node.comparing.is_empty();
        let nodes: Vec<_> = self.nodes.values().filter(waiting).map(|node| node.seller).collect();
        for node in nodes {
            let Some(live) = self.nodes.get_mut(&node) else { continue };
            for offer in std::mem::take(&mut live.comparing) {
                let verdict = self.verdict(node, &offer)?;
                let Some(live) = self.nodes.get_mut(&node) else { continue };
                match verdict {
                    Verdict::NotYet => live.comparing.push(offer),
                    Verdict::Takes => live.taker.handle_written(offer.number),
                    Verdict::Refuses(what) => {
                        live.taker.refuse(offer.number);
                        self.stage(Output::Alarm(Alarm::ReturnRefused { node, number: offer.number, what }));
                    }
                }
                self.run_taker(node, false);
            }
        }
        Ok(())
    }

    fn verdict(&mut self, node: SellerId, offer: &Offer) -> Result<Verdict, HubError> {
        let Some(piece) = self.piece_with(offer.span) else {
            return Ok(Verdict::Refuses("it is no part of what was given"));
        };
        match piece.place {
            Place::Given { node: holder, settled, .. } if holder == node => {
                if !settled {
                    return Ok(Verdict::NotYet);
                }
            }
            _ => return Ok(Verdict::Refuses("it is not that node's")),
        }
        // What was lost comes back only with the journal that says so.
        if let Some(Fate::Lost { given, .. }) = self.fate(node)
            && given < offer.number
        {
            return Ok(Verdict::NotYet);
        }
        let row = &self.books.blocks[&offer.span.block];
        if (row.properties, row.count) != (offer.properties, offer.block_count) {
            return Ok(Verdict::Refuses("its block is described otherwise"));
        }
        if offer.generation <= piece.generation {
            return Ok(Verdict::Refuses("its generation is not higher than that under which it was given"));
        }
        match self.content(offer.span) {
            Ok(content) if checksum(&[&content]) == offer.checksum => Ok(Verdict::Takes),
            Ok(_) => Ok(Verdict::Refuses("its records are not those of the hub")),
            Err(HubError::Block { .. } | HubError::BlockDamaged { .. }) => {
                Ok(Verdict::Refuses("the hub's own file of the block cannot be read"))
            }
            Err(error) => Err(error),
        }
    }

    /// Does what a taker says. `durable`: what its actions depend on is committed; otherwise they wait for that.
    pub(super) fn run_taker(&mut self, node: SellerId, durable: bool) {
        while let Some(action) = self.nodes.get_mut(&node).and_then(|live| live.taker.poll_action()) {
            let message = match action {
                TakerAction::Compare(offer) => {
                    if let Some(live) = self.nodes.get_mut(&node) {
                        live.comparing.push(offer);
                    }
                    continue;
                }
                TakerAction::Record(record) => {
                    self.record_return(node, record);
                    continue;
                }
                TakerAction::Taken(offer) => {
                    let variety = self.shelve(offer.span);
                    self.dirty.insert(variety);
                    let leaves = |live: &super::node::Node| live.drain.is_some() || live.fate != Fate::Member;
                    if self.nodes.get(&node).is_some_and(leaves) {
                        *self.to_pass_on.entry(variety).or_default() += u64::from(offer.span.len());
                    }
                    continue;
                }
                TakerAction::Answer { number, accepted } => {
                    ToNode::Answer { stream: Stream::Bulk, number, accepted }
                }
                TakerAction::Progress { .. } | TakerAction::WriteContent { .. } => {
                    unreachable!("what comes back has no content on its way")
                }
            };
            let output = Output::Send { node, message };
            if durable { self.put_out(output) } else { self.stage(output) }
        }
    }

    /// Puts an outcome into the books: the piece, the node's watermark and the reason, in one commit.
    fn record_return(&mut self, node: SellerId, record: Record) {
        let (fact, accepted) = match record {
            Record::Received(fact) => (fact, true),
            Record::Refused(fact) => (fact, false),
            other => unreachable!("{other:?} is no outcome"),
        };
        let Some(live) = self.nodes.get_mut(&node) else { return };
        live.taken.answer(fact, accepted);
        let reason = live.return_reasons.remove(&fact.number);
        if let Some(drain) = live.drain.as_mut().filter(|_| accepted) {
            drain.moved += u64::from(fact.span.len());
        }
        let row = live.row();
        self.change(Change::Node(row));
        if accepted {
            let whole = self.piece_with(fact.span).expect("it was compared with the books");
            let Span { start, end, .. } = fact.span;
            for (from, to) in [(whole.span.start, start), (end, whole.span.end)] {
                if from < to {
                    let span = Span { start: from, end: to, ..whole.span };
                    self.change(Change::Piece(PieceRow { span, ..whole }));
                }
            }
            self.own_again(node, fact.span, fact.generation);
            self.note_move(Way::FromNode, node, &fact, reason);
        }
        self.stage_effect(Effect::Returned(node, fact.number));
    }

    /// Remembers a move and why it was made, and forgets the oldest when there are too many.
    pub(super) fn note_move(
        &mut self,
        way: Way,
        node: SellerId,
        fact: &TransferFact,
        reason: Option<Reason>,
    ) {
        let id = self.books.moves.last_key_value().map_or(1, |(id, _)| id + 1);
        let &TransferFact { stream, number, variety, span, generation, .. } = fact;
        let at_ms = self.now_ms;
        let row = MoveRow { id, way, node, stream, number, variety, span, generation, reason, at_ms };
        self.change(Change::Move(row));
        if self.books.moves.len() > MOVES_MAX + MOVES_MAX / 10 {
            self.change(Change::ForgetMoves { below: id.saturating_sub(MOVES_MAX as u64) });
        }
    }

    /// Why a transfer was made; `None` if it is not remembered.
    #[must_use]
    pub fn explain(&self, way: Way, node: SellerId, stream: Stream, number: u64) -> Option<&MoveRow> {
        let named =
            |row: &&MoveRow| (row.way, row.node, row.stream, row.number) == (way, node, stream, number);
        self.books.moves.values().rev().find(named)
    }

    /// The latest moves, latest first.
    pub fn moves(&self) -> impl Iterator<Item = &MoveRow> {
        self.books.moves.values().rev()
    }

    /// How much is on its way between the hub and a node, and how fast that goes, as of `now_ms` in Unix milliseconds.
    #[must_use]
    pub fn traffic(&self, node: SellerId, now_ms: u64) -> Traffic {
        let Some(live) = self.nodes.get(&node) else { return Traffic::default() };
        let lately = self.moves().take_while(|row| row.at_ms + TRAFFIC_MS > now_ms);
        let moved: u64 = lately.filter(|row| row.node == node).map(|row| u64::from(row.span.len())).sum();
        Traffic { open_pins: live.open_pins(), pins_per_s: moved * 1000 / TRAFFIC_MS }
    }

    /// The piece that a span is a part of.
    fn piece_with(&self, span: Span) -> Option<PieceRow> {
        let (_, piece) = self.books.pieces.range(..=(span.block, span.start)).next_back()?;
        (piece.span.block == span.block && span.end <= piece.span.end).then_some(*piece)
    }

    /// The highest generation of any PIN of a span; 0: it is of no block.
    fn generation(&self, span: Span) -> u32 {
        let before = self.books.pieces.range(..=(span.block, span.start)).next_back();
        let within = self.books.pieces.range((span.block, span.start)..(span.block, span.end));
        let pieces = before.into_iter().chain(within).map(|(_, piece)| piece);
        let overlapping =
            pieces.filter(|piece| piece.span.block == span.block && span.start < piece.span.end);
        overlapping.map(|piece| piece.generation).max().unwrap_or(0)
    }
}

impl super::node::Node {
    fn change_recall(&mut self, recall: u64, change: impl FnOnce(&mut Called)) {
        let Some(called) = self.recalls.get_mut(&recall) else { return };
        change(called);
        called.expected = called.expected.max(called.offered);
        if called.is_answered && called.offered == called.expected {
            self.recalls.remove(&recall);
        }
    }
}

enum Verdict {
    /// The hub does not know yet that the node took it.
    NotYet,
    Takes,
    Refuses(&'static str),
}

/// Moves that are remembered, at least; a tenth more are before the oldest are forgotten.
pub(super) const MOVES_MAX: usize = 50_000;

/// Stock on its way between the hub and a node, in either direction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// PINs in transfers that are not answered.
    pub open_pins: u64,
    /// PINs of the transfers of the last ten seconds, a second.
    pub pins_per_s: u64,
}

/// Over how long a rate is taken, in milliseconds.
const TRAFFIC_MS: u64 = 10_000;
