//! Runs in all weathers. The world itself checks every promise as it goes; here stand the weathers, and how it must end.

use convoy_scheduler::*;
use proptest::prelude::*;

use crate::world::{Story, Weather, World, oracle};

fn calm(seed: u64, processes: usize) -> Weather {
    let (kill, silence, hang, drain, crash, stop, failure, repeat, disk_full) = (0, 0, 0, 0, 0, 0, 0, 0, 0);
    Weather { seed, processes, storm_ms: 0, kill, silence, hang, drain, crash, stop, failure, repeat, disk_full }
}

fn weathers() -> impl Strategy<Value = Weather> {
    let chances = (0u32..60, 0u32..30, 0u32..30, 0u32..20, 0u32..20, 0u32..20, 0u32..200, 0u32..300, 0u32..500);
    (any::<u64>(), 1usize..7, 0u64..20_000, chances).prop_map(|(seed, processes, storm_ms, chances)| {
        let (kill, silence, hang, drain, crash, stop, failure, repeat, disk_full) = chances;
        Weather { seed, processes, storm_ms, kill, silence, hang, drain, crash, stop, failure, repeat, disk_full }
    })
}

fn plans() -> impl Strategy<Value = RunPlan> {
    let sizes = (1u32..4, 1u64..12, 1u32..40, 1u32..40, 0u32..50);
    let bounds = (0u64..5, 0u64..5, 1u32..4, 1u32..20);
    (sizes, bounds).prop_map(|((epochs, steps, full, last, evaluate_shards), bounds)| {
        let (checkpoint_every_steps, seconds, queue_per_thread, lease_shards) = bounds;
        let limits = Limits { lease_shards, data_attempts: 1000, internal_attempts: 1000, ..Limits::default() };
        let checkpoint_every = Micros::seconds(seconds);
        let plan = RunPlan::new(epochs, steps, full, last);
        RunPlan { evaluate_shards, checkpoint_every_steps, checkpoint_every, queue_per_thread, limits, ..plan }
    })
}

/// Whatever happened: it ended, and where one machine alone would have ended.
fn ended_well(plan: &RunPlan, story: &Story) {
    let last = StepId(oracle::history(plan).len() as u64 - 1);
    assert_eq!(story.committed, last);
    let complete = last == plan.last_parameters();
    assert_eq!(story.outcome, if complete { Outcome::Completed } else { Outcome::StoppedEarly });
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_run_in_any_weather_ends_well(plan in plans(), weather in weathers()) {
        let story = World::play(plan.clone(), weather);
        ended_well(&plan, &story);
    }

    #[test]
    fn nothing_is_computed_twice_in_calm_weather(plan in plans(), seed: u64, processes in 1usize..7) {
        let story = World::play(plan.clone(), calm(seed, processes));
        ended_well(&plan, &story);
        prop_assert_eq!((story.starts, story.overdue), (1, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(20) })]

    #[test]
    fn the_same_seed_tells_the_same_story(plan in plans(), weather in weathers()) {
        prop_assert_eq!(World::play(plan.clone(), weather.clone()), World::play(plan, weather));
    }
}

/// The storms must reach what they are for: a world without faults would pass everything.
#[test]
fn the_storms_are_rough() {
    let mut totals = (0, 0, 0, 0);
    let plan = RunPlan {
        evaluate_shards: 20,
        checkpoint_every_steps: 5,
        limits: Limits { data_attempts: 1000, internal_attempts: 1000, ..Limits::default() },
        ..RunPlan::new(3, 20, 16, 5)
    };
    for seed in 0..20 {
        let storm = Weather {
            storm_ms: 20_000,
            kill: 30,
            silence: 15,
            hang: 15,
            drain: 10,
            crash: 10,
            stop: 5,
            failure: 50,
            repeat: 100,
            disk_full: 200,
            ..calm(seed, 1 + seed as usize % 4)
        };
        let story = World::play(plan.clone(), storm);
        ended_well(&plan, &story);
        totals.0 += story.starts - 1;
        totals.1 += story.overdue;
        totals.2 += story.copies;
        totals.3 += story.ignored;
    }
    let (crashes, overdue, copies, ignored) = totals;
    assert!(crashes > 20 && overdue > 2 && copies > 50 && ignored > 100, "{totals:?}");
}
