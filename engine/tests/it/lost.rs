//! Servers that cannot be reached, servers that are lost, and servers that have left: each a process of its own.

use crate::network::{holds, node, sell, sell_out};
use crate::support::command::{Said, pinwheel};
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::scratch;
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use engine::hub::DoubtState;
use engine::network::{Beyond, Doubt, SequenceAnswer, VarietyStatus};
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::TempDir;
use wire::message::{Attempt, DeclineReason, LaterReason, Reply};

/// A hub, and server `two` with stock that came to it by return and resale: `one` gave back all it had. `two` has reported 20
/// sales, sold 15 more while nobody could reach it, and was killed.
struct Case {
    scratch: TempDir,
    hub: Process,
    keys: Vec<KeyRow>,
    two: u32,
    /// Serials, in the order in which they were sold.
    sold: Vec<String>,
}

/// PINs delivered, and what of them was at the hub, at `two` and sold when `two` was killed, as far as was reported.
const RECEIVED: u64 = 600;
const AT_HUB: u64 = 190;
const AT_TWO: u64 = 380;
const UNREPORTED: usize = 15;

impl Case {
    fn begin() -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let (hub, keys) = site.furnished_hub(3, RECEIVED as u32);
        let [first, two, _] = ["one", "two", "three"].map(|name| site.admit(&hub, name));
        let one = site.server("one", hub.address, &Settings::default());
        one.wait_for("its stock", |status| holds(status, 500));
        let mut sold: Vec<_> = (1..=10).map(|sequence| sell(&one, &keys[0], sequence, 1)).collect();
        assert!(matches!(hub.ask(&Ask::Drain { node: "one".into(), on: true }), Answer::Changed { .. }));
        hub.wait_for("all of it back", |status| node(status, first).drain.is_some_and(|drain| drain.is_done));
        one.kill();
        let wire = Proxy::start(hub.address, Duration::ZERO);
        let settings = Settings { levels: (100, 400, 800), ..Settings::default() };
        let server = site.server("two", wire.address, &settings);
        server.wait_for("its stock", |status| holds(status, 400));
        sold.extend((1..=20).map(|sequence| sell(&server, &keys[1], sequence, 1)));
        hub.wait_for("its sales", |status| status.varieties[0].sold == 30);
        let said = pinwheel(&site.data("hub"), &["node", "lost", "two", "--yes"]);
        assert!(said.code == 1 && said.errors.contains("[node_connected]"), "{said:?}");
        wire.cut();
        hub.wait_for("the cut", |status| !node(status, two).linked);
        let unreported = 20 + UNREPORTED as u64;
        sold.extend((21..=unreported).map(|sequence| sell(&server, &keys[1], sequence, 1)));
        server.kill();
        Self { scratch, hub, keys, two, sold }
    }

    fn site(&self) -> Site {
        Site::new(self.scratch.path())
    }

    /// A command at the hub.
    fn say(&self, arguments: &[&str]) -> Said {
        pinwheel(&self.site().data("hub"), arguments)
    }

    fn lose_two(&self) {
        let said = self.say(&["node", "lost", "two", "--yes", "--json"]);
        assert_eq!((said.code, &said.json()["holds"][0]["pins"]), (0, &AT_TWO.into()), "{said:?}");
    }

    fn restart_hub(self) -> Self {
        let Self { scratch, hub, keys, two, sold } = self;
        hub.kill();
        let hub = Site::new(scratch.path()).hub();
        Self { scratch, hub, keys, two, sold }
    }

    fn variety(&self) -> VarietyStatus {
        self.hub.audit();
        self.hub.status().varieties.remove(0)
    }

    fn doubts(&self) -> Vec<Doubt> {
        match self.hub.ask(&Ask::ListDoubts { node: Some("two".into()) }) {
            Answer::Doubts { doubts } => doubts,
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, state: DoubtState) -> u64 {
        self.doubts().iter().filter(|doubt| doubt.state == state).map(|doubt| doubt.of.pins).sum()
    }

    fn answer(&self, seller: &str, key: &KeyRow, sequence: u64) -> SequenceAnswer {
        let (seller, terminal, key_epoch) = (seller.to_owned(), key.terminal, key.key_epoch);
        match self.hub.ask(&Ask::SequenceAnswer { seller, terminal, key_epoch, sequence }) {
            Answer::SequenceAnswer { answer } => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that may be sold is sold by a third server; how much that was. No serial came before.
    fn sell_out(&mut self) -> u64 {
        let three = self.site().server("three", self.hub.address, &Settings::default());
        sell_out(&three, &self.keys[2], &mut self.sold)
    }
}

#[test]
fn law_1_unreachable_is_not_lost_and_nothing_of_it_meets_what_others_need_urgently() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(2);
    hub.mint("v1", 500);
    let [far, _] = ["far", "near"].map(|name| site.admit(&hub, name));
    let wire = Proxy::start(hub.address, Duration::ZERO);
    // If it were there, all above its low mark could be called back for terminals that wait.
    let server = site.server("far", wire.address, &Settings::default());
    server.wait_for("all there is", |status| holds(status, 500));
    hub.wait_for("what it has", |status| status.varieties[0].at_seller == 500);
    wire.cut();
    hub.wait_for("the cut", |status| !node(status, far).linked);
    let near = site.server("near", hub.address, &Settings::default());
    let mut till = near.till(&keys[0]);
    for sequence in 1..=5 {
        let reply = till.vend(Attempt::First, sequence, (1, 1000), 0).unwrap();
        assert!(matches!(reply, Reply::Declined { reason: DeclineReason::OutOfStock, .. }), "{reply:?}");
    }
    let variety = &hub.status().varieties[0];
    assert_eq!((variety.at_seller, variety.in_doubt, variety.hub), (500, 0, 0), "it is where it was");
    hub.audit();
    // It sells all of it, and reports that when it can.
    let sold: Vec<_> = (1..=500).map(|sequence| sell(&server, &keys[1], sequence, 1)).collect();
    assert_eq!(sold.iter().collect::<BTreeSet<_>>().len(), 500);
    wire.heal();
    hub.wait_for("its sales", |status| status.varieties[0].sold == 500);
    hub.audit();
}

#[test]
fn law_1_a_server_lost_with_stock_from_return_and_resale_holds_in_doubt_exactly_what_it_had() {
    let case = Case::begin();
    let refused = |arguments: &[&str], code: &str| {
        let said = case.say(arguments);
        assert!(said.code == 1 && said.errors.contains(code), "{said:?}");
    };
    refused(&["node", "lost", "hub", "--yes"], "[hub]");
    refused(&["node", "lost", "four", "--yes"], "there is no node");
    refused(&["node", "settle", "two", "--as", "withdrawn", "--yes"], "[node_not_lost]");
    let asked = case.say(&["node", "lost", "two"]);
    assert!(asked.code == 1 && asked.errors.contains("nothing was changed"), "{asked:?}");
    for part in ["last heard at 20", "380", "3800.00 ZAR", "unsettled"] {
        assert!(asked.errors.contains(part), "{part}: {asked:?}");
    }
    assert_eq!(case.variety().in_doubt, 0, "unreachable is not lost");
    case.lose_two();
    let case = case.restart_hub();
    let said = case.say(&["node", "lost", "two", "--yes"]);
    assert!(said.code == 1 && said.errors.contains("[node_lost]"), "{said:?}");
    let variety = case.variety();
    assert_eq!((variety.in_doubt, variety.hub, variety.sold), (AT_TWO, AT_HUB, 30), "{variety:?}");
    assert_eq!((variety.at_seller, variety.in_transfer, variety.withdrawn), (0, 0, 0), "{variety:?}");
    let lost = node(&case.hub.status(), case.two).lost.unwrap();
    assert_eq!((lost.in_doubt, lost.written_off), (AT_TWO, 0));
    assert!(case.say(&["status"]).ok().contains("lost, 380 in doubt"));
    let listed = case.say(&["node", "doubts", "two"]).ok();
    assert!(
        listed.contains("in doubt") && listed.contains("P00000100000") && listed.contains("ZAR"),
        "{listed}"
    );
    // What it had reported is told, what not is nobody's to answer.
    let key = &case.keys[1];
    assert!(matches!(case.answer("two", key, 20), SequenceAnswer::Sold { confirmed: false, .. }));
    for sequence in [21, 35, 36] {
        assert_eq!(case.answer("two", key, sequence), SequenceAnswer::Unsettled, "law 4: {sequence}");
    }
    assert_eq!(case.answer("one", &case.keys[0], 3), SequenceAnswer::AskSeller);
    let terminal = key.terminal.to_string();
    let said = case.say(&["sequences", "--seller", "two", "--terminal", &terminal]);
    assert_eq!(said.out.lines().filter(|line| line.contains(",sold,")).count(), 20);
    assert!(said.errors.contains("what is not told here is unsettled"), "{said:?}");
    // Nobody gets any of it.
    let mut case = case;
    assert_eq!(case.sell_out(), AT_HUB);
    let variety = case.variety();
    assert_eq!((variety.in_doubt, variety.sold, variety.hub), (AT_TWO, 30 + AT_HUB, 0), "{variety:?}");
}

#[test]
fn law_3_a_lost_server_that_comes_back_hands_in_its_sales_and_the_rest_is_sold_elsewhere() {
    let mut case = Case::begin();
    case.lose_two();
    case = case.restart_hub();
    let site = case.site();
    let mut back = site.server("two", case.hub.address, &Settings::default());
    // Killed once in the middle of it.
    case.hub.wait_for("its late sales", |status| status.varieties[0].sold == 30 + UNREPORTED as u64);
    back.kill();
    back = site.server("two", case.hub.address, &Settings::default());
    case.hub.wait_for("all of it settled", |status| status.varieties[0].in_doubt == 0);
    assert_eq!(case.count(DoubtState::Sold), UNREPORTED as u64);
    assert_eq!(case.count(DoubtState::Returned), AT_TWO - UNREPORTED as u64);
    assert!(back.said().contains("[declared_lost]"), "{}", back.said());
    let key = case.keys[1].clone();
    let reply = back.till(&key).vend(Attempt::First, 36, (1, 1000), 0).unwrap();
    assert!(matches!(reply, Reply::Later { reason: LaterReason::Stopping, .. }), "{reply:?}");
    assert!(matches!(case.answer("two", &key, 35), SequenceAnswer::Sold { .. }), "its late journal tells");
    assert_eq!(case.answer("two", &key, 36), SequenceAnswer::Unsettled, "it may yet answer");
    let said = case.say(&["node", "close", "two"]);
    assert!(said.code == 1 && said.errors.contains("[node_runs]"), "{said:?}");
    back.signal("TERM");
    assert!(back.wait().0.success());
    case = case.restart_hub();
    case.say(&["node", "close", "two"]).ok();
    assert_eq!(case.answer("two", &key, 36), SequenceAnswer::NeverSold);
    let rest = AT_HUB + AT_TWO - UNREPORTED as u64;
    assert_eq!(case.sell_out(), rest);
    let variety = case.variety();
    assert_eq!((variety.sold, variety.in_doubt), (RECEIVED, 0), "{variety:?}");
}

#[test]
fn law_6_what_was_in_doubt_is_written_off_without_a_journal_and_never_sold() {
    let mut case = Case::begin();
    case.lose_two();
    let said = case.say(&["node", "settle", "two", "--as", "returned", "--yes"]);
    assert!(said.code == 1 && said.errors.contains("[needs_journal]"), "{said:?}");
    let (first, last) = case.doubts().last().unwrap().serials.clone().unwrap();
    let one = format!("{last}..{last}");
    let settle = ["node", "settle", "two", "--as", "withdrawn", "--yes", "--json", "--note", "stolen"];
    let said = case.say(&[&settle[..], &["--serials", &one]].concat());
    assert_eq!((said.code, &said.json()["holds"][0]["pins"]), (0, &1.into()), "{said:?} {first}");
    let again = case.say(&[&settle[..], &["--serials", &one]].concat());
    assert!(again.code == 1 && again.errors.contains("[nothing_in_doubt]"), "{again:?}");
    let said = case.say(&[&settle[..], &["--variety", "v1"]].concat());
    assert_eq!((said.code, &said.json()["holds"][0]["pins"]), (0, &(AT_TWO - 1).into()), "{said:?}");
    case = case.restart_hub();
    let variety = case.variety();
    assert_eq!((variety.withdrawn, variety.in_doubt, variety.sold), (AT_TWO, 0, 30), "{variety:?}");
    assert!(case.doubts().iter().all(|doubt| doubt.note == "stolen" && doubt.at_ms > 0));
    assert_eq!(case.sell_out(), AT_HUB);
    assert_eq!(case.answer("two", &case.keys[1], 30), SequenceAnswer::Unsettled);
    // Its disk is found after all: what it sold is known then, and nothing of it is sold again.
    let back = case.site().server("two", case.hub.address, &Settings::default());
    let sold = 30 + AT_HUB + UNREPORTED as u64;
    case.hub.wait_for("its late sales", |status| status.varieties[0].sold == sold);
    case.hub.wait_for("what it had", |_| case.variety().at_seller == 0);
    back.wait_for("nothing left", |status| holds(status, 0));
    let variety = case.variety();
    assert_eq!((variety.withdrawn, variety.hub), (AT_TWO - UNREPORTED as u64, 0), "{variety:?}");
    assert!(case.hub.said().contains("had been sold there"), "{}", case.hub.said());
}

#[test]
fn h07_a_server_that_was_drained_is_closed_and_the_hub_answers_for_its_sequences() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    hub.mint("v1", 500);
    let seller = site.admit(&hub, "north");
    let server = site.server("north", hub.address, &Settings::default());
    server.wait_for("its stock", |status| holds(status, 500));
    let sold: Vec<_> = (1..=12).map(|sequence| sell(&server, &keys[0], sequence, 1)).collect();
    let say = |arguments: &[&str]| pinwheel(&site.data("hub"), arguments);
    let refused = |code: &str| {
        let said = say(&["node", "close", "north"]);
        assert!(said.code == 1 && said.errors.contains(code), "{said:?}");
    };
    refused("[node_not_drained]");
    say(&["drain", "north"]).ok();
    refused("[node_runs]");
    hub.kill();
    let hub = site.hub();
    // The hub listens elsewhere now: the server is started again, and killed, which says nothing of what it answered.
    server.kill();
    refused("[node_unfinished]");
    let server = site.server("north", hub.address, &Settings::default());
    hub.wait_for("it is drained", |status| node(status, seller).drain.is_some_and(|drain| drain.is_done));
    server.signal("TERM");
    assert!(server.wait().0.success());
    hub.kill();
    let hub = site.hub();
    assert!(node(&hub.status(), seller).may_close);
    assert!(say(&["status"]).ok().contains("stopped, may be closed"));
    say(&["node", "close", "north"]).ok();
    refused("[node_closed]");
    hub.kill();
    let hub = site.hub();
    assert!(node(&hub.status(), seller).closed_ms.is_some());
    hub.audit();
    let said = say(&["sequences", "--seller", "north", "--json"]);
    assert!(said.out.lines().filter(|line| line.contains("\"sold\"")).count() == sold.len(), "{said:?}");
    let end: serde_json::Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(end["beyond"], serde_json::to_value(Beyond::NeverSold).unwrap());
    let terminal = keys[0].terminal.to_string();
    let answer = |sequence: &str| {
        let asked = ["sequences", "--seller", "north", "--terminal", &terminal, "--sequence", sequence];
        say(&asked).ok()
    };
    assert!(answer("12").starts_with("sold, reference "));
    assert!(answer("11").starts_with("sold and confirmed"), "{}", answer("11"));
    assert_eq!(answer("13"), "never sold\n");
    // Neither its data nor its token is good for anything any more, and its number is never given again.
    let server = site.server("north", hub.address, &Settings::default());
    server.wait_for("it is turned away", |status| !status.sellers[0].linked);
    let reply = server.till(&keys[0]).vend(Attempt::First, 13, (1, 1000), 0).unwrap();
    assert!(matches!(reply, Reply::Later { reason: LaterReason::Stopping, .. }), "{reply:?}");
    assert!(server.said().contains("[node_closed]"), "{}", server.said());
    server.kill();
    std::fs::rename(site.data("north"), site.data("old")).unwrap();
    let fresh = site.server("north", hub.address, &Settings::default());
    let by = std::time::Instant::now() + crate::support::process::PATIENCE;
    while !fresh.said().contains("[node_closed]") {
        assert!(std::time::Instant::now() < by, "{}", fresh.said());
        std::thread::yield_now();
    }
    assert!(matches!(
        hub.ask(&Ask::AddNode { name: "north".into(), below: None, relay: false }),
        Answer::No { .. }
    ));
    assert!(site.admit(&hub, "next") > seller);
    hub.audit();
}
