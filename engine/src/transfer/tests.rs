//! Both ends driven through every fault: crashes of either at any step, cuts, repeated messages, refusals, and a check
//! after each step that every PIN is in exactly one place.

use super::*;
use crate::ids::{BatchId, BlockId, Span, VarietyId};
use crate::journal::record::{Record, TransferFact};
use crate::link::{CHUNK_BYTES_MAX, CHUNKS_IN_FLIGHT_MAX, Offer};
use crate::stock::{BlockProperties, Expiry, PIN_RECORD_BYTES};
use std::collections::{BTreeMap, VecDeque};
use xxhash_rust::xxh3::xxh3_64;

const BLOCK_COUNT: u32 = 6000;

/// Messages of either direction.
#[derive(Clone)]
enum Message {
    Offer(Offer),
    Chunk { number: u64, offset: u32, bytes: Vec<u8> },
    Progress { number: u64, bytes: u32 },
    Answer { number: u64, accepted: bool },
}

/// What survives a crash of the giver: its pieces of the block, by start, with end and generation.
#[derive(Clone, Default)]
struct GiverBooks {
    highest: u64,
    held: BTreeMap<u32, (u32, u32)>,
    open: BTreeMap<u64, TransferFact>,
}

impl GiverBooks {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Given(fact) => {
                let (end, generation) = self.held.remove(&fact.span.start).expect("it is held");
                assert!(fact.span.end <= end && fact.generation > generation);
                if fact.span.end < end {
                    self.held.insert(fact.span.end, (end, generation));
                }
                self.highest = fact.number;
                self.open.insert(fact.number, fact);
            }
            Record::Settled { transfer, accepted } => {
                self.open.remove(&transfer.number).expect("it is open");
                if !accepted {
                    self.held.insert(transfer.span.start, (transfer.span.end, transfer.generation));
                }
            }
            other => panic!("a giver does not record {other:?}"),
        }
    }
}

/// What survives a crash of the taker.
#[derive(Clone, Default)]
struct TakerBooks {
    highest: u64,
    outcomes: BTreeMap<u64, (TransferFact, bool)>,
    held: BTreeMap<u32, u32>,
    files: BTreeMap<u32, Vec<u8>>,
}

impl TakerBooks {
    fn apply(&mut self, record: Record) {
        let (fact, accepted) = match record {
            Record::Received(fact) => (fact, true),
            Record::Refused(fact) => (fact, false),
            other => panic!("a taker does not record {other:?}"),
        };
        assert_eq!(fact.number, self.highest + 1, "records are in order without gaps");
        self.highest = fact.number;
        self.outcomes.retain(|&number, _| number >= fact.settled_below);
        self.outcomes.insert(fact.number, (fact, accepted));
        if accepted {
            let content = self.files.get(&fact.span.start).expect("the content is durable before IN");
            assert_eq!(content[..], content_of(fact.span));
            self.held.insert(fact.span.start, fact.span.end);
        }
    }
}

struct World {
    random: u64,
    stream: Stream,
    /// Whether content travels, or the taker has it already.
    content: bool,
    giver: Giver,
    giver_books: GiverBooks,
    giver_live: GiverBooks,
    giver_unsynced: VecDeque<Record>,
    taker: Taker,
    taker_books: TakerBooks,
    taker_unsynced: VecDeque<Record>,
    taker_unwritten: VecDeque<(Offer, Vec<u8>)>,
    down: VecDeque<Message>,
    up: VecDeque<Message>,
    connected: bool,
    taken: u64,
    refused: u64,
}

