//! Checkpoints: parameters, buffers, optimizer state and history in one checked file, written beside the run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use convoy_common::{Digest, Plan};
use convoy_model::{Network, ReadError, Role, TensorFile, TensorRef, WriteError, write_atomic};
use convoy_scheduler::StepId;

use super::change::EarlierPlan;
use super::history::History;
use crate::run::reduction::parameter_state::{Flat, ParameterState, moment_names};

const STEP: &str = "convoy.step";
const PLAN: &str = "convoy.plan_digest";
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
    let state: Vec<(String, &[usize], &[f32])> = names
        .iter()
        .zip(&at.moments)
        .flat_map(|(moment, values)| {
            parameters(network).map(move |tensor| {
                (format!("{OPTIMIZER}{moment}.{}", tensor.name), &tensor.shape[..], &values[tensor.range()])
            })
        })
        .collect();
    let state = state.iter().map(|(name, shape, data)| TensorRef { name, shape, data: vec![*data] });
    let tensors: Vec<_> = at.flat.views(network).chain(state).collect();
    let metadata = BTreeMap::from([
        (STEP.to_owned(), at.step.to_string()),
        (PLAN.to_owned(), plan.digest().to_string()),
        (PARAMETERS.to_owned(), at.flat.digest(network).to_string()),
        (HISTORY.to_owned(), serde_json::to_string(history).expect("a history is plain data")),
    ]);
    let path = folder.join(file_name(at.step));
    write_atomic(&path, &tensors, &metadata)?;
    Ok(path)
}

fn parameters(network: &Network) -> impl Iterator<Item = &convoy_model::Tensor> {
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
        moments.push(values);
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

/// The newest checkpoint whose parameter digest equals the journal's: `believed` has it under the step before. A newer
/// one that cannot be used is logged. `None` when there is no checkpoint at all.
///
/// # Errors
/// The newest one's, when there are some but none can be used.
pub fn newest(
    folder: &Path,
    believed: &BTreeMap<StepId, [u8; 32]>,
    plan: &Plan,
    earlier: &[EarlierPlan],
    network: &Network,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let mut first_error = None;
    let reach = believed.last_key_value().map_or(0, |(last, _)| last.0 + 1);
    for (step, path) in list(folder).into_iter().rev() {
        if step > reach {
            tracing::warn!(checkpoint = %path.display(), reach, "ahead of the journal; computed again from an older one");
            continue;
        }
        match read(&path, plan, earlier, network).and_then(|checkpoint| {
            check_digest(&path, &checkpoint, believed, network)?;
            Ok(checkpoint)
        }) {
            Ok(checkpoint) => {
                if let Some(error) = first_error {
                    tracing::warn!(%error, used = %path.display(), "a newer checkpoint cannot be used");
                }
                return Ok(Some(checkpoint));
            }
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Whether the journal knows these parameters. Those of a step in which somebody computed wrongly it does not.
fn check_digest(
    path: &Path,
    checkpoint: &Checkpoint,
    believed: &BTreeMap<StepId, [u8; 32]>,
    network: &Network,
) -> Result<(), CheckpointError> {
    let Some(before) = checkpoint.state.step.checked_sub(1) else { return Ok(()) };
    if believed.get(&StepId(before)) == Some(&checkpoint.state.flat.digest(network).0) {
        return Ok(());
    }
    let problem = "has parameters whose digest is not the one in the journal".to_owned();
    Err(CheckpointError::Foreign { path: path.to_owned(), problem })
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
            && let Err(error) = fs::remove_file(path)
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
