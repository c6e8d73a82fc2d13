//! `pinwheel order`.

use super::office::{Caller, unexpected};
use super::screen::{instant, say, say_json, table, thousands};
use super::{Exit, OrderCommand};
use crate::admin::{OrderChange, OrderView, Reply, Request};

/// Says how orders stand, or changes one.
pub(super) fn order(caller: &Caller, command: &OrderCommand) -> Result<(), Exit> {
    let (number, change) = match *command {
        OrderCommand::List => return list(caller),
        OrderCommand::Resend { number } => (number, OrderChange::Resend),
        OrderCommand::Cancel { number } => (number, OrderChange::Cancel),
        OrderCommand::Done { number } => (number, OrderChange::Done),
    };
    match caller.request(&Request::ChangeOrder { number, change }, None)? {
        Reply::Order { number, state } if caller.json => {
            say_json(&serde_json::json!({ "number": number, "state": state }));
        }
        Reply::Order { number, state } => say(&format!("order {number} is {state}\n")),
        other => return Err(unexpected(other)),
    }
    Ok(())
}

fn list(caller: &Caller) -> Result<(), Exit> {
    let orders = match caller.request(&Request::ListOrders, None)? {
        Reply::Orders { orders } => orders,
        other => return Err(unexpected(other)),
    };
    if caller.json {
        say_json(&orders);
        return Ok(());
    }
    let row = |order: &OrderView| {
        let OrderView { number, variety, supplier, state, ordered, received, at_ms, .. } = order;
        let placed = instant(*at_ms).unwrap_or_default();
        let (ordered, received) = (thousands(*ordered), thousands(*received));
        vec![
            number.to_string(),
            state.to_string(),
            variety.clone(),
            supplier.clone(),
            ordered,
            received,
            placed,
        ]
    };
    let rows: Vec<_> = orders.iter().map(row).collect();
    let headings = [">order", "state", "variety", "supplier", ">ordered", ">received", "decided (UTC)"];
    say(&table(&headings, &rows));
    for order in &orders {
        say(&format!("  {}: {}\n", order.number, order.why));
    }
    Ok(())
}
