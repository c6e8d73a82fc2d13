//! Supplier files under built-in profiles, or under one that comes with the file.

use engine::disk::heap::HeapDisk;
use engine::ids::{BatchId, VarietyId};
use engine::intake::{DeliveryOrder, HeapFingerprints, Profile, Tools, intake_file};
use engine::stock::{Expiry, NodeKeys};
use std::sync::OnceLock;

/// A profile's number and the file; or 255, a profile, a zero byte and the file.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let (profile, file) = if which == 255 {
        let Some(end) = rest.iter().position(|&byte| byte == 0) else { return };
        let Ok(text) = std::str::from_utf8(&rest[..end]) else { return };
        let Ok(profile) = Profile::from_toml(text) else { return };
        (profile, &rest[end + 1..])
    } else {
        let names: Vec<_> = Profile::built_in_names().collect();
        let name = names[usize::from(which) % names.len()];
        (Profile::built_in(name).expect("it is named"), rest)
    };
    let order = DeliveryOrder {
        batch: BatchId(1),
        variety: VarietyId(1),
        face_value: 1000,
        currency_digits: 2,
        expiry: Expiry(20_301_231),
        blocks: 1..9,
        now_ms: 1_800_000_000_000,
        seed: [3; 32],
    };
    static KEYS: OnceLock<NodeKeys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| NodeKeys::from_node_key(&[9; 32]));
    let (disk, fingerprints) = (HeapDisk::new(), HeapFingerprints::default());
    let mut tools =
        Tools { disk: &disk, keys, fingerprints: &fingerprints, counts: &|_| true, progress: &mut |_| {} };
    match intake_file(&order, &profile, file, file.len() as u64, &mut tools) {
        Ok(delivery) => {
            let lines = file.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
            let pins: u64 = delivery.blocks.iter().map(|block| u64::from(block.count)).sum();
            assert!(delivery.received == pins && (1..=lines).contains(&pins));
            assert!(delivery.blocks.iter().all(|block| order.blocks.contains(&block.properties.block.0)));
            // The same file again: every PIN was seen before.
            let again = DeliveryOrder { batch: BatchId(2), blocks: 9..17, ..order };
            let twice = intake_file(&again, &profile, file, file.len() as u64, &mut tools);
            assert!(twice.is_err(), "a PIN is taken in once");
        }
        // What is said to the supplier can be said.
        Err(error) => drop(error.to_string()),
    }
}
