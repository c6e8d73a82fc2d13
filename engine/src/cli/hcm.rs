//! `pinwheel hcm`: a host connection manager in a process of its own.

use super::config::{HCM_EXAMPLE, HcmConfig, RelayConfig, read, read_token};
use super::nodes::sell;
use super::office::Caller;
use super::running::{connections_max, listen_on, prepare, watch_signals};
use super::screen::{say, say_json};
use super::{Exit, NodeArgs, clock, random};
use crate::admin::{Reply, Request, serve_with};
use crate::limits::RELAY_CONNECTIONS_PER_SOURCE_MAX;
use crate::net::relay::{RelayLimits, RelayOptions};
use crate::network::{RelayDesk, RelayNode, RelayNodeOptions};
use crossbeam::channel::{Sender, bounded};
use std::path::Path;
use wire::message::Addresses;

/// Runs a host connection manager until it is told to stop.
pub(super) fn hcm(caller: &Caller, args: &NodeArgs) -> Result<(), Exit> {
    let Some(path) = &args.config else {
        say(HCM_EXAMPLE);
        return Ok(());
    };
    match read::<HcmConfig>(path)? {
        (HcmConfig::Relay(config), base) => relay(caller, config, &base),
        (HcmConfig::Cache(config), base) => sell(caller, config, &base),
    }
}

fn relay(caller: &Caller, config: RelayConfig, base: &Path) -> Result<(), Exit> {
    let run_dir = match (caller.named, config.run_dir) {
        (true, _) => Some(caller.data.clone()),
        (false, configured) => configured.map(|configured| base.join(configured)),
    };
    prepare(run_dir.as_deref())?;
    let path = base.join(&config.token_file);
    let token = read_token(&path)?;
    let token = token.ok_or_else(|| {
        let path = path.display();
        Exit::unreachable(format!(
            "there is no {path}: a relay keeps nothing, and needs its join token at every start"
        ))
    })?;
    let (listener, address) = listen_on(config.listen, config.listen_device.as_deref())?;
    let most = connections_max();
    let limits = RelayLimits {
        connections_max: config.connections_max.map_or(most, |wanted| wanted.min(most)),
        connections_per_source_max: config
            .connections_per_source_max
            .unwrap_or(RELAY_CONNECTIONS_PER_SOURCE_MAX),
    };
    let (server_device, server_source) = (config.server_device, config.server_source);
    let others = Addresses::of(config.others.iter().copied());
    let relay =
        RelayOptions { server_device, server_source, others, limits, ..RelayOptions::new(config.servers) };
    let options = RelayNodeOptions { listener, token, relay, run_dir: run_dir.clone(), clock, random };
    let node = RelayNode::start(options).map_err(Exit::unreachable)?;
    let (stop, stopped) = bounded(1);
    watch_signals(stop.clone())?;
    if let Some(run_dir) = &run_dir {
        answer_operators(run_dir, node.desk().clone(), stop)?;
    }
    if caller.json {
        let (address, pid) = (address.to_string(), std::process::id());
        say_json(&serde_json::json!({ "address": address, "pid": pid, "run_dir": run_dir }));
    } else {
        say(&format!("\n  Terminals connect to {address}. Nothing is kept here. End with Ctrl-C.\n\n"));
    }
    let _ = stopped.recv();
    tracing::info!("stopping");
    node.stop();
    tracing::info!("stopped");
    Ok(())
}

fn answer_operators(run_dir: &Path, desk: RelayDesk, stop: Sender<()>) -> Result<(), Exit> {
    let answer = move |request| match request {
        Request::Status => Reply::Status(Box::new(desk.status())),
        Request::Stop => {
            // It may be ending already.
            let _ = stop.try_send(());
            Reply::Stopping
        }
        _ => {
            Reply::No { reason: "a relay keeps nothing: ask at the hub's data directory (--data)".to_owned() }
        }
    };
    serve_with(run_dir, move |request, _, _| answer(request)).map_err(|error| {
        Exit::unreachable(format!("cannot listen for commands in {}: {error}", run_dir.display()))
    })
}
