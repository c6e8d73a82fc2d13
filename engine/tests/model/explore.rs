//! Through all states, by stateright; and a short way to whatever is wrong.

use stateright::{Checker, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Every state is looked at: no law may be broken in any, and what should be possible is.
pub(crate) fn explore<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let checker = model
        .checker()
        .threads(THREADS)
        .finish_when(HasDiscoveries::AnyFailures)
        .timeout(TIME_MAX)
        .spawn_bfs()
        .join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, at most {depth} steps deep, {:.1} s", begun.elapsed().as_secs_f32());
    assert!(begun.elapsed() < TIME_MAX, "{name}: not all states were visited");
    checker.assert_properties();
}

/// The model can fail: with a mistake in it a law is broken. Says which, and by what steps.
pub(crate) fn find<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let laws: Vec<_> = model
        .properties()
        .iter()
        .filter(|law| law.expectation.discovery_is_failure())
        .map(|law| law.name)
        .collect();
    let checker =
        model.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut broken: Vec<_> = checker
        .discoveries()
        .into_iter()
        .filter(|(law, _)| laws.contains(law))
        .map(|(law, path)| (law, path.into_actions()))
        .collect();
    broken.sort_by_key(|(law, _)| *law);
    for (law, steps) in &broken {
        println!("{name}: not {law:?} after {steps:?}");
    }
    assert!(!broken.is_empty(), "{name} is not found among {} states", checker.unique_state_count());
}

const THREADS: usize = 2;
/// Exploring takes a fraction of that.
const TIME_MAX: Duration = Duration::from_secs(100);
