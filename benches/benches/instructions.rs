//! Instructions of one whole sale in memory, counted by callgrind: the same on a busy machine as on a quiet one.
//!
//! `cargo bench -p benches --bench instructions`. Needs `valgrind`; to see where they are spent, look at the files it names
//! with `callgrind_annotate`.

use benches::counter::{Counter, TERMINALS};
use std::error::Error;
use std::path::Path;
use std::process::Command;
use wire::session::Mode;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "sell", mode, rounds] => {
            sell(if mode == "clear" { Mode::Clear } else { Mode::Sealed }, rounds.parse()?);
            return Ok(());
        }
        _ if Command::new("valgrind").arg("--version").output().is_err() => {
            println!("left out: valgrind is not installed (Debian: apt-get install valgrind)");
            return Ok(());
        }
        _ => {}
    }
    for mode in ["clear", "sealed"] {
        // Windows are full by then; what the first rounds cost apart from the others is taken off.
        let (few, many) = (count(mode, FEW)?, count(mode, MANY)?);
        let per_sale = (many - few) as f64 / ((MANY - FEW) * TERMINALS as u64) as f64;
        println!("in-process vend, {mode}: {per_sale:.0} instructions a sale");
    }
    Ok(())
}

fn sell(mode: Mode, rounds: u64) {
    let mut counter = Counter::new(mode);
    counter.stock(rounds * TERMINALS as u64);
    for _ in 0..rounds {
        let mut frames = counter.frames();
        counter.sell(&mut frames);
        counter.commit();
    }
}

fn count(mode: &str, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{mode}.{rounds}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*Counter*sell*", "--dump-instr=no"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["sell", mode, &rounds.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split("Collected :").nth(1));
    println!("{}", file.display());
    Ok(counted.ok_or_else(|| format!("valgrind counted nothing: {said}"))?.trim().parse()?)
}

const FEW: u64 = 66;
const MANY: u64 = 86;
