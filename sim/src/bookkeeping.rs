//! The books of an onlooker: the state of a simulated run as it follows from its [facts](crate::facts) alone.

use std::collections::{BTreeMap, BTreeSet};

use convoy_scheduler::{
    Contact, Effect, Event, Lease, LeaseId, LeaseRef, Micros, Node, Opening, Outcome, Owner, OwnersVersion, Record,
    RunPlan, RunTime, ShardId, StepId, Waiting, Work, WorkerId,
};

use crate::facts::Fact;
use crate::oracle;

/// A worker that the coordinator counts as there.
#[derive(Clone, Debug)]
pub struct Member {
    /// Shards it computes at a time.
    pub threads: u32,
    /// When it was last in contact.
    pub contact: Contact,
    /// The newest parameters that it said it holds.
    pub ready: Option<StepId>,
    /// It wants to leave.
    pub draining: bool,
    /// Leases that it said it has computed, and when by the clock that the coordinator knows of.
    pub computed: BTreeMap<LeaseId, RunTime>,
    /// Leases that it was sent and that have not ended.
    pub held: BTreeMap<LeaseId, Lease>,
}

/// The step (or evaluation) in work.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its step.
    pub step: StepId,
    /// The kind of work.
    pub work: Work,
    /// Its shards.
    pub shards: u32,
    /// The nodes that the reducer has added, each with its worker and lease.
    pub counted: Vec<(Node, WorkerId, LeaseRef)>,
}

/// A node that a worker computed.
#[derive(Clone, Debug)]
pub struct Computed {
    /// Which worker.
    pub worker: WorkerId,
    /// Which node.
    pub node: Node,
    /// From which step's samples.
    pub data_of: StepId,
    /// Whether it got other numbers than it should.
    pub lied: bool,
}

impl Open {
    /// Whether all shards are counted.
    pub fn is_covered(&self) -> bool {
        self.counted.iter().map(|(node, ..)| node.size()).sum::<u32>() == self.shards
    }
}

/// The state of a run as it follows from the facts alone. Invariants compare the acts of the scheduler with it.
/// Many fields: each is a question that some invariant asks.
#[derive(Clone, Debug)]
pub struct Books {
    /// Now.
    pub now: RunTime,
    /// The latest time that the coordinator was told.
    pub clock: RunTime,
    /// A shard of which every worker dies.
    pub poison: Option<(StepId, ShardId)>,
    /// The coordinator sleeps, or slept, until then.
    pub asleep_until: RunTime,
    /// The plan of this start.
    pub plan: RunPlan,
    /// The workers that are there.
    pub members: BTreeMap<WorkerId, Member>,
    /// The step or evaluation in work.
    pub open: Option<Open>,
    /// The step whose parameters are committed.
    pub committed: StepId,
    /// Whether the end of an epoch at `committed` is evaluated, or no epoch ends there.
    pub evaluated: bool,
    /// The parameters in the checkpoints that are being written.
    pub being_written: BTreeSet<StepId>,
    /// Nodes that workers computed since the last commit.
    pub computed: BTreeMap<LeaseRef, Computed>,
    /// Machines of the workers of this start, those that are gone included.
    pub machines: BTreeMap<WorkerId, String>,
    /// Nodes of the step in work on which workers do not agree.
    pub disputed: BTreeSet<Node>,
    /// Wrong numbers in committed steps.
    pub lies: CommittedLies,
    /// Machines that were said to disagree with others, whatever became of those.
    pub disputed_machines: BTreeSet<String>,
    /// All machines that have ever computed or added wrongly, or misled others.
    pub liars: BTreeSet<String>,
    /// Who owns which chunk, and has what of it.
    pub exchange: ExchangeBooks,
    /// How this start ended.
    pub finished: Option<Outcome>,
}

/// Who owns which chunk, and has what of it.
#[derive(Clone, Debug, Default)]
pub struct ExchangeBooks {
    /// What was opened last.
    pub opening: Opening,
    /// The owners now.
    pub version: OwnersVersion,
    /// The owners of each chunk, by version.
    pub versions: BTreeMap<OwnersVersion, Vec<Owner>>,
    /// Whom each worker said last that it reaches.
    pub reach: BTreeMap<WorkerId, BTreeSet<WorkerId>>,
    /// The nodes that an owner has taken in of a chunk.
    pub taken: BTreeMap<(Opening, WorkerId, usize), BTreeSet<Node>>,
    /// The sums that the coordinator has of the owners, by chunk: of whom, and whether it was added wrongly.
    pub sums: BTreeMap<usize, (WorkerId, bool)>,
}

impl ExchangeBooks {
    /// The owner of each chunk now.
    pub fn of(&self) -> &[Owner] {
        self.versions.get(&self.version).map_or(&[], Vec::as_slice)
    }

