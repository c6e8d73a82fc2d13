//! What is in the memory of a process.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// How many bytes were looked at, and which of these texts were among them. All are of one length, and of digits.
pub(crate) fn find_digits(pid: u32, texts: &HashSet<Vec<u8>>) -> (usize, HashSet<Vec<u8>>) {
    let length = texts.iter().next().expect("there is something to look for").len();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let (mut seen, mut found) = (0, HashSet::new());
    for line in maps.lines().filter(|line| !line.ends_with("[vvar]") && !line.ends_with("[vsyscall]")) {
        let (range, rights) = line.split_once(' ').unwrap();
        if !rights.starts_with('r') {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Some pages of the system's own cannot be read, nor what was given back meanwhile.
        let Ok(read) = memory.read_at(&mut bytes, start) else { continue };
        seen += read;
        for run in bytes[..read].split(|byte| !byte.is_ascii_digit()) {
            let hits = run.windows(length).filter(|window| texts.contains(*window));
            found.extend(hits.map(<[u8]>::to_vec));
        }
    }
    (seen, found)
}
