//! How `pinwheel status` looks.

use super::registry::word;
use super::screen::{table, thousands};
use crate::network::{
    BelowStatus, HubStatus, LostStatus, RelayStatus, SellerStatus, SellerStockStatus, Status, StockStatus,
};

pub(super) fn status_text(status: &Status) -> String {
    let mut text = String::from("\n");
    let runs = status.sellers.iter().any(|seller| seller.address.is_some())
        || status.hub.as_ref().is_some_and(|hub| hub.links.is_some())
        || status.relay.is_some();
    if runs {
        let (uptime, pid) = (long(status.uptime_s), status.pid);
        text.push_str(&format!("  up {uptime}, process {pid}"));
        if status.terminals > 0 {
            text.push_str(&format!(", {} terminals registered", thousands(status.terminals as u64)));
        }
        text.push_str("\n\n");
    } else {
        text.push_str("  not running\n\n");
    }
    if let Some(hub) = &status.hub {
        text.push_str(&hub_text(hub));
    }
    for seller in status.sellers.iter().filter(|_| runs) {
        text.push_str(&seller_text(seller, status.hub.as_ref(), status.now_ms));
    }
    if let Some(relay) = &status.relay {
        text.push_str(&relay_text(relay, status));
    }
    // Where the hub is, it has told that of all nodes.
    if status.hub.is_none() {
        text.push_str(&levels_text(&status.sellers));
    }
    if status.varieties.is_empty() {
        return text;
    }
    let rows: Vec<_> = status
        .varieties
        .iter()
        .map(|v| {
            let numbers =
                [v.received, v.hub, v.in_transfer, v.at_seller, v.sellable, v.sold, v.withdrawn, v.in_doubt]
                    .map(thousands);
            [v.code.clone()].into_iter().chain(numbers).collect()
        })
        .collect();
    let headings = [
        "variety",
        ">received",
        ">hub",
        ">transfer",
        ">sellers",
        ">sellable",
        ">sold",
        ">withdrawn",
        ">in doubt",
    ];
    text.push_str(&table(&headings, &rows));
    text.push('\n');
    text
}

/// What sellers have, and their marks.
fn levels_text(sellers: &[SellerStatus]) -> String {
    let row = |seller: &SellerStatus, stock: &SellerStockStatus| {
        let SellerStockStatus { code, sellable, low, target, high } = stock;
        let marks = if *target > 0 { format!("{low}/{target}/{high}") } else { "not known yet".to_owned() };
        vec![code.clone(), seller.seller.to_string(), thousands(*sellable), marks]
    };
    let rows: Vec<_> =
        sellers.iter().flat_map(|seller| seller.stock.iter().map(move |stock| row(seller, stock))).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["variety", ">seller", ">has", ">low/target/high"], &rows) + "\n"
}

fn long(seconds: u64) -> String {
    let minutes = seconds / 60;
    format!("{} h {} min {} s", minutes / 60, minutes % 60, seconds % 60)
}

fn relay_text(relay: &RelayStatus, status: &Status) -> String {
    let managers = status.hub.iter().flat_map(|hub| &hub.managers);
    let known =
        managers.filter(|known| known.manager == relay.manager).map(|known| known.name.clone()).next();
    let name = named("relay", relay.manager, known);
    let mut text = format!("  {name}, terminals connect to {}\n", relay.address);
    let since = long(status.now_ms.saturating_sub(relay.server_since_ms) / 1000);
    let server = match (&relay.server, &relay.failure) {
        (Some(server), _) => {
            format!("seller {} at {server}, for {since}, lost {} times", relay.seller, relay.losses)
        }
        (None, Some(failure)) => format!("none: {failure}"),
        (None, None) => "none yet".to_owned(),
    };
    let rows = [
        ("server", server),
        (
            "terminals",
            format!(
                "{} logged in, {} connections, {} wait for the server, {} logins since the start",
                thousands(relay.sessions),
                thousands(relay.connections),
                thousands(relay.waiting),
                thousands(relay.logins)
            ),
        ),
        (
            "messages",
            format!("{} carried, {} in flight", thousands(relay.requests), thousands(relay.in_flight)),
        ),
        (
            "ended",
            format!(
                "{} turned away, {} cut (did not read), {} faults, {} told to begin anew",
                thousands(relay.turned_away),
                thousands(relay.cut),
                thousands(relay.faults),
                thousands(relay.renewed)
            ),
        ),
    ];
    for (name, value) in rows {
        text.push_str(&format!("    {name:<10} {value}\n"));
    }
    text.push('\n');
    text
}

