//! `pinwheel up`.

use super::office::{Caller, fatal, note};
use super::running::{connections_max, default_workers, listen, prepare, run};
use super::screen::{say, say_json, table, thousands};
use super::{DATA, Exit, UpArgs, clock, files, random, sample};
use crate::net::relay::{RelayLimits, RelayOptions};
use crate::network::{Office, Options, Selling, Status, VarietyStatus};
use crate::policy::Levels;
use crossbeam::channel::Receiver;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use wire::message::Addresses;

/// Runs a network until it is told to stop.
pub(super) fn up(caller: &Caller, args: &UpArgs) -> Result<(), Exit> {
    let UpArgs { listen: first, servers, no_managers, workers, clear, empty, segment_mib, .. } = *args;
    if clear && !first.ip().is_loopback() {
        return Err(Exit::usage("--clear shows PINs to the network: it is for loopback addresses only"));
    }
    let data = &caller.data;
    prepare(Some(data))?;
    let places = Place::listen(first, servers, !no_managers)?;
    let connections_max = connections_max() / places.len();
    let workers = workers.map_or_else(|| default_workers(places.len()), usize::from);
    let addresses: Vec<_> = places.iter().map(|place| (place.name.clone(), place.address)).collect();
    let others = |of: SocketAddr| Addresses::of(addresses.iter().map(|(_, at)| *at).filter(|at| *at != of));
    let mut selling = Vec::new();
    let mut links = Vec::new();
    let (mut cache, mut relay) = (None, None);
    for Place { kind, listener, address, .. } in places {
        let others = others(address);
        if kind == Kind::Relay {
            relay = Some((listener, others));
            continue;
        }
        let own_links = (kind == Kind::Server).then(|| listen((first.ip(), 0).into())).transpose()?;
        let (own_links, at) = own_links.unzip();
        links.extend(at);
        let levels = levels(args, kind)?.into();
        let seller = Selling { listener, others, links: own_links, clear, workers, connections_max, levels };
        match kind {
            Kind::Cache => cache = Some(seller),
            _ => selling.push(seller),
        }
    }
    let segment_bytes = u64::from(segment_mib) << 20;
    let options = Options::whole(data, selling, segment_bytes, clock, random, fatal);
    let mut options = options.map_err(Exit::unreachable)?;
    if let (Some(cache), Some((listener, others))) = (cache, relay) {
        let limits = RelayLimits { connections_max, ..RelayLimits::default() };
        let servers = links.iter().map(ToString::to_string).collect();
        options = options.with_managers(
            cache,
            listener,
            RelayOptions { others, limits, ..RelayOptions::new(servers) },
        );
    }
    let begin = |office: &Office| {
        let begun = files::begun_path(data);
        if begun.exists() {
            return Ok(());
        }
        if !empty {
            if !caller.json {
                note("first start: making sample varieties, terminals and stock …");
            }
            sample::fill(data, office, clock().unix_ms)?;
        }
        files::replace(&begun, "")
            .map_err(|error| Exit::unreachable(format!("cannot write {}: {error}", begun.display())))
    };
    let first = addresses.first().map(|(_, address)| *address);
    run(options, first, begin, |office, stopped| {
        if let Some(status) = await_stock(office, stopped) {
            greet(caller, &addresses, &links, &status);
            let _ = stopped.recv();
        }
    })
}

/// What listens where.
struct Place {
    kind: Kind,
    name: String,
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Relay,
    Cache,
}

impl Place {
    /// Servers, and then the managers if there are any: each has the port that follows.
    fn listen(first: SocketAddr, servers: u16, managers: bool) -> Result<Vec<Self>, Exit> {
        let mut all: Vec<_> = (1..=servers).map(|at| (Kind::Server, format!("server-{at}"))).collect();
        if managers {
            all.extend([(Kind::Relay, "relay-1".to_owned()), (Kind::Cache, "cache-1".to_owned())]);
        }
        let place = |(at, (kind, name)): (u16, (Kind, String))| {
            let port = match first.port() {
                0 => 0,
                port => port.checked_add(at).ok_or_else(|| Exit::usage("there are no more ports"))?,
            };
            let (listener, address) = listen(SocketAddr::new(first.ip(), port))?;
            Ok(Self { kind, name, listener, address })
        };
        (0..).zip(all).map(place).collect()
    }
}

