//! The hub alone, over memory; [`faults`] has it with a seller, and over SQLite.

mod archive;
mod faults;
mod lost;
mod orders;

use super::books::Way;
use super::*;
use crate::audit::audit;
use crate::disk::{Disk, heap::HeapDisk};
use crate::ids::{BatchId, BlockId, KeyEpoch, Span, TerminalId, VarietyId};
use crate::intake::{Delivery, NewBlock, Source};
use crate::journal::record::Stream;
use crate::link::{ToHub, ToNode};
use crate::registry::{Dealer, Registry, State, tests::variety};
use crate::stock::segment::{SegmentHeader, block_path, write_segment};
use crate::stock::{BlockKey, BlockProperties, DataKey, Expiry, NodeKeys};
use std::sync::Arc;
use wire::message::{Pin, Serial};

const NOW_MS: u64 = 1_800_000_000_000; // 2027-01-15
const NODE: SellerId = SellerId(1);

struct Bench<S: Store + Clone> {
    store: S,
    disk: HeapDisk,
    hub: Hub<S, HeapDisk>,
    random: u8,
}

impl<S: Store + Clone> Bench<S> {
    fn new(store: S) -> Self {
        let disk = HeapDisk::new();
        let hub = load(store.clone(), &disk).unwrap();
        Self { store, disk, hub, random: 0 }
    }

    fn crash(&mut self) {
        self.disk.lose_power(|| 0);
        self.hub = load(self.store.clone(), &self.disk).unwrap();
    }

    fn stage(&mut self, command: Command) {
        let random = &mut self.random;
        let mut fill = |bytes: &mut [u8]| {
            *random += 1;
            bytes.fill(*random);
        };
        self.hub.handle_command(77, command, NOW_MS, &mut fill).unwrap();
    }

    fn command(&mut self, command: Command) -> Result<Done, CommandError> {
        self.stage(command);
        assert!(self.hub.poll_output().is_none(), "nothing leaves before the commit");
        self.hub.commit().unwrap();
        let outputs: Vec<_> = std::iter::from_fn(|| self.hub.poll_output()).collect();
        let answer = outputs.into_iter().find_map(|output| match output {
            Output::Done { ticket: 77, result } => Some(result),
            _ => None,
        });
        answer.expect("every command is answered")
    }

    /// A network with two varieties, a dealer and a node.
    fn furnish(&mut self) {
        for id in [10, 20] {
            self.command(Command::AddVariety(variety(id))).unwrap();
        }
        self.command(Command::AddDealer { name: "Corner shop".into() }).unwrap();
        let Done::Node { seller, .. } =
            self.command(Command::AddNode { name: "east".into(), below: None }).unwrap()
        else {
            panic!("another answer");
        };
        assert_eq!(seller, NODE);
    }

    fn prepare(&mut self, variety: u32, blocks: &[(u32, u32)]) -> Delivery {
        let reserved = self.command(Command::Reserve { blocks: blocks.len() as u32 }).unwrap();
        let Done::Reserved { batch, blocks: ids } = reserved else { panic!("another answer") };
        let variety = VarietyId(variety);
        let made = ids.zip(blocks).map(|(id, &(count, expiry))| {
            let properties = BlockProperties { block: BlockId(id), variety, batch, expiry: Expiry(expiry) };
            make_block(&self.disk, properties, count)
        });
        let blocks: Vec<_> = made.collect();
        let received = blocks.iter().map(|block| u64::from(block.count)).sum();
        Delivery { batch, variety, received, blocks, source: Source::default() }
    }

    fn deliver(&mut self, variety: u32, blocks: &[(u32, u32)]) -> Delivery {
        let delivery = self.prepare(variety, blocks);
        let done = self.command(Command::Deliver(delivery.clone())).unwrap();
        assert_eq!(done, Done::Delivered { received: delivery.received });
        delivery
    }

    /// Sends a message and commits; what the hub sends to the node.
    fn tell(&mut self, message: ToHub) -> Vec<ToNode> {
        self.hub.handle_link(NODE, message, NOW_MS).unwrap();
        assert!(self.hub.poll_output().is_none(), "nothing leaves before the commit");
        self.hub.commit().unwrap();
        self.sent()
    }

