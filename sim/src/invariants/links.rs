//! See [`Links`].

use std::collections::{BTreeMap, BTreeSet};

use convoy_scheduler::{Effect, LeaseId, LeaseRef, Micros, RunTime, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// A worker is not late with a node that it has computed while bytes of its nodes come, unless it had the time that the
/// plan gives to slow links; and not with parameters while it takes bytes of them. A node that took much longer to be
/// sent than any before was late.
#[derive(Default)]
pub(super) struct Links {
    /// Leases of the step in work that were given to each worker.
    given: BTreeMap<WorkerId, u64>,
    /// Workers that were late in the step in work.
    late: BTreeSet<WorkerId>,
    /// The longest that a node took to be sent of those that were not late; `None` before the first.
    longest: Option<Micros>,
}

impl Invariant for Links {
    fn name(&self) -> &'static str {
        "links"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } => *self = Links::default(),
            Fact::CarriedOut(Effect::OpenStep { .. }) => {
                self.given.clear();
                self.late.clear();
            }
            Fact::CarriedOut(Effect::Send { worker, .. }) => *self.given.entry(*worker).or_default() += 1,
            Fact::CarriedOut(Effect::Overdue { worker, at, .. }) => {
                self.late.insert(*worker);
                return late(books, *worker, *at);
            }
            Fact::Counted { worker, answered, .. } => return self.counted(books, *worker, answered.lease),
            _ => {}
        }
        Ok(())
    }
}

impl Links {
    fn counted(&mut self, books: &Books, worker: WorkerId, lease: LeaseId) -> Result<(), String> {
        let computed = books.members.get(&worker).and_then(|member| member.computed.get(&lease));
        let Some(computed) = computed.filter(|computed| **computed >= books.asleep_until) else { return Ok(()) };
        if self.late.contains(&worker) {
            return Ok(());
        }
        let took = books.now.since(*computed);
        let timeouts = &books.plan.timeouts;
        if let Some(longest) = self.longest {
            // Each node of the worker that arrives gives those that are left their time anew.
            let given = self.given.get(&worker).copied().unwrap_or(1);
            let most = longest.times(u64::from(timeouts.send_factor)).max(timeouts.send_floor).times(given * given);
            check(took <= most, || format!("{worker} took {took} to send {lease}, {most} are allowed"))?;
        }
        self.longest = self.longest.max(Some(took));
        Ok(())
    }
}

fn late(books: &Books, worker: WorkerId, at: LeaseRef) -> Result<(), String> {
    let Some(member) = books.members.get(&worker) else { return Ok(()) };
    let for_long = |since: RunTime, patience| books.now >= since.after(patience);
    let timeouts = &books.plan.timeouts;
    if let Some(computed) = member.computed.get(&at.lease) {
        let moved = member.contact.pushed.max(*computed);
        let late = for_long(moved, timeouts.stall) || for_long(*computed, timeouts.send_floor);
        return check(late, || format!("{worker} is late with {at}, whose bytes flow"));
    }
    if member.ready >= Some(at.step) {
        return Ok(());
    }
    let taken = for_long(member.contact.fetched, timeouts.ready_grace);
    check(taken, || format!("{worker} is late with {at}, and takes its parameters"))
}