/// The marks of a server, or of a cache, which wants a fifth of it.
fn levels(args: &UpArgs, kind: Kind) -> Result<Levels, Exit> {
    let (low, target) = match kind {
        Kind::Cache => (args.low / 5, (args.target / 5).max(1)),
        _ => (args.low, args.target),
    };
    Levels::new(low.into(), target.into(), u64::from(target) * 2)
        .map_err(|_| Exit::usage("--low is at most --target, and --target at least 1"))
}

/// Waits until what the hub can give has arrived at the sellers and the relay has a server, for a moment; `None` when it is told to
/// stop first.
fn await_stock(office: &Office, stopped: &Receiver<()>) -> Option<Status> {
    let mut tries = 0;
    loop {
        let status = office.status().ok();
        let is_stocked = status.as_ref().is_some_and(|status| {
            let is_linked = status.sellers.iter().all(|seller| seller.linked);
            let is_relayed = status.relay.as_ref().is_none_or(|relay| relay.server.is_some());
            let is_there = |v: &VarietyStatus| v.sellable > 0 || v.hub + v.in_transfer == 0;
            is_linked && is_relayed && status.varieties.iter().all(is_there)
        });
        tries += 1;
        if is_stocked || tries > STOCK_TRIES {
            return status;
        }
        if stopped.recv_timeout(STOCK_TRY).is_ok() {
            return None;
        }
    }
}

fn greet(caller: &Caller, addresses: &[(String, SocketAddr)], links: &[SocketAddr], status: &Status) {
    if caller.json {
        let named: BTreeMap<_, _> = addresses.iter().map(|(name, at)| (name, at.to_string())).collect();
        let texts =
            |all: &mut dyn Iterator<Item = &SocketAddr>| all.map(ToString::to_string).collect::<Vec<_>>();
        return say_json(&serde_json::json!({
            "address": addresses.first().map(|(_, address)| address.to_string()),
            "addresses": texts(&mut addresses.iter().map(|(_, address)| address).take(links.len())),
            "names": named,
            "links": texts(&mut links.iter()),
            "pid": status.pid,
            "data": caller.data,
        }));
    }
    let mut text = format!("\n  Selling. Data in {}. End with Ctrl-C.\n\n", caller.data.display());
    let what = |name: &str| match name {
        "relay-1" => "carries sessions to a server",
        "cache-1" => "sells from a stock of its own, which server-1 fills",
        _ => "",
    };
    let rows: Vec<_> = addresses
        .iter()
        .map(|(name, address)| vec![name.clone(), address.to_string(), what(name).to_owned()])
        .collect();
    text.push_str(&table(&["terminals connect to", "at", ""], &rows));
    text.push('\n');
    let rows: Vec<_> = status
        .varieties
        .iter()
        .map(|variety| vec![variety.code.clone(), thousands(variety.sellable)])
        .collect();
    text.push_str(&table(&["variety", ">ready to sell"], &rows));
    let (first, own) = (status.varieties.first().map(|v| v.code.as_str()), invocation(&caller.data));
    text.push_str("\n  Now, in another terminal:\n\n");
    let buy = first.map_or_else(|| "variety add --help".to_owned(), |code| format!("buy --variety {code}"));
    for command in [buy.as_str(), "status", "audit"] {
        text.push_str(&format!("    {own} {command}\n"));
    }
    text.push('\n');
    say(&text);
}

/// How this program was called, so that it can say what to type next.
fn invocation(data: &Path) -> String {
    let mut own = if std::env::var_os("CARGO").is_some() {
        "cargo run --release --bin pinwheel --".to_owned()
    } else {
        std::env::args().next().unwrap_or_else(|| "pinwheel".to_owned())
    };
    if data != Path::new(DATA) {
        own.push_str(&format!(" --data {}", data.display()));
    }
    own
}

const STOCK_TRY: Duration = Duration::from_millis(50);
const STOCK_TRIES: usize = 200;
