//! Last days of validity.

use std::cmp::Ordering;

/// The last day on which a PIN may be used, in UTC, as year × 10,000 + month × 100 + day; 0: it does not expire.
///
/// Ordered by how soon it ends: what does not expire comes last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Expiry(pub u32);

impl Expiry {
    /// Does not expire.
    pub const NONE: Self = Self(0);

    /// The last day given by a calendar date; `None` if there is no such date between the years 1970 and 9999.
    #[must_use]
    pub fn from_date(year: u32, month: u32, day: u32) -> Option<Self> {
        let date = Self(year.checked_mul(10_000)? + month.checked_mul(100)?.checked_add(day)?);
        let known = (1970..=9999).contains(&year) && (1..=12).contains(&month) && day >= 1;
        (known && day <= days_of_month(year, month)).then_some(date)
    }

    /// Whether it expires at all.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// The first moment at which it is no longer valid, in milliseconds of Unix time; `u64::MAX` if it does not expire.
    /// Compare with this where the same expiry is checked often.
    #[must_use]
    pub fn ends_at_ms(self) -> u64 {
        if self == Self::NONE { u64::MAX } else { (self.unix_day() + 1) * DAY_MS }
    }

    /// Whether it is valid at `now_ms` of Unix time: through the whole of its last day.
    #[must_use]
    pub fn is_valid_at(self, now_ms: u64) -> bool {
        now_ms < self.ends_at_ms()
    }

    /// Whole days of validity left after today: 0 on the last day; `None` once expired; `u32::MAX` if it does not expire.
    #[must_use]
    pub fn days_left(self, now_ms: u64) -> Option<u32> {
        if self == Self::NONE {
            return Some(u32::MAX);
        }
        let left = self.unix_day().checked_sub(now_ms / DAY_MS)?;
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Days since 1970-01-01; 0 for dates before it. By Howard Hinnant's `days_from_civil`.
    fn unix_day(self) -> u64 {
        let (year, month, day) =
            (u64::from(self.0 / 10_000), u64::from(self.0 / 100 % 100), u64::from(self.0 % 100));
        // The year begins in March, so that the leap day is its last.
        let year = if month <= 2 { year.saturating_sub(1) } else { year };
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.saturating_sub(1);
        let day_of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + day_of_year;
        (year / 400 * 146_097 + day_of_era).saturating_sub(719_468)
    }
}

impl Ord for Expiry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.wrapping_sub(1).cmp(&other.0.wrapping_sub(1))
    }
}

impl PartialOrd for Expiry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Expiry {
    /// `2027-12-31`, or `none`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::NONE {
            return f.pad("none");
        }
        write!(f, "{:04}-{:02}-{:02}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

fn days_of_month(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

const DAY_MS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pin_is_valid_through_its_last_day_in_utc() {
        let expiry = Expiry::from_date(2027, 12, 31).unwrap();
        let new_year_ms = 1_830_297_600_000; // 2028-01-01T00:00:00Z
        assert!(expiry.is_valid_at(new_year_ms - 1));
        assert!(!expiry.is_valid_at(new_year_ms));
        assert_eq!(expiry.days_left(new_year_ms - 1), Some(0));
        assert_eq!(expiry.days_left(new_year_ms - DAY_MS - 1), Some(1));
        assert_eq!(expiry.days_left(new_year_ms), None);
        assert!(Expiry::NONE.is_valid_at(u64::MAX - 1));
    }

    #[test]
    fn only_dates_of_the_calendar_are_taken() {
        assert!(Expiry::from_date(2028, 2, 29).is_some());
        for (year, month, day) in [(2027, 2, 29), (2100, 2, 29), (2027, 13, 1), (2027, 0, 1), (2027, 4, 31)] {
            assert_eq!(Expiry::from_date(year, month, day), None);
        }
        assert_eq!(Expiry::from_date(u32::MAX, 1, 1), None);
        assert_eq!(Expiry::from_date(2027, 1, 0), None);
    }

    #[test]
    fn what_does_not_expire_is_ordered_last() {
        assert!(Expiry(20_271_231) < Expiry(20_280_101));
        assert!(Expiry(99_991_231) < Expiry::NONE);
    }

    proptest! {
        #[test]
        fn day_numbers_agree_with_the_calendar(day in 0i32..2_900_000) {
            let epoch = jiff::civil::date(1970, 1, 1);
            let date = epoch + jiff::Span::new().days(day);
            let [year, month, of_month] =
                [i32::from(date.year()), i32::from(date.month()), i32::from(date.day())].map(|part| u32::try_from(part).unwrap());
            let expiry = Expiry::from_date(year, month, of_month).unwrap();
            prop_assert_eq!(expiry.unix_day(), u64::try_from(day).unwrap());
        }

        #[test]
        fn any_number_has_an_answer(bits in any::<u32>(), now_ms in any::<u64>()) {
            let expiry = Expiry(bits);
            prop_assert_eq!(expiry.is_valid_at(now_ms), now_ms < expiry.ends_at_ms());
            if expiry.is_some() {
                prop_assert_eq!(expiry.is_valid_at(now_ms), expiry.days_left(now_ms).is_some());
            }
        }
    }
}
