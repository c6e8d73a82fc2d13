//! The terminals that a run plays: their numbers and keys, as `pinwheel terminal add --out` writes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use wire::message::{KeyEpoch, TerminalId};

/// One terminal to play.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Its number.
    pub id: TerminalId,
    /// Which of its keys this is.
    pub key_epoch: KeyEpoch,
    /// The key.
    pub key: [u8; 32],
}

impl std::fmt::Debug for Terminal {
    /// Leaves the key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Terminal({}, epoch {})", self.id.0, self.key_epoch.0)
    }
}

/// Why there are no terminals to play. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TerminalsError {
    /// The file cannot be read.
    #[error(
        "cannot read the terminals in {path}: {source}; `pinwheel terminal add --count N --out FILE` makes some"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not a terminal.
    #[error("{path}, line {line}: not `terminal,key_epoch,key` in decimal, decimal and 64 hex digits")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Two machines with the same number would void each other's sales.
    #[error("{path}: terminal {terminal} is there twice")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Its number.
        terminal: u64,
    },
    /// Fewer than were asked for.
    #[error("{path} holds {found} terminals, {wanted} are wanted")]
    TooFew {
        /// The file.
        path: PathBuf,
        /// In the file.
        found: usize,
        /// Asked for.
        wanted: usize,
    },
}

/// The first `count` terminals in a file, or all of them.
///
/// # Errors
/// [`TerminalsError`].
pub(crate) fn read(path: &Path, count: Option<usize>) -> Result<Vec<Terminal>, TerminalsError> {
    let unreadable = |source| TerminalsError::Unreadable { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    let mut places = [0, 1, 2];
    if let Some((_, head)) = lines.peek()
        && head.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        let columns: Vec<&str> = head.split(',').map(str::trim).collect();
        for (place, name) in places.iter_mut().zip(["terminal", "key_epoch", "key"]) {
            let found = columns.iter().position(|column| *column == name);
            *place = found.ok_or_else(|| TerminalsError::Malformed { path: path.to_owned(), line: 1 })?;
        }
        lines.next();
    }
    let mut terminals = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (at, line) in lines {
        let terminal = parse(line, places)
            .ok_or_else(|| TerminalsError::Malformed { path: path.to_owned(), line: at + 1 })?;
        if !seen.insert(terminal.id) {
            return Err(TerminalsError::Twice { path: path.to_owned(), terminal: terminal.id.0 });
        }
        terminals.push(terminal);
        if count == Some(terminals.len()) {
            return Ok(terminals);
        }
    }
    match count.unwrap_or(1) {
        wanted if terminals.len() < wanted => {
            Err(TerminalsError::TooFew { path: path.to_owned(), found: terminals.len(), wanted })
        }
        _ => Ok(terminals),
    }
}

fn parse(line: &str, places: [usize; 3]) -> Option<Terminal> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [id, key_epoch, hex] = places.map(|place| fields.get(place).copied());
    let hex = hex?.as_bytes();
    let mut key = [0; 32];
    if hex.len() != 2 * key.len() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    let id = TerminalId(id?.parse().ok()?);
    Some(Terminal { id, key_epoch: KeyEpoch(key_epoch?.parse().ok()?), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn columns_are_found_by_their_names_and_others_are_ignored() {
        let key = "0f".repeat(32);
        let file = file(&format!("terminal,dealer,key_epoch,key\n7,1,2,{key}\n8,1,1,{key}\n"));
        let terminals = read(file.path(), None).unwrap();
        assert_eq!(terminals.len(), 2);
        assert_eq!(terminals[0], Terminal { id: TerminalId(7), key_epoch: KeyEpoch(2), key: [0x0f; 32] });
        assert_eq!(read(file.path(), Some(1)).unwrap().len(), 1);
        assert!(matches!(
            read(file.path(), Some(3)),
            Err(TerminalsError::TooFew { found: 2, wanted: 3, .. })
        ));
    }

    #[test]
    fn a_bad_line_and_a_terminal_that_is_there_twice_are_named() {
        let key = "aa".repeat(32);
        let bad = file(&format!("1,1,{key}\n2,1,zz\n"));
        assert!(matches!(read(bad.path(), None), Err(TerminalsError::Malformed { line: 2, .. })));
        let twice = file(&format!("1,1,{key}\n1,2,{key}\n"));
        assert!(matches!(read(twice.path(), None), Err(TerminalsError::Twice { terminal: 1, .. })));
    }
}
