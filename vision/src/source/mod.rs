//! Where images and labels are: folders, tables, archives and IDX files, listed without decoding anything.

pub(crate) mod archives;
mod braces;
pub(crate) mod csv;
mod dialect;
pub(crate) mod folders;
mod held_out;
pub(crate) mod idx;
mod listed;
mod member_tree;
mod places;
mod raw_label;
mod sample;
mod sample_labels;
mod sample_table;
mod samples;
mod shards;
mod split_names;
mod table;
mod task;

pub(crate) use held_out::held_out;
pub(crate) use listed::{Listed, ListedImage};
pub(crate) use raw_label::RawLabel;

use std::path::{Path, PathBuf};

use convoy_common::file_tree::FileTree;
use convoy_common::manifest::LabelKind;
use convoy_common::spec::{Data, DataFormat, Task};

use crate::error::ScanError;
use crate::left_out::{LeftOut, Why};
use crate::taken::Taken;
use split_names::{Role, role_of};

/// Training data, and validation data where there is some.
pub(crate) enum Parts {
    Files { train: Box<Listed>, validation: Option<Listed> },
    Idx { train: idx::IdxPaths, validation: Option<idx::IdxPaths> },
}

/// The parts, and what was taken; classes are named where they are known without reading files.
pub(crate) struct Listing {
    pub parts: Parts,
    pub taken: Taken,
}

/// Finds the training and validation data of `data` in `tree`; relative paths start at `base`.
pub(crate) fn list(tree: &dyn FileTree, data: &Data, task: Task, base: &Path) -> Result<Listing, ScanError> {
    if let Some(found) = archives::find(tree, &base.join(&data.train), data.format, "data.train")? {
        return list_archives(tree, data, task, base, found);
    }
    let train = existing(tree, base.join(&data.train), "data.train")?;
    let validation = match &data.validation {
        Some(path) => Some(existing(tree, base.join(path), "data.validation")?),
        None => None,
    };
    match format_of(tree, &train, data.format)? {
        DataFormat::Csv => list_tables(tree, data, task, base, &train, validation),
        DataFormat::Idx => {
            let paths = idx::IdxPaths::find(tree, &train, idx::Part::Train)?;
            let (validation, how) = match validation {
                Some(path) => (Some(idx::IdxPaths::find(tree, &path, idx::Part::Validation)?), NAMED),
                None => (paths.beside(tree), "found beside it"),
            };
            let split = split_text(data, validation.as_ref().map(|paths| paths.folder.join(&paths.images)), how);
            let source = format!("IDX files in {}", paths.folder.display());
            let taken = taken(source, split, LabelKind::Class, "each image has one".to_owned());
            Ok(Listing { parts: Parts::Idx { train: paths, validation }, taken })
        }
        format @ (DataFormat::Parquet | DataFormat::Npz | DataFormat::Cifar) => {
            list_samples(tree, data, task, format, &train, validation)
        }
        DataFormat::Folders | DataFormat::Tar | DataFormat::Auto => list_folders(tree, data, &train, validation),
    }
}

fn list_archives(
    tree: &dyn FileTree,
    data: &Data,
    task: Task,
    base: &Path,
    found: archives::Found,
) -> Result<Listing, ScanError> {
    let (train, inside) = shards::list(tree, &found.train, data, task, shards::Like::Itself)?;
    let like = shards::Like::Train(&train);
    let to_measure = |archives: &[PathBuf]| -> Result<Listed, ScanError> {
        let (all, validation) = shards::list(tree, archives, data, task, like)?;
        Ok(validation.unwrap_or(all))
    };
    let (validation, how) = match &data.validation {
        None if found.validation.is_empty() => (inside, BY_NAME),
        None => (Some(to_measure(&found.validation)?), BY_NAME),
        Some(named) => {
            let place = base.join(named);
            let listed = match archives::find(tree, &place, DataFormat::Auto, "data.validation")? {
                Some(found) => to_measure(found.for_measuring())?,
                None => folders::list(tree, &existing(tree, place, "data.validation")?, &train.classes())?,
            };
            (Some(listed), NAMED)
        }
    };
    let split = split_text(data, validation.as_ref().map(|listed| listed.shown()), how);
    let kind = if train.read.is_some() { "samples" } else { "class folders" };
    let count = if found.train.len() == 1 { String::new() } else { format!("{} archives: ", found.train.len()) };
    let source = format!("{kind} in {count}{}", train.shown().display());
    let why = train.read.as_ref().map_or(FOLDER_IS_CLASS, |read| &read.why).to_owned();
    let mut taken = taken(source, split, train.labels, why);
    take_remarks(&mut taken, &train, validation.as_ref());
    taken.left_out.0.extend(found.left_out.0);
    Ok(Listing { parts: Parts::Files { train: Box::new(train), validation }, taken })
}

