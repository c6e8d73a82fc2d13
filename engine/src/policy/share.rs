//! Sharing so that hours of cover meet: max-min fairness (Bertsekas and Gallager, *Data Networks*, section 6.5.2) of cover.
//!
//! Raising is giving PIN after PIN to the one whose stock lasts shortest, lowering is taking PIN after PIN from the one whose
//! stock lasts longest; both are found at once by bisection over the level that covers are brought to.

use super::rate::Rate;
use std::cmp::Ordering;

/// One who gets or gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Share {
    /// PINs it has before.
    pub(super) held: u64,
    /// How fast it sells; [`LEAST`] is taken for less, so that a newcomer is no bottomless and no deaf one.
    pub(super) rate: Rate,
    /// PINs it gets or gives at most.
    pub(super) max: u64,
}

impl Share {
    fn weight(&self) -> u128 {
        u128::from(self.rate.max(LEAST).0)
    }

    /// PINs that last for `level`, rounded up, of what it may have.
    fn at(&self, level: Level) -> u64 {
        u64::try_from((self.weight() * u128::from(level)).div_ceil(LEVELS_PER_PIN)).unwrap_or(u64::MAX)
    }

    fn raised(&self, level: Level) -> u64 {
        self.at(level).saturating_sub(self.held).min(self.max)
    }

    fn lowered(&self, level: Level) -> u64 {
        self.held.saturating_sub(self.at(level)).min(self.max)
    }

    /// By how long stock lasts with `given` PINs more.
    fn compare_cover(&self, given: u64, other: &Self, other_given: u64) -> Ordering {
        let a = (u128::from(self.held) + u128::from(given)) * other.weight();
        let b = (u128::from(other.held) + u128::from(other_given)) * self.weight();
        a.cmp(&b)
    }
}

/// What each gets of `stock` PINs: all of it if they take it, those with the shortest cover first, until covers meet.
pub(super) fn raise(stock: u64, shares: &[Share]) -> Vec<u64> {
    let fits = |level| total(shares.iter().map(|share| share.raised(level))) <= u128::from(stock);
    let level = highest(fits);
    let mut given: Vec<u64> = shares.iter().map(|share| share.raised(level)).collect();
    // What rounding left, less than one PIN for each, goes to the shortest cover; of equals, to the first.
    let mut left = stock - given.iter().sum::<u64>();
    while left > 0 {
        let open = (0..shares.len()).filter(|at| given[*at] < shares[*at].max);
        let Some(next) = open.min_by(|a, b| shares[*a].compare_cover(given[*a], &shares[*b], given[*b]))
        else {
            break;
        };
        given[next] += 1;
        left -= 1;
    }
    given
}

/// What each gives so that `wanted` PINs come together, or as many as they have to give: those with the longest cover
/// first, until covers meet.
pub(super) fn lower(wanted: u64, shares: &[Share]) -> Vec<u64> {
    let level = highest(|level| total(shares.iter().map(|share| share.lowered(level))) >= u128::from(wanted));
    let mut given: Vec<u64> = shares.iter().map(|share| share.lowered(level)).collect();
    // One level higher would be too little: what is too much here is a matter of rounding.
    let mut excess = total(given.iter().copied()).saturating_sub(u128::from(wanted));
    for given in given.iter_mut().rev() {
        let kept = u64::try_from(excess).unwrap_or(u64::MAX).min(*given);
        *given -= kept;
        excess -= u128::from(kept);
    }
    given
}

/// How many PINs to take from `givers` for `takers` so that covers meet: no taker ends above the level that no giver ends
/// below, except by rounding.
pub(super) fn meet(takers: &[Share], givers: &[Share]) -> u64 {
    let taken = |level| total(takers.iter().map(|share| share.raised(level)));
    let given = |level| total(givers.iter().map(|share| share.lowered(level)));
    let level = highest(|level| taken(level) <= given(level));
    u64::try_from(taken(level)).unwrap_or(u64::MAX)
}

fn total(pins: impl Iterator<Item = u64>) -> u128 {
    pins.map(u128::from).sum()
}

/// The highest level for which `holds`, which holds for all lower ones too; 0 if for none.
fn highest(holds: impl Fn(Level) -> bool) -> Level {
    let (mut low, mut high) = (0, LEVEL_MAX);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// A cover, in milliseconds.
type Level = u64;
/// Beyond any cover: 2⁶³ ms.
const LEVEL_MAX: Level = 1 << 63;
/// Milliseconds of an hour times thousandths of a PIN.
const LEVELS_PER_PIN: u128 = 3_600_000 * 1000;
/// A PIN per day.
const LEAST: Rate = Rate(42);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares() -> impl Strategy<Value = Vec<Share>> {
        let share = (0_u64..10_000, prop_oneof![Just(0), 0_u64..10_000_000], 0_u64..10_000)
            .prop_map(|(held, rate, max)| Share { held, rate: Rate(rate), max });
        prop::collection::vec(share, 0..8)
    }

    #[test]
    fn three_that_sell_alike_are_brought_to_the_same_stock() {
        let share = |held| Share { held, rate: Rate(10_000), max: 1_000 };
        assert_eq!(raise(90, &[share(0), share(30), share(300)]), [60, 30, 0]);
        assert_eq!(lower(90, &[share(0), share(130), share(100)]), [0, 60, 30]);
    }

    #[test]
    fn who_sells_three_times_as_fast_gets_three_times_as_much() {
        let share = |rate| Share { held: 0, rate: Rate(rate), max: 1_000 };
        assert_eq!(raise(400, &[share(10_000), share(30_000)]), [100, 300]);
    }

    proptest! {
        #[test]
        fn raising_gives_all_there_is_and_no_pin_would_do_more_good_elsewhere(
            stock in 0_u64..40_000, shares in shares(),
        ) {
            let given = raise(stock, &shares);
            let asked: u64 = shares.iter().map(|share| share.max).sum();
            prop_assert_eq!(given.iter().sum::<u64>(), stock.min(asked));
            for (a, share) in shares.iter().enumerate() {
                prop_assert!(given[a] <= share.max);
                for (b, other) in shares.iter().enumerate() {
                    if given[a] < share.max && given[b] > 0 {
                        // `b` before its last PIN was not better off than `a` is.
                        prop_assert_ne!(share.compare_cover(given[a], other, given[b] - 1), Ordering::Less);
                    }
                }
            }
        }

        #[test]
        fn lowering_takes_what_is_wanted_and_no_more_than_each_may_give(
            wanted in 0_u64..40_000, shares in shares(),
        ) {
            let given = lower(wanted, &shares);
            let offered: u64 = shares.iter().map(|share| share.max.min(share.held)).sum();
            prop_assert_eq!(given.iter().sum::<u64>(), wanted.min(offered));
            prop_assert!(given.iter().zip(&shares).all(|(given, share)| *given <= share.max.min(share.held)));
        }

        #[test]
        fn after_meeting_no_taker_is_better_off_than_a_giver(takers in shares(), givers in shares()) {
            let pins = meet(&takers, &givers);
            let taken = raise(pins, &takers);
            let given = lower(pins, &givers);
            prop_assert_eq!(given.iter().sum::<u64>(), pins);
            for (taken, taker) in taken.iter().zip(&takers) {
                for (given, giver) in given.iter().zip(&givers) {
                    if *taken > 0 && *given > 0 {
                        // Up to the last PIN of the taker and the first of the giver.
                        let after = Share { held: giver.held - given + 1, ..*giver };
                        prop_assert_ne!(taker.compare_cover(taken - 1, &after, 0), Ordering::Greater);
                    }
                }
            }
        }
    }
}
