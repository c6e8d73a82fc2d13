//! Pinwheel's terminal protocol: framing, messages and both ends of a session, without I/O.
//!
//! `spec/wire.md` is the authority on every byte; this crate is one implementation of it.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod message;
