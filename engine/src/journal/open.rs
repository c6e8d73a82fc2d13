//! Opening: walk, judge the tail, make durable what was seen, begin a new boot.

use super::batch::{BATCH_BYTES_MAX, Batch, Chain, SLOT_BYTES};
use super::record::RecordBytes;
use super::segments::{DIRECTORY, Segment, Shared, segment_before, segment_number, segment_path};
use super::{Journal, JournalError, JournalOptions, Position, space};
use crate::disk::{Disk, Region};
use crate::planted::{self, Fault};
use std::ops::Range;
use std::sync::Arc;

/// Why the reader of the journal refuses a record.
pub type VisitError = Box<dyn std::error::Error + Send + Sync>;

/// Is shown the records of a batch and where it ends.
pub type Visit<'a> = dyn FnMut(Position, &[RecordBytes]) -> Result<(), VisitError> + 'a;

/// What was found when a journal was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Batches that were verified.
    pub batches: u64,
    /// Records that were shown to the visitor.
    pub records: u64,
    /// Where the journal ended, before this boot's own batch.
    pub end: Position,
    /// The last batch was not proven durable: it was stored again and synced.
    pub restored: bool,
    /// A batch had been begun after the end and never finished: it is cut off.
    pub torn: bool,
}

pub(super) fn open<D: Disk>(
    disk: Arc<D>,
    options: JournalOptions,
    from: Position,
    proven: Position,
    visit: &mut Visit<'_>,
) -> Result<Journal<D>, JournalError> {
    assert!(
        options.segment_bytes > 0 && options.segment_bytes.is_multiple_of(4096),
        "segments are whole pages"
    );
    assert!(options.segments_ahead > 0, "a journal goes on in the next segment");
    let files = Files::find(&*disk, options.segment_bytes, from, proven)?;
    let mut walk = Walk::begin(&*disk, &files, options.segment_bytes)?;
    walk.run(from, visit)?;
    walk.check_nothing_proven_follows(proven.max(from))?;
    let mut later = walk.open_later_segments()?;
    walk.settle_tail(later.first_mut().map(|segment| &mut segment.region))?;

    let Walk { segment, tail, chain, recovery, .. } = walk;
    let next = files.last + 1;
    let shared = Arc::new(Shared::new(disk, options, files.oldest, segment.number, next));
    shared.space.add(space::slots(options.segment_bytes - tail as u64) - 1);
    for segment in later {
        shared.add_ready(segment);
    }
    let mut journal = Journal {
        shared,
        current: segment,
        tail,
        chain: Chain { boot_epoch: chain.boot_epoch + 1, mark: options.mark, ..chain },
        durable: chain.end,
        last_is_empty: true,
        poisoned: false,
        buffer: Vec::with_capacity(BATCH_BYTES_MAX),
        recovery,
    };
    begin_boot(&mut journal)?;
    Ok(journal)
}

/// Writes the batch that begins a boot. Its room is kept free in [`super::Space`]; only when even that is used up a
/// segment is made here.
fn begin_boot<D: Disk>(journal: &mut Journal<D>) -> Result<(), JournalError> {
    if journal.tail == journal.shared.segment_bytes() && journal.shared.lock_ready().is_empty() {
        journal.upkeep().prepare()?;
    }
    journal.shared.marks.publish_durable(journal.durable.0);
    journal.write(&[]);
    journal.shared.space.settle(0);
    journal.sync()?;
    Ok(())
}

/// The segment files that are there.
struct Files {
    /// Lowest of all, perhaps below what recovery reads.
    oldest: u64,
    /// Where recovery begins: the segment that holds the byte before the checkpointed position.
    first: u64,
    /// Highest of all; none between `first` and it is missing.
    last: u64,
}

