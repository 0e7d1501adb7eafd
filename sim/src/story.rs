//! The outcome of a simulated run.

use convoy_scheduler::{Micros, Outcome, StepId};

/// How a simulated run went. Equal scenarios have equal stories. Many fields: each counts something of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// When it ended.
    pub took: Micros,
    /// How it ended.
    pub outcome: Outcome,
    /// Its last parameters.
    pub committed: StepId,
    /// Steps that were committed, those that were computed again included.
    pub commits: u64,
    /// Starts of the coordinator.
    pub starts: u64,
    /// Leases that were overdue.
    pub overdue: u64,
    /// Leases that were revoked because another worker did their node first.
    pub copies: u64,
    /// Steps committed that workers owned chunks of.
    pub sliced: u64,
    /// Times that chunks moved while their step was in work: an owner was gone, not reached, or late.
    pub moved: [u64; 3],
    /// Events that changed nothing.
    pub ignored: u64,
    /// Nodes of which two copies differed.
    pub contradictions: u64,
    /// Sums that were added anew and were equal.
    pub audited_sums: u64,
    /// Machines that were evicted for a wrong sum.
    pub wrong_sums: u64,
    /// Times that two workers disagreed.
    pub disagreements: u64,
    /// Machines that were evicted as they disagreed with too many.
    pub outvoted: u64,
    /// Faults, by [`Fault`](crate::Fault).
    pub faults: Vec<u64>,
    /// Virtual time from the end of the storm to the end of the run.
    pub after_storm: Micros,
    /// A digest of every effect of every start, in order.
    pub effects: u64,
}
