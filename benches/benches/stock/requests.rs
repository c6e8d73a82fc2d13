//! Small requests for stock from several nodes, over a link each, to one hub.
//!
//! The nodes are this process: real links and real takers, which call durable at once what they are to make durable, so
//! that the hub is what is measured.

use crate::site::{Site, code};
use crate::{Options, median, print_rounds};
use benches::floor::Floor;
use benches::network::mint;
use benches::process::Result;
use engine::cli::{clock, random};
use engine::ids::{SellerId, VarietyId};
use engine::journal::Record;
use engine::journal::record::Stream;
use engine::link::{ToHub, ToNode};
use engine::net::link::{LinkEvent, LinkKey, LinkOptions, Role, Uplink, UplinkHandle, UplinkIdentity};
use engine::network::JoinToken;
use engine::stock::NodeKeys;
use engine::transfer::{Taker, TakerAction};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Has several nodes ask, each again as soon as it is answered.
pub(crate) fn measure(folder: &Path, options: &Options) -> Result<()> {
    let kinds = [("in bulk", Stream::Bulk), ("urgent, one PIN each", Stream::Urgent)];
    println!("-- requests of {NODES} nodes, {AT_ONCE} at a time of each, in bulk for {PINS_EACH} PINs");
    let site = Site::start(folder, 1)?;
    let tokens = (0..NODES).map(|node| Ok(site.admit(&format!("node-{node}"))?.parse()?));
    let tokens = tokens.collect::<Result<Vec<JoinToken>>>()?;
    let rounds = u32::try_from(options.rounds)?;
    mint(&site.hub_data(), &code(1), rounds * STOCK_EACH, 0)?;
    let (sender, events) = channel();
    let links = tokens.iter().map(|token| {
        let keys = NodeKeys::from_node_key(token.node_key.expose());
        let identity =
            UplinkIdentity { node: token.seller, role: Role::Server, workers: 1, key: LinkKey::of(&keys) };
        let sender = sender.clone();
        let deliver = move |event| drop(sender.send(event));
        let address = vec![site.hub.address.to_string()];
        let link = Uplink::start(address, identity, deliver, clock, random, LinkOptions::default())?;
        Ok((token.seller, Node::new(link, token.seller)))
    });
    let mut nodes = Nodes { nodes: links.collect::<Result<_>>()?, events };
    nodes.connect()?;
    for (name, stream) in kinds {
        let mut rates = Vec::new();
        let busy_s = site.hub.cpu_s();
        let mut answered = 0;
        for _ in 0..options.rounds {
            site.hub.await_rest()?;
            let (count, seconds) = nodes.ask(stream)?;
            rates.push(count as f64 / seconds);
            answered += count;
        }
        let cpu_us = (site.hub.cpu_s() - busy_s) * 1e6 / answered as f64;
        print_rounds(name, "requests/s", &rates);
        println!("  a request takes {cpu_us:.0} microseconds of the hub's processor time");
        Floor::at_least(REQUESTS_PER_S_MIN, "requests/s").print(&format!("requests, {name}"), median(rates));
    }
    for node in nodes.nodes.values() {
        node.link.stop();
    }
    Ok(())
}

struct Nodes {
    nodes: BTreeMap<SellerId, Node>,
    events: Receiver<LinkEvent<ToNode>>,
}

/// A node as far as a hub that gives it stock can tell.
struct Node {
    link: UplinkHandle,
    seller: SellerId,
    connection: u64,
    is_ready: bool,
    next_request: u64,
    /// Requests without an answer.
    open: usize,
    takers: [Taker; 2],
}

impl Nodes {
    /// Waits until all have been welcomed.
    fn connect(&mut self) -> Result<()> {
        while self.nodes.values().any(|node| !node.is_ready) {
            self.take()?;
        }
        Ok(())
    }

