//! Time as the state machines see it: a value that the caller brings.

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Milliseconds since some fixed moment; never goes back. For time-outs and deadlines.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970-01-01 (UTC) by the node's clock. For records and expiry.
    pub unix_ms: u64,
}

impl Now {
    /// Whole days since 1970-01-01 (UTC).
    #[must_use]
    pub fn day(&self) -> u32 {
        u32::try_from(self.unix_ms / DAY_MS).unwrap_or(u32::MAX)
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
