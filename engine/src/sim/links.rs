//! Links: two channels each way, each of which keeps the order of what is on it and loses nothing, until the link is cut and
//! everything on its way is gone. What comes twice comes over a later connection.

use super::broken::{Concerned, broken};
use super::trace::Subject;
use super::watch;
use super::world::World;
use crate::ids::SellerId;
use crate::link::{Channel, LinkMessage, ToNode};
use std::collections::VecDeque;

/// A node's link with whoever is above it.
pub(super) struct Link {
    pub(super) is_up: bool,
    /// Whether each end has heard that it is not.
    pub(super) lower_knows: bool,
    pub(super) upper_knows: bool,
    /// Whether anything has arrived on the control channel, up and down: before that, nothing does on the other.
    begun: [bool; 2],
    /// Before this step there is no other connection.
    pub(super) parted_until: u64,
    /// Before this step nothing moves, up and down.
    pub(super) stalled_until: [u64; 2],
    /// Before this step it is slow.
    pub(super) slow_until: u64,
}

const UP: usize = 0;
const DOWN: usize = 1;

impl Link {
    /// A node below the hub has called at its start; others are told first that they may.
    pub(super) fn new(is_up: bool) -> Self {
        Self {
            is_up,
            lower_knows: true,
            upper_knows: true,
            begun: [false; 2],
            parted_until: 0,
            stalled_until: [0; 2],
            slow_until: 0,
        }
    }
}

