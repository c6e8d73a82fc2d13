//! Makes a run that breaks a law smaller.

use super::failure::{Failure, attempt};
use super::plan::Plan;
use super::trace::Trace;
use std::collections::BTreeSet;

/// A smaller run that breaks the same law: fewer steps, fewer faults, fewer nodes and terminals. `say` hears of each success;
/// at most `runs_max` runs are tried.
pub fn shrink(failure: Failure, runs_max: u32, mut say: impl FnMut(&Failure)) -> Failure {
    let mut search = Search { best: failure, runs_left: runs_max, say: &mut say };
    search.cut_steps();
    search.fewer_kinds();
    search.smaller_network();
    search.fewer_faults();
    search.cut_steps();
    search.best
}

struct Search<'a> {
    best: Failure,
    runs_left: u32,
    say: &'a mut dyn FnMut(&Failure),
}

impl Search<'_> {
    /// Takes a plan if it breaks the same law.
    fn takes(&mut self, plan: &Plan) -> bool {
        if self.runs_left == 0 || *plan == self.best.plan {
            return false;
        }
        self.runs_left -= 1;
        match attempt(plan, &mut Trace::default()) {
            Err(failure) if failure.law == self.best.law => {
                self.best = *failure;
                (self.say)(&self.best);
                true
            }
            _ => false,
        }
    }

    /// Other networks are other runs: a few seeds are tried with each.
    fn takes_with_any_seed(&mut self, plan: &Plan) -> bool {
        self.takes(plan)
            || (1..SEEDS_TRIED).any(|other| {
                let seed = plan.seed.wrapping_add(other);
                self.takes(&Plan { seed, ..plan.clone() })
            })
    }

    /// Nothing after the end matters; and if it ended when everything came to rest, less may do as well.
    fn cut_steps(&mut self) {
        let steps = self.best.step.min(self.best.plan.steps);
        self.takes(&Plan { steps, ..self.best.plan.clone() });
        let mut cut = self.best.plan.steps / 2;
        while cut > 0 {
            let steps = self.best.plan.steps.saturating_sub(cut);
            if !self.takes(&Plan { steps, ..self.best.plan.clone() }) {
                cut /= 2;
            }
            cut = cut.min(self.best.plan.steps);
        }
    }

    fn fewer_kinds(&mut self) {
        let kinds = self.best.plan.kinds.iter().collect();
        self.leave_out(kinds, |plan, kinds| Plan { kinds: kinds.iter().copied().collect(), ..plan.clone() });
    }

    fn smaller_network(&mut self) {
        for smaller in [
            |plan: &Plan| Plan { caches: plan.caches.saturating_sub(1), ..plan.clone() },
            |plan: &Plan| Plan { servers: plan.servers.saturating_sub(1).max(1), ..plan.clone() },
            |plan: &Plan| Plan { relays: plan.relays.saturating_sub(1), ..plan.clone() },
            |plan: &Plan| Plan { bulk: false, ..plan.clone() },
            |plan: &Plan| Plan { workers: 1, ..plan.clone() },
            |plan: &Plan| Plan { terminals: plan.terminals.div_ceil(2), ..plan.clone() },
            |plan: &Plan| Plan { stock: (plan.stock / 2).max(1), ..plan.clone() },
        ] {
            while self.takes_with_any_seed(&smaller(&self.best.plan)) {
                self.cut_steps();
            }
        }
    }

    fn fewer_faults(&mut self) {
        let all = || (1..=self.best.faults).collect::<BTreeSet<u64>>();
        let faults = self.best.plan.only.clone().unwrap_or_else(all).into_iter().collect();
        self.leave_out(faults, |plan, faults| Plan {
            only: Some(faults.iter().copied().collect()),
            ..plan.clone()
        });
    }

    /// Leaves out of a list what it can do without: all of it, else by halves, by quarters, and one by one at last.
    fn leave_out<T: Copy>(&mut self, mut left: Vec<T>, plan: impl Fn(&Plan, &[T]) -> Plan) {
        let mut chunk = left.len();
        while chunk > 0 && self.runs_left > 0 {
            let mut at = 0;
            while at < left.len() {
                let end = (at + chunk).min(left.len());
                let rest = [&left[..at], &left[end..]].concat();
                let smaller = plan(&self.best.plan, &rest);
                if self.takes(&smaller) {
                    left = rest;
                } else {
                    at = end;
                }
            }
            chunk /= 2;
        }
    }
}

const SEEDS_TRIED: u64 = 6;
