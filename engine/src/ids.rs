//! The names of things, as plain numbers.

pub use wire::message::{KeyEpoch, SellerId, TerminalId};

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A product in one denomination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct VarietyId(pub u32);

/// Names a block in the whole network, for ever. At most 2⁴⁸ − 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BlockId(pub u64);

/// One delivery from a supplier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BatchId(pub u64);

/// One order to a supplier; never 0. Goes into the names of its files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OrderId(pub u64);

/// Names one PIN in the whole network: its block and its place in it. Doubles as the reference on a receipt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PinId(pub u64);

impl PinId {
    /// The PIN at `index` of `block`.
    #[must_use]
    pub fn new(block: BlockId, index: u16) -> Self {
        debug_assert!(block.0 < 1 << 48, "a block number has 48 bits");
        Self(block.0 << 16 | u64::from(index))
    }

    /// The block that holds the PIN.
    #[must_use]
    pub fn block(self) -> BlockId {
        BlockId(self.0 >> 16)
    }

    /// The place in the block.
    #[must_use]
    pub fn index(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

/// A contiguous range of one block: PINs `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span {
    /// The block.
    pub block: BlockId,
    /// Index of the first PIN.
    pub start: u32,
    /// One past the index of the last PIN; at most 65,536.
    pub end: u32,
}

impl Span {
    /// How many PINs.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.end - self.start
    }

    /// Whether it holds no PIN.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// A map by numbers that the hub hands out and nobody can choose: their hash need not withstand an attack.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads such numbers over a table: Fibonacci hashing.
#[derive(Clone, Copy, Default, Debug)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
