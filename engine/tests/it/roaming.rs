//! Terminals that lost a reply and come to another server: each sequence has one seller, and it is asked through the network.

use crate::network::{holds, node, settle as settle_books};
use crate::support::nodes::{Settings, Site};
use crate::support::process::{PATIENCE, Process};
use crate::support::scratch;
use crate::support::till::{Till, serial};
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use engine::network::Status;
use std::time::{Duration, Instant};
use wire::message::{
    Attempt, DeclineReason, Login, Outcome, Reply, Request, SellerId, SequenceState, Settle, SettleAction,
    Settled, Sold,
};
use wire::session::{Mode, Suite};

/// A hub and two servers that know the same terminals.
struct Pair {
    site: Site,
    hub: Process,
    one: Option<Process>,
    two: Process,
    keys: Vec<KeyRow>,
    _scratch: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let (hub, keys) = site.furnished_hub(2, 2000);
        ["one", "two"].iter().for_each(|name| _ = site.admit(&hub, name));
        let server = |name| site.server(name, hub.address, &Settings::default());
        let (one, two) = (server("one"), server("two"));
        for server in [&one, &two] {
            server.wait_for("stock", |status| holds(status, 500));
        }
        Self { one: Some(one), two, site, hub, keys, _scratch: scratch }
    }

    fn one(&self) -> &Process {
        self.one.as_ref().unwrap()
    }

    /// Sells at the first server; the terminal never hears of it.
    fn lost_sale(&self, sequence: u64) -> Sold {
        self.one().till(&self.keys[0]).sell(Attempt::First, sequence, (1, 1000)).unwrap()
    }

    /// Comes to the second server with a sequence of the first; what is said of it.
    fn come(&self, sequence: u64) -> (Till, Outcome) {
        come_to(&self.two, &self.keys[0], ONE, sequence)
    }

    /// Asks until the first seller answers.
    fn come_until_settled(&self, sequence: u64) -> (Till, Outcome) {
        until_settled(|| self.come(sequence))
    }

    /// The first server has reported this sale, and is killed.
    fn kill_one_after(&mut self, sold: &Sold) {
        settle_books(&self.hub, &[self.one(), &self.two], &[serial(sold)]);
        self.one.take().unwrap().kill();
        self.hub.wait_for("the cut", |status| !node(status, 1).linked);
    }
}

/// A terminal comes to a seller with a sequence of another; what is said of it.
fn come_to(process: &Process, key: &KeyRow, seller: SellerId, sequence: u64) -> (Till, Outcome) {
    let mut till = Till::connect_unlogged(process.address, key, Mode::Sealed, PATIENCE).unwrap();
    let mut login = Login { count: 1, ..Login::EMPTY };
    login.unresolved[0] = (seller, sequence);
    match till.ask(&Request::Login(Box::new(login))).unwrap() {
        Reply::Resolved(resolved) => {
            let [outcome] = resolved.list() else { panic!("{resolved:?}") };
            assert_eq!((outcome.seller, outcome.sequence), (seller, sequence));
            (till, *outcome)
        }
        other => panic!("{other:?}"),
    }
}

/// Asks until it is not in doubt any more.
fn until_settled(come: impl Fn() -> (Till, Outcome)) -> (Till, Outcome) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (till, outcome) = come();
        if outcome.state != SequenceState::InDoubt {
            return (till, outcome);
        }
        assert!(Instant::now() < until, "in doubt for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn settle(till: &mut Till, sequence: u64, action: SettleAction) -> Settled {
    settle_at(till, ONE, sequence, action)
}

fn settle_at(till: &mut Till, seller: SellerId, sequence: u64, action: SettleAction) -> Settled {
    let settle = Settle { seller, sequence, action, suite: Suite::AesGcm };
    match till.ask(&Request::Settle(settle)).unwrap() {
        Reply::Settled(settled) => *settled,
        other => panic!("{other:?}"),
    }
}

