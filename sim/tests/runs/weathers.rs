//! Any plan, of any size, in any weather.

use convoy_scheduler::*;
use convoy_sim::{Fault, Scenario, Weather};
use proptest::prelude::*;

use crate::holds;

fn weathers() -> impl Strategy<Value = Weather> {
    let chances: Vec<_> = Fault::ALL.iter().map(|_| prop_oneof![Just(0), 1u32..40]).collect();
    (0u64..20_000, chances, any::<bool>()).prop_map(|(storm_ms, chances, all_heal)| Weather {
        storm: Micros::millis(storm_ms),
        chances,
        all_heal,
    })
}

fn plans() -> impl Strategy<Value = RunPlan> {
    let sizes = (1u32..4, 1u64..12, 1u32..40, 1u32..40, 0u32..50, 1u32..9);
    let bounds = (0u64..5, 0u64..5, 1u32..4, 1u32..20);
    (sizes, bounds).prop_map(|(sizes, bounds)| {
        let (epochs, steps, full, last, evaluate_shards, chunks) = sizes;
        let (steps_between, seconds, queue_per_thread, lease_shards) = bounds;
        let (data_attempts, internal_attempts) = (100_000, 100_000);
        let limits = Limits { queue_per_thread, lease_shards, data_attempts, internal_attempts, ..Limits::default() };
        let checkpoint = CheckpointIntervals { steps: steps_between, time: Micros::seconds(seconds) };
        RunPlan { chunks, evaluate_shards, checkpoint, limits, ..RunPlan::new(epochs, steps, full, last) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_run_in_any_weather_ends_well(
        plan in plans(), weather in weathers(), seed: u64, workers in 1usize..7, doubles: bool, peers: bool,
    ) {
        holds(&Scenario { weather, doubles, peers, ..Scenario::calm(seed, plan, workers) });
    }

    #[test]
    fn nothing_is_computed_twice_in_calm_weather(
        plan in plans(), seed: u64, workers in 1usize..7, peers: bool,
    ) {
        let story = holds(&Scenario { peers, ..Scenario::calm(seed, plan.clone(), workers) });
        prop_assert_eq!((story.starts, story.overdue, story.commits), (1, 0, story.committed.0));
        prop_assert_eq!(story.moved, [0; 3]);
    }
}

/// Its first lease is the larger part of the only step, and a worker four times as fast is measured before it.
#[test]
fn a_slow_worker_is_not_late_with_its_first_lease() {
    let limits = Limits { lease_shards: 16, queue_per_thread: 1, ..Limits::default() };
    let plan = RunPlan { limits, ..RunPlan::new(1, 1, 1, 17) };
    let story = holds(&Scenario::calm(9_117_706_284_350_334_710, plan, 4));
    assert_eq!((story.overdue, story.copies), (0, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(20) })]

    #[test]
    fn the_same_scenario_tells_the_same_story(plan in plans(), weather in weathers(), seed: u64, workers in 1usize..7) {
        let scenario = Scenario { weather, ..Scenario::calm(seed, plan, workers) };
        prop_assert_eq!(holds(&scenario), holds(&scenario));
    }
}
