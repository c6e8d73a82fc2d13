use super::batch::Chain;
use super::record::RECORD_BYTES;
use super::*;
use crate::disk::heap::HeapDisk;

const SEGMENT: u64 = 8192;

type HeapJournal = Journal<HeapDisk>;

fn options() -> JournalOptions {
    JournalOptions {
        control_reserve_records: 4,
        segments_ahead: 2,
        ..JournalOptions::with_segment_bytes(SEGMENT)
    }
}

fn record(number: u64) -> RecordBytes {
    let mut bytes = [1; RECORD_BYTES];
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(record: &RecordBytes) -> u64 {
    u64::from_le_bytes(record[8..16].try_into().unwrap())
}

/// Opens the journal; returns what was visited, with the ends of the batches.
fn open_from(
    disk: &HeapDisk,
    from: Position,
    proven: Position,
) -> Result<(HeapJournal, Vec<(Position, u64)>), JournalError> {
    let mut visited = Vec::new();
    let journal = Journal::open(Arc::new(disk.clone()), options(), from, proven, &mut |end, records| {
        visited.extend(records.iter().map(|record| (end, number(record))));
        Ok(())
    })?;
    Ok((journal, visited))
}

fn open(disk: &HeapDisk) -> (HeapJournal, Vec<u64>) {
    let (journal, visited) = open_from(disk, Position(0), Position(0)).unwrap();
    (journal, visited.into_iter().map(|(_, number)| number).collect())
}

fn append(journal: &mut HeapJournal, numbers: std::ops::Range<u64>) -> Position {
    let records: Vec<_> = numbers.map(record).collect();
    while journal.upkeep().prepare().unwrap() {}
    assert!(journal.space().try_reserve(records.len()));
    journal.append(&records)
}

fn commit(journal: &mut HeapJournal, numbers: std::ops::Range<u64>) -> Position {
    let end = append(journal, numbers);
    assert_eq!(journal.sync().unwrap(), end);
    end
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn what_was_synced_is_visited_in_order_across_segments_and_boots() {
    let disk = HeapDisk::new();
    let mut written = 0;
    for boot in 1..=5 {
        let (mut journal, visited) = open(&disk);
        assert_eq!(visited, (0..written).collect::<Vec<_>>());
        assert_eq!(journal.boot_epoch(), boot);
        for length in 1..40 {
            let length = length.min(journal.room() as u64);
            commit(&mut journal, written..written + length);
            written += length;
        }
    }
    assert!(disk.list("journal").unwrap().len() > 20);
}

/// Law 2, by a model: whatever happens between two syncs, what was acknowledged is visited after every start, an
/// unacknowledged batch is visited whole or not at all, and whatever was visited stays.
#[test]
fn law_2_no_crash_at_any_moment_loses_what_was_durable_or_visited() {
    for seed in 0..400 {
        let mut seed_state = seed;
        let rng = &mut seed_state;
        let disk = HeapDisk::new();
        let mut acknowledged: Vec<(Position, u64)> = Vec::new();
        let mut from = Position(0);
        let mut next = 0;
        let mut unsynced: Vec<(Position, u64)> = Vec::new();
        for _boot in 0..12 {
            let (mut journal, visited) =
                open_from(&disk, from, Position(0)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let expected: Vec<_> = acknowledged.iter().filter(|(end, _)| *end > from).copied().collect();
            let adopted = [&expected[..], &unsynced[..]].concat();
            assert!(visited == expected || visited == adopted, "seed {seed}");
            if visited.len() > expected.len() {
                acknowledged.append(&mut unsynced);
            }
            unsynced.clear();
            if random(rng).is_multiple_of(4) {
                disk.lose_power(|| 0);
                continue;
            }
            for _ in 0..random(rng) % 12 {
                while journal.upkeep().prepare().unwrap() {}
                match random(rng) % 8 {
                    0 => {
                        journal.prove();
                        journal.sync().unwrap();
                    }
                    1 => {
                        if let Some(&(end, _)) = acknowledged.last() {
                            from = end;
                            journal.upkeep().recycle_below(from).unwrap();
                        }
                    }
                    _ => {
                        let length = (1 + random(rng) % 60).min(journal.room() as u64);
                        let end = append(&mut journal, next..next + length);
                        unsynced.extend((next..next + length).map(|number| (end, number)));
                        next += length;
                        if random(rng).is_multiple_of(10) {
                            break;
                        }
                        journal.sync().unwrap();
                        acknowledged.append(&mut unsynced);
                    }
                }
            }
            let sectors = random(rng) % 3;
            if sectors > 0 {
                // Any subset of unsynced sectors, every second time with torn ones.
                disk.lose_power(|| if sectors == 1 { random(rng) % 2 } else { random(rng) % 512 });
            }
        }
    }
}

#[test]
fn every_cut_of_a_torn_tail_is_recovered_from() {
    let whole = {
        let disk = HeapDisk::new();
        let (mut journal, _) = open(&disk);
        commit(&mut journal, 0..3);
        append(&mut journal, 3..30);
        journal.buffer.len().div_ceil(512) + 1
    };
    for kept_sectors in 0..=whole {
        for torn in [0, 1, 63, 64, 65, 511] {
            let disk = HeapDisk::new();
            let (mut journal, _) = open(&disk);
            let durable = commit(&mut journal, 0..3);
            append(&mut journal, 3..30);
            let mut sector = 0;
            disk.lose_power(|| {
                sector += 1;
                match sector {
                    s if s <= kept_sectors => 1,
                    s if s == kept_sectors + 1 => torn,
                    _ => 0,
                }
            });
            let (journal, visited) = open(&disk);
            let all = visited.len() == 30;
            assert_eq!(visited, (0..if all { 30 } else { 3 }).collect::<Vec<_>>());
            assert!(journal.recovery().restored);
            assert!(all || journal.recovery().end == durable);
            disk.lose_power(|| 0);
            let durable = disk.open(&segments::segment_path(0)).unwrap();
            let after = &durable[journal.durable().0 as usize..];
            assert!(after.iter().all(|byte| *byte == 0), "what was torn is gone for good");
            assert_eq!(open(&disk).1, visited, "law 2");
        }
    }
}

#[test]
fn a_batch_left_in_the_page_cache_by_a_kill_is_durable_once_it_was_visited() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    commit(&mut journal, 0..3);
    append(&mut journal, 3..9);
    drop(journal);
    let (journal, visited) = open(&disk);
    assert_eq!(visited, (0..9).collect::<Vec<_>>());
    assert!(journal.recovery().restored);
    drop(journal);
    disk.lose_power(|| 0);
    assert_eq!(open(&disk).1, (0..9).collect::<Vec<_>>());
}

#[test]
fn a_flipped_bit_below_the_proven_position_stops_the_node() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let ends: Vec<_> = (0..200).map(|batch| commit(&mut journal, batch..batch + 1)).collect();
    let last_start = ends[198];
    drop(journal);
    let mut state = 7;
    for _ in 0..300 {
        let at = random(&mut state) % last_start.0;
        let (file, offset) = (segments::segment_path(at / SEGMENT), at % SEGMENT);
        // The last slot of a segment may be unused.
        if offset >= SEGMENT - SLOT_BYTES as u64 {
            continue;
        }
        disk.flip_bit(&file, offset as usize, (at % 8) as u8);
        match open_from(&disk, Position(0), Position(0)).map(|_| ()) {
            Err(JournalError::Corrupt { file: named, offset: begins, proven }) => {
                assert_eq!(named, file);
                assert!(begins <= offset && offset < begins + 3 * SLOT_BYTES as u64);
                assert_eq!(proven, last_start);
            }
            other => panic!("{other:?}"),
        }
        disk.flip_bit(&file, offset as usize, (at % 8) as u8);
    }
    let (journal, visited) = open(&disk);
    assert_eq!((visited.len(), journal.recovery().torn), (200, false));
}

#[test]
fn a_flipped_bit_in_the_last_batch_is_a_torn_tail_unless_something_proves_it() {
    let flip = |prepare: fn(&mut HeapJournal)| {
        let disk = HeapDisk::new();
        let (mut journal, _) = open(&disk);
        commit(&mut journal, 0..3);
        let end = commit(&mut journal, 3..5);
        prepare(&mut journal);
        drop(journal);
        disk.flip_bit(&segments::segment_path(0), end.0 as usize - 1, 0);
        (disk, end)
    };
    let (disk, _) = flip(|_| ());
    let (journal, visited) = open(&disk);
    assert_eq!((visited.len(), journal.recovery().torn), (3, true), "indistinguishable from a torn write");

    let (disk, end) = flip(|_| ());
    let known_to_checkpoint = open_from(&disk, Position(0), end).map(|_| ());
    assert!(matches!(known_to_checkpoint, Err(JournalError::Corrupt { proven, .. }) if proven == end));

    let (disk, _) = flip(|journal| {
        assert!(journal.prove());
        journal.sync().unwrap();
        assert!(!journal.prove(), "there is nothing to prove any more");
    });
    assert!(matches!(open_from(&disk, Position(0), Position(0)), Err(JournalError::Corrupt { .. })));
}

#[test]
fn stale_batches_of_recycled_segments_never_pass() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let mut next = 0;
    let mut from = Position(0);
    for round in 0..60 {
        for _ in 0..20 {
            let length = journal.room().min(7) as u64;
            from = commit(&mut journal, next..next + length);
            next += length;
        }
        journal.upkeep().recycle_below(from).unwrap();
        while journal.upkeep().prepare().unwrap() {}
        assert!(disk.list("journal").unwrap().len() <= 5, "the journal does not grow");
        if round % 2 == 0 {
            // The checkpoint is old: what follows it is visited, nothing of what the files held before.
            let upper = commit(&mut journal, next..next + 1);
            drop(journal);
            disk.lose_power(|| 0);
            let visited;
            (journal, visited) = open_from(&disk, from, Position(0)).unwrap();
            assert_eq!(visited, [(upper, next)]);
            next += 1;
        }
    }
    let missing = open_from(&disk, Position(0), Position(0)).map(|_| ());
    assert!(matches!(missing, Err(JournalError::Missing { position: Position(0), .. })), "{missing:?}");
}

