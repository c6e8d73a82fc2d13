//! How things stand.

use super::super::hub::LiveHub;
use super::super::relay_node::{RelayDesk, RelayStatus};
use super::super::seller_node::SellerDesk;
use super::{NotDone, Office};
use crate::audit::{SellerBooks, Tally, audit};
use crate::hub::books::Fate;
use crate::hub::{DoubtState, HubDrain, NodeDrain, NodeStock, Waiting};
use crate::ids::{SellerId, VarietyId};
use crate::ledger::UnreportedSales;
use crate::link::{ChildStanding, StockReport};
use crate::net::Seats;
use crate::policy::{Cover, Levels, warning};
use crate::registry::{Manager, Registry, State, Variety, price};
use crate::steward::ChildView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// How a process stands, and, where the hub is, the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// When this was said, in milliseconds of Unix time.
    pub now_ms: u64,
    /// How long it has been running, in seconds.
    pub uptime_s: u64,
    /// The hub, if it runs here and answers.
    pub hub: Option<HubStatus>,
    /// The sellers that run here.
    pub sellers: Vec<SellerStatus>,
    /// The relay, if this process is one.
    #[serde(default)]
    pub relay: Option<RelayStatus>,
    /// Terminals registered.
    pub terminals: usize,
    /// By variety.
    pub varieties: Vec<VarietyStatus>,
}

/// How a hub stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// How often it was started.
    pub epoch: u64,
    /// Counts the changes of the registry.
    pub registry_version: u64,
    /// Where nodes connect; none if it is not running.
    pub links: Option<String>,
    /// The nodes below it.
    pub nodes: Vec<NodeStatus>,
    /// The host connection managers that relay.
    #[serde(default)]
    pub managers: Vec<ManagerStatus>,
    /// What each node has of each variety, as far as the hub knows.
    pub stock: Vec<StockStatus>,
    /// Requests for stock that wait, and why.
    pub waiting: Vec<WaitingStatus>,
    /// If it goes offline: how far it has come.
    pub drain: Option<DrainStatus>,
}

/// A host connection manager that relays, as the hub knows it: who carries what is known to the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerStatus {
    /// Its number.
    pub manager: u32,
    /// What operators call it.
    pub name: String,
    /// Whether servers let it in.
    pub state: State,
}

/// What a node has of a variety. Amounts are PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockStatus {
    /// The node's number.
    pub seller: u32,
    /// The variety's code.
    pub code: String,
    /// What it has, by its last report; none if it has not reported since the hub was started.
    pub on_hand: Option<u64>,
    /// What is on its way to it.
    pub in_flight: u64,
    /// What was called back from it and has not been given up.
    pub recalling: u64,
    /// Below this it asks; none as long as it has not reported.
    pub low: Option<u64>,
    /// Up to this; none as long as it has not reported.
    pub target: Option<u64>,
    /// Above this the hub may take back; none as long as it has not reported.
    pub high: Option<u64>,
    /// How long what it has lasts at the rate at which it sells, in minutes; none if it sells nothing.
    pub cover_min: Option<u32>,
    /// What an operator should know of it before it happens.
    pub warning: Option<String>,
}

/// A request for stock that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStatus {
    /// Who asked.
    pub seller: u32,
    /// The variety's code.
    pub code: String,
    /// PINs that it was not promised.
    pub pins: u32,
    /// Whether a terminal waits for it.
    pub is_urgent: bool,
    /// Why it waits.
    pub why: String,
}

/// How far something has come that goes offline. Amounts are PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// What it still has to give away.
    pub left: u64,
    /// What it has given away.
    pub moved: u64,
    /// Whether it may be ended: nothing of it is needed any more.
    pub is_done: bool,
    /// What keeps the rest, if something does.
    pub stuck: Vec<String>,
}

/// How a node stands, as the hub sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub seller: u32,
    /// What operators call it.
    pub name: String,
    /// The server that it is below; none: it is below the hub.
    #[serde(default)]
    pub below: Option<u32>,
    /// Whether it is connected.
    pub linked: bool,
    /// Its journal is archived up to here.
    pub journal_acknowledged: u64,
    /// PINs on their way to it or from it.
    pub transfer_pins: u64,
    /// PINs that moved to it or from it in the last ten seconds, a second.
    pub transfer_pins_per_s: u64,
    /// Changes of the registry that are not durable there yet.
    pub registry_lag_versions: u64,
    /// For how long it has lacked one, in milliseconds.
    pub registry_lag_ms: u64,
    /// It holds the current registry, and its digest is the hub's.
    pub registry_agrees: bool,
    /// If it goes offline: how far it has come.
    pub drain: Option<DrainStatus>,
    /// When it was last heard, in milliseconds of Unix time; 0: never.
    pub heard_ms: u64,
    /// If it was declared lost.
    pub lost: Option<LostStatus>,
    /// If it has left: since when, in milliseconds of Unix time.
    pub closed_ms: Option<u64>,
    /// It has stopped with nothing left and its whole journal is here, so that its record may be closed.
    pub may_close: bool,
}

