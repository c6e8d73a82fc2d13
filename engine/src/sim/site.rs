//! A node with its disk and its end of the pipe to the hub.

use super::node::Node;
use crate::audit::SellerBooks;
use crate::disk::heap::HeapDisk;
use crate::ids::SellerId;
use crate::link::ToNode;
use crate::policy::Levels;
use crate::stock::NodeKeys;
use std::collections::VecDeque;
use std::sync::Arc;

/// One node, and what it takes to start it again.
pub(super) struct Site {
    pub(super) seller: SellerId,
    pub(super) disk: Arc<HeapDisk>,
    pub(super) node: Node,
    /// Messages from the hub that the pipe has not delivered yet.
    pub(super) to_node: VecDeque<ToNode>,
    workers: usize,
    pub(super) levels: Levels,
    link_keys: Arc<NodeKeys>,
}

impl Site {
    /// A node that never ran, with its low mark, target and high mark.
    pub(super) fn new(
        seller: SellerId,
        workers: usize,
        (low, target, high): (u64, u64, u64),
        link_keys: Arc<NodeKeys>,
    ) -> Self {
        let disk = Arc::new(HeapDisk::new());
        let levels = Levels::new(low, target, high).expect("marks go up");
        let node = start(seller, &disk, workers, levels, &link_keys);
        Self { seller, disk, node, to_node: VecDeque::new(), workers, levels, link_keys }
    }

    /// Starts the node anew on what is on its disk.
    pub(super) fn boot(&mut self) {
        self.to_node.clear();
        self.node = start(self.seller, &self.disk, self.workers, self.levels, &self.link_keys);
    }

    /// The pipe is cut, and open again.
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

fn start(
    seller: SellerId,
    disk: &Arc<HeapDisk>,
    workers: usize,
    levels: Levels,
    link_keys: &Arc<NodeKeys>,
) -> Node {
    match Node::boot(seller, disk.clone(), workers, levels.into(), link_keys.clone()) {
        Ok(node) => node,
        Err(stop) => panic!("the node does not start: {stop}"),
    }
}
