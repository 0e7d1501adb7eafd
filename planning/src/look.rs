//! Looking at what a spec names: its data, and the model file that it starts from.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use convoy_common::Spec;
use convoy_common::data_place::DataPlace;
use convoy_common::file_tree::FileTree;
use convoy_common::memory::{OutOfMemory, WORK};
use convoy_files::here;
use convoy_vision::{LookCache, Scanned, scan, survey};

use crate::error::PlanningError;

/// Makes a counter for something that takes long, by its name. The counter is told how many of how many things are
/// done, from any thread, and is dropped when they all are.
pub type Counters = fn(&'static str) -> Box<dyn Fn(usize, usize) + Sync>;

/// How data is looked at.
#[derive(Debug, Clone)]
pub struct Looking {
    /// Who is told how far a look has come.
    pub counters: Counters,
    /// What earlier looks found.
    pub cache: Option<LookCache>,
}

const LOOKING: &str = "looking at files";

/// The files of this machine, with those in archives.
pub fn disk() -> Arc<dyn FileTree> {
    here()
}

/// Looks at the data of `spec` on this machine.
///
/// # Errors
/// When the data is elsewhere, or cannot be used.
pub fn look_here(spec: &Spec, looking: &Looking) -> Result<Scanned, PlanningError> {
    is_here(spec)?;
    look(&*here(), spec, looking)
}

/// Whether all that `spec` names is on this machine.
fn is_here(spec: &Spec) -> Result<(), PlanningError> {
    let kept = |path: &str| !DataPlace::parse(path).is_ok_and(|place| place.is_local());
    match spec.paths().into_iter().find(|(_, path)| kept(path)) {
        Some((key, path)) => Err(PlanningError::KeptElsewhere { key, path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Looks at the data of `spec` on this machine, and goes on to the end whatever it finds.
///
/// # Errors
/// When the data is elsewhere, or cannot be used at all.
pub fn survey_here(spec: &Spec, looking: &Looking) -> Result<Scanned, PlanningError> {
    is_here(spec)?;
    let (cache, progress) = (looking.cache.as_ref(), (looking.counters)(LOOKING));
    Ok(survey(&*here(), &spec.data, spec.task, spec.seed, Path::new(""), cache, &*progress)?)
}

/// Looks at the data of `spec` in `tree`.
///
/// # Errors
/// When the data cannot be used.
pub fn look(tree: &dyn FileTree, spec: &Spec, looking: &Looking) -> Result<Scanned, PlanningError> {
    let (cache, progress) = (looking.cache.as_ref(), (looking.counters)(LOOKING));
    Ok(scan(tree, &spec.data, spec.task, spec.seed, Path::new(""), cache, &*progress)?)
}

/// The bytes of the model file in `tree` that the network of `spec` starts from, if the spec names one.
///
/// # Errors
/// When the file cannot be read.
pub fn init_file(tree: &dyn FileTree, spec: &Spec) -> Result<Option<Vec<u8>>, PlanningError> {
    let Some(path) = spec.network.init.as_deref().map(Path::new) else { return Ok(None) };
    let (named, size) = (path.to_owned(), tree.size(path).unwrap_or(0));
    let no_memory = |error: OutOfMemory| PlanningError::Io { path: named, source: io::Error::other(error) };
    let _held = WORK.try_take(size).map_err(no_memory)?;
    let bytes = tree.read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => {
            PlanningError::Missing { path: path.to_owned(), hint: "network.init names a .safetensors file".to_owned() }
        }
        _ => PlanningError::Io { path: path.to_owned(), source },
    })?;
    Ok(Some(bytes))
}
