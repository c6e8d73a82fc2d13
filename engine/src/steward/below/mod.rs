//! The nodes below this one: what the hub is to this node, this node is to them. Stock goes down from the back of the lanes and
//! comes back into them; what only the hub can do for them goes through in envelopes.
//!
//! Each transfer with a node below is recorded in this node's own journal ([`Record::Below`]). What such a node was given and did
//! not give back is in the books of this node ([`Below`]), as what this node was given is in those of the hub.

mod children;
mod giving;
mod shipping;
mod taking;

pub(super) use children::CHILDREN_FILE;

use super::{Link, Recorded, Steward, StewardAction, StewardError, Waiter};
use crate::disk::Disk;
use crate::ids::{SellerId, VarietyId};
use crate::journal::Record;
use crate::journal::record::{Stream, TransferStep};
use crate::ledger::{Below, Ledger};
use crate::link::{ChildStanding, Offer, Report, ToHub, ToNode};
use crate::registry::{Delta, TerminalKey};
use crate::stock::NodeKeys;
use crate::time::Now;
use crate::transfer::{Giver, Taker, TransferFault};
use giving::Wanted;
use shipping::HeldRange;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All nodes below.
#[derive(Default)]
pub(super) struct Children {
    by_node: BTreeMap<SellerId, Child>,
    /// The hub has said in this process how they stand. What is stored may be older: who stands well by it is told nothing, since it may have
    /// left since.
    is_heard: bool,
    /// A full disk did not take the list yet.
    pub(super) is_unstored: bool,
    /// Numbers requests in the order of their arrival.
    next_wanted: u64,
    /// The hub holds this node's own journal up to here, as far as it has said so in this process.
    archived: u64,
}

/// A node below.
pub(super) struct Child {
    node: SellerId,
    name: String,
    standing: ChildStanding,
    /// If it is lost: the highest number of a transfer from it that the hub's copy of its journal tells of, as far as the hub has said
    /// so in this process.
    given: u64,
    /// Nobody can call with its number before the hub has said its key.
    key: Option<ChildKey>,
    /// As of the records made.
    books: Below,
    /// By [`Stream`].
    givers: [Giver; 2],
    /// Takes what comes back.
    taker: Taker,
    /// Offers of it that wait to be compared with this node's own records.
    comparing: Vec<Offer>,
    /// Not before this, for lack of room; in [`Now::monotonic_ms`].
    compare_after_ms: u64,
    /// Its hello, if it has said one in its connection, with what it holds of the registry by now.
    hello: Option<ToHub>,
    /// What it wants in bulk.
    wanted: Vec<Wanted>,
    /// It refused something: nothing is given to it before this, in [`Now::monotonic_ms`].
    rests_until_ms: u64,
    /// What it last reported in its connection.
    report: Option<Report>,
    /// What its terminals asked of other sellers and the hub has not answered.
    questions: BTreeSet<u64>,
    /// The hub has answered its hello, in this connection with it and with the hub: no range of its journal goes there before,
    /// since hello and ranges go over different channels.
    is_introduced: bool,
    /// A range of its journal that the hub has not acknowledged.
    range: Option<HeldRange>,
    /// The hub holds its journal up to here; `None`: it has not said so in this process.
    archived: Option<u64>,
}

/// The node key of a node below, and the keys that are derived from it.
struct ChildKey {
    node_key: TerminalKey,
    keys: NodeKeys,
}

/// What a node below did against the protocol: its link is closed, and nothing changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChildFault {
    /// In a transfer.
    #[error(transparent)]
    Transfer(#[from] TransferFault),
    /// It is not below this server.
    #[error("it wants a link, and is not below this server")]
    NotBelow,
    /// A message came before the hello.
    #[error("a message came before the hello")]
    HelloMissing,
    /// It calls itself by another number than that of its key.
    #[error("it calls itself node {}", .0.0)]
    OtherName(SellerId),
    /// A request has number 0, asks for nothing, or is one too many.
    #[error("a request has no number, asks for nothing, or is one too many")]
    Malformed,
    /// It has seen a newer hub than this node: the disk of this node may be an old copy.
    #[error("it has seen hub epoch {theirs}, and this server only {ours}")]
    Epoch {
        /// What this node has seen.
        ours: u64,
        /// What the node below has seen.
        theirs: u64,
    },
    /// A message that only servers send.
    #[error("there can be no nodes below it")]
    NotAServer,
}

