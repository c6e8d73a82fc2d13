//! Every bound of the engine that is not a format's, in one place.

/// Vends of one worker that may wait for a PIN at a time; more are told to come back.
pub const PARKED_VENDS_MAX: usize = 4096;
/// Longest that a vend waits for a PIN, in milliseconds, whatever its deadline.
pub const PARK_MS_MAX: u64 = 10_000;
/// Journal space that a worker reserves in one go, in records.
pub const RECORDS_RESERVED_AT_ONCE: u32 = 256;
/// Reprints of one sequence.
pub const REPRINTS_MAX: u8 = 3;
/// How long a terminal is asked to wait before it repeats, in milliseconds.
pub const WAIT_MS: u32 = 500;
