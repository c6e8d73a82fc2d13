//! Orders to suppliers: when one is due, how much, and what became of it. `spec/orders.md` has the states, and what a crash
//! leaves.
//!
//! The hub decides and keeps the books; `acquisition` talks to suppliers. An order's number is durable before anything of
//! it can be seen outside.

mod row;

pub use row::{OrderRow, OrderState};

use super::books::{BatchRow, Change};
use super::commands::{CommandError, Done};
use super::{Alarm, Hub, Output, Store};
use crate::disk::Disk;
use crate::ids::{OrderId, VarietyId};
use crate::intake::Delivery;
use crate::policy::{NetworkStock, Order, Rate, ReorderRule, reorder};
use std::collections::BTreeMap;

/// What the hub has to know of suppliers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    /// By name.
    pub suppliers: BTreeMap<String, SupplierKind>,
    /// By the code of a variety: from whom it is ordered and when.
    pub rules: BTreeMap<String, (String, ReorderRule)>,
}

/// How a supplier is told, and what may be concluded when nobody knows whether it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SupplierKind {
    /// We issue the PINs: what came of an order is in the hub's books, so it is never in doubt.
    Mint,
    /// An order file goes out, batch files come in.
    Spool,
}

impl<S: Store, D: Disk> Hub<S, D> {
    /// Says who supplies what. Call it once, after [`Hub::load`], if somebody is there who places orders; without it nothing
    /// is ordered. What was being placed when the hub stopped is in doubt from now on, unless it can be told from the books.
    pub fn handle_supply(&mut self, supply: Supply, now_ms: u64) {
        self.pass_to(now_ms);
        let open: Vec<_> =
            self.books.orders.values().filter(|order| order.state.is_open()).cloned().collect();
        for order in open {
            let kind = supply.suppliers.get(&order.supplier);
            match (order.state, kind) {
                (OrderState::Placing | OrderState::InDoubt, Some(SupplierKind::Mint)) => {
                    self.start_placing(order);
                }
                (OrderState::Placing, _) => self.doubt(order),
                _ => {}
            }
        }
        self.supply = Some(supply);
    }

    /// Time has passed: orders what is due. Call it about once a second, before a commit.
    pub fn handle_tick(&mut self, now_ms: u64) {
        self.pass_to(now_ms);
        let Some(supply) = self.supply.take() else { return };
        if self.elapsed_ms >= self.order_after_ms {
            self.order_after_ms = self.elapsed_ms + DECIDE_EVERY_MS;
            for (code, (supplier, rule)) in &supply.rules {
                let Some(variety) = self.registry.variety_by_code(code).map(|variety| variety.id) else {
                    continue;
                };
                let stock = self.network_stock(variety);
                if let Ok(order) = reorder(&stock, self.network_rate(variety, &stock), rule) {
                    self.decide(variety, supplier, order);
                }
            }
        }
        self.supply = Some(supply);
    }

    /// All orders, by number, with those not committed yet.
    pub fn orders(&self) -> impl ExactSizeIterator<Item = &OrderRow> {
        self.books.orders.values()
    }

    /// The delivery that came as a file with this digest.
    #[must_use]
    pub fn batch_with_digest(&self, digest: u128) -> Option<&BatchRow> {
        self.books.batches.values().find(|batch| digest != 0 && batch.source.digest == digest)
    }

    /// Stock of a variety in the whole network: what was ever received, without what left the stock of nodes and what the
    /// hub may not give any more. It does not matter where the rest is, or whether a node is away.
    #[must_use]
    pub fn network_stock(&self, variety: VarietyId) -> NetworkStock {
        let batches = self.books.batches.values().filter(|batch| batch.variety == variety);
        let received: u64 = batches.map(|batch| batch.received).sum();
        let life_days = self.registry.variety(variety).map_or(0, |variety| variety.minimum_life_days);
        let spoilt = self.shelf.spoilt(variety, self.now_ms, life_days);
        let sales = self.books.sales.get(&variety);
        let gone = sales.map_or(0, |row| row.gone);
        let out = gone + spoilt + self.doubtful(variety);
        let orders = self.books.orders.values().filter(|order| order.variety == variety);
        NetworkStock {
            on_hand: received.saturating_sub(out),
            on_order: orders.map(OrderRow::missing).sum(),
            queued: self.queued(variety),
            sold: sales.map_or(0, |row| row.sold_lately(self.now_ms)),
        }
    }

    /// What terminals wait for that nobody could be given. What nodes ask for to fill their own shelves is no demand: it
    /// moves stock about in the network and takes none out of it.
    fn queued(&self, variety: VarietyId) -> u64 {
        let needs = self.nodes.values().flat_map(|node| &node.needs);
        let needs = needs.filter(|need| need.variety == variety && need.is_urgent);
        let asked: u64 = needs.map(|need| u64::from(need.wanted - need.granted)).sum();
        let life_days = self.registry.variety(variety).map_or(0, |variety| variety.minimum_life_days);
        asked.saturating_sub(self.shelf.count(variety, self.now_ms, life_days))
    }

