//! Segment files: a range of one block's records under one header.
//!
//! The hub's file of a whole block and a seller's file of the part it owns are the same format. Opening checks the header
//! alone, so that a start with millions of PINs is quick; the records have a checksum of their own for
//! [`SegmentFile::verify`], and each is authenticated again when it is opened for sale.

use super::BLOCK_PINS_MAX;
use super::expiry::Expiry;
use super::keys::WrappedKey;
use super::record::{BlockProperties, PIN_RECORD_BYTES, PinRecord};
use crate::disk::{Disk, DiskError};
use crate::ids::{BatchId, BlockId, Span, VarietyId};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// An open segment file.
pub struct SegmentFile<D: Disk> {
    header: SegmentHeader,
    records_checksum: u64,
    content: D::Content,
}

impl<D: Disk> SegmentFile<D> {
    /// Opens a file and checks its header and its length, not its records.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn open(disk: &D, path: &str) -> Result<Self, SegmentError> {
        let content = disk.open(path)?;
        let problem = |what| SegmentError::Damaged { path: path.to_owned(), what };
        let bytes = content.as_ref();
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(problem("it is shorter than its header"));
        };
        if head[..VERSION] != MAGIC {
            return Err(SegmentError::Foreign { path: path.to_owned() });
        }
        if read_u64(head, HEADER_CHECKSUM) != xxh3_64(&head[..HEADER_CHECKSUM]) {
            return Err(problem("its header does not match its checksum"));
        }
        let version = u16::from_le_bytes([head[VERSION], head[VERSION + 1]]);
        let record_bytes = u16::from_le_bytes([head[RECORD_SIZE], head[RECORD_SIZE + 1]]);
        if version != FORMAT_VERSION || usize::from(record_bytes) != PIN_RECORD_BYTES {
            return Err(SegmentError::Version { path: path.to_owned(), version });
        }
        let (header, records_checksum) = SegmentHeader::decode(head);
        if header.start >= header.end
            || header.end > header.block_count
            || header.block_count > BLOCK_PINS_MAX
        {
            return Err(problem("its header names an impossible range"));
        }
        if bytes.len() != HEADER_BYTES + header.span().len() as usize * PIN_RECORD_BYTES {
            return Err(problem("its length is not that of its records"));
        }
        Ok(Self { header, records_checksum, content })
    }

    /// What the file says about its records.
    #[must_use]
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The xxh3 of all records, as [`checksum`] computes it.
    #[must_use]
    pub fn records_checksum(&self) -> u64 {
        self.records_checksum
    }

    /// Whether the records are as they were written. Reads the whole file.
    #[must_use]
    pub fn verify(&self) -> bool {
        checksum(&[&self.content.as_ref()[HEADER_BYTES..]]) == self.records_checksum
    }

    /// The record at `index` of the block; `None` outside the file's range.
    #[must_use]
    pub fn record(&self, index: u16) -> Option<&PinRecord> {
        let place = u32::from(index).checked_sub(self.header.start)? as usize;
        self.content.as_ref()[HEADER_BYTES..].get(place * PIN_RECORD_BYTES..)?.first_chunk()
    }

    /// The records `start..end` of the block, as they lie in the file; `None` unless the file holds them all.
    #[must_use]
    pub fn records(&self, start: u32, end: u32) -> Option<&[u8]> {
        if start < self.header.start || start > end || end > self.header.end {
            return None;
        }
        let place = |index: u32| HEADER_BYTES + (index - self.header.start) as usize * PIN_RECORD_BYTES;
        self.content.as_ref().get(place(start)..place(end))
    }
}

/// What a segment file says about its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Their block.
    pub properties: BlockProperties,
    /// Index of the first PIN.
    pub start: u32,
    /// One past the index of the last PIN.
    pub end: u32,
    /// The ownership generation under which the range came here.
    pub generation: u32,
    /// PINs in the whole block.
    pub block_count: u32,
    /// The block's data key, wrapped for the node whose file this is.
    pub key: WrappedKey,
}

impl SegmentHeader {
    /// The range of the block that the file holds.
    #[must_use]
    pub fn span(&self) -> Span {
        Span { block: self.properties.block, start: self.start, end: self.end }
    }

