//! One order in the books.

use crate::ids::{OrderId, VarietyId};
use crate::policy::Order;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An order to a supplier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// Its number, never given to another.
    pub number: OrderId,
    /// What is ordered.
    pub variety: VarietyId,
    /// The supplier's name.
    pub supplier: String,
    /// How many PINs.
    pub ordered: u64,
    /// How many of them came.
    pub received: u64,
    /// How it stands.
    pub state: OrderState,
    /// When it was decided, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Why it was decided.
    pub reason: Order,
}

impl OrderRow {
    /// PINs that are still to come.
    #[must_use]
    pub fn missing(&self) -> u64 {
        if self.state.is_open() { self.ordered.saturating_sub(self.received) } else { 0 }
    }
}

/// How an order stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum OrderState {
    /// Decided, its number is durable; the supplier is being told.
    Placing = 0,
    /// The supplier has been told.
    Placed = 1,
    /// Nobody knows whether the supplier has been told. It is not told again unless an operator asks for that.
    InDoubt = 2,
    /// All that was ordered has come, or an operator says that no more will.
    Done = 3,
    /// An operator has given it up.
    Cancelled = 4,
}

impl OrderState {
    /// The state with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Placing, Self::Placed, Self::InDoubt, Self::Done, Self::Cancelled]
            .get(usize::from(byte))
            .copied()
    }

    /// Whether more of it is to come.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Placing | Self::Placed | Self::InDoubt)
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Placing => "placing",
            Self::Placed => "placed",
            Self::InDoubt => "in doubt",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        })
    }
}
