//! A real hub, real directories, and a process that can be killed before and after every question to the hub.

mod deliveries;
mod orders;

use super::*;
use crate::disk::heap::HeapDisk;
use crate::hub::sales::SalesRow;
use crate::hub::{Hub, MemoryStore, OrderState, Output};
use crate::ids::{BatchId, VarietyId};
use crate::intake::{Delivery, DeliveryOrder, HeapFingerprints, IntakeError, Tools, intake_file, mint};
use crate::policy::Rate;
use crate::registry::tests::variety;
use crate::stock::NodeKeys;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

const NOW_MS: u64 = 1_800_000_000_000; // 2027-01-15
const SPOOL: &str = r#"
    [[supplier]]
    name = "blue"
    kind = "spool"
    directory = "blue"
    profile = "serial-pin-expiry"

    [[reorder]]
    variety = "airtime-za-1"
    supplier = "blue"
    point = 100
    up_to = 500
    lot = 50
"#;
const MINT: &str = r#"
    [[supplier]]
    name = "own"
    kind = "mint"
    valid_days = 30

    [[reorder]]
    variety = "airtime-za-1"
    supplier = "own"
    point = 100
    up_to = 500
    lot = 50
"#;

/// Before or after which question the process is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kill {
    at: usize,
    before: bool,
}

struct Killed;

/// A hub with 90 PINs to its books, a supplier's directory, and a process that can be killed.
struct World {
    store: MemoryStore,
    disk: HeapDisk,
    fingerprints: HeapFingerprints,
    hub: RefCell<Hub<MemoryStore, HeapDisk>>,
    suppliers: Suppliers,
    directory: tempfile::TempDir,
    asked: Cell<usize>,
    kill: Cell<Option<Kill>>,
    failing: Cell<bool>,
}