/// How validation data was found that nobody named.
const BY_NAME: &str = "found by its name";

/// Why the label of a picture in a folder is a class.
const FOLDER_IS_CLASS: &str = "each image belongs to the folder it lies in";

/// How validation data was found that the spec names.
const NAMED: &str = "as data.validation says";

fn taken(source: String, split: String, labels: LabelKind, task: String) -> Taken {
    Taken { source, split, labels, task, names: Vec::new(), left_out: LeftOut::default(), warnings: Vec::new() }
}

/// Where validation data comes from, in words.
fn split_text(data: &Data, validation: Option<PathBuf>, how: &str) -> String {
    match validation {
        Some(path) => format!("validation data is {}, {how}", path.display()),
        None if data.validation_fraction > 0.0 => format!(
            "no validation data was found, so {} % of the samples are held out (data.validation_fraction)",
            data.validation_fraction * 100.0
        ),
        None => "no validation data".to_owned(),
    }
}

fn list_tables(
    tree: &dyn FileTree,
    data: &Data,
    task: Task,
    base: &Path,
    path: &Path,
    named: Option<PathBuf>,
) -> Result<Listing, ScanError> {
    let (train, in_column) = csv::list(tree, path, base, data, task, None)?;
    let (validation, split) = match (named, in_column, &data.split_column) {
        (None, Some(validation), Some(column)) => {
            let split = format!("column `{column}` says which rows are validation data (data.split_column)");
            (Some(validation).filter(|listed| !listed.entries.is_empty()), split)
        }
        (named, _, _) => {
            let how = if named.is_some() { NAMED } else { "found beside it by its name" };
            let found = match named {
                Some(path) => Some(path),
                None => sibling(tree, path)?,
            };
            let split = split_text(data, found.clone(), how);
            let list = |path: PathBuf| csv::list(tree, &path, base, data, task, Some(&train)).map(|(listed, _)| listed);
            let listed = found.map(list).transpose()?;
            (listed, split)
        }
    };
    let why = train.read.as_ref().map_or_else(String::new, |read| read.why.clone());
    let source = format!("table {}, paths start at {}", path.display(), train.root.display());
    let mut taken = taken(source, split, train.labels, why);
    take_remarks(&mut taken, &train, validation.as_ref());
    Ok(Listing { parts: Parts::Files { train: Box::new(train), validation }, taken })
}

fn list_samples(
    tree: &dyn FileTree,
    data: &Data,
    task: Task,
    format: DataFormat,
    path: &Path,
    named: Option<PathBuf>,
) -> Result<Listing, ScanError> {
    let divided = samples::divide(samples::parts(tree, path, format)?);
    let (train, in_column) = sample_table::list(path, &divided.train, data, task, None)?;
    let (validation, split) = match (named, in_column, &data.split_column) {
        (None, Some(validation), Some(column)) => {
            let split = format!("column `{column}` says which samples are validation data (data.split_column)");
            (Some(validation).filter(|listed| !listed.entries.is_empty()), split)
        }
        (named, _, _) => {
            let (origin, parts, how) = match named {
                Some(path) => {
                    let format = format_of(tree, &path, DataFormat::Auto)?;
                    let parts = samples::measured(samples::parts(tree, &path, format)?);
                    (path, parts, NAMED)
                }
                None if divided.validation.is_empty() => {
                    (path.to_owned(), samples::beside(tree, path, format)?, "found beside it by its name")
                }
                None => (path.to_owned(), divided.validation, "found by its name"),
            };
            let listed = match parts.is_empty() {
                true => None,
                false => Some(sample_table::list(&origin, &parts, data, task, Some(&train))?.0),
            };
            (listed, samples::split_text(&parts, how).unwrap_or_else(|| split_text(data, None, how)))
        }
    };
    let why = train.read.as_ref().map_or_else(String::new, |read| read.why.clone());
    let mut taken = taken(samples::source_text(&divided.train), split, train.labels, why);
    take_remarks(&mut taken, &train, validation.as_ref());
    taken.left_out.0.extend(divided.left_out.0);
    Ok(Listing { parts: Parts::Files { train: Box::new(train), validation }, taken })
}

