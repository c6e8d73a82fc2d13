//! What a terminal that is logged in and silent costs the server in memory: the growth of a whole network's process.

use crate::pinwheel::{self, Pinwheel};
use benches::floor::Floor;
use benches::network::FACE_VALUE;
use benches::process::Result;
use benches::till::Till;
use std::path::Path;
use std::time::Duration;

/// Logs terminals in, then has each sell as much as a seller remembers of it.
pub(crate) fn measure(data: &Path) -> Result<()> {
    let stock = ALL as u32 * WINDOW as u32;
    println!("-- {ALL} terminals log in, sealed, and stay; minting {stock} PINs for them …");
    let network = Pinwheel::start(data, ALL, stock)?;
    let keys = network.keys()?;
    let mut tills = Vec::with_capacity(ALL);
    let log_in_up_to = |count: usize, tills: &mut Vec<Till>| -> Result<Memory> {
        for key in &keys[tills.len()..count] {
            tills.push(Till::log_in(network.child.address, key)?);
        }
        Memory::of(&network)
    };
    let few = log_in_up_to(FEW, &mut tills)?;
    let all = log_in_up_to(ALL, &mut tills)?;
    let more = (ALL - FEW) as f64;
    let idle = (all.resident_bytes - few.resident_bytes) / more;
    Floor::at_most(TERMINAL_BYTES_MAX, "bytes").print("memory of a terminal that logged in", idle);

    let vend = |tills: &mut [Till]| -> Result<Memory> {
        for tills in tills.chunks_mut(TILLS_AT_ONCE) {
            for till in &mut *tills {
                till.vend(WINDOW, pinwheel::PRODUCT, FACE_VALUE)?;
            }
            for till in tills {
                for _ in 0..WINDOW {
                    if !till.takes_pin()? {
                        return Err("a vend was not answered with a PIN".into());
                    }
                }
            }
        }
        Memory::of(&network)
    };
    let (first, rest) = tills.split_at_mut(FEW);
    let few = vend(first)?;
    let all = vend(rest)?;
    // The journal's own pages are mapped and shared by all terminals: they are no terminal's memory.
    let window = (all.private_bytes - few.private_bytes) / more;
    println!(
        "{:<52}{:>14.0} bytes, as the seller remembers {WINDOW} sales of it, twice",
        "  when it has sold",
        idle + window
    );
    Ok(())
}

/// Memory of a process.
struct Memory {
    /// All that is in memory.
    resident_bytes: f64,
    /// Of that, what is no file's.
    private_bytes: f64,
}

impl Memory {
    /// When it has come to rest, and its sessions too.
    fn of(network: &Pinwheel) -> Result<Self> {
        std::thread::sleep(2 * Duration::from_millis(engine::limits::REST_MS));
        network.child.await_rest()?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", network.child.id()))?;
        let bytes = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
            let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
            Ok(kib.parse::<f64>()? * 1024.0)
        };
        Ok(Self { resident_bytes: bytes("VmRSS")?, private_bytes: bytes("RssAnon")? })
    }
}

const ALL: usize = 9_000;
const FEW: usize = 2_000;
const TILLS_AT_ONCE: usize = 64;
const WINDOW: u64 = wire::message::WINDOW;
const TERMINAL_BYTES_MAX: f64 = 2048.0;
