//! See [`Liveness`].

use convoy_scheduler::{Outcome, ShardId, StepId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;
use crate::oracle;

/// A run with a worker that computes (three, where others compute wrongly) gets to its end within a bounded time after
/// the last fault. Where every worker dies of a shard, it ends with that in words. Otherwise it ends where one machine
/// alone would have, unless wrong numbers that no audit has found are in its parameters. It can always be started
/// again, and it never asks for a deadline that is past.
pub(super) struct Liveness;

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Refused(error) => Err(format!("the coordinator cannot start: {error}")),
            Fact::Overtime { waiting } => Err(format!("the run does not end; it waits for {waiting}")),
            Fact::Rested { deadline: Some(deadline), told, .. } => {
                check(deadline >= told, || format!("the deadline is {} us and stays there", deadline.0))
            }
            Fact::Ended(Outcome::Completed | Outcome::StoppedEarly) if books.lies.tainted.is_some() => Ok(()),
            Fact::Ended(Outcome::HoldersDied { step, node, .. }) if books.poison.is_some() => {
                let found = books
                    .poison
                    .is_some_and(|(at, ShardId(shard))| at == *step && node.leaves().any(|leaf| leaf.0 == shard));
                check(found, || format!("{node} of {step} is not what workers die of"))
            }
            Fact::Ended(outcome) => {
                let last = StepId(oracle::history(&books.plan).len() as u64 - 1);
                let complete = last == books.plan.last_parameters();
                let due = if complete { Outcome::Completed } else { Outcome::StoppedEarly };
                check(**outcome == due && books.committed == last, || {
                    format!("the run ended at {}: {outcome}; it should have at {last}: {due}", books.committed)
                })
            }
            _ => Ok(()),
        }
    }
}
