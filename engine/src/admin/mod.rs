//! The operators' door: a Unix socket in the data directory, one JSON line per message.
//!
//! A connection carries one [`Request`] (an intake's file follows it, as it is), then any number of [`Reply::Progress`]
//! or [`Reply::Sequences`], then one other [`Reply`]. The same [`answer`] serves a command line that opened the stores itself because nothing runs.

mod client;
mod desk;
mod protocol;
mod server;

pub use client::{AskError, ask};
pub use desk::{Site, answer};
pub use protocol::{KeyRow, MintOrder, OrderChange, OrderView, Reply, Request, TerminalRow, VarietyRow};
pub use server::{SOCKET_FILE, serve, serve_with};
