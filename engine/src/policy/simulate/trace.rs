//! Demand traces: CSV with the columns `hour`, `node`, `variety` and `vends`.
//!
//! `hour` counts from 0; `vends` is how many PINs terminals at the node want in that hour, spread over its minutes. Hours that
//! are not named have none.

use std::collections::{BTreeMap, BTreeSet};

/// Demand by hour, node and variety.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Names of the nodes, sorted.
    pub nodes: Vec<String>,
    /// Codes of the varieties, sorted.
    pub varieties: Vec<String>,
    /// Whole hours, up to the last that is named.
    pub hours: u32,
    vends: BTreeMap<Vends, u64>,
}

/// What a number of vends is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Vends {
    /// The hour, from 0.
    pub hour: u32,
    /// Place among the nodes.
    pub node: usize,
    /// Place among the varieties.
    pub variety: usize,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line and column.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let mut records = reader.records();
        let mut next = || records.next().transpose().map_err(|error| TraceError::of_csv(&error));
        let Some(header) = next()? else {
            return Err(TraceError { line: 1, column: 1, problem: Problem::Empty });
        };
        let at = columns(&header)?;
        let mut rows: Vec<(u32, u32, String, String, u64)> = Vec::new();
        let mut names = (BTreeSet::new(), BTreeSet::new());
        while let Some(record) = next()? {
            let line = line_of(&record);
            if rows.len() == ROWS_MAX {
                return Err(TraceError { line, column: 1, problem: Problem::TooLong(ROWS_MAX) });
            }
            if record.len() != header.len() {
                let problem = Problem::Fields { found: record.len(), named: header.len() };
                return Err(TraceError { line, column: record.len().min(header.len()) + 1, problem });
            }
            let hour = number(&record, at[0], "hour", u64::from(HOURS_MAX - 1))?;
            let node = name(&record, at[1], "node")?;
            let variety = name(&record, at[2], "variety")?;
            let vends = number(&record, at[3], "vends", VENDS_MAX)?;
            names.0.insert(node.clone());
            names.1.insert(variety.clone());
            if names.0.len() > NAMES_MAX {
                let problem = Problem::TooManyNames("node", NAMES_MAX);
                return Err(TraceError { line, column: at[1] + 1, problem });
            }
            if names.1.len() > NAMES_MAX {
                let problem = Problem::TooManyNames("variety", NAMES_MAX);
                return Err(TraceError { line, column: at[2] + 1, problem });
            }
            let hour = u32::try_from(hour).expect("an hour is below its maximum");
            rows.push((line, hour, node, variety, vends));
        }
        let (nodes, varieties): (Vec<String>, Vec<String>) =
            (names.0.into_iter().collect(), names.1.into_iter().collect());
        let mut vends = BTreeMap::new();
        let mut lines = BTreeMap::new();
        for (line, hour, node, variety, count) in rows {
            let node = nodes.binary_search(&node).expect("every name was collected");
            let variety = varieties.binary_search(&variety).expect("every name was collected");
            let key = Vends { hour, node, variety };
            if let Some(earlier) = lines.insert(key, line) {
                return Err(TraceError { line, column: at[0] + 1, problem: Problem::Twice { earlier } });
            }
            vends.insert(key, count);
        }
        let Some(last) = vends.keys().next_back().map(|last| last.hour) else {
            return Err(TraceError { line: line_of(&header) + 1, column: 1, problem: Problem::Empty });
        };
        Ok(Self { nodes, varieties, hours: last + 1, vends })
    }

    /// PINs that are wanted in one minute, from 0, of the whole trace.
    #[must_use]
    pub fn wanted(&self, minute: u32, node: usize, variety: usize) -> u64 {
        let vends = self.vends.get(&Vends { hour: minute / 60, node, variety }).copied().unwrap_or(0);
        let until = |minutes: u32| vends * u64::from(minutes) / 60;
        until(minute % 60 + 1) - until(minute % 60)
    }
}

/// What is wrong with a trace, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {problem} [{}]", .problem.code())]
pub struct TraceError {
    /// The line, from 1.
    pub line: u32,
    /// The column of the CSV, from 1.
    pub column: usize,
    /// What.
    pub problem: Problem,
}

impl TraceError {
    fn of_csv(error: &csv::Error) -> Self {
        let line = error.position().map_or(1, csv::Position::line);
        let column = match error.kind() {
            csv::ErrorKind::Utf8 { err, .. } => err.field() + 1,
            _ => 1,
        };
        let problem = Problem::NotCsv(error.to_string());
        Self { line: u32::try_from(line).unwrap_or(u32::MAX), column, problem }
    }
}

/// What can be wrong with a trace.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// There is nothing.
    #[error("there is no demand in it")]
    Empty,
    /// It is no CSV.
    #[error("this is not CSV: {0}")]
    NotCsv(String),
    /// The first line lacks a name.
    #[error("the first line names no column {0:?}; it names hour, node, variety and vends, each once")]
    NoColumn(&'static str),
    /// The first line has a name too many.
    #[error("there is no column {0:?}, or it stands there twice; they are hour, node, variety and vends")]
    UnknownColumn(String),
    /// A line is too short or too long.
    #[error("the line has {found} fields, the first line names {named}")]
    Fields {
        /// Fields in the line.
        found: usize,
        /// Columns in the first line.
        named: usize,
    },
    /// A field is no number.
    #[error("{name}: {found:?} is not a whole number from 0 to {max}")]
    Number {
        /// The column.
        name: &'static str,
        /// What stands there.
        found: String,
        /// The greatest that would do.
        max: u64,
    },
    /// A field is no name.
    #[error("{name}: {found:?} is not a name of 1 to {NAME_LEN_MAX} characters")]
    Name {
        /// The column.
        name: &'static str,
        /// What stands there.
        found: String,
    },
    /// An hour of a node and a variety stands there twice.
    #[error("this hour of this node and variety stands in line {earlier} too")]
    Twice {
        /// The earlier line.
        earlier: u32,
    },
    /// It is longer than a trace may be.
    #[error("there are more than {0} lines")]
    TooLong(usize),
    /// More nodes or varieties than may be.
    #[error("{0}: there are more than {1} different ones")]
    TooManyNames(&'static str, usize),
}

impl Problem {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotCsv(_) => "not-csv",
            Self::NoColumn(_) => "no-column",
            Self::UnknownColumn(_) => "unknown-column",
            Self::Fields { .. } => "fields",
            Self::Number { .. } => "number",
            Self::Name { .. } => "name",
            Self::Twice { .. } => "twice",
            Self::TooLong(_) => "too-long",
            Self::TooManyNames(..) => "too-many-names",
        }
    }
}

