//! A whole network on virtual time: the real hub, nodes, journals and transfers, one thread, one seed, one run.
//!
//! Everything that the real program leaves to threads, sockets and clocks is a step here, and the seed says which step
//! comes next: a worker between claim and hand-over, the committer between gather, append, sync and publish, a message
//! between hub and node, a reply on its way to a terminal. In between the seed kills a node or the hub, cuts the
//! power with any subset of unsynced sectors lost or torn, cuts a pipe, wipes a terminal, has a node or the hub go offline and
//! come back. The [`oracle`] judges from outside, the audit from durable books read one after the other while everything runs.
//! At the end the faults stop and everything must come to rest.

mod dice;
mod node;
mod oracle;
#[cfg(test)]
mod scripted;
mod site;
mod terminal;

pub use dice::Dice;

use crate::audit::{SellerBooks, audit};
use crate::disk::heap::HeapDisk;
use crate::hub::books::{Place, Way};
use crate::hub::{Command, Done, Hub, MemoryStore, Output, Terminals};
use crate::ids::{PinId, Span, VarietyId};
use crate::intake::{Alphabet, Delivery, DeliveryOrder, HeapFingerprints, Recipe, Tools, mint};
use crate::registry::{State, Variety};
use crate::seller::Asker;
use crate::stock::segment::SegmentFile;
use crate::stock::{BlockKey, Expiry, NodeKeys};
use crate::time::Now;
use node::Node;
use oracle::Oracle;
use site::Site;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use terminal::Terminal;
use wire::message::{Charset, Reply, Request};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Steps with faults.
    pub steps: u64,
    /// Terminals.
    pub terminals: u32,
    /// Nodes.
    pub nodes: u32,
    /// Workers of each node.
    pub workers: usize,
}

/// What happened in a run in which every law held.
#[derive(Clone, Copy, Default, Debug)]
pub struct Summary {
    /// Sales that terminals heard of.
    pub sold: u64,
    /// Times the node's process ended without power loss.
    pub node_kills: u64,
    /// Times the node lost power.
    pub node_power_losses: u64,
    /// Times the hub's process ended.
    pub hub_kills: u64,
    /// Times the pipe between them was cut.
    pub cuts: u64,
    /// Times a terminal lost its storage.
    pub wipes: u64,
    /// Times a terminal was given a new key.
    pub rekeys: u64,
    /// Times a disk filled up.
    pub full_disks: u64,
    /// Times a node or the hub began to go offline.
    pub drains: u64,
    /// PINs that came back to the hub.
    pub returned: u64,
    /// Audits made while everything ran.
    pub audits: u64,
    /// Replies of which it was checked that a power loss at that moment would not have made them untrue.
    pub replies_checked: u64,
}

/// Runs a network from a seed.
///
/// # Panics
/// When a law is broken: the message says which, and where; the seed reproduces it.
#[must_use]
pub fn run(options: Options) -> Summary {
    let mut world = World::new(options);
    for _ in 0..options.steps {
        world.step_with_faults();
    }
    world.come_to_rest();
    world.check_conservation();
    world.summary.sold = world.oracle.sold;
    let returns = world.hub.moves().filter(|row| row.way == Way::FromNode);
    world.summary.returned = returns.map(|row| u64::from(row.span.len())).sum();
    world.summary
}

struct World {
    options: Options,
    dice: Dice,
    now: Now,
    sites: Vec<Site>,
    hub_disk: Arc<HeapDisk>,
    store: MemoryStore,
    hub: Hub<MemoryStore, HeapDisk>,
    terminals: Vec<Till>,
    oracle: Oracle,
    summary: Summary,
}

/// A terminal and its connection, which keeps the order of what is on it.
struct Till {
    terminal: Terminal,
    /// Its seller, as a place in the list of sites.
    site: usize,
    requests: VecDeque<(u16, Request)>,
    replies: VecDeque<Reply>,
}

