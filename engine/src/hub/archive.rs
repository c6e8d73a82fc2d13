//! The copy of one node's journal that the hub keeps: files that continue each other, each named by the position it
//! begins at.

use super::HubError;
use crate::disk::{Disk, DiskError};
use crate::ids::SellerId;
use crate::journal::batch::{BATCH_BYTES_MAX, Batch, Chain, SLOT_BYTES};
use crate::journal::{Position, Shipment};
use bytes::Bytes;

/// Where a node's journal goes. What is appended counts only once its position is committed: a start cuts off the rest.
pub(super) struct Archive {
    node: SellerId,
    /// Where the file in use begins, and how long it is.
    file: Option<(u64, u64)>,
    /// A failed append may have left bytes behind the end.
    torn: bool,
    /// What the next batch must say to be the next one.
    chain: Chain,
}

impl Archive {
    /// Opens the archive, cuts it back to the committed position and verifies the file in use.
    pub(super) fn open<D: Disk>(disk: &D, node: SellerId, acked: u64) -> Result<Self, HubError> {
        let directory = directory(node);
        let mut file = None;
        let mut chain = Chain::default();
        for name in disk.list(&directory)? {
            let Some(start) = start_of(&name) else { continue };
            if start >= acked {
                disk.remove(&path(node, start))?;
            } else {
                file = Some((start, acked - start));
            }
        }
        if let Some((start, length)) = file {
            let path = path(node, start);
            let found = disk.open(&path)?.as_ref().len() as u64;
            if found < length {
                return Err(HubError::Archive { node, path, found, acked: length });
            }
            if found > length {
                disk.truncate(&path, length)?;
            }
            let end = walk(disk.open(&path)?.as_ref(), start);
            chain = end.map_err(|position| HubError::ArchiveDamaged { node, path, position })?;
        } else if acked > 0 {
            return Err(HubError::Archive { node, path: directory, found: 0, acked });
        }
        Ok(Self { node, file, torn: false, chain })
    }

    /// Where the archived journal stands.
    pub(super) fn chain(&self) -> Chain {
        self.chain
    }

    /// Appends ranges that continue `position` and each other and end at `chain`; durable on return.
    pub(super) fn append<D: Disk>(
        &mut self,
        disk: &D,
        position: u64,
        ranges: &[Bytes],
        chain: Chain,
    ) -> Result<(), DiskError> {
        let (start, length) = match self.file {
            Some((start, length)) if length < FILE_BYTES => (start, length),
            _ => (position, 0),
        };
        debug_assert_eq!(start + length, position, "ranges continue each other");
        let path = path(self.node, start);
        if self.torn {
            if length == 0 {
                disk.remove(&path)?;
            } else {
                disk.truncate(&path, length)?;
            }
        }
        self.torn = true;
        let new_length = disk.append(&path, &ranges.concat())?;
        debug_assert_eq!(new_length, length + ranges.iter().map(|range| range.len() as u64).sum::<u64>());
        self.torn = false;
        self.file = Some((start, new_length));
        self.chain = chain;
        Ok(())
    }
}

/// The batches of a node's archived journal that follow `from`, which is 0 or the end of a batch, in the archive's file that
/// holds them: about `bytes_max` bytes, but at least one batch. `None` when nothing follows below `acked`, up to which
/// the archive is committed.
///
/// # Errors
/// [`HubError::ArchiveDamaged`] when no batch begins there, [`HubError::Archive`] when nothing is there,
/// [`HubError::Disk`].
pub fn read_archive<D: Disk>(
    disk: &D,
    node: SellerId,
    from: Position,
    acked: Position,
    bytes_max: usize,
) -> Result<Option<Shipment>, HubError> {
    if from >= acked {
        return Ok(None);
    }
    let directory = directory(node);
    let starts = disk.list(&directory)?.into_iter().filter_map(|name| start_of(&name));
    let Some(start) = starts.filter(|start| *start <= from.0).max() else {
        return Err(HubError::Archive { node, path: directory, found: 0, acked: acked.0 });
    };
    let path = path(node, start);
    let length = bytes_max.max(BATCH_BYTES_MAX + SLOT_BYTES);
    let length = length.min(usize::try_from(acked.0 - from.0).unwrap_or(usize::MAX));
    let mut bytes = Vec::new();
    disk.read(&path, from.0 - start, length, &mut bytes)?;
    // The end of a segment may be too short for a batch.
    let skipped = if bytes.starts_with(&[0; SLOT_BYTES]) { SLOT_BYTES } else { 0 };
    bytes.drain(..skipped);
    let start = Position(from.0 + skipped as u64);
    let mut end = start;
    while let Some(batch) = Batch::parse(&bytes[(end.0 - start.0) as usize..], end) {
        end = batch.end();
    }
    if end == start {
        return Err(HubError::ArchiveDamaged { node, path, position: start.0 });
    }
    bytes.truncate((end.0 - start.0) as usize);
    Ok(Some(Shipment { start, end, bytes }))
}

/// Verifies a whole file; where the journal stands at its end, or the position of what is wrong. The first batch is taken
/// on trust.
fn walk(bytes: &[u8], start: u64) -> Result<Chain, u64> {
    let mut chain: Option<Chain> = None;
    let mut at = 0;
    while at < bytes.len() {
        let position = start + at as u64;
        if bytes[at..].starts_with(&[0; SLOT_BYTES]) {
            at += SLOT_BYTES; // the end of a segment, too short for a batch
            continue;
        }
        let batch = Batch::parse(&bytes[at..], Position(position)).ok_or(position)?;
        match &mut chain {
            None => chain = Some(Chain::after(&batch.header)),
            Some(chain) => chain.admit(&batch.header).then_some(()).ok_or(position)?,
        }
        at = (batch.end().0 - start) as usize;
    }
    chain.ok_or(start)
}

fn directory(node: SellerId) -> String {
    format!("archive/{:08x}", node.0)
}

/// Where the file of this name begins.
fn start_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()
}

fn path(node: SellerId, start: u64) -> String {
    format!("{}/{start:016x}.log", directory(node))
}

/// A file that has reached this size is continued by another.
const FILE_BYTES: u64 = 64 << 20;
