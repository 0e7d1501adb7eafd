//! Simulated runs: many seeds, any plan in any weather, every crash point of a short run, and every mutant.

mod crash_points;
mod mutants;
mod named;
mod rates;
mod seeds;
mod weathers;

use convoy_sim::{Scenario, Story, play};

/// Plays a scenario in which every promise must hold.
fn holds(scenario: &Scenario) -> Story {
    play(scenario).unwrap_or_else(|violation| panic!("{scenario}\n{violation}"))
}
