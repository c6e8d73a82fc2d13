//! `pinwheel hub` and `pinwheel server`: one node in a process of its own.

use super::config::{HUB_EXAMPLE, HubConfig, SERVER_EXAMPLE, ServerConfig, read};
use super::office::{Caller, fatal};
use super::running::{connections_max, default_workers, listen, prepare, run};
use super::screen::{say, say_json};
use super::{Exit, NodeArgs, clock, random};
use crate::network::{HubOptions, Options, SellerOptions, Selling, Upstream};
use crate::steward::LevelRules;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::message::Addresses;

/// Runs a hub until it is told to stop.
pub(super) fn hub(caller: &Caller, args: &NodeArgs) -> Result<(), Exit> {
    let Some(path) = &args.config else {
        say(HUB_EXAMPLE);
        return Ok(());
    };
    let (config, base) = read::<HubConfig>(path)?;
    let data = caller.directory(&base, &config.data);
    prepare(Some(&data))?;
    let (links, address) = listen(config.listen)?;
    let bulk_bytes_per_s = (config.bulk_mib_per_s > 0).then(|| u64::from(config.bulk_mib_per_s) << 20);
    let hub = Some(HubOptions { data: data.clone(), links: Some(links), bulk_bytes_per_s });
    let options = Options { data: data.clone(), hub, sellers: Vec::new(), relay: None, clock, random, fatal };
    run(
        options,
        None,
        |_| Ok(()),
        |_, stopped| {
            caller.is_running("Servers connect to", address, &data);
            let _ = stopped.recv();
        },
    )
}

/// Runs a server until it is told to stop.
pub(super) fn server(caller: &Caller, args: &NodeArgs) -> Result<(), Exit> {
    let Some(path) = &args.config else {
        say(SERVER_EXAMPLE);
        return Ok(());
    };
    let (config, base) = read::<ServerConfig>(path)?;
    sell(caller, config, &base)
}

/// Runs a seller until it is told to stop: a server, or a cache below one.
pub(super) fn sell(caller: &Caller, config: ServerConfig, base: &Path) -> Result<(), Exit> {
    let others = Addresses::of(config.others.iter().copied());
    let data = caller.directory(base, &config.data);
    prepare(Some(&data))?;
    let token = config.token(base)?;
    let (listener, address) = listen(config.listen)?;
    let links = config.links.map(listen).transpose()?.map(|(links, _)| links);
    let workers = match config.workers {
        0 => default_workers(1),
        workers => usize::from(workers),
    };
    let levels = LevelRules { every: config.levels, by_code: config.variety_levels, auto: config.auto };
    let (clear, connections_max) = (config.clear, connections_max());
    let selling = Selling { listener, others, links, clear, workers, connections_max, levels };
    let seller = SellerOptions {
        data: data.clone(),
        upstream: Upstream::At { addresses: config.hub, token },
        selling: Some(selling),
        segment_bytes: u64::from(config.segment_mib) << 20,
        unreported_alarm_s: config.unreported_alarm_s,
    };
    let options =
        Options { data: data.clone(), hub: None, sellers: vec![seller], relay: None, clock, random, fatal };
    run(
        options,
        Some(address),
        |_| Ok(()),
        |_, stopped| {
            caller.is_running("Terminals connect to", address, &data);
            let _ = stopped.recv();
        },
    )
}

impl Caller {
    /// The data directory of a node: the one of the command line, or else the configuration's.
    fn directory(&self, base: &Path, configured: &Path) -> PathBuf {
        if self.named { self.data.clone() } else { base.join(configured) }
    }

    fn is_running(&self, what: &str, address: SocketAddr, data: &Path) {
        if self.json {
            let pid = std::process::id();
            say_json(&serde_json::json!({ "address": address.to_string(), "pid": pid, "data": data }));
        } else {
            say(&format!("\n  {what} {address}. Data in {}. End with Ctrl-C.\n\n", data.display()));
        }
    }
}
