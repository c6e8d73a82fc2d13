//! A blocked Bloom filter over fingerprints (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters").
//!
//! A fingerprint is its own hash: the upper half picks the block, the lower half the bits in it. The block's number grows
//! with the fingerprint, so ascending fingerprints walk through memory from one end to the other.

use super::fingerprint::Fingerprint;

/// Says "never seen" for sure, or "perhaps".
pub(super) struct Filter {
    blocks: Vec<[u64; 8]>,
    inserted: u64,
}

impl Filter {
    /// Empty, with room for twice as many fingerprints as are expected now.
    pub(super) fn new(expected: u64) -> Self {
        let blocks = (2 * expected / KEYS_PER_BLOCK).clamp(1, BLOCKS_MAX);
        let blocks = usize::try_from(blocks).expect("bounded by a constant");
        Self { blocks: vec![[0; 8]; blocks], inserted: 0 }
    }

    /// Whether a larger filter would answer "perhaps" much less often.
    pub(super) fn is_outgrown(&self) -> bool {
        let blocks = self.blocks.len() as u64;
        blocks < BLOCKS_MAX && self.inserted > blocks * KEYS_PER_BLOCK
    }

    #[cfg(test)]
    pub(super) fn inserted(&self) -> u64 {
        self.inserted
    }

    pub(super) fn insert(&mut self, fingerprint: Fingerprint) {
        let at = self.block(fingerprint);
        for (word, bits) in self.blocks[at].iter_mut().zip(mask(fingerprint)) {
            *word |= bits;
        }
        self.inserted += 1;
    }

    /// `false`: it was never inserted.
    pub(super) fn may_contain(&self, fingerprint: Fingerprint) -> bool {
        let block = &self.blocks[self.block(fingerprint)];
        block.iter().zip(mask(fingerprint)).all(|(word, bits)| word & bits == bits)
    }

    fn block(&self, (upper, _): Fingerprint) -> usize {
        ((u128::from(upper) * self.blocks.len() as u128) >> 64) as usize
    }
}

fn mask((_, lower): Fingerprint) -> [u64; 8] {
    let mut mask = [0; 8];
    for probe in 0..PROBES {
        let bit = (lower >> (9 * probe)) & 511;
        mask[(bit / 64) as usize] |= 1 << (bit % 64);
    }
    mask
}

/// Seven times nine bits are all that the lower half has.
const PROBES: u32 = 7;
/// Sixteen bits for each.
const KEYS_PER_BLOCK: u64 = 32;
/// 256 MiB: a bound on memory, and still more than ten bits for each of 2 × 10⁸ fingerprints.
const BLOCKS_MAX: u64 = (256 << 20) / 64;

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip128::SipHasher24;

    fn fingerprint(number: u32) -> Fingerprint {
        SipHasher24::new().hash(&number.to_le_bytes()).as_u64()
    }

    #[test]
    fn what_was_inserted_is_never_denied_and_what_was_not_mostly_is() {
        let mut filter = Filter::new(50_000);
        (0..100_000).for_each(|number| filter.insert(fingerprint(number)));
        assert!(!filter.is_outgrown());
        assert!((0..100_000).all(|number| filter.may_contain(fingerprint(number))));
        let wrong = (100_000..200_000).filter(|&number| filter.may_contain(fingerprint(number))).count();
        assert!(wrong < 1000, "{wrong} of 100,000");
        (100_000..101_000).for_each(|number| filter.insert(fingerprint(number)));
        assert!(filter.is_outgrown());
    }

    #[test]
    fn no_fingerprint_is_out_of_bounds() {
        let mut filter = Filter::new(0);
        for fingerprint in [(0, 0), (u64::MAX, u64::MAX)] {
            filter.insert(fingerprint);
            assert!(filter.may_contain(fingerprint));
        }
    }
}
