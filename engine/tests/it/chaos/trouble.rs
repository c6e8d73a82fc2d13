//! What goes wrong, drawn from a seed.

use super::town::{Town, Who};
use crate::support::small_disk::SmallDisk;
use std::thread;
use std::time::Duration;

/// What lasts for a moment. Meanwhile something may be killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// It does not run, and its connections stay.
    Stopped(Who),
    /// All connections over this wire end, and none begins.
    Cut(usize),
    /// What is said over it is heard, and no answer is.
    Deaf(usize),
    /// What is said over it takes long.
    Slow(usize),
    FullDisk(Who),
}

impl Trouble {
    pub(super) fn begin(self, town: &Town) {
        match self {
            Self::Stopped(who) => town.of(who).signal("STOP"),
            Self::Cut(wire) => town.wires[wire].cut(),
            Self::Deaf(wire) => town.wires[wire].deafen(),
            Self::Slow(wire) => town.wires[wire].slow_down(Duration::from_millis(200)),
            Self::FullDisk(who) => town.disk(who).into_iter().for_each(SmallDisk::fill),
        }
    }

    pub(super) fn end(self, town: &Town) {
        match self {
            // Or whoever has been started in the place of the one that was stopped and killed, if that has been done.
            Self::Stopped(who) => town.running(who).into_iter().for_each(|process| process.signal("CONT")),
            Self::Cut(wire) | Self::Deaf(wire) => town.wires[wire].heal(),
            Self::Slow(wire) => town.wires[wire].slow_down(Duration::ZERO),
            Self::FullDisk(who) => town.disk(who).into_iter().for_each(SmallDisk::free),
        }
    }

    /// Whether both are of one process, wire or disk.
    fn meets(self, other: Self) -> bool {
        use Trouble::{Cut, Deaf, FullDisk, Slow, Stopped};
        match (self, other) {
            (Cut(wire) | Deaf(wire) | Slow(wire), Cut(other) | Deaf(other) | Slow(other)) => wire == other,
            (Stopped(who), Stopped(other)) | (FullDisk(who), FullDisk(other)) => who == other,
            _ => false,
        }
    }
}

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_of(&mut self, whom: &[Who]) -> Who {
        whom[self.roll(whom.len() as u64) as usize]
    }

    fn trouble(&mut self) -> Trouble {
        let wire = self.roll(4) as usize;
        match self.roll(7) {
            0 | 1 => Trouble::Stopped(self.one_of(&Who::ALL)),
            2 => Trouble::Cut(wire),
            3 => Trouble::Deaf(wire),
            4 => Trouble::Slow(wire),
            _ => Trouble::FullDisk(self.one_of(&Who::ON_SMALL_DISKS)),
        }
    }

    /// None, one or two at once.
    pub(super) fn troubles(&mut self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = Vec::new();
        for _ in 0..self.roll(3) {
            let trouble = self.trouble();
            if !troubles.iter().any(|other| other.meets(trouble)) {
                troubles.push(trouble);
            }
        }
        troubles
    }

    /// Who is killed: nobody, one, two, or all, as when the power goes in a building.
    pub(super) fn victims(&mut self) -> Vec<Who> {
        let mut victims = match self.roll(8) {
            0 | 1 => Vec::new(),
            2..=4 => vec![self.one_of(&Who::ALL)],
            5 | 6 => vec![self.one_of(&Who::ALL), self.one_of(&Who::ALL)],
            _ => Who::ALL.to_vec(),
        };
        victims.dedup();
        // The order in which they come back.
        let first = self.roll(victims.len().max(1) as u64) as usize;
        victims.rotate_left(first);
        victims
    }

    /// The only thing waited for is the passing of time: the moment of a fault is to be anywhere.
    pub(super) fn moment(&mut self) {
        thread::sleep(Duration::from_millis(30 + self.roll(400)));
    }
}