#[test]
fn in_steady_use_a_journal_makes_no_new_segments() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let upkeep = journal.upkeep();
    let mut next = 0;
    for round in 0..2000 {
        assert!(round < 100 || !upkeep.wants_segment(), "in round {round} one was made anew");
        let length = journal.room().min(7) as u64;
        let durable = commit(&mut journal, next..next + length);
        next += length;
        // What a checkpoint sets free comes late: once in a segment's length.
        if round % 15 == 0 {
            upkeep.recycle_below(durable).unwrap();
        }
    }
    assert!(next * RECORD_BYTES as u64 > 50 * SEGMENT);
    assert!(disk.list("journal").unwrap().len() <= 5, "it does not grow either");
}

#[test]
fn a_whole_old_segment_under_a_new_name_is_refused() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    for batch in 0..100 {
        commit(&mut journal, batch..batch + 1);
    }
    drop(journal);
    let stale = disk.open(&segments::segment_path(0)).unwrap();
    disk.write(&segments::segment_path(1), &[&stale]).unwrap();
    assert!(open_from(&disk, Position(0), Position(0)).is_ok(), "segment 1 had the last batches only");
    let (mut journal, _) = open(&disk);
    for batch in 100..300 {
        commit(&mut journal, batch..batch + 1);
    }
    drop(journal);
    disk.write(&segments::segment_path(1), &[&stale]).unwrap();
    let refused = open_from(&disk, Position(0), Position(0)).map(|_| ());
    assert!(matches!(&refused, Err(JournalError::Corrupt { file, offset: 0, .. }) if file.contains("1.seg")));
}

