//! Stock on its way down: what a node below asks for is cut from the back of this node's lanes, in the order of the requests. In
//! bulk it gets what is above this node's own low mark; the single PIN that a terminal waits for it gets of whatever there is.
//! What is missing this node asks for itself, and passes on.

use super::{Child, ChildFault};
use crate::disk::Disk;
use crate::ids::{SellerId, Span, VarietyId};
use crate::journal::record::{Stream, TransferFact};
use crate::limits::PARK_MS_MAX;
use crate::link::{ChildStanding, Offer, ToNode};
use crate::planted::{self, Fault};
use crate::pool::Shelf;
use crate::steward::{Content, Steward, WAITING_MAX, Waiter, Waiting};
use crate::stock::BLOCK_PINS_MAX;
use crate::time::Now;
use crate::transfer::GiverAction;
use bytes::Bytes;
use std::sync::Arc;

/// A request in bulk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its place in the order of arrival.
    id: u64,
    request: u64,
    pub(super) variety: VarietyId,
    /// PINs asked for.
    pub(super) count: u32,
    /// PINs in transfers for it.
    pub(super) given: u32,
    /// PINs offered for it.
    offered: u32,
}

impl<D: Disk> Steward<D> {
    /// A node below wants stock in bulk. The request stays open until it is met.
    pub(super) fn hear_need(
        &mut self,
        node: SellerId,
        request: u64,
        variety: VarietyId,
        count: u32,
        now: &Now,
    ) -> Result<(), ChildFault> {
        let is_known = self.registry.current().variety(variety).is_some();
        let id = self.children.next_wanted;
        let Some(child) = self.children.by_node.get_mut(&node) else { return Ok(()) };
        if request == 0 || count == 0 || child.wanted.len() >= WANTED_MAX {
            return Err(ChildFault::Malformed);
        }
        if !is_known || child.standing == ChildStanding::Lost {
            self.send_below(node, ToNode::Answered { stream: Stream::Bulk, request, granted: 0 });
            return Ok(());
        }
        child.wanted.push(Wanted { id, request, variety, count, given: 0, offered: 0 });
        self.children.next_wanted += 1;
        self.serve_children(now);
        self.ask(now);
        Ok(())
    }

    /// A terminal of a node below waits for one PIN.
    pub(super) fn hear_urgent(
        &mut self,
        node: SellerId,
        request: u64,
        variety: VarietyId,
        now: &Now,
    ) -> Result<(), ChildFault> {
        if request == 0 {
            return Err(ChildFault::Malformed);
        }
        let is_known = self.registry.current().variety(variety).is_some();
        if self.draining || !is_known || self.is_lost_below(node) {
            self.answer_urgent(node, request, 0);
            return Ok(());
        }
        let until_ms = now.monotonic_ms + PARK_MS_MAX;
        self.waiting.push_back(Waiting { who: Waiter::Below(node, request), variety, request: 0, until_ms });
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        self.serve_waiting(now);
        self.ask(now);
        Ok(())
    }

    /// Ends an urgent request of a node below. None is final for the terminal that waits.
    pub(in crate::steward) fn answer_urgent(&mut self, node: SellerId, request: u64, granted: u32) {
        self.send_below(node, ToNode::Answered { stream: Stream::Urgent, request, granted });
    }

    /// Gives one PIN to a node below, from the back of whatever can be sold; whether there was one, and room for it.
    pub(in crate::steward) fn give_urgent(
        &mut self,
        node: SellerId,
        request: u64,
        variety: VarietyId,
        now: &Now,
    ) -> bool {
        if !self.has_urgent_room(node) || !self.may_give_to(node, now) {
            return false;
        }
        let Some((shelf, span)) = self.cut_for_child(variety, 1, now) else { return false };
        self.give_below(node, Stream::Urgent, &shelf, span, request, now);
        true
    }

    /// A PIN that this node asked for because a node below did is here. Whether that one gets it.
    pub(in crate::steward) fn pass_on(
        &mut self,
        node: SellerId,
        request: u64,
        shelf: &Arc<Shelf<Content<D>>>,
        span: Span,
        now: &Now,
    ) -> bool {
        let passes = span.len() == 1 && self.has_urgent_room(node) && self.may_give_to(node, now);
        if passes {
            self.give_below(node, Stream::Urgent, shelf, span, request, now);
        }
        passes
    }

