//! One worker's sales, request by request.

use super::{Asker, Library, Replies, SaleTally, Sealed, Seller, Service, Windows};
use crate::disk::heap::HeapDisk;
use crate::ids::{BlockId, KeyEpoch, PinId, SellerId, TerminalId, VarietyId};
use crate::journal::{Journal, JournalOptions, Position, Record, Space};
use crate::ledger::Outcome;
use crate::link::Told;
use crate::pool::{Range, Shelf};
use crate::registry::{Dealer, Registry, State, Variety};
use crate::time::Now;
use std::sync::Arc;
use wire::message::{
    Attempt, DeclineReason, LaterReason, Login, Pin, RefuseReason, Reply, Request, SequenceState, Serial,
    Settle, SettleAction, Text, UNRESOLVED_MAX, Vend,
};

/// A segment whose PINs are their indices; `damaged` ones do not open.
struct Plain {
    damaged: Vec<u16>,
}

impl Sealed for Plain {
    fn open(&self, index: u16) -> Option<(Pin, Serial)> {
        let text = format!("{index:012}");
        (!self.damaged.contains(&index)).then(|| (pin(&text), Text::new(text.as_bytes()).unwrap()))
    }

    fn expiry(&self) -> u32 {
        20_301_231
    }

    fn holds(&self, _: u16) -> bool {
        true
    }
}

fn pin(text: &str) -> Pin {
    Text::new(text.as_bytes()).unwrap()
}

#[derive(Default)]
struct Said(Vec<(Asker, Reply)>);

impl Replies for Said {
    fn reply(&mut self, asker: &Asker, reply: &Reply) {
        self.0.push((*asker, reply.clone()));
    }
}

struct Till {
    seller: Seller<Plain>,
    library: Arc<Library<Plain>>,
    space: Arc<Space>,
    now: Now,
    terminal: u64,
    key_epoch: u32,
    dealer: u32,
    blocks: u64,
    said: Said,
}

const DAY_MS: u64 = 86_400_000;

impl Till {
    /// Product 1 at 500 is variety 1, at 1000 variety 2 with a minimum life of 10 days. The disk has room for a few
    /// hundred records.
    fn new() -> Self {
        let variety = |id, face_value, minimum_life_days| {
            let variety = Variety::airtime(VarietyId(id), &format!("v{id}"), 1, face_value);
            Variety { minimum_life_days, ..variety }
        };
        let dealer = Dealer { id: 1, name: "Shop".into(), state: State::Active };
        let suspended = Dealer { id: 2, name: "Closed shop".into(), state: State::Suspended };
        let varieties = vec![variety(1, 500, 0), variety(2, 1000, 10)];
        let registry = Arc::new(Registry::new(1, varieties, vec![dealer, suspended], Vec::new()).unwrap());
        let options = JournalOptions::with_segment_bytes(256 << 10);
        let disk = Arc::new(HeapDisk::new());
        let journal = Journal::open(disk, options, Position(0), Position(0), &mut |_, _| Ok(())).unwrap();
        let (space, library) = (journal.space(), Arc::<Library<Plain>>::default());
        let seller = Seller::new(SellerId(7), registry, library.clone(), Windows::default(), space.clone());
        let now = Now { monotonic_ms: 5, unix_ms: 20_000 * DAY_MS };
        Self {
            seller,
            library,
            space,
            now,
            terminal: 1,
            key_epoch: 1,
            dealer: 1,
            blocks: 0,
            said: Said::default(),
        }
    }

    fn with_stock(variety: u32, count: u32) -> Self {
        let mut till = Self::new();
        till.stock(variety, count, u32::MAX, Vec::new());
        till
    }

    fn stock(&mut self, variety: u32, count: u32, last_day: u32, damaged: Vec<u16>) {
        self.blocks += 1;
        let block = BlockId(self.blocks);
        let content = Plain { damaged };
        let shelf = Arc::new(Shelf { block, variety: VarietyId(variety), last_day, content });
        self.library.add(shelf.clone());
        self.seller.handle_range(Arc::new(Range::new(shelf, 0, count)), &self.now, &mut self.said);
    }

    fn asker(&self) -> Asker {
        let (terminal, key_epoch) = (TerminalId(self.terminal), KeyEpoch(self.key_epoch));
        Asker { session: 1, terminal, key_epoch, dealer: self.dealer, correlation: 0 }
    }