/// How a node below stands, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildView {
    /// Its number.
    pub node: SellerId,
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub is_linked: bool,
    /// How the hub sees it.
    pub standing: ChildStanding,
    /// PINs that it has, by its last report in this connection.
    pub on_hand: u64,
    /// PINs in transfers to it or from it.
    pub in_transfer: u64,
}

impl<D: Disk> Steward<D> {
    /// The nodes below whose keys are known. One that has left may call, too, and hears that it has.
    pub fn children(&self) -> impl Iterator<Item = (SellerId, &NodeKeys)> {
        self.children.by_node.values().filter_map(|child| Some((child.node, &child.key.as_ref()?.keys)))
    }

    /// The same for operators.
    pub fn child_views(&self) -> impl Iterator<Item = ChildView> {
        self.children.by_node.values().map(|child| ChildView {
            node: child.node,
            name: child.name.clone(),
            is_linked: child.is_greeted(),
            standing: child.standing,
            on_hand: child.on_hand(),
            in_transfer: child.open_pins(),
        })
    }

    /// The link of a node below is up: an earlier one is not.
    pub fn handle_child_up(&mut self, node: SellerId) {
        self.handle_child_down(node);
    }

    /// The link of a node below is gone, with everything on its way.
    pub fn handle_child_down(&mut self, node: SellerId) {
        let Some(child) = self.children.by_node.get_mut(&node) else { return };
        let was_greeted = child.is_greeted();
        child.cut();
        let is_send = |action: &StewardAction<D>| matches!(action, StewardAction::SendBelow { node: to, .. } if *to == node);
        self.actions.retain(|action| !is_send(action));
        self.waiting.retain(|waiting| !matches!(waiting.who, Waiter::Below(who, _) if who == node));
        if was_greeted && self.link != Link::Down {
            self.send(ToHub::BelowGone { node });
        }
    }

    /// A message from a node below.
    ///
    /// # Errors
    /// [`StewardError`]. What the node did wrong closes its link only.
    pub fn handle_child_message(
        &mut self,
        node: SellerId,
        message: ToHub,
        now: &Now,
    ) -> Result<(), StewardError> {
        match self.hear_child(node, message, now)? {
            Ok(()) => {}
            Err(fault) => {
                // Closed, it would come again, and sell meanwhile what its other self may have sold.
                if matches!(fault, ChildFault::Transfer(fault) if fault.shows_old_giver()) {
                    self.send_below(node, ToNode::OldCopy);
                }
                self.close_child(node, fault.to_string());
            }
        }
        Ok(())
    }