    fn sent(&mut self) -> Vec<ToNode> {
        let outputs = std::iter::from_fn(|| self.hub.poll_output());
        outputs
            .filter_map(|output| match output {
                Output::Send { node: NODE, message } => Some(message),
                Output::Close { fault, .. } => panic!("{fault}"),
                _ => None,
            })
            .collect()
    }

    fn hello(&mut self) -> Vec<ToNode> {
        self.tell(hello_of(NODE, 0))
    }
}

fn hello_of(node: SellerId, hub_epoch: u64) -> ToHub {
    let (workers, registry_version, registry_digest) = (1, 0, 0);
    ToHub::Hello {
        node,
        hub_epoch,
        journal_from: 0,
        journal_mark: 0,
        workers,
        registry_version,
        registry_digest,
    }
}

fn load<S: Store>(store: S, disk: &HeapDisk) -> Result<Hub<S, HeapDisk>, HubError> {
    Hub::load(store, Arc::new(disk.clone()), Arc::new(NodeKeys::from_node_key(&[9; 32])))
}

fn make_block(disk: &impl Disk, properties: BlockProperties, count: u32) -> NewBlock {
    let data_key = DataKey::from_bytes([properties.block.0 as u8; 32]);
    let sealer = BlockKey::new(properties, &data_key);
    let pin = |index: u32| {
        let serial = Serial::new(format!("S{}x{index}", properties.block.0).as_bytes()).unwrap();
        sealer.seal(index as u16, &serial, &Pin::new(b"1234567890").unwrap())
    };
    let records: Vec<u8> = (0..count).flat_map(pin).collect();
    let key = NodeKeys::from_node_key(&[9; 32]).at_rest().wrap(properties.block, &data_key);
    let header = SegmentHeader { properties, start: 0, end: count, generation: 1, block_count: count, key };
    let path = block_path(properties.block);
    write_segment(disk, &path, &header, &[&records]).unwrap();
    NewBlock { properties, count, path, key }
}

fn offers(messages: &[ToNode]) -> Vec<crate::link::Offer> {
    let offer = |message: &ToNode| match message {
        ToNode::Offer(offer) => Some(*offer),
        _ => None,
    };
    messages.iter().filter_map(offer).collect()
}

#[test]
fn the_registry_is_mastered_here_and_reaches_connected_nodes_after_the_commit() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.hello();
    let Done::Keys(keys) =
        bench.command(Command::AddTerminals { dealer: 1, terminals: Terminals::Next(3) }).unwrap()
    else {
        panic!("another answer")
    };
    assert_eq!(keys.iter().map(|key| key.terminal.0).collect::<Vec<_>>(), [1, 2, 3]);
    let named = Terminals::Numbered(vec![TerminalId(10), TerminalId(7)]);
    bench.command(Command::AddTerminals { dealer: 1, terminals: named }).unwrap();
    let Done::Keys(rekeyed) = bench.command(Command::Rekey { terminal: TerminalId(7) }).unwrap() else {
        panic!("another answer")
    };
    assert_eq!(rekeyed[0].key_epoch, KeyEpoch(2));
    bench.command(Command::SetTerminal { terminal: TerminalId(10), state: State::Suspended }).unwrap();
    bench.stage(Command::SetDealer { dealer: 1, state: State::Closed });
    bench.hub.commit().unwrap();
    let deltas: Vec<_> = bench
        .sent()
        .into_iter()
        .filter_map(|message| match message {
            ToNode::RegistryDelta(delta) => Some(delta),
            _ => None,
        })
        .collect();
    let last = deltas.last().expect("every change reaches the node");
    assert_eq!((last.dealers.len(), last.dealers[0].state), (1, State::Closed));
    assert_eq!((last.to, last.digest), (bench.hub.registry().version(), bench.hub.registry().digest()));
    let closed = bench.command(Command::SetDealer { dealer: 1, state: State::Active });
    assert_eq!(closed, Err(CommandError::Closed), "for good");

    for (wrong, error) in [
        (Terminals::Next(0), CommandError::Count(100_000)),
        (
            Terminals::Numbered(vec![TerminalId(20), TerminalId(7)]),
            crate::registry::RegistryError::TerminalExists(TerminalId(7)).into(),
        ),
    ] {
        assert_eq!(bench.command(Command::AddTerminals { dealer: 1, terminals: wrong }), Err(error));
    }
    assert!(bench.hub.registry().terminal(TerminalId(20)).is_none(), "all or nothing");
    let next = bench.command(Command::AddTerminals { dealer: 1, terminals: Terminals::Next(1) }).unwrap();
    assert!(matches!(next, Done::Keys(keys) if keys[0].terminal == TerminalId(11)));

    let before = Arc::clone(bench.hub.registry());
    bench.crash();
    assert_eq!(**bench.hub.registry(), *before, "keys included");
}

