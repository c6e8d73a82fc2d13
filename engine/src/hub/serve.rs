//! Giving stock: what is on the shelf, which part of it goes to whom, and its content on the way out.

use super::books::{Books, Change, PieceRow, Place};
use super::machine::Effect;
use super::{Alarm, Hub, HubError, Output, Store};
use crate::disk::Disk;
use crate::ids::{BlockId, SellerId, Span, VarietyId};
use crate::journal::record::{Record, Stream, TransferFact};
use crate::link::{Offer, ToNode};
use crate::stock::segment::{block_path, checksum};
use crate::stock::{BLOCK_PINS_MAX, Expiry, PIN_RECORD_BYTES, SegmentError, SegmentFile};
use crate::transfer::GiverAction;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

impl<S: Store, D: Disk> Hub<S, D> {
    /// Serves bulk requests: one transfer at a time for each node, from the front of what expires first.
    pub(super) fn serve_needs(&mut self) -> Result<(), HubError> {
        let ready = |node: &&super::node::Node| node.greeted && !node.needs.is_empty();
        let nodes: Vec<_> = self.nodes.values().filter(ready).map(|node| node.seller).collect();
        for node in nodes {
            while self.serve_need(node)? {}
        }
        Ok(())
    }

    /// Serves a node's first request as far as it goes now; whether to go on with the next.
    fn serve_need(&mut self, node: SellerId) -> Result<bool, HubError> {
        let Some(live) = self.nodes.get(&node) else { return Ok(false) };
        if live.givers[Stream::Bulk as usize].open_count() > 0 {
            return Ok(false);
        }
        let Some(need) = live.needs.front() else { return Ok(false) };
        let (request, variety, missing) = (need.request, need.variety, need.wanted - need.granted);
        let mut granted_now = 0;
        if let Some(whole) = self.pick(variety) {
            granted_now = whole.len().min(missing).min(BLOCK_PINS_MAX);
            let span = Span { end: whole.start + granted_now, ..whole };
            self.give(node, Stream::Bulk, whole, span, request)?;
        }
        let Some(need) = self.nodes.get_mut(&node).and_then(|live| live.needs.front_mut()) else {
            return Ok(false);
        };
        need.granted += granted_now;
        if granted_now == 0 || need.granted == need.wanted {
            let message = ToNode::Answered { stream: Stream::Bulk, request, granted: need.granted };
            self.nodes.get_mut(&node).and_then(|live| live.needs.pop_front());
            self.stage(Output::Send { node, message });
        }
        Ok(true)
    }

    /// Gives one PIN, from the back of what expires first.
    pub(super) fn serve_urgent(
        &mut self,
        node: SellerId,
        request: u64,
        variety: VarietyId,
    ) -> Result<(), HubError> {
        let has_room = self.nodes.get(&node).is_some_and(|live| live.givers[1].has_room());
        let picked = if has_room { self.pick(variety) } else { None };
        if let Some(whole) = picked {
            let span = Span { start: whole.end - 1, ..whole };
            self.give(node, Stream::Urgent, whole, span, request)?;
        }
        let granted = u32::from(picked.is_some());
        let message = ToNode::Answered { stream: Stream::Urgent, request, granted };
        self.stage(Output::Send { node, message });
        Ok(())
    }

    /// Does what a giver says. `durable`: what its actions depend on is committed; otherwise they wait for that.
    pub(super) fn run_giver(
        &mut self,
        node: SellerId,
        stream: Stream,
        durable: bool,
    ) -> Result<(), HubError> {
        while let Some(action) = self.nodes.get_mut(&node).and_then(|live| live.giver(stream).poll_action()) {
            let message = match action {
                GiverAction::Record(Record::Settled { transfer, accepted }) => {
                    let place = if accepted {
                        Place::Given { node, stream, number: transfer.number, settled: true }
                    } else {
                        Place::Hub
                    };
                    let (span, generation) = (transfer.span, transfer.generation);
                    self.change(Change::Piece(PieceRow { span, generation, place }));
                    self.stage_effect(Effect::Settled(node, stream, transfer.number));
                    continue;
                }
                // The OUT is in the books: `give` put it there. What was taken needs nothing more.
                GiverAction::Record(_) | GiverAction::Ended { accepted: true, .. } => continue,
                GiverAction::Ended { fact, accepted: false } => {
                    self.shelf.put(&self.books, fact.span);
                    self.put_out(Output::Alarm(Alarm::Refused { node, number: fact.number }));
                    continue;
                }
                GiverAction::Offer { fact, request } => ToNode::Offer(self.offer(node, fact, request)?),
                GiverAction::Chunk { number, span, offset, length } => {
                    let content = self.content(span)?;
                    let bytes = content.slice(offset as usize..(offset + length) as usize);
                    ToNode::Chunk { stream, number, offset, bytes }
                }
            };
            let output = Output::Send { node, message };
            if durable { self.put_out(output) } else { self.stage(output) }
        }
        Ok(())
    }

