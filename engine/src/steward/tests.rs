//! One steward against a script of the hub.

use super::asking::URGENT_REQUESTS_MAX;
use super::*;
use crate::disk::heap::HeapDisk;
use crate::ids::{BatchId, BlockId};
use crate::journal::record::TransferStep;
use crate::journal::{Journal, JournalOptions, Position};
use crate::link::{CHUNK_BYTES_MAX, Child, ChildStanding, Offer};
use crate::policy::Levels;
use crate::registry::{TerminalKey, Variety};
use crate::stock::segment::checksum;
use crate::stock::{BlockKey, BlockProperties, DataKey, Expiry};
use bytes::Bytes;
use wire::message::{Pin, Serial};

const AIRTIME: VarietyId = VarietyId(1);
const CHILD: SellerId = SellerId(77);

fn hello_of(node: SellerId, hub_epoch: u64) -> ToHub {
    let (journal_from, journal_mark, workers, registry_version, registry_digest) = (0, 0, 1, 0, 0);
    ToHub::Hello { node, hub_epoch, journal_from, journal_mark, workers, registry_version, registry_digest }
}

struct Desk {
    disk: Arc<HeapDisk>,
    link_keys: Arc<NodeKeys>,
    steward: Steward<HeapDisk>,
    /// Records made and durable.
    records: Vec<Record>,
    sent: Vec<ToHub>,
    now: Now,
    given: u64,
    /// Records of earlier lives.
    made_before: u64,
    /// How often a worker was told that there is none.
    out_of_stock: u32,
    /// How upstream broke the protocol.
    faults: Vec<UpstreamFault>,
    /// What was said to nodes below, and why their links were closed.
    below: Vec<ToNode>,
    closed: Vec<String>,
    /// The ranges that were handed to workers.
    lanes: Vec<Arc<Range<Content<HeapDisk>>>>,
}

impl Desk {
    fn new() -> Self {
        let disk = Arc::new(HeapDisk::new());
        let options = JournalOptions::with_segment_bytes(256 << 10);
        let journal =
            Journal::open(disk.clone(), options, Position(0), Position(0), &mut |_, _| Ok(())).unwrap();
        let link_keys = Arc::new(NodeKeys::from_node_key(&[3; 32]));
        let steward = start(&disk, &link_keys, journal.space());
        let now = Now { monotonic_ms: 1_000, unix_ms: 1_800_000_000_000 };
        Self {
            disk,
            link_keys,
            steward,
            records: Vec::new(),
            sent: Vec::new(),
            now,
            given: 0,
            made_before: 0,
            out_of_stock: 0,
            faults: Vec::new(),
            below: Vec::new(),
            closed: Vec::new(),
            lanes: Vec::new(),
        }
    }

    /// Starts the steward anew on what is durable.
    fn restart(&mut self, levels: LevelRules) {
        let mut ledger = Ledger::default();
        for record in &self.records {
            ledger.apply(record, |_, _| {}).unwrap();
        }
        let options = JournalOptions::with_segment_bytes(256 << 10);
        let journal = Arc::new(HeapDisk::new());
        let journal = Journal::open(journal, options, Position(0), Position(0), &mut |_, _| Ok(())).unwrap();
        self.steward = start_with(&self.disk, &self.link_keys, journal.space(), levels, &ledger);
        self.made_before = self.records.len() as u64;
        self.lanes.clear();
        self.sent.clear();
    }

    /// A worker sells so many PINs, in the order of the lanes.
    fn sell(&mut self, count: u32) -> Vec<crate::ids::PinId> {
        let pins: Vec<_> = self
            .lanes
            .iter()
            .flat_map(|range| std::iter::from_fn(|| range.claim()))
            .take(count as usize)
            .collect();
        assert_eq!(pins.len(), count as usize);
        pins
    }

    fn needs(&mut self) -> Vec<u32> {
        let sent = self.sent().into_iter();
        sent.filter_map(|m| if let ToHub::Need { count, .. } = m { Some(count) } else { None }).collect()
    }

