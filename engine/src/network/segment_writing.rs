//! The threads that put segments into their files, so that nothing that a terminal waits for waits behind one.

use super::{Failure, spawn};
use crate::disk::DiskError;
use crate::disk::mapped::MappedDisk;
use crate::steward::SegmentWrite;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A segment with what became of its file.
pub(super) type Written = (Box<SegmentWrite>, Result<(), DiskError>);

/// The running threads. They end when this is dropped.
pub(super) struct SegmentWriter {
    writes: Sender<Box<SegmentWrite>>,
    threads: [JoinHandle<()>; THREADS],
}

impl SegmentWriter {
    /// Starts the threads; what they have written comes out of the receiver, in any order.
    pub(super) fn start(disk: &Arc<MappedDisk>, fatal: fn(&Failure) -> !) -> (Self, Receiver<Written>) {
        // A link has only so many transfers open, and so many segments on their way.
        let (writes, to_write) = unbounded::<Box<SegmentWrite>>();
        let (results, written) = unbounded();
        let threads = std::array::from_fn(|_| {
            let (to_write, results, disk) = (to_write.clone(), results.clone(), Arc::clone(disk));
            let run = move || {
                for write in to_write {
                    let result = write.run(&*disk);
                    if results.send((write, result)).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            spawn("segments", fatal, run)
        });
        (Self { writes, threads }, written)
    }

    pub(super) fn write(&self, write: Box<SegmentWrite>) {
        // When those threads have ended, so will the process.
        let _ = self.writes.send(write);
    }

    /// Finishes what is under way.
    pub(super) fn stop(self) {
        drop(self.writes);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// One prepares a file while another waits for the disk.
const THREADS: usize = 2;
