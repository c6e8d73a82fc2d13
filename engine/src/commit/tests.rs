use super::sender::{Ring, SUBMISSION_RECORDS_MAX, SUBMISSIONS_MAX};
use super::*;
use crate::disk::heap::HeapDisk;
use crate::journal::record::RECORD_BYTES;
use crate::journal::{JournalOptions, Space};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[derive(Default)]
struct CountingWake(AtomicU64);

impl CountingWake {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountingWake {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wake for thread::Thread {
    fn wake(&self) {
        self.unpark();
    }
}

fn record(sender: u64, number: u64) -> RecordBytes {
    let mut bytes = [1; RECORD_BYTES];
    bytes[8..16].copy_from_slice(&sender.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn journal(disk: &HeapDisk, visit: &mut dyn FnMut(u64, u64)) -> Journal<HeapDisk> {
    let options = JournalOptions::with_segment_bytes(256 << 10);
    let word = |record: &RecordBytes, at| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    Journal::open(Arc::new(disk.clone()), options, Position(0), Position(0), &mut |_, records| {
        records.iter().for_each(|record| visit(word(record, 8), word(record, 16)));
        Ok(())
    })
    .unwrap()
}

fn reserve(space: &Space, records: usize) {
    assert!(space.try_reserve(records));
}

#[test]
fn law_2_nothing_is_published_before_it_is_synced() {
    let disk = HeapDisk::new();
    let wake = Arc::new(CountingWake::default());
    let committer_wake = Arc::new(CountingWake::default());
    let mut committer = Committer::new(journal(&disk, &mut |_, _| ()), committer_wake.clone());
    let mut sender = committer.sender(wake.clone());
    let mut other = committer.sender(Arc::new(CountingWake::default()));
    reserve(&committer.journal().space(), 3);
    assert!(!committer.gather());
    assert!(committer.may_sleep());
    sender.push(record(0, 0));
    assert!(!committer.gather(), "pushed, not submitted");
    assert!(committer.may_sleep());
    assert!(sender.submit());
    assert_eq!(committer_wake.count(), 1, "it slept");
    assert!(!committer.may_sleep(), "there is something to gather");
    assert!(committer.gather());
    let end = committer.append();
    sender.push(record(0, 1));
    assert!(sender.submit());
    assert_eq!(committer_wake.count(), 1, "it is awake");
    assert_eq!((sender.submitted(), sender.durable(), wake.count()), (2, 0, 0));
    assert!(!committer.gather(), "one batch at a time");
    assert_eq!(committer.sync().unwrap(), end);
    assert_eq!((sender.durable(), wake.count()), (0, 0), "durable, not yet published");
    committer.publish();
    assert_eq!((sender.durable(), wake.count()), (1, 1));
    other.push(record(1, 0));
    assert!(other.submit());
    assert!(committer.commit().unwrap());
    assert_eq!((sender.durable(), other.durable(), wake.count()), (2, 1, 2));
    assert!(!committer.commit().unwrap());
    assert!(committer.prove().unwrap());
}

#[test]
fn a_failed_sync_publishes_nothing() {
    let disk = HeapDisk::new();
    let wake = Arc::new(CountingWake::default());
    let mut committer = Committer::new(journal(&disk, &mut |_, _| ()), wake.clone());
    let mut sender = committer.sender(wake.clone());
    reserve(&committer.journal().space(), 1);
    sender.push(record(0, 0));
    assert!(sender.submit());
    disk.fail_sync_after(Some(1));
    assert!(committer.commit().is_err());
    disk.fail_sync_after(None);
    assert!(matches!(committer.sync(), Err(JournalError::Poisoned)));
    assert_eq!((sender.durable(), wake.count()), (0, 0));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| committer.publish())).is_err());
}

#[test]
fn a_sender_is_bounded_and_says_so_before_a_record_is_made() {
    let disk = HeapDisk::new();
    let wake = Arc::new(CountingWake::default());
    let mut committer = Committer::new(journal(&disk, &mut |_, _| ()), wake.clone());
    let mut sender = committer.sender(wake.clone());
    let upkeep = committer.journal().upkeep();
    while upkeep.prepare().unwrap() {}
    let space = committer.journal().space();
    let mut pushed = 0;
    for _ in 0..20 {
        while sender.room() > 0 && space.try_reserve(1) {
            sender.push(record(0, pushed));
            pushed += 1;
        }
        if pushed < 5000 {
            let full = SUBMISSION_RECORDS_MAX * (SUBMISSIONS_MAX + 1);
            assert!(pushed as usize - sender.durable() as usize == full || space.free_records() == 0);
        }
        sender.submit();
        while committer.commit().unwrap() {
            sender.submit();
        }
        assert_eq!(sender.durable(), pushed);
        while upkeep.prepare().unwrap() {}
    }
    assert!(pushed > 10_000);
    drop(committer);
    let mut next = 0;
    journal(&disk, &mut |_, number| {
        assert_eq!(number, next, "in the order of pushing");
        next += 1;
    });
    assert_eq!(next, pushed);
}

#[test]
fn every_thread_sees_its_own_records_durable_in_order_and_none_waits_for_ever() {
    const SENDERS: u64 = 4;
    const RECORDS: u64 = 5_000;
    let disk = HeapDisk::new();
    let mut committer = Committer::new(journal(&disk, &mut |_, _| ()), Arc::new(thread::current()));
    let upkeep = committer.journal().upkeep();
    let space = committer.journal().space();
    let (to_threads, threads): (Vec<_>, Vec<_>) = (0..SENDERS)
        .map(|name| {
            let (to_thread, from_main) = std::sync::mpsc::channel::<RecordSender>();
            let space = Arc::clone(&space);
            let thread = thread::spawn(move || {
                let mut sender = from_main.recv().unwrap();
                for number in 0..RECORDS {
                    while !space.try_reserve(1) {
                        thread::yield_now();
                    }
                    sender.push(record(name, number));
                    if number % (name + 1) == 0 || number + 1 == RECORDS {
                        assert!(sender.submit());
                        while sender.durable() < sender.submitted() {
                            thread::park();
                        }
                    }
                }
            });
            (to_thread, thread)
        })
        .unzip();
    for (to_thread, thread) in to_threads.into_iter().zip(&threads) {
        to_thread.send(committer.sender(Arc::new(thread.thread().clone()))).unwrap();
    }
    let mut durable = 0;
    while durable < SENDERS * RECORDS {
        while upkeep.prepare().unwrap() {}
        if committer.gather() {
            durable += committer.batch.len() as u64;
            committer.append();
            committer.sync().unwrap();
            committer.publish();
        } else if committer.may_sleep() {
            thread::park();
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(committer);
    let mut next = [0; SENDERS as usize];
    journal(&disk, &mut |name, number| {
        assert_eq!(number, next[name as usize]);
        next[name as usize] += 1;
    });
    assert_eq!(next, [RECORDS; SENDERS as usize]);
}

#[test]
fn a_sender_finds_a_buffer_while_the_committer_changes_from_one_to_the_next() {
    let ring = Ring::new();
    let mut current = ring.buffer();
    let mut submit = || ring.put(std::mem::replace(&mut current, ring.buffer()));
    (0..SUBMISSIONS_MAX).for_each(|_| submit());
    let front = ring.take().unwrap();
    submit();
    // The ring is full, and the committer takes the next before it gives back the one it has done with.
    let next = ring.take().unwrap();
    submit();
    ring.recycle(front);
    ring.recycle(next);
}
