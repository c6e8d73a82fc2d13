//! The network of a demonstration: five processes on loopback, each of which can be killed and started again.

use super::{DemoError, NETWORK, TICK, failed};
use crate::run::RunError;
use crate::{probe, terminals};
use engine::admin::{MintOrder, Reply, Request, VarietyRow, ask};
use engine::network::Status;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wire::session::{Mode, Suite};

/// One of the processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Node {
    Hub,
    ServerOne,
    ServerTwo,
    Relay,
    Cache,
}

impl Node {
    /// In the order in which they are started.
    pub(super) const ALL: [Self; 5] = [Self::Hub, Self::ServerOne, Self::ServerTwo, Self::Relay, Self::Cache];
    /// In the order in which they are killed.
    pub(super) const IN_TURN: [Self; 5] =
        [Self::Relay, Self::Cache, Self::ServerOne, Self::ServerTwo, Self::Hub];
    /// Where terminals connect.
    const FOR_TERMINALS: [Self; 4] = [Self::ServerOne, Self::ServerTwo, Self::Relay, Self::Cache];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::ServerOne => "server-1",
            Self::ServerTwo => "server-2",
            Self::Relay => "relay",
            Self::Cache => "cache",
        }
    }
}

/// The five processes.
pub(super) struct Network {
    folder: PathBuf,
    processes: BTreeMap<Node, Child>,
    places: Places,
    /// PINs of each variety.
    pins: u32,
}

/// Where they listen, the same after each restart.
struct Places {
    listen: BTreeMap<Node, SocketAddr>,
    links: BTreeMap<Node, SocketAddr>,
}

impl Network {
    /// Starts the processes with terminals and with stock for so many sales, and waits until they can sell.
    pub(super) fn start(folder: &Path, sales: u32, terminals: u32) -> Result<Self, DemoError> {
        let pins = (f64::from(sales) * SPARE / VARIETIES.len() as f64) as u32 + 6_000;
        let (folder, processes) = (folder.to_owned(), BTreeMap::new());
        let mut network = Self { folder, processes, places: Places::find()?, pins };
        network.spawn(Node::Hub)?;
        network.furnish(terminals)?;
        for node in &Node::ALL[1..] {
            network.spawn(*node)?;
        }
        network.await_ready()?;
        Ok(network)
    }

    /// Where terminals connect.
    pub(super) fn addresses(&self) -> [SocketAddr; 4] {
        Node::FOR_TERMINALS.map(|node| self.places.listen[&node])
    }

    /// The file of the terminals' keys.
    pub(super) fn terminals(&self) -> PathBuf {
        self.folder.join("terminals.csv")
    }

    /// Where the books are.
    pub(super) fn books(&self) -> PathBuf {
        self.folder.join(Node::Hub.name())
    }

    /// Kills processes without a word, all of them at once, and starts them again.
    pub(super) fn kill_and_restart(&mut self, nodes: &[Node]) -> Result<(), DemoError> {
        for node in nodes {
            let Some(process) = self.processes.get_mut(node) else { continue };
            process.kill().map_err(failed("kill a process"))?;
        }
        for node in nodes {
            let Some(mut process) = self.processes.remove(node) else { continue };
            process.wait().map_err(failed("wait for a process's end"))?;
        }
        nodes.iter().try_for_each(|node| self.spawn(*node))
    }

    /// A dealer, varieties with stock, terminals, and the other nodes' tokens.
    fn furnish(&self, terminals: u32) -> Result<(), DemoError> {
        self.ask(Node::Hub, &Request::AddDealer { name: "Corner shop".to_owned() })?;
        for (code, product, face_value, name) in VARIETIES {
            self.ask(
                Node::Hub,
                &Request::AddVariety(VarietyRow {
                    id: 0,
                    code: code.to_owned(),
                    product,
                    face_value,
                    currency: "ZAR".to_owned(),
                    currency_digits: 2,
                    name: name.to_owned(),
                    receipt: String::new(),
                    minimum_life_days: 0,
                }),
            )?;
            let (count, variety) = (self.pins, code.to_owned());
            let order = MintOrder { variety, count, length: 16, letters: false, check: true, expiry: 0 };
            self.ask(Node::Hub, &Request::Mint(order))?;
        }
        let added = pinwheel()?
            .arg("--data")
            .arg(self.books())
            .args(["terminal", "add", "--count", &terminals.to_string(), "--out"])
            .arg(self.terminals())
            .stdout(Stdio::null())
            .status();
        if !added.map_err(failed("add terminals"))?.success() {
            return Err(DemoError::No("no terminals were added".to_owned()));
        }
        for node in &Node::ALL[1..] {
            let below = (*node == Node::Cache).then(|| Node::ServerOne.name().to_owned());
            let (name, relay) = (node.name().to_owned(), *node == Node::Relay);
            let Reply::Node { token, .. } = self.ask(Node::Hub, &Request::AddNode { name, below, relay })?
            else {
                return Err(DemoError::No("a node was not added".to_owned()));
            };
            let path = self.folder.join(format!("{}.token", node.name()));
            fs::write(path, token).map_err(failed("write a join token"))?;
        }
        Ok(())
    }