#[test]
fn s02_a_pin_sold_elsewhere_comes_to_its_terminal_and_its_end_is_told_to_its_seller() {
    let pair = Pair::new();
    let sold = pair.lost_sale(1);
    let (mut till, outcome) = pair.come(1);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Sold, sold.reference));
    // The same PIN, in a box that only this terminal's key opens.
    let pin = settle(&mut till, 1, SettleAction::Pin);
    let key = pair.keys[0].key.expose();
    assert_eq!(pin.sealed.open(key, Suite::AesGcm, ONE, 1), Ok(sold));
    assert!(pin.sealed.open(pair.keys[1].key.expose(), Suite::AesGcm, ONE, 1).is_err());
    // Printed: its seller knows, whoever asks.
    assert_eq!(settle(&mut till, 1, SettleAction::Confirm).state, SequenceState::Confirmed);
    assert_eq!(
        settle(&mut till, 1, SettleAction::Void).state,
        SequenceState::Confirmed,
        "the first final state wins"
    );
    assert_eq!(settle(&mut till, 1, SettleAction::Status).state, SequenceState::Confirmed);
    let mut home = pair.one().till(&pair.keys[0]);
    let state = home.ask(&Request::Status { sequence: 1 }).unwrap();
    assert!(matches!(state, Reply::State { state: SequenceState::Confirmed, .. }), "{state:?}");
    // The second server sells under its own numbers.
    let (mut till, _) = pair.come(1);
    let other = till.sell(Attempt::First, 1, (1, 1000)).unwrap();
    assert_ne!(other.reference, sold.reference);
    pair.hub.audit();
}

#[test]
fn s02_what_was_never_sold_is_blocked_there_before_the_terminal_buys_here() {
    let pair = Pair::new();
    pair.lost_sale(1);
    let (_, outcome) = pair.come(2);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Blocked, 0));
    // The vend that was on its way for so long gets no PIN.
    let mut home = pair.one().till(&pair.keys[0]);
    match home.vend(Attempt::Repeat, 2, (1, 1000), 1).unwrap() {
        Reply::Declined { sequence: 2, reason: DeclineReason::Blocked } => {}
        other => panic!("{other:?}"),
    }
    // Voided elsewhere, a sold PIN is withdrawn.
    let sold = home.sell(Attempt::First, 3, (1, 1000)).unwrap();
    let (mut till, outcome) = pair.come(3);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Sold, sold.reference));
    assert_eq!(settle(&mut till, 3, SettleAction::Void).state, SequenceState::Voided);
    let none = settle(&mut till, 3, SettleAction::Pin);
    assert!(none.sealed.is_none() && none.state == SequenceState::Voided, "{none:?}");
    pair.hub.audit();
}

#[test]
fn s02_in_doubt_while_the_seller_is_away_and_the_same_pin_when_it_is_back() {
    let mut pair = Pair::new();
    let sold = pair.lost_sale(1);
    pair.one.take().unwrap().kill();
    pair.hub.wait_for("the cut", |status| !node(status, 1).linked);
    let (mut till, outcome) = pair.come(1);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::InDoubt, 0));
    assert_eq!(settle(&mut till, 1, SettleAction::Pin).state, SequenceState::InDoubt);
    // It goes on selling, under the numbers of this seller.
    till.sell(Attempt::First, 1, (1, 1000)).unwrap();
    pair.one = Some(pair.site.server("one", pair.hub.address, &Settings::default()));
    let (mut till, outcome) = pair.come_until_settled(1);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Sold, sold.reference));
    let pin = settle(&mut till, 1, SettleAction::Pin);
    assert_eq!(pin.sealed.open(pair.keys[0].key.expose(), Suite::AesGcm, ONE, 1), Ok(sold));
    // Without a hub nobody can be asked.
    pair.hub.signal("STOP");
    let (_, outcome) = pair.come(1);
    assert_eq!(outcome.state, SequenceState::InDoubt);
    pair.hub.signal("CONT");
}

#[test]
fn law_4_the_hub_answers_for_a_seller_that_is_lost_and_what_it_did_not_report_is_unsettled() {
    let mut pair = Pair::new();
    let sold = pair.lost_sale(1);
    pair.kill_one_after(&sold);
    assert!(matches!(pair.hub.ask(&Ask::Lose { node: "one".into() }), Answer::Lost(_)));
    let (mut till, outcome) = pair.come(1);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Sold, sold.reference));
    // The same PIN, in a box that only this terminal's key opens; nothing of it can be changed any more.
    let pin = settle(&mut till, 1, SettleAction::Pin);
    assert_eq!(pin.sealed.open(pair.keys[0].key.expose(), Suite::AesGcm, ONE, 1), Ok(sold));
    assert!(pin.sealed.open(pair.keys[1].key.expose(), Suite::AesGcm, ONE, 1).is_err());
    assert_eq!(settle(&mut till, 1, SettleAction::Void).state, SequenceState::Sold);
    for action in [SettleAction::Status, SettleAction::Pin] {
        let unsettled = settle(&mut till, 9, action);
        assert!(unsettled.sealed.is_none() && unsettled.state == SequenceState::Unsettled, "{unsettled:?}");
    }
    pair.hub.audit();
}