    fn encode(&self, records_checksum: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(VERSION, &FORMAT_VERSION.to_le_bytes());
        put(RECORD_SIZE, &(PIN_RECORD_BYTES as u16).to_le_bytes());
        put(GENERATION, &self.generation.to_le_bytes());
        put(BLOCK, &self.properties.block.0.to_le_bytes());
        put(BATCH, &self.properties.batch.0.to_le_bytes());
        put(VARIETY, &self.properties.variety.0.to_le_bytes());
        put(EXPIRY, &self.properties.expiry.0.to_le_bytes());
        put(START, &self.start.to_le_bytes());
        put(END, &self.end.to_le_bytes());
        put(BLOCK_COUNT, &self.block_count.to_le_bytes());
        put(KEY, &self.key);
        put(RECORDS_CHECKSUM, &records_checksum.to_le_bytes());
        let header_checksum = xxh3_64(&bytes[..HEADER_CHECKSUM]);
        bytes[HEADER_CHECKSUM..].copy_from_slice(&header_checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> (Self, u64) {
        let header = Self {
            properties: BlockProperties {
                block: BlockId(read_u64(bytes, BLOCK)),
                variety: VarietyId(read_u32(bytes, VARIETY)),
                batch: BatchId(read_u64(bytes, BATCH)),
                expiry: Expiry(read_u32(bytes, EXPIRY)),
            },
            start: read_u32(bytes, START),
            end: read_u32(bytes, END),
            generation: read_u32(bytes, GENERATION),
            block_count: read_u32(bytes, BLOCK_COUNT),
            key: std::array::from_fn(|i| bytes[KEY + i]),
        };
        (header, read_u64(bytes, RECORDS_CHECKSUM))
    }
}

/// Writes a segment file, durably: the header, then the records that `parts` hold one after another.
///
/// # Errors
/// [`DiskError`]; any older file of that name is untouched then.
///
/// # Panics
/// When `parts` are not the records of the header's range: the caller has checked what a peer sent.
pub fn write_segment<D: Disk>(
    disk: &D,
    path: &str,
    header: &SegmentHeader,
    parts: &[&[u8]],
) -> Result<(), DiskError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(header.start < header.end && header.end <= header.block_count);
    assert!(header.block_count <= BLOCK_PINS_MAX);
    assert_eq!(length, header.span().len() as usize * PIN_RECORD_BYTES);
    let head = header.encode(checksum(parts));
    let mut whole: Vec<&[u8]> = Vec::with_capacity(1 + parts.len());
    whole.push(&head);
    whole.extend_from_slice(parts);
    disk.write(path, &whole)
}

/// The xxh3 of records that lie in several parts.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u64 {
    if let [part] = parts {
        return xxh3_64(part);
    }
    let mut hasher = Xxh3::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.digest()
}

/// Where the hub keeps a block.
#[must_use]
pub fn block_path(block: BlockId) -> String {
    format!("{BLOCK_DIRECTORY}/{:012x}.blk", block.0)
}

/// Where a seller keeps a segment.
#[must_use]
pub fn segment_path(span: Span, generation: u32) -> String {
    format!("{SEGMENT_DIRECTORY}/{:012x}-{}-{}-{generation}.seg", span.block.0, span.start, span.end)
}

/// The block that a file name in [`BLOCK_DIRECTORY`] stands for.
#[must_use]
pub fn parse_block_name(name: &str) -> Option<BlockId> {
    let block = BlockId(u64::from_str_radix(name.strip_suffix(".blk")?, 16).ok()?);
    (block_path(block).strip_prefix(BLOCK_DIRECTORY)?.strip_prefix('/')? == name).then_some(block)
}

/// The range and the ownership generation that a file name in [`SEGMENT_DIRECTORY`] stands for.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(Span, u32)> {
    let mut parts = name.strip_suffix(".seg")?.split('-');
    let block = BlockId(u64::from_str_radix(parts.next()?, 16).ok()?);
    let span = Span { block, start: parts.next()?.parse().ok()?, end: parts.next()?.parse().ok()? };
    let generation = parts.next()?.parse().ok()?;
    let path = segment_path(span, generation);
    (path.strip_prefix(SEGMENT_DIRECTORY)?.strip_prefix('/')? == name).then_some((span, generation))
}

/// Why a file cannot serve as a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The disk failed, or there is no such file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It never was a segment file.
    #[error("{path} is not a segment file")]
    Foreign {
        /// The file.
        path: String,
    },
    /// It is of another version of the format.
    #[error(
        "{path} has version {version} of the segment format; this program reads version {FORMAT_VERSION}"
    )]
    Version {
        /// The file.
        path: String,
        /// The version found.
        version: u16,
    },
    /// It is not as it was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// In what way.
        what: &'static str,
    },
}

