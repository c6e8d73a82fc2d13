//! What the node tells upstream of its stock.

use super::{Link, Steward};
use crate::disk::Disk;
use crate::ids::VarietyId;
use crate::link::{Report, StockReport, ToHub};
use crate::policy::Levels;
use crate::time::Now;
use std::sync::Arc;

impl<D: Disk> Steward<D> {
    /// The marks of a variety.
    pub(super) fn levels(&self, variety: VarietyId) -> Levels {
        let code = self.registry.current().variety(variety).map_or("", |variety| &variety.code);
        self.rules.levels(code, self.sales.rate(variety))
    }

    /// Looks at the lanes, and reports, if it is time.
    pub(super) fn report(&mut self, now: &Now) {
        if now.monotonic_ms < self.report_at_ms {
            return;
        }
        self.report_at_ms = now.monotonic_ms + REPORT_MS;
        let registry = Arc::clone(self.registry.current());
        let stock = registry.varieties().map(|variety| self.stock_of(variety.id, now)).collect();
        if self.link == Link::Ready {
            let returns_open = self.giver.open_count() + self.upward.len() + self.open_below();
            let (journal_end, returns_open) = (self.journal_end, returns_open as u32);
            self.send(ToHub::Report(Report { journal_end, returns_open, stock }));
        }
    }

    fn stock_of(&mut self, variety: VarietyId, now: &Now) -> StockReport {
        let sellable = self.in_stock(variety, now);
        let left = self.shelves.remaining(variety, |_| true);
        self.sales.handle_seen(variety, left, sellable == 0, now.monotonic_ms);
        StockReport {
            variety,
            on_hand: if self.draining { left } else { sellable },
            recalling: self.recalling(variety),
            room: None,
            rate: self.sales.rate(variety),
            levels: self.levels(variety),
            sold_total: self.sales.total(variety),
        }
    }
}

/// How often a report is due when nothing else makes it so, in milliseconds.
const REPORT_MS: u64 = 1_000;
