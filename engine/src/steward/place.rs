//! Whether the node belongs to the network, as the hub last said, and how it takes its leave.

use super::{Link, Steward, StewardAction, StewardError};
use crate::disk::{Disk, DiskError};
use crate::link::ToHub;
use crate::planted::{self, Fault};
use crate::seller::Service;
use crate::time::Now;
use crate::transfer::Taker;

/// Whether the node belongs to the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum NodePlace {
    /// It does.
    Member = 0,
    /// The operator has declared it lost: it sells nothing, hands in its journal and gives back what it has, for good.
    Lost = 1,
    /// It has stopped with nothing left, and answers nobody until the hub says that it is not gone.
    Left = 2,
}

impl NodePlace {
    /// What terminals may have of it as long as the hub has said nothing else.
    pub(super) fn service(self) -> Service {
        match self {
            Self::Member => Service::Open,
            Self::Lost => Service::Draining,
            Self::Left => Service::Closed,
        }
    }
}

/// How far the node has come with its last message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    NotTaken,
    /// Said, and not answered.
    Said,
    /// The hub's answer is here.
    Taken,
}

/// What is stored; a member where there is no file.
pub(super) fn load<D: Disk>(disk: &D) -> Result<NodePlace, StewardError> {
    let file = match disk.open(PLACE_FILE) {
        Err(error) if error.is_missing() => return Ok(NodePlace::Member),
        opened => opened?,
    };
    if planted::is(Fault::ForgetLeft) {
        return Ok(NodePlace::Member);
    }
    let known = [NodePlace::Member, NodePlace::Lost, NodePlace::Left];
    known.into_iter().find(|place| file.as_ref() == [*place as u8]).ok_or(StewardError::Place)
}

impl<D: Disk> Steward<D> {
    /// Upstream says where the node stands. It is kept, so that a node that was lost sells nothing after another start either.
    pub(super) fn set_place(&mut self, place: NodePlace, now: &Now) -> Result<(), StewardError> {
        if self.place == place {
            return Ok(());
        }
        self.place = place;
        if place != NodePlace::Member {
            self.actions.push_back(StewardAction::Place(place));
        }
        self.place_unstored = true;
        self.store_state(now)
    }

    /// Whether where the node stands will be known after another start: a full disk may not have taken it yet.
    #[must_use]
    pub fn is_place_stored(&self) -> bool {
        !self.place_unstored
    }

    /// What terminals may have of the node now.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service
    }

    /// What terminals may have of the node from now on.
    pub(super) fn serve(&mut self, service: Service) {
        if service == self.service {
            return;
        }
        self.service = service;
        self.draining = service != Service::Open;
        self.report_at_ms = 0;
        if self.draining {
            // Who waits is told to come back, and finds another seller.
            self.waiting.clear();
        }
        self.actions.push_back(StewardAction::Service(service));
        self.pass_service_on();
        self.give_back();
    }

    /// The node stops: its workers have ended, and all of its journal, which ends at `journal_end`, is acknowledged. A node that
    /// goes offline and has nothing left says so. Whether upstream's answer is to be waited for.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn handle_stop(&mut self, journal_end: u64, now: &Now) -> Result<bool, StewardError> {
        if self.leave == Leave::NotTaken && self.may_leave() {
            // Before the hub may answer for it, it must not answer by itself any more, whatever starts it.
            self.set_place(NodePlace::Left, now)?;
            if !self.place_unstored {
                self.leave = Leave::Said;
                self.send(ToHub::Farewell { journal_end });
            }
        }
        Ok(self.leave == Leave::Said)
    }

    fn may_leave(&mut self) -> bool {
        let varieties: Vec<_> = self.shelves.varieties().collect();
        let left: u64 = varieties.into_iter().map(|variety| self.shelves.remaining(variety, |_| true)).sum();
        let is_arriving = self.takers.iter().any(|taker| Taker::arriving(taker).next().is_some());
        let is_empty_below = self.open_below() == 0 && self.children_are_empty();
        let is_at_rest = self.unmade.is_empty() && self.recorded.is_empty() && self.giver.open_count() == 0;
        let left = left + self.upward.len() as u64;
        self.link == Link::Ready && self.draining && left == 0 && !is_arriving && is_at_rest && is_empty_below
    }

    pub(super) fn store_place(&mut self) -> Result<(), DiskError> {
        self.disk.write(PLACE_FILE, &[&[self.place as u8]])
    }
}

/// What the hub said last of the node's place in the network.
pub(super) const PLACE_FILE: &str = "place";
