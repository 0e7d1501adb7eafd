//! Starting again from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ids::{RunGeneration, StepId};
use crate::plan::{PlanError, RunPlan};
use crate::record::{LedgerEntry, Record};
use crate::trust::Trust;

/// Everything that a start must know about the starts before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// Digests of the steps from `first_step` on that were committed before: computed again, they must be the same.
    pub digests: BTreeMap<StepId, [u8; 32]>,
    /// Whether the run had stopped early at `first_step`, or would have if that had not been its end.
    pub stopped_early: bool,
    /// The findings of audits about workers.
    pub trust: Trust,
}

/// By step, the digest of the parameters after it, for all steps that the journal holds and that are believed. A
/// checkpoint whose parameters have another digest must not be used.
pub fn believed<'a>(journal: impl IntoIterator<Item = &'a Record>) -> BTreeMap<StepId, [u8; 32]> {
    let mut digests = BTreeMap::new();
    for record in journal {
        match record {
            Record::StepCommitted { step, digest, .. } => {
                // Where a record is lost that says why, the later commit is the one that was believed.
                if digests.get(step).is_some_and(|before| before != digest) {
                    digests.split_off(step);
                }
                digests.insert(*step, *digest);
            }
            Record::Evicted { since, .. } | Record::Disagreed { since, .. } | Record::Disbelieved { since } => {
                digests.split_off(since);
            }
            _ => {}
        }
    }
    digests
}

/// Reads the journal of earlier starts for a start with `plan`.
///
/// # Errors
/// When the journal cannot be one of this run, or `plan` does not go on from it.
pub(crate) fn read(plan: &RunPlan, journal: impl IntoIterator<Item = Record>) -> Result<Past, ResumeError> {
    let mut reader = JournalReader::default();
    for record in journal {
        reader.read(plan, record)?;
    }
    let JournalReader { mut digests, early, trust, lost, .. } = reader;
    if plan.first_step > end_of(&digests) && !lost {
        return Err(ResumeError::CheckpointAhead { checkpoint: plan.first_step, journal: end_of(&digests) });
    }
    let digests = digests.split_off(&plan.first_step);
    let before_the_end = plan.first_step < plan.last_parameters();
    let stopped_early = before_the_end && early.contains(&plan.first_step) && !plan.evaluation_pending;
    Ok(Past { digests, stopped_early, trust })
}

/// The parameters after the last of these steps.
fn end_of(digests: &BTreeMap<StepId, [u8; 32]>) -> StepId {
    digests.last_key_value().map_or(StepId(0), |(step, _)| step.next())
}

/// The state of a run as the records up to some place of the journal tell it.
#[derive(Default)]
struct JournalReader {
    digests: BTreeMap<StepId, [u8; 32]>,
    /// Steps whose evaluation ended the run early.
    early: BTreeSet<StepId>,
    /// The start that the records belong to, and the step that it commits next, unless a record before is lost.
    current: Option<(RunGeneration, Option<StepId>)>,
    /// Whether records are lost.
    lost: bool,
    trust: Trust,
}

impl JournalReader {
    fn read(&mut self, plan: &RunPlan, record: Record) -> Result<(), ResumeError> {
        match record {
            Record::Started { generation, first_step } => self.started(plan, generation, first_step)?,
            Record::StepCommitted { step, digest, ledger, owners, audited_owners } => {
                self.committed(step, digest, &ledger, !owners.is_empty())?;
                owners.into_iter().for_each(|owner| self.trust.adds(owner, step));
                audited_owners.into_iter().for_each(|owner| self.trust.found_sums_clean(owner, step));
            }
            Record::WorkerJoined { worker, machine, name, .. } => self.trust.joined(worker, &machine, &name),
            Record::Evicted { machine, name, since, .. } => {
                self.trust.evict(&machine, &name);
                self.disbelieve(since);
            }
            Record::Disagreed { machines: [one, other], since } => {
                self.trust.disagree(&one, &other);
                self.disbelieve(since);
                [one, other].iter().for_each(|machine| self.trust.forget_sums_since(machine, since));
            }
            Record::Disbelieved { since } => self.disbelieve(since),
            Record::Evaluated { step, stop_early: true } => _ = self.early.insert(step),
            Record::Evaluated { .. } | Record::WorkerGone { .. } | Record::Finished { .. } => {}
            Record::Lost { .. } => self.lost(),
        }
        Ok(())
    }

