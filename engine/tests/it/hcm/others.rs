//! Terminals know from their welcome where else they may connect, and go there when their manager is gone for good.

use super::relay::{OF, Street};
use crate::support::nodes::{Settings, free_port};
use crate::support::process::{PATIENCE, Process};
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use std::net::SocketAddr;
use wire::client::{Client, Config, MemoryStore, Sale, SaleId, SaleState, Store, Vended};
use wire::message::{Attempt, KeyEpoch, SequenceState, Sold, TerminalId};

fn client(at: SocketAddr, key: &KeyRow, store: MemoryStore) -> Client<MemoryStore> {
    let (terminal, epoch) = (TerminalId(key.terminal), KeyEpoch(key.key_epoch));
    Client::new(Config::new(at, terminal, epoch, *key.key.expose()), store).unwrap()
}

fn sold(vended: Vended) -> (SaleId, Sold) {
    match vended {
        Vended::Sold(id, sold) => (id, sold),
        other => panic!("{other:?}"),
    }
}

/// A relay to the street's server, whose terminals may also connect to a second server; and that server.
fn with_another_server(street: &mut Street) -> Process {
    street.site.admit(&street.hub, "server-2");
    street.hub.mint("v1", 100);
    let settings = Settings { links: free_port(), levels: (100, 100, 200), ..Settings::default() };
    let second = street.site.server("server-2", street.hub.address, &settings);
    second.wait_for("stock", |status| status.varieties.first().is_some_and(|v| v.sellable == 100));
    let more = format!("others = [\"{}\"]", second.address);
    street.relay.end_at_once();
    let command = std::process::Command::new(crate::support::process::PINWHEEL);
    street.relay = street.site.relay_by(command, "kiosks", "127.0.0.1:0", &[street.links], &more);
    street.relay.wait_for("the server", |status| status.relay.as_ref().unwrap().server.is_some());
    second
}

#[test]
fn s02_a_terminal_whose_manager_is_gone_for_good_goes_on_elsewhere_and_its_lost_reply_is_settled_there() {
    let mut street = Street::small(2, 100);
    let second = with_another_server(&mut street);
    let (key, gone) = (street.keys[0].clone(), street.relay.address);
    second.await_terminal(&key);
    let mut till = client(gone, &key, MemoryStore::default());
    let welcome = till.connect(PATIENCE).unwrap();
    assert!(
        welcome.addresses.sockets().eq([second.address]),
        "the relay's, and not its server's: {welcome:?}"
    );
    let first = welcome.seller;
    let (id, _) = sold(till.vend(OF.0, OF.1, PATIENCE).unwrap());
    till.confirm(id, PATIENCE).unwrap();
    till.close();
    drop(till);
    // What the terminal keeps, and a sale whose reply it never had.
    let lost = street.relay.till(&key).sell(Attempt::First, 2, OF).unwrap();
    let mut store = MemoryStore::default();
    let id = SaleId { seller: first, sequence: 2 };
    let sale = Sale { id, product: OF.0, face_value: OF.1, state: SaleState::Asked };
    let mut state = wire::client::TerminalState { key_epoch: KeyEpoch(key.key_epoch), ..Default::default() };
    state.sales.push(sale);
    state.addresses = welcome.addresses.sockets().collect();
    store.save(&state).unwrap();
    street.relay.end_at_once();
    // It knows the relay's address by itself, and the other one from the welcome.
    let mut till = client(gone, &key, store);
    let (again, pin) = sold(till.repeat(id, PATIENCE).unwrap());
    assert_eq!((again, pin), (id, lost), "the same PIN, of the same seller");
    assert_eq!(till.confirm(id, PATIENCE).unwrap(), Some(SequenceState::Confirmed));
    let (other, _) = sold(till.vend(OF.0, OF.1, PATIENCE).unwrap());
    assert_ne!(other.seller, first, "it is at another seller now");
    let home = street.server.till(&key).state(&wire::message::Request::Status { sequence: 2 }).unwrap();
    assert_eq!(home, SequenceState::Confirmed);
    street.hub.audit();
}

#[test]
fn a_server_names_its_own_other_addresses_to_its_own_terminals_only() {
    let mut street = Street::small(1, 100);
    let second = with_another_server(&mut street);
    let direct = second.till(&street.keys[0]).welcome.addresses;
    assert_eq!(direct.count, 0, "nothing is configured there");
    let carried = street.relay.till(&street.keys[0]).welcome.addresses;
    assert!(carried.sockets().eq([second.address]));
    let own = street.server.till(&street.keys[0]).welcome.addresses;
    assert_eq!(own.count, 0, "what the relay says is for the relay's terminals");
    // Five are one too many.
    let config = street.scratch.path().join("kiosks.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let five: Vec<_> = (1..=5).map(|port| format!("127.0.0.1:{port}")).collect();
    let line = format!("others = {five:?}");
    let text: String = text
        .lines()
        .map(|old| if old.starts_with("others") { format!("{line}\n") } else { format!("{old}\n") })
        .collect();
    std::fs::write(&config, text).unwrap();
    street.relay.ask(&Ask::Stop);
    let refused = crate::support::command::pinwheel(
        &street.site.data("elsewhere"),
        &["hcm", "--config", config.to_str().unwrap()],
    );
    assert!(refused.code == 2 && refused.errors.contains("room for 4"), "{refused:?}");
    assert!(matches!(street.hub.ask(&Ask::Audit), Answer::Audit { balanced: true, .. }));
}
