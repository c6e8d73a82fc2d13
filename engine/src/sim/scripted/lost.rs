//! Nodes that cannot be reached, and nodes that an operator declares lost.

use super::super::office::spent;
use super::*;
use crate::audit::{Report, SellerBooks};
use crate::hub::books::Fate;
use crate::hub::{DoubtState, Spent};
use crate::journal::Position;
use crate::ledger::Ledger;
use std::collections::HashSet;

const MARKS: (u64, u64, u64) = (100, 500, 800);

impl Net {
    /// What the hub's copy of a site's journal comes to.
    pub(super) fn archived(&self, site: usize) -> (Position, Ledger) {
        archived(&self.hub, &self.hub_disk, self.node(site))
    }

    /// Law 1, as the hub can tell it: from what it holds of everybody's journal.
    pub(super) fn audit_from_archives(&self) -> Report {
        let books = |site| {
            let (position, ledger) = self.archived(site);
            SellerBooks::new(self.node(site), position, &ledger)
        };
        let sellers: Vec<_> = (0..self.sites.len()).map(books).collect();
        let report = audit(&self.hub.audit_books(), &sellers);
        assert!(report.balanced, "law 1: {report}");
        assert_eq!(report.varieties[&VARIETY.0].received, u64::from(self.minted));
        report
    }

    pub(super) fn in_doubt(&self) -> u64 {
        self.audit_from_archives().varieties[&VARIETY.0].in_doubt
    }

    /// A command, and what comes of it.
    pub(super) fn try_order(&mut self, command: Command) -> Result<Done, CommandError> {
        self.hub.handle_command(1, command, self.now.unix_ms, &mut |_| ()).unwrap();
        self.commit().pop().expect("every command is answered")
    }

    pub(super) fn lose(&mut self, site: usize) -> Result<Done, CommandError> {
        let spent = self.spent(site);
        self.try_order(Command::Lose { node: self.node(site), spent })
    }

    /// A site that is about to stop says that it has nothing left, if that is so.
    pub(super) fn takes_leave(&mut self, site: usize) -> bool {
        matches!(self.sites[site].node.take_leave(&self.now), Ok(Some(true)))
    }

    /// What the archives say of what a site does not hold any more.
    pub(super) fn spent(&self, site: usize) -> Spent {
        spent(&self.hub, &self.hub_disk, self.node(site))
    }

    /// PINs of a site that came to be in doubt, by what is known of them by now.
    pub(super) fn doubts(&self, site: usize, state: DoubtState) -> u64 {
        let rows = self.hub.doubts_of(self.node(site)).filter(|row| row.state == state);
        rows.map(|row| u64::from(row.span.len())).sum()
    }

    /// What a site has in its own durable books, PIN by PIN.
    pub(super) fn own_pins(&mut self, site: usize) -> HashSet<PinId> {
        let ledger = self.sites[site].node.books().unwrap().ledger();
        let in_stock = ledger.inventory.holdings().flat_map(|held| {
            let spans = held.in_stock();
            let spans: Vec<_> = spans.intervals().to_vec();
            spans.into_iter().map(move |(start, end)| (held.span.block, start, end))
        });
        let pins = |(block, start, end)| (start..end).map(move |index: u32| PinId::new(block, index as u16));
        in_stock.flat_map(pins).collect()
    }

    /// Everybody sells all there is; no PIN comes twice, nor one of those sold before.
    pub(super) fn sell_out(&mut self, site: usize, before: &[PinId]) -> usize {
        let mut sold: HashSet<PinId> = before.iter().copied().collect();
        assert_eq!(sold.len(), before.len());
        loop {
            self.ask(site);
            let mut answers = Vec::new();
            while answers.is_empty() {
                self.turn();
                answers = self.answers(site);
            }
            match answers[..] {
                [Sale::Sold(pin)] => assert!(sold.insert(pin), "law 1: {pin:?} was sold twice"),
                [Sale::Declined] => return sold.len() - before.len(),
                ref other => panic!("{other:?}"),
            }
        }
    }
}

/// Site 0 gave 400 back, which site 1 got and sold from: 30 PINs reported, and then, alone, 20 that nobody knows of. What
/// was sold, in this order.
fn after_return_and_resale() -> (Net, Vec<PinId>) {
    let mut net = Net::new(&[(500, 500, 800), (0, 1, 800)], 500);
    let first = net.own_pins(0);
    assert_eq!(first.len(), 500);
    net.set_levels(0, (50, 100, 100));
    net.set_levels(1, (300, 400, 800));
    net.settle();
    let second = net.own_pins(1);
    assert_eq!(second.len(), 400);
    assert!(second.is_subset(&first), "it came from site 0, by the hub");
    let mut sold = net.sell(1, 30);
    net.settle();
    net.leave(1);
    sold.extend(net.sell(1, 20));
    (net, sold)
}