    fn hear_child(
        &mut self,
        node: SellerId,
        message: ToHub,
        now: &Now,
    ) -> Result<Result<(), ChildFault>, StewardError> {
        let generation = match &message {
            ToHub::Offer(offer) => self.generation_below(node, offer.span),
            _ => 0,
        };
        // A manager that relays has a key, too, and no link.
        let Some(child) = self.children.by_node.get_mut(&node) else {
            return Ok(Err(ChildFault::NotBelow));
        };
        if let ToHub::Hello { .. } = message {
            return Ok(self.hear_hello(node, message, now));
        }
        if !child.is_greeted() {
            return Ok(Err(ChildFault::HelloMissing));
        }
        let done = match message {
            ToHub::Need { request, variety, count } => self.hear_need(node, request, variety, count, now),
            ToHub::Urgent { request, variety } => self.hear_urgent(node, request, variety, now),
            ToHub::Progress { stream, number, bytes } => {
                let done = child.givers[stream as usize].handle_progress(number, bytes);
                self.follow_child_giver(node, stream, now);
                done.map_err(Into::into)
            }
            ToHub::Answer { stream, number, accepted } => {
                let done = child.givers[stream as usize].handle_answer(number, accepted);
                self.follow_child_giver(node, stream, now);
                done.map_err(Into::into)
            }
            ToHub::Offer(offer) => {
                let done = child.taker.handle_offer(offer, generation);
                self.follow_child_taker(node, now)?;
                done.map_err(Into::into)
            }
            ToHub::Journal { from, bytes } => {
                self.hold_range(node, from, bytes);
                Ok(())
            }
            ToHub::Report(report) => {
                child.report = Some(report.clone());
                self.send_envelope(node, ToHub::Report(report));
                Ok(())
            }
            ToHub::RegistryHeld { version, digest } => {
                self.child_holds(node, version, digest);
                Ok(())
            }
            ToHub::Farewell { journal_end } => {
                // What is on its way to it would never arrive: it takes its leave another time.
                if child.open_count() == 0 && child.standing.is_leaving() {
                    self.send_envelope(node, ToHub::Farewell { journal_end });
                }
                Ok(())
            }
            ToHub::Ask { question, seller, asked } => {
                self.ask_for_child(node, question, seller, asked);
                Ok(())
            }
            ToHub::Told { question, told } => {
                self.send_envelope(node, ToHub::Told { question, told });
                Ok(())
            }
            ToHub::Ready | ToHub::Recalled { .. } | ToHub::Hello { .. } => Ok(()),
            ToHub::Below { .. } | ToHub::BelowGone { .. } => Err(ChildFault::NotAServer),
        };
        Ok(done)
    }

    /// Answers a hello and offers everything open again.
    fn hear_hello(&mut self, node: SellerId, hello: ToHub, now: &Now) -> Result<(), ChildFault> {
        let ToHub::Hello { node: named, hub_epoch, journal_from, registry_version, registry_digest, .. } =
            hello
        else {
            return Ok(());
        };
        let (ours, is_draining, is_heard) = (self.epoch_stored, self.draining, self.children.is_heard);
        let Some(child) = self.children.by_node.get_mut(&node) else { return Ok(()) };
        if named != node {
            return Err(ChildFault::OtherName(named));
        }
        // Only what is stored here is ever told, so who has heard more has heard it from a newer disk of this node.
        if hub_epoch > ours {
            return Err(ChildFault::Epoch { ours, theirs: hub_epoch });
        }
        if child.is_greeted() {
            return Ok(());
        }
        if child.standing == ChildStanding::Closed {
            self.send_below(node, ToNode::Closed);
            self.close_child(node, "it has left the network [node_closed]".to_owned());
            return Ok(());
        }
        child.hello = Some(hello.clone());
        let journal_acked = child.archived.unwrap_or(0).max(journal_from);
        let pending = child.givers.iter_mut().map(Giver::handle_connected).sum();
        let says = is_heard || child.standing == ChildStanding::Lost;
        let standing = says.then(|| child.told(is_draining));
        self.send_below(node, ToNode::Welcome { hub_epoch: ours, pending, journal_acked });
        let registry = Arc::clone(self.registry.current());
        if (registry_version, registry_digest) != (registry.version(), registry.digest()) {
            self.send_below(node, ToNode::Registry(registry));
        }
        standing.into_iter().for_each(|standing| self.send_below(node, standing));
        self.follow_child_giver(node, Stream::Urgent, now);
        self.follow_child_giver(node, Stream::Bulk, now);
        self.send_below(node, ToNode::Ready);
        self.send_envelope(node, hello);
        Ok(())
    }

    /// A node below says what it holds of the registry.
    fn child_holds(&mut self, node: SellerId, version: u64, digest: u64) {
        let registry = Arc::clone(self.registry.current());
        let lacks = version == 0 || (version == registry.version() && digest != registry.digest());
        let Some(child) = self.children.by_node.get_mut(&node) else { return };
        if let Some(ToHub::Hello { registry_version, registry_digest, .. }) = &mut child.hello {
            (*registry_version, *registry_digest) = (version, digest);
        }
        if lacks {
            self.send_below(node, ToNode::Registry(registry));
        }
        self.send_envelope(node, ToHub::RegistryHeld { version, digest });
    }

