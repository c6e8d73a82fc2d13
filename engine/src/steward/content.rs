//! A segment as the pool holds it: the mapped file and the key that opens its records.

use super::StewardError;
use crate::disk::Disk;
use crate::ids::Span;
use crate::pool::Shelf;
use crate::seller::Sealed;
use crate::stock::segment::{SegmentFile, SegmentHeader, segment_path};
use crate::stock::{BlockKey, Expiry, WrappingKey};
use wire::message::{Pin, Serial};

/// One segment file with its block's key.
pub struct Content<D: Disk> {
    file: SegmentFile<D>,
    key: BlockKey,
}

impl<D: Disk> Content<D> {
    /// Opens a node's segment file.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn open(
        disk: &D,
        span: Span,
        generation: u32,
        keys: &WrappingKey,
    ) -> Result<Shelf<Self>, StewardError> {
        let file = SegmentFile::open(disk, &segment_path(span, generation))?;
        let header = *file.header();
        let wrong = |source| StewardError::Key { block: span.block.0, source };
        let key = keys.unwrap(span.block, &header.key).map_err(wrong)?;
        let properties = header.properties;
        let key = BlockKey::new(properties, &key);
        Ok(Shelf {
            block: span.block,
            variety: properties.variety,
            last_day: last_day(properties.expiry),
            content: Self { file, key },
        })
    }

    /// What the segment's file says of it.
    #[must_use]
    pub fn header(&self) -> &SegmentHeader {
        self.file.header()
    }

    /// The sealed records of a part of the segment; `None` if it is no part of it.
    #[must_use]
    pub fn records(&self, span: Span) -> Option<&[u8]> {
        self.file.records(span.start, span.end)
    }

    /// The serial of a PIN, which is not secret; `None` if its record is damaged or not in this segment.
    #[must_use]
    pub fn serial(&self, index: u16) -> Option<Serial> {
        crate::stock::record::serial_of(self.file.record(index)?).ok()
    }
}

impl<D: Disk> Sealed for Content<D> {
    fn open(&self, index: u16) -> Option<(Pin, Serial)> {
        self.key.open(index, self.file.record(index)?).ok()
    }

    fn expiry(&self) -> u32 {
        self.key.properties().expiry.0
    }

    fn holds(&self, index: u16) -> bool {
        let header = self.file.header();
        (header.start..header.end).contains(&u32::from(index))
    }
}

impl<D: Disk> std::fmt::Debug for Content<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("segment", &self.file.header().span()).finish_non_exhaustive()
    }
}

/// The last day of validity in days since 1970-01-01.
fn last_day(expiry: Expiry) -> u32 {
    let days = |ends_at_ms: u64| u32::try_from(ends_at_ms / DAY_MS).unwrap_or(u32::MAX);
    // It is valid until the end of that day, which is the first moment of the next.
    if expiry.is_some() { days(expiry.ends_at_ms()).saturating_sub(1) } else { u32::MAX }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
