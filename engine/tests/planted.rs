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
fn a_run_that_shows_a_mistake_is_made_smaller_and_still_shows_it() {
    for fault in [Fault::TwoClaimants, Fault::ForgetWindows, Fault::SellVoided] {
        let failure = catch(fault).expect("it is caught");
        let (law, plan) = (failure.law, failure.plan.clone());
        let smaller = shrink(*failure, 60, |_| ());
        let told = format!("{fault}: {} after {plan}", smaller.plan);
        let kinds = |plan: &Plan| plan.kinds.iter().count();
        assert!(smaller.law == law && smaller.plan.steps < plan.steps, "{told}");
        assert!(kinds(&smaller.plan) * 2 < kinds(&plan), "{told}");
        assert_eq!(smaller.plan.planted, Some(fault), "{told}");
        let again = attempt(&smaller.plan, &mut Trace::default()).expect_err("it fails again");
        assert_eq!((again.step, again.what), (smaller.step, smaller.what), "{told}");
        // And it is the mistake that the smaller run shows.
        let right = Plan { planted: None, ..smaller.plan };
        assert!(attempt(&right, &mut Trace::default()).is_ok(), "{told}");
    }
}

/// The first of three hundred runs that a mistake breaks.
fn catch(fault: Fault) -> Option<Box<Failure>> {
    let plan = |seed| Plan { planted: Some(fault), ..Plan::of(seed) };
    (1..=300).find_map(|seed| attempt(&plan(seed), &mut Trace::default()).err())
}
