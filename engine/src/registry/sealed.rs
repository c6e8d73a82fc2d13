//! A node's copy of the registry at rest: one file, sealed under a key of the node's own, because it holds the keys of
//! all terminals.
//!
//! ```text
//! 0        8         20                                n-16      n
//! | magic  | nonce   | JSON of the registry, encrypted | tag      |
//! ```
//! AES-256-GCM; the magic is the associated data.

use super::{Delta, Registry};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// What is sealed so: a registry, or a change of it.
pub trait Sealable: Serialize + DeserializeOwned {}
impl Sealable for Registry {}
impl Sealable for Delta {}

/// Seals a registry or a change. `nonce` must never be used twice with the same key: take 12 random bytes.
///
/// # Panics
/// Never: both are far shorter than the cipher's limit.
#[must_use]
pub fn encode_sealed<T: Sealable>(content: &T, key: &[u8; 32], nonce: [u8; 12]) -> Vec<u8> {
    let plain = encode_plain(content);
    let mut file = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&nonce);
    file.extend_from_slice(&plain);
    let tag = aead(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(MAGIC), &mut file[BODY..])
        .expect("a registry is shorter than the cipher's limit");
    file.extend_from_slice(tag.as_ref());
    file
}

/// Opens what [`encode_sealed`] made.
///
/// # Errors
/// [`SealedError`]; a node that has lost its copy gets a new one from upstream.
pub fn decode_sealed<T: Sealable>(file: &[u8], key: &[u8; 32]) -> Result<T, SealedError> {
    if file.len() < OVERHEAD_BYTES || &file[..8] != MAGIC {
        return Err(SealedError::NotARegistry);
    }
    let nonce = Nonce::try_assume_unique_for_key(&file[8..BODY]).expect("these are 12 bytes");
    let mut body = Zeroizing::new(file[BODY..].to_vec());
    let plain = aead(key)
        .open_in_place(nonce, Aad::from(MAGIC), &mut body)
        .map_err(|_| SealedError::WrongKeyOrDamaged)?;
    decode_plain(plain)
}

/// The JSON of a registry, as it travels over a sealed link. It holds the keys of all terminals.
///
/// # Panics
/// Never: a registry always has a JSON form.
#[must_use]
pub fn encode_plain<T: Sealable>(content: &T) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(content).expect("both have a JSON form"))
}

/// Reads what [`encode_plain`] made.
///
/// # Errors
/// [`SealedError::NotUnderstood`].
pub fn decode_plain<T: Sealable>(plain: &[u8]) -> Result<T, SealedError> {
    serde_json::from_slice(plain).map_err(SealedError::NotUnderstood)
}

/// Why a registry file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// Another kind of file, or a cut one.
    #[error("this is no registry file")]
    NotARegistry,
    /// It does not open.
    #[error("the registry file is damaged or was sealed under another key")]
    WrongKeyOrDamaged,
    /// It opened, but what is in it is from another version.
    #[error("the registry file is not understood: {0}")]
    NotUnderstood(serde_json::Error),
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 has keys of 32 bytes"))
}

const MAGIC: &[u8; 8] = b"PWREGIS1";
const BODY: usize = 20;
const OVERHEAD_BYTES: usize = BODY + 16;

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn a_sealed_registry_opens_under_its_key_only_and_shows_no_key() {
        let registry = sample();
        let file = encode_sealed(&registry, &[1; 32], [2; 12]);
        assert_eq!(decode_sealed::<Registry>(&file, &[1; 32]).unwrap(), registry);
        assert!(matches!(decode_sealed::<Delta>(&file, &[1; 32]), Err(SealedError::NotUnderstood(_))));
        assert!(matches!(decode_sealed::<Registry>(&file, &[3; 32]), Err(SealedError::WrongKeyOrDamaged)));
        assert!(!file.windows(8).any(|bytes| bytes == b"07070707"));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(decode_sealed::<Registry>(&damaged, &[1; 32]).is_err(), "byte {at}");
            assert!(decode_sealed::<Registry>(&file[..at], &[1; 32]).is_err(), "cut at {at}");
        }
    }
}
