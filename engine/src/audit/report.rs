//! What an audit says.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The outcome of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether law 1 holds: nothing was found and every sum is right.
    pub balanced: bool,
    /// By variety number.
    pub varieties: BTreeMap<u32, Tally>,
    /// The durable journal position read of each seller, by seller number.
    pub positions: BTreeMap<u32, u64>,
    /// What is off.
    pub findings: Vec<Finding>,
}

/// Where the PINs of one variety are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The variety's code, if somebody filled it in with [`Report::name_varieties`].
    pub code: String,
    /// Ever received from suppliers.
    pub received: u64,
    /// In the hub's inventory.
    pub hub: u64,
    /// Given by the hub, not taken yet.
    pub in_transfer: u64,
    /// In the sellers' stock.
    pub at_seller: u64,
    /// Sold and not voided.
    pub sold: u64,
    /// Expired, damaged or voided.
    pub withdrawn: u64,
    /// Held by sellers that were declared lost, or whose books were not there.
    pub in_doubt: u64,
}

impl Tally {
    /// What was received less everything that was found: 0 unless law 1 is broken.
    #[must_use]
    pub fn difference(&self) -> i128 {
        let found = self.hub + self.in_transfer + self.at_seller + self.sold + self.withdrawn + self.in_doubt;
        i128::from(self.received) - i128::from(found)
    }
}

/// A range of PINs that are not in exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong with them.
    pub kind: FindingKind,
    /// Their variety's number; 0 if the block is unknown.
    pub variety: u32,
    /// Their block.
    pub block: u64,
    /// Index of the first.
    pub start: u32,
    /// One past the index of the last.
    pub end: u32,
    /// Every place that claims them, in words.
    pub places: Vec<String>,
    /// The serials of the first and the last, if [`Report::name_serials`] found them.
    pub serials: Option<(String, String)>,
}

/// In what way a range is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// In no place.
    Missing,
    /// In more than one place.
    Twice,
    /// In one place, but not where the hub gave them.
    Misplaced,
    /// At the right seller under another ownership generation or variety.
    Mismatched,
    /// Claimed by someone though never received.
    Unknown,
}

impl Report {
    /// Fills in the codes of the varieties.
    pub fn name_varieties(&mut self, mut code: impl FnMut(u32) -> Option<String>) {
        for (&variety, tally) in &mut self.varieties {
            tally.code = code(variety).unwrap_or_default();
        }
    }

    /// Fills in the serials of the findings: `serial` is asked for a block and an index.
    pub fn name_serials(&mut self, mut serial: impl FnMut(u64, u32) -> Option<String>) {
        for finding in &mut self.findings {
            let (first, last) =
                (serial(finding.block, finding.start), serial(finding.block, finding.end - 1));
            finding.serials = first.zip(last);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>10}{:>6}",
            "variety", "received", "hub", "transfer", "at seller", "sold", "withdrawn", "in doubt", "off"
        )?;
        for (variety, tally) in &self.varieties {
            let name = if tally.code.is_empty() { format!("variety {variety}") } else { tally.code.clone() };
            let Tally { received, hub, in_transfer, at_seller, sold, withdrawn, in_doubt, .. } = tally;
            writeln!(
                f,
                "{name:<24}{received:>12}{hub:>12}{in_transfer:>12}{at_seller:>12}{sold:>12}{withdrawn:>12}{in_doubt:>10}{:>6}",
                tally.difference()
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        f.write_str(if self.balanced {
            "balanced: every PIN is in exactly one place\n"
        } else {
            "NOT BALANCED\n"
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FindingKind::Missing => "in no place",
            FindingKind::Twice => "in more than one place",
            FindingKind::Misplaced => "not where they were given",
            FindingKind::Mismatched => "under another generation or variety",
            FindingKind::Unknown => "never received",
        };
        let count = self.end - self.start;
        write!(f, "{count} PINs {what}: block {:#x}, {}..{}", self.block, self.start, self.end)?;
        if let Some((first, last)) = &self.serials {
            write!(f, ", serials {first} to {last}")?;
        }
        if !self.places.is_empty() {
            write!(f, " ({})", self.places.join("; "))?;
        }
        Ok(())
    }
}
