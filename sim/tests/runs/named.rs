//! Named scenarios: what was found once, and what a reviewer asked for.

use std::collections::BTreeMap;

use convoy_scheduler::{Micros, Outcome};
use convoy_sim::{Fault, Scenario, play_traced};

use crate::holds;

/// The journal believes the later commit, and so does the world: the earlier one is known to nobody any more.
#[test]
fn a_commit_that_a_crash_took_along_may_come_back_without_the_lie_in_it() {
    let changed = (0..100).filter(|seed| {
        let mut trace = Vec::new();
        let scenario = Scenario::lost_lies(*seed);
        play_traced(&scenario, &mut trace).unwrap_or_else(|violation| panic!("{scenario}\n{violation}"));
        let commits = trace.iter().filter_map(|line| line.split_once("    commit step ")?.1.split_once(": "));
        let mut digests = BTreeMap::new();
        commits.into_iter().any(|(step, digest)| digests.insert(step, digest).is_some_and(|before| before != digest))
    });
    let changed = changed.count();
    assert!(changed >= 3, "{changed} commits came back with another digest");
}

/// One that works a twentieth of the time is no help; it must not be a hindrance either.
#[test]
fn a_worker_that_sleeps_most_of_the_time_costs_the_others_a_tenth_at_most() {
    let times: Vec<(u64, u64)> = (0..12)
        .map(|seed| {
            let with = Scenario::pulses(seed, 2);
            let without = Scenario { pulsing: 0, workers: 2, ..with.clone() };
            (holds(&without).took.0, holds(&with).took.0)
        })
        .collect();
    let (alone, beside) = times.iter().fold((0, 0), |sums, times| (sums.0 + times.0, sums.1 + times.1));
    assert!(beside * 10 <= alone * 11, "{beside} us beside it, {alone} us without it: {times:?}");
}

/// Whether it is late each time, or just not.
#[test]
fn a_worker_that_sends_slowly_costs_the_others_a_tenth_at_most() {
    for takes in [Micros::seconds(60), Micros::millis(1900), Micros::millis(400)] {
        let times: Vec<(u64, u64)> = (0..12)
            .map(|seed| {
                let with = Scenario::dawdles(seed, 3, takes);
                let without = Scenario { dawdle: None, workers: 3, ..with.clone() };
                (holds(&without).took.0, holds(&with).took.0)
            })
            .collect();
        let (alone, beside) = times.iter().fold((0, 0), |sums, times| (sums.0 + times.0, sums.1 + times.1));
        assert!(beside * 10 <= alone * 11, "{takes}: {beside} us beside it, {alone} us without it: {times:?}");
    }
}

#[test]
fn a_node_of_which_all_workers_die_ends_the_run() {
    for seed in 0..40 {
        let story = holds(&Scenario::poisoned(seed));
        assert!(matches!(story.outcome, Outcome::HoldersDied { .. }), "seed {seed}: {}", story.outcome);
    }
}

#[test]
fn workers_that_are_all_lost_at_once_come_back_and_go_on() {
    let story = holds(&Scenario::herd(0, 200));
    assert!(story.faults[Fault::Exodus as usize] > 0, "they were never lost");
}

#[test]
fn a_thousand_workers_come_back_to_a_coordinator_that_was_killed() {
    let story = holds(&Scenario::restart(0, 1000));
    assert_eq!((story.starts, &story.outcome), (2, &Outcome::Completed));
}

/// Half of the machines send half nodes, with lies in them, and come back at once. In each of 200 steps they could.
#[test]
fn who_sends_half_nodes_and_dies_spoils_few_steps() {
    let spoilt: Vec<u64> = (0..6).map(|seed| holds(&Scenario::halves(seed)).contradictions).collect();
    assert!(spoilt.iter().sum::<u64>() > 6 && spoilt.iter().all(|spoilt| *spoilt <= 24), "{spoilt:?}");
}

