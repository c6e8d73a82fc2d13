//! The segments a node holds and what became of every PIN in them.

use super::Spans;
use crate::ids::{BlockId, IdMap, PinId, SellerId, Span, VarietyId};
use crate::journal::record::TransferFact;
use crate::planted::{self, Fault};

/// Segments by block.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Inventory {
    by_block: IdMap<BlockId, Vec<Holding>>,
}

/// One segment that came to this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// What came.
    pub span: Span,
    /// The ownership generation it came with.
    pub generation: u32,
    /// The variety of the block.
    pub variety: VarietyId,
    /// Sold, not voided.
    pub sold: Spans,
    /// Expired, damaged or voided.
    pub withdrawn: Spans,
    /// Given to another node.
    pub gone: Spans,
    /// The highest generation under which any of it was given, whatever came of that; 0: none was.
    pub given: u32,
    /// The highest generation under which a part of it was given and refused: what is in stock again had it; 0: none was.
    pub refused: u32,
    /// The node below that it came back from; 0: it came from upstream.
    pub from: SellerId,
}

impl Holding {
    /// A segment that has just come.
    #[must_use]
    pub fn new(span: Span, generation: u32, variety: VarietyId) -> Self {
        let (sold, withdrawn, gone) = <(Spans, Spans, Spans)>::default();
        Self { span, generation, variety, sold, withdrawn, gone, given: 0, refused: 0, from: SellerId(0) }
    }
}

/// A record that cannot follow those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("PINs {start}..{end} of block {block:#x}: {what}", start = span.start, end = span.end, block = span.block.0)]
pub struct Contradiction {
    /// Which PINs.
    pub span: Span,
    /// Why not.
    pub what: &'static str,
}

impl Inventory {
    /// All segments, by block and arrival.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        let mut blocks: Vec<_> = self.by_block.iter().collect();
        blocks.sort_unstable_by_key(|(block, _)| **block);
        blocks.into_iter().flat_map(|(_, held)| held)
    }

    /// The highest ownership generation seen for any PIN of a span; 0: never seen.
    #[must_use]
    pub fn generation(&self, span: Span) -> u32 {
        let holdings = self.by_block.get(&span.block).into_iter().flatten();
        let overlapping = holdings.filter(|held| held.span.start < span.end && span.start < held.span.end);
        overlapping.map(|held| held.generation.max(held.given)).max().unwrap_or(0)
    }

    /// Puts a segment read back from a checkpoint in its place.
    pub fn insert(&mut self, holding: Holding) {
        self.by_block.entry(holding.span.block).or_default().push(holding);
    }

    pub(super) fn receive(&mut self, fact: &TransferFact) -> Result<(), Contradiction> {
        self.receive_from(SellerId(0), fact)
    }

    /// A segment came back from a node below.
    pub(super) fn receive_from(&mut self, from: SellerId, fact: &TransferFact) -> Result<(), Contradiction> {
        let span = fact.span;
        let held = self.by_block.entry(span.block).or_default();
        if held.iter().any(|holding| holding.has_any(span)) {
            return Err(Contradiction { span, what: "received although held" });
        }
        held.push(Holding { from, ..Holding::new(span, fact.generation, fact.variety) });
        Ok(())
    }

    pub(super) fn sell(&mut self, pin: PinId) -> Result<(), Contradiction> {
        let span = span_of(pin);
        self.unsold(span, "sold although not in stock")?.sold.insert(span.start, span.end);
        Ok(())
    }

    pub(super) fn void(&mut self, pin: PinId) -> Result<(), Contradiction> {
        let span = span_of(pin);
        let held = self.by_block.get_mut(&span.block).into_iter().flatten();
        let mut held = held.filter(|holding| holding.sold.contains(span.start));
        let holding = held.next().ok_or(Contradiction { span, what: "voided although not sold" })?;
        holding.sold.remove(span.start, span.end);
        holding.withdrawn.insert(span.start, span.end);
        Ok(())
    }

    pub(super) fn withdraw(&mut self, span: Span) -> Result<(), Contradiction> {
        self.unsold(span, "withdrawn although not in stock")?.withdrawn.insert(span.start, span.end);
        Ok(())
    }

    pub(super) fn give(&mut self, fact: &TransferFact) -> Result<(), Contradiction> {
        let span = fact.span;
        let held = self.unsold(span, "given although not in stock")?;
        if fact.generation <= held.generation.max(held.refused) {
            return Err(Contradiction { span, what: "given under a generation that it had before" });
        }
        held.given = held.given.max(fact.generation);
        held.gone.insert(span.start, span.end);
        Ok(())
    }

    /// A transfer was refused. The same PINs may have come and gone before, in an older holding.
    pub(super) fn take_back(&mut self, fact: &TransferFact) -> Result<(), Contradiction> {
        let span = fact.span;
        let held = self.by_block.get_mut(&span.block).into_iter().flatten();
        let given =
            held.filter(|held| held.generation < fact.generation && held.gone.overlaps(span.start, span.end));
        let newest = given.max_by_key(|held| held.generation);
        let holding = newest.ok_or(Contradiction { span, what: "taken back although not given" })?;
        holding.gone.remove(span.start, span.end);
        holding.refused = holding.refused.max(fact.generation);
        Ok(())
    }

    /// The holding in which all of `span` is in stock.
    fn unsold(&mut self, span: Span, what: &'static str) -> Result<&mut Holding, Contradiction> {
        let held = self.by_block.get_mut(&span.block).into_iter().flatten();
        let mut held =
            held.filter(|holding| holding.span.start <= span.start && span.end <= holding.span.end);
        let holding = held.find(|holding| holding.is_in_stock(span)).ok_or(Contradiction { span, what })?;
        Ok(holding)
    }
}

