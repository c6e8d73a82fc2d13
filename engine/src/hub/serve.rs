//! Giving stock: promises become transfers, and their content goes out.

use super::books::{Change, Drain, PieceRow, Place, Way};
use super::machine::Effect;
use super::{Alarm, Hub, HubError, Output, Store};
use crate::disk::Disk;
use crate::ids::{SellerId, Span, VarietyId};
use crate::journal::record::{Record, Stream, TransferFact};
use crate::link::{Offer, ToNode};
use crate::policy::Reason;
use crate::stock::{BLOCK_PINS_MAX, PIN_RECORD_BYTES};
use crate::transfer::GiverAction;
use bytes::Bytes;

impl<S: Store, D: Disk> Hub<S, D> {
    /// Puts what is promised in bulk into transfers: a few at a time for each node, so that one is on its
    /// way while another is being written, from the front of what expires first.
    pub(super) fn serve_grants(&mut self) -> Result<(), HubError> {
        let ready = |node: &&super::node::Node| node.greeted && !node.grants.is_empty();
        let nodes: Vec<_> = self.nodes.values().filter(ready).map(|node| node.seller).collect();
        for node in nodes {
            while self.serve_grant(node)? {}
        }
        Ok(())
    }

    /// Serves a node's first grant as far as it goes now; whether to go on with the next.
    fn serve_grant(&mut self, node: SellerId) -> Result<bool, HubError> {
        let Some(live) = self.nodes.get(&node) else { return Ok(false) };
        if !live.givers[Stream::Bulk as usize].has_room() {
            return Ok(false);
        }
        let Some(&grant) = live.grants.front() else { return Ok(false) };
        let picked = self.pick(grant.variety);
        let pins = picked.map_or(0, |whole| u64::from(whole.len().min(BLOCK_PINS_MAX)).min(grant.left));
        if let Some(whole) = picked {
            let span = Span { end: whole.start + pins as u32, ..whole };
            let request = self.request_of(node, grant.need);
            self.give(node, Stream::Bulk, whole, span, request, grant.reason)?;
        }
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(false) };
        let Some(front) = live.grants.front_mut() else { return Ok(false) };
        front.left -= pins;
        let lost = if pins == 0 { front.left } else { 0 };
        if front.left == lost {
            live.grants.pop_front();
        }
        if let Some(at) = live.needs.iter().position(|need| Some(need.id) == grant.need) {
            let need = &mut live.needs[at];
            need.given += pins as u32;
            // A block was set aside since it was promised: the request waits on.
            need.granted -= lost as u32;
            if need.given == need.wanted {
                let (request, granted) = (need.request, need.given);
                live.needs.remove(at);
                self.stage(Output::Send {
                    node,
                    message: ToNode::Answered { stream: Stream::Bulk, request, granted },
                });
            }
        }
        if lost > 0 {
            self.dirty.insert(grant.variety);
        }
        Ok(true)
    }

    /// Gives one PIN for a request, from the back of what expires first; whether there was one, and room for it.
    pub(super) fn serve_urgent(
        &mut self,
        node: SellerId,
        need: u64,
        reason: Reason,
    ) -> Result<bool, HubError> {
        let Some(live) = self.nodes.get(&node) else { return Ok(false) };
        let Some(at) = live.needs.iter().position(|open| open.id == need) else { return Ok(false) };
        let (request, variety) = (live.needs[at].request, live.needs[at].variety);
        if !live.givers[Stream::Urgent as usize].has_room() {
            return Ok(false);
        }
        let Some(whole) = self.pick(variety) else { return Ok(false) };
        let span = Span { start: whole.end - 1, ..whole };
        self.give(node, Stream::Urgent, whole, span, request, reason)?;
        self.answer_urgent(node, need, 1);
        Ok(true)
    }

    /// Ends an urgent request.
    pub(super) fn answer_urgent(&mut self, node: SellerId, need: u64, granted: u32) {
        let Some(live) = self.nodes.get_mut(&node) else { return };
        let Some(at) = live.needs.iter().position(|open| open.id == need) else { return };
        let request = live.needs.remove(at).request;
        self.stage(Output::Send {
            node,
            message: ToNode::Answered { stream: Stream::Urgent, request, granted },
        });
    }

    /// The node's number of a request that is open; 0: there is none.
    fn request_of(&self, node: SellerId, need: Option<u64>) -> u64 {
        let needs = self.nodes.get(&node).into_iter().flat_map(|live| &live.needs);
        needs.filter(|open| Some(open.id) == need).map(|open| open.request).next().unwrap_or(0)
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
                    let (span, generation) = (transfer.span, transfer.generation);
                    if accepted {
                        let place = Place::Given { node, stream, number: transfer.number, settled: true };
                        self.change(Change::Piece(PieceRow { span, generation, place }));
                    } else {
                        self.own_again(node, span, generation);
                    }
                    self.stage_effect(Effect::Settled(node, stream, transfer.number));
                    continue;
                }
                // The OUT is in the books: `give` put it there.
                GiverAction::Record(_) => continue,
                GiverAction::Ended { fact, accepted } => {
                    self.handle_given_away(node, &fact, accepted);
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
        reason: Reason,
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
        self.note_move(Way::ToNode, node, &fact, Some(reason));
        if let Some(drain) = self.books.drain {
            let moved = drain.moved + u64::from(span.len());
            self.change(Change::Drain(Some(Drain { moved, ..drain })));
        }
        self.stage_effect(Effect::Given(node, stream, fact.number));
        self.run_giver(node, stream, false)
    }

    /// The node has taken a segment, or has refused it, and that is durable here.
    fn handle_given_away(&mut self, node: SellerId, fact: &TransferFact, accepted: bool) {
        self.dirty.insert(fact.variety);
        let Some(live) = self.nodes.get_mut(&node).filter(|_| !accepted) else { return };
        live.rests_until_ms = self.elapsed_ms + REFUSED_REST_MS;
        self.shelve(fact.span);
        self.put_out(Output::Alarm(Alarm::Refused { node, number: fact.number }));
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
        let wrapped_key = self.nodes[&node].keys.link().wrap(block, &data_key);
        Ok(Offer::new(&fact, request, row.properties, row.count, wrapped_key, &content))
    }

    /// The records of a span.
    pub(super) fn content(&mut self, span: Span) -> Result<Bytes, HubError> {
        let whole = self.contents.open(span.block)?;
        let place = |index: u32| index as usize * PIN_RECORD_BYTES;
        if whole.len() < place(span.end) {
            return Err(HubError::BlockDamaged { block: span.block });
        }
        Ok(whole.slice(place(span.start)..place(span.end)))
    }
}

/// How long a node that refused a segment is given nothing, in milliseconds.
const REFUSED_REST_MS: u64 = 5_000;
