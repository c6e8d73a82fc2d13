//! The journal: one node's only source of truth.

pub mod record;

pub use record::Record;
