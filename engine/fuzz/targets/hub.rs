//! A hub under whatever two nodes say, honest or not, with deliveries, drains and crashes: it never stops, and every PIN of
//! every block is in exactly one piece.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use engine::disk::heap::HeapDisk;
use engine::hub::{Command, Done, Hub, HubError, MemoryStore, Output};
use engine::ids::{BlockId, SellerId, VarietyId};
use engine::intake::{Delivery, NewBlock, Source};
use engine::journal::record::Stream;
use engine::link::{LinkMessage, ToHub};
use engine::registry::Variety;
use engine::stock::segment::{SegmentHeader, block_path, write_segment};
use engine::stock::{BlockKey, BlockProperties, DataKey, Expiry, NodeKeys};
use std::sync::{Arc, OnceLock};
use wire::message::{Pin, Serial};

#[derive(Arbitrary, Debug)]
enum Step {
    Hello {
        node: u8,
    },
    Need {
        node: u8,
        request: u8,
        count: u8,
    },
    Urgent {
        node: u8,
        request: u8,
    },
    Answer {
        node: u8,
        urgent: bool,
        number: u8,
        accepted: bool,
    },
    Progress {
        node: u8,
        urgent: bool,
        number: u8,
        bytes: u16,
    },
    Ready {
        node: u8,
    },
    /// Any message at all.
    Say {
        node: u8,
        kind: u8,
        body: Vec<u8>,
    },
    Cut {
        node: u8,
    },
    Deliver {
        count: u8,
    },
    Drain {
        node: u8,
        on: bool,
    },
    Wait {
        ms: u16,
    },
    Commit,
    Crash,
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let steps = std::iter::from_fn(|| if input.is_empty() { None } else { Step::arbitrary(&mut input).ok() });
    let mut site = Site::new();
    for step in steps.take(STEPS_MAX) {
        match site.take(step) {
            Ok(()) => site.check(),
            // Who claims to have seen a later hub, or to have been told more than is there, stops it: that is law.
            Err(HubError::OldCopy { .. } | HubError::OldArchive { .. }) => return,
            Err(error) => panic!("a node must not stop the hub: {error}"),
        }
    }
}

struct Site {
    store: MemoryStore,
    disk: HeapDisk,
    hub: Hub<MemoryStore, HeapDisk>,
    random: u8,
    now_ms: u64,
}

impl Site {
    fn new() -> Self {
        let (store, disk) = (MemoryStore::new(), HeapDisk::new());
        let hub = load(&store, &disk);
        let mut site = Self { store, disk, hub, random: 0, now_ms: 1_800_000_000_000 };
        site.command(Command::AddVariety(Variety::airtime(VARIETY, "v1", 1, 1000)));
        for name in ["east", "west"] {
            site.command(Command::AddNode { name: name.to_owned(), below: None });
        }
        site.deliver(20);
        site
    }

    fn take(&mut self, step: Step) -> Result<(), HubError> {
        let stream = |urgent| if urgent { Stream::Urgent } else { Stream::Bulk };
        let (node, message) = match step {
            Step::Hello { node } => {
                let (workers, registry_version, registry_digest) = (1, 0, 0);
                let of = seller(node);
                let hello = ToHub::Hello {
                    node: of,
                    hub_epoch: 0,
                    journal_from: 0,
                    journal_mark: 0,
                    workers,
                    registry_version,
                    registry_digest,
                };
                (node, hello)
            }
            Step::Need { node, request, count } => {
                (node, ToHub::Need { request: request.into(), variety: VARIETY, count: count.into() })
            }
            Step::Urgent { node, request } => {
                (node, ToHub::Urgent { request: request.into(), variety: VARIETY })
            }
            Step::Answer { node, urgent, number, accepted } => {
                (node, ToHub::Answer { stream: stream(urgent), number: number.into(), accepted })
            }
            Step::Progress { node, urgent, number, bytes } => {
                (node, ToHub::Progress { stream: stream(urgent), number: number.into(), bytes: bytes.into() })
            }
            Step::Ready { node } => (node, ToHub::Ready),
            Step::Say { node, kind, body } => match ToHub::decode(kind.into(), Bytes::from(body)) {
                Ok(message) => (node, message),
                Err(_) => return Ok(()),
            },
            Step::Cut { node } => {
                self.hub.handle_cut(seller(node));
                return self.commit();
            }
            Step::Deliver { count } => {
                self.deliver(u32::from(count % 16) + 1);
                return Ok(());
            }
            Step::Drain { node, on } => {
                self.stage(Command::Drain { node: seller(node), on });
                return self.commit();
            }
            Step::Wait { ms } => {
                self.now_ms += u64::from(ms) * 1000;
                return Ok(());
            }
            Step::Commit => return self.commit(),
            Step::Crash => {
                self.disk.lose_power(|| 0);
                self.hub = load(&self.store, &self.disk);
                return Ok(());
            }
        };
        self.hub.handle_link(seller(node), message, self.now_ms)
    }

