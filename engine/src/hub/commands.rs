//! What operators ask of the hub.

use super::books::{BatchRow, BlockRow, Change, Fate, ManagerRow, NodeRow, PieceRow, Place, TerminalRow};
use super::doubts::Spent;
use super::node::{Node, wrap_node_key};
use super::orders::{OrderRow, OrderState};
use super::{Hub, HubError, Output, Store};
use crate::disk::Disk;
use crate::ids::{BatchId, KeyEpoch, OrderId, SellerId, Span, TerminalId, VarietyId};
use crate::intake::Delivery;
use crate::registry::{
    Dealer, MANAGER_NAME_BYTES_MAX, Manager, Registry, RegistryError, State, Terminal, TerminalKey, Variety,
};
use crate::stock::{BLOCK_PINS_MAX, segment::block_path};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A change that an operator wants.
#[derive(Clone, Debug)]
pub enum Command {
    /// Add a variety. Its id is ignored: the hub gives one.
    AddVariety(Variety),
    /// Add or change varieties and dealers, all of them or none.
    Import {
        /// Those with an id, or else a code, that is known are changed, others added.
        varieties: Vec<Variety>,
        /// Those with an id are changed, those with 0 added.
        dealers: Vec<Dealer>,
    },
    /// Add a dealer, active.
    AddDealer {
        /// Its name.
        name: String,
    },
    /// Add terminals, active, each with a new key.
    AddTerminals {
        /// Their dealer.
        dealer: u32,
        /// Which.
        terminals: Terminals,
    },
    /// Give a terminal a new key and with it a new key epoch.
    Rekey {
        /// Which.
        terminal: TerminalId,
    },
    /// Set a terminal's state.
    SetTerminal {
        /// Which.
        terminal: TerminalId,
        /// The state.
        state: State,
    },
    /// Set a dealer's state.
    SetDealer {
        /// Which.
        dealer: u32,
        /// The state.
        state: State,
    },
    /// Reserve a batch number and block numbers for a delivery that is being prepared.
    Reserve {
        /// How many blocks, at least 1.
        blocks: u32,
    },
    /// Take a delivery into the inventory. Its block files are durable.
    Deliver(Delivery),
    /// A supplier has been told of an order, durably.
    OrderPlaced(OrderId),
    /// A supplier may or may not have been told of an order.
    OrderInDoubt(OrderId),
    /// Tell the supplier of an order once more.
    ResendOrder(OrderId),
    /// Give an order up.
    CancelOrder(OrderId),
    /// No more of an order will come.
    FinishOrder(OrderId),
    /// Add a node below this hub, or below a server.
    AddNode {
        /// What operators will call it.
        name: String,
        /// The server that it is to be below, for good.
        below: Option<SellerId>,
    },
    /// Add a host connection manager that relays, active.
    AddManager {
        /// What operators will call it.
        name: String,
    },
    /// Set whether servers let a host connection manager in.
    SetManager {
        /// Its name.
        name: String,
        /// Whether they do.
        state: State,
    },
    /// Have a node go offline, which gives its stock back first; or not.
    Drain {
        /// Which.
        node: SellerId,
        /// Whether it does.
        on: bool,
    },
    /// Declare a node lost: what it held is in doubt from then on.
    Lose {
        /// Which.
        node: SellerId,
        /// What its archive comes to.
        spent: Spent,
    },
    /// Write off what is in doubt at a lost node: it is never sold.
    WriteOff {
        /// Which.
        node: SellerId,
        /// Of this variety only.
        variety: Option<VarietyId>,
        /// In these spans only.
        spans: Option<Vec<Span>>,
        /// Why, for people.
        note: String,
    },
    /// Close the record of a node that has left.
    CloseNode {
        /// Which.
        node: SellerId,
        /// What its archive comes to.
        spent: Spent,
    },
    /// Have the hub go offline, which gives its stock away first; or not.
    DrainHub {
        /// Whether it does.
        on: bool,
    },
}

