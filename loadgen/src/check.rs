//! Every PIN that was received, and whether each is what it should be.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use wire::message::{Pin, Serial};

/// One PIN as a terminal received it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sale {
    /// The seller's number.
    pub seller: u32,
    /// The terminal's sequence there.
    pub sequence: u64,
    /// Names the PIN in the whole network: its block and index.
    pub reference: u64,
    /// The terminal, as an index among the run's.
    pub terminal: u32,
    /// What was asked for, as an index among the run's varieties; [`UNASKED`] if nothing was.
    pub variety: u16,
    /// An earlier run began it: the books may have had it before this run.
    pub resumed: bool,
    /// The PIN.
    pub pin: Pin,
    /// The serial.
    pub serial: Serial,
}

impl Sale {
    /// What names it: seller, terminal and sequence.
    pub(crate) fn name(&self) -> (u32, u32, u64) {
        (self.seller, self.terminal, self.sequence)
    }
}

/// The variety of a PIN that came for a sequence without an open question.
pub(crate) const UNASKED: u16 = u16::MAX;

/// What one thread received, in pieces that never move.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pieces: Vec<Vec<Sale>>,
}

impl Book {
    /// Adds a sale.
    pub(crate) fn push(&mut self, sale: Sale) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(sale),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(sale);
                self.pieces.push(piece);
            }
        }
    }

    /// All of them, in the order received.
    pub(crate) fn sales(&self) -> impl Iterator<Item = &Sale> {
        self.pieces.iter().flatten()
    }
}

/// In what way the network broke its promise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// One PIN, serial or reference for two sequences.
    SoldTwice,
    /// Two PINs for one sequence.
    AnswerChanged,
    /// A PIN of a block that belongs to another variety.
    OtherVariety,
    /// Not a PIN or not a serial.
    Malformed,
    /// A reply to another question than the one it names.
    Misplaced,
    /// The seller does not know, or not as sold, what it sold.
    Lost,
    /// The books do not balance, or not with what was received.
    Books,
}

impl Wrong {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::SoldTwice => "sold twice",
            Self::AnswerChanged => "answer changed",
            Self::OtherVariety => "other variety",
            Self::Malformed => "malformed",
            Self::Misplaced => "reply misplaced",
            Self::Lost => "lost",
            Self::Books => "books",
        }
    }
}

/// What was found wrong: how often in each way, and some examples.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Findings {
    /// How often.
    pub counts: std::collections::BTreeMap<Wrong, u64>,
    /// The first few, in words. No PIN is in them.
    pub examples: Vec<String>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, wrong: Wrong, what: impl FnOnce() -> String) {
        *self.counts.entry(wrong).or_default() += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{}: {}", wrong.words(), what()));
        }
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        for (wrong, count) in &other.counts {
            *self.counts.entry(*wrong).or_default() += count;
        }
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }

    /// How often one thing is wrong.
    #[must_use]
    pub fn count(&self, wrong: Wrong) -> u64 {
        self.counts.get(&wrong).copied().unwrap_or(0)
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// Compares every PIN with every other. `name` says a terminal's number by its index.
pub(crate) fn check(books: &[Book], name: impl Fn(u32) -> u64, findings: &mut Findings) {
    let sales: Vec<&Sale> = books.iter().flat_map(Book::sales).collect();
    let say = |sale: &Sale| {
        let serial = String::from_utf8_lossy(sale.serial.as_bytes()).into_owned();
        let (seller, terminal) = (sale.seller, name(sale.terminal));
        format!("seller {seller} terminal {terminal} sequence {} (serial {serial})", sale.sequence)
    };
    let mut varieties: HashMap<u64, &Sale> = HashMap::new();
    for sale in &sales {
        if !well_formed(sale) {
            findings.add(Wrong::Malformed, || say(sale));
        }
        if sale.variety != UNASKED {
            let first = varieties.entry(sale.reference >> BLOCK_BITS).or_insert(sale);
            if first.variety != sale.variety {
                findings.add(Wrong::OtherVariety, || {
                    format!(
                        "{} and {} asked for different varieties and got one block's",
                        say(first),
                        say(sale)
                    )
                });
            }
        }
    }
    // A sequence may appear more than once only because its PIN came again after an answer.
    let mut again: HashMap<(u32, u32, u64), (&Sale, bool)> = HashMap::new();
    for sale in sales.iter().filter(|sale| sale.variety == UNASKED) {
        again.insert(sale.name(), (sale, false));
    }
    if !again.is_empty() {
        for sale in &sales {
            let Some((other, was_asked)) = again.get_mut(&sale.name()) else { continue };
            *was_asked |= sale.variety != UNASKED;
            if (other.reference, other.pin) != (sale.reference, sale.pin) {
                findings.add(Wrong::AnswerChanged, || say(sale));
            }
        }
        for (sale, _) in again.values().filter(|(_, was_asked)| !was_asked) {
            findings.add(Wrong::Misplaced, || say(sale));
        }
    }
    let random = RandomState::new();
    twice(&sales, |sale| random.hash_one(sale.pin.as_bytes()), |a, b| a.pin == b.pin, &say, findings);
    twice(
        &sales,
        |sale| random.hash_one(sale.serial.as_bytes()),
        |a, b| a.serial == b.serial,
        &say,
        findings,
    );
    twice(&sales, |sale| sale.reference, |a, b| a.reference == b.reference, &say, findings);
}

/// Finds what two different sequences have in common: sorted by hash, then compared exactly.
fn twice(
    sales: &[&Sale],
    hash: impl Fn(&Sale) -> u64,
    same: impl Fn(&Sale, &Sale) -> bool,
    say: &impl Fn(&Sale) -> String,
    findings: &mut Findings,
) {
    let mut order: Vec<(u64, u32)> = (0u32..).zip(sales).map(|(at, sale)| (hash(sale), at)).collect();
    order.sort_unstable();
    for run in order.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        for (place, (_, at)) in run.iter().enumerate() {
            let sale = sales[*at as usize];
            let twin = run[..place]
                .iter()
                .map(|(_, at)| sales[*at as usize])
                .find(|other| same(other, sale) && other.name() != sale.name());
            if let Some(twin) = twin {
                findings.add(Wrong::SoldTwice, || format!("{} and {}", say(twin), say(sale)));
            }
        }
    }
}

