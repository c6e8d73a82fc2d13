//! Nodes below a server. Their stock comes from that server, and all that they say comes through it, in envelopes; the hub keeps
//! their journals, counts their sales, and answers for them as for any node. It never gives to them nor takes from them itself.

use super::books::Fate;
use super::commands::CommandError;
use super::{Hub, HubError, NodeFault, Output, Store};
use crate::disk::Disk;
use crate::ids::SellerId;
use crate::link::{Child, ChildStanding, ToHub, ToNode, Told};
use crate::registry::TerminalKey;
use std::sync::Arc;

impl<S: Store, D: Disk> Hub<S, D> {
    /// The server that a node is below; `None`: it is below the hub.
    #[must_use]
    pub fn parent(&self, node: SellerId) -> Option<SellerId> {
        self.nodes.get(&node)?.below
    }

    /// The nodes below a server.
    pub fn children(&self, server: SellerId) -> impl Iterator<Item = SellerId> {
        self.nodes.values().filter(move |node| node.below == Some(server)).map(|node| node.seller)
    }

    /// Whether a node can be made below this one.
    pub(super) fn check_parent(&self, server: SellerId) -> Result<(), CommandError> {
        let live = self.nodes.get(&server).ok_or(CommandError::NoSuchNode(server))?;
        match live.fate {
            Fate::Closed { .. } => return Err(CommandError::NodeClosed(live.name.clone())),
            Fate::Lost { .. } => return Err(CommandError::NodeLost(live.name.clone())),
            Fate::Member => {}
        }
        if live.below.is_some() {
            return Err(CommandError::NodeBelow(live.name.clone()));
        }
        if self.children(server).count() >= CHILDREN_MAX {
            return Err(CommandError::Count(CHILDREN_MAX as u32));
        }
        Ok(())
    }

    /// Whether this holds of all nodes below one.
    pub(super) fn check_below(
        &self,
        server: SellerId,
        holds: impl Fn(&super::node::Node) -> bool,
    ) -> Result<(), CommandError> {
        let others = self.nodes.values().filter(|node| node.below == Some(server) && !holds(node));
        let others: Vec<_> = others.map(|node| node.name.as_str()).collect();
        if others.is_empty() {
            return Ok(());
        }
        let name = self.nodes.get(&server).map_or_else(String::new, |live| live.name.clone());
        Err(CommandError::NodeHasChildren { name, children: others.join(", ") })
    }

    /// What a server is told of the nodes below it; `None` if there never was one.
    ///
    /// # Errors
    /// [`HubError::Key`].
    pub(super) fn children_of(&self, server: SellerId) -> Result<Option<ToNode>, HubError> {
        let mut children = Vec::new();
        for node in self.nodes.values().filter(|node| node.below == Some(server)) {
            let key = super::node::unwrap_node_key(&self.keys, node.seller, &node.wrapped_key)?;
            let (standing, given) = match node.fate {
                Fate::Closed { .. } => (ChildStanding::Closed, 0),
                Fate::Lost { given, .. } => (ChildStanding::Lost, given),
                Fate::Member if node.drain.is_some() => (ChildStanding::Draining, 0),
                Fate::Member => (ChildStanding::Member, 0),
            };
            let (key, name) = (TerminalKey::new(*key), node.name.clone());
            children.push(Child { node: node.seller, name, key, standing, given });
        }
        Ok((!children.is_empty()).then(|| ToNode::Children(Arc::new(children))))
    }

    /// Something about a node has changed that its server has to know, if it is below one: it will, after the commit.
    pub(super) fn tell_parent(&mut self, node: SellerId) -> Result<(), HubError> {
        let Some(server) = self.parent(node) else { return Ok(()) };
        if self.is_linked(server)
            && let Some(message) = self.children_of(server)?
        {
            self.stage(Output::Send { node: server, message });
        }
        Ok(())
    }

    /// A server says what a node below it says.
    pub(super) fn handle_below(
        &mut self,
        server: SellerId,
        node: SellerId,
        message: ToHub,
    ) -> Result<Result<(), NodeFault>, HubError> {
        if !self.is_linked(server) || self.parent(node) != Some(server) {
            return Ok(Err(NodeFault::NotBelow(node)));
        }
        // Only these come in an envelope: the others are between the node and its server.
        let is_for_the_hub = matches!(
            message,
            ToHub::Hello { .. }
                | ToHub::Report(_)
                | ToHub::Journal { .. }
                | ToHub::RegistryHeld { .. }
                | ToHub::Farewell { .. }
                | ToHub::Ask { .. }
                | ToHub::Told { .. }
        );
        if !is_for_the_hub {
            return Ok(Err(NodeFault::NotBelow(node)));
        }
        // What the node did wrong is no fault of its server's.
        if let Err(fault) = self.handle_message(node, message)? {
            self.refuse_node(node, fault);
        }
        Ok(Ok(()))
    }

    /// The answer to a node's question, as it leaves.
    #[must_use]
    pub fn telling(&self, node: SellerId, question: u64, told: Told) -> Option<Output> {
        self.addressed(Output::Send { node, message: ToNode::Told { question, told } })
    }

    /// The message as it leaves: what is for a node below a server goes there.
    pub(super) fn addressed(&self, output: Output) -> Option<Output> {
        let Output::Send { node, message } = output else { return Some(output) };
        let Some(server) = self.parent(node) else { return Some(Output::Send { node, message }) };
        let goes = matches!(
            message,
            ToNode::JournalAcked { .. }
                | ToNode::Farewell
                | ToNode::Closed
                | ToNode::OldCopy
                | ToNode::Asked { .. }
                | ToNode::Told { .. }
        );
        let message = ToNode::Below { node, message: Box::new(message) };
        goes.then_some(Output::Send { node: server, message })
    }
}

/// Most nodes below a server.
const CHILDREN_MAX: usize = 256;
