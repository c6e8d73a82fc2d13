//! The one source of chance of a run: everything follows from the seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Seeded chance.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Chance that follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.next_u64() % end }
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// What becomes of unsynced sectors in one loss of power, for [`HeapDisk::lose_power`]: all are lost, all are kept, or each has
    /// a fate of its own and may be torn.
    ///
    /// [`HeapDisk::lose_power`]: crate::disk::heap::HeapDisk::lose_power
    pub fn sector_fates(&mut self) -> impl FnMut() -> u64 + use<'_> {
        let style = self.below(4);
        move || match style {
            0 => 0,
            1 => 1,
            _ if self.one_in(3) => 2 + self.below(510),
            _ => self.below(2),
        }
    }
}