    fn offers(&mut self) -> Vec<Offer> {
        let sent = self.sent().into_iter();
        sent.filter_map(|m| if let ToHub::Offer(offer) = m { Some(offer) } else { None }).collect()
    }

    fn hear(&mut self, message: ToNode) {
        self.steward.handle_message(message, &self.now).unwrap();
        self.act();
    }

    /// Says hello and is made ready, with the registry.
    fn connect(&mut self, hub_epoch: u64) {
        self.steward.handle_connected(0, 0);
        self.hear(ToNode::Welcome { hub_epoch, pending: 0, journal_acked: 0 });
        self.hear(ToNode::Registry(registry()));
        self.hear(ToNode::Ready);
    }

    /// Does what it says; every record is durable at once.
    fn act(&mut self) {
        loop {
            let made = self.steward.records().drain(..).map(|bytes| Record::decode(&bytes).unwrap());
            self.records.extend(made);
            self.steward.handle_durable(self.records.len() as u64 - self.made_before, &self.now).unwrap();
            let mut idle = true;
            while let Some(action) = self.steward.poll_action() {
                idle = false;
                match action {
                    StewardAction::Send(message) => self.sent.push(message),
                    StewardAction::Drop(fault) => self.faults.push(fault),
                    StewardAction::Write(write) => {
                        let result = write.run(&*self.disk);
                        self.steward.handle_written(&write, result, &self.now).unwrap();
                    }
                    StewardAction::Range { range, .. } => self.lanes.push(range),
                    StewardAction::OutOfStock { .. } => self.out_of_stock += 1,
                    StewardAction::SendBelow { message, .. } => self.below.push(message),
                    StewardAction::CloseBelow { why, .. } => self.closed.push(why),
                    _ => {}
                }
            }
            if idle && self.steward.records().is_empty() {
                return;
            }
        }
    }

    /// A node below says something.
    fn hear_below(&mut self, message: ToHub) {
        self.steward.handle_child_message(CHILD, message, &self.now).unwrap();
        self.act();
    }

    /// The hub says how the node below stands.
    fn list_child(&mut self, standing: ChildStanding, given: u64) {
        let (name, key) = ("cache".into(), TerminalKey::new([9; 32]));
        let child = Child { node: CHILD, name, key, standing, given };
        self.hear(ToNode::Children(Arc::new(vec![child])));
    }

    /// The offers made to the node below.
    fn offers_below(&self) -> Vec<Offer> {
        let offer = |message: &ToNode| if let ToNode::Offer(offer) = message { Some(*offer) } else { None };
        self.below.iter().filter_map(offer).collect()
    }

    /// The hub says that there is a node below, and that node says hello, having seen this epoch of the hub.
    fn admit(&mut self, hub_epoch: u64) {
        self.list_child(ChildStanding::Member, 0);
        self.steward.handle_child_up(CHILD);
        self.hear_below(hello_of(CHILD, hub_epoch));
    }

    fn tick(&mut self) {
        self.now.monotonic_ms += TICK_MS;
        self.steward.handle_tick(&self.now).unwrap();
        self.act();
    }

    fn sent(&mut self) -> Vec<ToHub> {
        std::mem::take(&mut self.sent)
    }

    /// Gives one segment for a request, as the hub does.
    fn give(&mut self, request: u64, count: u32) {
        for message in self.offer(request, count) {
            self.hear(message);
        }
        self.hear(ToNode::Answered { stream: Stream::Bulk, request, granted: count });
    }

