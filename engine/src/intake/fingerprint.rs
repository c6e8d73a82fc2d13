//! Fingerprints: how a PIN or serial that was ever seen before is recognised without being kept.
//!
//! A fingerprint is SipHash-2-4 with 128 bits of output, under a key derived from the node key: without that key nobody
//! can test a guessed PIN against the store. PINs and serials have keys of their own, so that a serial that looks like
//! a PIN is no repetition.

use crate::ids::BatchId;
use crate::stock::FingerprintKey;
use siphasher::sip128::SipHasher24;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use wire::message::{PIN_BYTES_MAX, Pin, Serial};

/// Remembers every fingerprint ever claimed.
pub trait Fingerprints: Send + Sync {
    /// Claims fingerprints for a batch, all of them or none, durably; the claims must ascend strictly by fingerprint.
    ///
    /// Returns those that another batch claimed before, in the order of `claims`; if there is one, nothing changed. A
    /// claim of a batch for which `counts` is false stands for nothing and is taken over: `counts` must be true for every
    /// batch that is committed or may yet be, and once false for a batch, for ever false. `progress` hears how many claims
    /// have been looked at, now and then.
    ///
    /// # Errors
    /// [`FingerprintError`]; nothing may be assumed about what is claimed for `batch` then, so that batch must never be
    /// committed.
    fn claim(
        &self,
        batch: BatchId,
        claims: &[Claim],
        counts: &dyn Fn(BatchId) -> bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Seen>, FingerprintError>;
}

/// A keyed 128-bit fingerprint: its upper and its lower half.
pub type Fingerprint = (u64, u64);

/// One fingerprint and whose it is. Ordered by fingerprint first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// The line in the batch.
    pub line: u32,
    /// What was fingerprinted.
    pub what: What,
}

/// A claim that came too late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The line of the claim.
    pub line: u32,
    /// What was seen before.
    pub what: What,
    /// The batch that has it.
    pub earlier_batch: BatchId,
    /// The line in that batch.
    pub earlier_line: u32,
}

/// The two things that must be unique.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    /// A PIN, without its hyphens.
    Pin,
    /// A serial.
    Serial,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pin => "PIN",
            Self::Serial => "serial",
        })
    }
}

/// The store cannot tell or cannot remember; the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("the fingerprint store failed: {0}")]
pub struct FingerprintError(#[from] pub(super) fjall::Error);

impl FingerprintError {
    /// Whether the cause is lack of room, which passes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(&self.0);
        while let Some(cause) = error {
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                return matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                );
            }
            error = cause.source();
        }
        false
    }
}

/// Takes fingerprints.
pub(super) struct Fingerprinter {
    pins: SipHasher24,
    serials: SipHasher24,
}

impl Fingerprinter {
    pub(super) fn new(key: &FingerprintKey) -> Self {
        let (pins, serials) = key.halves();
        Self { pins: SipHasher24::new_with_key(&pins), serials: SipHasher24::new_with_key(&serials) }
    }

    /// Hyphens do not count: suppliers print the same PIN with and without them.
    pub(super) fn pin(&self, pin: &Pin) -> Fingerprint {
        let mut bare = [0; PIN_BYTES_MAX];
        let mut length = 0;
        for &byte in pin.as_bytes().iter().filter(|&&byte| byte != b'-') {
            bare[length] = byte;
            length += 1;
        }
        self.pins.hash(&bare[..length]).as_u64()
    }

    pub(super) fn serial(&self, serial: &Serial) -> Fingerprint {
        self.serials.hash(serial.as_bytes()).as_u64()
    }
}

/// Fingerprints in memory, for tests and simulation.
#[derive(Default)]
pub struct HeapFingerprints {
    seen: Mutex<BTreeMap<Fingerprint, (BatchId, u32)>>,
}

impl Fingerprints for HeapFingerprints {
    fn claim(
        &self,
        batch: BatchId,
        claims: &[Claim],
        counts: &dyn Fn(BatchId) -> bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Seen>, FingerprintError> {
        let mut known = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        for claim in claims {
            if let Some(&(earlier_batch, earlier_line)) = known.get(&claim.fingerprint)
                && earlier_batch != batch
                && counts(earlier_batch)
            {
                seen.push(Seen { line: claim.line, what: claim.what, earlier_batch, earlier_line });
            }
        }
        if seen.is_empty() {
            known.extend(claims.iter().map(|claim| (claim.fingerprint, (batch, claim.line))));
        }
        progress(claims.len() as u64);
        Ok(seen)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stock::NodeKeys;

    fn claims(range: std::ops::Range<u32>) -> Vec<Claim> {
        range.map(|number| Claim { fingerprint: (number.into(), 0), line: number, what: What::Pin }).collect()
    }

    /// What every store must do.
    pub(in crate::intake) fn a_store_obeys(store: &dyn Fingerprints) {
        let all = |_: BatchId| true;
        let claim = |batch, range, counts: &dyn Fn(BatchId) -> bool| {
            store.claim(BatchId(batch), &claims(range), counts, &mut |_| {}).unwrap()
        };
        assert_eq!(claim(1, 0..1000, &all), []);
        let twice = claim(2, 999..1500, &all);
        let expected = Seen { line: 999, what: What::Pin, earlier_batch: BatchId(1), earlier_line: 999 };
        assert_eq!(twice, [expected], "seen before");
        assert_eq!(claim(3, 1000..1500, &all), [], "what was refused as a whole left nothing behind");
        let dead = |batch: BatchId| batch != BatchId(3);
        assert_eq!(claim(4, 1000..1200, &dead), [], "a batch that was never committed saw nothing");
        assert_eq!(claim(4, 1000..1200, &dead), [], "a batch may claim again");
        assert_eq!(claim(5, 1100..1101, &dead).len(), 1, "what was taken over counts");
        assert_eq!(claim(5, 1200..1300, &dead), []);
        assert_eq!(claim(6, 0..0, &all), []);
    }

    #[test]
    fn fingerprints_in_memory_obey() {
        a_store_obeys(&HeapFingerprints::default());
    }

    #[test]
    fn a_fingerprint_depends_on_key_and_kind_but_not_on_hyphens() {
        let one = Fingerprinter::new(NodeKeys::from_node_key(&[1; 32]).fingerprints());
        let other = Fingerprinter::new(NodeKeys::from_node_key(&[2; 32]).fingerprints());
        let (pin, serial) = (Pin::new(b"12345678").unwrap(), Serial::new(b"12345678").unwrap());
        assert_eq!(one.pin(&pin), one.pin(&Pin::new(b"-1234-5678-").unwrap()));
        assert_ne!(one.pin(&pin), one.pin(&Pin::new(b"12345679").unwrap()));
        assert_ne!(one.pin(&pin), other.pin(&pin));
        assert_ne!(one.pin(&pin), one.serial(&serial));
    }
}
