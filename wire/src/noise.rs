//! The Noise handshake `NNpsk0`: who may name the key authenticates, and both ends get fresh session keys.

use alloc::boxed::Box;

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize, Zeroizing};

use crate::session::Suite;

/// Length of either handshake message: a public key and the tag of an empty payload, in bytes.
pub(crate) const NOISE_MESSAGE_BYTES: usize = 48;

/// The other side does not know the key, or the bytes were altered.
#[derive(Debug)]
pub(crate) struct Unauthenticated;

/// The session keys, named from the terminal's side.
pub(crate) struct Keys {
    pub(crate) terminal_to_seller: Zeroizing<[u8; 32]>,
    pub(crate) seller_to_terminal: Zeroizing<[u8; 32]>,
}

/// The terminal's half, between its message and the seller's.
pub(crate) struct Initiator(snow::HandshakeState);

impl Initiator {
    /// Starts a handshake and returns its first message. `random` must never be used again.
    pub(crate) fn start(
        suite: Suite,
        prologue: &[u8],
        psk: &[u8; 32],
        random: &[u8; 32],
    ) -> (Self, [u8; NOISE_MESSAGE_BYTES]) {
        let mut handshake = build(suite, prologue, psk, random, true);
        let mut message = [0; NOISE_MESSAGE_BYTES];
        let length =
            handshake.write_message(&[], &mut message).expect("the first message is always ours to write");
        assert_eq!(length, NOISE_MESSAGE_BYTES, "a public key and a tag");
        (Self(handshake), message)
    }

    /// Reads the seller's message.
    pub(crate) fn finish(&mut self, message: &[u8; NOISE_MESSAGE_BYTES]) -> Result<Keys, Unauthenticated> {
        self.0.read_message(message, &mut []).map_err(|_| Unauthenticated)?;
        Ok(split(&mut self.0))
    }
}

/// The seller's half: reads the terminal's message and returns the answer. `random` must never be used again.
pub(crate) fn respond(
    suite: Suite,
    prologue: &[u8],
    psk: &[u8; 32],
    random: &[u8; 32],
    message: &[u8; NOISE_MESSAGE_BYTES],
) -> Result<([u8; NOISE_MESSAGE_BYTES], Keys), Unauthenticated> {
    let mut handshake = build(suite, prologue, psk, random, false);
    handshake.read_message(message, &mut []).map_err(|_| Unauthenticated)?;
    let mut answer = [0; NOISE_MESSAGE_BYTES];
    let length = handshake.write_message(&[], &mut answer).expect("the second message is ours to write");
    assert_eq!(length, NOISE_MESSAGE_BYTES, "a public key and a tag");
    Ok((answer, split(&mut handshake)))
}

fn build(
    suite: Suite,
    prologue: &[u8],
    psk: &[u8; 32],
    random: &[u8; 32],
    initiator: bool,
) -> snow::HandshakeState {
    let params: NoiseParams =
        suite.noise_name().parse().expect("both suites are Noise protocols that snow knows");
    let resolver: BoxedCryptoResolver = Box::new(Resolver { random: Zeroizing::new(*random) });
    let builder = snow::Builder::with_resolver(params, resolver)
        .psk(0, psk)
        .and_then(|builder| builder.prologue(prologue))
        .expect("one key and one prologue");
    let built = if initiator { builder.build_initiator() } else { builder.build_responder() };
    built.expect("NNpsk0 needs no key but the psk")
}

fn split(handshake: &mut snow::HandshakeState) -> Keys {
    let (mut first, mut second) = handshake.dangerously_get_raw_split();
    let keys = Keys { terminal_to_seller: Zeroizing::new(first), seller_to_terminal: Zeroizing::new(second) };
    first.zeroize();
    second.zeroize();
    keys
}

/// snow's primitives with the caller's randomness in place of the operating system's.
struct Resolver {
    random: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once { random: Some(self.random.clone()) }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Hands out the caller's 32 bytes, once: they become the ephemeral private key.
struct Once {
    random: Option<Zeroizing<[u8; 32]>>,
}

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let random = self.random.take().ok_or(snow::Error::Rng)?;
        if dest.len() != random.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(random.as_slice());
        Ok(())
    }
}
