//! A whole network in one process: the hub and one seller, each with a disk, a key file and threads of its own, and an
//! in-process link between them that carries what a real one does.
//!
//! This is wiring: it makes threads around the state machines and channels between them, and decides nothing. Clock,
//! randomness, and what to do when a thread cannot go on are handed in.
//!
//! ```text
//!  front ─arrivals─► workers ─records─► committer ─durable─► workers, steward
//!                     │   ▲ ranges, registry       ▲ records
//!                     dry └────────── steward ─────┘
//!                     lookups ─► bookkeeper          └─link─► hub ◄─commands─ office ◄─ command line
//! ```

mod acquiring;
mod bookkeeping;
mod committing;
mod failure;
mod hub;
mod office;
mod sequences;
mod stewarding;
#[cfg(test)]
mod tests;

pub use failure::Failure;
use office::Standing;
pub use office::{Delivered, NotDone, Office, Status, VarietyStatus};

use crate::acquisition::Suppliers;
use crate::commit::Wake;
use crate::disk::Disk;
use crate::disk::lock::DirLock;
use crate::disk::mapped::MappedDisk;
use crate::hub::{Command, Done};
use crate::ids::SellerId;
use crate::intake::FingerprintStore;
use crate::journal::JournalOptions;
use crate::ledger::Bookkeeper;
use crate::limits::{DRY_SIGNALS_MAX, LOOKUPS_MAX};
use crate::net::{
    Clock, Front, FrontHandle, Honest, Meddler, Random, Reports, Seats, Stats, Worker, WorkerHandle,
    WorkerPort, home,
};
use crate::seller::Seller;
use crate::steward::{Content, Levels, Steward};
use crate::stock::NodeKeys;
use acquiring::AcquiringHandle;
use bookkeeping::BookkeepingHandle;
use committing::CommittingHandle;
use crossbeam::channel::{Receiver, Sender, bounded};
use hub::HubHandle;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use stewarding::StewardingHandle;
use wire::session::Acceptor;
use zeroize::Zeroizing;

/// How to run.
#[derive(Clone)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// Sell, and how; `None`: only the stores are opened, for a command that works on them while nothing runs.
    pub selling: Option<Selling>,
    /// Size of a journal segment when the journal is begun, in bytes; a journal keeps the size it was begun with.
    pub segment_bytes: u64,
    /// Reads the clocks.
    pub clock: Clock,
    /// Fills bytes from a cryptographic generator.
    pub random: Random,
    /// Called by a thread that cannot go on: the process has to end at once, without a word to anyone.
    pub fatal: fn(&Failure) -> !,
}

/// How to sell.
pub struct Selling {
    /// Where terminals connect.
    pub listener: std::net::TcpListener,
    /// Whether terminals may talk in clear.
    pub clear: bool,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Most connections at a time.
    pub connections_max: usize,
    /// The seller's marks for every variety.
    pub levels: Levels,
}

impl Clone for Selling {
    fn clone(&self) -> Self {
        Self { listener: self.listener.try_clone().expect("a descriptor can be doubled"), ..*self }
    }
}

/// A running network.
pub struct Network {
    office: Office,
    selling: Option<SellingThreads>,
    committing: CommittingHandle,
    bookkeeping: BookkeepingHandle,
    hub: HubHandle,
    acquiring: Option<AcquiringHandle>,
    _lock: DirLock,
}

struct SellingThreads {
    front: (FrontHandle, JoinHandle<()>),
    workers: Vec<(WorkerHandle<Content<MappedDisk>>, JoinHandle<()>)>,
    stewarding: StewardingHandle,
}

impl Network {
    /// Takes the data directory, recovers what is in it, and starts.
    ///
    /// # Errors
    /// [`Failure`]; nothing runs then.
    pub fn start(options: Options) -> Result<Self, Failure> {
        Self::start_with(options, |_| Honest)
    }

    /// Like [`Network::start`], with what comes between each worker and its terminals, by the worker's number.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub fn start_with<M: Meddler>(options: Options, meddler: impl Fn(usize) -> M) -> Result<Self, Failure> {
        let Options { data, selling, segment_bytes, clock, random, fatal } = options;
        let lock = DirLock::acquire(&data)?;
        let hub_disk = Arc::new(MappedDisk::open(&lock, HUB)?);
        let disk = Arc::new(MappedDisk::open(&lock, SELLER)?);
        let fresh = || {
            let mut key = [0; 32];
            random(&mut key);
            key
        };
        let hub_keys = Arc::new(NodeKeys::from_file(&data.join(HUB).join("hub.key"), fresh)?);
        let keys = NodeKeys::from_file(&data.join(SELLER).join("seller.key"), fresh)?;
        let fingerprints = Arc::new(FingerprintStore::open(&data.join(HUB).join("fingerprints"))?);
        let suppliers = Suppliers::read(&data)?;
        let (buyer, to_buy) = Nudge::new();
        let stats = Arc::<Stats>::default();
        let (hub, batches) = hub::start(
            data.join(HUB).join("hub.db"),
            Arc::clone(&hub_disk),
            Arc::clone(&hub_keys),
            joined(&data.join(SELLER)).is_some(),
            // Without a thread that places orders nothing is ordered.
            selling.is_some().then(|| (suppliers.supply(), buyer.clone())),
            clock,
            random,
            fatal,
        )?;
        let (seller_id, link_keys) = join_hub(&data, &hub)?;

