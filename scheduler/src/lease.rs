//! A lease: one node of the reduce tree, lent to one worker.

use std::fmt;

use crate::ids::{LeaseId, RunGeneration, StepId};
use crate::tree::Node;

/// The kind of work of a lease. Each kind has its own tree and its own timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Forward and backward: the node is a sum of gradients.
    Train,
    /// Forward on the validation split: the node is a sum of metrics.
    Evaluate,
}

/// `training` or `evaluation`.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Train => "training",
            Work::Evaluate => "evaluation",
        })
    }
}

/// The full name of a lease. An answer counts only if every part of the name is that of a lease that is out
/// (*fencing*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseRef {
    /// The start of the coordinator that lent it.
    pub generation: RunGeneration,
    /// The parameters to compute with; for [`Work::Train`] also the step itself.
    pub step: StepId,
    /// Its number.
    pub lease: LeaseId,
    /// The lease epoch: how often this node was lent before in this step.
    pub epoch: u32,
}

/// `lease 12 of step 3`, and its lease epoch where that is not the first.
impl fmt::Display for LeaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.lease, self.step)?;
        if self.epoch > 0 {
            write!(f, " (lease epoch {})", self.epoch)?;
        }
        Ok(())
    }
}

/// One node of the reduce tree, lent to one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Its name.
    pub at: LeaseRef,
    /// The kind of work.
    pub work: Work,
    /// The shards to compute and add up.
    pub node: Node,
}

/// Whether the answer to a lease is counted, compared, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// It is counted.
    Count,
    /// It is counted, and its digest is told to the run, which compares it.
    CountAndDigest,
    /// Its node is counted already: only its digest is told.
    Digest,
}
