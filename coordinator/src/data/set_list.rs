//! The list of a data set's files, in a file of its own: what the index knows of a data set can be made anew from it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use convoy_common::data_place::DataName;
use convoy_common::durable::{WriteError, replace_file};

use super::set::{DataSet, SetFile};
use crate::sealed::{Sealing, unseal};

/// What the file's name ends in.
const ENDING: &str = "list";

/// Where the list of a data set is.
pub(super) fn path_of(folder: &Path, name: &DataName) -> PathBuf {
    folder.join(format!("{name}.{ENDING}"))
}

/// The data set whose list the file at `path` is by its name.
pub(super) fn name_of(path: &Path) -> Option<DataName> {
    let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?.strip_suffix('.')?;
    name.parse().ok()
}

/// Writes the list of `set`: the record, a line for each file, and a seal.
pub(super) fn write(folder: &Path, set: &DataSet, files: &[SetFile]) -> Result<(), WriteError> {
    replace_file(&path_of(folder, &set.name), |file| {
        let mut sealing = Sealing::new(BufWriter::new(file));
        sealing.line(&json(set))?;
        for file in files {
            sealing.line(&json(&(file.path.as_str(), file.size, file.digest)))?;
        }
        sealing.finish()
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("it is plain data")
}

/// The record at the head of a list. Whether the list is whole is not looked at.
pub(super) fn head(path: &Path) -> Option<DataSet> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// A whole list; `None` when it is damaged.
pub(super) fn read(path: &Path) -> Option<(DataSet, Vec<SetFile>)> {
    let bytes = fs::read(path).ok()?;
    let mut lines = unseal(&bytes)?;
    let set: DataSet = serde_json::from_str(lines.next()?).ok()?;
    let file = |line| {
        let (path, size, digest): (String, u64, Digest) = serde_json::from_str(line).ok()?;
        Some(SetFile { path: path.parse().ok()?, digest, size })
    };
    let files: Vec<SetFile> = lines.map(file).collect::<Option<_>>()?;
    let again = DataSet::of(set.name.clone(), &files, set.pushed.clone());
    (again == set && name_of(path).as_ref() == Some(&set.name)).then_some((set, files))
}