    /// Waits until each seller has stock and knows the terminals, which both come to it from the hub.
    fn await_ready(&self) -> Result<(), DemoError> {
        let played = terminals::read(&self.terminals(), None).map_err(RunError::from)?;
        let last = &played[played.len() - 1];
        let until = Instant::now() + READY_MAX;
        for node in Node::FOR_TERMINALS {
            let least = u64::from(self.levels(node).0);
            let is_stocked = |status: &Status| match node {
                Node::Relay => status.relay.as_ref().is_some_and(|relay| relay.server.is_some()),
                _ => {
                    status.varieties.len() == VARIETIES.len()
                        && status.varieties.iter().all(|variety| variety.sellable > least)
                }
            };
            loop {
                let is_ready =
                    matches!(self.ask(node, &Request::Status)?, Reply::Status(status) if is_stocked(&status));
                let known = probe::look(self.places.listen[&node], last, Suite::AesGcm, Mode::Sealed);
                match known {
                    Ok(_) if is_ready || Instant::now() > until => break,
                    Err(error) if Instant::now() > until => return Err(RunError::from(error).into()),
                    _ => std::thread::sleep(TICK * 5),
                }
            }
        }
        Ok(())
    }

    fn ask(&self, node: Node, request: &Request) -> Result<Reply, DemoError> {
        match ask(&self.folder.join(node.name()), request, None, drop)? {
            Reply::No { reason } => Err(DemoError::No(reason)),
            reply => Ok(reply),
        }
    }

    /// Starts a process and waits until it listens.
    fn spawn(&mut self, node: Node) -> Result<(), DemoError> {
        let name = node.name();
        let config = self.folder.join(format!("{name}.toml"));
        fs::write(&config, self.config(node)).map_err(failed("write a configuration"))?;
        let log = self.folder.join(format!("{name}.log"));
        let log_file =
            File::options().create(true).append(true).open(&log).map_err(failed("write the log"))?;
        let kind = match node {
            Node::Hub => "hub",
            Node::ServerOne | Node::ServerTwo => "server",
            Node::Relay | Node::Cache => "hcm",
        };
        let mut process = pinwheel()?
            .args(["--json", kind, "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .map_err(failed("start the network"))?;
        let mut line = String::new();
        let said = process.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        if let Some(Ok(1..)) = said {
            self.processes.insert(node, process);
            return Ok(());
        }
        // It has ended, or will be of no use.
        let _ = process.kill();
        let _ = process.wait();
        Err(DemoError::NotStarted(log))
    }

    fn config(&self, node: Node) -> String {
        let Places { listen, links } = &self.places;
        let name = node.name();
        let own = listen[&node];
        let (low, target) = self.levels(node);
        let others = self.addresses().map(|address| address.to_string());
        let others: Vec<_> = others.iter().filter(|address| **address != own.to_string()).collect();
        let hub = listen[&Node::Hub];
        let links_of = |server: Node| links[&server].to_string();
        let common = format!("listen = \"{own}\"\n");
        let terminals = format!("{common}others = {others:?}\ntoken_file = \"{name}.token\"\n");
        let seller = format!(
            "{terminals}data = {name:?}\nworkers = 1\n\
             levels = {{ low = {low}, target = {target}, high = {} }}\n",
            2 * target
        );
        match node {
            Node::Hub => format!("{common}data = {name:?}\n"),
            Node::ServerOne | Node::ServerTwo => {
                format!("{seller}hub = [\"{hub}\"]\nlinks = \"{}\"\n", links_of(node))
            }
            Node::Relay => {
                let servers = [links_of(Node::ServerOne), links_of(Node::ServerTwo)];
                format!("mode = \"relay\"\n{terminals}servers = {servers:?}\nrun_dir = {name:?}\n")
            }
            Node::Cache => {
                format!("mode = \"cache\"\n{seller}upstream = [\"{}\"]\n", links_of(Node::ServerOne))
            }
        }
    }

    /// Low and target of a seller: the hub keeps a third.
    fn levels(&self, node: Node) -> (u32, u32) {
        match node {
            Node::Cache => (self.pins / 24, self.pins / 12),
            _ => (self.pins / 6, self.pins / 3),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Places {
    /// Ports that nothing listens on, out of the range from which the system gives ports to those who connect: one of the terminals
    /// could have it when its process is to start again.
    fn find() -> Result<Self, DemoError> {
        let first = 10_000 + (std::process::id() % 500) as u16 * 40;
        let mut free = (first..u16::MAX).filter_map(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpListener::bind(address).is_ok().then_some(address)
        });
        let mut place = || free.next().ok_or_else(|| DemoError::No("there is no free port".to_owned()));
        let mut places = |nodes: &[Node]| -> Result<BTreeMap<Node, SocketAddr>, DemoError> {
            nodes.iter().map(|node| Ok((*node, place()?))).collect()
        };
        Ok(Self { listen: places(&Node::ALL)?, links: places(&[Node::ServerOne, Node::ServerTwo])? })
    }
}

/// This program as the `pinwheel` command.
fn pinwheel() -> Result<Command, DemoError> {
    let mut command = Command::new(std::env::current_exe().map_err(failed("find this program"))?);
    command.arg0(NETWORK);
    Ok(command)
}

const READY_MAX: Duration = Duration::from_secs(20);
/// So much more than will be sold: terminals go where their seller is not killed.
const SPARE: f64 = 3.0;
const VARIETIES: [(&str, u32, u64, &str); 2] =
    [("airtime-za-10", 1001, 1000, "Blue Cell airtime"), ("power-za-50", 2001, 5000, "Electricity token")];