#[test]
fn h09_a_node_gets_what_it_lacks_of_the_registry_and_the_hub_knows_how_far_behind_it_is() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let hello = |bench: &mut Bench<MemoryStore>, registry: &Registry| {
        let (registry_version, registry_digest) = (registry.version(), registry.digest());
        let hub_epoch = bench.hub.epoch();
        bench.hub.handle_cut(NODE);
        let hello = ToHub::Hello {
            node: NODE,
            hub_epoch,
            journal_from: 0,
            journal_mark: 0,
            workers: 1,
            registry_version,
            registry_digest,
        };
        let sent = bench.tell(hello).into_iter();
        sent.filter(|sent| matches!(sent, ToNode::Registry(_) | ToNode::RegistryDelta(_))).collect::<Vec<_>>()
    };
    let lag = |bench: &Bench<MemoryStore>| bench.hub.registry_lag(NODE, NOW_MS + 250).unwrap();
    let first = hello(&mut bench, &Registry::default());
    let [ToNode::Registry(whole)] = &first[..] else { panic!("a new node gets the whole: {first:?}") };
    let mut copy = Registry::clone(whole);
    assert!(hello(&mut bench, &copy).is_empty(), "nothing is missing");
    assert!(lag(&bench).agrees);

    let rename = |name: &str| Command::Import {
        varieties: Vec::new(),
        dealers: vec![Dealer { id: 1, name: name.to_owned(), state: State::Active }],
    };
    for name in ["a", "b", "c"] {
        bench.command(rename(name)).unwrap();
    }
    let behind = lag(&bench);
    assert_eq!((behind.versions, behind.agrees), (3, false));
    assert_eq!(behind.ms, 250);
    let changes = hello(&mut bench, &copy);
    assert_eq!(changes.len(), 3);
    for change in changes {
        let ToNode::RegistryDelta(delta) = change else { panic!("{change:?}") };
        copy.apply(&delta).unwrap();
    }
    assert_eq!(copy, **bench.hub.registry());
    bench.tell(ToHub::RegistryHeld { version: copy.version(), digest: copy.digest() });
    assert_eq!((lag(&bench).versions, lag(&bench).ms, lag(&bench).agrees), (0, 0, true));

    // A copy that is wrong is replaced as a whole.
    let mut wrong = copy.clone();
    wrong.put_dealer(Dealer { id: 1, name: "wrong".to_owned(), state: State::Active }).unwrap();
    assert!(matches!(&hello(&mut bench, &wrong)[..], [ToNode::Registry(_)]));
    let asked = bench.tell(ToHub::RegistryHeld { version: 0, digest: 0 });
    assert!(matches!(&asked[..], [ToNode::Registry(_)]), "and when it asks");

    let rows = [rename("x"), rename("")].map(|command| match command {
        Command::Import { mut dealers, .. } => dealers.remove(0),
        _ => unreachable!("these are imports"),
    });
    let import = Command::Import { varieties: Vec::new(), dealers: rows.to_vec() };
    assert!(matches!(bench.command(import), Err(CommandError::Row { row: 2, .. })));
    assert_eq!(bench.hub.registry().dealer(1).unwrap().name, "c", "all or nothing");
}

