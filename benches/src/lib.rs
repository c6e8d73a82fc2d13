//! What benchmarks and tests of speed share.

pub mod counter;
