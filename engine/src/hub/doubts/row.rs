//! A range of what a lost node held, and how ranges are cut and joined when something becomes known of a part.

use super::super::books::{Books, Change};
use crate::ids::{SellerId, Span};
use crate::ledger::Spans;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A range of what a lost node held when it was declared lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubtRow {
    /// Which node.
    pub node: SellerId,
    /// Which PINs.
    pub span: Span,
    /// What is known of them.
    pub state: DoubtState,
    /// Since when, in milliseconds of Unix time; of a range that grew, since it did last.
    pub at_ms: u64,
    /// Why, if an operator said so.
    pub note: String,
}

/// What is known of PINs that a lost node held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DoubtState {
    /// Nothing: it may or may not have sold them.
    InDoubt = 0,
    /// Its late journal says that it sold them.
    Sold = 1,
    /// Its late journal says that it withdrew them: expired, damaged or voided.
    Withdrawn = 2,
    /// It has given them back, or never took them: they are the hub's.
    Returned = 3,
    /// An operator has written them off: they are never sold.
    WrittenOff = 4,
    /// Its late journal says that it gave them to a node below it: what is known of them is said there.
    Passed = 5,
}

impl DoubtState {
    /// The state with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::InDoubt, Self::Sold, Self::Withdrawn, Self::Returned, Self::WrittenOff, Self::Passed]
            .into_iter()
            .find(|state| *state as u8 == byte)
    }
}

impl fmt::Display for DoubtState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InDoubt => "in doubt",
            Self::Sold => "sold",
            Self::Withdrawn => "withdrawn",
            Self::Returned => "returned",
            Self::WrittenOff => "written off",
            Self::Passed => "passed on",
        })
    }
}

/// The rows of a node that overlap a span, and those that touch it, in order.
pub(super) fn find(books: &Books, node: SellerId, span: Span) -> impl Iterator<Item = &DoubtRow> {
    let key = |index| (node, span.block, index);
    let before = books.doubts.range(key(0)..key(span.start)).next_back();
    let within = books.doubts.range(key(span.start)..=key(span.end));
    let rows = before.into_iter().chain(within).map(|(_, row)| row);
    rows.filter(move |row| row.span.start <= span.end && span.start <= row.span.end)
}

/// The parts of a span that no row of a node is about.
pub(super) fn gaps(books: &Books, node: SellerId, span: Span) -> Vec<Span> {
    let mut left = Spans::of(span.start, span.end);
    for row in find(books, node, span) {
        let (start, end) = (row.span.start.max(span.start), row.span.end.min(span.end));
        if start < end {
            left.remove(start, end);
        }
    }
    left.intervals().iter().map(|&(start, end)| Span { start, end, ..span }).collect()
}

/// The changes after which those rows say what `becomes` of their states within the span, `None` for no change, with a note
/// in place of the one they had, if there is one. Ranges that touch and say the same are one.
pub(super) fn repaint(
    books: &Books,
    node: SellerId,
    span: Span,
    becomes: impl Fn(DoubtState) -> Option<DoubtState>,
    at_ms: u64,
    note: Option<&str>,
) -> Vec<Change> {
    let before: Vec<&DoubtRow> = find(books, node, span).collect();
    let mut after: Vec<DoubtRow> = Vec::new();
    let mut add = |row: DoubtRow| match after.last_mut() {
        _ if row.span.is_empty() => {}
        Some(last)
            if last.span.end == row.span.start && (last.state, &last.note) == (row.state, &row.note) =>
        {
            last.span.end = row.span.end;
            last.at_ms = last.at_ms.max(row.at_ms);
        }
        _ => after.push(row),
    };
    for row in &before {
        let (start, end) = (row.span.start.max(span.start), row.span.end.min(span.end));
        let Some(state) = becomes(row.state).filter(|_| start < end) else {
            add((*row).clone());
            continue;
        };
        let part = |start, end| DoubtRow { span: Span { start, end, ..row.span }, ..(*row).clone() };
        add(part(row.span.start, start));
        let note = note.map_or_else(|| row.note.clone(), str::to_owned);
        add(DoubtRow { state, at_ms, note, ..part(start, end) });
        add(part(end, row.span.end));
    }
    let gone = before.iter().filter(|row| after.iter().all(|left| left.span.start != row.span.start));
    let gone = gone.map(|row| Change::ForgetDoubt(node, row.span.block, row.span.start));
    let gone: Vec<_> = gone.collect();
    let changed = after.iter().filter(|row| !before.contains(row)).cloned().map(Change::Doubt);
    gone.into_iter().chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BlockId;
    use proptest::prelude::*;

    const NODE: SellerId = SellerId(3);
    const BLOCK: BlockId = BlockId(9);

    proptest! {
        #[test]
        fn ranges_are_what_was_said_of_each_pin_and_as_few_as_can_be(
            steps in prop::collection::vec((0_u32..40, 1_u32..12, 1_u8..5), 0..30)
        ) {
            let mut books = Books::default();
            let whole = Span { block: BLOCK, start: 5, end: 35 };
            let (state, note) = (DoubtState::InDoubt, String::new());
            books.apply(&Change::Doubt(DoubtRow { node: NODE, span: whole, state, at_ms: 0, note }));
            let mut plain = vec![DoubtState::InDoubt; 30];
            for (start, length, state) in steps {
                let state = DoubtState::from_byte(state).unwrap();
                let span = Span { block: BLOCK, start, end: start + length };
                // Only what is in doubt is settled.
                let becomes = |from| (from == DoubtState::InDoubt).then_some(state);
                repaint(&books, NODE, span, becomes, 1, None).iter().for_each(|change| books.apply(change));
                for index in start.max(5)..(start + length).min(35) {
                    let pin = &mut plain[index as usize - 5];
                    *pin = becomes(*pin).unwrap_or(*pin);
                }
                let rows: Vec<_> = books.doubts.values().collect();
                let said: Vec<_> = rows.iter().flat_map(|row| row.span.start..row.span.end).collect();
                prop_assert_eq!(said, (5..35).collect::<Vec<_>>(), "each PIN once");
                let states = rows.iter().flat_map(|row| vec![row.state; row.span.len() as usize]);
                prop_assert_eq!(states.collect::<Vec<_>>(), plain.clone());
                prop_assert!(rows.windows(2).all(|pair| pair[0].state != pair[1].state));
            }
        }
    }
}
