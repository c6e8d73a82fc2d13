//! How fast a variety sells at a node, and how long a stock lasts.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Sales of one variety, in thousandths of a PIN per hour.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl Rate {
    /// Nothing is sold.
    pub const NONE: Self = Self(0);

    /// From PINs per hour; what is no rate (negative, not a number) counts as none.
    #[must_use]
    pub fn from_pins_per_hour(pins: f64) -> Self {
        // A conversion of a float saturates, and makes 0 of what is not a number.
        Self((pins * 1000.0).round() as u64)
    }

    /// PINs that are sold in so many hours, rounded up.
    #[must_use]
    pub fn pins_in_h(self, hours: u32) -> u64 {
        u64::try_from((u128::from(self.0) * u128::from(hours)).div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} PINs/h", self.0 / 1000, self.0 / 100 % 10)
    }
}

/// How long a stock lasts at a rate of sales, in whole minutes; what does not sell lasts longest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "Option<u32>", from = "Option<u32>")]
pub struct Cover(u32);

impl Cover {
    /// Nothing is sold, so it lasts for ever.
    pub const UNENDING: Self = Self(u32::MAX);

    /// How long `pins` last at `rate`.
    #[must_use]
    pub fn of(pins: u64, rate: Rate) -> Self {
        if rate == Rate::NONE {
            return Self::UNENDING;
        }
        let minutes = u128::from(pins) * 60_000 / u128::from(rate.0);
        Self(u32::try_from(minutes).unwrap_or(u32::MAX).min(u32::MAX - 1))
    }

    /// So many hours.
    #[must_use]
    pub fn from_h(hours: u32) -> Self {
        Self(hours.saturating_mul(60).min(u32::MAX - 1))
    }

    /// Whole minutes; `None` if nothing is sold.
    #[must_use]
    pub fn minutes(self) -> Option<u32> {
        (self != Self::UNENDING).then_some(self.0)
    }
}

impl From<Cover> for Option<u32> {
    fn from(cover: Cover) -> Self {
        cover.minutes()
    }
}

impl From<Option<u32>> for Cover {
    fn from(minutes: Option<u32>) -> Self {
        minutes.map_or(Self::UNENDING, Self)
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.minutes(), self.0 / 60) {
            (None, _) => f.write_str("as long as nothing is sold"),
            (Some(minutes), 0) => write!(f, "{minutes} min"),
            (Some(minutes), hours @ 1..100) => write!(f, "{hours} h {} min", minutes % 60),
            (Some(_), hours) => write!(f, "{hours} h"),
        }
    }
}

/// An exponentially smoothed rate of sales, from counts over intervals of any length.
///
/// The average of a rate that is constant within each interval, with weights that fall by e in [`Self::smoothing_h`]
/// hours (Eckner, *Algorithms for unevenly spaced time series: moving averages and other rolling operators*, 2012,
/// section 3). While less than that has been seen the average is of what has been seen, as if of a quarter of an hour at
/// least.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SalesRate {
    smoothing_h: f64,
    /// Weighted sum of rates, in PINs per hour.
    sum: f64,
    /// Sum of the weights, from 0 to 1.
    weight: f64,
    /// Sales that no time has passed for yet, in PINs.
    pending: u64,
    /// Up to when it has counted, in milliseconds of the caller's clock.
    at_ms: Option<u64>,
}

impl SalesRate {
    /// Knows nothing yet. What was sold `smoothing_h` hours ago counts 1/e of what is sold now.
    #[must_use]
    pub fn new(smoothing_h: u32) -> Self {
        let smoothing_h = f64::from(smoothing_h.max(1));
        Self { smoothing_h, sum: 0.0, weight: 0.0, pending: 0, at_ms: None }
    }

    /// Begins with a rate that is known from elsewhere.
    #[must_use]
    pub fn known(smoothing_h: u32, rate: Rate) -> Self {
        Self { sum: rate.0 as f64 / 1000.0, weight: 1.0, ..Self::new(smoothing_h) }
    }

