//! The step in work: its shards cut into nodes, and the leases on them.

mod audit;
mod audits;
mod beside;
mod moving;
mod sending;

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::IgnoreReason;
use crate::event::Failure;
use crate::ids::{LeaseId, Micros, RunGeneration, RunTime, StepId, WorkerId};
use crate::lease::{Lease, LeaseRef, Work};
use crate::node_digest::NodeDigest;
use crate::record::{LedgerEntry, check_ledger};
use crate::tree::{Node, root};
use crate::trust::Trust;

use audit::{Audit, Ballot};
pub(crate) use audit::{Verdict, WrongBallot};
use beside::Beside;

/// A step (or an evaluation) in work.
///
/// `nodes` cut `[0, shards)` without gap or overlap at all times. A node is done, or lent to some workers, or planned
/// for one worker (that holds enough leases already), or homeless. Only a node that nobody holds is ever split.
///
/// Many fields: each is a fact of its own about the step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    /// The parameters to compute with.
    pub step: StepId,
    /// The kind of work.
    pub work: Work,
    /// How many there are.
    pub shards: u32,
    /// Since when all nodes are done and no audit is open.
    pub covered: Option<RunTime>,
    /// All nodes are done, or lent for the only time and not slow; no audit is open. So it was after the last event
    /// that could change it.
    pub nothing_to_lend: bool,
    /// Whether every node is computed twice.
    pub audit_all: bool,
    /// Whether it was begun anew.
    pub reopened: bool,
    /// Owners of whose sums one was added anew, and was equal.
    pub audited_owners: BTreeSet<WorkerId>,
    /// Workers whose numbers for a node were not believed. As long as there are others, nothing more that they compute
    /// of this step counts.
    suspects: BTreeSet<WorkerId>,
    nodes: BTreeMap<Node, NodeState>,
    leases: BTreeMap<LeaseId, LeaseState>,
    sending: BTreeMap<WorkerId, Sending>,
    /// Times that nodes of this step took to be sent.
    sent: Beside,
    /// Times that leases of this step waited for their workers.
    waited: Beside,
}

/// Nodes that a worker has computed and that are sent, in any order or all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sending {
    /// Since when there are any.
    pub since: RunTime,
    /// When one of them arrived last, or else the first was begun.
    pub arrived: RunTime,
    /// How many have not arrived.
    pub left: u64,
    /// How many have.
    pub done: u64,
}

/// The state of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NodeState {
    /// Whose numbers are counted, and under which lease.
    done: Option<Done>,
    /// The worker that it is meant for.
    planned: Option<WorkerId>,
    /// Leases on it that still run.
    pub running: Vec<LeaseId>,
    /// How often it was lent: the lease epoch of its next lease.
    leased: u32,
    /// The workers that failed at it, and how.
    pub failures: Vec<(WorkerId, Fault)>,
    /// The workers that died while they computed it, since anything of the step was done last.
    pub deaths: Vec<(WorkerId, RunTime)>,
    audit: Audit,
}

/// Who has computed a node whose numbers are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Done {
    worker: WorkerId,
    lease: LeaseId,
}

/// How a worker failed at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// It could not compute it.
    Failed(Failure),
    /// It computed a NaN or an infinity.
    NotFinite,
    /// It computed something absurdly large.
    Absurd,
    /// What it brought is not what another brought.
    Contradicted,
}

/// The state of a lease.
///
/// Many fields: each is a fact of its own about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeaseState {
    pub worker: WorkerId,
    pub node: Node,
    pub at: LeaseRef,
    pub sent: RunTime,
    /// Since when its worker holds the parameters.
    pub started: Option<RunTime>,
    /// Shards that its worker had to compute when it got this lease, those of the lease included.
    pub queue: u32,
    /// When its worker had computed it: from then on it is sent.
    pub computed: Option<RunTime>,
    /// Its node is among those that its worker [sends](Sending).
    sending: bool,
    /// Since when it is slow, if it was found to be.
    pub slow: Option<RunTime>,
    pub overdue: bool,
    /// Its node was done before, and is sent again as chunks have moved.
    pub again: bool,
    /// Only digests of its node are sent.
    digests: bool,
    over: bool,
}

