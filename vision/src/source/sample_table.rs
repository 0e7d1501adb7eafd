//! Parts of samples as one table, whose label columns mean what those of a table of text mean.

use std::path::{Path, PathBuf};

use convoy_common::samples::{ColumnKind, LIST_MARK, SampleColumn};
use convoy_common::spec::{Data, Task};

use super::csv;
use super::listed::Listed;
use super::raw_label::RawLabel;
use super::samples::SamplePart;
use super::table::{Row, RowsAre, Table, quoted};
use super::task::{Decision, Meaning};
use crate::error::ScanError;
use crate::left_out::Why;

/// Names that labels go by.
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "class"];
/// The column of paths; no column of a file has this name.
const PATH: &str = "the path of the picture";

/// The samples of `parts`, of which there is at least one, and those that a split column calls validation data; for
/// validation data, `train` tells how labels are read.
///
/// # Errors
/// When parts have different columns, no label is found, or columns cannot be read or make no sense.
pub(crate) fn list(
    origin: &Path,
    parts: &[SamplePart],
    data: &Data,
    task: Task,
    train: Option<&Listed>,
) -> Result<(Listed, Option<Listed>), ScanError> {
    let fail = |problem: String| ScanError::Samples { path: origin.to_owned(), problem };
    let columns = parts[0].samples.columns();
    let chosen = choose(columns, data, train).map_err(fail)?;
    let known = known(columns, &chosen, task);
    let root = root_of(origin, parts);
    let (mut table, mut problems) = (empty_table(origin, &chosen, data), Vec::new());
    for part in parts {
        add(&mut table, part, &root, known.as_ref(), &mut problems)?;
    }
    table.problems = problems;
    let data = Data {
        path_column: PATH.to_owned(),
        label_columns: chosen.clone(),
        extension: None,
        label_separator: match &known {
            Some(known) if known.meaning == Meaning::Set => Some(LIST_MARK.to_string()),
            _ => data.label_separator.clone(),
        },
        ..data.clone()
    };
    let names = known_names(columns, &chosen).filter(|_| known.is_some());
    let (mut listed, mut validation) = csv::list_table(&table, &root, &data, task, train, known)?;
    others(columns, &chosen, &data).into_iter().for_each(|name| listed.left_out.add(Why::OtherColumn, name));
    (listed.archives, listed.lists) = files_of(parts);
    if let (Some(names), None) = (names, train) {
        take_names(&mut listed, names);
    }
    if let Some(validation) = &mut validation {
        (validation.archives, validation.lists) = files_of(parts);
    }
    Ok((listed, validation))
}

/// The files that hold all pictures, and the files that are read besides.
fn files_of(parts: &[SamplePart]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut files: Vec<PathBuf> = parts.iter().map(|part| part.file.clone()).collect();
    files.dedup();
    let read_with = |part: &SamplePart| {
        let names = part.samples.read_with();
        names.into_iter().map(|name| part.file.with_file_name(name)).collect::<Vec<_>>()
    };
    let mut others: Vec<PathBuf> = parts.iter().flat_map(read_with).collect();
    others.sort();
    others.dedup();
    match parts.iter().all(|part| part.samples.holds_pictures()) {
        true => (files, others),
        false => (Vec::new(), [files, others].concat()),
    }
}

/// The label columns: those that the spec or training data names; else the one with the name of a label, else the only
/// one with names of classes, else all that may be labels.
fn choose(columns: &[SampleColumn], data: &Data, train: Option<&Listed>) -> Result<Vec<String>, String> {
    let asked = match train.and_then(|train| train.read.as_ref()) {
        Some(read) => &read.columns,
        None => &data.label_columns,
    };
    let usable =
        |column: &&SampleColumn| column.kind != ColumnKind::Other && data.split_column.as_ref() != Some(&column.name);
    let names = |columns: Vec<&SampleColumn>| columns.into_iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let all = names(columns.iter().collect());
    if let Some(missing) = asked.iter().chain(&data.split_column).find(|name| !all.contains(name)) {
        return Err(format!("there is no column `{missing}`; beside the pictures it has {}", quoted(&all)));
    }
    if let Some(other) = columns.iter().find(|column| asked.contains(&column.name) && !usable(column)) {
        return Err(format!("column `{}` holds neither numbers nor text, so it is no label", other.name));
    }
    if !asked.is_empty() {
        return Ok(asked.clone());
    }
    let usable: Vec<&SampleColumn> = columns.iter().filter(usable).collect();
    if let Some(name) = LABELS.into_iter().find(|name| usable.iter().any(|column| column.name == *name)) {
        return Ok(vec![name.to_owned()]);
    }
    let classes: Vec<&SampleColumn> =
        usable.iter().filter(|column| matches!(column.kind, ColumnKind::Classes(_))).copied().collect();
    match (classes.as_slice(), usable.as_slice()) {
        (_, []) => Err("there is no label beside the pictures".to_owned()),
        ([_], _) => Ok(names(classes)),
        _ => Ok(names(usable)),
    }
}

