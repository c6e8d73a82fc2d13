//! What a run is made of: drawn from a seed, and a value that can be made smaller, printed and entered again.

use super::dice::Dice;
use super::faults::{CRASHES, Kind, Kinds};
use crate::planted::Fault;
use std::collections::BTreeSet;
use std::fmt;

/// A run. The same plan gives the same run, bit for bit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Everything that the rest of the plan leaves open follows from it.
    pub seed: u64,
    /// Steps with faults; those in which everything comes to rest follow.
    pub steps: u64,
    /// Terminals.
    pub terminals: u32,
    /// Servers below the hub.
    pub servers: u32,
    /// Nodes below servers, one server after the other.
    pub caches: u32,
    /// Workers of each node.
    pub workers: u32,
    /// One step in so many begins with a fault.
    pub rarity: u64,
    /// PINs of each of the varieties that do not run out.
    pub stock: u32,
    /// Whether nodes hold little, so that what is left moves about.
    pub scarce: bool,
    /// Relays that carry terminals to servers.
    pub relays: u32,
    /// Whether one variety comes by thousands, so that transfers are long on their way.
    pub bulk: bool,
    /// The kinds of faults that happen.
    pub kinds: Kinds,
    /// Only these faults happen, numbered in their order; `None`: all.
    pub only: Option<BTreeSet<u64>>,
    /// A mistake planted in the program.
    pub planted: Option<Fault>,
}

impl Plan {
    /// The plan of a seed: what sizes and which faults.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ PLAN_SALT);
        let mut kinds = Kinds::all();
        // Half of the runs do without some kinds, so that others are seen undisturbed.
        if dice.one_in(2) {
            for &kind in Kind::ALL {
                if dice.one_in(3) && !CRASHES.contains(&kind) {
                    kinds.remove(kind);
                }
            }
        }
        // Few terminals leave their windows behind, many compete for what is left.
        let terminals = [2, 4, 4, 8, 12, 40][dice.below(6) as usize];
        Self {
            seed,
            steps: 12_000 + dice.below(18_000),
            terminals,
            servers: 1 + dice.below(3) as u32,
            caches: dice.below(3) as u32,
            workers: 1 + dice.below(3) as u32,
            rarity: [40, 120, 400, 1_200][dice.below(4) as usize],
            stock: [30, 200, 200, 400][dice.below(4) as usize],
            scarce: dice.one_in(2),
            relays: dice.below(3) as u32,
            bulk: dice.one_in(12),
            kinds,
            only: None,
            planted: None,
        }
    }
}

impl fmt::Display for Plan {
    /// The options of `simulate` that give this run again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drawn = Self::of(self.seed);
        write!(f, "--seed {}", self.seed)?;
        for (name, own, drawn) in [
            ("steps", self.steps, drawn.steps),
            ("terminals", u64::from(self.terminals), u64::from(drawn.terminals)),
            ("servers", u64::from(self.servers), u64::from(drawn.servers)),
            ("caches", u64::from(self.caches), u64::from(drawn.caches)),
            ("workers", u64::from(self.workers), u64::from(drawn.workers)),
            ("rarity", self.rarity, drawn.rarity),
            ("stock", u64::from(self.stock), u64::from(drawn.stock)),
            ("relays", u64::from(self.relays), u64::from(drawn.relays)),
        ] {
            if own != drawn {
                write!(f, " --{name} {own}")?;
            }
        }
        for (name, own, drawn) in [("scarce", self.scarce, drawn.scarce), ("bulk", self.bulk, drawn.bulk)] {
            if own != drawn {
                write!(f, " --{name} {own}")?;
            }
        }
        if self.kinds != drawn.kinds {
            write!(f, " --kinds {}", self.kinds)?;
        }
        if let Some(only) = &self.only {
            let only: Vec<_> = only.iter().map(u64::to_string).collect();
            write!(f, " --only {}", if only.is_empty() { "none".to_owned() } else { only.join(",") })?;
        }
        if let Some(fault) = self.planted {
            write!(f, " --planted {fault}")?;
        }
        Ok(())
    }
}

/// So that plans and runs of a seed do not follow from the same numbers.
const PLAN_SALT: u64 = 0x9a11_c0de_0000_0000;
