//! What every process that runs on has in common: it starts, answers its operators, and ends when it is told to.

use super::screen::complain;
use super::{Exit, code, files};
use crate::admin::{Reply, Request, Site, ask, serve};
use crate::limits::CONNECTIONS_MAX;
use crate::network::{Network, Office, Options};
use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Runs nodes until they are told to stop. `begin` comes before operators can ask, `greet` after; it returns when
/// the process is to end.
pub(super) fn run(
    options: Options,
    address: Option<SocketAddr>,
    begin: impl FnOnce(&Office) -> Result<(), Exit>,
    greet: impl FnOnce(&Office, &Receiver<()>),
) -> Result<(), Exit> {
    let data = options.data.clone();
    let network = Network::start(options).map_err(Exit::unreachable)?;
    let (stop, stopped) = bounded(1);
    watch_signals(stop.clone())?;
    begin(network.office())?;
    if let Some(address) = address {
        let path = files::address_path(&data);
        let unwritable = |error: io::Error| format!("cannot write {}: {error}", path.display());
        match files::replace(&path, &format!("{address}\n")) {
            // Selling does not depend on it: `buy` can be told where to connect.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                tracing::warn!("{}", unwritable(error));
            }
            written => written.map_err(|error| Exit::unreachable(unwritable(error)))?,
        }
    }
    serve(&data, network.office().clone(), Site { stop: Some(stop) }).map_err(|error| {
        Exit::unreachable(format!("cannot listen for commands in {}: {error}", data.display()))
    })?;
    greet(network.office(), &stopped);
    tracing::info!("stopping");
    network.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Before anything is started: a mistake in this program must not leave half of it running, and nothing may run there yet.
pub(super) fn prepare(data: Option<&Path>) -> Result<(), Exit> {
    std::panic::set_hook(Box::new(|panic| {
        complain(&format!("a mistake in this program: {panic}"));
        std::process::exit(i32::from(code::BUG));
    }));
    if let Some(data) = data
        && let Ok(Reply::Status(status)) = ask(data, &Request::Status, None, drop)
    {
        let (data, pid) = (data.display(), status.pid);
        return Err(Exit::unreachable(format!("{data} is in use by process {pid}, which runs already")));
    }
    Ok(())
}

/// Listens for terminals or for nodes.
pub(super) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Exit> {
    listen_on(address, None)
}

/// The same on one network device, if one is named.
pub(super) fn listen_on(
    address: SocketAddr,
    device: Option<&str>,
) -> Result<(TcpListener, SocketAddr), Exit> {
    let on = device.map_or_else(String::new, |device| format!(" on {device}"));
    let failed = |error| Exit::unreachable(format!("cannot listen on {address}{on}: {error}"));
    let listener = crate::net::listen_on(address, device).map_err(failed)?;
    let address = listener.local_addr().map_err(Exit::unreachable)?;
    Ok((listener, address))
}

/// One worker for each core but one, shared by so many sellers.
pub(super) fn default_workers(sellers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores.saturating_sub(1) / sellers.max(1)).clamp(1, DEFAULT_WORKERS_MAX)
}

/// As many as the open files that the system allows leave room for, once the limit is as high as this user may set it.
pub(super) fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    files.saturating_sub(FILES_RESERVED).clamp(1, CONNECTIONS_MAX)
}

pub(super) fn watch_signals(stop: Sender<()>) -> Result<(), Exit> {
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

/// Open files for everything that is not a connection.
const FILES_RESERVED: usize = 256;
const DEFAULT_WORKERS_MAX: usize = 64;
