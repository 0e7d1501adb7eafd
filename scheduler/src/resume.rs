//! Starting again from what the journal says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ids::{RunGeneration, StepId};
use crate::plan::{PlanError, RunPlan};
use crate::record::Record;
use crate::trust::Trust;

/// What a start must know of the starts before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// Steps from `first_step` on that were committed before: what they must come out as.
    pub digests: BTreeMap<StepId, [u8; 32]>,
    /// The run had stopped early at `first_step`.
    pub stopped_early: bool,
    /// What audits have shown.
    pub trust: Trust,
}

/// Digests of the parameters after each step that the journal holds and believes, by step. No checkpoint of other
/// parameters may be used.
pub fn believed<'a>(journal: impl IntoIterator<Item = &'a Record>) -> BTreeMap<StepId, [u8; 32]> {
    let mut digests = BTreeMap::new();
    for record in journal {
        match record {
            Record::StepCommitted { step, digest, .. } => _ = digests.insert(*step, *digest),
            Record::Evicted { since, .. } | Record::Disbelieved { since } => _ = digests.split_off(since),
            _ => {}
        }
    }
    digests
}

/// Reads the journal of earlier starts for a start with `plan`.
pub(crate) fn read(plan: &RunPlan, journal: impl IntoIterator<Item = Record>) -> Result<Past, ResumeError> {
    let mut digests: BTreeMap<StepId, [u8; 32]> = BTreeMap::new();
    let mut early: BTreeSet<StepId> = BTreeSet::new();
    let mut current: Option<(RunGeneration, StepId)> = None;
    let mut trust = Trust::default();
    let reach = |digests: &BTreeMap<StepId, _>| digests.last_key_value().map_or(StepId(0), |(step, _)| step.next());
    for record in journal {
        match record {
            Record::Started { generation, first_step } => {
                if current.is_some_and(|(earlier, _)| generation <= earlier) || generation >= plan.generation {
                    return Err(ResumeError::GenerationTaken { recorded: generation, starting: plan.generation });
                }
                if first_step > reach(&digests) {
                    return Err(ResumeError::Gap { expected: reach(&digests), found: first_step });
                }
                current = Some((generation, first_step));
                trust.started();
            }
            Record::StepCommitted { step, digest, ledger } => {
                let Some((generation, expected)) = current else {
                    return Err(ResumeError::NoStart { step });
                };
                if step != expected {
                    return Err(ResumeError::Gap { expected, found: step });
                }
                if digests.insert(step, digest).is_some_and(|before| before != digest) {
                    return Err(ResumeError::TwoDigests { step });
                }
                current = Some((generation, step.next()));
                for entry in &ledger {
                    trust.counted(entry.worker, step);
                    if let Some(auditor) = entry.auditor {
                        trust.found_clean(entry.worker, step);
                        trust.found_clean(auditor, step);
                    }
                }
            }
            Record::WorkerJoined { worker, name, .. } => trust.joined(worker, &name),
            Record::Evicted { name, since, .. } => {
                trust.distrust(&name);
                disbelieve(&mut digests, &mut early, &mut trust, since);
            }
            Record::Disbelieved { since } => disbelieve(&mut digests, &mut early, &mut trust, since),
            Record::Evaluated { step, stop_early: true } => {
                early.insert(step);
            }
            Record::Evaluated { .. } | Record::WorkerGone { .. } | Record::Finished { .. } => {}
        }
    }
    if plan.first_step > reach(&digests) {
        return Err(ResumeError::CheckpointAhead { checkpoint: plan.first_step, journal: reach(&digests) });
    }
    let digests = digests.split_off(&plan.first_step);
    let stopped_early = early.contains(&plan.first_step) && !plan.evaluation_pending;
    Ok(Past { digests, stopped_early, trust })
}

/// Forgets what the journal has of `since` and later steps.
fn disbelieve(
    digests: &mut BTreeMap<StepId, [u8; 32]>,
    early: &mut BTreeSet<StepId>,
    trust: &mut Trust,
    since: StepId,
) {
    digests.split_off(&since);
    early.retain(|step| *step <= since);
    trust.disbelieve(since);
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
