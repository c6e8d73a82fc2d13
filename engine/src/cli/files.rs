//! Small files in a data directory: keys of terminals, the address, whether the first start is done.

use super::Exit;
use crate::admin::KeyRow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The sample terminals' keys, and those that `rekey` renews.
pub(super) fn terminals_path(data: &Path) -> PathBuf {
    data.join("terminals.csv")
}

/// Where `up` says where it listens.
pub(super) fn address_path(data: &Path) -> PathBuf {
    data.join("address")
}

/// Is there once the first start has put everything in place.
pub(super) fn begun_path(data: &Path) -> PathBuf {
    data.join("begun")
}

/// What a terminal of this machine keeps.
pub(super) fn till_path(data: &Path, terminal: u64) -> PathBuf {
    data.join("tills").join(terminal.to_string())
}

/// Keys as a CSV file's text.
pub(super) fn keys_csv(keys: &[KeyRow]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for key in keys {
        writer.serialize(key).expect("a row of numbers and one key can be written");
    }
    let bytes = writer.into_inner().expect("a vector takes everything");
    String::from_utf8(bytes).expect("numbers and keys are ASCII")
}

/// Rows as a CSV file's text.
pub(super) fn csv<T: serde::Serialize>(rows: &[T]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("a row of numbers and texts can be written");
    }
    let bytes = writer.into_inner().expect("a vector takes everything");
    String::from_utf8(bytes).expect("texts are UTF-8")
}

/// Reads rows of a CSV file with a heading.
pub(super) fn read_csv<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, Exit> {
    let failed = |error: csv::Error| Exit::no(format!("cannot read {}: {error}", path.display()));
    csv::Reader::from_path(path).map_err(failed)?.deserialize().collect::<Result<_, _>>().map_err(failed)
}

/// Reads keys.
pub(super) fn read_keys(path: &Path) -> Result<Vec<KeyRow>, Exit> {
    let failed = |error: csv::Error| Exit::unreachable(format!("cannot read {}: {error}", path.display()));
    csv::Reader::from_path(path).map_err(failed)?.deserialize().collect::<Result<_, _>>().map_err(failed)
}

/// The numbers in the column `terminal`.
pub(super) fn read_numbers(path: &Path) -> Result<Vec<u64>, Exit> {
    #[derive(serde::Deserialize)]
    struct Row {
        terminal: u64,
    }
    let failed = |error: csv::Error| Exit::no(format!("cannot read {}: {error}", path.display()));
    let rows = csv::Reader::from_path(path).map_err(failed)?.into_deserialize();
    rows.map(|row| row.map(|row: Row| row.terminal)).collect::<Result<_, _>>().map_err(failed)
}

/// Writes a secret into a new file; an old one is never touched.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Exit> {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| Exit::no(format!("cannot write {}: {error}", path.display())))
}

/// Replaces a file as a whole, readable by its owner alone.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::TerminalKey;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn keys_come_back_from_a_file_that_only_its_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("terminals.csv");
        let keys = [KeyRow { terminal: 7, dealer: 1, key_epoch: 2, key: TerminalKey::new([0xab; 32]) }];
        let text = keys_csv(&keys);
        assert!(text.starts_with("terminal,dealer,key_epoch,key\n7,1,2,abab"));
        write_new(&path, &text).ok().unwrap();
        assert!(write_new(&path, &text).is_err(), "never overwritten");
        replace(&path, &text).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_keys(&path).ok().unwrap(), keys);
        assert_eq!(read_numbers(&path).ok().unwrap(), [7]);
    }
}
