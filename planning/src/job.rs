//! A job whose data was looked at.

use std::path::Path;
use std::sync::Arc;

use convoy_common::file_tree::FileTree;
use convoy_common::spec::{Depth16, SpecError};
use convoy_common::{Digest, Plan};
use convoy_model::{InitReport, Network, initial_values};
use convoy_vision::{Scanned, facts};

use crate::error::PlanningError;
use crate::look::{Looking, disk, init_file, look_here};
use crate::recipe;
use crate::spec_file::{SpecFile, is_spec};

/// All that a run needs but a folder.
#[derive(Debug)]
pub struct Job {
    /// What the spec means.
    pub plan: Arc<Plan>,
    /// The network.
    pub network: Arc<Network>,
    /// The data.
    pub scanned: Scanned,
    /// Parameters and buffers before the first step: the flat vector of the network.
    pub initial: Vec<f32>,
    /// What was taken from a model file.
    pub init: Option<InitReport>,
}

/// The spec at `path` on this machine; or, where that is a folder of images or a table of them, the one that is chosen
/// for it, with the reasons in words.
///
/// # Errors
/// When there is none, it makes no sense, or data for which it would be chosen cannot be used.
pub fn spec_here(
    path: &Path,
    overrides: &[String],
    looking: &Looking,
) -> Result<(SpecFile, Option<String>), PlanningError> {
    if is_spec(path) || !is_data(path) {
        return Ok((SpecFile::read(Some(path), overrides)?, None));
    }
    let (file, _, reasons) = recipe::choose(path, overrides, looking)?;
    Ok((file, Some(reasons)))
}

/// Whether `path` is data on this machine: something that exists, or a pattern of archives.
fn is_data(path: &Path) -> bool {
    path.exists() || path.to_str().is_some_and(|path| path.contains('{'))
}

impl Job {
    /// The job at `path` on this machine, and what was chosen for it, in words, when it is no spec: a folder of images,
    /// or a table of them.
    ///
    /// # Errors
    /// When spec, data and network do not fit, or the data cannot be used.
    pub fn here(path: &Path, overrides: &[String], looking: &Looking) -> Result<(Job, Option<String>), PlanningError> {
        if is_spec(path) || !is_data(path) {
            let file = SpecFile::read(Some(path), overrides)?;
            let scanned = look_here(&file.spec, looking)?;
            return Ok((Job::new(&disk(), file, scanned, looking)?, None));
        }
        let (file, scanned, reasons) = recipe::choose(path, overrides, looking)?;
        Ok((Job::new(&disk(), file, scanned, looking)?, Some(reasons)))
    }

    /// The job that the spec in `file` means with the data that was looked at in `tree`.
    ///
    /// # Errors
    /// When spec, data and network do not fit.
    pub fn new(
        tree: &Arc<dyn FileTree>,
        file: SpecFile,
        scanned: Scanned,
        looking: &Looking,
    ) -> Result<Job, PlanningError> {
        let (plan, init) = plan(tree, file, &scanned, looking)?;
        let network = Network::of(&plan)?;
        let (initial, init) = initial_values(&plan, &network, init.as_deref())?;
        Ok(Job { plan: Arc::new(plan), network: Arc::new(network), scanned, initial, init })
    }
}

/// What the spec in `file` means with the data that was looked at in `tree`, and the bytes of the model file that the
/// spec names, if any. Takes no memory for parameters.
///
/// # Errors
/// When spec and data do not fit, or the model file cannot be read.
pub(crate) fn plan(
    tree: &Arc<dyn FileTree>,
    file: SpecFile,
    scanned: &Scanned,
    looking: &Looking,
) -> Result<(Plan, Option<Vec<u8>>), PlanningError> {
    let SpecFile { mut spec, path, text } = file;
    if spec.prepare.depth16 == Depth16::Stretch {
        let located = |problem: String| {
            let error = SpecError::Value { key: "prepare.depth16".to_owned(), line: None, problem };
            PlanningError::Spec { file: path.clone(), error: error.located(&text) }
        };
        spec.prepare.depth16 = Depth16::Range(scanned.train.stretch().map_err(located)?);
    }
    let mut facts = facts(
        &spec,
        scanned,
        &(tree.clone() as _),
        looking.cache.as_ref(),
        &*(looking.counters)("measuring statistics"),
    )?;
    let init = init_file(tree.as_ref(), &spec)?;
    facts.init = init.as_deref().map(Digest::of);
    let plan =
        Plan::resolve(spec, &facts).map_err(|error| PlanningError::Spec { file: path, error: error.located(&text) })?;
    Ok((plan, init))
}
