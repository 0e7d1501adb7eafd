use std::fs;
use std::sync::Arc;

use convoy_model::Network;
use convoy_reduce::{Flat, ParameterState};
use convoy_scheduler::{Journal, Node, RunGeneration, WorkerId};

use super::*;
use crate::fixtures::{manifest, plan};
use crate::run::folder::checkpoint;
use crate::run::folder::earlier_plans::read_earlier;
use crate::run::folder::history::History;
use crate::run::folder::journal::JournalFile;

/// A plan of `epochs` epochs of 5 steps with the rest of `[schedule]`.
fn planned(epochs: u32, schedule: &str) -> Arc<Plan> {
    plan(&format!("[train]\nepochs = {epochs}\nbatch = 8\nshard = 4\n[schedule]\n{schedule}"), 40, 0)
}

const CONSTANT: &str = "kind = \"constant\"";

/// A run that was planned as `plan` and has done so many steps.
fn run(plan: &Plan, steps: u64, more: &[Record]) -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run"), plan, &manifest(40)).unwrap();
    let (mut journal, _) = JournalFile::open(&dir.journal()).unwrap();
    journal.append(&Record::Started { generation: RunGeneration(1), first_step: StepId(0) }).unwrap();
    let ledger =
        vec![convoy_scheduler::LedgerEntry { node: Node { first: 0, last: 2 }, worker: WorkerId(1), auditor: None }];
    for step in (0..steps).map(StepId) {
        journal
            .append(&Record::StepCommitted {
                step,
                digest: [step.0 as u8; 32],
                ledger: ledger.clone(),
                owners: Vec::new(),
                audited_owners: Vec::new(),
            })
            .unwrap();
    }
    more.iter().for_each(|record| journal.append(record).unwrap());
    (folder, dir)
}

/// Why a run of `before` that has done so many steps cannot become one of `after`.
fn refused(before: &Plan, after: &Plan, steps: u64, more: &[Record]) -> String {
    let (_folder, dir) = run(before, steps, more);
    let error = dir.may_change(before, after).expect_err("it should be refused");
    let again = dir.change(before, after, &manifest(40)).expect_err("it should be refused");
    assert_eq!(error.to_string(), again.to_string());
    assert!(!dir.path().join(EARLIER_PLANS).exists());
    assert_eq!(fs::read_to_string(dir.path().join("plan.json")).unwrap(), before.to_sealed_json());
    error.to_string().replace(&dir.path().display().to_string(), "RUN")
}

#[test]
fn schedules_by_epochs_go_on() {
    for schedule in [CONSTANT, "kind = \"step\"\nevery_epochs = 1\nwarmup_epochs = 1.5"] {
        for epochs in [2, 4, 30] {
            let (_folder, dir) = run(&planned(3, schedule), 10, &[]);
            dir.may_change(&planned(3, schedule), &planned(epochs, schedule)).unwrap();
        }
    }
}

#[test]
fn schedules_over_all_epochs_go_on_only_as_long_as_the_rates_are_the_same() {
    let cosine = "kind = \"cosine\"\nwarmup_epochs = 1";
    let (before, after) = (planned(3, cosine), planned(6, cosine));
    for steps in [0, 6] {
        // The first step after the warm-up still has the peak.
        run(&before, steps, &[]).1.may_change(&before, &after).unwrap();
    }
    let text = refused(&before, &after, 7, &[]);
    assert!(text.starts_with("train.epochs = 6: the `cosine` schedule is spread over all epochs"), "{text}");
    assert!(text.contains("step 6 would have had the learning rate 0.049"), "{text}");
    assert!(text.contains("convoy train RUN/spec.toml"), "{text}");
    assert!(text.contains("network.init=RUN/model/model.safetensors"), "{text}");
    let cycle = "kind = \"one_cycle\"";
    assert!(refused(&planned(3, cycle), &planned(6, cycle), 15, &[]).contains("the `one_cycle` schedule"));
}

#[test]
fn what_is_done_stays_done() {
    let (before, after) = (planned(3, CONSTANT), planned(2, CONSTANT));
    let text = refused(&before, &after, 11, &[]);
    assert!(text.starts_with("train.epochs = 2, but 11 steps of 5 an epoch are done; set 3 epochs or more"), "{text}");
    // What is not believed is not done.
    let (_folder, dir) = run(&before, 11, &[Record::Disbelieved { since: StepId(8) }]);
    dir.may_change(&before, &after).unwrap();
}

