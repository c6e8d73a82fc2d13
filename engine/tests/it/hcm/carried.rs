//! The server's end of carried sessions, with a script in the place of the manager.

use crate::support::manager::{CarriedTill, Ended, Manager, Said};
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::Process;
use crate::support::scratch;
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use engine::network::JoinToken;
use engine::registry::{State, TerminalKey};
use std::net::SocketAddr;
use wire::control::{Control, ErrorCode};
use wire::frame::HEADER_BYTES;
use wire::link::LinkError;
use wire::message::{Attempt, Login, Reply, Request, Sold, Vend};
use wire::session::Mode;

struct Town {
    hub: Process,
    server: Process,
    keys: Vec<KeyRow>,
    links: SocketAddr,
    token: JoinToken,
    _scratch: tempfile::TempDir,
}

impl Town {
    fn new() -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let hub = site.hub();
        furnish(&hub, 1);
        let keys = hub.add_terminals(4);
        hub.mint("v1", 500);
        site.admit(&hub, "server");
        site.admit_relay(&hub, "kiosks");
        let server = site.server("server", hub.address, &Settings::default());
        server.wait_for("stock", |status| status.varieties.first().is_some_and(|v| v.sellable == 500));
        let links = server.status().sellers[0].links.clone().unwrap().parse().unwrap();
        Self { hub, server, keys, links, token: site.token("kiosks"), _scratch: scratch }
    }

    fn call(&self) -> Manager {
        Manager::call(self.links, &self.token, 0).unwrap()
    }
}

/// Opens a session and hears the welcome.
fn welcomed(manager: &mut Manager, number: u32, key: &KeyRow) -> CarriedTill {
    let mut till = CarriedTill::open(manager, number, key, Mode::Sealed);
    manager.flush().unwrap();
    let mut replies = Vec::new();
    while replies.is_empty() {
        replies = till.hear(&frames(manager, number));
    }
    assert!(matches!(replies[..], [Reply::Welcome(_)]), "{replies:?}");
    till
}

/// The next frames of a session; nothing else may come.
fn frames(manager: &mut Manager, number: u32) -> Vec<u8> {
    match manager.next().unwrap() {
        (of, Said::Frames(bytes)) if of == number => bytes,
        other => panic!("{other:?} where frames of session {number} were due"),
    }
}

fn vend(attempt: Attempt, sequence: u64) -> Request {
    let (product, face_value, deadline_ms, confirmed) = (1, 1000, 5_000, 0);
    Request::Vend(Vend { attempt, sequence, product, face_value, deadline_ms, confirmed })
}

/// Logs in, buys, and gives out what was sold.
fn buy(manager: &mut Manager, till: &mut CarriedTill, attempt: Attempt, sequence: u64) -> Sold {
    till.ask(manager, &Request::Login(Box::new(Login::EMPTY)));
    till.ask(manager, &vend(attempt, sequence));
    manager.flush().unwrap();
    loop {
        let bytes = frames(manager, till.number);
        if let Some(sold) = till.hear(&bytes).into_iter().find_map(|reply| match reply {
            Reply::Sold(sold) => Some(sold),
            _ => None,
        }) {
            return sold;
        }
    }
}

