//! The windows of all terminals that a worker, or a whole node's recovery, answers for.

use super::{Answer, Window};
use crate::ids::{KeyEpoch, TerminalId};
use crate::journal::Record;
use crate::journal::record::VendName;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

/// Window by terminal.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Windows {
    by_terminal: HashMap<TerminalId, Window, BuildHasherDefault<IdHasher>>,
}

impl Windows {
    /// The window for this key epoch; a later epoch starts anew, an earlier one has none any more.
    pub fn window(&mut self, terminal: TerminalId, key_epoch: KeyEpoch) -> Option<&mut Window> {
        self.window_or_left(terminal, key_epoch, |_, _| {})
    }

    /// What is known of a sequence; nothing was ever asked if its terminal has no window or its key epoch is yet to come.
    #[must_use]
    pub fn answer(&self, vend: VendName) -> Answer {
        match self.by_terminal.get(&vend.terminal) {
            Some(window) if window.key_epoch() == vend.key_epoch => window.answer(vend.sequence),
            Some(window) if window.key_epoch() > vend.key_epoch => Answer::Closed,
            _ => Answer::Open,
        }
    }

    /// Takes in a fact; facts that are about no sequence change nothing. Sequences that leave their window, because it
    /// slid or because a new key epoch began, are given to `left`, once each.
    pub fn apply(&mut self, record: &Record, mut left: impl FnMut(VendName, Answer)) {
        let Some(VendName { terminal, key_epoch, .. }) = record.vend() else { return };
        if let Some(window) = self.window_or_left(terminal, key_epoch, &mut left) {
            window.apply(record, |sequence, answer| left(VendName { terminal, key_epoch, sequence }, answer));
        }
    }

    fn window_or_left(
        &mut self,
        terminal: TerminalId,
        key_epoch: KeyEpoch,
        mut left: impl FnMut(VendName, Answer),
    ) -> Option<&mut Window> {
        match self.by_terminal.entry(terminal) {
            Entry::Vacant(entry) => Some(entry.insert(Window::new(key_epoch))),
            Entry::Occupied(entry) => {
                let window = entry.into_mut();
                if window.key_epoch() < key_epoch {
                    let ended = std::mem::replace(window, Window::new(key_epoch));
                    let key_epoch = ended.key_epoch();
                    for (sequence, answer) in ended.answers() {
                        left(VendName { terminal, key_epoch, sequence }, answer);
                    }
                }
                (window.key_epoch() == key_epoch).then_some(window)
            }
        }
    }

    /// Puts a window read back from a checkpoint in its place.
    pub fn insert(&mut self, terminal: TerminalId, window: Window) {
        self.by_terminal.insert(terminal, window);
    }

    /// All windows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (TerminalId, &Window)> {
        self.by_terminal.iter().map(|(terminal, window)| (*terminal, window))
    }

    /// Splits the windows by home worker.
    #[must_use]
    pub fn split(self, workers: usize, home: impl Fn(TerminalId) -> usize) -> Vec<Self> {
        let mut parts = vec![Self::default(); workers];
        for (terminal, window) in self.by_terminal {
            parts[home(terminal)].insert(terminal, window);
        }
        parts
    }
}

/// Spreads terminal numbers, which the hub hands out and nobody can choose, over a table: Fibonacci hashing.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
