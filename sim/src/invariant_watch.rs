//! The watch over a simulated run: it traces every fact, lets each invariant judge it, and enters it in the books.

use std::fmt;

use convoy_scheduler::RunTime;

use crate::bookkeeping::Books;
use crate::facts::Fact;
use crate::invariants::{self, Invariant};
use crate::scenario::Scenario;
use crate::trace;

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the invariant; `assertion` where the scheduler's own assertion failed.
    pub invariant: &'static str,
    /// The virtual time.
    pub at: RunTime,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the invariant `{}` does not hold at {} us: {}", self.invariant, self.at.0, self.what)
    }
}

impl std::error::Error for Violation {}

/// Sees every fact of a run.
pub(crate) struct Watch<'a> {
    /// The state before the fact that is judged.
    pub books: Books,
    /// The first promise that was broken.
    pub broken: Option<Violation>,
    invariants: Vec<Box<dyn Invariant>>,
    trace: Option<&'a mut Vec<String>>,
}

impl<'a> Watch<'a> {
    /// A watch over a run that has not started; lines are added to `trace`.
    pub fn new(scenario: &Scenario, trace: Option<&'a mut Vec<String>>) -> Watch<'a> {
        let books = Books { poison: scenario.poison, ..Books::new(scenario.plan.clone()) };
        Watch { books, broken: None, invariants: invariants::all(), trace }
    }

    /// Traces a fact, has it judged, and enters it in the books.
    pub fn see(&mut self, fact: &Fact) {
        if let Some(lines) = &mut self.trace
            && let Some(line) = trace::show(fact)
        {
            lines.push(format!("{:>12.6} s  {line}", self.books.now.0 as f64 / 1e6));
        }
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.look(&self.books, fact)
                && self.broken.is_none()
            {
                self.broken = Some(Violation { invariant: invariant.name(), at: self.books.now, what });
            }
        }
        self.books.enter(fact);
    }

    /// A line of the trace that is no fact: a fault, for example.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.trace {
            lines.push(format!("{:>12.6} s  {}", self.books.now.0 as f64 / 1e6, line()));
        }
    }
}
