//! What benchmarks and tests of speed share.

pub mod client;
pub mod counter;
pub mod echo;
pub mod floor;
pub mod network;
pub mod paced;
pub mod process;
pub mod till;
