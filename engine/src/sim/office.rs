//! What operators do at the hub: they start it, add varieties, bring deliveries, and read what it holds of everybody's journal.

use super::dice::Dice;
use super::oracle::{Oracle, PIN_DIGITS};
use crate::audit::SellerBooks;
use crate::disk::heap::HeapDisk;
use crate::hub::{Command, Done, Hub, HubError, MemoryStore, Output, Spent, read_archive};
use crate::ids::{PinId, SellerId, VarietyId};
use crate::intake::{Alphabet, Delivery, DeliveryOrder, HeapFingerprints, Recipe, Tools, mint};
use crate::journal::batch::Batch;
use crate::journal::{Position, Record};
use crate::ledger::Ledger;
use crate::registry::Variety;
use crate::stock::segment::SegmentFile;
use crate::stock::{BlockKey, Expiry, NodeKeys};
use crate::time::Now;
use std::sync::Arc;

/// A hub on a store and a disk in memory.
pub(super) type SimHub = Hub<MemoryStore, HeapDisk>;

/// The hub as it starts on what is stored.
///
/// # Errors
/// [`HubError`].
pub(super) fn start_hub(store: &MemoryStore, disk: &Arc<HeapDisk>) -> Result<SimHub, HubError> {
    Hub::load(store.clone(), disk.clone(), Arc::new(hub_keys()))
}

/// The hub's own keys.
pub(super) fn hub_keys() -> NodeKeys {
    NodeKeys::from_node_key(&HUB_KEY)
}

/// The same, on a disk without faults.
pub(super) fn load_hub(store: &MemoryStore, disk: &Arc<HeapDisk>) -> SimHub {
    start_hub(store, disk).expect("the hub starts")
}

/// Shows every record that the hub holds of a node's journal; up to where.
pub(super) fn read_archived(
    hub: &SimHub,
    disk: &HeapDisk,
    node: SellerId,
    mut show: impl FnMut(&Record),
) -> Position {
    let acked = Position(hub.journal_acked(node).expect("the hub knows the node"));
    let mut at = Position(0);
    while let Some(shipment) = read_archive(disk, node, at, acked, 1 << 20).expect("the archive can be read")
    {
        let (mut position, mut bytes) = (shipment.start, &shipment.bytes[..]);
        while let Some(batch) = Batch::parse(bytes, position) {
            for record in batch.records() {
                show(&Record::decode(record).expect("every record is known"));
            }
            bytes = &bytes[(batch.end().0 - position.0) as usize..];
            position = batch.end();
        }
        at = shipment.end;
    }
    acked
}

/// What the hub's copy of a node's journal comes to.
pub(super) fn archived(hub: &SimHub, disk: &HeapDisk, node: SellerId) -> (Position, Ledger) {
    let mut ledger = Ledger::default();
    let apply =
        |record: &Record| ledger.apply(record, |_, _| ()).expect("the archive does not contradict itself");
    let position = read_archived(hub, disk, node, apply);
    (position, ledger)
}

/// The same for the audit.
pub(super) fn archived_books(hub: &SimHub, disk: &HeapDisk, node: SellerId) -> SellerBooks {
    let (position, ledger) = archived(hub, disk, node);
    SellerBooks::new(node, position, &ledger)
}

/// What the archives say of what a node does not hold any more.
pub(super) fn spent(hub: &SimHub, disk: &HeapDisk, node: SellerId) -> Spent {
    let (position, ledger) = archived(hub, disk, node);
    let mut spent = Spent::of(position, &ledger);
    if let Some(server) = hub.parent(node) {
        let (position, ledger) = archived(hub, disk, server);
        spent = spent.given_by(position, ledger.below.get(&node).cloned().unwrap_or_default());
    }
    for child in hub.children(node) {
        let (position, ledger) = archived(hub, disk, child);
        spent.add_below(&Spent::of(position, &ledger));
    }
    spent
}