impl World {
    fn new(stream: Stream, content: bool, seed: u64) -> Self {
        let mut books = GiverBooks::default();
        books.held.insert(0, (BLOCK_COUNT, 1));
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            stream,
            content,
            giver: giver(content, Giver::new(stream, 0, [])),
            giver_live: books.clone(),
            giver_books: books,
            giver_unsynced: VecDeque::new(),
            taker: taker(content, Taker::new(stream, 0, [])),
            taker_books: TakerBooks::default(),
            taker_unsynced: VecDeque::new(),
            taker_unwritten: VecDeque::new(),
            down: VecDeque::new(),
            up: VecDeque::new(),
            connected: false,
            taken: 0,
            refused: 0,
        }
    }

    /// Below `bound`.
    fn roll(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) % bound
    }

    fn step(&mut self) {
        match self.roll(100) {
            0..15 => self.give(),
            15..40 => self.deliver_down(),
            40..55 => self.deliver_up(),
            55..68 => self.sync_giver(),
            68..78 => self.write_content(),
            78..90 => self.sync_taker(),
            90..92 => self.cut(),
            92..97 => self.connect(),
            97 => self.crash_giver(),
            98 => self.crash_taker(),
            _ => {
                let some = self.taker.incoming().map(|offer| offer.number).next();
                if let Some(number) = some {
                    self.taker.refuse(number);
                    self.run_taker();
                }
            }
        }
        self.check();
    }

    fn give(&mut self) {
        if !self.giver.has_room() || self.giver_live.held.is_empty() {
            return;
        }
        let nth = self.roll(self.giver_live.held.len() as u64) as usize;
        let (&start, &(end, generation)) = self.giver_live.held.iter().nth(nth).unwrap();
        let most = if self.stream == Stream::Urgent { 1 } else { (end - start).min(2500) };
        let span = Span { block: BlockId(5), start, end: start + 1 + self.roll(u64::from(most)) as u32 };
        self.giver.give(span, generation + 1, VarietyId(1), 9);
        self.run_giver();
    }

    fn run_giver(&mut self) {
        while let Some(action) = self.giver.poll_action() {
            match action {
                GiverAction::Record(record) => {
                    self.giver_unsynced.push_back(record);
                    // The live books know of an OUT at once and of stock that came back when it is durable.
                    if matches!(record, Record::Given(_)) {
                        self.giver_live.apply(record);
                    }
                }
                GiverAction::Offer { fact, .. } => {
                    assert!(self.giver_books.open.contains_key(&fact.number), "OUT is durable first");
                    self.down.push_back(Message::Offer(offer_of(fact)));
                }
                GiverAction::Chunk { number, span, offset, length } => {
                    assert!(self.content && length <= CHUNK_BYTES_MAX);
                    let bytes = content_of(span)[offset as usize..(offset + length) as usize].to_vec();
                    self.down.push_back(Message::Chunk { number, offset, bytes });
                }
                GiverAction::Ended { fact, accepted } => {
                    self.giver_live.apply(Record::Settled { transfer: fact, accepted });
                }
            }
        }
    }

    fn run_taker(&mut self) {
        while let Some(action) = self.taker.poll_action() {
            match action {
                TakerAction::Compare(offer) => {
                    assert!(!self.content);
                    self.taker_unwritten.push_back((offer, content_of(offer.span)));
                }
                TakerAction::WriteContent { offer, bytes } => self.taker_unwritten.push_back((offer, bytes)),
                TakerAction::Record(record) => self.taker_unsynced.push_back(record),
                TakerAction::Taken(offer) => {
                    assert_eq!(self.taker_books.held.get(&offer.span.start), Some(&offer.span.end));
                    self.taken += 1;
                }
                TakerAction::Progress { number, bytes } if self.connected => {
                    self.up.push_back(Message::Progress { number, bytes });
                }
                TakerAction::Answer { number, accepted } if self.connected => {
                    assert!(number <= self.taker_books.highest, "IN or REFUSED is durable first");
                    self.up.push_back(Message::Answer { number, accepted });
                }
                TakerAction::Progress { .. } | TakerAction::Answer { .. } => panic!("sent without a link"),
            }
        }
    }

    fn deliver_down(&mut self) {
        let again = self.roll(20) == 0;
        let Some(message) = (if again { self.down.front().cloned() } else { self.down.pop_front() }) else {
            return;
        };
        match message {
            Message::Offer(offer) => {
                let known = if self.roll(25) == 0 { offer.generation } else { 0 };
                self.taker.handle_offer(offer, known).unwrap();
            }
            Message::Chunk { number, offset, bytes } => {
                self.taker.handle_chunk(number, offset, &bytes).unwrap();
            }
            Message::Progress { .. } | Message::Answer { .. } => unreachable!("these go up"),
        }
        self.run_taker();
    }

    fn deliver_up(&mut self) {
        let again = self.roll(20) == 0;
        let Some(message) = (if again { self.up.front().cloned() } else { self.up.pop_front() }) else {
            return;
        };
        match message {
            Message::Progress { number, bytes } => self.giver.handle_progress(number, bytes).unwrap(),
            Message::Answer { number, accepted } => {
                self.refused += u64::from(!accepted);
                self.giver.handle_answer(number, accepted).unwrap();
            }
            Message::Offer(_) | Message::Chunk { .. } => unreachable!("these go down"),
        }
        self.run_giver();
    }

    fn sync_giver(&mut self) {
        let Some(record) = self.giver_unsynced.pop_front() else { return };
        self.giver_books.apply(record);
        match record {
            Record::Given(fact) => self.giver.handle_given(fact.number),
            Record::Settled { transfer, .. } => self.giver.handle_settled(transfer.number),
            other => panic!("a giver does not record {other:?}"),
        }
        self.run_giver();
    }

    fn write_content(&mut self) {
        let Some((offer, bytes)) = self.taker_unwritten.pop_front() else { return };
        self.taker_books.files.insert(offer.span.start, bytes);
        self.taker.handle_written(offer.number);
        self.run_taker();
    }

    fn sync_taker(&mut self) {
        let Some(record) = self.taker_unsynced.pop_front() else { return };
        self.taker_books.apply(record);
        let (Record::Received(fact) | Record::Refused(fact)) = record else { unreachable!("applied above") };
        self.taker.handle_recorded(fact.number);
        self.run_taker();
    }

    fn cut(&mut self) {
        self.connected = false;
        self.down.clear();
        self.up.clear();
        self.giver.handle_cut();
        self.taker.handle_cut();
    }

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.giver.handle_connected();
            self.run_giver();
        }
    }

    fn crash_giver(&mut self) {
        self.cut();
        self.giver_unsynced.clear();
        self.giver_live = self.giver_books.clone();
        let open = self.giver_books.open.values().copied();
        self.giver = giver(self.content, Giver::new(self.stream, self.giver_books.highest, open));
    }

    fn crash_taker(&mut self) {
        self.cut();
        self.taker_unsynced.clear();
        self.taker_unwritten.clear();
        let outcomes = self.taker_books.outcomes.values().copied();
        self.taker = taker(self.content, Taker::new(self.stream, self.taker_books.highest, outcomes));
    }

    /// Law 1 on what is durable: every PIN with the giver, with the taker, or in one transfer.
    fn check(&self) {
        let mut places = [0u8; BLOCK_COUNT as usize];
        let mut count = |start: u32, end: u32| (start..end).for_each(|pin| places[pin as usize] += 1);
        self.giver_books.held.iter().for_each(|(&start, &(end, _))| count(start, end));
        self.taker_books.held.iter().for_each(|(&start, &end)| count(start, end));
        for fact in self.giver_books.open.values() {
            let outcome = self.taker_books.outcomes.get(&fact.number);
            let taken = outcome.is_some_and(|(_, accepted)| *accepted);
            assert!(
                outcome.is_some() || fact.number > self.taker_books.highest,
                "remembered while it matters"
            );
            if !taken {
                count(fact.span.start, fact.span.end);
            }
        }
        assert!(places.iter().all(|&n| n == 1), "a PIN with two owners or none");
        assert!(self.taker_books.outcomes.len() <= open_max(self.stream) * 2, "outcomes are forgotten");
    }

    /// Lets everything run without faults until nothing moves.
    fn settle(&mut self) {
        self.connect();
        for _ in 0..100_000 {
            let busy = self.down.len()
                + self.up.len()
                + self.giver_unsynced.len()
                + self.taker_unsynced.len()
                + self.taker_unwritten.len();
            if busy == 0 {
                return;
            }
            self.deliver_down();
            self.deliver_up();
            self.sync_giver();
            self.write_content();
            self.sync_taker();
            self.check();
        }
        panic!("it never comes to rest");
    }
}

