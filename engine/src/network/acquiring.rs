//! The thread that deals with suppliers: it may take as long as a file takes, and asks the hub like an operator.

use super::{Failure, NotDone, Nudge, Office, spawn};
use crate::acquisition::{Accepted, Acquisition, Expected, HubAccess, Setback, Suppliers};
use crate::commit::Wake;
use crate::hub::books::BatchRow;
use crate::hub::{Command, CommandError, Done, OrderRow};
use crate::intake::{DeliveryError, IntakeError, Profile, Recipe, intake_file};
use crate::registry::Registry;
use crossbeam::channel::Receiver;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// The running thread.
pub(super) struct AcquiringHandle {
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
    waker: Nudge,
}

impl AcquiringHandle {
    /// Ends it; a file that is being read is left for the next start.
    pub(super) fn stop(self) {
        self.stopping.store(true, Relaxed);
        self.waker.wake();
        let _ = self.thread.join();
    }
}

pub(super) fn start(
    suppliers: Suppliers,
    office: Office,
    waker: Nudge,
    wake: Receiver<()>,
    fatal: fn(&Failure) -> !,
) -> AcquiringHandle {
    let stopping = Arc::<AtomicBool>::default();
    let buyer = Buyer { office, stopping: Arc::clone(&stopping) };
    let mut acquisition = Acquisition::new(suppliers);
    let thread = spawn("acquisition", fatal, move || {
        while !buyer.is_stopping() {
            acquisition.turn(&buyer, &|| buyer.is_stopping());
            // The time passing and being woken come to the same: look what there is to do.
            let _ = wake.recv_timeout(TURN);
        }
        Ok(())
    });
    AcquiringHandle { thread, stopping, waker }
}

struct Buyer {
    office: Office,
    stopping: Arc<AtomicBool>,
}

impl Buyer {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

impl HubAccess for Buyer {
    fn orders(&self) -> Result<Vec<OrderRow>, Setback> {
        Ok(self.office.ask(|hub| hub.orders().cloned().collect())?)
    }

    fn batch_with_digest(&self, digest: u128) -> Result<Option<BatchRow>, Setback> {
        Ok(self.office.ask(move |hub| hub.batch_with_digest(digest).cloned())?)
    }

    fn registry(&self) -> Result<Arc<Registry>, Setback> {
        Ok(self.office.registry()?)
    }

    fn command(&self, command: Command) -> Result<Result<Done, CommandError>, Setback> {
        match self.office.command(command) {
            Ok(done) => Ok(Ok(done)),
            Err(NotDone::Refused(error)) => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }

    fn intake(&self, expected: &Expected, profile: &Profile, file: &File) -> Result<Accepted, Setback> {
        let Expected { variety, expiry, source } = expected;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let input = UntilStopped { file, stopping: &self.stopping };
        let delivered =
            self.office.deliver(variety, *expiry, source.clone(), &mut |_| {}, |order, tools| {
                intake_file(order, profile, input, bytes, tools).map_err(Into::into)
            })?;
        Ok(Accepted { batch: delivered.batch, pins: delivered.pins })
    }

    fn mint(&self, expected: &Expected, recipe: &Recipe) -> Result<Accepted, Setback> {
        let Expected { variety, expiry, source } = expected;
        let delivered = self.office.mint_for(source.clone(), variety, recipe, *expiry, &mut |_| {})?;
        Ok(Accepted { batch: delivered.batch, pins: delivered.pins })
    }

    fn now_ms(&self) -> u64 {
        self.office.now_ms()
    }
}

impl From<NotDone> for Setback {
    fn from(error: NotDone) -> Self {
        match error {
            NotDone::Intake(
                IntakeError::Unreadable(_)
                | IntakeError::Delivery(DeliveryError::Disk(_) | DeliveryError::Fingerprints(_)),
            )
            // The next look finds it in the books.
            | NotDone::Refused(CommandError::FileKnown(_)) => Self::Later(error.to_string()),
            NotDone::Intake(_) | NotDone::Refused(_) | NotDone::NoSuchVariety(_) => Self::Refused(format!("{error:#}")),
            NotDone::NoAnswer => Self::Later("the hub does not answer".to_owned()),
            error => Self::Later(error.to_string()),
        }
    }
}

/// A file that cannot be read on once the process is stopping.
struct UntilStopped<'a> {
    file: &'a File,
    stopping: &'a AtomicBool,
}

impl Read for UntilStopped<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.stopping.load(Relaxed) {
            return Err(io::Error::other("the process is stopping"));
        }
        self.file.read(into)
    }
}

/// How often suppliers' directories are looked at.
const TURN: Duration = Duration::from_secs(1);
