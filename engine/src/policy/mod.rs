//! The hub's allocation policy: who gets how much of a variety, who gives it up, and when more is ordered.
//!
//! Pure functions over values that the caller brings: no clock, no store, no chance. Each looks at one variety at a time.
//! Amounts are whole PINs, rates are [`Rate`], stock is compared as hours of [`Cover`]. Every decision carries its reason
//! as a value with a `Display`. `spec/allocation.md` states inputs, units and the order of the rules; `simulate` runs them
//! over a demand trace.

mod allocation;
mod churn;
mod drain;
mod levels;
mod position;
mod rate;
mod reason;
mod recall;
mod reorder;
mod share;
pub mod simulate;

pub use allocation::{Plan, Queued, Transfer, View, allocate};
pub use churn::Churn;
pub use drain::{Remainder, distribute_hub, pass_on, return_all};
pub use levels::{AutoLevels, LevelRule, Levels, LevelsError, Warning, warning};
pub use position::{Central, Position, Request, Standing};
pub use rate::{Cover, Rate, SalesRate};
pub use reason::{Reason, Stuck, Wait};
pub use recall::{Need, Recall, recall_for, take_back};
pub use reorder::{ALIVE_DAYS, Idle, NetworkStock, Order, ReorderRule, reorder};

/// What may be set about the policy beside the levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// A node whose stock covers less than this many hours is critical: others give it from below their high marks.
    pub critical_h: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { critical_h: 2 }
    }
}
