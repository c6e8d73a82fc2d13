//! The books of the hub and of its sellers, side by side.

use super::super::bookkeeping::BookkeepingMessage;
use super::super::hub::LiveHub;
use super::super::seller_node::SellerDesk;
use super::lost::serial;
use super::{NotDone, Office};
use crate::audit::{HubBooks, Report, SellerBooks, audit};
use crate::ids::{BlockId, SellerId, VarietyId};
use crate::journal::Position;
use crate::ledger::Ledger;
use crossbeam::channel::bounded;

impl Office {
    /// Whether every PIN is in exactly one place: the hub's books against those of every seller. A seller of this process
    /// is asked for its books up to this moment, another is read from the archive, up to what it has reported.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`], [`NotDone::Hub`].
    pub fn audit(&self) -> Result<Report, NotDone> {
        // The sellers' books first: see `audit`.
        let sellers = self.all_seller_books()?;
        let hub = self.ask(LiveHub::audit_books)?;
        let mut report = audit(&hub, &sellers);
        let registry = self.registry()?;
        report.name_varieties(|id| Some(registry.variety(VarietyId(id))?.code.clone()));
        let disk = &*self.hub()?.disk;
        report.name_serials(|block, index| serial(disk, BlockId(block), index));
        Ok(report)
    }

    /// The books of the sellers of this process, up to this moment.
    pub(super) fn own_seller_books(&self) -> Result<Vec<SellerBooks>, NotDone> {
        self.desk.sellers.iter().map(SellerDesk::books).collect()
    }

    /// The books of all sellers of the network: each was read before those of the server that it is below, and up to what the
    /// hub had of it at one moment if it does not run here.
    pub(super) fn all_seller_books(&self) -> Result<Vec<SellerBooks>, NotDone> {
        let known = self.ask(|hub| {
            let node = |(node, _)| (node, hub.parent(node), hub.journal_acked(node).unwrap_or(0));
            hub.nodes().map(node).collect::<Vec<_>>()
        })?;
        // Of what a lost one held the hub knows as much as is archived: an own journal may be ahead of that.
        let lost = self.lost_nodes()?;
        let runs_here = |node: SellerId| {
            !lost.contains(&node) && self.desk.sellers.iter().any(|desk| desk.seller == node)
        };
        let mut books = Vec::new();
        let (below, above): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, parent, _)| parent.is_some());
        for (node, parent, acked) in below.into_iter().chain(above) {
            // An own journal is ahead of what is archived of its server's.
            let is_own = runs_here(node) && parent.is_none_or(runs_here);
            let own = self.desk.sellers.iter().find(|desk| is_own && desk.seller == node);
            books.push(match own {
                Some(desk) => desk.books()?,
                None => {
                    let position = Position(acked);
                    let hub = self.hub()?;
                    hub.with_archive(node, position, |ledger| seller_books(node, position, ledger))?
                }
            });
        }
        Ok(books)
    }

    /// The hub's books.
    pub(super) fn hub_books(&self) -> Result<HubBooks, NotDone> {
        self.ask(LiveHub::audit_books)
    }
}

impl SellerDesk {
    fn books(&self) -> Result<SellerBooks, NotDone> {
        let (reply, answer) = bounded(1);
        let asked = self.bookkeeping.send(BookkeepingMessage::Books(reply));
        asked.map_err(|_| NotDone::NoAnswer)?;
        answer.recv().map_err(|_| NotDone::NoAnswer)
    }
}

/// A seller's side of the audit, from its durable fold.
pub(in crate::network) fn seller_books(seller: SellerId, position: Position, ledger: &Ledger) -> SellerBooks {
    SellerBooks::new(seller, position, ledger)
}
