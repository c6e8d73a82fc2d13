//! A hub, a server and a host connection manager as processes.

use benches::client::Measured;
use benches::network::{Sales, add_terminals, command, done, furnish, mint, terminal_keys, wait_for};
use benches::process::{Child, Result};
use engine::admin::{KeyRow, Reply, Request};
use engine::registry::State;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A running network with one host connection manager.
pub(crate) struct Site {
    folder: PathBuf,
    pub(crate) server: Child,
    pub(crate) manager: Child,
    _hub: Child,
}

/// What the host connection manager is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Relay,
    Cache,
}

impl Site {
    /// Starts one with so many terminals and PINs; a cache takes half of them.
    pub(crate) fn start(folder: &Path, kind: Kind, terminals: usize, stock: u32) -> Result<Self> {
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text);
        write("hub.toml", "data = \"hub\"\nlisten = \"127.0.0.1:0\"\nbulk_mib_per_s = 0\n".to_owned())?;
        let hub = node(folder, "hub", &["hub"])?;
        let hub_data = folder.join("hub");
        furnish(&hub_data, &[("limits", 1)])?;
        add_terminals(&hub_data, terminals, &folder.join("terminals.csv"))?;
        let is_relay = kind == Kind::Relay;
        let above = (!is_relay).then(|| "server".to_owned());
        for (name, below, relay) in [("server", None, false), (MANAGER, above, is_relay)] {
            let added = done(&hub_data, &Request::AddNode { name: name.to_owned(), below, relay })?;
            let Reply::Node { token, .. } = added else { return Err("no token".into()) };
            write(&format!("{name}.token"), token)?;
        }
        let levels = |low: u32, target: u32| {
            format!("{{ low = {low}, target = {target}, high = {} }}", 2 * u64::from(stock))
        };
        // What is above its low mark a server gives to a cache.
        let given = stock / 2;
        let own_levels = levels(if is_relay { stock } else { given }, stock);
        write(
            "server.toml",
            format!(
                "data = \"server\"\nlisten = \"127.0.0.1:0\"\nlinks = \"127.0.0.1:0\"\nhub = [\"{}\"]\n\
                 token_file = \"server.token\"\nworkers = 1\nlevels = {own_levels}\n",
                hub.address
            ),
        )?;
        let server = node(folder, "server", &["server"])?;
        mint(&hub_data, "limits", stock, 0)?;
        let data = folder.join("server");
        wait_for(&data, "stock", |status| {
            status.varieties.iter().map(|variety| variety.sellable).sum::<u64>() >= u64::from(stock)
        })?;
        let links = benches::network::status(&data)?.sellers.first().and_then(|seller| seller.links.clone());
        let links = links.ok_or("the server takes no managers")?;
        let common = format!("listen = \"127.0.0.1:0\"\ntoken_file = \"{MANAGER}.token\"\n");
        let own = match kind {
            Kind::Relay => format!("mode = \"relay\"\nservers = [\"{links}\"]\nrun_dir = \"{MANAGER}\"\n"),
            Kind::Cache => format!(
                "mode = \"cache\"\ndata = \"{MANAGER}\"\nupstream = [\"{links}\"]\nworkers = 1\nlevels = {}\n",
                levels(given, given)
            ),
        };
        write(&format!("{MANAGER}.toml"), common + &own)?;
        let manager = node(folder, MANAGER, &["hcm"])?;
        match kind {
            Kind::Relay => wait_for(&data, "the relay", |status| status.sellers[0].carriers > 0)?,
            Kind::Cache => wait_for(&folder.join(MANAGER), "the cache's stock", |status| {
                status.varieties.iter().map(|variety| variety.sellable).sum::<u64>() >= u64::from(given)
            })?,
        };
        Ok(Self { folder: folder.to_owned(), server, manager, _hub: hub })
    }

    /// Has servers let the relay in, or not.
    pub(crate) fn let_in(&self, state: State) -> Result<()> {
        let name = MANAGER.to_owned();
        done(&self.folder.join("hub"), &Request::SetManager { name, state }).map(drop)
    }

    /// How many terminals are logged in at the server.
    pub(crate) fn sessions(&self) -> Result<u64> {
        Ok(benches::network::status(&self.folder.join("server"))?.sellers[0].sessions)
    }

    /// The terminals and their keys.
    pub(crate) fn keys(&self) -> Result<Vec<KeyRow>> {
        terminal_keys(&self.folder.join("terminals.csv"))
    }

    /// Sells for a time through `child`, sealed, one vend at a time on each connection; processor time is that of `child`.
    pub(crate) fn sell(
        &self,
        child: &Child,
        connections: usize,
        rate: Option<f64>,
        time: Duration,
    ) -> Result<Measured> {
        let (terminals, state) = (self.folder.join("terminals.csv"), self.folder.join("loadgen"));
        let (target, terminals, state) = (child.address.to_string(), terminals.as_path(), state.as_path());
        let (target, window, product) = (target.as_str(), 1, None);
        let is_clear = false;
        let sales = Sales { target, terminals, state, connections, window, rate, product, is_clear, time };
        benches::network::sell(child, &self.server, &sales)
    }
}

/// Starts a node on its configuration, free to use every core.
fn node(folder: &Path, name: &str, what: &[&str]) -> Result<Child> {
    let mut start = command(&folder.join(name))?;
    start.arg("--json").args(what).arg("--config").arg(folder.join(format!("{name}.toml")));
    let child = Child::start(start, |line| {
        let said: serde_json::Value = serde_json::from_str(line).ok()?;
        said["address"].as_str()?.parse().ok()
    })?;
    child.unpin();
    Ok(child)
}

const MANAGER: &str = "hcm";
