//! What terminals received of one seller, held against every fact in its books.

use crate::check::{Book, Findings, Sale, UNASKED, Wrong};
use crate::terminals::Terminal;
use engine::ledger::{FactState, SequenceFact};
use std::collections::{HashMap, HashSet};

/// A sequence: the terminal, as an index among the run's, and the number.
pub(crate) type Sequence = (u32, u64);

/// The receipts of a run, of one seller's sales.
///
/// Give every fact since before the run to [`take`](Self::take), then those of before it of the terminals that
/// [`owed`](Self::owed) names to [`take_earlier`](Self::take_earlier), then [`finish`](Self::finish).
pub(crate) struct Receipts<'a> {
    terminals: &'a [Terminal],
    by_id: HashMap<u64, u32>,
    /// By terminal and sequence, each sequence once.
    sales: Vec<&'a Sale>,
    /// Which of `sales` are in the books.
    booked: Vec<bool>,
    /// Where the sales of each terminal begin, and where the last one's end.
    starts: Vec<usize>,
    /// The books' numbers of the run's varieties.
    varieties: HashMap<u32, u16>,
    /// Their outcome is not known to the terminals.
    open: HashSet<Sequence>,
    /// Sold by the books, with their reference, and in no receipt.
    unreceived: HashMap<Sequence, u64>,
    others: u64,
}

/// What came of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Compared {
    /// Receipts that are in the books as they should be.
    pub agreed: u64,
    /// Sales that the books hold of sequences whose outcome the terminals do not know.
    pub open: u64,
    /// Sales to terminals that are not of this run.
    pub others: u64,
}

impl Compared {
    /// Adds another seller's.
    pub(crate) fn merge(&mut self, other: Self) {
        self.agreed += other.agreed;
        self.open += other.open;
        self.others += other.others;
    }
}

