//! Lost nodes, with the hub alone.

use super::super::books::Fate;
use super::archive::NodeJournal;
use super::faults::return_offer;
use super::*;
use crate::hub::{DoubtState, Spent};
use crate::ids::PinId;
use crate::journal::record::{Record, TransferFact, VendName, WithdrawReason};

/// The node has ten PINs and is declared lost; the transfer that brought them.
fn lost() -> (Bench<MemoryStore>, TransferFact) {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.deliver(1, &[(15, 0)]);
    bench.hello();
    let out = bench.tell(ToHub::Need { request: 1, variety: VarietyId(1), count: 10 });
    let fact = offers(&out)[0].fact();
    bench.tell(ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: true });
    let lose = |position| Command::Lose { node: NODE, spent: Spent { position, ..Spent::default() } };
    assert!(matches!(bench.command(lose(0)), Err(CommandError::NodeConnected(_))));
    bench.hub.handle_cut(NODE);
    assert_eq!(bench.command(lose(64)), Err(CommandError::JournalMoved), "another archive was read");
    assert_eq!(bench.command(lose(0)), Ok(Done::Doubts(vec![(VarietyId(1), 10)])));
    (bench, fact)
}

fn ship(bench: &mut Bench<MemoryStore>, journal: &mut NodeJournal) -> Vec<ToNode> {
    let mut told = Vec::new();
    while journal.has_more() {
        told.extend(bench.tell(journal.ship()));
    }
    told
}

fn states(bench: &Bench<MemoryStore>) -> Vec<(u32, u32, DoubtState)> {
    bench.hub.doubts().map(|row| (row.span.start, row.span.end, row.state)).collect()
}

#[test]
fn law_3_what_a_lost_node_offers_is_taken_only_with_the_journal_that_gives_it_up() {
    let (mut bench, fact) = lost();
    let welcome = bench.hello();
    assert!(welcome.iter().any(|message| matches!(message, ToNode::Lost)), "{welcome:?}");
    assert!(!welcome.iter().any(|message| matches!(message, ToNode::Drain { .. })));
    for ask in [
        ToHub::Need { request: 1, variety: VarietyId(1), count: 5 },
        ToHub::Urgent { request: 2, variety: VarietyId(1) },
    ] {
        let told = bench.tell(ask);
        assert!(matches!(told[..], [ToNode::Answered { granted: 0, .. }]), "it gets nothing: {told:?}");
    }
    assert_eq!((bench.hub.waiting().len(), bench.hub.available(VarietyId(1))), (0, 5));

    let span = Span { start: 4, end: 8, ..fact.span };
    let given = TransferFact { number: 1, span, generation: 3, ..fact };
    let offer = return_offer(&bench.disk, &given, true);
    assert!(bench.tell(ToHub::Offer(offer)).is_empty(), "its journal does not say so yet");
    bench.hub.commit().unwrap();
    assert_eq!(bench.hub.available(VarietyId(1)), 5);
    let sold = |index| Record::Sold {
        vend: VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence: u64::from(index) + 1 },
        pin: PinId::new(span.block, index),
        variety: VarietyId(1),
        confirmed: 0,
        at_ms: NOW_MS,
    };
    let voided = Record::Voided {
        vend: VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence: 2 },
        pin: PinId::new(span.block, 1),
        variety: VarietyId(1),
        at_ms: NOW_MS,
    };
    // One that was written off had expired there.
    let expired = Span { start: 2, end: 3, ..fact.span };
    let (variety, note) = (Some(VarietyId(1)), "lost".to_owned());
    let write_off = Command::WriteOff { node: NODE, variety, spans: Some(vec![expired]), note };
    assert_eq!(bench.command(write_off), Ok(Done::Doubts(vec![(VarietyId(1), 1)])));
    let (variety, reason, at_ms) = (VarietyId(1), WithdrawReason::Expired, NOW_MS);
    let withdrawn = Record::Withdrawn { span: expired, variety, reason, at_ms };
    let mut journal = NodeJournal::new();
    journal.write_all(
        &[Record::Received(fact), sold(0), sold(1), voided, withdrawn].map(|record| record.encode()),
    );
    ship(&mut bench, &mut journal);
    assert_eq!(bench.hub.available(VarietyId(1)), 5, "not yet");
    journal.write_all(&[Record::Given(given).encode()]);
    let told = ship(&mut bench, &mut journal);
    let taken = |message: &ToNode| matches!(message, ToNode::Answer { number: 1, accepted: true, .. });
    assert!(told.iter().any(taken), "{told:?}");
    let expected = [
        (0, 1, DoubtState::Sold),
        (1, 2, DoubtState::Withdrawn),
        (2, 3, DoubtState::Withdrawn),
        (3, 4, DoubtState::InDoubt),
        (4, 8, DoubtState::Returned),
        (8, 10, DoubtState::InDoubt),
    ];
    assert_eq!((states(&bench), bench.hub.available(VarietyId(1))), (expected.to_vec(), 9));
    bench.crash();
    assert_eq!((states(&bench), bench.hub.available(VarietyId(1))), (expected.to_vec(), 9));
    assert_eq!(bench.hub.network_stock(VarietyId(1)).on_hand, 9);
    assert!(matches!(bench.hub.fate(NODE), Some(Fate::Lost { given: 1, .. })));
    assert!(matches!(bench.command(Command::Drain { node: NODE, on: true }), Err(CommandError::NodeLost(_))));
}

#[test]
fn law_6_a_refused_transfer_does_not_bring_back_what_was_written_off() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.deliver(1, &[(10, 0)]);
    bench.hello();
    let out = bench.tell(ToHub::Need { request: 1, variety: VarietyId(1), count: 10 });
    let span = offers(&out)[0].span;
    bench.hub.handle_cut(NODE);
    bench.command(Command::Lose { node: NODE, spent: Spent::default() }).unwrap();
    let spans = Some(vec![Span { start: 3, end: 5, ..span }]);
    let write_off = |spans| Command::WriteOff { node: NODE, variety: None, spans, note: "seen".into() };
    assert_eq!(bench.command(write_off(spans)), Ok(Done::Doubts(vec![(VarietyId(1), 2)])));
    let long = Command::WriteOff { node: NODE, variety: None, spans: None, note: "x".repeat(201) };
    assert_eq!(bench.command(long), Err(CommandError::NoteTooLong(200)));
    bench.hello();
    bench.tell(ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: false });
    for _ in 0..2 {
        assert_eq!(bench.hub.available(VarietyId(1)), 8);
        let report = audit(&bench.hub.audit_books(), &[]);
        assert!(report.balanced && report.varieties[&1].withdrawn == 2, "{report}");
        bench.crash();
    }
    assert!(matches!(bench.command(write_off(None)), Err(CommandError::NothingInDoubt(_))));
}
