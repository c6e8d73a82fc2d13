use super::*;
use crate::disk::heap::HeapDisk;
use crate::ids::BatchId;
use crate::journal::{Journal, JournalOptions, Position};
use crate::registry::Variety;
use crate::stock::{BlockKey, BlockProperties, DataKey, Expiry, PIN_RECORD_BYTES};
use bytes::Bytes;
use wire::message::{Charset, Pin, Serial};
use xxhash_rust::xxh3::xxh3_64;

const VARIETY: VarietyId = VarietyId(1);
const STOCK: u32 = 20;

fn begin(disk: &HeapDisk) -> Steward<HeapDisk> {
    let (disk, options) = (Arc::new(disk.clone()), JournalOptions::with_segment_bytes(1 << 16));
    let start = Position(0);
    let journal = Journal::open(disk.clone(), options, start, start, &mut |_, _| Ok(())).unwrap();
    let (keys, link_keys) = (NodeKeys::from_node_key(&[2; 32]), Arc::new(NodeKeys::from_node_key(&[3; 32])));
    let levels = Levels { low: STOCK, target: STOCK };
    Steward::new(SellerId(1), disk, keys, link_keys, journal.space(), 1, levels, &Ledger::default()).unwrap()
}

fn registry() -> Arc<Registry> {
    let mut registry = Registry::default();
    let variety = Variety {
        id: VARIETY,
        code: "airtime-za-10".into(),
        product: 1,
        face_value: 1000,
        currency: *b"ZAR",
        currency_digits: 2,
        charset: Charset::Ascii,
        name: b"Airtime".to_vec(),
        receipt: Vec::new(),
        minimum_life_days: 0,
    };
    registry.add_variety(variety).unwrap();
    registry.set_version(1);
    Arc::new(registry)
}

/// An offer of all the stock, and its content.
fn offer(number: u64) -> [ToNode; 2] {
    let block = BlockId(7);
    let properties = BlockProperties { block, variety: VARIETY, batch: BatchId(1), expiry: Expiry(0) };
    let data_key = DataKey::from_bytes([5; 32]);
    let sealer = BlockKey::new(properties, &data_key);
    let serial = |index: u32| Serial::new(format!("S{index}").as_bytes()).unwrap();
    let pin = Pin::new(b"1234567890").unwrap();
    let content: Vec<u8> =
        (0..STOCK).flat_map(|index| sealer.seal(index as u16, &serial(index), &pin)).collect();
    let offer = Offer {
        stream: Stream::Bulk,
        number,
        settled_below: 1,
        request: 0,
        span: Span { block, start: 0, end: STOCK },
        generation: number as u32,
        properties,
        block_count: STOCK,
        wrapped_key: NodeKeys::from_node_key(&[3; 32]).link().wrap(block, &data_key),
        bytes: STOCK * PIN_RECORD_BYTES as u32,
        checksum: xxh3_64(&content),
    };
    let chunk = ToNode::Chunk { stream: Stream::Bulk, number, offset: 0, bytes: Bytes::from(content) };
    [ToNode::Offer(offer), chunk]
}

/// What it sends, after all its records have become durable.
fn sent(steward: &mut Steward<HeapDisk>, now: &Now) -> Vec<ToHub> {
    steward.records().clear();
    steward.handle_durable(steward.made, now).unwrap();
    std::iter::from_fn(|| steward.poll_action())
        .filter_map(|action| match action {
            StewardAction::Send(message) => Some(message),
            StewardAction::Drop(fault) => panic!("{fault}"),
            _ => None,
        })
        .collect()
}

fn asks(messages: &[ToHub]) -> usize {
    messages.iter().filter(|message| matches!(message, ToHub::Need { .. } | ToHub::Urgent { .. })).count()
}

#[test]
fn law_8_a_full_disk_stops_neither_the_start_nor_asks_for_stock_without_pause() {
    let disk = HeapDisk::new();
    let mut steward = begin(&disk);
    let mut now = Now::default();
    disk.limit(Some(0));
    steward.handle_connected(0);
    let welcome = ToNode::Welcome { hub_epoch: 3, pending: 0, journal_acked: 0 };
    for message in [welcome, ToNode::Registry(registry()), ToNode::Ready] {
        steward.handle_message(message, &now).unwrap();
    }
    assert_eq!(asks(&sent(&mut steward, &now)), 1, "linked although nothing could be stored");
    for message in offer(1) {
        steward.handle_message(message, &now).unwrap();
    }
    steward.handle_message(ToNode::Answered { request: 1, granted: STOCK }, &now).unwrap();
    let refused = sent(&mut steward, &now);
    assert!(refused.iter().any(|message| matches!(message, ToHub::Answer { accepted: false, .. })));
    steward.handle_message(ToNode::StockArrived { variety: VARIETY }, &now).unwrap();
    steward.handle_dry(0, VARIETY, &now);
    steward.handle_tick(&now);
    assert_eq!(asks(&sent(&mut steward, &now)), 0, "there is no room yet");

    disk.limit(None);
    now.monotonic_ms += REFUSED_REST_MS;
    steward.handle_tick(&now);
    assert_eq!(asks(&sent(&mut steward, &now)), 2, "one in bulk, one for the vend that waits");
    assert!(disk.open(HUB_EPOCH_FILE).is_err(), "nothing was taken yet");
    for message in offer(2) {
        steward.handle_message(message, &now).unwrap();
    }
    let taken = sent(&mut steward, &now);
    assert!(taken.iter().any(|message| matches!(message, ToHub::Answer { accepted: true, .. })));
    assert_eq!(steward.in_stock(VARIETY, &now), u64::from(STOCK));
    assert_eq!(disk.open(HUB_EPOCH_FILE).unwrap().as_ref(), 3u64.to_le_bytes(), "stored before the stock");
}

#[test]
fn an_old_copy_of_the_hub_is_refused() {
    let disk = HeapDisk::new();
    let welcome = |hub_epoch| ToNode::Welcome { hub_epoch, pending: 0, journal_acked: 0 };
    begin(&disk).handle_message(welcome(3), &Now::default()).unwrap();
    let mut steward = {
        let (disk, space) = (Arc::new(disk.clone()), begin(&HeapDisk::new()).space);
        let keys = |byte| NodeKeys::from_node_key(&[byte; 32]);
        let levels = Levels { low: 0, target: 1 };
        Steward::new(SellerId(1), disk, keys(2), Arc::new(keys(3)), space, 1, levels, &Ledger::default()).unwrap()
    };
    let refused = steward.handle_message(welcome(2), &Now::default());
    assert!(matches!(refused, Err(StewardError::OldHub { hub_epoch: 2, seen: 3 })));
}