    /// One segment for a request: offer and content.
    fn offer(&mut self, request: u64, count: u32) -> Vec<ToNode> {
        self.given += 1;
        let (stream, number, block) = (Stream::Bulk, self.given, BlockId(self.given));
        let properties = BlockProperties { block, variety: AIRTIME, batch: BatchId(1), expiry: Expiry::NONE };
        let sealer = BlockKey::new(properties, &DataKey::from_bytes([5; 32]));
        let (serial, pin) = (Serial::new(b"S1").unwrap(), Pin::new(b"1234567890").unwrap());
        let records: Vec<u8> =
            (0..count).flat_map(|index| sealer.seal(index as u16, &serial, &pin)).collect();
        let offer = Offer {
            stream,
            number,
            settled_below: number,
            request,
            span: Span { block, start: 0, end: count },
            generation: 2,
            properties,
            block_count: count,
            wrapped_key: self.link_keys.link().wrap(block, &DataKey::from_bytes([5; 32])),
            bytes: records.len() as u32,
            checksum: checksum(&[&records]),
        };
        let chunks = records.chunks(CHUNK_BYTES_MAX as usize).enumerate().map(|(at, chunk)| {
            let (offset, bytes) = (at as u32 * CHUNK_BYTES_MAX, Bytes::copy_from_slice(chunk));
            ToNode::Chunk { stream, number, offset, bytes }
        });
        std::iter::once(ToNode::Offer(offer)).chain(chunks).collect()
    }
}

fn start(disk: &Arc<HeapDisk>, link_keys: &Arc<NodeKeys>, space: Arc<Space>) -> Steward<HeapDisk> {
    let levels = Levels::new(20, 60, 100).unwrap().into();
    start_with(disk, link_keys, space, levels, &Ledger::default())
}

fn start_with(
    disk: &Arc<HeapDisk>,
    link_keys: &Arc<NodeKeys>,
    space: Arc<Space>,
    levels: LevelRules,
    ledger: &Ledger,
) -> Steward<HeapDisk> {
    let keys = NodeKeys::from_node_key(&[2; 32]);
    Steward::new(SellerId(1), disk.clone(), keys, link_keys.clone(), space, 2, levels, ledger).unwrap()
}

fn registry() -> Arc<Registry> {
    let variety = Variety::airtime(AIRTIME, "airtime-za-5", 1, 500);
    Arc::new(Registry::new(7, vec![variety], Vec::new(), Vec::new()).unwrap())
}

#[test]
fn law_8_a_full_disk_refuses_stock_rarely_and_takes_it_when_there_is_room() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.disk.limit(Some(0));
    let mut refusals = 0;
    for _ in 0..60_000 / TICK_MS {
        desk.tick();
        desk.steward.handle_dry(0, AIRTIME, &desk.now);
        desk.act();
        for message in desk.sent() {
            match message {
                ToHub::Need { request, count, .. } => desk.give(request, count),
                ToHub::Urgent { request, .. } => {
                    desk.hear(ToNode::Answered { stream: Stream::Urgent, request, granted: 1 });
                }
                ToHub::Answer { accepted, .. } => refusals += u32::from(!accepted),
                _ => {}
            }
        }
    }
    assert!((3..=8).contains(&refusals), "{refusals} refusals in a minute");
    desk.disk.limit(None);
    desk.sent();
    let mut accepted = false;
    for _ in 0..120_000 / TICK_MS {
        desk.tick();
        for message in desk.sent() {
            match message {
                ToHub::Need { request, count, .. } => desk.give(request, count),
                ToHub::Answer { accepted: true, .. } => accepted = true,
                _ => {}
            }
        }
    }
    assert!(accepted, "it recovers without help");
}

#[test]
fn law_8_a_hub_that_starts_anew_while_the_disk_is_full_does_not_stop_the_node() {
    let mut desk = Desk::new();
    desk.disk.limit(Some(0));
    desk.connect(5);
    assert!(desk.disk.open(HUB_EPOCH_FILE).is_err() && desk.disk.open(REGISTRY_FILE).is_err());
    assert_eq!(desk.steward.registry().version(), 7, "in force, stored or not");
    desk.disk.limit(None);
    (0..40).for_each(|_| desk.tick());
    assert_eq!(desk.disk.open(HUB_EPOCH_FILE).unwrap(), 5u64.to_le_bytes());
    let older = ToNode::Welcome { hub_epoch: 4, pending: 0, journal_acked: 0 };
    assert!(matches!(desk.steward.handle_message(older, &desk.now), Err(StewardError::OldHub { .. })));
    let options = JournalOptions::with_segment_bytes(256 << 10);
    let disk = Arc::new(HeapDisk::new());
    let journal = Journal::open(disk, options, Position(0), Position(0), &mut |_, _| Ok(())).unwrap();
    let again = start(&desk.disk, &desk.link_keys, journal.space());
    assert_eq!(again.registry().version(), 7, "stored as soon as there was room");
}

