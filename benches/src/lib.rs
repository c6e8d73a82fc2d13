//! What benchmarks and tests of speed share.

pub mod counter;
pub mod floor;
pub mod network;
pub mod process;
