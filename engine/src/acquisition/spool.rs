//! A supplier's directory: `out`, `in`, `done`, `rejected`. All that touches it is here.
//!
//! It may be on another machine's disk or be read by another program at any moment: a file appears in it only by rename,
//! whole and synced, and the directory is synced before anybody counts on it.

use super::Setback;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One supplier's directory.
pub(super) struct Spool<'a> {
    directory: &'a Path,
}

/// Why an order file is not known to be out.
pub(super) enum Unplaced {
    /// Nobody can have seen it.
    Unseen(io::Error),
    /// Somebody may have seen it, and it may be gone after a power cut.
    Doubtful(io::Error),
}

/// What became of a batch file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Its PINs are in the books.
    Done,
    /// It is not taken.
    Rejected,
}

impl<'a> Spool<'a> {
    /// Opens a directory, and makes it if there is none. One that is there without its folders is left alone: a disk may
    /// not be mounted.
    pub(super) fn open(directory: &'a Path) -> Result<Self, Setback> {
        let failed = |error: io::Error| Setback::Later(format!("{}: {error}", directory.display()));
        if !directory.try_exists().map_err(failed)? {
            // As a whole or not at all: the folders are there before the directory has its name.
            let mut fresh = directory.as_os_str().to_owned();
            fresh.push(".new");
            let fresh = PathBuf::from(fresh);
            for folder in [OUT, IN, DONE, REJECTED] {
                fs::create_dir_all(fresh.join(folder)).map_err(failed)?;
            }
            fs::rename(&fresh, directory).map_err(failed)?;
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        }
        for folder in [OUT, IN, DONE, REJECTED] {
            if !directory.join(folder).is_dir() {
                let directory = directory.display();
                return Err(Setback::Later(format!("{directory} has no folder {folder:?}: is it mounted?")));
            }
        }
        Ok(Self { directory })
    }

    /// Puts an order file out.
    pub(super) fn place(&self, name: &str, text: &str) -> Result<(), Unplaced> {
        let out = self.directory.join(OUT);
        write_whole(&out, name, text).map_err(Unplaced::Unseen)?;
        sync(&out).map_err(Unplaced::Doubtful)
    }

    /// Whether an order file is out, for good.
    pub(super) fn is_placed(&self, name: &str) -> Result<bool, Setback> {
        let out = self.directory.join(OUT);
        let is_there = out.join(name).try_exists().and_then(|is_there| match is_there {
            true => sync(&out).map(|()| true),
            false => Ok(false),
        });
        is_there.map_err(|error| self.failed(&error))
    }

    /// The batch files that have come, in order of their names.
    pub(super) fn incoming(&self) -> Result<Vec<String>, Setback> {
        let entries = fs::read_dir(self.directory.join(IN)).map_err(|error| self.failed(&error))?;
        let mut names = Vec::new();
        for entry in entries.take(FILES_MAX) {
            let entry = entry.map_err(|error| self.failed(&error))?;
            // What is no file may be waited for without end; what is no text has no place in a report.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_file && !name.starts_with('.') && !name.ends_with(".tmp") {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a batch file.
    pub(super) fn batch_file(&self, name: &str) -> Result<File, Setback> {
        File::open(self.directory.join(IN).join(name)).map_err(|error| self.failed(&error))
    }

    /// Whether a file of this name has been taken in and put away, or removed if it was not to be kept.
    pub(super) fn is_done(&self, name: &str, kept: bool) -> Result<bool, Setback> {
        let trace = if kept { name.to_owned() } else { format!("{name}{REPORT}") };
        let there = self.directory.join(DONE).join(trace).try_exists();
        there.map_err(|error| self.failed(&error))
    }

    /// Puts a batch file away, with its report beside it; a file of that name that is there keeps it, and this one gets a
    /// number. `keep`: the file itself stays.
    pub(super) fn finish(&self, name: &str, end: End, report: &str, keep: bool) -> Result<(), Setback> {
        let from = self.directory.join(IN);
        let folder = self.directory.join(match end {
            End::Done => DONE,
            End::Rejected => REJECTED,
        });
        let finish = || -> io::Result<()> {
            let free = self.free_name(&folder, name)?;
            // The report first: without its file it is written again, a file without its report is not found again.
            write_whole(&folder, &format!("{free}{REPORT}"), report)?;
            match keep {
                true => fs::rename(from.join(name), folder.join(&free))?,
                false => fs::remove_file(from.join(name))?,
            }
            sync(&folder)?;
            sync(&from)
        };
        finish().map_err(|error| self.failed(&error))
    }

    fn free_name(&self, folder: &Path, name: &str) -> io::Result<String> {
        for number in 1..=SAME_NAMES_MAX {
            let free = if number == 1 { name.to_owned() } else { format!("{name}.{number}") };
            if !folder.join(&free).try_exists()? {
                return Ok(free);
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, format!("too many files named {name}")))
    }

    fn failed(&self, error: &io::Error) -> Setback {
        Setback::Later(format!("{}: {error}", self.directory.display()))
    }
}

/// Writes a file that is there whole or not at all, and synced, before it has its name. Sync the directory after it.
fn write_whole(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let fresh = folder.join(format!(".{name}.tmp"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(name))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

const OUT: &str = "out";
const IN: &str = "in";
const DONE: &str = "done";
const REJECTED: &str = "rejected";
/// Follows the name of a batch file.
const REPORT: &str = ".report.txt";
/// Batch files looked at in one turn.
const FILES_MAX: usize = 1000;
/// Files of one name that are put away.
const SAME_NAMES_MAX: u32 = 1000;
