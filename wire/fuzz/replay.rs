//! The corpus of a fuzz target, and inputs near it, without a fuzzer: what stable compilers run on every change.

use std::fs;
use std::path::Path;

/// Runs a target on every file of its corpus and on changed copies of them. `PINWHEEL_SEED` chooses the changes,
/// `PINWHEEL_FUZZ_RUNS` their number.
pub(crate) fn replay(crate_directory: &str, target: &str, run: impl Fn(&[u8])) {
    let directory = Path::new(crate_directory).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
    paths.sort();
    let corpus: Vec<_> = paths.iter().map(|path| fs::read(path).expect("it can be read")).collect();
    assert!(!corpus.is_empty(), "{target} has a corpus");
    let seed = number("PINWHEEL_SEED", 1);
    println!("{target}: {} inputs, and changed ones with PINWHEEL_SEED={seed}", corpus.len());
    let run = |input: &[u8]| {
        let shown = Shown(input);
        run(input);
        drop(shown);
    };
    corpus.iter().for_each(|input| run(input));
    let mut random = Random(seed);
    for _ in 0..number("PINWHEEL_FUZZ_RUNS", 2000) {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut input, &corpus, &mut random);
        }
        run(&input);
    }
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(6) {
        0 => input.truncate(at),
        1 => input.insert(at, random.next() as u8),
        2 if at < input.len() => input[at] ^= 1 << random.below(8),
        3 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        4 if at < input.len() => _ = input.remove(at),
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            input.splice(at.., other[from..].iter().copied());
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("it is a number"))
}

/// Says what broke the target.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("the input was {hex}");
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

const INPUT_BYTES_MAX: usize = 4096;
