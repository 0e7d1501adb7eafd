//! Plays a scenario to the end of its run, or to the first promise that does not hold.

use std::panic::{AssertUnwindSafe, catch_unwind};

use convoy_scheduler::RunTime;

use crate::invariant_watch::Violation;
use crate::scenario::Scenario;
use crate::story::Story;
use crate::world::World;

/// Plays a scenario to its end.
///
/// # Errors
/// The first promise that did not hold.
pub fn play(scenario: &Scenario) -> Result<Story, Violation> {
    guarded(scenario, None)
}

/// As [`play`], and adds a line to `trace` for everything that happens.
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
