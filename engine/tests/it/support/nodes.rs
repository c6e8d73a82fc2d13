//! Hub and servers, each a process of its own.

use super::process::{PINWHEEL, Process};
use engine::admin::{Reply, Request, VarietyRow};
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
}

impl Default for Settings {
    fn default() -> Self {
        Self { levels: (100, 500, 800), segment_mib: 1 }
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

    /// The same; what it left behind if it ended instead.
    pub(crate) fn try_hub(&self) -> Result<Process, Output> {
        let config = self.directory.join("hub.toml");
        fs::write(&config, "data = \"hub\"\nlisten = \"127.0.0.1:0\"\n").unwrap();
        let mut command = Command::new(PINWHEEL);
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
        let Settings { levels: (low, target, high), segment_mib } = settings;
        let mut config = format!("data = {name:?}\nlisten = \"127.0.0.1:0\"\nhub = [\"{hub}\"]\n");
        writeln!(config, "links = \"127.0.0.1:0\"").unwrap();
        writeln!(config, "token_file = \"{name}.token\"\nworkers = 1\nsegment_mib = {segment_mib}").unwrap();
        writeln!(config, "levels = {{ low = {low}, target = {target}, high = {high} }}").unwrap();
        let path = self.directory.join(format!("{name}.toml"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new(PINWHEEL);
        command.arg("server").arg("--config").arg(path);
        Process::launch(command, &self.data(name), self.can_be_held, |status| {
            status.sellers.first()?.address.clone()
        })
    }
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
