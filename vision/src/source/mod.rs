//! Where images and labels are: folders, tables and IDX files, listed without decoding anything.

pub(crate) mod csv;
mod dialect;
pub(crate) mod folders;
mod held_out;
pub(crate) mod idx;
mod listed;
mod places;
mod raw_label;
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
        DataFormat::Folders | DataFormat::Auto => list_folders(tree, data, &train, validation),
    }
}

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
    let mut taken = taken(table_text(path, &train), split, train.labels, why);
    take_remarks(&mut taken, &train, validation.as_ref());
    Ok(Listing { parts: Parts::Files { train: Box::new(train), validation }, taken })
}

fn list_folders(tree: &dyn FileTree, data: &Data, given: &Path, named: Option<PathBuf>) -> Result<Listing, ScanError> {
    let splits = folders::splits(tree, given)?;
    let train = folders::list(tree, &splits.train, &[])?;
    let how = if named.is_some() { NAMED } else { "found by its name" };
    let found = match (named, &splits.beside) {
        (None, Some(place)) => folders::validation_in(tree, place)?,
        (named, _) => named,
    };
    let mut known: Vec<String> = train.entries.iter().filter_map(class_of).collect();
    known.dedup();
    let validation = found.map(|path| folders::list(tree, &path, &known)).transpose()?;
    let split = split_text(data, validation.as_ref().map(|listed| listed.root.clone()), how);
    let inner = if train.root.starts_with(given) && train.root != given { "the folder inside is taken: " } else { "" };
    let source = format!("class folders, {inner}{}", train.root.display());
    let mut taken = taken(source, split, LabelKind::Class, "each image belongs to the folder it lies in".to_owned());
    take_remarks(&mut taken, &train, validation.as_ref());
    if splits.beside.as_ref() == Some(&splits.folder) {
        folders::tests_in(tree, &splits.folder)?.into_iter().for_each(|name| taken.left_out.add(Why::TestFolder, name));
    }
    if let Some(validation) = &validation {
        validation.empty.iter().for_each(|(class, _)| taken.left_out.add(Why::EmptyClass, class.clone()));
    }
    Ok(Listing { parts: Parts::Files { train: Box::new(train), validation }, taken })
}

fn class_of(entry: &ListedImage) -> Option<String> {
    if let RawLabel::Class(class) = &entry.label { Some(class.clone()) } else { None }
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

/// Finds the labelled data at `path`: its validation data where it holds that beside training data, else all of it;
/// and says what was taken. Of `data`, only the keys about reading a table count.
pub(crate) fn list_labelled(
    tree: &dyn FileTree,
    path: &Path,
    data: &Data,
    task: Task,
    names: &[String],
) -> Result<(Labelled, Taken), ScanError> {
    const ALL: &str = "all of it";
    let path = existing(tree, path.to_owned(), "the data")?;
    let of_model = |source, split: String, labels| taken(source, split, labels, "as the model was trained".to_owned());
    match format_of(tree, &path, DataFormat::Auto)? {
        DataFormat::Csv => {
            let (train, validation) = csv::list(tree, &path, Path::new(""), data, task, None)?;
            let validation = validation.filter(|listed| !listed.entries.is_empty());
            let split = match (&validation, &data.split_column) {
                (Some(_), Some(column)) => format!("the rows that column `{column}` calls validation data"),
                _ => ALL.to_owned(),
            };
            let mut taken = of_model(table_text(&path, &train), split, train.labels);
            take_remarks(&mut taken, &train, None);
            Ok((Labelled::Files(Box::new(validation.unwrap_or(train))), taken))
        }
        DataFormat::Idx => {
            let paths = idx::IdxPaths::find(tree, &path, idx::Part::Validation)?;
            let source = format!("IDX files in {}", paths.folder.display());
            let taken = of_model(source, format!("all of {}", paths.images), LabelKind::Class);
            Ok((Labelled::Idx(paths), taken))
        }
        DataFormat::Folders | DataFormat::Auto => {
            let splits = folders::splits(tree, &path)?;
            let validation = match splits.beside.as_ref() == Some(&splits.folder) {
                true => folders::validation_in(tree, &splits.folder)?,
                false => None,
            };
            let split = if validation.is_some() { "its validation data, found by its name" } else { ALL };
            let listed = folders::list(tree, &validation.unwrap_or(splits.train), names)?;
            let source = format!("class folders, {}", listed.root.display());
            let mut taken = of_model(source, split.to_owned(), LabelKind::Class);
            take_remarks(&mut taken, &listed, None);
            Ok((Labelled::Files(Box::new(listed)), taken))
        }
    }
}

/// A table and where its paths start, in words.
fn table_text(path: &Path, listed: &Listed) -> String {
    format!("table {}, paths start at {}", path.display(), listed.root.display())
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
