//! The hub as a node: its data directory, its threads, and what operators work with there.

use super::answering::ArchiveQuestion;
use super::hub::{self, Batches, HubHandle, HubMessage};
use super::{Failure, HubOptions, Nudge};
use crate::acquisition::Suppliers;
use crate::disk::lock::DirLock;
use crate::disk::mapped::MappedDisk;
use crate::hub::{HubError, read_archive};
use crate::ids::SellerId;
use crate::intake::FingerprintStore;
use crate::journal::batch::Batch;
use crate::journal::{Position, Record};
use crate::ledger::Ledger;
use crate::net::link::LinkOptions;
use crate::net::{Clock, Random};
use crate::stock::NodeKeys;
use crossbeam::channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A running hub.
pub(super) struct HubNode {
    pub(super) handle: HubHandle,
    pub(super) desk: HubDesk,
    /// If it runs: who supplies what.
    pub(super) buying: Option<Buying>,
    /// Questions about sequences of sellers that answer no more.
    pub(super) questions: Receiver<ArchiveQuestion>,
}

/// What the thread needs that deals with suppliers.
pub(super) struct Buying {
    pub(super) suppliers: Suppliers,
    pub(super) waker: Nudge,
    pub(super) wake: Receiver<()>,
}

/// What operators work with at the hub.
pub(super) struct HubDesk {
    pub(super) hub: Sender<HubMessage>,
    pub(super) disk: Arc<MappedDisk>,
    pub(super) keys: Arc<NodeKeys>,
    pub(super) fingerprints: Arc<FingerprintStore>,
    pub(super) batches: Arc<Batches>,
    /// Where nodes connect.
    pub(super) links: Option<SocketAddr>,
    /// What the archive of each node comes to.
    folds: Mutex<BTreeMap<SellerId, Fold>>,
}

/// An archive, folded up to a position.
#[derive(Default)]
struct Fold {
    ledger: Ledger,
    position: u64,
}

/// Starts the hub of a data directory whose lock is held. `may_be_absent`: what runs beside it can go on while it cannot
/// load for lack of room.
pub(super) fn start(
    options: HubOptions,
    lock: &DirLock,
    may_be_absent: bool,
    clock: Clock,
    random: Random,
    fatal: fn(&Failure) -> !,
) -> Result<HubNode, Failure> {
    let HubOptions { data, links, bulk_bytes_per_s } = options;
    let disk = Arc::new(MappedDisk::open(lock, "")?);
    let fresh = || {
        let mut key = [0; 32];
        random(&mut key);
        key
    };
    let keys = Arc::new(NodeKeys::from_file(&data.join("hub.key"), fresh)?);
    let fingerprints = Arc::new(FingerprintStore::open(&data.join("fingerprints"))?);
    let suppliers = Suppliers::read(&data)?;
    // Without a thread that places orders nothing is ordered.
    let buying = links.is_some().then(|| {
        let (waker, wake) = Nudge::new();
        Buying { suppliers, waker, wake }
    });
    let supply = buying.as_ref().map(|buying| (buying.suppliers.supply(), buying.waker.clone()));
    let address = links.as_ref().and_then(|links| links.local_addr().ok());
    let (handle, batches, questions) = hub::start(
        data.join("hub.db"),
        Arc::clone(&disk),
        Arc::clone(&keys),
        links.map(|links| (links, LinkOptions { bulk_bytes_per_s, ..LinkOptions::default() })),
        may_be_absent,
        supply,
        clock,
        random,
        fatal,
    )?;
    let hub = handle.sender();
    let desk = HubDesk { hub, disk, keys, fingerprints, batches, links: address, folds: Mutex::default() };
    Ok(HubNode { handle, desk, buying, questions })
}

impl HubDesk {
    /// Shows the books of a node as its archive tells them, at least up to `acked`, which is durable there, and says up to where.
    ///
    /// The first look reads the whole archive; the next goes on from there.
    pub(super) fn with_archive<T>(
        &self,
        node: SellerId,
        acked: Position,
        look: impl FnOnce(Position, &Ledger) -> T,
    ) -> Result<T, HubError> {
        let mut folds = self.folds.lock().unwrap_or_else(PoisonError::into_inner);
        let fold = folds.entry(node).or_default();
        let damaged =
            |position| HubError::ArchiveDamaged { node, path: format!("archive/{}", node.0), position };
        while let Some(shipment) =
            read_archive(&*self.disk, node, Position(fold.position), acked, READ_BYTES)?
        {
            let (mut position, mut bytes) = (shipment.start, &shipment.bytes[..]);
            while let Some(batch) = Batch::parse(bytes, position) {
                for record in batch.records() {
                    let record = Record::decode(record).map_err(|_| damaged(position.0))?;
                    fold.ledger.apply(&record, |_, _| ()).map_err(|_| damaged(position.0))?;
                }
                bytes = &bytes[(batch.end().0 - position.0) as usize..];
                position = batch.end();
            }
            fold.position = shipment.end.0;
        }
        Ok(look(Position(fold.position), &fold.ledger))
    }
}

/// Archive bytes read at a time.
const READ_BYTES: usize = 4 << 20;