/// How it stands with a lost node. Amounts are PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostStatus {
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// In doubt.
    pub in_doubt: u64,
    /// Written off by an operator.
    pub written_off: u64,
}

/// How a seller stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SellerStatus {
    /// Its number.
    pub seller: u32,
    /// Where terminals connect; none if it does not sell.
    pub address: Option<String>,
    /// Where host connection managers connect; none if none may.
    #[serde(default)]
    pub links: Option<String>,
    /// The nodes below it.
    #[serde(default)]
    pub below: Vec<BelowStatus>,
    /// Connections of host connection managers that carry sessions here: one for each manager and worker.
    #[serde(default)]
    pub carriers: u64,
    /// Whether the one above answers it: the hub, or the server that it is below.
    pub linked: bool,
    /// Whether the disk had no room when more was wanted.
    pub disk_full: bool,
    /// Records of sales for which there is room in the journal now.
    pub free_records: u64,
    /// The journal is durable up to here.
    pub journal_durable: u64,
    /// The hub holds a copy up to here.
    pub journal_acknowledged: u64,
    /// Whether it sells: it does not while it goes offline, nor when it was declared lost or has left.
    pub is_open: bool,
    /// Whether the hub has said since the start what it knows; if not, the unreported are all that the journal still holds.
    pub heard: bool,
    /// PINs sold of which the hub does not know yet, as of a second ago.
    pub unreported_sales: u64,
    /// Their face value, by currency: `1234.00 ZAR`.
    pub unreported_value: Vec<String>,
    /// When the first of them was sold, in milliseconds of Unix time.
    pub unreported_since_ms: Option<u64>,
    /// How long the disk has room for a journal that grows as in the last ten minutes, in minutes; none if it does not grow.
    pub backlog_room_min: Option<u64>,
    /// What it has of each variety.
    #[serde(default)]
    pub stock: Vec<SellerStockStatus>,
    /// Connections, authenticated or not.
    pub connections: usize,
    /// Terminals that are logged in.
    pub sessions: u64,
    /// Since the start: logins.
    #[serde(default)]
    pub logins: u64,
    /// Requests that wait: for a PIN, for another seller, or for their records to be durable.
    #[serde(default)]
    pub in_flight: u64,
    /// Since the start: connections refused because there were too many.
    #[serde(default)]
    pub turned_away: u64,
    /// Since the start: sales.
    #[serde(default)]
    pub sales: u64,
    /// Since the start: sales that waited for a PIN, because an urgent transfer had to bring it or another worker had it. The hit rate
    /// is the share of the others.
    #[serde(default)]
    pub sales_waited: u64,
    /// Since the start: requests taken in.
    pub requests: u64,
    /// Since the start: answers with a PIN.
    pub answered_sold: u64,
    /// Since the start: declines.
    pub answered_declined: u64,
    /// Since the start: times a terminal was told to come back.
    pub answered_later: u64,
    /// Since the start: handshakes that failed.
    pub rejected: u64,
}

/// What a seller has of a variety. Amounts are PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SellerStockStatus {
    /// The variety's code.
    pub code: String,
    /// What it can sell at this moment.
    pub sellable: u64,
    /// Below this it asks the one above, as it last reported there; 0 while it has not.
    pub low: u64,
    /// Up to this.
    pub target: u64,
    /// Above this the one above may take back.
    pub high: u64,
}

impl SellerStatus {
    /// The share of its sales since the start that found their PIN here and did not wait for one, from 0 to 1; none if there were none.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        (self.sales > 0).then(|| 1.0 - self.sales_waited as f64 / self.sales as f64)
    }
}

/// How a node below a server stands, as the server sees it. Amounts are PINs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BelowStatus {
    /// Its number.
    pub seller: u32,
    /// What operators call it.
    pub name: String,
    /// Whether it is connected.
    pub linked: bool,
    /// Whether it goes offline.
    pub draining: bool,
    /// Whether it has left.
    pub closed: bool,
    /// Whether it was declared lost.
    #[serde(default)]
    pub lost: bool,
    /// What it has, by its last report.
    pub on_hand: u64,
    /// What is on its way to it or from it.
    pub in_transfer: u64,
}