fn well_formed(sale: &Sale) -> bool {
    let (pin, serial) = (sale.pin.as_bytes(), sale.serial.as_bytes());
    !pin.is_empty()
        && !serial.is_empty()
        && pin.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && serial.iter().all(u8::is_ascii_alphanumeric)
}

const PIECE: usize = 1 << 14;
const EXAMPLES_MAX: usize = 20;
/// A reference is block × 65,536 + index.
const BLOCK_BITS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(terminal: u32, sequence: u64, reference: u64, variety: u16, pin: &str, serial: &str) -> Sale {
        let (pin, serial) = (Pin::new(pin.as_bytes()).unwrap(), Serial::new(serial.as_bytes()).unwrap());
        Sale { seller: 1, sequence, reference, terminal, variety, resumed: false, pin, serial }
    }

    fn found(sales: &[Sale]) -> Findings {
        let mut books = [Book::default(), Book::default()];
        for (at, sale) in sales.iter().enumerate() {
            books[at % 2].push(*sale);
        }
        let mut findings = Findings::default();
        check(&books, u64::from, &mut findings);
        findings
    }

    #[test]
    fn good_sales_are_found_good_and_the_same_answer_again_too() {
        let first = sale(0, 1, 65_536, 0, "1234-5678", "A1");
        let again = Sale { variety: UNASKED, ..first };
        let sales =
            [first, sale(0, 2, 65_537, 0, "1234-5679", "A2"), sale(1, 1, 131_072, 1, "99", "B1"), again];
        assert!(found(&sales).is_empty());
    }

    #[test]
    fn a_pin_a_serial_or_a_reference_that_comes_twice_is_found() {
        let first = sale(0, 1, 65_536, 0, "1234", "A1");
        let others = [(65_537, "1234", "A2"), (65_537, "1235", "A1"), (65_536, "1235", "A2")];
        for (reference, pin, serial) in others {
            let findings = found(&[first, sale(1, 1, reference, 0, pin, serial)]);
            assert_eq!(findings.count(Wrong::SoldTwice), 1);
            assert!(!findings.examples[0].contains("1234"), "no PIN in an example");
        }
    }

    #[test]
    fn another_answer_another_variety_and_what_is_no_pin_are_found() {
        let first = sale(0, 1, 65_536, 0, "1234", "A1");
        let changed = found(&[first, sale(0, 1, 65_540, UNASKED, "1239", "A9")]);
        assert_eq!(changed.count(Wrong::AnswerChanged), 1);
        let other = found(&[first, sale(1, 1, 65_537, 1, "1235", "A2")]);
        assert_eq!(other.count(Wrong::OtherVariety), 1);
        let malformed = found(&[sale(0, 1, 1, 0, "12 34", "A1"), sale(0, 2, 2, 0, "1", "")]);
        assert_eq!(malformed.count(Wrong::Malformed), 2);
    }
}
