//! What happens, and the books that an onlooker keeps who does not ask the scheduler.

use std::collections::{BTreeMap, BTreeSet};

use convoy_scheduler::*;

use crate::oracle;

/// Something that happened, in the world's own words.
#[derive(Debug)]
pub enum Fact<'a> {
    /// The coordinator is about to start.
    Started {
        /// What it starts with.
        plan: &'a RunPlan,
        /// The parameters that it read from a checkpoint.
        parameters: u64,
        /// The journal as it read it.
        read: &'a [Record],
    },
    /// The coordinator is dead, and all connections with it.
    Died,
    /// The coordinator was told something.
    Told {
        /// What.
        event: &'a Event,
        /// It answered that this changes nothing.
        ignored: bool,
    },
    /// A worker has computed a lease.
    Computed {
        /// Under which name it got the lease.
        worker: WorkerId,
        /// Which lease.
        lease: Lease,
        /// The step whose samples it took.
        data_of: StepId,
        /// It came to other numbers than it should.
        lied: bool,
    },
    /// The reducer adds a node.
    Counted {
        /// The worker that it takes it for.
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
        /// The parameters in it.
        parameters: u64,
    },
    /// An effect was carried out.
    Left(&'a Effect),
    /// The coordinator goes on with these parameters.
    Made {
        /// Of which step.
        step: StepId,
        /// Which.
        parameters: u64,
    },
    /// All that followed from an event is done.
    Rested {
        /// What the run says that it waits for.
        waiting: &'a Waiting,
        /// When it wants to be told the time.
        deadline: Option<RunTime>,
    },
    /// Two runs were told the same and did not do the same.
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

/// A worker that the coordinator counts in.
#[derive(Clone, Debug)]
pub struct Member {
    /// Shards it computes at a time.
    pub threads: u32,
    /// When something of it arrived last.
    pub heard: RunTime,
    /// The newest parameters that it said it holds.
    pub ready: Option<StepId>,
    /// Leases that it was sent and that have not ended.
    pub held: BTreeMap<LeaseId, Lease>,
}

/// The step (or evaluation) in work.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its step.
    pub step: StepId,
    /// What is done.
    pub work: Work,
    /// Its shards.
    pub shards: u32,
    /// What the reducer has added, and for whom.
    pub counted: Vec<(Node, WorkerId, LeaseRef)>,
}

/// What a worker computed.
#[derive(Clone, Debug)]
pub struct Computed {
    /// Which worker.
    pub worker: WorkerId,
    /// Which node.
    pub node: Node,
    /// From which step's samples.
    pub data_of: StepId,
    /// It came to other numbers than it should.
    pub lied: bool,
}

impl Open {
    /// Whether all shards are counted.
    pub fn is_covered(&self) -> bool {
        self.counted.iter().map(|(node, ..)| node.size()).sum::<u32>() == self.shards
    }
}

/// The state of things as it follows from the facts alone.
#[derive(Clone, Debug)]
pub struct Books {
    /// Now.
    pub now: RunTime,
    /// The plan of this start.
    pub plan: RunPlan,
    /// Who is counted in.
    pub members: BTreeMap<WorkerId, Member>,
    /// What is in work.
    pub open: Option<Open>,
    /// The step whose parameters are committed.
    pub committed: StepId,
    /// The end of an epoch at `committed` is evaluated, or there is none.
    pub evaluated: bool,
    /// Checkpoints asked for.
    pub being_written: BTreeSet<StepId>,
    /// What workers computed since the last commit.
    pub computed: BTreeMap<LeaseRef, Computed>,
    /// Names of the workers of this start, those that are gone too.
    pub names: BTreeMap<WorkerId, String>,
    /// Nodes of the step in work on which workers do not agree.
    pub disputed: BTreeSet<Node>,
    /// The first step whose lie is in the parameters that the run goes on with.
    pub tainted: Option<StepId>,
    /// Committed steps with lies in them that the journal believes.
    pub lied_in: BTreeSet<StepId>,
    /// How this start ended.
    pub finished: Option<Outcome>,
}

impl Books {
    /// The books before the first start.
    pub fn new(plan: RunPlan) -> Books {
        Books {
            now: RunTime(0),
            committed: plan.first_step,
            plan,
            members: BTreeMap::new(),
            open: None,
            evaluated: true,
            being_written: BTreeSet::new(),
            computed: BTreeMap::new(),
            names: BTreeMap::new(),
            disputed: BTreeSet::new(),
            tainted: None,
            lied_in: BTreeSet::new(),
            finished: None,
        }
    }

