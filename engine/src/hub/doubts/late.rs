//! What stretches of a lost node's journal say that came after it was declared lost, and those of a server of lost nodes below it.

use crate::ids::{BlockId, PinId, SellerId, Span};
use crate::journal::record::{Record, RecordBytes, TransferStep};
use crate::ledger::Spans;
use std::collections::BTreeMap;

/// What a stretch says of PINs.
#[derive(Default)]
pub(in crate::hub) struct Late {
    sold: BTreeMap<BlockId, Spans>,
    withdrawn: BTreeMap<BlockId, Spans>,
    /// The highest number of a transfer to the hub; 0: none.
    pub(in crate::hub) given: u64,
    /// Transfers with nodes below, in order.
    pub(super) below: Vec<(SellerId, TransferStep)>,
}

impl Late {
    pub(in crate::hub) fn add(&mut self, record: &RecordBytes) {
        let pin_span = |pin: PinId| {
            let start = u32::from(pin.index());
            Span { block: pin.block(), start, end: start + 1 }
        };
        match Record::decode(record) {
            Ok(Record::Sold { pin, .. }) => put(&mut self.sold, pin_span(pin)),
            Ok(Record::Voided { pin, .. }) => put(&mut self.withdrawn, pin_span(pin)),
            Ok(Record::Withdrawn { span, .. }) => put(&mut self.withdrawn, span),
            Ok(Record::Given(fact)) => self.given = self.given.max(fact.number),
            Ok(Record::Below { node, step }) => self.below.push((node, step)),
            _ => {}
        }
    }

    /// The same of a node of which nothing is in doubt yet: it may be the server of one of which something is by the time that
    /// this is settled.
    pub(in crate::hub) fn add_below(&mut self, record: &RecordBytes) {
        if let Ok(Record::Below { node, step }) = Record::decode(record) {
            self.below.push((node, step));
        }
    }

    pub(super) fn sold(&self) -> impl Iterator<Item = Span> {
        spans(&self.sold)
    }

    pub(super) fn withdrawn(&self) -> impl Iterator<Item = Span> {
        spans(&self.withdrawn)
    }
}

fn put(to: &mut BTreeMap<BlockId, Spans>, span: Span) {
    to.entry(span.block).or_default().insert(span.start, span.end);
}

fn spans(of: &BTreeMap<BlockId, Spans>) -> impl Iterator<Item = Span> {
    of.iter().flat_map(|(&block, spans)| {
        spans.intervals().iter().map(move |&(start, end)| Span { block, start, end })
    })
}