/// Where the PINs of a variety are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarietyStatus {
    /// Its code.
    pub code: String,
    /// Ever received.
    pub received: u64,
    /// At the hub.
    pub hub: u64,
    /// On its way to a seller.
    pub in_transfer: u64,
    /// At sellers, not sold.
    pub at_seller: u64,
    /// Of those, how many can be sold at this moment; what has too little life left cannot.
    pub sellable: u64,
    /// Sold.
    pub sold: u64,
    /// Expired, damaged or voided; written off.
    pub withdrawn: u64,
    /// Held by nodes that were declared lost.
    pub in_doubt: u64,
}

impl Office {
    /// How things stand.
    ///
    /// # Errors
    /// [`NotDone::NoAnswer`].
    pub fn status(&self) -> Result<Status, NotDone> {
        let own = self.own_seller_books()?;
        // Without the hub there is still something to say: what the sellers here know.
        let Known { hub, registry, tallies } = match self.network() {
            Ok(known) => known,
            Err(error) => {
                let seller = self.desk.sellers.first().ok_or(error)?;
                Known { hub: None, registry: seller.standing.registry(), tallies: tallies_of(&own) }
            }
        };
        let varieties = registry.varieties().map(|variety| {
            let tally = tallies.get(&variety.id.0).cloned().unwrap_or_default();
            let Tally { received, hub, in_transfer, at_seller, sold, withdrawn, in_doubt, .. } = tally;
            let sellable = self.sellable(variety.id);
            let code = variety.code.clone();
            VarietyStatus { code, received, hub, in_transfer, at_seller, sellable, sold, withdrawn, in_doubt }
        });
        Ok(Status {
            pid: std::process::id(),
            now_ms: self.now_ms(),
            uptime_s: (self.desk.clock)().unix_ms.saturating_sub(self.desk.started_unix_ms) / 1000,
            hub,
            sellers: self.desk.sellers.iter().map(SellerDesk::status).collect(),
            relay: self.desk.relay.as_ref().map(RelayDesk::relay),
            terminals: registry.terminals().len(),
            varieties: varieties.collect(),
        })
    }

    /// What the hub says of the network.
    fn network(&self) -> Result<Known, NotDone> {
        let links = self.hub()?.links.map(|address| address.to_string());
        let sellers = self.all_seller_books()?;
        let now_ms = (self.desk.clock)().unix_ms;
        let (registry, status) = self.ask(move |hub| {
            let node = |(seller, name): (SellerId, &str)| {
                let lag = hub.registry_lag(seller, now_ms).unwrap_or_default();
                let traffic = hub.traffic(seller, now_ms);
                NodeStatus {
                    seller: seller.0,
                    name: name.to_owned(),
                    below: hub.parent(seller).map(|server| server.0),
                    linked: hub.is_linked(seller),
                    journal_acknowledged: hub.journal_acked(seller).unwrap_or(0),
                    transfer_pins: traffic.open_pins,
                    transfer_pins_per_s: traffic.pins_per_s,
                    registry_lag_versions: lag.versions,
                    registry_lag_ms: lag.ms,
                    registry_agrees: lag.agrees,
                    drain: hub.node_drain(seller).map(Into::into),
                    heard_ms: hub.heard_ms(seller),
                    lost: lost_of(hub, seller),
                    may_close: hub.check_closable(seller).is_ok(),
                    closed_ms: match hub.fate(seller) {
                        Some(Fate::Closed { at_ms }) => Some(at_ms),
                        _ => None,
                    },
                }
            };
            let status = HubStatus {
                epoch: hub.epoch(),
                registry_version: hub.registry().version(),
                links,
                nodes: hub.nodes().map(node).collect(),
                managers: hub.registry().managers().map(ManagerStatus::of).collect(),
                stock: stock_of(hub),
                waiting: waiting_at(hub),
                drain: hub.hub_drain().map(Into::into),
            };
            (Arc::clone(hub.registry()), status)
        })?;
        let tallies = audit(&self.hub_books()?, &sellers).varieties;
        Ok(Known { hub: Some(status), registry, tallies })
    }
}

impl ManagerStatus {
    fn of(manager: &Manager) -> Self {
        Self { manager: manager.id.0, name: manager.name.clone(), state: manager.state }
    }
}

