use super::*;
use crate::journal::record::Stream;

const A: SellerId = SellerId(1);
const B: SellerId = SellerId(2);

fn span(start: u32, end: u32) -> Span {
    Span { block: BlockId(9), start, end }
}

fn given(start: u32, end: u32, node: SellerId, number: u64, settled: bool) -> PieceBook {
    let place = Place::Given { node, stream: Stream::Bulk, number, settled };
    PieceBook { span: span(start, end), generation: 2, place }
}

/// Block 9 of 1,000 PINs: 0..400 at A, of which some are gone; 400..500 in transfer to A; 500..600 at B; 600..1000 at
/// the hub.
fn network() -> (HubBooks, Vec<SellerBooks>) {
    let hub = HubBooks {
        blocks: vec![BlockBook { block: BlockId(9), variety: VarietyId(3), count: 1000 }],
        pieces: vec![
            given(0, 400, A, 1, true),
            given(400, 500, A, 2, true),
            given(500, 600, B, 1, false),
            PieceBook { span: span(600, 1000), generation: 1, place: Place::Hub },
        ],
        ..HubBooks::default()
    };
    let seller = |seller, start, end, sold, withdrawn| SellerBooks {
        seller,
        position: 4096,
        watermarks: [1, 0],
        refused: Vec::new(),
        segments: vec![SegmentBook {
            span: span(start, end),
            generation: 2,
            variety: VarietyId(3),
            sold,
            withdrawn,
            from: SellerId(0),
        }],
        given: 0,
        returning: Vec::new(),
        below: Vec::new(),
        came_back: Vec::new(),
    };
    let a = seller(A, 0, 400, vec![(0, 50), (60, 70)], vec![(50, 55)]);
    let b = seller(B, 500, 600, vec![(500, 501)], vec![]);
    (hub, vec![a, b])
}

/// Kind and range of what is found; the report itself cuts ranges where the claims on them change.
fn findings(hub: &HubBooks, sellers: &[SellerBooks]) -> Vec<(FindingKind, u32, u32)> {
    let report = audit(hub, sellers);
    assert!(!report.balanced);
    let mut joined: Vec<(FindingKind, u32, u32)> = Vec::new();
    for finding in &report.findings {
        match joined.last_mut() {
            Some((kind, _, end)) if (*kind, *end) == (finding.kind, finding.start) => *end = finding.end,
            _ => joined.push((finding.kind, finding.start, finding.end)),
        }
    }
    joined
}

#[test]
fn sums_are_right_when_every_pin_is_in_one_place() {
    let (hub, sellers) = network();
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    let tally = &report.varieties[&3];
    assert_eq!((tally.received, tally.hub, tally.in_transfer), (1000, 400, 100));
    assert_eq!((tally.at_seller, tally.sold, tally.withdrawn), (335 + 99, 61, 5));
    assert_eq!(tally.difference(), 0);
    assert_eq!(report.positions, [(1, 4096), (2, 4096)].into());
    assert!(report.to_string().ends_with("balanced: every PIN is in exactly one place\n"));
}

#[test]
fn a_transfer_above_the_sellers_watermark_is_in_transfer_whatever_the_hub_thinks_by_now() {
    let (mut hub, sellers) = network();
    for settled in [false, true] {
        hub.pieces[1] = given(400, 500, A, 2, settled);
        assert!(audit(&hub, &sellers).balanced);
    }
}

#[test]
fn a_refused_transfer_is_in_transfer_until_the_hub_knows() {
    let (hub, mut sellers) = network();
    sellers[0].watermarks[0] = 2;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Missing, 400, 500)]);
    sellers[0].refused.push((Stream::Bulk, 2));
    assert!(audit(&hub, &sellers).balanced);
}

/// The same, where A gives 300..400 back as its transfer 1.
fn returning() -> (HubBooks, Vec<SellerBooks>) {
    let (mut hub, mut sellers) = network();
    hub.takers.insert(A, TakerBook::default());
    sellers[0].segments[0].span.end = 300;
    sellers[0].given = 1;
    let (number, span, generation, variety) = (1, span(300, 400), 2, VarietyId(3));
    sellers[0].returning.push(ReturningBook { number, span, generation, variety, from: SellerId(0) });
    (hub, sellers)
}

/// The hub has taken 300..400 from A.
fn take_back(hub: &mut HubBooks) {
    hub.pieces[0].span.end = 300;
    hub.pieces.push(PieceBook { span: span(300, 400), generation: 3, place: Place::Hub });
    hub.takers.insert(A, TakerBook { outcomes: [(1, true)].into() });
    hub.returned.push(ReturnedBook { seller: A, number: 1, span: span(300, 400), generation: 3 });
}