    /// Asks for a while; how many requests were answered with what they asked for, in how many seconds.
    fn ask(&mut self, stream: Stream) -> Result<(u64, f64)> {
        let start = Instant::now();
        for node in self.nodes.values_mut() {
            (0..AT_ONCE).for_each(|_| node.ask(stream));
        }
        let mut answered = 0;
        while start.elapsed() < TIME {
            if let Some(node) = self.take()? {
                answered += 1;
                self.nodes.get_mut(&node).ok_or("it was there")?.ask(stream);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        while self.nodes.values().any(|node| node.open > 0) {
            self.take()?;
        }
        Ok((answered, seconds))
    }

    /// Takes the next event; whose request it answered.
    fn take(&mut self) -> Result<Option<SellerId>> {
        match self.events.recv_timeout(PATIENCE)? {
            LinkEvent::Up { connection, node, .. } => {
                let node = self.nodes.get_mut(&node).ok_or("nobody else connects")?;
                node.connection = connection;
                node.greet();
                Ok(None)
            }
            LinkEvent::Message { node, message, .. } => {
                let live = self.nodes.get_mut(&node).ok_or("nobody else connects")?;
                Ok(live.handle(message)?.then_some(node))
            }
            LinkEvent::Down { why, .. } => Err(format!("a link is gone: {why}").into()),
        }
    }
}

impl Node {
    fn new(link: UplinkHandle, seller: SellerId) -> Self {
        let takers = [Taker::new(Stream::Bulk, 0, []), Taker::new(Stream::Urgent, 0, [])];
        Self { link, seller, connection: 0, is_ready: false, next_request: 1, open: 0, takers }
    }

    fn greet(&self) {
        self.send(ToHub::Hello {
            node: self.seller,
            hub_epoch: 0,
            journal_from: 0,
            journal_mark: 0,
            workers: 1,
            registry_version: 0,
            registry_digest: 0,
        });
    }

    fn ask(&mut self, stream: Stream) {
        let (request, variety) = (self.next_request, VarietyId(1));
        self.next_request += 1;
        self.open += 1;
        self.send(match stream {
            Stream::Bulk => ToHub::Need { request, variety, count: PINS_EACH },
            Stream::Urgent => ToHub::Urgent { request, variety },
        });
    }

    /// Takes a message; whether it answered a request with all that was asked for.
    fn handle(&mut self, message: ToNode) -> Result<bool> {
        match message {
            ToNode::Ready => self.is_ready = true,
            ToNode::Offer(offer) => {
                self.takers[offer.stream as usize].handle_offer(offer, 0)?;
                self.follow(offer.stream);
            }
            ToNode::Chunk { stream, number, offset, bytes } => {
                self.takers[stream as usize].handle_chunk(number, offset, &bytes)?;
                self.follow(stream);
            }
            ToNode::Answered { granted, .. } => {
                self.open -= 1;
                if granted == 0 {
                    return Err("the hub ran out of stock".into());
                }
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Does what a taker says.
    fn follow(&mut self, stream: Stream) {
        while let Some(action) = self.takers[stream as usize].poll_action() {
            let taker = &mut self.takers[stream as usize];
            match action {
                TakerAction::WriteContent { offer, .. } => taker.handle_written(offer.number),
                TakerAction::Record(Record::Received(fact) | Record::Refused(fact)) => {
                    taker.handle_recorded(fact.number);
                }
                TakerAction::Progress { number, bytes } => {
                    self.send(ToHub::Progress { stream, number, bytes });
                }
                TakerAction::Answer { number, accepted } => {
                    self.send(ToHub::Answer { stream, number, accepted });
                }
                TakerAction::Compare(_) | TakerAction::Record(_) | TakerAction::Taken(_) => {}
            }
        }
    }

    fn send(&self, message: ToHub) {
        self.link.send(self.connection, message);
    }
}

const NODES: usize = 8;
/// Requests of one node without an answer.
const AT_ONCE: usize = 16;
const PINS_EACH: u32 = 10;
/// Issued for each round: more than is asked for in it.
const STOCK_EACH: u32 = 1_000_000;
const TIME: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
const REQUESTS_PER_S_MIN: f64 = 2000.0;
