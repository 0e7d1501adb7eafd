//! A step's audits: nodes that are computed a second time, and compared.

use super::audit::{Audit, Ballot, Verdict, verdict};
use super::{LeaseState, NodeState, Step};
use crate::ids::{LeaseId, RunTime, WorkerId};
use crate::lease::Check;
use crate::node_digest::NodeDigest;
use crate::tree::Node;

impl Step {
    /// Whether the next answer to a lease on `node` is counted, compared, or both.
    pub fn check(&self, node: Node) -> Check {
        match &self.nodes[&node] {
            NodeState { done: Some(_), .. } => Check::Digest,
            NodeState { audit: Audit::Wanted, .. } => Check::CountAndDigest,
            _ => Check::Count,
        }
    }

    /// Has `node` computed a second time once it is done; nothing if it is done already.
    pub fn want_audit(&mut self, node: Node) {
        if let Some(state) = self.nodes.get_mut(&node).filter(|state| state.done.is_none()) {
            state.audit = Audit::Wanted;
        }
    }

    /// Whether `worker` has, or will get, a node that opens an audit.
    pub fn awaits_audit(&self, worker: WorkerId) -> bool {
        let wanted = |node: &Node| self.nodes[node].audit == Audit::Wanted;
        let planned = self.planned().any(|(owner, node)| owner == worker && wanted(&node));
        planned || self.running().any(|lease| lease.worker == worker && wanted(&lease.node))
    }

    /// Nodes whose audit is open, with the workers that have computed them.
    pub fn audits(&self) -> impl Iterator<Item = (Node, Vec<WorkerId>)> {
        let open = |(node, state): (&Node, &NodeState)| match &state.audit {
            Audit::Open(ballots) => Some((*node, ballots.iter().map(|ballot| ballot.worker).collect())),
            _ => None,
        };
        self.nodes.iter().filter_map(open)
    }

    /// The workers that have computed `node`, if its audit is open.
    pub fn voters(&self, node: Node) -> Vec<WorkerId> {
        self.audits().find(|(open, _)| *open == node).map(|(_, voters)| voters).unwrap_or_default()
    }

    /// Whether two workers got different digests for `node`, and no two the same.
    pub fn is_disputed(&self, node: Node) -> bool {
        match &self.nodes[&node].audit {
            Audit::Open(ballots) => ballots.iter().filter(|ballot| ballot.digest.is_some()).count() > 1,
            _ => false,
        }
    }

    /// A node that is disputed.
    pub fn disputed(&self) -> Option<Node> {
        self.audits().map(|(node, _)| node).find(|node| self.is_disputed(*node))
    }

    /// A node that is disputed while nobody computes it.
    pub fn awaits_judge(&self) -> Option<Node> {
        let idle = |node: &Node| self.nodes[node].running.is_empty();
        self.audits().map(|(node, _)| node).find(|node| self.is_disputed(*node) && idle(node))
    }

    /// Whether every node was computed by two workers that agree.
    pub fn is_proven(&self) -> bool {
        self.nodes.values().all(|state| matches!(state.audit, Audit::Agreed(_)))
    }

    /// Ends a lease of an audit with its digest. The answer holds the other leases on the node, which end with it.
    pub fn vote(&mut self, lease: LeaseId, digest: Option<NodeDigest>, now: RunTime) -> (Verdict, Vec<LeaseState>) {
        let (worker, node) = (self.leases[&lease].worker, self.leases[&lease].node);
        let losers = self.end_all(node, lease);
        let state = self.nodes.get_mut(&node).expect("a running lease has its node");
        let Audit::Open(ballots) = &mut state.audit else { unreachable!("a done node is lent for its audit alone") };
        ballots.push(Ballot { worker, digest, counted: false });
        let verdict = verdict(ballots);
        if let Verdict::Decided { right, .. } = &verdict {
            let other = right.iter().find(|worker| state.done.is_none_or(|done| done.worker != **worker));
            state.audit = Audit::Agreed(*other.expect("two workers agree"));
            self.cover(now);
        }
        (verdict, losers)
    }

    /// Gives up the audit of `node`. The answer holds the leases that end with it, and the worker whose numbers are
    /// counted.
    pub fn drop_audit(&mut self, node: Node, now: RunTime) -> (Vec<LeaseState>, Option<WorkerId>) {
        let leases = self.nodes[&node].running.iter().map(|lease| self.leases[lease].clone()).collect();
        self.nodes[&node].running.clone().into_iter().for_each(|lease| _ = self.end(lease));
        let state = self.nodes.get_mut(&node).expect("it was found");
        state.audit = Audit::No;
        let by = state.done.map(|done| done.worker);
        self.cover(now);
        (leases, by)
    }
}