impl World {
    fn new(options: Options) -> Self {
        let mut dice = Dice::new(options.seed);
        let now = Now { monotonic_ms: 1_000, unix_ms: 1_800_000_000_000 };
        let (hub_disk, store) = (Arc::new(HeapDisk::new()), MemoryStore::new());
        let mut hub = load_hub(&store, &hub_disk);
        let mut oracle = Oracle::default();
        let done = command(&mut hub, Command::AddDealer { name: "Corner shop".into() }, &mut dice, &now);
        let Done::Dealer(dealer) = done else { panic!("a dealer was asked for") };
        let terminals = Terminals::Next(options.terminals);
        let Done::Keys(keys) =
            command(&mut hub, Command::AddTerminals { dealer, terminals }, &mut dice, &now)
        else {
            panic!("keys were asked for")
        };
        // Where marks are low, what is left moves about.
        let levels = if options.seed.is_multiple_of(3) { (20, 60, 100) } else { (3, 9, 12) };
        let sites = (1..=options.nodes).map(|at| {
            let name = format!("node {at}");
            let Done::Node { seller, node_key } =
                command(&mut hub, Command::AddNode { name }, &mut dice, &now)
            else {
                panic!("a node was asked for")
            };
            let link_keys = Arc::new(NodeKeys::from_node_key(node_key.expose()));
            Site::new(seller, options.workers, levels, link_keys)
        });
        let sites: Vec<_> = sites.collect();
        let fingerprints = HeapFingerprints::default();
        for product in 1..=3 {
            for face_value in [500, 1000] {
                let variety = add_variety(&mut hub, product, face_value, &mut dice, &now);
                // The last product runs out.
                let count = if product == 3 { 20 } else { 200 };
                let order = (variety, face_value, count);
                deliver(&mut hub, &hub_disk, &fingerprints, order, 0, &mut dice, &now, &mut oracle);
            }
        }
        let tills = keys.iter().enumerate().map(|(at, key)| Till {
            terminal: Terminal::new(key.terminal, key.key_epoch),
            site: at % sites.len(),
            requests: VecDeque::new(),
            replies: VecDeque::new(),
        });
        let terminals = tills.collect();
        let summary = Summary::default();
        Self { options, dice, now, sites, hub_disk, store, hub, terminals, oracle, summary }
    }

    /// Any of the sites.
    fn site(&mut self) -> usize {
        self.dice.below(self.sites.len() as u64) as usize
    }

    fn step_with_faults(&mut self) {
        // Where faults are rare, sales get far enough to leave windows and fill histories.
        let rarity = [1, 4, 16][(self.options.seed / 6 % 3) as usize];
        match self.dice.below(4000 * rarity) {
            0..=7 => _ = self.kill_node(false),
            8..=15 => _ = self.kill_node(true),
            16..=21 => self.kill_hub(),
            22..=31 => self.cut_pipe(),
            32..=35 => {
                let at = self.dice.below(self.terminals.len() as u64) as usize;
                self.terminals[at].terminal.wipe();
                self.reconnect(at);
                self.summary.wipes += 1;
            }
            36..=80 => {
                let at = self.dice.below(self.terminals.len() as u64) as usize;
                self.reconnect(at);
            }
            81..=83 => self.damage_record(),
            84..=86 => {
                // At the limit at once, or soon.
                let room = if self.dice.one_in(2) { 0 } else { self.dice.below(64 << 10) };
                let site = self.site();
                let disk = if self.dice.one_in(4) { &self.hub_disk } else { &self.sites[site].disk };
                disk.limit(Some(disk.held_bytes() + room));
                self.summary.full_disks += 1;
            }
            87..=96 => self.lift_limits(),
            97 => self.now.unix_ms += self.dice.below(2 * DAY_MS),
            98..=99 => self.rekey(),
            100..=101 => {
                self.order(Command::SetDealer { dealer: 1, state: State::Suspended });
            }
            102..=140 => {
                self.order(Command::SetDealer { dealer: 1, state: State::Active });
            }
            141..=146 => self.drain_node(),
            147..=149 => self.drain_hub(true),
            150..=160 => self.drain_hub(false),
            161..=163 => self.audit_while_running(),
            _ => self.step(),
        }
    }

