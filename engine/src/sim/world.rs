//! The network of a run, and its steps when nothing goes wrong.

use super::broken::{Concerned, broken};
use super::dice::Dice;
use super::errands::Errand;
use super::faults::{CRASHES, Kind};
use super::links::Link;
use super::node::NodeStop;
use super::office::{SimHub, add_variety, command, deliver, load_hub};
use super::old_copies::HubCopy;
use super::oracle::Oracle;
use super::plan::Plan;
use super::relays::{Line, Relay};
use super::site::Site;
use super::terminal::Terminal;
use super::trace::{Subject, Trace};
use crate::disk::heap::HeapDisk;
use crate::hub::{Command, CommandError, Done, HubError, MemoryStore, NodeFault, Output, Terminals};
use crate::ids::{SellerId, VarietyId};
use crate::intake::HeapFingerprints;
use crate::seller::Asker;
use crate::stock::NodeKeys;
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use wire::message::{Reply, Request};

pub(super) struct World<'a> {
    pub(super) plan: Plan,
    /// Who does what next.
    pub(super) dice: Dice,
    pub(super) now: Now,
    pub(super) step: u64,
    pub(super) sites: Vec<Site>,
    pub(super) links: Vec<Link>,
    /// By site: the one that it is below, if it is not below the hub.
    pub(super) parents: Vec<Option<usize>>,
    /// By site: how far its wall clock is off, in milliseconds.
    pub(super) skews: Vec<i64>,
    /// The latest that any wall clock ever showed.
    pub(super) latest_ms: u64,
    /// By site: an older copy of its disk.
    pub(super) copies: BTreeMap<usize, HeapDisk>,
    /// An older copy of the hub's books and disk.
    pub(super) hub_copy: Option<HubCopy>,
    /// Sites that were declared lost.
    pub(super) lost: Vec<usize>,
    /// Of these, those that nobody will ever reach again.
    pub(super) lost_for_ever: Vec<usize>,
    /// Sites that have left.
    pub(super) closed: Vec<usize>,
    /// By site: whether no process runs there.
    pub(super) is_down: Vec<bool>,
    /// What operators have begun.
    pub(super) errands: Vec<Errand>,
    pub(super) hub_disk: Arc<HeapDisk>,
    pub(super) store: MemoryStore,
    pub(super) hub: SimHub,
    /// In which step the hub is back, if it is away.
    pub(super) hub_away_until: Option<u64>,
    /// Nodes that are to be started again, and in which step.
    pub(super) kills: Vec<(u64, usize)>,
    /// Whether a node, or the hub, may stop because of its disk: by site, the hub last.
    pub(super) may_stop: Vec<bool>,
    pub(super) terminals: Vec<Till>,
    pub(super) relays: Vec<Relay>,
    /// Connections that their relays have left, and whose other ends have not heard the end.
    pub(super) left_lines: Vec<Line>,
    pub(super) fingerprints: HeapFingerprints,
    pub(super) varieties: Vec<(VarietyId, u64)>,
    /// PINs made so far of each variety.
    pub(super) minted: u32,
    pub(super) oracle: Oracle,
    /// Faults that began so far.
    pub(super) faults: u64,
    pub(super) crashes: u64,
    pub(super) trace: &'a mut Trace,
}

