//! A blocked Bloom filter over fingerprints (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters").
//!
//! A fingerprint is its own hash: the upper half picks the block, the lower half the bits in it. The block's number grows
//! with the fingerprint, so ascending fingerprints walk through memory from one end to the other.

use super::fingerprint::Fingerprint;

/// Says "never seen" for sure, or "perhaps".
pub(super) struct Filter {
    blocks: Vec<[u64; 8]>,
    inserted: u64,
    doublings: u32,
}

impl Filter {
    /// Empty, with room for twice as many fingerprints as are expected now.
    pub(super) fn new(expected: u64) -> Self {
        let blocks = (2 * expected / KEYS_PER_BLOCK).clamp(1, BLOCKS_MAX);
        let blocks = usize::try_from(blocks).expect("bounded by a constant");
        Self { blocks: vec![[0; 8]; blocks], inserted: 0, doublings: 0 }
    }

    /// Makes room for `more` fingerprints; `false` if only a filter filled anew would still be good.
    ///
    /// A block that is split leaves its bits in both halves, so every doubling makes "perhaps" more frequent.
    pub(super) fn make_room(&mut self, more: u64) -> bool {
        while (self.blocks.len() as u64) < (self.inserted + more) / KEYS_PER_BLOCK {
            if self.blocks.len() as u64 * 2 > BLOCKS_MAX {
                return true;
            }
            if self.doublings == DOUBLINGS_MAX {
                return false;
            }
            self.doublings += 1;
            self.blocks = self.blocks.iter().flat_map(|&block| [block; 2]).collect();
        }
        true
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
/// "Perhaps" for one in twenty is good enough.
const DOUBLINGS_MAX: u32 = 3;
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
        let mut inserted = 0;
        for (until, wrong_max) in [(100_000, 1000), (200_000, 3000), (400_000, 5000), (800_000, 8000)] {
            assert!(filter.make_room(u64::from(until - inserted)));
            (inserted..until).for_each(|number| filter.insert(fingerprint(number)));
            inserted = until;
            assert!((0..until).all(|number| filter.may_contain(fingerprint(number))));
            let others = until..until + 100_000;
            let wrong = others.filter(|&number| filter.may_contain(fingerprint(number))).count();
            assert!(wrong < wrong_max, "{wrong} of 100,000");
        }
        assert!(!filter.make_room(100_000), "doubled too often");
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
