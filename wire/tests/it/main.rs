//! The terminal protocol as its users see it.

#[cfg(feature = "std")]
mod client;
mod hostile;
mod session;
mod support;
