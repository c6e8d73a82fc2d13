//! The fingerprint store: a log-structured merge tree (fjall) of fingerprint → (batch, line).
//!
//! Claims come sorted and in bulk, so they bypass the tree's own journal: each becomes one sorted run, synced and
//! registered atomically. Fingerprints are evenly spread and mostly new; a bloom filter answers for almost every one
//! without a read, and because claims ascend, the parts of the filters are visited in order and need little cache.

use super::fingerprint::{Claim, FingerprintError, Fingerprints, Seen};
use crate::ids::BatchId;
use fjall::config::{
    BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PartitioningPolicy, PinningPolicy,
};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Fingerprints in a directory of their own.
pub struct FingerprintStore {
    seen: Keyspace,
    /// Between looking and claiming, nobody else may claim.
    claiming: Mutex<()>,
    /// Closed last.
    _database: Database,
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
        let options = || {
            KeyspaceCreateOptions::default()
                .filter_policy(FilterPolicy::all(bloom))
                .filter_block_partitioning_policy(PartitioningPolicy::all(true))
                .filter_block_pinning_policy(PinningPolicy::all(false))
                .index_block_partitioning_policy(PartitioningPolicy::all(true))
                .index_block_pinning_policy(PinningPolicy::all(false))
        };
        let seen = database.keyspace("seen", options)?;
        Ok(Self { seen, claiming: Mutex::new(()), _database: database })
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
        let _alone = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        for (looked_at, claim) in (0..).zip(claims) {
            if looked_at % CLAIMS_PER_PROGRESS == 0 {
                progress(looked_at);
            }
            let Some(value) = self.seen.get(claim.fingerprint)? else { continue };
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
            run.write(claim.fingerprint, encode(batch, claim.line))?;
        }
        run.finish()?;
        Ok(seen)
    }
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

const VALUE_BYTES: usize = 12;
/// One filter in about three hundred says "perhaps" for what it never saw.
const FILTER_BITS_PER_KEY: f32 = 12.0;
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
    fn what_was_claimed_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let claims: Vec<Claim> = (0u8..100)
            .map(|number| Claim { fingerprint: [number; 16], line: u32::from(number), what: What::Serial })
            .collect();
        for (round, batch) in (0..12).zip(1..) {
            let store = FingerprintStore::open(directory.path()).unwrap();
            let seen = store.claim(BatchId(batch), &claims, &|_| true, &mut |_| {}).unwrap();
            assert_eq!(seen.len(), if round == 0 { 0 } else { 100 });
            let more = Claim { fingerprint: [200 + round; 16], line: 1, what: What::Pin };
            assert_eq!(store.claim(BatchId(batch), &[more], &|_| true, &mut |_| {}).unwrap(), []);
        }
    }
}
