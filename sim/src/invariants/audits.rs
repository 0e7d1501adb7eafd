//! See [`Audits`].

use std::collections::{BTreeMap, BTreeSet};

use convoy_scheduler::{Effect, Record, StepId, WorkerId};

use super::{Invariant, check};
use crate::facts::{Books, Fact};

/// Whoever is put out has computed wrongly; the run goes back before its first lie, and never lends to that name again,
/// after restarts neither. What the ledger calls audited is right.
#[derive(Default)]
pub(super) struct Audits {
    /// Who has ever computed wrongly.
    liars: BTreeSet<String>,
    put_out: BTreeSet<String>,
    /// Committed steps with lies in them, by name.
    lies: BTreeMap<String, BTreeSet<StepId>>,
}

impl Invariant for Audits {
    fn name(&self) -> &'static str {
        "audits"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Appended(Record::Evicted { name, since, .. }) => {
                let first = self.lies.get(name).and_then(|steps| steps.first().copied());
                self.forget(*since);
                check(first.is_none_or(|first| *since <= first), || {
                    format!("{name} is believed up to {since}, but lied in {first:?}")
                })
            }
            Fact::Appended(Record::Disbelieved { since }) => {
                self.forget(*since);
                Ok(())
            }
            Fact::Computed { worker, lied: true, .. } => {
                self.liars.extend(books.names.get(worker).cloned());
                Ok(())
            }
            Fact::Appended(Record::StepCommitted { step, ledger, .. }) => {
                let lies: Vec<(WorkerId, _)> = books.lies().collect();
                let audited = ledger.iter().find(|e| e.auditor.is_some() && lies.contains(&(e.worker, e.node)));
                check(audited.is_none(), || format!("the ledger of {step} has a lie that was audited: {audited:?}"))?;
                let alone = ledger.iter().find(|entry| entry.auditor == Some(entry.worker));
                check(alone.is_none(), || format!("the ledger of {step} has a worker that audited itself: {alone:?}"))?;
                self.lies.values_mut().for_each(|steps| _ = steps.remove(step));
                for (worker, _) in lies {
                    self.lies.entry(name(books, worker)).or_default().insert(*step);
                }
                Ok(())
            }
            Fact::Left(Effect::Evict { worker, name, .. }) => {
                self.put_out.insert(name.clone());
                check(self.liars.contains(name), || format!("{worker} ({name}) is put out and never lied"))
            }
            Fact::Left(Effect::Send { worker, .. }) => {
                let name = name(books, *worker);
                check(!self.put_out.contains(&name), || format!("{name} was put out and gets a lease"))
            }
            _ => Ok(()),
        }
    }
}

impl Audits {
    /// What was committed of `since` and later steps is not believed.
    fn forget(&mut self, since: StepId) {
        self.lies.values_mut().for_each(|steps| _ = steps.split_off(&since));
    }
}

fn name(books: &Books, worker: WorkerId) -> String {
    books.names.get(&worker).cloned().unwrap_or_default()
}
