//! Who gets a lease next. Six rules, each as simple as it can be, tried in this order after every event; the first only
//! when time is told:
//!
//! 1. A worker that is late with a lease (past `max(lease_floor, lease_factor × expected)`): everything that it holds
//!    is *overdue*, the nodes planned for it go to others, and it sits out some steps; unless it is one of several that
//!    cannot send what they have computed to the workers that own its chunks.
//! 2. *Homeless* nodes, which are neither planned for a worker nor lent (at the start of a step: all), are dealt out by
//!    [`assign`].
//! 3. Each worker is sent the nodes planned for it, the largest first, as many as its queue holds.
//! 4. An idle worker takes over a node that is planned for another worker but not sent, if it would be done earlier.
//! 5. A node all of whose leases are *slow* (past `max(spare_floor, spare_factor × expected)`) is lent to an idle
//!    worker as well; a node all of whose leases are overdue, to any worker with room. The first answer wins. A worker
//!    that began earlier than the winner sits out, too. As every worker holds a node once at most, there are never more
//!    copies than workers.
//! 6. A worker's first shard of a kind, and from then on one in `audit_every`, is cut out of the nodes planned for it
//!    and sent first; where that would cost more than to compute all of a node twice, the node is. Once it is done,
//!    another worker computes it again: an *audit*. If a worker that owes an audit gets another lease before (a node
//!    that it takes over, a copy), that lease is audited instead. Nodes that came with impossible numbers are audited
//!    as well.
//!
//! *Expected* is the [time that a shard may take the worker](Timing::expected), times the rounds of its threads that
//! its queue needs. An evaluation goes by training shards until one of its own was measured. Before any measurement a
//! lease is slow after `spare_unmeasured`, and overdue after `lease_unmeasured` for each round. A worker that has
//! finished nothing yet may be slow, so it has [`NEWCOMER`] times as long until it is overdue. All of these times are
//! in [`Timeouts`](crate::Timeouts).
//!
//! That clock is one of computing alone: it starts when the worker holds the parameters, and stops when it has computed
//! the lease. A worker that does not hold the parameters is late when it has taken none of them for `ready_grace`; a
//! node that was computed is overdue when no byte of any node of its worker came for `stall`, since nodes may wait for
//! one another in the same connection. Both are slow after `max(spare_stall, send_factor × what it takes usually)`, if
//! that is less. Bytes that flow have `send_floor`, or `send_factor` times what nodes usually take to be sent, for each
//! node that the worker sends.

use std::collections::{BTreeMap, BTreeSet};

use crate::assign::{self, Assignee, deal};
use crate::effect::Effect;
use crate::ids::{LeaseId, Micros, RunTime, WorkerId};
use crate::lease::{Check, Work};
use crate::membership::{Member, Membership, Timing};
use crate::plan::RunPlan;
use crate::step::{Fault, Grant, LeaseState, Load, NodeState, Step};
use crate::tree::Node;
use crate::trust::Trust;

/// Until a worker has shown its speed, its leases are overdue after so many times `lease_factor`.
const NEWCOMER: u64 = 2;

/// The parts of a run that dispatching reads and changes.
pub(crate) struct Dispatch<'a> {
    pub plan: &'a RunPlan,
    pub members: &'a mut Membership,
    pub trust: &'a mut Trust,
    pub timing: &'a Timing,
    pub step: &'a mut Step,
    pub next_lease: &'a mut LeaseId,
    /// Whether workers own chunks of the step.
    pub sliced: bool,
    pub now: RunTime,
    pub effects: &'a mut Vec<Effect>,
}

/// When a lease becomes slow, and when overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub slow: RunTime,
    pub overdue: RunTime,
}

