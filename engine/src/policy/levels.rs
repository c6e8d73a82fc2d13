//! The marks of a node: below low it asks, up to target; above high the hub may take back.

use super::position::Position;
use super::rate::{Cover, Rate};
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The marks of one node for one variety, in PINs; never out of order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Marks")]
pub struct Levels {
    low: u64,
    target: u64,
    high: u64,
}

impl Levels {
    /// Marks in PINs.
    ///
    /// # Errors
    ///
    /// They are not in the order low, target, high, or target is 0.
    pub fn new(low: u64, target: u64, high: u64) -> Result<Self, LevelsError> {
        match low <= target && target <= high && target > 0 {
            true => Ok(Self { low, target, high }),
            false => Err(LevelsError { low, target, high }),
        }
    }

    /// PINs below which the node asks.
    #[must_use]
    pub fn low(&self) -> u64 {
        self.low
    }

    /// PINs that it asks up to.
    #[must_use]
    pub fn target(&self) -> u64 {
        self.target
    }

    /// PINs above which the hub may take back.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.high
    }

    /// How many PINs a node asks for that has `held` of them in stock or on their way; 0 at the low mark and above.
    #[must_use]
    pub fn shortfall(&self, held: u64) -> u64 {
        if held < self.low { self.target - held } else { 0 }
    }
}

/// Marks that are no marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("low {low}, target {target}, high {high}: marks go up in this order, and the target is not 0")]
pub struct LevelsError {
    low: u64,
    target: u64,
    high: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Marks {
    low: u64,
    target: u64,
    high: u64,
}

impl TryFrom<Marks> for Levels {
    type Error = LevelsError;

    fn try_from(Marks { low, target, high }: Marks) -> Result<Self, LevelsError> {
        Self::new(low, target, high)
    }
}

/// Where marks come from. In a configuration file `"auto"`, or a table of `low`, `target` and `high` in PINs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LevelRule {
    /// They follow sales.
    #[default]
    Auto,
    /// An operator set them.
    Fixed(Levels),
}

impl LevelRule {
    /// The marks of a node that sells at `rate`.
    #[must_use]
    pub fn levels(&self, rate: Rate, auto: &AutoLevels) -> Levels {
        match self {
            Self::Auto => auto.levels(rate),
            Self::Fixed(levels) => *levels,
        }
    }
}

impl<'de> Deserialize<'de> for LevelRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = LevelRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a table of low, target and high")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<LevelRule, E> {
                match word {
                    "auto" => Ok(LevelRule::Auto),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LevelRule, A::Error> {
                Levels::deserialize(MapAccessDeserializer::new(map)).map(LevelRule::Fixed)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// How marks follow the smoothed rate of sales: hours of cover, and never less than a floor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoLevels {
    /// Low mark, in hours of cover.
    pub low_h: u32,
    /// Target, in hours of cover.
    pub target_h: u32,
    /// High mark, in hours of cover.
    pub high_h: u32,
    /// The least marks, in PINs: where little is sold and nothing is known yet.
    pub floor: Levels,
}

impl Default for AutoLevels {
    fn default() -> Self {
        Self { low_h: 6, target_h: 12, high_h: 18, floor: Levels { low: 50, target: 100, high: 200 } }
    }
}

impl AutoLevels {
    /// Whether the hours go up from low to high. Hours out of order are put in order by [`Self::levels`], but are a mistake.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.low_h <= self.target_h && self.target_h <= self.high_h
    }

    /// The marks at a rate of sales.
    #[must_use]
    pub fn levels(&self, rate: Rate) -> Levels {
        let low = rate.pins_in_h(self.low_h).max(self.floor.low);
        let target = rate.pins_in_h(self.target_h).max(self.floor.target).max(low);
        let high = rate.pins_in_h(self.high_h).max(self.floor.high).max(target);
        Levels { low, target, high }
    }
}