#[test]
fn law_1_unreachable_is_not_lost_nothing_of_an_unreachable_node_goes_elsewhere() {
    let mut net = Net::new(&[MARKS, (0, 1, 800)], 500);
    assert_eq!(net.stocks(), [500, 0]);
    net.leave(0);
    net.settle();
    let recalls = net.recalls.len();
    for _ in 0..48 {
        net.ask(1);
        net.settle();
        assert_eq!(net.answers(1), [Sale::Declined], "what is at the other is not for this one");
        net.pass(3_600_000);
    }
    assert_eq!((net.recalls.len(), net.stocks()), (recalls, vec![500, 0]));
    let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
    assert_eq!((tally.at_seller, tally.in_doubt), (500, 0));
    assert_eq!(net.sell(0, 10).len(), 10, "it sells what it has");
    net.come_back(0);
    net.settle();
    net.check();
}

#[test]
fn law_1_what_a_lost_node_held_that_came_by_return_and_resale_is_in_doubt_pin_by_pin() {
    let (mut net, sold) = after_return_and_resale();
    assert!(matches!(net.lose(0), Err(CommandError::NodeConnected(_))), "who is connected is not lost");
    let before = net.audit_from_archives().varieties[&VARIETY.0].clone();
    assert_eq!(net.lose(1), Ok(Done::Doubts(vec![(VARIETY, 370)])));
    assert!(matches!(net.lose(1), Err(CommandError::NodeLost(_))));
    let expected: HashSet<PinId> = net.own_pins(1).into_iter().chain(sold[30..].iter().copied()).collect();
    let rows: Vec<_> = net.hub.doubts().cloned().collect();
    let pins = rows.iter().flat_map(|row| row.span.start..row.span.end);
    let pins = pins.map(|index| PinId::new(rows[0].span.block, index as u16));
    assert_eq!(pins.collect::<HashSet<_>>(), expected, "what it held, and what it sold since");
    for _ in 0..2 {
        let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
        assert_eq!((tally.in_doubt, tally.sold), (370, 30));
        assert_eq!(tally.at_seller, before.at_seller - 370);
        assert_eq!(net.hub.network_stock(VARIETY).on_hand, 100, "what is in doubt is no stock");
        net.restart_hub();
        net.leave(1);
        net.settle();
    }
    // The others get nothing of it, however long they ask.
    assert_eq!(net.sell_out(0, &sold), 100);
    net.settle();
    assert_eq!(net.in_doubt(), 370);
}

#[test]
fn law_3_a_lost_node_that_comes_back_hands_in_its_sales_and_its_rest_is_sold_once() {
    let (mut net, sold) = after_return_and_resale();
    net.lose(1).unwrap();
    net.come_back(1);
    net.settle();
    assert_eq!((net.doubts(1, DoubtState::InDoubt), net.in_doubt()), (0, 0));
    assert_eq!((net.doubts(1, DoubtState::Sold), net.doubts(1, DoubtState::Returned)), (20, 350));
    assert_eq!((net.stock(1), net.hub.available(VARIETY)), (0, 350));
    let back = net.returns(1);
    assert!(back.iter().all(|row| row.reason.unwrap().to_string().starts_with("it was declared lost")));
    assert!(back.iter().all(|row| row.generation > 4), "raised once more: {back:?}");
    net.check_stopped(1);
    assert_eq!(net.sell_out(0, &sold), 450);
    net.settle();
    let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
    assert_eq!((tally.sold, tally.received), (500, 500));
    net.check();
}

#[test]
fn law_3_a_lost_node_comes_back_through_kills_at_every_step() {
    for at in 0..16 {
        for what in [Restart(1), RestartHub, Cut(1)] {
            let (mut net, sold) = after_return_and_resale();
            net.lose(1).unwrap();
            net.come_back(1);
            net.turn_through(24, at, what);
            assert_eq!(
                (net.doubts(1, DoubtState::Sold), net.hub.available(VARIETY)),
                (20, 350),
                "{what:?} at {at}"
            );
            assert_eq!(net.in_doubt(), 0);
            assert_eq!(net.sell_out(0, &sold), 450);
        }
    }
}

