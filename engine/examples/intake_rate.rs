//! How fast PINs come in: `cargo run --release -p engine --example intake_rate -- [PINS KNOWN BEFORE, in millions]`.
//!
//! Each rate is given by the clock and, for busy machines, by the processor time of the thread that takes in.

use engine::disk::heap::HeapDisk;
use engine::ids::{BatchId, BlockId, VarietyId};
use engine::intake::fingerprint::{Claim, FingerprintError, Seen};
use engine::intake::{
    Alphabet, BLOCKS_RESERVED, DeliveryOrder, FingerprintStore, Fingerprints, Profile, Progress, Recipe,
    Step, Tools, intake_file, mint,
};
use engine::stock::{BlockKey, Expiry, NodeKeys, SegmentFile};
use std::fmt::Write;
use std::time::Instant;

/// Has seen nothing: shows the cost of everything else.
struct Forgetful;

impl Fingerprints for Forgetful {
    fn claim(
        &self,
        _: BatchId,
        claims: &[Claim],
        _: &dyn Fn(BatchId) -> bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Seen>, FingerprintError> {
        progress(claims.len() as u64);
        Ok(Vec::new())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let known = std::env::args().nth(1).map_or(Ok(10), |text| text.parse::<u64>())?;
    let keys = NodeKeys::from_node_key(&[1; 32]);
    let issue =
        |batch: u64, fingerprints: &dyn Fingerprints, disk: &HeapDisk, progress: &mut dyn FnMut(Progress)| {
            let recipe = Recipe {
                count: PINS,
                length: 16,
                alphabet: Alphabet::Digits,
                check: true,
                serial_prefix: "PW".to_owned(),
                serial_first: batch * u64::from(PINS),
                serial_digits: 12,
            };
            let counts = &|_| true;
            let mut tools = Tools { disk, keys: &keys, fingerprints, counts, progress };
            Ok::<_, Box<dyn std::error::Error>>(mint(&order(batch), &recipe, &mut tools)?)
        };

    let disk = HeapDisk::new();
    let (mut drawn_s, mut compared_s) = (0.0, 0.0);
    let watch = Watch::start();
    let delivery = issue(0, &Forgetful, &disk, &mut |progress| match progress.step {
        Step::Read => drawn_s = busy_s(),
        Step::Compare => compared_s = busy_s(),
        Step::Seal => {}
    })?;
    watch.print("issued and sealed, fingerprints sorted but not compared", PINS);
    let drawing_and_sealing_s = drawn_s - watch.start_busy_s + busy_s() - compared_s;
    println!("drawn and sealed: {:.0}/s of processor time", f64::from(PINS) / drawing_and_sealing_s);

    let block = &delivery.blocks[0];
    let file = SegmentFile::open(&disk, &block.path)?;
    let key = BlockKey::new(block.properties, &keys.at_rest().unwrap(block.properties.block, &block.key)?);
    let watch = Watch::start();
    for index in 0..=u16::MAX {
        let record = file.record(index).ok_or("the first block is full")?;
        std::hint::black_box(key.open(index, record)?);
    }
    watch.print("opened for sale", 65_536);

    let directory = std::env::temp_dir().join(format!("pinwheel-intake-rate-{}", std::process::id()));
    let store = FingerprintStore::open(&directory)?;
    for batch in 1..=known {
        let watch = Watch::start();
        issue(batch, &store, &HeapDisk::new(), &mut |_| {})?;
        watch.print(&format!("batch {batch}: issued, compared and sealed"), PINS);
    }
    let mut text = "serial,pin,expiry\n".to_owned();
    for number in 0..PINS {
        writeln!(text, "S{number:09},{:016},2099-12-31", u64::from(number) * 7_919)?;
    }
    let profile = Profile::built_in("serial-pin-expiry").ok_or("built in")?;
    let mut progress = |_: Progress| {};
    let mut tools =
        Tools { disk: &disk, keys: &keys, fingerprints: &store, counts: &|_| true, progress: &mut progress };
    let watch = Watch::start();
    intake_file(&order(known + 1), &profile, text.as_bytes(), text.len() as u64, &mut tools)?;
    watch.print(&format!("a file with {known} million PINs known"), PINS);
    let watch = Watch::start();
    let refused = intake_file(&order(known + 2), &profile, text.as_bytes(), text.len() as u64, &mut tools);
    assert!(refused.is_err());
    watch.print("the same file again, refused", PINS);
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    drop(store);
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn order(batch: u64) -> DeliveryOrder {
    DeliveryOrder {
        batch: BatchId(batch),
        variety: VarietyId(1),
        face_value: 1000,
        currency_digits: 2,
        expiry: Expiry::NONE,
        blocks: BlockId(batch * BLOCKS_RESERVED).0..(batch + 1) * BLOCKS_RESERVED,
        now_ms: 1_800_000_000_000,
        seed: std::array::from_fn(|i| batch.to_le_bytes()[i % 8]),
    }
}

/// Measures one thing.
struct Watch {
    start: Instant,
    start_busy_s: f64,
}

impl Watch {
    fn start() -> Self {
        Self { start: Instant::now(), start_busy_s: busy_s() }
    }

    fn print(&self, what: &str, count: u32) {
        let (count, seconds) = (f64::from(count), self.start.elapsed().as_secs_f64());
        let busy_seconds = busy_s() - self.start_busy_s;
        println!(
            "{what}: {:.0}/s by the clock, {:.0}/s of processor time",
            count / seconds,
            count / busy_seconds
        );
    }
}

/// Seconds that this thread has run.
fn busy_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

const PINS: u32 = 1_000_000;
