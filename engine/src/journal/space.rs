//! Room in the prepared segments, counted before a record exists, so that a record always fits.

use super::batch::SLOT_BYTES;
#[cfg(loom)]
use loom::sync::atomic::{AtomicI64, Ordering::Relaxed};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Free room in the journal, in slots of 64 bytes.
///
/// Whoever makes a record reserves room for it first, for the worst case: a batch of its own, that is two slots. The
/// committer gives back what the real batch did not take. Two floors stay out of reach: of sales, so that there is
/// always room for control records (without which a full disk could not recover), and of both, so that a node can
/// start some more times on a full disk.
///
/// The counter protects no other memory: all its operations are relaxed.
#[derive(Debug)]
pub struct Space {
    free_slots: AtomicI64,
    sales_floor_slots: i64,
    control_floor_slots: i64,
    ahead_records_max: u32,
}

impl Space {
    pub(super) fn new(segment_bytes: u64, control_reserve_records: u32) -> Self {
        let segment_slots = slots(segment_bytes);
        let control_floor_slots = BOOT_RESERVE_SLOTS_MAX.min(segment_slots / 8);
        Self {
            free_slots: AtomicI64::new(0),
            sales_floor_slots: control_floor_slots + SLOTS_PER_RECORD * i64::from(control_reserve_records),
            control_floor_slots,
            ahead_records_max: u32::try_from(segment_slots / AHEAD_PART).unwrap_or(u32::MAX).max(1),
        }
    }

    /// How many records anybody may reserve room for that it may not make for a long time: a small part of a segment, because
    /// a node that has stopped selling must have room for control records all the same.
    #[must_use]
    pub fn ahead_records_max(&self) -> u32 {
        self.ahead_records_max
    }

    /// Takes room for this many records of sales; false, and nothing taken, when only the reserve is left.
    #[must_use]
    pub fn try_reserve(&self, records: usize) -> bool {
        self.try_take(SLOTS_PER_RECORD * to_i64(records), self.sales_floor_slots)
    }

    /// Takes room for this many control records; false, and nothing taken, when there is none.
    #[must_use]
    pub fn try_reserve_control(&self, records: usize) -> bool {
        self.try_take(SLOTS_PER_RECORD * to_i64(records), self.control_floor_slots)
    }

    /// Returns room that was reserved for records that were not made.
    pub fn give_back(&self, records: usize) {
        self.add(SLOTS_PER_RECORD * to_i64(records));
    }

    /// For how many more records of sales there is room, at least.
    #[must_use]
    pub fn free_records(&self) -> u64 {
        let free = self.free_slots.load(Relaxed) - self.sales_floor_slots;
        u64::try_from(free / SLOTS_PER_RECORD).unwrap_or(0)
    }

    /// Room for the batch that has no record of its own.
    pub(super) fn try_take_empty_batch(&self) -> bool {
        self.try_take(1, self.control_floor_slots)
    }

    /// A batch of `records` was written: its reservations become what it really took. The first batch of a boot takes
    /// what is kept for it.
    pub(super) fn settle(&self, records: usize) {
        self.add(SLOTS_PER_RECORD * to_i64(records) - 1 - to_i64(records));
    }

    pub(super) fn add(&self, slots: i64) {
        self.free_slots.fetch_add(slots, Relaxed);
    }

    fn try_take(&self, slots: i64, floor_slots: i64) -> bool {
        let take = |free: i64| (free - slots >= floor_slots).then_some(free - slots);
        self.free_slots.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// How many slots that is. A segment counts one less: the last one may be too small for the next batch.
pub(super) fn slots(bytes: u64) -> i64 {
    i64::try_from(bytes / SLOT_BYTES as u64).expect("a segment is no larger than a disk")
}

fn to_i64(records: usize) -> i64 {
    i64::try_from(records).expect("records fit in memory")
}

/// A record that is a batch of its own has a header of its own.
const SLOTS_PER_RECORD: i64 = 2;

/// What part of a segment's slots, in records, may be reserved ahead.
const AHEAD_PART: i64 = 64;

/// Kept for the empty batch that begins every boot.
const BOOT_RESERVE_SLOTS_MAX: i64 = 256;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sales_leave_room_for_control_records_and_both_for_the_next_boot() {
        let space = Space::new(64 * 1024, 10);
        space.add(slots(64 * 1024));
        let mut sales = 0;
        while space.try_reserve(1) {
            sales += 1;
        }
        assert_eq!(sales, (1024 - 128) / 2 - 10);
        assert!(space.try_reserve_control(10));
        assert!(!space.try_reserve_control(1));
        space.give_back(1);
        assert!(!space.try_reserve(1));
        assert!(space.try_reserve_control(1));
        space.settle(11);
        assert_eq!(space.free_slots.load(Relaxed), 128 + 22 - 12);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two sellers take what a committer gives back meanwhile: never more than there is, and nothing is lost.
    #[test]
    fn room_is_taken_once_and_never_below_the_floor() {
        loom::model(|| {
            // Room for one record of sales above the floors, and then for two.
            let space = Arc::new(Space::new(4096, 1));
            let floor = space.sales_floor_slots;
            space.add(floor + SLOTS_PER_RECORD);
            let takers: Vec<_> = (0..2)
                .map(|_| {
                    let space = space.clone();
                    thread::spawn(move || {
                        let taken = space.try_reserve(1);
                        assert!(space.free_slots.load(Relaxed) >= space.sales_floor_slots);
                        i64::from(taken)
                    })
                })
                .collect();
            space.add(SLOTS_PER_RECORD);
            let taken: i64 = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
            let left = space.free_slots.load(Relaxed);
            assert_eq!(left, floor + (2 - taken) * SLOTS_PER_RECORD);
            assert!((1..=2).contains(&taken), "{taken} taken");
        });
    }
}