impl Files {
    fn find<D: Disk>(
        disk: &D,
        segment_bytes: u64,
        from: Position,
        proven: Position,
    ) -> Result<Self, JournalError> {
        let first = segment_before(from, segment_bytes);
        let mut numbers: Vec<u64> =
            disk.list(DIRECTORY)?.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        if numbers.is_empty() && from.max(proven) == Position(0) {
            disk.create_region(&segment_path(0), segment_bytes)?;
            numbers.push(0);
        }
        let missing = |number: u64| JournalError::Missing {
            file: segment_path(number),
            position: Position(number * segment_bytes),
        };
        let last = *numbers.last().ok_or_else(|| missing(first))?;
        let needed_last = last.max(segment_before(from.max(proven), segment_bytes));
        if let Some(hole) = (first..=needed_last).find(|number| numbers.binary_search(number).is_err()) {
            return Err(missing(hole));
        }
        // Given-up segments are removed from the lowest on; a hole there is the mark of a removal cut short.
        let oldest = (numbers[0]..=first).rev().find(|number| numbers.binary_search(number).is_err());
        Ok(Self { oldest: oldest.map_or(numbers[0], |hole| hole + 1), first, last })
    }
}

/// Reads batch after batch, as long as they follow each other.
struct Walk<'a, D: Disk> {
    disk: &'a D,
    segment_bytes: u64,
    last_segment: u64,
    segment: Segment<D::Region>,
    /// Where the next batch begins in the segment, if it does not begin the next one.
    tail: usize,
    chain: Chain,
    /// The last batch: what is not proven unless a checkpoint knows it.
    last_batch: Option<Range<usize>>,
    /// What the last batch proves.
    proven: Position,
    /// Nothing was read yet, and the journal does not begin here: the first batch is taken on trust.
    trusting: bool,
    recovery: Recovery,
}

impl<'a, D: Disk> Walk<'a, D> {
    fn begin(disk: &'a D, files: &Files, segment_bytes: u64) -> Result<Self, JournalError> {
        Ok(Self {
            disk,
            segment_bytes,
            last_segment: files.last,
            segment: open_segment(disk, files.first, segment_bytes)?,
            tail: 0,
            chain: Chain::default(),
            last_batch: None,
            proven: Position(0),
            trusting: files.first > 0,
            recovery: Recovery::default(),
        })
    }

    fn run(&mut self, from: Position, visit: &mut Visit<'_>) -> Result<(), JournalError> {
        loop {
            let position = self.tail_position();
            let batch = Batch::parse(&self.segment.region.bytes()[self.tail..], position);
            let Some(batch) = batch.filter(|batch| {
                if self.trusting {
                    self.chain = Chain::after(&batch.header);
                }
                std::mem::take(&mut self.trusting) || self.chain.admit(&batch.header)
            }) else {
                if self.move_on()? {
                    continue;
                }
                break;
            };
            self.recovery.batches += 1;
            self.proven = batch.header.proven;
            let end = batch.end();
            let records = batch.records();
            if end > from && !records.is_empty() {
                self.recovery.records += records.len() as u64;
                visit(end, records).map_err(|source| JournalError::Record { position: end, source })?;
            }
            let length = (end.0 - position.0) as usize;
            self.last_batch = Some(self.tail..self.tail + length);
            self.tail += length;
        }
        self.recovery.end = self.chain.end;
        Ok(())
    }

    /// Goes to the next segment if the next batch begins it.
    fn move_on(&mut self) -> Result<bool, JournalError> {
        let number = self.segment.number + 1;
        if self.left_bytes() >= 2 * SLOT_BYTES || number > self.last_segment {
            return Ok(false);
        }
        let next = open_segment(self.disk, number, self.segment_bytes)?;
        let batch = Batch::parse(next.region.bytes(), Position(number * self.segment_bytes));
        let follows = batch.is_some_and(|batch| self.chain.clone().admit(&batch.header));
        if follows {
            (self.segment, self.tail) = (next, 0);
        }
        Ok(follows)
    }

