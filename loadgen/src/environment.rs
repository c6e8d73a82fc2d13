//! The machine that a run is made on, as far as figures depend on it.

use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Instant, SystemTime};

/// What figures depend on and a reader cannot know.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// When the run began: seconds since 1970.
    pub began_unix_s: u64,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// Where syncs were measured.
    pub folder: String,
    /// The file system there.
    pub file_system: String,
    /// What one sync of a 4 KiB write costs there, in microseconds: median and 99th percentile.
    pub sync_us: Option<(u64, u64)>,
    /// Most open files, after it was raised.
    pub open_files_max: u64,
    /// This program's version.
    pub version: &'static str,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Environment {
    /// Looks around; syncs are measured in `folder`.
    #[must_use]
    pub fn observe(folder: &Path, open_files_max: u64) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            began_unix_s: now.map_or(0, |since| since.as_secs()),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal").and_then(|text| number(&text)).unwrap_or(0) / 1024,
            kernel: line("/proc/sys/kernel/ostype") + " " + &line("/proc/sys/kernel/osrelease"),
            file_system: file_system(&folder),
            sync_us: sync_us(&folder).ok(),
            folder: folder.display().to_string(),
            open_files_max,
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// Processor time of this thread, in nanoseconds; 0 where the system does not say.
#[must_use]
pub(crate) fn thread_cpu_ns() -> u64 {
    number(&line("/proc/thread-self/schedstat")).unwrap_or(0)
}

/// The ports that connections to one address can come from; a guess where the system does not say.
#[must_use]
pub(crate) fn local_ports() -> u64 {
    let range = line("/proc/sys/net/ipv4/ip_local_port_range");
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    match (ends.next(), ends.next()) {
        (Some(least), Some(most)) if most >= least => most - least + 1,
        _ => 28_232,
    }
}

/// Memory that is free to use, in bytes.
#[must_use]
pub(crate) fn memory_available() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable").and_then(|text| number(&text)).map(|kib| kib * 1024)
}

/// Raises the number of open files to `wanted`, if it may; returns what it is then.
#[must_use]
pub(crate) fn raise_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else {
        return limit.current.unwrap_or(u64::MAX);
    };
    let raised = limit.maximum.map_or(wanted, |most| most.min(wanted)).max(current);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}

/// Bytes free in a folder.
#[must_use]
pub(crate) fn disk_free(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn sync_us(folder: &Path) -> io::Result<(u64, u64)> {
    let path = folder.join(format!(".loadgen-sync-{}", std::process::id()));
    let measured = File::create(&path).and_then(|mut file| {
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let start = Instant::now();
            file.write_all(&[0x5a; 4096])?;
            file.sync_data()?;
            times.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        times.sort_unstable();
        Ok((times[SYNCS / 2], times[SYNCS * 99 / 100]))
    });
    fs::remove_file(&path)?;
    measured
}

/// The type of the mount with the longest path above `folder`.
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
    });
    mounts.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, name)| name)
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The number at the front.
fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

const SYNCS: usize = 100;
