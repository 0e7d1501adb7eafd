//! Records as JSON. The scheduler knows no serde, so the words of the file are chosen here.

use convoy_common::Digest;
use convoy_scheduler::{GoneReason, LedgerEntry, Node, Outcome, Record, RunGeneration, StepId, Work, WorkerId};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Line {
    Started {
        generation: u64,
        first_step: u64,
    },
    WorkerJoined {
        worker: u32,
        machine: String,
        name: String,
        threads: u32,
    },
    WorkerLeft {
        worker: u32,
        reason: Leave,
    },
    /// Ledger entries are (first shard, one past the last shard, worker, worker that computed it as well).
    StepCommitted {
        step: u64,
        digest: Digest,
        ledger: Vec<LedgerItem>,
        /// Workers that added chunks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        owners: Vec<u32>,
        /// Those of whose sums one was added anew.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        audited_owners: Vec<u32>,
    },
    Distrusted {
        worker: u32,
        machine: String,
        name: String,
        since: u64,
    },
    Disagreed {
        machines: [String; 2],
        since: u64,
    },
    Disbelieved {
        since: u64,
    },
    Evaluated {
        step: u64,
        stop_early: bool,
    },
    Finished {
        outcome: End,
    },
    /// Records that stood here were damaged.
    Lost {
        at_most: u64,
    },
}

/// The fourth is left out where there is none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LedgerItem {
    Audited(u32, u32, u32, u32),
    Counted(u32, u32, u32),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Leave {
    Closed,
    Silent,
    Drained,
    Distrusted,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WorkWord {
    Training,
    Evaluation,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
enum End {
    Completed,
    StoppedEarly,
    Stopped,
    Unsaved { step: u64 },
    RolledBack { to: u64, worker: u32 },
    NotFinite { step: u64, work: WorkWord, first: u32, last: u32 },
    DataUnreadable { step: u64, work: WorkWord, first: u32, last: u32, worker: u32 },
    Failed { step: u64, work: WorkWord, first: u32, last: u32, worker: u32 },
    HoldersDied { step: u64, work: WorkWord, first: u32, last: u32, worker: u32 },
    Diverged { step: u64, recorded: Digest, computed: Digest },
}

/// One line of JSON.
pub(super) fn to_json(record: &Record) -> String {
    serde_json::to_string(&Line::from(record)).expect("a record is plain data")
}

/// The record of a line, if it is one.
pub(super) fn from_json(json: &str) -> Option<Record> {
    serde_json::from_str::<Line>(json).ok().map(Record::from)
}

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        match record {
            Record::Started { generation, first_step } => {
                Line::Started { generation: generation.0, first_step: first_step.0 }
            }
            Record::WorkerJoined { worker, machine, name, threads } => {
                let (machine, name) = (machine.clone(), name.clone());
                Line::WorkerJoined { worker: worker.0, machine, name, threads: *threads }
            }
            Record::WorkerGone { worker, reason } => Line::WorkerLeft {
                worker: worker.0,
                reason: match reason {
                    GoneReason::Closed => Leave::Closed,
                    GoneReason::Silent => Leave::Silent,
                    GoneReason::Drained => Leave::Drained,
                    GoneReason::Evicted => Leave::Distrusted,
                },
            },
            Record::StepCommitted { step, digest, ledger, owners, audited_owners } => Line::StepCommitted {
                step: step.0,
                digest: Digest(*digest),
                ledger: ledger.iter().map(LedgerItem::from).collect(),
                owners: owners.iter().map(|owner| owner.0).collect(),
                audited_owners: audited_owners.iter().map(|owner| owner.0).collect(),
            },
            Record::Evicted { worker, machine, name, since } => {
                let (machine, name) = (machine.clone(), name.clone());
                Line::Distrusted { worker: worker.0, machine, name, since: since.0 }
            }
            Record::Disagreed { machines, since } => Line::Disagreed { machines: machines.clone(), since: since.0 },
            Record::Disbelieved { since } => Line::Disbelieved { since: since.0 },
            Record::Evaluated { step, stop_early } => Line::Evaluated { step: step.0, stop_early: *stop_early },
            Record::Finished { outcome } => Line::Finished { outcome: outcome.into() },
            Record::Lost { at_most } => Line::Lost { at_most: *at_most },
        }
    }
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        match line {
            Line::Started { generation, first_step } => {
                Record::Started { generation: RunGeneration(generation), first_step: StepId(first_step) }
            }
            Line::WorkerJoined { worker, machine, name, threads } => {
                Record::WorkerJoined { worker: WorkerId(worker), machine, name, threads }
            }
            Line::WorkerLeft { worker, reason } => Record::WorkerGone {
                worker: WorkerId(worker),
                reason: match reason {
                    Leave::Closed => GoneReason::Closed,
                    Leave::Silent => GoneReason::Silent,
                    Leave::Drained => GoneReason::Drained,
                    Leave::Distrusted => GoneReason::Evicted,
                },
            },
            Line::StepCommitted { step, digest, ledger, owners, audited_owners } => Record::StepCommitted {
                step: StepId(step),
                digest: digest.0,
                ledger: ledger.into_iter().map(LedgerEntry::from).collect(),
                owners: owners.into_iter().map(WorkerId).collect(),
                audited_owners: audited_owners.into_iter().map(WorkerId).collect(),
            },
            Line::Distrusted { worker, machine, name, since } => {
                Record::Evicted { worker: WorkerId(worker), machine, name, since: StepId(since) }
            }
            Line::Disagreed { machines, since } => Record::Disagreed { machines, since: StepId(since) },
            Line::Disbelieved { since } => Record::Disbelieved { since: StepId(since) },
            Line::Evaluated { step, stop_early } => Record::Evaluated { step: StepId(step), stop_early },
            Line::Finished { outcome } => Record::Finished { outcome: outcome.into() },
            Line::Lost { at_most } => Record::Lost { at_most },
        }
    }
}

