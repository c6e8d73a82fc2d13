//! The policy over a demand trace, in virtual time: so that a change of policy can be judged before it ships.
//!
//! Steps of one minute. In each, stock that was on its way arrives; terminals buy; nodes below their low marks ask; the hub
//! decides about each variety as [`super::allocate`] says, and orders as [`super::reorder`] says. The same input gives the same
//! result, to the PIN.

mod report;
mod run;
mod scenario;
mod stock;
mod trace;

pub use report::{Line, Move, MoveKind, OrderPlaced, Report};
pub use run::simulate;
pub use scenario::{NodeSetting, Scenario, ScenarioError};
pub use trace::{Problem, Trace, TraceError, Vends};

#[cfg(test)]
mod tests;
