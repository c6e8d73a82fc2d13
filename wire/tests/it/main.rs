//! The terminal protocol as its users see it.

mod hostile;
mod session;
mod support;
