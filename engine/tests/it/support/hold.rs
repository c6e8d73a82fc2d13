//! Stops a process at a line of its log.
//!
//! What the process says goes through a pipe with room for one line. Whoever reads here looks at a line before taking it: as
//! long as it is not taken the process cannot say its next one, and so does not leave the state that it has just named.

use super::process::PATIENCE;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, tee};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// Stands between a process and its log. Lets everything through again when dropped.
pub(crate) struct Hold {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    place: Mutex<Place>,
    changed: Condvar,
}

#[derive(Default)]
struct Place {
    /// Part of the line to stop at.
    wanted: Option<String>,
    /// It has said that line, and no more.
    is_there: bool,
    has_ended: bool,
}

impl Hold {
    /// What a process says to the second of these is kept in `log`.
    pub(crate) fn start(mut log: File) -> (Self, Stdio) {
        // In packets: a line of its own takes all the room, however short it is.
        let (from, to) = pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).unwrap();
        fcntl_setpipe_size(&to, LINE_BYTES_MAX).unwrap();
        let (copy_from, copy_to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let (mut from, mut copy_from) = (File::from(from), File::from(copy_from));
            let mut line = [0; LINE_BYTES_MAX];
            // Nothing is left to look at when the process has ended.
            while let Ok(looked_at @ 1..) = tee(&from, &copy_to, LINE_BYTES_MAX, SpliceFlags::empty()) {
                copy_from.read_exact(&mut line[..looked_at]).unwrap();
                of_thread.pass(&String::from_utf8_lossy(&line[..looked_at]));
                from.read_exact(&mut line[..looked_at]).unwrap();
                log.write_all(&line[..looked_at]).unwrap();
            }
            of_thread.place.lock().unwrap().has_ended = true;
            of_thread.changed.notify_all();
        });
        (Self { shared }, Stdio::from(to))
    }

    /// The process stops at the next line with this in it.
    pub(crate) fn stop_at(&self, part: &str) {
        self.shared.place.lock().unwrap().wanted = Some(part.to_owned());
    }

    /// Waits until it is there; whether it got there.
    #[must_use]
    pub(crate) fn await_stop(&self) -> bool {
        let by = Instant::now() + PATIENCE;
        let mut place = self.shared.place.lock().unwrap();
        while !place.is_there && !place.has_ended && Instant::now() < by {
            let left = by.saturating_duration_since(Instant::now());
            place = self.shared.changed.wait_timeout(place, left).unwrap().0;
        }
        place.is_there
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        let Ok(mut place) = self.shared.place.lock() else { return };
        (place.wanted, place.is_there) = (None, false);
        self.shared.changed.notify_all();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.go_on();
    }
}

impl Shared {
    /// Returns when the process may say more than this line.
    fn pass(&self, line: &str) {
        let mut place = self.place.lock().unwrap();
        place.is_there = place.wanted.as_ref().is_some_and(|wanted| line.contains(wanted));
        self.changed.notify_all();
        while place.is_there {
            place = self.changed.wait(place).unwrap();
        }
    }
}

/// The least that a pipe can hold: a page.
const LINE_BYTES_MAX: usize = 4096;
