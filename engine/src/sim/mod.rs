//! A whole network on virtual time: the real hub, servers and caches, journals, transfers and windows; one thread, one seed, one
//! run, bit for bit.
//!
//! Everything that the real program leaves to threads, sockets and clocks is a step here, and the seed says which step
//! comes next: a worker between claim and hand-over, the committer between gather, append, sync and publish, a message on one of
//! the two channels of a link, a reply on its way to a terminal. In between [faults](Kind) happen. The oracle judges from outside:
//! from what terminals were told and from what all disks together say. At the end the faults stop and everything must come to rest.
//!
//! [`Plan`] is a run before it happens, [`attempt`] lets it happen, [`shrink`] makes a run that breaks a law smaller.
//! `spec/testing.md` says how to use it from the command line.

mod broken;
mod checks;
mod dice;
mod errands;
mod failure;
mod faults;
mod links;
mod mishaps;
mod node;
mod office;
mod old_copies;
mod oracle;
mod places;
mod plan;
mod relays;
mod rest;
#[cfg(test)]
mod scripted;
mod shrinking;
mod site;
mod terminal;
mod trace;
mod watch;
mod world;

pub use dice::Dice;
pub use failure::{Failure, Summary, attempt};
pub use faults::{Kind, Kinds};
pub use plan::Plan;
pub use shrinking::shrink;
pub use trace::{Event, Subject, Trace};
pub use watch::never_seen;
