//! See [`Bounds`].

use std::collections::BTreeSet;

use convoy_scheduler::{Effect, Lease, LeaseId, WorkerId, tree};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Queues and leases have the plan's bounds. Only a member is sent a lease. Its node is one of the tree of the step in
/// work, no larger than the plan allows, and none that the member holds already; and the member's queue has room for
/// it. No lease number is given twice, no lease is revoked that is not held, and there are no more members than the
/// plan allows.
#[derive(Default)]
pub(super) struct Bounds {
    given: BTreeSet<LeaseId>,
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } => {
                self.given.clear();
                Ok(())
            }
            Fact::CarriedOut(Effect::Send { worker, lease, .. }) => self.sent(books, *worker, lease),
            Fact::CarriedOut(Effect::Revoke { worker, at, .. }) => {
                let held = books.members.get(worker).is_some_and(|member| member.held.contains_key(&at.lease));
                check(held, || format!("{at} is revoked, which {worker} does not hold"))
            }
            Fact::Rested { .. } => {
                let (members, most) = (books.members.len(), books.plan.limits.workers);
                check(members <= most as usize, || format!("{members} workers are there, {most} are allowed"))
            }
            _ => Ok(()),
        }
    }
}

impl Bounds {
    fn sent(&mut self, books: &Books, worker: WorkerId, lease: &Lease) -> Result<(), String> {
        let (at, node, plan) = (lease.at, lease.node, &books.plan);
        let open = books.open.as_ref().filter(|open| (open.step, open.work) == (at.step, lease.work));
        let open = open.ok_or_else(|| format!("{at} is sent, but its step is not open"))?;
        check(node.is_node_of(tree::root(open.shards)), || format!("{node} is no node of the tree"))?;
        check(at.generation == plan.generation, || format!("{at} is sent for {}", at.generation))?;
        check(self.given.insert(at.lease), || format!("{at} is given twice"))?;
        let member = books.members.get(&worker).ok_or_else(|| format!("{at} is sent to {worker}, who is not there"))?;
        let again = member.held.values().any(|held| held.node == node);
        check(!again, || format!("{worker} gets {node}, which it holds already"))?;
        let most = (member.threads * plan.limits.queue_per_thread) as usize;
        check(member.held.len() < most, || format!("{worker} gets {at}, but holds {most} leases already"))?;
        let largest = plan.limits.lease_shards;
        check(node.size() <= largest, || format!("{at} has {} shards, {largest} are allowed", node.size()))
    }
}
