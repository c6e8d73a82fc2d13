//! Hub and seller through crashes, cuts and refusals, over memory and over SQLite.

use super::super::books::{Books, Change, Fate, Place};
use super::*;
use crate::audit::{ReturningBook, SegmentBook, SellerBooks};
use crate::disk::{lock::DirLock, mapped::MappedDisk};
use crate::hub::orders::SupplierKind;
use crate::hub::{DoubtState, Spent};
use crate::ids::OrderId;
use crate::journal::record::{Record, TransferFact};
use crate::link::Offer;
use crate::registry::Variety;
use crate::stock::SegmentFile;
use crate::stock::segment::checksum;
use crate::transfer::{Giver, GiverAction, Taker, TakerAction};
use std::collections::{BTreeMap, VecDeque};

/// A seller's durable side, enough to take stock, to give it back, and to give an account of it.
#[derive(Default)]
struct Seller {
    /// What it has, with the highest generation under which any of it was given.
    held: Vec<(SegmentBook, u32)>,
    watermarks: [u64; 2],
    outcomes: [BTreeMap<u64, (TransferFact, bool)>; 2],
    given: u64,
    /// What it gave back and has no answer for, with the segment that it was a part of.
    returning: BTreeMap<u64, (TransferFact, SegmentBook)>,
}

impl Seller {
    fn takers(&self) -> [Taker; 2] {
        [Stream::Bulk, Stream::Urgent].map(|stream| {
            let books = &self.outcomes[stream as usize];
            Taker::new(stream, self.watermarks[stream as usize], books.values().copied())
        })
    }

    fn giver(&self) -> Giver {
        let open = self.returning.values().map(|(fact, _)| *fact);
        Giver::new(Stream::Bulk, self.given, open).without_content()
    }

