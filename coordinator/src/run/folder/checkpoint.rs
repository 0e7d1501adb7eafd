//! Checkpoints: parameters, buffers, optimizer state and history in one checked file, written beside the run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use convoy_common::durable::{WriteError, remove_file};
use convoy_common::{Digest, Plan};
use convoy_model::{Network, ReadError, Role, Tensor, TensorFile, TensorRef, write_atomic};
use convoy_reduce::{Flat, ParameterState, moment_names};
use convoy_scheduler::{Record, StepId, believed};

use super::history::History;
use super::sealed_plans::EarlierPlan;

const STEP: &str = "convoy.step";
const PLAN: &str = "convoy.plan_digest";
const PLAN_JSON: &str = "convoy.plan";
const PARAMETERS: &str = "convoy.parameters_digest";
const HISTORY: &str = "convoy.history";
/// Prefix of the tensors that hold optimizer state; what is left are the model's.
pub const OPTIMIZER: &str = "optimizer.";

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It belongs to another run.
    #[error("{}: {problem}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
}

/// A run at a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Parameters, buffers and optimizer state.
    pub state: ParameterState,
    /// What is known of the run.
    pub history: History,
}

/// Name of the checkpoint after `step` steps.
pub fn file_name(step: u64) -> String {
    format!("step-{step:08}.safetensors")
}

/// Writes a checkpoint of the parameters `at` and the `history` up to them into `folder`, atomically, and returns its
/// path.
///
/// # Errors
/// When the file cannot be written; what was there before still is.
pub fn write(
    folder: &Path,
    plan: &Plan,
    network: &Network,
    at: &ParameterState,
    history: &History,
) -> Result<PathBuf, WriteError> {
    let names = moment_names(&plan.spec.optimizer);
    let named = names.iter().zip(&at.moments).flat_map(|(moment, values)| {
        parameters(network).map(move |tensor| (format!("{OPTIMIZER}{moment}.{}", tensor.name), tensor, values))
    });
    let named: Vec<(String, &Tensor, &Flat)> = named.collect();
    let state = named.iter().map(|(name, tensor, values)| TensorRef {
        name,
        shape: &tensor.shape,
        data: values.pieces(tensor.range()),
    });
    let tensors: Vec<_> = at.flat.views(network).chain(state).collect();
    let metadata = BTreeMap::from([
        (STEP.to_owned(), at.step.to_string()),
        (PLAN.to_owned(), plan.digest().to_string()),
        (PLAN_JSON.to_owned(), String::from_utf8_lossy(&plan.to_json()).into_owned()),
        (PARAMETERS.to_owned(), at.flat.digest(network).to_string()),
        (HISTORY.to_owned(), serde_json::to_string(history).expect("a history is plain data")),
    ]);
    let path = folder.join(file_name(at.step));
    write_atomic(&path, &tensors, &metadata)?;
    Ok(path)
}

/// The plan that the checkpoint at `path` was written with, if it is whole.
pub(super) fn plan_of(path: &Path) -> Option<Plan> {
    let file = TensorFile::read(path).ok()?;
    let plan = Plan::from_json(file.metadata.get(PLAN_JSON)?.as_bytes()).ok()?;
    plan.check().is_ok().then_some(plan)
}

fn parameters(network: &Network) -> impl Iterator<Item = &Tensor> {
    network.tensors.iter().filter(|tensor| matches!(tensor.role, Role::Parameter { .. }))
}

