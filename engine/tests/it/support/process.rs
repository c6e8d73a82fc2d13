//! `pinwheel up` as a child process.

use super::hold::Hold;
use super::till::{Lost, Till};
use engine::admin::{KeyRow, MintOrder, Reply, Request, VarietyRow, ask};
use engine::network::Status;
use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::control::ErrorCode;
use wire::session::Mode;

/// The program under test.
pub(crate) const PINWHEEL: &str = env!("CARGO_BIN_EXE_pinwheel");

/// A network that runs. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Its standard error: a file, because nobody reads along.
    errors: File,
    /// What can keep it from saying the next line.
    hold: Option<Hold>,
    data: PathBuf,
    /// Where terminals connect.
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a network in `data` and waits until it sells.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data, arguments).unwrap_or_else(|output| {
            panic!("the network ended: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        })
    }

    /// The same; what it left behind if it ended instead.
    pub(crate) fn try_start(data: &Path, arguments: &[&str]) -> Result<Self, Output> {
        Self::try_start_among(data, arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn try_start_among(
        data: &Path,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Result<Self, Output> {
        let mut command = Command::new(PINWHEEL);
        command.envs(environment.iter().copied());
        command.arg("up").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]).args(arguments);
        let address = |status: &Status| status.sellers.first()?.address.clone();
        Self::launch(command, data, false, address)
    }

    /// Starts a process that works in `data`, and waits until its status has the address in it. `can_be_held`: it says
    /// in what state each transfer is, and [`Process::hold`] can stop it there.
    pub(crate) fn launch(
        mut command: Command,
        data: &Path,
        can_be_held: bool,
        address_in: impl Fn(&Status) -> Option<String>,
    ) -> Result<Self, Output> {
        let errors = tempfile::tempfile().expect("there is room for what it says");
        let kept = errors.try_clone().expect("a descriptor can be doubled");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let hold = if can_be_held {
            let (hold, said) = Hold::start(kept);
            command.env("PINWHEEL_LOG", "debug").stderr(said);
            Some(hold)
        } else {
            command.stderr(kept);
            None
        };
        let child = command.spawn().expect("the program can be started");
        // With it goes this process's end of what the other one says.
        drop(command);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, errors, hold, data: data.to_owned(), address };
        let by = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.child.try_wait().expect("it is our child") {
                let stderr = process.said().into_bytes();
                return Err(Output { status, stdout: Vec::new(), stderr });
            }
            if let Some(Reply::Status(status)) = process.try_ask(&Request::Status)
                && status.pid == process.pid()
                && let Some(address) = address_in(&status).and_then(|at| at.parse().ok())
            {
                process.address = address;
                return Ok(process);
            }
            assert!(Instant::now() < by, "the network does not come up:\n{}", process.said());
            std::thread::sleep(POLL);
        }
    }

    /// Puts a dealer and one variety without stock, [`VARIETY`], into a network that was begun with [`SMALL`].
    pub(crate) fn furnish(&self) {
        let name = "Corner shop".to_owned();
        assert!(matches!(self.ask(&Request::AddDealer { name }), Reply::Added { id: 1 }));
        let variety = VarietyRow {
            id: 0,
            code: VARIETY.to_owned(),
            product: OF.0,
            face_value: OF.1,
            currency: "ZAR".to_owned(),
            currency_digits: 2,
            name: "Airtime".to_owned(),
            receipt: "Dial *100*PIN#".to_owned(),
            minimum_life_days: 0,
        };
        assert!(matches!(self.ask(&Request::AddVariety(variety)), Reply::Added { .. }));
    }

    /// A small network, with more arguments.
    pub(crate) fn start_small(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, &[&SMALL, arguments].concat())
    }

    /// Begins one with this much of its only variety, all of it ready to be sold.
    pub(crate) fn begin_small(data: &Path, arguments: &[&str], stock: u32) -> Self {
        let network = Self::start_small(data, arguments);
        network.furnish();
        if stock > 0 {
            network.mint(VARIETY, stock);
            network.wait_for("stock", |status| status.varieties[0].sellable == u64::from(stock));
        }
        network
    }

    /// A signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Memory in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it uses memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kib << 10
    }

    /// Where it stops.
    pub(crate) fn hold(&self) -> &Hold {
        self.hold.as_ref().expect("it was started so that it can be held")
    }

    /// Asks for something in a thread of its own; how that ends does not matter.
    pub(crate) fn ask_aside(&self, request: Request) -> JoinHandle<()> {
        let data = self.data.clone();
        std::thread::spawn(move || drop(ask(&data, &request, None, |_| {})))
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut of the process does: nothing is finished.
    pub(crate) fn kill(mut self) {
        self.end_at_once();
    }

    /// The same, where another one is to take its place.
    pub(crate) fn end_at_once(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits until it ends by itself; its standard error too.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let by = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < by, "the network does not end");
            std::thread::sleep(POLL);
        };
        (status, self.said())
    }

    /// What it has written to standard error so far.
    pub(crate) fn said(&self) -> String {
        // Read by offset: the place where the process writes is shared with this descriptor.
        let mut bytes = vec![0; self.errors.metadata().expect("it is our file").len() as usize];
        self.errors.read_exact_at(&mut bytes, 0).expect("it does not become shorter");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks over the operators' socket.
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request).expect("a running network answers")
    }

    /// The same; nothing if there is no answer.
    fn try_ask(&self, request: &Request) -> Option<Reply> {
        let (sender, answer) = std::sync::mpsc::channel();
        let (data, request) = (self.data.clone(), request.clone());
        std::thread::spawn(move || sender.send(ask(&data, &request, None, |_| {}).ok()));
        answer.recv_timeout(PATIENCE).expect("it answers in time, or not at all")
    }

    /// How things stand.
    pub(crate) fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the status is as wanted.
    pub(crate) fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Status) -> bool) -> Status {
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
    pub(crate) fn audit(&self) {
        match self.ask(&Request::Audit) {
            Reply::Audit { balanced: true, .. } => {}
            other => panic!("the books do not balance: {other:?}"),
        }
    }

    /// New terminals.
    pub(crate) fn add_terminals(&self, count: u32) -> Vec<KeyRow> {
        match self.ask(&Request::AddTerminals { count, ids: Vec::new(), dealer: 1 }) {
            Reply::Keys { keys } => keys,
            other => panic!("{other:?}"),
        }
    }

    /// New stock of a variety.
    pub(crate) fn mint(&self, variety: &str, count: u32) {
        match self.ask(&minting(variety, count)) {
            Reply::Delivered(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The first variety: its code, product and face value.
    pub(crate) fn variety(&self) -> (String, u32, u64) {
        match self.ask(&Request::ListVarieties) {
            Reply::Varieties { varieties } => {
                let first = varieties.first().expect("a first start makes sample varieties");
                (first.code.clone(), first.product, first.face_value)
            }
            other => panic!("{other:?}"),
        }
    }

    /// A till that is logged in.
    pub(crate) fn till(&self, key: &KeyRow) -> Till {
        self.await_terminal(key);
        Till::connect(self.address, key, PATIENCE).expect("a running network takes a till")
    }

    /// Waits until the seller knows a key: what the hub adds reaches it a moment later.
    pub(crate) fn await_terminal(&self, key: &KeyRow) {
        let by = Instant::now() + PATIENCE;
        while let Err(lost) = Till::connect_unlogged(self.address, key, Mode::Sealed, PATIENCE) {
            let unknown = matches!(&lost, Lost::Error(notice) if notice.code == ErrorCode::Authentication);
            assert!(unknown && Instant::now() < by, "a running network takes a till: {lost:?}");
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for new stock of a variety.
pub(crate) fn minting(variety: &str, count: u32) -> Request {
    let (variety, length) = (variety.to_owned(), 16);
    Request::Mint(MintOrder { variety, count, length, letters: false, check: true, expiry: 0 })
}

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a test looks.
const POLL: Duration = Duration::from_millis(10);

/// Arguments for a network without samples and managers, with one server that has one worker and a small journal.
pub(crate) const SMALL: [&str; 8] =
    ["--empty", "--servers", "1", "--no-managers", "--workers", "1", "--segment-mib", "1"];
/// The segment size of such a network's journal, in bytes.
pub(crate) const SMALL_SEGMENT_BYTES: u64 = 1 << 20;
/// Its only variety.
pub(crate) const VARIETY: &str = "airtime-za-10";
/// The same as terminals ask for it: product and face value.
pub(crate) const OF: (u32, u64) = (1001, 1000);
