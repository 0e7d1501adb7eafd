//! The first seeds, as `cargo run --release -p convoy-sim -- --seeds 3000` plays them.

use std::collections::BTreeMap;

use convoy_sim::{Fault, Scenario, Shape, Story, play_traced};
use parking_lot::Mutex;

use crate::holds;

/// How many seeds are played, and by how many threads.
const SEEDS: u64 = 3000;
const THREADS: u64 = 2;

/// Sums over the stories of many runs.
#[derive(Default)]
struct Sums {
    faults: BTreeMap<Fault, u64>,
    restarts: u64,
    overdue: u64,
    copies: u64,
    ignored: u64,
    contradictions: u64,
    sliced: u64,
    moved: [u64; 3],
    audits: [u64; 4],
}

impl Sums {
    fn add(&mut self, story: &Story) {
        Fault::ALL.iter().for_each(|fault| *self.faults.entry(*fault).or_default() += story.faults[*fault as usize]);
        self.restarts += story.starts - 1;
        self.overdue += story.overdue;
        self.copies += story.copies;
        self.ignored += story.ignored;
        self.contradictions += story.contradictions;
        self.sliced += story.sliced;
        let audits = [story.audited_sums, story.wrong_sums, story.disagreements, story.outvoted];
        self.audits.iter_mut().zip(audits).for_each(|(sum, audits)| *sum += audits);
        self.moved.iter_mut().zip(story.moved).for_each(|(sum, moved)| *sum += moved);
    }
}

/// A world without faults would pass everything, so they are counted.
#[test]
fn every_promise_holds_and_every_fault_strikes() {
    let sums = Mutex::new(Sums::default());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let seeds = (thread..SEEDS).step_by(THREADS as usize);
            let play = |seed| sums.lock().add(&holds(&Scenario::drawn(seed, Shape::default())));
            scope.spawn(move || seeds.for_each(play));
        }
    });
    let Sums { faults, restarts, overdue, copies, ignored, contradictions, sliced, moved, audits } = sums.into_inner();
    let rare: Vec<(Fault, u64)> = faults.into_iter().filter(|(_, times)| *times < 50).collect();
    assert_eq!(rare, [], "faults that hardly strike");
    assert!(
        restarts > 1500 && overdue > 375 && copies > 3750 && ignored > 7500 && contradictions > 25,
        "{restarts} {overdue} {copies} {ignored} {contradictions}"
    );
    let [equal, wrong, disagreements, outvoted] = audits;
    assert!(equal > 5000 && wrong > 25 && disagreements > 100 && outvoted > 10, "{audits:?}");
    assert!(sliced > 20_000 && moved.iter().all(|moved| *moved > 50), "{sliced} {moved:?}");
}

#[test]
fn a_replay_goes_as_the_run_went() {
    let scenario = Scenario::drawn(8731, Shape::default());
    let mut traces = [Vec::new(), Vec::new()];
    let stories = traces.each_mut().map(|trace| play_traced(&scenario, trace));
    assert_eq!(stories[0], Ok(holds(&scenario)));
    assert_eq!(stories[0], stories[1]);
    assert_eq!(traces[0], traces[1]);
    assert!(traces[0].iter().any(|line| line.contains("commit step 39")), "the trace shows every commit");
}
