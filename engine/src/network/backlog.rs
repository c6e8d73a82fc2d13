//! How much of the journal the hub does not hold, how long the disk has room for more of it, and the alarm about both.

use super::Failure;
use super::office::Standing;
use crate::disk::mapped::MappedDisk;
use crate::journal::{JournalReader, Position};
use crate::ledger::Unreported;
use crate::net::Clock;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// Keeps an eye on what is not reported.
pub(super) struct Backlog {
    unreported: Unreported<MappedDisk>,
    reader: JournalReader<MappedDisk>,
    /// Somewhere on the journal's file system.
    data: PathBuf,
    /// When this began, in Unix milliseconds.
    started_ms: u64,
    /// Where the journal ended, by monotonic milliseconds: what it grew by lately.
    ends: VecDeque<(u64, u64)>,
    due_ms: u64,
    alarm: Alarm,
    clock: Clock,
}

impl Backlog {
    pub(super) fn new(
        reader: JournalReader<MappedDisk>,
        data: PathBuf,
        alarm_after_s: u32,
        clock: Clock,
    ) -> Self {
        Self {
            unreported: Unreported::new(reader.clone()),
            reader,
            data,
            started_ms: clock().unix_ms,
            ends: VecDeque::new(),
            due_ms: 0,
            alarm: Alarm { after_ms: u64::from(alarm_after_s) * 1000, next_ms: None },
            clock,
        }
    }

    /// To be called often; looks about once a second.
    pub(super) fn look(&mut self, acknowledged: Position, standing: &Standing) -> Result<(), Failure> {
        let now = (self.clock)();
        if now.monotonic_ms < self.due_ms {
            return Ok(());
        }
        // Far behind, as after a start without the hub, it goes on in the next turn.
        if !self.unreported.advance(acknowledged, READ_BYTES)? {
            self.due_ms = now.monotonic_ms + EVERY_MS;
        }
        let sales = self.unreported.sales();
        self.note_growth(now.monotonic_ms);
        let room_min = self.room_min();
        let heard = standing.heard.load(Relaxed);
        // Before the hub has said what it knows, nobody can tell since when it lacks some.
        let since = |since_ms: u64| if heard { since_ms } else { since_ms.max(self.started_ms) };
        let age_ms = sales.since_ms.map_or(0, |since_ms| now.unix_ms.saturating_sub(since(since_ms)));
        match self.alarm.hear(age_ms) {
            Some(Said::Raised) => {
                let pins: u64 = sales.pins.values().sum();
                let s = age_ms / 1000;
                let up_to = if heard { "" } else { "up to " };
                let room = room_min.map(|min| format!("; the disk has room for {} h more", min / 60));
                let room = room.unwrap_or_default();
                tracing::warn!(
                    "{up_to}{pins} sales have not been known to the hub for {s} s: if this disk is lost, so are they{room}"
                );
            }
            Some(Said::Over) => tracing::info!("all sales are known to the hub again"),
            None => {}
        }
        standing.set_unreported(sales, room_min);
        Ok(())
    }

    fn note_growth(&mut self, now_ms: u64) {
        let end = self.reader.durable().0;
        if self.ends.back().is_none_or(|(ms, _)| now_ms >= ms + GROWTH_STEP_MS) {
            self.ends.push_back((now_ms, end));
        }
        while self.ends.len() > GROWTH_STEPS {
            self.ends.pop_front();
        }
    }

    /// For how many minutes the disk holds a journal that grows as it did lately; none if it does not grow.
    fn room_min(&self) -> Option<u64> {
        let (&(from_ms, from), &(to_ms, to)) = (self.ends.front()?, self.ends.back()?);
        let (grown, ms) = (to.checked_sub(from)?, to_ms.checked_sub(from_ms)?);
        let free = rustix::fs::statvfs(&self.data).ok()?;
        let free_bytes = u128::from(free.f_bavail) * u128::from(free.f_frsize);
        let free_ms = (free_bytes * u128::from(ms)).checked_div(u128::from(grown))?;
        u64::try_from(free_ms / 60_000).ok()
    }
}

/// Raised when something has lasted too long, and again each time that has doubled.
struct Alarm {
    after_ms: u64,
    /// When it is raised again; none while it is not raised.
    next_ms: Option<u64>,
}

#[derive(PartialEq, Eq, Debug)]
enum Said {
    Raised,
    Over,
}

impl Alarm {
    fn hear(&mut self, age_ms: u64) -> Option<Said> {
        if age_ms < self.after_ms {
            return self.next_ms.take().map(|_| Said::Over);
        }
        if age_ms < self.next_ms.unwrap_or(self.after_ms) {
            return None;
        }
        self.next_ms = Some(age_ms * 2);
        Some(Said::Raised)
    }
}

const EVERY_MS: u64 = 1_000;
/// Journal bytes counted in one turn.
const READ_BYTES: usize = 1 << 20;
/// The growth of the journal is taken over ten minutes, in steps of ten seconds.
const GROWTH_STEP_MS: u64 = 10_000;
const GROWTH_STEPS: usize = 61;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_and_again_when_its_cause_has_lasted_twice_as_long() {
        let mut alarm = Alarm { after_ms: 60_000, next_ms: None };
        let said = [0, 59_999, 60_000, 61_000, 119_000, 121_000, 200_000, 243_000, 1_000, 0, 60_500]
            .map(|age_ms| alarm.hear(age_ms));
        let (raised, over) = (Some(Said::Raised), Some(Said::Over));
        assert_eq!(
            said,
            [
                None,
                None,
                raised,
                None,
                None,
                Some(Said::Raised),
                None,
                Some(Said::Raised),
                over,
                None,
                Some(Said::Raised)
            ]
        );
    }
}
