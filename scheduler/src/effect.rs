//! Everything a run can ask for. Who carries effects out is an [`Outbox`](crate::Outbox).

use std::fmt;

use crate::ids::{LeaseId, Micros, Opening, OwnersVersion, RunGeneration, StepId, WorkerId};
use crate::lease::{Check, Lease, LeaseRef, Work};
use crate::outcome::Outcome;
use crate::owners::Owner;
use crate::record::Record;
use crate::tree::Node;

/// Something that must be done, in the order in which [`Run::handle`](crate::Run::handle) asks for it.
///
/// Tensors are named, never carried: their bytes travel beside the heart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Append to the journal before any later effect is carried out.
    Record(Record),
    /// Tell the reducer to begin a fresh tree over `shards` shards. Comes before any lease of it.
    OpenStep {
        /// The parameters to compute with; for [`Work::Train`] also the step itself.
        step: StepId,
        /// The kind of work.
        work: Work,
        /// How many there are.
        shards: u32,
        /// Counts the openings.
        opening: Opening,
    },
    /// Chunks of training steps have other owners from now on. In a step in work, owners keep what they have added of
    /// chunks that stay theirs, and go on to compare further copies of nodes with it. All that was added of chunks that
    /// move is forgotten, be it a whole sum that the coordinator has: nobody could compare copies with what is in it.
    /// Each worker sends these chunks of all nodes that it has computed in this opening to whoever owns them now, and
    /// then tells [`Event::NodeDone`](crate::Event::NodeDone) of the nodes again. Until the first change the
    /// coordinator owns everything.
    Owners {
        /// Counts the changes.
        version: OwnersVersion,
        /// The owner of each chunk.
        of: Vec<Owner>,
        /// Why.
        why: OwnersReason,
    },
    /// Tell the reducer to forget the open step and whatever has arrived of it.
    AbandonStep {
        /// The step, as in [`Effect::OpenStep`].
        step: StepId,
        /// The kind of work.
        work: Work,
        /// Why.
        why: AbandonReason,
    },
    /// Lend a node to a worker.
    Send {
        /// To whom.
        worker: WorkerId,
        /// What.
        lease: Lease,
        /// Whether the answer is counted, compared, or both. The worker does not know.
        check: Check,
    },
    /// Tell a worker to drop a lease it holds.
    Revoke {
        /// Which worker.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
        /// Why.
        why: RevokeReason,
    },
    /// Close a worker's connection. The worker is no member of the run any more.
    Disconnect {
        /// Which worker.
        worker: WorkerId,
        /// Why.
        why: DisconnectReason,
    },
    /// The next parameters become the committed ones. Its [`Record::StepCommitted`] comes right before.
    Commit {
        /// The step; the parameters are those of `step + 1`.
        step: StepId,
        /// Their digest.
        digest: [u8; 32],
    },
    /// Write the committed parameters to disk, beside the run; then tell
    /// [`Event::CheckpointWritten`](crate::Event) or `CheckpointFailed`.
    Checkpoint {
        /// The committed parameters.
        step: StepId,
        /// The occasion of the checkpoint.
        reason: CheckpointReason,
        /// [`Run::trusted`](crate::Run::trusted) as the event found it: checkpoints before that may go, but for the
        /// newest.
        trusted: StepId,
    },
    /// For the log: a worker takes far too long for a lease although its heartbeats arrive. All nodes that the worker
    /// holds go to others as well, as soon as there are any.
    Overdue {
        /// The worker that holds it.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
        /// Its node.
        node: Node,
        /// For how long the worker has been computing.
        held: Micros,
    },
    /// For the log: a node came with a NaN, an infinity or absurdly large numbers. The step is opened again, and the
    /// node is computed elsewhere, if there is anybody, before such numbers are believed.
    Doubt {
        /// The worker that computed it.
        worker: WorkerId,
        /// Which lease.
        at: LeaseRef,
        /// Its node.
        node: Node,
    },
    /// For the log: copies of a node differ before it was done. The step is opened again, and the node is audited.
    Contradict {
        /// The step.
        step: StepId,
        /// The node.
        node: Node,
        /// The workers that brought it.
        workers: Vec<WorkerId>,
    },
    /// For the log: workers computed the same node and got different digests. Others compute it, until two agree.
    Dispute {
        /// The step.
        step: StepId,
        /// The node.
        node: Node,
        /// The workers that computed it, in this order.
        workers: Vec<WorkerId>,
    },
    /// A worker was proven to compute wrongly: two others agree on another digest for one of its nodes. Its machine may
    /// not come back. Its [`Record::Evicted`] comes right before, an [`Effect::Disconnect`] for each connection of that
    /// machine right after.
    Evict {
        /// Which one.
        worker: WorkerId,
        /// Its machine.
        machine: String,
        /// Its name, for people.
        name: String,
        /// The step in which it was found out.
        step: StepId,
        /// What proves it.
        proof: EvictionProof,
        /// The first step that may hold wrong numbers of the worker: commits of this and of later steps are not
        /// believed.
        since: StepId,
    },
    /// For the log: two workers of different machines disagree about what one has brought the other, and one of them is
    /// wrong. Neither owns chunks from now on. Its [`Record::Disagreed`] comes right before.
    Disagree {
        /// The step in work.
        step: StepId,
        /// Who brought it, and who owns the chunk.
        workers: [WorkerId; 2],
        /// Commits of this and of later steps are not believed.
        since: StepId,
    },
    /// For the log: an event that changed nothing.
    Ignore {
        /// The worker that the event told of.
        worker: Option<WorkerId>,
        /// What happened, in two words.
        what: &'static str,
        /// Why it does not count.
        why: IgnoreReason,
    },
    /// The run is over; its [`Record::Finished`] comes right before. Nothing follows.
    Finish {
        /// How it ended.
        outcome: Outcome,
    },
}

