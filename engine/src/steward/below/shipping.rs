//! What only the hub can do for a node below: keep its journal, answer its farewell. It goes through in envelopes, and nothing of
//! it is kept here.
//!
//! A range of such a node's journal goes on only when the hub holds all of this node's journal that was durable when the range
//! came. So the hub's copy of this node's journal always tells of the OUT of whatever its copy of the other says came IN, and the
//! two can be compared at any time.

use crate::disk::Disk;
use crate::ids::SellerId;
use crate::limits::SETTLING_MAX;
use crate::link::{Asked, ToHub, ToNode, Told};
use crate::steward::{Link, Steward};
use bytes::Bytes;

/// A range of the journal of a node below.
pub(super) struct HeldRange {
    from: u64,
    bytes: Bytes,
    /// It goes on when the hub holds this node's journal up to here.
    behind: u64,
    /// It went on, in this connection with the hub.
    is_sent: bool,
}

impl<D: Disk> Steward<D> {
    /// A node below ships a range of its journal, and the next only when this one is acknowledged.
    pub(super) fn hold_range(&mut self, node: SellerId, from: u64, bytes: Bytes) {
        let behind = self.journal_end;
        if let Some(child) = self.children.by_node.get_mut(&node) {
            child.range = Some(HeldRange { from, bytes, behind, is_sent: false });
        }
        self.ship_for_children();
    }

    /// Sends on what may go on by now.
    pub(in crate::steward) fn ship_for_children(&mut self) {
        if self.link == Link::Down {
            return;
        }
        let archived = self.children.archived;
        let mut ready = Vec::new();
        for child in self.children.by_node.values_mut().filter(|child| child.is_introduced) {
            if let Some(range) =
                child.range.as_mut().filter(|range| !range.is_sent && archived >= range.behind)
            {
                range.is_sent = true;
                ready.push((child.node, ToHub::Journal { from: range.from, bytes: range.bytes.clone() }));
            }
        }
        for (node, message) in ready {
            self.send_envelope(node, message);
        }
    }

    /// The hub holds this node's own journal up to here.
    pub(in crate::steward) fn note_archived(&mut self, position: u64) {
        self.children.archived = position;
        self.ship_for_children();
    }

    /// The hub has welcomed this node: it hears of those below.
    pub(in crate::steward) fn introduce_children(&mut self) {
        let greeted =
            self.children.by_node.values().filter_map(|child| Some((child.node, child.hello.clone()?)));
        for (node, hello) in greeted.collect::<Vec<_>>() {
            self.send_envelope(node, hello);
        }
        let reports = self.children.by_node.values();
        let reports = reports.filter_map(|child| Some((child.node, ToHub::Report(child.report.clone()?))));
        for (node, report) in reports.collect::<Vec<_>>() {
            self.send_envelope(node, report);
        }
    }

    /// The link with the hub is gone.
    pub(in crate::steward) fn cut_children_off(&mut self) {
        let mut unanswered = Vec::new();
        for child in self.children.by_node.values_mut() {
            child.is_introduced = false;
            if let Some(range) = &mut child.range {
                range.is_sent = false;
            }
            let questions = std::mem::take(&mut child.questions);
            unanswered.extend(questions.into_iter().map(|question| (child.node, question)));
        }
        for (node, question) in unanswered {
            self.send_below(node, ToNode::Told { question, told: Told::IN_DOUBT });
        }
    }

    /// A terminal of a node below asks about a sequence of another seller.
    pub(super) fn ask_for_child(&mut self, node: SellerId, question: u64, seller: SellerId, asked: Asked) {
        let is_linked = self.link != Link::Down;
        let Some(child) = self.children.by_node.get_mut(&node) else { return };
        if is_linked && child.questions.len() < SETTLING_MAX {
            child.questions.insert(question);
            self.send_envelope(node, ToHub::Ask { question, seller, asked });
        } else {
            self.send_below(node, ToNode::Told { question, told: Told::IN_DOUBT });
        }
    }

    /// The hub says something to a node below.
    pub(in crate::steward) fn hear_for_child(&mut self, node: SellerId, message: &ToNode) {
        let Some(child) = self.children.by_node.get_mut(&node) else { return };
        let is_greeted = child.hello.is_some();
        match *message {
            ToNode::JournalAcked { position } => {
                child.archived = Some(position);
                child.is_introduced = is_greeted;
                // If this answers the hello and not the range, the node ships that again.
                child.range = None;
                if is_greeted {
                    self.send_below(node, ToNode::JournalAcked { position });
                }
            }
            ToNode::Told { question, told } if child.questions.remove(&question) => {
                self.send_below(node, ToNode::Told { question, told });
            }
            ToNode::Asked { question, asked } if is_greeted => {
                self.send_below(node, ToNode::Asked { question, asked });
            }
            ToNode::Farewell if is_greeted => self.send_below(node, ToNode::Farewell),
            ToNode::OldCopy if is_greeted => {
                self.send_below(node, ToNode::OldCopy);
                self.close_child(node, "its journal does not continue what the hub holds of it".to_owned());
            }
            ToNode::Closed if is_greeted => {
                self.send_below(node, ToNode::Closed);
                self.close_child(node, "it has left the network [node_closed]".to_owned());
            }
            // Nothing else comes in an envelope.
            _ => {}
        }
    }

    /// Says to the hub what a node below says to it; lost if the hub is away.
    pub(super) fn send_envelope(&mut self, node: SellerId, message: ToHub) {
        if self.link != Link::Down {
            self.send(ToHub::Below { node, message: Box::new(message) });
        }
    }
}
