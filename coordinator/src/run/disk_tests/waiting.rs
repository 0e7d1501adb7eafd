//! Disks that are full or slow: what waits for them, and what does not.

use std::time::Duration;

use convoy_common::durable::Act;
use convoy_common::durable::faults::{Fault, FaultPlan, Faults};
use tokio::sync::{mpsc, oneshot, watch};

use super::{SPEC, STEPS, carry_ready, place, ready};
use crate::run::error::RunError;
use crate::run::status::Status;

const PATIENCE: Duration = Duration::from_secs(60);

/// A run whose disk is full from the first record on.
fn full(place: &tempfile::TempDir) -> (super::Ready, std::sync::Arc<Faults>) {
    let ready = ready(&place.path().join("run"), SPEC).unwrap();
    // The journal is opened first: made, synced, and its folder.
    let plan = FaultPlan { point: 7, fault: Fault::Full, lasting: true };
    (ready, Faults::in_folder(place.path(), Some(plan)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_why_a_run_waits_and_that_it_goes_on() {
    let place = place();
    let (ready, faults) = full(&place);
    let (status, mut shown) = watch::channel(Status::default());
    let run = carry_ready(ready, (status, mpsc::unbounded_channel().0), std::future::pending());
    let run = tokio::spawn(run);
    let waits = shown.wait_for(|status| status.held_up.is_some());
    let status = tokio::time::timeout(PATIENCE, waits).await.expect("it does not wait").unwrap().clone();
    let reason = status.held_up.unwrap();
    assert!(reason.contains("the disk is full: ") && reason.contains("MiB free at /"), "{reason}");
    assert_eq!(status.step, 0);
    faults.heal();
    let report = tokio::time::timeout(PATIENCE, run).await.expect("it does not go on").unwrap().unwrap();
    assert_eq!(report.steps, STEPS);
    assert_eq!(shown.borrow().held_up, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_on_a_full_disk_can_be_stopped() {
    let place = place();
    let (ready, _faults) = full(&place);
    let (status, mut shown) = watch::channel(Status::default());
    let (ask, asked) = oneshot::channel();
    let stop = async move { _ = asked.await };
    let run = tokio::spawn(carry_ready(ready, (status, mpsc::unbounded_channel().0), stop));
    tokio::time::timeout(PATIENCE, shown.wait_for(|status| status.held_up.is_some())).await.unwrap().unwrap();
    ask.send(()).unwrap();
    let ended = tokio::time::timeout(PATIENCE, run).await.expect("it does not stop").unwrap();
    let error = ended.expect_err("it cannot save");
    assert!(matches!(error, RunError::Unsaved(_)) && error.is_unsaved(), "{error}");
    assert!(error.to_string().contains("convoy resume"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_step_waits_for_a_checkpoint() {
    let place = place();
    let long = SPEC.replace("epochs = 2", "epochs = 40").replace("keep = 2", "keep = 2\nevery_steps = 1");
    let ready = ready(&place.path().join("run"), &long).unwrap();
    let faults = Faults::in_folder(place.path(), None);
    faults.hold(Act::Sync, "step-");
    let (status, mut shown) = watch::channel(Status::default());
    let run = tokio::spawn(carry_ready(ready, (status, mpsc::unbounded_channel().0), std::future::pending()));
    let all = shown.wait_for(|status| status.step == 2 * 40);
    tokio::time::timeout(PATIENCE, all).await.expect("a step waits for a disk").unwrap();
    assert!(faults.waiting() > 0 && !run.is_finished(), "the first checkpoint is still being written");
    faults.release();
    tokio::time::timeout(PATIENCE, run).await.expect("it does not end").unwrap().unwrap();
}
