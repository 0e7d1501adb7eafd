//! Many workers in calm weather, with links of 10 Gbit/s and a gradient of 45 MB.

use std::time::Duration;

use convoy_sim::rates::{Rates, RatesPlan, StepFigures, play};

fn played(plan: &RatesPlan) -> Rates {
    play(plan, || Duration::ZERO).unwrap_or_else(|odd| panic!("{plan:?}: {odd}"))
}

/// Whether `measured` is more than a hundredth below or a tenth above `bound`, which counts all chunks as full.
fn differs(measured: u64, bound: u64) -> bool {
    measured * 100 < bound * 99 || measured * 100 > bound * 110
}

/// With the usual timeouts: bytes flow, so nobody is found late.
#[test]
fn an_exchange_takes_what_its_busiest_owner_must_send_and_take_in() {
    for (workers, owners) in [(16, 16), (64, 64), (256, 172), (1000, 172)] {
        let plan = RatesPlan { patient: false, ..RatesPlan::of_workers(workers) };
        let rates = played(&plan);
        assert_eq!(rates.owners, owners, "as many as chunks at most");
        let StepFigures { exchange, coordinator_in, coordinator_out, .. } = rates.steady();
        let bound = plan.by_chunks(owners);
        assert!(!differs(exchange, bound), "{workers} workers: {exchange} ns, not {bound} ns");
        assert!(coordinator_in <= plan.gradient / 10 * 11, "{workers} workers: {coordinator_in} bytes in");
        assert!(coordinator_out <= plan.gradient / 10, "{workers} workers: {coordinator_out} bytes out");
    }
}

/// Where there are several chunks for each owner, nothing but bytes counts.
#[test]
fn with_few_workers_or_small_chunks_links_are_never_idle() {
    let few = RatesPlan::of_workers(64);
    let small = RatesPlan { chunk: 16 * 1024, ..RatesPlan::of_workers(256) };
    for plan in [few, small] {
        let exchange = played(&plan).steady().exchange;
        assert!(
            !differs(exchange, plan.by_bytes()),
            "{} workers: {exchange} ns, not {}",
            plan.workers,
            plan.by_bytes()
        );
    }
}

#[test]
fn in_a_star_all_gradients_go_through_the_coordinator() {
    let plan = RatesPlan { star: true, ..RatesPlan::of_workers(64) };
    let rates = played(&plan);
    let StepFigures { coordinator_in, coordinator_out, exchange, .. } = rates.steady();
    let all = 64 * plan.gradient;
    assert_eq!(rates.owners, 0);
    assert!(coordinator_in >= all && coordinator_out >= all, "{coordinator_in} in, {coordinator_out} out");
    assert!(!differs(exchange, plan.by_chunks(0)), "{exchange} ns");
}

#[test]
fn equal_plans_give_equal_stories() {
    let plan = RatesPlan { threads: 4, steps: 5, ..RatesPlan::of_workers(48) };
    assert_eq!(played(&plan), played(&plan));
    let slower = RatesPlan { latency: plan.latency + 1000, ..plan.clone() };
    assert_ne!(played(&plan).story, played(&slower).story);
}