    /// The registry has changed by this, or as a whole.
    pub(super) fn pass_registry_on(&mut self, delta: Option<Arc<Delta>>) {
        let registry = self.registry.current();
        let message = delta.map_or_else(|| ToNode::Registry(Arc::clone(registry)), ToNode::RegistryDelta);
        self.send_to_children(&message);
    }

    /// This node goes offline, or stays: so do those below.
    pub(super) fn pass_service_on(&mut self) {
        let is_draining = self.draining;
        let greeted = self.children.by_node.values().filter(|child| child.is_greeted());
        let said = greeted.map(|child| (child.node, child.told(is_draining)));
        for (node, standing) in said.collect::<Vec<_>>() {
            self.send_below(node, standing);
        }
    }

    /// Whether a node below was declared lost.
    pub(super) fn is_lost_below(&self, node: SellerId) -> bool {
        self.children.by_node.get(&node).is_some_and(|child| child.standing == ChildStanding::Lost)
    }

    /// Transfers with nodes below that are not settled. Nobody waits for a lost one.
    pub(super) fn open_below(&self) -> usize {
        let children = self.children.by_node.values().filter(|child| !child.is_lost_and_away());
        children.map(Child::open_count).sum()
    }

    /// Whether nothing is left at the nodes below, and nothing on its way.
    pub(super) fn children_are_empty(&self) -> bool {
        self.children.by_node.values().all(Child::is_empty)
    }

    /// The durable records of transfers with nodes below.
    pub(super) fn child_recorded(
        &mut self,
        node: SellerId,
        recorded: Recorded,
        now: &Now,
    ) -> Result<(), StewardError> {
        let Some(child) = self.children.by_node.get_mut(&node) else { return Ok(()) };
        match recorded {
            Recorded::Taken(_, number) => {
                child.taker.handle_recorded(number);
                self.follow_child_taker(node, now)?;
            }
            Recorded::Given(stream, number) => {
                child.givers[stream as usize].handle_given(number);
                self.follow_child_giver(node, stream, now);
            }
            Recorded::Settled(stream, number) => {
                child.givers[stream as usize].handle_settled(number);
                self.follow_child_giver(node, stream, now);
                // What was offered meanwhile may have waited for that.
                self.compare_offers(node, now)?;
            }
        }
        Ok(())
    }

    /// Makes a record of a transfer with a node below.
    fn record_below(&mut self, node: SellerId, record: &Record) {
        let step = TransferStep::of(record).expect("ends of transfers record nothing else");
        if let Some(child) = self.children.by_node.get_mut(&node) {
            child.books.apply(&step).expect("it was compared with the books");
        }
        self.unmade.push_back(Record::Below { node, step });
        self.make_records();
    }

    fn send_below(&mut self, node: SellerId, message: ToNode) {
        self.actions.push_back(StewardAction::SendBelow { node, message });
    }

    fn send_to_children(&mut self, message: &ToNode) {
        let greeted = self.children.by_node.values().filter(|child| child.is_greeted());
        for node in greeted.map(|child| child.node).collect::<Vec<_>>() {
            self.send_below(node, message.clone());
        }
    }

    /// Ends the link of a node below, behind what was said to it.
    fn close_child(&mut self, node: SellerId, why: String) {
        let is_linked = self.link != Link::Down;
        let child = self.children.by_node.get_mut(&node);
        let was_greeted = child.is_some_and(|child| {
            let was_greeted = child.is_greeted();
            child.cut();
            was_greeted
        });
        self.waiting.retain(|waiting| !matches!(waiting.who, Waiter::Below(who, _) if who == node));
        self.actions.push_back(StewardAction::CloseBelow { node, why });
        if was_greeted && is_linked {
            self.send(ToHub::BelowGone { node });
        }
    }

    /// Whether a node below may have stock of this node now.
    fn may_give_to(&self, node: SellerId, now: &Now) -> bool {
        let may = |child: &Child| {
            child.is_greeted()
                && child.standing == ChildStanding::Member
                && now.monotonic_ms >= child.rests_until_ms
        };
        !self.draining && self.children.by_node.get(&node).is_some_and(may)
    }

