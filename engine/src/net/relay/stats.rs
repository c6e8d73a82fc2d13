//! What a relay has done and how it stands, for any thread to read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counters of a relay. One thread writes them; they order nothing, so all operations are relaxed.
#[derive(Debug, Default)]
pub struct RelayStats {
    /// Connections of terminals now.
    pub connections: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because there were too many.
    pub turned_away: AtomicU64,
    /// Connections ended because of what the terminal sent, or did not send.
    pub faults: AtomicU64,
    /// Connections cut because the terminal did not read.
    pub cut: AtomicU64,
    /// Sessions carried now: their handshake is done.
    pub sessions: AtomicU64,
    /// Sessions whose handshake was done.
    pub logins: AtomicU64,
    /// Times a terminal was told to begin a new session.
    pub renewed: AtomicU64,
    /// Messages of terminals carried.
    pub requests: AtomicU64,
    /// Those of them that have no answer yet, of sessions that go on.
    pub in_flight: AtomicU64,
    /// Hellos that wait for the server.
    pub waiting: AtomicU64,
    server: Mutex<Server>,
}

/// How it stands with the server.
#[derive(Clone, Default, Debug)]
pub struct Server {
    /// The server that sessions are carried to; `None`: none can be reached.
    pub address: Option<SocketAddr>,
    /// Its number, while there is one.
    pub seller: u32,
    /// Its workers, while there is one.
    pub workers: u16,
    /// When that began, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Why the last attempt failed, or the last connection ended; `None` while there is one.
    pub failure: Option<String>,
    /// How often a server was lost.
    pub losses: u64,
}

impl RelayStats {
    /// How it stands with the server.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change_server(&self, change: impl FnOnce(&mut Server)) {
        change(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Only the relay's own thread writes: no read-modify-write is needed.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

pub(super) fn subtract(counter: &AtomicU64, less: u64) {
    counter.store(counter.load(Relaxed).saturating_sub(less), Relaxed);
}
