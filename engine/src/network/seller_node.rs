//! A seller as a node: its data directory, its threads, and what operators work with there.

use super::backlog::Backlog;
use super::bookkeeping::{self, BookkeepingHandle, BookkeepingMessage};
use super::committing::{self, CommittingHandle};
use super::downlinks::Managers;
use super::hub_node::HubNode;
use super::join::{join, join_here};
use super::office::Standing;
use super::stewarding::{self, StewardingHandle, Upstream as Link};
use super::{Failure, SellerOptions, Upstream, spawn};
use crate::disk::Disk;
use crate::disk::lock::DirLock;
use crate::disk::mapped::MappedDisk;
use crate::ids::SellerId;
use crate::journal::{Journal, JournalOptions, JournalReader, Space};
use crate::ledger::Bookkeeper;
use crate::limits::{DRY_SIGNALS_MAX, LOOKUPS_MAX, SETTLING_MAX};
use crate::net::link::LinkKey;
use crate::net::{
    Clock, Front, FrontHandle, Meddler, Random, Reports, Seats, Stats, Worker, WorkerHandle, WorkerMessage,
    WorkerPort, home,
};
use crate::seller::Seller;
use crate::steward::{Content, Steward, stored_registry};
use crate::stock::NodeKeys;
use crossbeam::channel::{Sender, bounded};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use wire::session::Acceptor;

/// A running seller.
pub(super) struct SellerNode {
    /// Whether a server of this process is above it.
    is_below: bool,
    selling: Option<SellingThreads>,
    committing: CommittingHandle,
    bookkeeping: BookkeepingHandle,
}

/// What operators work with at a seller.
pub(super) struct SellerDesk {
    pub(super) seller: SellerId,
    /// Where terminals connect, if it sells.
    pub(super) address: Option<SocketAddr>,
    /// Where host connection managers connect, if any may.
    pub(super) links: Option<SocketAddr>,
    pub(super) bookkeeping: Sender<BookkeepingMessage>,
    pub(super) stats: Arc<Stats>,
    pub(super) seats: Option<Seats>,
    pub(super) standing: Arc<Standing>,
    pub(super) reader: JournalReader<MappedDisk>,
    pub(super) space: Arc<Space>,
}

struct SellingThreads {
    front: (FrontHandle, JoinHandle<()>),
    workers: Vec<(WorkerHandle<Content<MappedDisk>>, JoinHandle<()>)>,
    stewarding: StewardingHandle,
}