    /// Whether a worker says that it reaches all that own chunks.
    pub fn reaches_owners(&self, worker: WorkerId) -> bool {
        let reaches = |owner: &Owner| match owner {
            Owner::Coordinator => true,
            Owner::Worker(owner) => {
                *owner == worker || self.reach.get(&worker).is_some_and(|reached| reached.contains(owner))
            }
        };
        self.of().iter().all(reaches)
    }

    /// Whether the present owner of each chunk that a worker owns has `node`.
    pub fn is_delivered(&self, node: Node) -> bool {
        self.of().iter().enumerate().all(|(chunk, owner)| match owner {
            Owner::Coordinator => true,
            Owner::Worker(owner) => self.taken.get(&(self.opening, *owner, chunk)).is_some_and(|taken| {
                let parts = taken.iter().filter(|part| node.contains(**part)).map(|part| part.size()).sum::<u32>();
                taken.iter().any(|whole| whole.contains(node)) || parts >= node.size()
            }),
        })
    }
}

/// Wrong numbers that were committed.
#[derive(Clone, Debug, Default)]
pub struct CommittedLies {
    /// Committed steps that count wrong numbers and that the journal still believes.
    pub steps: BTreeSet<StepId>,
    /// The first step whose wrong numbers are in the parameters that the run goes on with.
    pub tainted: Option<StepId>,
    /// By machine, the steps in the journal with wrong numbers of it.
    pub by_machine: BTreeMap<String, BTreeSet<StepId>>,
}

impl CommittedLies {
    /// The first step in the journal with wrong numbers of any of these machines.
    pub fn first_of(&self, machines: &[&String]) -> Option<StepId> {
        machines.iter().filter_map(|machine| self.by_machine.get(*machine)?.first().copied()).min()
    }

    /// Commits of `since` and of later steps are not believed.
    fn disbelieve(&mut self, since: StepId) {
        self.steps.split_off(&since);
        self.by_machine.values_mut().for_each(|steps| _ = steps.split_off(&since));
    }
}

impl Books {
    /// The books before the first start.
    pub fn new(plan: RunPlan) -> Books {
        Books {
            now: RunTime(0),
            asleep_until: RunTime(0),
            clock: RunTime(0),
            poison: None,
            committed: plan.first_step,
            plan,
            members: BTreeMap::new(),
            open: None,
            evaluated: true,
            being_written: BTreeSet::new(),
            computed: BTreeMap::new(),
            machines: BTreeMap::new(),
            disputed: BTreeSet::new(),
            lies: CommittedLies::default(),
            disputed_machines: BTreeSet::new(),
            liars: BTreeSet::new(),
            exchange: ExchangeBooks::default(),
            finished: None,
        }
    }

    /// Enters a fact.
    pub fn enter(&mut self, fact: &Fact) {
        match fact {
            Fact::Started { plan, parameters, .. } => self.started(plan, *parameters),
            Fact::Asleep { until } => self.asleep_until = *until,
            Fact::Died => {
                self.members.clear();
                self.being_written.clear();
                self.open = None;
            }
            Fact::Told { event, at, ignored } => {
                self.clock = self.clock.max(*at);
                self.told(event, *ignored);
            }
            Fact::Heard { worker, contact } => {
                self.clock = self.clock.max(contact.heard);
                if let Some(member) = self.members.get_mut(worker) {
                    member.contact = member.contact.or_later(*contact);
                }
            }
            Fact::Computed { worker, lease, data_of, lied } => {
                let computed = Computed { worker: *worker, node: lease.node, data_of: *data_of, lied: *lied };
                self.computed.insert(lease.at, computed);
                if *lied {
                    self.lied(*worker);
                }
            }
            Fact::MadeChunk { owner: worker, wrong: true, .. } | Fact::Misled { worker } => self.lied(*worker),
            Fact::SumTaken { owner, chunk, wrong } => _ = self.exchange.sums.insert(*chunk, (*owner, *wrong)),
            Fact::Added { owner, knows, chunk, node, .. } => {
                let taken = self.exchange.taken.entry((knows.opening, *owner, *chunk)).or_default();
                taken.insert(*node);
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
                self.lies.disbelieve(*since)
            }
            Fact::Appended(Record::Disagreed { machines, since }) => {
                self.lies.disbelieve(*since);
                self.disputed_machines.extend(machines.iter().cloned());
            }
            Fact::Appended(Record::StepCommitted { step, .. }) => self.journal_lies(*step),
            Fact::CarriedOut(effect) => self.carried_out(effect),
            _ => {}
        }
    }