/// Which terminals to add.
#[derive(Clone, Debug)]
pub enum Terminals {
    /// This many, with the next free numbers.
    Next(u32),
    /// With these numbers.
    Numbered(Vec<TerminalId>),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The new variety.
    Variety(VarietyId),
    /// The new dealer.
    Dealer(u32),
    /// The new terminals, or the rekeyed one, with their keys. These are not shown again.
    Keys(Vec<NewKey>),
    /// The state is set.
    State,
    /// The rows are in the registry.
    Imported {
        /// How many were new.
        added: usize,
        /// How many were known.
        changed: usize,
    },
    /// Numbers that nobody else gets.
    Reserved {
        /// The batch.
        batch: BatchId,
        /// The blocks.
        blocks: Range<u64>,
    },
    /// The delivery is in the inventory.
    Delivered {
        /// How many PINs.
        received: u64,
    },
    /// The order as it is now.
    Order(OrderRow),
    /// The new node.
    Node {
        /// Its number.
        seller: SellerId,
        /// Its node key, also called join token: from it both ends derive the link's keys.
        node_key: TerminalKey,
        /// The server that it is below.
        below: Option<SellerId>,
    },
    /// PINs that came to be in doubt, or were settled, by variety.
    Doubts(Vec<(VarietyId, u64)>),
}

/// A terminal's new key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The terminal.
    pub terminal: TerminalId,
    /// The key's epoch.
    pub key_epoch: KeyEpoch,
    /// The key.
    pub key: TerminalKey,
}

