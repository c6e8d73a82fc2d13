//! The terminal protocol as its users see it.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

#[cfg(feature = "std")]
mod client;
#[cfg(feature = "std")]
mod fuzz;
mod hostile;
mod session;
mod support;
