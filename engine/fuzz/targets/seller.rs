//! A seller under any requests of a few terminals, with stock that comes, damaged records, time-outs, and losses of power
//! that take whatever was not durable. The oracle knows only what was said when it was durable.

use arbitrary::{Arbitrary, Unstructured};
use engine::disk::heap::HeapDisk;
use engine::ids::{BlockId, KeyEpoch, PinId, SellerId, TerminalId, VarietyId};
use engine::journal::record::RecordBytes;
use engine::journal::{Journal, JournalOptions, Position, Record, Space};
use engine::pool::{Range, Shelf};
use engine::registry::{Dealer, Registry, State, Variety};
use engine::seller::{Asker, Library, Replies, Sealed, Seller, Service, Windows};
use engine::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wire::message::{Attempt, DeclineReason, Pin, Reply, Request, SequenceState, Serial, Text, Vend};

#[derive(Arbitrary, Debug)]
enum Step {
    Vend {
        terminal: u8,
        sequence: u8,
        dear: bool,
        repeat: bool,
        confirmed: u8,
    },
    Confirm {
        terminal: u8,
        sequence: u8,
    },
    Void {
        terminal: u8,
        sequence: u8,
    },
    Status {
        terminal: u8,
        sequence: u8,
    },
    Reprint {
        terminal: u8,
        sequence: u8,
    },
    Stock {
        dear: bool,
        count: u8,
        damaged: u8,
    },
    OutOfStock {
        dear: bool,
    },
    Wait {
        ms: u16,
    },
    Leave {
        terminal: u8,
    },
    Serve {
        how: u8,
    },
    /// So many records become durable, and what depends on them is said.
    Sync {
        records: u8,
    },
    /// Power goes when so many records more have reached the disk.
    Crash {
        records: u8,
    },
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let steps = std::iter::from_fn(|| if input.is_empty() { None } else { Step::arbitrary(&mut input).ok() });
    let mut shop = Shop::new();
    steps.take(STEPS_MAX).for_each(|step| shop.take(&step));
    shop.sync(usize::MAX);
}

/// A segment whose PINs are their indices; one of them does not open.
struct Plain {
    damaged: u16,
}

impl Sealed for Plain {
    fn open(&self, index: u16) -> Option<(Pin, Serial)> {
        let text = format!("{index:06}");
        (index != self.damaged).then(|| {
            (
                Text::new(text.as_bytes()).expect("it is short"),
                Text::new(text.as_bytes()).expect("it is short"),
            )
        })
    }

    fn expiry(&self) -> u32 {
        20_301_231
    }

    fn holds(&self, _: u16) -> bool {
        true
    }
}

/// What was said in one turn.
#[derive(Default)]
struct Turn(Vec<(Asker, Reply)>);

impl Replies for Turn {
    fn reply(&mut self, asker: &Asker, reply: &Reply) {
        self.0.push((*asker, reply.clone()));
    }
}