    /// The batch at the tail does not verify. That is a torn write, unless somebody knows that it was durable once: a
    /// checkpoint, or a batch anywhere behind it, which was written only when all before it was.
    fn check_nothing_proven_follows(&mut self, known: Position) -> Result<(), JournalError> {
        let mut proven = known.max(self.proven);
        let mut torn = claims_place(&self.segment.region.bytes()[self.tail..], self.tail_position());
        proven = proven.max(self.proven_by(&self.segment, self.tail));
        for number in self.segment.number + 1..=self.last_segment {
            let segment = open_segment(self.disk, number, self.segment_bytes)?;
            proven = proven.max(self.proven_by(&segment, 0));
            if number == self.segment.number + 1 && self.left_bytes() < 2 * SLOT_BYTES {
                torn |= claims_place(segment.region.bytes(), Position(number * self.segment_bytes));
            }
        }
        self.recovery.torn = torn;
        if proven <= self.chain.end {
            self.proven = proven;
            return Ok(());
        }
        let (number, offset) = if self.left_bytes() < 2 * SLOT_BYTES {
            (self.segment.number + 1, 0)
        } else {
            (self.segment.number, self.tail as u64)
        };
        Err(JournalError::Corrupt { file: segment_path(number), offset, proven })
    }

    /// The highest position that a batch from `offset` on proves durable, wherever it begins.
    fn proven_by(&self, segment: &Segment<D::Region>, offset: usize) -> Position {
        let bytes = segment.region.bytes();
        let start = segment.number * self.segment_bytes;
        (offset..bytes.len())
            .step_by(SLOT_BYTES)
            .filter_map(|at| Batch::parse(&bytes[at..], Position(start + at as u64)))
            .filter(|batch| batch.header.number > self.chain.number)
            .map(|batch| batch.header.proven)
            .max()
            .unwrap_or_default()
    }

    fn open_later_segments(&self) -> Result<Vec<Segment<D::Region>>, JournalError> {
        let numbers = self.segment.number + 1..=self.last_segment;
        numbers.map(|number| open_segment(self.disk, number, self.segment_bytes)).collect()
    }

    /// Stores an unproven last batch again, clears wherever a torn one may lie, and syncs: the page cache may show
    /// what never reached the disk, and the kernel may believe it clean after a failed sync.
    fn settle_tail(&mut self, next: Option<&mut D::Region>) -> Result<(), JournalError> {
        let mut stored = clear(&mut self.segment.region, self.tail);
        if self.proven < self.chain.end
            && !planted::is(Fault::TrustPageCache)
            && let Some(range) = self.last_batch.clone()
        {
            let bytes = self.segment.region.bytes()[range.clone()].to_vec();
            self.segment.region.store(range.start, &bytes);
            self.recovery.restored = true;
            stored = true;
        }
        if stored {
            self.segment.region.sync()?;
        }
        // A torn batch that began the next segment.
        if let Some(region) = next
            && clear(region, 0)
        {
            region.sync()?;
        }
        Ok(())
    }

    fn tail_position(&self) -> Position {
        Position(self.segment.number * self.segment_bytes + self.tail as u64)
    }

    fn left_bytes(&self) -> usize {
        self.segment.region.bytes().len() - self.tail
    }
}

fn open_segment<D: Disk>(
    disk: &D,
    number: u64,
    segment_bytes: u64,
) -> Result<Segment<D::Region>, JournalError> {
    let region = disk.open_region(&segment_path(number))?;
    let found_bytes = region.bytes().len() as u64;
    if found_bytes != segment_bytes {
        let file = segment_path(number);
        return Err(JournalError::WrongSize { file, found_bytes, expected_bytes: segment_bytes });
    }
    Ok(Segment { number, region })
}

/// Whether the header of a batch for just this place was written here, with whatever behind it.
fn claims_place(bytes: &[u8], position: Position) -> bool {
    bytes
        .first_chunk()
        .and_then(super::batch::Header::decode)
        .is_some_and(|header| header.position == position)
}

/// Stores zeros over what is not zero, as far as one batch can reach from `offset`; says whether there was any.
fn clear<R: Region>(region: &mut R, offset: usize) -> bool {
    let end = region.bytes().len().min(offset + BATCH_BYTES_MAX);
    let mut any = false;
    for at in (offset..end).step_by(ZEROS.len()) {
        let length = ZEROS.len().min(end - at);
        if region.bytes()[at..at + length] != ZEROS[..length] {
            region.store(at, &ZEROS[..length]);
            any = true;
        }
    }
    any
}

static ZEROS: [u8; 4096] = [0; 4096];
