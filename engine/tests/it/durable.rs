//! Law 7: when durability is lost the process stops, says what and where, and never guesses.

use crate::support::load::{Load, check_books, check_live};
use crate::support::process::{OF, Process, SMALL, SMALL_SEGMENT_BYTES};
use crate::support::{lacking, scratch};
use engine::cli::code;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Command;
use wire::message::Attempt;

/// From the moment that syncs of the journal fail nobody gets an answer. After a start on a sound disk every PIN that
/// anybody got is in the books, as sold to that terminal.
#[test]
fn law_2_7_a_failing_sync_stops_the_process_and_nothing_unproven_was_answered() {
    let scratch = scratch();
    let shim = scratch.path().join("shim.so");
    if !compile(scratch.path(), SHIM, &shim) {
        return lacking("a C compiler that makes shared libraries");
    }
    let (data, fault) = (scratch.path().join("data"), scratch.path().join("fault"));
    let network = Process::begin_small(&data, &[], 20_000);
    let keys = network.add_terminals(5);
    network.signal("TERM");
    assert!(network.wait().0.success());

    let environment = [("LD_PRELOAD", shim.as_os_str()), ("PINWHEEL_TEST_FAULT", fault.as_os_str())];
    let network = Process::try_start_among(&data, &SMALL, &environment).ok().unwrap();
    let load = Load::start(&network, &keys[1..], OF);
    let mut till = network.till(&keys[0]);
    for sequence in 1..=20 {
        till.sell(Attempt::First, sequence, OF).unwrap();
    }
    File::create(&fault).unwrap();
    let answer = till.vend(Attempt::First, 21, OF, 0);
    assert!(answer.is_err(), "law 2: {answer:?} although no sync succeeds");
    let (status, text) = network.wait();
    assert_eq!(status.code(), Some(i32::from(code::NOT_DURABLE)), "{text}");
    assert!(
        text.contains("cannot be made durable") && text.contains("journal/0000000000000000.seg"),
        "{text}"
    );

    let network = Process::start_small(&data, &[]);
    load.moved_to(&network);
    let mut till = network.till(&keys[0]);
    till.sell(Attempt::Repeat, 21, OF).unwrap();
    network.audit();
    let told = load.finish();
    network.audit();
    check_live(&network, &keys[1..], &told, OF);
    network.kill();
    check_books(&data.join("server-1"), SMALL_SEGMENT_BYTES, &keys[1..], &told);
    assert!(told.iter().all(|told| !told.sold.is_empty()));
}

/// A journal segment is cut short under the running process: it ends at once, naming file and offset, and does not start
/// on what is left.
#[test]
fn law_7_a_lost_mapping_stops_the_process_and_the_next_start_says_what_is_wrong() {
    for left_bytes in [0, 4096, 5000] {
        let scratch = scratch();
        let network = Process::begin_small(scratch.path(), &[], 1_000);
        let key = &network.add_terminals(1)[0];
        let mut till = network.till(key);
        for sequence in 1..=100 {
            till.sell(Attempt::First, sequence, OF).unwrap();
        }
        let segment = scratch.path().join("server-1/journal/0000000000000000.seg");
        OpenOptions::new().write(true).open(&segment).unwrap().set_len(left_bytes).unwrap();
        let answer = till.vend(Attempt::First, 101, OF, 0);
        assert!(answer.is_err(), "law 7: {answer:?} although the journal is lost");
        let (status, text) = network.wait();
        assert_eq!(status.code(), Some(i32::from(code::LOST_FILE)), "{text}");
        // Lost when it is stored to, damaged when it is read.
        let is_named = |how: &str| text.contains(&format!("journal/0000000000000000.seg is {how} at byte "));
        assert!(is_named("lost") || is_named("damaged"), "{text}");

        let Err(output) = Process::try_start(scratch.path(), &SMALL) else {
            panic!("law 7: it started on {left_bytes} bytes of a journal segment");
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(code::UNREACHABLE)), "{text}");
        assert!(text.contains("journal/0000000000000000.seg"), "{text}");
    }
}

fn compile(directory: &Path, source: &str, to: &Path) -> bool {
    let path = directory.join("shim.c");
    std::fs::write(&path, source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(to).arg(&path).output();
    compiled.is_ok_and(|output| output.status.success())
}

/// Once the file of that name exists, syncs of the seller's journal fail.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int fd) {
    const char *fault = getenv("PINWHEEL_TEST_FAULT");
    char link[64], path[4096];
    if (!fault || access(fault, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/server-1/journal/") != NULL;
}

int fdatasync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}
"#;