#[test]
fn a_delivery_is_taken_once_and_whole_or_not_at_all() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let lost = bench.prepare(1, &[(5, 0)]);
    bench.stage(Command::Deliver(lost.clone()));
    bench.crash();
    assert_eq!(bench.hub.available(VarietyId(1)), 0);
    assert!(bench.disk.open(&lost.blocks[0].path).is_err(), "a file without a row is removed");

    let delivery = bench.deliver(1, &[(100, 0), (50, 20_281_231)]);
    assert!(
        delivery.batch > lost.batch && delivery.blocks[0].properties.block > lost.blocks[0].properties.block
    );
    assert_eq!(bench.hub.available(VarietyId(1)), 150);
    assert_eq!(
        bench.command(Command::Deliver(delivery.clone())),
        Err(CommandError::BatchKnown(delivery.batch))
    );
    let mut wrong = bench.prepare(1, &[(10, 0)]);
    wrong.received = 11;
    assert!(matches!(bench.command(Command::Deliver(wrong.clone())), Err(CommandError::Delivery(_))));
    wrong.received = 10;
    wrong.blocks[0].properties.block = delivery.blocks[0].properties.block;
    assert!(matches!(bench.command(Command::Deliver(wrong.clone())), Err(CommandError::Delivery(_))));
    wrong.variety = VarietyId(3);
    assert_eq!(bench.command(Command::Deliver(wrong)), Err(CommandError::NoSuchVariety(VarietyId(3))));
    assert_eq!(bench.hub.available(VarietyId(1)), 150);
    bench.crash();
    assert_eq!(bench.hub.available(VarietyId(1)), 150);
    assert!(audit(&bench.hub.audit_books(), &[]).balanced);
}

#[test]
fn bulk_comes_from_the_front_of_what_expires_first_and_urgent_from_the_back() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    // Of variety 1: no expiry; soon; three later; too soon for its minimum life of 7 days.
    let later = [(5, 20_280_101), (6, 20_280_201), (7, 20_280_301)];
    let delivery =
        bench.deliver(1, &[(100, 0), (30, 20_270_301), later[0], later[1], later[2], (10, 20_270_120)]);
    let span = |nth: usize, start, end| Span { block: delivery.blocks[nth].properties.block, start, end };
    bench.hello();
    let urgent = bench.tell(ToHub::Urgent { request: 1, variety: VarietyId(1) });
    assert_eq!(offers(&urgent)[0].span, span(1, 29, 30));
    assert_eq!(offers(&urgent)[0].generation, 2);
    assert!(matches!(urgent.last(), Some(ToNode::Answered { request: 1, granted: 1, .. })));

    let first = bench.tell(ToHub::Need { request: 2, variety: VarietyId(1), count: 60 });
    assert_eq!(
        offers(&first).iter().map(|o| o.span).collect::<Vec<_>>(),
        [span(1, 0, 29), span(2, 0, 5), span(3, 0, 6), span(4, 0, 7)],
        "as many at a time as may be open"
    );
    assert!(!first.iter().any(|m| matches!(m, ToNode::Answered { .. })), "not all offers are out");
    let other = bench.tell(ToHub::Need { request: 3, variety: VarietyId(2), count: 5 });
    assert!(other.is_empty(), "{other:?}");
    let urgent = bench.tell(ToHub::Urgent { request: 4, variety: VarietyId(1) });
    assert_eq!(offers(&urgent)[0].span, span(0, 99, 100), "urgent ones pass it");
    assert_eq!(bench.hub.traffic(NODE, NOW_MS), Traffic { open_pins: 49, pins_per_s: 4 });
    assert_eq!(bench.hub.traffic(NODE, NOW_MS + 10_000), Traffic { open_pins: 49, pins_per_s: 0 });

    let second = bench.tell(ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: true });
    assert_eq!(offers(&second).iter().map(|o| o.span).collect::<Vec<_>>(), [span(0, 0, 13)]);
    assert_eq!(offers(&second)[0].settled_below, 2);
    let answered = |messages: &[ToNode]| {
        let answers = messages.iter().filter_map(|message| match message {
            ToNode::Answered { request, granted, .. } => Some((*request, *granted)),
            _ => None,
        });
        answers.collect::<Vec<_>>()
    };
    assert_eq!(answered(&second), [(2, 60)]);
    let third = bench.tell(ToHub::Answer { stream: Stream::Bulk, number: 2, accepted: true });
    assert_eq!(answered(&third), [], "the hub has none of that, and the request waits");
    let [waiting] = bench.hub.waiting()[..] else { panic!("one request waits") };
    assert_eq!((waiting.node, waiting.variety, waiting.pins), (NODE, VarietyId(2), 5));
    assert!(matches!(waiting.wait, crate::policy::Wait::NotCritical { .. }), "{waiting:?}");
    let none = bench.tell(ToHub::Urgent { request: 5, variety: VarietyId(2) });
    assert_eq!(answered(&none), [(5, 0)]);
    let late = bench.prepare(2, &[(1, 0)]);
    bench.stage(Command::Deliver(late));
    bench.hub.commit().unwrap();
    let sent = bench.sent();
    assert!(sent.iter().any(|m| matches!(m, ToNode::StockArrived { variety: VarietyId(2) })));
    assert_eq!((offers(&sent).len(), answered(&sent)), (1, vec![]), "one of five, and four still wait");
    let reason = bench.hub.explain(Way::ToNode, NODE, Stream::Bulk, 1).unwrap().reason.unwrap();
    assert!(reason.to_string().starts_with("asked for 60 PINs"), "{reason}");
}

