//! The traces of `spec/demand` hold what row h05 demands, and the measures can fail.

use super::super::levels::{LevelRule, Levels};
use super::super::reason::Reason;
use super::*;
use std::fmt::Write;

#[test]
fn h05_seven_steady_days() {
    let report = run(STEADY, &Scenario::default());
    holds_h05(&report);
    assert_eq!(report.stock_outs, 0);
}

#[test]
fn h05_a_pay_day() {
    let report = run(PAY_DAY, &Scenario { hub_stock: 150_000, ..Scenario::default() });
    holds_h05(&report);
    assert_eq!(report.stock_outs, 0);
}

#[test]
fn h05_one_region_off_for_two_days() {
    let report = run(REGION_OFF, &Scenario::default());
    holds_h05(&report);
    assert_eq!(report.stock_outs, 0);
    assert!(report.recalls > 0, "what the region held is taken back");
}

#[test]
fn h05_demand_that_walks_over_the_regions() {
    let report = run(SHIFTING, &Scenario::default());
    holds_h05(&report);
    assert_eq!(report.stock_outs, 0);
}

/// The network runs dry in each of them: what is left is moved to where it is wanted, and little goes back and forth.
#[test]
fn h05_no_stock_out_while_stock_suffices_when_nothing_is_delivered() {
    for (trace, hub_stock) in [(STEADY, 40_000), (PAY_DAY, 60_000), (REGION_OFF, 60_000), (SHIFTING, 60_000)]
    {
        let report = run(trace, &Scenario { hub_stock, orders: false, ..Scenario::default() });
        assert!(report.stock_outs > 0, "it was to run dry");
        assert_eq!(report.avoidable, 0);
        assert!(report.recalled_per_sold <= 0.05, "{}", report.recalled_per_sold);
    }
}

/// Two regions take turns, so that stock is always where it is not wanted any more.
#[test]
fn h05_stock_does_not_see_saw_when_regions_take_turns() {
    for turn_h in [6, 12, 24, 48, 72] {
        let mut text = "hour,node,variety,vends\n".to_owned();
        for hour in 0..24 * 14 {
            let node = if hour / turn_h % 2 == 0 { "east" } else { "west" };
            writeln!(text, "{hour},{node},a,200\n{hour},north,a,100").unwrap();
        }
        for hub_stock in [5_000, 50_000] {
            let report = run(&text, &Scenario { hub_stock, ..Scenario::default() });
            let per_sold = report.recalled_per_sold;
            assert!(per_sold <= 0.05, "turns of {turn_h} h, {hub_stock} at the hub: {per_sold}");
            assert_eq!(report.avoidable, 0, "turns of {turn_h} h, {hub_stock} at the hub");
        }
    }
}

#[test]
fn h03_a_dry_hub_moves_stock_from_the_one_above_its_high_mark_to_the_one_below_its_low_mark() {
    let mut text = "hour,node,variety,vends\n".to_owned();
    for hour in 0..10 {
        writeln!(text, "{hour},a,v,50\n{hour},b,v,1\n{hour},c,v,1").unwrap();
    }
    let node = |name: &str, stock| NodeSetting { name: name.to_owned(), stock, levels: None };
    let scenario = Scenario {
        hub_stock: 0,
        orders: false,
        levels: LevelRule::Fixed(Levels::new(100, 500, 800).unwrap()),
        nodes: vec![node("a", 99), node("b", 2_000), node("c", 500)],
        ..Scenario::default()
    };
    let report = run(&text, &scenario);
    let first = &report.moves[0];
    assert_eq!((first.kind, first.node.as_str(), first.pins), (MoveKind::Back, "b", 401));
    assert!(matches!(first.reason, Reason::Surplus { lacking: 401, .. }));
    assert_eq!((report.moves[1].kind, report.moves[1].node.as_str()), (MoveKind::Down, "a"));
    assert!(report.moves.iter().all(|moved| moved.node != "c"));
    assert_eq!((report.stock_outs, report.lines[0].sold), (0, 500));
}

#[test]
fn h06_sales_place_orders_one_at_a_time_and_no_sales_place_none() {
    let report = run(STEADY, &Scenario::default());
    assert!((2..=4).contains(&report.orders), "{}", report.orders);
    for placed in &report.orders_placed {
        let order = &placed.order;
        assert!(i128::from(order.stock.position()) < i128::from(order.point), "{order}");
        let reached = i128::from(order.stock.position()) + i128::from(order.pins) - i128::from(order.up_to);
        assert!((0..1000).contains(&reached), "{order}");
    }
    let idle =
        run("hour,node,variety,vends\n47,north,a,0\n", &Scenario { hub_stock: 0, ..Scenario::default() });
    assert_eq!((idle.orders, idle.hours), (0, 48));
}

#[test]
fn the_same_run_is_the_same_to_the_pin() {
    assert_eq!(run(REGION_OFF, &Scenario::default()), run(REGION_OFF, &Scenario::default()));
}

/// An operator's low marks that keep everything where it is: stock would suffice if others gave.
#[test]
fn stock_outs_while_stock_suffices_are_found_out() {
    let text = "hour,node,variety,vends\n0,a,v,60\n1,a,v,60\n2,a,v,60\n2,b,v,1\n".to_owned();
    let node = |name: &str, stock| NodeSetting { name: name.to_owned(), stock, levels: None };
    let scenario = Scenario {
        hub_stock: 0,
        orders: false,
        delay_min: 120,
        levels: LevelRule::Fixed(Levels::new(50, 60, 10_000).unwrap()),
        nodes: vec![node("a", 60), node("b", 2_000)],
        ..Scenario::default()
    };
    let report = run(&text, &scenario);
    assert!(report.avoidable > 0 && report.avoidable <= report.stock_outs, "{report:?}");
}

#[test]
fn a_network_that_is_too_slow_for_its_levels_is_found_out() {
    let report = run(STEADY, &Scenario { delay_min: 600, ..Scenario::default() });
    assert!(report.filled_urgently > 0);
    assert!(report.on_hand_in_band_h < 0.8 * report.all_h());
}

fn run(trace: &str, scenario: &Scenario) -> Report {
    let report = simulate(&Trace::parse(trace).unwrap(), scenario);
    assert_eq!(report.vends, report.sold + report.stock_outs - report.filled_urgently);
    report
}

fn holds_h05(report: &Report) {
    assert!(report.recalled_per_sold <= 0.05, "{}", report.recalled_per_sold);
    assert_eq!(report.avoidable, 0);
    for line in &report.lines {
        assert!(line.in_band_share() >= 0.98, "{line:?}");
        assert_eq!(line.below_h, 0.0, "{line:?}");
    }
    // What is on its way takes ten minutes, a few times a day.
    assert!(report.on_hand_in_band_h >= 0.95 * report.all_h(), "{}", report.on_hand_in_band_h);
}

const STEADY: &str = include_str!("../../../../spec/demand/steady.csv");
const PAY_DAY: &str = include_str!("../../../../spec/demand/pay-day.csv");
const REGION_OFF: &str = include_str!("../../../../spec/demand/region-off.csv");
const SHIFTING: &str = include_str!("../../../../spec/demand/shifting.csv");