/// Reads the checkpoint at `path` of the run with `plan`, which had the `earlier` plans before.
///
/// # Errors
/// When it is damaged or of another run.
pub fn read(
    path: &Path,
    plan: &Plan,
    earlier: &[EarlierPlan],
    network: &Network,
) -> Result<Checkpoint, CheckpointError> {
    let file = TensorFile::read(path)?;
    let foreign = |problem: String| CheckpointError::Foreign { path: path.to_owned(), problem };
    let entry =
        |key: &str| file.metadata.get(key).ok_or_else(|| foreign(format!("is no checkpoint: it has no entry `{key}`")));
    let step = entry(STEP)?.parse().map_err(|_| foreign("its step is no number".to_owned()))?;
    let of = entry(PLAN)?.parse();
    if of != Ok(plan.digest()) && !earlier.iter().any(|earlier| of == Ok(earlier.plan)) {
        return Err(foreign(
            "belongs to another plan (network, data or settings differ); resume it in its own run folder".to_owned(),
        ));
    }
    let history =
        serde_json::from_str(entry(HISTORY)?).map_err(|error| foreign(format!("its history is invalid: {error}")))?;
    let by_name: BTreeMap<&str, &convoy_model::NamedTensor> =
        file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let take = |name: &str, shape: &[usize], into: &mut [f32]| match by_name.get(name) {
        Some(tensor) if tensor.shape == shape => {
            into.copy_from_slice(&tensor.data);
            Ok(())
        }
        Some(tensor) => {
            Err(foreign(format!("tensor {name} has shape {:?}, the network needs {shape:?}", tensor.shape)))
        }
        None => Err(foreign(format!("is of another network: tensor {name} is missing"))),
    };
    let mut flat = vec![0.0; network.len()];
    for tensor in &network.tensors {
        take(&tensor.name, &tensor.shape, &mut flat[tensor.range()])?;
    }
    let mut moments = Vec::new();
    for moment in moment_names(&plan.spec.optimizer) {
        let mut values = vec![0.0; network.parameters];
        for tensor in parameters(network) {
            take(&format!("{OPTIMIZER}{moment}.{}", tensor.name), &tensor.shape, &mut values[tensor.range()])?;
        }
        moments.push(Flat::of(&values));
    }
    if entry(PARAMETERS)?.parse() != Ok(network.digest(&flat)) {
        return Err(foreign("its parameters do not have the digest it names".to_owned()));
    }
    Ok(Checkpoint { state: ParameterState { step, flat: Flat::of(&flat), moments }, history })
}

/// Digest of the model's tensors in the checkpoint or model file at `path`: parameters and buffers, without
/// optimizer state.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub fn parameters_digest(path: &Path) -> Result<Digest, ReadError> {
    let file = TensorFile::read_foreign(path)?;
    let model = file.tensors.iter().filter(|tensor| !tensor.name.starts_with(OPTIMIZER));
    Ok(convoy_model::digest_tensors(model.map(convoy_model::NamedTensor::view)))
}

/// Checkpoints in `folder`, oldest first.
pub fn list(folder: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let step =
        |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((step(&entry.path())?, entry.path()))).collect();
    found.sort();
    found
}

/// The checkpoint to go on from: the newest whose parameter digest equals the journal's, which it has under the
/// step before. One that cannot be used is logged; `None` when there is no checkpoint at all.
///
/// Where the journal lacks a step, one of the newest `checkpoint.keep` that is not beyond it is taken rather than a
/// newer one, as the step is computed again then. Where it knows none of them, the newest is taken by its own checks.
///
/// # Errors
/// The newest one's, when there are some but none can be used.
pub fn newest(
    folder: &Path,
    known: &KnownSteps,
    plan: &Plan,
    earlier: &[EarlierPlan],
    network: &Network,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let lacks = (0..).find(|step| !known.believed.contains_key(&StepId(*step))).unwrap_or(0);
    let (mut proven, mut unproven, mut first_error) = (None, None, None);
    for (at, (step, path)) in list(folder).into_iter().rev().enumerate() {
        if proven.is_some() && (at >= plan.spec.checkpoint.keep as usize || step > lacks) {
            continue;
        }
        match read(&path, plan, earlier, network).and_then(|checkpoint| {
            let proof = known.check(&path, &checkpoint, network)?;
            Ok((checkpoint, proof))
        }) {
            Ok((checkpoint, Evidence::Known)) => {
                proven = Some(checkpoint);
                if step <= lacks {
                    break;
                }
            }
            Ok((checkpoint, Evidence::Unknown)) => _ = unproven.get_or_insert((path, checkpoint)),
            Ok((_, Evidence::Disbelieved)) => {
                tracing::warn!(checkpoint = %path.display(), "holds steps that are not believed; computed again");
            }
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    if let (Some(error), true) = (&first_error, proven.is_some() || unproven.is_some()) {
        tracing::warn!(%error, "a checkpoint cannot be used");
    }
    match (proven, unproven) {
        (Some(proven), unproven) => {
            if let Some((path, _)) = unproven.filter(|(_, checkpoint)| checkpoint.state.step > proven.state.step) {
                let used = proven.state.step;
                tracing::warn!(checkpoint = %path.display(), used, "not in the journal; computed again from an older one");
            }
            Ok(Some(proven))
        }
        (None, Some((path, checkpoint))) => {
            tracing::error!(
                checkpoint = %path.display(),
                "the journal is damaged and does not know this checkpoint, which is whole; the run goes on from it, and \
                 `convoy audit` will lack the steps before it"
            );
            Ok(Some(checkpoint))
        }
        (None, None) => first_error.map_or(Ok(None), Err),
    }
}

/// What a journal tells of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// Its parameters are those of the journal.
    Known,
    /// The journal does not know its step.
    Unknown,
    /// Likewise, as somebody may have computed it wrongly.
    Disbelieved,
}

/// What a journal tells of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSteps {
    /// By step, the digest of the parameters after it.
    believed: BTreeMap<StepId, [u8; 32]>,
    /// The first step that somebody may have computed wrongly.
    doubted: Option<StepId>,
}

