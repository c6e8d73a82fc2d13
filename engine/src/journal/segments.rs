//! The segment files: which exist, which are ready, and how they come and go.

use super::marks::Marks;
use super::{JournalError, JournalOptions, Position, Space, space};
use crate::disk::{Disk, Region};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Makes segments ahead of need and recycles old ones, from any thread: it never delays the writer.
pub struct Upkeep<D: Disk> {
    shared: Arc<Shared<D>>,
}

impl<D: Disk> Upkeep<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    /// Whether [`prepare`](Self::prepare) would make a segment.
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        self.shared.lock_ready().len() < self.shared.options.segments_ahead
    }

    /// Makes the next segment if fewer are ready than the options ask for; says whether it made one. Call it again until
    /// it says no, and after a while when it fails for lack of room: nothing else is disturbed by that.
    ///
    /// # Errors
    /// [`JournalError::Disk`].
    pub fn prepare(&self) -> Result<bool, JournalError> {
        let mut files = self.shared.lock_files();
        if !self.wants_segment() {
            return Ok(false);
        }
        let path = segment_path(files.next);
        let region = self.shared.disk.create_region(&path, self.shared.options.segment_bytes)?;
        self.shared.add_ready(Segment { number: files.next, region });
        files.next += 1;
        Ok(true)
    }

    /// Gives up what lies below `position`, which must be both in a checkpoint and acknowledged by whoever keeps the
    /// copy: its segments become future ones, or are removed when enough are ready and spare. The current segment stays, and so
    /// does the one that holds the byte before `position`, in which recovery begins.
    ///
    /// # Errors
    /// [`JournalError::Disk`].
    pub fn recycle_below(&self, position: Position) -> Result<(), JournalError> {
        let shared = &self.shared;
        let mut files = shared.lock_files();
        let keep_from = shared.segment_before(position).min(shared.marks.current());
        while shared.marks.oldest() < keep_from {
            let number = shared.marks.oldest();
            // Readers look at this after they read, so it moves before the bytes change.
            shared.marks.give_up_below(number + 1);
            let path = segment_path(number);
            let done = if shared.lock_ready().len() < shared.options.segments_kept() {
                let future = segment_path(files.next);
                shared.disk.rename(&path, &future).and_then(|()| {
                    let region = shared.disk.open_region(&future)?;
                    shared.add_ready(Segment { number: files.next, region });
                    files.next += 1;
                    Ok(())
                })
            } else {
                shared.disk.remove(&path)
            };
            if let Err(error) = done {
                shared.marks.take_back(number);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl<D: Disk> Clone for Upkeep<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// One segment file, open.
pub(super) struct Segment<R> {
    pub(super) number: u64,
    pub(super) region: R,
}

/// What the writer, upkeep and readers have in common.
pub(super) struct Shared<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) options: JournalOptions,
    pub(super) space: Arc<Space>,
    pub(super) marks: Marks,
    /// Segments after the current one, in order. Held for moments only: the writer takes from it.
    ready: Mutex<VecDeque<Segment<D::Region>>>,
    /// Held by upkeep while it works on files.
    files: Mutex<Files>,
}

impl<D: Disk> Shared<D> {
    /// `next` is the number of the next segment to be made.
    pub(super) fn new(disk: Arc<D>, options: JournalOptions, oldest: u64, current: u64, next: u64) -> Self {
        Self {
            disk,
            space: Arc::new(Space::new(options.segment_bytes, options.control_reserve_records)),
            options,
            marks: Marks::new(current, oldest),
            ready: Mutex::default(),
            files: Mutex::new(Files { next }),
        }
    }

    pub(super) fn segment_bytes(&self) -> usize {
        usize::try_from(self.options.segment_bytes).expect("a segment fits the address space")
    }

    /// The segment that holds the byte before `position`.
    pub(super) fn segment_before(&self, position: Position) -> u64 {
        segment_before(position, self.options.segment_bytes)
    }

    pub(super) fn lock_ready(&self) -> MutexGuard<'_, VecDeque<Segment<D::Region>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_ready(&self, segment: Segment<D::Region>) {
        debug_assert_eq!(segment.region.bytes().len(), self.segment_bytes());
        self.lock_ready().push_back(segment);
        // Only now: whoever reserves this room may count on the segment.
        self.space.add(space::slots(self.options.segment_bytes) - 1);
    }

    /// Where a segment begins.
    pub(super) fn position_of(&self, segment: u64) -> Position {
        Position(segment * self.options.segment_bytes)
    }

    fn lock_files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Files {
    /// The number the next segment gets.
    next: u64,
}

pub(super) fn segment_before(position: Position, segment_bytes: u64) -> u64 {
    position.0.saturating_sub(1) / segment_bytes
}

/// The path of a segment file.
pub(super) fn segment_path(number: u64) -> String {
    format!("{DIRECTORY}/{number:016x}.seg")
}

/// The number in the name of a segment file.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
        .then(|| u64::from_str_radix(digits, 16).ok())?
}

pub(super) const DIRECTORY: &str = "journal";