pub(super) fn command(hub: &mut SimHub, command: Command, dice: &mut Dice, now: &Now) -> Done {
    let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&dice.bytes()[..bytes.len()]);
    hub.handle_command(1, command, now.unix_ms, &mut random).expect("the hub goes on");
    hub.commit().expect("the hub goes on");
    while let Some(output) = hub.poll_output() {
        if let Output::Done { result, .. } = output {
            return result.expect("a command of the simulation is right");
        }
    }
    panic!("a command is answered")
}

pub(super) fn add_variety(
    hub: &mut SimHub,
    product: u32,
    face_value: u64,
    dice: &mut Dice,
    now: &Now,
) -> VarietyId {
    let code = format!("product-{product}-{face_value}");
    let airtime = Variety::airtime(VarietyId(0), &code, product, face_value);
    let variety = Variety { receipt: b"Dial *100#".to_vec(), ..airtime };
    let Done::Variety(id) = command(hub, Command::AddVariety(variety), dice, now) else {
        panic!("a variety was asked for")
    };
    id
}

/// A delivery at a hub to which nobody listens yet.
#[expect(clippy::too_many_arguments, reason = "they are what a delivery is made of")]
pub(super) fn deliver(
    hub: &mut SimHub,
    disk: &Arc<HeapDisk>,
    fingerprints: &HeapFingerprints,
    wanted: (VarietyId, u64, u32),
    serials_before: u32,
    dice: &mut Dice,
    now: &Now,
    oracle: &mut Oracle,
) {
    let reserved = command(hub, Command::Reserve { blocks: 4 }, dice, now);
    let delivery = make(&reserved, disk, fingerprints, wanted, serials_before, dice, now, oracle);
    command(hub, Command::Deliver(delivery), dice, now);
}

/// Makes PINs and puts them into files, under the numbers reserved for them.
#[expect(clippy::too_many_arguments, reason = "they are what a delivery is made of")]
pub(super) fn make(
    reserved: &Done,
    disk: &Arc<HeapDisk>,
    fingerprints: &HeapFingerprints,
    (variety, face_value, count): (VarietyId, u64, u32),
    serials_before: u32,
    dice: &mut Dice,
    now: &Now,
    oracle: &mut Oracle,
) -> Delivery {
    let Done::Reserved { batch, blocks } = reserved else { panic!("numbers were asked for") };
    let order = DeliveryOrder {
        batch: *batch,
        variety,
        face_value: 0,
        currency_digits: 2,
        // Some of the stock expires while the clock jumps on.
        expiry: if face_value == 500 { Expiry::NONE } else { Expiry(20_270_120) },
        blocks: blocks.clone(),
        now_ms: now.unix_ms,
        seed: dice.bytes(),
    };
    let recipe = Recipe {
        count,
        length: PIN_DIGITS as u8,
        alphabet: Alphabet::Digits,
        check: true,
        serial_prefix: format!("S{}", variety.0),
        serial_first: u64::from(serials_before) + 1,
        serial_digits: 6,
    };
    let keys = hub_keys();
    let mut tools =
        Tools { disk: &**disk, keys: &keys, fingerprints, counts: &|_| true, progress: &mut |_| {} };
    let delivery: Delivery = mint(&order, &recipe, &mut tools).expect("the recipe is right");
    for block in &delivery.blocks {
        let file = SegmentFile::open(&**disk, &block.path).expect("it was just written");
        let key = keys.at_rest().unwrap(block.properties.block, &block.key).expect("it was just wrapped");
        let key = BlockKey::new(block.properties, &key);
        for index in 0..block.count as u16 {
            let record = file.record(index).expect("it is in the block");
            let (pin, serial) = key.open(index, record).expect("it was just sealed");
            let id = PinId::new(block.properties.block, index);
            oracle.minted(id, pin.as_bytes().to_vec(), serial.as_bytes().to_vec());
        }
    }
    delivery
}

const HUB_KEY: [u8; 32] = [1; 32];
