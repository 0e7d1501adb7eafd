//! See [`Liveness`].

use convoy_scheduler::{Outcome, StepId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;
use crate::oracle;

/// A run with a worker that computes (three, where others compute wrongly) gets to its end within a bounded time after
/// the last fault. It ends where one machine alone would have, unless wrong numbers that no audit has found are in its
/// parameters. It can always be started again, and it never asks for a deadline that is past.
pub(super) struct Liveness;

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Refused(error) => Err(format!("the coordinator cannot start: {error}")),
            Fact::Overtime { waiting } => Err(format!("the run does not end; it waits for {waiting}")),
            Fact::Rested { deadline: Some(deadline), .. } => {
                check(*deadline >= books.now, || format!("the deadline is {} us and stays there", deadline.0))
            }
            Fact::Ended(Outcome::Completed | Outcome::StoppedEarly) if books.lies.tainted.is_some() => Ok(()),
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