fn read_u64(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn read_u32(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Where the hub keeps its blocks.
pub const BLOCK_DIRECTORY: &str = "blocks";
/// Where a seller keeps its segments.
pub const SEGMENT_DIRECTORY: &str = "stock";
/// Bytes before the first record.
pub const HEADER_BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"PINSTOCK";
const FORMAT_VERSION: u16 = 1;
// 0 magic, 8 version, 10 record size, 12 generation, 16 block, 24 batch, 32 variety, 36 expiry, 40 start, 44 end,
// 48 PINs in the block, 52 wrapped key, 112 xxh3 of the records, 120 xxh3 of the 120 bytes before.
const VERSION: usize = 8;
const RECORD_SIZE: usize = 10;
const GENERATION: usize = 12;
const BLOCK: usize = 16;
const BATCH: usize = 24;
const VARIETY: usize = 32;
const EXPIRY: usize = 36;
const START: usize = 40;
const END: usize = 44;
const BLOCK_COUNT: usize = 48;
const KEY: usize = 52;
const RECORDS_CHECKSUM: usize = 112;
const HEADER_CHECKSUM: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::stock::{BlockKey, Damaged, DataKey, NodeKeys};
    use wire::message::{Pin, Serial};

    fn header() -> SegmentHeader {
        let properties = BlockProperties {
            block: BlockId(0xabc),
            variety: VarietyId(3),
            batch: BatchId(5),
            expiry: Expiry(20_271_231),
        };
        let key = NodeKeys::from_node_key(&[1; 32]).at_rest().wrap(properties.block, &data_key());
        SegmentHeader { properties, start: 10, end: 30, generation: 4, block_count: 100, key }
    }

    fn data_key() -> DataKey {
        DataKey::from_bytes([3; 32])
    }

    fn records() -> Vec<u8> {
        let key = BlockKey::new(header().properties, &data_key());
        let seal = |index: u16| {
            key.seal(index, &Serial::new(b"S1").unwrap(), &Pin::new(index.to_string().as_bytes()).unwrap())
        };
        (10..30).flat_map(seal).collect()
    }

    fn written() -> (HeapDisk, String) {
        let (disk, path) = (HeapDisk::new(), segment_path(header().span(), 4));
        let records = records();
        write_segment(&disk, &path, &header(), &[&records[..640], &records[640..]]).unwrap();
        (disk, path)
    }

    #[test]
    fn a_segment_file_gives_back_every_record_at_its_index() {
        let (disk, path) = written();
        disk.lose_power(|| 0);
        let file = SegmentFile::open(&disk, &path).unwrap();
        assert_eq!(file.header(), &header());
        assert!(file.verify());
        let wrapped = &file.header().key;
        let data_key = NodeKeys::from_node_key(&[1; 32]).at_rest().unwrap(BlockId(0xabc), wrapped).unwrap();
        let key = BlockKey::new(file.header().properties, &data_key);
        for index in 10..30 {
            let (pin, _) = key.open(index, file.record(index).unwrap()).unwrap();
            assert_eq!(pin.as_bytes(), index.to_string().as_bytes());
        }
        assert!(file.record(9).is_none() && file.record(30).is_none() && file.record(u16::MAX).is_none());
    }

    #[test]
    fn a_part_of_a_segment_is_the_bytes_of_its_records() {
        let (disk, path) = written();
        let file = SegmentFile::open(&disk, &path).unwrap();
        assert_eq!(file.records(10, 30).unwrap(), records());
        assert_eq!(file.records(12, 13).unwrap(), file.record(12).unwrap());
        assert_eq!(file.records(30, 30), Some(&[][..]));
        for (start, end) in [(9, 12), (12, 31), (20, 19), (31, 31), (0, u32::MAX)] {
            assert_eq!(file.records(start, end), None);
        }
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed_on_opening() {
        let (disk, path) = written();
        for bit in 0..HEADER_BYTES * 8 {
            disk.flip_bit(&path, bit / 8, (bit % 8) as u8);
            assert!(SegmentFile::open(&disk, &path).is_err(), "bit {bit}");
            disk.flip_bit(&path, bit / 8, (bit % 8) as u8);
        }
    }

    #[test]
    fn a_damaged_record_is_found_by_verifying_and_harms_no_other() {
        let (disk, path) = written();
        disk.flip_bit(&path, HEADER_BYTES + 5 * PIN_RECORD_BYTES, 0);
        let file = SegmentFile::open(&disk, &path).unwrap();
        assert!(!file.verify());
        let key = BlockKey::new(header().properties, &data_key());
        for index in 10..30 {
            assert_eq!(key.open(index, file.record(index).unwrap()) == Err(Damaged), index == 15);
        }
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let (disk, path) = written();
        let whole = disk.open(&path).unwrap();
        for length in [0, 7, HEADER_BYTES - 1, HEADER_BYTES, whole.len() - 1] {
            disk.write("cut", &[&whole[..length]]).unwrap();
            assert!(matches!(SegmentFile::open(&disk, "cut"), Err(SegmentError::Damaged { .. })));
        }
        disk.write("long", &[&whole, b"x"]).unwrap();
        assert!(matches!(SegmentFile::open(&disk, "long"), Err(SegmentError::Damaged { .. })));
        disk.write("other", &[&[b'x'; 200]]).unwrap();
        assert!(matches!(SegmentFile::open(&disk, "other"), Err(SegmentError::Foreign { .. })));
    }

    #[test]
    fn file_names_say_what_is_inside() {
        let span = header().span();
        assert_eq!(block_path(span.block), "blocks/000000000abc.blk");
        assert_eq!(segment_path(span, 4), "stock/000000000abc-10-30-4.seg");
        assert_eq!(parse_block_name("000000000abc.blk"), Some(span.block));
        assert_eq!(parse_segment_name("000000000abc-10-30-4.seg"), Some((span, 4)));
        for name in ["abc-10-30-4.seg", "000000000abc-10-30.seg", "000000000abc-010-30-4.seg", "x", ".seg"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
        assert_eq!(parse_block_name("abc.blk"), None);
    }
}
