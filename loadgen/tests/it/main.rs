//! `loadgen` as people run it, against a small seller on real sockets and against the real network.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod books;
mod faults;
mod network;
mod relays;
mod runs;
mod seller;