impl World<'_> {
    /// A link is cut, with everything on its way. Neither end knows yet.
    pub(super) fn cut(&mut self, at: usize) {
        let link = &mut self.links[at];
        link.begun = [false; 2];
        if std::mem::replace(&mut link.is_up, false) {
            (link.lower_knows, link.upper_knows) = (false, false);
        }
        self.sites[at].to_node.clear();
        self.sites[at].node.to_hub.clear();
    }

    /// The upper end of a link that is cut hears of it.
    pub(super) fn tell_upper(&mut self, at: usize) {
        if std::mem::replace(&mut self.links[at].upper_knows, true) {
            return;
        }
        let seller = self.sites[at].seller;
        match self.parents[at] {
            Some(parent) => {
                self.sites[parent].node.handle_child_cut(seller);
                self.take_from_node(parent);
            }
            None if self.hub_is_up() => {
                self.hub.handle_cut(seller);
                self.commit_hub();
            }
            None => {}
        }
    }

    /// The lower end hears of it.
    pub(super) fn tell_lower(&mut self, at: usize) {
        if !std::mem::replace(&mut self.links[at].lower_knows, true) {
            self.sites[at].node.handle_unlinked();
        }
    }

    /// The same with those of all nodes below it, as when its process ends; it hears nothing more.
    pub(super) fn cut_all(&mut self, at: usize) {
        self.cut(at);
        self.links[at].lower_knows = true;
        for below in
            (0..self.sites.len()).filter(|below| self.parents[*below] == Some(at)).collect::<Vec<_>>()
        {
            self.cut(below);
            self.links[below].upper_knows = true;
        }
    }

    fn connect(&mut self, at: usize) -> bool {
        let seller = self.sites[at].seller;
        let is_there = match self.parents[at] {
            Some(parent) => !self.is_down[parent] && self.sites[parent].node.knows_child(seller),
            None => self.hub_is_up(),
        };
        if !is_there
            || self.is_down[at]
            || self.lost_for_ever.contains(&at)
            || self.step < self.links[at].parted_until
        {
            return false;
        }
        // A new connection of a node ends the one before.
        self.tell_upper(at);
        self.tell_lower(at);
        let link = &mut self.links[at];
        (link.is_up, link.begun, link.stalled_until) = (true, [false; 2], [0; 2]);
        self.sites[at].to_node.clear();
        self.sites[at].node.handle_reconnected();
        self.trace.note("link opens", Subject::node(seller), String::new);
        true
    }

    /// A message moves on some link, or a link that is cut is noticed or made again.
    pub(super) fn step_link(&mut self) -> bool {
        let at = self.site();
        if !self.links[at].is_up {
            self.sites[at].node.to_hub.clear();
            return match self.dice.below(12) {
                0 => {
                    self.tell_upper(at);
                    true
                }
                1 => {
                    self.tell_lower(at);
                    true
                }
                2 | 3 if self.links[at].lower_knows => self.connect(at),
                _ => false,
            };
        }
        let way = self.dice.below(2) as usize;
        let link = &self.links[at];
        let is_slow = self.step < link.slow_until && !self.dice.one_in(20);
        if self.step < link.stalled_until[way] || is_slow {
            return false;
        }
        let channel = if self.dice.one_in(2) { Channel::Control } else { Channel::Bulk };
        let mut moved = false;
        // What is there comes together, as far as it goes.
        for _ in 0..=self.dice.below(MESSAGES_PER_STEP) {
            // What one message says may end the link.
            let moves = self.links[at].is_up
                && (if way == UP { self.move_up(at, channel) } else { self.move_down(at, channel) });
            moved |= moves;
            if !moves {
                break;
            }
        }
        // The hub takes what is ready, and commits once.
        if moved && self.dice.one_in(2) && self.hub_is_up() {
            self.commit_hub();
        }
        moved
    }

    fn move_up(&mut self, at: usize, channel: Channel) -> bool {
        let Some(message) = self.links[at].take(UP, channel, &mut self.sites[at].node.to_hub) else {
            return false;
        };
        let (seller, subject) = (self.sites[at].seller, watch::subject_up(&message));
        self.trace.note(watch::name_up(&message), subject.at(seller), || format!("{message:?}"));
        self.check_message(&message);
        match self.parents[at] {
            Some(parent) => {
                let now = self.now_at(parent);
                let handled = self.sites[parent].node.handle_child_message(seller, message, &now);
                if let Err(stop) = handled {
                    self.stopped(parent, &stop);
                }
                self.take_from_node(parent);
            }
            None => {
                if let Err(error) = self.hub.handle_link(seller, message, self.now.unix_ms) {
                    self.hub_stopped(&error);
                }
            }
        }
        true
    }

    fn move_down(&mut self, at: usize, channel: Channel) -> bool {
        let Some(message) = self.links[at].take(DOWN, channel, &mut self.sites[at].to_node) else {
            return false;
        };
        let (seller, subject) = (self.sites[at].seller, watch::subject_down(&message));
        self.trace.note(watch::name_down(&message), subject.at(seller), || format!("{message:?}"));
        self.hear_from_above(at, message);
        self.take_from_node(at);
        true
    }

    /// A message from above arrives. Whether the node goes on.
    pub(super) fn hear_from_above(&mut self, at: usize, message: ToNode) -> bool {
        let (now, is_closed) = (self.now_at(at), matches!(message, ToNode::Closed));
        if let Err(stop) = self.sites[at].node.handle_message(message, &now) {
            self.stopped(at, &stop);
            return false;
        }
        if is_closed && self.sites[at].node.has_stored_its_place() {
            self.oracle.heard_that_it_left(self.sites[at].seller, self.step);
        }
        true
    }

    /// The hub says something to a node: lost without a connection.
    pub(super) fn send_down(&mut self, node: SellerId, message: ToNode) {
        self.check_hub_claim(node, &message);
        let at = self.at_seller(node).expect("the hub knows no other");
        if self.links[at].is_up {
            self.sites[at].to_node.push_back(message);
        }
    }

    /// What a server says to the nodes below it is on its way, and so is what went wrong with a link.
    pub(super) fn carry_below(&mut self, at: usize) {
        while let Some((node, message)) = self.sites[at].node.to_below.pop_front() {
            let below = self.at_seller(node).expect("a server knows no other");
            if self.links[below].is_up {
                self.sites[below].to_node.push_back(message);
            }
        }
        let node = &mut self.sites[at].node;
        if let Some((child, why)) = node.closed.pop() {
            let below = self.at_seller(child).expect("a server knows no other");
            if self.closed.contains(&below) {
                return self.send_closed_away(below);
            }
            let what = format!("node {} closes the link of node {}: {why}", self.sites[at].seller.0, child.0);
            broken(3, what, Concerned::default());
        }
        let site = &mut self.sites[at];
        if let Some(why) = site.node.hangs_up.take() {
            let what = format!("node {} closes its link: {why}", site.seller.0);
            broken(3, what, Concerned::default());
        }
        if site.node.to_hub.len().max(site.to_node.len()) > QUEUE_MAX {
            broken(
                9,
                format!("more than {QUEUE_MAX} messages at node {}", site.seller.0),
                Concerned::default(),
            );
        }
    }
}

impl Link {
    /// The next message on a channel.
    fn take<M: LinkMessage>(&mut self, way: usize, channel: Channel, queue: &mut VecDeque<M>) -> Option<M> {
        if channel == Channel::Bulk && !self.begun[way] {
            return None;
        }
        let at = queue.iter().position(|message| message.channel() == channel)?;
        self.begun[way] = true;
        queue.remove(at)
    }
}

impl Subject {
    fn at(self, node: SellerId) -> Self {
        Self { node: Some(node), ..self }
    }
}

/// Most messages that arrive at once.
const MESSAGES_PER_STEP: u64 = 12;
/// More messages than are ever on their way.
const QUEUE_MAX: usize = 20_000;