fn giver(content: bool, giver: Giver) -> Giver {
    if content { giver } else { giver.without_content() }
}

fn taker(content: bool, taker: Taker) -> Taker {
    if content { taker } else { taker.without_content() }
}

#[test]
fn no_pin_has_two_owners_or_none_under_any_faults() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 1..=60 {
        for (stream, content) in [(Stream::Bulk, true), (Stream::Urgent, true), (Stream::Bulk, false)] {
            let mut world = World::new(stream, content, seed);
            (0..400).for_each(|_| world.step());
            world.settle();
            assert_eq!(world.giver.open_count(), 0, "seed {seed}: everything is answered");
            assert!(world.giver_books.open.is_empty());
            assert_eq!(world.giver.settled_below(), world.giver_books.highest + 1);
            assert_eq!(world.taker_books.highest, world.giver_books.highest, "no gap");
            taken += world.taken;
            refused += world.refused;
        }
    }
    assert!(taken > 800 && refused > 40, "the faults left some to see: {taken} taken, {refused} refused");
}

#[test]
fn a_crash_of_either_end_at_every_step_of_one_transfer_is_harmless() {
    for (crash_giver, content) in [(false, true), (true, true), (false, false), (true, false)] {
        for crash_at in 0..40 {
            let mut world = World::new(Stream::Bulk, content, 7);
            world.connect();
            world.give();
            for step in 0..40 {
                if step == crash_at {
                    if crash_giver {
                        world.crash_giver();
                    } else {
                        world.crash_taker();
                    }
                    world.connect();
                }
                match step % 5 {
                    0 => world.sync_giver(),
                    1 => world.deliver_down(),
                    2 => world.write_content(),
                    3 => world.sync_taker(),
                    _ => world.deliver_up(),
                }
                world.check();
            }
            world.settle();
            let taken: u32 = world.taker_books.held.iter().map(|(start, end)| end - start).sum();
            let left: u32 = world.giver_books.held.iter().map(|(start, (end, _))| end - start).sum();
            assert_eq!(taken + left, BLOCK_COUNT);
            let lost_before_out = crash_giver && crash_at == 0;
            assert_eq!(taken == 0, lost_before_out, "only an OUT that never was durable is undone");
        }
    }
}