/// A terminal and its connection, which keeps the order of what is on it.
pub(super) struct Till {
    pub(super) terminal: Terminal,
    /// Its seller, as a place in the list of sites.
    pub(super) site: usize,
    /// What carries it there, if it is not connected itself.
    pub(super) relay: Option<usize>,
    /// The number of its session with the relay, if that has passed its hello on.
    pub(super) carried: Option<u32>,
    pub(super) requests: VecDeque<(u16, Request)>,
    pub(super) replies: VecDeque<(u16, Reply)>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &Plan, trace: &'a mut Trace) -> Self {
        let mut dice = Dice::new(plan.seed);
        let now = Now { monotonic_ms: 1_000, unix_ms: 1_800_000_000_000 };
        let (hub_disk, store) = (Arc::new(HeapDisk::new()), MemoryStore::new());
        let mut hub = load_hub(&store, &hub_disk);
        let mut oracle = Oracle::default();
        let done = command(&mut hub, Command::AddDealer { name: "Corner shop".into() }, &mut dice, &now);
        let Done::Dealer(dealer) = done else { panic!("a dealer was asked for") };
        let terminals = Terminals::Next(plan.terminals);
        let done = command(&mut hub, Command::AddTerminals { dealer, terminals }, &mut dice, &now);
        let Done::Keys(keys) = done else { panic!("keys were asked for") };
        let servers = plan.servers as usize;
        let (mut sites, mut parents): (Vec<Site>, Vec<Option<usize>>) = Default::default();
        for at in 0..servers + plan.caches as usize {
            let parent = at.checked_sub(servers).map(|cache| cache % servers);
            let (name, below) = (format!("node {at}"), parent.map(|parent| sites[parent].seller));
            let done = command(&mut hub, Command::AddNode { name, below }, &mut dice, &now);
            let Done::Node { seller, node_key, .. } = done else { panic!("a node was asked for") };
            let link_keys = Arc::new(NodeKeys::from_node_key(node_key.expose()));
            let marks = marks(plan, parent.is_some());
            sites.push(Site::new(seller, plan.workers as usize, marks, link_keys));
            parents.push(parent);
        }
        let fingerprints = HeapFingerprints::default();
        let mut varieties = Vec::new();
        for product in 1..=3 {
            for face_value in [500, 1000] {
                let variety = add_variety(&mut hub, product, face_value, &mut dice, &now);
                let count = match product {
                    // Of one so many that a transfer of it is long on its way.
                    1 if plan.bulk && face_value == 500 => BULK_STOCK,
                    // The last product runs out.
                    3 => 20,
                    _ => plan.stock,
                };
                let order = (variety, face_value, count);
                deliver(&mut hub, &hub_disk, &fingerprints, order, 0, &mut dice, &now, &mut oracle);
                varieties.push((variety, face_value));
            }
        }
        let relays: Vec<_> = (0..plan.relays as usize).map(|at| Relay::new(at % sites.len())).collect();
        // The others.
        let relay_of = |at: usize| (at % 2 == 1).then(|| (at / 2).checked_rem(relays.len())).flatten();
        let tills = keys.iter().enumerate().map(|(at, key)| Till {
            terminal: Terminal::new(key.terminal, key.key_epoch, *key.key.expose()),
            site: relay_of(at).map_or(at % sites.len(), |relay| relays[relay].site),
            relay: relay_of(at),
            carried: None,
            requests: VecDeque::new(),
            replies: VecDeque::new(),
        });
        let count = sites.len();
        Self {
            plan: plan.clone(),
            dice,
            now,
            step: 0,
            links: parents.iter().map(|parent| Link::new(parent.is_none())).collect(),
            parents,
            skews: vec![0; count],
            latest_ms: now.unix_ms,
            copies: BTreeMap::new(),
            hub_copy: None,
            lost: Vec::new(),
            lost_for_ever: Vec::new(),
            closed: Vec::new(),
            is_down: vec![false; count],
            errands: Vec::new(),
            hub_disk,
            store,
            hub,
            hub_away_until: None,
            kills: Vec::new(),
            may_stop: vec![false; count + 1],
            terminals: tills.collect(),
            relays,
            left_lines: Vec::new(),
            sites,
            fingerprints,
            varieties,
            minted: plan.stock,
            oracle,
            faults: 0,
            crashes: 0,
            trace,
        }
    }

    /// Any of the sites.
    pub(super) fn site(&mut self) -> usize {
        self.dice.below(self.sites.len() as u64) as usize
    }

    pub(super) fn hub_is_up(&self) -> bool {
        self.hub_away_until.is_none()
    }

    /// The time at a site.
    pub(super) fn now_at(&self, site: usize) -> Now {
        Now { unix_ms: self.now.unix_ms.saturating_add_signed(self.skews[site]), ..self.now }
    }

    /// One step of somebody, perhaps with a fault before it.
    pub(super) fn step_with_faults(&mut self) {
        self.begin_step();
        // At least four crashes in every run, and otherwise as often as the plan says.
        let quarter = (self.plan.steps / 5).max(1);
        let crash = self.step.is_multiple_of(quarter).then(|| CRASHES[(self.step / quarter % 4) as usize]);
        let kind = match crash.filter(|kind| self.plan.kinds.has(*kind)) {
            None if self.dice.one_in(self.plan.rarity) => self.any_kind(),
            crash => crash,
        };
        if let Some(kind) = kind {
            self.faults += 1;
            self.trace.faults = self.faults;
            let happens = self.plan.only.as_ref().is_none_or(|only| only.contains(&self.faults));
            // What a fault draws is its own, so that others stay the same without it.
            let mut dice = Dice::new(self.plan.seed ^ self.faults.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if happens && self.plan.kinds.has(kind) {
                self.trace.note(kind.word(), Subject::default().number(self.faults), String::new);
                self.strike(kind, &mut dice);
            }
        }
        self.step();
    }

    fn any_kind(&mut self) -> Option<Kind> {
        let all: u64 = Kind::ALL.iter().map(|kind| kind.weight()).sum();
        let mut drawn = self.dice.below(all);
        Kind::ALL.iter().copied().find(|kind| {
            let found = drawn < kind.weight();
            drawn = drawn.wrapping_sub(kind.weight());
            found
        })
    }

    pub(super) fn begin_step(&mut self) {
        self.step += 1;
        self.trace.begin_step(self.step, self.now.monotonic_ms);
        if self.hub_away_until.is_some_and(|until| self.step >= until) {
            self.hub_away_until = None;
            self.load_hub();
        }
        if !self.errands.is_empty() && self.step.is_multiple_of(STEPS_PER_ERRAND) {
            // What it draws is its own.
            self.run_errands(&mut Dice::new(self.plan.seed ^ self.step.rotate_left(32)));
        }
        let due = self.kills.iter().position(|(step, _)| *step <= self.step);
        if let Some((_, at)) = due.map(|due| self.kills.swap_remove(due)) {
            self.start_node(at);
        }
    }

    /// One step of somebody, without faults.
    pub(super) fn step(&mut self) {
        // Now and then nothing happens for longer than anybody waits.
        let passed_ms = if self.dice.one_in(300) { self.dice.below(3_000) } else { self.dice.below(3) };
        self.now.monotonic_ms += passed_ms;
        self.now.unix_ms += passed_ms;
        self.latest_ms = self.latest_ms.max(self.now.unix_ms + MAX_SKEW_MS);
        // Also when nothing is heard: what was is not to wait for more.
        if self.hub_is_up() && self.dice.one_in(16) {
            self.commit_hub();
        }
        // Whoever has nothing to do lets others go first, a few times.
        for _ in 0..6 {
            let done = match self.dice.below(if self.relays.is_empty() { 12 } else { 15 }) {
                0..=4 => self.step_node(),
                5..=7 => self.step_link(),
                8..=11 => self.step_till(),
                _ => self.step_relay(),
            };
            if done {
                break;
            }
        }
    }

    fn step_node(&mut self) -> bool {
        let at = self.site();
        if self.is_down[at] {
            return false;
        }
        let now = self.now_at(at);
        let done = match self.sites[at].node.step(&mut self.dice, &now) {
            Ok(done) => done,
            Err(stop) => {
                self.stopped(at, &stop);
                true
            }
        };
        self.take_from_node(at);
        self.step_stopping(at);
        done
    }

    /// A node has stopped: with a reason, or not.
    pub(super) fn stopped(&mut self, at: usize, stop: &NodeStop) {
        let node = self.sites[at].seller;
        if !std::mem::take(&mut self.may_stop[at]) {
            broken(8, format!("node {} stopped: {stop}", node.0), Concerned::default());
        }
        self.trace.note("node stops", Subject::node(node), || stop.to_string());
        self.sites[at].disk.fail_sync_after(None);
        if self.dice.one_in(2) {
            self.lose_power(at);
        }
        self.start_node(at);
    }

    /// Whatever a node has said goes to where it belongs.
    pub(super) fn take_from_node(&mut self, at: usize) {
        self.check_claims(at);
        self.carry_replies(at);
        self.carry_below(at);
    }

    fn step_till(&mut self) -> bool {
        let at = self.dice.below(self.terminals.len() as u64) as usize;
        let Till { terminal, site, requests, replies, relay, .. } = &mut self.terminals[at];
        let (site, id, seller, is_carried) =
            (*site, terminal.id.0, self.sites[*site].seller, relay.is_some());
        let done = match self.dice.below(3) {
            0 => {
                let request = terminal.act(&mut self.dice, self.now.monotonic_ms, self.step);
                requests.extend(request);
                !requests.is_empty()
            }
            1 if is_carried => self.carry_request(at),
            1 => {
                let Some((correlation, request)) = requests.pop_front() else { return false };
                let asker = asker(terminal, correlation);
                self.end_carried(site, asker.terminal, None);
                self.hear_request(site, &asker, &request);
                true
            }
            _ => {
                let Some((correlation, reply)) = replies.pop_front() else { return false };
                let (name, sequence, reference) = super::watch::reply_of(&reply);
                let subject = Subject::sequence(seller, id, sequence).pin(reference);
                self.trace.note(name, subject, || super::watch::describe(&reply));
                self.oracle.step = self.step;
                terminal.handle_reply(correlation, &reply, &mut self.dice, &mut self.oracle);
                true
            }
        };
        let terminal = &self.terminals[at].terminal;
        if !terminal.logged_in && terminal.session == 0 {
            self.reconnect(at);
        }
        done
    }

    /// A request arrives at a node.
    pub(super) fn hear_request(&mut self, site: usize, asker: &Asker, request: &Request) {
        let (name, sequence) = super::watch::request_of(request);
        let subject = Subject::sequence(self.sites[site].seller, asker.terminal.0, sequence);
        self.trace.note(name, subject, || format!("{request:?}"));
        let now = self.now_at(site);
        self.sites[site].node.handle_request(asker, request, &now);
    }

    /// Replies that left a node reach the connection they are for, if it is still the same.
    fn carry_replies(&mut self, site: usize) {
        while let Some((asker, reply)) = self.sites[site].node.replies.pop_front() {
            self.check_leaving(site, &asker, &reply);
            if self.carry_reply(site, &asker, &reply) {
                continue;
            }
            let till = self.terminals.iter_mut().find(|till| till.terminal.id == asker.terminal);
            let is_same = |till: &&mut Till| {
                (till.site, till.relay) == (site, None)
                    && till.terminal.session == asker.session & 0xffff_ffff
            };
            if let Some(till) = till.filter(is_same) {
                till.replies.push_back((asker.correlation, reply));
            }
        }
    }

    /// A terminal connects anew, to the site where it is: what was on the old connection is lost.
    pub(super) fn reconnect(&mut self, at: usize) {
        // The node may not have heard that the old connection is gone.
        self.hang_up(at);
        self.connect_terminal(at);
    }

    /// The same, where there is no old connection.
    pub(super) fn connect_terminal(&mut self, at: usize) {
        let till = &mut self.terminals[at];
        till.requests.clear();
        till.replies.clear();
        till.terminal.connect();
        if till.relay.is_some() {
            return self.carry_hello(at);
        }
        let asker = asker(&till.terminal, 0);
        self.sites[till.site].node.handle_connected(&asker);
    }

    /// An operator's command, while everything runs, if the hub is there.
    pub(super) fn order(&mut self, command: Command, dice: &mut Dice) -> Option<Done> {
        self.try_order(command, dice).map(|done| done.expect("a command of the simulation is right"))
    }

    /// The same, where the hub may say no.
    pub(super) fn try_order(
        &mut self,
        command: Command,
        dice: &mut Dice,
    ) -> Option<Result<Done, CommandError>> {
        if !self.hub_is_up() {
            return None;
        }
        let mut random = |bytes: &mut [u8]| bytes.copy_from_slice(&dice.bytes()[..bytes.len()]);
        let handled = self.hub.handle_command(1, command, self.now.unix_ms, &mut random);
        if let Err(error) = handled {
            self.hub_stopped(&error);
            return None;
        }
        self.commit_hub()
    }

    /// Commits what the hub has heard, and sends what it says. The answer to a command, if there is one.
    pub(super) fn commit_hub(&mut self) -> Option<Result<Done, CommandError>> {
        let mut done = None;
        if let Err(error) = self.hub.commit() {
            self.hub_stopped(&error);
            return None;
        }
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { node, message } => self.send_down(node, message),
                // The journal of a node below overtakes its hello on its server's link: what it sent comes again.
                Output::Close { node, fault: NodeFault::HelloMissing } if self.is_below(node) => {
                    self.trace.note("hello overtaken", Subject::node(node), String::new);
                }
                // It has left, and was started all the same. One below a server hears it from there.
                Output::Close { node, fault: NodeFault::Closed } if self.has_left(node) => {
                    if !self.is_below(node) {
                        self.send_closed_away(self.at_seller(node).expect("the hub knows no other"));
                    }
                }
                Output::Close { node, fault } => {
                    let what = format!("the hub closes the link of node {}: {fault}", node.0);
                    broken(3, what, Concerned::default());
                }
                Output::Done { result, .. } => {
                    done = Some(result);
                }
                Output::AnswerFor { node, question, seller, asked } => {
                    let told = self.answer_for(seller, &asked);
                    let name = if told.sealed.is_none() { "hub answers for" } else { "hub gives pin of" };
                    let subject = Subject::sequence(seller, asked.vend.terminal.0, asked.vend.sequence);
                    self.trace.note(name, subject.pin(told.reference), || format!("{:?}", told.state));
                    if let Some(Output::Send { node, message }) = self.hub.telling(node, question, told) {
                        self.send_down(node, message);
                    }
                }
                Output::PlaceOrder { .. } | Output::Alarm(_) => {}
            }
        }
        done
    }

    /// The hub has stopped: with a reason, or not. It is loaded again.
    pub(super) fn hub_stopped(&mut self, error: &HubError) {
        let may_stop = std::mem::take(&mut self.may_stop[self.sites.len()]);
        if !may_stop && !error.is_full() {
            broken(8, format!("the hub stopped: {error}"), Concerned::default());
        }
        self.trace.note("hub stops", Subject::default(), || error.to_string());
        self.hub_disk.fail_sync_after(None);
        self.hub_disk.limit(None);
        if self.dice.one_in(2) {
            self.hub_disk.lose_power(self.dice.sector_fates());
        }
        self.load_hub();
    }

    /// The hub starts anew on what is stored; all its links are gone.
    pub(super) fn load_hub(&mut self) {
        self.hub = load_hub(&self.store, &self.hub_disk);
        for at in 0..self.sites.len() {
            if self.parents[at].is_none() {
                self.cut(at);
                self.links[at].upper_knows = true;
            }
        }
    }

    fn is_below(&self, node: SellerId) -> bool {
        self.at_seller(node).is_some_and(|at| self.parents[at].is_some())
    }

    fn has_left(&self, node: SellerId) -> bool {
        self.at_seller(node).is_some_and(|at| self.closed.contains(&at))
    }

    pub(super) fn at_seller(&self, seller: SellerId) -> Option<usize> {
        self.sites.iter().position(|site| site.seller == seller)
    }
}

/// Low mark, target, high mark of a node.
pub(super) fn marks(plan: &Plan, is_below: bool) -> (u64, u64, u64) {
    match (plan.bulk, plan.scarce, is_below) {
        (true, _, false) => (500, 9_000, 9_500),
        (true, _, true) => (100, 2_000, 2_500),
        (_, true, _) => (3, 9, 12),
        (_, false, true) => (8, 20, 40),
        (_, false, false) => (20, 60, 100),
    }
}

pub(super) fn asker(terminal: &Terminal, correlation: u16) -> Asker {
    Asker {
        session: terminal.id.0 << 32 | terminal.session,
        terminal: terminal.id,
        key_epoch: terminal.key_epoch,
        dealer: 1,
        correlation,
    }
}

/// No clock is off by more, in milliseconds.
pub(super) const MAX_SKEW_MS: u64 = 60 * 60 * 1000;
/// Operators look after what they have begun so often.
const STEPS_PER_ERRAND: u64 = 16;
/// PINs of a variety that comes by thousands: content of a transfer for more chunks than may be on their way.
const BULK_STOCK: u32 = 20_000;