fn hub_text(hub: &HubStatus) -> String {
    let at = hub.links.as_ref().map_or_else(String::new, |links| format!(", nodes connect to {links}"));
    let mut text = format!("  hub, epoch {}, registry version {}{at}\n\n", hub.epoch, hub.registry_version);
    let rows: Vec<_> = hub
        .nodes
        .iter()
        .map(|node| {
            let link = match (node.linked, &node.drain) {
                _ if node.closed_ms.is_some() => "has left".to_owned(),
                _ if node.may_close => "stopped, may be closed".to_owned(),
                (linked, _) if let Some(lost) = &node.lost => lost_text(linked, lost),
                (false, _) => "away".to_owned(),
                (true, None) => "connected".to_owned(),
                (true, Some(drain)) if drain.is_done => "drained".to_owned(),
                (true, Some(drain)) => format!("draining, {} left", thousands(drain.left)),
            };
            vec![
                node.seller.to_string(),
                match node.below {
                    Some(server) => format!("{} (below {server})", node.name),
                    None => node.name.clone(),
                },
                link,
                thousands(node.transfer_pins),
                thousands(node.transfer_pins_per_s),
                thousands(node.journal_acknowledged),
                match (node.registry_agrees, node.registry_lag_versions) {
                    (true, _) => "current".to_owned(),
                    (false, 0) => "differs".to_owned(),
                    (false, 1) => format!("1 change, {} ms behind", node.registry_lag_ms),
                    (false, changes) => format!("{changes} changes, {} ms behind", node.registry_lag_ms),
                },
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&table(
            &[">seller", "name", "link", ">in transfer", ">moved/s", ">journal archived", "registry"],
            &rows,
        ));
        text.push('\n');
    }
    let rows: Vec<_> = hub
        .managers
        .iter()
        .map(|manager| vec![manager.manager.to_string(), manager.name.clone(), word(manager.state)])
        .collect();
    if !rows.is_empty() {
        text.push_str(&table(&[">relay", "name", "state"], &rows));
        text.push('\n');
    }
    let rows: Vec<_> = hub
        .stock
        .iter()
        .map(|row| {
            vec![
                row.code.clone(),
                row.seller.to_string(),
                row.on_hand.map_or_else(unknown, thousands),
                thousands(row.in_flight),
                thousands(row.recalling),
                marks(row),
                row.cover_min.map_or_else(|| "-".to_owned(), |min| format!("{}:{:02}", min / 60, min % 60)),
                row.warning.clone().unwrap_or_default(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let headings =
            ["variety", ">seller", ">has", ">coming", ">called back", ">low/target/high", ">lasts h:min", ""];
        text.push_str(&table(&headings, &rows));
        text.push('\n');
    }
    for row in &hub.waiting {
        let urgent = if row.is_urgent { ", a terminal waits" } else { "" };
        let pins = thousands(row.pins.into());
        text.push_str(&format!(
            "  seller {} waits for {pins} of {}{urgent}: {}\n",
            row.seller, row.code, row.why
        ));
    }
    if let Some(drain) = &hub.drain {
        let how = if drain.is_done {
            "it may be stopped".to_owned()
        } else {
            format!("{} left", thousands(drain.left))
        };
        text.push_str(&format!(
            "  the hub goes offline: {} PINs given away, {how}\n",
            thousands(drain.moved)
        ));
    }
    if !hub.waiting.is_empty() || hub.drain.is_some() {
        text.push('\n');
    }
    text
}

/// What a node has not said yet.
fn unknown() -> String {
    "?".to_owned()
}

/// Its low mark, target and high mark.
fn marks(row: &StockStatus) -> String {
    let StockStatus { low: Some(low), target: Some(target), high: Some(high), .. } = row else {
        return unknown();
    };
    format!("{low}/{target}/{high}")
}

/// What would be lost with the disk.
fn unreported(seller: &SellerStatus, now_ms: u64) -> String {
    let all = seller.journal_acknowledged >= seller.journal_durable;
    let mut text = match seller.unreported_since_ms {
        None if all && seller.heard => "every sale is known to the hub".to_owned(),
        None => "no sale older than a second".to_owned(),
        Some(since_ms) => format!(
            "{}{} sold, {}, the first {} s ago",
            if seller.heard { "" } else { "the hub has said nothing since the start; at most " },
            thousands(seller.unreported_sales),
            seller.unreported_value.join(" + "),
            now_ms.saturating_sub(since_ms) / 1000
        ),
    };
    if let Some(min) = seller.backlog_room_min.filter(|_| !seller.linked) {
        text.push_str(&format!("; the disk has room for {} h more", thousands(min / 60)));
    }
    text
}

fn lost_text(is_linked: bool, lost: &LostStatus) -> String {
    let back = if is_linked { ", back with its journal" } else { "" };
    format!("lost{back}, {} in doubt", thousands(lost.in_doubt))
}

/// `cache-1 (seller 3)`, or `seller 3` where the name is not known.
fn named(what: &str, number: u32, name: Option<String>) -> String {
    match name {
        Some(name) => format!("{name} ({what} {number})"),
        None => format!("{what} {number}"),
    }
}

fn seller_text(seller: &SellerStatus, hub: Option<&HubStatus>, now_ms: u64) -> String {
    let state = match (&seller.address, seller.linked, seller.disk_full) {
        (None, ..) => "not selling".to_owned(),
        (Some(address), ..) if !seller.is_open => {
            format!("on {address}, sells nothing: it goes offline, was declared lost, or has left")
        }
        (Some(address), true, false) => format!("selling on {address}"),
        (Some(address), false, false) => {
            format!("selling on {address}; the hub, or the server that it is below, does not answer")
        }
        (Some(address), _, true) => format!("on {address}; the disk is full"),
    };
    let nodes = hub.iter().flat_map(|hub| &hub.nodes);
    let known = nodes.filter(|node| node.seller == seller.seller).map(|node| node.name.clone()).next();
    let mut text = format!("  {}, {state}\n", named("seller", seller.seller, known));
    let rows = [
        (
            "terminals",
            format!(
                "{} logged in, {} connections, {} requests in flight, {} logins since the start",
                thousands(seller.sessions),
                thousands(seller.connections as u64),
                thousands(seller.in_flight),
                thousands(seller.logins)
            ),
        ),
        (
            "answers",
            format!(
                "{} sold, {} declined, {} later",
                thousands(seller.answered_sold),
                thousands(seller.answered_declined),
                thousands(seller.answered_later)
            ),
        ),
        (
            "sales",
            match seller.hit_rate() {
                None => "none since the start".to_owned(),
                Some(rate) => format!(
                    "{} since the start, hit rate {:.1} %: {} waited for a PIN",
                    thousands(seller.sales),
                    rate * 100.0,
                    thousands(seller.sales_waited)
                ),
            },
        ),
        (
            "journal",
            format!(
                "durable to {}, {} of it not yet at the hub",
                thousands(seller.journal_durable),
                thousands(seller.journal_durable.saturating_sub(seller.journal_acknowledged))
            ),
        ),
        ("unreported", unreported(seller, now_ms)),
    ];
    for (name, value) in rows {
        text.push_str(&format!("    {name:<10} {value}\n"));
    }
    if let Some(links) = &seller.links {
        let relays = match seller.carriers {
            0 => String::new(),
            carriers => format!(", {carriers} connections of relays"),
        };
        text.push_str(&format!("    {:<10} nodes connect to {links}{relays}\n", "below"));
    }
    for below in &seller.below {
        let state = match below {
            BelowStatus { closed: true, .. } => "has left",
            BelowStatus { lost: true, .. } => "lost",
            BelowStatus { linked: false, .. } => "away",
            BelowStatus { draining: true, .. } => "draining",
            _ => "connected",
        };
        let (on_hand, in_transfer) = (thousands(below.on_hand), thousands(below.in_transfer));
        let name = format!("{} {}", below.seller, below.name);
        text.push_str(&format!("    {:<10} {name}: {state}, has {on_hand}, {in_transfer} in transfer\n", ""));
    }
    text.push('\n');
    text
}
