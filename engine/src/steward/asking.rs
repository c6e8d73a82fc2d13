//! Asking upstream for stock, in bulk by marks and one PIN at a time for vends that wait; and helping dry lanes.

use super::{Link, Steward, StewardAction, Waiter, Waiting};
use crate::disk::Disk;
use crate::ids::VarietyId;
use crate::journal::record::Stream;
use crate::link::{Offer, ToHub};
use crate::pool::Shelf;
use crate::time::Now;
use crate::transfer::{Taker, open_max};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

impl<D: Disk> Steward<D> {
    /// Helps waiting workers from their siblings' ranges, and asks upstream for the rest, one PIN each. A vend that an
    /// urgent request was made for waits for its answer.
    pub(super) fn serve_waiting(&mut self, now: &Now) {
        if self.draining || self.waiting.iter().all(|waiting| waiting.request != 0) {
            return;
        }
        let asked = self.waiting.iter().filter(|waiting| waiting.request != 0).count();
        let may_ask = self.link == Link::Ready && !self.needs.is_resting(now);
        let mut questions = if may_ask { URGENT_REQUESTS_MAX.saturating_sub(asked) } else { 0 };
        let mut left = VecDeque::with_capacity(self.waiting.len());
        let mut stocked = BTreeMap::new();
        let mut dry = HashSet::new();
        while let Some(mut waiting) = self.waiting.pop_front() {
            let Waiting { who, variety, request, .. } = waiting;
            if request == 0
                && let Waiter::Below(node, asked) = who
                && self.give_urgent(node, asked, variety, now)
            {
                continue;
            }
            if request == 0 && (questions > 0 || !dry.contains(&(who, variety))) {
                let first_day = self.first_day(variety, now);
                let is_sellable = |shelf: &Shelf<_>| shelf.last_day >= first_day;
                let shelves = &mut self.shelves;
                if let Waiter::Worker(worker) = who {
                    let own = stocked.entry((worker, variety));
                    let own = own.or_insert_with(|| shelves.remaining_in(worker, variety, is_sellable));
                    if *own > 0 {
                        *own -= 1;
                        continue;
                    }
                    if let Some(handed) = shelves.help(worker, variety, is_sellable) {
                        *own = u64::from(handed.1.remaining()).saturating_sub(1);
                        self.hand_out(vec![handed]);
                        continue;
                    }
                }
                dry.insert((who, variety));
                if questions > 0 && self.coming_in_bulk(variety) == 0 {
                    questions -= 1;
                    waiting.request = self.next_request;
                    self.next_request += 1;
                    self.send(ToHub::Urgent { request: waiting.request, variety });
                }
            }
            left.push_back(waiting);
        }
        self.waiting = left;
    }

    /// Asks for stock of every variety that is below its low mark.
    pub(super) fn ask(&mut self, now: &Now) {
        if self.link != Link::Ready || self.draining {
            return;
        }
        let registry = Arc::clone(self.registry.current());
        for variety in registry.varieties().map(|variety| variety.id) {
            let coming: u64 =
                self.takers.iter().flat_map(Taker::arriving).map(|offer| coming_of(offer, variety)).sum();
            let held = self.in_stock(variety, now) + coming;
            let levels = self.levels(variety);
            let below = self.unmet_below(variety);
            if let Some(count) = self.needs.next_request(variety, levels, held, below, now, self.next_request)
            {
                let request = self.next_request;
                self.next_request += 1;
                self.send(ToHub::Need { request, variety, count });
            }
        }
    }

    pub(super) fn answered(&mut self, request: u64, granted: u32, now: &Now) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.request == request) {
            if granted > 0 {
                return;
            }
            let Waiting { who, variety, .. } = self.waiting[at];
            // The hub may have none because this node has it all, or is about to, or has just had no room for it.
            let is_near = self.in_stock(variety, now) + self.coming_in_bulk(variety) > 0;
            if is_near || self.needs.is_resting(now) {
                self.waiting[at].request = 0;
                self.serve_waiting(now);
            } else {
                self.waiting.remove(at);
                match who {
                    Waiter::Worker(worker) => {
                        self.actions.push_back(StewardAction::OutOfStock { worker, variety });
                    }
                    Waiter::Below(node, asked) => self.answer_urgent(node, asked, 0),
                }
            }
        } else {
            self.needs.handle_answered(request, granted, now);
        }
    }

    /// PINs of a variety that are on their way here, for whoever asks for them.
    fn coming_in_bulk(&self, variety: VarietyId) -> u64 {
        self.takers[Stream::Bulk as usize].arriving().map(|offer| coming_of(offer, variety)).sum()
    }
}

fn coming_of(offer: &Offer, variety: VarietyId) -> u64 {
    if offer.properties.variety == variety { u64::from(offer.span.len()) } else { 0 }
}

/// Urgent requests without answer. The hub never has more of them open than a link allows, whatever it has still to
/// commit: more would be answered that there is no stock.
pub(super) const URGENT_REQUESTS_MAX: usize = open_max(Stream::Urgent) / 4;
