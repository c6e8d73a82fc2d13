//! Giving stock back upstream: what a recall asks for, and everything when the node goes offline.
//!
//! PINs are cut from the back of lanes, one range at a time and only when a transfer may be opened for it, so that nothing
//! waits outside both the lanes and a transfer. Workers claim from the front meanwhile: what they have is sold.

use super::{Content, NodePlace, OnLink, Recorded, Steward, StewardAction, StewardError};
use crate::disk::Disk;
use crate::ids::{Span, VarietyId};
use crate::journal::Record;
use crate::journal::record::{Stream, TransferFact, TransferStep, WithdrawReason};
use crate::link::{Offer, ToHub};
use crate::planted::{self, Fault};
use crate::pool::Shelf;
use crate::seller::{Sealed, Service};
use crate::time::Now;
use crate::transfer::{GiverAction, TransferFault};
use std::sync::Arc;

/// A recall that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recalling {
    recall: u64,
    pub(super) variety: VarietyId,
    /// PINs asked for and not cut yet; 0: there are no more, or it is enough.
    left: u32,
    /// PINs cut for it.
    cut: u32,
    /// Of these, PINs that were offered.
    offered: u32,
}

impl<D: Disk> Steward<D> {
    /// Upstream calls stock back.
    pub(super) fn handle_recall(&mut self, recall: u64, variety: VarietyId, count: u32) {
        if self.recalls.len() >= RECALLS_MAX {
            self.send(ToHub::Recalled { recall, count: 0 });
            return;
        }
        self.recalls.push_back(Recalling { recall, variety, left: count, cut: 0, offered: 0 });
        self.give_back();
    }

    /// Upstream says whether this node goes offline.
    pub(super) fn handle_drain(&mut self, on: bool, now: &Now) -> Result<(), StewardError> {
        self.set_place(NodePlace::Member, now)?;
        self.serve(if on { Service::Draining } else { Service::Open });
        Ok(())
    }

    /// Upstream's durable answer to an offer.
    pub(super) fn handle_answer(&mut self, number: u64, accepted: bool, now: &Now) {
        let answered = self.giver.handle_answer(number, accepted);
        self.follow_giver(answered, now);
    }

    /// PINs of a variety that open recalls ask for and that were not cut yet.
    pub(super) fn recalling(&self, variety: VarietyId) -> u64 {
        let recalls = self.recalls.iter().filter(|recall| recall.variety == variety);
        recalls.map(|recall| u64::from(recall.left)).sum()
    }

    /// Cuts what is asked for, as long as there is room for another transfer.
    pub(super) fn give_back(&mut self) {
        // A record that waits for room in the journal holds up all further ones.
        while self.giver.has_room() && self.unmade.is_empty() {
            if let Some((shelf, span)) = self.upward.pop_front() {
                self.give_up(&shelf, span, 0);
                continue;
            }
            let recall = self.recalls.iter().find(|recall| recall.left > 0).copied();
            let cut = match recall {
                Some(Recalling { variety, left, .. }) => self.cut(variety, left),
                None if self.draining => self.cut_any(),
                None => return,
            };
            let Some((shelf, span)) = cut else {
                let Some(Recalling { recall, .. }) = recall else { return };
                self.change_recall(recall, |recall| recall.left = 0);
                continue;
            };
            let request = recall.map_or(0, |recall| recall.recall);
            self.change_recall(request, |recall| {
                recall.left -= span.len();
                recall.cut += span.len();
            });
            self.sales.handle_cut(shelf.variety, u64::from(span.len()));
            self.give_up(&shelf, span, request);
        }
    }

    /// A planted fault: what upstream has not answered is taken back while it cannot be reached.
    pub(super) fn cancel_unanswered(&mut self, now: &Now) {
        if self.link == super::Link::Down {
            let unanswered: Vec<_> = self.giver.unanswered().map(|fact| fact.number).collect();
            for number in unanswered {
                let _ = self.giver.handle_answer(number, false);
            }
            self.follow_giver(Ok(()), now);
        }
    }

    /// What came from a lost node below goes on to upstream, and is never sold here: it may have been written off.
    pub(super) fn send_up(&mut self, shelf: &Arc<Shelf<Content<D>>>, span: Span) {
        self.segments.set_unsellable(shelf);
        self.upward.push_back((Arc::clone(shelf), span));
    }

    /// Moves a span that is in no lane into a transfer.
    fn give_up(&mut self, shelf: &Arc<Shelf<Content<D>>>, span: Span, request: u64) {
        let generation = self.segments.next_generation(shelf);
        self.giver.give(span, generation, shelf.variety, request);
        self.run_giver_records();
        if planted::is(Fault::GiveUpAfterSend) {
            self.giver.handle_given(self.giver.highest());
            self.follow_giver(Ok(()), &Now { monotonic_ms: 0, unix_ms: 0 });
        }
    }

    /// The OUT of `number` is durable.
    pub(super) fn handle_given(&mut self, number: u64, now: &Now) {
        self.giver.handle_given(number);
        self.follow_giver(Ok(()), now);
    }

    /// The settlement of `number` is durable.
    pub(super) fn handle_settled(&mut self, number: u64, now: &Now) {
        self.giver.handle_settled(number);
        self.follow_giver(Ok(()), now);
    }

