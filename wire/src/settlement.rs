//! The box in which a PIN that was sold to a terminal at one seller travels back to it through others: who carries it cannot
//! open it.
//!
//! Key = HKDF-Expand (RFC 5869, with HMAC-SHA256) of the terminal key with the information `pinwheel box 1`, seller, sequence
//! and salt, 32 bytes; it is used for one box. The salt is the front of the HMAC of what is sealed, under the key of that name, so
//! that two boxes have the same key only if they hold the same, and nobody needs randomness.

use crate::cipher::Cipher;
use crate::codec::{read_sold, write_sold};
use crate::frame::{FrameError, TAG_BYTES};
use crate::message::{SellerId, Sold};
use crate::session::Suite;
use snow::params::HashChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::Zeroizing;

/// A sealed PIN with all that is said of it; or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoldBox {
    length: u8,
    bytes: [u8; SOLD_BOX_BYTES_MAX],
}

/// Most bytes of a box: salt, what is said of the PIN, tag.
pub const SOLD_BOX_BYTES_MAX: usize = SALT_BYTES + SOLD_BYTES_MAX + TAG_BYTES;

/// A box that does not open: it is another terminal's or another sale's, or was altered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a box with a PIN does not open")]
pub struct Unopened;

impl SoldBox {
    /// No box.
    pub const NONE: Self = Self { length: 0, bytes: [0; SOLD_BOX_BYTES_MAX] };

    /// Seals a PIN for the terminal with this key.
    #[must_use]
    pub fn seal(key: &[u8; 32], suite: Suite, seller: SellerId, sold: &Sold) -> Self {
        let mut sealed = Self::NONE;
        let place = &mut sealed.bytes[SALT_BYTES..SALT_BYTES + SOLD_BYTES_MAX];
        let length = write_sold(sold, place);
        let salt_key = expand(key, SALT, seller, sold.sequence, &[0; SALT_BYTES]);
        let salt = hmac(&salt_key, &[&sealed.bytes[SALT_BYTES..SALT_BYTES + length]]);
        sealed.bytes[..SALT_BYTES].copy_from_slice(&salt[..SALT_BYTES]);
        let box_key = expand(key, BOX, seller, sold.sequence, &salt[..SALT_BYTES]);
        let end = SALT_BYTES + length;
        let tag = Cipher::new(suite, &box_key).seal(&mut sealed.bytes[SALT_BYTES..end]);
        sealed.bytes[end..end + TAG_BYTES].copy_from_slice(&tag);
        sealed.length = (end + TAG_BYTES) as u8;
        sealed
    }

    /// Opens a box for the sale that was asked about.
    ///
    /// # Errors
    /// [`Unopened`].
    pub fn open(
        &self,
        key: &[u8; 32],
        suite: Suite,
        seller: SellerId,
        sequence: u64,
    ) -> Result<Sold, Unopened> {
        let mut bytes = self.bytes;
        let (salt, sealed) =
            bytes[..usize::from(self.length)].split_at_mut_checked(SALT_BYTES).ok_or(Unopened)?;
        let box_key = expand(key, BOX, seller, sequence, salt);
        let opened = Cipher::new(suite, &box_key).open(sealed).map_err(|_| Unopened)?;
        read_sold(opened).ok().filter(|sold| sold.sequence == sequence).ok_or(Unopened)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.length == 0
    }

    /// The bytes, as they travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The box of these bytes, which may not open.
    ///
    /// # Errors
    /// `Malformed`: more than a box has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut sealed = Self::NONE;
        sealed.bytes.get_mut(..bytes.len()).ok_or(FrameError::Malformed)?.copy_from_slice(bytes);
        sealed.length = bytes.len() as u8;
        Ok(sealed)
    }
}

fn expand(
    key: &[u8; 32],
    purpose: &[u8; 14],
    seller: SellerId,
    sequence: u64,
    salt: &[u8],
) -> Zeroizing<[u8; 32]> {
    hmac(key, &[purpose, &seller.0.to_le_bytes(), &sequence.to_le_bytes(), salt, &[1]])
}

/// HMAC-SHA256 of what the parts are together, which is short.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut data = Zeroizing::new([0; 128]);
    let mut length = 0;
    for part in parts {
        data[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    let mut hash = DefaultResolver.resolve_hash(&HashChoice::SHA256).expect("the handshake needs it, too");
    let mut out = Zeroizing::new([0; 32]);
    hash.hmac(key, &data[..length], &mut *out);
    out
}

const BOX: &[u8; 14] = b"pinwheel box 1";
const SALT: &[u8; 14] = b"pinwheel salt1";
const SALT_BYTES: usize = 16;
/// The body of a *sold*.
const SOLD_BYTES_MAX: usize = crate::frame::Kind::Sold.body_bytes().1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Text;

    #[test]
    fn s02_a_box_opens_for_its_terminal_and_its_sale_only_and_not_when_altered() {
        let (key, seller) = ([7; 32], SellerId(3));
        let sold = Sold {
            sequence: 9,
            reference: 65_541,
            copy: 0,
            expiry: 20_991_231,
            pin: Text::new(b"1234567890123456").unwrap(),
            serial: Text::new(b"S0001").unwrap(),
        };
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            let sealed = SoldBox::seal(&key, suite, seller, &sold);
            assert_eq!(sealed, SoldBox::seal(&key, suite, seller, &sold));
            assert!(!sealed.as_bytes().windows(16).any(|window| window == sold.pin.as_bytes()));
            let carried = SoldBox::from_bytes(sealed.as_bytes()).unwrap();
            assert_eq!(carried.open(&key, suite, seller, 9), Ok(sold));
            assert_eq!(carried.open(&[8; 32], suite, seller, 9), Err(Unopened));
            assert_eq!(carried.open(&key, suite, SellerId(4), 9), Err(Unopened));
            assert_eq!(carried.open(&key, suite, seller, 10), Err(Unopened));
            for at in 0..sealed.as_bytes().len() {
                let mut bytes = sealed.as_bytes().to_vec();
                bytes[at] ^= 1;
                let altered = SoldBox::from_bytes(&bytes).unwrap();
                assert_eq!(altered.open(&key, suite, seller, 9), Err(Unopened), "byte {at}");
            }
            // Another content has another key.
            let copy = SoldBox::seal(&key, suite, seller, &Sold { copy: 1, ..sold });
            assert_ne!(copy.as_bytes()[..SALT_BYTES], sealed.as_bytes()[..SALT_BYTES]);
        }
        assert_eq!(SoldBox::NONE.open(&key, Suite::AesGcm, seller, 9), Err(Unopened));
    }
}
