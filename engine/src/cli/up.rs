//! `pinwheel up`.

use super::office::{Caller, fatal, note};
use super::running::{connections_max, default_workers, listen, prepare, run};
use super::screen::{say, say_json, table, thousands};
use super::{DATA, Exit, UpArgs, clock, files, random, sample};
use crate::network::{Office, Options, Selling, Status};
use crate::policy::Levels;
use crossbeam::channel::Receiver;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Runs a network until it is told to stop.
pub(super) fn up(caller: &Caller, args: &UpArgs) -> Result<(), Exit> {
    let UpArgs { listen: first, servers, workers, clear, low, target, empty, segment_mib } = *args;
    if clear && !first.ip().is_loopback() {
        return Err(Exit::usage("--clear shows PINs to the network: it is for loopback addresses only"));
    }
    let levels = Levels::new(low.into(), target.into(), u64::from(target) * 2)
        .map_err(|_| Exit::usage("--low is at most --target, and --target at least 1"))?;
    let data = &caller.data;
    prepare(Some(data))?;
    let workers = workers.map_or_else(|| default_workers(servers.into()), usize::from);
    let connections_max = connections_max() / usize::from(servers);
    let mut selling = Vec::new();
    let mut addresses = Vec::new();
    for server in 0..servers {
        let port = match first.port() {
            0 => 0,
            port => port.checked_add(server).ok_or_else(|| Exit::usage("there are no more ports"))?,
        };
        let (listener, address) = listen(SocketAddr::new(first.ip(), port))?;
        addresses.push(address);
        let levels = levels.into();
        selling.push(Selling { listener, links: None, clear, workers, connections_max, levels });
    }
    let segment_bytes = u64::from(segment_mib) << 20;
    let options = Options::whole(data, selling, segment_bytes, clock, random, fatal);
    let options = options.map_err(Exit::unreachable)?;
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
    run(options, addresses.first().copied(), begin, |office, stopped| {
        if let Some(status) = await_stock(office, stopped) {
            greet(caller, &addresses, &status);
            let _ = stopped.recv();
        }
    })
}

/// Waits until what the hub can give has arrived at the seller, for a moment; `None` when it is told to stop first.
fn await_stock(office: &Office, stopped: &Receiver<()>) -> Option<Status> {
    let mut tries = 0;
    loop {
        let status = office.status().ok();
        let is_stocked = status.as_ref().is_some_and(|status| {
            let is_linked = status.sellers.iter().all(|seller| seller.linked);
            is_linked && status.varieties.iter().all(|v| v.sellable > 0 || v.hub + v.in_transfer == 0)
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

fn greet(caller: &Caller, addresses: &[SocketAddr], status: &Status) {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if caller.json {
        return say_json(&serde_json::json!({
            "address": addresses[0],
            "addresses": addresses,
            "pid": status.pid,
            "data": caller.data,
        }));
    }
    let rows: Vec<_> = status
        .varieties
        .iter()
        .map(|variety| vec![variety.code.clone(), thousands(variety.sellable)])
        .collect();
    let mut text = format!(
        "\n  Selling on {}. Data in {}. End with Ctrl-C.\n\n",
        addresses.join(" and "),
        caller.data.display()
    );
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
