//! See [`Quiet`].

use convoy_scheduler::{Check, Effect, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::{Books, Member};
use crate::facts::Fact;

/// A worker that was not heard of for a while gets nothing to compute that will be counted, as long as another that
/// holds parameters was heard of.
pub(super) struct Quiet;

impl Invariant for Quiet {
    fn name(&self) -> &'static str {
        "quiet"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::CarriedOut(Effect::Send { worker, check, .. }) if *check != Check::Digest => sent(books, *worker),
            _ => Ok(()),
        }
    }
}

fn sent(books: &Books, worker: WorkerId) -> Result<(), String> {
    let (since, quiet) = (|member: &Member| books.clock.since(member.contact.heard), books.plan.timeouts.quiet);
    let other = |member: &Member| member.ready.is_some() && !member.draining && since(member) < quiet;
    let is_quiet = |member: &Member| since(member) > quiet;
    let quiet = books.now > books.asleep_until && books.members.get(&worker).is_some_and(is_quiet);
    check(!quiet || !books.members.values().any(other), || {
        format!("{worker} was not heard of for a while and gets a lease, where others are there")
    })
}
