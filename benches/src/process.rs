//! Server processes: this program again or another, with their processor time and the cores that they have.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a benchmark's step comes to.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A server; it is killed with this value.
pub struct Child {
    process: std::process::Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Child {
    /// This program as a server, which says its address on its first line.
    ///
    /// # Errors
    /// As [`Child::start`].
    pub fn this(name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0(name).args(arguments);
        Self::start(command, |line| line.trim().parse().ok())
    }

    /// Starts a server on the servers' core and waits for the line from which `address` can tell where it listens.
    ///
    /// # Errors
    /// It cannot be started, or ends without such a line.
    pub fn start(mut command: Command, address: impl Fn(&str) -> Option<SocketAddr>) -> Result<Self> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or("its output was asked for")?;
        let mut lines = BufReader::new(stdout).lines();
        let found = lines.by_ref().map_while(std::result::Result::ok).find_map(|line| address(&line));
        // Whoever goes on writing must not be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        match found {
            Some(address) => {
                let child = Self { process, address };
                child.pin();
                Ok(child)
            }
            None => Err(format!("{command:?} did not say where it listens").into()),
        }
    }

    /// Puts it with all its threads on the servers' core.
    pub fn pin(&self) {
        self.pin_to(SERVER_CORE);
    }

    /// Puts it with all its threads on a core.
    pub fn pin_to(&self, core: u32) {
        pin(self.process.id(), &core.to_string());
    }

    /// Lets it use every core, to prepare.
    pub fn unpin(&self) {
        let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        pin(self.process.id(), &format!("0-{last}"));
    }

    /// Waits until it has nothing left to do of what was asked before.
    ///
    /// # Errors
    /// It goes on working.
    pub fn await_rest(&self) -> Result<()> {
        for _ in 0..RESTS_MAX {
            let before = self.cpu_s();
            std::thread::sleep(REST);
            if self.cpu_s() - before <= 0.05 * REST.as_secs_f64() {
                return Ok(());
            }
        }
        Err("the server works although nothing is asked of it".into())
    }

    /// A signal to it, by name.
    ///
    /// # Errors
    /// There is no `kill` command, or the process is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("signal {name} was not sent").into()) }
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It ended otherwise.
    pub fn end(mut self) -> Result<()> {
        self.signal("TERM")?;
        let ended = self.process.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("it ended with {ended}").into()) }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Processor seconds so far.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        cpu_s(self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor seconds of a process so far, to the hundredth; 0 if there is no such process.
#[must_use]
pub fn cpu_s(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: user and system time are fields 14 and 15, in hundredths.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

/// Puts a process with all its threads on some cores; without `taskset` it stays where it is.
pub fn pin(process: u32, cores: &str) {
    let arguments = ["-a", "-c", "-p", cores, &process.to_string()];
    let pinned = Command::new("taskset").args(arguments).stdout(Stdio::null()).status();
    if !pinned.is_ok_and(|status| status.success()) {
        println!("process {process} could not be put on core {cores}");
    }
}

/// The core that servers get where they are compared with each other.
pub const SERVER_CORE: u32 = 0;
/// The core of whoever asks them.
pub const CLIENT_CORE: u32 = 1;

const REST: Duration = Duration::from_millis(500);
const RESTS_MAX: usize = 240;
