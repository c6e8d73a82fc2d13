//! Runs every interleaving of the engine's lock-free hand-offs: `RUSTFLAGS="--cfg loom" cargo test -p engine-loom --release`.
//!
//! Nothing of its own is here: these are the engine's files with their tests, and what they ask of their modules.
#![cfg(loom)]
#![cfg(test)]
#![allow(dead_code, unreachable_pub, reason = "nobody but their tests uses them here")]

#[path = "../../src/pool/cursor.rs"]
mod cursor;
#[path = "../../src/commit/handoff.rs"]
mod handoff;
#[path = "../../src/journal/marks.rs"]
mod marks;
#[path = "../../src/net/seats.rs"]
mod seats;
#[path = "../../src/journal/space.rs"]
mod space;

/// What `space` asks of the module beside it.
mod batch {
    /// As in the journal.
    pub(super) const SLOT_BYTES: usize = 64;
}
