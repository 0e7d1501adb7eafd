//! Plays a scenario, and says what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use convoy_scheduler::{Micros, Outcome, RunTime, StepId};

use crate::scenario::Scenario;
use crate::watch::Violation;
use crate::world::World;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// How it ended.
    pub outcome: Outcome,
    /// Its last parameters.
    pub committed: StepId,
    /// Steps that were committed, those that were computed again included.
    pub commits: u64,
    /// Starts of the coordinator.
    pub starts: u64,
    /// Leases that were overdue.
    pub overdue: u64,
    /// Copies of leases that were revoked since another was first.
    pub copies: u64,
    /// Events that changed nothing.
    pub ignored: u64,
    /// Faults, by [`Fault`].
    pub faults: Vec<u64>,
    /// Virtual time from the last fault to the end.
    pub after_storm: Micros,
    /// A digest of every effect of every start, in order.
    pub effects: u64,
}

/// Plays a scenario to its end.
///
/// # Errors
/// The first promise that did not hold.
pub fn play(scenario: &Scenario) -> Result<Story, Violation> {
    guarded(scenario, None)
}

/// As [`play`], and adds a line to `trace` for all that happens.
///
/// # Errors
/// The first promise that did not hold.
pub fn play_traced(scenario: &Scenario, trace: &mut Vec<String>) -> Result<Story, Violation> {
    guarded(scenario, Some(trace))
}

/// An assertion of the scheduler that fails is a violation like any other.
fn guarded(scenario: &Scenario, trace: Option<&mut Vec<String>>) -> Result<Story, Violation> {
    catch_unwind(AssertUnwindSafe(|| World::new(scenario, trace).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Err(Violation { invariant: "assertion", at: RunTime(0), what })
    })
}
