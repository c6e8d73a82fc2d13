//! A run from outside: whether every law held, and if not, which and where.

use super::broken::{Broken, Concerned};
use super::plan::Plan;
use super::trace::{Event, Trace};
use super::world::World;
use crate::ids::PinId;
use crate::planted;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What happened in a run in which every law held.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Steps, until everything was at rest.
    pub steps: u64,
    /// Sales that terminals heard of.
    pub sold: u64,
    /// Processes that ended and were started again.
    pub crashes: u64,
    /// Faults of all kinds.
    pub faults: u64,
}

/// A run in which a law was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub plan: Plan,
    /// In which step.
    pub step: u64,
    /// How many faults had begun by then.
    pub faults: u64,
    /// The law; 0: the engine stopped by itself, which no law allows.
    pub law: u8,
    /// What happened.
    pub what: String,
    /// The PINs concerned.
    pub pins: Vec<PinId>,
    /// The sequences concerned, as terminal and number.
    pub sequences: Vec<(u64, u64)>,
}

/// Lets a run happen.
///
/// # Errors
/// [`Failure`]: a law was broken, or the engine stopped. The same plan gives the same one.
pub fn attempt(plan: &Plan, trace: &mut Trace) -> Result<Summary, Box<Failure>> {
    silence_panics();
    planted::plant(plan.planted);
    IS_RUNNING.set(true);
    let run = catch_unwind(AssertUnwindSafe(|| run(plan, trace)));
    IS_RUNNING.set(false);
    planted::plant(None);
    run.map_err(|thrown| {
        let broken = match thrown.downcast::<Broken>() {
            Ok(broken) => *broken,
            Err(_) => {
                let what = LAST_PANIC.take();
                Broken { law: 0, what, concerned: Concerned::default() }
            }
        };
        let Broken { law, what, concerned: Concerned { pins, sequences } } = broken;
        let sequences = sequences.iter().map(|s| (s.vend.terminal.0, s.vend.sequence)).collect();
        let (step, faults) = (trace.step(), trace.faults);
        Box::new(Failure { plan: plan.clone(), step, faults, law, what, pins, sequences })
    })
}

fn run(plan: &Plan, trace: &mut Trace) -> Summary {
    let mut world = World::new(plan, trace);
    while world.step < plan.steps {
        world.step_with_faults();
        if world.step.is_multiple_of(STEPS_PER_CHECK) {
            world.check_places();
        }
    }
    world.come_to_rest();
    let World { step, crashes, faults, oracle, .. } = world;
    Summary { steps: step, sold: oracle.sold, crashes, faults }
}

impl Failure {
    /// Lets the run happen once more and shows what led to its end: the events about what is concerned, and the last ones.
    ///
    /// # Errors
    /// The writer's.
    pub fn explain(&self, into: &mut impl std::io::Write) -> std::io::Result<()> {
        let mut trace = Trace::new(true);
        let again = attempt(&self.plan, &mut trace);
        writeln!(into, "{self}")?;
        if !again.is_err_and(|failure| (failure.step, &failure.what) == (self.step, &self.what)) {
            return writeln!(into, "IT DID NOT HAPPEN AGAIN: the run depends on something but its plan");
        }
        let is_concerned = |event: &&Event| {
            event.is_about(&self.pins) || self.sequences.iter().any(|(t, s)| event.is_of(*t, *s))
        };
        let concerned: Vec<_> = trace.events().iter().filter(is_concerned).collect();
        writeln!(into, "events about what is concerned:")?;
        for event in &concerned[concerned.len().saturating_sub(CONCERNED_MAX)..] {
            writeln!(into, "{}", cut(&event.to_string()))?;
        }
        writeln!(into, "the last events:")?;
        let events = trace.events();
        for event in &events[events.len().saturating_sub(LAST_MAX)..] {
            writeln!(into, "{}", cut(&event.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, step, law, what, pins, .. } = self;
        match law {
            0 => write!(f, "THE ENGINE STOPPED in step {step}: {what}")?,
            law => write!(f, "LAW {law} IS BROKEN in step {step}: {what}")?,
        }
        for pin in pins {
            write!(f, "\nPIN {:#x} of block {:#x}", pin.index(), pin.block().0)?;
        }
        write!(f, "\nagain: simulate {plan}\nsmaller: simulate {plan} --shrink")
    }
}

/// A line that a person can read.
fn cut(line: &str) -> String {
    let cut: String = line.chars().take(LINE_MAX).collect();
    if cut.len() < line.len() { cut + "…" } else { cut }
}

thread_local! {
    static IS_RUNNING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// While a run is going on in a thread, a panic there is no news for the terminal but what the run ends with.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_RUNNING.get() {
                LAST_PANIC.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
}

const STEPS_PER_CHECK: u64 = 1_000;
const CONCERNED_MAX: usize = 60;
const LAST_MAX: usize = 40;
const LINE_MAX: usize = 200;
