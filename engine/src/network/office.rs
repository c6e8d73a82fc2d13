//! What operators can ask of a network, from any thread, while it sells.

use super::bookkeeping::BookkeepingMessage;
use super::hub::{Batches, HubMessage, LiveHub, ask_hub, command_hub};
use crate::audit::{Report, SellerBooks, Tally, audit};
use crate::disk::mapped::MappedDisk;
use crate::hub::{Command, CommandError, Done, HubError};
use crate::ids::{BatchId, BlockId, SellerId, VarietyId};
use crate::intake::{
    BLOCKS_RESERVED, Delivery, DeliveryOrder, FingerprintStore, IntakeError, MintError, Profile, Progress,
    Recipe, Tools, intake_file, mint,
};
use crate::journal::{JournalError, JournalReader, Position, Space};
use crate::ledger::Ledger;
use crate::net::{Clock, Random, Seats, Stats};
use crate::registry::Registry;
use crate::stock::record::serial_of;
use crate::stock::segment::block_path;
use crate::stock::{Expiry, NodeKeys, SegmentFile};
use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Answers operators. Every method blocks until the answer is there; intake and minting run on the calling thread.
#[derive(Clone)]
pub struct Office {
    pub(super) desk: Arc<Desk>,
}

/// What an [`Office`] works with.
pub(super) struct Desk {
    pub(super) hub: Sender<HubMessage>,
    pub(super) bookkeeping: Sender<BookkeepingMessage>,
    pub(super) hub_disk: Arc<MappedDisk>,
    pub(super) hub_keys: Arc<NodeKeys>,
    pub(super) fingerprints: Arc<FingerprintStore>,
    pub(super) batches: Arc<Batches>,
    pub(super) stats: Arc<Stats>,
    pub(super) seats: Option<Seats>,
    pub(super) standing: Arc<Standing>,
    pub(super) reader: JournalReader<MappedDisk>,
    pub(super) space: Arc<Space>,
    pub(super) seller: SellerId,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) started_unix_ms: u64,
}

/// How the seller stands, as its threads last said. The values order nothing: all operations are relaxed.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The hub holds the journal up to here.
    pub(super) acknowledged: AtomicU64,
    /// Durable journal that the hub does not hold yet.
    pub(super) unreported_bytes: AtomicU64,
    /// The last attempt to use more of the disk failed for lack of room.
    pub(super) disk_full: AtomicBool,
    /// The hub answers.
    pub(super) linked: AtomicBool,
    in_stock: Mutex<BTreeMap<VarietyId, u64>>,
    registry: Mutex<Arc<Registry>>,
}

impl Standing {
    pub(super) fn set_in_stock(&self, in_stock: BTreeMap<VarietyId, u64>) {
        *self.in_stock.lock().unwrap_or_else(PoisonError::into_inner) = in_stock;
    }

    pub(super) fn set_registry(&self, registry: Arc<Registry>) {
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn in_stock(&self) -> BTreeMap<VarietyId, u64> {
        self.in_stock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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

/// What a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The batch.
    pub batch: u64,
    /// The variety's code.
    pub variety: String,
    /// PINs received.
    pub pins: u64,
    /// Blocks they were sealed into.
    pub blocks: usize,
}

/// How a network stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Where terminals connect; none if nothing sells.
    pub address: Option<String>,
    /// How long it has been running, in seconds.
    pub uptime_s: u64,
    /// The seller's number.
    pub seller: u32,
    /// How often the hub was started.
    pub hub_epoch: u64,
    /// Whether the hub answers the seller.
    pub linked: bool,
    /// Whether the disk had no room when more was wanted.
    pub disk_full: bool,
    /// Records of sales for which there is room in the journal now.
    pub free_records: u64,
    /// The journal is durable up to here.
    pub journal_durable: u64,
    /// The hub holds a copy up to here.
    pub journal_acknowledged: u64,
    /// Connections, authenticated or not.
    pub connections: usize,
    /// Terminals that are logged in.
    pub sessions: u64,
    /// Since the start: requests taken in.
    pub requests: u64,
    /// Since the start: answers with a PIN.
    pub answered_sold: u64,
    /// Since the start: declines.
    pub answered_declined: u64,
    /// Since the start: times a terminal was told to come back.
    pub answered_later: u64,
    /// Since the start: handshakes that failed.
    pub rejected: u64,
    /// Terminals registered.
    pub terminals: usize,
    /// By variety.
    pub varieties: Vec<VarietyStatus>,
}

/// Where the PINs of a variety are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarietyStatus {
    /// Its code.
    pub code: String,
    /// Ever received.
    pub received: u64,
    /// At the hub.
    pub hub: u64,
    /// On its way to a seller.
    pub in_transfer: u64,
    /// At sellers, not sold.
    pub at_seller: u64,
    /// Of those, how many can be sold at this moment; what has too little life left cannot.
    pub sellable: u64,
    /// Sold.
    pub sold: u64,
    /// Expired, damaged or voided.
    pub withdrawn: u64,
}

