//! What happened since the start, as counters that any thread may read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wire::message::Reply;

/// Counters of a node's front and workers. They order nothing: all operations are relaxed.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub turned_away: AtomicU64,
    /// Handshakes that failed.
    pub rejected: AtomicU64,
    /// Sessions that logged in.
    pub logins: AtomicU64,
    /// Sessions that are logged in now.
    pub sessions: AtomicU64,
    /// Connections of host connection managers that carry sessions here now.
    pub carriers: AtomicU64,
    /// Sessions ended because of what the terminal sent, or because it read nothing.
    pub faults: AtomicU64,
    /// Requests taken in.
    pub requests: AtomicU64,
    /// Those of them that wait now: for a PIN, for another seller, or for their records to be durable, which of one session count as
    /// one.
    pub in_flight: AtomicU64,
    /// Sales made.
    pub sales: AtomicU64,
    /// Those of them that waited for a PIN: [`SaleTally::waited`](crate::seller::SaleTally).
    pub sales_waited: AtomicU64,
    /// Answers with a PIN, repeats and reprints included.
    pub sold: AtomicU64,
    /// Declines.
    pub declined: AtomicU64,
    /// Times a terminal was told to come back.
    pub later: AtomicU64,
    /// Questions refused.
    pub refused: AtomicU64,
}

impl Stats {
    pub(super) fn count_reply(&self, reply: &Reply) {
        match reply {
            Reply::Sold(_) => count(&self.sold),
            Reply::Declined { .. } => count(&self.declined),
            Reply::Later { .. } => count(&self.later),
            Reply::Refused { .. } => count(&self.refused),
            Reply::Welcome(_)
            | Reply::Resolved(_)
            | Reply::Catalogue(_)
            | Reply::State { .. }
            | Reply::Settled(_) => {}
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

pub(super) fn uncount(counter: &AtomicU64) {
    counter.fetch_sub(1, Relaxed);
}
