//! The one place that reads clocks and asks the system for randomness.

use crate::time::Now;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks.
#[must_use]
pub fn clock() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Now {
        monotonic_ms: millis(START.get_or_init(Instant::now).elapsed()),
        unix_ms: millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
    }
}

/// Fills bytes from the system's generator.
///
/// # Panics
/// When the system has none: nothing may be sealed then.
pub fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has randomness");
}