#[test]
fn law_6_what_an_operator_wrote_off_is_never_sold_again_whatever_the_late_journal_says() {
    let (mut net, sold) = after_return_and_resale();
    let node = net.node(1);
    let write_off = |spans| Command::WriteOff { node, variety: None, spans, note: "disk is gone".into() };
    assert!(matches!(net.try_order(write_off(None)), Err(CommandError::NodeNotLost(_))));
    net.lose(1).unwrap();
    // First some of what it sold unseen and some of what it has, then the rest but for a hundred.
    let rows: Vec<_> = net.hub.doubts().map(|row| row.span).collect();
    let cut = |count| crate::ids::Span { end: rows[0].start + count, ..rows[0] };
    assert_eq!(net.try_order(write_off(Some(vec![cut(15)]))), Ok(Done::Doubts(vec![(VARIETY, 15)])));
    let rest = rows.iter().map(|span| crate::ids::Span { end: span.end - 50, ..*span }).collect();
    net.try_order(write_off(Some(rest))).unwrap();
    let open = net.doubts(1, DoubtState::InDoubt);
    assert_eq!((open, net.doubts(1, DoubtState::WrittenOff)), (rows.len() as u64 * 50, 370 - open));
    let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
    assert_eq!((tally.in_doubt, tally.withdrawn, tally.sold), (open, 370 - open, 30));
    assert!(net.hub.doubts().all(|row| row.note.is_empty() == (row.state == DoubtState::InDoubt)));
    net.restart_hub();
    net.leave(1);
    net.come_back(1);
    net.settle();
    let written_off = net.doubts(1, DoubtState::WrittenOff);
    assert_eq!(net.doubts(1, DoubtState::Sold), 20, "what was sold is sold");
    assert_eq!(net.doubts(1, DoubtState::Returned) + written_off, 350);
    assert!((250..350).contains(&written_off), "{written_off}");
    assert_eq!(net.stock(1), 0, "it has given all back");
    assert_eq!(net.hub.available(VARIETY), 350 - written_off);
    assert_eq!(net.hub.network_stock(VARIETY).on_hand, 450 - written_off);
    net.restart_hub();
    assert_eq!(net.sell_out(0, &sold), 450 - written_off as usize);
    net.settle();
    let tally = net.audit_from_archives().varieties[&VARIETY.0].clone();
    assert_eq!((tally.withdrawn, tally.in_doubt, tally.sold), (written_off, 0, 500 - written_off));
}

#[test]
fn law_1_a_transfer_that_a_lost_node_never_answered_is_in_doubt_until_it_does() {
    for takes in [false, true] {
        let mut net = Net::new(&[(0, 1, 800)], 300);
        net.set_levels(0, (200, 200, 800));
        // The offer is out, and cut off before or after the node has made it durable.
        for _ in 0..TURNS_MAX {
            let is_out = net.hub.available(VARIETY) < 300;
            let is_in = net.stock(0) > 0;
            if if takes { is_in } else { is_out } {
                break;
            }
            net.turn();
        }
        net.leave(0);
        net.settle();
        assert_eq!(net.lose(0), Ok(Done::Doubts(vec![(VARIETY, 200)])), "{takes}");
        assert_eq!(net.in_doubt(), 200);
        net.come_back(0);
        net.settle();
        assert_eq!((net.in_doubt(), net.hub.available(VARIETY), net.stock(0)), (0, 300, 0), "{takes}");
        assert_eq!(net.doubts(0, DoubtState::Returned), 200);
    }
}

#[test]
fn h07_a_node_that_left_with_nothing_is_closed_and_heard_no_more() {
    let mut net = Net::new(&[MARKS, MARKS], 1_000);
    net.sell(1, 40);
    net.settle();
    let node = net.node(1);
    let close = |net: &mut Net| {
        let spent = net.spent(1);
        net.try_order(Command::CloseNode { node, spent })
    };
    assert!(matches!(close(&mut net), Err(CommandError::NodeNotDrained(_))));
    net.drain(1, true);
    net.settle();
    assert!(net.hub.node_drain(node).unwrap().is_gone);
    assert!(matches!(close(&mut net), Err(CommandError::NodeRuns(_))));
    net.leave(1);
    assert!(matches!(close(&mut net), Err(CommandError::NodeUnfinished(_))), "it may have answered since");
    net.come_back(1);
    net.settle();
    assert!(net.takes_leave(1), "it has nothing left");
    net.settle();
    net.leave(1);
    assert!(net.hub.is_journal_whole(node));
    // Whatever starts it again, the hub hears of it, and it may answer again.
    net.restart(1);
    net.come_back(1);
    net.settle();
    assert!(!net.hub.is_journal_whole(node));
    assert!(net.takes_leave(1));
    net.settle();
    net.leave(1);
    net.restart_hub();
    net.leave(1);
    assert_eq!(close(&mut net), Ok(Done::State));
    assert!(matches!(close(&mut net), Err(CommandError::NodeClosed(_))));
    assert!(matches!(net.lose(1), Err(CommandError::NodeClosed(_))));
    assert!(matches!(net.hub.fate(node), Some(Fate::Closed { .. })));
    // Its credentials are worth nothing from now on.
    net.restart_hub();
    let hello = ToHub::Hello {
        node,
        hub_epoch: 0,
        journal_from: 0,
        journal_mark: 0,
        workers: 1,
        registry_version: 0,
        registry_digest: 0,
    };
    net.hub.handle_link(node, hello, net.now.unix_ms).unwrap();
    net.hub.commit().unwrap();
    let outputs: Vec<_> = std::iter::from_fn(|| net.hub.poll_output()).collect();
    let told = outputs.iter().position(|o| matches!(o, Output::Send { message: ToNode::Closed, .. }));
    let ended = outputs.iter().position(|o| matches!(o, Output::Close { .. }));
    assert!(told.is_some() && told < ended, "{outputs:?}");
    let report = net.audit_from_archives();
    assert_eq!(report.varieties[&VARIETY.0].sold, 40);
}