#[test]
fn the_window_bounds_what_is_on_its_way_and_progress_moves_it() {
    let mut giver = Giver::new(Stream::Bulk, 0, []);
    giver.handle_connected();
    let fact = giver.give(Span { block: BlockId(5), start: 0, end: 65_536 }, 2, VarietyId(1), 1);
    giver.handle_given(1);
    let chunks = |giver: &mut Giver| {
        let actions: Vec<_> = std::iter::from_fn(|| giver.poll_action()).collect();
        actions.iter().filter(|action| matches!(action, GiverAction::Chunk { .. })).count()
    };
    assert_eq!(chunks(&mut giver), CHUNKS_IN_FLIGHT_MAX as usize);
    giver.handle_progress(1, 3 * CHUNK_BYTES_MAX).unwrap();
    assert_eq!(chunks(&mut giver), 3);
    assert!(giver.handle_progress(1, u32::MAX).is_err());

    // After a cut the taker says what it holds, and only the rest is sent again.
    let mut taker = Taker::new(Stream::Bulk, 0, []);
    let offer = offer_of(fact);
    taker.handle_offer(offer, 0).unwrap();
    let content = content_of(fact.span);
    let sent: Vec<_> = content.chunks(CHUNK_BYTES_MAX as usize).collect();
    for (i, chunk) in sent.iter().take(10).enumerate() {
        taker.handle_chunk(1, i as u32 * CHUNK_BYTES_MAX, chunk).unwrap();
    }
    let reported = TakerAction::Progress { number: 1, bytes: 8 * CHUNK_BYTES_MAX };
    assert_eq!(std::iter::from_fn(|| taker.poll_action()).collect::<Vec<_>>(), [reported]);
    taker.handle_cut();
    taker.handle_offer(offer, 0).unwrap();
    assert_eq!(taker.poll_action(), Some(TakerAction::Progress { number: 1, bytes: 10 * CHUNK_BYTES_MAX }));
    taker.handle_chunk(1, 9 * CHUNK_BYTES_MAX, sent[9]).unwrap();
    for (i, chunk) in sent.iter().enumerate().skip(10) {
        taker.handle_chunk(1, i as u32 * CHUNK_BYTES_MAX, chunk).unwrap();
    }
    let actions: Vec<_> = std::iter::from_fn(|| taker.poll_action()).collect();
    assert_eq!(actions.last(), Some(&TakerAction::WriteContent { offer, bytes: content }));
}

#[test]
fn a_known_generation_or_a_damaged_content_is_refused_durably() {
    let fact = fact(1, 0, 10, 3);
    let mut taker = Taker::new(Stream::Bulk, 0, []);
    taker.handle_offer(offer_of(fact), 3).unwrap();
    assert_eq!(taker.poll_action(), Some(TakerAction::Record(Record::Refused(fact))));
    assert_eq!(taker.poll_action(), None, "no answer before the record is durable");
    taker.handle_recorded(1);
    assert_eq!(taker.poll_action(), Some(TakerAction::Answer { number: 1, accepted: false }));
    taker.handle_offer(offer_of(fact), 0).unwrap();
    assert_eq!(taker.poll_action(), Some(TakerAction::Answer { number: 1, accepted: false }), "for ever");

    let next = self::fact(2, 0, 10, 4);
    taker.handle_offer(offer_of(next), 3).unwrap();
    let mut content = content_of(next.span);
    content[5] ^= 1;
    taker.handle_chunk(2, 0, &content).unwrap();
    assert_eq!(taker.poll_action(), Some(TakerAction::Record(Record::Refused(next))));
}

