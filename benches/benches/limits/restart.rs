//! Starts: how soon a network sells its first PIN with millions in stock, from a disk that nothing is cached of, and with
//! as many sales in its journal that no checkpoint knows of, as after a kill.

use crate::pinwheel::{self, Pinwheel};
use benches::floor::Floor;
use benches::network::FACE_VALUE;
use benches::process::{Child, Result, cpu_s};
use benches::till::Till;
use engine::admin::KeyRow;
use engine::disk::lock::DirLock;
use engine::disk::mapped::MappedDisk;
use engine::ids::{KeyEpoch, PinId, TerminalId, VarietyId};
use engine::journal::record::{RecordBytes, VendName};
use engine::journal::{Journal, JournalOptions, Record, SEGMENT_BYTES};
use engine::ledger::Bookkeeper;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The data directory of a network that does not run.
pub(crate) struct Stocked {
    data: PathBuf,
    pins: u32,
    keys: Vec<KeyRow>,
}

impl Stocked {
    /// Makes one with so many PINs.
    pub(crate) fn prepare(data: &Path, pins: u32) -> Result<Self> {
        println!("minting {pins} PINs to start with …");
        let network = Pinwheel::start(data, TERMINALS, pins)?;
        let keys = network.keys()?;
        network.stop()?;
        Ok(Self { data: data.to_owned(), pins, keys })
    }

    /// Starts it with nothing in the page cache, if this user may see to that.
    pub(crate) fn start_cold(&self) -> Result<()> {
        let cache =
            if drop_page_cache() { "page cache dropped" } else { "page cache warm: only root may drop it" };
        println!("-- {} PINs in stock, {cache}: from the start of the process to the first sale", self.pins);
        let (child, seconds, _) = self.first_sale()?;
        Floor::at_most(FIRST_SALE_S_MAX, "s").print("cold start to the first sale", seconds);
        child.end()
    }

    /// Sells nearly everything in its journal, and starts it.
    pub(crate) fn recover(self) -> Result<()> {
        let sales = self.pins - LEFT;
        println!("-- {sales} sales of {TERMINALS} terminals above the last checkpoint …");
        write_sales(&self.data, sales, &self.keys)?;
        crate::settle();
        let (child, seconds, busy_s) = self.first_sale()?;
        let rate = f64::from(sales) / seconds / 1e6;
        println!(
            "{:<52}{seconds:>14.2} s ({busy_s:.2} s of a processor)",
            "  from the start of the process to the first sale"
        );
        Floor::at_least(RECOVERED_MILLIONS_MIN, "million records/s").print("recovery", rate);
        child.end()
    }

    /// Starts the network, as a terminal tries to buy; the seconds until it has a PIN, and of a processor.
    fn first_sale(&self) -> Result<(Child, f64, f64)> {
        let address = free_address()?;
        let start = Instant::now();
        let (data, pins) = (self.data.clone(), self.pins);
        std::thread::scope(|scope| {
            let child = scope.spawn(move || {
                let child = pinwheel::up(&data, &address.to_string(), pins);
                child.map_err(|error| error.to_string())
            });
            // The last terminal has sold less than the rest.
            let key = self.keys.last().ok_or("there are terminals")?;
            while buy(address, key).is_err() {
                if start.elapsed() > PATIENCE {
                    return Err("nothing was sold".into());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let seconds = start.elapsed().as_secs_f64();
            let holder = std::fs::read_to_string(self.data.join("lock"))?;
            let busy_s = cpu_s(holder.trim().parse()?);
            Ok((child.join().map_err(|_| "the starter panicked")??, seconds, busy_s))
        })
    }
}

/// Buys one PIN.
fn buy(address: SocketAddr, key: &KeyRow) -> Result<()> {
    let mut till = Till::log_in(address, key)?;
    till.vend(1, pinwheel::PRODUCT, FACE_VALUE)?;
    if till.takes_pin()? { Ok(()) } else { Err("no PIN yet".into()) }
}

/// Appends sales of what is in stock, each by another terminal than the one before, each confirming the one before of its
/// own; then leaves the journal as a kill does.
fn write_sales(data: &Path, sales: u32, keys: &[KeyRow]) -> Result<()> {
    let lock = DirLock::acquire(data.join("server-1"))?;
    let disk = Arc::new(MappedDisk::open(&lock, "")?);
    let options = JournalOptions::with_segment_bytes(SEGMENT_BYTES);
    let (books, mut journal) = Bookkeeper::recover(disk, options, SEGMENT_BYTES)?;
    let holdings = books.ledger().inventory.holdings().flat_map(|holding| {
        let pins = holding.in_stock().intervals().to_vec();
        let place = move |index: u32| (PinId::new(holding.span.block, index as u16), holding.variety);
        pins.into_iter().flat_map(move |(start, end)| (start..end).map(place))
    });
    let mut batch = Vec::new();
    let mut next: Vec<u64> = keys.iter().map(|_| 1).collect();
    let mut at = 0;
    for (pin, variety) in holdings.take(sales as usize) {
        // A stride that meets every terminal, in no order of theirs.
        at = (at + STRIDE) % (keys.len() - 1);
        batch.push(sold(&keys[at], next[at], pin, variety).encode());
        next[at] += 1;
        if batch.len() == BATCH_RECORDS {
            append(&mut journal, &mut batch)?;
        }
    }
    while !batch.is_empty() {
        append(&mut journal, &mut batch)?;
    }
    Ok(())
}

fn sold(key: &KeyRow, sequence: u64, pin: PinId, variety: VarietyId) -> Record {
    let (terminal, key_epoch) = (TerminalId(key.terminal), KeyEpoch(key.key_epoch));
    let vend = VendName { terminal, key_epoch, sequence };
    Record::Sold { vend, pin, variety, confirmed: 1, at_ms: 1_800_000_000_000 + sequence }
}

/// Makes as many records durable as the segment takes.
fn append(journal: &mut Journal<MappedDisk>, batch: &mut Vec<RecordBytes>) -> Result<()> {
    while journal.upkeep().prepare()? {}
    let now = batch.len().min(journal.room());
    if !journal.space().try_reserve(now) {
        return Err("the journal has no room".into());
    }
    journal.append(&batch[..now]);
    journal.sync()?;
    batch.drain(..now);
    Ok(())
}

/// Empties the page cache; false if this user may not.
fn drop_page_cache() -> bool {
    let synced = std::process::Command::new("sync").status().is_ok_and(|status| status.success());
    synced && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Where nobody listens.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

const TERMINALS: usize = 10_000;
const STRIDE: usize = 7_919;
const BATCH_RECORDS: usize = 4_096;
/// PINs that are not sold before the start.
const LEFT: u32 = 100_000;
const FIRST_SALE_S_MAX: f64 = 3.0;
const RECOVERED_MILLIONS_MIN: f64 = 5.0;
const PATIENCE: Duration = Duration::from_secs(120);
