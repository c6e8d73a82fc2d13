//! A host connection manager that only relays: it ends the connections of thousands of terminals and carries their sessions to a
//! server over one connection for each of the server's workers. `spec/link.md`, section 14, says what is on those.
//!
//! It has no key of a terminal and opens no message. Of what a terminal sends it reads the outer headers: a hello says which worker
//! is called, sealed frames are carried as they are, and nothing else passes. One thread does everything, in turns:
//!
//! ```text
//!   terminals ══ Terminals (slab, timers) ──whole frames──► Line: batch → seal → Pipe ══ a worker
//!                          ▲                                   │
//!                          └────── bytes, straight into sockets ──── open ◄─────────────┘
//! ```
//!
//! Nothing here grows with what others do not read: a terminal that does not read is cut, and while a worker does not, its
//! terminals are not read.

mod desk;
mod line;
mod pool;
mod stats;
mod terminal;
mod terminals;
#[cfg(test)]
mod tests;
mod upstream;
mod wheel;

pub use stats::{RelayStats, Server};

use super::link::{LinkKey, LinkOptions};
use super::{Clock, Random, WAKE, Waker};
use crate::commit::Wake;
use crate::ids::SellerId;
use crate::limits::{CONNECTIONS_MAX, RELAY_BACK_OFF_MS, RELAY_CONNECTIONS_PER_SOURCE_MAX};
use desk::Desk;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use wire::message::Addresses;

/// Carries sessions between terminals and a server.
#[derive(Debug)]
pub struct Relay;

/// Who calls the servers, and with which key.
#[derive(Clone, Debug)]
pub struct RelayIdentity {
    /// The manager's number.
    pub manager: SellerId,
    /// Of its node key.
    pub key: LinkKey,
}

/// How many connections a relay takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayLimits {
    /// In all.
    pub connections_max: usize,
    /// From one source address; of IPv6, from one /64 network.
    pub connections_per_source_max: u32,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            connections_per_source_max: RELAY_CONNECTIONS_PER_SOURCE_MAX,
        }
    }
}

/// How to relay.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// The servers' link addresses, `host:port`; one is used at a time, and when it is lost they are tried in turn.
    pub servers: Vec<String>,
    /// The network device that servers are called over; `None`: whichever the system chooses.
    pub server_device: Option<String>,
    /// The address that they are called from; `None`: whichever the system chooses.
    pub server_source: Option<IpAddr>,
    /// Where else its terminals may connect, as they reach it: their welcomes say so.
    pub others: Addresses,
    /// How many connections it takes.
    pub limits: RelayLimits,
    /// Times of the connections with the server.
    pub link: LinkOptions,
}

impl RelayOptions {
    /// The usual, for these servers.
    #[must_use]
    pub fn new(servers: Vec<String>) -> Self {
        let link = LinkOptions { back_off_ms: RELAY_BACK_OFF_MS, ..LinkOptions::default() };
        let (others, limits) = (Addresses::default(), RelayLimits::default());
        Self { servers, server_device: None, server_source: None, others, limits, link }
    }
}

/// Reaches a running [`Relay`] from any thread.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    stats: Arc<RelayStats>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Relay {
    /// Starts the thread; it calls the first server at once. `random` is for keys.
    ///
    /// # Errors
    /// There is no server, or the system has no more of what polling or a thread needs.
    pub fn start(
        listener: TcpListener,
        identity: RelayIdentity,
        options: &RelayOptions,
        clock: Clock,
        random: Random,
    ) -> io::Result<RelayHandle> {
        if options.servers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a relay needs the address of a server"));
        }
        let poll = mio::Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKE)?));
        let stats = Arc::<RelayStats>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let upstream = upstream::Upstream::new(
            identity,
            options.clone(),
            waker.clone(),
            Arc::clone(&stats),
            clock,
            random,
        );
        let desk = Desk::new(
            poll,
            listener,
            options.limits,
            upstream,
            Arc::clone(&stats),
            Arc::clone(&stop),
            clock,
        )?;
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || desk.run())?;
        Ok(RelayHandle { stats, stop, waker, thread: Arc::new(Mutex::new(Some(thread))) })
    }
}

impl RelayHandle {
    /// What it has done and how it stands.
    #[must_use]
    pub fn stats(&self) -> &RelayStats {
        &self.stats
    }

    /// Ends in good order, and waits for that: answers to what was asked are still delivered for a moment, then terminals are
    /// sent away.
    pub fn stop(&self) {
        // Pairs with the thread's load: what was done before is seen by it.
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
