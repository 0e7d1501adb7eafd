//! From a spec file or a folder of images to all that a run needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::data_place::DataPlace;
use convoy_common::file_tree::FileTree;
use convoy_common::spec::{self, Spec, SpecError};
use convoy_common::{Digest, Plan};
use convoy_model::{InitReport, Network, init_from};
use convoy_vision::{Disk, Scanned, facts, scan};

use crate::error::CliError;
use crate::progress::Counter;

/// A job whose data was looked at.
pub struct Job {
    /// What it means.
    pub plan: Arc<Plan>,
    /// Its network.
    pub network: Arc<Network>,
    /// Its data.
    pub scanned: Scanned,
    /// What the network starts from.
    pub initial: Vec<f32>,
    /// What was taken from a model file.
    pub init: Option<InitReport>,
}

/// Reads the spec at `path`, or `None` for no file, with overrides. Relative paths in the file start at its folder,
/// those in overrides at the current one.
///
/// # Errors
/// When the file cannot be read or makes no sense.
pub fn read_spec(path: Option<&Path>, overrides: &[String]) -> Result<(Spec, String), CliError> {
    let text = match path {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => CliError::NotFound {
                path: path.to_owned(),
                hint: "name a spec (a .toml file) or a folder of images".to_owned(),
            },
            _ => CliError::Io { path: path.to_owned(), source },
        })?,
    };
    let fail = |error| CliError::Spec { file: path.map(Path::to_owned), error };
    let mut spec = spec::parse(&text, overrides).map_err(fail)?;
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let overridden = |key: &str| overrides.iter().any(|given| given.split('=').next().map(str::trim) == Some(key));
    let base = |key: &str| if overridden(key) { Path::new("") } else { folder };
    spec.data.train = absolute(base("data.train"), &spec.data.train);
    spec.data.validation = spec.data.validation.map(|path| absolute(base("data.validation"), &path));
    spec.network.init = spec.network.init.map(|path| absolute(base("network.init"), &path));
    Ok((spec, text))
}

/// `path` from the root of the file system, so that a run can be resumed from anywhere; as it is, if it is none of this
/// machine.
pub fn absolute(base: &Path, path: &str) -> String {
    if DataPlace::parse(path).map_or(true, |place| !place.is_local()) {
        return path.to_owned();
    }
    let joined = base.join(path);
    std::path::absolute(&joined).unwrap_or(joined).display().to_string()
}

/// `text` as TOML writes it.
pub fn toml_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The files of this machine.
pub fn disk() -> Arc<dyn FileTree> {
    Arc::new(Disk)
}

/// Looks at the data of `spec` on this machine.
///
/// # Errors
/// When it is elsewhere, or cannot be used.
pub fn look_here(spec: &Spec) -> Result<Scanned, CliError> {
    for (key, path) in spec.paths() {
        if !DataPlace::parse(path).is_ok_and(|place| place.is_local()) {
            return Err(CliError::Usage(format!(
                "{key} = \"{path}\" is kept by a coordinator: `convoy submit` trains on it; here, name a path"
            )));
        }
    }
    look(&Disk, spec)
}

/// Looks at the data of `spec` in `tree`.
///
/// # Errors
/// When it cannot be used.
pub fn look(tree: &dyn FileTree, spec: &Spec) -> Result<Scanned, CliError> {
    let counter = Counter::new("looking at files");
    Ok(scan(tree, &spec.data, spec.task, spec.seed, Path::new(""), &|done, all| counter.show(done, all))?)
}

impl Job {
    /// The job that `spec` means with the data that was looked at in `tree`. `text` is the spec's file, for error messages.
    ///
    /// # Errors
    /// When spec, data and network do not fit.
    pub fn new(
        tree: &Arc<dyn FileTree>,
        spec: Spec,
        scanned: Scanned,
        file: Option<&Path>,
        text: &str,
    ) -> Result<Job, CliError> {
        let (plan, network, init) = plan(tree, spec, &scanned, file, text)?;
        let (initial, init) = initial(&plan, &network, init.as_deref())?;
        Ok(Job { plan: Arc::new(plan), network: Arc::new(network), scanned, initial, init })
    }
}

/// What `spec` means with the data that was looked at in `tree`, the network, and the bytes of the model file that the
/// spec names, if any. Takes no memory for parameters.
///
/// # Errors
/// As [`Job::new`].
pub fn plan(
    tree: &Arc<dyn FileTree>,
    spec: Spec,
    scanned: &Scanned,
    file: Option<&Path>,
    text: &str,
) -> Result<(Plan, Network, Option<Vec<u8>>), CliError> {
    let fail = |error: SpecError| CliError::Spec { file: file.map(Path::to_owned), error: error.located(text) };
    let counter = Counter::new("measuring statistics");
    let mut facts = facts(&spec, scanned, &(tree.clone() as _), &|done, all| counter.show(done, all))?;
    drop(counter);
    let init = init_file(tree.as_ref(), &spec)?;
    facts.init = init.as_deref().map(Digest::of);
    let plan = Plan::resolve(spec, &facts).map_err(fail)?;
    let network = Network::of(&plan)?;
    Ok((plan, network, init))
}

/// Parameters and buffers before the first step; `init` are the bytes of the model file that the spec names, if any.
///
/// # Errors
/// When that file cannot be used.
pub fn initial(
    plan: &Plan,
    network: &Network,
    init: Option<&[u8]>,
) -> Result<(Vec<f32>, Option<InitReport>), CliError> {
    match (&plan.spec.network.init, init) {
        (Some(path), Some(bytes)) => {
            let (flat, report) = init_from(network, plan.spec.seed, Path::new(path), bytes)?;
            Ok((flat, Some(report)))
        }
        _ => Ok((network.initial(plan.spec.seed), None)),
    }
}

/// The bytes of the model file that the network starts from, if the spec names one.
///
/// # Errors
/// When it cannot be read.
pub fn init_file(tree: &dyn FileTree, spec: &Spec) -> Result<Option<Vec<u8>>, CliError> {
    let Some(path) = spec.network.init.as_deref().map(Path::new) else { return Ok(None) };
    let bytes = tree.read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            CliError::NotFound { path: path.to_owned(), hint: "network.init names a .safetensors file".to_owned() }
        }
        _ => CliError::Io { path: path.to_owned(), source },
    })?;
    Ok(Some(bytes))
}

/// The folder for a new run: `given`, or the first free `runs/NAME-N`.
pub fn run_folder(given: Option<PathBuf>, name: &str) -> PathBuf {
    given.unwrap_or_else(|| {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
        (1..)
            .map(|number| PathBuf::from(format!("runs/{name}-{number}")))
            .find(|path| !path.exists())
            .expect("numbers do not end")
    })
}

#[cfg(test)]
mod tests {
    use convoy_common::spec::{Channels, Size};

    use super::*;

    #[test]
    fn paths_with_quotes_survive() {
        let path = "a \"b\" \\ c\td\n";
        let spec = spec::parse("", &[format!("data.train={}", toml_string(path))]).unwrap();
        assert_eq!(spec.data.train, path);
        assert_eq!((spec.prepare.size, spec.prepare.channels), (Size::Auto, Channels::Auto));
    }
}
