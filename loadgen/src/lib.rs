//! Load generator for Pinwheel: plays terminals by the thousand on the real protocol, and checks every PIN they get.
//!
//! `options` is the command line, `run` conducts a run: it looks at the seller (`probe`), at what will limit the run
//! (`preflight`), starts threads of connections (`thread`, `connection`, `sales`), and judges what they bring back
//! (`check`, `books`, `receipts`, `outcome`). `summary`, `report` and `hlog` show it. `demo` runs a network of its own and kills it.

pub mod alarm;
mod books;
mod catalogue;
mod check;
mod connection;
pub mod demo;
mod desk;
mod environment;
mod hlog;
mod live;
pub mod options;
pub mod outcome;
mod pace;
mod preflight;
mod probe;
mod receipts;
mod report;
pub mod run;
mod sales;
mod sequences;
pub mod summary;
mod tally;
mod terminals;
mod thread;
mod words;

pub use catalogue::Variety;
pub use check::{Findings, Wrong};
pub use environment::Environment;
pub use receipts::Compared;
pub use tally::{Counts, Interval, Reasons};
