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
/// A terminal sends something at least this often, in seconds.
pub const PING_INTERVAL_S: u16 = 60;
/// A terminal waits at least this long between attempts to connect, in milliseconds.
pub const BACK_OFF_MIN_MS: u32 = 200;
/// A terminal waits at most this long between attempts to connect, in milliseconds.
pub const BACK_OFF_MAX_MS: u32 = 10_000;