#[test]
fn what_a_seller_gives_back_is_in_transfer_until_the_hub_has_taken_it() {
    let (mut hub, sellers) = returning();
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    assert_eq!(report.varieties[&3].in_transfer, 200);
    hub.takers.insert(A, TakerBook { outcomes: [(1, false)].into() });
    assert_eq!(audit(&hub, &sellers).varieties[&3].in_transfer, 200, "refused, and A does not know");
    hub.takers.insert(A, TakerBook::default());
    assert!(audit(&hub, &sellers).balanced, "A knows by now, and the hub has forgotten it");
    take_back(&mut hub);
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    assert_eq!((report.varieties[&3].in_transfer, report.varieties[&3].hub), (100, 500));
    hub.takers.insert(A, TakerBook::default());
    assert!(audit(&hub, &sellers).balanced, "taken, and forgotten since");
}

#[test]
fn what_was_refused_and_came_back_at_the_second_try_while_the_books_were_read_is_in_one_place() {
    let (mut hub, sellers) = returning();
    take_back(&mut hub);
    hub.takers.insert(A, TakerBook::default());
    hub.returned[0].number = 2;
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
}

#[test]
fn what_came_back_and_went_on_while_the_books_were_read_is_in_one_place() {
    let (mut hub, sellers) = network();
    take_back(&mut hub);
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "A's books are older: {report}");
    assert_eq!(report.varieties[&3].hub, 500);
    // On to B, whose books were read last.
    let mut later = sellers.clone();
    hub.pieces[4].place = Place::Given { node: B, stream: Stream::Bulk, number: 2, settled: true };
    hub.pieces[4].generation = 4;
    assert!(audit(&hub, &later).balanced, "not there yet");
    later[1].watermarks[0] = 2;
    let segment =
        SegmentBook { span: span(300, 400), generation: 4, sold: vec![], ..later[1].segments[0].clone() };
    later[1].segments.push(segment);
    let report = audit(&hub, &later);
    assert!(report.balanced, "{report}");
    // What A sold it cannot have given back.
    later[0].segments[0].sold.push((350, 351));
    assert_eq!(findings(&hub, &later), [(FindingKind::Misplaced, 350, 351)]);
}

#[test]
fn stock_that_the_hub_and_a_seller_both_count_after_a_return_is_in_two_places() {
    let (mut hub, mut sellers) = returning();
    take_back(&mut hub);
    sellers[0].segments[0].span.end = 301;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 300, 301)]);
    let (mut hub, sellers) = returning();
    hub.pieces[0].span.end = 399;
    assert_eq!(
        findings(&hub, &sellers),
        [(FindingKind::Misplaced, 399, 400)],
        "the hub forgot a PIN that A gives back"
    );
    let (hub, mut sellers) = returning();
    sellers[0].returning[0].span.start = 301;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Missing, 300, 301)]);
    let (hub, mut sellers) = returning();
    sellers[0].segments[0].sold.push((310, 311));
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 310, 311)], "given back and sold");
}

#[test]
fn stock_given_to_a_seller_without_books_is_in_doubt() {
    let (hub, sellers) = network();
    let report = audit(&hub, &sellers[..1]);
    assert!(report.balanced);
    assert_eq!(report.varieties[&3].in_doubt, 100);
}

#[test]
fn a_pin_that_a_seller_lost_is_missing() {
    let (hub, mut sellers) = network();
    sellers[0].segments[0].span.end = 399;
    let report = audit(&hub, &sellers);
    assert_eq!(report.varieties[&3].difference(), 1, "off by one PIN");
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Missing, 399, 400)]);
}

#[test]
fn a_pin_that_the_hub_lost_is_missing() {
    let (mut hub, sellers) = network();
    hub.pieces[3].span.start = 610;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Missing, 600, 610)]);
}

#[test]
fn a_pin_at_two_sellers_is_in_two_places() {
    let (hub, mut sellers) = network();
    let extra = SegmentBook { span: span(10, 20), generation: 2, ..sellers[1].segments[0].clone() };
    sellers[1].segments.push(SegmentBook { sold: vec![], ..extra });
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 10, 20)]);
}

#[test]
fn a_pin_at_a_seller_and_still_at_the_hub_or_in_transfer_is_in_two_places() {
    let (mut hub, sellers) = network();
    hub.pieces[2].place = Place::Hub;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 500, 600)]);
    let (hub, mut sellers) = network();
    sellers[0].segments[0].span.end = 401;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 400, 401)]);
}

#[test]
fn a_pin_sold_twice_or_sold_and_withdrawn_is_in_two_places() {
    let (hub, mut sellers) = network();
    sellers[0].segments[0].sold.push((65, 66));
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 65, 66)]);
    let (hub, mut sellers) = network();
    sellers[0].segments[0].withdrawn.push((0, 2));
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 0, 2)]);
}

