//! See [`Exchange`].

use std::collections::BTreeSet;

use convoy_scheduler::{DisconnectReason, Effect, Event, Owner, OwnersReason, RevokeReason, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Each chunk has one owner: the coordinator, or a worker that is there. An owner adds what is its own, by the owners
/// that it knows of, and of the opening that it knows of. A node is done when the owners of all its chunks have it. Who
/// does not reach the owners gets nothing to compute that will be counted, as long as there are others that do.
#[derive(Default)]
pub(super) struct Exchange {
    /// Machines that may sit out, for whatever reason: nothing is promised of them.
    struck: BTreeSet<String>,
}

impl Invariant for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } => self.struck.clear(),
            Fact::Told {
                event:
                    Event::LeaseFailed { worker, .. }
                    | Event::WorkerGone { worker, .. }
                    | Event::PeerLost { worker, .. }
                    | Event::Unanswered { worker, .. },
                ..
            } => self.struck.extend(books.machines.get(worker).cloned()),
            Fact::Added { owner, knows, sent, chunk, node } => {
                let same = (knows.generation, knows.step, knows.opening) == (sent.generation, sent.step, sent.opening);
                check(same, || format!("{owner} adds {node}, sent for {}, to {}", sent.opening, knows.opening))?;
                let of = books.exchange.versions.get(&knows.version).and_then(|of| of.get(*chunk));
                let own = knows.generation != books.plan.generation || of == Some(&Owner::Worker(*owner));
                return check(own, || format!("{owner} adds {node} to chunk {chunk}, which is {of:?}'s"));
            }
            Fact::Counted { worker, node, .. } => {
                let trains = books.open.as_ref().is_some_and(|open| open.work == convoy_scheduler::Work::Train);
                let delivered = !trains || books.exchange.is_delivered(*node);
                return check(delivered, || format!("{node} of {worker} is done, and owners do not have it"));
            }
            Fact::CarriedOut(effect) => return self.carried_out(books, effect),
            _ => {}
        }
        Ok(())
    }
}

impl Exchange {
    fn carried_out(&mut self, books: &Books, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Overdue { worker, .. }
            | Effect::Doubt { worker, .. }
            | Effect::Revoke { worker, why: RevokeReason::AnotherWasFirst, .. }
            | Effect::Disconnect { worker, why: DisconnectReason::Silent { .. } } => {
                self.struck.extend(books.machines.get(worker).cloned());
            }
            Effect::Contradict { workers, .. } => {
                self.struck.extend(workers.iter().filter_map(|worker| books.machines.get(worker).cloned()));
            }
            Effect::Owners { version, of, why } => return owners(books, version.0, of, *why),
            Effect::Send { worker, lease, check: how } if *how != convoy_scheduler::Check::Digest => {
                let matters = lease.work == convoy_scheduler::Work::Train;
                let reaches = !matters || books.exchange.reaches_owners(*worker);
                return check(reaches || !self.is_another_there(books), || {
                    format!("{worker} gets {} and does not reach the owners", lease.at)
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether some worker could compute that reaches the owners and has no reason to sit out.
    fn is_another_there(&self, books: &Books) -> bool {
        books.members.iter().any(|(worker, member)| {
            let heard = books.clock.since(member.contact.heard) < books.plan.timeouts.quiet;
            let could = heard && member.ready.is_some() && !member.draining;
            let machine = books.machines.get(worker);
            could
                && machine.is_some_and(|machine| !self.struck.contains(machine))
                && books.exchange.reaches_owners(*worker)
        })
    }
}

fn owners(books: &Books, version: u64, of: &[Owner], why: OwnersReason) -> Result<(), String> {
    let chunks = books.plan.chunks as usize;
    check(of.len() == chunks, || format!("{} chunks have owners, there are {chunks}", of.len()))?;
    check(version > books.exchange.version.0, || format!("version {version} of the owners comes again"))?;
    let workers: BTreeSet<WorkerId> = of
        .iter()
        .filter_map(|owner| match owner {
            Owner::Worker(worker) => Some(*worker),
            Owner::Coordinator => None,
        })
        .collect();
    check(workers.is_empty() || chunks > 1, || format!("{} workers own {chunks} chunks", workers.len()))?;
    let gone = workers.iter().find(|worker| !books.members.contains_key(worker));
    check(gone.is_none(), || format!("{gone:?} owns chunks and is gone"))?;
    let begins = why == OwnersReason::StepBegins;
    let leaves = workers.iter().find(|worker| begins && books.members[worker].draining);
    check(leaves.is_none(), || format!("{leaves:?} becomes owner and wants to leave"))?;
    let silent = workers
        .iter()
        .find(|worker| begins && books.members[worker].threads > 0 && !books.exchange.reach.contains_key(worker));
    check(silent.is_none(), || format!("{silent:?} becomes owner and has not said whom it reaches"))
}