impl KnownSteps {
    /// What `records` tell.
    pub fn of(records: &[Record]) -> Self {
        let doubted = |record: &Record| match record {
            Record::Evicted { since, .. } | Record::Disagreed { since, .. } | Record::Disbelieved { since } => {
                Some(*since)
            }
            _ => None,
        };
        KnownSteps { believed: believed(records), doubted: records.iter().filter_map(doubted).min() }
    }

    /// The parameters after the last step.
    pub(crate) fn reach(&self) -> u64 {
        self.believed.last_key_value().map_or(0, |(last, _)| last.next().0)
    }

    /// What the journal tells of the checkpoint at `path`.
    ///
    /// # Errors
    /// When it knows other parameters.
    fn check(&self, path: &Path, checkpoint: &Checkpoint, network: &Network) -> Result<Evidence, CheckpointError> {
        let Some(before) = checkpoint.state.step.checked_sub(1) else { return Ok(Evidence::Known) };
        match self.believed.get(&StepId(before)) {
            None if self.doubted.is_some_and(|since| before >= since.0) => Ok(Evidence::Disbelieved),
            None => Ok(Evidence::Unknown),
            Some(digest) if *digest == checkpoint.state.flat.digest(network).0 => Ok(Evidence::Known),
            Some(_) => {
                let problem = "has parameters whose digest is not the one in the journal".to_owned();
                Err(CheckpointError::Foreign { path: path.to_owned(), problem })
            }
        }
    }
}

/// Removes the checkpoints in `folder` after more than `step` steps: they hold what a worker computed wrongly.
pub(crate) fn forget_after(folder: &Path, step: u64) {
    for (_, path) in list(folder).into_iter().filter(|(at, _)| *at > step) {
        if let Err(error) = remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "a checkpoint that is not believed cannot be removed");
        }
    }
}

/// Removes all but the newest `keep` checkpoints up to `written`, the one just written, the `best` one, and the newest
/// up to `trusted`. Later ones are left: they could not be used, and are written anew.
pub fn prune(folder: &Path, written: u64, keep: u32, best: Option<u64>, trusted: u64) {
    let mut found = list(folder);
    found.retain(|(step, _)| *step <= written);
    let old = found.len().saturating_sub(keep as usize);
    let known_good = found.iter().map(|(step, _)| *step).filter(|step| *step <= trusted).max();
    for (step, path) in &found[..old] {
        if ![best, known_good].contains(&Some(*step))
            && let Err(error) = remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "an old checkpoint cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_keeps_the_newest_the_best_the_trusted_and_what_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        for step in [10, 20, 25, 30, 40, 90] {
            fs::write(folder.path().join(file_name(step)), "").unwrap();
        }
        prune(folder.path(), 40, 2, Some(10), 24);
        let left: Vec<u64> = list(folder.path()).into_iter().map(|(step, _)| step).collect();
        assert_eq!(left, [10, 20, 30, 40, 90]);
    }
}
