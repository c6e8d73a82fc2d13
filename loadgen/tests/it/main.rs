//! `loadgen` as people run it, against a small seller on real sockets.

mod runs;
mod seller;
