//! Sockets: the only place that knows mio.
//!
//! The [`Front`] accepts connections and shakes hands; it changes nothing on a terminal's behalf. A [`Worker`] then owns
//! the connection for good: it holds the session, asks the [`Seller`](crate::seller::Seller), and lets a reply go when the
//! records it depends on are durable. [`link`] carries what hub and nodes say to each other; [`relay`] is a
//! host connection manager that carries sessions of terminals to a server.
//!
//! Clock and randomness are handed in. Front and workers block the thread that they are given; the ends of links, and a relay,
//! start one each.

mod carriers;
mod carrying;
mod front;
pub mod link;
mod meddler;
mod outbox;
mod reading;
pub mod relay;
mod seats;
mod session;
mod sessions;
mod settling;
mod slots;
mod stats;
mod worker;

pub use front::{Front, FrontHandle, listen, listen_on};
pub use meddler::{Honest, Meddler};
pub use seats::Seats;
pub use settling::Abroad;
pub use stats::Stats;
pub use worker::{Reports, Worker, WorkerHandle, WorkerMessage, WorkerPort, carry_to};

use crate::ids::TerminalId;
use crate::time::Now;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Reads both clocks.
pub type Clock = fn() -> Now;
/// Fills bytes from a cryptographic generator.
pub type Random = fn(&mut [u8]);

/// Which of `workers` answers for a terminal. The same for the life of a process.
#[must_use]
pub fn home(terminal: TerminalId, workers: usize) -> usize {
    let spread = terminal.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (spread % workers as u64) as usize
}

/// Waits until something happens, and no longer than `most`. A signal that comes meanwhile is a turn in which nothing did.
fn wait(poll: &mut mio::Poll, events: &mut mio::Events, most: Duration) -> io::Result<()> {
    match poll.poll(events, Some(most)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        waited => waited,
    }
}

/// Makes a thread that polls look again.
#[derive(Clone, Debug)]
struct Waker(Arc<mio::Waker>);

impl crate::commit::Wake for Waker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!("cannot wake a thread: {error}");
        }
    }
}

const WAKE: mio::Token = mio::Token(usize::MAX);
