//! What the policy is told of one variety: where its PINs are, and who wants some.

use super::levels::{AutoLevels, Levels};
use super::rate::{Cover, Rate};
use crate::ids::SellerId;
use serde::{Deserialize, Serialize};

/// The hub's own stock of a variety.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Central {
    /// PINs in the central inventory that may be given: not those that are set aside or expire too soon.
    pub on_hand: u64,
    /// PINs that were recalled or returned and have not arrived: asked for at nodes, or in transfer to the hub.
    pub returning: u64,
    /// The hub is going offline: it calls nothing back any more.
    pub is_draining: bool,
}

/// One node's stock of a variety.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Whose.
    pub node: SellerId,
    /// Whether stock may be moved to it and from it.
    pub standing: Standing,
    /// PINs in its inventory by its last report, those included that a recall has asked for.
    pub on_hand: u64,
    /// PINs on their way to it.
    pub in_flight: u64,
    /// Of `on_hand`: PINs that open recalls ask for and it has not given up yet.
    pub recalling: u64,
    /// Its marks.
    pub levels: Levels,
    /// How fast it sells.
    pub rate: Rate,
    /// PINs that its disk has room for beyond what it holds and what is on its way; `None`: not known.
    pub room: Option<u64>,
}

impl Position {
    /// PINs that it will have when what is under way has arrived.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.spare().saturating_add(self.in_flight)
    }

    /// PINs that are there and that nobody has called for.
    #[must_use]
    pub fn spare(&self) -> u64 {
        self.on_hand.saturating_sub(self.recalling)
    }

    /// How long the PINs last that it will have.
    #[must_use]
    pub fn cover(&self) -> Cover {
        Cover::of(self.held(), self.rate)
    }
}

impl Default for Position {
    fn default() -> Self {
        Self {
            node: SellerId(0),
            standing: Standing::Open,
            on_hand: 0,
            in_flight: 0,
            recalling: 0,
            levels: AutoLevels::default().floor,
            rate: Rate::NONE,
            room: None,
        }
    }
}

/// Whether stock may be moved to a node and from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is there.
    Open,
    /// It does not answer. Unreachable is not lost: nothing of it is given to others.
    Away,
    /// It is going offline: it gets nothing, and all it has comes back.
    Draining,
}

/// A node's wish for stock of the variety.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// The node's number for it.
    pub id: u64,
    /// Who asks.
    pub node: SellerId,
    /// PINs not granted yet.
    pub pins: u64,
    /// Terminals wait for these PINs now.
    pub is_urgent: bool,
}
