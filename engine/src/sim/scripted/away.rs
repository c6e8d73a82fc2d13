//! The hub is away.

use super::*;
use crate::journal::record::VendName;
use crate::link::Asked;
use wire::message::SettleAction;
use wire::session::Suite;

#[test]
fn law_8_servers_sell_through_a_day_without_the_hub_and_tell_it_every_sale_when_it_is_back() {
    const HOUR_MS: u64 = 3_600_000;
    let mut net = Net::new(&[(500, 1_000, 2_000); 2], 2_500);
    assert_eq!((net.stocks(), net.hub.available(VARIETY)), (vec![1_000, 1_000], 500));
    let told = [0, 1].map(|site| net.hub.journal_acked(net.node(site)).unwrap());
    net.is_up = false;
    let mut sold = 0;
    for hour in 0..24 {
        for site in 0..2 {
            sold += net.sell(site, 20 + hour).len() as u64;
        }
        net.pass(HOUR_MS);
    }
    // Most of a day's journal waits, in more than one segment.
    let ends = [0, 1].map(|site| net.sites[site].audit_books().position);
    for (end, told) in ends.iter().zip(told) {
        assert!(end - told > 2 * 16_384, "{told} was told, and it goes up to {end}");
    }
    // A node that is started again meanwhile has it still.
    net.restart(1);
    net.restart_hub();
    net.settle();
    for site in 0..2 {
        let end = net.sites[site].audit_books().position;
        assert_eq!(net.hub.journal_acked(net.node(site)), Some(end), "node {site}");
    }
    assert_eq!(net.stocks().iter().sum::<u64>() + net.hub.available(VARIETY), 2_500 - sold);
    assert_eq!(net.hub.available(VARIETY), 0, "they are stocked again");
    net.check();
}

#[test]
fn nothing_is_said_to_a_node_that_has_just_called_before_its_welcome() {
    let mut net = Net::new(&[(0, 1, 1); 2], 10);
    net.settle();
    let (asking, called) = (net.node(0), net.node(1));
    net.hub.handle_cut(called);
    let hello = ToHub::Hello {
        node: called,
        hub_epoch: 0,
        journal_from: 0,
        workers: 1,
        registry_version: 0,
        registry_digest: 0,
    };
    let vend = VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence: 1 };
    let asked = Asked { vend, action: SettleAction::Status, suite: Suite::AesGcm };
    net.hub.handle_link(called, hello, net.now.unix_ms).unwrap();
    let ask = ToHub::Ask { question: 1, seller: called, asked };
    net.hub.handle_link(asking, ask, net.now.unix_ms).unwrap();
    net.hub.commit().unwrap();
    let said: Vec<_> = std::iter::from_fn(|| net.hub.poll_output())
        .filter_map(|output| match output {
            Output::Send { node, message } if node == called => Some(message),
            _ => None,
        })
        .collect();
    // Its bulk channel is heard from the first message on the other one on: what that brings must not be ahead of the welcome.
    assert!(matches!(said[0], ToNode::Welcome { .. }), "{said:?}");
    assert!(said.iter().any(|message| matches!(message, ToNode::Asked { .. })), "{said:?}");
}