#[test]
fn law_9_vends_that_waited_while_the_hub_was_away_are_not_all_asked_for_when_it_is_back() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.steward.handle_cut();
    desk.sent();
    let urgent = |desk: &mut Desk| {
        let sent = desk.sent().into_iter();
        sent.filter(|message| matches!(message, ToHub::Urgent { .. })).count()
    };
    for _ in 0..10_000 {
        desk.steward.handle_dry(1, AIRTIME, &desk.now);
    }
    desk.connect(1);
    desk.tick();
    assert_eq!(urgent(&mut desk), URGENT_REQUESTS_MAX);
    desk.steward.handle_cut();
    for _ in 0..=PARK_MS_MAX / TICK_MS {
        desk.tick();
    }
    desk.connect(1);
    desk.tick();
    assert_eq!(urgent(&mut desk), 0, "their terminals were told to come back long ago");
    desk.steward.handle_dry(1, AIRTIME, &desk.now);
    desk.act();
    assert_eq!(urgent(&mut desk), 1);
}

#[test]
fn m05_a_vend_is_not_declined_while_all_the_stock_is_on_its_way_here_or_finds_no_room() {
    let urgent = |desk: &mut Desk| {
        let sent = desk.sent().into_iter();
        let request = |message| match message {
            ToHub::Urgent { request, .. } => Some(request),
            _ => None,
        };
        sent.filter_map(request).collect::<Vec<_>>()
    };
    let mut desk = Desk::new();
    desk.connect(1);
    let need = desk.sent().iter().find_map(|message| match message {
        ToHub::Need { request, .. } => Some(*request),
        _ => None,
    });
    desk.steward.handle_dry(0, AIRTIME, &desk.now);
    desk.act();
    let [asked] = urgent(&mut desk)[..] else { panic!("one vend, one request") };
    // The hub gives all it has in bulk, and so has none for the vend. There is no room for it here.
    desk.disk.limit(Some(0));
    desk.give(need.unwrap(), 60);
    desk.hear(ToNode::Answered { stream: Stream::Urgent, request: asked, granted: 0 });
    assert_eq!(desk.out_of_stock, 0, "there is stock");
    desk.disk.limit(None);
    let until_ms = desk.now.monotonic_ms + 2_500;
    let mut again = Vec::new();
    while desk.now.monotonic_ms < until_ms {
        desk.tick();
        again.extend(urgent(&mut desk));
    }
    let [asked] = again[..] else { panic!("asked again, once: {again:?}") };
    desk.hear(ToNode::Answered { stream: Stream::Urgent, request: asked, granted: 0 });
    assert_eq!(desk.out_of_stock, 1, "now there is none");
}

#[test]
fn m05_what_is_recorded_and_not_durable_yet_still_counts_as_on_its_way() {
    let mut desk = Desk::new();
    desk.connect(1);
    let offered = desk.offer(0, 60);
    desk.steward.handle_dry(0, AIRTIME, &desk.now);
    desk.act();
    let request = |message: ToHub| match message {
        ToHub::Urgent { request, .. } => Some(request),
        _ => None,
    };
    let asked = desk.sent().into_iter().find_map(request).unwrap();
    for message in offered {
        desk.steward.handle_message(message, &desk.now).unwrap();
    }
    while let Some(action) = desk.steward.poll_action() {
        let StewardAction::Write(write) = action else { continue };
        let written = write.run(&*desk.disk);
        desk.steward.handle_written(&write, written, &desk.now).unwrap();
    }
    assert_eq!(desk.steward.records().len(), 1, "taken, and not durable");
    let answer = ToNode::Answered { stream: Stream::Urgent, request: asked, granted: 0 };
    desk.steward.handle_message(answer, &desk.now).unwrap();
    desk.steward.handle_tick(&desk.now).unwrap();
    desk.act();
    assert_eq!(desk.out_of_stock, 0, "the stock is nearly here");
    let asks = desk.sent().into_iter().filter(|m| matches!(m, ToHub::Urgent { .. } | ToHub::Need { .. }));
    assert_eq!(asks.count(), 0, "nor is more asked for");
}