    /// Moves `span`, an end of the shelved piece `whole`, into a transfer.
    fn give(
        &mut self,
        node: SellerId,
        stream: Stream,
        whole: Span,
        span: Span,
        request: u64,
    ) -> Result<(), HubError> {
        let piece = self.books.pieces[&(whole.block, whole.start)];
        debug_assert!(piece.span == whole && piece.place == Place::Hub);
        let variety = self.shelf.take(&self.books, whole);
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(()) };
        let fact = live.giver(stream).give(span, piece.generation + 1, variety, request);
        let row = live.row();
        let rest = if span.start == whole.start {
            Span { start: span.end, ..whole }
        } else {
            Span { end: span.start, ..whole }
        };
        if !rest.is_empty() {
            self.change(Change::Piece(PieceRow { span: rest, ..piece }));
            self.shelf.put(&self.books, rest);
        }
        let place = Place::Given { node, stream, number: fact.number, settled: false };
        self.change(Change::Piece(PieceRow { span, generation: fact.generation, place }));
        self.change(Change::Node(row));
        self.stage_effect(Effect::Given(node, stream, fact.number));
        self.run_giver(node, stream, false)
    }

    /// The shelved piece of a variety to give from: what expires first and still lives long enough.
    fn pick(&mut self, variety: VarietyId) -> Option<Span> {
        let life_days = self.registry.variety(variety)?.minimum_life_days;
        loop {
            let whole = self.shelf.first(variety, self.now_ms, life_days)?;
            match self.contents.open(whole.block) {
                Ok(_) => return Some(whole),
                Err(error) => {
                    self.shelf.set_aside(whole.block);
                    let alarm = Alarm::BlockSetAside { block: whole.block, what: error.to_string() };
                    self.stage(Output::Alarm(alarm));
                }
            }
        }
    }

    fn offer(&mut self, node: SellerId, fact: TransferFact, request: u64) -> Result<Offer, HubError> {
        let content = self.content(fact.span)?;
        let row = self.books.blocks[&fact.span.block];
        let block = row.properties.block;
        let data_key = self.keys.at_rest().unwrap(block, &row.wrapped_key).map_err(|_| HubError::Key)?;
        Ok(Offer {
            stream: fact.stream,
            number: fact.number,
            settled_below: fact.settled_below,
            request,
            span: fact.span,
            generation: fact.generation,
            properties: row.properties,
            block_count: row.count,
            wrapped_key: self.nodes[&node].keys.link().wrap(block, &data_key),
            bytes: content.len() as u32,
            checksum: checksum(&[&content]),
        })
    }

    /// The records of a span that is in a transfer.
    fn content(&mut self, span: Span) -> Result<Bytes, HubError> {
        let whole = self.contents.open(span.block)?;
        let place = |index: u32| index as usize * PIN_RECORD_BYTES;
        if whole.len() < place(span.end) {
            return Err(HubError::BlockDamaged { block: span.block });
        }
        Ok(whole.slice(place(span.start)..place(span.end)))
    }
}

/// The pieces in the hub's inventory from which stock may be given, what expires first in front.
pub(super) struct Shelf {
    pieces: BTreeMap<VarietyId, BTreeMap<(Expiry, BlockId, u32), u32>>,
    /// PINs of blocks that are set aside.
    aside: BTreeMap<VarietyId, u64>,
}

impl Shelf {
    pub(super) fn new(books: &Books) -> Self {
        let mut shelf = Self { pieces: BTreeMap::new(), aside: BTreeMap::new() };
        for piece in books.pieces.values().filter(|piece| piece.place == Place::Hub) {
            shelf.put(books, piece.span);
        }
        shelf
    }

