//! Order files: how a supplier with a spool directory is told.

use super::config::SpoolTerms;
use super::spool::{Spool, Unplaced};
use super::{Acquisition, HubAccess, Setback, Supplier, open_orders, settle};
use crate::hub::{Command, OrderRow, OrderState};
use crate::ids::OrderId;
use crate::registry::Variety;

/// Puts out the files of orders that are being placed, and settles what is in doubt where a file proves that it is out.
pub(super) fn place(
    acquisition: &mut Acquisition,
    supplier: &Supplier,
    terms: &SpoolTerms,
    hub: &impl HubAccess,
) -> Result<(), Setback> {
    let orders = open_orders(hub, supplier)?;
    if orders.iter().all(|order| order.state == OrderState::Placed) {
        return Ok(());
    }
    let spool = Spool::open(&terms.directory)?;
    for order in orders {
        let name = file_name(order.number);
        match order.state {
            OrderState::Placing | OrderState::InDoubt if acquisition.out.contains(&order.number) => {
                settle(hub, Command::OrderPlaced(order.number))?;
                acquisition.out.remove(&order.number);
            }
            OrderState::Placing => {
                let registry = hub.registry()?;
                let Some(variety) = registry.variety(order.variety) else { continue };
                match spool.place(&name, &order_text(&order, variety)) {
                    Ok(()) => {
                        acquisition.out.insert(order.number);
                        settle(hub, Command::OrderPlaced(order.number))?;
                        acquisition.out.remove(&order.number);
                        tracing::info!(
                            "{}: order {} placed: {}",
                            supplier.name,
                            order.number.0,
                            order.reason
                        );
                    }
                    Err(Unplaced::Unseen(error)) => {
                        let matter = format!("{}, order {}", supplier.name, order.number.0);
                        let why = format!("it cannot be placed, and is tried again: {error}");
                        acquisition.note(&matter, Err(Setback::Later(why)));
                    }
                    Err(Unplaced::Doubtful(error)) => {
                        settle(hub, Command::OrderInDoubt(order.number))?;
                        return Err(Setback::Later(format!("{}: {error}", terms.directory.display())));
                    }
                }
            }
            OrderState::InDoubt if spool.is_placed(&name)? => {
                settle(hub, Command::OrderPlaced(order.number))?;
                tracing::info!("{}: order {} is out, and so is placed", supplier.name, order.number.0);
            }
            _ => {}
        }
    }
    Ok(())
}

fn file_name(number: OrderId) -> String {
    format!("order-{:06}.toml", number.0)
}

/// The text of an order file; `spec/orders.md` explains the keys.
fn order_text(order: &OrderRow, variety: &Variety) -> String {
    let ordered_at =
        i64::try_from(order.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let file = OrderFile {
        order: order.number.0,
        supplier: &order.supplier,
        variety: &variety.code,
        product: variety.product,
        face_value: variety.face_value,
        currency: String::from_utf8_lossy(&variety.currency).into_owned(),
        currency_digits: variety.currency_digits,
        pins: order.ordered,
        ordered_at: ordered_at.unwrap_or_default().to_string(),
    };
    toml::to_string(&file).expect("numbers and short texts have a TOML form")
}

#[derive(serde::Serialize)]
struct OrderFile<'a> {
    order: u64,
    supplier: &'a str,
    variety: &'a str,
    product: u32,
    face_value: u64,
    currency: String,
    currency_digits: u8,
    pins: u64,
    ordered_at: String,
}
