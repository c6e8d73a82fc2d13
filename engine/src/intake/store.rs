//! The fingerprint store: a log-structured merge tree (fjall) of fingerprint → (batch, line), behind a filter in memory.
//!
//! Claims come sorted and in bulk, so they bypass the tree's own journal: each becomes one sorted run, synced and
//! registered atomically. Almost all are new, and the filter says so without asking the tree. The filter is filled by
//! reading the whole tree, once enough was looked up without it since the start to make that worth the time.

use super::filter::Filter;
use super::fingerprint::{Claim, Fingerprint, FingerprintError, Fingerprints, Seen};
use crate::ids::BatchId;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Fingerprints in a directory of their own.
pub struct FingerprintStore {
    seen: Keyspace,
    /// Between looking and claiming, nobody else may claim.
    front: Mutex<Front>,
    /// Closed last.
    _database: Database,
}

/// What spares the tree most questions.
#[derive(Default)]
struct Front {
    /// Holds all that the tree holds, if it is there.
    filter: Option<Filter>,
    /// Questions that the tree answered for want of a filter.
    asked: u64,
}

impl FingerprintStore {
    /// Opens the store, or makes an empty one.
    ///
    /// # Errors
    /// [`FingerprintError`]: the operator's to mend.
    pub fn open(directory: &Path) -> Result<Self, FingerprintError> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(FILES_OPEN_MAX))
            .worker_threads(1)
            .open()?;
        let bloom = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(FILTER_BITS_PER_KEY));
        let options = || KeyspaceCreateOptions::default().filter_policy(FilterPolicy::all(bloom));
        let seen = database.keyspace("seen", options)?;
        Ok(Self { seen, front: Mutex::default(), _database: database })
    }

    /// Fills the filter if that is worth while before `more` questions.
    fn prepare(&self, front: &mut Front, more: u64) -> Result<(), FingerprintError> {
        let known = self.seen.approximate_len() as u64;
        let wanted = match &mut front.filter {
            Some(filter) => !filter.make_room(more),
            None => (front.asked + more).saturating_mul(KNOWN_PER_QUESTION) >= known,
        };
        if !wanted {
            front.asked += more;
            return Ok(());
        }
        front.filter = None;
        let mut filter = Filter::new(known + more);
        for entry in self.seen.iter() {
            filter.insert(fingerprint(&entry.key()?));
        }
        front.filter = Some(filter);
        Ok(())
    }
}

impl Fingerprints for FingerprintStore {
    fn claim(
        &self,
        batch: BatchId,
        claims: &[Claim],
        counts: &dyn Fn(BatchId) -> bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Seen>, FingerprintError> {
        let front = &mut *self.front.lock().unwrap_or_else(PoisonError::into_inner);
        self.prepare(front, claims.len() as u64)?;
        let mut seen = Vec::new();
        for (looked_at, claim) in (0..).zip(claims) {
            if looked_at % CLAIMS_PER_PROGRESS == 0 {
                progress(looked_at);
            }
            if front.filter.as_ref().is_some_and(|filter| !filter.may_contain(claim.fingerprint)) {
                continue;
            }
            let Some(value) = self.seen.get(key(claim.fingerprint))? else { continue };
            let (earlier_batch, earlier_line) = decode(&value);
            if earlier_batch != batch && counts(earlier_batch) {
                seen.push(Seen { line: claim.line, what: claim.what, earlier_batch, earlier_line });
            }
        }
        if !seen.is_empty() || claims.is_empty() {
            return Ok(seen);
        }
        let mut run = self.seen.start_ingestion()?;
        for claim in claims {
            run.write(key(claim.fingerprint), encode(batch, claim.line))?;
            // Before the run is there for sure: the filter may know too much, but never too little.
            if let Some(filter) = &mut front.filter {
                filter.insert(claim.fingerprint);
            }
        }
        run.finish()?;
        Ok(seen)
    }
}

/// In the order of fingerprints.
fn key((upper, lower): Fingerprint) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&upper.to_be_bytes());
    key[8..].copy_from_slice(&lower.to_be_bytes());
    key
}

