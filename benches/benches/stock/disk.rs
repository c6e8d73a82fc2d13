//! What the disk takes in at most.

use benches::process::Result;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// Writes files of these sizes, one after the other, each synced; bytes per second.
pub(crate) fn write_rate(folder: &Path, files: usize, bytes: usize) -> Result<f64> {
    let folder = tempfile::tempdir_in(folder)?;
    let content: Vec<u8> =
        (0..bytes).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let start = Instant::now();
    for file in 0..files {
        let mut file = File::create(folder.path().join(file.to_string()))?;
        file.write_all(&content)?;
        file.sync_data()?;
    }
    Ok((files * bytes) as f64 / start.elapsed().as_secs_f64())
}
