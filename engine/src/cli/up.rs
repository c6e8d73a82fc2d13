//! `pinwheel up`.

use super::office::{Caller, fatal, note};
use super::screen::{complain, say, say_json, table, thousands};
use super::{DATA, Exit, UpArgs, clock, code, files, random, sample};
use crate::admin::{Reply, Request, Site, ask, serve};
use crate::limits::CONNECTIONS_MAX;
use crate::net::listen;
use crate::network::{Network, Office, Options, Selling, Status};
use crate::policy::Levels;
use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Runs a network until it is told to stop.
pub(super) fn up(caller: &Caller, args: &UpArgs) -> Result<(), Exit> {
    let UpArgs { listen: address, workers, clear, low, target, empty, segment_mib } = *args;
    if clear && !address.ip().is_loopback() {
        return Err(Exit::usage("--clear shows PINs to the network: it is for loopback addresses only"));
    }
    let levels = Levels::new(low.into(), target.into(), u64::from(target) * 2)
        .map_err(|_| Exit::usage("--low is at most --target, and --target at least 1"))?;
    stop_on_panic();
    let data = &caller.data;
    if let Ok(Reply::Status(status)) = ask(data, &Request::Status, None, drop) {
        let (data, pid) = (data.display(), status.pid);
        return Err(Exit::unreachable(format!("{data} is in use by process {pid}, which sells already")));
    }
    let listener =
        listen(address).map_err(|error| Exit::unreachable(format!("cannot listen on {address}: {error}")))?;
    let address = listener.local_addr().map_err(Exit::unreachable)?;
    let workers = workers.map_or_else(default_workers, usize::from);
    let selling =
        Selling { listener, clear, workers, connections_max: connections_max(), levels: levels.into() };
    let segment_bytes = u64::from(segment_mib) << 20;
    let options = Options { data: data.clone(), selling: Some(selling), segment_bytes, clock, random, fatal };
    let network = Network::start(options).map_err(Exit::unreachable)?;
    let (stop, stopped) = bounded(1);
    watch_signals(stop.clone())?;
    let site = Site { address: Some(address), stop: Some(stop) };
    if !empty && !files::begun_path(data).exists() {
        if !caller.json {
            note("first start: making sample varieties, terminals and stock …");
        }
        sample::fill(data, network.office(), clock().unix_ms)?;
    }
    let unwritable = |path: &Path, error: io::Error| format!("cannot write {}: {error}", path.display());
    let begun = files::begun_path(data);
    if !begun.exists() {
        files::replace(&begun, "").map_err(|error| Exit::unreachable(unwritable(&begun, error)))?;
    }
    let path = files::address_path(data);
    match files::replace(&path, &format!("{address}\n")) {
        // Selling does not depend on it: `buy` can be told where to connect.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            tracing::warn!("{}", unwritable(&path, error));
        }
        written => written.map_err(|error| Exit::unreachable(unwritable(&path, error)))?,
    }
    serve(data, network.office().clone(), site).map_err(|error| {
        Exit::unreachable(format!("cannot listen for commands in {}: {error}", data.display()))
    })?;
    if let Some(status) = await_stock(network.office(), &stopped) {
        greet(caller, address, &status);
        let _ = stopped.recv();
    }
    tracing::info!("stopping");
    network.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Waits until what the hub can give has arrived at the seller, for a moment; `None` when it is told to stop first.
fn await_stock(office: &Office, stopped: &Receiver<()>) -> Option<Status> {
    let mut tries = 0;
    loop {
        let status = office.status().ok();
        let is_stocked = status.as_ref().is_some_and(|status| {
            status.linked && status.varieties.iter().all(|v| v.sellable > 0 || v.hub + v.in_transfer == 0)
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

fn greet(caller: &Caller, address: SocketAddr, status: &Status) {
    if caller.json {
        return say_json(&serde_json::json!({
            "address": address.to_string(),
            "pid": status.pid,
            "seller": status.seller,
            "data": caller.data,
        }));
    }
    let rows: Vec<_> = status
        .varieties
        .iter()
        .map(|variety| vec![variety.code.clone(), thousands(variety.sellable)])
        .collect();
    let mut text =
        format!("\n  Selling on {address}. Data in {}. End with Ctrl-C.\n\n", caller.data.display());
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

fn watch_signals(stop: Sender<()>) -> Result<(), Exit> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Exit::unreachable)?;
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            if count > 0 {
                // Asked twice: at once. Nothing depends on a good end.
                std::process::exit(i32::from(code::STOPPED));
            }
            let _ = stop.try_send(());
        }
    });
    Ok(())
}

/// A mistake in this program must not leave half of it running.
fn stop_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        complain(&format!("a mistake in this program: {panic}"));
        std::process::exit(i32::from(code::BUG));
    }));
}

fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.saturating_sub(1).clamp(1, WORKERS_MAX)
}

/// As many as the open files that the system allows leave room for, once the limit is as high as this user may set it.
fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    files.saturating_sub(FILES_RESERVED).clamp(1, CONNECTIONS_MAX)
}

/// Open files for everything that is not a connection.
const FILES_RESERVED: usize = 256;
const WORKERS_MAX: usize = 64;
const STOCK_TRY: Duration = Duration::from_millis(50);
const STOCK_TRIES: usize = 200;
