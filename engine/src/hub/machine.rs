//! The hub's state machine: events in, one commit, effects out.

use super::books::{BatchRow, Books, Change, Fate, MoveRow, NodeRow, PieceRow, Place, Way};
use super::contents::Contents;
use super::node::{Need, Node, open_transfers, unwrap_node_key};
use super::orders::Supply;
use super::registry::Changes;
use super::sales;
use super::settling::Question;
use super::shelf::Shelf;
use super::{Alarm, HubError, NodeFault, Output, Store};
use crate::audit::{BlockBook, HubBooks, PieceBook, ReturnedBook, TakerBook};
use crate::disk::Disk;
use crate::ids::{SellerId, Span, VarietyId};
use crate::journal::record::Stream;
use crate::link::{Questions, Report, ToHub, ToNode};
use crate::planted::{self, Fault};
use crate::policy::{Churn, Remainder, SalesRate};
use crate::registry::{Delta, Manager, Registry, Terminal, TerminalKey};
use crate::stock::NodeKeys;
use crate::stock::segment::{BLOCK_DIRECTORY, parse_block_name};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The hub as a pure state machine over a store and a disk.
///
/// Drive it so: call `handle_*` for everything that is ready, then [`Hub::commit`] once, then take
/// [`Hub::poll_output`] until it is empty. Nothing that depends on a change leaves before the commit that makes it
/// durable. Call [`Hub::commit`] also about once a second when nothing happens: it tries again what a full disk
/// prevented. After any [`HubError`] drop the hub; what was not committed is gone, and a hub loaded anew offers again
/// what was.
pub struct Hub<S: Store, D: Disk> {
    store: S,
    pub(super) disk: Arc<D>,
    pub(super) keys: Arc<NodeKeys>,
    /// With all changes, committed or not.
    pub(super) books: Books,
    pub(super) registry: Arc<Registry>,
    pub(super) questions: Questions<Question>,
    pub(super) registry_changed: bool,
    pub(super) registry_changes: Changes,
    pub(super) counters_changed: bool,
    pub(super) nodes: BTreeMap<SellerId, Node>,
    pub(super) shelf: Shelf,
    pub(super) contents: Contents<D>,
    /// How fast varieties sell.
    pub(super) rates: BTreeMap<VarietyId, SalesRate>,
    /// Who supplies what; nothing is ordered without it.
    pub(super) supply: Option<Supply>,
    /// Orders are decided again from then on; in [`Hub::elapsed_ms`].
    pub(super) order_after_ms: u64,
    /// Varieties about which something has changed since they were last decided about.
    pub(super) dirty: BTreeSet<VarietyId>,
    /// When all are decided about next; in [`Hub::elapsed_ms`].
    pub(super) review_at_ms: u64,
    /// Sold and recalled lately. It begins anew with each start, which puts off what nobody needs.
    pub(super) churn: BTreeMap<VarietyId, Churn>,
    /// What each node had sold in all when it last reported.
    sold: BTreeMap<(SellerId, VarietyId), u64>,
    /// PINs that came back from nodes that go offline and that nobody was asked to take yet.
    pub(super) to_pass_on: BTreeMap<VarietyId, u64>,
    /// What a hub that goes offline cannot get rid of.
    pub(super) stuck: BTreeMap<VarietyId, Remainder>,
    /// Numbers the recalls.
    pub(super) next_recall: u64,
    /// Numbers the requests in the order of their arrival.
    next_need: u64,
    changes: Vec<Change>,
    effects: VecDeque<Effect>,
    outputs: VecDeque<Output>,
    /// The latest time it was told, in milliseconds of Unix time: for records and expiry.
    pub(super) now_ms: u64,
    /// The latest time it was told since the clock was set back last.
    told_ms: u64,
    /// Milliseconds that have gone by, as far as it was told: for whatever waits. It goes on when a clock was set back.
    pub(super) elapsed_ms: u64,
    failed: bool,
}