    fn lift_limits(&mut self) {
        self.sites.iter().for_each(|site| site.disk.limit(None));
        self.hub_disk.limit(None);
    }

    fn damage_record(&mut self) {
        let site = self.kill_node(false);
        let Site { node, disk, .. } = &self.sites[site];
        node.damage_record(disk, &mut self.dice);
        self.start_node(site);
    }

    /// Some node goes offline, or comes back.
    fn drain_node(&mut self) {
        let node = self.sites[self.dice.below(self.sites.len() as u64) as usize].seller;
        let on = self.hub.node_drain(node).is_none();
        self.summary.drains += u64::from(on);
        self.order(Command::Drain { node, on });
    }

    fn drain_hub(&mut self, on: bool) {
        self.summary.drains += u64::from(on && self.hub.hub_drain().is_none());
        self.order(Command::DrainHub { on });
    }

    /// Law 1 by the audit, which reads one book after the other while everything goes on.
    fn audit_while_running(&mut self) {
        let mut sellers: Vec<SellerBooks> = Vec::new();
        for at in 0..self.sites.len() {
            sellers.push(self.sites[at].audit_books());
            (0..self.dice.below(40)).for_each(|_| self.step());
        }
        let report = audit(&self.hub.audit_books(), &sellers);
        assert!(report.balanced, "law 1: {report}");
        self.summary.audits += 1;
    }

    /// A terminal gets a new key: whoever is connected with the old one is sent away.
    fn rekey(&mut self) {
        let at = self.dice.below(self.terminals.len() as u64) as usize;
        let Till { terminal, site, .. } = &self.terminals[at];
        self.sites[*site].node.handle_closed(&asker(terminal, 0));
        let Done::Keys(keys) = self.order(Command::Rekey { terminal: terminal.id }) else {
            panic!("a key was asked for")
        };
        self.terminals[at].terminal.rekey(keys[0].key_epoch);
        self.reconnect(at);
        self.summary.rekeys += 1;
    }

