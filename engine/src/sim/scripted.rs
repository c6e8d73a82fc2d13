//! Networks of real hub and nodes on virtual time, driven by a script instead of chance: who has what in the beginning, who
//! sells what, who goes offline when.

mod away;
mod below;
mod disturbed;
mod drains;
mod lost;
mod lost_below;
mod moves;

use super::Dice;
use super::office::{SimHub, add_variety, archived, archived_books, command, deliver, load_hub};
use super::oracle::Oracle;
use super::site::Site;
use crate::audit::audit;
use crate::disk::heap::HeapDisk;
use crate::hub::books::{MoveRow, Way};
use crate::hub::{Command, CommandError, Done, MemoryStore, NodeStock, Output, Terminals};
use crate::ids::{KeyEpoch, PinId, SellerId, TerminalId, VarietyId};
use crate::intake::HeapFingerprints;
use crate::link::{ToHub, ToNode};
use crate::policy::Levels;
use crate::seller::Asker;
use crate::stock::NodeKeys;
use crate::time::Now;
use disturbed::Disturbance::{self, Cut, Restart, RestartHub};
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::message::{Attempt, LaterReason, Reply, Request, Vend};

const VARIETY: VarietyId = VarietyId(1);
const PRODUCT: u32 = 1;
const FACE: u64 = 500;

/// A hub and some nodes, each with one terminal.
struct Net {
    dice: Dice,
    now: Now,
    hub_disk: Arc<HeapDisk>,
    store: MemoryStore,
    hub: SimHub,
    /// Whether the hub is there.
    is_up: bool,
    sites: Vec<Site>,
    /// By site: the site that it is below, if it is not below the hub.
    parents: Vec<Option<usize>>,
    /// Sites that whoever is above them cannot reach.
    away: BTreeSet<usize>,
    /// Sequences used by each site's terminal.
    used: Vec<u64>,
    fingerprints: HeapFingerprints,
    minted: u32,
    /// Recalls that the hub sent: to whom, and for how many.
    recalls: Vec<(usize, u32)>,
    /// Offers that the hub sent.
    offers: u32,
}

/// Low mark, target, high mark.
type Marks = (u64, u64, u64);

/// What came of a vend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sale {
    Sold(PinId),
    Later(LaterReason),
    Declined,
}

impl Net {
    /// Nodes with these marks, and as many PINs at the hub.
    fn new(levels: &[(u64, u64, u64)], pins: u32) -> Self {
        let levels: Vec<_> = levels.iter().map(|levels| (None, *levels)).collect();
        Self::tree(&levels, pins, 7)
    }

    /// The same, where each node may be below one before it.
    fn tree(levels: &[(Option<usize>, Marks)], pins: u32, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let now = Now { monotonic_ms: 1_000, unix_ms: 1_800_000_000_000 };
        let (hub_disk, store) = (Arc::new(HeapDisk::new()), MemoryStore::new());
        let mut hub = load_hub(&store, &hub_disk);
        command(&mut hub, Command::AddDealer { name: "Corner shop".into() }, &mut dice, &now);
        let terminals = Terminals::Next(levels.len() as u32);
        command(&mut hub, Command::AddTerminals { dealer: 1, terminals }, &mut dice, &now);
        let mut sites: Vec<Site> = Vec::new();
        for (at, (parent, levels)) in levels.iter().enumerate() {
            let (name, below) = (format!("node {at}"), parent.map(|parent| sites[parent].seller));
            let done = command(&mut hub, Command::AddNode { name, below }, &mut dice, &now);
            let Done::Node { seller, node_key, .. } = done else { panic!("a node was asked for") };
            let keys = Arc::new(NodeKeys::from_node_key(node_key.expose()));
            sites.push(Site::new(seller, 2, *levels, keys));
        }
        let parents = levels.iter().map(|(parent, _)| *parent).collect();
        assert_eq!(add_variety(&mut hub, PRODUCT, FACE, &mut dice, &now), VARIETY);
        let (used, fingerprints) = (vec![0; sites.len()], HeapFingerprints::default());
        let (is_up, recalls) = (true, Vec::new());
        let mut net = Self {
            dice,
            now,
            hub_disk,
            store,
            hub,
            is_up,
            sites,
            parents,
            away: BTreeSet::new(),
            used,
            fingerprints,
            minted: 0,
            recalls,
            offers: 0,
        };
        // A server lets nobody in that the hub has not told it of.
        net.settle();
        for site in (0..net.sites.len()).filter(|site| net.parents[*site].is_some()).collect::<Vec<_>>() {
            net.sites[site].reconnect();
        }
        net.mint(pins);
        net.settle();
        net
    }