fn list_folders(tree: &dyn FileTree, data: &Data, given: &Path, named: Option<PathBuf>) -> Result<Listing, ScanError> {
    let splits = folders::splits(tree, given)?;
    let train = folders::list(tree, &splits.train, &[])?;
    let how = if named.is_some() { NAMED } else { BY_NAME };
    let found = match (named, &splits.beside) {
        (None, Some(place)) => folders::validation_in(tree, place)?,
        (named, _) => named,
    };
    let validation = found.map(|path| folders::list(tree, &path, &train.classes())).transpose()?;
    let split = split_text(data, validation.as_ref().map(|listed| listed.root.clone()), how);
    let inner = if train.root.starts_with(given) && train.root != given { "the folder inside is taken: " } else { "" };
    let source = format!("class folders, {inner}{}", train.root.display());
    let mut taken = taken(source, split, LabelKind::Class, FOLDER_IS_CLASS.to_owned());
    take_remarks(&mut taken, &train, validation.as_ref());
    if splits.beside.as_ref() == Some(&splits.folder) {
        folders::tests_in(tree, &splits.folder)?.into_iter().for_each(|name| taken.left_out.add(Why::TestFolder, name));
    }
    if let Some(validation) = &validation {
        validation.empty.iter().for_each(|(class, _)| taken.left_out.add(Why::EmptyClass, class.clone()));
    }
    Ok(Listing { parts: Parts::Files { train: Box::new(train), validation }, taken })
}

/// Takes over what was left out and what is warned of.
fn take_remarks(taken: &mut Taken, train: &Listed, validation: Option<&Listed>) {
    for listed in std::iter::once(train).chain(validation) {
        taken.left_out.0.extend(listed.left_out.0.iter().cloned());
        taken.warnings.extend(listed.warnings.iter().cloned());
    }
}

/// Labelled data to measure a model on.
pub(crate) enum Labelled {
    Files(Box<Listed>),
    Idx(idx::IdxPaths),
}

/// Finds the labelled data at `path`: its validation data where it holds that beside training data, else all of it.
/// Of `data`, only the keys about reading a table count.
pub(crate) fn list_labelled(
    tree: &dyn FileTree,
    path: &Path,
    data: &Data,
    task: Task,
    names: &[String],
) -> Result<Labelled, ScanError> {
    if let Some(found) = archives::find(tree, path, DataFormat::Auto, "the data")? {
        let (all, validation) = shards::list(tree, found.for_measuring(), data, task, shards::Like::Names(names))?;
        return Ok(Labelled::Files(Box::new(validation.unwrap_or(all))));
    }
    let path = existing(tree, path.to_owned(), "the data")?;
    match format_of(tree, &path, DataFormat::Auto)? {
        DataFormat::Csv => {
            let (train, validation) = csv::list(tree, &path, Path::new(""), data, task, None)?;
            let validation = validation.filter(|listed| !listed.entries.is_empty());
            Ok(Labelled::Files(Box::new(validation.unwrap_or(train))))
        }
        format @ (DataFormat::Parquet | DataFormat::Npz | DataFormat::Cifar) => {
            let parts = samples::measured(samples::parts(tree, &path, format)?);
            let (train, validation) = sample_table::list(&path, &parts, data, task, None)?;
            let validation = validation.filter(|listed| !listed.entries.is_empty());
            Ok(Labelled::Files(Box::new(validation.unwrap_or(train))))
        }
        DataFormat::Idx => Ok(Labelled::Idx(idx::IdxPaths::find(tree, &path, idx::Part::Validation)?)),
        DataFormat::Folders | DataFormat::Tar | DataFormat::Auto => {
            let splits = folders::splits(tree, &path)?;
            let validation = match splits.beside.as_ref() == Some(&splits.folder) {
                true => folders::validation_in(tree, &splits.folder)?,
                false => None,
            };
            Ok(Labelled::Files(Box::new(folders::list(tree, &validation.unwrap_or(splits.train), names)?)))
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
        if idx::is_idx_folder(tree, path) {
            return Ok(DataFormat::Idx);
        }
        return Ok(samples::format_of_folder(tree, path)?.unwrap_or(DataFormat::Folders));
    }
    if let Some(format) = samples::format_of_file(tree, path) {
        return Ok(format);
    }
    if csv::is_table(path) {
        return Ok(DataFormat::Csv);
    }
    match idx::looks_like_idx(path) {
        true => Ok(DataFormat::Idx),
        false => Err(ScanError::UnknownFormat { path: path.to_owned() }),
    }
}

/// For a table with a name of training data, the one with a name of validation data beside it.
fn sibling(tree: &dyn FileTree, train: &Path) -> Result<Option<PathBuf>, ScanError> {
    let role = |path: &Path| path.file_stem().and_then(|stem| role_of(stem.to_str()?));
    let Some(folder) = train.parent().filter(|_| role(train) == Some(Role::Train)) else { return Ok(None) };
    let all = tree.entries(folder).map_err(|source| ScanError::Io { path: folder.to_owned(), source })?;
    let is = |path: &Path| path.extension() == train.extension() && role(path) == Some(Role::Validation);
    let mut found: Vec<PathBuf> = all.into_iter().map(|(path, _)| path).filter(|path| is(path)).collect();
    found.sort();
    match found.as_slice() {
        [_, _, ..] => Err(ScanError::AmbiguousSplit {
            path: folder.to_owned(),
            names: found.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect(),
            key: "data.validation",
        }),
        _ => Ok(found.pop()),
    }
}