/// What an operator hears of a node's stock of a variety, before a mark is crossed and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// Nothing is left.
    Empty,
    /// It will be empty.
    EmptySoon(Cover),
    /// It is below its low mark.
    BelowLow(Cover),
    /// It will be below its low mark.
    BelowLowSoon(Cover),
    /// It is above its high mark.
    AboveHigh,
    /// It will be above its high mark when what is on its way has arrived.
    AboveHighSoon,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::EmptySoon(left) => write!(f, "empty in {left}"),
            Self::BelowLow(left) => write!(f, "below its low mark, lasts {left}"),
            Self::BelowLowSoon(left) => write!(f, "below its low mark in {left}"),
            Self::AboveHigh => f.write_str("above its high mark"),
            Self::AboveHighSoon => f.write_str("above its high mark when all has arrived"),
        }
    }
}

/// The worst that is to be said of a node's stock within the next `ahead_h` hours, if sales stay as they are. What is
/// on its way does not count as stock until it is there.
#[must_use]
pub fn warning(node: &Position, ahead_h: u32) -> Option<Warning> {
    let Position { on_hand, in_flight, levels, rate, .. } = *node;
    let left = Cover::of(on_hand, rate);
    let to_low = Cover::of(on_hand.saturating_sub(levels.low), rate);
    let ahead = Cover::from_h(ahead_h);
    if on_hand == 0 {
        Some(Warning::Empty)
    } else if left <= ahead {
        Some(Warning::EmptySoon(left))
    } else if on_hand < levels.low {
        Some(Warning::BelowLow(left))
    } else if to_low <= ahead {
        Some(Warning::BelowLowSoon(to_low))
    } else if on_hand > levels.high {
        Some(Warning::AboveHigh)
    } else if on_hand.saturating_add(in_flight) > levels.high {
        Some(Warning::AboveHighSoon)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn h02_below_the_low_mark_it_asks_up_to_the_target() {
        let levels = Levels::new(100, 500, 800).unwrap();
        assert_eq!((levels.shortfall(100), levels.shortfall(99), levels.shortfall(0)), (0, 401, 500));
    }

    #[test]
    fn marks_are_read_as_auto_or_as_a_table() {
        #[derive(Deserialize, Debug)]
        struct File {
            levels: LevelRule,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.levels);
        assert_eq!(read("levels = \"auto\""), Ok(LevelRule::Auto));
        let marks = read("levels = { low = 100, target = 500, high = 800 }");
        assert_eq!(marks, Ok(LevelRule::Fixed(Levels::new(100, 500, 800).unwrap())));
        for (wrong, why) in [
            ("levels = \"automatic\"", "\"auto\" or a table"),
            ("levels = { low = 600, target = 500, high = 800 }", "go up in this order"),
            ("levels = { low = 1, target = 5, high = 8, hihg = 9 }", "unknown field"),
            ("levels = 7", "\"auto\" or a table"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_warning_comes_before_the_mark_is_crossed() {
        let levels = Levels::new(100, 500, 800).unwrap();
        let at = |on_hand, in_flight| {
            let rate = Rate::from_pins_per_hour(40.0);
            warning(&Position { on_hand, in_flight, levels, rate, ..Position::default() }, 2)
        };
        assert_eq!(at(181, 0), None);
        assert_eq!(at(180, 0).unwrap().to_string(), "below its low mark in 2 h 0 min");
        assert_eq!(at(99, 401).unwrap().to_string(), "below its low mark, lasts 2 h 28 min");
        assert_eq!(at(79, 0).unwrap().to_string(), "empty in 1 h 58 min");
        assert_eq!(at(0, 500), Some(Warning::Empty));
        assert_eq!(at(500, 301), Some(Warning::AboveHighSoon));
        assert_eq!(at(801, 0), Some(Warning::AboveHigh));
    }

    proptest! {
        #[test]
        fn automatic_marks_are_in_order_grow_with_sales_and_keep_to_the_floor(
            rate in 0_u64..1 << 40, more in 0_u64..1 << 40,
            low_h in 0_u32..100, target_h in 0_u32..100, high_h in 0_u32..100,
        ) {
            let auto = AutoLevels { low_h, target_h, high_h, ..AutoLevels::default() };
            let (less, more) = (auto.levels(Rate(rate)), auto.levels(Rate(rate + more)));
            prop_assert!(Levels::new(less.low, less.target, less.high).is_ok());
            prop_assert!(less.low >= auto.floor.low && less.target >= auto.floor.target && less.high >= auto.floor.high);
            prop_assert!(less.low <= more.low && less.target <= more.target && less.high <= more.high);
        }
    }
}
