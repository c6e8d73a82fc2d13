//! What operators can ask of a process, from any thread, while it sells.

mod answers;
mod books;
mod delivery;
mod lost;
mod moves;
mod pins;
mod sequences;
mod status;

pub use answers::{Beyond, SequenceAnswer};
pub(super) use books::seller_books;
pub use delivery::Delivered;
pub use lost::{Doubt, LostNode, PinsOf, Which};
pub use moves::Move;
pub(crate) use pins::{is_pin_due, sold_again};
pub(super) use status::Standing;
pub use status::{
    BelowStatus, DrainStatus, HubStatus, LostStatus, ManagerStatus, NodeStatus, SellerStatus,
    SellerStockStatus, Status, StockStatus, VarietyStatus, WaitingStatus,
};

use super::hub::{LiveHub, ask_hub, command_hub};
use super::hub_node::HubDesk;
use super::relay_node::RelayDesk;
use super::seller_node::SellerDesk;
use crate::hub::{Command, CommandError, Done, HubError, OrderRow};
use crate::ids::{SellerId, VarietyId};
use crate::intake::{IntakeError, MintError};
use crate::journal::JournalError;
use crate::net::{Clock, Random};
use crate::registry::Registry;
use std::sync::Arc;

/// Answers operators. Every method blocks until the answer is there; intake and minting run on the calling thread.
#[derive(Clone)]
pub struct Office {
    desk: Arc<Desk>,
}

/// What an [`Office`] works with.
struct Desk {
    hub: Option<HubDesk>,
    sellers: Vec<SellerDesk>,
    relay: Option<RelayDesk>,
    clock: Clock,
    random: Random,
    started_unix_ms: u64,
}

/// Why an operator's request was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// The hub said no.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The hub cannot answer: it stops, or its disk is full.
    #[error(
        "the hub did not answer: its disk may be full, or it is stopping; see `pinwheel status` before you repeat this"
    )]
    NoAnswer,
    /// The hub is another process.
    #[error("no hub runs here: ask at the hub's data directory (--data)")]
    NoHub,
    /// There is no such node.
    #[error("there is no node {0:?}: see `pinwheel status`")]
    NoSuchNode(String),
    /// The hub cannot be lost to itself.
    #[error("the hub itself cannot be declared lost [hub]")]
    HubItself,
    /// There is no such move.
    #[error("there is no move {0}, or it is forgotten: see `pinwheel moves`")]
    NoSuchMove(u64),
    /// Only a seller can say.
    #[error("name one of the sellers: {0}")]
    WhichSeller(String),
    /// There is no such variety.
    #[error("there is no variety {0:?}: see `pinwheel variety list`")]
    NoSuchVariety(String),
    /// A supplier's file was not taken in.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// No PINs were issued.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The journal does not go so far, or no batch ends there.
    #[error(
        "the journal has no batch that ends at position {0}: use 0 or a position that an earlier answer named"
    )]
    NoSuchPosition(u64),
    /// The archive cannot be read.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Office {
    pub(super) fn new(
        hub: Option<HubDesk>,
        sellers: Vec<SellerDesk>,
        relay: Option<RelayDesk>,
        clock: Clock,
        random: Random,
    ) -> Self {
        let started_unix_ms = clock().unix_ms;
        Self { desk: Arc::new(Desk { hub, sellers, relay, clock, random, started_unix_ms }) }
    }

    /// The registry: as the hub has committed it, or, at a seller, as it came there.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub fn registry(&self) -> Result<Arc<Registry>, NotDone> {
        match (&self.desk.hub, self.desk.sellers.first()) {
            (None, Some(seller)) => Ok(seller.standing.registry()),
            _ => self.ask(|hub| Arc::clone(hub.registry())),
        }
    }

    /// Has the hub do a command.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn command(&self, command: Command) -> Result<Done, NotDone> {
        Ok(command_hub(&self.hub()?.hub, command).ok_or(NotDone::NoAnswer)??)
    }

    /// All orders to suppliers, with the codes of their varieties.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub fn orders(&self) -> Result<Vec<(OrderRow, String)>, NotDone> {
        self.ask(|hub| {
            let code =
                |order: &OrderRow| hub.registry().variety(order.variety).map(|variety| variety.code.clone());
            hub.orders().map(|order| (order.clone(), code(order).unwrap_or_default())).collect()
        })
    }

    /// The time, in Unix milliseconds.
    pub(in crate::network) fn now_ms(&self) -> u64 {
        (self.desk.clock)().unix_ms
    }

    /// PINs of a variety that the sellers of this process can sell at this moment, as of a moment ago.
    #[must_use]
    pub fn sellable(&self, variety: VarietyId) -> u64 {
        self.desk.sellers.iter().map(|seller| seller.standing.sellable(variety)).sum()
    }

    fn hub(&self) -> Result<&HubDesk, NotDone> {
        self.desk.hub.as_ref().ok_or(NotDone::NoHub)
    }

    /// The seller of this number, or the only one there is.
    fn seller(&self, number: Option<u32>) -> Option<&SellerDesk> {
        match (number, &self.desk.sellers[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(number), sellers) => sellers.iter().find(|seller| seller.seller == SellerId(number)),
        }
    }

    pub(in crate::network) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&LiveHub) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        ask_hub(&self.hub()?.hub, question).ok_or(NotDone::NoAnswer)
    }
}