    /// All replies to a request.
    #[expect(clippy::needless_pass_by_value, reason = "requests are made where they are asked")]
    fn all(&mut self, request: Request) -> Vec<Reply> {
        let asker = self.asker();
        self.seller.handle_request(&asker, &request, &self.now, &mut self.said);
        std::mem::take(&mut self.said.0).into_iter().map(|(_, reply)| reply).collect()
    }

    fn ask(&mut self, request: Request) -> Reply {
        let mut replies = self.all(request);
        assert_eq!(replies.len(), 1, "one reply");
        replies.remove(0)
    }

    fn vend(&mut self, attempt: Attempt, sequence: u64, face_value: u64, confirmed: u64) -> Reply {
        self.ask(vend(attempt, sequence, face_value, confirmed))
    }

    fn sell(&mut self, sequence: u64) -> PinId {
        self.sell_confirming(sequence, 0)
    }

    fn sell_confirming(&mut self, sequence: u64, confirmed: u64) -> PinId {
        match self.vend(Attempt::First, sequence, 500, confirmed) {
            Reply::Sold(sold) => PinId(sold.reference),
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self, request: Request) -> SequenceState {
        match self.ask(request) {
            Reply::State { state, .. } => state,
            other => panic!("{other:?}"),
        }
    }

    fn records(&mut self) -> Vec<Record> {
        self.seller.records().drain(..).map(|bytes| Record::decode(&bytes).unwrap()).collect()
    }
}

fn vend(attempt: Attempt, sequence: u64, face_value: u64, confirmed: u64) -> Request {
    Request::Vend(Vend { attempt, sequence, product: 1, face_value, deadline_ms: 1000, confirmed })
}

fn refusal(reply: Reply) -> RefuseReason {
    match reply {
        Reply::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn later(reply: Reply) -> LaterReason {
    match reply {
        Reply::Later { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn law_4_a_repeat_gets_the_same_pin_and_a_first_on_a_used_sequence_none() {
    let mut till = Till::with_stock(1, 10);
    let sold = till.vend(Attempt::First, 1, 500, 0);
    assert!(matches!(sold, Reply::Sold(_)));
    assert_eq!(till.vend(Attempt::Repeat, 1, 500, 0), sold);
    assert_eq!(refusal(till.vend(Attempt::First, 1, 500, 0)), RefuseReason::SequenceUsed);
    assert_eq!(refusal(till.vend(Attempt::Repeat, 1, 1000, 0)), RefuseReason::OtherVariety);
    assert_eq!(
        later(till.vend(Attempt::Repeat, 1, 123, 0)),
        LaterReason::Busy,
        "nobody knows whether it is another"
    );
    assert_eq!(till.records().len(), 1, "one sale, whatever was asked after it");
}

#[test]
fn law_4_a_repeat_gets_the_same_decline_even_when_stock_came_meanwhile() {
    let mut till = Till::new();
    assert!(till.all(vend(Attempt::First, 1, 500, 0)).is_empty(), "parked");
    assert_eq!(till.seller.poll_dry(), Some(VarietyId(1)));
    let now = till.now;
    till.seller.handle_out_of_stock(VarietyId(1), &now, &mut till.said);
    let declined = Reply::Declined { sequence: 1, reason: DeclineReason::OutOfStock };
    assert_eq!(till.said.0.pop().unwrap().1, declined);
    till.stock(1, 5, u32::MAX, Vec::new());
    assert_eq!(till.vend(Attempt::Repeat, 1, 500, 0), declined);
    assert_eq!(refusal(till.vend(Attempt::Repeat, 1, 1000, 0)), RefuseReason::OtherVariety);
    assert_eq!(till.vend(Attempt::Repeat, 1, 123, 0), declined);
    let none = Reply::Declined { sequence: 2, reason: DeclineReason::NoSuchVariety };
    assert_eq!(till.vend(Attempt::First, 2, 123, 0), none);
    assert_eq!(till.vend(Attempt::Repeat, 2, 123, 0), none);
}

#[test]
fn law_4_a_vend_that_waits_gets_no_pin_after_its_repeat_was_declined() {
    for (dealer, face_value) in [(2, 500), (1, 123)] {
        let mut till = Till::new();
        assert!(till.all(vend(Attempt::First, 1, 500, 0)).is_empty(), "parked");
        till.dealer = dealer;
        let declined = till.vend(Attempt::Repeat, 1, face_value, 0);
        assert!(matches!(declined, Reply::Declined { sequence: 1, .. }), "{declined:?}");
        till.stock(1, 5, u32::MAX, Vec::new());
        assert!(till.said.0.is_empty(), "it was sold after all: {:?}", till.said.0);
        assert_eq!(till.vend(Attempt::Repeat, 1, face_value, 0), declined);
        assert!(matches!(till.records()[..], [Record::Declined { .. }]), "and nothing else");
    }
}

#[test]
fn s05_a_dealer_suspended_while_its_vend_waits_gets_no_pin() {
    let mut till = Till::new();
    assert!(till.all(vend(Attempt::First, 1, 500, 0)).is_empty(), "parked");
    let varieties = till.seller.registry().varieties().cloned().collect();
    let dealer = Dealer { id: 1, name: "Shop".into(), state: State::Suspended };
    let registry = Registry::new(2, varieties, vec![dealer], Vec::new()).unwrap();
    till.seller.handle_registry(Arc::new(registry));
    till.stock(1, 5, u32::MAX, Vec::new());
    let declined = Reply::Declined { sequence: 1, reason: DeclineReason::DealerInactive };
    assert_eq!(till.said.0.pop().unwrap().1, declined);
}

#[test]
fn s03_stock_that_was_too_short_of_life_is_sold_once_less_life_will_do() {
    let mut till = Till::new();
    till.stock(2, 1, 20_009, Vec::new());
    assert!(till.all(vend(Attempt::First, 1, 1000, 0)).is_empty(), "ten days must be left");
    let varieties = till.seller.registry().varieties().cloned();
    let varieties = varieties.map(|variety| Variety { minimum_life_days: 0, ..variety }).collect();
    let dealer = Dealer { id: 1, name: "Shop".into(), state: State::Active };
    let registry = Registry::new(2, varieties, vec![dealer], Vec::new()).unwrap();
    till.seller.handle_registry(Arc::new(registry));
    assert!(matches!(till.vend(Attempt::Repeat, 1, 1000, 0), Reply::Sold(_)));
}

#[test]
fn s01_the_first_final_state_wins() {
    let mut till = Till::with_stock(1, 10);
    till.sell(1);
    assert_eq!(till.state(Request::Status { sequence: 1 }), SequenceState::Sold);
    assert_eq!(till.state(Request::Confirm { sequence: 1 }), SequenceState::Confirmed);
    assert_eq!(till.state(Request::Void { sequence: 1 }), SequenceState::Confirmed);
    let pin = till.sell(2);
    assert_eq!(till.state(Request::Void { sequence: 2 }), SequenceState::Voided);
    assert_eq!(till.state(Request::Confirm { sequence: 2 }), SequenceState::Voided);
    let voided = till.vend(Attempt::Repeat, 2, 500, 0);
    assert_eq!(voided, Reply::State { sequence: 2, state: SequenceState::Voided, reference: pin.0 });
    assert_ne!(till.sell(3), pin, "law 6: a voided PIN never returns to sale");
}

#[test]
fn s01_voiding_a_sequence_that_was_never_sold_blocks_it() {
    let mut till = Till::with_stock(1, 10);
    assert_eq!(till.state(Request::Void { sequence: 1 }), SequenceState::Blocked);
    let blocked = Reply::Declined { sequence: 1, reason: DeclineReason::Blocked };
    assert_eq!(till.vend(Attempt::Repeat, 1, 500, 0), blocked);
    assert_eq!(refusal(till.ask(Request::Confirm { sequence: 9 })), RefuseReason::NothingSold);
    // A vend that is parked is blocked as well.
    assert!(till.all(vend(Attempt::First, 2, 1000, 0)).is_empty());
    assert_eq!(till.state(Request::Void { sequence: 2 }), SequenceState::Blocked);
    till.stock(2, 1, u32::MAX, Vec::new());
    assert!(till.said.0.is_empty(), "nobody waits any more");
}

#[test]
fn s01_a_reprint_is_the_same_pin_counted_and_limited() {
    let mut till = Till::with_stock(1, 10);
    let Reply::Sold(sold) = till.vend(Attempt::First, 1, 500, 0) else { panic!() };
    for copy in 1..=3 {
        let Reply::Sold(reprint) = till.ask(Request::Reprint { sequence: 1 }) else { panic!() };
        assert_eq!((reprint.pin, reprint.reference, reprint.copy), (sold.pin, sold.reference, copy));
    }
    assert_eq!(refusal(till.ask(Request::Reprint { sequence: 1 })), RefuseReason::ReprintLimit);
    assert_eq!(refusal(till.ask(Request::Reprint { sequence: 2 })), RefuseReason::NothingSold);
    till.sell(2);
    till.state(Request::Void { sequence: 2 });
    assert_eq!(refusal(till.ask(Request::Reprint { sequence: 2 })), RefuseReason::NothingSold, "voided");
}

#[test]
fn the_window_never_passes_a_sequence_without_final_state() {
    let mut till = Till::with_stock(1, 200);
    till.sell(1);
    for sequence in 2..=64 {
        till.sell_confirming(sequence, 1);
        if sequence == 3 {
            // Sequence 2 is confirmed by now; 1 was confirmed by 2's bit: begin again with 1 open at the bottom.
            assert_eq!(till.state(Request::Status { sequence: 1 }), SequenceState::Confirmed);
        }
    }
    assert!(matches!(till.vend(Attempt::First, 65, 500, 0), Reply::Sold(_)), "1 is final and slides out");
    assert_eq!(refusal(till.vend(Attempt::Repeat, 1, 500, 0)), RefuseReason::Closed);
    // 64 is not confirmed: 128 would push it out, 127 does not.
    assert_eq!(refusal(till.vend(Attempt::First, 128, 500, 0)), RefuseReason::WindowFull);
    assert!(matches!(till.vend(Attempt::First, 127, 500, 0), Reply::Sold(_)));
    // Bit 63 confirms 64, but 65 is only sold and 66 to 126 were skipped: they are open.
    assert_eq!(refusal(till.vend(Attempt::First, 129, 500, 0)), RefuseReason::WindowFull);
}

#[test]
fn a_vend_that_confirms_the_lowest_open_sequence_slides_the_window_by_itself() {
    let mut till = Till::with_stock(1, 200);
    till.sell(1);
    for sequence in 2..=64 {
        till.sell_confirming(sequence, if sequence == 2 { 0 } else { 1 });
    }
    assert_eq!(refusal(till.vend(Attempt::First, 65, 500, 1)), RefuseReason::WindowFull, "1 is only sold");
    assert!(matches!(till.vend(Attempt::First, 65, 500, 1 << 63), Reply::Sold(_)), "bit 63 is sequence 1");
}

#[test]
fn s01_unconfirmed_after_24_hours_counts_as_sold_when_room_is_needed() {
    let mut till = Till::with_stock(1, 200);
    for sequence in 1..=64 {
        till.sell(sequence);
    }
    assert_eq!(refusal(till.vend(Attempt::First, 65, 500, 0)), RefuseReason::WindowFull);
    till.now.unix_ms += DAY_MS;
    till.sell(65);
    assert_eq!(till.state(Request::Void { sequence: 2 }), SequenceState::Confirmed, "never voided by itself");
}

#[test]
fn a_new_key_epoch_numbers_anew_and_the_old_one_is_closed() {
    let mut till = Till::with_stock(1, 10);
    till.sell(1);
    till.key_epoch = 2;
    let welcome = till.seller.welcome(TerminalId(1), KeyEpoch(2));
    assert_eq!((welcome.seller, welcome.next_sequence, welcome.window_base), (SellerId(7), 1, 1));
    till.sell(1);
    till.key_epoch = 1;
    assert_eq!(refusal(till.vend(Attempt::Repeat, 1, 500, 0)), RefuseReason::Closed);
}

#[test]
fn a_vend_that_waits_under_an_earlier_key_gets_no_pin_and_no_record() {
    let mut till = Till::new();
    assert!(till.all(vend(Attempt::First, 1, 500, 0)).is_empty(), "parked");
    till.seller.welcome(TerminalId(1), KeyEpoch(2));
    till.stock(1, 5, u32::MAX, Vec::new());
    assert!(till.said.0.is_empty() && till.records().is_empty(), "nobody could ask what became of it");
}

#[test]
fn a_damaged_record_is_withdrawn_and_the_next_pin_is_sold() {
    let mut till = Till::new();
    till.stock(1, 10, u32::MAX, vec![0, 1]);
    assert_eq!(till.sell(1).index(), 2);
    let records = till.records();
    let withdrawn = records.iter().filter(|record| matches!(record, Record::Withdrawn { .. })).count();
    assert_eq!((withdrawn, records.len()), (2, 3));
}

#[test]
fn s03_first_expiry_first_and_no_pin_with_less_than_its_minimum_life() {
    let mut till = Till::new();
    till.stock(2, 1, 20_030, Vec::new());
    till.stock(2, 1, 20_009, Vec::new());
    till.stock(2, 1, 20_010, Vec::new());
    let sold = |reply| match reply {
        Reply::Sold(sold) => PinId(sold.reference).block().0,
        other => panic!("{other:?}"),
    };
    // Today is day 20,000 and ten days must be left: block 3 lasts just long enough, block 2 does not.
    assert_eq!(sold(till.vend(Attempt::First, 1, 1000, 0)), 3);
    assert_eq!(sold(till.vend(Attempt::First, 2, 1000, 0)), 1);
    assert!(till.all(vend(Attempt::First, 3, 1000, 0)).is_empty(), "block 2 is not sold");
}

#[test]
fn law_8_a_full_journal_is_answered_later_and_repeats_still_get_their_answer() {
    let mut till = Till::with_stock(1, 60_000);
    let mut sequence = 0;
    let reply = loop {
        sequence += 1;
        match till.vend(Attempt::First, sequence, 500, 1) {
            Reply::Sold(_) => {}
            other => break other,
        }
    };
    assert_eq!(later(reply), LaterReason::Disk);
    assert!(matches!(till.vend(Attempt::Repeat, sequence - 1, 500, 0), Reply::Sold(_)));
    // What was reserved for a damaged PIN, and what is too little for a sale, may still serve one record each.
    let mut reprints = (0..3).map(|_| till.ask(Request::Reprint { sequence: sequence - 1 }));
    assert_eq!(reprints.nth(2).map(later), Some(LaterReason::Disk));
    let state = till.state(Request::Status { sequence: sequence - 1 });
    assert!(matches!(state, SequenceState::Sold | SequenceState::Confirmed), "{state:?}");
    till.space.give_back(10);
    assert!(
        matches!(till.vend(Attempt::Repeat, sequence, 500, 0), Reply::Sold(_)),
        "by itself when there is room"
    );
}

#[test]
fn vends_that_wait_are_sold_in_order_as_pins_arrive_and_time_out_otherwise() {
    let mut till = Till::new();
    for sequence in 1..=3 {
        assert!(till.all(vend(Attempt::First, sequence, 500, 0)).is_empty());
    }
    assert!(till.all(vend(Attempt::Repeat, 1, 500, 0)).is_empty(), "the same vend once more waits once");
    till.stock(1, 1, u32::MAX, Vec::new());
    let said: Vec<_> = till.said.0.drain(..).map(|(_, reply)| reply).collect();
    let [Reply::Sold(sold)] = said[..] else { panic!("{said:?}") };
    assert_eq!(sold.sequence, 2, "1 was asked again after 2 and 3");
    assert_eq!((till.seller.tally(), till.seller.waiting()), (SaleTally { sold: 1, waited: 1 }, 2));
    till.now.monotonic_ms = till.seller.next_timeout().unwrap();
    let now = till.now;
    till.seller.handle_timeout(&now, &mut till.said);
    assert_eq!(till.said.0.len(), 2);
    assert!(till.said.0.iter().all(|(_, reply)| later(reply.clone()) == LaterReason::Stock));
    assert_eq!(till.seller.next_timeout(), None);
}

#[test]
fn what_a_waiting_vend_confirms_is_confirmed_at_once() {
    let mut till = Till::with_stock(1, 1);
    assert!(matches!(till.vend(Attempt::First, 1, 500, 0), Reply::Sold(_)));
    assert!(till.all(vend(Attempt::First, 2, 500, 1)).is_empty(), "it waits");
    assert_eq!(till.state(Request::Status { sequence: 1 }), SequenceState::Confirmed);
    assert_eq!(till.state(Request::Void { sequence: 1 }), SequenceState::Confirmed, "too late");
}

#[test]
fn a_suspended_dealer_sells_nothing() {
    let mut till = Till::with_stock(1, 10);
    let asker = Asker { dealer: 2, ..till.asker() };
    let now = till.now;
    till.seller.handle_request(&asker, &vend(Attempt::First, 1, 500, 0), &now, &mut till.said);
    let declined = Reply::Declined { sequence: 1, reason: DeclineReason::DealerInactive };
    assert_eq!(till.said.0[0].1, declined);
}

#[test]
fn s02_a_login_learns_what_became_of_its_sequences_and_other_sellers_are_asked() {
    let mut till = Till::with_stock(1, 10);
    let pin = till.sell(1);
    let mut login = Login { count: 4, unresolved: [(SellerId(0), 0); UNRESOLVED_MAX] };
    let brought = [(SellerId(7), 1), (SellerId(7), 2), (SellerId(8), 1), (SellerId(9), 5)];
    login.unresolved[..4].copy_from_slice(&brought);
    assert!(till.all(Request::Login(Box::new(login))).is_empty(), "others are asked first");
    let mut questions: Vec<_> = std::iter::from_fn(|| till.seller.poll_question()).collect();
    questions.sort_unstable_by_key(|question| question.seller);
    let asked: Vec<_> =
        questions.iter().map(|q| (q.seller.0, q.asked.vend.sequence, q.asked.action)).collect();
    assert_eq!(asked, [(8, 1, SettleAction::Resolve), (9, 5, SettleAction::Resolve)]);
    let told = Told { state: SequenceState::Sold, reference: 99, ..Told::IN_DOUBT };
    till.seller.handle_told(questions[0].number, &told, &mut till.said);
    assert!(till.said.0.is_empty());
    // What comes of an own sequence meanwhile is in the answer.
    let blocked = till.ask(Request::Void { sequence: 2 });
    assert!(matches!(blocked, Reply::State { state: SequenceState::Blocked, .. }), "{blocked:?}");
    // Nobody waits for ever.
    till.now.monotonic_ms = till.seller.next_timeout().unwrap();
    let now = till.now;
    till.seller.handle_timeout(&now, &mut till.said);
    till.seller.handle_told(questions[1].number, &told, &mut till.said);
    let [(_, Reply::Resolved(resolved))] = &till.said.0[..] else { panic!("{:?}", till.said.0) };
    let states: Vec<_> = resolved.outcomes[..4].iter().map(|o| (o.seller.0, o.state, o.reference)).collect();
    let expected = [
        (7, SequenceState::Sold, pin.0),
        (7, SequenceState::Blocked, 0),
        (8, SequenceState::Sold, 99),
        (9, SequenceState::InDoubt, 0),
    ];
    assert_eq!(states, expected);
}

#[test]
fn s02_what_a_session_asked_is_forgotten_with_it_and_its_own_seller_is_no_other() {
    let mut till = Till::with_stock(1, 10);
    let settle = |seller| {
        let (action, suite) = (SettleAction::Status, wire::session::Suite::AesGcm);
        Request::Settle(Settle { seller: SellerId(seller), sequence: 1, action, suite })
    };
    let Reply::Settled(own) = till.ask(settle(7)) else { panic!() };
    assert_eq!(own.state, SequenceState::InDoubt);
    assert!(till.all(settle(8)).is_empty());
    let question = till.seller.poll_question().unwrap();
    till.seller.handle_closed(1);
    till.seller.handle_told(question.number, &Told::IN_DOUBT, &mut till.said);
    assert!(till.said.0.is_empty() && till.seller.next_timeout().is_none());
}

#[test]
fn law_4_a_seller_that_has_left_calls_nothing_open_that_the_hub_may_have_blocked() {
    let mut till = Till::with_stock(1, 5);
    let pin = till.sell(1);
    let login = |till: &mut Till| {
        let mut login = Login::EMPTY;
        (login.unresolved[0], login.unresolved[1], login.count) = ((SellerId(7), 1), (SellerId(7), 2), 2);
        let Reply::Resolved(resolved) = till.ask(Request::Login(Box::new(login))) else { panic!("no login") };
        resolved.list().iter().map(|outcome| (outcome.state, outcome.reference)).collect::<Vec<_>>()
    };
    let sold = (SequenceState::Sold, pin.0);
    assert_eq!(login(&mut till), [sold, (SequenceState::Open, 0)]);
    till.seller.handle_service(Service::Closed, &mut till.said);
    assert_eq!(login(&mut till), [sold, (SequenceState::InDoubt, 0)]);
    assert_eq!(till.state(Request::Status { sequence: 1 }), SequenceState::Sold);
    assert_eq!(later(till.ask(Request::Status { sequence: 2 })), LaterReason::Stopping);
    assert_eq!(later(till.vend(Attempt::Repeat, 2, 500, 0)), LaterReason::Stopping);
    // Until the hub says that it is not gone.
    till.seller.handle_service(Service::Open, &mut till.said);
    assert_eq!(login(&mut till), [sold, (SequenceState::Open, 0)]);
    // Started again, it does so before anybody has told it.
    let mut again = Till::with_stock(1, 5);
    again.seller = again.seller.with_service(Service::Closed);
    assert_eq!(login(&mut again), [(SequenceState::InDoubt, 0); 2]);
    assert_eq!(later(again.vend(Attempt::First, 1, 500, 0)), LaterReason::Stopping);
}

#[test]
fn below_the_window_the_history_answers_and_a_reprint_is_counted() {
    let mut till = Till::with_stock(1, 200);
    let first = till.sell(1);
    for sequence in 2..=70 {
        till.sell_confirming(sequence, 1);
    }
    till.records();
    let mut login = Login { count: 1, unresolved: [(SellerId(0), 0); UNRESOLVED_MAX] };
    login.unresolved[0] = (SellerId(7), 1);
    let Reply::Resolved(resolved) = till.ask(Request::Login(Box::new(login))) else { panic!() };
    assert_eq!(resolved.outcomes[0].state, SequenceState::InDoubt, "to be asked for by a status");
    assert!(till.all(Request::Status { sequence: 1 }).is_empty(), "the history is asked");
    let lookup = till.seller.poll_lookup().unwrap();
    let now = till.now;
    let found = Some(Outcome { state: SequenceState::Confirmed, pin: Some(first), copies: 2 });
    till.seller.handle_found(&lookup, found, &now, &mut till.said);
    let state = Reply::State { sequence: 1, state: SequenceState::Confirmed, reference: first.0 };
    assert_eq!(till.said.0.pop().unwrap().1, state);
    assert!(till.all(Request::Reprint { sequence: 1 }).is_empty());
    let lookup = till.seller.poll_lookup().unwrap();
    till.seller.handle_found(&lookup, found, &now, &mut till.said);
    let Reply::Sold(reprint) = till.said.0.pop().unwrap().1 else { panic!() };
    assert_eq!((reprint.reference, reprint.copy), (first.0, 3));
    assert!(matches!(till.records()[..], [Record::Reprinted { pin, .. }] if pin == first));
    let limit = found.map(|outcome| Outcome { copies: 3, ..outcome });
    till.seller.handle_found(&lookup, limit, &now, &mut till.said);
    assert_eq!(refusal(till.said.0.pop().unwrap().1), RefuseReason::ReprintLimit);
}

#[test]
fn s01_reprints_of_an_old_sale_are_asked_of_the_history_one_at_a_time_so_that_each_is_counted() {
    let mut till = Till::with_stock(1, 200);
    let pin = till.sell(1);
    for sequence in 2..=70 {
        till.sell_confirming(sequence, 1);
    }
    till.records();
    let now = till.now;
    for copies in 0..5u8 {
        assert!(till.all(Request::Reprint { sequence: 1 }).is_empty(), "the history is asked");
        // Sent together with the first, before that is counted anywhere.
        assert_eq!(later(till.ask(Request::Reprint { sequence: 1 })), LaterReason::Busy);
        let lookup = till.seller.poll_lookup().unwrap();
        assert_eq!(till.seller.poll_lookup(), None);
        if copies == 4 {
            till.seller.handle_unasked(&lookup, &mut till.said);
            assert_eq!(later(till.said.0.pop().unwrap().1), LaterReason::Busy);
        } else {
            let found = Some(Outcome { state: SequenceState::Confirmed, pin: Some(pin), copies });
            till.seller.handle_found(&lookup, found, &now, &mut till.said);
            till.said.0.clear();
        }
    }
    assert_eq!(till.records().len(), 3, "three copies at most");
}