    /// Does what the giver says.
    pub(super) fn follow_giver(&mut self, told: Result<(), TransferFault>, now: &Now) {
        if let Err(fault) = told {
            self.actions.push_back(StewardAction::Drop(fault.into()));
        }
        while let Some(action) = self.giver.poll_action() {
            match action {
                GiverAction::Record(record) => {
                    self.note_refused(&record);
                    self.unmade.push_back(record);
                }
                GiverAction::Offer { fact, request } => {
                    let offer = self.offer_of(&fact, request);
                    self.send(ToHub::Offer(offer));
                    self.change_recall(request, |recall| recall.offered += fact.span.len());
                }
                GiverAction::Chunk { .. } => unreachable!("what goes back has no content on its way"),
                GiverAction::Ended { fact, accepted } => {
                    self.report_at_ms = 0;
                    if !accepted {
                        self.put_back(&fact, now);
                    }
                }
            }
        }
        self.make_records();
        self.give_back();
    }

    /// Takes the record of an OUT that was just made; it has nothing else to say.
    fn run_giver_records(&mut self) {
        while let Some(action) = self.giver.poll_action() {
            match action {
                GiverAction::Record(record) => self.unmade.push_back(record),
                other => unreachable!("{other:?} depends on a record that is not durable"),
            }
        }
        self.make_records();
    }

    /// Changes an open recall, and answers it once all that was cut for it is offered and no more will be.
    fn change_recall(&mut self, recall: u64, change: impl FnOnce(&mut Recalling)) {
        let Some(at) = self.recalls.iter().position(|open| recall != 0 && open.recall == recall) else {
            return;
        };
        change(&mut self.recalls[at]);
        let Recalling { left, cut, offered, .. } = self.recalls[at];
        if left == 0 && cut == offered {
            self.recalls.remove(at);
            self.report_at_ms = 0;
            self.send(ToHub::Recalled { recall, count: offered });
        }
    }

    fn cut(&mut self, variety: VarietyId, count: u32) -> Option<(Arc<Shelf<Content<D>>>, Span)> {
        let segments = &self.segments;
        self.shelves.cut(variety, count, |shelf| segments.is_wanted(shelf))
    }

    fn cut_any(&mut self) -> Option<(Arc<Shelf<Content<D>>>, Span)> {
        let varieties: Vec<_> = self.shelves.varieties().collect();
        varieties.into_iter().find_map(|variety| self.cut(variety, u32::MAX))
    }

    fn offer_of(&self, fact: &TransferFact, request: u64) -> Offer {
        let shelf = self.source_of(fact);
        let records = shelf.content.records(fact.span).expect("the span is a part of its segment");
        let header = shelf.content.header();
        // Upstream has the content, and its key.
        Offer::new(fact, request, header.properties, header.block_count, [0; 60], records)
    }

    /// What was refused is in stock again. Upstream refuses what does not match its own records: what is damaged here is
    /// withdrawn, and a segment in which nothing is damaged is not offered again.
    fn put_back(&mut self, fact: &TransferFact, now: &Now) {
        let shelf = self.source_of(fact);
        let is_sellable = self.segments.is_sellable(&shelf);
        let is_good = |index: u32| is_sellable && shelf.content.open(index as u16).is_some();
        let mut all_good = true;
        let mut start = fact.span.start;
        while start < fact.span.end {
            let good = is_good(start);
            let end = (start + 1..fact.span.end).find(|index| is_good(*index) != good);
            let span = Span { start, end: end.unwrap_or(fact.span.end), ..fact.span };
            if good {
                self.stock(&shelf, span.start, span.end);
            } else {
                all_good = false;
                let (variety, reason, at_ms) = (shelf.variety, WithdrawReason::Damaged, now.unix_ms);
                self.unmade.push_back(Record::Withdrawn { span, variety, reason, at_ms });
            }
            start = span.end;
        }
        if all_good {
            self.segments.set_unwanted(&shelf);
        }
    }

    fn source_of(&self, fact: &TransferFact) -> Arc<Shelf<Content<D>>> {
        let source = self.segments.source(fact.span, fact.generation);
        source.expect("what was given had come before")
    }

    /// A refusal is recorded: whatever of that segment is given in a later record goes out under a higher generation, also before
    /// the refusal is durable.
    pub(super) fn note_refused(&mut self, record: &Record) {
        if let Record::Settled { transfer, accepted: false } = record
            && let Some(shelf) = self.segments.source(transfer.span, transfer.generation)
        {
            self.segments.set_refused(&shelf, transfer.generation);
        }
    }

    /// What is done once the record of a transfer is durable, if it is one.
    pub(super) fn recorded_of(record: &Record) -> Option<(OnLink, Recorded)> {
        let (link, step) = match record {
            Record::Below { node, step } => (Some(*node), *step),
            record => (None, TransferStep::of(record)?),
        };
        let recorded = match step {
            TransferStep::Received(fact) | TransferStep::Refused(fact) => {
                Recorded::Taken(fact.stream, fact.number)
            }
            TransferStep::Given(fact) => Recorded::Given(fact.stream, fact.number),
            TransferStep::Settled { transfer, .. } => Recorded::Settled(transfer.stream, transfer.number),
        };
        Some((link, recorded))
    }

    /// Everything open is offered again.
    pub(super) fn offer_again(&mut self, now: &Now) {
        self.giver.handle_connected();
        self.follow_giver(Ok(()), now);
        self.send(ToHub::Ready);
    }
}

/// Only this stream goes back.
pub(super) const RETURNS: Stream = Stream::Bulk;
/// Recalls that may be open at once.
const RECALLS_MAX: usize = 1024;