fn stock_of(hub: &LiveHub) -> Vec<StockStatus> {
    let of_variety = |variety: &Variety| {
        let code = variety.code.clone();
        let row = move |NodeStock { position, has_reported, called_back }| StockStatus {
            seller: position.node.0,
            code: code.clone(),
            on_hand: has_reported.then_some(position.on_hand),
            in_flight: position.in_flight,
            recalling: called_back,
            low: has_reported.then(|| position.levels.low()),
            target: has_reported.then(|| position.levels.target()),
            high: has_reported.then(|| position.levels.high()),
            cover_min: Cover::of(position.on_hand, position.rate).minutes(),
            warning: warning(&position, WARN_H).map(|warning| warning.to_string()).filter(|_| has_reported),
        };
        hub.stock_of(variety.id).into_iter().map(row).collect::<Vec<_>>()
    };
    hub.registry().varieties().flat_map(of_variety).collect()
}

fn lost_of(hub: &LiveHub, node: SellerId) -> Option<LostStatus> {
    let Some(Fate::Lost { at_ms: since_ms, .. }) = hub.fate(node) else { return None };
    let count = |state| {
        let rows = hub.doubts_of(node).filter(|row| row.state == state);
        rows.map(|row| u64::from(row.span.len())).sum()
    };
    let (in_doubt, written_off) = (count(DoubtState::InDoubt), count(DoubtState::WrittenOff));
    Some(LostStatus { since_ms, in_doubt, written_off })
}

fn waiting_at(hub: &LiveHub) -> Vec<WaitingStatus> {
    let row = |waiting: Waiting| {
        let Waiting { node, variety, pins, is_urgent, wait } = waiting;
        let code = hub.registry().variety(variety).map(|variety| variety.code.clone()).unwrap_or_default();
        WaitingStatus { seller: node.0, code, pins, is_urgent, why: wait.to_string() }
    };
    hub.waiting().into_iter().map(row).collect()
}

impl From<NodeDrain> for DrainStatus {
    fn from(drain: NodeDrain) -> Self {
        let NodeDrain { since_ms, left, moved, is_gone } = drain;
        Self { since_ms, left, moved, is_done: is_gone, stuck: Vec::new() }
    }
}

impl From<HubDrain> for DrainStatus {
    fn from(drain: HubDrain) -> Self {
        let HubDrain { since_ms, left, moved, in_transfer, stuck, is_done, .. } = drain;
        let stuck = stuck.into_iter().map(|(_, rest)| format!("{} PINs: {}", rest.pins, rest.why));
        Self { since_ms, left: left + in_transfer, moved, is_done, stuck: stuck.collect() }
    }
}

/// How many hours ahead of a mark there is a warning.
const WARN_H: u32 = 2;

/// What is known of the network.
struct Known {
    hub: Option<HubStatus>,
    registry: Arc<Registry>,
    tallies: BTreeMap<u32, Tally>,
}

impl SellerDesk {
    fn status(&self) -> SellerStatus {
        let Self { seller, address, links, stats, standing, reader, space, seats, .. } = self;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let (unreported, backlog_room_min) = standing.unreported();
        SellerStatus {
            seller: seller.0,
            address: address.map(|address| address.to_string()),
            links: links.map(|links| links.to_string()),
            below: standing.below().iter().map(BelowStatus::of).collect(),
            carriers: read(&stats.carriers),
            linked: standing.linked.load(Relaxed),
            disk_full: standing.disk_full.load(Relaxed),
            free_records: space.free_records(),
            journal_durable: reader.durable().0,
            journal_acknowledged: read(&standing.acknowledged),
            is_open: standing.open.load(Relaxed),
            heard: standing.heard.load(Relaxed),
            unreported_sales: unreported.pins.values().sum(),
            unreported_value: value_of(&unreported, &standing.registry()),
            unreported_since_ms: unreported.since_ms,
            backlog_room_min,
            stock: standing.stock(),
            connections: seats.as_ref().map_or(0, Seats::taken),
            sessions: read(&stats.sessions),
            logins: read(&stats.logins),
            in_flight: read(&stats.in_flight),
            turned_away: read(&stats.turned_away),
            sales: read(&stats.sales),
            sales_waited: read(&stats.sales_waited),
            requests: read(&stats.requests),
            answered_sold: read(&stats.sold),
            answered_declined: read(&stats.declined),
            answered_later: read(&stats.later),
            rejected: read(&stats.rejected),
        }
    }
}

