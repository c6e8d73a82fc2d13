//! Every segment content a seller holds, sold or not: what a repeat or a reprint is answered from.

use crate::ids::{BlockId, PinId};
use crate::pool::Shelf;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use wire::message::{Pin, Serial};

/// Sealed records of one segment and the key that opens them.
pub trait Sealed: Send + Sync + 'static {
    /// Opens the PIN at an index of the block; `None` if its record is damaged or not in this segment.
    fn open(&self, index: u16) -> Option<(Pin, Serial)>;

    /// Last day of validity as year × 10,000 + month × 100 + day; 0: none.
    fn expiry(&self) -> u32;

    /// Whether the segment has a record for this index.
    fn holds(&self, index: u16) -> bool;
}

/// Segment contents by block, shared by a node's workers. The steward adds, workers look up; no first sale comes here.
#[derive(Debug)]
pub struct Library<S> {
    by_block: RwLock<HashMap<BlockId, Vec<Arc<Shelf<S>>>>>,
}

impl<S> Default for Library<S> {
    fn default() -> Self {
        Self { by_block: RwLock::default() }
    }
}

impl<S: Sealed> Library<S> {
    /// Adds a segment.
    pub fn add(&self, shelf: Arc<Shelf<S>>) {
        let mut by_block = self.by_block.write().unwrap_or_else(PoisonError::into_inner);
        by_block.entry(shelf.block).or_default().push(shelf);
    }

    /// The segment that holds a PIN.
    pub fn shelf(&self, pin: PinId) -> Option<Arc<Shelf<S>>> {
        let by_block = self.by_block.read().unwrap_or_else(PoisonError::into_inner);
        by_block.get(&pin.block())?.iter().find(|shelf| shelf.content.holds(pin.index())).cloned()
    }
}