    fn started(&mut self, plan: &RunPlan, parameters: u64) {
        let evaluated = !plan.evaluation_pending;
        let computed = std::mem::take(&mut self.computed);
        let mut lies = std::mem::take(&mut self.lies);
        let history = oracle::history(plan);
        let right = history.get(plan.first_step.0 as usize).map(oracle::Model::number) == Some(parameters);
        lies.tainted = lies.steps.first().copied().filter(|step| !right && *step < plan.first_step);
        let (poison, liars) = (self.poison, std::mem::take(&mut self.liars));
        let (now, asleep_until) = (self.now, self.asleep_until);
        let fresh = Books::new(plan.clone());
        *self = Books { now, asleep_until, poison, evaluated, computed, lies, liars, ..fresh };
    }

    /// Whether somebody has computed wrong numbers since the last commit.
    pub fn has_lies(&self) -> bool {
        self.computed.values().any(|computed| computed.lied)
    }

    /// The workers whose wrong numbers are counted in the step in work, with their nodes.
    pub fn open_lies(&self) -> impl Iterator<Item = (WorkerId, Node)> {
        let counted = self.open.iter().flat_map(|open| &open.counted);
        let lied = |at| self.computed.get(at).is_some_and(|computed| computed.lied);
        counted.filter(move |(_, _, at)| lied(at)).map(|(node, worker, _)| (*worker, *node))
    }

    /// The chunks in the step in work that their owners have added wrongly.
    pub fn open_wrong_sums(&self) -> impl Iterator<Item = (WorkerId, usize)> {
        self.exchange.sums.iter().filter(|(_, (_, wrong))| *wrong).map(|(chunk, (owner, _))| (*owner, *chunk))
    }

    /// Whether wrong numbers are in the step in work.
    pub fn is_open_wrong(&self) -> bool {
        self.open_lies().next().is_some() || self.open_wrong_sums().next().is_some()
    }

    /// The machine of a worker of this start.
    pub fn machine(&self, worker: WorkerId) -> String {
        self.machines.get(&worker).cloned().unwrap_or_default()
    }

    fn lied(&mut self, worker: WorkerId) {
        self.liars.extend(self.machines.get(&worker).cloned());
    }

    /// The journal has the step in work as committed, with all that is wrong in it.
    /// What a run says that waits for workers, if it counts those that compute nothing.
    pub fn counting_adders(&self, waiting: Waiting) -> Waiting {
        match (&waiting, self.members.keys().next()) {
            (Waiting::Workers { step, .. }, Some(worker)) => {
                Waiting::Parameters { worker: *worker, step: *step, since: Micros(0) }
            }
            _ => waiting,
        }
    }

    fn journal_lies(&mut self, step: StepId) {
        let wrong = self.open_lies().map(|(worker, _)| worker).chain(self.open_wrong_sums().map(|(owner, _)| owner));
        let machines: BTreeSet<String> = wrong.map(|worker| self.machine(worker)).collect();
        self.lies.by_machine.values_mut().for_each(|steps| _ = steps.remove(&step));
        for machine in machines {
            self.lies.by_machine.entry(machine).or_default().insert(step);
        }
    }

