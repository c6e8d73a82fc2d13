//! Kills and pauses of a relay and its server, and cuts between them, in mid-sale; then receipts against the books.

use super::relay::{OF, Street};
use crate::support::load::{Load, check_books, check_live};
use crate::support::process::SMALL_SEGMENT_BYTES;
use crate::support::proxy::Proxy;
use std::thread;
use std::time::Duration;
use wire::message::Attempt;

#[test]
fn law_1_2_4_kills_pauses_and_cuts_of_relay_and_server_in_mid_sale_lose_no_pin_and_sell_none_twice() {
    let mut street = Street::small(8, 20_000);
    let wire = Proxy::start(street.links, Duration::ZERO);
    street.relay.end_at_once();
    street.relay = street.site.relay("kiosks", &[wire.address]);
    let load = Load::start_paced(&street.relay, &street.keys, OF, REST);
    let mut dice = 0x9e37_79b9_u64;
    let mut moment = |least_ms: u64, more_ms: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The only thing waited for is the passing of time: the moment of the fault is to be anywhere.
        thread::sleep(Duration::from_millis(least_ms + (dice >> 33) % more_ms));
    };
    for round in 0..24 {
        moment(100, 200);
        match round % 6 {
            0 => {
                street.relay.end_at_once();
                street.relay = street.site.relay("kiosks", &[wire.address]);
                load.moved_to(&street.relay);
            }
            1 => {
                street.server.end_at_once();
                let (hub, settings) = (street.hub.address, &street.settings);
                street.server = street.site.server("server-1", hub, settings);
            }
            2 => {
                street.relay.signal("STOP");
                moment(50, 300);
                street.relay.signal("CONT");
            }
            3 => {
                street.server.signal("STOP");
                moment(50, 300);
                street.server.signal("CONT");
            }
            // Questions arrive, answers do not; then nothing does.
            4 => {
                wire.deafen();
                moment(50, 300);
                wire.heal();
            }
            _ => {
                wire.cut();
                moment(50, 300);
                wire.heal();
            }
        }
    }
    let told = load.finish();
    let sold: usize = told.iter().map(|told| told.sold.len()).sum();
    check_live(&street.relay, &street.keys, &told, OF);
    street.await_sold(sold as u64);
    street.hub.audit();
    let relay = street.relay.status().relay.unwrap();
    assert!(relay.renewed > 0 && relay.losses > 0, "{relay:?}");
    street.server.kill();
    check_books(&street.site.data("server-1"), SMALL_SEGMENT_BYTES, &street.keys, &told);
    println!("{sold} PINs sold over a relay, none twice, none lost");
    assert!((501..20_000).contains(&sold), "{sold} PINs were sold: all the time, and never all");
}

#[test]
fn a_relay_changes_to_another_server_when_its_own_is_gone_and_the_connections_stay() {
    let street = Street::small(1, 100);
    let number = street.site.admit(&street.hub, "server-2");
    street.hub.mint("v1", 100);
    let links = crate::support::nodes::free_port();
    let settings = crate::support::nodes::Settings { links, levels: (100, 100, 200), ..Default::default() };
    let second = street.site.server("server-2", street.hub.address, &settings);
    second.wait_for("stock", |status| status.varieties.first().is_some_and(|v| v.sellable == 100));
    street.site.admit_relay(&street.hub, "both");
    let relay = street.site.relay("both", &[street.links, links]);
    relay.wait_for("a server", |status| status.relay.as_ref().unwrap().server.is_some());
    let mut till = relay.till(&street.keys[0]);
    let seller = till.welcome.seller;
    till.sell(Attempt::First, 1, OF).unwrap();
    let address = till.stream.local_addr().unwrap();
    // Which of them it came to first depends on which had heard of it.
    let (used, _left) = if seller.0 == number { (second, street.server) } else { (street.server, second) };
    used.kill();
    let bye = till.receive().err().unwrap();
    assert!(format!("{bye:?}").contains("Renew"), "{bye:?}");
    let patience = crate::support::process::PATIENCE;
    let by = std::time::Instant::now() + patience;
    let mut stream = till.stream;
    let mut till = loop {
        assert!(std::time::Instant::now() < by, "no server is found");
        let again = stream.try_clone().unwrap();
        match crate::support::till::Till::log_in(stream, &street.keys[0], patience) {
            Ok(till) => break till,
            // No server yet: the same connection, once more.
            Err(crate::support::till::Lost::Bye(_)) => stream = again,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(till.stream.local_addr().unwrap(), address, "it is the same connection");
    assert_ne!(till.welcome.seller, seller);
    till.sell(Attempt::First, 1, OF).unwrap();
}

/// After each sale of a till: some thousand sales a second would be all there is before the last fault.
const REST: Duration = Duration::from_millis(4);