    /// Serves what nodes below want in bulk, in the order of arrival.
    pub(in crate::steward) fn serve_children(&mut self, now: &Now) {
        let ids = self.children.by_node.values().filter(|child| !child.wanted.is_empty());
        let ids = ids.flat_map(|child| child.wanted.iter().map(|wanted| (wanted.id, child.node)));
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        for (id, node) in ids {
            while self.serve_wanted(node, id, now) {}
        }
    }

    /// Gives a segment for a request; whether there may be more for it.
    fn serve_wanted(&mut self, node: SellerId, id: u64, now: &Now) -> bool {
        let Some(child) = self.children.by_node.get(&node) else { return false };
        let Some(wanted) = child.wanted.iter().find(|wanted| wanted.id == id).copied() else { return false };
        let left = wanted.count - wanted.given;
        // A record that waits for room in the journal holds up all further ones.
        let has_room = child.givers[Stream::Bulk as usize].has_room() && self.unmade.is_empty();
        if left == 0 || !has_room || !self.may_give_to(node, now) {
            return false;
        }
        let spare = self.in_stock(wanted.variety, now).saturating_sub(self.levels(wanted.variety).low());
        let count = u64::from(left.min(BLOCK_PINS_MAX)).min(spare) as u32;
        if count == 0 {
            return false;
        }
        let Some((shelf, span)) = self.cut_for_child(wanted.variety, count, now) else { return false };
        if let Some(child) = self.children.by_node.get_mut(&node)
            && let Some(wanted) = child.wanted.iter_mut().find(|wanted| wanted.id == id)
        {
            wanted.given += span.len();
        }
        self.give_below(node, Stream::Bulk, &shelf, span, wanted.request, now);
        true
    }

    fn cut_for_child(
        &mut self,
        variety: VarietyId,
        count: u32,
        now: &Now,
    ) -> Option<(Arc<Shelf<Content<D>>>, Span)> {
        let first_day = self.first_day(variety, now);
        let (shelf, span) = self.shelves.cut(variety, count, |shelf| shelf.last_day >= first_day)?;
        self.sales.handle_cut(variety, u64::from(span.len()));
        Some((shelf, span))
    }

    fn has_urgent_room(&self, node: SellerId) -> bool {
        let room = |child: &Child| child.givers[Stream::Urgent as usize].has_room();
        self.unmade.is_empty() && self.children.by_node.get(&node).is_some_and(room)
    }

    /// Moves a span that is in no lane into a transfer.
    fn give_below(
        &mut self,
        node: SellerId,
        stream: Stream,
        shelf: &Arc<Shelf<Content<D>>>,
        span: Span,
        request: u64,
        now: &Now,
    ) {
        let generation = self.segments.next_generation(shelf);
        let child = self.children.by_node.get_mut(&node).expect("the caller has looked it up");
        let fact = child.givers[stream as usize].give(span, generation, shelf.variety, request);
        if planted::is(Fault::GiveUpAfterSend) {
            child.givers[stream as usize].handle_given(fact.number);
        }
        self.run_child_giver(node, stream, now);
    }

    /// A planted fault: what a node below has not answered is taken back while it cannot be reached.
    pub(in crate::steward) fn cancel_unanswered_below(&mut self, now: &Now) {
        let away = self.children.by_node.values().filter(|child| !child.is_greeted());
        for node in away.map(|child| child.node).collect::<Vec<_>>() {
            for stream in [Stream::Bulk, Stream::Urgent] {
                let Some(child) = self.children.by_node.get_mut(&node) else { continue };
                let giver = &mut child.givers[stream as usize];
                let unanswered: Vec<_> = giver.unanswered().map(|fact| fact.number).collect();
                for number in unanswered {
                    let _ = giver.handle_answer(number, false);
                }
                self.follow_child_giver(node, stream, now);
            }
        }
    }

    /// Does what a giver says, and gives more if there is room now.
    pub(super) fn follow_child_giver(&mut self, node: SellerId, stream: Stream, now: &Now) {
        self.run_child_giver(node, stream, now);
        self.serve_children(now);
    }

