//! Server processes: this program again or another, on their own core, with their processor time.

use crate::SERVER_CORE;
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A server; it ends with this value.
pub(crate) struct Child {
    process: std::process::Child,
    pub(crate) address: SocketAddr,
}

impl Child {
    /// This program as a server, which says its address on its first line.
    pub(crate) fn this(name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0(name).args(arguments);
        Self::start(command, |line| line.trim().parse().ok())
    }

    /// Starts a server and waits for the line from which `address` can tell where it listens.
    pub(crate) fn start(mut command: Command, address: impl Fn(&str) -> Option<SocketAddr>) -> Result<Self> {
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
    pub(crate) fn pin(&self) {
        pin(self.process.id(), &SERVER_CORE.to_string());
    }

    /// Lets it use every core, to prepare.
    pub(crate) fn unpin(&self) {
        let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        pin(self.process.id(), &format!("0-{last}"));
    }

    /// Waits until it has nothing left to do of what was asked before.
    ///
    /// # Errors
    /// It goes on working.
    pub(crate) fn await_rest(&self) -> Result<()> {
        for _ in 0..RESTS_MAX {
            let before = self.cpu_s();
            std::thread::sleep(REST);
            if self.cpu_s() - before <= 0.05 * REST.as_secs_f64() {
                return Ok(());
            }
        }
        Err("the server works although nothing is asked of it".into())
    }

    /// Ends it in good order.
    pub(crate) fn end(mut self) -> Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        let ended = self.process.wait()?;
        if asked.success() && ended.success() { Ok(()) } else { Err(format!("it ended with {ended}").into()) }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Processor seconds so far.
    pub(crate) fn cpu_s(&self) -> f64 {
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

/// Processor seconds of a process so far, to the hundredth.
pub(crate) fn cpu_s(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: user and system time are fields 14 and 15, in hundredths.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

/// Puts a process with all its threads on some cores; without `taskset` it stays where it is.
pub(crate) fn pin(process: u32, cores: &str) {
    let arguments = ["-a", "-c", "-p", cores, &process.to_string()];
    let pinned = Command::new("taskset").args(arguments).stdout(Stdio::null()).status();
    if !pinned.is_ok_and(|status| status.success()) {
        println!("process {process} could not be put on core {cores}");
    }
}

const REST: Duration = Duration::from_millis(500);
const RESTS_MAX: usize = 240;
