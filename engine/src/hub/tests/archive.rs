//! The copies of the nodes' journals, fed by a real journal.

use super::*;
use crate::journal::record::{Record, RecordBytes, WithdrawReason};
use crate::journal::{Journal, JournalOptions, Position};
use crate::link::{Report, ToHub};
use bytes::Bytes;

/// A node's journal in small segments.
pub(super) struct NodeJournal {
    journal: Journal<HeapDisk>,
    shipped: Position,
    /// What its records say.
    at_ms: u64,
}

impl NodeJournal {
    pub(super) fn new() -> Self {
        Self::marked(0)
    }

    fn marked(mark: u64) -> Self {
        let options = JournalOptions::with_segment_bytes(8192).marked(mark);
        let (disk, start) = (Arc::new(HeapDisk::new()), Position(0));
        let mut journal = Journal::open(disk, options, start, start, &mut |_, _| Ok(())).unwrap();
        journal.sync().unwrap();
        Self { journal, shipped: start, at_ms: 7 }
    }

    fn write(&mut self, records: usize) {
        let span = Span { block: BlockId(1), start: 0, end: 1 };
        let reason = WithdrawReason::Expired;
        let record = Record::Withdrawn { span, variety: VarietyId(1), reason, at_ms: self.at_ms }.encode();
        self.append(&vec![record; records]);
    }

    /// Writes records in as many batches as they need.
    pub(super) fn write_all(&mut self, records: &[RecordBytes]) {
        self.journal.upkeep().recycle_below(self.shipped).unwrap();
        let mut rest = records;
        while !rest.is_empty() {
            while self.journal.upkeep().prepare().unwrap() {}
            let (now, later) = rest.split_at(rest.len().min(self.journal.room()).min(16));
            self.append(now);
            rest = later;
        }
    }

    /// Whether there is something to ship.
    pub(super) fn has_more(&self) -> bool {
        self.shipped < self.journal.durable()
    }

    fn append(&mut self, records: &[RecordBytes]) {
        while self.journal.upkeep().prepare().unwrap() {}
        assert!(self.journal.space().try_reserve(records.len()));
        self.journal.append(records);
        self.journal.sync().unwrap();
    }

    /// The next range.
    pub(super) fn ship(&mut self) -> ToHub {
        let shipment = self.journal.reader().read(self.shipped, 1).unwrap().expect("something is durable");
        self.shipped = shipment.end;
        ToHub::Journal { from: shipment.start.0, bytes: Bytes::from(shipment.bytes) }
    }
}

fn acked(messages: &[ToNode]) -> u64 {
    match messages {
        [ToNode::JournalAcked { position }] => *position,
        other => panic!("{other:?}"),
    }
}

fn furnished() -> Bench<MemoryStore> {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.hello();
    bench
}

const PATH: &str = "archive/00000001/0000000000000000.log";

#[test]
fn a_journal_is_archived_byte_for_byte_across_segments_and_acknowledged() {
    let mut bench = furnished();
    let mut node = NodeJournal::new();
    // Batches of 4 slots behind the one of the boot leave 3 slots; one of 2 leaves one slot that nothing fits.
    for records in [3; 31].into_iter().chain([1, 3, 3]) {
        node.write(records);
    }
    let end = node.journal.durable();
    assert!(end.0 > 8192, "into the second segment");
    let mut gaps = 0;
    while node.shipped < end {
        let before = node.shipped.0;
        let message = node.ship();
        gaps += usize::from(matches!(message, ToHub::Journal { from, .. } if from > before));
        assert_eq!(acked(&bench.tell(message)), node.shipped.0);
    }
    assert_eq!(gaps, 1, "the end of the first segment");
    assert_eq!(bench.hub.journal_acked(NODE), Some(end.0));
    let archived = bench.disk.open(PATH).unwrap();
    assert_eq!(archived.len() as u64, end.0);
    let second = node.journal.reader().read(Position(8192), 1).unwrap().unwrap();
    assert_eq!(archived[8192..][..second.bytes.len()], second.bytes);
    bench.crash();
    assert!(matches!(bench.hello()[0], ToNode::Welcome { journal_acked, .. } if journal_acked == end.0));
}

#[test]
fn a_gap_or_an_overlap_is_answered_with_the_position_reached() {
    let mut bench = furnished();
    let mut node = NodeJournal::new();
    node.write(2);
    node.write(2);
    let first = node.ship();
    let reached = node.shipped.0;
    let (skipped, next) = (node.ship(), node.ship());
    assert_eq!(acked(&bench.tell(first.clone())), reached);
    assert_eq!(acked(&bench.tell(next.clone())), reached, "a gap");
    assert_eq!(acked(&bench.tell(first)), reached, "an overlap");
    bench.hub.handle_link(NODE, skipped, NOW_MS).unwrap();
    assert_eq!(acked(&bench.tell(next)), node.shipped.0, "one answer for both");
}

#[test]
fn what_was_appended_but_not_committed_is_cut_off_and_what_was_committed_must_be_there() {
    let mut bench = furnished();
    let mut node = NodeJournal::new();
    let reached = acked(&bench.tell(node.ship()));
    let expected = bench.disk.open(PATH).unwrap();
    bench.disk.append(PATH, &[7; 100]).unwrap();
    bench.crash();
    assert_eq!(bench.disk.open(PATH).unwrap(), expected);
    bench.hello();
    node.write(1);
    let reached_now = acked(&bench.tell(node.ship()));
    assert!(reached_now > reached);

    bench.disk.flip_bit(PATH, 70, 1);
    let damaged = load(bench.store.clone(), &bench.disk).map(|_| ());
    assert!(matches!(damaged, Err(HubError::ArchiveDamaged { .. })), "{damaged:?}");
    bench.disk.truncate(PATH, 64).unwrap();
    let cut = load(bench.store.clone(), &bench.disk).map(|_| ());
    assert!(matches!(cut, Err(HubError::Archive { found: 64, .. })), "{cut:?}");
    bench.disk.remove(PATH).unwrap();
    let gone = load(bench.store.clone(), &bench.disk).map(|_| ());
    assert!(matches!(gone, Err(HubError::Archive { found: 0, .. })), "it never guesses");
}