#[test]
fn a_pin_at_another_seller_than_it_was_given_to_is_misplaced() {
    let (hub, mut sellers) = network();
    sellers[1].segments.clear();
    let stray = SegmentBook { span: span(500, 600), ..sellers[0].segments[0].clone() };
    sellers[0].segments.push(SegmentBook { sold: vec![], withdrawn: vec![], ..stray });
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Misplaced, 500, 600)]);
}

#[test]
fn a_pin_sold_without_ever_being_held_is_misplaced() {
    let (hub, mut sellers) = network();
    sellers[0].segments[0].span.start = 5;
    assert_eq!(
        findings(&hub, &sellers),
        [(FindingKind::Misplaced, 0, 5)],
        "sold, though the seller never took them"
    );
}

#[test]
fn another_generation_or_variety_is_a_mismatch() {
    let (hub, mut sellers) = network();
    sellers[1].segments[0].generation = 1;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Mismatched, 500, 600)]);
    let (hub, mut sellers) = network();
    sellers[1].segments[0].variety = VarietyId(4);
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Mismatched, 500, 600)]);
}

#[test]
fn a_pin_that_was_never_received_is_unknown() {
    let (mut hub, sellers) = network();
    hub.blocks[0].count = 990;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Unknown, 990, 1000)]);
    let (hub, mut sellers) = network();
    let mut stray = sellers[1].segments[0].clone();
    (stray.span.block, stray.sold) = (BlockId(10), vec![]);
    sellers[1].segments.push(stray);
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Unknown, 500, 600)]);
}

#[test]
fn findings_name_the_serials_and_the_report_is_readable_by_programs() {
    let (hub, mut sellers) = network();
    sellers[0].segments[0].span.end = 390;
    let mut report = audit(&hub, &sellers);
    report.name_serials(|block, index| (block == 9).then(|| format!("S{index}")));
    report.name_varieties(|variety| Some(format!("airtime-{variety}")));
    assert_eq!(report.findings[0].serials, Some(("S390".into(), "S399".into())));
    let text = report.to_string();
    assert!(text.contains("10 PINs in no place: block 0x9, 390..400, serials S390 to S399"), "{text}");
    assert!(text.contains("airtime-3") && text.ends_with("NOT BALANCED\n"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["balanced"], false);
    assert_eq!(json["findings"][0]["kind"], "missing");
    assert_eq!(json["varieties"]["3"]["received"], 1000);
}

/// B is lost: of what it held 500..550 is in doubt, 550..600 written off.
fn lost() -> (HubBooks, Vec<SellerBooks>) {
    let (mut hub, mut sellers) = network();
    sellers[1].segments[0].sold.clear();
    hub.lost.insert(B, sellers[1].position);
    let doubt = |start, end, is_written_off| DoubtBook { seller: B, span: span(start, end), is_written_off };
    hub.doubts = vec![doubt(500, 550, false), doubt(550, 600, true)];
    (hub, sellers)
}

#[test]
fn what_a_lost_seller_held_is_in_doubt_or_written_off_and_not_at_the_seller() {
    let (mut hub, mut sellers) = lost();
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    let tally = &report.varieties[&3];
    assert_eq!((tally.in_doubt, tally.withdrawn, tally.at_seller), (50, 55, 335));
    // It sold some that the hub believes in doubt; it has some that the hub does not believe to be.
    sellers[1].segments[0].sold.push((549, 551));
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Twice, 549, 551)]);
    sellers[1].segments[0].sold.clear();
    hub.doubts[0].span.start = 510;
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Misplaced, 500, 510)]);
    // The hub has heard more of its journal by now.
    hub.lost.insert(B, sellers[1].position + 64);
    assert!(audit(&hub, &sellers).balanced);
    hub.doubts[0].span.start = 490;
    assert_eq!(
        findings(&hub, &sellers),
        [(FindingKind::Twice, 490, 500)],
        "in transfer to another, and in doubt"
    );
}

const C: SellerId = SellerId(3);

/// The same, where A gave 300..400 to C below it, as transfer 1 under generation 3, and C has sold one of them.
fn below() -> (HubBooks, Vec<SellerBooks>) {
    let (hub, mut sellers) = network();
    sellers[0].segments[0].span.end = 300;
    let (stream, generation, variety) = (Stream::Bulk, 3, VarietyId(3));
    sellers[0].below.push(BelowBook {
        node: C,
        stream,
        number: 1,
        span: span(300, 400),
        generation,
        variety,
    });
    let segment = SegmentBook { span: span(300, 400), generation, ..sellers[0].segments[0].clone() };
    let segment = SegmentBook { sold: vec![(300, 301)], withdrawn: vec![], ..segment };
    let c = SellerBooks { seller: C, below: Vec::new(), segments: vec![segment], ..sellers[0].clone() };
    sellers.push(c);
    (hub, sellers)
}