/// What is known of the chosen columns beyond their fields.
fn known(columns: &[SampleColumn], chosen: &[String], task: Task) -> Option<Decision> {
    let [name] = chosen else { return None };
    let kind = &columns.iter().find(|column| column.name == *name)?.kind;
    let (meaning, why) = match (kind, task) {
        (ColumnKind::Classes(names), Task::Auto | Task::Multiclass | Task::Binary) => {
            (Meaning::Class, format!("`{name}` holds numbers of {} classes that the file names", names.len()))
        }
        (ColumnKind::Lists(_), Task::Auto | Task::Multilabel) => {
            (Meaning::Set, format!("`{name}` holds lists, so each row has any number of labels"))
        }
        _ => return None,
    };
    Some(Decision { meaning, why })
}

/// The names that the file gives to the numbers of the only chosen column.
fn known_names<'a>(columns: &'a [SampleColumn], chosen: &[String]) -> Option<&'a [String]> {
    let [name] = chosen else { return None };
    match &columns.iter().find(|column| column.name == *name)?.kind {
        ColumnKind::Classes(names) | ColumnKind::Lists(Some(names)) => Some(names),
        _ => None,
    }
}

/// The columns that are left out.
fn others(columns: &[SampleColumn], chosen: &[String], data: &Data) -> Vec<String> {
    let taken = |name: &String| chosen.contains(name) || data.split_column.as_ref() == Some(name);
    columns.iter().map(|column| column.name.clone()).filter(|name| !taken(name)).collect()
}

/// The folder that holds all parts.
fn root_of(origin: &Path, parts: &[SamplePart]) -> PathBuf {
    let folder = |part: &SamplePart| part.file.parent().unwrap_or(Path::new("")).to_owned();
    let mut root = folder(&parts[0]);
    while !parts.iter().all(|part| part.file.starts_with(&root)) && root != origin && root.pop() {}
    root
}

fn empty_table(origin: &Path, chosen: &[String], data: &Data) -> Table {
    let columns = std::iter::once(PATH.to_owned()).chain(chosen.iter().cloned());
    let columns = columns.chain(data.split_column.clone().filter(|name| !chosen.contains(name))).collect();
    let (rows, problems, rows_are) = (Vec::new(), Vec::new(), RowsAre::Samples);
    Table { path: origin.to_owned(), columns, rows, problems, rows_are }
}

/// Adds the rows of a part. Those whose numbers have no name are problems.
fn add(
    table: &mut Table,
    part: &SamplePart,
    root: &Path,
    known: Option<&Decision>,
    problems: &mut Vec<String>,
) -> Result<(), ScanError> {
    let io = |source| ScanError::Io { path: part.file.clone(), source };
    let columns = part.samples.columns();
    let folder = part.file.parent().and_then(|folder| folder.strip_prefix(root).ok()).unwrap_or(Path::new(""));
    let mut fields = Vec::new();
    for name in &table.columns[1..] {
        let at = columns.iter().position(|column| column.name == *name).ok_or_else(|| ScanError::Samples {
            path: part.file.clone(),
            problem: format!("there is no column `{name}`, which other files have; its columns are {}", {
                quoted(&columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>())
            }),
        })?;
        fields.push(part.samples.fields(at).map_err(io)?.into_iter());
    }
    let chosen: Vec<String> = table.columns[1..2].to_vec();
    let names = known.and_then(|_| known_names(columns, &chosen));
    let is_list = known.is_some_and(|known| known.meaning == Meaning::Set);
    for path in part.samples.paths().map_err(io)? {
        let path = folder.join(path).to_string_lossy().into_owned();
        let mut row = Row { line: table.rows.len() as u64, fields: vec![path] };
        row.fields.extend(fields.iter_mut().map(|column| column.next().unwrap_or_default()));
        match names.map(|names| named(&row.fields[1], names, is_list)) {
            Some(Ok(field)) => row.fields[1] = field,
            Some(Err(problem)) => {
                problems.push(format!("{}: column `{}`: {problem}", row.fields[0], table.columns[1]));
                continue;
            }
            None => {}
        }
        table.rows.push(row);
    }
    Ok(())
}

/// The names of the numbers in `field`.
fn named(field: &str, names: &[String], is_list: bool) -> Result<String, String> {
    let name = |number: &str| match number.parse::<usize>().ok().and_then(|number| names.get(number)) {
        Some(name) => Ok(name.as_str()),
        None if number.is_empty() => Err("is empty".to_owned()),
        None => Err(format!("{number} is none of the {} classes that the file names, from 0", names.len())),
    };
    match field.is_empty() && is_list {
        true => Ok(String::new()),
        false => Ok(field.split(LIST_MARK).map(name).collect::<Result<Vec<_>, _>>()?.join(&LIST_MARK.to_string())),
    }
}

/// Classes that the file names are classes: those that no row has, are said.
fn take_names(listed: &mut Listed, names: &[String]) {
    match listed.read.as_ref().map(|read| read.meaning) {
        Some(Meaning::Set) => listed.targets = names.to_vec(),
        _ => {
            let mut held: Vec<&str> = listed
                .entries
                .iter()
                .filter_map(|entry| if let RawLabel::Class(class) = &entry.label { Some(class.as_str()) } else { None })
                .collect();
            held.sort_unstable();
            held.dedup();
            let missing = names.iter().filter(|name| held.binary_search(&name.as_str()).is_err());
            listed.empty = missing.map(|name| (name.clone(), "no row has it".to_owned())).collect();
        }
    }
}