/// The terms of a lease that [`Step::lend`] gives out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub node: Node,
    pub worker: WorkerId,
    pub generation: RunGeneration,
    /// The number of the lease, unused so far.
    pub lease: LeaseId,
    pub now: RunTime,
    /// Whether the worker holds the parameters, so that the clock of the lease starts at once.
    pub ready: bool,
    /// Whether only digests of the node are sent.
    pub digests: bool,
}

impl LeaseState {
    /// How many shards each of the worker's threads computes, one after the other, until this lease is done.
    pub fn rounds(&self, threads: u32) -> u64 {
        u64::from(self.queue.div_ceil(threads))
    }

    /// The least time that a shard takes its worker on one thread, given that the lease still runs at `now`.
    pub fn per_shard_at_least(&self, now: RunTime, threads: u32) -> Micros {
        let until = self.computed.unwrap_or(now);
        Micros(self.started.map_or(0, |started| until.since(started).0 / self.rounds(threads)))
    }
}

/// The work that a worker has in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Load {
    /// Leases it holds.
    pub held: u32,
    /// Nodes planned for it.
    pub planned: u32,
    /// Shards in both.
    pub shards: u32,
}

impl Step {
    /// A step of which nothing is planned, lent or done.
    pub fn new(step: StepId, work: Work, shards: u32) -> Step {
        let nodes = BTreeMap::from([(root(shards), NodeState::default())]);
        Step {
            step,
            work,
            shards,
            covered: None,
            nothing_to_lend: false,
            audit_all: false,
            reopened: false,
            audited_owners: BTreeSet::new(),
            suspects: BTreeSet::new(),
            nodes,
            leases: BTreeMap::new(),
            sending: BTreeMap::new(),
            sent: Beside::default(),
            waited: Beside::default(),
        }
    }

    /// Checks that an answer by `worker` is to a lease of its own that still runs.
    ///
    /// # Errors
    /// Why the answer does not count.
    pub fn fence(&self, worker: WorkerId, at: LeaseRef) -> Result<(), IgnoreReason> {
        let lease = self.leases.get(&at.lease).filter(|lease| lease.at == at);
        let lease = lease.ok_or(IgnoreReason::UnknownLease(at.lease))?;
        if lease.worker != worker {
            return Err(IgnoreReason::ForeignLease { lease: at.lease, holder: lease.worker });
        }
        if lease.over { Err(IgnoreReason::LeaseOver(at.lease)) } else { Ok(()) }
    }

    /// Nodes that are neither done nor planned nor lent.
    pub fn homeless(&self) -> impl Iterator<Item = (Node, &NodeState)> {
        let homeless = |state: &NodeState| state.done.is_none() && state.planned.is_none() && state.running.is_empty();
        self.nodes.iter().filter(move |(_, state)| homeless(state)).map(|(node, state)| (*node, state))
    }

    /// Nodes planned for a worker and not sent, with that worker.
    pub fn planned(&self) -> impl Iterator<Item = (WorkerId, Node)> {
        self.nodes.iter().filter_map(|(node, state)| Some((state.planned?, *node)))
    }

    /// Leases that run.
    pub fn running(&self) -> impl Iterator<Item = &LeaseState> {
        self.leases.values().filter(|lease| !lease.over)
    }

    /// Nodes that are lent, with the leases on them.
    pub fn lent(&self) -> impl Iterator<Item = (Node, Vec<&LeaseState>)> {
        let lent = self.nodes.iter().filter(|(_, state)| !state.running.is_empty());
        lent.map(|(node, state)| (*node, state.running.iter().map(|lease| &self.leases[lease]).collect()))
    }

    /// The work of each worker; none where a worker is not named.
    pub fn loads(&self) -> BTreeMap<WorkerId, Load> {
        let mut loads: BTreeMap<WorkerId, Load> = BTreeMap::new();
        for lease in self.running() {
            let load = loads.entry(lease.worker).or_default();
            load.held += 1;
            load.shards += lease.node.size();
        }
        for (worker, node) in self.planned() {
            let load = loads.entry(worker).or_default();
            load.planned += 1;
            load.shards += node.size();
        }
        loads
    }

    /// Whether there is nothing to lend, whoever is idle.
    pub fn has_nothing_to_lend(&self) -> bool {
        self.homeless().next().is_none()
            && self.planned().next().is_none()
            && self.audits().next().is_none()
            && self.running().all(|lease| lease.slow.is_none())
    }