/// What proves that a machine is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EvictionProof {
    /// It computed this node, and two workers agree otherwise.
    Node {
        /// Which node.
        node: Node,
        /// Who agree.
        judges: [WorkerId; 2],
    },
    /// The sum of a chunk that it owned is not what the coordinator gets of the same numbers.
    Sum,
    /// It disagrees with these machines, so many that most would have to be wrong otherwise.
    Disagreements(Vec<String>),
}

/// Why a step is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AbandonReason {
    /// The run stops.
    Stopped,
    /// A NaN or an infinity in a node.
    NotFinite,
    /// Nodes of it that were counted are not believed.
    Doubted,
    /// A node failed too often.
    Failed,
    /// The step's digest is not the one in the journal.
    Diverged,
}

/// Why chunks have other owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnersReason {
    /// A step begins, and other workers than before can own chunks.
    StepBegins,
    /// An owner is gone.
    Gone(WorkerId),
    /// Another worker could not send a node to an owner.
    Unreached {
        /// The owner.
        owner: WorkerId,
        /// Who could not.
        by: WorkerId,
    },
    /// The sums of an owner did not come.
    Late(WorkerId),
    /// The step begins anew, as something that was brought is in doubt.
    Doubt,
}

impl OwnersReason {
    /// Whether it is told before a step is opened, so that no step is in work.
    pub fn opens_step(self) -> bool {
        matches!(self, OwnersReason::StepBegins | OwnersReason::Doubt)
    }
}

impl fmt::Display for OwnersReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnersReason::StepBegins => write!(f, "a step begins"),
            OwnersReason::Gone(owner) => write!(f, "{owner} is gone"),
            OwnersReason::Unreached { owner, by } => write!(f, "{by} does not reach {owner}"),
            OwnersReason::Late(owner) => write!(f, "the sums of {owner} do not come"),
            OwnersReason::Doubt => write!(f, "the step begins anew"),
        }
    }
}

/// Why a worker may drop a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokeReason {
    /// Another worker did the same node first.
    AnotherWasFirst,
    /// The step is given up.
    StepAbandoned,
    /// It was for an audit, and the audit was given up: nobody can do it in time.
    AuditDropped,
}

