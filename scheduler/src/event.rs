//! Everything that can make a run act.

use std::collections::BTreeSet;

use crate::ids::{Opening, OwnersVersion, StepId, WorkerId};
use crate::lease::{LeaseRef, Work};
use crate::node_digest::NodeDigest;
use crate::tree::Node;

/// Something that happened, told to [`Run::handle`](crate::Run::handle).
///
/// Nothing here is trusted to be fresh: an event that comes too late, twice, or from a stranger is answered by
/// [`Effect::Ignore`](crate::Effect::Ignore).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A worker was admitted. The coordinator sends it the committed parameters unasked. It gets no lease before it has
    /// held parameters once, unless no worker has.
    WorkerJoined {
        /// Its number, unused so far.
        worker: WorkerId,
        /// The machine that it runs on, the same whenever it comes back and under whatever name: failures, votes and
        /// evictions are counted by machine. Chosen by the coordinator, never by the worker.
        machine: String,
        /// Its name, for people.
        name: String,
        /// Shards it computes at a time. With 0 it computes nothing: it gets no leases and may own chunks of the
        /// gradients, also without parameters.
        threads: u32,
    },
    /// A worker is no longer there; its unfinished leases go to others.
    WorkerGone {
        /// Which one.
        worker: WorkerId,
        /// Why.
        reason: GoneReason,
    },
    /// A worker wants to leave: it gets nothing new, finishes what it holds, and then there is an
    /// [`Effect::Disconnect`](crate::Effect::Disconnect) for it.
    WorkerDraining {
        /// Which one.
        worker: WorkerId,
    },
    /// A worker is on the coordinator's machine: what passes between the two passes no link, and what either of them
    /// exchanges with others passes the same one. Told after it has joined.
    WorkerBeside {
        /// Which one.
        worker: WorkerId,
    },
    /// A worker holds the parameters `step`. Leases may reach it earlier, but their clocks start now.
    WorkerReady {
        /// Which one.
        worker: WorkerId,
        /// The parameters it holds.
        step: StepId,
    },
    /// A worker has computed a lease, and sends its node from now on: whether it is late is a matter of bytes that flow
    /// ([`Contact::pushed`](crate::Contact::pushed)) and no longer of its speed. May come more than once.
    NodeComputed {
        /// Which worker.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
    },
    /// A worker reaches these others and none else, as far as it has tried: it can send them nodes. Told when it is
    /// known of all others for the first time, and when it changes. As long as other workers own chunks, a worker that
    /// has told nothing gets no leases of training, if there are others.
    PeersReached {
        /// Which worker.
        worker: WorkerId,
        /// The others that it reaches.
        reached: BTreeSet<WorkerId>,
    },
    /// A worker cannot send a node to an owner: it is not reached, or takes nothing.
    PeerLost {
        /// Which worker.
        worker: WorkerId,
        /// The owner.
        peer: WorkerId,
        /// The owners that it knows of.
        version: OwnersVersion,
    },
    /// The sums of all chunks of an owner are with the coordinator.
    OwnerReduced {
        /// The owner.
        worker: WorkerId,
        /// What the sums are for.
        opening: Opening,
        /// The owners under which it has these chunks.
        version: OwnersVersion,
    },
    /// A lease is done, and all bytes of its node are with the owners of their chunks. Told again under each later
    /// version of the owners, once all bytes are where they belong.
    NodeDone {
        /// The worker that computed it.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
        /// Microseconds that one of its shards took on one thread, on average.
        shard_micros: u64,
        /// The owners that have its chunks. Of an evaluation, which the coordinator adds, it does not matter.
        version: OwnersVersion,
        /// Whether its numbers can be used.
        result: NodeResult,
        /// Digest of its numbers, where the lease asked for one and they are finite: as the owners of its chunks were
        /// brought them, and of a node that is counted already as the worker says.
        digest: Option<NodeDigest>,
    },
    /// Two copies of a node differ, or a node and its parts. What is counted for the node, when it is done, is bit by
    /// bit what the worker brought that it is done by: whoever counts compares **every** further copy of a node (or of
    /// all parts of it) with the first, also where the worker that brought the first is gone, and where the copy is for
    /// a lease that is over. At the first difference it forgets the tree and tells this, before it tells of the node.
    NodeContradicted {
        /// The step.
        step: StepId,
        /// The kind of work.
        work: Work,
        /// The node that was brought in two ways.
        node: Node,
        /// Who brought it: at least one of them something wrong. Some may be gone.
        workers: Vec<WorkerId>,
    },
    /// The coordinator has added a chunk anew, of what the workers have kept that its nodes are done by, and has
    /// compared that with its owner's sum. Told before [`Event::StepReduced`]. Of each owner's chunks one is audited at
    /// first and then some.
    SumAudited {
        /// The owner.
        owner: WorkerId,
        /// What the sum is for.
        opening: Opening,
        /// What came of it.
        finding: SumFinding,
    },
    /// A worker has not said or sent what an audit asked of it.
    Unanswered {
        /// Which worker.
        worker: WorkerId,
        /// What it was asked about.
        opening: Opening,
    },
    /// A worker was handed parameters by an owner that are not those that were committed, as it says.
    WrongParameters {
        /// Which worker.
        worker: WorkerId,
        /// The owner.
        owner: WorkerId,
    },
    /// A worker could not do a lease.
    LeaseFailed {
        /// Which worker.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
        /// Why.
        failure: Failure,
    },
    /// All nodes of the step are added and the optimizer has made the next parameters; they wait for their commit.
    StepReduced {
        /// The step.
        step: StepId,
        /// Digest of the parameters `step + 1`.
        digest: [u8; 32],
    },
    /// As [`Event::StepReduced`], but a sum or a new parameter is a NaN or an infinity.
    StepNotFinite {
        /// The step.
        step: StepId,
    },
    /// The evaluation of the parameters `step` is summed up.
    EvaluationReduced {
        /// The parameters evaluated.
        step: StepId,
        /// Whether the run has gone on long enough without getting better.
        stop_early: bool,
    },
    /// A checkpoint of the parameters `step` is safe on disk.
    CheckpointWritten {
        /// The parameters in it.
        step: StepId,
    },
    /// A checkpoint of the parameters `step` could not be written; earlier ones are as they were. The next one is asked
    /// for when it is due. Where the last checkpoint of a run fails, the run ends as
    /// [`Outcome::Unsaved`](crate::Outcome::Unsaved).
    CheckpointFailed {
        /// The parameters that should be in it.
        step: StepId,
    },
    /// Somebody wants the run to stop: finish the step in flight, save, end.
    StopRequested,
    /// The time of [`Run::deadline`](crate::Run::deadline) has come. Before this, [`Run::heard`](crate::Run::heard) is
    /// told of all workers. (A coordinator that was asleep must look at what queued up before it looks for the silent
    /// and the late.)
    Deadline,
}

