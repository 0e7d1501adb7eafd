//! Comparing data with what it was when a run was planned.

use std::path::Path;

use convoy_common::file_tree::FileTree;
use convoy_common::manifest::Manifest;
use convoy_common::planner::Planned;
use convoy_common::spec::{BadImage, Data, EmptyClasses};
use convoy_common::{Digest, Plan, Spec};

use crate::error::PlanningError;
use crate::look::{Looking, init_file, look};

/// The run that was planned as `plan` with the data of `manifest`, after that data, as it lies in `tree` now, was
/// compared with the manifest. Where that is lost it is made anew, if the data has the digest that the plan names.
///
/// # Errors
/// [`PlanningError::DataChanged`] with the first difference, or when the data cannot be read.
pub fn unchanged(
    tree: &dyn FileTree,
    plan: Plan,
    manifest: impl Into<Option<Manifest>>,
    looking: &Looking,
) -> Result<Planned, PlanningError> {
    let then = manifest.into();
    let known = then.as_ref().is_some_and(|then| then.digest() == plan.manifest && is_known(tree, then));
    let manifest = match then {
        Some(then) if known => then,
        then => look_again(tree, &plan, then.as_ref(), looking)?,
    };
    let init = init_file(tree, &plan.spec)?;
    if init.as_deref().map(Digest::of) != plan.init {
        let difference = "the file that network.init names has other bytes".to_owned();
        return Err(PlanningError::DataChanged { difference });
    }
    Ok(Planned { plan, manifest, init, taken: None })
}

/// The manifest of the data as it is now, which is what it was `then`, as far as that is known.
fn look_again(
    tree: &dyn FileTree,
    plan: &Plan,
    then: Option<&Manifest>,
    looking: &Looking,
) -> Result<Manifest, PlanningError> {
    // What is broken now but was not before is a change, and named as one.
    let data = Data { bad_images: BadImage::Quarantine, empty_classes: EmptyClasses::Ignore, ..plan.spec.data.clone() };
    let now = look(tree, &Spec { data, ..plan.spec.clone() }, looking)?.manifest;
    if now.digest() == plan.manifest {
        return Ok(now);
    }
    let difference = match then {
        Some(then) => then.difference(&now).unwrap_or_else(|| "its manifest differs".to_owned()),
        None => "it is not what the plan names, and the manifest that would tell where is lost".to_owned(),
    };
    Err(PlanningError::DataChanged { difference })
}

/// Whether all files of `manifest` are what they were, as `tree` knows without reading them.
fn is_known(tree: &dyn FileTree, manifest: &Manifest) -> bool {
    let splits = [&manifest.train, &manifest.validation];
    splits.into_iter().all(|split| {
        split.files.iter().all(|file| {
            let known = tree.known(&Path::new(&split.root).join(file.path));
            matches!(known, Ok(Some(known)) if known == (file.size, file.blake3))
        })
    })
}
