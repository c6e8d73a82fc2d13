//! Intake: how PINs come into the network, from a supplier's file or issued by ourselves.
//!
//! Both end in sealed, synced block files and a [`Delivery`] that the hub commits in one go; until then nothing is in
//! stock. A file is taken in as a whole or not at all. What was ever seen before, in the file or in any committed batch,
//! is refused by fingerprint. `spec/intake.md` is for operators.
//!
//! Everything here runs for as long as a file takes and belongs on a thread of its own.

mod filter;
pub mod fingerprint;
pub mod mint;
mod parse;
pub mod problem;
pub mod profile;
mod sealing;
pub mod store;

pub use fingerprint::{FingerprintError, Fingerprints, HeapFingerprints};
pub use mint::{Alphabet, MINT_PINS_MAX, MintError, Recipe, mint};
pub use parse::FILE_PINS_MAX;
pub use problem::{LineProblem, Problem, Rejected};
pub use profile::{Profile, ProfileError};
pub use store::FingerprintStore;

use crate::disk::{Disk, DiskError};
use crate::ids::{BatchId, OrderId, VarietyId};
use crate::stock::{BlockProperties, Expiry, NodeKeys, WrappedKey};
use fingerprint::{Claim, Fingerprinter, Seen, What};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::io::{BufReader, Read};
use std::ops::Range;
use wire::message::{Pin, Serial};

/// Takes in a supplier's file. Nothing is in stock until the caller has committed the delivery; a delivery that is dropped
/// leaves files that nobody names, and claims that do not count. `input_bytes` is the file's size, for progress alone.
///
/// # Errors
/// [`IntakeError`]; no block file is left then.
pub fn intake_file<D: Disk>(
    order: &DeliveryOrder,
    profile: &Profile,
    input: impl Read,
    input_bytes: u64,
    tools: &mut Tools<'_, D>,
) -> Result<Delivery, IntakeError> {
    let input = BufReader::with_capacity(1 << 16, input);
    let progress = |done| (tools.progress)(Progress { step: Step::Read, done, total: input_bytes });
    let parsed = parse::parse(input, profile, order, progress)?;
    let mut rejected = parsed.rejected;
    if parsed.too_long {
        return Err(IntakeError::TooLong);
    }
    let claims = claims_of(&parsed.items, &Fingerprinter::new(tools.keys.fingerprints()));
    for (claim, line) in repeated(&claims) {
        rejected.add(claim.line, Problem::Repeated { what: claim.what, line });
    }
    if rejected.is_empty() && parsed.items.is_empty() {
        return Err(IntakeError::Empty);
    }
    if rejected.is_empty() {
        for seen in tools.claim(order.batch, &claims)? {
            let Seen { line, what, earlier_batch, earlier_line } = seen;
            let problem = Problem::SeenBefore { what, batch: earlier_batch, line: earlier_line };
            rejected.add(line, problem);
        }
    }
    if !rejected.is_empty() {
        return Err(IntakeError::Rejected(rejected));
    }
    drop(claims);
    let mut random = ChaCha20Rng::from_seed(order.seed);
    Ok(sealing::seal(order, parsed.items, &mut random, tools)?)
}

/// What is to be delivered, as the hub has decided it.
#[derive(Clone, Debug)]
pub struct DeliveryOrder {
    /// A batch number that was never used before, not even for a batch that failed.
    pub batch: BatchId,
    /// The variety.
    pub variety: VarietyId,
    /// The variety's face value in minor units, compared with the file's if that has one.
    pub face_value: u64,
    /// Digits after the decimal point of the currency's major unit.
    pub currency_digits: u8,
    /// The last day of validity where the file has none.
    pub expiry: Expiry,
    /// Block numbers that were never used before, reserved for this delivery; [`BLOCKS_RESERVED`] do for any ordinary one.
    pub blocks: Range<u64>,
    /// Now, in milliseconds of Unix time: what has expired is refused.
    pub now_ms: u64,
    /// Fresh random bytes: data keys and issued PINs follow from them.
    pub seed: [u8; 32],
}

/// What a delivery works with.
pub struct Tools<'a, D: Disk> {
    /// Where block files go.
    pub disk: &'a D,
    /// The hub's keys.
    pub keys: &'a NodeKeys,
    /// Everything ever seen.
    pub fingerprints: &'a dyn Fingerprints,
    /// Whether a batch is committed or may yet be. Claims of other batches are void.
    pub counts: &'a dyn Fn(BatchId) -> bool,
    /// Hears how far it is, on the calling thread.
    pub progress: &'a mut dyn FnMut(Progress),
}

