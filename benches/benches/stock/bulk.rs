//! Stock in bulk from the hub to a server, with nothing else to do for both.

use crate::site::Site;
use crate::{Options, disk, median, print_rounds};
use benches::floor::Floor;
use benches::process::Result;
use engine::stock::segment::HEADER_BYTES;
use engine::stock::{BLOCK_PINS_MAX, PIN_RECORD_BYTES};
use std::path::Path;

/// Moves stock round after round, and has the disk take in as much before each.
pub(crate) fn measure(folder: &Path, options: &Options) -> Result<()> {
    println!("-- {} PINs from a hub to a server, {} rounds", options.pins, options.rounds);
    let site = Site::start(folder, options.rounds)?;
    let server = site.server("north", options.pins)?;
    let (mut rates, mut disk_rates, mut ratios, mut busy) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for variety in 1..=options.rounds {
        site.hold(variety, options.pins)?;
        let disk_rate = disk_rate(folder, options.pins)?;
        let before = [site.hub.cpu_s(), server.child.cpu_s()];
        let start = site.release(variety)?;
        let seconds = server.await_stock(variety, options.pins)?.duration_since(start).as_secs_f64();
        let rate = f64::from(options.pins) / seconds;
        busy.push(
            [site.hub.cpu_s() - before[0], server.child.cpu_s() - before[1]].map(|cpu_s| cpu_s / seconds),
        );
        rates.push(rate / 1e6);
        disk_rates.push(disk_rate / 1e6);
        ratios.push(rate * PIN_RECORD_BYTES as f64 / disk_rate);
    }
    site.audit()?;
    print_rounds("moved", "million PINs/s", &rates);
    print_rounds("the disk alone", "MB/s", &disk_rates);
    let cores = |node: usize| median(busy.iter().map(|busy: &[f64; 2]| busy[node]).collect());
    println!("  busy cores meanwhile: hub {:.2}, server {:.2}", cores(0), cores(1));
    let rate = median(rates);
    Floor::at_least(PINS_PER_S_MIN / 1e6, "million PINs/s").print("move", rate);
    println!("  that is {:.0} MB/s of sealed records", rate * PIN_RECORD_BYTES as f64);
    Floor::at_least(DISK_PART_MIN, "of the disk's rate")
        .print("move, against writing and syncing alone", median(ratios));
    Ok(())
}

/// What the disk takes in of as many segment files as hold so many PINs, in bytes per second.
fn disk_rate(folder: &Path, pins: u32) -> Result<f64> {
    let bytes = HEADER_BYTES + BLOCK_PINS_MAX as usize * PIN_RECORD_BYTES;
    disk::write_rate(folder, pins.div_ceil(BLOCK_PINS_MAX) as usize, bytes)
}

const PINS_PER_S_MIN: f64 = 3e6;
const DISK_PART_MIN: f64 = 0.6;
