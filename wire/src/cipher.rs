//! One direction of a session's encryption: a key and the counter of its next frame.
//!
//! The rules are Noise's transport rules: empty associated data, counters from 0 in order. The nonce is four zero
//! bytes and the counter, big-endian for AES-GCM and little-endian for ChaCha20-Poly1305.

use crate::frame::TAG_BYTES;
use crate::session::Suite;
use alloc::boxed::Box;
use zeroize::Zeroizing;

/// A sealed frame that does not open under this key at this counter.
#[derive(Debug)]
pub(crate) struct Unopened;

pub(crate) struct Cipher {
    secret: Zeroizing<[u8; 32]>,
    /// The same key, ready to use: half a kilobyte, made at need.
    key: Option<Box<Key>>,
    suite: Suite,
    counter: u64,
}

impl Cipher {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self { secret: Zeroizing::new(*key), key: None, suite, counter: 0 }
    }

    /// Gives back what the next frame can make again.
    pub(crate) fn rest(&mut self) {
        self.key = None;
    }

    /// Encrypts `message` in place and returns the tag.
    pub(crate) fn seal(&mut self, message: &mut [u8]) -> [u8; TAG_BYTES] {
        let counter = self.counter;
        self.counter = counter.checked_add(1).expect("no session lasts for 2^64 frames");
        let suite = self.suite;
        self.key().seal(suite, counter, message)
    }

    /// Decrypts ciphertext and tag in place and returns the message.
    pub(crate) fn open<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Unopened> {
        let next = self.counter.checked_add(1).ok_or(Unopened)?;
        let (suite, counter) = (self.suite, self.counter);
        let message = self.key().open(suite, counter, sealed)?;
        self.counter = next;
        Ok(message)
    }

    fn key(&mut self) -> &Key {
        let Self { secret, key, suite, .. } = self;
        key.get_or_insert_with(|| Box::new(Key::new(*suite, secret)))
    }
}

#[cfg(feature = "std")]
struct Key(ring::aead::LessSafeKey);

#[cfg(feature = "std")]
impl Key {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        let algorithm = match suite {
            Suite::AesGcm => &ring::aead::AES_256_GCM,
            Suite::ChaChaPoly => &ring::aead::CHACHA20_POLY1305,
        };
        let key = ring::aead::UnboundKey::new(algorithm, key).expect("both suites take 32-byte keys");
        Self(ring::aead::LessSafeKey::new(key))
    }

    fn nonce(suite: Suite, counter: u64) -> ring::aead::Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&match suite {
            Suite::AesGcm => counter.to_be_bytes(),
            Suite::ChaChaPoly => counter.to_le_bytes(),
        });
        ring::aead::Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, suite: Suite, counter: u64, message: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(Self::nonce(suite, counter), ring::aead::Aad::empty(), message)
            .expect("a frame is far shorter than either cipher's limit");
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    fn open<'a>(&self, suite: Suite, counter: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Unopened> {
        self.0
            .open_in_place(Self::nonce(suite, counter), ring::aead::Aad::empty(), sealed)
            .map_err(|ring::error::Unspecified| Unopened)
    }
}

/// Without `std` the handshake's own ciphers serve: they copy, which a microcontroller's one session can bear.
#[cfg(not(feature = "std"))]
struct Key(alloc::boxed::Box<dyn snow::types::Cipher>);

#[cfg(not(feature = "std"))]
impl Key {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        use snow::resolvers::CryptoResolver as _;
        let choice = match suite {
            Suite::AesGcm => snow::params::CipherChoice::AESGCM,
            Suite::ChaChaPoly => snow::params::CipherChoice::ChaChaPoly,
        };
        let mut cipher = snow::resolvers::DefaultResolver
            .resolve_cipher(&choice)
            .expect("both suites' ciphers are features of this crate's dependency");
        cipher.set(key);
        Self(cipher)
    }

    fn seal(&self, _suite: Suite, counter: u64, message: &mut [u8]) -> [u8; TAG_BYTES] {
        let mut sealed = [0; crate::frame::FRAME_BYTES_MAX];
        let length = self.0.encrypt(counter, &[], message, &mut sealed);
        let (ciphertext, rest) = sealed.split_at(length - TAG_BYTES);
        message.copy_from_slice(ciphertext);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&rest[..TAG_BYTES]);
        tag
    }

    fn open<'a>(&self, _suite: Suite, counter: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Unopened> {
        let mut message = [0; crate::frame::FRAME_BYTES_MAX];
        if sealed.len() < TAG_BYTES || sealed.len() > message.len() {
            return Err(Unopened);
        }
        let length = self.0.decrypt(counter, &[], sealed, &mut message).map_err(|_| Unopened)?;
        sealed[..length].copy_from_slice(&message[..length]);
        Ok(&mut sealed[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cipher_that_rested_goes_on_where_it_was() {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            let [mut rested, mut plain] = [(); 2].map(|()| Cipher::new(suite, &[7; 32]));
            for round in 0..3 {
                let [mut one, mut other] = [[round; 32]; 2];
                assert_eq!(rested.seal(&mut one), plain.seal(&mut other));
                assert_eq!(one, other);
                rested.rest();
            }
        }
    }

    #[test]
    fn a_frame_opens_once_and_only_at_its_place() {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            let mut seal = Cipher::new(suite, &[7; 32]);
            let mut open = Cipher::new(suite, &[7; 32]);
            let mut frames = [[0; 48]; 3];
            for (n, frame) in (0..).zip(&mut frames) {
                frame[..32].fill(n);
                let tag = seal.seal(&mut frame[..32]);
                frame[32..].copy_from_slice(&tag);
            }
            assert!(open.open(&mut frames[1].clone()).is_err(), "ahead of its place");
            assert_eq!(open.open(&mut frames[0].clone()).unwrap(), [0; 32]);
            assert!(open.open(&mut frames[0].clone()).is_err(), "replayed");
            assert_eq!(open.open(&mut frames[1].clone()).unwrap(), [1; 32]);
            frames[2][5] ^= 1;
            assert!(open.open(&mut frames[2]).is_err(), "altered");
        }
    }
}
