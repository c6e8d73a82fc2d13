//! The hub is away.

use super::*;
use crate::journal::record::VendName;
use crate::link::{Asked, Told};
use wire::message::{SequenceState, SettleAction};
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
fn what_a_node_has_is_not_known_before_it_has_told_this_start_of_the_hub() {
    let mut net = Net::new(&[(5, 10, 20)], 30);
    net.settle();
    let known = |net: &Net| {
        let stock = net.hub.stock_of(VARIETY);
        let of_node = |stock: &NodeStock| (stock.has_reported, stock.position.on_hand, stock.called_back);
        stock.iter().map(of_node).collect::<Vec<_>>()
    };
    assert_eq!(known(&net), [(true, 10, 0)]);
    // Away, it has what it said last, and nothing was called back from it.
    net.leave(0);
    assert_eq!(known(&net), [(true, 10, 0)]);
    net.restart_hub();
    net.away.insert(0);
    assert_eq!(known(&net), [(false, 0, 0)]);
    net.come_back(0);
    net.settle();
    assert_eq!(known(&net), [(true, 10, 0)]);
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
        journal_mark: 0,
        workers: 1,
        registry_version: 0,
        registry_digest: 0,
    };
    net.hub.handle_link(called, hello, net.now.unix_ms).unwrap();
    let said = ask_about_one(&mut net, asking, called);
    let said: Vec<_> =
        said.into_iter().filter(|(node, _)| *node == called).map(|(_, message)| message).collect();
    // Its bulk channel is heard from the first message on the other one on: what that brings must not be ahead of the welcome.
    assert!(matches!(said[0], ToNode::Welcome { .. }), "{said:?}");
    assert!(said.iter().any(|message| matches!(message, ToNode::Asked { .. })), "{said:?}");
}

#[test]
fn what_a_hub_that_was_killed_had_asked_is_no_answer_to_the_next_ones_question() {
    let mut net = Net::new(&[(0, 1, 1); 2], 10);
    net.settle();
    let (asking, called) = (net.node(0), net.node(1));
    let asked = |said: Vec<(SellerId, ToNode)>| {
        let asked = said.into_iter().find_map(|(node, message)| match message {
            ToNode::Asked { question, .. } if node == called => Some(question),
            _ => None,
        });
        asked.expect("the question goes on")
    };
    let before = asked(ask_about_one(&mut net, asking, called));
    net.restart_hub();
    net.settle();
    let now = asked(ask_about_one(&mut net, asking, called));
    let told = Told { state: SequenceState::Sold, ..Told::IN_DOUBT };
    for (question, is_answered) in [(before, false), (now, true), (now, false)] {
        net.hub.handle_link(called, ToHub::Told { question, told }, net.now.unix_ms).unwrap();
        net.hub.commit().unwrap();
        let said = sent(&mut net);
        let is_told = |(node, message): &(SellerId, ToNode)| {
            *node == asking
                && matches!(message, ToNode::Told { question: 1, told } if told.state == SequenceState::Sold)
        };
        assert_eq!(said.iter().any(is_told), is_answered, "{said:?}");
    }
}

/// What the hub says when one node asks about a sequence of another one.
fn ask_about_one(net: &mut Net, asking: SellerId, seller: SellerId) -> Vec<(SellerId, ToNode)> {
    let vend = VendName { terminal: TerminalId(1), key_epoch: KeyEpoch(1), sequence: 1 };
    let asked = Asked { vend, action: SettleAction::Status, suite: Suite::AesGcm };
    net.hub.handle_link(asking, ToHub::Ask { question: 1, seller, asked }, net.now.unix_ms).unwrap();
    net.hub.commit().unwrap();
    sent(net)
}

/// Everything that the hub has to say, which nobody gets.
fn sent(net: &mut Net) -> Vec<(SellerId, ToNode)> {
    let outputs = std::iter::from_fn(|| net.hub.poll_output());
    outputs
        .filter_map(|output| match output {
            Output::Send { node, message } => Some((node, message)),
            _ => None,
        })
        .collect()
}
