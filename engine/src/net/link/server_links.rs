//! The links of a hub that are up.

use super::fault::Fault;
use super::pacing::Bucket;
use super::pair::Link;
use super::pipe::Pipe;
use super::{LinkEvent, LinkOptions};
use crate::ids::SellerId;
use crate::link::{Channel, Encoded, ToHub};
use mio::net::TcpStream;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use wire::link::{LinkIntroduction, LinkSession};

/// One connection of a link that comes up.
pub(super) struct Partner {
    pub(super) token: usize,
    pub(super) pipe: Pipe,
    pub(super) session: LinkSession,
    pub(super) said: LinkIntroduction,
    pub(super) address: SocketAddr,
}

pub(super) struct Links {
    links: BTreeMap<u64, Live>,
    by_token: HashMap<usize, (u64, Channel)>,
    by_node: HashMap<SellerId, u64>,
    next_connection: u64,
    /// Whose bulk is served first: the budget is used up from there.
    first: u64,
    /// Of links that have ended.
    left: Vec<TcpStream>,
    /// Links that take no more, to be ended in the next turn.
    full: Vec<(u64, Fault)>,
    options: LinkOptions,
}

struct Live {
    node: SellerId,
    address: SocketAddr,
    tokens: [usize; 2],
    link: Link<ToHub>,
}

impl Links {
    pub(super) fn new(options: LinkOptions) -> Self {
        Self {
            links: BTreeMap::new(),
            by_token: HashMap::new(),
            by_node: HashMap::new(),
            next_connection: 1,
            first: 0,
            left: Vec::new(),
            full: Vec::new(),
            options,
        }
    }

    /// Both connections have proved to be the node's: the link is up, and an earlier one of the node is not.
    pub(super) fn begin(
        &mut self,
        one: Partner,
        other: Partner,
        now_ms: u64,
        deliver: &impl Fn(LinkEvent<ToHub>),
    ) {
        let (control, bulk) = if one.said.channel == Channel::Control { (one, other) } else { (other, one) };
        let LinkIntroduction { node, role, workers, .. } = control.said;
        let address = control.address;
        if let Some(before) = self.by_node.get(&node).copied() {
            let address_before = self.links[&before].address;
            let why = format!("replaced by a link from {address}; this one came from {address_before}");
            tracing::warn!(node = node.0, "{why}");
            self.end(before, &Fault::Ours(why), now_ms, deliver);
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        let tokens = [control.token, bulk.token];
        self.by_token.insert(tokens[0], (connection, Channel::Control));
        self.by_token.insert(tokens[1], (connection, Channel::Bulk));
        self.by_node.insert(node, connection);
        let (control, bulk) = ((control.pipe, control.session), (bulk.pipe, bulk.session));
        let link = Link::new(control, bulk, true, self.options, now_ms);
        self.links.insert(connection, Live { node, address, tokens, link });
        deliver(LinkEvent::Up { connection, node, role, workers, address });
    }

    /// The connection with this token.
    pub(super) fn pipe(&mut self, token: usize) -> Option<&mut Pipe> {
        let (connection, channel) = self.by_token.get(&token)?;
        Some(self.links.get_mut(connection)?.link.line(*channel).pipe())
    }

    pub(super) fn push(&mut self, connection: u64, channel: Channel, message: Encoded) {
        if let Some(live) = self.links.get_mut(&connection)
            && let Err(fault) = live.link.push(channel, message)
        {
            self.full.push((connection, fault));
        }
    }

    /// Gives every link its turn; whether there may be more to do at once.
    pub(super) fn serve(
        &mut self,
        bucket: &mut Bucket,
        now_ms: u64,
        deliver: &impl Fn(LinkEvent<ToHub>),
    ) -> bool {
        let mut faults = std::mem::take(&mut self.full);
        let mut pressing = false;
        let mut note = |connection: u64, served: Result<bool, Fault>| match served {
            Ok(more) => pressing |= more,
            Err(fault) => faults.push((connection, fault)),
        };
        for (&connection, live) in &mut self.links {
            let node = live.node;
            let hand_on = |message| deliver(LinkEvent::Message { connection, node, message });
            note(connection, live.link.serve_control(now_ms, hand_on));
        }
        // Every turn begins with another.
        let first = self.links.range(self.first + 1..).next().map_or(0, |(connection, _)| *connection);
        self.first = first;
        let mut serve_bulk = |(&connection, live): (&u64, &mut Live)| {
            let node = live.node;
            let hand_on = |message| deliver(LinkEvent::Message { connection, node, message });
            note(connection, live.link.serve_bulk(now_ms, bucket, hand_on));
            note(connection, live.link.tick(now_ms).map(|()| false));
        };
        self.links.range_mut(first..).for_each(&mut serve_bulk);
        self.links.range_mut(..first).for_each(&mut serve_bulk);
        for (connection, fault) in faults {
            self.end(connection, &fault, now_ms, deliver);
        }
        pressing
    }

    /// Whether anything in bulk waits to be sent.
    pub(super) fn wait_for_budget(&self) -> bool {
        self.links.values().any(|live| live.link.has_unsent_bulk())
    }

    /// Ends a link, if it is there.
    pub(super) fn end(
        &mut self,
        connection: u64,
        fault: &Fault,
        now_ms: u64,
        deliver: &impl Fn(LinkEvent<ToHub>),
    ) {
        let Some(Live { node, tokens, link, .. }) = self.links.remove(&connection) else { return };
        for token in tokens {
            self.by_token.remove(&token);
        }
        if self.by_node.get(&node) == Some(&connection) {
            self.by_node.remove(&node);
        }
        self.left.extend(link.end(fault).into_iter().filter_map(|pipe| pipe.finish(now_ms)));
        deliver(LinkEvent::Down { connection, node, why: fault.to_string() });
    }

    pub(super) fn end_all(&mut self, fault: &Fault, now_ms: u64, deliver: &impl Fn(LinkEvent<ToHub>)) {
        for connection in self.links.keys().copied().collect::<Vec<_>>() {
            self.end(connection, fault, now_ms, deliver);
        }
    }

    /// What is left of links that have ended: their last words may still have to arrive.
    pub(super) fn left(&mut self) -> impl Iterator<Item = TcpStream> {
        self.left.drain(..)
    }
}