#[test]
fn h02_falling_below_the_low_mark_the_steward_asks_once_for_what_brings_it_to_the_target() {
    let mut desk = Desk::new();
    desk.restart(Levels::new(100, 500, 800).unwrap().into());
    desk.connect(1);
    assert_eq!(desk.needs(), [500], "it begins with nothing");
    desk.give(1, 500);
    desk.sell(400);
    (0..100).for_each(|_| desk.tick());
    assert_eq!(desk.needs(), [0; 0], "100 are left: at the mark");
    desk.sell(1);
    (0..100).for_each(|_| desk.tick());
    desk.sell(50);
    (0..100).for_each(|_| desk.tick());
    assert_eq!(desk.needs(), [401], "99 were left; one request, however long it is open");
}

#[test]
fn h04_a_recall_gets_what_is_not_sold_from_the_back_and_is_answered_when_all_is_offered() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.give(1, 60);
    let sold = desk.sell(10);
    desk.sent();
    desk.hear(ToNode::Recall { recall: 7, variety: AIRTIME, count: 1_000 });
    let sent = desk.sent();
    let offers: Vec<_> =
        sent.iter().filter_map(|m| if let ToHub::Offer(o) = m { Some(*o) } else { None }).collect();
    let offered: u32 = offers.iter().map(|offer| offer.span.len()).sum();
    assert_eq!(offered, 50);
    assert!(matches!(sent.last(), Some(ToHub::Recalled { recall: 7, count: 50 })), "{sent:?}");
    for offer in &offers {
        assert_eq!((offer.request, offer.generation > 2), (7, true));
        assert!(!sold.iter().any(|pin| (offer.span.start..offer.span.end).contains(&u32::from(pin.index()))));
    }
    assert!(desk.lanes.iter().all(|range| range.remaining() == 0), "nobody sells what was given back");
    desk.hear(ToNode::Recall { recall: 8, variety: AIRTIME, count: 1 });
    assert!(matches!(desk.sent()[..], [ToHub::Recalled { recall: 8, count: 0 }]), "no more is there");
}

#[test]
fn law_3_what_was_given_back_is_offered_again_after_a_restart_until_it_is_settled() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.give(1, 60);
    desk.sent();
    desk.hear(ToNode::Recall { recall: 7, variety: AIRTIME, count: 5 });
    let [first] = desk.offers()[..] else { panic!("one offer") };
    desk.restart(Levels::new(0, 60, 100).unwrap().into());
    desk.connect(2);
    let stocked = |desk: &Desk| desk.lanes.iter().map(|range| range.remaining()).sum::<u32>();
    assert_eq!(stocked(&desk), 55);
    assert_eq!(desk.offers(), [Offer { request: 0, ..first }]);
    // Refused though nothing is damaged: it is sold here, and never offered again in this life.
    desk.hear(ToNode::Answer { stream: RETURNS, number: first.number, accepted: false });
    assert_eq!(stocked(&desk), 60);
    desk.hear(ToNode::Recall { recall: 1, variety: AIRTIME, count: 5 });
    assert!(matches!(desk.sent().last(), Some(ToHub::Recalled { recall: 1, count: 0 })));
    desk.restart(Levels::new(0, 60, 100).unwrap().into());
    desk.connect(3);
    desk.hear(ToNode::Recall { recall: 1, variety: AIRTIME, count: 5 });
    let [again] = desk.offers()[..] else { panic!("one offer") };
    assert_eq!(
        (again.number, again.generation, again.span),
        (first.number + 1, first.generation + 1, first.span)
    );
    desk.hear(ToNode::Answer { stream: RETURNS, number: again.number, accepted: true });
    desk.restart(Levels::new(0, 60, 100).unwrap().into());
    desk.connect(4);
    assert_eq!((desk.offers(), stocked(&desk)), (vec![], 55));
}

