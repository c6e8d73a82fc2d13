//! A disk that is full: a server's while stock comes in, and the hub's.

use crate::network::{holds, is_reported, sell, settle};
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::{Process, minting};
use crate::support::small_disk::SmallDisk;
use crate::support::{lacking, scratch};
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};

/// Sells some at a server, one after the other.
fn sell_some(server: &Process, key: &KeyRow, sequences: std::ops::RangeInclusive<u64>) -> Vec<String> {
    sequences.map(|sequence| sell(server, key, sequence, 1)).collect()
}

#[test]
fn law_8_a_server_whose_disk_fills_in_mid_transfer_refuses_and_another_sells_that_stock() {
    let scratch = scratch();
    let site = Site::with_holds(scratch.path());
    let Some(disk) = SmallDisk::mount(&site.data("north"), 16 << 20) else {
        return lacking("the right to mount a tmpfs");
    };
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(2);
    let names = ["north", "east"];
    names.iter().for_each(|name| _ = site.admit(&hub, name));
    let settings = Settings { levels: (400, 1000, 2000), ..Settings::default() };
    let north = site.server("north", hub.address, &settings);
    north.wait_for("the link", |status| status.sellers[0].linked);
    // The offer is there, its content is not.
    north.hold().stop_at("taker FILLING");
    hub.mint("v1", 1000);
    assert!(north.hold().await_stop(), "{}", north.said());
    disk.fill();
    north.hold().go_on();
    hub.wait_for("the stock is back", |status| {
        let variety = &status.varieties[0];
        (variety.hub, variety.in_transfer, variety.at_seller) == (1000, 0, 0)
    });
    hub.wait_for("the alarm", |_| hub.said().contains("refused transfer 1"));
    hub.audit();
    let east = site.server("east", hub.address, &settings);
    east.wait_for("what was refused", |status| holds(status, 1000));
    let mut sold = sell_some(&east, &keys[0], 1..=20);
    hub.audit();
    // It takes stock again, without help, when it has room.
    disk.free();
    hub.mint("v1", 1000);
    north.wait_for("stock", |status| holds(status, 1000));
    sold.extend(sell_some(&north, &keys[1], 1..=20));
    settle(&hub, &[&north, &east], &sold);
    drop(north);
}

#[test]
fn law_8_a_hub_whose_disk_is_full_takes_nothing_in_and_loses_nothing_while_its_servers_sell_on() {
    let scratch = scratch();
    let site = Site::new(scratch.path());
    let Some(disk) = SmallDisk::mount(&site.data("hub"), 64 << 20) else {
        return lacking("the right to mount a tmpfs");
    };
    let hub = site.hub();
    furnish(&hub, 1);
    let keys = hub.add_terminals(1);
    hub.mint("v1", 1000);
    site.admit(&hub, "north");
    let north = site.server("north", hub.address, &Settings::default());
    north.wait_for("stock", |status| holds(status, 500));
    north.wait_for("all is reported", is_reported);
    let told = north.status().sellers[0].journal_acknowledged;
    disk.fill();
    // Refused with the reason, and it runs on.
    match hub.ask(&minting("v1", 60_000)) {
        Answer::No { reason } => assert!(reason.contains("its disk may be full"), "{reason}"),
        other => panic!("there is no room: {other:?}"),
    }
    let mut sold = sell_some(&north, &keys[0], 1..=300);
    // What was not archived was not acknowledged; it all comes when there is room.
    let status = north.status();
    let seller = &status.sellers[0];
    assert!(seller.journal_acknowledged - told < 8192, "{told} {seller:?}");
    assert!(seller.journal_durable - told > 16_384, "{told} {seller:?}");
    for ask in
        [Ask::AddNode { name: "east".to_owned(), relay: false }, Ask::AddDealer { name: "Kiosk".to_owned() }]
    {
        assert!(matches!(hub.ask(&ask), Answer::No { .. }));
    }
    disk.free();
    north.wait_for("all is reported", is_reported);
    hub.mint("v1", 1000);
    sold.extend(sell_some(&north, &keys[0], 301..=320));
    settle(&hub, &[&north], &sold);
    drop(hub);
}