#[test]
fn without_room_nothing_is_acknowledged_and_the_hub_tries_again_by_itself() {
    let mut bench = furnished();
    let mut node = NodeJournal::new();
    node.write(2);
    bench.disk.limit(Some(1));
    bench.hub.handle_link(NODE, node.ship(), NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
    assert!(matches!(outputs[..], [Output::Alarm(Alarm::ArchiveFull { node: NODE })]), "{outputs:?}");
    bench.disk.limit(None);
    bench.hub.commit().unwrap();
    assert!(bench.sent().is_empty(), "not before a second has passed");
    // The clock is set back meanwhile.
    let set_back_ms = NOW_MS - 3_600_000;
    bench.hub.handle_link(NODE, ToHub::Ready, set_back_ms).unwrap();
    bench.hub.handle_link(NODE, node.ship(), set_back_ms + 1000).unwrap();
    bench.hub.commit().unwrap();
    assert_eq!(acked(&bench.sent()), node.shipped.0);
}

#[test]
fn a_journal_that_does_not_continue_the_archive_closes_the_connection() {
    let mut bench = furnished();
    let mut node = NodeJournal::new();
    let mut copy = NodeJournal::new();
    copy.at_ms = 8;
    node.write(2);
    copy.write(2);
    copy.write(1);
    for _ in 0..2 {
        bench.tell(node.ship());
        copy.ship();
    }
    assert_eq!(copy.shipped, node.shipped);
    bench.hub.handle_link(NODE, copy.ship(), NOW_MS).unwrap();
    // It goes on talking: it has not heard yet.
    bench.hub.handle_link(NODE, ToHub::Ready, NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
    let [told, closed] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(
        matches!(told, Output::Send { node: NODE, message: ToNode::OldCopy }),
        "so that it stops: {told:?}"
    );
    assert!(matches!(closed, Output::Close { fault: NodeFault::Journal(_), .. }), "{closed:?}");

    // The true one goes on after the next hello.
    bench.hello();
    node.write(1);
    assert_eq!(acked(&bench.tell(node.ship())), node.shipped.0);
}

#[test]
fn law_7_a_node_is_heard_of_stock_once_its_journal_is_seen_to_be_the_one_that_is_archived() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.deliver(1, &[(10, 0)]);
    let mut node = NodeJournal::marked(5);
    let hello = |bench: &mut Bench<MemoryStore>, journal_mark| {
        bench.hub.handle_cut(NODE);
        let ToHub::Hello {
            node, hub_epoch, journal_from, workers, registry_version, registry_digest, ..
        } = hello_of(NODE, 0)
        else {
            panic!("it is a hello")
        };
        bench.tell(ToHub::Hello {
            node,
            hub_epoch,
            journal_from,
            journal_mark,
            workers,
            registry_version,
            registry_digest,
        })
    };
    hello(&mut bench, 5);
    let need = ToHub::Need { request: 1, variety: VarietyId(1), count: 4 };
    assert!(bench.tell(need).is_empty(), "nothing is archived of it");
    assert_eq!(offers(&bench.tell(node.ship())).len(), 1);
    // Somebody was started on a copy of its disk: what it takes does not count, and a report says that it has nothing to ship.
    assert_eq!(offers(&hello(&mut bench, 6)).len(), 1);
    let answer = ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: true };
    assert!(bench.tell(answer.clone()).is_empty());
    assert_eq!(bench.hub.traffic(NODE, NOW_MS).open_pins, 4);
    let report = Report { journal_end: node.shipped.0, returns_open: 0, stock: Vec::new() };
    bench.hub.handle_link(NODE, ToHub::Report(report.clone()), NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
    let [Output::Send { message: ToNode::OldCopy, .. }, Output::Close { .. }] = outputs[..] else {
        panic!("{outputs:?}")
    };
    // The right one is known by what is archived.
    assert_eq!(offers(&hello(&mut bench, 5)).len(), 1);
    bench.tell(ToHub::Report(report));
    bench.tell(answer);
    assert_eq!(bench.hub.traffic(NODE, NOW_MS).open_pins, 0);
}

#[test]
fn law_1_a_hub_that_has_less_of_a_journal_than_was_acknowledged_is_an_old_copy_and_stops() {
    let mut bench = furnished();
    let mut node = NodeJournal::new();
    node.write(2);
    let before = bench.store.books();
    let archive = bench.disk.open(PATH).map(|bytes| bytes.to_vec());
    assert!(archive.is_err(), "nothing is archived yet");
    let reached = acked(&bench.tell(node.ship()));
    let hello = |hub_epoch| ToHub::Hello {
        node: NODE,
        hub_epoch,
        journal_from: reached,
        journal_mark: 0,
        workers: 1,
        registry_version: 0,
        registry_digest: 0,
    };
    bench.hub.handle_link(NODE, hello(1), NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    // The copy has been started more often, so that its epoch says nothing.
    let mut copy = load(MemoryStore::with(before), &Arc::new(HeapDisk::new())).unwrap();
    let stopped = copy.handle_link(NODE, hello(1), NOW_MS);
    assert!(
        matches!(stopped, Err(HubError::OldArchive { node: NODE, ours: 0, theirs }) if theirs == reached),
        "{stopped:?}"
    );
}
