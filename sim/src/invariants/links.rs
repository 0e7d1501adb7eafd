//! See [`Links`].

use convoy_scheduler::{Effect, LeaseRef, RunTime, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// A worker is not late with a node that it has computed while bytes of its nodes come, and not with parameters while
/// it takes bytes of them.
#[derive(Default)]
pub(super) struct Links;

impl Invariant for Links {
    fn name(&self) -> &'static str {
        "links"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::CarriedOut(Effect::Overdue { worker, at, .. }) => late(books, *worker, *at),
            _ => Ok(()),
        }
    }
}

fn late(books: &Books, worker: WorkerId, at: LeaseRef) -> Result<(), String> {
    let Some(member) = books.members.get(&worker) else { return Ok(()) };
    let for_long = |since: RunTime, patience| books.now >= since.after(patience);
    let timeouts = &books.plan.timeouts;
    if let Some(computed) = member.computed.get(&at.lease) {
        let moved = member.contact.pushed.max(*computed);
        return check(for_long(moved, timeouts.stall), || format!("{worker} is late with {at}, whose bytes flow"));
    }
    if member.ready >= Some(at.step) {
        return Ok(());
    }
    let taken = for_long(member.contact.fetched, timeouts.ready_grace);
    check(taken, || format!("{worker} is late with {at}, and takes its parameters"))
}