    /// Shards that are done.
    pub fn shards_done(&self) -> u32 {
        self.nodes.iter().filter(|(_, state)| state.done.is_some()).map(|(node, _)| node.size()).sum()
    }

    /// Plans `node` for `worker`. If it is a part of a homeless node, that one is split.
    pub fn plan(&mut self, node: Node, worker: WorkerId) {
        while !self.nodes.contains_key(&node) {
            let up_to = Node { first: node.first, last: u32::MAX };
            let whole = *self.nodes.range(..=up_to).next_back().expect("nodes cut all shards").0;
            let state = self.nodes.remove(&whole).expect("it was found");
            assert!(state.done.is_none() && state.running.is_empty(), "{whole} is split while somebody has it");
            let (left, right) = whole.children().expect("what contains a smaller node has children");
            self.nodes.extend([(left, state.clone()), (right, state)]);
        }
        let state = self.nodes.get_mut(&node).expect("it was split until it was there");
        assert!(state.done.is_none() && state.running.is_empty(), "{node} is planned while somebody has it");
        state.planned = Some(worker);
    }

    /// Makes homeless the nodes planned for `worker`.
    pub fn unplan(&mut self, worker: WorkerId) {
        self.nodes.values_mut().filter(|state| state.planned == Some(worker)).for_each(|state| state.planned = None);
    }

    /// Lends a node to a worker.
    pub fn lend(&mut self, grant: Grant) -> Lease {
        let Grant { node, worker, generation, lease, now, ready, digests } = grant;
        let computing = self.running().filter(|l| l.worker == worker && l.computed.is_none());
        let queue = node.size() + computing.map(|l| l.node.size()).sum::<u32>();
        let state = self.nodes.get_mut(&node).expect("only a node of the step is lent");
        let open = state.done.is_none() || matches!(state.audit, Audit::Open(_));
        assert!(open, "{node} is lent although it is done");
        let at = LeaseRef { generation, step: self.step, lease, epoch: state.leased };
        state.planned = None;
        state.leased += 1;
        state.running.push(lease);
        let started = ready.then_some(now);
        let lent = LeaseState {
            worker,
            node,
            at,
            sent: now,
            started,
            queue,
            computed: None,
            sending: false,
            slow: None,
            overdue: false,
            again: false,
            digests,
            over: false,
        };
        assert!(self.leases.insert(lease, lent).is_none(), "{lease} is given twice");
        Lease { at, work: self.work, node }
    }

    /// Ends a lease with its node done; where an audit was wanted, `digest` is its first ballot. The answer holds the
    /// other leases on the node, which end with this one.
    pub fn done(&mut self, lease: LeaseId, digest: Option<NodeDigest>, now: RunTime) -> Vec<LeaseState> {
        let (worker, node) = (self.leases[&lease].worker, self.leases[&lease].node);
        let state = self.nodes.get_mut(&node).expect("a running lease has its node");
        assert!(state.done.replace(Done { worker, lease }).is_none(), "{node} is counted twice");
        if std::mem::take(&mut state.audit) == Audit::Wanted && digest.is_some() {
            let nan = |(other, fault): &(WorkerId, Fault)| (*fault == Fault::NotFinite).then_some(*other);
            let before: BTreeSet<WorkerId> =
                state.failures.iter().filter_map(nan).filter(|other| *other != worker).collect();
            let before = before.into_iter().map(|worker| Ballot { worker, digest: None, counted: false });
            state.audit = Audit::Open(before.chain([Ballot { worker, digest, counted: true }]).collect());
        }
        let losers = self.end_all(node, lease);
        self.nodes.values_mut().for_each(|state| state.deaths.clear());
        self.cover(now);
        losers
    }

    /// Ends all leases on `node`; the answer holds all of them but `first`.
    fn end_all(&mut self, node: Node, first: LeaseId) -> Vec<LeaseState> {
        let ended = self.nodes.get_mut(&node).map(|state| std::mem::take(&mut state.running)).unwrap_or_default();
        for lease in &ended {
            self.stop_sending(*lease);
            self.leases.get_mut(lease).expect("a running lease is known").over = true;
        }
        let losers = ended.into_iter().filter(|other| *other != first);
        losers.map(|loser| self.leases[&loser].clone()).collect()
    }

    /// Notes the time if all nodes are done and no audit is open.
    fn cover(&mut self, now: RunTime) {
        if self.nodes.values().all(|state| state.done.is_some() && !matches!(state.audit, Audit::Open(_))) {
            self.covered = Some(now);
        }
    }