    /// An operator's command, while everything runs.
    fn order(&mut self, command: Command) -> Done {
        let dice = &mut self.dice;
        let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&dice.bytes()[..bytes.len()]);
        self.hub.handle_command(1, command, self.now.unix_ms, &mut random).expect("the hub goes on");
        self.commit_hub().expect("a command is answered")
    }

    fn commit_hub(&mut self) -> Option<Done> {
        let mut done = None;
        self.hub.commit().expect("the hub goes on");
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { node, message } => {
                    let site = self.sites.iter_mut().find(|site| site.seller == node);
                    site.expect("the hub knows no other").to_node.push_back(message);
                }
                Output::Close { node, fault } => panic!("{node:?} broke the protocol: {fault}"),
                Output::Done { result, .. } => {
                    done = Some(result.expect("a command of the simulation is right"));
                }
                Output::PlaceOrder { .. } | Output::AnswerFor { .. } | Output::Alarm(_) => {}
            }
        }
        done
    }

    /// One step of somebody, without faults.
    fn step(&mut self) {
        // Now and then nothing happens for longer than anybody waits.
        let passed_ms = if self.dice.one_in(300) { self.dice.below(3_000) } else { self.dice.below(3) };
        self.now.monotonic_ms += passed_ms;
        self.now.unix_ms += passed_ms;
        match self.dice.below(10) {
            0..=3 => {
                let site = self.site();
                if let Err(stop) = self.sites[site].node.step(&mut self.dice, &self.now) {
                    panic!("node {site} stopped: {stop}");
                }
                self.carry_replies(site);
            }
            4 | 5 => self.step_pipe(),
            _ => self.step_till(),
        }
    }

    fn step_till(&mut self) {
        let at = self.dice.below(self.terminals.len() as u64) as usize;
        let till = &mut self.terminals[at];
        match self.dice.below(3) {
            0 => till.requests.extend(till.terminal.act(&mut self.dice, self.now.monotonic_ms)),
            1 => {
                if let Some((correlation, request)) = till.requests.pop_front() {
                    let asker = asker(&till.terminal, correlation);
                    self.sites[till.site].node.handle_request(&asker, &request, &self.now);
                }
            }
            _ => {
                if let Some(reply) = till.replies.pop_front() {
                    till.terminal.handle_reply(&reply, &mut self.dice, &mut self.oracle);
                }
            }
        }
        if !till.terminal.logged_in && till.terminal.session == 0 {
            self.reconnect(at);
        }
    }

    fn step_pipe(&mut self) {
        let unix_ms = self.now.unix_ms;
        let at = self.site();
        let site = &mut self.sites[at];
        if self.dice.one_in(2) {
            if let Some(message) = site.node.to_hub.pop_front() {
                self.hub.handle_link(site.seller, message, unix_ms).expect("the hub goes on");
            }
        } else if let Some(message) = site.to_node.pop_front()
            && let Err(stop) = site.node.handle_message(message, &self.now)
        {
            panic!("node {at} stopped: {stop}");
        }
        if self.dice.one_in(2) {
            self.commit_hub();
        }
    }

    /// Replies that left the node reach the connection they are for, if it is still the same.
    fn carry_replies(&mut self, site: usize) {
        while let Some((asker, reply)) = self.sites[site].node.replies.pop_front() {
            if self.dice.one_in(REPLIES_PER_CHECK) {
                let disk = self.sites[site].disk.copy();
                disk.lose_power(|| 0);
                let mut books = Node::recover(Arc::new(disk)).expect("it could be started");
                Oracle::check_leaving(asker.terminal, asker.key_epoch, &reply, |vend| books.find(vend));
                self.summary.replies_checked += 1;
            }
            let till = self.terminals.iter_mut().find(|till| till.terminal.id == asker.terminal);
            if let Some(till) = till.filter(|till| till.terminal.session == asker.session & 0xffff_ffff) {
                till.replies.push_back(reply);
            }
        }
    }

    /// A terminal connects anew: what was on the old connection is lost.
    fn reconnect(&mut self, at: usize) {
        let till = &mut self.terminals[at];
        let node = &mut self.sites[till.site].node;
        till.requests.clear();
        till.replies.clear();
        // The node may not have heard that the old connection is gone.
        if self.dice.one_in(2) {
            node.handle_closed(&asker(&till.terminal, 0));
        }
        till.terminal.session += 1;
        till.terminal.logged_in = false;
        let asker = asker(&till.terminal, 0);
        node.handle_connected(&asker);
    }

    /// Kills some node and starts it again. Which.
    fn kill_node(&mut self, power: bool) -> usize {
        let site = self.site();
        if power {
            self.lose_power(site);
        } else {
            self.summary.node_kills += 1;
        }
        self.start_node(site);
        if self.dice.one_in(2) {
            // Law 2: what the start has read from the page cache is durable by now.
            self.check_books(site);
            self.lose_power(site);
            self.start_node(site);
        }
        self.check_books(site);
        site
    }

    fn lose_power(&mut self, site: usize) {
        let dice = &mut self.dice;
        self.sites[site].disk.lose_power(|| dice.below(600));
        self.summary.node_power_losses += 1;
    }

    fn start_node(&mut self, at: usize) {
        let site = &mut self.sites[at];
        self.hub.handle_cut(site.seller);
        site.boot();
        for till in 0..self.terminals.len() {
            if self.terminals[till].site == at {
                self.reconnect(till);
            }
        }
    }

    fn kill_hub(&mut self) {
        self.summary.hub_kills += 1;
        if self.dice.one_in(2) {
            let dice = &mut self.dice;
            self.hub_disk.lose_power(|| dice.below(600));
        }
        self.hub = load_hub(&self.store, &self.hub_disk);
        self.sites.iter_mut().for_each(Site::reconnect);
    }

    fn cut_pipe(&mut self) {
        self.summary.cuts += 1;
        let at = self.site();
        self.hub.handle_cut(self.sites[at].seller);
        self.sites[at].reconnect();
    }

    fn check_books(&mut self, site: usize) {
        let tills = self.terminals.iter().filter(|till| till.site == site);
        let own: Vec<_> = tills.map(|till| till.terminal.id).collect();
        let books = self.sites[site].node.books().expect("the books can be read");
        self.oracle.check_books(|vend| own.contains(&vend.terminal), |vend| books.find(vend));
    }

    /// No more faults: every terminal must learn what became of every sequence it used.
    fn come_to_rest(&mut self) {
        self.lift_limits();
        self.drain_hub(false);
        for at in 0..self.sites.len() {
            let node = self.sites[at].seller;
            self.order(Command::Drain { node, on: false });
        }
        for till in &mut self.terminals {
            till.terminal.finishing = true;
        }
        for step in 0.. {
            if self.terminals.iter().all(|till| till.terminal.is_settled()) && self.is_shipped() {
                break;
            }
            assert!(step < REST_STEPS_MAX, "the network does not come to rest");
            self.step();
        }
        (0..self.sites.len()).for_each(|site| self.check_books(site));
    }

    /// Whether the hub holds the nodes' journals as far as they are durable.
    fn is_shipped(&mut self) -> bool {
        let Self { sites, hub, .. } = self;
        sites.iter_mut().all(|site| {
            let position = site.node.books().expect("the books can be read").position();
            hub.journal_acked(site.seller) == Some(position.0)
        })
    }

    /// Law 1: every PIN that was ever made is in exactly one place.
    fn check_conservation(&mut self) {
        let pins: Vec<PinId> = self.oracle.pins().collect();
        let hub = self.hub.audit_books();
        let mut sellers = Vec::new();
        let mut ledgers = BTreeMap::new();
        for site in &mut self.sites {
            sellers.push(site.audit_books());
            let ledger = site.node.books().expect("the books can be read").ledger();
            ledgers.insert(site.seller, ledger);
        }
        let within = |span: Span, pin: PinId| {
            span.block == pin.block() && (span.start..span.end).contains(&u32::from(pin.index()))
        };
        for pin in pins {
            let index = u32::from(pin.index());
            let mut places = Vec::new();
            for (seller, ledger) in &ledgers {
                for held in ledger.inventory.holdings().filter(|held| within(held.span, pin)) {
                    places.extend(held.sold.contains(index).then_some("sold"));
                    places.extend(held.withdrawn.contains(index).then_some("withdrawn"));
                    places.extend(held.in_stock().contains(index).then_some("in stock"));
                }
                let taker = &hub.takers[seller];
                let open = ledger.given[0].open.values().filter(|fact| within(fact.span, pin));
                let left = open.filter(|fact| taker.outcomes.get(&fact.number) != Some(&true));
                places.extend(left.map(|_| "in transfer to the hub"));
            }
            for piece in hub.pieces.iter().filter(|piece| within(piece.span, pin)) {
                match piece.place {
                    Place::Withdrawn => places.push("written off"),
                    Place::Hub => places.push("at the hub"),
                    Place::Given { node, stream, number, .. } => {
                        let taken = ledgers[&node].taken(stream);
                        // Refused: on its way back.
                        let is_refused = taken.outcomes.get(&number).is_some_and(|(_, accepted)| !accepted);
                        let is_open = number > taken.highest || is_refused;
                        places.extend(is_open.then_some("in transfer"));
                    }
                }
            }
            assert_eq!(places.len(), 1, "law 1: {pin:?} is in {places:?}");
        }
        let report = audit(&hub, &sellers);
        assert!(report.balanced, "law 1: {report}");
    }
}

