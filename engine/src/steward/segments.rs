//! Every segment that ever came here, with the generations it came and went under.

use super::Content;
use crate::disk::Disk;
use crate::ids::{BlockId, Span};
use crate::pool::Shelf;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Segments by block.
pub(super) struct Segments<D: Disk> {
    by_block: BTreeMap<BlockId, Vec<Segment<D>>>,
}

struct Segment<D: Disk> {
    shelf: Arc<Shelf<Content<D>>>,
    /// The highest generation under which any of it was given; 0: none was.
    given: u32,
    /// The highest under which any of it was given and refused; 0: none was.
    refused: u32,
    /// Upstream refused a part of it that is not damaged here: it is sold here, and not offered again.
    is_unwanted: bool,
    /// It came from a lost node below: only upstream knows what may be sold of it.
    is_unsellable: bool,
}

impl<D: Disk> Segments<D> {
    pub(super) fn new() -> Self {
        Self { by_block: BTreeMap::new() }
    }

    /// A segment came, or is in the books with the highest generations under which any of it was given, and was refused.
    pub(super) fn add(&mut self, shelf: Arc<Shelf<Content<D>>>, given: u32, refused: u32) {
        let segments = self.by_block.entry(shelf.block).or_default();
        segments.push(Segment { shelf, given, refused, is_unwanted: false, is_unsellable: false });
    }

    /// The highest generation recorded for any PIN of a span; 0: none ever came.
    pub(super) fn generation(&self, span: Span) -> u32 {
        let known = self.by_block.get(&span.block).into_iter().flatten();
        let overlapping = known.filter(|segment| {
            let held = segment.span();
            held.start < span.end && span.start < held.end
        });
        overlapping.map(Segment::highest).max().unwrap_or(0)
    }

    /// The generation under which a part of this segment goes out next: one above that of the PINs in stock, whatever other parts
    /// went out under. What goes out and comes back raises it by two, so that whoever had it takes it again.
    pub(super) fn next_generation(&mut self, shelf: &Arc<Shelf<Content<D>>>) -> u32 {
        let segments = self.by_block.get_mut(&shelf.block).into_iter().flatten();
        let mut segments = segments.filter(|segment| Arc::ptr_eq(&segment.shelf, shelf));
        let segment = segments.next().expect("every shelf is of a segment that came");
        let generation = segment.generation().max(segment.refused) + 1;
        segment.given = segment.given.max(generation);
        generation
    }

    /// A part of what is in this segment was given under this generation, and refused: it is in stock again.
    pub(super) fn set_refused(&mut self, shelf: &Arc<Shelf<Content<D>>>, generation: u32) {
        let segments = self.by_block.get_mut(&shelf.block).into_iter().flatten();
        let segments = segments.filter(|segment| Arc::ptr_eq(&segment.shelf, shelf));
        segments.for_each(|segment| segment.refused = segment.refused.max(generation));
    }

    /// The segment that a transfer of this generation took its span from: the last one that came before.
    pub(super) fn source(&self, span: Span, generation: u32) -> Option<Arc<Shelf<Content<D>>>> {
        let segments = self.by_block.get(&span.block)?.iter();
        let came_before = |segment: &&Segment<D>| {
            let held = segment.span();
            held.start <= span.start && span.end <= held.end && segment.generation() < generation
        };
        segments.filter(came_before).max_by_key(|segment| segment.generation()).map(|s| s.shelf.clone())
    }

    /// Upstream does not want what is in this segment.
    pub(super) fn set_unwanted(&mut self, shelf: &Arc<Shelf<Content<D>>>) {
        let segments = self.by_block.get_mut(&shelf.block).into_iter().flatten();
        segments.filter(|s| Arc::ptr_eq(&s.shelf, shelf)).for_each(|s| s.is_unwanted = true);
    }

    /// What is in this segment is never sold here.
    pub(super) fn set_unsellable(&mut self, shelf: &Arc<Shelf<Content<D>>>) {
        let segments = self.by_block.get_mut(&shelf.block).into_iter().flatten();
        segments.filter(|s| Arc::ptr_eq(&s.shelf, shelf)).for_each(|s| s.is_unsellable = true);
    }

    /// Whether what is in this segment may be sold here.
    pub(super) fn is_sellable(&self, shelf: &Shelf<Content<D>>) -> bool {
        let segments = self.by_block.get(&shelf.block).into_iter().flatten();
        !segments.filter(|s| std::ptr::eq(&raw const *s.shelf, shelf)).any(|s| s.is_unsellable)
    }

    /// Whether parts of this segment may be offered.
    pub(super) fn is_wanted(&self, shelf: &Shelf<Content<D>>) -> bool {
        let segments = self.by_block.get(&shelf.block).into_iter().flatten();
        !segments.filter(|s| std::ptr::eq(&raw const *s.shelf, shelf)).any(|s| s.is_unwanted)
    }
}

impl<D: Disk> Segment<D> {
    fn span(&self) -> Span {
        self.shelf.content.header().span()
    }

    /// As it came.
    fn generation(&self) -> u32 {
        self.shelf.content.header().generation
    }

    fn highest(&self) -> u32 {
        self.generation().max(self.given)
    }
}