    fn mint(&mut self, pins: u32) {
        if pins == 0 {
            return;
        }
        let Self { hub, hub_disk, fingerprints, dice, now, .. } = self;
        // Its serials continue those before.
        let order = (VARIETY, FACE, pins);
        deliver(hub, hub_disk, fingerprints, order, self.minted, dice, now, &mut Oracle::default());
        self.minted += pins;
    }

    /// An operator's command.
    fn order(&mut self, command: Command) {
        let dice = &mut self.dice;
        let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&dice.bytes()[..bytes.len()]);
        self.hub.handle_command(1, command, self.now.unix_ms, &mut random).unwrap();
        self.commit().into_iter().for_each(|done| _ = done.unwrap());
    }

    fn drain(&mut self, site: usize, on: bool) {
        let node = self.sites[site].seller;
        self.order(Command::Drain { node, on });
    }

    /// What came of commands.
    fn commit(&mut self) -> Vec<Result<Done, CommandError>> {
        let mut results = Vec::new();
        self.hub.commit().unwrap();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { node, message } => {
                    let site = self.sites.iter().position(|site| site.seller == node).unwrap();
                    match message {
                        ToNode::Recall { count, .. } => self.recalls.push((site, count)),
                        ToNode::Offer(_) => self.offers += 1,
                        _ => {}
                    }
                    self.sites[site].to_node.push_back(message);
                }
                Output::Close { node, fault } => panic!("{node:?} broke the protocol: {fault}"),
                Output::Done { result, .. } => results.push(result),
                Output::Alarm(_) | Output::PlaceOrder { .. } | Output::AnswerFor { .. } => {}
            }
        }
        results
    }

    /// Everybody does a little, and every message arrives. Whether anything but reports was said.
    fn turn(&mut self) -> bool {
        self.pass(20);
        let mut busy = false;
        for at in 0..self.sites.len() {
            let is_away = self.away.contains(&at);
            let site = &mut self.sites[at];
            if is_away {
                site.to_node.clear();
            }
            (0..STEPS_PER_TURN).for_each(|_| _ = site.node.step(&mut self.dice, &self.now).unwrap());
            assert_eq!((&site.node.hangs_up, &site.node.closed), (&None, &Vec::new()), "node {at}");
            while let Some(message) = site.to_node.pop_front() {
                busy |= match &message {
                    ToNode::Below { message, .. } => !matches!(**message, ToNode::JournalAcked { .. }),
                    message => !matches!(message, ToNode::JournalAcked { .. }),
                };
                site.node.handle_message(message, &self.now).unwrap();
            }
            while let Some(message) = self.sites[at].node.to_hub.pop_front() {
                busy |= !is_away && is_news(&message);
                let (seller, now) = (self.sites[at].seller, self.now);
                match self.parents[at] {
                    _ if is_away => {}
                    Some(parent) if !self.sites[parent].node.knows_child(seller) => {}
                    Some(parent) => {
                        self.sites[parent].node.handle_child_message(seller, message, &now).unwrap();
                    }
                    None if self.is_up => self.hub.handle_link(seller, message, now.unix_ms).unwrap(),
                    None => {}
                }
            }
            while let Some((node, message)) = self.sites[at].node.to_below.pop_front() {
                let child = self.sites.iter().position(|site| site.seller == node).unwrap();
                self.sites[child].to_node.push_back(message);
            }
        }
        if self.is_up {
            self.commit();
        }
        busy
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms;
    }

    /// Until nobody has anything to say for a while, reports aside, and those are in.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..TURNS_MAX {
            idle = if self.turn() { 0 } else { idle + 1 };
            if idle > IDLE_TURNS {
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    /// A terminal of a site asks; the answer comes when the network has had time for it.
    fn ask(&mut self, site: usize) {
        self.used[site] += 1;
        let sequence = self.used[site];
        let request = Request::Vend(Vend {
            attempt: Attempt::First,
            sequence,
            product: PRODUCT,
            face_value: FACE,
            deadline_ms: 400,
            // The one before is confirmed.
            confirmed: u64::from(sequence > 1),
        });
        let terminal = TerminalId(site as u64 + 1);
        let (key_epoch, dealer, correlation) = (KeyEpoch(1), 1, 0);
        let asker = Asker { session: terminal.0, terminal, key_epoch, dealer, correlation };
        self.sites[site].node.handle_request(&asker, &request, &self.now);
    }

    /// What became of the vends of a site that were answered.
    fn answers(&mut self, site: usize) -> Vec<Sale> {
        let replies = self.sites[site].node.replies.drain(..);
        let sale = |(_, reply): (Asker, Reply)| match reply {
            Reply::Sold(sold) => Some(Sale::Sold(PinId(sold.reference))),
            Reply::Later { reason, .. } => Some(Sale::Later(reason)),
            Reply::Declined { .. } => Some(Sale::Declined),
            _ => None,
        };
        replies.filter_map(sale).collect()
    }

    /// Sells so many PINs, one after the other.
    fn sell(&mut self, site: usize, count: u32) -> Vec<PinId> {
        let mut pins = Vec::new();
        for sold in 1..=count {
            self.ask(site);
            let mut answers = Vec::new();
            for _ in 0..TURNS_MAX {
                answers = self.answers(site);
                if !answers.is_empty() {
                    break;
                }
                self.turn();
            }
            let [Sale::Sold(pin)] = answers[..] else { panic!("sale {sold} of {count}: {answers:?}") };
            pins.push(pin);
        }
        pins
    }

    /// PINs that a node can sell.
    fn stock(&mut self, site: usize) -> u64 {
        let books = self.sites[site].node.books().unwrap();
        let holdings = books.ledger().inventory.holdings();
        holdings.map(|held| held.in_stock().len()).sum()
    }

    fn stocks(&mut self) -> Vec<u64> {
        (0..self.sites.len()).map(|site| self.stock(site)).collect()
    }

    /// Gives a node other marks, and starts it again.
    fn set_levels(&mut self, site: usize, (low, target, high): (u64, u64, u64)) {
        self.sites[site].levels = Levels::new(low, target, high).unwrap();
        self.restart(site);
    }

    /// Whoever is above a site cannot reach it any more, nor it them.
    fn leave(&mut self, site: usize) {
        self.away.insert(site);
        self.cut(site);
        self.sites[site].node.handle_unlinked();
    }

    /// Whoever is above a site notices that its pipe was cut.
    fn cut(&mut self, site: usize) {
        let seller = self.sites[site].seller;
        match self.parents[site] {
            Some(parent) => self.sites[parent].node.handle_child_cut(seller),
            None => self.hub.handle_cut(seller),
        }
    }

    /// It can again.
    fn come_back(&mut self, site: usize) {
        self.away.remove(&site);
        self.sites[site].reconnect();
    }

    fn restart(&mut self, site: usize) {
        self.cut(site);
        self.sites[site].boot();
        let below = (0..self.sites.len()).filter(|child| self.parents[*child] == Some(site));
        for child in below.collect::<Vec<_>>() {
            self.sites[child].reconnect();
        }
    }

    fn restart_hub(&mut self) {
        self.hub = load_hub(&self.store, &self.hub_disk);
        self.is_up = true;
        let below_the_hub = self.sites.iter_mut().zip(&self.parents).filter(|(_, parent)| parent.is_none());
        below_the_hub.for_each(|(site, _)| site.reconnect());
    }

    fn node(&self, site: usize) -> SellerId {
        self.sites[site].seller
    }

    /// What came back from a site, oldest first.
    fn returns(&self, site: usize) -> Vec<MoveRow> {
        let own = |row: &&MoveRow| row.way == Way::FromNode && row.node == self.node(site);
        let mut rows: Vec<_> = self.hub.moves().filter(own).copied().collect();
        rows.reverse();
        rows
    }

    /// Law 1.
    fn check(&mut self) {
        // Those below others come after them here, and have to be read before.
        let mut sellers: Vec<_> = self.sites.iter_mut().rev().map(Site::audit_books).collect();
        sellers.reverse();
        let report = audit(&self.hub.audit_books(), &sellers);
        assert!(report.balanced, "law 1: {report}");
        let tally = &report.varieties[&VARIETY.0];
        assert_eq!((tally.received, tally.in_doubt), (u64::from(self.minted), 0));
    }
}

/// Whether a message is more than a report or a part of a journal.
fn is_news(message: &ToHub) -> bool {
    match message {
        ToHub::Below { message, .. } => is_news(message),
        message => !matches!(message, ToHub::Report(_) | ToHub::Journal { .. }),
    }
}

/// Steps of a node's threads in a turn: enough for a record to become durable.
const STEPS_PER_TURN: u32 = 40;
/// Longer than a second, so that a report has been heard.
const IDLE_TURNS: u32 = 60;
const TURNS_MAX: u32 = 20_000;