impl Event {
    /// The event in two words, for a log.
    pub fn name(&self) -> &'static str {
        match self {
            Event::WorkerJoined { .. } => "worker joined",
            Event::WorkerGone { .. } => "worker gone",
            Event::WorkerDraining { .. } => "worker draining",
            Event::WorkerBeside { .. } => "worker beside",
            Event::WorkerReady { .. } => "worker ready",
            Event::NodeComputed { .. } => "node computed",
            Event::PeersReached { .. } => "peers reached",
            Event::PeerLost { .. } => "peer lost",
            Event::OwnerReduced { .. } => "owner reduced",
            Event::NodeDone { .. } => "node done",
            Event::NodeContradicted { .. } => "node contradicted",
            Event::SumAudited { .. } => "sum audited",
            Event::Unanswered { .. } => "unanswered",
            Event::WrongParameters { .. } => "wrong parameters",
            Event::LeaseFailed { .. } => "lease failed",
            Event::StepReduced { .. } => "step reduced",
            Event::StepNotFinite { .. } => "step not finite",
            Event::EvaluationReduced { .. } => "evaluation reduced",
            Event::CheckpointWritten { .. } => "checkpoint written",
            Event::CheckpointFailed { .. } => "checkpoint failed",
            Event::StopRequested => "stop requested",
            Event::Deadline => "deadline",
        }
    }

    /// The worker that it tells of.
    pub fn worker(&self) -> Option<WorkerId> {
        match *self {
            Event::WorkerJoined { worker, .. }
            | Event::WorkerGone { worker, .. }
            | Event::WorkerDraining { worker }
            | Event::WorkerBeside { worker }
            | Event::WorkerReady { worker, .. }
            | Event::NodeComputed { worker, .. }
            | Event::PeersReached { worker, .. }
            | Event::PeerLost { worker, .. }
            | Event::OwnerReduced { worker, .. }
            | Event::NodeDone { worker, .. }
            | Event::Unanswered { worker, .. }
            | Event::WrongParameters { worker, .. }
            | Event::LeaseFailed { worker, .. } => Some(worker),
            Event::NodeContradicted { .. }
            | Event::SumAudited { .. }
            | Event::StepReduced { .. }
            | Event::EvaluationReduced { .. }
            | Event::StepNotFinite { .. }
            | Event::CheckpointWritten { .. }
            | Event::CheckpointFailed { .. }
            | Event::StopRequested
            | Event::Deadline => None,
        }
    }
}

/// Why a worker is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GoneReason {
    /// It was lost: its connection closed.
    Closed,
    /// It was lost: nothing was heard of it for too long.
    Silent,
    /// It asked to leave, finished what it held, and left.
    Drained,
    /// It was evicted: it was proven to compute wrongly.
    Evicted,
}

/// What came of adding an owner's chunk anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SumFinding {
    /// It is the owner's sum.
    Equal,
    /// It is not, and the owner says to have been brought the very chunks that were added.
    Wrong,
    /// It is not, and the owner says to have been brought another chunk by this worker than it sends now.
    Disagrees(WorkerId),
}

/// Whether the numbers of a node can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeResult {
    /// All finite.
    Good,
    /// All finite, but some so large that they are believed only when another computation gives such numbers again.
    Absurd,
    /// A NaN or an infinity among them.
    NotFinite,
}

/// Why a worker could not do a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// It cannot read the samples.
    DataUnreadable,
    /// Anything else: it ran out of memory, or a kernel panicked.
    Internal,
}
