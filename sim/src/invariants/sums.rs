//! See [`Sums`].

use std::collections::BTreeSet;

use convoy_scheduler::{Effect, Owner, Record, StepId, SumFinding, Work, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// What comes of adding a sum anew has its consequences: an owner that has added wrongly is evicted, and of two that
/// disagree either is, or the journal says so. Whoever does not answer owns nothing in the next step. The journal names
/// the owners of a step, and as audited those that were, of whom not all sums are wrong.
#[derive(Default)]
pub(super) struct Sums {
    /// What was found, until the run has acted on it.
    found: Option<(WorkerId, SumFinding)>,
    evicted: BTreeSet<String>,
    /// Pairs of machines that disagree.
    disagreed: BTreeSet<[String; 2]>,
    /// Owners of whose sums one was equal, in the opening in work.
    equal: BTreeSet<WorkerId>,
    /// Workers that did not answer, and in which step.
    silent: BTreeSet<(WorkerId, StepId)>,
}

impl Invariant for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Started { .. } => {
                let (evicted, disagreed) = (std::mem::take(&mut self.evicted), std::mem::take(&mut self.disagreed));
                *self = Sums { evicted, disagreed, ..Sums::default() };
            }
            Fact::Died => self.found = None,
            Fact::SumFound { owner, finding: SumFinding::Equal, .. } => _ = self.equal.insert(*owner),
            Fact::SumFound { owner, finding, .. } => self.found = Some((*owner, *finding)),
            Fact::Unanswered { worker } => {
                self.silent.extend(books.open.as_ref().map(|open| (*worker, open.step)));
            }
            Fact::Appended(Record::Evicted { machine, .. }) => _ = self.evicted.insert(machine.clone()),
            Fact::Appended(Record::Disagreed { machines, .. }) => {
                let mut machines = machines.clone();
                machines.sort();
                self.disagreed.insert(machines);
            }
            Fact::Appended(Record::StepCommitted { step, owners, audited_owners, .. }) => {
                return self.committed(books, *step, owners, audited_owners);
            }
            Fact::CarriedOut(Effect::OpenStep { step, work: Work::Train, .. }) => return self.opened(books, *step),
            Fact::Rested { .. } => return self.acted(books),
            _ => {}
        }
        Ok(())
    }
}

impl Sums {
    fn committed(&self, books: &Books, step: StepId, owners: &[WorkerId], audited: &[WorkerId]) -> Result<(), String> {
        let named: BTreeSet<WorkerId> = owners.iter().copied().collect();
        let own = Owner::workers_among(books.exchange.of());
        check(named == own, || format!("{named:?} are named as owners of {step}, which {own:?} are"))?;
        let never = audited.iter().find(|owner| !self.equal.contains(owner));
        check(never.is_none(), || format!("no sum of {never:?} was audited in {step}, and the journal says so"))?;
        let wrong = audited.iter().find(|audited| {
            let mut sums = books.exchange.sums.values().filter(|(owner, _)| owner == *audited).peekable();
            sums.peek().is_some() && sums.all(|(_, wrong)| *wrong)
        });
        check(wrong.is_none(), || format!("all sums of {wrong:?} in {step} are wrong, and one was audited"))
    }

    fn opened(&mut self, books: &Books, step: StepId) -> Result<(), String> {
        self.equal.clear();
        let own = Owner::workers_among(books.exchange.of());
        let silent = self.silent.iter().find(|(worker, at)| at.next() == step && own.contains(worker)).copied();
        self.silent.retain(|(_, at)| *at >= step);
        check(silent.is_none(), || format!("{silent:?} did not answer and owns chunks of {step}"))
    }

    fn acted(&mut self, books: &Books) -> Result<(), String> {
        let Some((owner, finding)) = self.found.take() else { return Ok(()) };
        let machine = books.machine(owner);
        let mut done = self.evicted.contains(&machine);
        if let SumFinding::Disagrees(holder) = finding {
            let mut machines = [machine, books.machine(holder)];
            machines.sort();
            done |= self.evicted.contains(&books.machine(holder)) || self.disagreed.contains(&machines);
        }
        check(done, || format!("nothing follows from what was found of a sum of {owner}: {finding:?}"))
    }
}
