//! The windows of all terminals that a worker, or a whole node's recovery, answers for.

use super::{Answer, Window};
use crate::ids::{IdMap, KeyEpoch, TerminalId};
use crate::journal::Record;
use crate::journal::record::VendName;
use crate::planted::{self, Fault};

/// Window by terminal.
#[derive(Clone, Default, Debug)]
pub struct Windows {
    places: IdMap<TerminalId, u32>,
    windows: Vec<(TerminalId, Window)>,
    /// The place used last: a request looks at its terminal's window more than once.
    recent: usize,
}

impl Windows {
    /// The window for this key epoch; a later epoch starts anew, an earlier one has none any more.
    pub fn window(&mut self, terminal: TerminalId, key_epoch: KeyEpoch) -> Option<&mut Window> {
        self.window_or_left(terminal, key_epoch, |_, _| {})
    }

    /// What is known of a sequence; nothing was ever asked if its terminal has no window or its key epoch is yet to come.
    #[must_use]
    pub fn answer(&self, vend: VendName) -> Answer {
        match self.get(vend.terminal) {
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

    /// Has the windows of some terminals fetched from memory, all at once: one after the other each would be waited for.
    pub fn warm(&self, terminals: impl Iterator<Item = TerminalId>) {
        let fetched = terminals.filter_map(|terminal| self.get(terminal)).map(Window::fetch);
        std::hint::black_box(fetched.fold(0, |all, one| all ^ one));
    }

    fn window_or_left(
        &mut self,
        terminal: TerminalId,
        key_epoch: KeyEpoch,
        mut left: impl FnMut(VendName, Answer),
    ) -> Option<&mut Window> {
        if self.windows.get(self.recent).is_none_or(|(found, _)| *found != terminal) {
            self.recent = match self.places.get(&terminal) {
                Some(place) => *place as usize,
                None => self.insert(terminal, Window::new(key_epoch)),
            };
        }
        let (_, window) = &mut self.windows[self.recent];
        if window.key_epoch() < key_epoch {
            let ended = std::mem::replace(window, Window::new(key_epoch));
            let key_epoch = ended.key_epoch();
            for (sequence, answer) in ended.answers() {
                left(VendName { terminal, key_epoch, sequence }, answer);
            }
        }
        (window.key_epoch() == key_epoch).then_some(window)
    }

    /// Puts a window in its place, and says which that is.
    pub fn insert(&mut self, terminal: TerminalId, window: Window) -> usize {
        if let Some(place) = self.places.get(&terminal) {
            self.windows[*place as usize].1 = window;
            return *place as usize;
        }
        let place = self.windows.len();
        self.places.insert(terminal, u32::try_from(place).expect("terminals are fewer"));
        self.windows.push((terminal, window));
        place
    }

    /// All windows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (TerminalId, &Window)> {
        self.windows.iter().map(|(terminal, window)| (*terminal, window))
    }

    /// Splits the windows by home worker.
    #[must_use]
    pub fn split(self, workers: usize, home: impl Fn(TerminalId) -> usize) -> Vec<Self> {
        let mut parts = vec![Self::default(); workers];
        if planted::is(Fault::ForgetWindows) {
            return parts;
        }
        for (terminal, window) in self.windows {
            parts[home(terminal)].insert(terminal, window);
        }
        parts
    }

    fn get(&self, terminal: TerminalId) -> Option<&Window> {
        self.places.get(&terminal).map(|place| &self.windows[*place as usize].1)
    }
}

impl PartialEq for Windows {
    /// Whether both hold the same windows, whatever came first.
    fn eq(&self, other: &Self) -> bool {
        self.windows.len() == other.windows.len()
            && self.iter().all(|(terminal, window)| other.get(terminal) == Some(window))
    }
}

impl Eq for Windows {}