fn fingerprint(key: &[u8]) -> Fingerprint {
    let half =
        |from: usize| u64::from_be_bytes(std::array::from_fn(|i| key.get(from + i).copied().unwrap_or(0)));
    (half(0), half(8))
}

fn encode(batch: BatchId, line: u32) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value[..8].copy_from_slice(&batch.0.to_le_bytes());
    value[8..].copy_from_slice(&line.to_le_bytes());
    value
}

fn decode(value: &[u8]) -> (BatchId, u32) {
    let byte = |at: usize| value.get(at).copied().unwrap_or(0);
    let batch = u64::from_le_bytes(std::array::from_fn(byte));
    (BatchId(batch), u32::from_le_bytes(std::array::from_fn(|i| byte(8 + i))))
}

const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 12;
/// How many known fingerprints can be read in sequence in the time of one question.
const KNOWN_PER_QUESTION: u64 = 16;
/// Of the filters within the tree.
const FILTER_BITS_PER_KEY: f32 = 10.0;
const CACHE_BYTES: u64 = 64 << 20;
const FILES_OPEN_MAX: usize = 256;
const CLAIMS_PER_PROGRESS: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::fingerprint::What;

    #[test]
    fn the_store_obeys() {
        let directory = tempfile::tempdir().unwrap();
        super::super::fingerprint::tests::a_store_obeys(&FingerprintStore::open(directory.path()).unwrap());
    }

    #[test]
    fn what_is_seen_is_the_same_with_and_without_the_filter() {
        let directory = tempfile::tempdir().unwrap();
        let claim = |number: u64| Claim {
            fingerprint: (number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number),
            line: number as u32,
            what: What::Pin,
        };
        let claims = |numbers: std::ops::Range<u64>| {
            let mut claims: Vec<_> = numbers.map(claim).collect();
            claims.sort_unstable();
            claims
        };
        {
            let store = FingerprintStore::open(directory.path()).unwrap();
            for batch in 0..10 {
                let claims = claims(batch * 1000..(batch + 1) * 1000);
                assert_eq!(store.claim(BatchId(batch), &claims, &|_| true, &mut |_| {}).unwrap(), []);
            }
            let filter = store.front.lock().unwrap().filter.as_ref().map(Filter::inserted);
            assert_eq!(filter, Some(10_000), "an empty store has its filter from the start");
        }
        let store = FingerprintStore::open(directory.path()).unwrap();
        let mut with_filter = 0;
        for round in 0..200 {
            let claims = claims(round * 40..round * 40 + 40);
            let seen = store.claim(BatchId(99), &claims, &|_| true, &mut |_| {}).unwrap();
            assert_eq!(seen.len(), 40);
            assert!(seen.iter().all(|seen| seen.earlier_batch.0 == u64::from(seen.earlier_line) / 1000));
            let unseen = [claim(20_000 + round)];
            assert_eq!(store.claim(BatchId(100), &unseen, &|_| true, &mut |_| {}).unwrap(), []);
            with_filter += u32::from(store.front.lock().unwrap().filter.is_some());
        }
        assert!(
            (100..200).contains(&with_filter),
            "asked often enough, the store fills its filter: {with_filter}"
        );
    }

    #[test]
    fn what_was_claimed_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let claims: Vec<Claim> = (0u8..100)
            .map(|number| Claim {
                fingerprint: (number.into(), 7),
                line: u32::from(number),
                what: What::Serial,
            })
            .collect();
        for (round, batch) in (0..12).zip(1..) {
            let store = FingerprintStore::open(directory.path()).unwrap();
            let seen = store.claim(BatchId(batch), &claims, &|_| true, &mut |_| {}).unwrap();
            assert_eq!(seen.len(), if round == 0 { 0 } else { 100 });
            let more = Claim { fingerprint: (200 + round, 7), line: 1, what: What::Pin };
            assert_eq!(store.claim(BatchId(batch), &[more], &|_| true, &mut |_| {}).unwrap(), []);
        }
    }
}