#[test]
fn h07_a_node_that_goes_offline_asks_for_nothing_and_gives_back_all_even_what_still_arrives() {
    let mut desk = Desk::new();
    desk.connect(1);
    let on_its_way = desk.offer(1, 60);
    desk.sent();
    desk.hear(ToNode::Drain { on: true });
    on_its_way.into_iter().for_each(|message| desk.hear(message));
    desk.hear(ToNode::Answered { stream: Stream::Bulk, request: 1, granted: 60 });
    let mut given = 0;
    for _ in 0..100 {
        desk.tick();
        desk.steward.handle_dry(0, AIRTIME, &desk.now);
        for message in desk.sent() {
            match message {
                ToHub::Offer(offer) => {
                    given += offer.span.len();
                    desk.hear(ToNode::Answer { stream: RETURNS, number: offer.number, accepted: true });
                }
                ToHub::Need { .. } | ToHub::Urgent { .. } => panic!("it asks for nothing"),
                ToHub::Report(report) => assert!(given < 60 || report.stock[0].on_hand == 0),
                _ => {}
            }
        }
    }
    assert_eq!(given, 60);
    desk.hear(ToNode::Drain { on: false });
    desk.tick();
    assert_eq!(desk.needs(), [60], "reversed");
}

#[test]
fn h01_a_welcome_said_twice_undoes_nothing_and_one_that_never_came_ends_the_link() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.hear(ToNode::Welcome { hub_epoch: 1, pending: 0, journal_acked: 0 });
    assert!(desk.steward.is_linked());
    desk.sent();
    desk.now.monotonic_ms += 1_000;
    desk.tick();
    assert!(desk.sent().iter().any(|m| matches!(m, ToHub::Report(_))), "it goes on reporting");

    desk.steward.handle_cut();
    desk.steward.handle_connected(0, 0);
    assert_eq!(desk.faults, []);
    desk.hear(ToNode::Ready);
    assert_eq!(desk.faults, [UpstreamFault::ReadyFirst]);
}

#[test]
fn a_range_of_a_node_below_goes_on_only_behind_this_nodes_own_journal_and_its_answer_comes_back() {
    let mut desk = Desk::new();
    desk.connect(3);
    desk.admit(0);
    let welcome = ToNode::Welcome { hub_epoch: 3, pending: 0, journal_acked: 0 };
    assert_eq!(format!("{:?}", desk.below[0]), format!("{welcome:?}"));
    assert!(matches!(desk.below.last(), Some(ToNode::Ready)));
    let enveloped = |sent: Vec<ToHub>| {
        let inner = sent.into_iter().filter_map(|message| match message {
            ToHub::Below { node: CHILD, message } => Some(*message),
            _ => None,
        });
        inner.collect::<Vec<_>>()
    };
    assert!(matches!(enveloped(desk.sent())[..], [ToHub::Hello { node: CHILD, .. }]));
    let held = |position| ToNode::Below { node: CHILD, message: Box::new(ToNode::JournalAcked { position }) };
    // Nothing goes on before the hub has answered its hello, which goes over another channel.
    desk.hear_below(ToHub::Journal { from: 0, bytes: Bytes::from_static(b"range") });
    assert!(enveloped(desk.sent()).is_empty());
    desk.hear(held(0));
    assert!(enveloped(desk.sent()).is_empty(), "it is shipped again");
    // What is durable here when the range comes has to be at the hub first.
    desk.steward.handle_journal_durable(640);
    desk.hear_below(ToHub::Journal { from: 0, bytes: Bytes::from_static(b"range") });
    assert!(enveloped(desk.sent()).is_empty());
    desk.hear(ToNode::JournalAcked { position: 576 });
    assert!(enveloped(desk.sent()).is_empty());
    // What comes later need not.
    desk.steward.handle_journal_durable(1024);
    desk.hear(ToNode::JournalAcked { position: 640 });
    assert!(matches!(enveloped(desk.sent())[..], [ToHub::Journal { from: 0, .. }]));
    desk.hear(ToNode::JournalAcked { position: 1024 });
    assert!(enveloped(desk.sent()).is_empty(), "once");
    desk.below.clear();
    desk.hear(held(5));
    assert!(matches!(desk.below[..], [ToNode::JournalAcked { position: 5 }]));
    // With the hub away it waits, until that has heard of the node again.
    desk.hear_below(ToHub::Journal { from: 5, bytes: Bytes::from_static(b"more") });
    assert!(matches!(enveloped(desk.sent())[..], [ToHub::Journal { from: 5, .. }]));
    desk.steward.handle_cut();
    desk.steward.handle_connected(0, 0);
    desk.hear(ToNode::Welcome { hub_epoch: 3, pending: 0, journal_acked: 1024 });
    let hello = enveloped(desk.sent());
    assert!(matches!(hello[..], [ToHub::Hello { .. }]), "{hello:?}");
    desk.hear(held(5));
    desk.hear_below(ToHub::Journal { from: 5, bytes: Bytes::from_static(b"more") });
    assert!(matches!(enveloped(desk.sent())[..], [ToHub::Journal { from: 5, .. }]));
}

