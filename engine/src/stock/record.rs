//! PIN records: 64 bytes that hold a sealed PIN and its serial.
//!
//! AES-256-GCM under the block's data key. The nonce is the record's index, so a record opens at its own place only; the
//! block's properties and the serial are authenticated with it, so that nobody can sell it as another variety, with
//! another expiry date or under another serial.

use super::expiry::Expiry;
use super::keys::DataKey;
use crate::ids::{BatchId, BlockId, VarietyId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use wire::message::{PIN_BYTES_MAX, Pin, SERIAL_BYTES_MAX, Serial};

/// Size of every PIN record.
pub const PIN_RECORD_BYTES: usize = 64;

/// A sealed PIN with its serial, as it lies in files and transfers.
pub type PinRecord = [u8; PIN_RECORD_BYTES];

/// What all PINs of one block have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockProperties {
    /// The block.
    pub block: BlockId,
    /// What its PINs are worth.
    pub variety: VarietyId,
    /// The delivery they came in.
    pub batch: BatchId,
    /// Their last day of validity.
    pub expiry: Expiry,
}

/// A block's properties with its key, ready to seal and open records: neither allocates.
pub struct BlockKey {
    properties: BlockProperties,
    key: LessSafeKey,
    /// The associated data up to the serial.
    aad_prefix: [u8; AAD_PREFIX_BYTES],
}

/// A record, or the name under which it was opened, is not what was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the PIN record does not open under its block's key")]
pub struct Damaged;

impl BlockKey {
    /// Prepares the key of one block.
    #[must_use]
    pub fn new(properties: BlockProperties, key: &DataKey) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("a data key has the cipher's 32 bytes");
        let mut aad_prefix = [0; AAD_PREFIX_BYTES];
        aad_prefix[0..8].copy_from_slice(&properties.block.0.to_le_bytes());
        aad_prefix[8..16].copy_from_slice(&properties.batch.0.to_le_bytes());
        aad_prefix[16..20].copy_from_slice(&properties.variety.0.to_le_bytes());
        aad_prefix[20..24].copy_from_slice(&properties.expiry.0.to_le_bytes());
        Self { properties, key: LessSafeKey::new(key), aad_prefix }
    }

    /// The block's properties.
    #[must_use]
    pub fn properties(&self) -> &BlockProperties {
        &self.properties
    }

    /// Seals one PIN. An index must be sealed once only under one data key: the nonce is the index.
    #[must_use]
    pub fn seal(&self, index: u16, serial: &Serial, pin: &Pin) -> PinRecord {
        debug_assert!(!pin.as_bytes().is_empty() && !serial.as_bytes().is_empty());
        let mut record = [0; PIN_RECORD_BYTES];
        put_text(&mut record[SERIAL_LEN..], serial.as_bytes());
        put_text(&mut record[..TAG], pin.as_bytes());
        let aad = self.aad(&record);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(index), aad, &mut record[..TAG])
            .expect("27 bytes are within the cipher's limit");
        record[TAG..SERIAL_LEN].copy_from_slice(tag.as_ref());
        record
    }

    /// Opens one PIN with its serial.
    ///
    /// # Errors
    /// [`Damaged`] if any bit of the record, the index or the block's properties is not as it was when it was sealed.
    pub fn open(&self, index: u16, record: &PinRecord) -> Result<(Pin, Serial), Damaged> {
        let serial = serial_of(record)?;
        let mut sealed = [0; TAG];
        sealed.copy_from_slice(&record[..TAG]);
        let tag = Tag::try_from(&record[TAG..SERIAL_LEN]).map_err(|_| Damaged)?;
        let clear = self
            .key
            .open_in_place_separate_tag(nonce(index), self.aad(record), tag, &mut sealed, 0..)
            .map_err(|_| Damaged)?;
        let pin = take_text(clear).ok_or(Damaged)?;
        Ok((pin, serial))
    }

    fn aad(&self, record: &PinRecord) -> Aad<[u8; AAD_PREFIX_BYTES + SERIAL_FIELD_BYTES]> {
        let mut aad = [0; AAD_PREFIX_BYTES + SERIAL_FIELD_BYTES];
        aad[..AAD_PREFIX_BYTES].copy_from_slice(&self.aad_prefix);
        aad[AAD_PREFIX_BYTES..].copy_from_slice(&record[SERIAL_LEN..]);
        Aad::from(aad)
    }
}

impl std::fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockKey").field("properties", &self.properties).finish_non_exhaustive()
    }
}