/// Why a command was not done; nothing changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It contradicts the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Too many or too few at once.
    #[error("between 1 and {0} at once")]
    Count(u32),
    /// There is no such node.
    #[error("there is no seller number {}", .0.0)]
    NoSuchNode(SellerId),
    /// There is no such variety.
    #[error("there is no variety number {}", .0.0)]
    NoSuchVariety(VarietyId),
    /// A row of several is wrong.
    #[error("row {row}: {error}")]
    Row {
        /// Which, from 1.
        row: usize,
        /// What is wrong with it.
        error: Box<CommandError>,
    },
    /// A dealer or a terminal was closed for good.
    #[error("it is closed for good: add a new one")]
    Closed,
    /// The delivery was committed before.
    #[error("batch {} is in the inventory already", .0.0)]
    BatchKnown(BatchId),
    /// A delivery does not add up.
    #[error("the delivery does not add up: {0}")]
    Delivery(&'static str),
    /// The same file was delivered before.
    #[error("the same file was delivered before: batch {}", .0.0)]
    FileKnown(BatchId),
    /// There is no such order.
    #[error("there is no order {}: see `pinwheel order list`", .0.0)]
    NoSuchOrder(OrderId),
    /// The order's state forbids it.
    #[error("order {} is {state}", number.0)]
    OrderState {
        /// Which.
        number: OrderId,
        /// How it stands.
        state: OrderState,
    },
    /// Nobody writes order files to this supplier.
    #[error("no order file goes to supplier {0:?}: it has none, or nothing runs that would write it")]
    NotResent(String),
    /// A node's or manager's name is taken, missing or too long.
    #[error("a node needs a name of 1 to 40 bytes that no other has")]
    NodeName,
    /// There is no such manager.
    #[error("no host connection manager that relays is called {0}")]
    NoSuchManager(String),
    /// A node that is there is not lost.
    #[error("{0} is connected, so it is not lost: drain it instead [node_connected]")]
    NodeConnected(String),
    /// A node was declared lost before.
    #[error(
        "{0} was declared lost, for good: a node that takes its place gets a number of its own [node_lost]"
    )]
    NodeLost(String),
    /// A node was not declared lost.
    #[error("{0} was not declared lost [node_not_lost]")]
    NodeNotLost(String),
    /// A node has left.
    #[error(
        "{0} has left the network, for good: a node that takes its place gets a number of its own [node_closed]"
    )]
    NodeClosed(String),
    /// There is nothing to settle.
    #[error("nothing of what was named is in doubt at {0}: see `pinwheel node doubts` [nothing_in_doubt]")]
    NothingInDoubt(String),
    /// A note is too long.
    #[error("a note has at most {0} bytes")]
    NoteTooLong(usize),
    /// The node's journal grew while its archive was read.
    #[error("the node's journal has just grown: say it again [journal_moved]")]
    JournalMoved,
    /// A node leaves only by a drain.
    #[error("{0} does not go offline: drain it first [node_not_drained]")]
    NodeNotDrained(String),
    /// A node that may leave runs.
    #[error("{0} still runs: stop it once its drain is done [node_runs]")]
    NodeRuns(String),
    /// A node has not said that it stopped with nothing left.
    #[error(
        "{0} has not stopped with nothing left and all of its journal here: start it, wait for its drain, and end it with \
         `pinwheel stop` [node_unfinished]"
    )]
    NodeUnfinished(String),
    /// A node below a server has no nodes below it.
    #[error("{0} is below a server: it can have no node below it [node_below]")]
    NodeBelow(String),
    /// Nodes below a node have not left, and are not lost.
    #[error(
        "below {name} there are {children}: first drain, stop and close them, or declare them lost and settle what is in \
         doubt there [node_has_children]"
    )]
    NodeHasChildren {
        /// Which.
        name: String,
        /// Their names.
        children: String,
    },
    /// A node still holds stock, as far as the hub knows.
    #[error("{name} still holds {pins} PINs, or a transfer to it is open [node_holds]")]
    NodeHolds {
        /// Which.
        name: String,
        /// How many.
        pins: u64,
    },
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// An operator's command. Its answer comes as [`Output::Done`] with this ticket, after the next commit. `random`
    /// fills bytes from a cryptographic generator.
    ///
    /// # Errors
    /// [`HubError`]: the hub stops. What is wrong with the command itself is in its answer.
    pub fn handle_command(
        &mut self,
        ticket: u64,
        command: Command,
        now_ms: u64,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), HubError> {
        self.pass_to(now_ms);
        let result = match command {
            Command::AddVariety(variety) => self.add_variety(variety),
            Command::Import { varieties, dealers } => self.import(varieties, dealers),
            Command::AddDealer { name } => self.add_dealer(name),
            Command::AddTerminals { dealer, terminals } => self.add_terminals(dealer, terminals, random),
            Command::Rekey { terminal } => self.rekey(terminal, random),
            Command::SetTerminal { terminal, state } => self.set_terminal(terminal, state),
            Command::SetDealer { dealer, state } => self.set_dealer(dealer, state),
            Command::Reserve { blocks } => self.reserve(blocks),
            Command::Deliver(delivery) => self.deliver(&delivery),
            Command::OrderPlaced(number) => self.order_placed(number),
            Command::OrderInDoubt(number) => self.order_in_doubt(number),
            Command::ResendOrder(number) => self.resend_order(number),
            Command::CancelOrder(number) => self.cancel_order(number),
            Command::FinishOrder(number) => self.finish_order(number),
            Command::AddNode { name, below } => self.add_node(name, below, random)?,
            Command::AddManager { name } => self.add_manager(name, random),
            Command::SetManager { name, state } => self.set_manager(&name, state),
            Command::Drain { node, on } => {
                let done = self.drain_node(node, on);
                self.tell_parent(node)?;
                done
            }
            Command::Lose { node, spent } => self.lose_node(node, &spent)?,
            Command::WriteOff { node, variety, spans, note } => {
                self.write_off(node, variety, spans.as_deref(), &note)
            }
            Command::CloseNode { node, spent } => self.close_node(node, &spent)?,
            Command::DrainHub { on } => Ok(self.drain_hub(on)),
        };
        self.stage(Output::Done { ticket, result });
        Ok(())
    }

    fn add_variety(&mut self, mut variety: Variety) -> Result<Done, CommandError> {
        variety.id = VarietyId(self.books.counters.variety);
        Arc::make_mut(&mut self.registry).add_variety(variety.clone())?;
        self.books.counters.variety += 1;
        self.registry_changed = true;
        let id = variety.id;
        self.change(Change::Variety(variety));
        Ok(Done::Variety(id))
    }

    /// Adds and changes rows, all of them or none. What was sold under a variety's number stays what it was.
    fn import(&mut self, varieties: Vec<Variety>, dealers: Vec<Dealer>) -> Result<Done, CommandError> {
        if varieties.len() + dealers.len() > ROWS_MAX as usize || varieties.len() + dealers.len() == 0 {
            return Err(CommandError::Count(ROWS_MAX));
        }
        let mut registry = Registry::clone(&self.registry);
        let mut counters = self.books.counters;
        let mut changes = Vec::new();
        let first_dealer = varieties.len() + 1;
        for (row, mut variety) in (1..).zip(varieties) {
            let wrong = |error: CommandError| CommandError::Row { row, error: Box::new(error) };
            if variety.id.0 == 0 {
                variety.id = registry.variety_by_code(&variety.code).map_or(VarietyId(0), |known| known.id);
            }
            if variety.id.0 == 0 {
                variety.id = VarietyId(counters.variety);
                counters.variety += 1;
            } else if registry.variety(variety.id).is_none() {
                return Err(wrong(CommandError::NoSuchVariety(variety.id)));
            }
            registry.put_variety(variety.clone()).map_err(|error| wrong(error.into()))?;
            changes.push(Change::Variety(variety));
        }
        for (row, mut dealer) in (first_dealer..).zip(dealers) {
            let wrong = |error: CommandError| CommandError::Row { row, error: Box::new(error) };
            if dealer.id == 0 {
                dealer.id = counters.dealer;
                counters.dealer += 1;
            } else {
                let known = registry.dealer(dealer.id);
                let known = known.ok_or_else(|| wrong(RegistryError::NoSuchDealer(dealer.id).into()))?;
                may_become(known.state, dealer.state).map_err(wrong)?;
            }
            registry.put_dealer(dealer.clone()).map_err(|error| wrong(error.into()))?;
            changes.push(Change::Dealer(dealer));
        }
        let before = self.books.counters;
        let added = (counters.variety - before.variety + counters.dealer - before.dealer) as usize;
        self.registry = Arc::new(registry);
        self.books.counters = counters;
        self.registry_changed = true;
        let changed = changes.len() - added;
        changes.into_iter().for_each(|change| self.change(change));
        Ok(Done::Imported { added, changed })
    }

    fn add_dealer(&mut self, name: String) -> Result<Done, CommandError> {
        let dealer = Dealer { id: self.books.counters.dealer, name, state: State::Active };
        Arc::make_mut(&mut self.registry).add_dealer(dealer.clone())?;
        self.books.counters.dealer += 1;
        self.registry_changed = true;
        let id = dealer.id;
        self.change(Change::Dealer(dealer));
        Ok(Done::Dealer(id))
    }

    fn add_terminals(
        &mut self,
        dealer: u32,
        terminals: Terminals,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Done, CommandError> {
        let ids = match terminals {
            Terminals::Next(count) => {
                let next = self.books.counters.terminal;
                (next..next + u64::from(count)).map(TerminalId).collect()
            }
            Terminals::Numbered(ids) => ids,
        };
        if ids.is_empty() || ids.len() > TERMINALS_MAX as usize {
            return Err(CommandError::Count(TERMINALS_MAX));
        }
        if self.registry.dealer(dealer).is_none() {
            return Err(RegistryError::NoSuchDealer(dealer).into());
        }
        let mut seen = BTreeSet::new();
        for &id in &ids {
            if id.0 == 0 || id.0 == u64::MAX {
                return Err(RegistryError::TerminalZero.into());
            }
            if !seen.insert(id) || self.registry.terminal(id).is_some() {
                return Err(RegistryError::TerminalExists(id).into());
            }
        }
        let mut keys = Vec::with_capacity(ids.len());
        let mut added = Vec::with_capacity(ids.len());
        for id in ids {
            let (key_epoch, state) = (KeyEpoch(1), State::Active);
            let key = new_key(random);
            let terminal = Terminal { id, dealer, key_epoch, key: key.clone(), state };
            self.change_terminal(&terminal);
            self.books.counters.terminal = self.books.counters.terminal.max(id.0 + 1);
            keys.push(NewKey { terminal: id, key_epoch, key });
            added.push(terminal);
        }
        Arc::make_mut(&mut self.registry).put_terminals(&added).expect("they were checked above");
        Ok(Done::Keys(keys))
    }

    fn rekey(&mut self, id: TerminalId, random: &mut dyn FnMut(&mut [u8])) -> Result<Done, CommandError> {
        let mut terminal = self.registry.terminal(id).ok_or(RegistryError::NoSuchTerminal(id))?.clone();
        terminal.key_epoch.0 += 1;
        terminal.key = new_key(random);
        Arc::make_mut(&mut self.registry).put_terminals(std::slice::from_ref(&terminal))?;
        self.change_terminal(&terminal);
        Ok(Done::Keys(vec![NewKey { terminal: id, key_epoch: terminal.key_epoch, key: terminal.key }]))
    }

    fn set_terminal(&mut self, id: TerminalId, state: State) -> Result<Done, CommandError> {
        let mut terminal = self.registry.terminal(id).ok_or(RegistryError::NoSuchTerminal(id))?.clone();
        may_become(terminal.state, state)?;
        terminal.state = state;
        Arc::make_mut(&mut self.registry).put_terminals(std::slice::from_ref(&terminal))?;
        self.change_terminal(&terminal);
        Ok(Done::State)
    }

    fn set_dealer(&mut self, id: u32, state: State) -> Result<Done, CommandError> {
        let mut dealer = self.registry.dealer(id).ok_or(RegistryError::NoSuchDealer(id))?.clone();
        may_become(dealer.state, state)?;
        dealer.state = state;
        Arc::make_mut(&mut self.registry).put_dealer(dealer.clone())?;
        self.registry_changed = true;
        self.change(Change::Dealer(dealer));
        Ok(Done::State)
    }

    fn reserve(&mut self, blocks: u32) -> Result<Done, CommandError> {
        if blocks == 0 || blocks > BLOCKS_MAX {
            return Err(CommandError::Count(BLOCKS_MAX));
        }
        let counters = &mut self.books.counters;
        let (batch, first) = (BatchId(counters.batch), counters.block);
        counters.batch += 1;
        counters.block += u64::from(blocks);
        self.counters_changed = true;
        Ok(Done::Reserved { batch, blocks: first..first + u64::from(blocks) })
    }

    fn deliver(&mut self, delivery: &Delivery) -> Result<Done, CommandError> {
        let &Delivery { batch, variety, received, .. } = delivery;
        let wrong = |what| Err(CommandError::Delivery(what));
        if self.registry.variety(variety).is_none() {
            return Err(CommandError::NoSuchVariety(variety));
        }
        if self.books.batches.contains_key(&batch) {
            return Err(CommandError::BatchKnown(batch));
        }
        if batch.0 == 0 || batch.0 >= self.books.counters.batch {
            return wrong("its batch number was never reserved");
        }
        self.check_source(delivery)?;
        let mut total = 0;
        let mut seen = BTreeSet::new();
        for block in &delivery.blocks {
            let properties = block.properties;
            if (properties.batch, properties.variety) != (batch, variety) {
                return wrong("a block belongs to another batch or variety");
            }
            if properties.block.0 == 0 || properties.block.0 >= self.books.counters.block {
                return wrong("a block number was never reserved");
            }
            if !seen.insert(properties.block) || self.books.blocks.contains_key(&properties.block) {
                return wrong("a block number is used twice");
            }
            if block.count == 0 || block.count > BLOCK_PINS_MAX || block.path != block_path(properties.block)
            {
                return wrong("a block's size or path is impossible");
            }
            total += u64::from(block.count);
        }
        if total != received || total == 0 {
            return wrong("the blocks hold another number of PINs");
        }
        let source = delivery.source.clone();
        self.change(Change::Batch(BatchRow { batch, variety, received, at_ms: self.now_ms, source }));
        self.note_delivery(delivery.source.order, received);
        for block in &delivery.blocks {
            let (properties, count) = (block.properties, block.count);
            let span = Span { block: properties.block, start: 0, end: count };
            self.change(Change::Block(BlockRow { properties, count, wrapped_key: block.key }));
            self.change(Change::Piece(PieceRow { span, generation: 1, place: Place::Hub }));
            self.shelve_after_commit(span);
        }
        Ok(Done::Delivered { received })
    }

    fn add_node(
        &mut self,
        name: String,
        below: Option<SellerId>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Result<Done, CommandError>, HubError> {
        if let Some(Err(error)) = below.map(|server| self.check_parent(server)) {
            return Ok(Err(error));
        }
        if !self.is_free_name(&name) {
            return Ok(Err(CommandError::NodeName));
        }
        let seller = SellerId(self.books.counters.seller);
        let node_key = new_key(random);
        let wrapped_key = wrap_node_key(&self.keys, seller, node_key.expose());
        let row = NodeRow {
            seller,
            name,
            below,
            wrapped_key,
            given: [0, 0],
            journal_acked: 0,
            taken: 0,
            returns: BTreeMap::new(),
            drain: None,
            fate: Fate::Member,
            heard_ms: 0,
            farewell: None,
        };
        let node = Node::load(&row, Vec::new(), &*self.disk, &self.keys)?;
        self.nodes.insert(seller, node);
        self.books.counters.seller += 1;
        self.counters_changed = true;
        self.change(Change::Node(row));
        self.tell_parent(seller)?;
        Ok(Ok(Done::Node { seller, node_key, below }))
    }

    /// Adds a host connection manager that relays: a row of the registry, because every server must know its key.
    fn add_manager(&mut self, name: String, random: &mut dyn FnMut(&mut [u8])) -> Result<Done, CommandError> {
        if !self.is_free_name(&name) {
            return Err(CommandError::NodeName);
        }
        let id = SellerId(self.books.counters.seller);
        let manager = Manager { id, name, key: new_key(random), state: State::Active };
        self.put_manager(manager.clone())?;
        self.books.counters.seller += 1;
        self.counters_changed = true;
        Ok(Done::Node { seller: id, node_key: manager.key, below: None })
    }

    fn set_manager(&mut self, name: &str, state: State) -> Result<Done, CommandError> {
        let manager = self.registry.managers().find(|manager| manager.name == name).cloned();
        let mut manager = manager.ok_or_else(|| CommandError::NoSuchManager(name.to_owned()))?;
        may_become(manager.state, state)?;
        manager.state = state;
        self.put_manager(manager)?;
        Ok(Done::State)
    }

    fn put_manager(&mut self, manager: Manager) -> Result<(), CommandError> {
        Arc::make_mut(&mut self.registry).put_manager(manager.clone())?;
        self.registry_changed = true;
        let Manager { id, name, key, state } = manager;
        let wrapped_key = wrap_node_key(&self.keys, id, key.expose());
        self.change(Change::Manager(ManagerRow { id, name, wrapped_key, state }));
        Ok(())
    }

    /// Whether a new node or manager may be called so.
    fn is_free_name(&self, name: &str) -> bool {
        let is_taken = self.books.nodes.values().any(|node| node.name == name)
            || self.registry.managers().any(|manager| manager.name == name);
        !is_taken && (1..=NODE_NAME_BYTES_MAX).contains(&name.len())
    }

    fn change_terminal(&mut self, terminal: &Terminal) {
        let &Terminal { id, dealer, key_epoch, state, .. } = terminal;
        let wrapped_key = self.keys.terminals().wrap_terminal(id, key_epoch, terminal.key.expose());
        self.registry_changed = true;
        self.change(Change::Terminal(TerminalRow { id, dealer, key_epoch, wrapped_key, state }));
    }
}

/// What is closed stays closed: its sales are settled.
fn may_become(now: State, wanted: State) -> Result<(), CommandError> {
    if now == State::Closed && wanted != State::Closed { Err(CommandError::Closed) } else { Ok(()) }
}

fn new_key(random: &mut dyn FnMut(&mut [u8])) -> TerminalKey {
    let mut bytes = Zeroizing::new([0; 32]);
    random(&mut *bytes);
    TerminalKey::new(*bytes)
}

/// Most terminals added by one command.
const TERMINALS_MAX: u32 = 100_000;
/// Most rows of one import.
const ROWS_MAX: u32 = 100_000;
/// Most blocks reserved at once.
const BLOCKS_MAX: u32 = 1 << 20;
/// Longest name of a node, in bytes.
const NODE_NAME_BYTES_MAX: usize = MANAGER_NAME_BYTES_MAX;