/// Starts the seller of a data directory whose lock is held: recovers what is in it, and sells if it is to. `hub` is the
/// one of this process, if there is one.
pub(super) fn start<M: Meddler>(
    options: SellerOptions,
    lock: &DirLock,
    hub: Option<&HubNode>,
    clock: Clock,
    random: Random,
    fatal: fn(&Failure) -> !,
    meddler: &dyn Fn(usize) -> M,
) -> Result<(SellerNode, SellerDesk), Failure> {
    let SellerOptions { data, upstream, selling, segment_bytes, unreported_alarm_s } = options;
    let disk = Arc::new(MappedDisk::open(lock, "")?);
    let fresh = || {
        let mut key = [0; 32];
        random(&mut key);
        key
    };
    let mut is_below = false;
    let (joined, addresses) = match (upstream, hub) {
        (Upstream::Here { name, below }, Some(hub)) => {
            is_below = below.is_some();
            let address = below.as_ref().map_or(hub.desk.links, |below| Some(below.address));
            let server = below.map(|below| below.server);
            let joined = join_here(&data, &name, server.as_deref(), &hub.handle)?;
            (joined, address.iter().map(ToString::to_string).collect())
        }
        (Upstream::Here { .. }, None) => (join(&data, None)?, Vec::new()),
        (Upstream::At { addresses, token }, _) => (join(&data, token.as_ref())?, addresses),
    };
    let keys = NodeKeys::from_file(&data.join("seller.key"), fresh)?;
    let seller_id = joined.seller;

    let mut mark = [0; 8];
    random(&mut mark);
    let journal = JournalOptions::with_segment_bytes(segment_bytes_of(&data, segment_bytes));
    let journal = journal.marked(u64::from_le_bytes(mark));
    let checkpoint_bytes = CHECKPOINT_BYTES.min(journal.segment_bytes);
    let (bookkeeper, journal) = Bookkeeper::recover(Arc::clone(&disk), journal, checkpoint_bytes)?;
    let (upkeep, reader) = (journal.upkeep(), journal.reader());
    log_recovery(seller_id, &journal);
    let (space, boot) = (journal.space(), journal.boot_epoch());
    let mut committer = committing::prepare(journal);
    let (dry_in, dry) = bounded(DRY_SIGNALS_MAX);
    let (lookups_in, lookups) = bounded(LOOKUPS_MAX);
    let (abroad_in, abroad) = bounded(SETTLING_MAX);
    let standing = Arc::<Standing>::default();
    if selling.is_none() {
        standing.set_registry(stored_registry(&disk, &keys)?);
    }
    let stats = Arc::<Stats>::default();
    let workers = selling.as_ref().map_or(0, |selling| selling.workers);
    let address = selling.as_ref().and_then(|selling| selling.listener.local_addr().ok());
    let links = selling.as_ref().and_then(|selling| selling.links.as_ref()?.local_addr().ok());
    let ports = (0..workers).map(|_| WorkerPort::new()).collect::<Result<Vec<_>, _>>();
    let (ports, handles): (Vec<_>, Vec<_>) = ports.map_err(Failure::Poll)?.into_iter().unzip();

    let prepared = selling
        .map(|selling| -> Result<_, Failure> {
            let ledger = bookkeeper.ledger();
            let steward = Steward::new(
                seller_id,
                Arc::clone(&disk),
                keys,
                Arc::new(joined.keys()),
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
            Ok((steward, windows, front, front_handle, seats, selling.links, selling.others))
        })
        .transpose()?;

    let mut selling = None;
    let mut seats = None;
    if let Some((steward, windows, front, front_handle, taken, links, others)) = prepared {
        seats = Some(taken);
        let mut worker_threads = Vec::new();
        for (worker, (port, windows)) in ports.into_iter().zip(windows).enumerate() {
            let handle = &handles[worker];
            let sender = committer.sender(Arc::new(handle.clone()));
            let (registry, library) = (Arc::clone(steward.registry()), steward.library());
            let seller = Seller::new(seller_id, registry, library, windows, Arc::clone(&space));
            let seller = seller.with_service(steward.service());
            let reports = Reports {
                worker,
                dry: dry_in.clone(),
                lookups: lookups_in.clone(),
                abroad: abroad_in.clone(),
            };
            let worker_thread = Worker::new(
                port,
                seller,
                sender,
                reports,
                front_handle.clone(),
                others,
                workers,
                Arc::clone(&stats),
                clock,
                meddler(worker),
            );
            worker_threads.push((
                handle.clone(),
                spawn("worker", fatal, move || worker_thread.run().map_err(Failure::Poll)),
            ));
        }
        let managers = Managers::default();
        managers.let_in(steward.registry());
        let (node, key) = (joined.seller, LinkKey::of(&joined.keys()));
        let stewarding = stewarding::start(
            steward,
            Arc::clone(&disk),
            &mut committer,
            boot,
            reader.clone(),
            Link { addresses, node, key },
            links,
            dry,
            abroad,
            handles.clone(),
            front_handle.clone(),
            managers,
            Arc::clone(&standing),
            clock,
            random,
            fatal,
        )?;
        let front = (front_handle, spawn("front", fatal, move || front.run().map_err(Failure::Poll)));
        selling = Some(SellingThreads { front, workers: worker_threads, stewarding });
    }
    drop((dry_in, lookups_in, abroad_in));
    // When nothing runs, nobody can say what the hub knows.
    let backlog = address.map(|_| Backlog::new(reader.clone(), data.clone(), unreported_alarm_s, clock));
    let bookkeeping = bookkeeping::start(
        bookkeeper,
        upkeep,
        backlog,
        seller_id,
        lookups,
        handles,
        Arc::clone(&standing),
        fatal,
    );
    let committing = committing::start(committer, fatal);
    let desk = SellerDesk {
        seller: seller_id,
        address,
        links,
        bookkeeping: bookkeeping.sender(),
        stats,
        seats,
        standing,
        reader,
        space,
    };
    Ok((SellerNode { is_below, selling, committing, bookkeeping }, desk))
}

impl SellerNode {
    /// Whether a server of this process is above it.
    pub(super) fn is_below(&self) -> bool {
        self.is_below
    }

    /// Ends in good order: no more connections, what is in flight is finished, terminals are sent away, the rest of the
    /// journal is reported, a checkpoint is written.
    pub(super) fn stop(self) {
        let Self { is_below: _, selling, committing, bookkeeping } = self;
        if let Some(SellingThreads { front, workers, stewarding }) = selling {
            front.0.stop();
            let _ = front.1.join();
            for (handle, _) in &workers {
                handle.send(WorkerMessage::Stop);
            }
            for (_, thread) in workers {
                let _ = thread.join();
            }
            stewarding.stop();
        }
        committing.stop();
        bookkeeping.stop();
    }
}

/// A journal keeps the segment size that it was begun with. A file may have been cut short, so the largest one tells;
/// what is no whole number of pages never was a size.
fn segment_bytes_of(data: &Path, configured: u64) -> u64 {
    let directory = std::fs::read_dir(data.join("journal"));
    let segments = directory.into_iter().flatten().filter_map(Result::ok);
    let segments = segments.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "seg"));
    let found = segments.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).max();
    found.filter(|bytes| *bytes > 0 && bytes.is_multiple_of(4096)).unwrap_or(configured)
}

fn log_recovery<D: Disk>(seller: SellerId, journal: &Journal<D>) {
    let (position, boot) = (journal.durable().0, journal.boot_epoch());
    tracing::info!(seller = seller.0, position, boot, "journal recovered: {:?}", journal.recovery());
}

/// A checkpoint is written when so much journal, or a segment, has been read since the last one.
const CHECKPOINT_BYTES: u64 = 32 << 20;