#[test]
fn what_a_node_below_does_wrong_closes_its_link_and_changes_nothing() {
    let request = |request| ToHub::Need { request, variety: AIRTIME, count: 5 };
    let offer = |desk: &mut Desk| desk.offer(0, 1).remove(0);
    let ToNode::Offer(stray) = offer(&mut Desk::new()) else { panic!("an offer comes first") };
    let wrong = [
        (ToHub::Need { request: 0, variety: AIRTIME, count: 5 }, "no number"),
        (ToHub::Below { node: CHILD, message: Box::new(ToHub::Ready) }, "no nodes below it"),
        (ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: true }, "never offered"),
        (ToHub::Offer(Offer { number: 2, ..stray }), "came where 1 was due"),
    ];
    for (message, why) in wrong {
        let mut desk = Desk::new();
        desk.connect(1);
        desk.admit(0);
        desk.hear_below(message);
        assert!(desk.closed.len() == 1 && desk.closed[0].contains(why), "{:?}", desk.closed);
        assert!(desk.records.is_empty());
        desk.hear_below(request(1));
        assert!(desk.closed[1].contains("before the hello"), "{:?}", desk.closed);
    }
    // One that has seen a newer hub, one that calls itself otherwise, and one that nobody has named.
    let mut desk = Desk::new();
    desk.connect(1);
    desk.admit(2);
    assert!(desk.closed[0].contains("epoch 2"), "{:?}", desk.closed);
    desk.hear_below(hello_of(SellerId(5), 0));
    assert!(desk.closed[1].contains("node 5"), "{:?}", desk.closed);
    desk.steward.handle_child_message(SellerId(6), hello_of(SellerId(6), 0), &desk.now).unwrap();
    desk.act();
    assert!(desk.closed[2].contains("not below"), "{:?}", desk.closed);
}

/// A node below offers what it was given, from an index on.
fn back_of(given: Offer, number: u64, start: u32, generation: u32) -> ToHub {
    let span = crate::ids::Span { start, ..given.span };
    let (bytes, request) = (span.len() * crate::stock::PIN_RECORD_BYTES as u32, 0);
    let (stream, settled_below) = (Stream::Bulk, number);
    ToHub::Offer(Offer { stream, number, settled_below, request, span, generation, bytes, ..given })
}