        let journal = JournalOptions::with_segment_bytes(segment_bytes_of(&data, segment_bytes));
        let checkpoint_bytes = CHECKPOINT_BYTES.min(journal.segment_bytes);
        let (bookkeeper, journal) = Bookkeeper::recover(Arc::clone(&disk), journal, checkpoint_bytes)?;
        let (upkeep, reader) = (journal.upkeep(), journal.reader());
        log_recovery(&journal);
        let space = journal.space();
        let mut committer = committing::prepare(journal);
        let (dry_in, dry) = bounded(DRY_SIGNALS_MAX);
        let (lookups_in, lookups) = bounded(LOOKUPS_MAX);
        let standing = Arc::<Standing>::default();
        let workers = selling.as_ref().map_or(0, |selling| selling.workers);
        let ports = (0..workers).map(|_| WorkerPort::new()).collect::<Result<Vec<_>, _>>();
        let (ports, handles): (Vec<_>, Vec<_>) = ports.map_err(Failure::Poll)?.into_iter().unzip();

        let prepared = selling
            .map(|selling| -> Result<_, Failure> {
                let ledger = bookkeeper.ledger();
                let steward = Steward::new(
                    seller_id,
                    Arc::clone(&disk),
                    keys,
                    link_keys,
                    Arc::clone(&space),
                    workers,
                    selling.levels,
                    ledger,
                )?;
                let windows = ledger.windows.clone().split(workers, |terminal| home(terminal, workers));
                let acceptor = Acceptor::new(selling.clear);
                let seats = Seats::new(selling.connections_max);
                let (front, front_handle) = Front::new(
                    selling.listener,
                    acceptor,
                    Arc::clone(steward.registry()),
                    &handles,
                    seats.clone(),
                    Arc::clone(&stats),
                    clock,
                    random,
                )
                .map_err(Failure::Poll)?;
                Ok((steward, windows, front, front_handle, seats))
            })
            .transpose()?;

        let mut selling = None;
        let mut seats = None;
        let mut starting = Vec::new();
        if let Some((steward, windows, front, front_handle, taken)) = prepared {
            seats = Some(taken);
            let mut worker_threads = Vec::new();
            for (worker, (port, windows)) in ports.into_iter().zip(windows).enumerate() {
                let handle = &handles[worker];
                let sender = committer.sender(Arc::new(handle.clone()));
                let (registry, library) = (Arc::clone(steward.registry()), steward.library());
                let seller = Seller::new(seller_id, registry, library, windows, Arc::clone(&space));
                let reports = Reports { worker, dry: dry_in.clone(), lookups: lookups_in.clone() };
                let worker_thread =
                    Worker::new(port, seller, sender, reports, Arc::clone(&stats), clock, meddler(worker));
                worker_threads.push((
                    handle.clone(),
                    spawn("worker", fatal, move || worker_thread.run().map_err(Failure::Poll)),
                ));
            }
            let stewarding = stewarding::start(
                steward,
                &mut committer,
                reader.clone(),
                hub.sender(),
                dry,
                handles.clone(),
                front_handle.clone(),
                Arc::clone(&standing),
                clock,
                fatal,
            );
            starting.push(spawn("front", fatal, move || front.run().map_err(Failure::Poll)));
            let front = (front_handle, starting.pop().expect("it was pushed just now"));
            selling = Some(SellingThreads { front, workers: worker_threads, stewarding });
        }
        drop((dry_in, lookups_in));
        let bookkeeping =
            bookkeeping::start(bookkeeper, upkeep, seller_id, lookups, handles, Arc::clone(&standing), fatal);
        let committing = committing::start(committer, fatal);
        let desk = office::Desk {
            hub: hub.sender(),
            bookkeeping: bookkeeping.sender(),
            hub_disk,
            hub_keys,
            fingerprints,
            batches,
            stats,
            seats,
            standing,
            reader,
            space,
            seller: seller_id,
            clock,
            random,
            started_unix_ms: clock().unix_ms,
        };
        let office = Office { desk: Arc::new(desk) };
        let acquiring =
            selling.is_some().then(|| acquiring::start(suppliers, office.clone(), buyer, to_buy, fatal));
        Ok(Self { office, selling, committing, bookkeeping, hub, acquiring, _lock: lock })
    }

    /// Answers for the network to its operators; to be cloned for every thread that asks.
    #[must_use]
    pub fn office(&self) -> &Office {
        &self.office
    }

    /// Ends in good order: takes no more connections, finishes what is in flight, sends the terminals away, reports the
    /// rest of the journal, writes a checkpoint. Nothing depends on it having been called.
    pub fn stop(self) {
        let Self { office, selling, committing, bookkeeping, hub, acquiring, _lock } = self;
        if let Some(acquiring) = acquiring {
            acquiring.stop();
        }
        if let Some(SellingThreads { front, workers, stewarding }) = selling {
            front.0.stop();
            let _ = front.1.join();
            for (handle, _) in &workers {
                handle.send(crate::net::WorkerMessage::Stop);
            }
            for (_, thread) in workers {
                let _ = thread.join();
            }
            stewarding.stop();
        }
        committing.stop();
        bookkeeping.stop();
        drop(office);
        hub.stop();
    }
}

