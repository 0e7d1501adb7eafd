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
/// compared with the manifest.
///
/// # Errors
/// [`PlanningError::DataChanged`] with the first difference, or when the data cannot be read.
pub fn unchanged(
    tree: &dyn FileTree,
    plan: Plan,
    mut manifest: Manifest,
    looking: &Looking,
) -> Result<Planned, PlanningError> {
    if manifest.digest() != plan.manifest || !is_known(tree, &manifest) {
        // What is broken now but was not before is a change, and named as one.
        let data =
            Data { bad_images: BadImage::Quarantine, empty_classes: EmptyClasses::Ignore, ..plan.spec.data.clone() };
        let now = look(tree, &Spec { data, ..plan.spec.clone() }, looking)?.manifest;
        if now.digest() != plan.manifest {
            let difference = manifest.difference(&now).unwrap_or_else(|| "its manifest differs".to_owned());
            return Err(PlanningError::DataChanged { difference });
        }
        manifest = now;
    }
    let init = init_file(tree, &plan.spec)?;
    if init.as_deref().map(Digest::of) != plan.init {
        let difference = "the file that network.init names has other bytes".to_owned();
        return Err(PlanningError::DataChanged { difference });
    }
    Ok(Planned { plan, manifest, init, taken: None })
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
