//! Terminals that lost a reply and come to another server: each sequence has one seller, and it is asked through the network.

use crate::network::{holds, settle as settle_books};
use crate::support::nodes::{Settings, Site};
use crate::support::process::{PATIENCE, Process};
use crate::support::scratch;
use crate::support::till::Till;
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
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
        let key = &self.keys[0];
        let mut till = Till::connect_unlogged(self.two.address, key, Mode::Sealed, PATIENCE).unwrap();
        let mut login = Login { count: 1, ..Login::EMPTY };
        login.unresolved[0] = (ONE, sequence);
        match till.ask(&Request::Login(Box::new(login))).unwrap() {
            Reply::Resolved(resolved) => {
                let [outcome] = resolved.list() else { panic!("{resolved:?}") };
                assert_eq!((outcome.seller, outcome.sequence), (ONE, sequence));
                (till, *outcome)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asks until the first seller answers.
    fn come_until_settled(&self, sequence: u64) -> (Till, Outcome) {
        let until = Instant::now() + PATIENCE;
        loop {
            let (till, outcome) = self.come(sequence);
            if outcome.state != SequenceState::InDoubt {
                return (till, outcome);
            }
            assert!(Instant::now() < until, "in doubt for ever");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn settle(till: &mut Till, sequence: u64, action: SettleAction) -> Settled {
    let settle = Settle { seller: ONE, sequence, action, suite: Suite::AesGcm };
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
    pair.hub.wait_for("the cut", |status| !crate::network::node(status, 1).linked);
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
    settle_books(
        &pair.hub,
        &[pair.one(), &pair.two],
        &[String::from_utf8_lossy(sold.serial.as_bytes()).into_owned()],
    );
    pair.one.take().unwrap().kill();
    pair.hub.wait_for("the cut", |status| !crate::network::node(status, 1).linked);
    assert!(matches!(pair.hub.ask(&Ask::Lose { node: "one".into() }), Answer::Lost(_)));
    let (mut till, outcome) = pair.come(1);
    assert_eq!((outcome.state, outcome.reference), (SequenceState::Sold, sold.reference));
    assert_eq!(settle(&mut till, 9, SettleAction::Status).state, SequenceState::Unsettled);
    pair.hub.audit();
}

/// The first server's number.
const ONE: SellerId = SellerId(1);