    fn told(&mut self, event: &Event, ignored: bool) {
        if let Some(member) = event.worker().and_then(|worker| self.members.get_mut(&worker)) {
            member.contact = member.contact.or_later(Contact::of_message(self.clock));
        }
        if ignored {
            return;
        }
        match event {
            Event::WorkerJoined { worker, machine, threads, .. } => {
                self.machines.insert(*worker, machine.clone());
                let contact = Contact::of_message(self.clock);
                let (computed, held) = (BTreeMap::new(), BTreeMap::new());
                let member = Member { threads: *threads, contact, ready: None, draining: false, computed, held };
                self.members.insert(*worker, member);
            }
            Event::WorkerGone { worker, .. } => {
                self.members.remove(worker);
            }
            Event::WorkerDraining { worker } => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.draining = true;
                }
            }
            Event::NodeComputed { worker, at } => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.computed.entry(at.lease).or_insert(self.clock);
                }
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
            Event::PeersReached { worker, reached } => _ = self.exchange.reach.insert(*worker, reached.clone()),
            Event::PeerLost { worker, peer, .. } => {
                if let Some(reached) = self.exchange.reach.get_mut(worker) {
                    reached.remove(peer);
                }
            }
            Event::CheckpointWritten { step } | Event::CheckpointFailed { step } => {
                self.being_written.remove(step);
            }
            _ => {}
        }
    }

    /// Chunks have other owners: no node is counted before these have it. Who computed one holds its lease again.
    fn nodes_are_sent_again(&mut self) {
        let Some(Open { work, counted, .. }) = &mut self.open else { return };
        for (node, worker, at) in std::mem::take(counted) {
            if let Some(member) = self.members.get_mut(&worker) {
                member.held.insert(at.lease, Lease { at, work: *work, node });
            }
        }
        // Whoever sends has that time anew.
        let clock = self.clock;
        self.members.values_mut().flat_map(|member| member.computed.values_mut()).for_each(|at| *at = clock);
    }

    fn carried_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Owners { version, of, why } => {
                let changed = |chunk: &usize| self.exchange.of().get(*chunk) != of.get(*chunk);
                let moved: Vec<usize> = (0..of.len()).filter(changed).collect();
                self.exchange.sums.retain(|chunk, _| !moved.contains(chunk));
                self.exchange.version = *version;
                self.exchange.versions.insert(*version, of.clone());
                if !why.opens_step() {
                    self.nodes_are_sent_again();
                }
            }
            Effect::OpenStep { step, work, shards, opening } => {
                self.exchange.opening = *opening;
                self.exchange.taken.retain(|(other, ..), _| other == opening);
                self.exchange.sums.clear();
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
                self.lies.steps.remove(step);
                if self.is_open_wrong() {
                    self.lies.steps.insert(*step);
                    self.lies.tainted.get_or_insert(*step);
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
            | Effect::Disagree { .. }
            | Effect::Overdue { .. }
            | Effect::Doubt { .. }
            | Effect::Contradict { .. }
            | Effect::Ignore { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::{Check, RunGeneration};

    use super::*;

    const WORKER: WorkerId = WorkerId(1);

    /// Books of a run with one worker that holds a lease of the whole first step.
    fn books() -> (Books, Lease) {
        let plan = RunPlan::new(1, 2, 4, 4);
        let mut books = Books::new(plan.clone());
        books.enter(&Fact::Started { plan: &plan, parameters: oracle::Model::first(plan.chunks).number(), read: &[] });
        let [machine, name] = ["ox", "ox"].map(str::to_owned);
        let event = Event::WorkerJoined { worker: WORKER, machine, name, threads: 2 };
        books.enter(&Fact::Told { event: &event, at: books.now, ignored: false });
        books.enter(&Fact::CarriedOut(&Effect::OpenStep {
            step: StepId(0),
            work: Work::Train,
            shards: 4,
            opening: Opening(1),
        }));
        let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(0), epoch: 0 };
        let lease = Lease { at, work: Work::Train, node: Node { first: 0, last: 4 } };
        books.enter(&Fact::CarriedOut(&Effect::Send { worker: WORKER, lease, check: Check::Count }));
        (books, lease)
    }

    fn commit(books: &mut Books, lease: Lease, lied: bool) {
        books.enter(&Fact::Computed { worker: WORKER, lease, data_of: StepId(0), lied });
        books.enter(&Fact::Counted { worker: WORKER, answered: lease.at, node: lease.node });
        books.enter(&Fact::CarriedOut(&Effect::Commit { step: StepId(0), digest: [0; 32] }));
    }

    #[test]
    fn a_lease_is_held_until_it_is_answered_or_revoked() {
        let (mut books, lease) = books();
        assert_eq!(books.members[&WORKER].held.values().collect::<Vec<_>>(), [&lease]);
        let why = convoy_scheduler::RevokeReason::AnotherWasFirst;
        books.enter(&Fact::CarriedOut(&Effect::Revoke { worker: WORKER, at: lease.at, why }));
        assert!(books.members[&WORKER].held.is_empty());
    }

    #[test]
    fn an_ignored_event_shows_only_that_the_worker_lives() {
        let (mut books, _) = books();
        books.now = RunTime(5);
        let event = Event::WorkerReady { worker: WORKER, step: StepId(3) };
        books.enter(&Fact::Told { event: &event, at: books.now, ignored: true });
        let member = &books.members[&WORKER];
        assert_eq!((member.contact.heard, member.ready), (RunTime(5), None));
    }

    #[test]
    fn a_step_is_covered_when_all_shards_are_counted() {
        let (mut books, lease) = books();
        let covered = |books: &Books| books.open.as_ref().is_some_and(Open::is_covered);
        assert!(!covered(&books));
        books.enter(&Fact::Counted { worker: WORKER, answered: lease.at, node: lease.node });
        assert!(covered(&books));
    }

    #[test]
    fn a_committed_lie_taints_the_run_until_its_step_is_not_believed() {
        let (mut books, lease) = books();
        commit(&mut books, lease, true);
        assert_eq!((books.committed, books.lies.tainted), (StepId(1), Some(StepId(0))));
        books.enter(&Fact::Appended(&Record::Disbelieved { since: StepId(0) }));
        assert!(books.lies.steps.is_empty());
    }

    #[test]
    fn an_honest_commit_taints_nothing() {
        let (mut books, lease) = books();
        commit(&mut books, lease, false);
        assert_eq!((books.lies.tainted, books.lies.steps.len(), books.open.is_none()), (None, 0, true));
    }
}
