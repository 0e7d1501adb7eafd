//! See [`Audits`].

use std::collections::{BTreeMap, BTreeSet};

use convoy_scheduler::{Effect, LedgerEntry, Record, StepId, WorkerId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Only a machine that computed wrongly is evicted. The run goes back to parameters from before its first lie, and
/// never lends to that machine again, whatever it calls itself, not even after restarts. What the ledger calls audited
/// is right, and was audited by another machine.
#[derive(Default)]
pub(super) struct Audits {
    /// All machines that have ever computed wrongly.
    liars: BTreeSet<String>,
    evicted: BTreeSet<String>,
    /// Committed steps with lies in them, by machine.
    lies: BTreeMap<String, BTreeSet<StepId>>,
}

impl Invariant for Audits {
    fn name(&self) -> &'static str {
        "audits"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Appended(Record::Evicted { machine, since, .. }) => {
                let first = self.lies.get(machine).and_then(|steps| steps.first().copied());
                self.forget(*since);
                check(first.is_none_or(|first| *since <= first), || {
                    format!("{machine} is believed up to {since}, but lied in {first:?}")
                })
            }
            Fact::Appended(Record::Disbelieved { since }) => {
                self.forget(*since);
                Ok(())
            }
            Fact::Computed { worker, lied: true, .. } => {
                self.liars.extend(books.machines.get(worker).cloned());
                Ok(())
            }
            Fact::Appended(Record::StepCommitted { step, ledger, .. }) => {
                let lies: Vec<(WorkerId, _)> = books.open_lies().collect();
                let audited = ledger.iter().find(|e| e.auditor.is_some() && lies.contains(&(e.worker, e.node)));
                check(audited.is_none(), || format!("the ledger of {step} has a lie that was audited: {audited:?}"))?;
                let itself =
                    |e: &&LedgerEntry| e.auditor.map(|other| machine(books, other)) == Some(machine(books, e.worker));
                let alone = ledger.iter().find(itself);
                check(alone.is_none(), || {
                    format!("the ledger of {step} has a machine that audited itself: {alone:?}")
                })?;
                self.lies.values_mut().for_each(|steps| _ = steps.remove(step));
                for (worker, _) in lies {
                    self.lies.entry(machine(books, worker)).or_default().insert(*step);
                }
                Ok(())
            }
            Fact::CarriedOut(Effect::Evict { worker, machine, .. }) => {
                self.evicted.insert(machine.clone());
                check(self.liars.contains(machine), || format!("{worker} ({machine}) is evicted and never lied"))
            }
            Fact::CarriedOut(Effect::Send { worker, .. }) => {
                let machine = machine(books, *worker);
                check(!self.evicted.contains(&machine), || format!("{machine} was evicted and gets a lease"))
            }
            _ => Ok(()),
        }
    }
}

impl Audits {
    /// Forgets commits of `since` and of later steps: they are not believed.
    fn forget(&mut self, since: StepId) {
        self.lies.values_mut().for_each(|steps| _ = steps.split_off(&since));
    }
}

fn machine(books: &Books, worker: WorkerId) -> String {
    books.machines.get(&worker).cloned().unwrap_or_default()
}