impl From<&LedgerEntry> for LedgerItem {
    fn from(entry: &LedgerEntry) -> Self {
        let (Node { first, last }, worker) = (entry.node, entry.worker.0);
        match entry.auditor {
            Some(auditor) => LedgerItem::Audited(first, last, worker, auditor.0),
            None => LedgerItem::Counted(first, last, worker),
        }
    }
}

impl From<LedgerItem> for LedgerEntry {
    fn from(entry: LedgerItem) -> Self {
        let (first, last, worker, auditor) = match entry {
            LedgerItem::Audited(first, last, worker, auditor) => (first, last, worker, Some(WorkerId(auditor))),
            LedgerItem::Counted(first, last, worker) => (first, last, worker, None),
        };
        LedgerEntry { node: Node { first, last }, worker: WorkerId(worker), auditor }
    }
}

impl From<Work> for WorkWord {
    fn from(work: Work) -> Self {
        match work {
            Work::Train => WorkWord::Training,
            Work::Evaluate => WorkWord::Evaluation,
        }
    }
}

impl From<WorkWord> for Work {
    fn from(kind: WorkWord) -> Self {
        match kind {
            WorkWord::Training => Work::Train,
            WorkWord::Evaluation => Work::Evaluate,
        }
    }
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match *outcome {
            Outcome::Completed => End::Completed,
            Outcome::StoppedEarly => End::StoppedEarly,
            Outcome::Stopped => End::Stopped,
            Outcome::Unsaved { step } => End::Unsaved { step: step.0 },
            Outcome::RolledBack { to, worker } => End::RolledBack { to: to.0, worker: worker.0 },
            Outcome::NotFinite { step, work, node } => {
                End::NotFinite { step: step.0, work: work.into(), first: node.first, last: node.last }
            }
            Outcome::DataUnreadable { step, work, node, worker } => End::DataUnreadable {
                step: step.0,
                work: work.into(),
                first: node.first,
                last: node.last,
                worker: worker.0,
            },
            Outcome::Failed { step, work, node, worker } => {
                End::Failed { step: step.0, work: work.into(), first: node.first, last: node.last, worker: worker.0 }
            }
            Outcome::HoldersDied { step, work, node, worker } => End::HoldersDied {
                step: step.0,
                work: work.into(),
                first: node.first,
                last: node.last,
                worker: worker.0,
            },
            Outcome::Diverged { step, recorded, computed } => {
                End::Diverged { step: step.0, recorded: Digest(recorded), computed: Digest(computed) }
            }
        }
    }
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        let node = |first, last| Node { first, last };
        match end {
            End::Completed => Outcome::Completed,
            End::StoppedEarly => Outcome::StoppedEarly,
            End::Stopped => Outcome::Stopped,
            End::Unsaved { step } => Outcome::Unsaved { step: StepId(step) },
            End::RolledBack { to, worker } => Outcome::RolledBack { to: StepId(to), worker: WorkerId(worker) },
            End::NotFinite { step, work, first, last } => {
                Outcome::NotFinite { step: StepId(step), work: work.into(), node: node(first, last) }
            }
            End::DataUnreadable { step, work, first, last, worker } => Outcome::DataUnreadable {
                step: StepId(step),
                work: work.into(),
                node: node(first, last),
                worker: WorkerId(worker),
            },
            End::Failed { step, work, first, last, worker } => Outcome::Failed {
                step: StepId(step),
                work: work.into(),
                node: node(first, last),
                worker: WorkerId(worker),
            },
            End::HoldersDied { step, work, first, last, worker } => Outcome::HoldersDied {
                step: StepId(step),
                work: work.into(),
                node: node(first, last),
                worker: WorkerId(worker),
            },
            End::Diverged { step, recorded, computed } => {
                Outcome::Diverged { step: StepId(step), recorded: recorded.0, computed: computed.0 }
            }
        }
    }
}
