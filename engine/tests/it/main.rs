//! Tests of the engine from outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod killed;
mod pool;
mod simulation;
mod support;
