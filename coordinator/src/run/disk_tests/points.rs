//! A run comes to the same end whatever happens to its disk: each fail point of a small run is enumerated, until the
//! run reaches none.

use std::path::Path;
use std::time::Duration;

use convoy_common::Digest;
use convoy_common::durable::faults::{Fault, FaultPlan, Faults};
use tokio::sync::mpsc;

use super::{STEPS, place, start, undisturbed};
use crate::run::folder::audit::{audit, read_ledger};
use crate::run::folder::events::RunEvent;

/// The newest checkpoint that people were told of.
#[derive(Default)]
struct Told {
    saved: u64,
}

impl Told {
    /// What was told of one start: it begins with no less than what was saved before.
    fn hear(&mut self, mut events: mpsc::UnboundedReceiver<RunEvent>, case: &str) {
        while let Ok(event) = events.try_recv() {
            match event {
                RunEvent::Started { step, .. } => {
                    assert!(step >= self.saved, "{case}: from {step}, not {}", self.saved)
                }
                RunEvent::Checkpoint { step, .. } => self.saved = self.saved.max(step),
                _ => {}
            }
        }
    }
}

/// Starts the run until it ends; whether the fault struck on the way.
async fn carried_through(plan: FaultPlan, expected: Digest) -> bool {
    let case = format!("{plan:?}");
    let place = place();
    let folder = place.path().join("run");
    let faults = Faults::in_folder(place.path(), Some(plan));
    let heal = tokio::spawn({
        let faults = faults.clone();
        // A full disk has room again after a while.
        async move {
            while !faults.struck() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            if matches!(plan.fault, Fault::Full | Fault::Short) {
                faults.heal();
            }
        }
    });
    let mut told = Told::default();
    for _ in 0..4 {
        let (tell, events) = mpsc::unbounded_channel();
        let ended = tokio::time::timeout(Duration::from_secs(60), start(&folder, tell)).await.expect("it hangs");
        told.hear(events, &case);
        match ended {
            Ok(digest) => {
                assert_eq!(digest, expected, "{case}");
                check_folder(&folder, &case);
                heal.abort();
                return faults.struck();
            }
            Err(error) => assert!(faults.struck(), "{case}: {error}"),
        }
        if plan.fault == Fault::PowerCut {
            faults.cut_power();
        }
        faults.heal();
    }
    panic!("{case}: it does not come to its end");
}

fn check_folder(folder: &Path, case: &str) {
    let (plan, manifest, records, bad) = read_ledger(folder).unwrap();
    let audit = audit(&plan, Vec::new(), &manifest, &records, |_| {});
    assert!(audit.exact && bad.is_none(), "{case}: {:?} {bad:?}", audit.problems);
    assert_eq!(audit.steps, STEPS, "{case}");
    let rows = std::fs::read_to_string(folder.join("metrics.csv")).unwrap().lines().count();
    assert_eq!(rows, 3, "{case}: a head and two epochs");
    convoy_model::model_dir::load(&folder.join("model")).unwrap_or_else(|error| panic!("{case}: {error}"));
}

/// Every fail point with `fault`, once and from then on.
async fn enumerate(fault: Fault) {
    let expected = undisturbed().await;
    for lasting in [false, true] {
        let mut points = 0;
        while carried_through(FaultPlan { point: points + 1, fault, lasting }, expected).await {
            points += 1;
        }
        assert!(points > 100, "{fault:?}: only {points} points");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_a_start_and_nothing_else() {
    enumerate(Fault::Eio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for() {
    enumerate(Fault::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_in_part_is_taken_back() {
    enumerate(Fault::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_goes_on() {
    enumerate(Fault::Crash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_loses_nothing_that_was_told() {
    enumerate(Fault::PowerCut).await;
}
