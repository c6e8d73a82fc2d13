//! When to order from the supplier, and how much: the (s, S) rule of inventory control (Scarf, 1960), in lots.

use super::rate::Rate;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stock of one variety in the whole network, in PINs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct NetworkStock {
    /// In the hub, at nodes and in transfer; not what is in doubt.
    pub on_hand: u64,
    /// Ordered and not delivered; an order that is in doubt counts, so that it is never ordered again unasked.
    pub on_order: u64,
    /// Asked for by nodes and not granted.
    pub queued: u64,
    /// Sold to terminals within [`ALIVE_DAYS`].
    pub sold: u64,
}

impl NetworkStock {
    /// What the reorder point is compared with: on hand + on order − queued; below 0 if more is queued.
    #[must_use]
    pub fn position(&self) -> i64 {
        let position = i128::from(self.on_hand) + i128::from(self.on_order) - i128::from(self.queued);
        position.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// When to order and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReorderRule {
    /// Below this stock position an order is placed, in PINs; `None`: what sells in the supplier's lead time and the safety
    /// time.
    pub point: Option<u64>,
    /// Up to which stock position is ordered, in PINs; `None`: the point and what sells in the cycle.
    pub up_to: Option<u64>,
    /// From order to delivery, in hours.
    pub lead_h: u32,
    /// More than the lead time, in hours of sales: what nodes hold between them, and what may go wrong.
    pub safety_h: u32,
    /// For how many hours of sales is ordered at a time.
    pub cycle_h: u32,
    /// Orders are multiples of this many PINs.
    pub lot: u64,
}

impl Default for ReorderRule {
    fn default() -> Self {
        Self { point: None, up_to: None, lead_h: 24, safety_h: 24, cycle_h: 72, lot: 1000 }
    }
}

/// One order to the supplier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Order {
    /// PINs.
    pub pins: u64,
    /// What was below the point.
    pub stock: NetworkStock,
    /// The point, in PINs of stock position.
    pub point: u64,
    /// What is ordered up to, in PINs of stock position.
    pub up_to: u64,
    /// What the order is a multiple of, in PINs.
    pub lot: u64,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NetworkStock { on_hand, on_order, queued, .. } = self.stock;
        write!(
            f,
            "order of {} PINs: on hand {on_hand} + on order {on_order} − queued {queued} = {} is below the reorder point \
             {}; up to {}, in lots of {}",
            self.pins,
            self.stock.position(),
            self.point,
            self.up_to,
            self.lot
        )
    }
}

/// Why nothing is ordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Idle {
    /// Nothing was sold for so long that nobody seems to want it.
    NoSales,
    /// There is enough.
    Enough {
        /// The stock position, in PINs.
        position: i64,
        /// The point, in PINs.
        point: u64,
    },
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSales => write!(f, "no order: nothing was sold in {ALIVE_DAYS} days"),
            Self::Enough { position, point } => {
                write!(f, "no order: stock position {position}, reorder point {point}")
            }
        }
    }
}

/// Whether to order, and how much. What is ordered counts into the position, so a second call does not order it again.
///
/// # Errors
///
/// There is nothing to order; the error says why.
pub fn reorder(stock: &NetworkStock, rate: Rate, rule: &ReorderRule) -> Result<Order, Idle> {
    if stock.sold == 0 {
        return Err(Idle::NoSales);
    }
    let point = rule.point.unwrap_or_else(|| rate.pins_in_h(rule.lead_h.saturating_add(rule.safety_h)));
    let cycle = rate.pins_in_h(rule.cycle_h);
    let up_to = rule.up_to.unwrap_or_else(|| point.saturating_add(cycle)).max(point);
    let position = stock.position();
    if i128::from(position) >= i128::from(point) {
        return Err(Idle::Enough { position, point });
    }
    let lot = rule.lot.max(1);
    let lacking = u64::try_from(i128::from(up_to) - i128::from(position)).unwrap_or(u64::MAX);
    let pins = lacking.div_ceil(lot).saturating_mul(lot);
    Ok(Order { pins, stock: *stock, point, up_to, lot })
}

/// What was not sold for so many days is not ordered.
pub const ALIVE_DAYS: u32 = 28;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixed() -> ReorderRule {
        ReorderRule { point: Some(1_000), up_to: Some(5_000), lot: 100, ..ReorderRule::default() }
    }

    #[test]
    fn h06_sales_below_the_reorder_point_make_one_order_for_the_right_amount() {
        let stock = NetworkStock { on_hand: 1_250, on_order: 0, queued: 251, sold: 7 };
        let order = reorder(&stock, Rate::NONE, &fixed()).unwrap();
        assert_eq!(order.pins, 4_100, "5,000 − 999, in lots of 100");
        assert_eq!(
            order.to_string(),
            "order of 4100 PINs: on hand 1250 + on order 0 − queued 251 = 999 is below the reorder point 1000; up to \
             5000, in lots of 100"
        );
        let after = NetworkStock { on_order: order.pins, ..stock };
        assert!(reorder(&after, Rate::NONE, &fixed()).is_err(), "one order");
        let at_the_point = NetworkStock { queued: 250, ..stock };
        let enough = Idle::Enough { position: 1_000, point: 1_000 };
        assert_eq!(reorder(&at_the_point, Rate::NONE, &fixed()), Err(enough));
        let stored = serde_json::to_string(&(order, enough)).unwrap();
        assert_eq!(serde_json::from_str::<(Order, Idle)>(&stored).unwrap(), (order, enough));
    }

    #[test]
    fn h06_no_sales_no_order() {
        let stock = NetworkStock { queued: 500, ..NetworkStock::default() };
        assert_eq!(reorder(&stock, Rate(1_000_000), &fixed()), Err(Idle::NoSales));
    }

    #[test]
    fn h06_without_a_point_it_follows_sales() {
        let stock = NetworkStock { on_hand: 4_799, sold: 1, ..NetworkStock::default() };
        let rate = Rate::from_pins_per_hour(100.0);
        let order = reorder(&stock, rate, &ReorderRule::default()).unwrap();
        assert_eq!((order.point, order.up_to, order.pins), (4_800, 12_000, 8_000));
    }

    proptest! {
        #[test]
        fn h06_an_order_reaches_what_it_is_for_by_less_than_a_lot_and_is_placed_once(
            on_hand in 0_u64..20_000, on_order in 0_u64..20_000, queued in 0_u64..40_000, sold in 0_u64..3,
            point in prop::option::of(0_u64..10_000), up_to in prop::option::of(0_u64..20_000),
            lot in 0_u64..2_000, rate in 0_u64..1_000_000,
        ) {
            let rule = ReorderRule { point, up_to, lot, ..ReorderRule::default() };
            let stock = NetworkStock { on_hand, on_order, queued, sold };
            match reorder(&stock, Rate(rate), &rule) {
                Ok(order) => {
                    prop_assert!(sold > 0 && i128::from(stock.position()) < i128::from(order.point));
                    let after = NetworkStock { on_order: on_order + order.pins, ..stock };
                    let over = i128::from(after.position()) - i128::from(order.up_to);
                    prop_assert!((0..i128::from(lot.max(1))).contains(&over));
                    prop_assert!(reorder(&after, Rate(rate), &rule).is_err());
                }
                Err(Idle::NoSales) => prop_assert_eq!(sold, 0),
                Err(Idle::Enough { position, point }) => prop_assert!(i128::from(position) >= i128::from(point)),
            }
        }
    }
}