#[test]
fn a_failed_sync_poisons_the_journal_and_only_what_is_proven_is_answered_after_restart() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let durable = commit(&mut journal, 0..3);
    append(&mut journal, 3..5);
    disk.fail_sync_after(Some(1));
    assert!(matches!(journal.sync(), Err(JournalError::Disk(_))));
    disk.fail_sync_after(None);
    assert!(matches!(journal.sync(), Err(JournalError::Poisoned)), "a later success would prove nothing");
    assert_eq!((journal.durable(), journal.reader().durable()), (durable, durable));
    drop(journal);

    disk.fail_sync_after(Some(1));
    assert!(open_from(&disk, Position(0), Position(0)).is_err(), "what is visited cannot be made durable");
    disk.fail_sync_after(None);
    let (_, visited) = open(&disk);
    disk.lose_power(|| 0);
    assert_eq!(open(&disk).1, visited);
}

#[test]
fn a_full_disk_refuses_reservations_then_recovers_and_never_fails_a_reserved_record() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let (space, upkeep) = (journal.space(), journal.upkeep());
    disk.limit(Some(SEGMENT)); // What is there is all there is.
    assert!(upkeep.prepare().unwrap_err().is_full());
    let mut sold = 0;
    while space.try_reserve(1) {
        journal.append(&[record(sold)]);
        journal.sync().unwrap();
        sold += 1;
    }
    assert!(upkeep.prepare().unwrap_err().is_full());
    let mut control = 0;
    while space.try_reserve_control(1) {
        journal.append(&[record(sold + control)]);
        journal.sync().unwrap();
        control += 1;
    }
    assert_eq!(control, 4, "the reserve");
    for _ in 0..10 {
        drop(journal);
        journal = open(&disk).0;
    }
    disk.limit(None);
    assert!(!journal.space().try_reserve(1));
    assert!(journal.upkeep().prepare().unwrap());
    commit(&mut journal, sold + control..sold + control + 1);
    drop(journal);
    assert_eq!(open(&disk).1.len() as u64, sold + control + 1);
}

