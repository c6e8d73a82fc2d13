//! Orders to suppliers: when one is decided, and what the books say after a crash at any step.

use super::*;
use crate::hub::orders::{OrderRow, OrderState, SupplierKind, Supply};
use crate::ids::{OrderId, PinId};
use crate::intake::Source;
use crate::journal::record::{Record, RecordBytes, VendName};
use crate::policy::ReorderRule;

const FIRST: OrderId = OrderId(1);

pub(super) fn supply(kind: SupplierKind) -> Supply {
    let rule = ReorderRule { point: Some(100), up_to: Some(500), lot: 50, ..ReorderRule::default() };
    let code = variety(10).code;
    Supply {
        suppliers: [("blue".to_owned(), kind)].into(),
        rules: [(code, ("blue".to_owned(), rule))].into(),
    }
}

/// A network with 120 PINs that orders from a supplier of this kind.
fn stocked(kind: SupplierKind) -> (Bench<MemoryStore>, archive::NodeJournal) {
    let mut bench = Bench::new(MemoryStore::new());
    bench.furnish();
    bench.deliver(1, &[(120, 0)]);
    bench.hello();
    bench.hub.handle_supply(supply(kind), NOW_MS);
    (bench, archive::NodeJournal::new())
}

impl<S: Store + Clone> Bench<S> {
    /// A node says that it sold so many PINs of variety 1.
    pub(super) fn sell(&mut self, journal: &mut archive::NodeJournal, pins: usize) {
        // What the small journal of a test has room for at a time.
        for pins in vec![sold(); pins].chunks(50) {
            journal.write_all(pins);
            while journal.has_more() {
                self.tell(journal.ship());
            }
        }
    }

    /// A second passes; the orders that are to be placed then.
    pub(super) fn tick(&mut self, seconds: u64) -> Vec<OrderId> {
        self.hub.handle_tick(NOW_MS + seconds * 1000);
        assert!(self.hub.poll_output().is_none(), "nothing leaves before the commit");
        self.hub.commit().unwrap();
        self.placing_now()
    }

    fn placing_now(&mut self) -> Vec<OrderId> {
        let outputs = std::iter::from_fn(|| self.hub.poll_output());
        let orders = outputs.filter_map(|output| match output {
            Output::PlaceOrder { number } => Some(number),
            _ => None,
        });
        orders.collect()
    }

    fn order(&self, number: u64) -> OrderRow {
        self.hub.orders().find(|order| order.number.0 == number).cloned().expect("there is such an order")
    }

    fn deliver_for(&mut self, order: u64, pins: u32) -> Result<Done, CommandError> {
        let mut delivery = self.prepare(1, &[(pins, 0)]);
        delivery.source = Source { order: OrderId(order), ..Source::default() };
        self.command(Command::Deliver(delivery))
    }
}

fn sold() -> RecordBytes {
    let (vend, pin) = (VendName { sequence: 1, ..VendName::default() }, PinId(0));
    Record::Sold { vend, pin, variety: VarietyId(1), confirmed: 0, at_ms: NOW_MS }.encode()
}

#[test]
fn h06_sales_below_the_reorder_point_make_one_order_for_the_right_amount() {
    let (mut bench, mut journal) = stocked(SupplierKind::Spool);
    assert_eq!(bench.tick(1), [], "no sales, no order");
    bench.sell(&mut journal, 20);
    assert_eq!(bench.tick(2), [], "100 PINs are not below 100");
    bench.sell(&mut journal, 1);
    assert_eq!(bench.tick(2), [], "it looks once a second");
    assert_eq!(bench.tick(3), [FIRST]);
    let order = bench.order(1);
    assert_eq!(
        (order.ordered, order.received, order.state),
        (450, 0, OrderState::Placing),
        "500 − 99, in lots of 50"
    );
    assert_eq!((order.reason.stock.on_hand, order.reason.stock.sold), (99, 21));
    bench.command(Command::OrderPlaced(FIRST)).unwrap();
    bench.sell(&mut journal, 50);
    assert_eq!(bench.tick(4), [], "one order for one shortage");
    assert_eq!(bench.hub.network_stock(VarietyId(1)).position(), 49 + 450);

    bench.deliver_for(1, 400).unwrap();
    let order = bench.order(1);
    assert_eq!((order.received, order.state, order.missing()), (400, OrderState::Placed, 50), "a part of it");
    assert_eq!(bench.tick(5), []);
    bench.deliver_for(1, 50).unwrap();
    assert_eq!(bench.order(1).state, OrderState::Done);
    bench.sell(&mut journal, 400);
    assert_eq!(bench.tick(6), [OrderId(2)], "the next shortage");
    assert_eq!(bench.order(2).ordered, 450, "99 on hand again");
}

