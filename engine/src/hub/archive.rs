//! The copy of one node's journal that the hub keeps: files that continue each other, each named by the position it
//! begins at.

use super::HubError;
use crate::disk::{Disk, DiskError};
use crate::ids::SellerId;
use crate::journal::Position;
use crate::journal::batch::{Batch, Chain, SLOT_BYTES};
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
            let Some(start) = name.strip_suffix(".log").and_then(|hex| u64::from_str_radix(hex, 16).ok())
            else {
                continue;
            };
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

fn path(node: SellerId, start: u64) -> String {
    format!("{}/{start:016x}.log", directory(node))
}

/// A file that has reached this size is continued by another.
const FILE_BYTES: u64 = 64 << 20;
