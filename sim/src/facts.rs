//! What happens in a simulated run, as an onlooker sees it who does not ask the scheduler.

use convoy_scheduler::{
    Contact, Effect, Event, Lease, LeaseRef, Node, Opening, Outcome, OwnersVersion, Record, ResumeError, RunGeneration,
    RunPlan, RunTime, StepId, SumFinding, Waiting, WorkerId,
};

/// What a message about chunks belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    /// The start of the coordinator.
    pub generation: RunGeneration,
    /// The step.
    pub step: StepId,
    /// The opening of it.
    pub opening: Opening,
    /// The owners of chunks.
    pub version: OwnersVersion,
}

/// Something that happened, in the world's own words.
#[derive(Debug)]
pub enum Fact<'a> {
    /// The coordinator is about to start.
    Started {
        /// The plan of the start.
        plan: &'a RunPlan,
        /// One number for the parameters and the optimizer's state that it read from a checkpoint.
        parameters: u64,
        /// The journal as it read it.
        read: &'a [Record],
    },
    /// The coordinator is stopped for a while.
    Asleep {
        /// Until then.
        until: RunTime,
    },
    /// The coordinator is dead, and all connections with it.
    Died,
    /// The coordinator was told something.
    Told {
        /// What.
        event: &'a Event,
        /// When it is said to have happened.
        at: RunTime,
        /// Whether it answered that this changes nothing.
        ignored: bool,
    },
    /// The coordinator was in contact with a worker, and was told no event.
    Heard {
        /// Which worker.
        worker: WorkerId,
        /// What moved.
        contact: Contact,
    },
    /// A process begins to compute a lease.
    Began {
        /// The step.
        step: StepId,
        /// One number for the parameters that it computes with.
        parameters: u64,
    },
    /// A worker has computed a lease.
    Computed {
        /// The number under which it got the lease.
        worker: WorkerId,
        /// Which lease.
        lease: Lease,
        /// The step whose samples it took.
        data_of: StepId,
        /// Whether it got other numbers than it should.
        lied: bool,
    },
    /// An owner takes in a chunk of a node that is not the coordinator's.
    Added {
        /// The owner.
        owner: WorkerId,
        /// The opening and the owners that it knows of.
        knows: Fence,
        /// The opening and the owners that the chunk was sent for.
        sent: Fence,
        /// The chunk.
        chunk: usize,
        /// The node.
        node: Node,
    },
    /// An owner has made the next parameters of a chunk.
    MadeChunk {
        /// The owner.
        owner: WorkerId,
        /// The parameters.
        step: StepId,
        /// The chunk.
        chunk: usize,
        /// What it has made of it.
        value: u64,
        /// Whether it has added the chunk wrongly.
        wrong: bool,
    },
    /// The coordinator takes the sum of a chunk from its owner.
    SumTaken {
        /// The owner.
        owner: WorkerId,
        /// The chunk.
        chunk: usize,
        /// Whether it was added wrongly.
        wrong: bool,
    },
    /// The coordinator has added a chunk anew, and is about to tell the run what came of it.
    SumFound {
        /// The owner.
        owner: WorkerId,
        /// The chunk.
        chunk: usize,
        /// What came of it.
        finding: SumFinding,
    },
    /// A worker does not answer what an audit asks of it, and the run is about to be told.
    Unanswered {
        /// Which worker.
        worker: WorkerId,
    },
    /// A worker says, sends or hands out something else than it has; nothing of it is counted.
    Misled {
        /// Which worker.
        worker: WorkerId,
    },
    /// The reducer adds a node.
    Counted {
        /// The worker that the node is counted for.
        worker: WorkerId,
        /// The lease that the worker said it answers.
        answered: LeaseRef,
        /// The node.
        node: Node,
    },
    /// A record was written to the journal.
    Appended(&'a Record),
    /// All of the journal is on disk for good.
    Synced,
    /// A checkpoint is on disk for good.
    Saved {
        /// Of which step.
        step: StepId,
        /// One number for the parameters and the optimizer's state in it.
        parameters: u64,
    },
    /// An effect was carried out.
    CarriedOut(&'a Effect),
    /// The coordinator goes on with these parameters.
    Made {
        /// Of which step.
        step: StepId,
        /// One number for them and the optimizer's state.
        parameters: u64,
    },
    /// All effects of an event are carried out.
    Rested {
        /// What the run says that it waits for.
        waiting: &'a Waiting,
        /// When it wants to be told the time.
        deadline: Option<RunTime>,
        /// The time that it was told last.
        told: RunTime,
    },
    /// Two runs were told the same events and did not do the same.
    Differed,
    /// The coordinator could not start.
    Refused(&'a ResumeError),
    /// The storm is long over, and the run has not ended.
    Overtime {
        /// What it says that it waits for.
        waiting: &'a str,
    },
    /// The run is over for good.
    Ended(&'a Outcome),
}
