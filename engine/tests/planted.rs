//! Mistakes planted in the engine are found by the simulator, and the runs that show them are made smaller.

use engine::planted::Fault;
use engine::sim::{Failure, Plan, Trace, attempt, shrink};

#[test]
fn every_planted_mistake_is_caught() {
    for &fault in Fault::ALL {
        assert!(catch(fault).is_some(), "{fault} is not caught");
    }
}

#[test]
fn a_failing_run_is_made_smaller_and_still_fails() {
    let failure = catch(Fault::TwoClaimants).expect("a range with two claimants is caught");
    let (law, plan) = (failure.law, failure.plan.clone());
    let smaller = shrink(*failure, 40, |_| ());
    assert!(smaller.law == law && smaller.plan.steps < plan.steps, "{} after {plan}", smaller.plan);
    let again = attempt(&smaller.plan, &mut Trace::default()).expect_err("it fails again");
    assert_eq!((again.step, again.what), (smaller.step, smaller.what));
}

/// The first of three hundred runs that a mistake breaks.
fn catch(fault: Fault) -> Option<Box<Failure>> {
    let plan = |seed| Plan { planted: Some(fault), ..Plan::of(seed) };
    (1..=300).find_map(|seed| attempt(&plan(seed), &mut Trace::default()).err())
}
