//! `loadgen` as people run it, against a small seller on real sockets.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod runs;
mod seller;