    fn record(&mut self, record: Record) -> u64 {
        match record {
            Record::Received(fact) => self.answer(fact, true),
            Record::Refused(fact) => self.answer(fact, false),
            Record::Given(fact) => self.give(fact),
            Record::Settled { transfer, accepted } => {
                let (fact, part) = self.returning.remove(&transfer.number).unwrap();
                if !accepted {
                    self.held.push((part, fact.generation));
                }
                transfer.number
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, fact: TransferFact, accepted: bool) -> u64 {
        self.watermarks[fact.stream as usize] = fact.number;
        self.outcomes[fact.stream as usize].insert(fact.number, (fact, accepted));
        if accepted {
            let (span, generation, variety) = (fact.span, fact.generation, fact.variety);
            let (sold, withdrawn) = (Vec::new(), Vec::new());
            self.held
                .push((SegmentBook { span, generation, variety, sold, withdrawn, from: SellerId(0) }, 0));
        }
        fact.number
    }

    fn give(&mut self, fact: TransferFact) -> u64 {
        let within = |(held, _): &(SegmentBook, u32)| {
            let span = held.span;
            span.block == fact.span.block && span.start <= fact.span.start && fact.span.end <= span.end
        };
        let at = self.held.iter().position(within).unwrap();
        let (whole, _) = self.held.swap_remove(at);
        for (start, end) in [(whole.span.start, fact.span.start), (fact.span.end, whole.span.end)] {
            let rest = SegmentBook { span: Span { start, end, ..whole.span }, ..whole.clone() };
            if start < end {
                self.held.push((rest, fact.generation));
            }
        }
        self.given = fact.number;
        self.returning.insert(fact.number, (fact, SegmentBook { span: fact.span, ..whole }));
        fact.number
    }

    fn books(&self) -> SellerBooks {
        let outcomes = self.outcomes.iter().flat_map(BTreeMap::values);
        let refused = outcomes.filter(|(_, accepted)| !accepted).map(|(fact, _)| (fact.stream, fact.number));
        let returning = |(fact, part): &(TransferFact, SegmentBook)| ReturningBook {
            number: fact.number,
            span: fact.span,
            generation: part.generation,
            variety: fact.variety,
            from: SellerId(0),
        };
        SellerBooks {
            seller: NODE,
            position: 0,
            watermarks: self.watermarks,
            refused: refused.collect(),
            segments: self.held.iter().map(|(segment, _)| segment.clone()).collect(),
            given: self.given,
            returning: self.returning.values().map(returning).collect(),
            below: Vec::new(),
            came_back: Vec::new(),
        }
    }
}

/// A return as the seller offers it, with the right checksum or a wrong one.
pub(super) fn return_offer(disk: &HeapDisk, fact: &TransferFact, is_right: bool) -> Offer {
    let file = SegmentFile::open(disk, &block_path(fact.span.block)).unwrap();
    let records = file.records(fact.span.start, fact.span.end).unwrap();
    Offer {
        stream: fact.stream,
        number: fact.number,
        settled_below: fact.settled_below,
        request: 0,
        span: fact.span,
        generation: fact.generation,
        properties: file.header().properties,
        block_count: file.header().block_count,
        wrapped_key: [0; 60],
        bytes: records.len() as u32,
        checksum: checksum(&[records]) ^ u64::from(!is_right),
    }
}

/// Hub and seller over a pipe, with crashes of both, cuts, refusals both ways and returns by seed; the audit must balance at
/// every step. How many PINs came back.
fn hub_and_seller<S: Store + Clone>(store: S, seed: u64, steps: u32) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % bound
    };
    let mut bench = Bench::new(store);
    bench.furnish();
    bench.deliver(1, &[(3000, 0), (500, 20_280_101)]);
    let mut seller = Seller::default();
    let (mut takers, mut giver) = (seller.takers(), seller.giver());
    let (mut down, mut up) = (VecDeque::new(), VecDeque::new());
    let mut connected = false;
    for step in 0..steps {
        let now_ms = NOW_MS + u64::from(step) * 500;
        match roll(70) {
            _ if !connected => {
                (down, up) = (VecDeque::new(), VecDeque::new());
                bench.hub.handle_cut(NODE);
                takers.iter_mut().for_each(Taker::handle_cut);
                giver.handle_cut();
                up.push_back(hello_of(NODE, 0));
                connected = true;
            }
            0 => connected = false,
            1 => {
                bench.crash();
                connected = false;
            }
            2 => {
                (takers, giver) = (seller.takers(), seller.giver());
                connected = false;
            }
            3..7 => {
                up.push_back(ToHub::Need { request: 1, variety: VarietyId(1), count: 1 + roll(300) as u32 });
            }
            7..10 => up.push_back(ToHub::Urgent { request: 2, variety: VarietyId(1) }),
            10..25 => {
                if let Some(message) = up.pop_front() {
                    bench.hub.handle_link(NODE, message, now_ms).unwrap();
                }
            }
            25..40 => {
                bench.hub.commit().unwrap();
                down.extend(bench.sent());
            }
            40..44 if !seller.held.is_empty() && giver.has_room() => {
                let (held, given) = &seller.held[roll(seller.held.len() as u64) as usize];
                let start = held.span.start + roll(u64::from(held.span.len())) as u32;
                let end = start + 1 + roll(u64::from(held.span.end - start)) as u32;
                let generation = held.generation.max(*given) + 1;
                giver.give(Span { start, end, ..held.span }, generation, held.variety, 0);
            }
            _ => match down.pop_front() {
                Some(ToNode::Welcome { .. }) => _ = giver.handle_connected(),
                Some(ToNode::Offer(offer)) => {
                    let known = if roll(10) == 0 { offer.generation } else { 0 };
                    takers[offer.stream as usize].handle_offer(offer, known).unwrap();
                }
                Some(ToNode::Chunk { stream, number, offset, bytes }) => {
                    takers[stream as usize].handle_chunk(number, offset, &bytes).unwrap();
                }
                Some(ToNode::Answer { number, accepted, .. }) => {
                    giver.handle_answer(number, accepted).unwrap();
                }
                _ => {}
            },
        }
        while let Some(action) = giver.poll_action() {
            match action {
                GiverAction::Record(record @ Record::Given(_)) => {
                    let number = seller.record(record);
                    giver.handle_given(number);
                }
                GiverAction::Record(record) => {
                    let number = seller.record(record);
                    giver.handle_settled(number);
                }
                GiverAction::Offer { fact, .. } => {
                    up.push_back(ToHub::Offer(return_offer(&bench.disk, &fact, roll(8) > 0)));
                }
                GiverAction::Chunk { .. } => panic!("what goes back has no content on its way"),
                GiverAction::Ended { .. } => {}
            }
        }
        for stream in [Stream::Bulk, Stream::Urgent] {
            let taker = &mut takers[stream as usize];
            while let Some(action) = taker.poll_action() {
                match action {
                    TakerAction::Compare(_) => panic!("what comes down has its content"),
                    TakerAction::WriteContent { offer, .. } => taker.handle_written(offer.number),
                    TakerAction::Record(record) => {
                        let number = seller.record(record);
                        taker.handle_recorded(number);
                    }
                    TakerAction::Taken(_) => {}
                    TakerAction::Progress { number, bytes } => {
                        up.push_back(ToHub::Progress { stream, number, bytes });
                    }
                    TakerAction::Answer { number, accepted } => {
                        up.push_back(ToHub::Answer { stream, number, accepted });
                    }
                }
            }
        }
        let report = audit(&bench.hub.audit_books(), &[seller.books()]);
        assert!(report.balanced, "seed {seed}, step {step}\n{report}");
    }
    assert!(seller.watermarks[0] > 0, "seed {seed}: some stock arrived: {:?}", bench.hub.waiting());
    let returns = bench.hub.moves().filter(|row| row.way == Way::FromNode);
    returns.map(|row| u64::from(row.span.len())).sum()
}

