//! The real disk: files under one directory, regions and contents as memory mappings.
//!
//! All the engine's `unsafe` about storage is here. A mapping is sound as long as nobody else changes the file: the
//! data directory's lock keeps other instances out, a region has one owner in this process, contents are never written
//! again, and both are replaced only by rename. What remains is a file that is cut short from outside, or a medium
//! that cannot read it: the system then sends SIGBUS, and the handler below ends the process, naming file and
//! offset, before the touched bytes mean anything.
#![allow(unsafe_code)]

use super::lock::DirLock;
use super::{Disk, DiskError, Region};
use memmap2::{Mmap, MmapMut};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{
    AtomicU8, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, Once, PoisonError};

/// Files in a directory that this process holds the lock of.
#[derive(Clone, Debug)]
pub struct MappedDisk {
    root: PathBuf,
}

impl MappedDisk {
    /// The disk in `subdirectory` of a locked data directory ("" for the directory itself); what an earlier process left
    /// half-written is removed.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(lock: &DirLock, subdirectory: &str) -> Result<Self, DiskError> {
        install_bus_handler();
        let disk = Self { root: lock.directory().to_owned() };
        let root = if subdirectory.is_empty() { disk.root } else { disk.absolute(subdirectory) };
        make_directory(&root).map_err(failed("create", &root))?;
        remove_temporaries(&root).map_err(failed("clean", &root))?;
        Ok(Self { root })
    }

    fn absolute(&self, path: &str) -> PathBuf {
        let relative = Path::new(path);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        assert!(plain && !path.is_empty(), "{path:?} is a path within the disk");
        self.root.join(relative)
    }

    /// Fills a temporary file beside `path`, makes it durable, and gives it its name, durably. On error neither is there,
    /// unless the old file is.
    fn install(
        &self,
        path: &Path,
        action: &'static str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let directory = path.parent().unwrap_or(&self.root);
        let temporary = temporary_path(path);
        let write = || {
            make_directory(directory)?;
            let mut file = File::create(&temporary)?;
            fill(&mut file)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            sync_directory(directory)
        };
        write().map_err(|error| {
            // Room matters most now; that this may fail as well changes nothing.
            let _ = fs::remove_file(&temporary);
            failed(action, path)(error)
        })
    }
}

impl Disk for MappedDisk {
    type Region = MappedRegion;
    type Content = MappedContent;

    fn create_region(&self, path: &str, size_bytes: u64) -> Result<MappedRegion, DiskError> {
        self.install(&self.absolute(path), "create", |file| {
            // Written, not reserved: no store into the mapping can then lack a block. By pages, because the page cache
            // keeps what one write brought as one folio, and a single mapped store dirties all of its folio.
            let (mut at, mut trickle) = (0, Trickle::default());
            while at < size_bytes {
                let length = (ZERO_PAGE.len() as u64).min(size_bytes - at);
                file.write_all_at(&ZERO_PAGE[..length as usize], at)?;
                at += length;
                trickle.follow(file, at)?;
            }
            Ok(())
        })?;
        self.open_region(path)
    }