#[test]
fn an_old_copy_of_either_books_is_noticed() {
    let known = fact(7, 0, 10, 3);
    let mut taker = Taker::new(Stream::Bulk, 7, [(known, true)]);
    let other = offer_of(fact(7, 10, 20, 3));
    assert_eq!(taker.handle_offer(other, 0), Err(TransferFault::Renumbered { number: 7 }));
    let forgotten = offer_of(fact(6, 0, 10, 2));
    assert_eq!(taker.handle_offer(forgotten, 3), Err(TransferFault::SettledBefore { number: 6 }));
    let skipped = offer_of(fact(9, 10, 20, 3));
    assert_eq!(taker.handle_offer(skipped, 0), Err(TransferFault::Gap { number: 9, expected: 8 }));
    assert_eq!(taker.poll_action(), None);

    let mut giver = Giver::new(Stream::Bulk, 5, []);
    giver.handle_connected();
    assert_eq!(giver.handle_answer(7, true), Err(TransferFault::NeverOffered { number: 7 }));
    giver.give(known.span, 3, VarietyId(1), 0);
    assert_eq!(
        giver.handle_answer(6, true),
        Err(TransferFault::NeverOffered { number: 6 }),
        "OUT not durable"
    );
    giver.handle_given(6);
    giver.handle_answer(6, true).unwrap();
    giver.handle_answer(6, true).unwrap();
    assert_eq!(giver.handle_answer(6, false), Err(TransferFault::Contradiction { number: 6 }));
}

#[test]
fn impossible_offers_and_chunks_are_the_peers_fault_and_change_nothing() {
    let good = offer_of(fact(1, 0, 10, 3));
    let mut taker = Taker::new(Stream::Bulk, 0, []);
    let spoilt: [fn(&mut Offer); 7] = [
        |o| o.number = 0,
        |o| o.settled_below = 2,
        |o| o.stream = Stream::Urgent,
        |o| o.span.end = o.span.start,
        |o| o.span.end = BLOCK_COUNT + 1,
        |o| o.bytes += 1,
        |o| o.properties.block = BlockId(6),
    ];
    for spoil in spoilt {
        let mut offer = good;
        spoil(&mut offer);
        assert!(matches!(taker.handle_offer(offer, 0), Err(TransferFault::Malformed { .. })));
    }
    assert_eq!(taker.incoming().len(), 0);
    taker.handle_offer(good, 0).unwrap();
    let content = content_of(good.span);
    assert!(taker.handle_chunk(2, 0, &content).is_err(), "before its offer");
    assert!(taker.handle_chunk(1, 64, &content[64..]).is_err(), "one is missing");
    assert!(taker.handle_chunk(1, 0, &[0; 641]).is_err(), "too long");
    assert!(taker.handle_chunk(1, 0, &[]).is_err(), "empty");
    taker.handle_chunk(1, 0, &content).unwrap();
    assert!(matches!(taker.poll_action(), Some(TakerAction::WriteContent { .. })));
}

fn fact(number: u64, start: u32, end: u32, generation: u32) -> TransferFact {
    let span = Span { block: BlockId(5), start, end };
    TransferFact {
        stream: Stream::Bulk,
        number,
        span,
        generation,
        variety: VarietyId(1),
        settled_below: number,
    }
}

fn offer_of(fact: TransferFact) -> Offer {
    let properties = BlockProperties {
        block: fact.span.block,
        variety: fact.variety,
        batch: BatchId(1),
        expiry: Expiry::NONE,
    };
    Offer {
        stream: fact.stream,
        number: fact.number,
        settled_below: fact.settled_below,
        request: 0,
        span: fact.span,
        generation: fact.generation,
        properties,
        block_count: BLOCK_COUNT.max(fact.span.end),
        wrapped_key: [0; 60],
        bytes: fact.span.len() * PIN_RECORD_BYTES as u32,
        checksum: xxh3_64(&content_of(fact.span)),
    }
}

fn content_of(span: Span) -> Vec<u8> {
    (span.start..span.end).flat_map(|pin| [pin.to_le_bytes(); PIN_RECORD_BYTES / 4].concat()).collect()
}
