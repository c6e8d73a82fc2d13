//! Why stock moves and why a request waits: values that are stored with a decision and that an operator can read.

use super::rate::Cover;
use crate::ids::SellerId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why stock is moved. Amounts are PINs of one variety.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// Hub to node: terminals wait there.
    Urgent {
        /// What it asked for.
        asked: u64,
    },
    /// Hub to node: it asked, and the hub had enough for all who asked.
    Asked {
        /// What it asked for.
        asked: u64,
        /// What it had, and what was on its way to it.
        held: u64,
        /// Its target.
        target: u64,
    },
    /// Hub to node: it asked, and the hub had less than was asked for by all.
    Shared {
        /// What it asked for.
        asked: u64,
        /// What the hub had for everybody.
        central: u64,
        /// What everybody asked for.
        asked_by_all: u64,
        /// How long its stock lasts with what it gets.
        cover: Cover,
    },
    /// Node to hub: others need it, and it is above its high mark.
    Surplus {
        /// What those who asked lack.
        lacking: u64,
        /// The first of them.
        #[serde(with = "number")]
        first: SellerId,
        /// What the giver had.
        had: u64,
        /// Its high mark.
        high: u64,
        /// Its target, which it keeps.
        target: u64,
    },
    /// Node to hub: no node is above its high mark, and others need it more.
    Levelled {
        /// What those who need it more lack.
        lacking: u64,
        /// The first of them.
        #[serde(with = "number")]
        first: SellerId,
        /// How long the stock of the first lasts; `None`: its terminals wait now.
        cover: Option<Cover>,
        /// What the giver had.
        had: u64,
        /// How long that lasts.
        had_cover: Cover,
        /// Its low mark, which it keeps.
        low: u64,
    },
    /// Node to hub: it is above its high mark, though nobody needs it now.
    TakenBack {
        /// What it had.
        had: u64,
        /// Its high mark.
        high: u64,
        /// Its target, which it keeps.
        target: u64,
    },
    /// Node to hub: it is going offline.
    NodeDrain {
        /// What it had.
        had: u64,
    },
    /// Node to hub: it was declared lost, is there again, and gives back what it has not sold.
    NodeLost {
        /// What it had.
        had: u64,
    },
    /// Hub to node: what came back from a node that is going offline is passed on.
    PassedOn {
        /// What the receiver had, and what was on its way to it.
        held: u64,
        /// Its target.
        target: u64,
    },
    /// Hub to node: the hub is going offline and gives away all it has.
    HubDrain {
        /// What the hub had.
        central: u64,
        /// How long the receiver's stock lasts with it.
        cover: Cover,
    },
}

impl Reason {
    /// Whether terminals wait for the stock, so that it passes everything else.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Urgent { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Urgent { asked } => write!(f, "terminals waited for {}", Pins(asked)),
            Self::Asked { asked, held, target } => {
                write!(f, "asked for {}: it had {held} of its target {target}", Pins(asked))
            }
            Self::Shared { asked, central, asked_by_all, cover } => write!(
                f,
                "asked for {}; the hub had {central} for {asked_by_all} asked by all, shared so that covers meet; \
                 lasts {cover} with this",
                Pins(asked)
            ),
            Self::Surplus { lacking, first, had, high, target } => write!(
                f,
                "the hub lacked {} for others, seller {} first; this one had {had}, above its high mark {high}, and \
                 keeps its target {target}",
                Pins(lacking),
                first.0
            ),
            Self::Levelled { lacking, first, cover, had, had_cover, low } => {
                write!(f, "the hub lacked {} for others, seller {} first, ", Pins(lacking), first.0)?;
                match cover {
                    Some(cover) => write!(f, "whose stock lasts {cover}")?,
                    None => f.write_str("whose terminals waited")?,
                }
                write!(
                    f,
                    "; none was above its high mark; this one had {had}, for {had_cover}, and keeps its low mark {low}"
                )
            }
            Self::TakenBack { had, high, target } => {
                write!(f, "it had {had}, above its high mark {high}, and keeps its target {target}")
            }
            Self::NodeDrain { had } => write!(f, "it goes offline and returns all it has, {}", Pins(had)),
            Self::NodeLost { had } => {
                write!(
                    f,
                    "it was declared lost, came back with its journal, and returns what it has, {}",
                    Pins(had)
                )
            }
            Self::PassedOn { held, target } => {
                write!(f, "passed on from a seller that goes offline; it had {held} of its target {target}")
            }
            Self::HubDrain { central, cover } => write!(
                f,
                "the hub goes offline and gave away {}, shared so that covers meet; lasts {cover} with this",
                Pins(central)
            ),
        }
    }
}

