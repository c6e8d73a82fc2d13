//! What a node knows of each node below it: the transfers on their link, and what it gave and did not get back.

use super::{Contradiction, Given, Taken};
use crate::ids::{BlockId, Span, VarietyId};
use crate::journal::record::{Stream, TransferFact, TransferStep};
use std::collections::BTreeMap;

/// The books of one node below.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Below {
    /// Transfers to it, by [`Stream`].
    pub given: [Given; 2],
    /// Transfers from it.
    pub taken: Taken,
    /// What was given to it and did not come back, by block and first index; without overlap.
    pieces: BTreeMap<(BlockId, u32), PieceBelow>,
}

/// A part of a block that a node below has, had when it sold it, or is to have: in the transfer of its number until that is
/// settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PieceBelow {
    /// The part.
    pub span: Span,
    /// The generation under which it was given.
    pub generation: u32,
    /// The variety of the block.
    pub variety: VarietyId,
    /// The transfer's numbering.
    pub stream: Stream,
    /// The transfer's number.
    pub number: u64,
}

impl PieceBelow {
    /// What a transfer gives.
    #[must_use]
    pub fn of(fact: &TransferFact) -> Self {
        let &TransferFact { stream, number, span, generation, variety, .. } = fact;
        Self { span, generation, variety, stream, number }
    }

    /// The transfer that gave it, as far as it is known.
    #[must_use]
    pub fn fact(&self) -> TransferFact {
        let &Self { span, generation, variety, stream, number } = self;
        TransferFact { stream, number, span, generation, variety, settled_below: 1 }
    }
}

impl Below {
    /// Books read back from a checkpoint, to which the pieces come.
    pub(super) fn with(taken: Taken, given: [Given; 2]) -> Self {
        Self { given, taken, pieces: BTreeMap::new() }
    }

    /// Takes in the next step of a transfer on the link.
    ///
    /// # Errors
    /// [`Contradiction`] if what comes back was not given.
    pub fn apply(&mut self, step: &TransferStep) -> Result<(), Contradiction> {
        match step {
            TransferStep::Given(fact) => {
                let given = &mut self.given[fact.stream as usize];
                given.highest = given.highest.max(fact.number);
                given.open.insert(fact.number, *fact);
                self.insert(PieceBelow::of(fact));
            }
            TransferStep::Settled { transfer, accepted } => {
                self.given[transfer.stream as usize].open.remove(&transfer.number);
                if !accepted {
                    self.remove(transfer.span, transfer.generation + 1)?;
                }
            }
            TransferStep::Received(fact) => {
                self.remove(fact.span, fact.generation)?;
                self.taken.answer(*fact, true);
            }
            TransferStep::Refused(fact) => self.taken.answer(*fact, false),
        }
        Ok(())
    }

    /// What was given and did not come back, by block and index.
    pub fn pieces(&self) -> impl Iterator<Item = &PieceBelow> {
        self.pieces.values()
    }

    /// The piece that all of a span is a part of.
    #[must_use]
    pub fn piece_with(&self, span: Span) -> Option<&PieceBelow> {
        let (_, piece) = self.pieces.range(..=(span.block, span.start)).next_back()?;
        (piece.span.block == span.block && span.end <= piece.span.end).then_some(piece)
    }

    /// Whether a transfer of this span, or of more, has not been settled.
    #[must_use]
    pub fn is_open(&self, piece: &PieceBelow) -> bool {
        self.given[piece.stream as usize].open.contains_key(&piece.number)
    }

    /// Puts a piece read back from a checkpoint in its place.
    pub(super) fn insert(&mut self, piece: PieceBelow) {
        self.pieces.insert((piece.span.block, piece.span.start), piece);
    }

    /// A part of a piece that was given under a lower generation is not there any more.
    fn remove(&mut self, span: Span, generation: u32) -> Result<(), Contradiction> {
        let whole = self.piece_with(span).filter(|piece| piece.generation < generation).copied();
        let whole =
            whole.ok_or(Contradiction { span, what: "came back from a node that it was not given to" })?;
        self.pieces.remove(&(whole.span.block, whole.span.start));
        for (start, end) in [(whole.span.start, span.start), (span.end, whole.span.end)] {
            if start < end {
                self.insert(PieceBelow { span: Span { start, end, ..span }, ..whole });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(number: u64, generation: u32, start: u32, end: u32) -> TransferFact {
        let span = Span { block: BlockId(9), start, end };
        TransferFact {
            stream: Stream::Bulk,
            number,
            span,
            generation,
            variety: VarietyId(1),
            settled_below: 1,
        }
    }

    fn spans(below: &Below) -> Vec<(u32, u32, u32)> {
        below.pieces().map(|piece| (piece.span.start, piece.span.end, piece.generation)).collect()
    }

    #[test]
    fn what_came_back_or_was_refused_is_below_no_more_and_nothing_else_can_come_back() {
        let mut below = Below::default();
        below.apply(&TransferStep::Given(fact(1, 2, 0, 100))).unwrap();
        below.apply(&TransferStep::Given(fact(2, 2, 100, 150))).unwrap();
        assert!(below.is_open(below.piece_with(fact(0, 0, 100, 150).span).unwrap()));
        let (transfer, accepted) = (fact(1, 2, 0, 100), true);
        below.apply(&TransferStep::Settled { transfer, accepted }).unwrap();
        let (transfer, accepted) = (fact(2, 2, 100, 150), false);
        below.apply(&TransferStep::Settled { transfer, accepted }).unwrap();
        assert_eq!(spans(&below), [(0, 100, 2)]);
        below.apply(&TransferStep::Received(fact(1, 3, 40, 60))).unwrap();
        assert_eq!(spans(&below), [(0, 40, 2), (60, 100, 2)]);
        assert!(below.apply(&TransferStep::Received(fact(2, 3, 30, 70))).is_err(), "a part came back before");
        assert!(below.apply(&TransferStep::Received(fact(2, 2, 0, 40))).is_err(), "an old copy's");
        below.apply(&TransferStep::Given(fact(3, 4, 45, 50))).unwrap();
        assert_eq!(spans(&below), [(0, 40, 2), (45, 50, 4), (60, 100, 2)]);
    }
}