impl<'a> Receipts<'a> {
    /// Puts them in order. `varieties` are the books' numbers of what was asked for.
    pub(crate) fn new(
        seller: u32,
        books: &'a [Book],
        terminals: &'a [Terminal],
        varieties: HashMap<u32, u16>,
        open: HashSet<Sequence>,
    ) -> Self {
        let asked = books.iter().flat_map(Book::sales);
        let asked = asked.filter(|sale| sale.seller == seller && sale.variety != UNASKED);
        let mut sales: Vec<&Sale> = asked.collect();
        sales.sort_unstable_by_key(|sale| (sale.terminal, sale.sequence));
        sales.dedup_by_key(|sale| (sale.terminal, sale.sequence));
        let mut starts = vec![0; terminals.len() + 1];
        for sale in &sales {
            starts[sale.terminal as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let by_id = (0..).zip(terminals).map(|(at, terminal)| (terminal.id.0, at)).collect();
        let booked = vec![false; sales.len()];
        let unreceived = HashMap::new();
        Self { terminals, by_id, sales, booked, starts, varieties, open, unreceived, others: 0 }
    }

    /// Takes in what the books say.
    pub(crate) fn take(&mut self, fact: &SequenceFact, findings: &mut Findings) {
        let Some(terminal) = self.terminal(fact) else {
            self.others += u64::from(fact.state == FactState::Sold);
            return;
        };
        let sequence = (terminal, fact.sequence);
        match (fact.state, self.find(sequence)) {
            (FactState::Sold, Some(at)) => self.compare(at, fact, findings),
            (FactState::Sold, None) => {
                self.unreceived.insert(sequence, fact.reference);
            }
            // Who does not know a sequence has it voided.
            (FactState::Voided, None) => drop(self.unreceived.remove(&sequence)),
            (FactState::Voided | FactState::Declined | FactState::Blocked, Some(_)) => {
                findings.add(Wrong::Books, || {
                    format!("{}: received, and {} by the books", name(fact), fact.state.word())
                });
            }
            (FactState::Declined | FactState::Blocked, None)
            | (FactState::Confirmed | FactState::Reprinted, _) => {}
        }
    }

    /// Terminals with receipts for sales that may have been made before the run and were not in the books since.
    pub(crate) fn owed(&self) -> Vec<u64> {
        let owed = self.sales.iter().zip(&self.booked).filter(|(sale, booked)| sale.resumed && !**booked);
        let mut owed: Vec<u64> = owed.map(|(sale, _)| self.terminals[sale.terminal as usize].id.0).collect();
        owed.dedup();
        owed
    }

    /// Takes in what the books said before the run.
    pub(crate) fn take_earlier(&mut self, fact: &SequenceFact, findings: &mut Findings) {
        let found = self.terminal(fact).and_then(|terminal| self.find((terminal, fact.sequence)));
        if let Some(at) = found.filter(|at| self.sales[*at].resumed && !self.booked[*at])
            && fact.state == FactState::Sold
        {
            self.compare(at, fact, findings);
        }
    }

    /// Says what is in one and not in the other. With `shared`, others may have bought too.
    pub(crate) fn finish(self, shared: bool, findings: &mut Findings) -> Compared {
        let name = |terminal: u32, sequence: u64| {
            format!("terminal {} sequence {sequence}", self.terminals[terminal as usize].id.0)
        };
        let mut compared = Compared { others: self.others, ..Compared::default() };
        for (sale, booked) in self.sales.iter().zip(&self.booked) {
            compared.agreed += u64::from(*booked);
            if !booked {
                findings.add(Wrong::Books, || {
                    format!("{}: received, and not in the books", name(sale.terminal, sale.sequence))
                });
            }
        }
        for (sequence, reference) in &self.unreceived {
            if self.open.contains(sequence) {
                compared.open += 1;
            } else {
                findings.add(Wrong::Books, || {
                    format!(
                        "{}: sold as {reference} by the books, and not received",
                        name(sequence.0, sequence.1)
                    )
                });
            }
        }
        if self.others > 0 && !shared {
            findings.add(Wrong::Books, || {
                format!(
                    "{} PINs were sold to terminals that are not of this run (--shared if that is meant)",
                    self.others
                )
            });
        }
        compared
    }

    fn terminal(&self, fact: &SequenceFact) -> Option<u32> {
        let at = *self.by_id.get(&fact.terminal)?;
        (self.terminals[at as usize].key_epoch.0 == fact.key_epoch).then_some(at)
    }

    fn find(&self, (terminal, sequence): Sequence) -> Option<usize> {
        let (start, end) = (self.starts[terminal as usize], self.starts[terminal as usize + 1]);
        let sales = &self.sales[start..end];
        // They nearly always follow each other without a gap.
        let guess = sequence.checked_sub(sales.first()?.sequence)? as usize;
        let found = match sales.get(guess) {
            Some(sale) if sale.sequence == sequence => guess,
            _ => sales.binary_search_by_key(&sequence, |sale| sale.sequence).ok()?,
        };
        Some(start + found)
    }

    fn compare(&mut self, at: usize, fact: &SequenceFact, findings: &mut Findings) {
        let sale = self.sales[at];
        if std::mem::replace(&mut self.booked[at], true) {
            findings.add(Wrong::Books, || format!("{}: sold twice by the books", name(fact)));
        } else if sale.reference != fact.reference {
            findings.add(Wrong::Books, || {
                format!(
                    "{}: received {}, sold as {} by the books",
                    name(fact),
                    sale.reference,
                    fact.reference
                )
            });
        } else if self.varieties.get(&fact.variety) != Some(&sale.variety) {
            findings.add(Wrong::Books, || format!("{}: another variety by the books", name(fact)));
        }
    }
}

fn name(fact: &SequenceFact) -> String {
    format!("terminal {} sequence {}", fact.terminal, fact.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::{KeyEpoch, Pin, Serial, TerminalId};

    const VARIETY: u32 = 7;
    const SELLER: u32 = 3;

    fn sale(terminal: u32, sequence: u64, reference: u64) -> Sale {
        let (pin, serial) = (Pin::new(b"1").unwrap(), Serial::new(b"A").unwrap());
        Sale { seller: SELLER, sequence, reference, terminal, variety: 0, resumed: false, pin, serial }
    }

    fn fact(terminal: u64, sequence: u64, state: FactState, reference: u64) -> SequenceFact {
        SequenceFact { terminal, key_epoch: 1, sequence, state, reference, variety: VARIETY }
    }

    fn sold(terminal: u64, sequence: u64, reference: u64) -> SequenceFact {
        fact(terminal, sequence, FactState::Sold, reference)
    }

    /// Terminals 10 and 11 against the books.
    fn compare(
        sales: &[Sale],
        facts: &[SequenceFact],
        open: &[Sequence],
        shared: bool,
    ) -> (Compared, Findings) {
        let mut book = Book::default();
        sales.iter().for_each(|sale| book.push(*sale));
        let terminal = |id| Terminal { id: TerminalId(id), key_epoch: KeyEpoch(1), key: [0; 32] };
        let (books, terminals) = ([book], [terminal(10), terminal(11)]);
        let mut findings = Findings::default();
        let varieties = HashMap::from([(VARIETY, 0)]);
        let mut receipts =
            Receipts::new(SELLER, &books, &terminals, varieties, open.iter().copied().collect());
        facts.iter().for_each(|fact| receipts.take(fact, &mut findings));
        let compared = receipts.finish(shared, &mut findings);
        (compared, findings)
    }

    #[test]
    fn receipts_and_books_that_say_the_same_agree() {
        let sales = [sale(1, 4, 104), sale(0, 1, 101), sale(1, 3, 103), sale(1, 9, 109)];
        let mut facts = vec![sold(10, 1, 101), sold(11, 3, 103), sold(11, 4, 104), sold(11, 9, 109)];
        facts.push(fact(11, 4, FactState::Confirmed, 0));
        let (compared, findings) = compare(&sales, &facts, &[], false);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(compared, Compared { agreed: 4, open: 0, others: 0 });
    }

    #[test]
    fn another_sellers_sales_are_in_its_own_books() {
        let other = Sale { seller: SELLER + 1, ..sale(0, 2, 102) };
        let (compared, findings) = compare(&[sale(0, 1, 101), other], &[sold(10, 1, 101)], &[], false);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(compared.agreed, 1);
    }

    #[test]
    fn one_changed_receipt_is_found_whatever_was_changed() {
        let (sales, facts) = ([sale(0, 1, 101), sale(1, 1, 102)], [sold(10, 1, 101), sold(11, 1, 102)]);
        let changed: [(Sale, u64); 4] = [
            (Sale { reference: 103, ..sales[1] }, 1),
            (Sale { variety: 1, ..sales[1] }, 1),
            // One that the books do not have, and one of the books' that nobody has.
            (Sale { sequence: 2, ..sales[1] }, 2),
            (Sale { terminal: 0, sequence: 2, ..sales[1] }, 2),
        ];
        for (changed, wrong) in changed {
            let (_, findings) = compare(&[sales[0], changed], &facts, &[], true);
            assert_eq!(findings.count(Wrong::Books), wrong, "{changed:?}: {findings:?}");
        }
    }

    #[test]
    fn what_is_in_one_and_not_in_the_other_is_found() {
        let found =
            |sales: &[Sale], facts: &[SequenceFact]| compare(sales, facts, &[], true).1.count(Wrong::Books);
        assert_eq!(found(&[sale(0, 1, 101)], &[]), 1);
        assert_eq!(found(&[], &[sold(10, 1, 101)]), 1);
        assert_eq!(found(&[sale(0, 1, 101)], &[sold(10, 1, 101), sold(10, 1, 101)]), 1, "booked twice");
        let voided = fact(10, 1, FactState::Voided, 101);
        assert_eq!(found(&[sale(0, 1, 101)], &[sold(10, 1, 101), voided]), 1);
        assert_eq!(found(&[], &[sold(10, 1, 101), voided]), 0, "nobody has it");
        assert_eq!(found(&[sale(0, 1, 101)], &[fact(10, 1, FactState::Declined, 0)]), 2);
        let other_epoch = SequenceFact { key_epoch: 2, ..sold(10, 1, 101) };
        assert_eq!(found(&[sale(0, 1, 101)], &[other_epoch]), 1);
    }

    #[test]
    fn sales_to_others_are_wrong_unless_they_are_meant_and_open_ones_are_counted_apart() {
        let (sales, facts) = ([sale(0, 1, 101)], [sold(10, 1, 101), sold(99, 1, 102), sold(11, 5, 103)]);
        let (compared, findings) = compare(&sales, &facts, &[(1, 5)], true);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(compared, Compared { agreed: 1, open: 1, others: 1 });
        assert_eq!(compare(&sales, &facts, &[(1, 5)], false).1.count(Wrong::Books), 1);
    }

    #[test]
    fn a_resumed_sale_may_stand_in_the_books_of_before_the_run() {
        let mut book = Book::default();
        book.push(Sale { resumed: true, ..sale(0, 1, 101) });
        let terminals = [Terminal { id: TerminalId(10), key_epoch: KeyEpoch(1), key: [0; 32] }];
        let books = [book];
        for (reference, wrong) in [(101, 0), (102, 1)] {
            let mut findings = Findings::default();
            let varieties = HashMap::from([(VARIETY, 0)]);
            let mut receipts = Receipts::new(SELLER, &books, &terminals, varieties, HashSet::new());
            assert_eq!(receipts.owed(), [10]);
            receipts.take_earlier(&sold(10, 1, reference), &mut findings);
            receipts.take_earlier(&sold(10, 2, 105), &mut findings);
            receipts.finish(false, &mut findings);
            assert_eq!(findings.count(Wrong::Books), wrong);
        }
    }
}