#[test]
fn a_refused_segment_is_the_hubs_again_and_goes_out_under_a_higher_generation() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.deliver(1, &[(10, 0)]);
    bench.hello();
    let out = bench.tell(ToHub::Need { request: 1, variety: VarietyId(1), count: 10 });
    assert_eq!(offers(&out)[0].generation, 2);
    assert_eq!(bench.hub.available(VarietyId(1)), 0);
    bench.tell(ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: false });
    assert_eq!(bench.hub.available(VarietyId(1)), 10);
    bench.crash();
    assert_eq!(bench.hub.available(VarietyId(1)), 10);
    bench.hello();
    let out = bench.tell(ToHub::Need { request: 1, variety: VarietyId(1), count: 10 });
    assert_eq!((offers(&out)[0].generation, offers(&out)[0].number), (3, 2));
}

#[test]
fn a_block_that_has_decayed_is_set_aside_before_it_is_given() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let delivery = bench.deliver(1, &[(10, 20_280_101), (10, 0)]);
    bench.disk.flip_bit(&delivery.blocks[0].path, 300, 2);
    bench.hello();
    bench
        .hub
        .handle_link(NODE, ToHub::Need { request: 1, variety: VarietyId(1), count: 20 }, NOW_MS)
        .unwrap();
    bench.hub.commit().unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
    let bad = delivery.blocks[0].properties.block;
    assert!(
        outputs
            .iter()
            .any(|o| matches!(o, Output::Alarm(Alarm::BlockSetAside { block, .. }) if *block == bad))
    );
    let good = delivery.blocks[1].properties.block;
    let offered = outputs.iter().find_map(|output| match output {
        Output::Send { message: ToNode::Offer(offer), .. } => Some(offer.span.block),
        _ => None,
    });
    assert_eq!(offered, Some(good));
}

#[test]
fn a_second_hub_shuts_the_first_out_and_an_old_copy_is_told_so() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let second = load(bench.store.clone(), &bench.disk).unwrap();
    assert_eq!(second.epoch(), bench.hub.epoch() + 1);
    bench.stage(Command::AddDealer { name: "late".into() });
    assert!(matches!(bench.hub.commit(), Err(HubError::Store(StoreError::Fenced { .. }))));
    assert!(matches!(bench.hub.commit(), Err(HubError::Failed)), "a hub that failed stays so");
    let mut second = second;
    let newer = hello_of(NODE, second.epoch() + 1);
    assert!(matches!(second.handle_link(NODE, newer, NOW_MS), Err(HubError::OldCopy { .. })));
}