/// When `lease` becomes slow, and when overdue.
pub(crate) fn due(plan: &RunPlan, members: &Membership, timing: &Timing, step: &Step, lease: &LeaseState) -> Due {
    let timeouts = &plan.timeouts;
    let member = members.get(lease.worker).expect("a running lease has its worker");
    let since = |at: RunTime, patience: Micros| Due { slow: at.after(patience), overdue: at.after(patience) };
    // Where a thing takes milliseconds, it is worth computing the node elsewhere long before its worker is late.
    let quiet_since = |at: RunTime, usual: Option<Micros>, patience: Micros| {
        let spare = |usual: Micros| usual.times(u64::from(timeouts.send_factor)).max(timeouts.spare_stall);
        Due { slow: at.after(usual.map_or(patience, spare).min(patience)), overdue: at.after(patience) }
    };
    if let Some(computed) = lease.computed {
        let sending = step.sending(lease.worker);
        let last = computed.max(member.contact.pushed).max(sending.map_or(computed, |sending| sending.arrived));
        // Nodes of an evaluation are smaller than those of training.
        let usual = timing.sending(step.work).or_else(|| timing.sending(Work::Train));
        let stalled = quiet_since(last, usual, timeouts.stall);
        let Some(sending) = sending else { return stalled };
        let per_node = usual.unwrap_or(Micros(0)).times(u64::from(timeouts.send_factor)).max(timeouts.send_floor);
        let dawdles = since(sending.arrived.max(computed), per_node.times(sending.left));
        return Due { slow: dawdles.slow.min(stalled.slow), overdue: dawdles.overdue.min(stalled.overdue) };
    }
    let Some(started) = lease.started else {
        let last = lease.sent.max(member.contact.fetched);
        return quiet_since(last, timing.usual_wait(step.work, member), timeouts.ready_grace);
    };
    let rounds = lease.rounds(member.threads);
    match timing.expected(step.work, member) {
        None => {
            let overdue = started.after(timeouts.lease_unmeasured.times(rounds));
            Due { slow: started.after(timeouts.spare_unmeasured).min(overdue), overdue }
        }
        Some(per_shard) => {
            let after = |floor: Micros, factor: u64| started.after(per_shard.times(rounds).times(factor).max(floor));
            let patience = if member.shown(step.work).is_some() { 1 } else { NEWCOMER };
            Due {
                slow: after(timeouts.spare_floor, u64::from(timeouts.spare_factor)),
                overdue: after(timeouts.lease_floor, u64::from(timeouts.lease_factor) * patience),
            }
        }
    }
}

