//! The books of the hub and of its sellers, side by side.

use super::super::bookkeeping::BookkeepingMessage;
use super::super::hub::LiveHub;
use super::super::seller_node::SellerDesk;
use super::lost::serial;
use super::{NotDone, Office};
use crate::audit::{HubBooks, Report, SellerBooks, audit};
use crate::hub::books::Fate;
use crate::ids::{BlockId, SellerId, VarietyId};
use crate::journal::Position;
use crate::ledger::Ledger;
use crossbeam::channel::bounded;
use std::collections::BTreeSet;

impl Office {
    /// Whether every PIN is in exactly one place: the hub's books against those of every seller. A seller of this process
    /// is asked for its books up to this moment, another is read from the archive, up to what it has reported.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`], [`NotDone::Hub`].
    pub fn audit(&self) -> Result<Report, NotDone> {
        let (hub, sellers) = self.matching_books()?;
        let mut report = audit(&hub, &sellers);
        let registry = self.registry()?;
        report.name_varieties(|id| Some(registry.variety(VarietyId(id))?.code.clone()));
        let disk = &*self.hub()?.disk;
        report.name_serials(|block, index| serial(disk, BlockId(block), index));
        Ok(report)
    }

    /// The books of all, the sellers' read before the hub's: see `audit`. What is in doubt at a node below a server the hub says by what
    /// it has of the journals of both, so that those are read up to the same moment.
    fn matching_books(&self) -> Result<(HubBooks, Vec<SellerBooks>), NotDone> {
        for last in (0..TRIES).rev() {
            let sellers = self.all_seller_books()?;
            let read: Vec<_> = sellers.iter().map(|books| (books.seller, books.position)).collect();
            let (hub, matches) = self.ask(move |hub| {
                let settled = families(hub);
                let is_read = |&(seller, position): &(SellerId, u64)| {
                    !settled.contains(&seller) || hub.journal_acked(seller) == Some(position)
                };
                (hub.audit_books(), read.iter().all(is_read))
            })?;
            if matches || last == 0 {
                return Ok((hub, sellers));
            }
        }
        unreachable!("the last try returns")
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
        let families = self.ask(families)?;
        let runs_here = |node: SellerId| {
            !lost.contains(&node)
                && !families.contains(&node)
                && self.desk.sellers.iter().any(|desk| desk.seller == node)
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
                    hub.with_archive(node, position, |position, ledger| seller_books(node, position, ledger))?
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

/// Servers with a lost node below them, and all nodes below those.
fn families(hub: &LiveHub) -> BTreeSet<SellerId> {
    let is_lost = |node: SellerId| matches!(hub.fate(node), Some(Fate::Lost { .. }));
    let lost = hub.nodes().map(|(node, _)| node).filter(|node| is_lost(*node));
    let servers: BTreeSet<_> = lost.filter_map(|node| hub.parent(node)).collect();
    let below: Vec<_> = servers.iter().flat_map(|server| hub.children(*server)).collect();
    servers.into_iter().chain(below).collect()
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

/// How often journals are read that go on meanwhile.
const TRIES: u32 = 20;