    /// The smoothed rate of sales in the whole network. While there is nothing to sell, silence says nothing.
    fn network_rate(&mut self, variety: VarietyId, stock: &NetworkStock) -> Rate {
        let Some(rate) = self.rates.get_mut(&variety) else { return Rate::NONE };
        if stock.on_hand == 0 {
            rate.handle_empty(self.now_ms);
        } else {
            rate.handle_sold(0, self.now_ms);
        }
        rate.rate()
    }

    fn decide(&mut self, variety: VarietyId, supplier: &str, reason: Order) {
        let number = OrderId(self.books.counters.order);
        self.books.counters.order += 1;
        self.counters_changed = true;
        self.start_placing(OrderRow {
            number,
            variety,
            supplier: supplier.to_owned(),
            ordered: reason.pins,
            received: 0,
            state: OrderState::Placing,
            at_ms: self.now_ms,
            reason,
        });
    }

    /// Whoever places orders hears of it once that is durable.
    fn start_placing(&mut self, order: OrderRow) {
        let number = order.number;
        self.change(Change::Order(OrderRow { state: OrderState::Placing, ..order }));
        self.stage(Output::PlaceOrder { number });
    }

    fn doubt(&mut self, order: OrderRow) {
        let (number, supplier) = (order.number, order.supplier.clone());
        self.stage(Output::Alarm(Alarm::OrderInDoubt { number, supplier }));
        self.change(Change::Order(OrderRow { state: OrderState::InDoubt, ..order }));
    }

    /// The supplier has been told, for sure.
    pub(super) fn order_placed(&mut self, number: OrderId) -> Result<Done, CommandError> {
        let order = self.order(number)?;
        match order.state {
            OrderState::Placing | OrderState::InDoubt => {}
            OrderState::Placed | OrderState::Done => return Ok(Done::Order(order)),
            // It was given up a moment too late: what is true goes into the books.
            OrderState::Cancelled => self.stage(Output::Alarm(Alarm::OrderPlacedAfterAll { number })),
        }
        Ok(self.set_order(order, OrderState::Placed))
    }

    /// The supplier may or may not have been told.
    pub(super) fn order_in_doubt(&mut self, number: OrderId) -> Result<Done, CommandError> {
        let order = self.order(number)?;
        if order.state == OrderState::Placing {
            self.doubt(order);
        }
        Ok(Done::Order(self.order(number)?))
    }

    /// An operator has the supplier told once more.
    pub(super) fn resend_order(&mut self, number: OrderId) -> Result<Done, CommandError> {
        let order = self.order_in(number, &[OrderState::Placed, OrderState::InDoubt])?;
        let suppliers = self.supply.as_ref().map(|supply| &supply.suppliers);
        if suppliers.and_then(|known| known.get(&order.supplier)) != Some(&SupplierKind::Spool) {
            return Err(CommandError::NotResent(order.supplier));
        }
        self.start_placing(order);
        Ok(Done::Order(self.order(number)?))
    }

    /// An operator gives an order up.
    pub(super) fn cancel_order(&mut self, number: OrderId) -> Result<Done, CommandError> {
        let open = [OrderState::Placing, OrderState::Placed, OrderState::InDoubt];
        let order = self.order_in(number, &open)?;
        Ok(self.set_order(order, OrderState::Cancelled))
    }

    /// An operator says that no more of it will come.
    pub(super) fn finish_order(&mut self, number: OrderId) -> Result<Done, CommandError> {
        let order = self.order_in(number, &[OrderState::Placed, OrderState::InDoubt])?;
        Ok(self.set_order(order, OrderState::Done))
    }

    /// Whether a delivery may come from where it says it comes from.
    pub(super) fn check_source(&self, delivery: &Delivery) -> Result<(), CommandError> {
        let source = &delivery.source;
        if let Some(batch) = self.batch_with_digest(source.digest) {
            return Err(CommandError::FileKnown(batch.batch));
        }
        if source.order != OrderId(0) && self.order(source.order)?.variety != delivery.variety {
            return Err(CommandError::Delivery("its order is for another variety"));
        }
        Ok(())
    }

    /// Counts a delivery to its order. More than was ordered is taken; what comes for a closed order is counted there.
    pub(super) fn note_delivery(&mut self, number: OrderId, received: u64) {
        let Some(mut order) = self.books.orders.get(&number).cloned() else { return };
        order.received += received;
        let state = match order.state {
            _ if order.state.is_open() && order.missing() == 0 => OrderState::Done,
            // Who delivers has been told.
            OrderState::InDoubt => OrderState::Placed,
            state => state,
        };
        self.set_order(order, state);
    }

    fn set_order(&mut self, order: OrderRow, state: OrderState) -> Done {
        let order = OrderRow { state, ..order };
        self.change(Change::Order(order.clone()));
        Done::Order(order)
    }

    fn order(&self, number: OrderId) -> Result<OrderRow, CommandError> {
        self.books.orders.get(&number).cloned().ok_or(CommandError::NoSuchOrder(number))
    }

    fn order_in(&self, number: OrderId, states: &[OrderState]) -> Result<OrderRow, CommandError> {
        let order = self.order(number)?;
        if !states.contains(&order.state) {
            return Err(CommandError::OrderState { number, state: order.state });
        }
        Ok(order)
    }
}

/// How often orders are decided, in milliseconds.
const DECIDE_EVERY_MS: u64 = 1_000;