    /// Time went by.
    pub(super) fn tick_children(&mut self, now: &Now) -> Result<(), StewardError> {
        let waiting = self.children.by_node.values().filter(|child| !child.comparing.is_empty());
        for node in waiting.map(|child| child.node).collect::<Vec<_>>() {
            self.compare_offers(node, now)?;
        }
        self.serve_children(now);
        Ok(())
    }
}

impl Children {
    /// The nodes below that the journal of this node tells of.
    pub(super) fn new(ledger: &Ledger) -> Self {
        let known = |(&node, books): (&SellerId, &Below)| (node, Child::new(node, books.clone()));
        Self { by_node: ledger.below.iter().map(known).collect(), ..Self::default() }
    }
}

impl Child {
    /// A node below with these books.
    fn new(node: SellerId, books: Below) -> Self {
        let giver = |stream: Stream| {
            let given = &books.given[stream as usize];
            Giver::new(stream, given.highest, given.open.values().copied()).on_link_of(node)
        };
        let taken = &books.taken;
        let taker = Taker::new(Stream::Bulk, taken.highest, taken.outcomes.values().copied());
        Self {
            node,
            name: String::new(),
            standing: ChildStanding::Member,
            given: 0,
            key: None,
            givers: [giver(Stream::Bulk), giver(Stream::Urgent)],
            taker: taker.without_content().on_link_of(node),
            books,
            comparing: Vec::new(),
            compare_after_ms: 0,
            hello: None,
            wanted: Vec::new(),
            rests_until_ms: 0,
            report: None,
            questions: BTreeSet::new(),
            is_introduced: false,
            range: None,
            archived: None,
        }
    }

    fn is_greeted(&self) -> bool {
        self.hello.is_some()
    }

    fn is_lost_and_away(&self) -> bool {
        self.standing == ChildStanding::Lost && !self.is_greeted()
    }

    /// What it is told of how it stands, which is no better than its server does.
    fn told(&self, is_draining: bool) -> ToNode {
        match self.standing {
            ChildStanding::Lost => ToNode::Lost,
            ChildStanding::Closed => ToNode::Closed,
            standing => ToNode::Drain { on: is_draining || standing == ChildStanding::Draining },
        }
    }

    fn cut(&mut self) {
        self.hello = None;
        self.givers.iter_mut().for_each(Giver::handle_cut);
        self.taker.handle_cut();
        self.wanted.clear();
        self.report = None;
        self.questions.clear();
        self.is_introduced = false;
        self.range = None;
    }

    fn on_hand(&self) -> u64 {
        self.report.iter().flat_map(|report| &report.stock).map(|stock| stock.on_hand).sum()
    }

    fn open_count(&self) -> usize {
        self.givers.iter().map(Giver::open_count).sum::<usize>() + self.taker.arriving().count()
    }

    fn open_pins(&self) -> u64 {
        let down = self.givers.iter().flat_map(Giver::unanswered).map(|fact| fact.span);
        let up = self.taker.arriving().map(|offer| offer.span);
        down.chain(up).map(|span| u64::from(span.len())).sum()
    }

    /// Whether it is known to have nothing, and all that it recorded is at the hub or on its way there.
    fn is_empty(&self) -> bool {
        if self.standing == ChildStanding::Closed || self.is_lost_and_away() {
            return true;
        }
        let is_at_rest = |report: &Report| report.returns_open == 0 && self.on_hand() == 0;
        let has_none_ever = self.books == Below::default() && self.hello.is_none();
        let is_at_rest = self.open_count() == 0 && self.report.as_ref().is_some_and(is_at_rest);
        has_none_ever || (is_at_rest && self.range.is_none())
    }

    /// PINs of a variety that it wants in bulk and was not given.
    fn unmet(&self, variety: VarietyId) -> u64 {
        let wanted = self.wanted.iter().filter(|wanted| wanted.variety == variety);
        wanted.map(|wanted| u64::from(wanted.count - wanted.given)).sum()
    }
}
