//! See [`Fencing`].

use convoy_scheduler::RunGeneration;

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Nothing of an older generation, step or lease is counted. Each node that the reducer adds answers a lease, by its
/// full name, that is out to this very worker for the step in work, and that this worker computed. No generation starts
/// twice.
#[derive(Default)]
pub(super) struct Fencing {
    newest: Option<RunGeneration>,
}

impl Invariant for Fencing {
    fn name(&self) -> &'static str {
        "fencing"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { plan, .. } => {
                let newest = self.newest.replace(plan.generation);
                check(newest < Some(plan.generation), || format!("{} starts a second time", plan.generation))
            }
            Fact::Counted { worker, answered, node } => {
                check(answered.generation == books.plan.generation, || {
                    format!(
                        "{node} is counted for {answered} of {}, this is {}",
                        answered.generation, books.plan.generation
                    )
                })?;
                let by = books.computed.get(answered).map(|computed| computed.worker);
                check(by == Some(*worker), || format!("{node} is counted for {worker}, computed was it by {by:?}"))?;
                let in_work = books.open.as_ref().is_some_and(|open| open.step == answered.step);
                check(in_work, || format!("{node} is counted for {answered}, which is not in work"))?;
                let lease = books.members.get(worker).and_then(|member| member.held.get(&answered.lease));
                check(lease.is_some_and(|lease| lease.at == *answered && lease.node == *node), || {
                    format!("{node} is counted for {answered}, which is not out to {worker}")
                })
            }
            _ => Ok(()),
        }
    }
}