fn asker(terminal: &Terminal, correlation: u16) -> Asker {
    Asker {
        session: terminal.id.0 << 32 | terminal.session,
        terminal: terminal.id,
        key_epoch: terminal.key_epoch,
        dealer: 1,
        correlation,
    }
}

fn load_hub(store: &MemoryStore, disk: &Arc<HeapDisk>) -> Hub<MemoryStore, HeapDisk> {
    let keys = Arc::new(NodeKeys::from_node_key(&HUB_KEY));
    Hub::load(store.clone(), disk.clone(), keys).expect("the hub starts")
}

fn command(hub: &mut Hub<MemoryStore, HeapDisk>, command: Command, dice: &mut Dice, now: &Now) -> Done {
    let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&dice.bytes()[..bytes.len()]);
    hub.handle_command(1, command, now.unix_ms, &mut random).expect("the hub goes on");
    hub.commit().expect("the hub goes on");
    while let Some(output) = hub.poll_output() {
        if let Output::Done { result, .. } = output {
            return result.expect("a command of the simulation is right");
        }
    }
    panic!("a command is answered")
}

fn add_variety(
    hub: &mut Hub<MemoryStore, HeapDisk>,
    product: u32,
    face_value: u64,
    dice: &mut Dice,
    now: &Now,
) -> VarietyId {
    let variety = Variety {
        id: VarietyId(0),
        code: format!("product-{product}-{face_value}"),
        product,
        face_value,
        currency: *b"ZAR",
        currency_digits: 2,
        charset: Charset::Ascii,
        name: b"Airtime".to_vec(),
        receipt: b"Dial *100#".to_vec(),
        minimum_life_days: 0,
    };
    let Done::Variety(id) = command(hub, Command::AddVariety(variety), dice, now) else {
        panic!("a variety was asked for")
    };
    id
}