    fn started(&mut self, plan: &RunPlan, generation: RunGeneration, first_step: StepId) -> Result<(), ResumeError> {
        if self.current.is_some_and(|(earlier, _)| generation <= earlier) || generation >= plan.generation {
            return Err(ResumeError::GenerationTaken { recorded: generation, starting: plan.generation });
        }
        let expected = end_of(&self.digests);
        if first_step > expected && !self.lost {
            return Err(ResumeError::Gap { expected, found: first_step });
        }
        self.current = Some((generation, Some(first_step)));
        self.trust.started();
        Ok(())
    }

    fn committed(
        &mut self,
        step: StepId,
        digest: [u8; 32],
        ledger: &[LedgerEntry],
        sliced: bool,
    ) -> Result<(), ResumeError> {
        let (generation, expected) = self.current.ok_or(ResumeError::NoStart { step })?;
        if let Some(expected) = expected.filter(|expected| *expected != step) {
            return Err(ResumeError::Gap { expected, found: step });
        }
        if self.digests.get(&step).is_some_and(|before| *before != digest) {
            if !self.lost {
                return Err(ResumeError::TwoDigests { step });
            }
            // The record that said why is one of those that are lost.
            self.disbelieve(step);
        }
        self.digests.insert(step, digest);
        self.current = Some((generation, Some(step.next())));
        for entry in ledger {
            self.trust.counted(entry.worker, step);
            // An auditor can tell that it is one where workers own chunks.
            let auditor = entry.auditor.filter(|_| !sliced);
            for clean in entry.auditor.map(|_| entry.worker).into_iter().chain(auditor) {
                self.trust.found_clean(clean, step);
            }
        }
        Ok(())
    }

    /// Any record may be missing from here on; numbers of workers may be those of another start.
    fn lost(&mut self) {
        let generation = self.current.map_or(RunGeneration(0), |(generation, _)| generation);
        self.current = Some((generation, None));
        self.lost = true;
        self.trust.started();
    }

    /// Forgets the commits and evaluations of `since` and later steps.
    fn disbelieve(&mut self, since: StepId) {
        self.digests.split_off(&since);
        self.early.retain(|step| *step <= since);
        self.trust.disbelieve(since);
    }
}

/// Why a run cannot be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResumeError {
    /// The plan itself is wrong.
    Plan(PlanError),
    /// The journal holds this start, or a later one, already.
    GenerationTaken {
        /// A start in the journal.
        recorded: RunGeneration,
        /// The start that was asked for.
        starting: RunGeneration,
    },
    /// A step stands in the journal before any start.
    NoStart {
        /// Which one.
        step: StepId,
    },
    /// The journal leaves steps out.
    Gap {
        /// The step that should come.
        expected: StepId,
        /// The step that does.
        found: StepId,
    },
    /// The journal gives a step two different digests.
    TwoDigests {
        /// Which one.
        step: StepId,
    },
    /// The checkpoint holds steps that the journal does not know.
    CheckpointAhead {
        /// Where the checkpoint stands.
        checkpoint: StepId,
        /// Where the journal ends.
        journal: StepId,
    },
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResumeError::Plan(error) => write!(f, "{error}"),
            ResumeError::GenerationTaken { recorded, starting } => write!(
                f,
                "the journal holds {recorded} already, so {starting} cannot start; is another coordinator running it?"
            ),
            ResumeError::NoStart { step } => {
                write!(f, "the journal names {step} before any start; its beginning is missing")
            }
            ResumeError::Gap { expected, found } => {
                write!(f, "the journal goes on with {found} where {expected} should be; it lacks what is between")
            }
            ResumeError::TwoDigests { step } => {
                write!(f, "the journal holds two different digests of {step}; one of them was computed wrongly")
            }
            ResumeError::CheckpointAhead { checkpoint, journal } => write!(
                f,
                "the checkpoint stands at {checkpoint}, but the journal ends at {journal}; they are not of one run, \
                 or the journal was cut: resume from an older checkpoint"
            ),
        }
    }
}

impl std::error::Error for ResumeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ResumeError::Plan(error) => Some(error),
            _ => None,
        }
    }
}

impl From<PlanError> for ResumeError {
    fn from(error: PlanError) -> ResumeError {
        ResumeError::Plan(error)
    }
}
