//! How much stock goes back and forth: what keeps taking back within bounds.

use serde::{Deserialize, Serialize};

/// PINs of one variety sold and recalled lately. Both fade by e in a week, so that at any time
/// `recalled ≤ share × sold` of the faded sums means the same for the plain sums.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Churn {
    sold: f64,
    recalled: f64,
    at_ms: u64,
}

impl Churn {
    /// `sold` and `recalled` PINs more up to `now_ms`, in milliseconds of the caller's clock.
    pub fn handle_moved(&mut self, sold: u64, recalled: u64, now_ms: u64) {
        let kept = (-(now_ms.saturating_sub(self.at_ms) as f64) / FADING_MS).exp();
        self.at_ms = self.at_ms.max(now_ms);
        self.sold = self.sold * kept + sold as f64;
        self.recalled = self.recalled * kept + recalled as f64;
    }

    /// How many PINs may be taken back now that nobody asked for.
    #[must_use]
    pub fn take_back_max(&self) -> u64 {
        // A conversion of a float saturates: what is below 0 becomes 0.
        (self.sold * TAKE_BACK_SHARE - self.recalled) as u64
    }
}

/// PINs recalled for whatever reason per PIN sold, up to which stock is taken back that nobody has asked for. It leaves
/// something of the 0.05 that are allowed in all to recalls that somebody needs.
const TAKE_BACK_SHARE: f64 = 0.03;
const FADING_MS: f64 = 7.0 * 24.0 * 3_600_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn h05_what_is_taken_back_stays_below_its_share_of_what_is_sold(
            steps in prop::collection::vec((0_u64..10_000, 0_u64..500_000_000), 1..200),
        ) {
            let mut churn = Churn::default();
            let (mut now, mut sold, mut recalled) = (0, 0, 0);
            for (pins, passed) in steps {
                now += passed;
                churn.handle_moved(pins, 0, now);
                let back = churn.take_back_max();
                churn.handle_moved(0, back, now);
                sold += pins;
                recalled += back;
                prop_assert!(recalled as f64 <= 0.03 * sold as f64 + 1e-6, "{recalled} of {sold}");
            }
        }
    }
}
