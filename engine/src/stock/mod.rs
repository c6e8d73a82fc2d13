//! PINs at rest and in transfer: sealed records, the files that hold them, and the keys around them.
//!
//! A block's records are sealed once, at intake, and never change: hub, transfers and sellers pass the same 64 bytes on.
//! What changes hands beside them is the block's data key, wrapped anew for each holder. `spec/stock.md` has the bytes.

pub mod expiry;
pub mod keys;
pub mod record;
pub mod segment;

pub use expiry::Expiry;
pub use keys::{DataKey, FingerprintKey, KeyFileError, NodeKeys, WrappedKey, WrappingKey, WrongWrapping};
pub use record::{BlockKey, BlockProperties, Damaged, PIN_RECORD_BYTES, PinRecord};
pub use segment::{SegmentError, SegmentFile, SegmentHeader};

/// Most PINs in one block.
pub const BLOCK_PINS_MAX: u32 = 65_536;