    fn commit(&mut self) -> Result<(), HubError> {
        self.hub.commit()?;
        while let Some(output) = self.hub.poll_output() {
            if let Output::Close { node, .. } = output {
                self.hub.handle_cut(node);
            }
        }
        Ok(())
    }

    fn stage(&mut self, command: Command) {
        let random = &mut self.random;
        let mut fill = |bytes: &mut [u8]| {
            *random = random.wrapping_add(1);
            bytes.fill(*random);
        };
        let handled = self.hub.handle_command(77, command, self.now_ms, &mut fill);
        handled.expect("an operator does not stop the hub");
    }

    fn command(&mut self, command: Command) -> Done {
        self.stage(command);
        self.hub.commit().expect("memory does not fail");
        let outputs: Vec<_> = std::iter::from_fn(|| self.hub.poll_output()).collect();
        let done = outputs.into_iter().find_map(|output| match output {
            Output::Done { ticket: 77, result } => Some(result),
            _ => None,
        });
        done.expect("every command is answered").expect("it is in order")
    }

    fn deliver(&mut self, count: u32) {
        let Done::Reserved { batch, blocks } = self.command(Command::Reserve { blocks: 1 }) else {
            panic!("another answer");
        };
        let (block, variety) = (BlockId(blocks.start), VARIETY);
        let properties = BlockProperties { block, variety, batch, expiry: Expiry::NONE };
        let blocks = vec![self.block(properties, count)];
        let received = count.into();
        self.command(Command::Deliver(Delivery {
            batch,
            variety,
            received,
            blocks,
            source: Source::default(),
        }));
    }

    fn block(&self, properties: BlockProperties, count: u32) -> NewBlock {
        let data_key = DataKey::from_bytes([properties.block.0 as u8; 32]);
        let sealer = BlockKey::new(properties, &data_key);
        let serial = |index: u32| Serial::new(format!("S{index}").as_bytes()).expect("it is short");
        let pin = Pin::new(b"1234567890").expect("it is short");
        let records: Vec<u8> =
            (0..count).flat_map(|index| sealer.seal(index as u16, &serial(index), &pin)).collect();
        let key = keys().at_rest().wrap(properties.block, &data_key);
        let header =
            SegmentHeader { properties, start: 0, end: count, generation: 1, block_count: count, key };
        let path = block_path(properties.block);
        write_segment(&self.disk, &path, &header, &[&records]).expect("this disk has no end");
        NewBlock { properties, count, path, key }
    }

    /// Law 1 at the hub: its pieces cover its blocks, and do not overlap.
    fn check(&self) {
        let books = self.hub.audit_books();
        for block in &books.blocks {
            let pieces = books.pieces.iter().filter(|piece| piece.span.block == block.block);
            let mut spans: Vec<_> = pieces.map(|piece| (piece.span.start, piece.span.end)).collect();
            spans.sort_unstable();
            let end =
                spans.iter().try_fold(0, |at, &(start, end)| (at == start && start < end).then_some(end));
            assert_eq!(end, Some(block.count), "{spans:?}");
        }
    }
}

fn load(store: &MemoryStore, disk: &HeapDisk) -> Hub<MemoryStore, HeapDisk> {
    let hub = Hub::load(store.clone(), Arc::new(disk.clone()), keys());
    hub.unwrap_or_else(|error| panic!("what was committed can be loaded: {error}"))
}

fn keys() -> Arc<NodeKeys> {
    static KEYS: OnceLock<Arc<NodeKeys>> = OnceLock::new();
    KEYS.get_or_init(|| Arc::new(NodeKeys::from_node_key(&[9; 32]))).clone()
}

fn seller(node: u8) -> SellerId {
    SellerId(1 + u32::from(node % 3))
}

const VARIETY: VarietyId = VarietyId(1);
const STEPS_MAX: usize = 100;
