//! The records of the journal, and the ledger that says who computed which shards.

use std::fmt;

use crate::event::GoneReason;
use crate::ids::{RunGeneration, StepId, WorkerId};
use crate::outcome::Outcome;
use crate::tree::Node;

/// One entry of the journal. A later start needs all entries and the plan to know the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The coordinator started; the records that follow belong to this generation. Steps from `first_step` on may be
    /// committed a second time, and must then have the digests that they had.
    Started {
        /// The generation.
        generation: RunGeneration,
        /// The parameters that it began with.
        first_step: StepId,
    },
    /// A worker joined.
    WorkerJoined {
        /// Its number in this start.
        worker: WorkerId,
        /// Its machine.
        machine: String,
        /// Its name, for people.
        name: String,
        /// Shards it computes at a time.
        threads: u32,
    },
    /// A worker is no member any more.
    WorkerGone {
        /// Which one.
        worker: WorkerId,
        /// Why.
        reason: GoneReason,
    },
    /// The parameters `step + 1` are final.
    StepCommitted {
        /// The step.
        step: StepId,
        /// Digest of the parameters `step + 1`.
        digest: [u8; 32],
        /// Who computed which shards: every shard of the step exactly once, from left to right.
        ledger: Vec<LedgerEntry>,
        /// The workers that added chunks of it; the coordinator added all others.
        owners: Vec<WorkerId>,
        /// Those of them of whose sums one was added anew, and was equal.
        audited_owners: Vec<WorkerId>,
    },
    /// A worker was proven to compute wrongly, and its machine may not come back. Commits of `since` and of later steps
    /// that stand before this record are not believed.
    Evicted {
        /// Its number in this start.
        worker: WorkerId,
        /// Its machine.
        machine: String,
        /// Its name, for people.
        name: String,
        /// The first step that may hold wrong numbers of the worker.
        since: StepId,
    },
    /// Two machines say different things of what one has brought the other, so that one of them is wrong: neither owns
    /// chunks from now on. Commits of `since` and of later steps that stand before this record are not believed.
    Disagreed {
        /// The machines.
        machines: [String; 2],
        /// The first step that may hold wrong numbers of either.
        since: StepId,
    },
    /// Step `since` was computed again, each of its nodes by two workers that agree, and its digest is not the one in
    /// the journal. Commits of `since` and of later steps that stand before this record are not believed.
    Disbelieved {
        /// The first step whose commit is not believed.
        since: StepId,
    },
    /// The parameters `step` have been evaluated.
    Evaluated {
        /// The parameters.
        step: StepId,
        /// Whether it had gone on long enough without getting better: the run ends here, be it before its last epoch.
        stop_early: bool,
    },
    /// The run is over.
    Finished {
        /// How it ended.
        outcome: Outcome,
    },
    /// Records that stood here are lost, as the journal was damaged.
    Lost {
        /// So many, or fewer.
        at_most: u64,
    },
}

impl Record {
    /// Whether the record must be on disk before any later effect is carried out. Other records may be lost in a crash:
    /// computing their steps again brings them back, but not the findings of an audit.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Record::Evicted { .. } | Record::Disagreed { .. } | Record::Disbelieved { .. })
    }
}

/// Some shards of a step, with the worker that computed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerEntry {
    /// The shards, as one node of the reduce tree.
    pub node: Node,
    /// The worker that computed them.
    pub worker: WorkerId,
    /// Another worker that computed them as well and got the same digest.
    pub auditor: Option<WorkerId>,
}

/// Where a ledger fails to name every shard exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LedgerError {
    /// These shards are missing.
    Missing(Node),
    /// These shards are there twice, or out of order.
    Repeated(Node),
    /// This entry is empty, turned round, or beyond the step's last shard.
    Outside(Node),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Missing(node) => write!(f, "the ledger leaves out {node}"),
            LedgerError::Repeated(node) => {
                write!(f, "the ledger counts {node} twice or out of order")
            }
            LedgerError::Outside(node) => {
                write!(f, "the ledger names shards {}..{}, which the step has not", node.first, node.last)
            }
        }
    }
}

impl std::error::Error for LedgerError {}

/// Checks that `ledger` names each of `shards` shards exactly once, from left to right.
///
/// # Errors
/// The first place where it does not.
pub fn check_ledger(ledger: &[LedgerEntry], shards: u32) -> Result<(), LedgerError> {
    let mut next = 0;
    for &LedgerEntry { node, .. } in ledger {
        if node.first >= node.last || node.last > shards {
            return Err(LedgerError::Outside(node));
        }
        if node.first > next {
            return Err(LedgerError::Missing(Node { first: next, last: node.first }));
        }
        if node.first < next {
            return Err(LedgerError::Repeated(node));
        }
        next = node.last;
    }
    if next < shards {
        return Err(LedgerError::Missing(Node { first: next, last: shards }));
    }
    Ok(())
}
