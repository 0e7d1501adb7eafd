//! The first seeds, as `cargo run --release -p convoy-sim -- --seeds 400` plays them.

use convoy_sim::{Fault, Scenario, Shape, play_traced};

use crate::holds;

/// A world without faults would pass everything, so they are counted.
#[test]
fn every_promise_holds_and_every_fault_strikes() {
    let mut faults = vec![0; Fault::ALL.len()];
    let (mut restarts, mut overdue, mut copies, mut ignored) = (0, 0, 0, 0);
    for seed in 0..400 {
        let story = holds(&Scenario::drawn(seed, Shape::default()));
        faults.iter_mut().zip(&story.faults).for_each(|(all, of_this)| *all += of_this);
        restarts += story.starts - 1;
        overdue += story.overdue;
        copies += story.copies;
        ignored += story.ignored;
    }
    let rare: Vec<(Fault, u64)> = Fault::ALL.iter().copied().zip(faults).filter(|(_, times)| *times < 20).collect();
    assert_eq!(rare, [], "faults that hardly strike");
    assert!(
        restarts > 200 && overdue > 50 && copies > 500 && ignored > 1000,
        "{restarts} {overdue} {copies} {ignored}"
    );
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
