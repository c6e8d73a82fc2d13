//! The whole network on virtual time, from many seeds.

use engine::sim::{Kind, Plan, Summary, Trace, attempt};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_law_breaks_in_any_of_many_simulated_networks() {
    let seeds = number("PINWHEEL_SEEDS", 60);
    let first = number("PINWHEEL_SEED", 1);
    let mut total = Summary::default();
    let mut sold_somewhere = 0;
    for seed in first..first + seeds {
        match attempt(&Plan::of(seed), &mut Trace::default()) {
            Ok(summary) => {
                assert!(summary.crashes >= 3 && summary.steps >= 10_000, "{summary:?}");
                total.sold += summary.sold;
                sold_somewhere += u64::from(summary.sold > 0);
            }
            Err(failure) => {
                let mut text = Vec::new();
                failure.explain(&mut text).expect("memory takes it");
                panic!("{}", String::from_utf8_lossy(&text));
            }
        }
    }
    println!("{total:?}");
    assert!(
        sold_somewhere == seeds && total.sold > 50 * seeds,
        "the simulated terminals must sell: {total:?}"
    );
}

#[test]
fn a_seed_gives_the_same_run_bit_for_bit() {
    for seed in [7, 8] {
        let plan = Plan { steps: 6_000, ..Plan::of(seed) };
        let mut traces = [Trace::default(), Trace::new(true)];
        let [first, second] = traces.each_mut().map(|trace| attempt(&plan, trace).expect("no law breaks"));
        assert_eq!((first, traces[0].hash()), (second, traces[1].hash()));
        assert_eq!(traces[0].counts(), traces[1].counts());
        let mut other = Trace::default();
        attempt(&Plan { seed: seed + 100, ..plan }, &mut other).expect("no law breaks");
        assert_ne!(traces[0].hash(), other.hash(), "and another seed another one");
    }
}

#[test]
fn a_plan_is_printed_with_what_makes_it_another_than_its_seed_gives() {
    let drawn = Plan::of(3);
    assert_eq!(drawn.to_string(), "--seed 3");
    let mut plan = Plan { steps: 17, terminals: 99, only: Some([2, 5].into()), ..drawn };
    plan.kinds = "kill,drain".parse().expect("there are such kinds");
    assert_eq!(plan.to_string(), "--seed 3 --steps 17 --terminals 99 --kinds kill,drain --only 2,5");
    assert!(plan.kinds.has(Kind::Drain) && !plan.kinds.has(Kind::Wipe));
}