    fn open_region(&self, path: &str) -> Result<MappedRegion, DiskError> {
        let path = self.absolute(path);
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let metadata = file.metadata()?;
            if metadata.blocks() * 512 < metadata.len() {
                fill_holes(&file, metadata.len())?;
            }
            let ownership = Ownership::take(&metadata)?;
            // SAFETY: the file is this process's alone (directory lock), and this region's alone (ownership).
            let map = unsafe { MmapMut::map_mut(&file) }?;
            let registration = Registration::new(&map, &path);
            Ok(MappedRegion {
                _registration: registration,
                map,
                file,
                path: path.clone(),
                _ownership: ownership,
            })
        };
        open().map_err(failed("open", &path))
    }

    fn write(&self, path: &str, parts: &[&[u8]]) -> Result<(), DiskError> {
        let write = |file: &mut File| {
            let (mut at, mut trickle) = (0, Trickle::default());
            for slice in parts.iter().flat_map(|part| part.chunks(SLICE_BYTES as usize)) {
                file.write_all(slice)?;
                at += slice.len() as u64;
                trickle.follow(file, at)?;
            }
            Ok(())
        };
        self.install(&self.absolute(path), "write", write)
    }

    fn open(&self, path: &str) -> Result<MappedContent, DiskError> {
        let path = self.absolute(path);
        let open = || {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            if length <= SMALL_BYTES_MAX {
                let mut bytes = Vec::with_capacity(length as usize);
                file.read_to_end(&mut bytes)?;
                return Ok(MappedContent(Held::Small(bytes)));
            }
            // SAFETY: contents are never written after they got their name, only replaced by rename or removed, which
            // leave what is mapped as it is.
            let map = unsafe { Mmap::map(&file) }?;
            Ok(MappedContent(Held::Mapped { _registration: Registration::new(&map, &path), map }))
        };
        open().map_err(failed("open", &path))
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), DiskError> {
        let path = self.absolute(path);
        let mut read = || {
            let file = File::open(&path)?;
            // What a buffer has held before is written over, not cleared first.
            into.resize(length, 0);
            let mut filled = 0;
            while filled < length {
                match file.read_at(&mut into[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(more) => filled += more,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            into.truncate(filled);
            Ok(())
        };
        read().map_err(failed("read", &path))
    }

    fn append(&self, path: &str, bytes: &[u8]) -> Result<u64, DiskError> {
        let path = self.absolute(path);
        let directory = path.parent().unwrap_or(&self.root);
        let append = || {
            make_directory(directory)?;
            let is_new = !path.try_exists()?;
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            if is_new {
                sync_directory(directory)?;
            }
            Ok(file.metadata()?.len())
        };
        append().map_err(failed("append to", &path))
    }

    fn truncate(&self, path: &str, length: u64) -> Result<(), DiskError> {
        let path = self.absolute(path);
        let truncate = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(length)?;
            file.sync_all()
        };
        truncate().map_err(failed("truncate", &path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (from, to) = (self.absolute(from), self.absolute(to));
        let rename = || {
            let directories = [from.parent().unwrap_or(&self.root), to.parent().unwrap_or(&self.root)];
            make_directory(directories[1])?;
            fs::rename(&from, &to)?;
            sync_directory(directories[1])?;
            if directories[0] == directories[1] { Ok(()) } else { sync_directory(directories[0]) }
        };
        rename().map_err(failed("rename", &from))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let path = self.absolute(path);
        let remove = || match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory(path.parent().unwrap_or(&self.root)),
        };
        remove().map_err(failed("remove", &path))
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        let directory = self.absolute(directory);
        let list = || {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type()?.is_file() && !is_temporary(&name) {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        list().map_err(failed("list", &directory))
    }
}

/// A file mapped for reading and writing.
#[derive(Debug)]
pub struct MappedRegion {
    // Dropped before the mapping: the table never names memory that is somebody else's.
    _registration: Registration,
    map: MmapMut,
    file: File,
    path: PathBuf,
    // Dropped after the mapping.
    _ownership: Ownership,
}

impl MappedRegion {
    /// The other way to make stores durable, `msync` of a range: here so that the substrate benchmark can say what it
    /// costs.
    ///
    /// # Errors
    /// [`DiskError`].
    #[doc(hidden)]
    pub fn sync_by_range(&mut self, offset: usize, length: usize) -> Result<(), DiskError> {
        self.map.flush_range(offset, length).map_err(failed("sync", &self.path))
    }
}

impl Region for MappedRegion {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        self.map[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        // Writes back what was stored through the mapping as well, without the walk over the range that `msync` makes.
        self.file.sync_data().map_err(failed("sync", &self.path))
    }
}

/// An immutable file, for reading.
#[derive(Debug)]
pub struct MappedContent(Held);

#[derive(Debug)]
enum Held {
    /// Read whole: a mapping of its own would cost a page, and one of the mappings that the system allows a process.
    Small(Vec<u8>),
    /// Mapped. In this order: see `MappedRegion`.
    Mapped { _registration: Registration, map: Mmap },
}

impl AsRef<[u8]> for MappedContent {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Held::Small(bytes) => bytes,
            Held::Mapped { map, .. } => map,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.display().to_string();
    move |source| DiskError { path, action, source }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().ok_or(ErrorKind::NotFound)?;
    make_directory(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(parent),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_temporaries(&entry.path())?;
        } else if is_temporary(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Gives every byte of the file a block: a copy made by a tool that keeps holes has none for zeros.
fn fill_holes(file: &File, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is passed.
    let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Sends a new file to the disk while it is written, one slice after another, so that what waits for the disk meanwhile, as
/// the journal of a node that sells, waits for a slice and not for the whole. Nothing is durable before the file's sync,
/// which then finds little left to do.
#[derive(Default)]
struct Trickle {
    /// Up to here the disk has the file.
    arrived: u64,
    /// Up to here it is on its way.
    sent: u64,
}

impl Trickle {
    /// The file is written up to `end`.
    fn follow(&mut self, file: &File, end: u64) -> io::Result<()> {
        if end - self.sent < SLICE_BYTES {
            return Ok(());
        }
        if self.arrived < self.sent {
            write_back(file, self.arrived..self.sent, libc::SYNC_FILE_RANGE_WAIT_BEFORE)?;
        }
        write_back(file, self.sent..end, libc::SYNC_FILE_RANGE_WRITE)?;
        (self.arrived, self.sent) = (self.sent, end);
        Ok(())
    }
}

/// Begins or awaits the writing of a part of a file, without making it durable. An error of the disk is told here or by the
/// sync, so neither may be passed over; a system that cannot do this leaves all the work to the sync.
fn write_back(file: &File, part: Range<u64>, what: libc::c_uint) -> io::Result<()> {
    let offset = |at: u64| libc::off64_t::try_from(at).map_err(io::Error::other);
    let (start, length) = (offset(part.start)?, offset(part.end - part.start)?);
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is passed.
    let code = unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, what) };
    match io::Error::last_os_error() {
        _ if code == 0 => Ok(()),
        error if error.kind() == ErrorKind::Unsupported => Ok(()),
        error => Err(error),
    }
}

/// The right to map a file for writing: a second region of it would alias the memory of the first.
#[derive(Debug)]
struct Ownership {
    device: u64,
    inode: u64,
}

impl Ownership {
    fn take(metadata: &fs::Metadata) -> io::Result<Self> {
        let (device, inode) = (metadata.dev(), metadata.ino());
        let is_new = OWNED.lock().unwrap_or_else(PoisonError::into_inner).insert((device, inode));
        if is_new { Ok(Self { device, inode }) } else { Err(ErrorKind::ResourceBusy.into()) }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        OWNED.lock().unwrap_or_else(PoisonError::into_inner).remove(&(self.device, self.inode));
    }
}

/// A mapping's line in the table that the SIGBUS handler reads.
#[derive(Debug)]
struct Registration {
    line: Option<&'static Line>,
}

impl Registration {
    /// Without a free line the mapping goes unnamed; nothing else depends on it.
    fn new(mapped: &[u8], path: &Path) -> Self {
        let _alone = REGISTERING.lock().unwrap_or_else(PoisonError::into_inner);
        let line = LINES.iter().find(|line| line.end.load(Relaxed) == 0);
        if let Some(line) = line {
            let name = path.as_os_str().as_encoded_bytes();
            let name = &name[name.len().saturating_sub(NAME_BYTES_MAX)..];
            for (into, byte) in line.name.iter().zip(name) {
                into.store(*byte, Relaxed);
            }
            line.name_bytes.store(name.len(), Relaxed);
            let start = mapped.as_ptr().addr();
            line.start.store(start, Relaxed);
            // Pairs with the load in `on_bus_error`: who sees the end sees the rest of the line.
            line.end.store(start + mapped.len(), Release);
        }
        Self { line }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(line) = self.line {
            line.end.store(0, Release);
        }
    }
}

/// One mapping. The handler may run at any moment in any thread, so all it reads is atomic and static.
#[derive(Debug)]
struct Line {
    start: AtomicUsize,
    /// One past the last address; 0: the line is free.
    end: AtomicUsize,
    name_bytes: AtomicUsize,
    /// The end of the path.
    name: [AtomicU8; NAME_BYTES_MAX],
}

/// Ends the process when a mapping is lost. Everything it calls is async-signal-safe.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the system passes a valid siginfo.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS fills the address field.
    let address = unsafe { info.si_addr() }.addr();
    // Pairs with the store in `Registration::new`.
    let holds = |line: &&Line| address < line.end.load(Acquire) && address >= line.start.load(Relaxed);
    let Some(line) = LINES.iter().find(holds) else {
        // Not ours. The default action ends the process as soon as this returns and the access is tried again.
        // SAFETY: async-signal-safe, and SIG_DFL is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let mut message = Message { bytes: [0; MESSAGE_BYTES], length: 0 };
    message.add(b"pinwheel: stopped: ");
    for byte in line.name.iter().take(line.name_bytes.load(Relaxed)) {
        message.add(&[byte.load(Relaxed)]);
    }
    message.add(b" is lost at byte ");
    message.add_number(address - line.start.load(Relaxed));
    message.add(b": the file was cut short or cannot be read\n");
    // SAFETY: async-signal-safe; the buffer is valid for its length.
    unsafe { libc::write(libc::STDERR_FILENO, message.bytes.as_ptr().cast(), message.length) };
    // SAFETY: async-signal-safe; nothing runs after it.
    unsafe { libc::_exit(LOST_MAPPING_EXIT_CODE) };
}

/// Text made without allocation.
struct Message {
    bytes: [u8; MESSAGE_BYTES],
    length: usize,
}

impl Message {
    /// What does not fit is left out.
    fn add(&mut self, text: &[u8]) {
        for (into, byte) in self.bytes.iter_mut().skip(self.length).zip(text) {
            *into = *byte;
            self.length += 1;
        }
    }

    fn add_number(&mut self, mut number: usize) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.add(&digits[first..]);
    }
}

fn install_bus_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: all-zero bytes are a valid sigaction: no flags, an empty mask.
        let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both pointers are valid or null, and the handler has the signature that SA_SIGINFO asks for.
        let code = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
        assert_eq!(code, 0, "SIGBUS can be handled");
    });
}

/// Exit code of a process whose mapped file was lost: `EX_IOERR` of sysexits.
pub const LOST_MAPPING_EXIT_CODE: i32 = 74;

static ZERO_PAGE: [u8; 4096] = [0; 4096];

/// Device and inode of every file that is open as a region.
static OWNED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

static REGISTERING: Mutex<()> = Mutex::new(());
static LINES: [Line; LINES_MAX] = [const {
    Line {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        name_bytes: AtomicUsize::new(0),
        name: [const { AtomicU8::new(0) }; NAME_BYTES_MAX],
    }
}; LINES_MAX];
/// Bytes of a new file that are on their way to the disk at a time.
const SLICE_BYTES: u64 = 256 << 10;
/// Files up to this size are read, not mapped.
const SMALL_BYTES_MAX: u64 = 16 << 10;
const LINES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 232;
const MESSAGE_BYTES: usize = 512;

#[cfg(test)]
mod tests;