/// How far a delivery is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How much of it, in the step's unit.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// The steps of a delivery, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Reading the file, in bytes; or drawing PINs, in PINs.
    Read,
    /// Comparing with everything ever seen, in PINs and serials.
    Compare,
    /// Sealing and writing blocks, in PINs.
    Seal,
}

/// Block files on disk, synced, and what the hub commits to make them stock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The batch.
    pub batch: BatchId,
    /// The variety.
    pub variety: VarietyId,
    /// PINs in all blocks.
    pub received: u64,
    /// The blocks.
    pub blocks: Vec<NewBlock>,
    /// Where it came from; of nowhere in particular unless the caller says so.
    pub source: Source,
}

/// Where a delivery came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The order that it answers; 0: none.
    pub order: OrderId,
    /// XXH3 with 128 bits of the supplier's file as it came; 0: no file, or not known.
    pub digest: u128,
    /// The supplier and the file, as in `blue-cell/order-000012.csv`; empty: not known.
    pub name: String,
}

/// One sealed block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBlock {
    /// What its PINs have in common.
    pub properties: BlockProperties,
    /// How many PINs.
    pub count: u32,
    /// Its file.
    pub path: String,
    /// Its data key, wrapped for the hub's own files.
    pub key: WrappedKey,
}

/// Why a file was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The supplier's fault.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The file holds no PIN.
    #[error("the file holds no PIN")]
    Empty,
    /// The file holds more PINs than are taken in at once.
    #[error("the file holds more than {FILE_PINS_MAX} PINs: split it")]
    TooLong,
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It could not be stored.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// Why a delivery could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The disk failed or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The fingerprint store failed or its disk is full.
    #[error(transparent)]
    Fingerprints(#[from] FingerprintError),
    /// The caller reserved too few block numbers.
    #[error("the delivery needs {needed} blocks, {reserved} are reserved: it has too many expiry dates")]
    TooFewBlocks {
        /// How many it needs.
        needed: u64,
        /// How many there are.
        reserved: u64,
    },
}

/// One PIN on its way into a block.
#[derive(Clone)]
struct Item {
    pin: Pin,
    serial: Serial,
    line: u32,
    expiry: Expiry,
}

impl<D: Disk> Tools<'_, D> {
    fn claim(&mut self, batch: BatchId, claims: &[Claim]) -> Result<Vec<Seen>, DeliveryError> {
        let total = claims.len() as u64;
        let mut progress = |done| (self.progress)(Progress { step: Step::Compare, done, total });
        Ok(self.fingerprints.claim(batch, claims, self.counts, &mut progress)?)
    }
}

/// The fingerprints of all items, in ascending order; an item's line stands with each.
fn claims_of(items: &[Item], fingerprinter: &Fingerprinter) -> Vec<Claim> {
    let mut claims = Vec::with_capacity(2 * items.len());
    for Item { pin, serial, line, .. } in items {
        claims.push(Claim { fingerprint: fingerprinter.pin(pin), line: *line, what: What::Pin });
        claims.push(Claim { fingerprint: fingerprinter.serial(serial), line: *line, what: What::Serial });
    }
    claims.sort_unstable();
    claims
}

/// Claims whose fingerprint an earlier line has too, each with the first such line.
fn repeated(claims: &[Claim]) -> impl Iterator<Item = (&Claim, u32)> {
    let same = claims.chunk_by(|one, next| one.fingerprint == next.fingerprint);
    same.flat_map(|group| group[1..].iter().map(|claim| (claim, group[0].line)))
}

