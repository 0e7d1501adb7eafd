//! Proving from a run's journal that every sample of every epoch was counted exactly once, and by whom.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use convoy_common::Plan;
use convoy_common::epoch_order::EpochOrder;
use convoy_common::manifest::Manifest;
use convoy_scheduler::{LedgerEntry, Record, WorkerId, check_ledger};
use serde::Serialize;

use super::journal::{self, Parsed};
use super::planned::{manifest_of, read_plan};
use super::run_dir_error::RunDirError;
use super::sealed_plans::EarlierPlan;

/// What an audit needs, read from the run folder `path`, which another process may be writing at the same time: plan,
/// manifest and journal; and the number of the first line of the journal that is damaged or not yet whole, if there is
/// one.
///
/// # Errors
/// When a file cannot be read or is damaged.
pub fn read_ledger(path: &Path) -> Result<(Plan, Manifest, Vec<Record>, Option<usize>), RunDirError> {
    let (plan, _) = read_plan(path)?;
    let manifest = manifest_of(path, &plan)?;
    let journal = path.join("journal");
    let bytes = match fs::read(&journal) {
        Ok(bytes) => bytes,
        // Nothing has happened yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(RunDirError::Io { path: journal, source }),
    };
    let Parsed { records, first_bad, .. } = journal::parse(&bytes);
    Ok((plan, manifest, records, first_bad))
}

/// What a journal proves of its run: which steps are committed, and how often each sample was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Whether nothing is wrong: every usable sample was counted exactly once in every epoch that is over, and at most
    /// once in the one that is not.
    pub exact: bool,
    /// Steps that are committed.
    pub steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Steps that were computed again after a restart, each with the digest it had.
    pub repeated: u64,
    /// Commits that are not believed, as a worker that had a part in them was proven to compute wrongly; their steps
    /// were computed again.
    pub disbelieved: u64,
    /// Workers that were proven to compute wrongly and evicted, by name.
    pub distrusted: Vec<String>,
    /// Pairs of workers that said different things of what one had brought the other, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disagreed: Vec<[String; 2]>,
    /// Starts of the coordinator.
    pub starts: u64,
    /// Places of the journal where records are lost, as it was damaged.
    #[serde(skip_serializing_if = "is_zero")]
    pub damaged: u64,
    /// Plans that the run had before, oldest first; their steps are those of its plan, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_plans: Vec<EarlierPlan>,
    /// Epochs that have begun.
    pub epochs: Vec<EpochAudit>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// The ledger of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EpochAudit {
    /// From 1.
    pub epoch: u32,
    /// Its committed steps.
    pub steps: u64,
    /// Whether all of its steps are committed.
    pub complete: bool,
    /// Samples that were counted once.
    pub once: u64,
    /// Samples that were counted more often.
    pub more: u64,
    /// Usable samples that have not been counted. In a complete epoch these are what `train.last = "drop"` leaves out.
    pub not_yet: u64,
    /// Samples that two workers computed, and came out the same.
    pub audited: u64,
    /// Samples by who computed them: the worker's name; `START.WORKER`, its number in a start of the coordinator, where
    /// the journal has no name.
    pub workers: BTreeMap<String, u64>,
}

/// One sample's place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// From 1.
    pub epoch: u32,
    /// The step, from 0.
    pub step: u64,
    /// The shard of the step.
    pub shard: u32,
    /// Index in the training split.
    pub sample: u32,
    /// As in [`EpochAudit::workers`].
    pub worker: String,
}

/// The last commit of a step.
struct Commit {
    digest: [u8; 32],
    ledger: Vec<LedgerEntry>,
    /// Who each entry names.
    workers: Vec<String>,
}

