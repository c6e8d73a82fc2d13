//! Pinwheel's engine: everything between a supplier's batch and a terminal's sealed reply.
//!
//! `spec/architecture.md` is the map.

pub mod acquisition;
pub mod admin;
pub mod audit;
pub mod cli;
pub mod commit;
pub mod disk;
pub mod hub;
pub mod ids;
pub mod intake;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod net;
pub mod network;
pub mod planted;
pub mod policy;
pub mod pool;
pub mod registry;
pub mod seller;
pub mod sim;
pub mod steward;
pub mod stock;
pub mod time;
pub mod transfer;
