//! The result as one self-contained page: no script, nothing to load.

mod charts;

use crate::outcome::{Outcome, Verdict};
use crate::summary::{duration, grouped, load_words, own_words};
use std::fmt::Write as _;

/// The whole page.
#[must_use]
pub(crate) fn page(outcome: &Outcome) -> String {
    let mut page = String::with_capacity(64 << 10);
    let title = format!("Pinwheel load: {} sold a second", grouped(outcome.rate().round() as u64));
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style></head>\n<body><main>\n",
        title = escaped(&title)
    );
    head(outcome, &mut page);
    figures(outcome, &mut page);
    chart("Sold per second", &charts::throughput(outcome), &mut page);
    chart("Latency over time", &charts::latency(outcome), &mut page);
    chart("Latency by percentile", &charts::percentiles(outcome), &mut page);
    tables(outcome, &mut page);
    page += "</main></body></html>\n";
    page
}

fn head(outcome: &Outcome, page: &mut String) {
    let word = outcome.verdict.word();
    let _ = write!(
        page,
        "<header><h1>Pinwheel load run</h1><p class=\"sub\">{} · {}</p></header>\n\
         <section class=\"verdict {word}\"><strong>{}</strong><span>{}</span>",
        utc(outcome.environment.began_unix_s),
        escaped(&load_words(outcome)),
        match outcome.verdict {
            Verdict::Valid => "Valid",
            Verdict::Invalid(_) => "Invalid",
            Verdict::Violated => "Correctness violated",
        },
        escaped(&outcome.comparison()),
    );
    let mut whys: Vec<&String> = outcome.findings.examples.iter().collect();
    if let Verdict::Invalid(why) = &outcome.verdict {
        whys.extend(why);
    }
    if !whys.is_empty() {
        *page += "<ul>";
        for why in whys {
            let _ = write!(page, "<li>{}</li>", escaped(why));
        }
        *page += "</ul>";
    }
    *page += "</section>\n";
}

fn figures(outcome: &Outcome, page: &mut String) {
    let at = |quantile| duration(outcome.latency.value_at_quantile(quantile));
    let (twice, lost) = outcome.twice_and_lost();
    let figures = [
        ("sold a second", grouped(outcome.rate().round() as u64)),
        ("sold", grouped(outcome.sold_in_time)),
        ("p50", at(0.5)),
        ("p99", at(0.99)),
        ("p99.9", at(0.999)),
        ("longest gap", duration(outcome.longest_gap_ns)),
        ("sold twice", grouped(twice)),
        ("lost", grouped(lost)),
    ];
    *page += "<section class=\"figures\">";
    for (name, value) in figures {
        let _ = write!(page, "<div><b>{}</b><span>{name}</span></div>", escaped(&value));
    }
    *page += "</section>\n";
}

fn chart(title: &str, svg: &str, page: &mut String) {
    let _ = writeln!(page, "<section><h2>{title}</h2><figure>{svg}</figure></section>");
}

