//! Hub and servers, each a process of its own.

use super::process::{PINWHEEL, Process};
use engine::admin::{KeyRow, Reply, Request, VarietyRow};
use engine::network::JoinToken;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where a network's nodes have their directories and configurations.
pub(crate) struct Site {
    directory: PathBuf,
    can_be_held: bool,
}

/// What a server's configuration says beside the necessary.
pub(crate) struct Settings {
    /// Low, target and high of every variety.
    pub(crate) levels: (u64, u64, u64),
    /// Size of a journal segment, when the journal is begun.
    pub(crate) segment_mib: u16,
    /// Where host connection managers connect.
    pub(crate) links: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { levels: (100, 500, 800), segment_mib: 1, links: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}

impl Site {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), can_be_held: false }
    }

    /// The same, whose processes can be stopped at a line of their logs.
    pub(crate) fn with_holds(directory: &Path) -> Self {
        Self { can_be_held: true, ..Self::new(directory) }
    }

    /// A node's data directory.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts the hub; its address is where servers connect.
    pub(crate) fn hub(&self) -> Process {
        self.try_hub().unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The same, with a dealer, so many terminals, and the variety `v1` with so many PINs.
    pub(crate) fn furnished_hub(&self, terminals: u32, pins: u32) -> (Process, Vec<KeyRow>) {
        let hub = self.hub();
        furnish(&hub, 1);
        let keys = hub.add_terminals(terminals);
        hub.mint("v1", pins);
        (hub, keys)
    }

    /// Starts the hub; what it left behind if it ended instead.
    pub(crate) fn try_hub(&self) -> Result<Process, Output> {
        self.start_hub(Command::new(PINWHEEL))
    }

    /// The same by another command.
    pub(crate) fn hub_by(&self, command: Command) -> Process {
        let started = self.start_hub(command);
        started.unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn start_hub(&self, mut command: Command) -> Result<Process, Output> {
        let config = self.directory.join("hub.toml");
        fs::write(&config, "data = \"hub\"\nlisten = \"127.0.0.1:0\"\n").unwrap();
        command.arg("hub").arg("--config").arg(config);
        Process::launch(command, &self.data("hub"), self.can_be_held, |status| {
            status.hub.as_ref()?.links.clone()
        })
    }

    /// Adds a server at the hub and keeps its join token.
    pub(crate) fn admit(&self, hub: &Process, name: &str) -> u32 {
        self.add(hub, name, None, false)
    }

    /// The same for a node below a server.
    pub(crate) fn admit_below(&self, hub: &Process, name: &str, server: &str) -> u32 {
        self.add(hub, name, Some(server.to_owned()), false)
    }

    /// Adds a host connection manager that relays, and keeps its join token.
    pub(crate) fn admit_relay(&self, hub: &Process, name: &str) -> u32 {
        self.add(hub, name, None, true)
    }

    fn add(&self, hub: &Process, name: &str, below: Option<String>, relay: bool) -> u32 {
        match hub.ask(&Request::AddNode { name: name.to_owned(), below, relay }) {
            Reply::Node { seller, token } => {
                fs::write(self.directory.join(format!("{name}.token")), token).unwrap();
                seller
            }
            other => panic!("{other:?}"),
        }
    }

    /// The join token of a server that was admitted.
    pub(crate) fn token(&self, name: &str) -> JoinToken {
        let text = fs::read_to_string(self.directory.join(format!("{name}.token"))).unwrap();
        text.parse().unwrap()
    }

    /// Starts a server that calls `hub`; its address is where terminals connect.
    pub(crate) fn server(&self, name: &str, hub: SocketAddr, settings: &Settings) -> Process {
        let started = self.try_server(name, hub, settings);
        started.unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The same; what it left behind if it ended instead.
    pub(crate) fn try_server(
        &self,
        name: &str,
        hub: SocketAddr,
        settings: &Settings,
    ) -> Result<Process, Output> {
        self.server_by(Command::new(PINWHEEL), name, hub, settings)
    }

    /// The same by another command.
    pub(crate) fn server_by(
        &self,
        command: Command,
        name: &str,
        hub: SocketAddr,
        settings: &Settings,
    ) -> Result<Process, Output> {
        self.seller_by(command, "server", name, &format!("hub = [\"{hub}\"]\n"), settings)
    }

    /// Starts a host connection manager that caches, which calls `server`; its address is where terminals connect.
    pub(crate) fn cache(&self, name: &str, server: SocketAddr, settings: &Settings) -> Process {
        let above = format!("mode = \"cache\"\nupstream = [\"{server}\"]\n");
        let started = self.seller_by(Command::new(PINWHEEL), "hcm", name, &above, settings);
        started.unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn seller_by(
        &self,
        mut command: Command,
        kind: &str,
        name: &str,
        above: &str,
        settings: &Settings,
    ) -> Result<Process, Output> {
        let Settings { levels: (low, target, high), segment_mib, links } = settings;
        let mut config = format!("data = {name:?}\nlisten = \"127.0.0.1:0\"\n{above}");
        writeln!(config, "links = \"{links}\"").unwrap();
        writeln!(config, "token_file = \"{name}.token\"\nworkers = 1\nsegment_mib = {segment_mib}").unwrap();
        writeln!(config, "levels = {{ low = {low}, target = {target}, high = {high} }}").unwrap();
        let path = self.directory.join(format!("{name}.toml"));
        fs::write(&path, config).unwrap();
        command.arg(kind).arg("--config").arg(path);
        Process::launch(command, &self.data(name), self.can_be_held, |status| {
            status.sellers.first()?.address.clone()
        })
    }
}

impl Site {
    /// Starts a relay that calls these servers; its address is where terminals connect.
    pub(crate) fn relay(&self, name: &str, servers: &[SocketAddr]) -> Process {
        self.relay_by(Command::new(PINWHEEL), name, "127.0.0.1:0", servers, "")
    }

    /// The same by another command, listening elsewhere, with more in its configuration.
    pub(crate) fn relay_by(
        &self,
        mut command: Command,
        name: &str,
        listen: &str,
        servers: &[SocketAddr],
        more: &str,
    ) -> Process {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let mut config = format!("mode = \"relay\"\nlisten = \"{listen}\"\nservers = {servers:?}\n");
        writeln!(config, "token_file = \"{name}.token\"\nrun_dir = {name:?}\n{more}").unwrap();
        let path = self.directory.join(format!("{name}.toml"));
        fs::write(&path, config).unwrap();
        command.arg("hcm").arg("--config").arg(path);
        let started = Process::launch(command, &self.data(name), self.can_be_held, |status| {
            Some(status.relay.clone()?.address)
        });
        started.unwrap_or_else(|output| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Puts a dealer and so many varieties into a hub: `v1` is product 1 with a face value of 1000, and so on.
pub(crate) fn furnish(hub: &Process, varieties: u32) {
    assert!(matches!(hub.ask(&Request::AddDealer { name: "Shop".into() }), Reply::Added { id: 1 }));
    for product in 1..=varieties {
        let row = VarietyRow {
            id: 0,
            code: format!("v{product}"),
            product,
            face_value: 1000,
            currency: "ZAR".to_owned(),
            currency_digits: 2,
            name: format!("Variety {product}"),
            receipt: String::new(),
            minimum_life_days: 0,
        };
        assert!(matches!(hub.ask(&Request::AddVariety(row)), Reply::Added { .. }));
    }
}