#[test]
fn h06_an_order_is_in_doubt_after_a_crash_at_any_step_and_never_placed_again_unasked() {
    // Before the commit of the order: there is none, and it is decided again.
    let (mut bench, mut journal) = stocked(SupplierKind::Spool);
    bench.sell(&mut journal, 30);
    bench.hub.handle_tick(NOW_MS + 1000);
    bench.crash();
    bench.hub.handle_supply(supply(SupplierKind::Spool), NOW_MS);
    assert_eq!(bench.hub.orders().len(), 0);
    assert_eq!(bench.tick(2), [FIRST], "never forgotten");

    // After it, before anybody has said that it is placed.
    bench.crash();
    assert_eq!(
        bench.order(1).state,
        OrderState::Placing,
        "without somebody who places orders nothing changes"
    );
    bench.hub.handle_supply(supply(SupplierKind::Spool), NOW_MS);
    bench.hub.commit().unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
    assert!(matches!(outputs[..], [Output::Alarm(Alarm::OrderInDoubt { number: FIRST, .. })]), "{outputs:?}");
    assert_eq!(bench.order(1).state, OrderState::InDoubt);
    for round in 3..6 {
        bench.crash();
        bench.hub.handle_supply(supply(SupplierKind::Spool), NOW_MS);
        assert_eq!(bench.tick(round), [], "not again, and no other: what is in doubt is on order");
        assert_eq!(bench.order(1).state, OrderState::InDoubt);
    }

    // Asked for, it is placed again.
    bench.command(Command::ResendOrder(FIRST)).unwrap();
    assert_eq!(bench.order(1).state, OrderState::Placing);
    bench.command(Command::OrderPlaced(FIRST)).unwrap();
    bench.crash();
    bench.hub.handle_supply(supply(SupplierKind::Spool), NOW_MS);
    assert_eq!(bench.tick(7), []);
    assert_eq!(bench.order(1).state, OrderState::Placed, "that is durable");
}

#[test]
fn h06_an_issue_of_our_own_is_never_in_doubt_because_the_books_know_what_came_of_it() {
    let (mut bench, mut journal) = stocked(SupplierKind::Mint);
    bench.sell(&mut journal, 30);
    assert_eq!(bench.tick(1), [FIRST]);
    bench.deliver_for(1, 100).unwrap();
    bench.crash();
    bench.hub.handle_supply(supply(SupplierKind::Mint), NOW_MS);
    bench.hub.commit().unwrap();
    assert_eq!(bench.placing_now(), [FIRST]);
    assert_eq!((bench.order(1).missing(), bench.order(1).state), (350, OrderState::Placing));
    assert_eq!(bench.command(Command::ResendOrder(FIRST)).unwrap_err().to_string(), "order 1 is placing");
}

#[test]
fn h06_what_is_in_doubt_is_settled_by_a_delivery_or_by_the_operator() {
    let (mut bench, mut journal) = stocked(SupplierKind::Spool);
    bench.sell(&mut journal, 31);
    bench.tick(1);
    bench.command(Command::OrderInDoubt(FIRST)).unwrap();
    assert_eq!(bench.order(1).state, OrderState::InDoubt);
    bench.deliver_for(1, 10).unwrap();
    assert_eq!(bench.order(1).state, OrderState::Placed, "who delivers has been told");
    bench.command(Command::FinishOrder(FIRST)).unwrap();
    let closed = CommandError::OrderState { number: FIRST, state: OrderState::Done };
    assert_eq!(bench.command(Command::CancelOrder(FIRST)), Err(closed));
    assert_eq!(bench.tick(2), [OrderId(2)], "the rest of it is missing again");
    bench.command(Command::CancelOrder(OrderId(2))).unwrap();
    bench.command(Command::OrderPlaced(OrderId(2))).unwrap();
    assert_eq!(bench.order(2).state, OrderState::Placed, "it had gone out");
    bench.deliver_for(2, 1000).unwrap();
    assert_eq!(
        (bench.order(2).received, bench.order(2).state),
        (1000, OrderState::Done),
        "more than ordered"
    );
    assert_eq!(bench.deliver_for(3, 1), Err(CommandError::NoSuchOrder(OrderId(3))));
    assert!(audit(&bench.hub.audit_books(), &[]).balanced);
}

#[test]
fn h06_the_same_file_is_delivered_once() {
    let (mut bench, _) = stocked(SupplierKind::Spool);
    let mut delivery = bench.prepare(1, &[(5, 0)]);
    delivery.source = Source { order: OrderId(0), digest: u128::MAX - 7, name: "blue/a.csv".into() };
    let batch = delivery.batch;
    bench.command(Command::Deliver(delivery.clone())).unwrap();
    let again = bench.prepare(1, &[(5, 0)]);
    let again = Delivery { source: delivery.source, ..again };
    bench.crash();
    assert_eq!(bench.command(Command::Deliver(again)), Err(CommandError::FileKnown(batch)));
    assert_eq!(bench.hub.batch_with_digest(u128::MAX - 7).unwrap().source.name, "blue/a.csv");
}

#[test]
fn what_was_sold_is_counted_once_through_crashes_and_from_archives_older_than_the_count() {
    let (mut bench, mut journal) = stocked(SupplierKind::Spool);
    let on_hand = |bench: &Bench<MemoryStore>| bench.hub.network_stock(VarietyId(1)).on_hand;
    bench.sell(&mut journal, 7);
    bench.crash();
    assert_eq!(on_hand(&bench), 113);
    bench.hello();
    journal.write_all(&[sold(); 3]);
    // A cut before the commit: what was heard is forgotten, and comes again.
    let message = journal.ship();
    bench.hub.handle_link(NODE, message.clone(), NOW_MS).unwrap();
    bench.hub.handle_cut(NODE);
    bench.hub.commit().unwrap();
    assert_eq!(on_hand(&bench), 113);
    bench.hello();
    bench.tell(message);
    assert_eq!(on_hand(&bench), 110);

    // A store from before there was a count.
    let mut books = bench.store.books();
    let (counted, sales) = (std::mem::take(&mut books.counted), std::mem::take(&mut books.sales));
    let mut old = MemoryStore::with(books);
    bench.hub = load(old.clone(), &bench.disk).unwrap();
    assert_eq!(on_hand(&bench), 110);
    bench.hub.commit().unwrap();
    let after = old.load().unwrap();
    assert_eq!((after.counted, &after.sales[&VarietyId(1)].days), (counted, &sales[&VarietyId(1)].days));
}
