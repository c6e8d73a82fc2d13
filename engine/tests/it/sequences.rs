//! What operators are told of every sequence, held against what tills were told.

use crate::support::command::pinwheel;
use crate::support::load::{Load, Told};
use crate::support::process::{OF, Process, SMALL_SEGMENT_BYTES};
use crate::support::scratch;
use engine::admin::{KeyRow, Reply, Request, ask};
use engine::ledger::{FactState, SequenceFact};
use std::collections::HashMap;
use std::path::Path;

/// Terminal and sequence to reference.
type Sales = HashMap<(u64, u64), u64>;

fn told_to_operators(data: &Path, since: u64) -> (Vec<SequenceFact>, u64) {
    let mut facts = Vec::new();
    let request = Request::Sequences { seller: None, name: None, since, terminals: Vec::new() };
    let reply = ask(data, &request, None, |part| match part {
        Reply::Sequences { rows } => facts.extend(rows),
        other => panic!("{other:?}"),
    });
    match reply.unwrap() {
        Reply::SequencesEnd { rows, end, .. } if rows == facts.len() as u64 => (facts, end),
        other => panic!("{other:?}, {} rows", facts.len()),
    }
}

fn sales(facts: &[SequenceFact]) -> Sales {
    let mut sales = Sales::new();
    for fact in facts.iter().filter(|fact| fact.state == FactState::Sold) {
        let earlier = sales.insert((fact.terminal, fact.sequence), fact.reference);
        assert!(earlier.is_none(), "{fact:?} is told twice");
    }
    sales
}

fn told_to_tills(keys: &[KeyRow], told: &[Told]) -> Sales {
    let each = keys.iter().zip(told).flat_map(|(key, told)| {
        told.sold.iter().map(|(sequence, (_, reference))| ((key.terminal, *sequence), *reference))
    });
    each.collect()
}

#[test]
fn every_sale_is_told_once_from_archive_and_journal_while_it_sells_and_when_nothing_runs() {
    let scratch = scratch();
    let data = scratch.path();
    let network = Process::begin_small(data, &["--low", "60000", "--target", "60000"], 60_000);
    let keys = network.add_terminals(4);
    let load = Load::start(&network, &keys, OF);
    let early =
        network.wait_for("some sales", |status| status.varieties[0].sold > 100).sellers[0].journal_durable;
    let several = 2 * SMALL_SEGMENT_BYTES;
    network.wait_for("several segments", |status| {
        // At any moment: part of it is archived, part is not.
        assert!(told_to_operators(data, early).1 >= early);
        status.sellers[0].journal_durable > several
    });
    let told = load.finish();
    let (facts, end) = told_to_operators(data, 0);
    let expected = told_to_tills(&keys, &told);
    assert!(expected.len() > 1000, "only {} sales", expected.len());
    assert!(sales(&facts) == expected, "{} sales were told of {}", sales(&facts).len(), expected.len());
    assert!(facts.iter().any(|fact| fact.state == FactState::Confirmed));
    let late = sales(&told_to_operators(data, early).0);
    assert!(late.len() < expected.len() && late.iter().all(|(vend, pin)| expected.get(vend) == Some(pin)));
    assert!(late.len() > expected.len() / 2);
    assert!(told_to_operators(data, end).0.is_empty(), "nothing comes twice");

    network.kill();
    let terminal = keys[2].terminal.to_string();
    let lines = pinwheel(data, &["sequences", "--terminal", &terminal]).ok();
    let sold = lines.lines().filter(|line| line.contains(",sold,")).count();
    assert_eq!(sold, told[2].sold.len());
    assert!(lines.lines().skip(1).all(|line| line.starts_with(&format!("{terminal},1,"))));
    let refused = pinwheel(data, &["sequences", "--since", "100"]);
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("no batch that ends at position 100"), "{}", refused.errors);
}