    /// `pins` were sold since the last call, up to `now_ms`; the first call says when counting begins. Say 0, too: silence
    /// is what makes a rate fall. A clock that goes back counts as one that stands.
    pub fn handle_sold(&mut self, pins: u64, now_ms: u64) {
        self.pending = self.pending.saturating_add(pins);
        let before_ms = *self.at_ms.get_or_insert(now_ms);
        if now_ms <= before_ms {
            return;
        }
        let passed_h = (now_ms - before_ms) as f64 / HOUR_MS;
        let kept = (-passed_h / self.smoothing_h).exp();
        self.sum = self.sum * kept + self.pending as f64 / passed_h * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
        self.pending = 0;
        self.at_ms = Some(now_ms);
    }

    /// There was no stock since the last call, so that silence says nothing: the time does not count.
    pub fn handle_empty(&mut self, now_ms: u64) {
        self.at_ms = self.at_ms.max(Some(now_ms));
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        let least = 1.0 - (-LEAST_H / self.smoothing_h).exp();
        Rate::from_pins_per_hour(self.sum / self.weight.max(least))
    }
}

const HOUR_MS: f64 = 3_600_000.0;
/// What has been seen counts as of so many hours at least, so that the first sale is not taken for a rush.
const LEAST_H: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cover_is_stock_by_rate_and_what_does_not_sell_lasts_longest() {
        let rate = Rate::from_pins_per_hour(40.0);
        assert_eq!(Cover::of(100, rate).to_string(), "2 h 30 min");
        assert_eq!(Cover::of(20, rate).to_string(), "30 min");
        assert_eq!(Cover::of(0, Rate::NONE).to_string(), "as long as nothing is sold");
        assert!(Cover::of(u64::MAX, Rate(1)) < Cover::of(0, Rate::NONE));
        assert_eq!((rate.pins_in_h(6), Rate(1).pins_in_h(1)), (240, 1));
        assert_eq!(rate.to_string(), "40.0 PINs/h");
    }

    #[test]
    fn a_first_sale_is_not_taken_for_a_rush() {
        let mut rate = SalesRate::new(24);
        rate.handle_sold(0, 0);
        rate.handle_sold(1, 1_000);
        assert!(rate.rate() <= Rate(4_100), "{}", rate.rate());
    }

    #[test]
    fn after_a_change_it_moves_two_thirds_of_the_way_in_one_smoothing_time() {
        let mut rate = SalesRate::known(24, Rate(100_000));
        rate.handle_sold(0, 0);
        rate.handle_sold(0, 24 * 3_600_000);
        assert!(rate.rate().0.abs_diff(36_788) < 10, "{}", rate.rate());
        rate.handle_empty(48 * 3_600_000);
        assert!(rate.rate().0.abs_diff(36_788) < 10, "an empty shelf is not a lack of buyers");
    }

    proptest! {
        #[test]
        fn a_constant_rate_is_found_whatever_the_intervals(
            per_minute in 1_u64..1_000,
            minutes in prop::collection::vec(1_u64..500, 20..60),
        ) {
            let mut rate = SalesRate::new(24);
            let mut now = 0;
            rate.handle_sold(0, now);
            for passed in minutes {
                now += passed * 60_000;
                rate.handle_sold(per_minute * passed, now);
            }
            prop_assume!(now > 3_600_000);
            prop_assert!(rate.rate().0.abs_diff(per_minute * 60_000) <= 1);
        }

        #[test]
        fn it_never_leaves_the_range_of_what_was_seen(
            seen in prop::collection::vec((0_u64..10_000, 0_u64..5_000_000), 1..50),
        ) {
            let mut rate = SalesRate::known(24, Rate(1000));
            let (mut now, mut highest, mut pending) = (0, 1.0_f64, 0);
            rate.handle_sold(0, now);
            for (pins, passed) in seen {
                now += passed;
                pending += pins;
                if passed > 0 {
                    highest = highest.max(pending as f64 * HOUR_MS / passed as f64);
                    pending = 0;
                }
                rate.handle_sold(pins, now);
                prop_assert!(rate.rate().0 as f64 <= highest * 1000.0 + 1.0);
            }
        }
    }
}
