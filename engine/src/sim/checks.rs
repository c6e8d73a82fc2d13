//! What is looked at while a run goes on: whether what leaves would survive a loss of power at that moment, and whether it may leave
//! at all.

use super::broken::{Concerned, broken};
use super::node::{Claim, Node};
use super::office::{hub_keys, read_archived};
use super::oracle::{Oracle, Sequence};
use super::world::World;
use crate::hub::books::{Fate, Place};
use crate::ids::{PinId, SellerId};
use crate::ledger::{Bookkeeper, facts};
use crate::link::{Asked, ToHub, ToNode, Told};
use crate::network::{SequenceAnswer, is_pin_due, sold_again};
use crate::registry::Terminal;
use crate::seller::Asker;
use std::sync::Arc;
use wire::message::Reply;

impl World<'_> {
    /// The books that a node would start with if it lost its power now, with all that is not synced.
    fn books_after_loss(&self, at: usize) -> Bookkeeper<crate::disk::heap::HeapDisk> {
        let disk = self.sites[at].disk.copy();
        disk.lose_power(|| 0);
        match Node::recover(Arc::new(disk)) {
            Ok(books) => books,
            Err(stop) => broken(
                7,
                format!("it could not be started after a loss of power: {stop}"),
                Concerned::default(),
            ),
        }
    }

    /// Law 2, for a reply to a terminal.
    pub(super) fn check_leaving(&mut self, site: usize, asker: &Asker, reply: &Reply) {
        if self.dice.one_in(REPLIES_PER_CHECK) {
            let mut books = self.books_after_loss(site);
            let seller = self.sites[site].seller;
            let find = |vend| books.find(vend);
            Oracle::check_leaving(seller, asker.terminal, asker.key_epoch, reply, find);
        }
    }

    /// Laws 2 and 3, for what a node says on its links.
    pub(super) fn check_claims(&mut self, at: usize) {
        let claims = std::mem::take(&mut self.sites[at].node.claims);
        if claims.is_empty() || !self.dice.one_in(CLAIMS_PER_CHECK) {
            return;
        }
        let seller = self.sites[at].seller;
        let mut books = self.books_after_loss(at);
        for claim in claims {
            let ledger = books.ledger();
            let holds = match claim {
                Claim::Given(None, stream, number) => ledger.given[stream as usize].highest >= number,
                Claim::Given(Some(node), stream, number) => ledger
                    .below
                    .get(&node)
                    .is_some_and(|below| below.given[stream as usize].highest >= number),
                Claim::Answered(None, stream, number) => ledger.taken(stream).highest >= number,
                Claim::Answered(Some(node), _, number) => {
                    ledger.below.get(&node).is_some_and(|below| below.taken.highest >= number)
                }
                Claim::Told(vend, told) => {
                    let name = Sequence { seller, vend };
                    Oracle::check_telling(name, told.state, told.reference, |vend| books.find(vend));
                    true
                }
            };
            if !holds {
                let what = format!("node {} says {claim:?}, and that is not durable", seller.0);
                broken(3, what, Concerned::default());
            }
        }
    }

    /// Law 3, for what the hub says.
    pub(super) fn check_hub_claim(&mut self, node: SellerId, message: &ToNode) {
        let said = matches!(message, ToNode::Offer(_) | ToNode::Answer { .. });
        if !said || !self.dice.one_in(CLAIMS_PER_CHECK) {
            return;
        }
        let books = self.store.books();
        let row = &books.nodes[&node];
        let holds = match message {
            ToNode::Offer(offer) => {
                let piece = books.pieces.get(&(offer.span.block, offer.span.start));
                let is_given = piece.is_some_and(|piece| {
                    matches!(piece.place, Place::Given { node: to, stream, number, .. }
                        if (to, stream, number) == (node, offer.stream, offer.number))
                });
                is_given && row.given[offer.stream as usize] >= offer.number
            }
            ToNode::Answer { number, .. } => row.taken >= *number,
            _ => true,
        };
        if !holds {
            let concerned = match message {
                ToNode::Offer(offer) => Concerned::span(offer.span),
                _ => Concerned::default(),
            };
            broken(
                3,
                format!("the hub says {message:?} to node {}, and that is not durable", node.0),
                concerned,
            );
        }
    }

    /// Law 10, for what a node sends.
    pub(super) fn check_message(&mut self, message: &ToHub) {
        if let ToHub::Journal { bytes, .. } = message {
            self.oracle.check_clear("a journal range on a link", bytes);
        }
    }

    /// Law 10, on all disks.
    pub(super) fn check_disks(&self) {
        for site in &self.sites {
            site.disk.each_file(|path, bytes| {
                self.oracle.check_clear(&format!("{path} of node {}", site.seller.0), bytes);
            });
        }
        self.hub_disk.each_file(|path, bytes| self.oracle.check_clear(&format!("{path} of the hub"), bytes));
    }

    /// What terminals were told by a site is in its durable books.
    pub(super) fn check_books(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let books = site.node.books().expect("the books can be read");
        self.oracle.check_books(site.seller, |vend| books.find(vend));
    }

    /// The hub's answer for a seller that is lost or has left, from its archive; with the PIN, if that is asked for.
    pub(super) fn answer_for(&self, seller: SellerId, asked: &Asked) -> Told {
        let mut answer = match self.hub.fate(seller) {
            Some(Fate::Closed { .. }) => SequenceAnswer::NeverSold,
            Some(Fate::Lost { .. }) => SequenceAnswer::Unsettled,
            _ => SequenceAnswer::AskSeller,
        };
        let vend = asked.vend;
        let named = (vend.terminal.0, vend.key_epoch.0, vend.sequence);
        read_archived(&self.hub, &self.hub_disk, seller, |record| {
            facts(record, |fact| {
                if (fact.terminal, fact.key_epoch, fact.sequence) == named {
                    answer = answer.after(&fact);
                }
            });
        });
        let told = answer.told();
        if !is_pin_due(&told, asked) {
            return told;
        }
        let (registry, keys) = (self.hub.registry(), hub_keys());
        let sealed = sold_again(seller, asked, told.reference, registry, &*self.hub_disk, &keys);
        let has_key = |terminal: &Terminal| terminal.key_epoch == vend.key_epoch;
        // Files of blocks do not decay here.
        if sealed.is_none() && registry.terminal(vend.terminal).is_some_and(has_key) {
            let sequence = Sequence { seller, vend };
            let what = format!("the hub does not give the PIN of {sequence:?}, which was sold");
            broken(4, what, Concerned::sale(sequence, PinId(told.reference)));
        }
        Told { sealed, ..told }
    }
}

/// One in so many replies is checked against a copy of the disk that loses its power.
const REPLIES_PER_CHECK: u64 = 20;
/// The same for what is said on links.
const CLAIMS_PER_CHECK: u64 = 8;