#[test]
fn whoever_had_enough_had_enough() {
    let (before, after) = (planned(3, CONSTANT), planned(6, CONSTANT));
    let enough = |step| Record::Evaluated { step: StepId(step), stop_early: true };
    for (steps, epoch) in [(10, 2), (15, 3)] {
        let text = refused(&before, &after, steps, &[enough(steps)]);
        assert!(text.contains(&format!("early stopping ended the run after epoch {epoch}")), "{text}");
    }
    let more = [enough(10), Record::Disbelieved { since: StepId(9) }];
    run(&before, 10, &more).1.may_change(&before, &after).unwrap();
    run(&before, 10, &[enough(10)]).1.may_change(&before, &planned(2, CONSTANT)).unwrap();
}

#[test]
fn plans_that_are_no_longer_in_force_are_kept_and_belong_together() {
    let [three, six, nine] = [3, 6, 9].map(|epochs| planned(epochs, CONSTANT));
    let (_folder, dir) = run(&three, 15, &[]);
    dir.change(&three, &six, &manifest(40)).unwrap();
    dir.change(&six, &nine, &manifest(40)).unwrap();
    let path = dir.path().to_owned();
    drop(dir);
    let (_, plan, _) = RunDir::open(&path).unwrap();
    assert_eq!(plan, *nine);
    let entry = |plan: &Plan| EarlierPlan { epochs: plan.spec.train.epochs, plan: plan.digest(), steps: 15 };
    assert_eq!(earlier_plans(&path, &nine).unwrap(), [entry(&three), entry(&six)]);
    let other = planned(9, "kind = \"step\"");
    let error = earlier_plans(&path, &other).unwrap_err().to_string();
    assert!(error.contains("earlier-plans.json") && error.contains("does not belong to plan.json"), "{error}");
}

#[test]
fn a_crash_between_the_files_leaves_the_old_plan_in_force() {
    let (three, six) = (planned(3, CONSTANT), planned(6, CONSTANT));
    let (_folder, dir) = run(&three, 15, &[]);
    let plan_json = fs::read(dir.path().join("plan.json")).unwrap();
    dir.change(&three, &six, &manifest(40)).unwrap();
    fs::write(dir.path().join("plan.json"), plan_json).unwrap();
    assert_eq!(earlier_plans(dir.path(), &three).unwrap(), []);
    dir.change(&three, &six, &manifest(40)).unwrap();
    assert_eq!(earlier_plans(dir.path(), &six).unwrap().len(), 1);
}

/// Writes the checkpoint after `step` steps of a run that was planned as `plan`.
fn save(dir: &RunDir, plan: &Plan, step: u64) {
    let network = Network::of(plan).unwrap();
    let first = ParameterState::first(Flat::of(&network.initial(1)), network.parameters, &plan.spec.optimizer);
    let state = ParameterState { step, ..first };
    checkpoint::write(&dir.checkpoints(), plan, &network, &state, &History::default()).unwrap();
}

#[test]
fn any_byte_of_the_earlier_plans_may_be_wrong() {
    let [three, six, nine] = [3, 6, 9].map(|epochs| planned(epochs, CONSTANT));
    let (_folder, dir) = run(&three, 15, &[]);
    for (plan, step) in [(&three, 10), (&three, 14), (&six, 15), (&nine, 16)] {
        save(&dir, plan, step);
    }
    save(&dir, &planned(9, "kind = \"step\""), 17);
    dir.change(&three, &six, &manifest(40)).unwrap();
    dir.change(&six, &nine, &manifest(40)).unwrap();
    let (folder, file) = (dir.path().to_owned(), dir.path().join(EARLIER_PLANS));
    drop(dir);
    let entry = |plan: &Plan, steps| EarlierPlan { epochs: plan.spec.train.epochs, plan: plan.digest(), steps };
    let known = [entry(&three, 15), entry(&six, 15)];
    let made_anew = [entry(&three, 14), entry(&six, 15)];
    let whole = fs::read(&file).unwrap();
    let damage = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    });
    // As an older version wrote them, and what is cut off.
    let older = serde_json::to_vec_pretty(&known).unwrap();
    for bytes in damage.chain([older, Vec::new(), whole[..whole.len() / 2].to_owned()]) {
        fs::write(&file, &bytes).unwrap();
        let (found, problem) = read_earlier(&folder, &nine).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(problem.is_some_and(|problem| problem.starts_with("is not what Convoy wrote")), "{text}");
        assert_eq!(found, made_anew, "{text}");
        assert_eq!(earlier_plans(&folder, &nine).unwrap(), made_anew);
    }
    drop(RunDir::open(&folder).unwrap());
    assert_eq!(read_earlier(&folder, &nine).unwrap(), (made_anew.to_vec(), None), "it is written anew");
    fs::remove_dir_all(folder.join("checkpoints")).unwrap();
    fs::write(&file, &whole[1..]).unwrap();
    assert_eq!(earlier_plans(&folder, &nine).unwrap(), [], "no checkpoint needs them");
}
