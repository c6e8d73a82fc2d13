//! Acquisition: how stock is ordered and comes in without an operator. `spec/orders.md` has the files and what a crash leaves.
//!
//! The hub decides what is ordered and keeps the books ([`crate::hub::orders`]); here suppliers are told and what they
//! deliver is taken in. Every step can be cut short: from the hub's books and the supplier's directory it is taken up again,
//! or shows as in doubt.

mod batch_file;
mod config;
mod mint;
mod order_file;
mod spool;
#[cfg(test)]
mod tests;

pub use config::{SUPPLIERS_FILE, Supplier, Suppliers, SuppliersError, Way};

use crate::hub::books::BatchRow;
use crate::hub::{Command, CommandError, Done, OrderRow};
use crate::ids::OrderId;
use crate::intake::{Profile, Recipe, Source};
use crate::registry::Registry;
use crate::stock::Expiry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

/// What acquisition asks of the hub. Every answer is of what is committed.
pub trait HubAccess {
    /// All orders.
    ///
    /// # Errors
    /// [`Setback::Later`].
    fn orders(&self) -> Result<Vec<OrderRow>, Setback>;

    /// The delivery that came as a file with this digest.
    ///
    /// # Errors
    /// [`Setback::Later`].
    fn batch_with_digest(&self, digest: u128) -> Result<Option<BatchRow>, Setback>;

    /// Dealers, terminals and varieties.
    ///
    /// # Errors
    /// [`Setback::Later`].
    fn registry(&self) -> Result<Arc<Registry>, Setback>;

    /// Has a command done.
    ///
    /// # Errors
    /// [`Setback::Later`]: it may or may not be done.
    fn command(&self, command: Command) -> Result<Result<Done, CommandError>, Setback>;

    /// Takes in a supplier's file; how many PINs that were, and the batch.
    ///
    /// # Errors
    /// [`Setback`]; with [`Setback::Later`] it may or may not be taken in.
    fn intake(&self, delivery: &Expected, profile: &Profile, file: &File) -> Result<Accepted, Setback>;

    /// Issues PINs.
    ///
    /// # Errors
    /// As [`HubAccess::intake`].
    fn mint(&self, delivery: &Expected, recipe: &Recipe) -> Result<Accepted, Setback>;

    /// Milliseconds of Unix time.
    fn now_ms(&self) -> u64;
}

/// What a delivery should be.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The variety's code.
    pub variety: String,
    /// The last day of validity where the file has none.
    pub expiry: Expiry,
    /// Where it comes from.
    pub source: Source,
}

/// A delivery that is in the books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Its batch.
    pub batch: u64,
    /// PINs.
    pub pins: u64,
}

/// Why a step was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Setback {
    /// What was delivered is not taken: all that is wrong with it, in lines for the supplier. No PIN is in it.
    Refused(String),
    /// It may work later: why not now.
    Later(String),
}

/// Tells suppliers of orders, and takes in what they deliver.
pub struct Acquisition {
    suppliers: Suppliers,
    /// What was last said of each matter, so that it is not said every second.
    said: BTreeMap<String, String>,
    /// Orders whose file went out while the hub did not answer: of these nobody needs to doubt.
    out: BTreeSet<OrderId>,
}

impl Acquisition {
    /// Begins with nothing in mind.
    #[must_use]
    pub fn new(suppliers: Suppliers) -> Self {
        Self { suppliers, said: BTreeMap::new(), out: BTreeSet::new() }
    }

    /// Does all that can be done now. Call it about once a second, and when the hub says that an order is to be placed, from
    /// a thread that may take as long as a file takes. `stopping` is asked between files; when it says yes, what is left
    /// stays where it is.
    pub fn turn(&mut self, hub: &impl HubAccess, stopping: &dyn Fn() -> bool) {
        let suppliers = std::mem::take(&mut self.suppliers);
        for supplier in &suppliers.suppliers {
            if stopping() {
                break;
            }
            let done = match &supplier.way {
                Way::Mint(terms) => mint::issue(self, supplier, terms, hub, stopping),
                Way::Spool(terms) => {
                    let placed = order_file::place(self, supplier, terms, hub);
                    // An order that cannot go out does not keep deliveries from coming in.
                    self.note(&format!("{}: orders", supplier.name), placed);
                    batch_file::take_in(self, supplier, terms, hub, stopping)
                }
            };
            self.note(&supplier.name, done);
        }
        self.suppliers = suppliers;
    }

    /// Says what went wrong with a matter, once, and that it is over.
    fn note(&mut self, matter: &str, done: Result<(), Setback>) {
        match done {
            Ok(()) => {
                if self.said.remove(matter).is_some() {
                    tracing::info!("{matter}: all is well again");
                }
            }
            Err(Setback::Refused(why) | Setback::Later(why)) => {
                if self.said.get(matter) != Some(&why) {
                    tracing::warn!("{matter}: {why}");
                    self.said.insert(matter.to_owned(), why);
                }
            }
        }
    }
}

/// The open orders of a supplier.
fn open_orders(hub: &impl HubAccess, supplier: &Supplier) -> Result<Vec<OrderRow>, Setback> {
    let mut orders = hub.orders()?;
    orders.retain(|order| order.supplier == supplier.name && order.state.is_open());
    Ok(orders)
}

/// Has a command about an order done.
fn settle(hub: &impl HubAccess, command: Command) -> Result<(), Setback> {
    match hub.command(command)? {
        Ok(_) => Ok(()),
        Err(error) => Err(Setback::Later(error.to_string())),
    }
}

/// The number in the name of an order file or of a batch file that answers it: `order-000012`, and what follows is no digit.
fn order_number(name: &str) -> Option<OrderId> {
    let rest = name.strip_prefix("order-")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok().filter(|number| *number > 0).map(OrderId)
}
