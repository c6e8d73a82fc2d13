//! `pinwheel simulate`.

use super::office::Caller;
use super::screen::{say, say_json, table, thousands};
use super::{Exit, SimulatePolicyArgs};
use crate::policy::simulate::{Move, MoveKind, OrderPlaced, Report, Scenario, Trace, simulate};
use std::fmt::Write;
use std::path::Path;

/// Runs the policy over a demand trace and says what came of it.
pub(super) fn policy(caller: &Caller, args: &SimulatePolicyArgs) -> Result<(), Exit> {
    let wrong = |path: &Path, error: &dyn std::error::Error| Exit::no(format!("{}: {error}", path.display()));
    let trace = Trace::parse(&read(&args.demand)?).map_err(|error| wrong(&args.demand, &error))?;
    let scenario = match &args.nodes {
        Some(path) => Scenario::parse(&read(path)?, &trace).map_err(|error| wrong(path, &error))?,
        None => Scenario::default(),
    };
    let report = simulate(&trace, &scenario);
    if args.moves {
        say(&moves_text(&report, caller.json));
    }
    if caller.json {
        say_json(&report);
    } else {
        say(&report_text(&report));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Exit> {
    let failed = |error| Exit::no(format!("cannot read {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Exit::no(format!("{}: line {line}, byte {column}: this is not UTF-8 [not-utf-8]", path.display()))
    })
}

fn report_text(report: &Report) -> String {
    let mut text = String::from("\n");
    let Report { hours, delay_min, vends, sold, .. } = *report;
    let all_h = report.all_h();
    let share = |hours: f64| 100.0 * hours / all_h.max(f64::MIN_POSITIVE);
    let rows = [
        ("demand", format!("{} vends in {hours} h; transfers take {delay_min} min", thousands(vends))),
        ("sold", thousands(sold)),
        (
            "stock-outs",
            format!(
                "{}; {} filled by urgent transfers, {} not though stock sufficed, {} not though there was any at all",
                thousands(report.stock_outs),
                thousands(report.filled_urgently),
                thousands(report.avoidable),
                thousands(report.while_any_stock)
            ),
        ),
        (
            "moves",
            format!(
                "{} to nodes with {} PINs, {} back with {} PINs",
                thousands(report.transfers),
                thousands(report.transferred),
                thousands(report.recalls),
                thousands(report.recalled)
            ),
        ),
        ("recalled", format!("{:.4} PINs per PIN sold", report.recalled_per_sold)),
        (
            "in band",
            format!(
                "{:.2} % of {all_h:.0} h, {:.1} h below, {:.1} h above; {:.2} % without what was on its way",
                share(report.in_band_h),
                report.below_h,
                report.above_h,
                share(report.on_hand_in_band_h)
            ),
        ),
        ("orders", format!("{} for {} PINs", thousands(report.orders), thousands(report.ordered))),
        ("left", thousands(report.left)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<10} {value}");
    }
    text.push('\n');
    let cover = |minutes: Option<u32>| match minutes {
        Some(minutes) => format!("{}.{} h", minutes / 60, minutes % 60 / 6),
        None => "-".to_owned(),
    };
    let rows: Vec<Vec<String>> = report
        .lines
        .iter()
        .map(|line| {
            vec![
                line.variety.clone(),
                line.node.clone(),
                thousands(line.sold),
                thousands(line.stock_outs),
                thousands(line.received),
                thousands(line.recalled),
                format!("{:.1} %", 100.0 * line.in_band_share()),
                format!("{:.1} h", line.below_h),
                format!("{:.1} h", line.above_h),
                cover(line.least_cover_min),
                thousands(line.left),
            ]
        })
        .collect();
    let headings = [
        "variety",
        "node",
        ">sold",
        ">stock-outs",
        ">received",
        ">recalled",
        ">in band",
        ">below",
        ">above",
        ">least cover",
        ">left",
    ];
    text.push_str(&table(&headings, &rows));
    text.push('\n');
    text
}

/// Every move and order, in order, with its reason.
fn moves_text(report: &Report, json: bool) -> String {
    let mut lines: Vec<(i64, String)> = Vec::new();
    for moved in &report.moves {
        let Move { minute, kind, variety, node, pins, reason } = moved;
        let line = if json {
            serde_json::to_string(moved).expect("a move has a JSON form")
        } else {
            let way = match kind {
                MoveKind::Down => format!("hub → {node}"),
                MoveKind::Back => format!("{node} → hub"),
            };
            format!("{}  {variety}  {way}  {pins} PINs: {reason}", moment(*minute))
        };
        lines.push((*minute, line));
    }
    for OrderPlaced { minute, variety, order } in &report.orders_placed {
        let line = if json {
            serde_json::json!({ "minute": minute, "kind": "order", "variety": variety, "order": order })
                .to_string()
        } else {
            format!("{}  {variety}  {order}", moment(*minute))
        };
        lines.push((*minute, line));
    }
    lines.sort_by_key(|(minute, _)| *minute);
    let mut text = String::new();
    for (_, line) in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Day, hour and minute, from day 1; what is before hour 0 as minutes before it.
fn moment(minute: i64) -> String {
    match minute {
        ..0 => format!("{minute} min"),
        _ => format!("day {} {:02}:{:02}", minute / 1440 + 1, minute / 60 % 24, minute % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_with_its_moves_and_their_reasons() {
        let trace = Trace::parse("hour,node,variety,vends\n0,north,a,60\n25,north,a,60\n").unwrap();
        let scenario = Scenario { hub_stock: 5_000, ..Scenario::default() };
        let report = simulate(&trace, &scenario);
        let moves = moves_text(&report, false);
        assert!(
            moves.starts_with(
                "-10 min  a  hub → north  100 PINs: asked for 100 PINs: it had 0 of its target 100\n"
            ),
            "{moves}"
        );
        for line in moves_text(&report, true).lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        let text = report_text(&report);
        assert!(text.contains("  sold       120\n"), "{text}");
        assert!(text.contains("  stock-outs 0; 0 filled"), "{text}");
        assert_eq!(moment(26 * 60 + 5), "day 2 02:05");
    }
}
