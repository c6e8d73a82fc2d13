//! What operators do that takes a while: a node is declared lost once the hub knows that it cannot be reached; a node leaves, which
//! gives all it has back first, then stops, and then its record is closed.

use super::dice::Dice;
use super::office::spent;
use super::trace::Subject;
use super::watch;
use super::world::World;
use crate::hub::{Command, CommandError, DoubtState};

/// Something that an operator has begun, about a site.
#[derive(Clone, Copy)]
pub(super) struct Errand {
    at: usize,
    what: What,
    /// In which step it is given up.
    until: u64,
}

#[derive(Clone, Copy)]
enum What {
    /// It is to be declared lost, and may come back after so many steps.
    Lose { back_after: Option<u64> },
    /// It drains, and is to be stopped when it is gone.
    Drain,
    /// It stops in good order.
    Stop,
    /// It has stopped, and its record is to be closed.
    Close,
}

/// What became of an errand for now.
enum Progress {
    Waits,
    Next(What),
    Ends,
}

impl World<'_> {
    /// Whether a site belongs to the network.
    pub(super) fn is_member(&self, at: usize) -> bool {
        !self.lost.contains(&at) && !self.closed.contains(&at)
    }

    /// Whether a site will not be heard any more: it is lost for ever, has left, or would be heard through one of those.
    pub(super) fn is_gone(&self, at: usize) -> bool {
        let parent_is_gone = || self.parents[at].is_some_and(|parent| self.is_gone(parent));
        self.lost_for_ever.contains(&at) || self.closed.contains(&at) || parent_is_gone()
    }

    /// A node that cannot be reached is to be declared lost. It may come back later; its terminals go elsewhere.
    pub(super) fn begin_to_lose(&mut self, at: usize, dice: &mut Dice) {
        if self.may_go(at) {
            self.links[at].parted_until = u64::MAX;
            self.cut(at);
            self.tell_upper(at);
            let back_after = if dice.one_in(3) { None } else { Some(dice.below(4_000)) };
            self.begin_errand(at, What::Lose { back_after });
        }
    }

    /// A node is to leave the network.
    pub(super) fn begin_to_leave(&mut self, at: usize, dice: &mut Dice) {
        let node = self.sites[at].seller;
        if self.may_go(at) && self.order(Command::Drain { node, on: true }, dice).is_some() {
            self.begin_errand(at, What::Drain);
        }
    }

    /// What is in doubt at a lost node, or a part of it, is written off.
    pub(super) fn write_off(&mut self, at: usize, dice: &mut Dice) {
        let node = self.sites[at].seller;
        let in_doubt = self.hub.doubts_of(node).filter(|row| row.state == DoubtState::InDoubt);
        let spans: Vec<_> = in_doubt.map(|row| row.span).filter(|_| dice.one_in(2)).collect();
        if !spans.is_empty() {
            let (variety, note) = (None, "seen".to_owned());
            self.order(Command::WriteOff { node, variety, spans: Some(spans), note }, dice);
        }
    }

    /// Nobody begins two things about a site, and one server stays.
    fn may_go(&self, at: usize) -> bool {
        let is_busy = |at| self.errands.iter().any(|errand| errand.at == at);
        let stays = |other: usize| self.parents[other].is_none() && self.is_member(other) && !is_busy(other);
        let has_below =
            (0..self.sites.len()).any(|below| self.parents[below] == Some(at) && self.is_member(below));
        let stays = (0..self.sites.len()).filter(|other| *other != at).any(stays);
        self.hub_is_up() && self.is_member(at) && !is_busy(at) && !has_below && stays
    }

    fn begin_errand(&mut self, at: usize, what: What) {
        self.errands.push(Errand { at, what, until: self.step + ERRAND_STEPS_MAX });
    }

    /// Everybody who has something to do at the hub looks whether it can be done by now.
    pub(super) fn run_errands(&mut self, dice: &mut Dice) {
        for errand in std::mem::take(&mut self.errands) {
            let progress = match errand.what {
                _ if self.step > errand.until => Progress::Ends,
                What::Lose { back_after } => self.lose(errand.at, back_after, dice),
                What::Drain => self.await_drain(errand.at, dice),
                // Its own steps say when it has.
                What::Stop if self.is_down[errand.at] => Progress::Next(What::Close),
                // Its own steps say when it has. It may have been started meanwhile.
                What::Stop if self.sites[errand.at].node.is_stopping() => Progress::Waits,
                What::Stop => Progress::Ends,
                What::Close => self.close(errand.at, dice),
            };
            match progress {
                Progress::Waits => self.errands.push(errand),
                Progress::Next(what) => self.begin_errand(errand.at, what),
                Progress::Ends => self.end_errand(errand),
            }
        }
    }

    /// At the end of a run nobody begins anything any more.
    pub(super) fn end_errands(&mut self) {
        std::mem::take(&mut self.errands).into_iter().for_each(|errand| self.end_errand(errand));
        for at in 0..self.sites.len() {
            if self.is_down[at] && self.is_member(at) {
                self.start_node(at);
            }
        }
    }

    fn end_errand(&mut self, errand: Errand) {
        let at = errand.at;
        match errand.what {
            What::Lose { .. } if self.is_member(at) => self.links[at].parted_until = 0,
            What::Stop if self.is_member(at) => self.start_node(at),
            _ => {}
        }
    }

    fn lose(&mut self, at: usize, back_after: Option<u64>, dice: &mut Dice) -> Progress {
        let node = self.sites[at].seller;
        // A server may be slow to say that nobody is below it any more.
        if !self.hub_is_up() || self.hub.check_losable(node).is_err() {
            return Progress::Waits;
        }
        let spent = spent(&self.hub, &self.hub_disk, node);
        if self.order(Command::Lose { node, spent }, dice).is_none() {
            return Progress::Waits;
        }
        self.trace.note("node declared lost", Subject::node(node), String::new);
        self.lost.push(at);
        match back_after {
            Some(steps) => self.links[at].parted_until = self.step + steps,
            None => self.lost_for_ever.push(at),
        }
        self.send_terminals_away(at);
        Progress::Ends
    }

    fn await_drain(&mut self, at: usize, dice: &mut Dice) -> Progress {
        if !self.hub_is_up() {
            return Progress::Waits;
        }
        match self.hub.node_drain(self.sites[at].seller) {
            // Somebody else has changed his mind.
            None => Progress::Ends,
            Some(drain) if !drain.is_gone || dice.one_in(4) => Progress::Waits,
            Some(_) => {
                self.sites[at].node.stop_workers();
                self.send_terminals_away(at);
                self.trace.note(
                    "node stops in good order",
                    Subject::node(self.sites[at].seller),
                    String::new,
                );
                Progress::Next(What::Stop)
            }
        }
    }

    /// A node that stops goes on until it has said what it had to say.
    pub(super) fn step_stopping(&mut self, at: usize) {
        if self.is_down[at] || !self.sites[at].node.is_stopping() {
            return;
        }
        let now = self.now_at(at);
        match self.sites[at].node.take_leave(&now) {
            Ok(None | Some(true)) => {}
            Ok(Some(false)) => self.end_process(at),
            Err(stop) => self.stopped(at, &stop),
        }
    }

    /// The process of a node ends, and none is started.
    fn end_process(&mut self, at: usize) {
        self.cut_all(at);
        self.is_down[at] = true;
        self.trace.note("node is down", Subject::node(self.sites[at].seller), String::new);
    }

    fn close(&mut self, at: usize, dice: &mut Dice) -> Progress {
        let node = self.sites[at].seller;
        if !self.is_down[at] {
            return Progress::Ends;
        }
        self.tell_upper(at);
        match self.hub.check_closable(node) {
            _ if !self.hub_is_up() => return Progress::Waits,
            // It has ended, and the hub has not noticed.
            Err(CommandError::NodeRuns(_)) => return Progress::Waits,
            // At times it is started although it could be closed: it may answer then, and has to leave again.
            Ok(()) if !dice.one_in(4) => {
                let spent = spent(&self.hub, &self.hub_disk, node);
                match self.try_order(Command::CloseNode { node, spent }, dice) {
                    None => return Progress::Waits,
                    Some(Ok(_)) => {
                        self.trace.note("node closed", Subject::node(node), String::new);
                        self.closed.push(at);
                        self.oracle.closed(node);
                        // Somebody starts it all the same, and the hub may not hear of it for a while.
                        if dice.one_in(2) {
                            self.start_node(at);
                            self.links[at].parted_until = self.step + dice.below(2_000);
                            for till in 0..self.terminals.len() {
                                if dice.one_in(3) {
                                    self.roam(till, at);
                                }
                            }
                        }
                        return Progress::Ends;
                    }
                    Some(Err(_)) => {}
                }
            }
            _ => {}
        }
        self.start_node(at);
        Progress::Ends
    }

    /// Terminals at a site find that it does not sell to them any more, and go to others.
    fn send_terminals_away(&mut self, at: usize) {
        self.move_relays(at);
        let others: Vec<_> =
            (0..self.sites.len()).filter(|other| *other != at && !self.is_down[*other]).collect();
        for till in 0..self.terminals.len() {
            if self.terminals[till].site == at {
                let to = others[self.dice.below(others.len() as u64) as usize];
                self.roam(till, to);
            }
        }
    }

    /// The hub closes the link of a node that has left: what it said before arrives first.
    pub(super) fn send_closed_away(&mut self, at: usize) {
        self.trace.note("closed node calls", Subject::node(self.sites[at].seller), String::new);
        while let Some(message) = self.sites[at].to_node.pop_front() {
            self.trace.note(watch::name_down(&message), watch::subject_down(&message), String::new);
            if !self.hear_from_above(at, message) {
                return;
            }
        }
        self.cut(at);
        (self.links[at].lower_knows, self.links[at].upper_knows) = (true, true);
        self.sites[at].node.handle_unlinked();
        self.links[at].parted_until = self.step + CLOSED_CALLS_AFTER;
    }
}

/// Steps in which something that was begun has to be done.
const ERRAND_STEPS_MAX: u64 = 4_000;
/// Steps between two calls of a node that has left.
const CLOSED_CALLS_AFTER: u64 = 400;