/// Why a request waits, or a part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Wait {
    /// The node is not known, or not for this variety.
    Unknown,
    /// The node does not answer.
    Away,
    /// The node is going offline.
    Draining,
    /// The node has no room for it.
    NoRoom,
    /// What it lacks is on its way from other nodes to the hub.
    Coming,
    /// The hub has none, no node is above its high mark, and this one's stock lasts long enough not to take from those below.
    NotCritical {
        /// How long its stock lasts.
        cover: Cover,
        /// Below this it would be critical.
        critical: Cover,
    },
    /// The hub has none, and no node has PINs to spare above its low mark that last longer than this one's.
    NothingToSpare,
    /// The hub has none and is going offline, so it calls nothing back.
    HubDraining,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the hub knows of no such seller for this variety"),
            Self::Away => f.write_str("the seller does not answer"),
            Self::Draining => f.write_str("the seller is going offline"),
            Self::NoRoom => f.write_str("the seller has no room for more"),
            Self::Coming => f.write_str("the hub has none left; it is on its way back from other sellers"),
            Self::NotCritical { cover, critical } => write!(
                f,
                "the hub has none left, no seller is above its high mark, and this one's stock lasts {cover} (critical \
                 below {critical})"
            ),
            Self::NothingToSpare => {
                f.write_str("the hub has none left, and no seller has any to spare above its low mark")
            }
            Self::HubDraining => f.write_str("the hub has none left and is going offline"),
        }
    }
}

/// Why stock that is to go has nowhere to go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stuck {
    /// No node may get stock: all are away or going offline.
    NoNode,
    /// Those that may get stock have no room for more.
    NoRoom,
    /// Everybody has reached the target: it stays at the hub.
    AtTarget,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "no seller is there to take it",
            Self::NoRoom => "the sellers that are there have no room for it",
            Self::AtTarget => "every seller has reached its target; the hub keeps it",
        })
    }
}

struct Pins(u64);

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} PIN{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// A seller's number as a plain number.
mod number {
    use super::SellerId;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(seller: &SellerId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(seller.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SellerId, D::Error> {
        u32::deserialize(deserializer).map(SellerId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_can_be_stored_and_read_by_an_operator() {
        let surplus = Reason::Surplus { lacking: 401, first: SellerId(1), had: 900, high: 800, target: 500 };
        let levelled = Reason::Levelled {
            lacking: 1,
            first: SellerId(2),
            cover: None,
            had: 70,
            had_cover: Cover::from_h(7),
            low: 50,
        };
        assert_eq!(
            surplus.to_string(),
            "the hub lacked 401 PINs for others, seller 1 first; this one had 900, above its high mark 800, and keeps \
             its target 500"
        );
        assert_eq!(
            levelled.to_string(),
            "the hub lacked 1 PIN for others, seller 2 first, whose terminals waited; none was above its high mark; \
             this one had 70, for 7 h 0 min, and keeps its low mark 50"
        );
        let unending = Reason::HubDrain { central: 5, cover: Cover::UNENDING };
        for reason in [surplus, levelled, unending] {
            let stored = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<Reason>(&stored).unwrap(), reason, "{stored}");
        }
    }
}
