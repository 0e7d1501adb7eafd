//! See [`Parameters`].

use convoy_scheduler::{Effect, StepId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;
use crate::oracle::{self, Model};

/// The parameters after each step are those of one machine alone: when they are committed, when a start reads them, in
/// a checkpoint, and where a worker computes with them; so is each chunk of them that an owner makes. A node that was
/// added in another order, twice, or from other parameters changes all that follow.
/// Where wrong numbers are counted, or some were added wrongly, and no audit has found that yet, the promise holds for
/// the steps before them.
#[derive(Default)]
pub(super) struct Parameters {
    history: Vec<Model>,
}

impl Invariant for Parameters {
    fn name(&self) -> &'static str {
        "parameters"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        let wrong = |step: StepId| books.lies.tainted.is_some_and(|tainted| tainted < step);
        match fact {
            Fact::Started { plan, .. } if books.lies.steps.first().is_some_and(|lied| *lied < plan.first_step) => {
                Ok(())
            }
            Fact::Made { step, .. } | Fact::Saved { step, .. } | Fact::Began { step, .. } if wrong(*step) => Ok(()),
            // Those of a chunk follow from what is counted: lies that will not be committed may be in it. And who lags
            // may still make what follows from an opening that is long over, lies and all; nobody takes it.
            Fact::MadeChunk { step, wrong: added, .. }
                if *added || wrong(*step) || books.has_lies() || *step < books.committed.next() =>
            {
                Ok(())
            }
            Fact::MadeChunk { owner, step, chunk, value, .. } => {
                let right = self.history.get(step.0 as usize).map(|model| model.values[*chunk]);
                check(right == Some(*value), || {
                    format!("{owner} made {value} of chunk {chunk} of the parameters of {step}, not {right:?}")
                })
            }
            Fact::Began { step, parameters } => {
                let right = self.history.get(step.0 as usize).map(Model::whole);
                check(right == Some(*parameters), || {
                    format!("{step} is computed with the parameters {parameters}, not {right:?}")
                })
            }
            Fact::CarriedOut(Effect::Commit { step, .. }) if wrong(step.next()) || books.is_open_wrong() => Ok(()),
            Fact::Started { plan, parameters, .. } => {
                if self.history.is_empty() {
                    self.history = oracle::history(plan);
                }
                self.are(plan.first_step, *parameters)
            }
            Fact::Made { step, parameters } | Fact::Saved { step, parameters } => self.are(*step, *parameters),
            Fact::CarriedOut(Effect::Commit { step, digest }) => {
                let right =
                    self.history.get(step.next().0 as usize).is_some_and(|p| oracle::digest(p.whole()) == *digest);
                check(right, || format!("{step} is committed with a digest that is not the oracle's"))
            }
            _ => Ok(()),
        }
    }
}

impl Parameters {
    fn are(&self, step: StepId, parameters: u64) -> Result<(), String> {
        let right = self.history.get(step.0 as usize).map(Model::number);
        check(right == Some(parameters), || format!("the parameters of {step} are {parameters}, not {right:?}"))
    }
}