    fn run_child_giver(&mut self, node: SellerId, stream: Stream, now: &Now) {
        let next = |steward: &mut Self| {
            steward.children.by_node.get_mut(&node)?.givers[stream as usize].poll_action()
        };
        while let Some(action) = next(self) {
            match action {
                GiverAction::Record(record) => {
                    self.note_refused(&record);
                    self.record_below(node, &record);
                }
                GiverAction::Offer { fact, request } => {
                    let Some(offer) = self.offer_below(node, &fact, request) else { continue };
                    self.send_below(node, ToNode::Offer(offer));
                    self.note_offered(node, stream, request, fact.span.len());
                }
                GiverAction::Chunk { number, span, offset, length } => {
                    let Some(bytes) = self.chunk_below(node, stream, number, span, offset, length) else {
                        continue;
                    };
                    self.send_below(node, ToNode::Chunk { stream, number, offset, bytes });
                }
                GiverAction::Ended { accepted: true, .. } => self.report_at_ms = 0,
                GiverAction::Ended { fact, accepted: false } => self.take_refused(node, &fact, now),
            }
        }
    }

    /// A node below refused a segment, and that is durable: it is in stock again.
    fn take_refused(&mut self, node: SellerId, fact: &TransferFact, now: &Now) {
        tracing::warn!(node = node.0, number = fact.number, "a node below refused a transfer");
        if let Some(child) = self.children.by_node.get_mut(&node) {
            child.rests_until_ms = now.monotonic_ms + REFUSED_REST_MS;
        }
        let shelf = self.segments.source(fact.span, fact.generation);
        let shelf = shelf.expect("what was given had come before");
        self.stock(&shelf, fact.span.start, fact.span.end);
        self.report_at_ms = 0;
    }

    /// What a request was for is offered: all of it, perhaps.
    fn note_offered(&mut self, node: SellerId, stream: Stream, request: u64, pins: u32) {
        if request == 0 {
            return;
        }
        if stream == Stream::Urgent {
            return self.answer_urgent(node, request, 1);
        }
        let Some(child) = self.children.by_node.get_mut(&node) else { return };
        let Some(at) = child.wanted.iter().position(|wanted| wanted.request == request) else { return };
        child.wanted[at].offered += pins;
        let Wanted { count, offered, .. } = child.wanted[at];
        if offered >= count {
            child.wanted.remove(at);
            self.send_below(node, ToNode::Answered { stream, request, granted: count });
        }
    }

    fn offer_below(&self, node: SellerId, fact: &TransferFact, request: u64) -> Option<Offer> {
        let shelf = self.segments.source(fact.span, fact.generation).expect("what was given had come before");
        let records = shelf.content.records(fact.span).expect("the span is a part of its segment");
        let header = shelf.content.header();
        let key = self.keys.at_rest().unwrap(shelf.block, &header.key);
        let key = key.expect("it was opened when the segment was");
        // Without a key it could not have connected.
        let child = self.children.by_node.get(&node)?.key.as_ref()?;
        let wrapped_key = child.keys.link().wrap(shelf.block, &key);
        Some(Offer::new(fact, request, header.properties, header.block_count, wrapped_key, records))
    }

    fn chunk_below(
        &self,
        node: SellerId,
        stream: Stream,
        number: u64,
        span: Span,
        offset: u32,
        length: u32,
    ) -> Option<Bytes> {
        let child = self.children.by_node.get(&node)?;
        let fact = child.givers[stream as usize].open().find(|fact| fact.number == number)?;
        let shelf = self.segments.source(span, fact.generation)?;
        let records = shelf.content.records(span)?;
        let (offset, length) = (offset as usize, length as usize);
        Some(Bytes::copy_from_slice(&records[offset..offset + length]))
    }

    /// PINs of a variety that nodes below want in bulk and were not given.
    pub(in crate::steward) fn unmet_below(&self, variety: VarietyId) -> u64 {
        let may_have = |child: &&Child| child.is_greeted() && child.standing == ChildStanding::Member;
        self.children.by_node.values().filter(may_have).map(|child| child.unmet(variety)).sum()
    }
}

/// Most requests in bulk that a node below may have open.
const WANTED_MAX: usize = 1024;
/// How long a node that refused a segment is given nothing, in milliseconds.
const REFUSED_REST_MS: u64 = 5_000;