#[expect(clippy::too_many_arguments, reason = "they are what a delivery is made of")]
fn deliver(
    hub: &mut Hub<MemoryStore, HeapDisk>,
    disk: &Arc<HeapDisk>,
    fingerprints: &HeapFingerprints,
    (variety, face_value, count): (VarietyId, u64, u32),
    serials_before: u32,
    dice: &mut Dice,
    now: &Now,
    oracle: &mut Oracle,
) {
    let Done::Reserved { batch, blocks } = command(hub, Command::Reserve { blocks: 4 }, dice, now) else {
        panic!("numbers were asked for")
    };
    let order = DeliveryOrder {
        batch,
        variety,
        face_value: 0,
        currency_digits: 2,
        // Some of the stock expires while the clock jumps on.
        expiry: if face_value == 500 { Expiry::NONE } else { Expiry(20_270_120) },
        blocks,
        now_ms: now.unix_ms,
        seed: dice.bytes(),
    };
    let recipe = Recipe {
        count,
        length: 16,
        alphabet: Alphabet::Digits,
        check: true,
        serial_prefix: format!("S{}", variety.0),
        serial_first: u64::from(serials_before) + 1,
        serial_digits: 6,
    };
    let keys = NodeKeys::from_node_key(&HUB_KEY);
    let mut tools =
        Tools { disk: &**disk, keys: &keys, fingerprints, counts: &|_| true, progress: &mut |_| {} };
    let delivery: Delivery = mint(&order, &recipe, &mut tools).expect("the recipe is right");
    for block in &delivery.blocks {
        let file = SegmentFile::open(&**disk, &block.path).expect("it was just written");
        let key = keys.at_rest().unwrap(block.properties.block, &block.key).expect("it was just wrapped");
        let key = BlockKey::new(block.properties, &key);
        for index in 0..block.count as u16 {
            let record = file.record(index).expect("it is in the block");
            let (pin, serial) = key.open(index, record).expect("it was just sealed");
            let id = PinId::new(block.properties.block, index);
            oracle.minted(id, pin.as_bytes().to_vec(), serial.as_bytes().to_vec());
        }
    }
    command(hub, Command::Deliver(delivery), dice, now);
}

const HUB_KEY: [u8; 32] = [1; 32];
/// By then everything must be at rest.
const REST_STEPS_MAX: u64 = 400_000;
/// One in so many replies is checked against a copy of the disk that loses its power.
const REPLIES_PER_CHECK: u64 = 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