/// Block numbers to reserve for a delivery: more than its PINs and any usual number of expiry dates need.
pub const BLOCKS_RESERVED: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::heap::HeapDisk;
    use crate::stock::{BlockKey, SegmentFile};

    pub(super) fn order() -> DeliveryOrder {
        DeliveryOrder {
            batch: BatchId(1),
            variety: VarietyId(3),
            face_value: 1000,
            currency_digits: 2,
            expiry: Expiry::NONE,
            blocks: 100..200,
            now_ms: 1_800_000_000_000,
            seed: [5; 32],
        }
    }

    /// A hub's disk, keys and fingerprints.
    pub(super) struct Bench {
        pub(super) disk: HeapDisk,
        keys: NodeKeys,
        fingerprints: HeapFingerprints,
        counts: Box<dyn Fn(BatchId) -> bool>,
    }

    impl Default for Bench {
        fn default() -> Self {
            Self {
                disk: HeapDisk::new(),
                keys: NodeKeys::from_node_key(&[1; 32]),
                fingerprints: HeapFingerprints::default(),
                counts: Box::new(|_| true),
            }
        }
    }

    impl Bench {
        pub(super) fn tools<'a>(&'a self, progress: &'a mut dyn FnMut(Progress)) -> Tools<'a, HeapDisk> {
            let Self { disk, keys, fingerprints, counts } = self;
            Tools { disk, keys, fingerprints, counts, progress }
        }

        /// PINs and serials of a delivery, as a sale opens them.
        pub(super) fn opened(&self, delivery: &Delivery) -> Vec<(Vec<u8>, Vec<u8>)> {
            let mut opened = Vec::new();
            for block in &delivery.blocks {
                let file = SegmentFile::open(&self.disk, &block.path).unwrap();
                assert!(file.verify());
                let header = file.header();
                assert_eq!((header.properties, header.key), (block.properties, block.key));
                assert_eq!((header.start, header.end, header.block_count), (0, block.count, block.count));
                let data_key = self.keys.at_rest().unwrap(block.properties.block, &block.key).unwrap();
                let key = BlockKey::new(block.properties, &data_key);
                for index in 0..block.count {
                    let index = index as u16;
                    let (pin, serial) = key.open(index, file.record(index).unwrap()).unwrap();
                    opened.push((pin.as_bytes().to_vec(), serial.as_bytes().to_vec()));
                }
            }
            assert_eq!(opened.len() as u64, delivery.received);
            opened
        }

        fn take_in(&self, batch: u64, text: &str) -> Result<Delivery, IntakeError> {
            let order =
                DeliveryOrder { batch: BatchId(batch), blocks: batch * 100..batch * 100 + 100, ..order() };
            let profile = Profile::built_in("serial-pin-expiry").unwrap();
            let bytes = text.len() as u64;
            intake_file(&order, &profile, text.as_bytes(), bytes, &mut self.tools(&mut |_| {}))
        }

        fn problems(&self, batch: u64, text: &str) -> Vec<(u32, Problem)> {
            match self.take_in(batch, text) {
                Err(IntakeError::Rejected(rejected)) => {
                    assert_eq!(rejected.count, rejected.first.len() as u64);
                    rejected.first.iter().map(|found| (found.line, found.problem)).collect()
                }
                other => panic!("rejected was expected, not {other:?}"),
            }
        }
    }

    fn file(pins: std::ops::Range<u32>) -> String {
        let line = |number| format!("S{number:08},{number:012},2027-12-31\n");
        "serial,pin,expiry\n".to_owned() + &pins.map(line).collect::<String>()
    }

    #[test]
    fn every_pin_of_a_file_comes_out_of_its_blocks() {
        let bench = Bench::default();
        let mut text = file(0..70_000);
        text.push_str("X1,999999999999,2028-01-31\nX2,999999999998,\n");
        let mut steps = Vec::new();
        let profile = Profile::built_in("serial-pin-expiry").unwrap();
        let delivery = intake_file(
            &order(),
            &profile,
            text.as_bytes(),
            text.len() as u64,
            &mut bench.tools(&mut |progress| {
                assert!(progress.done <= progress.total);
                steps.push(progress.step);
            }),
        )
        .unwrap();
        let blocks: Vec<_> =
            delivery.blocks.iter().map(|block| (block.properties.expiry.0, block.count)).collect();
        assert_eq!(blocks, [(20_271_231, 65_536), (20_271_231, 4464), (20_280_131, 1), (0, 1)]);
        bench.disk.lose_power(|| 0);
        let opened = bench.opened(&delivery);
        assert_eq!(opened[69_999], (b"000000069999".to_vec(), b"S00069999".to_vec()));
        assert_eq!(opened[70_001].0, b"999999999998");
        steps.dedup();
        assert_eq!(steps, [Step::Read, Step::Compare, Step::Seal]);
    }

    #[test]
    fn a_file_with_one_fault_leaves_nothing_behind() {
        let bench = Bench::default();
        let faulty = file(0..1000).replace("S00000500,", "S-500,");
        assert_eq!(bench.problems(1, &faulty), [(502, Problem::SerialShape)]);
        assert_eq!(bench.disk.list("blocks").unwrap(), Vec::<String>::new());
        assert_eq!(bench.take_in(2, &file(0..1000)).unwrap().received, 1000, "the mended file is taken");
    }

    #[test]
    fn a_repetition_within_a_file_is_told_with_both_lines() {
        let bench = Bench::default();
        let text = "serial,pin,expiry\nA,1234-5678,\nB,111,\nC,12345678,\nA,222,\nB,111,\n";
        let repeated = |what, line| Problem::Repeated { what, line };
        let expected = [
            (4, repeated(What::Pin, 2)),
            (5, repeated(What::Serial, 2)),
            (6, repeated(What::Pin, 3)),
            (6, repeated(What::Serial, 3)),
        ];
        let mut found = bench.problems(1, text);
        found.sort_by_key(|(line, problem)| (*line, problem.to_string()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_pin_or_a_serial_seen_in_an_earlier_batch_is_refused() {
        let bench = Bench::default();
        bench.take_in(1, "serial,pin,expiry\nA,111,\nB,222,\n").unwrap();
        let seen = |what, line| Problem::SeenBefore { what, batch: BatchId(1), line };
        let text = "serial,pin,expiry\nC,333,\nD,222,\nA,444,\n";
        assert_eq!(bench.problems(2, text), [(3, seen(What::Pin, 3)), (4, seen(What::Serial, 2))]);
        let swapped = "serial,pin,expiry\n111,555,\n222,666,\n";
        assert!(bench.take_in(3, swapped).is_ok(), "a serial that reads like a PIN is no repetition");
        assert!(bench.take_in(4, "serial,pin,expiry\nC,333,\n").is_ok(), "what was refused was not seen");
    }

    #[test]
    fn a_delivery_that_was_never_committed_does_not_bar_the_same_file() {
        let mut bench = Bench::default();
        bench.take_in(1, &file(0..100)).unwrap();
        // The hub lost power here, before it committed batch 1.
        bench.counts = Box::new(|batch| batch != BatchId(1));
        assert_eq!(bench.take_in(2, &file(0..100)).unwrap().received, 100);
        assert_eq!(bench.problems(3, &file(99..100)).len(), 2, "what is committed bars it");
    }

    #[test]
    fn a_delivery_under_way_bars_the_same_pins() {
        let bench = Bench::default();
        bench.take_in(1, &file(0..100)).unwrap();
        assert_eq!(bench.problems(2, &file(50..51)).len(), 2);
    }

    #[test]
    fn a_full_disk_leaves_no_block_and_bars_nothing() {
        let mut bench = Bench::default();
        bench.disk.limit(Some(65_536 * 64 + 1000));
        let error = bench.take_in(1, &file(0..70_000)).unwrap_err();
        assert!(
            matches!(&error, IntakeError::Delivery(DeliveryError::Disk(disk)) if disk.is_full()),
            "{error}"
        );
        assert_eq!(bench.disk.list("blocks").unwrap(), Vec::<String>::new());
        bench.disk.limit(None);
        bench.counts = Box::new(|batch| batch != BatchId(1));
        assert_eq!(bench.take_in(2, &file(0..70_000)).unwrap().received, 70_000);
    }

    #[test]
    fn a_file_without_pins_or_with_too_many_dates_is_refused() {
        let bench = Bench::default();
        assert!(matches!(bench.take_in(1, "serial,pin,expiry\n# none\n"), Err(IntakeError::Empty)));
        let dates = (0..101).map(|n| format!("S{n},{n},{}-01-01\n", 2030 + n)).collect::<String>();
        let error = bench.take_in(2, &format!("serial,pin,expiry\n{dates}")).unwrap_err();
        let expected = "needs 101 blocks, 100 are reserved";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn no_pin_is_found_in_clear_in_a_block_or_a_message() {
        let bench = Bench::default();
        let delivery = bench.take_in(1, "serial,pin,expiry\nS1,QWERTY-4711,\n").unwrap();
        let bytes = bench.disk.open(&delivery.blocks[0].path).unwrap();
        let shows = |bytes: &[u8], pin: &str| bytes.windows(pin.len()).any(|window| window == pin.as_bytes());
        assert!(shows(&bytes, "S1") && !shows(&bytes, "QWER") && !shows(&bytes, "4711"));
        let error = bench.take_in(2, &(file(0..50) + "S,12x4567,\n")).unwrap_err();
        assert!(!shows(error.to_string().as_bytes(), "12x4567"));
        let error = bench.take_in(3, "serial,pin,expiry\nS2,QWERTY4711,\n").unwrap_err();
        assert!(!shows(error.to_string().as_bytes(), "QWERTY"));
    }
}
