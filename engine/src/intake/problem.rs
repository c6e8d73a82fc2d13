//! What can be wrong with a supplier's file, by line. No text here ever holds a PIN.

use super::fingerprint::What;
use crate::ids::BatchId;
use std::fmt;

/// Why a whole file was refused: its first faulty lines and how many faults there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rejected {
    /// The faults with the lowest line numbers, in order; at most [`PROBLEMS_KEPT_MAX`].
    pub first: Vec<LineProblem>,
    /// How many faults there are in all.
    pub count: u64,
}

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineProblem {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// A line is longer than any supplier writes.
    #[error("the line is too long; is this the right file?")]
    LineTooLong,
    /// The header is missing.
    #[error("a record stands where the header should be")]
    HeaderMissing,
    /// The header lacks a named column.
    #[error("the header has no column named like the profile's {0} column, or has it twice")]
    NoSuchColumn(Field),
    /// The line lacks a column.
    #[error("there is no {0} column")]
    Missing(Field),
    /// The PIN has an impossible shape.
    #[error("the PIN is not 1 to 26 characters out of 0-9, A-Z and -")]
    PinShape,
    /// The serial has an impossible shape.
    #[error("the serial is not 1 to 20 characters out of 0-9, A-Z and a-z")]
    SerialShape,
    /// The expiry date is no date.
    #[error("the expiry date is not a date of the profile's format")]
    ExpiryShape,
    /// The last day of validity is over.
    #[error("the PIN has expired")]
    Expired,
    /// The face value is no amount.
    #[error("the face value is not an amount")]
    FaceShape,
    /// The face value is not the variety's.
    #[error("the face value is not that of the variety")]
    FaceOther,
    /// Neither a record nor the trailer.
    #[error("the line is neither a record nor the balance line")]
    UnknownLine,
    /// Something follows the trailer.
    #[error("there is a line after the balance line")]
    AfterTrailer,
    /// The trailer's count is no number.
    #[error("the balance line has no count")]
    TrailerShape,
    /// The trailer counts otherwise.
    #[error("the balance line counts {said} PINs, the file has {found}")]
    TrailerCount {
        /// What the trailer says.
        said: u64,
        /// Lines with the record marker, faulty ones included.
        found: u64,
    },
    /// The file ends without its trailer: it may have been cut off.
    #[error("the file ends without its balance line")]
    TrailerMissing,
    /// An earlier line has the same PIN or serial.
    #[error("the {what} is that of line {line} too")]
    Repeated {
        /// Which of the two.
        what: What,
        /// The earlier line.
        line: u32,
    },
    /// An earlier batch had the same PIN or serial.
    #[error("the {what} was seen before: batch {}, line {line}", batch.0)]
    SeenBefore {
        /// Which of the two.
        what: What,
        /// The earlier batch.
        batch: BatchId,
        /// The line in it.
        line: u32,
    },
}

/// A column of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The serial.
    Serial,
    /// The PIN.
    Pin,
    /// The last day of validity.
    Expiry,
    /// The face value.
    Face,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial",
            Self::Pin => "PIN",
            Self::Expiry => "expiry",
            Self::Face => "face value",
        })
    }
}

impl Rejected {
    /// Whether nothing is wrong.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Counts a fault, and keeps it if it is among the first.
    pub(super) fn add(&mut self, line: u32, problem: Problem) {
        self.count += 1;
        let at = self.first.partition_point(|earlier| earlier.line <= line);
        if at < PROBLEMS_KEPT_MAX {
            self.first.truncate(PROBLEMS_KEPT_MAX - 1);
            self.first.insert(at, LineProblem { line, problem });
        }
    }
}

impl fmt::Display for Rejected {
    /// Names the first [`PROBLEMS_SHOWN_MAX`] faults; with `{:#}` all that are kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if f.alternate() { PROBLEMS_KEPT_MAX } else { PROBLEMS_SHOWN_MAX };
        let shown = &self.first[..self.first.len().min(shown)];
        write!(f, "nothing was taken in: {} faults", self.count)?;
        for LineProblem { line, problem } in shown {
            write!(f, "\n  line {line}: {problem}")?;
        }
        match self.count - shown.len() as u64 {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for Rejected {}

/// Most faults that are named one by one to an operator who waits.
pub const PROBLEMS_SHOWN_MAX: usize = 20;
/// Most faults that are named one by one in a report.
pub const PROBLEMS_KEPT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_twenty_faults_are_named_or_all_in_a_report_and_all_are_counted() {
        let mut rejected = Rejected::default();
        for line in (1..=100).rev() {
            rejected.add(line, Problem::PinShape);
        }
        assert_eq!(rejected.count, 100);
        let lines: Vec<u32> = rejected.first.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, (1..=100).collect::<Vec<_>>());
        let (said, report) = (rejected.to_string(), format!("{rejected:#}"));
        assert!(said.contains("line 20:") && said.ends_with("and 80 more"), "{said}");
        assert_eq!(report.lines().count(), 101, "{report}");
        assert!(report.contains("line 100:"));
        (0..PROBLEMS_KEPT_MAX as u32).for_each(|line| rejected.add(1000 + line, Problem::PinShape));
        assert_eq!(rejected.first.len(), PROBLEMS_KEPT_MAX, "bounded");
        assert!(format!("{rejected:#}").ends_with("and 100 more"));
    }
}