#[test]
fn what_a_node_does_wrong_closes_its_connection_alone() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let mut fault = |messages: &[ToHub]| {
        for message in messages {
            bench.hub.handle_link(NODE, message.clone(), NOW_MS).unwrap();
        }
        bench.hub.commit().unwrap();
        let outputs: Vec<_> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
        match &outputs[..] {
            [Output::Close { node: NODE, fault }] => fault.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let hello = hello_of(NODE, 0);
    let need = |request, count| ToHub::Need { request, variety: VarietyId(1), count };
    assert_eq!(fault(&[need(1, 1)]), NodeFault::HelloMissing.to_string());
    assert_eq!(fault(&[hello_of(SellerId(2), 0)]), "there is no such node");
    assert_eq!(fault(&[hello.clone(), need(0, 1)]), NodeFault::Malformed.to_string());
    assert_eq!(fault(&[hello.clone(), need(1, 0)]), NodeFault::Malformed.to_string());
    let answer = ToHub::Answer { stream: Stream::Bulk, number: 1, accepted: true };
    assert!(fault(&[hello.clone(), answer]).contains("never offered"));
    let many: Vec<_> =
        std::iter::once(hello).chain((1..=node::NEEDS_MAX as u64 + 1).map(|n| need(n, 1))).collect();
    assert_eq!(fault(&many), NodeFault::TooManyRequests(node::NEEDS_MAX).to_string());
}

#[test]
fn a_hub_with_the_wrong_key_file_does_not_start() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let keys = Arc::new(NodeKeys::from_node_key(&[8; 32]));
    let started = Hub::load(bench.store.clone(), Arc::new(bench.disk.clone()), keys);
    assert!(matches!(started, Err(HubError::Key)));
}

#[test]
fn the_node_key_opens_what_is_offered_to_the_node() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let delivery = bench.deliver(1, &[(10, 0)]);
    bench.hello();
    let out = bench.tell(ToHub::Need { request: 1, variety: VarietyId(1), count: 10 });
    let offer = offers(&out)[0];
    let node_key = bench.hub.node_key(NODE).unwrap().unwrap();
    let link = NodeKeys::from_node_key(node_key.expose());
    let data_key = link.link().unwrap(offer.span.block, &offer.wrapped_key).unwrap();
    let ToNode::Chunk { bytes, .. } = &out[1] else { panic!("{out:?}") };
    let record = bytes[64 * 3..64 * 4].try_into().unwrap();
    let (pin, serial) = BlockKey::new(offer.properties, &data_key).open(3, record).unwrap();
    assert_eq!(pin.as_bytes(), b"1234567890");
    let block = delivery.blocks[0].properties.block.0;
    assert_eq!(serial.as_bytes(), format!("S{block}x3").as_bytes());
    assert_eq!(offer.properties.batch, BatchId(1));
}

#[test]
fn h01_a_hello_said_twice_on_one_connection_is_answered_once() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let welcomes = |sent: Vec<ToNode>| sent.iter().filter(|m| matches!(m, ToNode::Welcome { .. })).count();
    bench.hub.handle_cut(NODE);
    let hello = hello_of(NODE, bench.hub.epoch());
    assert_eq!(welcomes(bench.tell(hello.clone())), 1);
    assert_eq!(welcomes(bench.tell(hello)), 0);
}

#[test]
fn a_manager_is_in_the_registry_after_a_restart_and_what_is_closed_stays_so() {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    let add = |name: &str| Command::AddManager { name: name.into() };
    let Done::Node { seller: id, node_key, .. } = bench.command(add("kiosks")).unwrap() else { panic!() };
    assert_ne!(id, NODE, "numbers are those of sellers");
    // One name names one of them.
    assert!(matches!(bench.command(add("kiosks")), Err(CommandError::NodeName)));
    assert!(matches!(bench.command(add("east")), Err(CommandError::NodeName)));
    assert!(matches!(
        bench.command(Command::AddNode { name: "kiosks".into(), below: None }),
        Err(CommandError::NodeName)
    ));
    let set = |state| Command::SetManager { name: "kiosks".into(), state };
    bench.command(set(State::Suspended)).unwrap();
    let digest = bench.hub.registry().digest();
    let again = load(MemoryStore::with(bench.store.books()), &bench.disk).unwrap();
    assert_eq!(again.registry().digest(), digest);
    let manager = again.registry().manager(id).unwrap();
    assert_eq!((manager.state, manager.key.expose()), (State::Suspended, node_key.expose()));
    bench.command(set(State::Closed)).unwrap();
    assert!(matches!(bench.command(set(State::Active)), Err(CommandError::Closed)));
    let unknown = Command::SetManager { name: "nobody".into(), state: State::Active };
    assert!(matches!(bench.command(unknown), Err(CommandError::NoSuchManager(_))));
}