#[test]
fn law_4_the_hub_gives_the_same_pin_for_a_seller_that_has_left() {
    let mut pair = Pair::new();
    let sold = pair.lost_sale(1);
    let mut home = pair.one().till(&pair.keys[0]);
    let voided = home.sell(Attempt::First, 2, (1, 1000)).unwrap();
    let state = home.ask(&Request::Void { sequence: 2 }).unwrap();
    assert!(matches!(state, Reply::State { state: SequenceState::Voided, .. }), "{state:?}");
    drop(home);
    assert!(matches!(pair.hub.ask(&Ask::Drain { node: "one".into(), on: true }), Answer::Changed { .. }));
    let is_drained = |status: &Status| node(status, 1).drain.is_some_and(|drain| drain.is_done);
    pair.hub.wait_for("the end of the drain", is_drained);
    let one = pair.one.take().unwrap();
    one.ask(&Ask::Stop);
    assert!(one.wait().0.success());
    pair.hub.wait_for("its farewell", |status| node(status, 1).may_close);
    assert!(!matches!(pair.hub.ask(&Ask::CloseNode { node: "one".into() }), Answer::No { .. }));
    // The sale after it had confirmed it.
    let (mut till, outcome) = pair.come(1);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Confirmed, sold.reference));
    for _ in 0..2 {
        let pin = settle(&mut till, 1, SettleAction::Pin);
        assert_eq!(pin.sealed.open(pair.keys[0].key.expose(), Suite::AesGcm, ONE, 1), Ok(sold));
    }
    // What was voided, or never sold, is told without one.
    let told = settle(&mut till, 2, SettleAction::Pin);
    assert_eq!((told.state, told.reference), (SequenceState::Voided, voided.reference));
    assert!(told.sealed.is_none());
    let told = settle(&mut till, 3, SettleAction::Pin);
    assert!(told.sealed.is_none() && told.state == SequenceState::Blocked, "{told:?}");
    // Neither is anything of another terminal's, nor is a PIN for a key that came after.
    let mut other = pair.two.till(&pair.keys[1]);
    let told = settle(&mut other, 1, SettleAction::Pin);
    assert!(told.sealed.is_none() && told.state == SequenceState::Blocked, "{told:?}");
    pair.hub.audit();
}

#[test]
fn s02_a_pin_sold_by_a_cache_comes_to_its_terminal_at_a_cache_of_another_server() {
    let pair = Pair::new();
    let cache = |name: &str, server: &Process| {
        pair.site.admit_below(&pair.hub, name, if name == "near" { "one" } else { "two" });
        let links = server.status().sellers[0].links.clone().unwrap().parse().unwrap();
        let levels = (10, 50, 100);
        let cache = pair.site.cache(name, links, &Settings { levels, ..Settings::default() });
        cache.wait_for("stock", |status| holds(status, 50));
        cache
    };
    let (near, far) = (cache("near", pair.one()), cache("far", &pair.two));
    let (key, seller) = (&pair.keys[0], SellerId(3));
    let sold = near.till(key).sell(Attempt::First, 1, (1, 1000)).unwrap();
    let (mut till, outcome) = until_settled(|| come_to(&far, key, seller, 1));
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Sold, sold.reference));
    let pin = settle_at(&mut till, seller, 1, SettleAction::Pin);
    assert_eq!(pin.sealed.open(key.key.expose(), Suite::AesGcm, seller, 1), Ok(sold));
    assert_eq!(settle_at(&mut till, seller, 1, SettleAction::Confirm).state, SequenceState::Confirmed);
    // What it never sold is blocked there.
    let (_, outcome) = come_to(&far, key, seller, 2);
    assert_eq!(outcome.state, SequenceState::Blocked);
    match near.till(key).vend(Attempt::Repeat, 2, (1, 1000), 1).unwrap() {
        Reply::Declined { sequence: 2, reason: DeclineReason::Blocked } => {}
        other => panic!("{other:?}"),
    }
    // In doubt while its server is away, and the hub answers for it when it is lost.
    pair.one().signal("STOP");
    let (mut till, outcome) = come_to(&far, key, seller, 1);
    assert_eq!(outcome.state, SequenceState::InDoubt);
    pair.one().signal("CONT");
    settle_books(&pair.hub, &[&near, &far, pair.one(), &pair.two], &[serial(&sold)]);
    near.kill();
    pair.hub.wait_for("the cut", |status| !node(status, 3).linked);
    assert!(matches!(pair.hub.ask(&Ask::Lose { node: "near".into() }), Answer::Lost(_)));
    let pin = settle_at(&mut till, seller, 1, SettleAction::Pin);
    assert_eq!(pin.state, SequenceState::Confirmed);
    assert_eq!(pin.sealed.open(key.key.expose(), Suite::AesGcm, seller, 1), Ok(sold));
    pair.hub.audit();
}

/// The first server's number.
const ONE: SellerId = SellerId(1);