#[test]
fn reserved_records_always_fit_whatever_the_batches() {
    for seed in 0..200 {
        let mut state = seed;
        let disk = HeapDisk::new();
        let (mut journal, _) = open(&disk);
        let (space, upkeep) = (journal.space(), journal.upkeep());
        let (mut reserved, mut next) = (0, 0);
        for _ in 0..300 {
            match random(&mut state) % 4 {
                0 => {
                    let _ = upkeep.prepare().unwrap();
                }
                1 | 2 => {
                    let records = (random(&mut state) % 50) as usize;
                    reserved += if space.try_reserve(records) { records } else { 0 };
                }
                _ => {
                    while reserved > 0 {
                        let most = 1 + random(&mut state) as usize % 40;
                        let length = journal.room().min(most).min(reserved);
                        assert!(length > 0, "seed {seed}: a reserved record has no room");
                        let records: Vec<_> = (next..next + length as u64).map(record).collect();
                        journal.append(&records);
                        journal.sync().unwrap();
                        (reserved, next) = (reserved - length, next + length as u64);
                        if random(&mut state).is_multiple_of(3) {
                            journal.prove();
                            journal.sync().unwrap();
                        }
                    }
                }
            }
        }
        drop(journal);
        assert_eq!(open(&disk).1.len() as u64, next);
    }
}

#[test]
fn what_is_shipped_is_the_durable_journal_and_nothing_else() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let reader = journal.reader();
    let (mut shipped, mut chain, mut copy) = (Position(0), Chain::default(), Vec::new());
    for batch in 0..300 {
        let length = journal.room().min(batch % 30 + 1) as u64;
        let next = copy.len() as u64;
        let end = append(&mut journal, next..next + length);
        let early = reader.read(shipped, 4096).unwrap();
        assert!(early.is_none_or(|shipment| shipment.end < end), "not before it is durable");
        journal.sync().unwrap();
        while let Some(shipment) = reader.read(shipped, 256).unwrap() {
            let mut damaged = shipment.bytes.clone();
            damaged[batch % shipment.bytes.len()] ^= 1;
            let before = chain;
            let broken = chain.admit_range(shipment.start, &damaged, &mut |_, _| panic!("shown"));
            assert!(broken.is_err() && chain == before);
            for _again in 0..2 {
                let mut take = |_, record: &RecordBytes| copy.push(number(record));
                chain.admit_range(shipment.start, &shipment.bytes, &mut take).unwrap();
            }
            assert_eq!(shipment.bytes.len() as u64, shipment.end.0 - shipment.start.0);
            shipped = shipment.end;
        }
        assert_eq!(shipped, end);
        assert_eq!(copy.len() as u64, next + length);
        if batch % 50 == 49 {
            journal.upkeep().recycle_below(shipped).unwrap();
        }
    }
    assert_eq!(copy, (0..copy.len() as u64).collect::<Vec<_>>());
    assert!(matches!(reader.read(Position(0), 1), Err(JournalError::Recycled { .. })));
}

#[test]
fn missing_and_wrongly_sized_segments_are_named() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let mut end = Position(0);
    for batch in 0..200 {
        end = commit(&mut journal, batch..batch + 1);
    }
    drop(journal);
    let beyond = open_from(&disk, Position(0), Position(end.0 + 9 * SEGMENT)).map(|_| ());
    assert!(matches!(beyond, Err(JournalError::Missing { .. })), "{beyond:?}");
    let other = JournalOptions::with_segment_bytes(2 * SEGMENT);
    let wrong = Journal::open(Arc::new(disk.clone()), other, Position(0), Position(0), &mut |_, _| Ok(()));
    assert!(matches!(wrong.map(|_| ()), Err(JournalError::WrongSize { found_bytes: SEGMENT, .. })));
    disk.remove(&segments::segment_path(1)).unwrap();
    let hole = open_from(&disk, Position(0), Position(0)).map(|_| ());
    assert!(matches!(&hole, Err(JournalError::Missing { file, .. }) if *file == segments::segment_path(1)));
    let (empty, proven) = (HeapDisk::new(), Position(64));
    assert!(matches!(open_from(&empty, Position(0), proven), Err(JournalError::Missing { .. })));
}

#[test]
fn a_record_that_the_reader_refuses_stops_the_opening_with_its_position() {
    let disk = HeapDisk::new();
    let (mut journal, _) = open(&disk);
    let end = commit(&mut journal, 0..1);
    drop(journal);
    let opened =
        Journal::open(Arc::new(disk), options(), Position(0), Position(0), &mut |_, _| Err("no".into()));
    assert!(matches!(opened.map(|_| ()), Err(JournalError::Record { position, .. }) if position == end));
}
