//! Tests of the engine from outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod chaos;
mod command_line;
mod damage;
mod durable;
mod faults;
mod full;
mod fuzz;
mod hcm;
mod hostile;
mod killed;
mod lifecycle;
mod lost;
mod network;
mod orders;
mod pool;
mod refill;
mod roaming;
mod sequences;
mod simulation;
mod support;
