//! Pinwheel's engine: everything between a supplier's batch and a terminal's sealed reply.
//!
//! `spec/architecture.md` is the map.

pub mod audit;
pub mod commit;
pub mod disk;
pub mod hub;
pub mod ids;
pub mod intake;
pub mod journal;
pub mod link;
pub mod registry;
pub mod stock;
pub mod transfer;
