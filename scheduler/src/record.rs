//! What is journalled, and the ledger that says who computed what.

use std::fmt;

use crate::effect::Outcome;
use crate::event::GoneReason;
use crate::ids::{RunGeneration, StepId, WorkerId};
use crate::tree::Node;

/// One entry of the journal. Together with the plan they are all that a later start needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The coordinator started; what follows belongs to this generation. Steps from `first_step` on may follow a second
    /// time, and must then have the digests they had.
    Started {
        /// The generation.
        generation: RunGeneration,
        /// The parameters it began with.
        first_step: StepId,
    },
    /// A worker joined.
    WorkerJoined {
        /// Its number in this start.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// Shards it computes at a time.
        threads: u32,
    },
    /// A worker is gone.
    WorkerGone {
        /// Which one.
        worker: WorkerId,
        /// How it went.
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
    },
    /// A worker was proven to compute wrongly and may not come back. Commits of `since` and later steps before this record
    /// are not believed.
    Evicted {
        /// Its number in this start.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// The first step that may have wrong numbers of it.
        since: StepId,
    },
    /// Two workers each agree on every node of step `since`, and its digest is not the one that the journal has: commits
    /// of it and of later steps before this record are not believed.
    Disbelieved {
        /// The first of them.
        since: StepId,
    },
    /// The parameters `step` have been evaluated.
    Evaluated {
        /// The parameters.
        step: StepId,
        /// The run ends here, before its last epoch.
        stop_early: bool,
    },
    /// The run is over.
    Finished {
        /// How.
        outcome: Outcome,
    },
}

impl Record {
    /// Whether it must be on disk before any later effect is carried out: it cannot be found out again by computing.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Record::Evicted { .. } | Record::Disbelieved { .. })
    }
}

/// These shards were computed by this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerEntry {
    /// The shards, as one node of the reduce tree.
    pub node: Node,
    /// Who computed them.
    pub worker: WorkerId,
    /// Who computed them as well, and came out the same.
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

/// Whether `ledger` names each of `shards` shards exactly once, from left to right.
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
