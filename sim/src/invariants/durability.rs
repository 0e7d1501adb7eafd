//! See [`Durability`].

use std::collections::BTreeMap;

use convoy_scheduler::{Effect, Outcome, Record, StepId};

use super::invariant::{Invariant, check};
use crate::bookkeeping::Books;
use crate::facts::Fact;

/// Nothing that was acknowledged is lost over restarts. No worker hears of anything, and no step is committed, before
/// the journal has it. A start reads all records that were synced, in their order, and begins with a checkpoint that is
/// on disk. A step that is committed again has the digest that the journal has of it, unless the journal says that the
/// old one is not believed. Of a commit whose record a crash took along nothing is known: a worker may have lied in it.
/// A run that ends well has its last parameters on disk.
#[derive(Default)]
pub(super) struct Durability {
    journal: Vec<Record>,
    synced: usize,
    saved: BTreeMap<StepId, u64>,
    digests: BTreeMap<StepId, [u8; 32]>,
}

impl Invariant for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn look(&mut self, books: &Books, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Appended(record) => {
                self.journal.push((*record).clone());
                self.believe(record)
            }
            Fact::Synced => {
                self.synced = self.journal.len();
                Ok(())
            }
            Fact::Saved { step, parameters } => {
                self.saved.insert(*step, *parameters);
                Ok(())
            }
            Fact::Started { plan, parameters, read } => {
                check(self.journal.starts_with(read), || "the journal was read back changed".to_owned())?;
                check(read.len() >= self.synced, || {
                    let (read, synced) = (read.len(), self.synced);
                    format!("{synced} records were synced, {read} were read back")
                })?;
                self.journal.truncate(read.len());
                self.digests.clear();
                read.iter().try_for_each(|record| self.believe(record))?;
                let saved = plan.first_step == StepId(0) || self.saved.get(&plan.first_step) == Some(parameters);
                check(saved, || format!("a start from {}, of which no such checkpoint was written", plan.first_step))
            }
            Fact::CarriedOut(effect) => self.carried_out(books, effect),
            _ => Ok(()),
        }
    }
}

impl Durability {
    /// Takes over what a record says of digests.
    fn believe(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Evicted { since, .. } | Record::Disagreed { since, .. } | Record::Disbelieved { since } => {
                self.digests.split_off(since);
            }
            Record::StepCommitted { step, digest, .. } => {
                let before = self.digests.insert(*step, *digest);
                check(before.is_none_or(|before| before == *digest), || {
                    format!("{step} is committed again with another digest")
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn carried_out(&mut self, books: &Books, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::OpenStep { step, .. } => {
                let recorded = self.since_start().is_some();
                check(recorded, || format!("{step} is opened before the journal has the start"))
            }
            Effect::Send { worker, lease, .. } => {
                let joined = |record: &Record| matches!(record, Record::WorkerJoined { worker: w, .. } if w == worker);
                let recorded = self.since_start().is_some_and(|records| records.iter().any(joined));
                check(recorded, || format!("{} goes to {worker} before the journal has it", lease.at))
            }
            Effect::Commit { step, digest } => {
                let recorded = matches!(self.journal.last(), Some(Record::StepCommitted { step: s, digest: d, .. })
                    if (s, d) == (step, digest));
                check(recorded, || format!("{step} is committed before the journal has it"))
            }
            Effect::Finish { outcome } => {
                let recorded = matches!(self.journal.last(), Some(Record::Finished { .. }));
                check(recorded, || "the run ends before the journal has it".to_owned())?;
                let saved = books.committed == StepId(0) || self.saved.contains_key(&books.committed);
                let ends_well =
                    !matches!(outcome, Outcome::Unsaved { .. } | Outcome::RolledBack { .. } | Outcome::Diverged { .. });
                check(saved || !ends_well, || {
                    format!("the run ends well, but its parameters of {} are not on disk", books.committed)
                })
            }
            _ => Ok(()),
        }
    }

    /// The records of this start in the journal.
    fn since_start(&self) -> Option<&[Record]> {
        let start = self.journal.iter().rposition(|record| matches!(record, Record::Started { .. }))?;
        Some(&self.journal[start..])
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::{RunGeneration, RunPlan};

    use super::*;

    fn committed(digest: u8) -> Record {
        Record::StepCommitted {
            step: StepId(0),
            digest: [digest; 32],
            ledger: Vec::new(),
            owners: Vec::new(),
            audited_owners: Vec::new(),
        }
    }

    /// Commits step 0, starts again from a journal of which `kept` records are left, and commits it with another
    /// digest.
    fn committed_again(kept: usize) -> Result<(), String> {
        let plan = RunPlan::new(1, 2, 4, 4);
        let books = Books::new(plan.clone());
        let mut durability = Durability::default();
        let journal = [Record::Started { generation: RunGeneration(1), first_step: StepId(0) }, committed(1)];
        journal.iter().try_for_each(|record| durability.look(&books, &Fact::Appended(record)))?;
        durability.look(&books, &Fact::Started { plan: &plan, parameters: 0, read: &journal[..kept] })?;
        durability.look(&books, &Fact::Appended(&committed(2)))
    }

    #[test]
    fn a_commit_binds_as_long_as_its_record_is_there() {
        assert_eq!(committed_again(1), Ok(()), "the crash took the record along");
        assert_eq!(committed_again(2), Err("step 0 is committed again with another digest".to_owned()));
    }
}