/// The seller's number and the keys of its link, made at the hub when there is none yet.
fn join_hub(data: &Path, hub: &HubHandle) -> Result<(SellerId, Arc<NodeKeys>), Failure> {
    let directory = data.join(SELLER);
    let (seller, node_key) = if let Some(seller) = joined(&directory) {
        (seller, None)
    } else {
        let known = hub.ask(|hub| {
            let first = hub.nodes().next().map(|(node, _)| node);
            first.map(|node| (node, hub.journal_acked(node).unwrap_or(0), hub.node_key(node)))
        })?;
        match known {
            Some((node, archived, _)) if archived > 0 => {
                return Err(Failure::SellerLost { seller: node, directory });
            }
            // The hub knows it and it never got as far as selling: an unfinished first start.
            Some((node, _, node_key)) => (node, node_key?),
            None => match hub.command(Command::AddNode { name: "seller-1".to_owned() })? {
                Ok(Done::Node { seller, node_key }) => (seller, Some(node_key)),
                other => unreachable!("the first node can be added: {other:?}"),
            },
        }
    };
    let path = directory.join(format!("link-{}.key", seller.0));
    let missing = std::cell::Cell::new(false);
    let keys = NodeKeys::from_file(&path, || {
        node_key.as_ref().map_or_else(
            || {
                missing.set(true);
                [0; 32]
            },
            |key| *Zeroizing::new(*key.expose()),
        )
    })?;
    if missing.get() {
        return Err(Failure::SellerLost { seller, directory });
    }
    Ok((seller, Arc::new(keys)))
}

/// The seller that this directory belongs to, if it has joined a hub.
fn joined(directory: &Path) -> Option<SellerId> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| link_number(entry.file_name().to_str()?)).next()
}

/// The seller's number in the name of its link key's file.
fn link_number(name: &str) -> Option<SellerId> {
    name.strip_prefix("link-")?.strip_suffix(".key")?.parse().ok().map(SellerId)
}

/// A journal keeps the segment size that it was begun with. A file may have been cut short, so the largest one tells;
/// what is no whole number of pages never was a size.
fn segment_bytes_of(data: &Path, configured: u64) -> u64 {
    let directory = std::fs::read_dir(data.join(SELLER).join("journal"));
    let segments = directory.into_iter().flatten().filter_map(Result::ok);
    let segments = segments.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "seg"));
    let found = segments.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).max();
    found.filter(|bytes| *bytes > 0 && bytes.is_multiple_of(4096)).unwrap_or(configured)
}

fn log_recovery<D: Disk>(journal: &crate::journal::Journal<D>) {
    let (position, boot) = (journal.durable().0, journal.boot_epoch());
    tracing::info!(position, boot, "journal recovered: {:?}", journal.recovery());
}

/// Starts a thread that ends the process when it cannot go on.
fn spawn(
    name: &str,
    fatal: fn(&Failure) -> !,
    run: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> JoinHandle<()> {
    let guarded = move || {
        if let Err(failure) = run() {
            fatal(&failure);
        }
    };
    Builder::new().name(name.to_owned()).spawn(guarded).expect("the system has room for another thread")
}

/// Wakes a thread that waits on a channel with room for one.
#[derive(Clone)]
struct Nudge(Sender<()>);

impl Nudge {
    fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Self(sender), receiver)
    }
}

impl Wake for Nudge {
    fn wake(&self) {
        // When there is one already, the thread will look again anyway.
        let _ = self.0.try_send(());
    }
}

/// The hub's part of a data directory.
const HUB: &str = "hub";
/// The seller's part.
const SELLER: &str = "seller";
/// A checkpoint is written when so much journal, or a segment, has been read since the last one.
const CHECKPOINT_BYTES: u64 = 32 << 20;