    /// Ends a lease without a result.
    pub fn end(&mut self, lease: LeaseId) -> Node {
        self.stop_sending(lease);
        let state = self.leases.get_mut(&lease).expect("only a known lease ends");
        state.over = true;
        let node = state.node;
        self.nodes.get_mut(&node).expect("a running lease has its node").running.retain(|other| *other != lease);
        node
    }

    /// Ends a lease because its worker failed at it. The answer is the node.
    pub fn fail(&mut self, lease: LeaseId, fault: Fault) -> Node {
        let worker = self.leases[&lease].worker;
        let node = self.end(lease);
        self.nodes.get_mut(&node).expect("a running lease has its node").failures.push((worker, fault));
        node
    }

    /// Notes that a worker of so many threads died, before it is dropped. The answer is the nodes that it alone
    /// computed at that time: of its leases, those that came first, as many as keep its threads busy. Where another
    /// holds the node too, it may still get done.
    pub fn died(&mut self, worker: WorkerId, threads: u32, now: RunTime) -> Vec<Node> {
        let started = self
            .running()
            .filter(|lease| lease.worker == worker && lease.started.is_some() && lease.computed.is_none());
        let computed = started.scan(0, |busy, lease| {
            *busy += lease.node.size();
            (*busy - lease.node.size() < threads).then_some(lease)
        });
        let nodes: Vec<Node> = computed
            .map(|lease| lease.node)
            .filter(|node| !self.is_done(*node) && self.nodes[node].running.len() == 1)
            .collect();
        for node in &nodes {
            self.nodes.get_mut(node).expect("a running lease has its node").deaths.push((worker, now));
        }
        nodes
    }

    /// The workers that died while they computed `node`, since anything of the step was done last; and how often that
    /// was, if all that die within `wave` die of one thing.
    pub fn deaths(&self, node: Node, wave: Micros) -> (Vec<WorkerId>, usize) {
        let deaths = &self.nodes[&node].deaths;
        let mut begun: Option<RunTime> = None;
        let waves = deaths.iter().filter(|(_, at)| {
            let begins = begun.is_none_or(|begun| at.since(begun) >= wave);
            begun = if begins { Some(*at) } else { begun };
            begins
        });
        let waves = waves.count();
        (deaths.iter().map(|(worker, _)| *worker).collect(), waves)
    }

    /// Ends all leases of a worker that is gone, and makes homeless the nodes planned for it.
    pub fn drop_worker(&mut self, worker: WorkerId) {
        let held: Vec<LeaseId> = self.running().filter(|l| l.worker == worker).map(|l| l.at.lease).collect();
        held.into_iter().for_each(|lease| {
            self.end(lease);
        });
        self.unplan(worker);
    }

    /// Starts the clocks of a worker's leases: it holds the parameters now.
    pub fn start_clocks(&mut self, worker: WorkerId, now: RunTime) {
        for lease in self.leases.values_mut().filter(|lease| lease.worker == worker) {
            lease.started.get_or_insert(now);
        }
    }

    /// Notes that a lease was computed: its node is sent from now on, and is not slow.
    pub fn computed(&mut self, lease: LeaseId, now: RunTime) {
        let state = self.leases.get_mut(&lease).expect("only a known lease is computed");
        if state.computed.is_none() {
            (state.computed, state.slow, state.sending) = (Some(now), None, !state.digests);
            if !state.digests {
                let first = Sending { since: now, arrived: now, left: 0, done: 0 };
                self.sending.entry(state.worker).or_insert(first).left += 1;
            }
        }
    }

    /// How much longer a lease took until it was computed than its shards take at `per_shard` on each of so many
    /// threads; `None` where its worker had others to compute before.
    pub fn waited(&self, lease: LeaseId, threads: u32, per_shard: Micros) -> Option<Micros> {
        let state = self.leases.get(&lease).filter(|state| state.queue == state.node.size())?;
        let computing = per_shard.times(state.rounds(threads));
        Some(Micros(state.computed?.since(state.sent).0.saturating_sub(computing.0)))
    }

    /// Marks a lease as slow since `since`.
    pub fn mark_slow(&mut self, lease: LeaseId, since: RunTime) {
        self.leases.get_mut(&lease).expect("only a known lease is slow").slow = Some(since);
    }