/// How the seller stands, as its threads last said. The values order nothing: all operations are relaxed.
#[derive(Debug, Default)]
pub(in crate::network) struct Standing {
    /// The hub holds the journal up to here.
    pub(in crate::network) acknowledged: AtomicU64,
    /// Durable journal that the hub does not hold yet.
    pub(in crate::network) unreported_bytes: AtomicU64,
    /// The last attempt to use more of the disk failed for lack of room.
    pub(in crate::network) disk_full: AtomicBool,
    /// The hub has said since the start up to where it holds the journal.
    pub(in crate::network) heard: AtomicBool,
    /// It sells.
    pub(in crate::network) open: AtomicBool,
    /// The hub answers.
    pub(in crate::network) linked: AtomicBool,
    /// With for how many minutes the disk has room for the journal; none if it does not grow.
    unreported: Mutex<(UnreportedSales, Option<u64>)>,
    in_stock: Mutex<BTreeMap<VarietyId, u64>>,
    /// As last reported upstream.
    levels: Mutex<BTreeMap<VarietyId, Levels>>,
    registry: Mutex<Arc<Registry>>,
    below: Mutex<Vec<ChildView>>,
}

impl BelowStatus {
    fn of(view: &ChildView) -> Self {
        let ChildView { node, name, is_linked, standing, on_hand, in_transfer } = view.clone();
        Self {
            seller: node.0,
            name,
            linked: is_linked,
            draining: standing == ChildStanding::Draining,
            closed: standing == ChildStanding::Closed,
            lost: standing == ChildStanding::Lost,
            on_hand,
            in_transfer,
        }
    }
}

impl Standing {
    pub(in crate::network) fn set_in_stock(&self, in_stock: BTreeMap<VarietyId, u64>) {
        *self.in_stock.lock().unwrap_or_else(PoisonError::into_inner) = in_stock;
    }

    pub(in crate::network) fn set_levels(&self, reports: &[StockReport]) {
        let levels = reports.iter().map(|report| (report.variety, report.levels)).collect();
        *self.levels.lock().unwrap_or_else(PoisonError::into_inner) = levels;
    }

    fn stock(&self) -> Vec<SellerStockStatus> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let row = |variety: &Variety| {
            let marks = levels.get(&variety.id);
            SellerStockStatus {
                code: variety.code.clone(),
                sellable: self.sellable(variety.id),
                low: marks.map_or(0, Levels::low),
                target: marks.map_or(0, Levels::target),
                high: marks.map_or(0, Levels::high),
            }
        };
        self.registry().varieties().map(row).collect()
    }

    pub(in crate::network) fn set_registry(&self, registry: Arc<Registry>) {
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    pub(in crate::network) fn set_unreported(&self, sales: UnreportedSales, room_min: Option<u64>) {
        *self.unreported.lock().unwrap_or_else(PoisonError::into_inner) = (sales, room_min);
    }

    fn unreported(&self) -> (UnreportedSales, Option<u64>) {
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::network) fn set_below(&self, below: Vec<ChildView>) {
        *self.below.lock().unwrap_or_else(PoisonError::into_inner) = below;
    }

    fn below(&self) -> Vec<ChildView> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn sellable(&self, variety: VarietyId) -> u64 {
        let in_stock = self.in_stock.lock().unwrap_or_else(PoisonError::into_inner);
        in_stock.get(&variety).copied().unwrap_or(0)
    }
}

/// What sales are worth, by currency.
fn value_of(sales: &UnreportedSales, registry: &Registry) -> Vec<String> {
    let mut sums = BTreeMap::<([u8; 3], u8), u64>::new();
    for (&variety, &pins) in &sales.pins {
        if let Some(variety) = registry.variety(variety) {
            let sum = sums.entry((variety.currency, variety.currency_digits)).or_default();
            *sum = sum.saturating_add(variety.face_value.saturating_mul(pins));
        }
    }
    let text = |((currency, digits), sum): (([u8; 3], u8), u64)| {
        price(sum, digits, &String::from_utf8_lossy(&currency))
    };
    sums.into_iter().map(text).collect()
}

/// What a seller alone can say of its varieties.
fn tallies_of(books: &[SellerBooks]) -> BTreeMap<u32, Tally> {
    let mut tallies = BTreeMap::<u32, Tally>::new();
    let count = |ranges: &[(u32, u32)]| ranges.iter().map(|(start, end)| u64::from(end - start)).sum::<u64>();
    for segment in books.iter().flat_map(|books| &books.segments) {
        let tally = tallies.entry(segment.variety.0).or_default();
        let (sold, withdrawn) = (count(&segment.sold), count(&segment.withdrawn));
        tally.sold += sold;
        tally.withdrawn += withdrawn;
        tally.at_seller += u64::from(segment.span.len()) - sold - withdrawn;
    }
    tallies
}
