//! The bookkeeper's thread: reads along behind the journal, writes checkpoints, makes segments ahead of need, and answers
//! what only the history knows.

use super::backlog::Backlog;
use super::office::{Standing, seller_books};
use super::{Failure, spawn};
use crate::audit::SellerBooks;
use crate::disk::mapped::MappedDisk;
use crate::ids::SellerId;
use crate::journal::{Position, Upkeep};
use crate::ledger::{Bookkeeper, BookkeeperError};
use crate::net::{WorkerHandle, WorkerMessage};
use crate::seller::Lookup;
use crate::steward::Content;
use crossbeam::channel::{Receiver, Sender, never, select, unbounded};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// What others want of the bookkeeper.
pub(super) enum BookkeepingMessage {
    /// The books up to the journal's durable end.
    Books(Sender<SellerBooks>),
    /// Write a checkpoint and end.
    Stop,
}

/// The running thread.
pub(super) struct BookkeepingHandle {
    thread: JoinHandle<()>,
    messages: Sender<BookkeepingMessage>,
}

impl BookkeepingHandle {
    pub(super) fn sender(&self) -> Sender<BookkeepingMessage> {
        self.messages.clone()
    }

    pub(super) fn stop(self) {
        let _ = self.messages.send(BookkeepingMessage::Stop);
        let _ = self.thread.join();
    }
}

#[expect(clippy::too_many_arguments, reason = "one owner hands it everything once")]
pub(super) fn start(
    bookkeeper: Bookkeeper<MappedDisk>,
    upkeep: Upkeep<MappedDisk>,
    backlog: Option<Backlog>,
    seller: SellerId,
    lookups: Receiver<(usize, Lookup)>,
    workers: Vec<WorkerHandle<Content<MappedDisk>>>,
    standing: Arc<Standing>,
    fatal: fn(&Failure) -> !,
) -> BookkeepingHandle {
    // Whoever asks waits for the answer, so there are no more questions than threads that ask.
    let (sender, messages) = unbounded();
    let has_workers = !workers.is_empty();
    let desk = Desk {
        bookkeeper,
        upkeep,
        backlog,
        seller,
        workers,
        standing,
        is_full: false,
        turn_is_full: false,
        rest_turns: 0,
    };
    let lookups = if has_workers { lookups } else { never() };
    let thread = spawn("bookkeeper", fatal, move || desk.run(&messages, lookups));
    BookkeepingHandle { thread, messages: sender }
}

struct Desk {
    bookkeeper: Bookkeeper<MappedDisk>,
    upkeep: Upkeep<MappedDisk>,
    backlog: Option<Backlog>,
    seller: SellerId,
    workers: Vec<WorkerHandle<Content<MappedDisk>>>,
    standing: Arc<Standing>,
    /// The disk had no room when it was last asked for some.
    is_full: bool,
    /// It had none in this turn.
    turn_is_full: bool,
    /// Turns until it is asked again.
    rest_turns: u32,
}

impl Desk {
    fn run(
        mut self,
        messages: &Receiver<BookkeepingMessage>,
        mut lookups: Receiver<(usize, Lookup)>,
    ) -> Result<(), Failure> {
        loop {
            select! {
                recv(messages) -> message => match message {
                    Ok(BookkeepingMessage::Books(reply)) => {
                        self.read_to_end()?;
                        let (ledger, position) = (self.bookkeeper.ledger(), self.bookkeeper.position());
                        // The asker may have given up.
                        let _ = reply.send(seller_books(self.seller, position, ledger));
                    }
                    Ok(BookkeepingMessage::Stop) | Err(_) => {
                        self.read_to_end()?;
                        return self.passing(|desk| desk.bookkeeper.checkpoint(desk.acknowledged()));
                    }
                },
                recv(lookups) -> question => match question {
                    Ok((worker, lookup)) => {
                        // All that was durable when it was asked is in the answer.
                        self.read_to_end()?;
                        let outcome = self.bookkeeper.find(lookup.asker.names(lookup.sequence));
                        self.workers[worker].send(WorkerMessage::Found(lookup, outcome));
                    }
                    // The workers have ended before the rest.
                    Err(_) => lookups = never(),
                },
                default(TURN) => {}
            }
            self.bookkeeper.advance(READ_BYTES)?;
            let acknowledged = self.acknowledged();
            if let Some(backlog) = &mut self.backlog {
                backlog.look(acknowledged, &self.standing)?;
            }
            if self.rest_turns > 0 {
                self.rest_turns -= 1;
                continue;
            }
            self.passing(|desk| desk.upkeep.prepare().map(drop).map_err(Into::into))?;
            if self.bookkeeper.wants_checkpoint() {
                self.passing(|desk| desk.bookkeeper.checkpoint(desk.acknowledged()))?;
            } else {
                self.passing(|desk| desk.bookkeeper.recycle(desk.acknowledged()))?;
            }
            self.note_full();
        }
    }

    fn read_to_end(&mut self) -> Result<(), Failure> {
        while self.bookkeeper.advance(READ_BYTES)? {}
        Ok(())
    }

    fn acknowledged(&self) -> Position {
        Position(self.standing.acknowledged.load(Relaxed))
    }

    /// Does what may fail for lack of room now and succeed later.
    fn passing(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<(), BookkeeperError>,
    ) -> Result<(), Failure> {
        match what(self) {
            Err(error) if error.is_full() => self.turn_is_full = true,
            done => done?,
        }
        Ok(())
    }

    /// Says once that the disk is full, and lets it rest: sales are answered `later` while no segment can be made.
    fn note_full(&mut self) {
        let is_full = std::mem::take(&mut self.turn_is_full);
        if is_full {
            self.rest_turns = REST_TURNS;
        }
        if is_full && !self.is_full {
            tracing::warn!("the disk is full: sales are put off until there is room");
        } else if self.is_full && !is_full {
            tracing::info!("there is room on the disk again");
        }
        self.is_full = is_full;
        self.standing.disk_full.store(is_full, Relaxed);
    }
}

/// How often it looks what has become durable.
const TURN: Duration = Duration::from_millis(20);
/// Journal bytes read in one go: what a processor's cache holds.
const READ_BYTES: usize = 1 << 20;
/// How long a full disk is left alone, in turns.
const REST_TURNS: u32 = 25;
