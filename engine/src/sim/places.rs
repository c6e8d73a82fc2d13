//! Law 1 PIN by PIN, from what all disks together say: a PIN that was ever made is in exactly one place at any instant.

use super::broken::{Concerned, broken};
use super::office::archived_books;
use super::world::World;
use crate::audit::{SellerBooks, audit};
use crate::hub::books::Place;
use crate::ids::{BlockId, PinId, SellerId, Span};
use crate::journal::record::Stream;
use crate::ledger::Ledger;
use std::collections::BTreeMap;

impl World<'_> {
    /// Every PIN is in one place. Nothing happens meanwhile.
    pub(super) fn check_places(&mut self) {
        if self.hub_is_up() {
            // What the hub has heard and not committed is nowhere yet.
            self.commit_hub();
        }
        let mut counts: BTreeMap<BlockId, Vec<u8>> = BTreeMap::new();
        for pin in self.oracle.pins() {
            let block = counts.entry(pin.block()).or_default();
            block.resize(block.len().max(usize::from(pin.index()) + 1), 0);
        }
        self.each_place(|span, _| {
            let block = counts.entry(span.block).or_default();
            block.resize(block.len().max(span.end as usize), 0);
            block[span.start as usize..span.end as usize].iter_mut().for_each(|count| *count += 1);
        });
        for (block, counts) in counts {
            let Some(index) = counts.iter().position(|count| *count != 1) else { continue };
            let (pin, at) = (PinId::new(block, index as u16), index as u32);
            let mut places = Vec::new();
            self.each_place(|span, place| {
                if span.block == block && (span.start..span.end).contains(&at) {
                    places.push(place.to_owned());
                }
            });
            let places = places.join(" and ");
            let what = if places.is_empty() { "nowhere".to_owned() } else { places };
            broken(1, format!("{pin:?} is {what}"), Concerned::pin(pin));
        }
    }

    /// Shows every span that is anywhere, and where.
    fn each_place(&mut self, mut show: impl FnMut(Span, &str)) {
        let hub = self.hub.audit_books();
        let mut ledgers: BTreeMap<SellerId, &Ledger> = BTreeMap::new();
        let above: Vec<_> =
            self.parents.iter().map(|parent| parent.map(|at| self.sites[at].seller)).collect();
        let sellers: Vec<_> = self.sites.iter().map(|site| site.seller).collect();
        for site in &mut self.sites {
            let books = site.node.books().expect("the books can be read");
            ledgers.insert(site.seller, books.ledger());
        }
        // Whether a node has a durable record that says that it took a transfer.
        let took = |node: SellerId, stream: Stream, number: u64| {
            let taken = ledgers[&node].taken(stream);
            let is_refused = taken.outcomes.get(&number).is_some_and(|(_, accepted)| !accepted);
            number <= taken.highest && !is_refused
        };
        for (seller, above) in sellers.into_iter().zip(above) {
            let ledger = ledgers[&seller];
            let mut show = |span, place: &str| show(span, &format!("{place} node {}", seller.0));
            for held in ledger.inventory.holdings() {
                for (spans, place) in [
                    (&held.sold, "sold at"),
                    (&held.withdrawn, "withdrawn at"),
                    (&held.in_stock(), "in stock at"),
                ] {
                    for &(start, end) in spans.intervals() {
                        show(Span { start, end, ..held.span }, place);
                    }
                }
            }
            for fact in ledger.given[0].open.values() {
                let outcome = match above {
                    None => hub.takers[&seller].outcomes.get(&fact.number).copied(),
                    Some(server) => {
                        let taken = ledgers[&server].below.get(&seller).map(|below| &below.taken.outcomes);
                        taken.and_then(|outcomes| outcomes.get(&fact.number)).map(|(_, accepted)| *accepted)
                    }
                };
                if outcome != Some(true) {
                    show(fact.span, "on its way up from");
                }
            }
            for (&child, below) in &ledger.below {
                for fact in below.given.iter().flat_map(|given| given.open.values()) {
                    if !took(child, fact.stream, fact.number) {
                        show(fact.span, "on its way down from");
                    }
                }
            }
        }
        for piece in &hub.pieces {
            match piece.place {
                Place::Withdrawn => show(piece.span, "written off"),
                Place::Hub => show(piece.span, "at the hub"),
                Place::Given { node, stream, number, .. } if !took(node, stream, number) => {
                    show(piece.span, "on its way down from the hub");
                }
                Place::Given { .. } => {}
            }
        }
    }

    /// What a site's journal comes to, for the audit: of one that is lost or has left what the hub holds of it.
    pub(super) fn seller_books(&mut self, at: usize) -> SellerBooks {
        let seller = self.sites[at].seller;
        if !self.is_member(at) {
            archived_books(&self.hub, &self.hub_disk, seller)
        } else {
            self.sites[at].audit_books()
        }
    }

    /// The audit that operators have says the same as [`World::check_places`].
    pub(super) fn check_audit(&mut self, sellers: &[SellerBooks]) {
        let report = audit(&self.hub.audit_books(), sellers);
        if !report.balanced {
            broken(1, format!("the audit says: {report}"), Concerned::default());
        }
    }
}
