//! The files of blocks, open and verified.

use super::HubError;
use crate::disk::Disk;
use crate::ids::BlockId;
use crate::stock::segment::block_path;
use crate::stock::{SegmentError, SegmentFile};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The block files in use, each verified once when it is opened.
pub(super) struct Contents<D: Disk> {
    disk: Arc<D>,
    /// With when it was last used, counted in uses.
    open: BTreeMap<BlockId, (u64, Bytes)>,
    uses: u64,
}

impl<D: Disk> Contents<D> {
    pub(super) fn new(disk: Arc<D>) -> Self {
        Self { disk, open: BTreeMap::new(), uses: 0 }
    }

    /// All records of a block.
    pub(super) fn open(&mut self, block: BlockId) -> Result<Bytes, HubError> {
        self.uses += 1;
        if let Some((used, bytes)) = self.open.get_mut(&block) {
            *used = self.uses;
            return Ok(bytes.clone());
        }
        let failed = |source: SegmentError| HubError::Block { block, source };
        let file = SegmentFile::open(&*self.disk, &block_path(block)).map_err(failed)?;
        let header = file.header();
        if header.properties.block != block || header.start != 0 || !file.verify() {
            return Err(HubError::BlockDamaged { block });
        }
        if self.open.len() >= OPEN_MAX
            && let Some((&oldest, _)) = self.open.iter().min_by_key(|(_, (used, _))| *used)
        {
            self.open.remove(&oldest);
        }
        let bytes = Bytes::from_owner(Records(file));
        self.open.insert(block, (self.uses, bytes.clone()));
        Ok(bytes)
    }
}

/// Lets the records of an open file be sent from where they lie.
struct Records<D: Disk>(SegmentFile<D>);

impl<D: Disk> AsRef<[u8]> for Records<D> {
    fn as_ref(&self) -> &[u8] {
        let header = self.0.header();
        self.0.records(header.start, header.end).unwrap_or_default()
    }
}

/// Block files kept open.
const OPEN_MAX: usize = 32;