impl World {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let suppliers = Suppliers::from_toml(config, directory.path()).unwrap();
        let (store, disk) = (MemoryStore::new(), HeapDisk::new());
        let hub = RefCell::new(load(&store, &disk));
        let (asked, kill, failing) = (Cell::new(0), Cell::new(None), Cell::new(false));
        let fingerprints = HeapFingerprints::default();
        let mut world = Self { store, disk, fingerprints, hub, suppliers, directory, asked, kill, failing };
        world.told(Command::AddVariety(variety(1))).unwrap();
        let source = Source::default();
        let first = Expected { variety: "airtime-za-1".into(), expiry: Expiry::NONE, source };
        world.issue(&first, 90).unwrap();
        let mut books = world.store.books();
        // 21 PINs of this day were there once, too.
        let sales = SalesRow {
            variety: VarietyId(1),
            gone: 0,
            days: [(20_833, 21)].into(),
            rate: Rate::NONE,
            rate_at_ms: 0,
        };
        books.sales = BTreeMap::from([(VarietyId(1), sales)]);
        world.store = MemoryStore::with(books);
        world.restart();
        world
    }

    /// The process starts; what it had in memory is gone.
    fn restart(&mut self) {
        self.disk.lose_power(|| 0);
        self.kill.set(None);
        let mut hub = load(&self.store, &self.disk);
        hub.handle_supply(self.suppliers.supply(), NOW_MS);
        hub.commit().unwrap();
        self.hub = RefCell::new(hub);
    }

    /// A second passes. Whether the process lives.
    fn turn(&self, acquisition: &mut Acquisition) -> bool {
        let turn = || {
            self.asked.set(0);
            let mut hub = self.hub.borrow_mut();
            hub.handle_tick(NOW_MS + 10_000);
            hub.commit().unwrap();
            drop(hub);
            acquisition.turn(self, &|| false);
        };
        match catch_unwind(AssertUnwindSafe(turn)) {
            Ok(()) => true,
            Err(why) if why.is::<Killed>() => false,
            Err(why) => resume_unwind(why),
        }
    }

    /// One turn that is killed there, and a start after it. Whether it was killed at all.
    fn killed_turn(&mut self, kill: Kill) -> bool {
        let mut acquisition = Acquisition::new(self.suppliers.clone());
        self.kill.set(Some(kill));
        let lives = self.turn(&mut acquisition);
        self.restart();
        !lives
    }

    /// Turns until there is nothing left to do.
    fn settle(&self) {
        let mut acquisition = Acquisition::new(self.suppliers.clone());
        for _ in 0..3 {
            assert!(self.turn(&mut acquisition));
        }
    }

    fn ask<T>(&self, answer: impl FnOnce(&mut Hub<MemoryStore, HeapDisk>) -> T) -> T {
        let here = |before| Some(Kill { at: self.asked.get(), before });
        if self.kill.get() == here(true) {
            // Unlike a panic this says nothing.
            resume_unwind(Box::new(Killed));
        }
        let answer = answer(&mut self.hub.borrow_mut());
        if self.kill.get() == here(false) {
            resume_unwind(Box::new(Killed));
        }
        self.asked.set(self.asked.get() + 1);
        answer
    }

    fn told(&self, command: Command) -> Result<Done, CommandError> {
        do_command(&mut self.hub.borrow_mut(), command)
    }

    fn issue(&self, expected: &Expected, count: u32) -> Result<Accepted, Setback> {
        let recipe = Recipe {
            count,
            length: 12,
            alphabet: crate::intake::Alphabet::Digits,
            check: false,
            serial_prefix: "P".into(),
            serial_first: 1,
            serial_digits: 8,
        };
        self.deliver(&mut self.hub.borrow_mut(), expected, |order, tools| {
            let serial_prefix = format!("{}{:06}", recipe.serial_prefix, order.batch.0);
            mint(order, &Recipe { serial_prefix, ..recipe }, tools)
                .map_err(|error| Setback::Later(error.to_string()))
        })
    }

    fn deliver(
        &self,
        hub: &mut Hub<MemoryStore, HeapDisk>,
        expected: &Expected,
        make: impl FnOnce(&DeliveryOrder, &mut Tools<'_, HeapDisk>) -> Result<Delivery, Setback>,
    ) -> Result<Accepted, Setback> {
        let Done::Reserved { batch, blocks } = do_command(hub, Command::Reserve { blocks: 4 }).unwrap()
        else {
            panic!("another answer")
        };
        let order = DeliveryOrder {
            batch,
            variety: hub.registry().variety_by_code(&expected.variety).unwrap().id,
            face_value: 1000,
            currency_digits: 2,
            expiry: expected.expiry,
            blocks,
            now_ms: NOW_MS,
            seed: [batch.0 as u8; 32],
        };
        let committed: Vec<BatchId> = hub.batches().map(|row| row.batch).collect();
        let counts = |seen| seen == batch || committed.contains(&seen);
        let keys = keys();
        let (disk, fingerprints) = (&self.disk, &self.fingerprints);
        let mut tools = Tools { disk, keys: &keys, fingerprints, counts: &counts, progress: &mut |_| {} };
        let delivery = Delivery { source: expected.source.clone(), ..make(&order, &mut tools)? };
        match do_command(hub, Command::Deliver(delivery)) {
            Ok(Done::Delivered { received: pins }) => Ok(Accepted { batch: batch.0, pins }),
            other => Err(Setback::Refused(format!("{other:?}"))),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("blue").join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The supplier puts a file in, as it should.
    fn puts_in(&self, name: &str, text: &str) {
        fs::write(self.path("in/.fresh"), text).unwrap();
        fs::rename(self.path("in/.fresh"), self.path("in").join(name)).unwrap();
    }

    fn order(&self) -> OrderRow {
        let hub = self.hub.borrow();
        assert_eq!(hub.orders().len(), 1, "one order for one shortage");
        hub.orders().next().unwrap().clone()
    }

    fn on_hand(&self) -> u64 {
        let hub = self.hub.borrow();
        assert!(crate::audit::audit(&hub.audit_books(), &[]).balanced);
        assert_eq!(hub.available(VarietyId(1)), hub.network_stock(VarietyId(1)).on_hand);
        hub.available(VarietyId(1))
    }
}

impl HubAccess for World {
    fn orders(&self) -> Result<Vec<OrderRow>, Setback> {
        Ok(self.ask(|hub| hub.orders().cloned().collect()))
    }

    fn batch_with_digest(&self, digest: u128) -> Result<Option<BatchRow>, Setback> {
        Ok(self.ask(|hub| hub.batch_with_digest(digest).cloned()))
    }

    fn registry(&self) -> Result<Arc<Registry>, Setback> {
        Ok(self.ask(|hub| Arc::clone(hub.registry())))
    }

    fn command(&self, command: Command) -> Result<Result<Done, CommandError>, Setback> {
        if self.failing.get() {
            return Err(Setback::Later("the hub does not answer".into()));
        }
        Ok(self.ask(|hub| do_command(hub, command)))
    }

    fn intake(&self, expected: &Expected, profile: &Profile, file: &File) -> Result<Accepted, Setback> {
        self.ask(|hub| {
            self.deliver(hub, expected, |order, tools| {
                intake_file(order, profile, file, 0, tools).map_err(|error| match error {
                    IntakeError::Rejected(_) | IntakeError::Empty => Setback::Refused(format!("{error:#}")),
                    other => Setback::Later(other.to_string()),
                })
            })
        })
    }

    fn mint(&self, expected: &Expected, recipe: &Recipe) -> Result<Accepted, Setback> {
        self.ask(|hub| {
            self.deliver(hub, expected, |order, tools| {
                let serial_prefix = format!("{}{:06}", recipe.serial_prefix, order.batch.0);
                mint(order, &Recipe { serial_prefix, ..recipe.clone() }, tools)
                    .map_err(|error| Setback::Later(error.to_string()))
            })
        })
    }

    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

fn keys() -> NodeKeys {
    NodeKeys::from_node_key(&[9; 32])
}

fn load(store: &MemoryStore, disk: &HeapDisk) -> Hub<MemoryStore, HeapDisk> {
    Hub::load(store.clone(), Arc::new(disk.clone()), Arc::new(keys())).unwrap()
}

fn do_command(hub: &mut Hub<MemoryStore, HeapDisk>, command: Command) -> Result<Done, CommandError> {
    hub.handle_command(7, command, NOW_MS, &mut |bytes| bytes.fill(5)).unwrap();
    hub.commit().unwrap();
    let mut outputs = std::iter::from_fn(|| hub.poll_output());
    let done = outputs.find_map(|output| match output {
        Output::Done { ticket: 7, result } => Some(result),
        _ => None,
    });
    done.expect("every command is answered")
}

fn pins(numbers: std::ops::Range<u32>) -> String {
    let rows: String = numbers.map(|at| format!("S{at:07},{at:012},2099-12-31\n")).collect();
    format!("serial,pin,expiry\n{rows}")
}

fn kills() -> impl Iterator<Item = Kill> {
    (0..KILLS_MAX).flat_map(|at| [true, false].map(|before| Kill { at, before }))
}

/// More questions than a turn asks.
const KILLS_MAX: usize = 20;
