//! `pinwheel up` as a child process.

use super::till::Till;
use engine::admin::{KeyRow, MintOrder, Reply, Request, ask};
use engine::network::Status;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const PINWHEEL: &str = env!("CARGO_BIN_EXE_pinwheel");

/// A network that runs. Killed when dropped.
pub struct Process {
    child: Child,
    data: PathBuf,
    /// Where terminals connect.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a network in `data` and waits until it sells.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more arguments.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data, arguments).unwrap_or_else(|output| {
            panic!("the network ended: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        })
    }

    /// The same; what it left behind if it ended instead.
    pub fn try_start(data: &Path, arguments: &[&str]) -> Result<Self, Output> {
        let mut command = Command::new(PINWHEEL);
        command.arg("up").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let by = Instant::now() + PATIENCE;
        loop {
            if child.try_wait().expect("it is our child").is_some() {
                return Err(child.wait_with_output().expect("it is our child"));
            }
            if let Ok(Reply::Status(status)) = ask(data, &Request::Status, None, |_| {})
                && status.pid == child.id()
                && let Some(address) = status.address.as_ref().and_then(|address| address.parse().ok())
            {
                return Ok(Self { child, data: data.to_owned(), address });
            }
            assert!(Instant::now() < by, "the network does not come up");
            std::thread::sleep(POLL);
        }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut of the process does: nothing is finished.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits until it ends by itself; its standard error too.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let by = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < by, "the network does not end");
            std::thread::sleep(POLL);
        };
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        (status, text)
    }

    /// Asks over the operators' socket.
    pub fn ask(&self, request: &Request) -> Reply {
        ask(&self.data, request, None, |_| {}).expect("a running network answers")
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the status is as wanted.
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Status) -> bool) -> Status {
        let by = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < by, "waited in vain for: {what}; {status:?}");
            std::thread::sleep(POLL);
        }
    }

    /// Law 1, from the network's own books.
    pub fn audit(&self) {
        match self.ask(&Request::Audit) {
            Reply::Audit { balanced: true, .. } => {}
            other => panic!("the books do not balance: {other:?}"),
        }
    }

    /// New terminals.
    pub fn add_terminals(&self, count: u32) -> Vec<KeyRow> {
        match self.ask(&Request::AddTerminals { count, ids: Vec::new(), dealer: 1 }) {
            Reply::Keys { keys } => keys,
            other => panic!("{other:?}"),
        }
    }

    /// New stock of a variety.
    pub fn mint(&self, variety: &str, count: u32) {
        let (variety, length) = (variety.to_owned(), 16);
        let order = MintOrder { variety, count, length, letters: false, check: true, expiry: 0 };
        match self.ask(&Request::Mint(order)) {
            Reply::Delivered(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The first variety: its code, product and face value.
    pub fn variety(&self) -> (String, u32, u64) {
        match self.ask(&Request::ListVarieties) {
            Reply::Varieties { varieties } => {
                let first = varieties.first().expect("a first start makes sample varieties");
                (first.code.clone(), first.product, first.face_value)
            }
            other => panic!("{other:?}"),
        }
    }

    /// A till that is logged in.
    pub fn till(&self, key: &KeyRow) -> Till {
        Till::connect(self.address, key, PATIENCE).expect("a running network takes a till")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a test looks.
const POLL: Duration = Duration::from_millis(10);
