//! See [`Suspicion`].

use std::collections::BTreeSet;

use convoy_scheduler::{Check, DisconnectReason, Effect, Event, Owner, RevokeReason, StepId, Work, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Where copies of a node differ, one of those who are named has computed wrongly, or an owner has said
/// something else than it was brought. As long as there are others, nobody
/// who is suspected gets work that counts in the same step, whatever number its machine has by then.
#[derive(Default)]
pub(super) struct Suspicion {
    /// All machines that have ever computed wrongly.
    liars: BTreeSet<String>,
    step: Option<(StepId, Work)>,
    /// Machines that are suspected in this step.
    suspects: BTreeSet<String>,
    /// Machines that may sit out, for whatever reason: nothing is promised of them.
    struck: BTreeSet<String>,
}

impl Invariant for Suspicion {
    fn name(&self) -> &'static str {
        "suspicion"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        let machine = |worker: &WorkerId| books.machines.get(worker).cloned().unwrap_or_default();
        match fact {
            Fact::Started { .. } => {
                *self = Suspicion { liars: std::mem::take(&mut self.liars), ..Suspicion::default() }
            }
            Fact::Computed { worker, lied: true, .. } => _ = self.liars.insert(machine(worker)),
            Fact::Told {
                event:
                    Event::LeaseFailed { worker, .. }
                    | Event::WorkerGone { worker, .. }
                    | Event::PeerLost { worker, .. }
                    | Event::Unanswered { worker, .. },
                ..
            } => {
                self.struck.insert(machine(worker));
            }
            Fact::CarriedOut(effect) => match effect {
                Effect::OpenStep { step, work, .. } if self.step != Some((*step, *work)) => {
                    self.step = Some((*step, *work));
                    self.suspects.clear();
                }
                Effect::Overdue { worker, .. }
                | Effect::Revoke { worker, why: RevokeReason::AnotherWasFirst, .. }
                | Effect::Disconnect { worker, why: DisconnectReason::Silent { .. } } => {
                    self.struck.insert(machine(worker));
                }
                Effect::Doubt { worker, .. } => {
                    self.struck.insert(machine(worker));
                    self.suspects.insert(machine(worker));
                }
                Effect::Contradict { step, node, workers } => {
                    let named: BTreeSet<String> = workers.iter().map(machine).collect();
                    // What is disputed may be what an owner says of it.
                    let owners = Owner::workers_among(books.exchange.of()).iter().map(machine).collect();
                    let misreported = books.disputed.contains(node) && !books.liars.is_disjoint(&owners);
                    check(misreported || !named.is_disjoint(&self.liars), || {
                        format!("copies of {node} of {step} differ, and none of {named:?} ever lied")
                    })?;
                    let struck =
                        workers.iter().filter(|worker| named.len() == 1 || !books.members.contains_key(worker));
                    self.struck.extend(struck.map(machine));
                    self.suspects.extend(named);
                }
                Effect::Send { worker, lease, check: Check::Count | Check::CountAndDigest } => {
                    let suspect = self.suspects.contains(&machine(worker));
                    check(!suspect || !self.is_another_there(books), || {
                        format!("{worker} is suspected in {} and gets {} of it", lease.at.step, lease.node)
                    })?;
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}

impl Suspicion {
    /// Whether some worker could compute that is not suspected and has no reason to sit out.
    fn is_another_there(&self, books: &Books) -> bool {
        books.members.iter().any(|(worker, member)| {
            let machine = books.machines.get(worker);
            let heard = books.clock.since(member.contact.heard) < books.plan.timeouts.quiet;
            let could = heard && member.ready.is_some() && !member.draining && books.exchange.reaches_owners(*worker);
            could && machine.is_some_and(|machine| !self.suspects.contains(machine) && !self.struck.contains(machine))
        })
    }
}