#[test]
fn owners_that_hang_lose_their_chunks_and_the_run_goes_on() {
    let mut moved = [0; 3];
    for seed in 0..40 {
        let story = holds(&Scenario::deaf(seed));
        moved.iter_mut().zip(story.moved).for_each(|(sum, moved)| *sum += moved);
    }
    let [_, unreached, late] = moved;
    assert!(unreached > 10 && late > 10, "{unreached} were not reached, {late} were late");
}

/// They always take something, so nobody finds that they take nothing.
#[test]
fn owners_that_take_at_a_trickle_lose_their_chunks() {
    let stories: Vec<_> = (0..20).map(|seed| holds(&Scenario::trickling(seed))).collect();
    let unreached: u64 = stories.iter().map(|story| story.moved[1]).sum();
    let longest = stories.iter().map(|story| story.took.0 / 1_000_000).max();
    assert!(unreached > 10 && longest < Some(240), "{unreached} times; the longest run took {longest:?} s");
}

#[test]
fn parameters_that_others_hand_out_wrongly_are_not_computed_with() {
    let wrong: u64 = (0..20)
        .map(|seed| holds(&Scenario::sliced_liars(seed, Fault::Misserve)).faults[Fault::Misserve as usize])
        .sum();
    assert!(wrong > 20, "{wrong} times");
}

/// They compute wrongly or not, add wrongly, say that others have brought them something else, and do not answer.
#[test]
fn owners_that_lie_are_found_out() {
    let (mut equal, mut wrong, mut disagreements, mut outvoted) = (0, 0, 0, 0);
    for seed in 0..60 {
        let story = holds(&Scenario::lying_owners(seed));
        equal += story.audited_sums;
        wrong += story.wrong_sums;
        disagreements += story.disagreements;
        outvoted += story.outvoted;
    }
    assert!(
        equal > 300 && wrong > 5 && disagreements > 40 && outvoted > 0,
        "{equal} {wrong} {disagreements} {outvoted}"
    );
}

/// Who is accused by one that lies owns nothing any more, and who accuses many is evicted.
#[test]
fn who_accuses_others_harms_itself() {
    for how in [Fault::Accuse, Fault::Missend, Fault::Misreport] {
        let stories: Vec<_> = (0..20).map(|seed| holds(&Scenario::sliced_liars(seed, how))).collect();
        let times: u64 = stories.iter().map(|story| story.faults[how as usize]).sum();
        let sliced: u64 = stories.iter().map(|story| story.sliced).sum();
        assert!(times > 20 && sliced > 20, "{} {times} times; owners in {sliced} steps", how.name());
    }
}

/// Each pair but these reaches each other, so the first and the third own chunks; or nobody reaches the second. Before
/// the last has joined, it may be another two, or nobody.
#[test]
fn who_is_not_reached_by_all_owns_nothing_and_computes() {
    for parted in [vec![(0, 1)], vec![(0, 1), (2, 1)]] {
        for seed in 0..10 {
            let scenario = Scenario { parted: parted.clone(), ..Scenario::peers(seed, 3) };
            let story = holds(&scenario);
            let steps = scenario.plan.last_parameters().0;
            assert!(story.sliced * 2 >= steps && story.moved.iter().sum::<u64>() <= 1, "seed {seed}: {story:?}");
        }
    }
}

/// As soon as all of them are there, which is in the first half.
#[test]
fn workers_of_which_each_misses_one_are_a_star() {
    for seed in 0..10 {
        let parted = vec![(0, 1), (1, 2), (2, 0)];
        let story = holds(&Scenario { parted, ..Scenario::peers(seed, 3) });
        assert!(story.sliced <= 15 && story.moved.iter().sum::<u64>() <= 1, "seed {seed}: {story:?}");
    }
}

#[test]
fn liars_that_send_twice_or_half_are_no_worse_than_others() {
    for how in [Fault::Twice, Fault::Half, Fault::Otherwise] {
        let times: u64 = (0..20).map(|seed| holds(&Scenario::liars(seed, how)).faults[how as usize]).sum();
        assert!(times > 20, "{} {times} times", how.name());
    }
}
