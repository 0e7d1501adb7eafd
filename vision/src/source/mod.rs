//! Where images and labels are: folders, tables and IDX files, listed without decoding anything.

pub(crate) mod csv;
pub(crate) mod folders;
mod held_out;
pub(crate) mod idx;
mod listed;

pub(crate) use held_out::held_out;
pub use listed::Ignored;
pub(crate) use listed::{Listed, ListedImage, RawLabel};

use std::path::{Path, PathBuf};

use convoy_common::file_tree::FileTree;
use convoy_common::spec::{Data, DataFormat, Task};

use crate::error::ScanError;
use listed::VALIDATION_NAMES;

/// Training data, and validation data where there is some.
pub(crate) enum Listing {
    Files { train: Listed, validation: Option<Listed> },
    Idx { train: idx::IdxPaths, validation: Option<idx::IdxPaths> },
}

/// Finds the training and validation data of `data` in `tree`; relative paths start at `base`.
pub(crate) fn list(tree: &dyn FileTree, data: &Data, task: Task, base: &Path) -> Result<Listing, ScanError> {
    let train = existing(tree, base.join(&data.train), "data.train")?;
    let validation = match &data.validation {
        Some(path) => Some(existing(tree, base.join(path), "data.validation")?),
        None => None,
    };
    match format_of(tree, &train, data.format)? {
        DataFormat::Csv => {
            let validation = validation.or_else(|| sibling(tree, &train));
            let listed = csv::list(tree, &train, data, task, None)?;
            let validation = match validation {
                Some(path) => Some(csv::list(tree, &path, data, task, Some(&listed))?),
                None => None,
            };
            Ok(Listing::Files { train: listed, validation })
        }
        DataFormat::Idx => {
            let paths = idx::IdxPaths::find(tree, &train, idx::Part::Train)?;
            let validation = match validation {
                Some(path) => Some(idx::IdxPaths::find(tree, &path, idx::Part::Validation)?),
                None => paths.beside(tree),
            };
            Ok(Listing::Idx { train: paths, validation })
        }
        DataFormat::Folders | DataFormat::Auto => {
            let (train, beside) = folders::splits(tree, &train)?;
            let listed = folders::list(tree, &train)?;
            let found = match (&validation, beside) {
                (None, Some(place)) => folders::validation_in(tree, &place)?,
                _ => validation,
            };
            let validation = match found {
                Some(path) => Some(folders::list(tree, &path)?),
                None => None,
            };
            Ok(Listing::Files { train: listed, validation })
        }
    }
}

/// Labelled data to measure a model on.
pub(crate) enum Labelled {
    Files(Listed),
    Idx(idx::IdxPaths),
}

/// Finds the labelled data at `path`: its validation data where it holds that beside training data, else all of it.
/// Of `data`, only the keys about reading a table count.
pub(crate) fn list_labelled(tree: &dyn FileTree, path: &Path, data: &Data, task: Task) -> Result<Labelled, ScanError> {
    let path = existing(tree, path.to_owned(), "the data")?;
    match format_of(tree, &path, DataFormat::Auto)? {
        DataFormat::Csv => Ok(Labelled::Files(csv::list(tree, &path, data, task, None)?)),
        DataFormat::Idx => Ok(Labelled::Idx(idx::IdxPaths::find(tree, &path, idx::Part::Validation)?)),
        DataFormat::Folders | DataFormat::Auto => {
            let (train, place) = folders::splits(tree, &path)?;
            let validation = if place.as_deref() == Some(&path) { folders::validation_in(tree, &path)? } else { None };
            Ok(Labelled::Files(folders::list(tree, &validation.unwrap_or(train))?))
        }
    }
}

fn existing(tree: &dyn FileTree, path: PathBuf, key: &'static str) -> Result<PathBuf, ScanError> {
    match tree.kind(&path) {
        Ok(Some(_)) => Ok(path),
        Ok(None) => Err(ScanError::Missing { path, key }),
        Err(source) => Err(ScanError::Io { path, source }),
    }
}

/// The kind of a source: as the spec says, or by looking.
pub(crate) fn format_of(tree: &dyn FileTree, path: &Path, given: DataFormat) -> Result<DataFormat, ScanError> {
    if given != DataFormat::Auto {
        return Ok(given);
    }
    if tree.is_folder(path) {
        return Ok(if idx::is_idx_folder(tree, path) { DataFormat::Idx } else { DataFormat::Folders });
    }
    if csv::is_table(path) {
        return Ok(DataFormat::Csv);
    }
    match idx::looks_like_idx(path) {
        true => Ok(DataFormat::Idx),
        false => Err(ScanError::UnknownFormat { path: path.to_owned() }),
    }
}

/// For a table called `train.*`, the validation table beside it.
fn sibling(tree: &dyn FileTree, train: &Path) -> Option<PathBuf> {
    if train.file_stem()?.to_str()? != "train" {
        return None;
    }
    let extension = train.extension()?;
    let candidates = VALIDATION_NAMES.iter().map(|name| train.with_file_name(name).with_extension(extension));
    candidates.into_iter().find(|path| tree.is_file(path))
}
