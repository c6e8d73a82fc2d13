//! Taking what upstream gives: into a file, into the journal, into the lanes.

use super::{Steward, StewardAction, StewardError, Waiter};
use crate::disk::{Disk, DiskError};
use crate::ids::{SellerId, Span};
use crate::journal::record::Stream;
use crate::link::{Offer, ToHub};
use crate::stock::SegmentHeader;
use crate::stock::segment::{segment_path, write_segment};
use crate::time::Now;
use crate::transfer::{TakerAction, TransferFault};

/// The content of a segment that came, to be put into its file.
#[derive(Debug)]
pub struct SegmentWrite {
    offer: Offer,
    header: SegmentHeader,
    records: Vec<u8>,
    /// The node below that it comes back from; `None`: it comes from upstream.
    from: Option<SellerId>,
}

impl SegmentWrite {
    /// One that comes back from a node below.
    pub(super) fn back_from(node: SellerId, offer: Offer, header: SegmentHeader, records: Vec<u8>) -> Self {
        Self { offer, header, records, from: Some(node) }
    }

    /// Writes the file, durable with its directory entry when this returns.
    ///
    /// # Errors
    /// [`DiskError`]: the file is not there, or not whole.
    pub fn run(&self, disk: &impl Disk) -> Result<(), DiskError> {
        let path = segment_path(self.offer.span, self.offer.generation);
        write_segment(disk, &path, &self.header, &[&self.records])
    }

    /// Whether a terminal waits for it.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.offer.stream == Stream::Urgent
    }
}

impl<D: Disk> Steward<D> {
    /// A [`StewardAction::Write`] was tried, with this result.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn handle_written(
        &mut self,
        write: &SegmentWrite,
        result: Result<(), DiskError>,
        now: &Now,
    ) -> Result<(), StewardError> {
        let Offer { stream, number, request, .. } = write.offer;
        if let Some(node) = write.from {
            return self.returned_written(node, write.offer, result, now);
        }
        match result {
            Ok(()) => {
                self.needs.handle_room();
                self.taker(stream).handle_written(number);
            }
            // The giver keeps it, and is asked again when there may be room.
            Err(error) if error.is_full() => {
                self.needs.handle_no_room(now);
                self.waiting.retain(|waiting| waiting.request == 0 || waiting.request != request);
                self.taker(stream).refuse(number);
            }
            Err(error) => return Err(error.into()),
        }
        self.follow(Ok(()), stream, now)
    }

    /// Does what a taker says.
    pub(super) fn follow(
        &mut self,
        taken: Result<(), TransferFault>,
        stream: Stream,
        now: &Now,
    ) -> Result<(), StewardError> {
        if let Err(fault) = taken {
            self.actions.push_back(StewardAction::Drop(fault.into()));
        }
        while let Some(action) = self.taker(stream).poll_action() {
            match action {
                TakerAction::WriteContent { offer, bytes } => self.write_content(offer, bytes)?,
                TakerAction::Compare(_) => unreachable!("what comes down has its content"),
                TakerAction::Record(record) => {
                    self.unmade.push_back(record);
                    self.make_records();
                }
                TakerAction::Taken(offer) => self.take(&offer, now)?,
                TakerAction::Progress { number, bytes } => {
                    self.send(ToHub::Progress { stream, number, bytes });
                }
                TakerAction::Answer { number, accepted } => {
                    self.send(ToHub::Answer { stream, number, accepted });
                }
            }
        }
        Ok(())
    }

    fn write_content(&mut self, offer: Offer, records: Vec<u8>) -> Result<(), StewardError> {
        let block = offer.span.block;
        let wrong = |source| StewardError::Key { block: block.0, source };
        let key = self.link_keys.link().unwrap(block, &offer.wrapped_key).map_err(wrong)?;
        let header = SegmentHeader {
            properties: offer.properties,
            start: offer.span.start,
            end: offer.span.end,
            generation: offer.generation,
            block_count: offer.block_count,
            key: self.keys.at_rest().wrap(block, &key),
        };
        let write = SegmentWrite { offer, header, records, from: None };
        self.actions.push_back(StewardAction::Write(Box::new(write)));
        Ok(())
    }

    /// A segment is this node's: it may be sold.
    fn take(&mut self, offer: &Offer, now: &Now) -> Result<(), StewardError> {
        let shelf = self.open_shelf(offer.span, offer.generation, (0, 0))?;
        let Span { start, end, .. } = offer.span;
        let asked_by = self.waiting.iter().position(|w| offer.request != 0 && w.request == offer.request);
        match asked_by.and_then(|at| self.waiting.remove(at)).map(|waiting| waiting.who) {
            Some(Waiter::Worker(worker)) => {
                self.sales.handle_stocked(shelf.variety, u64::from(end - start));
                let handed = self.shelves.add_to(worker, shelf, start, end);
                self.hand_out(vec![handed]);
            }
            Some(Waiter::Below(node, asked)) if self.pass_on(node, asked, &shelf, offer.span, now) => {}
            Some(Waiter::Below(..)) | None => self.stock(&shelf, start, end),
        }
        self.report_at_ms = 0;
        self.serve_waiting(now);
        self.serve_children(now);
        Ok(())
    }
}