/// Where each of [`COLUMNS`] stands.
fn columns(header: &csv::StringRecord) -> Result<[usize; 4], TraceError> {
    let line = line_of(header);
    for (at, found) in header.iter().enumerate() {
        if !COLUMNS.contains(&found) || header.iter().take(at).any(|earlier| earlier == found) {
            let problem = Problem::UnknownColumn(found.chars().take(NAME_LEN_MAX).collect());
            return Err(TraceError { line, column: at + 1, problem });
        }
    }
    let mut places = [0; 4];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        let missing = TraceError { line, column: header.len() + 1, problem: Problem::NoColumn(name) };
        *place = header.iter().position(|found| found == name).ok_or(missing)?;
    }
    Ok(places)
}

fn line_of(record: &csv::StringRecord) -> u32 {
    record.position().map_or(1, |position| u32::try_from(position.line()).unwrap_or(u32::MAX))
}

fn number(record: &csv::StringRecord, at: usize, name: &'static str, max: u64) -> Result<u64, TraceError> {
    let found = &record[at];
    let is_plain = found.bytes().all(|byte| byte.is_ascii_digit());
    found.parse().ok().filter(|number| is_plain && *number <= max).ok_or_else(|| TraceError {
        line: line_of(record),
        column: at + 1,
        problem: Problem::Number { name, found: found.chars().take(NAME_LEN_MAX).collect(), max },
    })
}

fn name(record: &csv::StringRecord, at: usize, name: &'static str) -> Result<String, TraceError> {
    let found = &record[at];
    let is_name = (1..=NAME_LEN_MAX).contains(&found.chars().count()) && !found.contains(char::is_control);
    is_name.then(|| found.to_owned()).ok_or_else(|| TraceError {
        line: line_of(record),
        column: at + 1,
        problem: Problem::Name { name, found: found.chars().take(NAME_LEN_MAX).collect() },
    })
}

const COLUMNS: [&str; 4] = ["hour", "node", "variety", "vends"];
/// Lines of a trace: an hour of 100 nodes with 10 varieties for six weeks.
const ROWS_MAX: usize = 1_000_000;
/// Hours of a trace: a year.
const HOURS_MAX: u32 = 366 * 24;
/// Vends of one node, variety and hour.
const VENDS_MAX: u64 = 100_000_000;
/// Different nodes, and different varieties.
const NAMES_MAX: usize = 1000;
/// Characters of a name.
const NAME_LEN_MAX: usize = 40;

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_stand_in_any_order_and_hours_are_spread_over_minutes() {
        let text = "# made by hand\nnode,variety,hour,vends\nsouth,b,1,90\r\nnorth,a,0,7\n";
        let trace = Trace::parse(text).unwrap();
        assert_eq!((trace.nodes.as_slice(), trace.hours), (&["north".to_owned(), "south".to_owned()][..], 2));
        let wanted: Vec<u64> = (0..120).map(|minute| trace.wanted(minute, 1, 1)).collect();
        assert_eq!((wanted[..60].iter().sum::<u64>(), wanted[60..].iter().sum::<u64>()), (0, 90));
        assert!(wanted[60..].iter().all(|wanted| (1..=2).contains(wanted)));
        assert_eq!((0..60).map(|minute| trace.wanted(minute, 0, 0)).sum::<u64>(), 7);
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        let line = |rest: &str| format!("hour,node,variety,vends\n0,n,a,1\n{rest}\n");
        for (text, code, at) in [
            (String::new(), "empty", (1, 1)),
            ("hour,node,variety,vends\n".to_owned(), "empty", (2, 1)),
            ("hour,node,vends\n".to_owned(), "no-column", (1, 4)),
            ("hour,node,city,vends\n".to_owned(), "unknown-column", (1, 3)),
            ("hour,node,hour,vends\n".to_owned(), "unknown-column", (1, 3)),
            (line("1,n,a"), "fields", (3, 4)),
            (line("1,n,a,1,2"), "fields", (3, 5)),
            (line("x,n,a,1"), "number", (3, 1)),
            (line("1,n,a,-1"), "number", (3, 4)),
            (line("1,n,a,+1"), "number", (3, 4)),
            (line("8784,n,a,1"), "number", (3, 1)),
            (line("1,,a,1"), "name", (3, 2)),
            (line("0,n,a,5"), "twice", (3, 1)),
        ] {
            let error = Trace::parse(&text).unwrap_err();
            assert_eq!((error.problem.code(), (error.line, error.column)), (code, at), "{text}: {error}");
            assert!(error.to_string().ends_with(&format!("[{code}]")));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_says_it_is_read_or_refused(text in "(hour,node,variety,vends\n)?[0-9a,\"\n\r #é]{0,80}") {
            let _ = Trace::parse(&text);
        }
    }
}
