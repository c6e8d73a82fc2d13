//! A node with its disk and its end of the pipe to whoever is above it.

use super::node::{Node, NodeStop};
use crate::audit::SellerBooks;
use crate::disk::heap::HeapDisk;
use crate::ids::SellerId;
use crate::link::ToNode;
use crate::policy::Levels;
use crate::stock::NodeKeys;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

/// One node, and what it takes to start it again.
pub(super) struct Site {
    pub(super) seller: SellerId,
    pub(super) disk: Arc<HeapDisk>,
    pub(super) node: Node,
    /// Messages from above that the pipe has not delivered yet.
    pub(super) to_node: VecDeque<ToNode>,
    pub(super) workers: usize,
    pub(super) levels: Levels,
    link_keys: Arc<NodeKeys>,
    /// How often a node was started here, on whichever disk: no two journals are opened with one mark.
    starts: Cell<u64>,
}

impl Site {
    /// A node that never ran, with its low mark, target and high mark; it calls at once.
    pub(super) fn new(
        seller: SellerId,
        workers: usize,
        (low, target, high): (u64, u64, u64),
        link_keys: Arc<NodeKeys>,
    ) -> Self {
        let disk = Arc::new(HeapDisk::new());
        let levels = Levels::new(low, target, high).expect("marks go up");
        let node = Node::boot(seller, disk.clone(), workers, levels.into(), link_keys.clone(), 1);
        let mut node = node.expect("a new node starts");
        node.handle_reconnected();
        Self {
            seller,
            disk,
            node,
            to_node: VecDeque::new(),
            workers,
            levels,
            link_keys,
            starts: Cell::new(1),
        }
    }

    /// Starts the node anew on what is on its disk; it calls nobody yet.
    ///
    /// # Errors
    /// [`NodeStop`]: the old one is still there then, to be thrown away.
    pub(super) fn start(&mut self) -> Result<(), NodeStop> {
        self.to_node.clear();
        self.node = self.start_on(self.disk.clone())?;
        Ok(())
    }

    /// The node as it would be on another disk.
    ///
    /// # Errors
    /// [`NodeStop`].
    pub(super) fn start_on(&self, disk: Arc<HeapDisk>) -> Result<Node, NodeStop> {
        let mark = self.starts.get() + 1;
        self.starts.set(mark);
        Node::boot(self.seller, disk, self.workers, self.levels.into(), self.link_keys.clone(), mark)
    }

    /// Starts the node anew on what is on its disk, which calls at once.
    #[cfg(test)]
    pub(super) fn boot(&mut self) {
        if let Err(stop) = self.start() {
            panic!("the node does not start: {stop}");
        }
        self.node.handle_reconnected();
    }

    /// The pipe is cut, and open again.
    #[cfg(test)]
    pub(super) fn reconnect(&mut self) {
        self.to_node.clear();
        self.node.handle_reconnected();
    }

    /// What its durable journal comes to, for the audit.
    pub(super) fn audit_books(&mut self) -> SellerBooks {
        let books = self.node.books().expect("the books can be read");
        SellerBooks::new(self.seller, books.position(), books.ledger())
    }
}
