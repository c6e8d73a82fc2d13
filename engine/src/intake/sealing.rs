//! From PINs in clear to sealed, durable blocks.

use super::{Delivery, DeliveryError, DeliveryOrder, Item, NewBlock, Progress, Source, Step, Tools};
use crate::disk::Disk;
use crate::ids::BlockId;
use crate::stock::segment::{block_path, write_segment};
use crate::stock::{BLOCK_PINS_MAX, BlockKey, BlockProperties, DataKey, PIN_RECORD_BYTES, SegmentHeader};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

/// Writes the block files of a delivery: one expiry date per block, file order within it. If it fails, no file is left.
pub(super) fn seal<D: Disk>(
    order: &DeliveryOrder,
    mut items: Vec<Item>,
    random: &mut ChaCha20Rng,
    tools: &mut Tools<'_, D>,
) -> Result<Delivery, DeliveryError> {
    items.sort_by_key(|item| item.expiry);
    let groups = || {
        let same_expiry = items.chunk_by(|one, next| one.expiry == next.expiry);
        same_expiry.flat_map(|group| group.chunks(BLOCK_PINS_MAX as usize))
    };
    let needed = groups().count() as u64;
    let reserved = order.blocks.end.saturating_sub(order.blocks.start);
    if needed > reserved {
        return Err(DeliveryError::TooFewBlocks { needed, reserved });
    }
    let mut delivery = Delivery {
        batch: order.batch,
        variety: order.variety,
        received: items.len() as u64,
        blocks: Vec::with_capacity(groups().count()),
        source: Source::default(),
    };
    let mut done = 0;
    for (block, group) in order.blocks.clone().map(BlockId).zip(groups()) {
        match seal_block(order, block, group, random, tools) {
            Ok(block) => delivery.blocks.push(block),
            Err(error) => {
                // What cannot be removed now is an orphan, which the hub removes at its next start.
                for block in &delivery.blocks {
                    drop(tools.disk.remove(&block.path));
                }
                return Err(error);
            }
        }
        done += group.len() as u64;
        (tools.progress)(Progress { step: Step::Seal, done, total: delivery.received });
    }
    Ok(delivery)
}

fn seal_block<D: Disk>(
    order: &DeliveryOrder,
    block: BlockId,
    group: &[Item],
    random: &mut ChaCha20Rng,
    tools: &Tools<'_, D>,
) -> Result<NewBlock, DeliveryError> {
    let properties =
        BlockProperties { block, variety: order.variety, batch: order.batch, expiry: group[0].expiry };
    let mut raw = [0; 32];
    random.fill_bytes(&mut raw);
    let data_key = DataKey::from_bytes(raw);
    let key = BlockKey::new(properties, &data_key);
    let mut records = Vec::with_capacity(group.len() * PIN_RECORD_BYTES);
    for (index, item) in (0..=u16::MAX).zip(group) {
        records.extend_from_slice(&key.seal(index, &item.serial, &item.pin));
    }
    let count = u32::try_from(group.len()).expect("a group is at most a block");
    let wrapped = tools.keys.at_rest().wrap(block, &data_key);
    let header =
        SegmentHeader { properties, start: 0, end: count, generation: 0, block_count: count, key: wrapped };
    let path = block_path(block);
    write_segment(tools.disk, &path, &header, &[&records])?;
    Ok(NewBlock { properties, count, path, key: wrapped })
}
