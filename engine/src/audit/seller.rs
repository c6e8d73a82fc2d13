//! A seller's side of the audit, from its durable fold.

use super::{BelowBook, CameBackBook, ReturningBook, SegmentBook, SellerBooks};
use crate::ids::{SellerId, Span};
use crate::journal::Position;
use crate::journal::record::{Stream, TransferFact};
use crate::ledger::{Holding, Ledger, PieceBelow, Spans};

impl SellerBooks {
    /// The books of a seller whose journal, folded up to `position`, comes to `ledger`.
    #[must_use]
    pub fn new(seller: SellerId, position: Position, ledger: &Ledger) -> Self {
        let streams = [Stream::Bulk, Stream::Urgent];
        let refused = streams.into_iter().flat_map(|stream| {
            let outcomes = ledger.taken(stream).outcomes.iter();
            outcomes.filter(|(_, (_, accepted))| !accepted).map(move |(number, _)| (stream, *number))
        });
        let mut segments = Vec::new();
        for held in ledger.inventory.holdings() {
            let mut own = Spans::of(held.span.start, held.span.end);
            for &(start, end) in held.gone.intervals() {
                own.remove(start, end);
            }
            for &(start, end) in own.intervals() {
                let within = |spans: &Spans| {
                    let clipped = spans.intervals().iter().map(|&(from, to)| (from.max(start), to.min(end)));
                    clipped.filter(|(from, to)| from < to).collect()
                };
                segments.push(SegmentBook {
                    span: Span { start, end, ..held.span },
                    generation: held.generation,
                    variety: held.variety,
                    sold: within(&held.sold),
                    withdrawn: within(&held.withdrawn),
                    from: held.from,
                });
            }
        }
        let below = ledger.below.iter().flat_map(|(&node, below)| {
            below.pieces().map(move |piece| {
                let &PieceBelow { span, generation, variety, stream, number } = piece;
                BelowBook { node, stream, number, span, generation, variety }
            })
        });
        let came_back = ledger.inventory.holdings().filter(|held| held.from != SellerId(0));
        let came_back = came_back.map(|held| {
            let &Holding { span, generation, from: node, .. } = held;
            CameBackBook { node, span, generation }
        });
        let returns = &ledger.given[Stream::Bulk as usize];
        Self {
            seller,
            position: position.0,
            watermarks: streams.map(|stream| ledger.taken(stream).highest),
            refused: refused.collect(),
            segments,
            given: returns.highest,
            returning: returns.open.values().map(|fact| returning_of(ledger, fact)).collect(),
            below: below.collect(),
            came_back: came_back.collect(),
        }
    }
}

/// What is open, under the generation of the segment that it was taken from: the last one before.
fn returning_of(ledger: &Ledger, fact: &TransferFact) -> ReturningBook {
    let TransferFact { number, span, variety, .. } = *fact;
    let came_before = |held: &&Holding| {
        held.span.block == span.block
            && held.span.start <= span.start
            && span.end <= held.span.end
            && held.generation < fact.generation
    };
    let source = ledger.inventory.holdings().filter(came_before).max_by_key(|held| held.generation);
    let (generation, from) = source.map_or((0, SellerId(0)), |held| (held.generation, held.from));
    ReturningBook { number, span, generation, variety, from }
}
