//! What was sold, counted from the journals that the nodes ship. With the deliveries it says how much stock the whole
//! network has, wherever that is and whoever is away.

use super::archive::read_archive;
use super::books::{Books, Change};
use super::{Hub, HubError, Store};
use crate::disk::Disk;
use crate::ids::{SellerId, VarietyId};
use crate::journal::batch::Batch;
use crate::journal::record::{Record, RecordBytes};
use crate::journal::{Position, Shipment};
use crate::policy::{ALIVE_DAYS, Rate, SalesRate};
use std::collections::BTreeMap;

/// What became of the PINs of one variety, as far as journals are archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesRow {
    /// Of what.
    pub variety: VarietyId,
    /// PINs that left the stock of nodes for ever: sold, or withdrawn unsold.
    pub gone: u64,
    /// PINs sold on each of the last days; a day is counted from 1970-01-01 (UTC).
    pub days: BTreeMap<u32, u64>,
    /// The smoothed rate of sales.
    pub rate: Rate,
    /// As of when, in milliseconds of Unix time.
    pub rate_at_ms: u64,
}

impl SalesRow {
    fn new(variety: VarietyId) -> Self {
        Self { variety, gone: 0, days: BTreeMap::new(), rate: Rate::NONE, rate_at_ms: 0 }
    }

    /// PINs sold within [`ALIVE_DAYS`].
    pub(super) fn sold_lately(&self, now_ms: u64) -> u64 {
        let today = day_of(now_ms);
        self.days.range(today.saturating_sub(ALIVE_DAYS - 1)..).map(|(_, sold)| sold).sum()
    }

    fn add(&mut self, stretch: &Stretch) {
        self.gone += stretch.gone;
        for (&day, &sold) in &stretch.sold {
            *self.days.entry(day).or_default() += sold;
        }
        while self.days.len() > ALIVE_DAYS as usize {
            self.days.pop_first();
        }
    }
}

/// What a stretch of a journal says, by variety.
#[derive(Default)]
pub(super) struct Count(BTreeMap<VarietyId, Stretch>);

#[derive(Default)]
struct Stretch {
    gone: u64,
    /// By day.
    sold: BTreeMap<u32, u64>,
}

impl Count {
    /// Counts a record. A void changes nothing here: its PIN was gone when it was sold.
    pub(super) fn add(&mut self, record: &RecordBytes) {
        match Record::decode(record) {
            Ok(Record::Sold { variety, at_ms, .. }) => {
                let stretch = self.0.entry(variety).or_default();
                stretch.gone += 1;
                *stretch.sold.entry(day_of(at_ms)).or_default() += 1;
            }
            Ok(Record::Withdrawn { span, variety, .. }) => {
                self.0.entry(variety).or_default().gone += u64::from(span.len());
            }
            _ => {}
        }
    }
}

/// Counts what archives hold and `books` have not counted: archives that were there before there was a count.
pub(super) fn count_archives<D: Disk>(disk: &D, books: &Books) -> Result<Vec<Change>, HubError> {
    let mut changes = Vec::new();
    let mut rows = BTreeMap::new();
    for node in books.nodes.values() {
        let (mut at, acked) = (Position(0), Position(node.journal_acked));
        at.0 = books.counted.get(&node.seller).copied().unwrap_or(0);
        if at >= acked {
            continue;
        }
        let mut count = Count::default();
        while let Some(shipment) = read_archive(disk, node.seller, at, acked, READ_BYTES)? {
            let Shipment { start: mut position, end, bytes } = shipment;
            let mut rest = &bytes[..];
            while let Some(batch) = Batch::parse(rest, position) {
                batch.records().iter().for_each(|record| count.add(record));
                rest = &rest[(batch.end().0 - position.0) as usize..];
                position = batch.end();
            }
            at = end;
        }
        for (variety, stretch) in &count.0 {
            let known = || books.sales.get(variety).cloned().unwrap_or_else(|| SalesRow::new(*variety));
            rows.entry(*variety).or_insert_with(known).add(stretch);
        }
        changes.push(Change::Counted(node.seller, acked.0));
    }
    changes.extend(rows.into_values().map(Change::Sales));
    Ok(changes)
}

/// The rates of sales as they are known at a start.
pub(super) fn rates_of(books: &Books) -> BTreeMap<VarietyId, SalesRate> {
    let rate = |row: &SalesRow| {
        let mut rate = SalesRate::known(SMOOTHING_H, row.rate);
        rate.handle_sold(0, row.rate_at_ms);
        (row.variety, rate)
    };
    books.sales.values().filter(|row| row.rate_at_ms > 0).map(rate).collect()
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// Takes a stretch of a node's journal that ends at `position` into the books.
    pub(super) fn count_sales(&mut self, node: SellerId, count: &Count, position: u64) {
        for (&variety, stretch) in &count.0 {
            let known = self.books.sales.get(&variety).cloned();
            let mut row = known.unwrap_or_else(|| SalesRow::new(variety));
            row.add(stretch);
            let rate = self.rates.entry(variety).or_insert_with(|| SalesRate::new(SMOOTHING_H));
            rate.handle_sold(stretch.sold.values().sum(), self.now_ms);
            (row.rate, row.rate_at_ms) = (rate.rate(), self.now_ms);
            self.change(Change::Sales(row));
        }
        self.change(Change::Counted(node, position));
    }
}

fn day_of(at_ms: u64) -> u32 {
    u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// What was sold so many hours ago counts 1/e of what is sold now.
const SMOOTHING_H: u32 = 24;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Archived bytes counted at a time.
const READ_BYTES: usize = 4 << 20;