/// Why a worker's connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisconnectReason {
    /// Nothing was heard of it: it is lost.
    Silent {
        /// For how long.
        silence: Micros,
    },
    /// It asked to leave and holds nothing more.
    Drained,
    /// It was proven to compute wrongly, now or before: its machine may not take part.
    Evicted,
    /// There are as many workers as the plan allows.
    Full {
        /// The most workers that the plan allows.
        limit: u32,
    },
    /// The run is over.
    RunOver,
}

/// The occasion of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointReason {
    /// Enough steps or time since the last one.
    Interval,
    /// An epoch ended and was evaluated, and another follows.
    EpochEnd,
    /// The run stops because somebody asked.
    Stop,
    /// The run is complete, or stopped early.
    Finish,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IgnoreReason {
    /// It tells of a worker that is no member.
    UnknownWorker,
    /// The worker is a member already.
    AlreadyMember,
    /// It answers an earlier start of the coordinator.
    OtherGeneration {
        /// The start that it answers.
        answered: RunGeneration,
        /// The start that is running.
        current: RunGeneration,
    },
    /// It is about a step that is not in work.
    OtherStep {
        /// The step it is about.
        answered: StepId,
        /// The parameters committed last.
        committed: StepId,
    },
    /// No such lease was given in this step.
    UnknownLease(LeaseId),
    /// It is about owners of chunks that are none any more.
    OtherOwners {
        /// The owners that it is about.
        answered: OwnersVersion,
        /// The owners now.
        current: OwnersVersion,
    },
    /// It is about another opening of a step.
    OtherOpening {
        /// The opening that it is about.
        answered: Opening,
        /// The opening now.
        current: Opening,
    },
    /// It is about an owner, and this worker is none.
    NoOwner(WorkerId),
    /// The worker computes nothing, and so has no use for parameters.
    ComputesNothing,
    /// The worker has nothing to send.
    NothingToSend,
    /// The lease was given to another worker.
    ForeignLease {
        /// Which lease.
        lease: LeaseId,
        /// The worker that got it.
        holder: WorkerId,
    },
    /// The lease has ended: done or failed before, or another worker did its node first.
    LeaseOver(LeaseId),
    /// Not all nodes of the step have arrived.
    NodesMissing,
    /// No checkpoint of that step is being written.
    NoSuchCheckpoint(StepId),
    /// The run is stopping already.
    AlreadyStopping,
    /// The run is over.
    RunOver,
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IgnoreReason::UnknownWorker => write!(f, "the worker is no member"),
            IgnoreReason::AlreadyMember => write!(f, "the worker is a member already"),
            IgnoreReason::OtherGeneration { answered, current } => {
                write!(f, "it answers {answered}, this is {current}")
            }
            IgnoreReason::OtherStep { answered, committed } => {
                write!(f, "{answered} is not in work, {committed} is committed")
            }
            IgnoreReason::OtherOwners { answered, current } => {
                write!(f, "it is about {answered} of the owners, this is {current}")
            }
            IgnoreReason::OtherOpening { answered, current } => {
                write!(f, "it is about {answered}, this is {current}")
            }
            IgnoreReason::NoOwner(worker) => write!(f, "{worker} owns no chunk"),
            IgnoreReason::ComputesNothing => write!(f, "the worker computes nothing"),
            IgnoreReason::NothingToSend => write!(f, "the worker has no node to send"),
            IgnoreReason::UnknownLease(lease) => write!(f, "there is no {lease} in this step"),
            IgnoreReason::ForeignLease { lease, holder } => {
                write!(f, "{lease} was given to {holder}")
            }
            IgnoreReason::LeaseOver(lease) => write!(f, "{lease} has ended before"),
            IgnoreReason::NodesMissing => write!(f, "not all nodes of the step have arrived"),
            IgnoreReason::NoSuchCheckpoint(step) => {
                write!(f, "no checkpoint of {step} is being written")
            }
            IgnoreReason::AlreadyStopping => write!(f, "the run is stopping already"),
            IgnoreReason::RunOver => write!(f, "the run is over"),
        }
    }
}
