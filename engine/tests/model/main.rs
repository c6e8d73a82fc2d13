//! Two small worlds in which everything that can happen does: every order of every step, crash, loss and repetition is
//! tried, and the laws are looked at in every state. What a model says of the code stands in `spec/stock-transfer.md`.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod explore;
mod failover;
mod transfer;