    /// Marks all leases of a worker as overdue, which is more than slow: it is late with one of them.
    pub fn mark_overdue(&mut self, worker: WorkerId, now: RunTime) {
        for lease in self.leases.values_mut().filter(|lease| lease.worker == worker && !lease.over) {
            lease.overdue = true;
            lease.slow.get_or_insert(now);
        }
    }

    /// The node of a lease that was given in this step.
    pub fn node_of(&self, lease: LeaseId) -> Node {
        self.leases[&lease].node
    }

    /// Whether `node` is counted.
    pub fn is_done(&self, node: Node) -> bool {
        self.nodes.get(&node).is_some_and(|state| state.done.is_some())
    }

    /// The worker whose numbers are counted for `node`.
    pub fn done_by(&self, node: Node) -> Option<WorkerId> {
        self.nodes.get(&node)?.done.map(|done| done.worker)
    }

    /// Ends a lease because the numbers that its worker got are not believed. The answer is the node.
    pub fn doubt(&mut self, lease: LeaseId, fault: Fault) -> Node {
        self.suspects.insert(self.leases[&lease].worker);
        self.fail(lease, fault)
    }

    /// Copies of `node` that `workers` brought differ: they are suspects, and all that is in the node failed.
    pub fn contradict(&mut self, node: Node, workers: &[WorkerId]) {
        self.suspects.extend(workers);
        let near = |other: &Node| node.contains(*other) || other.contains(node);
        for (_, state) in self.nodes.iter_mut().filter(|(other, _)| near(other)) {
            state.failures.extend(workers.iter().map(|worker| (*worker, Fault::Contradicted)));
        }
    }

    /// Forgets the failures of workers for which `is_evicted` holds: they do not count against the nodes.
    pub fn forget_failures(&mut self, is_evicted: impl Fn(WorkerId) -> bool) {
        self.nodes.values_mut().for_each(|state| state.failures.retain(|(failed, _)| !is_evicted(*failed)));
    }

    /// Those of `candidates` whose machines are not suspected; all of them, if all are.
    pub fn unsuspected(&self, candidates: &[WorkerId], trust: &Trust) -> Vec<WorkerId> {
        let suspects: Vec<WorkerId> = self.suspects.iter().copied().collect();
        let others: Vec<WorkerId> =
            candidates.iter().copied().filter(|worker| trust.is_other(*worker, &suspects)).collect();
        if others.is_empty() { candidates.to_vec() } else { others }
    }

    /// Whether any worker failed at `node`.
    pub fn has_failed(&self, node: Node) -> bool {
        !self.nodes[&node].failures.is_empty()
    }

    /// The workers that failed at `node`.
    pub fn failed(&self, node: Node) -> Vec<WorkerId> {
        self.nodes[&node].failures.iter().map(|(worker, _)| *worker).collect()
    }

    /// The workers that failed at `node` in this way, each as often as it did.
    pub fn tried(&self, node: Node, fault: Fault) -> impl Iterator<Item = WorkerId> {
        self.nodes[&node].failures.iter().filter(move |(_, other)| *other == fault).map(|(worker, _)| *worker)
    }

    /// Begins the step anew: no node is done, planned or lent. Failures are kept.
    pub fn reopen(&mut self) {
        self.leases.values_mut().for_each(|lease| (lease.over, lease.sending) = (true, false));
        self.sending.clear();
        (self.covered, self.nothing_to_lend, self.reopened) = (None, false, true);
        self.audited_owners.clear();
        for state in self.nodes.values_mut() {
            let (failures, deaths) = (std::mem::take(&mut state.failures), std::mem::take(&mut state.deaths));
            *state = NodeState { leased: state.leased, failures, deaths, ..NodeState::default() };
        }
    }

    /// Who computed which shards.
    ///
    /// # Panics
    /// When a node is not done.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        let entry = |(node, state): (&Node, &NodeState)| LedgerEntry {
            node: *node,
            worker: state.done.expect("a ledger is taken when all nodes are done").worker,
            auditor: if let Audit::Agreed(auditor) = state.audit { Some(auditor) } else { None },
        };
        let ledger: Vec<LedgerEntry> = self.nodes.iter().map(entry).collect();
        assert_eq!(check_ledger(&ledger, self.shards), Ok(()), "{} must count every shard once", self.step);
        ledger
    }
}