#[test]
fn every_pin_is_in_one_place_through_crashes_of_hub_and_seller() {
    let returned: u64 = (1..=40).map(|seed| hub_and_seller(MemoryStore::new(), seed, 1_000)).sum();
    assert!(returned > 4_000, "the faults left some to come back: {returned}");
}

/// Reopens the database for every clone, as a process that starts again does.
struct Reopened {
    directory: Arc<tempfile::TempDir>,
    open: SqliteStore,
}

impl Reopened {
    fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let open = SqliteStore::open(&directory.path().join("hub.db")).unwrap();
        Self { directory, open }
    }
}

impl Clone for Reopened {
    fn clone(&self) -> Self {
        let open = SqliteStore::open(&self.directory.path().join("hub.db")).unwrap();
        Self { directory: Arc::clone(&self.directory), open }
    }
}

impl Store for Reopened {
    fn load(&mut self) -> Result<Books, StoreError> {
        self.open.load()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.open.commit(changes)
    }
}

#[test]
fn every_pin_is_in_one_place_over_sqlite_too() {
    hub_and_seller(Reopened::new(), 5, 500);
}

#[test]
fn sqlite_gives_back_every_row_and_shuts_out_an_older_hub() {
    let store = Reopened::new();
    let mut bench = Bench::new(store.clone());
    bench.furnish();
    let mut foreign = Variety { charset: wire::message::Charset::Cp1256, ..variety(30) };
    foreign.name = b"\xd1\xd5\xed\xcf".to_vec();
    foreign.face_value = u64::MAX;
    bench.command(Command::AddVariety(foreign)).unwrap();
    let ids = Terminals::Numbered(vec![TerminalId(u64::MAX - 1), TerminalId(5)]);
    bench.command(Command::AddTerminals { dealer: 1, terminals: ids }).unwrap();
    bench.command(Command::SetTerminal { terminal: TerminalId(5), state: State::Closed }).unwrap();
    bench.command(Command::SetDealer { dealer: 1, state: State::Suspended }).unwrap();
    bench.deliver(1, &[(40, 20_281_231), (2, 0)]);
    bench.hello();
    bench.tell(ToHub::Need { request: 1, variety: VarietyId(1), count: 7 });
    bench.tell(ToHub::Urgent { request: 1, variety: VarietyId(1) });
    bench.tell(ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: true });
    for (number, is_right) in [(1, true), (2, false)] {
        let span = Span { block: BlockId(1), start: 2 * number as u32, end: 2 * number as u32 + 1 };
        let (stream, variety) = (Stream::Bulk, VarietyId(1));
        let fact = TransferFact { stream, number, span, generation: 3, variety, settled_below: 1 };
        bench.tell(ToHub::Offer(return_offer(&bench.disk, &fact, is_right)));
    }
    bench.command(Command::Drain { node: NODE, on: true }).unwrap();
    let mut journal = archive::NodeJournal::new();
    bench.hub.handle_supply(orders::supply(SupplierKind::Spool), NOW_MS);
    bench.sell(&mut journal, 3);
    bench.tick(1);
    let mut named = bench.prepare(1, &[(1, 0)]);
    named.source = Source { order: OrderId(1), digest: u128::MAX - 1, name: "blue/order-000001.csv".into() };
    bench.command(Command::Deliver(named)).unwrap();
    bench.deliver(2, &[(10, 0)]);
    let mut add = |name: &str| match bench.command(Command::AddNode { name: name.into(), below: None }) {
        Ok(Done::Node { seller, .. }) => seller,
        other => panic!("{other:?}"),
    };
    let [lost, left] = ["lost", "left"].map(&mut add);
    bench.hub.handle_link(lost, hello_of(lost, 0), NOW_MS).unwrap();
    let need = ToHub::Need { request: 1, variety: VarietyId(2), count: 5 };
    bench.hub.handle_link(lost, need, NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    bench.sent();
    bench.hub.handle_cut(lost);
    bench.command(Command::Lose { node: lost, spent: Spent::default() }).unwrap();
    let whole = bench.hub.doubts_of(lost).next().unwrap().span;
    let spans = Some(vec![Span { end: whole.end - 2, ..whole }]);
    let note = "flood — no disk".to_owned();
    bench.command(Command::WriteOff { node: lost, variety: None, spans, note }).unwrap();
    bench.hub.handle_link(lost, hello_of(lost, 0), NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    bench.sent();
    let refused = ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: false };
    bench.hub.handle_link(lost, refused, NOW_MS).unwrap();
    bench.hub.commit().unwrap();
    bench.sent();
    bench.command(Command::Drain { node: left, on: true }).unwrap();
    for message in [hello_of(left, 0), ToHub::Farewell { journal_end: 0 }] {
        bench.hub.handle_link(left, message, NOW_MS).unwrap();
    }
    bench.hub.commit().unwrap();
    bench.sent();
    bench.hub.handle_cut(left);
    bench.command(Command::CloseNode { node: left, spent: Spent::default() }).unwrap();
    bench.command(Command::DrainHub { on: true }).unwrap();
    let (before, registry) = (bench.hub.books.clone(), Arc::clone(bench.hub.registry()));

    let mut again = store.clone();
    let loaded = again.load().unwrap();
    assert_eq!(loaded, Books { epoch: before.epoch + 1, ..before });
    assert_eq!((loaded.orders[&OrderId(1)].received, loaded.sales[&VarietyId(1)].gone), (1, 3));
    assert!(loaded.pieces.values().any(|piece| piece.place == Place::Withdrawn));
    let doubts: Vec<_> = loaded.doubts.values().map(|row| (row.state, row.note.as_str())).collect();
    assert_eq!(doubts, [(DoubtState::WrittenOff, "flood — no disk"), (DoubtState::Returned, "")]);
    assert!(matches!(loaded.nodes[&lost].fate, Fate::Lost { .. }) && loaded.nodes[&lost].heard_ms >= NOW_MS);
    assert_eq!(loaded.nodes[&left].farewell, Some(0));
    assert!(matches!(loaded.nodes[&left].fate, Fate::Closed { .. }));
    let row = &loaded.nodes[&NODE];
    assert_eq!(row.returns.values().map(|(_, accepted)| *accepted).collect::<Vec<_>>(), [true, false]);
    assert!(row.taken == 2 && row.drain.is_some() && loaded.drain.is_some() && loaded.moves.len() >= 4);
    assert!(loaded.pieces.values().any(|p| matches!(p.place, Place::Given { settled: true, .. })));
    bench.stage(Command::AddDealer { name: "late".into() });
    assert!(matches!(bench.hub.commit(), Err(HubError::Store(StoreError::Fenced { .. }))));
    assert_eq!(again.clone().load().unwrap().dealers.len(), 1, "nothing of a fenced commit stays");
    assert_eq!(**load(store, &bench.disk).unwrap().registry(), *registry);
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hub.db");
    drop(SqliteStore::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn a_hub_on_real_files_gives_and_archives_and_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(directory.path()).unwrap();
    let disk = Arc::new(MappedDisk::open(&lock, "").unwrap());
    let start = || {
        let store = SqliteStore::open(&directory.path().join("hub.db")).unwrap();
        Hub::load(store, Arc::clone(&disk), Arc::new(NodeKeys::from_node_key(&[9; 32]))).unwrap()
    };
    let mut hub = start();
    let command = |hub: &mut Hub<SqliteStore, MappedDisk>, command| {
        hub.handle_command(1, command, NOW_MS, &mut |bytes| bytes.fill(5)).unwrap();
        hub.commit().unwrap();
        let outputs: Vec<_> = std::iter::from_fn(|| hub.poll_output()).collect();
        assert!(
            outputs.iter().any(|output| matches!(output, Output::Done { result: Ok(_), .. })),
            "{outputs:?}"
        );
    };
    command(&mut hub, Command::AddVariety(variety(10)));
    command(&mut hub, Command::AddNode { name: "east".into(), below: None });
    command(&mut hub, Command::Reserve { blocks: 2 });
    let (batch, variety) = (BatchId(1), VarietyId(1));
    let properties = BlockProperties { block: BlockId(1), variety, batch, expiry: Expiry::NONE };
    let blocks = vec![make_block(&*disk, properties, 2000)];
    make_block(&*disk, BlockProperties { block: BlockId(2), ..properties }, 10);
    let source = Source::default();
    command(&mut hub, Command::Deliver(Delivery { batch, variety, received: 2000, blocks, source }));

    let mut journal = archive::NodeJournal::new();
    let ask = |hub: &mut Hub<SqliteStore, MappedDisk>, messages: Vec<ToHub>| -> Vec<ToNode> {
        for message in messages {
            hub.handle_link(NODE, message, NOW_MS).unwrap();
        }
        hub.commit().unwrap();
        let outputs = std::iter::from_fn(|| hub.poll_output());
        outputs
            .map(|output| match output {
                Output::Send { message, .. } => message,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let hello = hello_of(NODE, 0);
    let need = ToHub::Need { request: 1, variety, count: 1500 };
    let sent = ask(&mut hub, vec![hello.clone(), need, journal.ship()]);
    let content = |messages: &[ToNode]| {
        let chunks = messages.iter().filter_map(|message| match message {
            ToNode::Chunk { bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        });
        chunks.collect::<Vec<_>>().concat()
    };
    let (offer, bytes) = (offers(&sent)[0], content(&sent));
    assert_eq!((offer.span.len(), bytes.len()), (1500, 1500 * 64));
    assert_eq!(offer.checksum, xxhash_rust::xxh3::xxh3_64(&bytes));
    let acked = hub.journal_acked(NODE).unwrap();
    assert!(acked > 0);

    drop(hub);
    let archived = format!("archive/00000001/{:016x}.log", 0);
    disk.append(&archived, &[1; 10]).unwrap();
    let mut hub = start();
    assert!(disk.open(&block_path(BlockId(2))).is_err(), "no row names it");
    let sent = ask(&mut hub, vec![hello]);
    let again = offers(&sent)[0];
    assert_eq!(again, crate::link::Offer { request: 0, ..offer });
    assert_eq!(content(&sent), bytes);
    assert!(matches!(sent[0], ToNode::Welcome { pending: 1, journal_acked, .. } if journal_acked == acked));
    assert!(matches!(sent.last(), Some(ToNode::Ready)));
    assert_eq!(hub.available(variety), 500);
}
