//! What it costs to make a batch durable, by the way it is stored, how its file was prepared, and its size.
//!
//! `cargo bench -p benches --bench substrate [-- DIRECTORY]`. All combinations of a size run in turn, batch by batch, so that
//! a noisy machine disturbs them alike: compare rows, not runs. `spec/journal.md` says what was decided by it.

use engine::disk::lock::DirLock;
use engine::disk::mapped::{MappedDisk, MappedRegion};
use engine::disk::{Disk, Region};
use hdrhistogram::Histogram;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let parent = directory.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").to_owned());
    let directory = tempfile::tempdir_in(&parent)?;
    let lock = DirLock::acquire(directory.path())?;
    let disk = MappedDisk::open(&lock, "")?;
    println!("in {parent}; times in microseconds; `dirtied` is what the kernel has to write per batch\n");

    let mut subjects = Vec::new();
    for preparation in Preparation::ALL {
        for method in Method::ALL {
            // How the page cache holds the file matters to mapped stores alone once it was read again.
            if preparation != Preparation::ZeroedBy4KiBReadCold || method == Method::MappedFdatasync {
                subjects.push(Subject::new(&disk, directory.path(), preparation, method)?);
            }
        }
    }
    println!("{:<28}{:<20}{HEAD}", "prepared", "method");
    for (batch_bytes, batches) in SIZES {
        println!("-- batches of {batch_bytes} bytes");
        let batch = vec![0x5a; batch_bytes];
        for _ in 0..batches {
            for subject in &mut subjects {
                subject.commit(&batch)?;
            }
        }
        for subject in &mut subjects {
            subject.report();
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Preparation {
    Fallocate,
    ZeroedBy1MiB,
    ZeroedBy4KiB,
    ZeroedBy4KiBReadCold,
}

impl Preparation {
    const ALL: [Self; 4] =
        [Self::Fallocate, Self::ZeroedBy1MiB, Self::ZeroedBy4KiB, Self::ZeroedBy4KiBReadCold];

    fn name(self) -> &'static str {
        match self {
            Self::Fallocate => "fallocate",
            Self::ZeroedBy1MiB => "zeroed by 1 MiB",
            Self::ZeroedBy4KiB => "zeroed by 4 KiB",
            Self::ZeroedBy4KiBReadCold => "zeroed by 4 KiB, read cold",
        }
    }

    fn make(self, disk: &MappedDisk, name: &str, path: &Path) -> Result<()> {
        match self {
            // A region that is opened gets blocks for its holes, by fallocate.
            Self::Fallocate => File::create(path)?.set_len(FILE_BYTES)?,
            Self::ZeroedBy1MiB => {
                let file = File::create(path)?;
                let zeros = vec![0; 1 << 20];
                for at in (0..FILE_BYTES).step_by(zeros.len()) {
                    file.write_all_at(&zeros, at)?;
                }
                file.sync_all()?;
            }
            Self::ZeroedBy4KiB | Self::ZeroedBy4KiBReadCold => drop(disk.create_region(name, FILE_BYTES)?),
        }
        if self == Self::ZeroedBy4KiBReadCold {
            // Drops the file from the page cache, and nothing else.
            let status = Command::new("dd")
                .arg(format!("if={}", path.display()))
                .args(["iflag=nocache", "count=0", "status=none"])
                .status()?;
            assert!(status.success(), "dd drops the cache of one file");
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    MappedFdatasync,
    MappedMsync,
    PwriteFdatasync,
}

impl Method {
    const ALL: [Self; 3] = [Self::MappedFdatasync, Self::MappedMsync, Self::PwriteFdatasync];

    fn name(self) -> &'static str {
        match self {
            Self::MappedFdatasync => "mapped, fdatasync",
            Self::MappedMsync => "mapped, msync",
            Self::PwriteFdatasync => "pwrite, fdatasync",
        }
    }
}

struct Subject {
    preparation: Preparation,
    method: Method,
    region: MappedRegion,
    file: File,
    offset: usize,
    store: Histogram<u64>,
    whole: Histogram<u64>,
    dirtied_bytes: u64,
}

impl Subject {
    fn new(disk: &MappedDisk, directory: &Path, preparation: Preparation, method: Method) -> Result<Self> {
        let name = format!("{}-{}", preparation as u8, method as u8);
        let path = directory.join(&name);
        preparation.make(disk, &name, &path)?;
        let region = disk.open_region(&name)?;
        // Nothing of the preparation is left to be written.
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.sync_all()?;
        // The journal reads a segment before it writes to it.
        assert!(region.bytes().iter().all(|byte| *byte == 0));
        Ok(Self {
            preparation,
            method,
            region,
            file,
            offset: 0,
            store: Histogram::new(3)?,
            whole: Histogram::new(3)?,
            dirtied_bytes: 0,
        })
    }

    fn commit(&mut self, batch: &[u8]) -> Result<()> {
        let dirtied_before = dirtied_bytes()?;
        let start = Instant::now();
        match self.method {
            Method::PwriteFdatasync => self.file.write_all_at(batch, self.offset as u64)?,
            _ => self.region.store(self.offset, batch),
        }
        let stored = start.elapsed();
        match self.method {
            Method::MappedFdatasync => self.region.sync()?,
            Method::MappedMsync => self.region.sync_by_range(self.offset, batch.len())?,
            Method::PwriteFdatasync => self.file.sync_data()?,
        }
        let whole = start.elapsed();
        self.dirtied_bytes += dirtied_bytes()? - dirtied_before;
        self.store.record(stored.as_nanos() as u64)?;
        self.whole.record(whole.as_nanos() as u64)?;
        self.offset += batch.len();
        Ok(())
    }

    fn report(&mut self) {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        println!(
            "{:<28}{:<20}{:>12.1}{:>12.1}{:>12.1}{:>12.1}{:>12}",
            self.preparation.name(),
            self.method.name(),
            us(self.store.value_at_quantile(0.5)),
            us(self.whole.value_at_quantile(0.1)),
            us(self.whole.value_at_quantile(0.5)),
            us(self.whole.value_at_quantile(0.99)),
            self.dirtied_bytes / self.whole.len(),
        );
        self.store.reset();
        self.whole.reset();
        self.dirtied_bytes = 0;
    }
}

/// Bytes that this process made dirty so far, as the kernel counts them.
fn dirtied_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("/proc/self/io says write_bytes")?.parse()?)
}

const HEAD: &str = "   store p50   whole p10   whole p50   whole p99     dirtied";
const FILE_BYTES: u64 = 64 << 20;

/// Bytes of a batch, and how many of them: together they fit the file.
const SIZES: [(usize, u32); 4] = [(128, 300), (4096, 300), (65_536, 150), (1 << 20, 20)];