struct Shop {
    seller: Seller<Plain>,
    library: Arc<Library<Plain>>,
    registry: Arc<Registry>,
    space: Arc<Space>,
    now: Now,
    shelves: Vec<(Arc<Shelf<Plain>>, u32)>,
    /// All that is durable.
    journal: Vec<RecordBytes>,
    /// All that is not yet.
    unsynced: Vec<RecordBytes>,
    /// How many records this life began with.
    begun: usize,
    /// What waits until so many records of this life are durable.
    waiting: Vec<(u64, Asker, Reply)>,
    /// What each sequence was last said to be.
    said: BTreeMap<(u64, u64), Said>,
    buyers: BTreeMap<u64, (u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Sold(u64),
    Confirmed(u64),
    Voided(u64),
    Declined(DeclineReason),
    Blocked,
}

impl Shop {
    fn new() -> Self {
        let variety = |id, face_value| Variety::airtime(VarietyId(id), &format!("v{id}"), 1, face_value);
        let dealer = Dealer { id: 1, name: "Shop".into(), state: State::Active };
        let varieties = vec![variety(1, CHEAP), variety(2, DEAR)];
        let registry = Registry::new(1, varieties, vec![dealer], Vec::new()).expect("it is in order");
        let (registry, library) = (Arc::new(registry), Arc::<Library<Plain>>::default());
        let space = space();
        let seller =
            Seller::new(SellerId(7), registry.clone(), library.clone(), Windows::default(), space.clone());
        Self {
            seller,
            library,
            registry,
            space,
            now: Now { monotonic_ms: 5, unix_ms: 20_000 * DAY_MS },
            shelves: Vec::new(),
            journal: Vec::new(),
            unsynced: Vec::new(),
            begun: 0,
            waiting: Vec::new(),
            said: BTreeMap::new(),
            buyers: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        let mut replies = Turn::default();
        let now = self.now;
        match *step {
            Step::Vend { terminal, sequence, dear, repeat, confirmed } => {
                let attempt = if repeat { Attempt::Repeat } else { Attempt::First };
                let (sequence, face_value) = (u64::from(sequence), if dear { DEAR } else { CHEAP });
                let confirmed = u64::from(confirmed);
                let vend = Vend { attempt, sequence, product: 1, face_value, deadline_ms: 1000, confirmed };
                self.ask(terminal, &Request::Vend(vend), &mut replies);
            }
            Step::Confirm { terminal, sequence } => {
                self.ask(terminal, &Request::Confirm { sequence: sequence.into() }, &mut replies);
            }
            Step::Void { terminal, sequence } => {
                self.ask(terminal, &Request::Void { sequence: sequence.into() }, &mut replies);
            }
            Step::Status { terminal, sequence } => {
                self.ask(terminal, &Request::Status { sequence: sequence.into() }, &mut replies);
            }
            Step::Reprint { terminal, sequence } => {
                self.ask(terminal, &Request::Reprint { sequence: sequence.into() }, &mut replies);
            }
            Step::Stock { dear, count, damaged } => {
                let block = BlockId(self.shelves.len() as u64 + 1);
                let (variety, content) = (variety(dear), Plain { damaged: damaged.into() });
                let shelf = Arc::new(Shelf { block, variety, last_day: u32::MAX, content });
                self.library.add(shelf.clone());
                self.shelves.push((shelf.clone(), count.into()));
                let range = Arc::new(Range::new(shelf, 0, count.into()));
                self.seller.handle_range(range, &now, &mut replies);
            }
            Step::OutOfStock { dear } => self.seller.handle_out_of_stock(variety(dear), &now, &mut replies),
            Step::Wait { ms } => {
                self.now.monotonic_ms += u64::from(ms);
                self.now.unix_ms += u64::from(ms) * 60_000;
                self.seller.handle_timeout(&self.now, &mut replies);
            }
            Step::Leave { terminal } => {
                self.seller.handle_closed(session(terminal));
                self.waiting.retain(|(_, asker, _)| asker.session != session(terminal));
            }
            Step::Serve { how } => {
                let service = [Service::Open, Service::Draining, Service::Closed][usize::from(how) % 3];
                self.seller.handle_service(service, &mut replies);
            }
            Step::Sync { records } => return self.sync(records.into()),
            Step::Crash { records } => return self.crash(records.into()),
        }
        self.gather(replies);
    }

    fn ask(&mut self, terminal: u8, request: &Request, replies: &mut Turn) {
        let asker = Asker {
            session: session(terminal),
            terminal: TerminalId(session(terminal)),
            key_epoch: KeyEpoch(1),
            dealer: 1,
            correlation: 0,
        };
        self.seller.handle_request(&asker, request, &self.now, replies);
        assert!(replies.0.iter().filter(|(of, _)| *of == asker).count() <= 2, "one answer, and one given up");
    }

    /// What the machine made and said in one turn.
    fn gather(&mut self, replies: Turn) {
        self.unsynced.append(self.seller.records());
        let ticket = self.seller.made();
        self.waiting.extend(replies.0.into_iter().map(|(asker, reply)| (ticket, asker, reply)));
        while self.seller.poll_dry().is_some() {}
        // The history has none of these: nobody waits for it here.
        while let Some(lookup) = self.seller.poll_lookup() {
            let mut replies = Turn::default();
            self.seller.handle_unasked(&lookup, &mut replies);
        }
    }

    fn sync(&mut self, records: usize) {
        self.journal.extend(self.unsynced.drain(..records.min(self.unsynced.len())));
        let durable = (self.journal.len() - self.begun) as u64;
        for (_, asker, reply) in
            self.waiting.extract_if(.., |(ticket, ..)| *ticket <= durable).collect::<Vec<_>>()
        {
            self.hear(&asker, &reply);
        }
    }

    fn crash(&mut self, records: usize) {
        self.journal.extend(self.unsynced.drain(..).take(records));
        self.waiting.clear();
        self.begun = self.journal.len();
        let (mut windows, mut gone) = (Windows::default(), BTreeSet::new());
        for bytes in &self.journal {
            let record = Record::decode(bytes).expect("the seller wrote it");
            windows.apply(&record, |_, _| {});
            match record {
                Record::Sold { pin, .. } => assert!(gone.insert(pin), "{pin:?} was sold twice"),
                Record::Withdrawn { span, .. } => {
                    gone.extend((span.start..span.end).map(|index| PinId::new(span.block, index as u16)));
                }
                _ => {}
            }
        }
        self.space = space();
        let (registry, library) = (self.registry.clone(), self.library.clone());
        self.seller = Seller::new(SellerId(7), registry, library, windows, self.space.clone());
        let mut replies = Turn::default();
        for (shelf, count) in &self.shelves {
            let unsold = (0..*count).filter(|&index| !gone.contains(&PinId::new(shelf.block, index as u16)));
            for index in unsold {
                let range = Arc::new(Range::new(shelf.clone(), index, index + 1));
                self.seller.handle_range(range, &self.now, &mut replies);
            }
        }
        assert!(replies.0.is_empty(), "nobody waits after a start");
    }

    /// A terminal hears something.
    fn hear(&mut self, asker: &Asker, reply: &Reply) {
        let terminal = asker.terminal.0;
        let (sequence, said) = match *reply {
            Reply::Sold(ref sold) => {
                let buyer = (terminal, sold.sequence);
                let other = self.buyers.insert(sold.reference, buyer);
                assert!(
                    other.is_none_or(|other| other == buyer),
                    "law 1: {sold:?} for {buyer:?} and {other:?}"
                );
                (sold.sequence, Said::Sold(sold.reference))
            }
            Reply::Declined { sequence, reason } => (sequence, Said::Declined(reason)),
            Reply::State { sequence, state, reference } => match state {
                SequenceState::Sold => (sequence, Said::Sold(reference)),
                SequenceState::Confirmed => (sequence, Said::Confirmed(reference)),
                SequenceState::Voided => (sequence, Said::Voided(reference)),
                SequenceState::Blocked => (sequence, Said::Blocked),
                _ => return,
            },
            _ => return,
        };
        let before = self.said.get(&(terminal, sequence)).copied();
        let agrees = match (before, said) {
            // A repeat of a blocked sequence is declined.
            (None, _)
            | (Some(Said::Blocked), Said::Declined(DeclineReason::Blocked))
            | (Some(Said::Declined(DeclineReason::Blocked)), Said::Blocked) => true,
            (Some(Said::Sold(pin) | Said::Confirmed(pin)), Said::Sold(again) | Said::Confirmed(again)) => {
                pin == again
            }
            (Some(Said::Sold(pin)), Said::Voided(again)) => pin == again,
            // Two answers may be on their way at once: the older one says what it was then.
            (Some(Said::Voided(pin)), Said::Sold(again)) => {
                pin == again && matches!(reply, Reply::State { .. })
            }
            (Some(before), said) => before == said,
        };
        assert!(agrees, "law 4: sequence {sequence} of {terminal} was {before:?} and is {said:?}");
        if !matches!((before, said), (Some(Said::Confirmed(_) | Said::Voided(_)), Said::Sold(_))) {
            self.said.insert((terminal, sequence), said);
        }
    }
}

fn session(terminal: u8) -> u64 {
    1 + u64::from(terminal % TERMINALS)
}

fn variety(dear: bool) -> VarietyId {
    VarietyId(if dear { 2 } else { 1 })
}

/// Room for a few hundred records.
fn space() -> Arc<Space> {
    let options = JournalOptions::with_segment_bytes(64 << 10);
    let disk = Arc::new(HeapDisk::new());
    let journal = Journal::open(disk, options, Position(0), Position(0), &mut |_, _| Ok(()));
    journal.expect("an empty disk can be begun on").space()
}

const TERMINALS: u8 = 3;
const CHEAP: u64 = 500;
const DEAR: u64 = 1000;
const DAY_MS: u64 = 86_400_000;
const STEPS_MAX: usize = 200;