fn tables(outcome: &Outcome, page: &mut String) {
    let counts = &outcome.counts;
    let mut rows = vec![
        ("Sales begun", grouped(counts.begun)),
        ("Sold", grouped(counts.sold)),
        ("Later", counts.later.to_string()),
        ("Declined", counts.declined.to_string()),
        ("Refused", counts.refused.to_string()),
        ("No answer in time", grouped(counts.timeouts)),
        ("Connections lost", counts.connections_lost.to_string()),
        ("Attempts to connect failed", counts.connects_failed.to_string()),
        ("Questions repeated", grouped(counts.repeats)),
        ("Sales of an earlier run resumed", grouped(counts.resumed)),
        ("Sales rechecked with the seller", grouped(counts.rechecked)),
        ("Outcome not known", grouped(outcome.unresolved)),
    ];
    if let Some(compared) = &outcome.reconciled.compared {
        rows.push(("Receipts that the books agree with", grouped(compared.agreed)));
        rows.push(("Sales to others in the books", grouped(compared.others)));
    }
    table("What happened", &rows, page);
    rows.clear();
    let env = &outcome.environment;
    let load = &outcome.load;
    rows.push(("Target", load.target.clone()));
    rows.push(("Terminals, window", format!("{}, {}", grouped(load.terminals as u64), load.window)));
    rows.push((
        "Pace",
        match load.rate {
            None => "closed loop".to_owned(),
            Some(rate) if load.poisson => format!("open loop, {rate} a second, Poisson"),
            Some(rate) => format!("open loop, {rate} a second, evenly"),
        },
    ));
    rows.push(("Duration", format!("{} s", load.duration_s)));
    rows.push((
        "Protection",
        if load.sealed { format!("sealed, {}", load.suite) } else { "clear".to_owned() },
    ));
    rows.push(("Varieties", load.varieties.to_string()));
    rows.push(("Load generator", own_words(outcome)));
    if let Some((p50, p99, most)) = outcome.own.lateness_us {
        rows.push(("Its lateness", format!("p50 {p50} µs, p99 {p99} µs, most {most} µs")));
    }
    table("Load", &rows, page);
    rows.clear();
    rows.push(("Processor", format!("{}, {} cores", env.cpu, env.cores)));
    rows.push(("Memory", format!("{} MiB", grouped(env.memory_mib))));
    rows.push(("Kernel", env.kernel.clone()));
    rows.push(("File system", format!("{} ({})", env.file_system, env.folder)));
    rows.push((
        "One sync there",
        env.sync_us.map_or_else(
            || "not measured".to_owned(),
            |(p50, p99)| format!("p50 {p50} µs, p99 {p99} µs (4 KiB appended)"),
        ),
    ));
    rows.push(("Open files", grouped(env.open_files_max)));
    let build = if env.optimised { "optimised" } else { "not optimised" };
    rows.push(("loadgen", format!("{}, {build}", env.version)));
    for note in &outcome.notes {
        rows.push(("Note", note.clone()));
    }
    table("Environment", &rows, page);
}

fn table(title: &str, rows: &[(&str, String)], page: &mut String) {
    let _ = write!(page, "<section><h2>{title}</h2><table>");
    for (name, value) in rows {
        let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", escaped(value));
    }
    *page += "</table></section>\n";
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Seconds since 1970 as a date and time (days to civil by Howard Hinnant).
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400 + 719_468, unix_s % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

const STYLE: &str = "\
:root{--ink:#1c2530;--soft:#5d6b7a;--line:#dde3ea;--paper:#fff;--ground:#f4f6f8}\
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
main{max-width:980px;margin:0 auto;padding:32px 20px 56px}\
h1{font-size:26px;margin:0}h2{font-size:16px;margin:0 0 10px}.sub{color:var(--soft);margin:2px 0 18px}\
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:16px 18px;margin:0 0 16px}\
.verdict{border-left:8px solid;display:flex;flex-wrap:wrap;gap:4px 18px;align-items:baseline}\
.verdict strong{font-size:19px}.verdict span{color:var(--soft)}.verdict ul{flex-basis:100%;margin:6px 0 0;padding-left:20px}\
.valid{border-left-color:#1a8f5a}.valid strong{color:#1a8f5a}\
.invalid{border-left-color:#c98a00}.invalid strong{color:#a87300}\
.violated{border-left-color:#c62f3b}.violated strong{color:#c62f3b}\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(98px,1fr));gap:14px}\
.figures div{display:flex;flex-direction:column}.figures b{font-size:20px;font-variant-numeric:tabular-nums;white-space:nowrap}\
.figures span{color:var(--soft);font-size:13px}\
figure{margin:0}figcaption{display:flex;gap:18px;color:var(--soft);font-size:13px;margin:-4px 0 4px}\
figcaption i{display:inline-block;width:20px;height:3px;margin-right:6px;vertical-align:middle}\
svg{display:block;width:100%;height:auto}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:5px 0;border-top:1px solid var(--line)}\
tr:first-child th,tr:first-child td{border-top:0}th{font-weight:500;color:var(--soft);width:250px;padding-right:16px}\
td{overflow-wrap:anywhere;font-variant-numeric:tabular-nums}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_a_date() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(utc(1_795_302_245), "2026-11-21 23:04 UTC");
    }
}