impl Dispatch<'_> {
    /// Looks for leases that are slow or overdue by now; rule 1. Done when time is told, and at no other event: only
    /// then is it known who was in contact.
    pub fn look(&mut self) {
        let slow = |lease: &LeaseState| Some(self.due(lease).slow).filter(|slow| *slow <= self.now);
        let fresh = self.step.running().filter(|lease| lease.slow.is_none());
        let found: Vec<_> = fresh.filter_map(|lease| Some((lease.at.lease, slow(lease)?))).collect();
        self.mark_overdue();
        found.into_iter().for_each(|(lease, since)| self.step.mark_slow(lease, since));
    }

    /// Applies the other rules of this module, one after the other.
    pub fn run(mut self) {
        let candidates = self.members.candidates(self.step.step, self.step.work);
        if candidates.is_empty() {
            return;
        }
        let all = candidates;
        let candidates = self.step.unsuspected(&all, self.trust);
        let owners: BTreeSet<WorkerId> = self.step.planned().map(|(owner, _)| owner).collect();
        owners.into_iter().filter(|owner| !candidates.contains(owner)).for_each(|owner| self.step.unplan(owner));
        self.deal_homeless(&candidates);
        self.cut_out_audits(&candidates);
        self.send_planned(&candidates);
        self.send_audits(&all);
        self.hand_over(&candidates);
        self.copy_slow(&candidates);
        self.step.nothing_to_lend = self.step.has_nothing_to_lend();
    }

    fn due(&self, lease: &LeaseState) -> Due {
        due(self.plan, self.members, self.timing, self.step, lease)
    }

    fn mark_overdue(&mut self) {
        let late = |lease: &&LeaseState| !lease.overdue && self.due(lease).overdue <= self.now;
        // The first to be late stands for all that its worker holds.
        let mut first: BTreeMap<WorkerId, LeaseState> = BTreeMap::new();
        for lease in self.step.running().filter(late) {
            first.entry(lease.worker).or_insert_with(|| lease.clone());
        }
        // Where several cannot get rid of what they have computed, it is the owners that do not take it.
        let sending = first.iter().filter(|(_, lease)| lease.computed.is_some()).map(|(worker, _)| *worker);
        let stuck = self.sliced && self.trust.machines(sending).len() > 1;
        for (worker, LeaseState { node, at, sent, started, computed, .. }) in first {
            self.step.mark_overdue(worker, self.now);
            self.step.unplan(worker);
            if !stuck || computed.is_none() {
                self.members.get_mut(worker).expect("a running lease has its worker").strike(self.step.step);
            }
            let held = self.now.since(started.unwrap_or(sent));
            self.effects.push(Effect::Overdue { worker, at, node, held });
        }
    }

    fn deal_homeless(&mut self, candidates: &[WorkerId]) {
        // One worker that died of a node may have died of anything.
        let tried = |state: &NodeState| !state.failures.is_empty() || state.deaths.len() > 1;
        let (failed, fresh): (Vec<_>, Vec<_>) = self.step.homeless().partition(|(_, state)| tried(state));
        let fresh: Vec<Node> = fresh.into_iter().map(|(node, _)| node).collect();
        let failed: Vec<(Node, Vec<WorkerId>)> = failed
            .into_iter()
            .map(|(node, state)| {
                let failures = state.failures.iter().map(|(worker, _)| worker);
                (node, failures.chain(state.deaths.iter().map(|(worker, _)| worker)).copied().collect())
            })
            .collect();
        if !fresh.is_empty() {
            let assignees = self.weigh(candidates);
            for (worker, node) in deal(&fresh, &assignees, self.plan.limits.lease_shards) {
                self.step.plan(node, worker);
            }
        }
        for (node, tried) in failed {
            self.deal_failed(node, &tried, candidates);
            // Two workers may disagree about a NaN, or about anything: an audit of the next answer asks a third.
            let doubtful = [Fault::NotFinite, Fault::Contradicted];
            if self.plan.audit_every > 0 && doubtful.iter().any(|fault| self.step.tried(node, *fault).next().is_some())
            {
                self.step.want_audit(node);
            }
        }
    }

    /// For each worker that owes an audit, cuts one shard out of the nodes planned for it, unless it costs less to have
    /// the whole node computed twice.
    fn cut_out_audits(&mut self, candidates: &[WorkerId]) {
        for worker in candidates {
            if !self.owes_audit(*worker, candidates) {
                continue;
            }
            let planned = self.step.planned().filter(|(owner, node)| owner == worker && !self.step.has_failed(*node));
            let planned = planned.map(|(_, node)| node);
            if let Some(node) = planned.min_by_key(|node| (node.size(), *node)) {
                let shard = Node { first: node.last - 1, last: node.last };
                let audited = if self.is_audited_whole(*worker, node) { node } else { shard };
                self.step.plan(audited, *worker);
                self.step.want_audit(audited);
            }
        }
    }

    /// Whether what is cut out of a node costs more than to have all of the node computed by an auditor as well: where
    /// workers own chunks, auditors send none, but who is audited has the parts of the node to send instead of one.
    fn is_audited_whole(&self, worker: WorkerId, node: Node) -> bool {
        let Some(member) = self.members.get(worker).filter(|_| self.sliced) else { return false };
        let Some(per_shard) = self.timing.expected(self.step.work, member) else { return false };
        let rounds = node.size().div_ceil(member.threads) - 1;
        let more_nodes = node.size().next_power_of_two().ilog2();
        let cut = self.timing.node_cost(self.step.work, member, self.now).times(more_nodes.into());
        per_shard.times(rounds.into()) <= cut
    }

    /// Whether an audit of `worker` is due.
    fn is_audited(&self, worker: WorkerId) -> bool {
        let due = |member: &Member| member.audit_is_due(self.step.work);
        self.plan.audit_every > 0 && self.members.get(worker).is_some_and(due)
    }

    /// Whether the next shard that `worker` computes is to be audited, and one of `candidates` can do that.
    fn owes_audit(&self, worker: WorkerId, candidates: &[WorkerId]) -> bool {
        self.is_audited(worker)
            && !self.step.awaits_audit(worker)
            && candidates.iter().any(|other| self.trust.is_other(*other, &[worker]))
    }

    fn send_audits(&mut self, candidates: &[WorkerId]) {
        let audits: Vec<(Node, Vec<WorkerId>)> = self.step.audits().collect();
        for (node, voters) in audits {
            if self.step.running().any(|lease| lease.node == node) {
                continue;
            }
            let judges = |workers: &[WorkerId]| -> Vec<WorkerId> {
                workers.iter().copied().filter(|worker| self.trust.is_other(*worker, &voters)).collect()
            };
            let mut judges_left = judges(candidates);
            if judges_left.is_empty() && self.step.is_disputed(node) {
                // The step cannot go on without a judge: those that sit out are asked, too.
                judges_left = judges(&self.members.staying());
            }
            judges_left.retain(|worker| self.load(*worker).held < self.queue(*worker));
            if let Some(worker) = first_to_finish(&self.weigh(&judges_left), node) {
                self.send(worker, node);
            }
        }
    }

    /// Plans a node that failed, whole, for a worker whose machine has not tried it, if there is one.
    fn deal_failed(&mut self, node: Node, tried: &[WorkerId], candidates: &[WorkerId]) {
        let others = self.others(candidates, tried);
        if let Some(worker) = first_to_finish(&self.weigh(&others), node) {
            self.step.plan(node, worker);
        }
    }

    /// Those of `candidates` that are other machines than `tried`; all of them, if none is.
    fn others(&self, candidates: &[WorkerId], tried: &[WorkerId]) -> Vec<WorkerId> {
        let others: Vec<WorkerId> =
            candidates.iter().copied().filter(|worker| self.trust.is_other(*worker, tried)).collect();
        if others.is_empty() { candidates.to_vec() } else { others }
    }

    fn send_planned(&mut self, candidates: &[WorkerId]) {
        let mut planned: BTreeMap<WorkerId, Vec<Node>> = BTreeMap::new();
        for (worker, node) in self.step.planned() {
            planned.entry(worker).or_default().push(node);
        }
        let loads = self.step.loads();
        for worker in candidates {
            let mut nodes = planned.remove(worker).unwrap_or_default();
            let audited = |node: &Node| self.step.check(*node) != Check::Count;
            nodes.sort_by_key(|node| (!audited(node), std::cmp::Reverse(node.size()), *node));
            let held = loads.get(worker).map_or(0, |load| load.held);
            let room = self.queue(*worker).saturating_sub(held);
            for node in nodes.into_iter().take(room as usize) {
                self.send(*worker, node);
            }
        }
    }

    fn hand_over(&mut self, candidates: &[WorkerId]) {
        for idle in candidates {
            if self.step.planned().next().is_none() {
                return;
            }
            if self.load(*idle) != Load::default() {
                continue;
            }
            let assignees = self.weigh(candidates);
            let speeds = assign::speeds(&assignees);
            let finish = |worker: WorkerId, extra: u32| {
                let i = assignees.iter().position(|assignee| assignee.worker == worker)?;
                Some(assign::finish(&assignees[i], speeds[i], extra, extra.min(1)))
            };
            // From the worker that is done last, the node that it would compute last.
            let last = self
                .step
                .planned()
                .filter(|(_, node)| self.trust.is_other(*idle, &self.step.failed(*node)))
                .max_by_key(|(owner, node)| (finish(*owner, 0), std::cmp::Reverse(node.size()), *node));
            if let Some((owner, node)) = last
                && finish(*idle, node.size()) < finish(owner, 0)
            {
                self.send(*idle, node);
            }
        }
    }

    fn copy_slow(&mut self, candidates: &[WorkerId]) {
        let mut slow: Vec<(RunTime, Node, bool, Vec<WorkerId>)> = Vec::new();
        for (node, leases) in self.step.lent() {
            let overdue = leases.iter().all(|lease| lease.overdue);
            if let Some(since) = leases.iter().map(|lease| lease.slow).collect::<Option<Vec<_>>>() {
                let since = since.into_iter().min().unwrap_or(self.now);
                slow.push((since, node, overdue, leases.iter().map(|lease| lease.worker).collect()));
            }
        }
        slow.sort();
        for (_, node, overdue, holders) in slow {
            let voters = self.step.voters(node);
            let fits = |worker: &WorkerId| {
                let load = self.load(*worker);
                let room = if overdue { load.held < self.queue(*worker) } else { load == Load::default() };
                room && !holders.contains(worker) && self.trust.is_other(*worker, &voters)
            };
            let fitting: Vec<WorkerId> = candidates.iter().copied().filter(fits).collect();
            let fitting = self.others(&fitting, &self.step.failed(node));
            if let Some(worker) = first_to_finish(&self.weigh(&fitting), node) {
                self.send(worker, node);
            }
        }
    }

    fn send(&mut self, worker: WorkerId, node: Node) {
        let lease = *self.next_lease;
        self.next_lease.0 += 1;
        let owes_audit = || self.owes_audit(worker, &self.members.candidates(self.step.step, self.step.work));
        if self.step.audit_all || (self.is_audited(worker) && owes_audit()) {
            self.step.want_audit(node);
        }
        let check = self.step.check(node);
        let member = self.members.get_mut(worker).expect("only a member is sent a lease");
        if check != Check::Digest {
            member.sent(self.step.work, node.size());
            if self.step.work == Work::Train {
                // Its first bytes are counted before all of them have come.
                self.trust.counted(worker, self.step.step);
            }
        }
        let ready = member.ready >= Some(self.step.step);
        let generation = self.plan.generation;
        let digests = self.sliced && check == Check::Digest;
        let lease = self.step.lend(Grant { node, worker, generation, lease, now: self.now, ready, digests });
        self.effects.push(Effect::Send { worker, lease, check });
    }

    /// Leases that a worker may hold at once.
    fn queue(&self, worker: WorkerId) -> u32 {
        self.members.get(worker).map_or(0, |member| member.threads.saturating_mul(self.plan.limits.queue_per_thread))
    }

    fn load(&self, worker: WorkerId) -> Load {
        self.step.loads().get(&worker).copied().unwrap_or_default()
    }

    /// The workers as the assignment sees them.
    fn weigh(&self, workers: &[WorkerId]) -> Vec<Assignee> {
        let loads = self.step.loads();
        let weigh = |worker: &WorkerId| {
            let member = self.members.get(*worker)?;
            let load = loads.get(worker).copied().unwrap_or_default();
            let (threads, speed) = (member.threads, member.speed(self.step.work));
            let node_cost = self.timing.node_cost(self.step.work, member, self.now);
            Some(Assignee {
                worker: *worker,
                threads,
                speed,
                node_cost,
                delay: if load == Load::default() {
                    self.timing.delay(self.step.work, member, self.now)
                } else {
                    Micros(0)
                },
                load: load.shards,
                nodes: load.held + load.planned,
            })
        };
        workers.iter().filter_map(weigh).collect()
    }
}

/// The worker that would be done with `node` first, after the work that it has already.
fn first_to_finish(assignees: &[Assignee], node: Node) -> Option<WorkerId> {
    let speeds = assign::speeds(assignees);
    let finishes = assignees.iter().zip(speeds).map(|(a, speed)| (assign::finish(a, speed, node.size(), 1), a.worker));
    finishes.min().map(|(_, worker)| worker)
}
