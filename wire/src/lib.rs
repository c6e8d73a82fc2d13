//! Pinwheel's terminal protocol: framing, messages and both ends of a session, without I/O; and what the link protocol is
//! made of.
//!
//! `spec/wire.md` is the authority on every byte of the one, `spec/link.md` of the other; this crate is one implementation.
//!
//! - [`message`]: what a terminal and its seller say to each other; [`control`]: what belongs to the connection.
//! - [`frame`] and [`codec`]: those values as bytes, and back.
//! - [`session`]: both ends of a session as state machines. Randomness is an input.
//! - [`link`] (feature `std`): the same for the link between a hub and its nodes, below its messages.
//! - [`client`] (feature `std`): a small blocking terminal, the only part with I/O and a clock.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cipher;
#[cfg(feature = "std")]
pub mod client;
pub mod codec;
pub mod control;
pub mod frame;
#[cfg(feature = "std")]
pub mod link;
pub mod message;
mod noise;
pub mod session;
pub mod settlement;
#[cfg(test)]
mod vectors;