    pub(super) fn put(&mut self, books: &Books, span: Span) -> VarietyId {
        let properties = books.blocks[&span.block].properties;
        let pieces = self.pieces.entry(properties.variety).or_default();
        pieces.insert((properties.expiry, span.block, span.start), span.end);
        properties.variety
    }

    fn take(&mut self, books: &Books, span: Span) -> VarietyId {
        let properties = books.blocks[&span.block].properties;
        if let Some(pieces) = self.pieces.get_mut(&properties.variety) {
            pieces.remove(&(properties.expiry, span.block, span.start));
        }
        properties.variety
    }

    fn first(&self, variety: VarietyId, now_ms: u64, life_days: u32) -> Option<Span> {
        let lives = |expiry: Expiry| expiry.days_left(now_ms).is_some_and(|left| left >= life_days);
        let mut pieces = self.pieces.get(&variety)?.iter();
        let (&(_, block, start), &end) = pieces.find(|((expiry, _, _), _)| lives(*expiry))?;
        Some(Span { block, start, end })
    }

    fn set_aside(&mut self, block: BlockId) {
        for (&variety, pieces) in &mut self.pieces {
            let lost = pieces.extract_if(.., |(_, of, _), _| *of == block);
            let lost: u64 = lost.map(|((_, _, start), end)| u64::from(end - start)).sum();
            *self.aside.entry(variety).or_default() += lost;
        }
    }

    /// How many PINs may not be given any more: they live too short, or their block is set aside.
    pub(super) fn spoilt(&self, variety: VarietyId, now_ms: u64, life_days: u32) -> u64 {
        let lives = |expiry: Expiry| expiry.days_left(now_ms).is_some_and(|left| left >= life_days);
        let pieces = self.pieces.get(&variety).into_iter().flatten();
        let pieces = pieces.filter(|((expiry, _, _), _)| !lives(*expiry));
        let too_old: u64 = pieces.map(|((_, _, start), end)| u64::from(end - start)).sum();
        too_old + self.aside.get(&variety).copied().unwrap_or(0)
    }

    pub(super) fn count(&self, variety: VarietyId) -> u64 {
        let pieces = self.pieces.get(&variety).into_iter().flatten();
        pieces.map(|((_, _, start), end)| u64::from(end - start)).sum()
    }
}

/// The block files in use, each verified once when it is opened.
pub(super) struct Contents<D: Disk> {
    disk: Arc<D>,
    /// With when it was last used, counted in uses.
    open: BTreeMap<BlockId, (u64, Bytes)>,
    uses: u64,
}

impl<D: Disk> Contents<D> {
    pub(super) fn new(disk: Arc<D>) -> Self {
        Self { disk, open: BTreeMap::new(), uses: 0 }
    }

    /// All records of a block.
    fn open(&mut self, block: BlockId) -> Result<Bytes, HubError> {
        self.uses += 1;
        if let Some((used, bytes)) = self.open.get_mut(&block) {
            *used = self.uses;
            return Ok(bytes.clone());
        }
        let failed = |source: SegmentError| HubError::Block { block, source };
        let file = SegmentFile::open(&*self.disk, &block_path(block)).map_err(failed)?;
        let header = file.header();
        if header.properties.block != block || header.start != 0 || !file.verify() {
            return Err(HubError::BlockDamaged { block });
        }
        if self.open.len() >= OPEN_MAX
            && let Some((&oldest, _)) = self.open.iter().min_by_key(|(_, (used, _))| *used)
        {
            self.open.remove(&oldest);
        }
        let bytes = Bytes::from_owner(Records(file));
        self.open.insert(block, (self.uses, bytes.clone()));
        Ok(bytes)
    }
}

/// Lets the records of an open file be sent from where they lie.
struct Records<D: Disk>(SegmentFile<D>);

impl<D: Disk> AsRef<[u8]> for Records<D> {
    fn as_ref(&self) -> &[u8] {
        let header = self.0.header();
        self.0.records(header.start, header.end).unwrap_or_default()
    }
}

/// Block files kept open.
const OPEN_MAX: usize = 32;
