//! A hub and its servers as processes, and stock that is asked for and held back until it is to move.

use benches::network::{add_terminals, command, done, furnish, mint, status, variety_row, wait_for};
use benches::process::{Child, Result};
use engine::admin::{Reply, Request, VarietyRow};
use engine::network::Status;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A hub without a pace for bulk, with varieties `v1`, `v2` and so on, which are products 1, 2 and so on.
pub(crate) struct Site {
    folder: PathBuf,
    varieties: usize,
    pub(crate) hub: Child,
}

/// A server below it.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) data: PathBuf,
}

impl Site {
    /// Starts the hub.
    pub(crate) fn start(folder: &Path, varieties: usize) -> Result<Self> {
        let hub = start_hub(folder, "127.0.0.1:0", Some(0))?;
        let site = Self { folder: folder.to_owned(), varieties, hub };
        let codes: Vec<_> = (1..=varieties).map(|number| (code(number), number as u32)).collect();
        let codes: Vec<_> = codes.iter().map(|(code, product)| (code.as_str(), *product)).collect();
        furnish(&site.hub_data(), &codes)?;
        Ok(site)
    }

    /// Starts the hub again at the same address with another pace for bulk in MiB/s, 0: none, `None`: what hubs have by
    /// default.
    pub(crate) fn pace_hub(self, bulk_mib_per_s: Option<u32>) -> Result<Self> {
        let Self { folder, varieties, hub } = self;
        let address = hub.address.to_string();
        hub.end()?;
        let hub = start_hub(&folder, &address, bulk_mib_per_s)?;
        Ok(Self { folder, varieties, hub })
    }

    /// The hub's data directory.
    pub(crate) fn hub_data(&self) -> PathBuf {
        self.folder.join("hub")
    }

    /// Adds a node; its join token.
    pub(crate) fn admit(&self, name: &str) -> Result<String> {
        match done(&self.hub_data(), &Request::AddNode { name: name.to_owned(), relay: false })? {
            Reply::Node { token, .. } => Ok(token),
            other => Err(format!("a node was to be added: {other:?}").into()),
        }
    }

    /// Starts a server that wants so many PINs of every variety, with one worker.
    pub(crate) fn server(&self, name: &str, pins: u32) -> Result<Server> {
        std::fs::write(self.folder.join("token"), self.admit(name)?)?;
        let mut config =
            format!("data = {name:?}\nlisten = \"127.0.0.1:0\"\nhub = [\"{}\"]\n", self.hub.address);
        config.push_str("token_file = \"token\"\nworkers = 1\nclear = true\n");
        writeln!(config, "levels = {{ low = {pins}, target = {pins}, high = {pins} }}")?;
        let path = self.folder.join(format!("{name}.toml"));
        std::fs::write(&path, config)?;
        let data = self.folder.join(name);
        let mut start = command(&data)?;
        start.args(["--json", "server", "--config"]).arg(path);
        let server = Server { child: node(start)?, data };
        let varieties = self.varieties;
        wait_for(&server.data, "the registry", |status| status.varieties.len() == varieties)?;
        Ok(server)
    }

    /// Adds terminals and waits until a server knows them; the file with their keys.
    pub(crate) fn terminals(&self, count: usize, server: &Server) -> Result<PathBuf> {
        let file = self.folder.join("terminals.csv");
        add_terminals(&self.hub_data(), count, &file)?;
        wait_for(&server.data, "terminals", |status| status.terminals == count)?;
        Ok(file)
    }

    /// Issues PINs of a variety. When this returns the server has asked for all of them, and the hub may not give any yet:
    /// they expire too soon.
    pub(crate) fn hold(&self, variety: usize, pins: u32) -> Result<()> {
        self.set_life(variety, HELD_DAYS)?;
        mint(&self.hub_data(), &code(variety), pins, EXPIRY)?;
        self.hub.await_rest()?;
        crate::settle();
        Ok(())
    }

    /// Lets the hub give what it was asked for.
    pub(crate) fn release(&self, variety: usize) -> Result<Instant> {
        let start = Instant::now();
        self.set_life(variety, 0)?;
        Ok(start)
    }

    fn set_life(&self, variety: usize, minimum_life_days: u32) -> Result<()> {
        let row = VarietyRow { minimum_life_days, ..variety_row(&code(variety), variety as u32) };
        done(&self.hub_data(), &Request::Import { varieties: vec![row], dealers: Vec::new() })?;
        Ok(())
    }

    /// Puts that many PINs into a server; how long it took from the request to the last IN durable there.
    pub(crate) fn stock(&self, server: &Server, variety: usize, pins: u32) -> Result<f64> {
        self.hold(variety, pins)?;
        let start = self.release(variety)?;
        let end = server.await_stock(variety, pins)?;
        Ok(end.duration_since(start).as_secs_f64())
    }

    /// Law 1, for everything that was done.
    pub(crate) fn audit(&self) -> Result<()> {
        match done(&self.hub_data(), &Request::Audit)? {
            Reply::Audit { balanced: true, .. } => Ok(()),
            other => Err(format!("the books do not balance: {other:?}").into()),
        }
    }
}

impl Server {
    /// Waits until so many PINs of a variety are the server's, durably.
    pub(crate) fn await_stock(&self, variety: usize, pins: u32) -> Result<Instant> {
        wait_for(&self.data, "stock", |status| taken(status, variety) >= u64::from(pins))
    }

    /// PINs of a variety that became the server's, durably.
    pub(crate) fn taken(&self, variety: usize) -> Result<u64> {
        Ok(taken(&status(&self.data)?, variety))
    }
}

fn taken(status: &Status, variety: usize) -> u64 {
    let of = |row: &&engine::network::VarietyStatus| row.code == code(variety);
    status.varieties.iter().find(of).map_or(0, |row| row.at_seller + row.sold + row.withdrawn)
}

/// The code of a variety.
pub(crate) fn code(variety: usize) -> String {
    format!("v{variety}")
}

fn start_hub(folder: &Path, listen: &str, bulk_mib_per_s: Option<u32>) -> Result<Child> {
    let mut config = format!("data = \"hub\"\nlisten = \"{listen}\"\n");
    if let Some(pace) = bulk_mib_per_s {
        writeln!(config, "bulk_mib_per_s = {pace}")?;
    }
    let path = folder.join("hub.toml");
    std::fs::write(&path, config)?;
    let mut start = command(&folder.join("hub"))?;
    start.args(["--json", "hub", "--config"]).arg(path);
    node(start)
}

/// A node, free to use every core.
fn node(start: Command) -> Result<Child> {
    let child = Child::start(start, |line| {
        let said: serde_json::Value = serde_json::from_str(line).ok()?;
        said["address"].as_str()?.parse().ok()
    })?;
    child.unpin();
    Ok(child)
}

/// The last day of what is issued.
const EXPIRY: u32 = 20_991_231;
/// Longer than that lives.
const HELD_DAYS: u32 = 100_000;