impl Office {
    /// The registry as it is committed.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub fn registry(&self) -> Result<Arc<Registry>, NotDone> {
        self.ask(|hub| Arc::clone(hub.registry()))
    }

    /// Has a command done.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn command(&self, command: Command) -> Result<Done, NotDone> {
        Ok(command_hub(&self.desk.hub, command).ok_or(NotDone::NoAnswer)??)
    }

    /// Takes in a supplier's file.
    ///
    /// # Errors
    /// [`NotDone`]; nothing was taken in then, unless the hub did not answer.
    pub fn intake(
        &self,
        variety: &str,
        profile: &Profile,
        expiry: Expiry,
        input: impl Read,
        input_bytes: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Delivered, NotDone> {
        self.deliver(variety, expiry, progress, |order, tools| {
            intake_file(order, profile, input, input_bytes, tools).map_err(Into::into)
        })
    }

    /// Issues PINs. Their serials are the recipe's prefix, the batch number and a counter.
    ///
    /// # Errors
    /// [`NotDone`]; nothing was issued then, unless the hub did not answer.
    pub fn mint(
        &self,
        variety: &str,
        recipe: &Recipe,
        expiry: Expiry,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Delivered, NotDone> {
        self.deliver(variety, expiry, progress, |order, tools| {
            let serial_prefix = format!("{}{:06}", recipe.serial_prefix, order.batch.0);
            mint(order, &Recipe { serial_prefix, ..recipe.clone() }, tools).map_err(Into::into)
        })
    }

    /// Whether every PIN is in exactly one place: the seller's durable journal against the hub's books.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub fn audit(&self) -> Result<Report, NotDone> {
        let mut report = self.compare()?;
        let registry = self.registry()?;
        report.name_varieties(|id| Some(registry.variety(VarietyId(id))?.code.clone()));
        let disk = &*self.desk.hub_disk;
        report.name_serials(|block, index| {
            let file = SegmentFile::open(disk, &block_path(BlockId(block))).ok()?;
            let serial = serial_of(file.record(u16::try_from(index).ok()?)?).ok()?;
            Some(String::from_utf8_lossy(serial.as_bytes()).into_owned())
        });
        Ok(report)
    }

    /// How things stand. Its caller knows where it listens.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub fn status(&self) -> Result<Status, NotDone> {
        let seller_books = self.seller_books()?;
        // Without the hub there is still something to say: what its seller knows.
        let hub = self.ask(|hub| (Arc::clone(hub.registry()), hub.epoch(), hub.audit_books())).ok();
        let Desk { stats, standing, reader, space, seats, seller, clock, started_unix_ms, .. } = &*self.desk;
        let (registry, hub_epoch, tallies) = match hub {
            Some((registry, epoch, books)) => (registry, epoch, audit(&books, &[seller_books]).varieties),
            None => (standing.registry(), 0, tallies_of(&seller_books)),
        };
        let in_stock = standing.in_stock();
        let varieties = registry.varieties().map(|variety| {
            let tally = tallies.get(&variety.id.0).cloned().unwrap_or_default();
            let Tally { received, hub, in_transfer, at_seller, sold, withdrawn, .. } = tally;
            let sellable = in_stock.get(&variety.id).copied().unwrap_or(0);
            let code = variety.code.clone();
            VarietyStatus { code, received, hub, in_transfer, at_seller, sellable, sold, withdrawn }
        });
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Ok(Status {
            pid: std::process::id(),
            address: None,
            uptime_s: clock().unix_ms.saturating_sub(*started_unix_ms) / 1000,
            seller: seller.0,
            hub_epoch,
            linked: standing.linked.load(Relaxed),
            disk_full: standing.disk_full.load(Relaxed),
            free_records: space.free_records(),
            journal_durable: reader.durable().0,
            journal_acknowledged: read(&standing.acknowledged),
            connections: seats.as_ref().map_or(0, Seats::taken),
            sessions: read(&stats.sessions),
            requests: read(&stats.requests),
            answered_sold: read(&stats.sold),
            answered_declined: read(&stats.declined),
            answered_later: read(&stats.later),
            rejected: read(&stats.rejected),
            terminals: registry.terminals().len(),
            varieties: varieties.collect(),
        })
    }

    /// The seller.
    #[must_use]
    pub fn seller(&self) -> SellerId {
        self.desk.seller
    }

    /// PINs of a variety that the seller can sell at this moment, as of a moment ago.
    #[must_use]
    pub fn sellable(&self, variety: VarietyId) -> u64 {
        self.desk.standing.in_stock().get(&variety).copied().unwrap_or(0)
    }

    fn compare(&self) -> Result<Report, NotDone> {
        // The seller's books first: see `audit`.
        let seller = self.seller_books()?;
        let hub = self.ask(LiveHub::audit_books)?;
        Ok(audit(&hub, &[seller]))
    }

    fn seller_books(&self) -> Result<SellerBooks, NotDone> {
        let (reply, answer) = bounded(1);
        let asked = self.desk.bookkeeping.send(BookkeepingMessage::Books(reply));
        asked.map_err(|_| NotDone::NoAnswer)?;
        answer.recv().map_err(|_| NotDone::NoAnswer)
    }

    fn deliver(
        &self,
        code: &str,
        expiry: Expiry,
        progress: &mut dyn FnMut(Progress),
        make: impl FnOnce(&DeliveryOrder, &mut Tools<'_, MappedDisk>) -> Result<Delivery, NotDone>,
    ) -> Result<Delivered, NotDone> {
        let registry = self.registry()?;
        let unknown = || NotDone::NoSuchVariety(code.to_owned());
        let variety = registry.variety_by_code(code).ok_or_else(unknown)?;
        let reserve = Command::Reserve { blocks: BLOCKS_RESERVED as u32 };
        let Done::Reserved { batch, blocks } = self.command(reserve)? else {
            unreachable!("a reservation is answered by one")
        };
        let Desk { batches, hub_disk, hub_keys, fingerprints, clock, random, .. } = &*self.desk;
        let mut seed = [0; 32];
        random(&mut seed);
        let order = DeliveryOrder {
            batch,
            variety: variety.id,
            face_value: variety.face_value,
            currency_digits: variety.currency_digits,
            expiry,
            blocks,
            now_ms: clock().unix_ms,
            seed,
        };
        let mut job = Job { batches, batch, committed: false };
        batches.begin(batch);
        let counts = |batch| batches.counts(batch);
        let fingerprints = &**fingerprints;
        let mut tools = Tools { disk: &**hub_disk, keys: hub_keys, fingerprints, counts: &counts, progress };
        let delivery = make(&order, &mut tools)?;
        let blocks = delivery.blocks.len();
        let Done::Delivered { received: pins } = self.command(Command::Deliver(delivery))? else {
            unreachable!("a delivery is answered by one")
        };
        job.committed = true;
        Ok(Delivered { batch: batch.0, variety: code.to_owned(), pins, blocks })
    }

    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&LiveHub) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        ask_hub(&self.desk.hub, question).ok_or(NotDone::NoAnswer)
    }
}

/// Keeps a batch counting while it is under way, whatever way that ends.
struct Job<'a> {
    batches: &'a Batches,
    batch: BatchId,
    committed: bool,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.batches.end(self.batch, self.committed);
    }
}

/// What a seller alone can say of its varieties.
fn tallies_of(books: &SellerBooks) -> BTreeMap<u32, Tally> {
    let mut tallies = BTreeMap::<u32, Tally>::new();
    let count = |ranges: &[(u32, u32)]| ranges.iter().map(|(start, end)| u64::from(end - start)).sum::<u64>();
    for segment in &books.segments {
        let tally = tallies.entry(segment.variety.0).or_default();
        let (sold, withdrawn) = (count(&segment.sold), count(&segment.withdrawn));
        tally.sold += sold;
        tally.withdrawn += withdrawn;
        tally.at_seller += u64::from(segment.span.len()) - sold - withdrawn;
    }
    tallies
}

/// A seller's side of the audit, from its durable fold.
pub(super) fn seller_books(seller: SellerId, position: Position, ledger: &Ledger) -> SellerBooks {
    SellerBooks::new(seller, position, ledger)
}
