use super::*;
use crate::journal::{Journal, JournalOptions, Position, record::RecordBytes};
use std::process::Command;
use std::sync::Arc;

fn disk(directory: &Path) -> (DirLock, MappedDisk) {
    let lock = DirLock::acquire(directory).unwrap();
    let disk = MappedDisk::open(&lock, "node").unwrap();
    (lock, disk)
}

#[test]
fn files_are_replaced_whole_listed_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let (_lock, disk) = disk(root.path());
    disk.write("a/one", &[b"12", b"", b"3"]).unwrap();
    disk.write("a/one", &[b"45"]).unwrap();
    assert_eq!(disk.open("a/one").unwrap().as_ref(), b"45");
    disk.write("a/empty", &[]).unwrap();
    assert_eq!(disk.open("a/empty").unwrap().as_ref(), b"");
    assert_eq!(disk.append("a/log", b"abc").unwrap(), 3);
    assert_eq!(disk.append("a/log", b"def").unwrap(), 6);
    disk.truncate("a/log", 4).unwrap();
    let mut part = vec![7; 200];
    disk.read("a/log", 1, 100, &mut part).unwrap();
    assert_eq!(part, b"bcd");
    disk.rename("a/log", "b/log").unwrap();
    assert_eq!(disk.list("a").unwrap(), ["empty", "one"]);
    disk.remove("a/one").unwrap();
    disk.remove("a/one").unwrap();
    assert_eq!(disk.list("a").unwrap(), ["empty"]);
    assert!(disk.list("nowhere").unwrap().is_empty());
    assert_eq!(disk.open("a/one").unwrap_err().source.kind(), ErrorKind::NotFound);
}

#[test]
fn what_a_dead_process_left_half_written_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let (lock, disk) = disk(root.path());
    disk.write("a/file", &[b"1"]).unwrap();
    let left = root.path().join("node/a/.file.tmp");
    fs::write(&left, b"half").unwrap();
    assert_eq!(disk.list("a").unwrap(), ["file"]);
    MappedDisk::open(&lock, "node").unwrap();
    assert!(!left.exists());
}

#[test]
fn a_region_has_no_holes_so_that_no_store_can_lack_room() {
    let root = tempfile::tempdir().unwrap();
    let (_lock, disk) = disk(root.path());
    let path = root.path().join("node/r");
    let is_whole = || {
        let metadata = fs::metadata(&path).unwrap();
        metadata.blocks() * 512 >= metadata.len()
    };
    let mut region = disk.create_region("r", 1 << 20).unwrap();
    assert!(is_whole());
    region.store(5000, b"kept");
    region.sync().unwrap();
    drop(region);
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    assert!(!is_whole());
    let region = disk.open_region("r").unwrap();
    assert!(is_whole());
    assert!(disk.open_region("r").is_err(), "a region has one owner");
    drop(region);
    disk.open_region("r").unwrap();
}

#[test]
fn a_journal_on_real_files_is_read_back_shipped_and_recycled() {
    let root = tempfile::tempdir().unwrap();
    let (_lock, disk) = disk(root.path());
    let disk = Arc::new(disk);
    let options = JournalOptions::with_segment_bytes(64 << 10);
    let (mut from, mut next) = (Position(0), 0_u64);
    for _boot in 0..4 {
        let expected = next;
        let mut visited = 0;
        let mut journal = Journal::open(Arc::clone(&disk), options, from, from, &mut |_, records| {
            visited += records.len() as u64;
            Ok(())
        })
        .unwrap();
        assert_eq!(visited, expected);
        next = 0;
        let (reader, upkeep) = (journal.reader(), journal.upkeep());
        for batch in 0..100 {
            while upkeep.prepare().unwrap() {}
            let records: Vec<RecordBytes> = vec![[1; 64]; journal.room().min(40)];
            assert!(journal.space().try_reserve(records.len()));
            journal.append(&records);
            let end = journal.sync().unwrap();
            next += records.len() as u64;
            let shipment = reader.read(from, 1 << 20).unwrap().unwrap();
            assert!(shipment.end <= end);
            if batch < 90 {
                (from, next) = (end, 0);
                upkeep.recycle_below(from).unwrap();
            }
        }
        assert!(disk.list("journal").unwrap().len() <= 4);
    }
}

#[test]
fn a_lost_mapping_ends_the_process_and_names_file_and_offset() {
    for how in ["store", "load", "content"] {
        let root = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "disk::mapped::tests::child_that_loses_its_mapping", "--nocapture"])
            .env(CHILD_DIRECTORY, root.path())
            .env(CHILD_ACCESS, how)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(LOST_MAPPING_EXIT_CODE), "{how}: {said}");
        assert!(said.contains("node/lost is lost at byte 20480: "), "{how}: {said}");
    }
}

/// Does nothing unless it is run as the child of the test above.
#[test]
fn child_that_loses_its_mapping() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let (_lock, disk) = disk(Path::new(&directory));
    let mut region = disk.create_region("lost", 64 << 10).unwrap();
    let content = disk.open("lost").unwrap();
    OpenOptions::new().write(true).open(disk.absolute("lost")).unwrap().set_len(20_000).unwrap();
    match std::env::var(CHILD_ACCESS).unwrap().as_str() {
        "store" => region.store(20_480, &[1]),
        "load" => assert_eq!(std::hint::black_box(region.bytes())[20_480], 0),
        _ => assert_eq!(std::hint::black_box(content.as_ref())[20_480], 0),
    }
}

const CHILD_DIRECTORY: &str = "PINWHEEL_TEST_LOST_MAPPING";
const CHILD_ACCESS: &str = "PINWHEEL_TEST_LOST_MAPPING_BY";