/// What waits for the commit.
pub(super) enum Effect {
    /// Something for the owner.
    Output(Output),
    /// A node said hello.
    Greet(SellerId),
    /// An OUT is durable then.
    Given(SellerId, Stream, u64),
    /// A settlement is durable then.
    Settled(SellerId, Stream, u64),
    /// The outcome of a transfer from a node is durable then.
    Returned(SellerId, u64),
    /// A delivered piece may be given then.
    Shelve(Span),
    /// The change of the registry that every node should have then.
    Announce(Arc<Delta>),
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// Starts a hub: a new epoch begins, block files without a row are removed, archives are cut back to what was
    /// acknowledged. No intake job may be running.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn load(mut store: S, disk: Arc<D>, keys: Arc<NodeKeys>) -> Result<Self, HubError> {
        let mut books = store.load()?;
        let registry = Arc::new(registry_of(&books, &keys)?);
        remove_orphans(&*disk, &books)?;
        let mut nodes = BTreeMap::new();
        let mut open = open_transfers(&books);
        for row in books.nodes.values() {
            let open = open.remove(&row.seller).unwrap_or_default();
            nodes.insert(row.seller, Node::load(row, open, &*disk, &keys)?);
        }
        for node in books.nodes.values().filter(|node| matches!(node.fate, Fate::Lost { .. })) {
            if let Some(server) = node.below.and_then(|server| nodes.get_mut(&server)) {
                server.has_lost_below = true;
            }
        }
        let shelf = Shelf::new(&books);
        let changes = sales::count_archives(&*disk, &books)?;
        changes.iter().for_each(|change| books.apply(change));
        Ok(Self {
            store,
            contents: Contents::new(Arc::clone(&disk)),
            disk,
            keys,
            rates: sales::rates_of(&books),
            supply: None,
            order_after_ms: 0,
            // No hub is started more than four billion times.
            questions: Questions::new(books.epoch as u32),
            books,
            registry,
            registry_changed: false,
            registry_changes: Changes::default(),
            counters_changed: false,
            nodes,
            shelf,
            dirty: BTreeSet::new(),
            review_at_ms: 0,
            churn: BTreeMap::new(),
            sold: BTreeMap::new(),
            to_pass_on: BTreeMap::new(),
            stuck: BTreeMap::new(),
            next_recall: 1,
            next_need: 1,
            changes,
            effects: VecDeque::new(),
            outputs: VecDeque::new(),
            now_ms: 0,
            told_ms: 0,
            elapsed_ms: 0,
            failed: false,
        })
    }

    /// Counts the starts of the hub.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.books.epoch
    }

    /// The registry, with changes that are not committed yet.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The deliveries, by number, with those not committed yet.
    pub fn batches(&self) -> impl ExactSizeIterator<Item = &BatchRow> {
        self.books.batches.values()
    }

    /// The nodes below this hub: number and name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (SellerId, &str)> {
        self.nodes.values().map(|node| (node.seller, node.name.as_str()))
    }

    /// Whether a node has said hello and is connected.
    #[must_use]
    pub fn is_linked(&self, node: SellerId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.greeted)
    }

    /// The key of a node, from which both ends derive those of their link; `None` if there is no such node.
    ///
    /// # Errors
    /// [`HubError::Key`].
    pub fn node_key(&self, node: SellerId) -> Result<Option<TerminalKey>, HubError> {
        let Some(node) = self.nodes.get(&node) else { return Ok(None) };
        let key = unwrap_node_key(&self.keys, node.seller, &node.wrapped_key)?;
        Ok(Some(TerminalKey::new(*key)))
    }

    /// The position up to which a node's journal is archived durably.
    #[must_use]
    pub fn journal_acked(&self, node: SellerId) -> Option<u64> {
        self.nodes.get(&node).map(|node| node.journal_acked)
    }

    /// How many PINs of a variety are in the central inventory and may be given at once.
    #[must_use]
    pub fn available(&self, variety: VarietyId) -> u64 {
        let life_days = self.registry.variety(variety).map_or(0, |variety| variety.minimum_life_days);
        self.shelf.count(variety, self.now_ms, life_days)
    }

    /// Where the hub believes every PIN to be, for the audit. Take it after the sellers' books.
    #[must_use]
    pub fn audit_books(&self) -> HubBooks {
        let block = |row: &super::books::BlockRow| BlockBook {
            block: row.properties.block,
            variety: row.properties.variety,
            count: row.count,
        };
        let piece = |row: &super::books::PieceRow| PieceBook {
            span: row.span,
            generation: row.generation,
            place: row.place,
        };
        let taker = |row: &NodeRow| {
            let outcomes = row.returns.iter().map(|(number, (_, accepted))| (*number, *accepted));
            (row.seller, TakerBook { outcomes: outcomes.collect() })
        };
        let returned = |row: &MoveRow| ReturnedBook {
            seller: row.node,
            number: row.number,
            span: row.span,
            generation: row.generation,
        };
        let (lost, doubts) = self.doubt_books();
        let returns = self.books.moves.values().filter(|row| row.way == Way::FromNode);
        HubBooks {
            blocks: self.books.blocks.values().map(block).collect(),
            pieces: self.books.pieces.values().map(piece).collect(),
            takers: self.books.nodes.values().map(taker).collect(),
            returned: returns.map(returned).collect(),
            lost,
            doubts,
        }
    }

    /// Takes in what the wall's clock says.
    pub(super) fn pass_to(&mut self, now_ms: u64) {
        self.elapsed_ms += now_ms.saturating_sub(self.told_ms);
        // Who is a little behind has looked at the clock a little earlier.
        let is_set_back = self.told_ms.saturating_sub(now_ms) > SET_BACK_MS_MIN;
        self.told_ms = if is_set_back { now_ms } else { self.told_ms.max(now_ms) };
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A message from a node.
    ///
    /// # Errors
    /// [`HubError`]: the hub stops. What a node did wrong closes its connection only.
    pub fn handle_link(&mut self, from: SellerId, message: ToHub, now_ms: u64) -> Result<(), HubError> {
        self.pass_to(now_ms);
        let handled = match message {
            // Such a node has its stock from its server, under numbers of that link: it has no other.
            _ if self.parent(from).is_some() => Ok(Err(NodeFault::Unknown)),
            ToHub::Below { node, message } => self.handle_below(from, node, *message),
            ToHub::BelowGone { node } => {
                if self.parent(node) == Some(from) {
                    self.handle_cut(node);
                }
                Ok(Ok(()))
            }
            message => self.handle_message(from, message),
        };
        match handled {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => {
                self.refuse_node(from, fault);
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// A node broke the protocol, or must not go on: its connection is closed after the next commit.
    pub(super) fn refuse_node(&mut self, node: SellerId, fault: NodeFault) {
        self.handle_cut(node);
        if let Some(live) = self.nodes.get_mut(&node) {
            live.refused = true;
        }
        match fault {
            NodeFault::Closed => self.stage(Output::Send { node, message: ToNode::Closed }),
            // Closed, it would come again, and sell meanwhile what its other self may have sold.
            NodeFault::Journal(_) => self.stage(Output::Send { node, message: ToNode::OldCopy }),
            NodeFault::Transfer(fault) if fault.shows_old_giver() => {
                self.stage(Output::Send { node, message: ToNode::OldCopy });
            }
            _ => {}
        }
        self.stage(Output::Close { node, fault });
    }

    /// A node's connection is gone, with everything on its way.
    pub fn handle_cut(&mut self, node: SellerId) {
        for child in self.children(node).collect::<Vec<_>>() {
            self.handle_cut(child);
        }
        if let Some(live) = self.nodes.get_mut(&node) {
            let was_there = live.greeted;
            live.cut();
            if was_there {
                let row = live.row();
                self.change(Change::Node(row));
                if planted::is(Fault::ReallocateUnreachable) {
                    self.reallocate(node);
                }
            }
        }
        // What was promised to it is for others.
        self.dirty.extend(self.varieties());
        let is_send = |output: &Output| matches!(output, Output::Send { node: to, .. } if *to == node);
        self.outputs.retain(|output| !is_send(output));
        self.effects.retain(|effect| match effect {
            Effect::Output(output) => !is_send(output),
            Effect::Greet(to) => *to != node,
            _ => true,
        });
        self.cut_questions(node);
    }

    /// A planted fault: something that a node holds is in the hub's inventory again, because it cannot be reached.
    fn reallocate(&mut self, node: SellerId) {
        let held = self.books.pieces.values().find(
            |piece| matches!(piece.place, Place::Given { node: holder, settled: true, .. } if holder == node),
        );
        if let Some(&PieceRow { span, generation, .. }) = held {
            self.own_again(node, span, generation);
            self.shelve_after_commit(span);
        }
    }

    /// Makes every change so far durable, then releases what depended on them to [`Hub::poll_output`].
    ///
    /// # Errors
    /// [`HubError`]: the hub stops.
    pub fn commit(&mut self) -> Result<(), HubError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(HubError::Failed);
        }
        loop {
            self.compare_returns()?;
            self.allot()?;
            self.serve_grants()?;
            self.append_journals()?;
            if self.registry_changed {
                let before = self.books.counters.registry_version;
                self.books.counters.registry_version += 1;
                Arc::make_mut(&mut self.registry).set_version(self.books.counters.registry_version);
                let delta = self.delta(&self.changes, before);
                // How long a PIN must live to be given is in there.
                self.dirty.extend(delta.varieties.iter().map(|variety| variety.id));
                self.effects.push_back(Effect::Announce(self.registry_changes.push(delta)));
            }
            if self.registry_changed || self.counters_changed {
                self.changes.push(Change::Counters(self.books.counters));
            }
            (self.registry_changed, self.counters_changed) = (false, false);
            if !self.changes.is_empty() {
                self.store.commit(&self.changes)?;
                self.changes.clear();
            } else if self.effects.is_empty() && self.dirty.is_empty() {
                break;
            }
            self.release()?;
        }
        self.failed = false;
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        while let Some(output) = self.outputs.pop_front() {
            if let Some(output) = self.addressed(output) {
                return Some(output);
            }
        }
        None
    }

    /// Makes a change that the next commit makes durable.
    pub(super) fn change(&mut self, change: Change) {
        self.books.apply(&change);
        self.changes.push(change);
    }

    /// Has something done after the next commit.
    pub(super) fn stage(&mut self, output: Output) {
        self.effects.push_back(Effect::Output(output));
    }

    pub(super) fn stage_effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Has something done now: what it depends on is durable.
    pub(super) fn put_out(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn shelve_after_commit(&mut self, span: Span) {
        self.effects.push_back(Effect::Shelve(span));
    }

    pub(super) fn handle_message(
        &mut self,
        from: SellerId,
        message: ToHub,
    ) -> Result<Result<(), NodeFault>, HubError> {
        let epoch = self.books.epoch;
        let next_need = self.next_need;
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&from) else { return Ok(Err(NodeFault::Unknown)) };
        node.heard_ms = now_ms;
        if let ToHub::Hello {
            node: named,
            hub_epoch,
            journal_from,
            journal_mark,
            registry_version,
            registry_digest,
            ..
        } = message
        {
            if named != from {
                return Ok(Err(NodeFault::Unknown));
            }
            let trusts_itself = planted::is(Fault::TrustOldHub);
            if hub_epoch > epoch && !trusts_itself {
                return Err(HubError::OldCopy { node: from, ours: epoch, theirs: hub_epoch });
            }
            if matches!(node.fate, Fate::Closed { .. }) {
                return Ok(Err(NodeFault::Closed));
            }
            // An old copy may have been started often enough to have the epoch that the node knows.
            if journal_from > node.journal_acked && !trusts_itself {
                let (ours, theirs) = (node.journal_acked, journal_from);
                return Err(HubError::OldArchive { node: from, ours, theirs });
            }
            // Said again on one connection: it has its welcome, and what came of that stands.
            if node.greeted {
                return Ok(Ok(()));
            }
            self.handle_cut(from);
            if let Some(node) = self.nodes.get_mut(&from) {
                node.greeted = true;
                node.mark = journal_mark;
                node.farewell = None;
                node.hold(registry_version, registry_digest, self.registry.version(), self.now_ms);
                let row = node.row();
                self.change(Change::Node(row));
            }
            self.effects.push_back(Effect::Greet(from));
            return Ok(Ok(()));
        }
        if node.refused {
            // Its connection is about to be closed; another fault would take back what it is told of the first.
            return Ok(Ok(()));
        }
        if !node.greeted {
            return Ok(Err(NodeFault::HelloMissing));
        }
        if node.below.is_none() && !node.is_proven() && is_of_stock(&message) {
            if node.unheard.len() >= UNHEARD_MAX {
                return Ok(Err(NodeFault::TooManyRequests(UNHEARD_MAX)));
            }
            node.unheard.push(message);
            return Ok(Ok(()));
        }
        let result = match message {
            ToHub::Need { request, variety, count } => {
                self.handle_need(from, Need::new(next_need, request, variety, count, false))
            }
            ToHub::Urgent { request, variety } => {
                self.handle_need(from, Need::new(next_need, request, variety, 1, true))
            }
            ToHub::Progress { stream, number, bytes } => {
                let result = node.giver(stream).handle_progress(number, bytes);
                self.run_giver(from, stream, false)?;
                result.map_err(NodeFault::from)
            }
            ToHub::Answer { stream, number, accepted } => {
                let result = node.handle_answer(stream, number, accepted);
                self.run_giver(from, stream, false)?;
                result.map_err(NodeFault::from)
            }
            ToHub::Journal { from, bytes } => node.journal(from, &bytes),
            ToHub::Offer(offer) => self.handle_offer(from, offer),
            ToHub::Ready => {
                node.resumed = true;
                Ok(())
            }
            ToHub::Recalled { recall, count } => {
                self.handle_recalled(from, recall, count);
                Ok(())
            }
            ToHub::Report(report) => self.handle_report(from, &report),
            ToHub::Ask { question, seller, asked } => {
                self.handle_ask(from, question, seller, asked);
                Ok(())
            }
            ToHub::Told { question, told } => {
                self.handle_told(from, question, told);
                Ok(())
            }
            ToHub::RegistryHeld { version, digest } => {
                self.registry_held(from, version, digest);
                Ok(())
            }
            ToHub::Farewell { journal_end } => {
                self.handle_farewell(from, journal_end);
                Ok(())
            }
            // What is in an envelope is for another node: see `handle_link`.
            ToHub::Hello { .. } | ToHub::Below { .. } | ToHub::BelowGone { .. } => Ok(()),
        };
        if result.is_ok() {
            return self.hear_at_last(from);
        }
        Ok(result)
    }

    /// Once a node's journal is seen to be the right one, what it said before counts.
    fn hear_at_last(&mut self, from: SellerId) -> Result<Result<(), NodeFault>, HubError> {
        let waiting = |node: &&mut Node| node.is_proven() && !node.unheard.is_empty();
        let Some(node) = self.nodes.get_mut(&from).filter(waiting) else { return Ok(Ok(())) };
        for message in std::mem::take(&mut node.unheard) {
            if let Err(fault) = self.handle_message(from, message)? {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    fn handle_need(&mut self, node: SellerId, need: Need) -> Result<(), NodeFault> {
        self.next_need += 1;
        self.dirty.insert(need.variety);
        let (request, is_known) = (need.request, self.registry.variety(need.variety).is_some());
        let stream = if need.is_urgent { Stream::Urgent } else { Stream::Bulk };
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(()) };
        let is_member = live.fate == Fate::Member;
        if !is_known || !is_member || !live.need(need)? {
            self.stage(Output::Send { node, message: ToNode::Answered { stream, request, granted: 0 } });
        }
        Ok(())
    }

    fn handle_report(&mut self, node: SellerId, report: &Report) -> Result<(), NodeFault> {
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(()) };
        live.handle_report(report)?;
        for stock in &report.stock {
            self.dirty.insert(stock.variety);
            let before = self.sold.insert((node, stock.variety), stock.sold_total);
            let sold = before.map_or(0, |before| stock.sold_total.saturating_sub(before));
            self.churn.entry(stock.variety).or_default().handle_moved(sold, 0, self.now_ms);
        }
        Ok(())
    }

    /// Does what the commit allows, in the order in which it was staged.
    fn release(&mut self) -> Result<(), HubError> {
        let mut arrived = Vec::new();
        while let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Output(output) => self.outputs.push_back(output),
                Effect::Greet(node) => self.greet(node)?,
                Effect::Given(node, stream, number) => {
                    if let Some(live) = self.nodes.get_mut(&node) {
                        live.giver(stream).handle_given(number);
                    }
                    self.run_giver(node, stream, true)?;
                }
                Effect::Settled(node, stream, number) => {
                    if let Some(live) = self.nodes.get_mut(&node) {
                        live.giver(stream).handle_settled(number);
                    }
                    self.run_giver(node, stream, true)?;
                }
                Effect::Returned(node, number) => {
                    if let Some(live) = self.nodes.get_mut(&node) {
                        live.taker.handle_recorded(number);
                    }
                    self.run_taker(node, true);
                }
                Effect::Shelve(span) => {
                    let variety = self.shelf.put(&self.books, span);
                    self.dirty.insert(variety);
                    if !arrived.contains(&variety) {
                        arrived.push(variety);
                    }
                }
                Effect::Announce(delta) => {
                    let now_ms = self.now_ms;
                    self.nodes.values_mut().for_each(|node| node.fall_behind(now_ms));
                    self.send_to_all(&ToNode::RegistryDelta(delta));
                }
            }
        }
        for variety in arrived {
            self.send_to_all(&ToNode::StockArrived { variety });
        }
        Ok(())
    }

    /// Answers a hello and offers everything open again.
    fn greet(&mut self, node: SellerId) -> Result<(), HubError> {
        let registry = self.registry_for(node);
        let children = self.children_of(node)?;
        let Some(live) = self.nodes.get_mut(&node) else { return Ok(()) };
        if live.below.is_some() {
            // The rest it has from its server.
            let message = ToNode::JournalAcked { position: live.journal_acked };
            self.put_out(Output::Send { node, message });
            return Ok(());
        }
        let pending = live.givers.iter_mut().map(crate::transfer::Giver::handle_connected).sum();
        let journal_acked = live.journal_acked;
        let mut send = |message| self.outputs.push_back(Output::Send { node, message });
        send(ToNode::Welcome { hub_epoch: self.books.epoch, pending, journal_acked });
        let standing = match live.fate {
            Fate::Lost { .. } => ToNode::Lost,
            _ => ToNode::Drain { on: live.drain.is_some() },
        };
        children.into_iter().for_each(&mut send);
        registry.into_iter().for_each(&mut send);
        send(standing);
        self.run_giver(node, Stream::Urgent, true)?;
        self.run_giver(node, Stream::Bulk, true)?;
        self.put_out(Output::Send { node, message: ToNode::Ready });
        Ok(())
    }

    fn send_to_all(&mut self, message: &ToNode) {
        let waiting = |node: SellerId, effects: &VecDeque<Effect>| {
            effects.iter().any(|effect| matches!(effect, Effect::Greet(to) if *to == node))
        };
        for node in self.nodes.values() {
            // A node that is yet to be greeted gets the registry then, and asks for stock by itself.
            if node.greeted && node.below.is_none() && !waiting(node.seller, &self.effects) {
                self.outputs.push_back(Output::Send { node: node.seller, message: message.clone() });
            }
        }
    }

    /// Writes what came of the nodes' journals to their archives.
    fn append_journals(&mut self) -> Result<(), HubError> {
        let (mut counts, mut grown) = (Vec::new(), Vec::new());
        for node in self.nodes.values_mut() {
            let length: u64 = node.journal.iter().map(|range| range.len() as u64).sum();
            if length > 0 && self.elapsed_ms >= node.archive_after_ms {
                let (position, chain) = (node.journal_acked, node.journal_chain);
                match node.archive.append(&*self.disk, position, &node.journal, chain) {
                    Ok(()) => {
                        node.journal_acked += length;
                        node.journal.clear();
                        let late = std::mem::take(&mut node.late);
                        if let Fate::Lost { given, .. } = &mut node.fate
                            && late.given > *given
                        {
                            *given = late.given;
                            grown.push(node.seller);
                        }
                        counts.push((node.seller, std::mem::take(&mut node.sales), late, node.journal_acked));
                        let change = Change::Node(node.row());
                        self.books.apply(&change);
                        self.changes.push(change);
                    }
                    Err(error) if error.is_full() => {
                        node.archive_after_ms = self.elapsed_ms + ARCHIVE_RETRY_MS;
                        let alarm = Alarm::ArchiveFull { node: node.seller };
                        self.effects.push_back(Effect::Output(Output::Alarm(alarm)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // While ranges wait for room there is nothing to say.
            if node.journal_heard && node.journal.is_empty() {
                node.journal_heard = false;
                let message = ToNode::JournalAcked { position: node.journal_acked };
                self.effects.push_back(Effect::Output(Output::Send { node: node.seller, message }));
            }
        }
        for (node, count, late, position) in counts {
            self.count_sales(node, &count, position);
            self.settle_late(node, &late);
        }
        // Their servers take nothing from them that the archive does not tell of.
        for node in grown {
            self.tell_parent(node)?;
        }
        Ok(())
    }
}

/// Whether what a node says is about what it has, takes or wants.
fn is_of_stock(message: &ToHub) -> bool {
    matches!(
        message,
        ToHub::Need { .. }
            | ToHub::Urgent { .. }
            | ToHub::Progress { .. }
            | ToHub::Answer { .. }
            | ToHub::Offer(_)
            | ToHub::Ready
            | ToHub::Recalled { .. }
    )
}

fn registry_of(books: &Books, keys: &NodeKeys) -> Result<Registry, HubError> {
    let mut terminals = Vec::with_capacity(books.terminals.len());
    for row in books.terminals.values() {
        let opened = keys.terminals().unwrap_terminal(row.id, row.key_epoch, &row.wrapped_key);
        let key: Zeroizing<[u8; 32]> = opened.map_err(|_| HubError::Key)?;
        let (id, dealer, key_epoch, state) = (row.id, row.dealer, row.key_epoch, row.state);
        terminals.push(Terminal { id, dealer, key_epoch, key: TerminalKey::new(*key), state });
    }
    let varieties = books.varieties.values().cloned().collect();
    let dealers = books.dealers.values().cloned().collect();
    let mut registry = Registry::new(books.counters.registry_version, varieties, dealers, terminals)?;
    for row in books.managers.values() {
        let key = TerminalKey::new(*unwrap_node_key(keys, row.id, &row.wrapped_key)?);
        registry.put_manager(Manager { id: row.id, name: row.name.clone(), key, state: row.state })?;
    }
    Ok(registry)
}

/// Block files are durable before their rows: one without a row belongs to a delivery that was never committed.
fn remove_orphans<D: Disk>(disk: &D, books: &Books) -> Result<(), HubError> {
    for name in disk.list(BLOCK_DIRECTORY)? {
        if parse_block_name(&name).is_some_and(|block| !books.blocks.contains_key(&block)) {
            disk.remove(&format!("{BLOCK_DIRECTORY}/{name}"))?;
        }
    }
    Ok(())
}

/// A clock that goes back by more was set back.
const SET_BACK_MS_MIN: u64 = 10_000;
/// Messages that a node may have said before it is heard.
const UNHEARD_MAX: usize = 8 * 1024;
/// How long to wait before writing to a full disk again.
const ARCHIVE_RETRY_MS: u64 = 1000;
