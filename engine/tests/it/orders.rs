//! Orders to suppliers and what they deliver, by a real process that is killed at every step.

use crate::support::command::pinwheel;
use crate::support::load::Load;
use crate::support::process::{OF, PATIENCE, Process};
use crate::support::scratch;
use engine::admin::{OrderView, Reply, Request};
use engine::hub::OrderState;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::message::Attempt;

const SPOOL: &str = r#"
    [[supplier]]
    name = "blue"
    kind = "spool"
    directory = "blue"
    profile = "serial-pin-expiry"

    [[reorder]]
    variety = "airtime-za-10"
    supplier = "blue"
    point = 50
    up_to = 200
    lot = 10
"#;
const MINT: &str = r#"
    [[supplier]]
    name = "own"
    kind = "mint"

    [[reorder]]
    variety = "airtime-za-10"
    supplier = "own"
    point = 50
    up_to = 400000
"#;
const OUT: &str = "out/order-000001.toml";

/// A network in a directory, and its supplier's directory.
struct Site {
    data: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Site {
    fn new(config: &str) -> Self {
        let scratch = scratch();
        let data = scratch.path().join("data");
        for folder in ["out", "in", "done", "rejected"] {
            fs::create_dir_all(data.join("hub/blue").join(folder)).unwrap();
        }
        fs::write(data.join("hub/suppliers.toml"), config).unwrap();
        Self { data, _scratch: scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.join("hub/blue").join(name)
    }

    /// Begins a network with 40 PINs, which is below the reorder point, and sells one of them.
    fn begin(&self) -> Process {
        let network = Process::begin_small(&self.data, &[], 40);
        let key = &network.add_terminals(1)[0];
        network.till(key).sell(Attempt::First, 1, OF).unwrap();
        network
    }

    fn start(&self) -> Process {
        Process::start_small(&self.data, &[])
    }

    /// The supplier puts a file in, as it should.
    fn puts_in(&self, name: &str, text: &str) {
        fs::write(self.path("in/.fresh"), text).unwrap();
        fs::rename(self.path("in/.fresh"), self.path("in").join(name)).unwrap();
    }

    fn await_file(&self, name: &str) -> String {
        let path = self.path(name);
        wait_for(name, || path.exists().then(|| fs::read_to_string(&path).unwrap_or_default()))
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < by, "waited in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

fn orders(network: &Process) -> Vec<OrderView> {
    match network.ask(&Request::ListOrders) {
        Reply::Orders { orders } => orders,
        other => panic!("{other:?}"),
    }
}

/// Waits until there is one order and it is in this state.
fn await_state(network: &Process, state: OrderState) -> OrderView {
    wait_for(&format!("an order that is {state}"), || {
        let orders = orders(network);
        assert!(orders.len() <= 1, "one order for one shortage: {orders:?}");
        orders.into_iter().find(|order| order.state == state)
    })
}

fn received(network: &Process) -> u64 {
    network.status().varieties[0].received
}

fn pins(numbers: std::ops::Range<u32>) -> String {
    let rows: String = numbers.map(|at| format!("S{at:07},{at:012},2099-12-31\n")).collect();
    format!("serial,pin,expiry\n{rows}")
}

#[test]
fn h06_terminal_sales_below_the_reorder_point_make_one_order_for_the_right_amount_and_it_is_delivered_in_parts()
 {
    let site = Site::new(SPOOL);
    let network = site.begin();
    let order = await_state(&network, OrderState::Placed);
    let stock = order.reason.stock;
    // Had it been ordered without a sale, it would say 40 and none sold.
    assert_eq!((stock.on_hand, stock.sold, order.ordered), (39, 1, 170), "200 − 39, in lots of 10");
    let file = site.await_file(OUT);
    assert!(file.contains("pins = 170\n") && file.contains("order = 1\n"), "{file}");
    let said = pinwheel(&site.data, &["order", "list"]).ok();
    assert!(said.contains("placed") && said.contains("is below the reorder point 50; up to 200"), "{said}");

    // A part of it; the same file again; a bad line; the rest.
    site.puts_in("order-000001.part-1.csv", &pins(0..100));
    site.await_file("done/order-000001.part-1.csv");
    let report = site.await_file("done/order-000001.part-1.csv.report.txt");
    assert!(report.contains("accepted   100 PINs"), "{report}");
    let order = await_state(&network, OrderState::Placed);
    assert_eq!((order.received, received(&network)), (100, 140));
    site.puts_in("order-000001.part-1.csv", &pins(0..100));
    site.await_file("rejected/order-000001.part-1.csv");
    site.puts_in("order-000001.part-2.csv", &pins(100..170).replace("S0000105,", ","));
    site.await_file("rejected/order-000001.part-2.csv");
    let report = site.await_file("rejected/order-000001.part-2.csv.report.txt");
    assert!(report.contains("line 7: the serial"), "{report}");
    site.puts_in("order-000001.part-2.csv", &pins(100..170));
    let order = await_state(&network, OrderState::Done);
    assert_eq!((order.received, received(&network)), (170, 210));
    site.await_file("done/order-000001.part-2.csv");
    network.wait_for("all of it", |status| status.varieties[0].sellable == 209);
    network.audit();
}

#[test]
fn h06_killed_while_an_order_is_placed_it_is_in_doubt_and_is_sent_again_only_when_asked_for() {
    let site = Site::new(SPOOL);
    // It cannot be placed, so the kill comes after the number and before the file.
    fs::remove_dir(site.path("out")).unwrap();
    let network = site.begin();
    await_state(&network, OrderState::Placing);
    network.kill();
    fs::create_dir(site.path("out")).unwrap();
    for _ in 0..2 {
        let network = site.start();
        await_state(&network, OrderState::InDoubt);
        // What comes in is looked at after what goes out, so by now it would have gone out.
        site.puts_in("unknown.csv", &pins(0..1));
        wait_for("a turn", || (!site.path("in/unknown.csv").exists()).then_some(()));
        assert!(!site.path(OUT).exists(), "never sent again unasked");
        await_state(&network, OrderState::InDoubt);
        network.audit();
        network.kill();
    }
    let network = site.start();
    let said = pinwheel(&site.data, &["order", "resend", "1"]).ok();
    assert_eq!(said, "order 1 is placing\n");
    site.await_file(OUT);
    await_state(&network, OrderState::Placed);

    // Killed with the file out: it is placed, whoever takes it now.
    fs::remove_file(site.path(OUT)).unwrap();
    network.kill();
    let network = site.start();
    assert_eq!(await_state(&network, OrderState::Placed).ordered, 170);
    pinwheel(&site.data, &["order", "cancel", "1"]).ok();
    let order = wait_for("the shortage is still there", || {
        orders(&network).into_iter().find(|order| order.number == 2)
    });
    assert_eq!(order.ordered, 170);
    let said = pinwheel(&site.data, &["order", "cancel", "1"]);
    assert!(said.errors.contains("order 1 is cancelled"), "{said:?}");
    network.audit();
}

#[test]
fn h06_killed_between_the_file_and_the_books_an_order_that_is_out_is_placed() {
    let site = Site::new(SPOOL);
    fs::remove_dir(site.path("out")).unwrap();
    let network = site.begin();
    await_state(&network, OrderState::Placing);
    network.kill();
    // As the kill a moment later would have left it.
    fs::create_dir(site.path("out")).unwrap();
    fs::write(site.path(OUT), "order = 1\n").unwrap();
    let network = site.start();
    await_state(&network, OrderState::Placed);
    assert_eq!(fs::read_to_string(site.path(OUT)).unwrap(), "order = 1\n", "it is left as it was");
}

#[test]
fn h06_killed_between_the_books_and_the_folder_a_delivery_is_put_away_and_not_taken_in_twice() {
    let site = Site::new(SPOOL);
    let network = site.begin();
    await_state(&network, OrderState::Placed);
    // Its report cannot be written, so the kill comes after the books and before the folder.
    let obstacle = site.path("done/.order-000001.csv.report.txt.tmp");
    fs::create_dir(&obstacle).unwrap();
    site.puts_in("order-000001.csv", &pins(0..170));
    await_state(&network, OrderState::Done);
    assert!(site.path("in/order-000001.csv").exists());
    network.kill();
    fs::remove_dir(&obstacle).unwrap();
    let network = site.start();
    site.await_file("done/order-000001.csv");
    assert!(site.await_file("done/order-000001.csv.report.txt").contains("accepted   170 PINs"));
    assert_eq!(received(&network), 210);
    assert_eq!(await_state(&network, OrderState::Done).received, 170);
    network.audit();
}

#[test]
fn h06_killed_in_the_middle_of_a_delivery_it_is_taken_in_whole_by_the_next_start() {
    const PINS: u32 = 150_000;
    let site = Site::new(SPOOL);
    let network = site.begin();
    await_state(&network, OrderState::Placed);
    let blocks = || fs::read_dir(site.data.join("hub/blocks")).unwrap().count();
    let before = blocks();
    site.puts_in("order-000001.csv", &pins(0..PINS));
    wait_for("the first of three blocks", || (blocks() > before).then_some(()));
    network.kill();
    let network = site.start();
    let order = await_state(&network, OrderState::Done);
    assert_eq!((order.received, received(&network)), (PINS.into(), u64::from(PINS) + 40));
    site.await_file("done/order-000001.csv");
    network.audit();
}

#[test]
fn h06_pins_of_our_own_are_issued_once_whenever_it_is_killed() {
    let site = Site::new(MINT);
    let network = site.begin();
    await_state(&network, OrderState::Placing);
    let blocks = || fs::read_dir(site.data.join("hub/blocks")).unwrap().count();
    let before = blocks();
    wait_for("the first of seven blocks", || (blocks() > before).then_some(()));
    network.kill();
    let network = site.start();
    let order = await_state(&network, OrderState::Done);
    assert_eq!((order.received, order.ordered), (400_000, 400_000), "400,000 − 39, in lots of 1,000");
    assert_eq!(received(&network), 400_040);
    network.audit();
}

/// Tills sell, a supplier takes orders and delivers, and the network is killed at any moment. No order is seen twice by
/// the supplier, none is forgotten, and every PIN is accounted for.
#[test]
fn h06_kills_at_any_moment_send_no_order_twice_and_lose_no_delivery() {
    const KILLS: usize = 10;
    let site = Site::new(&SPOOL.replace("point = 50", "point = 400").replace("up_to = 200", "up_to = 500"));
    let mut network = Process::begin_small(&site.data, &[], 450);
    let keys = network.add_terminals(2);
    keys.iter().for_each(|key| network.await_terminal(key));
    let load = Load::start(&network, &keys, OF);
    let mut supplier = Supplier::default();
    let mut dice = 0x9e37_79b9_u64;
    for _ in 0..KILLS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The only thing waited for is the passing of time: the moment of the kill is to be anywhere.
        let until = Instant::now() + Duration::from_millis(200 + (dice >> 33) % 1200);
        while Instant::now() < until {
            supplier.works(&site);
            std::thread::sleep(POLL);
        }
        network.kill();
        supplier.works(&site);
        network = site.start();
        load.moved_to(&network);
    }
    load.finish();
    // Now the operator settles what is in doubt: what the supplier never saw is sent again, for the rest it is told.
    wait_for("everything delivered", || {
        for order in orders(&network).iter().filter(|order| order.state == OrderState::InDoubt) {
            let seen = supplier.seen.contains_key(&order.number);
            let word = if seen { "done" } else { "resend" };
            let said = pinwheel(&site.data, &["order", word, &order.number.to_string()]);
            // It may have been settled by its delivery meanwhile.
            assert!(said.code == 0 || said.errors.contains("is "), "{said:?}");
        }
        supplier.works(&site);
        let in_is_empty = fs::read_dir(site.path("in")).unwrap().count() == 0;
        let all_closed = orders(&network).iter().all(|order| {
            !matches!(order.state, OrderState::Placing | OrderState::Placed | OrderState::InDoubt)
        });
        (in_is_empty && all_closed).then_some(())
    });
    let ordered = orders(&network);
    for order in &ordered {
        let delivered = supplier.seen.get(&order.number).copied();
        assert_eq!(
            delivered,
            Some(order.received),
            "order {} was seen, and its delivery counted once",
            order.number
        );
    }
    assert_eq!(supplier.seen.len(), ordered.len(), "none that the books do not know");
    let delivered: u64 = supplier.seen.values().sum();
    assert_eq!(received(&network), 450 + delivered);
    assert_eq!(fs::read_dir(site.path("rejected")).unwrap().count(), 0);
    network.audit();
    println!("{KILLS} kills, {} orders, {delivered} PINs delivered", ordered.len());
    assert!(ordered.len() > 2, "too little was sold to order: {ordered:?}");
}

/// Takes every order it finds and delivers it, in two files.
#[derive(Default)]
struct Supplier {
    /// PINs delivered, by order.
    seen: BTreeMap<u64, u64>,
    next_pin: u32,
}

impl Supplier {
    fn works(&mut self, site: &Site) {
        for entry in fs::read_dir(site.path("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") || hidden(&path) {
                continue;
            }
            let file: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            fs::remove_file(&path).unwrap();
            let number = |key: &str| u64::try_from(file[key].as_integer().unwrap()).unwrap();
            let (order, pins) = (number("order"), number("pins"));
            assert_eq!(self.seen.insert(order, pins), None, "order {order} came twice");
            let (first, half) = (self.next_pin, u32::try_from(pins / 2).unwrap());
            self.next_pin += u32::try_from(pins).unwrap();
            site.puts_in(&format!("order-{order:06}.part-1.csv"), &self::pins(first..first + half));
            site.puts_in(&format!("order-{order:06}.part-2.csv"), &self::pins(first + half..self.next_pin));
        }
    }
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// How often a test looks.
const POLL: Duration = Duration::from_millis(10);
