//! The whole network on virtual time, from many seeds.

use engine::sim::{Options, Summary, run};

#[test]
fn no_law_breaks_in_any_of_many_simulated_networks() {
    let seeds = std::env::var("PINWHEEL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let first = std::env::var("PINWHEEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut total = Summary::default();
    for seed in first..first + seeds {
        println!("seed {seed}");
        let workers = 1 + (seed % 3) as usize;
        // Few terminals leave their windows behind, many compete for what is left.
        let terminals = if seed % 2 == 0 { 4 } else { 12 };
        let nodes = 2 + (seed % 2) as u32;
        let summary = run(Options { seed, steps: 40_000, terminals, nodes, workers });
        total.sold += summary.sold;
        total.node_kills += summary.node_kills;
        total.node_power_losses += summary.node_power_losses;
        total.hub_kills += summary.hub_kills;
        total.cuts += summary.cuts;
        total.wipes += summary.wipes;
        total.rekeys += summary.rekeys;
        total.full_disks += summary.full_disks;
        total.drains += summary.drains;
        total.returned += summary.returned;
        total.audits += summary.audits;
        total.replies_checked += summary.replies_checked;
    }
    println!("{total:?}");
    assert!(total.sold > 100 * seeds, "the simulated terminals must sell: {total:?}");
    assert!(total.drains > seeds && total.returned > 20 * seeds && total.audits > seeds, "{total:?}");
    assert!(
        total.node_kills > seeds && total.node_power_losses > seeds && total.hub_kills > seeds,
        "{total:?}"
    );
}