#[test]
fn law_3_what_a_lost_node_below_offers_is_taken_with_its_journal_and_goes_on_to_the_hub_unsold() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.admit(0);
    desk.give(0, 300);
    desk.hear_below(ToHub::Need { request: 1, variety: AIRTIME, count: 40 });
    let [given, ..] = desk.offers_below()[..] else { panic!("it was given something") };
    desk.hear_below(ToHub::Answer { stream: Stream::Bulk, number: given.number, accepted: true });
    desk.list_child(ChildStanding::Lost, 0);
    assert!(matches!(desk.below.last(), Some(ToNode::Lost)), "{:?}", desk.below.last());
    desk.below.clear();
    desk.hear_below(ToHub::Need { request: 2, variety: AIRTIME, count: 5 });
    desk.hear_below(ToHub::Urgent { request: 3, variety: AIRTIME });
    assert!(
        matches!(desk.below[..], [ToNode::Answered { granted: 0, .. }, ToNode::Answered { granted: 0, .. }]),
        "{:?}",
        desk.below
    );
    let in_stock = desk.steward.in_stock(AIRTIME, &desk.now);
    let made = desk.records.len();
    desk.hear_below(back_of(given, 1, given.span.start, given.generation + 1));
    desk.tick();
    assert_eq!(desk.records.len(), made, "the hub has not said that its journal tells of it");
    desk.sent();
    desk.list_child(ChildStanding::Lost, 1);
    desk.tick();
    let [Record::Below { step: TransferStep::Received(_), .. }, Record::Given(up)] = desk.records[made..]
    else {
        panic!("{:?}", &desk.records[made..])
    };
    assert_eq!((up.span, up.generation), (given.span, given.generation + 2));
    assert!(desk.sent().iter().any(|said| matches!(said, ToHub::Offer(offer) if offer.span == given.span)));
    assert_eq!(desk.steward.in_stock(AIRTIME, &desk.now), in_stock, "it was never in a lane");
    // The hub refuses it: nobody knows what of it may be sold.
    desk.hear(ToNode::Answer { stream: Stream::Bulk, number: up.number, accepted: false });
    let withdrawn = |record: &Record| matches!(record, Record::Withdrawn { span, .. } if *span == given.span);
    assert!(desk.records.iter().any(withdrawn), "{:?}", &desk.records[made..]);
    assert_eq!(desk.steward.in_stock(AIRTIME, &desk.now), in_stock);
}

#[test]
fn law_1_a_node_below_gives_back_only_what_it_was_given() {
    let mut desk = Desk::new();
    desk.connect(1);
    desk.admit(0);
    desk.give(0, 300);
    desk.hear_below(ToHub::Need { request: 1, variety: AIRTIME, count: 40 });
    let offers = desk.offers_below();
    assert_eq!(offers.iter().map(|offer| offer.span.len()).sum::<u32>(), 40);
    let [given, ..] = offers[..] else { panic!("it was given something") };
    let back = |number, start, generation| back_of(given, number, start, generation);
    // Before this node knows that it was taken, it waits.
    let made = desk.records.len();
    desk.hear_below(back(1, given.span.start, given.generation + 1));
    assert_eq!(desk.records.len(), made);
    desk.hear_below(ToHub::Answer { stream: Stream::Bulk, number: given.number, accepted: true });
    let taken = |desk: &Desk, accepted: bool| {
        let last = desk.records.last();
        match last {
            Some(Record::Below { step: TransferStep::Received(_), .. }) => accepted,
            Some(Record::Below { step: TransferStep::Refused(_), .. }) => !accepted,
            other => panic!("{other:?}"),
        }
    };
    assert!(taken(&desk, true), "the whole of it, with its checksum");
    // Again, and something that it never had.
    desk.hear_below(back(2, given.span.start, given.generation + 5));
    assert!(taken(&desk, false));
    let mut stray = back(3, given.span.start, given.generation + 6);
    if let ToHub::Offer(offer) = &mut stray {
        (offer.span.start, offer.span.end) = (0, 1);
        offer.bytes = crate::stock::PIN_RECORD_BYTES as u32;
    }
    desk.hear_below(stray);
    assert!(taken(&desk, false));
    let mut ledger = Ledger::default();
    desk.records.iter().for_each(|record| ledger.apply(record, |_, _| {}).unwrap());
    assert_eq!(
        ledger.below[&CHILD].pieces().map(|piece| piece.span.len()).sum::<u32>(),
        40 - given.span.len()
    );
}
