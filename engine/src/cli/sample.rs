//! What a new data directory is filled with, so that there is something to sell at once.
//!
//! Every step looks at what is there first: a first start that was killed is taken up where it was.

use super::{Exit, files};
use crate::admin::{MintOrder, Reply, Request, Site, VarietyRow, answer};
use crate::network::Office;
use std::collections::BTreeSet;
use std::path::Path;

/// Fills a new data directory.
pub(super) fn fill(data: &Path, office: &Office, unix_ms: u64) -> Result<(), Exit> {
    let site = Site { stop: None };
    let ask = |request| match answer(request, office, &site, &mut std::io::empty(), &mut |_| Ok(())) {
        Reply::No { reason } => Err(Exit::unreachable(format!("the first start failed: {reason}"))),
        reply => Ok(reply),
    };
    let registry = office.registry().map_err(Exit::unreachable)?;
    if registry.dealers().len() == 0 {
        ask(Request::AddDealer { name: "Corner shop".to_owned() })?;
    }
    for variety in varieties() {
        if registry.variety_by_code(&variety.code).is_none() {
            ask(Request::AddVariety(variety))?;
        }
    }
    let path = files::terminals_path(data);
    if !path.exists() {
        let mut keys = Vec::new();
        let mut take = |reply| match reply {
            Reply::Keys { keys: new } => keys.extend(new),
            other => unreachable!("new keys are answered by them, not {other:?}"),
        };
        if registry.terminals().is_empty() {
            take(ask(Request::AddTerminals { count: TERMINALS, ids: Vec::new(), dealer: 1 })?);
        }
        // Their keys were not shown to anyone yet.
        for terminal in registry.terminals() {
            take(ask(Request::Rekey { terminal: terminal.id.0 })?);
        }
        let written = files::replace(&path, &files::keys_csv(&keys));
        written.map_err(|error| Exit::unreachable(format!("cannot write {}: {error}", path.display())))?;
    }
    let status = office.status().map_err(Exit::unreachable)?;
    let stocked: BTreeSet<_> =
        status.varieties.iter().filter(|variety| variety.received > 0).map(|v| v.code.as_str()).collect();
    let year = 1970 + u32::try_from(unix_ms / YEAR_MS).unwrap_or(0);
    for variety in varieties().filter(|variety| !stocked.contains(variety.code.as_str())) {
        let (length, letters, check, expires) = match variety.product {
            AIRTIME => (16, false, true, true),
            POWER => (20, false, false, false),
            _ => (10, true, false, true),
        };
        let expiry = if expires { (year + 2) * 10_000 + 1231 } else { 0 };
        let order = MintOrder { variety: variety.code, count: STOCK, length, letters, check, expiry };
        ask(Request::Mint(order))?;
    }
    Ok(())
}

/// Three products in several denominations.
fn varieties() -> impl Iterator<Item = VarietyRow> {
    let airtime = "Dial *100*PIN# and press call.\nAirtime does not expire once loaded.";
    let power = "Enter the 20 digits on your meter\nand press the blue key.";
    let hotspot = "Join the network Pinwheel and\nenter this code on the first page.";
    let rows = [
        ("airtime-za-10", AIRTIME, 1_000, "ZAR", "Blue Cell airtime", airtime),
        ("airtime-za-50", AIRTIME, 5_000, "ZAR", "Blue Cell airtime", airtime),
        ("airtime-za-100", AIRTIME, 10_000, "ZAR", "Blue Cell airtime", airtime),
        ("power-ke-200", POWER, 20_000, "KES", "Electricity token", power),
        ("power-ke-1000", POWER, 100_000, "KES", "Electricity token", power),
        ("hotspot-1h", HOTSPOT, 100, "EUR", "Hotspot, one hour", hotspot),
        ("hotspot-24h", HOTSPOT, 500, "EUR", "Hotspot, one day", hotspot),
    ];
    rows.into_iter().map(|(code, product, face_value, currency, name, receipt)| VarietyRow {
        id: 0,
        code: code.to_owned(),
        product,
        face_value,
        currency: currency.to_owned(),
        currency_digits: 2,
        name: name.to_owned(),
        receipt: receipt.to_owned(),
        minimum_life_days: if product == POWER { 0 } else { 30 },
    })
}

const AIRTIME: u32 = 1001;
const POWER: u32 = 2001;
const HOTSPOT: u32 = 3001;
/// Sample terminals.
const TERMINALS: u32 = 8;
/// Sample PINs of each variety.
const STOCK: u32 = 50_000;
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000 + 6 * 60 * 60 * 1000;
