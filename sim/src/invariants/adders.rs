//! See [`Adders`].

use convoy_scheduler::{Effect, Event};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// A worker that computes nothing is lent nothing, whatever it is needed for, and answers no lease.
pub(super) struct Adders;

impl Invariant for Adders {
    fn name(&self) -> &'static str {
        "adders"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        let (worker, what) = match fact {
            Fact::CarriedOut(Effect::Send { worker, lease, .. }) => (worker, lease.at),
            Fact::Told { event: Event::NodeDone { worker, at, .. }, .. } => (worker, *at),
            _ => return Ok(()),
        };
        let adds = books.members.get(worker).is_some_and(|member| member.threads == 0);
        check(!adds, || format!("{worker} computes nothing and is lent {what}"))
    }
}
