//! Nodes and hubs that are started on an old copy of their disk. Somebody who knows more has to find them out at the first contact,
//! before anything comes of it.

use super::broken::{Concerned, broken};
use super::dice::Dice;
use super::node::{Node, NodeStop};
use super::office::start_hub;
use super::trace::Subject;
use super::world::{World, asker};
use crate::disk::heap::HeapDisk;
use crate::hub::books::Books;
use crate::hub::{HubError, MemoryStore, Output};
use crate::ids::SellerId;
use crate::link::{ToHub, ToNode};
use std::sync::Arc;
use wire::message::{Attempt, Request, Vend};

impl World<'_> {
    /// A copy of a node's disk is made; or, if there is one that upstream can know to be old, a node is started on it. It has to
    /// stop at its first contact.
    pub(super) fn start_old_copy(&mut self, at: usize, dice: &mut Dice) {
        let Some(copy) = self.copies.remove(&at) else {
            let copy = self.sites[at].disk.copy();
            copy.lose_power(|| 0);
            self.copies.insert(at, copy);
            return;
        };
        let seller = self.sites[at].seller;
        let Ok(books) = Node::recover(Arc::new(copy.copy())) else { return };
        let is_below = self.parents[at].is_some();
        let known = self.hub.journal_acked(seller).unwrap_or(0);
        let is_known = known > books.position().0;
        if !is_known || is_below || !self.hub_is_up() || !self.is_member(at) || self.is_down[at] {
            return;
        }
        self.cut(at);
        self.tell_upper(at);
        // A full disk at either end is another matter: nothing is archived then, so nothing is found out, and nothing comes of it.
        copy.limit(None);
        self.hub_disk.limit(None);
        let disk = Arc::new(copy);
        let started = self.sites[at].start_on(Arc::clone(&disk));
        let mut node = started.expect("what was a disk once can be started on");
        // At times it sells alone until its journal is longer than what upstream has of the right one: its customers are outside the
        // laws, the others are not.
        if dice.one_in(2) {
            node = self.sell_alone(at, node, &disk, known, dice);
        }
        node.handle_reconnected();
        let stopped = self.meet_hub(seller, &mut node, dice);
        self.hub.handle_cut(seller);
        self.commit_hub();
        match stopped {
            Some(stop) if stop.is_old_copy() => {
                self.trace.note("old copy found out", Subject::node(seller), || stop.to_string());
            }
            other => {
                let what = format!(
                    "node {} runs on an old copy of its disk, up to {} where the hub has {known}, and is not found out: {other:?}",
                    seller.0,
                    node.books().map_or(0, |books| books.position().0),
                );
                broken(7, what, Concerned::default());
            }
        }
        self.start_node(at);
    }

    /// The node after it has answered customers, and was started again and again, until its journal goes beyond `known`.
    fn sell_alone(
        &self,
        at: usize,
        mut node: Node,
        disk: &Arc<HeapDisk>,
        known: u64,
        dice: &mut Dice,
    ) -> Node {
        let mut asker = asker(&self.terminals[0].terminal, 0);
        for sequence in 1..=ALONE_SALES_MAX {
            asker.session += 1;
            let (attempt, product, face_value) = (Attempt::First, 1, 500);
            let vend = Vend { attempt, sequence, product, face_value, deadline_ms: 400, confirmed: 0 };
            node.handle_request(&asker, &Request::Vend(vend), &self.now);
            node.handle_request(&asker, &Request::Void { sequence }, &self.now);
            for _ in 0..40 {
                node.step(dice, &self.now).expect("its disk does not fail");
            }
            let position = node.books().expect("the books can be read").position().0;
            if position > known {
                break;
            }
            if sequence.is_multiple_of(8) {
                node = self.sites[at].start_on(Arc::clone(disk)).expect("its disk does not fail");
            }
        }
        node
    }

    /// A node and the hub hear each other, and nobody else hears the node, until it stops.
    fn meet_hub(&mut self, seller: SellerId, node: &mut Node, dice: &mut Dice) -> Option<NodeStop> {
        for _ in 0..OLD_COPY_STEPS_MAX {
            // A range of the journal is shipped in its time.
            self.now.monotonic_ms += 5;
            self.now.unix_ms += 5;
            while let Some(message) = node.to_hub.pop_front() {
                self.trace
                    .note(super::watch::name_up(&message), Subject::node(seller), || format!("{message:?}"));
                self.hub.handle_link(seller, message, self.now.unix_ms).expect("an old node stops no hub");
            }
            self.hub.commit().expect("an old node stops no hub");
            let mut said = Vec::new();
            while let Some(output) = self.hub.poll_output() {
                match output {
                    Output::Send { node, message } if node == seller => said.push(message),
                    Output::Send { node, message } => self.send_down(node, message),
                    _ => {}
                }
            }
            let handed = said.into_iter().try_for_each(|message: ToNode| {
                self.trace.note(super::watch::name_down(&message), Subject::node(seller), String::new);
                node.handle_message(message, &self.now)
            });
            if let Err(stop) = handed.and_then(|()| node.step(dice, &self.now).map(|_| ())) {
                return Some(stop);
            }
        }
        None
    }

    /// A copy of the hub's books and disk is made; or, if there is one that some node can know to be old, the hub is started on it,
    /// and hears that node first.
    pub(super) fn start_old_hub(&mut self, dice: &mut Dice) {
        if !self.hub_is_up() {
            return;
        }
        let Some((books, disk)) = self.hub_copy.take() else {
            let disk = self.hub_disk.copy();
            disk.lose_power(|| 0);
            self.hub_copy = Some((self.store.books(), disk));
            return;
        };
        let (store, disk) = (MemoryStore::with(books), Arc::new(disk));
        let mut old = start_hub(&store, &disk).expect("what was a hub once can be started");
        // Started often enough it has an epoch that nobody has seen.
        for _ in 0..dice.below(12) {
            old = start_hub(&store, &disk).expect("what was a hub once can be started");
        }
        let direct = (0..self.sites.len()).filter(|at| self.parents[*at].is_none() && !self.is_down[*at]);
        for at in direct.filter(|at| self.is_member(*at)).collect::<Vec<_>>() {
            let seller = self.sites[at].seller;
            self.cut(at);
            self.tell_upper(at);
            self.tell_lower(at);
            self.sites[at].node.handle_reconnected();
            let now = self.now_at(at);
            if let Err(stop) = self.sites[at].node.act(&now) {
                self.stopped(at, &stop);
                continue;
            }
            let Some(hello) = self.sites[at].node.to_hub.pop_front() else { continue };
            let ToHub::Hello { hub_epoch, journal_from, .. } = hello else { continue };
            self.sites[at].node.handle_unlinked();
            // A node that knows no more cannot tell: a copy as young as that is outside the laws.
            let knows_more = hub_epoch > old.epoch() || Some(journal_from) > old.journal_acked(seller);
            if !knows_more {
                continue;
            }
            match old.handle_link(seller, hello, self.now.unix_ms) {
                Err(error @ (HubError::OldCopy { .. } | HubError::OldArchive { .. })) => {
                    self.trace.note("old hub found out", Subject::node(seller), || error.to_string());
                }
                other => {
                    let what = format!("the hub runs on an old copy, and is not found out: {other:?}");
                    broken(7, what, Concerned::default());
                }
            }
            break;
        }
        // The right one is started.
        self.crashes += 1;
        self.load_hub();
    }
}

/// The hub's books and disk, as they were once.
pub(super) type HubCopy = (Books, HeapDisk);

/// Steps in which an old copy has to be found out.
const OLD_COPY_STEPS_MAX: u32 = 2_000;
/// Sales of a node on an old copy before its first contact.
const ALONE_SALES_MAX: u64 = 200;