/// Audits the `records` of the run with `plan` and `manifest`, which had the `earlier` plans before. Each sample that
/// was counted is handed to `each`, by step and shard.
///
/// A step that was computed again after a restart counts once, as its last commit says; all of its commits must have
/// the same digest.
pub fn audit(
    plan: &Plan,
    earlier: Vec<EarlierPlan>,
    manifest: &Manifest,
    records: &[Record],
    mut each: impl FnMut(Counted),
) -> Audit {
    let mut audit = Audit {
        exact: true,
        steps: 0,
        total_steps: plan.total_steps(),
        repeated: 0,
        disbelieved: 0,
        distrusted: Vec::new(),
        disagreed: Vec::new(),
        starts: 0,
        damaged: 0,
        earlier_plans: earlier,
        epochs: Vec::new(),
        problems: Vec::new(),
    };
    if manifest.digest() != plan.manifest {
        audit.problems.push("the manifest does not have the digest that the plan names".to_owned());
    }
    let (commits, end) = last_commits(records, &mut audit);
    audit.steps = commits.len() as u64;
    if let Some(missing) = (0..end).find(|step| !commits.contains_key(step)) {
        let why = if audit.damaged > 0 { "; the journal was damaged, and its record is lost" } else { "" };
        audit.problems.push(format!("step {missing} is missing: the run went on with later ones{why}"));
    }
    let usable = manifest.train.usable();
    let steps = plan.train_cut().steps();
    let epochs = commits.keys().next_back().map_or(0, |last| last / steps + 1);
    for epoch in 0..epochs {
        let commits = commits.range(epoch * steps..(epoch + 1) * steps);
        let epoch = audit_epoch(plan, &usable, epoch as u32, commits, &mut audit.problems, &mut each);
        audit.epochs.push(epoch);
    }
    audit.exact = audit.problems.is_empty();
    audit
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The last commit of each step, and the step that the run came to.
fn last_commits(records: &[Record], audit: &mut Audit) -> (BTreeMap<u64, Commit>, u64) {
    let mut end = 0;
    let mut commits: BTreeMap<u64, Commit> = BTreeMap::new();
    let mut names: BTreeMap<WorkerId, &str> = BTreeMap::new();
    let mut machine_names: BTreeMap<&str, &str> = BTreeMap::new();
    for record in records {
        match record {
            Record::Started { generation, first_step } => {
                audit.starts = generation.0;
                end = end.max(first_step.0);
                names.clear();
            }
            Record::WorkerJoined { worker, machine, name, .. } if !name.is_empty() => {
                names.insert(*worker, name);
                machine_names.insert(machine, name);
            }
            Record::Evicted { name, since, .. } => {
                audit.distrusted.push(name.clone());
                audit.disbelieved += commits.split_off(&since.0).len() as u64;
                end = end.min(since.0);
            }
            Record::Disagreed { machines, since } => {
                let called = machines
                    .clone()
                    .map(|machine| machine_names.get(&*machine).map_or(machine.clone(), |n| (*n).to_owned()));
                audit.disagreed.push(called);
                audit.disbelieved += commits.split_off(&since.0).len() as u64;
                end = end.min(since.0);
            }
            Record::Disbelieved { since } => {
                audit.disbelieved += commits.split_off(&since.0).len() as u64;
                end = end.min(since.0);
            }
            Record::Lost { .. } => {
                audit.damaged += 1;
                // Numbers may be those of another start from here on.
                names.clear();
            }
            Record::StepCommitted { step, digest, ledger, .. } => {
                end = end.max(step.next().0);
                let start = audit.starts;
                let name =
                    |worker| names.get(&worker).map_or_else(|| format!("{start}.{}", worker.0), |n| (*n).to_owned());
                let workers = ledger.iter().map(|entry| name(entry.worker)).collect();
                let commit = Commit { digest: *digest, ledger: ledger.clone(), workers };
                if let Some(before) = commits.insert(step.0, commit) {
                    audit.repeated += 1;
                    if before.digest != *digest {
                        audit.problems.push(format!("step {step} had another digest when it was computed again"));
                    }
                }
            }
            _ => {}
        }
    }
    (commits, end)
}

fn audit_epoch<'a>(
    plan: &Plan,
    usable: &[u32],
    epoch: u32,
    commits: impl Iterator<Item = (&'a u64, &'a Commit)>,
    problems: &mut Vec<String>,
    each: &mut impl FnMut(Counted),
) -> EpochAudit {
    let cut = plan.train_cut();
    let order = EpochOrder::shuffled(plan.spec.seed, epoch, usable);
    let mut counts: BTreeMap<u32, u64> = usable.iter().map(|sample| (*sample, 0)).collect();
    let mut found = EpochAudit {
        epoch: epoch + 1,
        steps: 0,
        complete: false,
        once: 0,
        more: 0,
        not_yet: 0,
        audited: 0,
        workers: BTreeMap::new(),
    };
    for (step, commit) in commits {
        found.steps += 1;
        let in_epoch = step % cut.steps();
        let shards = cut.shards(in_epoch);
        if let Err(error) = check_ledger(&commit.ledger, shards) {
            problems.push(format!("the ledger of step {step}: {error}"));
        }
        for (entry, worker) in commit.ledger.iter().zip(&commit.workers) {
            for shard in entry.node.leaves().filter(|shard| shard.0 < shards) {
                for sample in order.samples(cut.shard(in_epoch, shard.0)) {
                    *counts.entry(*sample).or_default() += 1;
                    found.audited += u64::from(entry.auditor.is_some());
                    *found.workers.entry(worker.clone()).or_default() += 1;
                    let worker = worker.clone();
                    each(Counted { epoch: epoch + 1, step: *step, shard: shard.0, sample: *sample, worker });
                }
            }
        }
    }
    found.complete = found.steps == cut.steps();
    for count in counts.values() {
        match count {
            0 => found.not_yet += 1,
            1 => found.once += 1,
            _ => found.more += 1,
        }
    }
    let left_out = usable.len() as u64 - (0..cut.steps()).map(|step| cut.step(step).len() as u64).sum::<u64>();
    if found.more > 0 {
        problems.push(format!("epoch {}: {} samples were counted more than once", found.epoch, found.more));
    }
    if found.complete && found.not_yet != left_out {
        problems.push(format!("epoch {}: {} samples were not counted", found.epoch, found.not_yet));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use convoy_scheduler::{Node, RunGeneration, StepId};

    use super::*;
    use crate::fixtures::{manifest, plan};

    /// 20 samples, 2 epochs of 3 steps of 8, 8 and 4 samples in shards of 4.
    fn job() -> (Arc<Plan>, Manifest) {
        (plan("[train]\nepochs = 2\nbatch = 8\nshard = 4", 20, 0), manifest(20))
    }

    fn commit(step: u64, digest: u8, ledger: &[(u32, u32, u32)]) -> Record {
        let entry = |(first, last, worker): &(u32, u32, u32)| LedgerEntry {
            node: Node { first: *first, last: *last },
            worker: WorkerId(*worker),
            auditor: (*worker == 2).then_some(WorkerId(1)),
        };
        Record::StepCommitted {
            step: StepId(step),
            digest: [digest; 32],
            ledger: ledger.iter().map(entry).collect(),
            owners: Vec::new(),
            audited_owners: Vec::new(),
        }
    }

    fn started(generation: u64, first_step: u64) -> Record {
        Record::Started { generation: RunGeneration(generation), first_step: StepId(first_step) }
    }

    fn joined(worker: u32, name: &str) -> Record {
        let [machine, name] = [name, name].map(str::to_owned);
        Record::WorkerJoined { worker: WorkerId(worker), machine, name, threads: 1 }
    }

    #[test]
    fn what_a_liar_had_a_part_in_may_come_out_otherwise_again() {
        let mut records = vec![started(1, 0), joined(1, "ox"), commit(0, 1, &[(0, 2, 1)]), commit(1, 2, &[(0, 2, 1)])];
        let worker = WorkerId(1);
        let [machine, name] = ["ox", "ox"].map(str::to_owned);
        records.push(Record::Evicted { worker, machine, name, since: StepId(1) });
        records.extend([started(2, 1), commit(1, 7, &[(0, 2, 3)])]);
        let (audit, _) = run(&records);
        assert!(audit.exact, "{:?}", audit.problems);
        assert_eq!((audit.steps, audit.repeated, audit.disbelieved), (2, 0, 1));
        assert_eq!(audit.distrusted, ["ox"]);
    }

    fn run(records: &[Record]) -> (Audit, Vec<Counted>) {
        let (plan, manifest) = job();
        let mut counted = Vec::new();
        (audit(&plan, Vec::new(), &manifest, records, |sample| counted.push(sample)), counted)
    }

    #[test]
    fn every_sample_is_counted_once_by_whoever_computed_it() {
        let mut records = vec![started(1, 0), joined(1, "ox"), joined(2, "yak")];
        records.extend([commit(0, 1, &[(0, 1, 1), (1, 2, 2)]), commit(1, 2, &[(0, 2, 1)])]);
        records.extend([started(2, 1), commit(1, 2, &[(0, 2, 3)]), commit(2, 3, &[(0, 1, 3)])]);
        records.push(commit(3, 4, &[(0, 2, 3)]));
        let (audit, counted) = run(&records);
        assert!(audit.exact, "{:?}", audit.problems);
        assert_eq!((audit.steps, audit.repeated, audit.starts, audit.total_steps), (4, 1, 2, 6));
        let [first, second] = &audit.epochs[..] else { panic!("{audit:?}") };
        assert_eq!((first.complete, first.once, first.more, first.not_yet), (true, 20, 0, 0));
        assert_eq!(first.audited, 4);
        let workers = [("ox", 4), ("yak", 4), ("2.3", 12)].map(|(worker, count)| (worker.to_owned(), count));
        assert_eq!(first.workers, BTreeMap::from(workers));
        assert_eq!((second.complete, second.once, second.not_yet), (false, 8, 12));
        assert_eq!(counted.len(), 28);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let first = [started(1, 0), commit(0, 1, &[(0, 2, 1)])];
        let problem = |more: &[Record]| {
            let (audit, _) = run(&[&first, more].concat());
            assert!(!audit.exact);
            audit.problems.join("; ")
        };
        assert!(problem(&[commit(1, 2, &[(0, 1, 1)])]).contains("step 1: the ledger leaves out"));
        let twice = problem(&[commit(1, 2, &[(0, 2, 1), (1, 2, 1)])]);
        assert!(twice.contains("twice") && twice.contains("4 samples were counted more than once"), "{twice}");
        assert!(problem(&[commit(2, 2, &[(0, 1, 1)])]).contains("step 1 is missing"));
        assert!(problem(&[commit(0, 9, &[(0, 2, 1)])]).contains("another digest"));
    }
}