/// A refused session's code; then it is over.
fn refusal(manager: &mut Manager, number: u32) -> ErrorCode {
    let bytes = frames(manager, number);
    let header = wire::frame::Header::parse(&bytes, 0).unwrap().unwrap();
    let code = match wire::control::decode_control(&header, &bytes[HEADER_BYTES..]).unwrap() {
        Control::Error(notice) => notice.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(manager.next().unwrap(), (number, Said::End));
    code
}

#[test]
fn m10_a_server_sells_over_carried_sessions_each_answer_to_its_own() {
    let town = Town::new();
    let mut manager = town.call();
    assert_eq!((manager.carrying.seller.0, manager.carrying.workers), (1, 1));
    let mut tills: Vec<_> =
        (0..4).map(|at| welcomed(&mut manager, at * 7, &town.keys[at as usize])).collect();
    for till in &mut tills {
        till.ask(&mut manager, &Request::Login(Box::new(Login::EMPTY)));
        till.ask(&mut manager, &vend(Attempt::First, 1));
    }
    // All of it in one message.
    manager.flush().unwrap();
    let mut sold = Vec::new();
    while sold.len() < tills.len() {
        let (number, said) = manager.next().unwrap();
        let Said::Frames(bytes) = said else { panic!("{said:?}") };
        // Only the till that it is for can open it.
        let replies = tills[(number / 7) as usize].hear(&bytes);
        sold.extend(replies.into_iter().filter_map(|reply| match reply {
            Reply::Sold(sold) => Some((number, sold)),
            _ => None,
        }));
    }
    let mut references: Vec<_> = sold.iter().map(|(_, sold)| sold.reference).collect();
    references.sort_unstable();
    references.dedup();
    assert_eq!(references.len(), 4, "{sold:?}");
    let status = town.server.status();
    assert_eq!((status.sellers[0].sessions, status.sellers[0].carriers), (4, 1));
    // The manager says that a terminal is gone.
    manager.batch().end(0);
    manager.flush().unwrap();
    town.server.wait_for("three sessions", |status| status.sellers[0].sessions == 3);
}

#[test]
fn m10_a_cut_of_the_managers_connection_ends_its_sessions_and_a_repeat_elsewhere_gets_the_same_pin() {
    let town = Town::new();
    let mut manager = town.call();
    let mut till = welcomed(&mut manager, 1, &town.keys[0]);
    let sold = buy(&mut manager, &mut till, Attempt::First, 1);
    drop(manager);
    town.server
        .wait_for("no session", |status| (status.sellers[0].sessions, status.sellers[0].carriers) == (0, 0));
    // Over a connection of its own, and over another of the manager's.
    let mut direct = town.server.till(&town.keys[0]);
    let again = direct.sell(Attempt::Repeat, 1, (1, 1000)).unwrap();
    assert_eq!((again.reference, again.pin), (sold.reference, sold.pin));
    let mut manager = town.call();
    let mut till = welcomed(&mut manager, 1, &town.keys[0]);
    let again = buy(&mut manager, &mut till, Attempt::Repeat, 1);
    assert_eq!((again.reference, again.pin), (sold.reference, sold.pin));
    // That login replaced the terminal's other session.
    assert!(matches!(direct.vend(Attempt::First, 2, (1, 1000), 1), Err(crate::support::till::Lost::Bye(_))));
    assert_eq!(town.server.status().sellers[0].sessions, 1);
    // A newer connection of the manager's takes the place of this one.
    let _newer = town.call();
    let why = loop {
        match manager.next() {
            Ok(_) => {}
            Err(Ended::Said(why)) => break why,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(why.contains("replaced"), "{why}");
    town.hub.audit();
}

#[test]
fn law_10_what_is_wrong_with_a_carried_hello_is_told_to_that_terminal_alone() {
    let town = Town::new();
    let mut manager = town.call();
    let mut good = welcomed(&mut manager, 1, &town.keys[0]);
    let wrong_key = KeyRow { key: TerminalKey::new([9; 32]), ..town.keys[1].clone() };
    let unknown = KeyRow { terminal: 999_999, ..town.keys[1].clone() };
    for (number, key, mode, expected) in [
        (2, &wrong_key, Mode::Sealed, ErrorCode::Authentication),
        (3, &unknown, Mode::Sealed, ErrorCode::Authentication),
        (4, &town.keys[1], Mode::Clear, ErrorCode::Mode),
    ] {
        CarriedTill::open(&mut manager, number, key, mode);
        manager.flush().unwrap();
        assert_eq!(refusal(&mut manager, number), expected);
    }
    // A frame that does not open ends its session, and no other.
    welcomed(&mut manager, 5, &town.keys[1]);
    manager.batch().frames(5, &[40, 0, 0x0f, 0, 0, 0, 0, 0].repeat(5));
    manager.flush().unwrap();
    assert_eq!(refusal(&mut manager, 5), ErrorCode::Unsealing);
    // More at once than may wait of one session.
    let mut flood = welcomed(&mut manager, 6, &town.keys[2]);
    flood.ask(&mut manager, &Request::Login(Box::new(Login::EMPTY)));
    (0..1000).for_each(|_| flood.ask(&mut manager, &vend(Attempt::First, 1)));
    manager.flush().unwrap();
    assert_eq!(refusal(&mut manager, 6), ErrorCode::Limit);
    let sold = buy(&mut manager, &mut good, Attempt::First, 1);
    assert!(!sold.pin.as_bytes().is_empty());
}

#[test]
fn m10_managers_that_are_wrong_or_not_let_in_are_told_so() {
    let town = Town::new();
    let strange = JoinToken { node_key: TerminalKey::new([7; 32]), ..town.token.clone() };
    let refused = |token: &JoinToken, worker| match Manager::call(town.links, token, worker).err().unwrap() {
        Ended::Link(LinkError::Refused(notice)) => notice.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&strange, 0), ErrorCode::Authentication);
    assert_eq!(refused(&town.token, 1), ErrorCode::OutOfOrder, "there is one worker");
    // A session's number is never used twice.
    let mut manager = town.call();
    welcomed(&mut manager, 5, &town.keys[0]);
    CarriedTill::open(&mut manager, 5, &town.keys[1], Mode::Sealed);
    manager.flush().unwrap();
    match manager.next().unwrap_err() {
        Ended::Link(LinkError::Refused(notice)) => assert_eq!(notice.code, ErrorCode::Malformed),
        other => panic!("{other:?}"),
    }
    // Suspended, a manager is cut, and comes in again when it may.
    let mut manager = town.call();
    let set = |state| {
        let asked = town.hub.ask(&Ask::SetManager { name: "kiosks".into(), state });
        assert!(matches!(asked, Answer::Changed { .. }), "{asked:?}");
    };
    set(State::Suspended);
    match manager.next().unwrap_err() {
        Ended::Said(why) => assert!(why.contains("manager_not_active"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&town.token, 0), ErrorCode::Authentication);
    set(State::Active);
    let agrees = |status: &engine::network::Status| status.hub.as_ref().unwrap().nodes[0].registry_agrees;
    town.hub.wait_for("the registry", agrees);
    town.call();
}
