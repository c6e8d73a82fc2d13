//! Messages that come twice, in another order, or changed. Links let none of that pass, so a relay with the node's own key
//! does it between a real hub and a real server.

use crate::network::{holds, node, sell, settle};
use crate::support::nodes::{Settings, Site, furnish};
use crate::support::process::Process;
use crate::support::relay::{Passing, Relay, damaged};
use crate::support::scratch;
use engine::admin::{KeyRow, Reply as Answer, Request as Ask};
use engine::link::ToNode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A hub, a server behind a relay, and one beside it.
struct Three {
    site: Site,
    hub: Process,
    relay: Relay,
    behind: Option<Process>,
    beside: Process,
    keys: Vec<KeyRow>,
    sold: Vec<String>,
    sales: u64,
    _scratch: tempfile::TempDir,
}

impl Three {
    fn new(stock: u32, meddle: impl FnMut(Option<Passing>) -> Vec<Passing> + Send + 'static) -> Self {
        let scratch = scratch();
        let site = Site::new(scratch.path());
        let hub = site.hub();
        furnish(&hub, 1);
        let keys = hub.add_terminals(2);
        hub.mint("v1", stock);
        ["behind", "beside"].iter().for_each(|name| _ = site.admit(&hub, name));
        let relay = Relay::start(hub.address, &site.token("behind"));
        relay.meddle(meddle);
        let settings = Settings::default();
        let beside = site.server("beside", hub.address, &settings);
        beside.wait_for("its stock", |status| holds(status, 500));
        let behind = Some(site.server("behind", relay.address, &settings));
        let (sold, sales) = (Vec::new(), 0);
        Self { site, hub, relay, behind, beside, keys, sold, sales, _scratch: scratch }
    }

    fn behind(&self) -> &Process {
        self.behind.as_ref().unwrap()
    }

    /// Kills the server behind the relay, and starts it again.
    fn restart(&mut self) {
        self.behind.take().into_iter().for_each(Process::kill);
        self.behind = Some(self.site.server("behind", self.relay.address, &Settings::default()));
    }

    /// Both sell one.
    fn sell(&mut self) {
        self.sales += 1;
        self.sold.push(sell(&self.beside, &self.keys[0], self.sales, 1));
        self.sold.push(sell(self.behind(), &self.keys[1], self.sales, 1));
    }

    /// Calls everything back from the server behind the relay, and lets it have stock again.
    fn drain(&self, on: bool) {
        let node = "behind".to_owned();
        assert!(matches!(self.hub.ask(&Ask::Drain { node, on }), Answer::Changed { .. }));
    }

    /// Nothing is lost, nobody else noticed, and all of it is told in the end.
    fn end(self) {
        self.relay.be_honest();
        settle(&self.hub, &[self.behind(), &self.beside], &self.sold);
        let said = self.beside.said();
        assert!(!said.contains("the hub is gone"), "{said}");
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("hub:\n{}", self.hub.said());
            self.behind.iter().for_each(|behind| println!("behind:\n{}", behind.said()));
        }
    }
}

#[test]
fn h01_messages_that_all_come_twice_neither_lose_nor_double_a_pin() {
    let mut three = Three::new(4000, |message| [message.clone(), message].into_iter().flatten().collect());
    three.behind().wait_for("stock", |status| !holds(status, 0));
    for _ in 0..3 {
        (0..5).for_each(|_| three.sell());
        three.drain(true);
        let behind = 1;
        three.hub.wait_for("the end of the drain", |status| {
            node(status, behind).drain.is_some_and(|drain| drain.is_done)
        });
        three.drain(false);
        three.behind().wait_for("stock", |status| status.varieties[0].sellable >= 100);
    }
    three.hub.audit();
    three.end();
}

#[test]
fn h01_messages_in_another_order_neither_lose_nor_double_a_pin() {
    const ROUNDS: u64 = 12;
    let swapped = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&swapped);
    let mut dice = 0x9e37_79b9_u64;
    // Of each direction the message that is held back until the next has passed.
    let mut held: [Option<Passing>; 2] = [None, None];
    let mut three = Three::new(4000, move |message| {
        let Some(message) = message else { return held.iter_mut().filter_map(Option::take).collect() };
        let slot = &mut held[usize::from(matches!(message, Passing::Down(_)))];
        if let Some(earlier) = slot.take() {
            count.fetch_add(1, SeqCst);
            return vec![message, earlier];
        }
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if (dice >> 33).is_multiple_of(2) {
            *slot = Some(message);
            return Vec::new();
        }
        vec![message]
    });
    // Stock goes back and forth meanwhile. Every start is a new beginning, as every connection is: what was swapped can
    // have left the two at odds until then.
    for round in 1..=ROUNDS {
        three.drain(round % 2 == 1);
        three.restart();
        // Some come up with hardly two messages close enough together to swap.
        let begun = Instant::now();
        let is_over = |_: &_| swapped.load(SeqCst) >= 2 * round || begun.elapsed() >= Duration::from_secs(1);
        three.hub.wait_for("another swap", is_over);
        three.hub.audit();
    }
    assert!(swapped.load(SeqCst) >= ROUNDS, "hardly anything was swapped");
    three.drain(false);
    three.relay.be_honest();
    three.behind().wait_for("stock", |status| status.varieties.first().is_some_and(|v| v.sellable >= 100));
    three.sell();
    three.end();
}

#[test]
fn law_3_a_chunk_that_is_not_what_was_given_is_refused_and_sent_again() {
    let damage = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&damage);
    let mut three = Three::new(4000, move |message| match message {
        Some(Passing::Down(ToNode::Chunk { stream, number, offset, bytes })) if count.load(SeqCst) == 0 => {
            count.fetch_add(1, SeqCst);
            vec![Passing::Down(ToNode::Chunk { stream, number, offset, bytes: damaged(&bytes) })]
        }
        other => Vec::from_iter(other),
    });
    // Refused: the hub has it back, and the server has nothing that it could sell.
    three.hub.wait_for("the stock is back", |status| {
        let variety = &status.varieties[0];
        damage.load(SeqCst) == 1 && (variety.hub, variety.in_transfer, variety.at_seller) == (3500, 0, 500)
    });
    assert!(three.behind().status().varieties.iter().all(|variety| variety.sellable == 0));
    three.hub.audit();
    let said = three.behind().said();
    assert!(said.contains("transfer 1: its content does not match its checksum, and is refused"), "{said}");
    three.hub.wait_for("the alarm", |_| three.hub.said().contains("refused transfer 1"));
    // Sent again, after a rest.
    let begun = Instant::now();
    three.behind().wait_for("stock", |status| holds(status, 500));
    assert!(begun.elapsed() < Duration::from_secs(20));
    three.sell();
    three.end();
}