/// C has given 350..400 back, and A has it.
fn came_back(sellers: &mut [SellerBooks]) {
    let generation = 4;
    sellers[0].below[0].span.end = 350;
    let back = SegmentBook { span: span(350, 400), generation, from: C, ..sellers[2].segments[0].clone() };
    sellers[0].segments.push(SegmentBook { sold: vec![], ..back });
    sellers[0].came_back.push(CameBackBook { node: C, span: span(350, 400), generation });
}

#[test]
fn what_a_node_below_a_server_holds_is_in_one_place() {
    let (hub, sellers) = below();
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    let tally = &report.varieties[&3];
    assert_eq!((tally.at_seller, tally.in_transfer, tally.sold), (335 + 99 - 1, 100, 62));
    // Its books do not tell of the transfer yet.
    let (hub, mut sellers) = below();
    sellers[2].watermarks = [0, 0];
    sellers[2].segments.clear();
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    assert_eq!(report.varieties[&3].in_transfer, 200);
    // It has refused it, and the server does not know.
    sellers[2].watermarks = [1, 0];
    assert_eq!(findings(&hub, &sellers), [(FindingKind::Missing, 300, 400)]);
    sellers[2].refused.push((Stream::Bulk, 1));
    assert!(audit(&hub, &sellers).balanced);
    // Its books are not there.
    sellers.pop();
    assert_eq!(audit(&hub, &sellers).varieties[&3].in_doubt, 100);
}

#[test]
fn what_came_back_from_below_counts_at_the_server_whatever_the_older_books_of_the_node_say() {
    let (hub, mut sellers) = below();
    came_back(&mut sellers);
    let report = audit(&hub, &sellers);
    assert!(report.balanced, "{report}");
    // Its own books know that it gave them, and not that they were taken.
    let returning = ReturningBook {
        number: 1,
        span: span(350, 400),
        generation: 3,
        variety: VarietyId(3),
        from: SellerId(0),
    };
    sellers[2].segments[0].span.end = 350;
    (sellers[2].given, sellers[2].returning) = (1, vec![returning]);
    let report = audit(&hub, &sellers);
    assert!(report.balanced && report.varieties[&3].in_transfer == 100, "{report}");
    // The server does not have them yet: they are on their way.
    let (hub, mut sellers) = below();
    sellers[2].segments[0].span.end = 350;
    (sellers[2].given, sellers[2].returning) = (1, vec![returning]);
    let report = audit(&hub, &sellers);
    assert!(report.balanced && report.varieties[&3].in_transfer == 150, "{report}");
}

#[test]
fn what_came_back_from_below_and_went_on_to_the_hub_is_the_hubs() {
    let (mut hub, mut sellers) = below();
    // The hub has taken 300..400 since: the books of both are older.
    take_back(&mut hub);
    assert_eq!(
        findings(&hub, &sellers),
        [(FindingKind::Twice, 300, 301)],
        "what was sold was never given back"
    );
    sellers[2].segments[0].sold.clear();
    let report = audit(&hub, &sellers);
    assert!(report.balanced && report.varieties[&3].hub == 500, "{report}");
}

#[test]
fn what_a_server_and_a_node_below_it_both_claim_or_neither_does_is_found() {
    let has = |change: &dyn Fn(&mut Vec<SellerBooks>)| {
        let (hub, mut sellers) = below();
        change(&mut sellers);
        findings(&hub, &sellers)
    };
    // The server's own books have lost that it gave them.
    assert_eq!(
        has(&|sellers| {
            sellers[0].below.clear();
            sellers[0].segments[0].span.end = 400;
        }),
        [(FindingKind::Twice, 300, 400)]
    );
    assert_eq!(has(&|sellers| sellers[0].below.clear()), [(FindingKind::Misplaced, 300, 400)]);
    assert_eq!(
        has(&|sellers| sellers[2].segments[0].span.start = 310),
        [(FindingKind::Misplaced, 300, 301), (FindingKind::Missing, 301, 310)]
    );
    assert_eq!(
        has(&|sellers| sellers[2].segments[0].generation = 2),
        [(FindingKind::Mismatched, 300, 400)],
        "under the generation that the server had it"
    );
    assert_eq!(
        has(&|sellers| {
            came_back(sellers);
            sellers[2].segments[0].sold.push((360, 361));
        }),
        [(FindingKind::Misplaced, 360, 361)],
        "sold and given back"
    );
    // Somebody else has them.
    assert_eq!(has(&|sellers| sellers[2].seller = SellerId(4)), [(FindingKind::Twice, 300, 400)]);
}