impl Holding {
    /// The PINs that are in stock, as sorted intervals.
    #[must_use]
    pub fn in_stock(&self) -> Spans {
        let mut left = Spans::of(self.span.start, self.span.end);
        let withdrawn = [&self.withdrawn];
        let withdrawn = if planted::is(Fault::SellVoided) { &[][..] } else { &withdrawn[..] };
        for out in [&self.sold, &self.gone].into_iter().chain(withdrawn.iter().copied()) {
            for &(start, end) in out.intervals() {
                left.remove(start, end);
            }
        }
        left
    }

    fn is_in_stock(&self, span: Span) -> bool {
        ![&self.sold, &self.withdrawn, &self.gone].iter().any(|out| out.overlaps(span.start, span.end))
    }

    /// Whether any PIN of the span is this node's: here, and not given away.
    fn has_any(&self, span: Span) -> bool {
        let (start, end) = (span.start.max(self.span.start), span.end.min(self.span.end));
        if start >= end {
            return false;
        }
        let mut own = Spans::of(start, end);
        for &(from, until) in self.gone.intervals() {
            own.remove(from, until);
        }
        !own.is_empty()
    }
}

fn span_of(pin: PinId) -> Span {
    let index = u32::from(pin.index());
    Span { block: pin.block(), start: index, end: index + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Stream;

    #[test]
    fn what_came_back_a_second_time_and_is_refused_upstream_is_in_the_newest_segment() {
        let fact = |generation, start, end| TransferFact {
            stream: Stream::Bulk,
            number: 1,
            span: Span { block: BlockId(9), start, end },
            generation,
            variety: VarietyId(1),
            settled_below: 1,
        };
        let mut inventory = Inventory::default();
        inventory.receive(&fact(2, 0, 100)).unwrap();
        inventory.give(&fact(3, 40, 100)).unwrap();
        inventory.receive(&fact(4, 40, 60)).unwrap();
        assert!(inventory.give(&fact(4, 50, 60)).is_err(), "it had this generation");
        inventory.give(&fact(5, 50, 60)).unwrap();
        inventory.take_back(&fact(5, 50, 60)).unwrap();
        let in_stock: Vec<_> = inventory
            .holdings()
            .map(|held| (held.generation, held.in_stock().intervals().to_vec()))
            .collect();
        assert_eq!(in_stock, [(2, vec![(0, 40)]), (4, vec![(40, 60)])]);
        assert_eq!(inventory.generation(fact(0, 55, 56).span), 5, "a refused one counts");
        assert!(inventory.give(&fact(5, 55, 60)).is_err());
        inventory.give(&fact(6, 55, 60)).unwrap();
        inventory.give(&fact(6, 40, 45)).unwrap();
    }
}
