//! Stock on its way back up: compared with this node's own records of what it gave, put into a file of its own under its new
//! generation, recorded, and back in the lanes.

use super::Child;
use crate::disk::{Disk, DiskError};
use crate::ids::{SellerId, Span};
use crate::journal::record::Stream;
use crate::link::{ChildStanding, Offer, ToNode};
use crate::pool::Shelf;
use crate::steward::taking::SegmentWrite;
use crate::steward::{Content, Steward, StewardAction, StewardError};
use crate::stock::SegmentHeader;
use crate::stock::segment::checksum;
use crate::time::Now;
use crate::transfer::TakerAction;
use std::sync::Arc;

impl<D: Disk> Steward<D> {
    /// Does what a taker says.
    pub(super) fn follow_child_taker(&mut self, node: SellerId, now: &Now) -> Result<(), StewardError> {
        while let Some(action) = self.child_taker_action(node) {
            match action {
                TakerAction::Compare(offer) => {
                    if let Some(child) = self.children.by_node.get_mut(&node) {
                        child.comparing.push(offer);
                    }
                    self.compare_offers(node, now)?;
                }
                TakerAction::Record(record) => self.record_below(node, &record),
                TakerAction::Taken(offer) => {
                    let shelf = self.open_shelf(offer.span, offer.generation, (0, 0))?;
                    if self.is_lost_below(node) {
                        self.send_up(&shelf, offer.span);
                    } else {
                        self.stock(&shelf, offer.span.start, offer.span.end);
                    }
                    self.report_at_ms = 0;
                    self.give_back();
                    self.serve_waiting(now);
                    self.serve_children(now);
                }
                TakerAction::Answer { number, accepted } => {
                    self.send_below(node, ToNode::Answer { stream: Stream::Bulk, number, accepted });
                }
                TakerAction::Progress { .. } | TakerAction::WriteContent { .. } => {
                    unreachable!("what comes back has no content on its way")
                }
            }
        }
        Ok(())
    }

    /// The highest generation recorded for any PIN of a span that a node below offers: that under which it was given it, or if it
    /// was not, the highest of the segments that it overlaps. Other parts of those may have gone out under higher ones.
    pub(super) fn generation_below(&self, node: SellerId, span: Span) -> u32 {
        let child = self.children.by_node.get(&node);
        let piece = child.and_then(|child| child.books.piece_with(span));
        piece.map_or_else(|| self.segments.generation(span), |piece| piece.generation)
    }

    fn child_taker_action(&mut self, node: SellerId) -> Option<TakerAction> {
        self.children.by_node.get_mut(&node)?.taker.poll_action()
    }

    /// Compares what is offered with this node's own records. What this node does not know yet that the other took waits until it
    /// does.
    pub(super) fn compare_offers(&mut self, node: SellerId, now: &Now) -> Result<(), StewardError> {
        let Some(child) = self.children.by_node.get_mut(&node) else { return Ok(()) };
        if now.monotonic_ms < child.compare_after_ms {
            return Ok(());
        }
        let mut refused = false;
        for offer in std::mem::take(&mut child.comparing) {
            let verdict = self.verdict_below(node, &offer);
            let Some(child) = self.children.by_node.get_mut(&node) else { return Ok(()) };
            match verdict {
                Verdict::NotYet => child.comparing.push(offer),
                Verdict::Takes(source) => self.write_returned(node, offer, &source),
                Verdict::Refuses(what) => {
                    tracing::warn!(
                        node = node.0,
                        number = offer.number,
                        "what a node gives back is refused: {what}"
                    );
                    child.taker.refuse(offer.number);
                    refused = true;
                }
            }
        }
        if refused { self.follow_child_taker(node, now) } else { Ok(()) }
    }

    fn verdict_below(&self, node: SellerId, offer: &Offer) -> Verdict<Content<D>> {
        let Some(child) = self.children.by_node.get(&node) else { return Verdict::NotYet };
        // What was lost comes back only with the journal that says so.
        if child.standing == ChildStanding::Lost && child.given < offer.number {
            return Verdict::NotYet;
        }
        if child.overlaps_another(offer) {
            return Verdict::Refuses("it is in another transfer");
        }
        let Some(piece) = child.books.piece_with(offer.span) else {
            return Verdict::Refuses("it is no part of what that node has");
        };
        if child.books.is_open(piece) {
            return Verdict::NotYet;
        }
        if offer.generation <= piece.generation {
            return Verdict::Refuses("its generation is not higher than that under which it was given");
        }
        let Some(source) = self.segments.source(offer.span, offer.generation) else {
            return Verdict::Refuses("it is no part of a segment that came here");
        };
        let header = source.content.header();
        if (header.properties, header.block_count) != (offer.properties, offer.block_count) {
            return Verdict::Refuses("its block is described otherwise");
        }
        match source.content.records(offer.span) {
            Some(records) if checksum(&[records]) == offer.checksum => Verdict::Takes(source),
            _ => Verdict::Refuses("its records are not those that were given"),
        }
    }

    /// Puts what comes back into a file under its new generation, from the file that it was given from.
    fn write_returned(&mut self, node: SellerId, offer: Offer, source: &Shelf<Content<D>>) {
        let records = source.content.records(offer.span).expect("it was compared");
        let header = SegmentHeader {
            start: offer.span.start,
            end: offer.span.end,
            generation: offer.generation,
            ..*source.content.header()
        };
        let write = SegmentWrite::back_from(node, offer, header, records.to_vec());
        self.actions.push_back(StewardAction::Write(Box::new(write)));
    }

    /// The file of what comes back was tried. Without room it is tried again: what was refused would stay where it is to go.
    pub(in crate::steward) fn returned_written(
        &mut self,
        node: SellerId,
        offer: Offer,
        result: Result<(), DiskError>,
        now: &Now,
    ) -> Result<(), StewardError> {
        let Some(child) = self.children.by_node.get_mut(&node) else { return Ok(()) };
        match result {
            Ok(()) => child.taker.handle_written(offer.number),
            Err(error) if error.is_full() => {
                child.compare_after_ms = now.monotonic_ms + COMPARE_AGAIN_MS;
                child.comparing.push(offer);
            }
            Err(error) => return Err(error.into()),
        }
        self.follow_child_taker(node, now)
    }
}

impl Child {
    /// Whether another offer that may yet be taken has a part of this one.
    fn overlaps_another(&self, offer: &Offer) -> bool {
        self.taker.arriving().any(|other| {
            let is_other = other.number < offer.number && other.span.block == offer.span.block;
            is_other && other.span.start < offer.span.end && offer.span.start < other.span.end
        })
    }
}

enum Verdict<S> {
    /// It is not known yet that the node took it.
    NotYet,
    /// From this segment.
    Takes(Arc<Shelf<S>>),
    Refuses(&'static str),
}

/// How long a full disk is left alone, in milliseconds.
const COMPARE_AGAIN_MS: u64 = 1_000;