    /// Enters a fact.
    pub fn enter(&mut self, fact: &Fact) {
        match fact {
            Fact::Started { plan, parameters, .. } => {
                let evaluated = !plan.evaluation_pending;
                let computed = std::mem::take(&mut self.computed);
                let lied_in = std::mem::take(&mut self.lied_in);
                let right = oracle::history(plan).get(plan.first_step.0 as usize) == Some(parameters);
                let tainted = lied_in.first().copied().filter(|step| !right && *step < plan.first_step);
                *self = Books { now: self.now, evaluated, computed, tainted, lied_in, ..Books::new((*plan).clone()) };
            }
            Fact::Died => {
                self.members.clear();
                self.being_written.clear();
                self.open = None;
            }
            Fact::Told { event, ignored } => self.told(event, *ignored),
            Fact::Computed { worker, lease, data_of, lied } => {
                let computed = Computed { worker: *worker, node: lease.node, data_of: *data_of, lied: *lied };
                self.computed.insert(lease.at, computed);
            }
            Fact::Counted { worker, answered, node } => {
                if let Some(open) = &mut self.open {
                    open.counted.push((*node, *worker, *answered));
                }
            }
            Fact::Appended(Record::Evaluated { .. }) => {
                self.evaluated = true;
                self.open = None;
            }
            Fact::Appended(Record::Evicted { since, .. } | Record::Disbelieved { since }) => {
                self.lied_in.split_off(since);
            }
            Fact::Left(effect) => self.left(effect),
            _ => {}
        }
    }

    /// Whose lies are counted in the step in work, and in which nodes.
    pub fn lies(&self) -> impl Iterator<Item = (WorkerId, Node)> {
        let counted = self.open.iter().flat_map(|open| &open.counted);
        let lied = |at| self.computed.get(at).is_some_and(|computed| computed.lied);
        counted.filter(move |(_, _, at)| lied(at)).map(|(node, worker, _)| (*worker, *node))
    }

    fn told(&mut self, event: &Event, ignored: bool) {
        if let Some(member) = event.worker().and_then(|worker| self.members.get_mut(&worker)) {
            member.heard = self.now;
        }
        if ignored {
            return;
        }
        match event {
            Event::WorkerJoined { worker, name, threads } => {
                self.names.insert(*worker, name.clone());
                let member = Member { threads: *threads, heard: self.now, ready: None, held: BTreeMap::new() };
                self.members.insert(*worker, member);
            }
            Event::WorkerGone { worker, .. } => {
                self.members.remove(worker);
            }
            Event::NodeDone { worker, at, .. } | Event::LeaseFailed { worker, at, .. } => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.held.remove(&at.lease);
                }
            }
            Event::WorkerReady { worker, step } => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.ready = member.ready.max(Some(*step));
                }
            }
            Event::CheckpointWritten { step } | Event::CheckpointFailed { step } => {
                self.being_written.remove(step);
            }
            _ => {}
        }
    }

    fn left(&mut self, effect: &Effect) {
        match effect {
            Effect::OpenStep { step, work, shards } => {
                self.open = Some(Open { step: *step, work: *work, shards: *shards, counted: Vec::new() });
                self.disputed.clear();
            }
            Effect::AbandonStep { .. } => self.open = None,
            Effect::Send { worker, lease, .. } => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.held.insert(lease.at.lease, *lease);
                }
            }
            Effect::Revoke { worker, at, .. } => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.held.remove(&at.lease);
                }
            }
            Effect::Disconnect { worker, .. } => {
                self.members.remove(worker);
            }
            Effect::Commit { step, .. } => {
                self.lied_in.remove(step);
                if self.lies().next().is_some() {
                    self.lied_in.insert(*step);
                    self.tainted.get_or_insert(*step);
                }
                self.computed.clear();
                self.committed = step.next();
                self.evaluated = !self.plan.ends_epoch(self.committed) || self.plan.evaluate_shards == 0;
                self.open = None;
            }
            Effect::Checkpoint { step, .. } => {
                self.being_written.insert(*step);
            }
            Effect::Finish { outcome } => self.finished = Some(outcome.clone()),
            Effect::Dispute { node, .. } => {
                self.disputed.insert(*node);
            }
            Effect::Record(_)
            | Effect::Evict { .. }
            | Effect::Overdue { .. }
            | Effect::Doubt { .. }
            | Effect::Ignore { .. } => {}
        }
    }
}