/// The serial of a record, which lies in clear: proven only once the record has been opened.
///
/// # Errors
/// [`Damaged`] if its length is impossible.
pub fn serial_of(record: &PinRecord) -> Result<Serial, Damaged> {
    take_text(&record[SERIAL_LEN..]).ok_or(Damaged)
}

/// A length byte, the bytes, zeros to the end of the field.
fn put_text(field: &mut [u8], text: &[u8]) {
    field[0] = u8::try_from(text.len()).expect("texts of records are short");
    field[1..=text.len()].copy_from_slice(text);
}

fn take_text<const N: usize>(field: &[u8]) -> Option<wire::message::Text<N>> {
    let (&len, text) = field.split_first()?;
    let text = text.get(..usize::from(len)).filter(|text| !text.is_empty())?;
    wire::message::Text::new(text)
}

fn nonce(index: u16) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..2].copy_from_slice(&index.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

// 0 sealed { PIN length, PIN, zeros }, 27 tag, 43 serial length, 44 serial, zeros.
const TAG: usize = 1 + PIN_BYTES_MAX;
const SERIAL_LEN: usize = TAG + 16;
const SERIAL_FIELD_BYTES: usize = 1 + SERIAL_BYTES_MAX;
const _: () = assert!(SERIAL_LEN + SERIAL_FIELD_BYTES == PIN_RECORD_BYTES);
// 0 block, 8 batch, 16 variety, 20 expiry.
const AAD_PREFIX_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn properties() -> BlockProperties {
        BlockProperties {
            block: BlockId(9),
            variety: VarietyId(3),
            batch: BatchId(5),
            expiry: Expiry(20_271_231),
        }
    }

    fn data_key() -> DataKey {
        DataKey::from_bytes([7; 32])
    }

    fn sealed() -> (BlockKey, PinRecord) {
        let key = BlockKey::new(properties(), &data_key());
        let record = key.seal(77, &Serial::new(b"S0001").unwrap(), &Pin::new(b"1234-5678-9012").unwrap());
        (key, record)
    }

    #[test]
    fn any_flipped_bit_of_a_record_is_damage() {
        let (key, record) = sealed();
        for bit in 0..PIN_RECORD_BYTES * 8 {
            let mut tampered = record;
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(77, &tampered), Err(Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_record_opens_at_its_own_index_only() {
        let (key, record) = sealed();
        for index in 0..=u16::MAX {
            assert_eq!(key.open(index, &record).is_ok(), index == 77);
        }
    }

    #[test]
    fn a_record_opens_under_its_blocks_own_properties_only() {
        let (_, record) = sealed();
        let own = properties();
        for bit in 0..64 {
            let mut others = vec![
                BlockProperties { block: BlockId(own.block.0 ^ 1 << bit), ..own },
                BlockProperties { batch: BatchId(own.batch.0 ^ 1 << bit), ..own },
            ];
            if bit < 32 {
                others.push(BlockProperties { variety: VarietyId(own.variety.0 ^ 1 << bit), ..own });
                others.push(BlockProperties { expiry: Expiry(own.expiry.0 ^ 1 << bit), ..own });
            }
            for other in others {
                assert_eq!(BlockKey::new(other, &data_key()).open(77, &record), Err(Damaged), "{other:?}");
            }
        }
    }

    #[test]
    fn a_known_record_has_known_bytes() {
        // Computed with Python's `cryptography` from `spec/stock.md`.
        let expected = "30bd0e181a263f5b9b0ca47d483aa28a4614dd475e62baf67a48f617baf64e15\
                        59efb3bf11afa8e917701f055330303031000000000000000000000000000000";
        let (_, record) = sealed();
        assert_eq!(record.map(|byte| format!("{byte:02x}")).concat(), expected);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            index in any::<u16>(),
            pin in prop::collection::vec(any::<u8>(), 1..=PIN_BYTES_MAX),
            serial in prop::collection::vec(any::<u8>(), 1..=SERIAL_BYTES_MAX),
            key in any::<[u8; 32]>(),
        ) {
            let key = BlockKey::new(properties(), &DataKey::from_bytes(key));
            let (pin, serial) = (Pin::new(&pin).unwrap(), Serial::new(&serial).unwrap());
            let record = key.seal(index, &serial, &pin);
            prop_assert_eq!(key.open(index, &record), Ok((pin, serial)));
            prop_assert_eq!(serial_of(&record), Ok(serial));
        }

        #[test]
        fn foreign_bytes_are_damage(bytes in prop::collection::vec(any::<u8>(), PIN_RECORD_BYTES), index in any::<u16>()) {
            let key = BlockKey::new(properties(), &data_key());
            prop_assert_eq!(key.open(index, &bytes.try_into().unwrap()), Err(Damaged));
        }
    }
}
