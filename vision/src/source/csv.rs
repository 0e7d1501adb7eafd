//! Tables of paths and labels: `.csv` with commas, `.tsv` with tabs; the first line names the columns.
//!
//! The meaning of the label columns:
//! - `task = "regression"`: every one holds numbers.
//! - `task = "multilabel"`: there is one, with labels separated by `|`; an empty field is the empty set.
//! - `task = "multiclass"` or `"binary"`: there is one, and its text is the class, digits or not.
//! - `task = "auto"`: when every field of every label column is a number, regression; else there is one, and it holds
//!   sets when any row has a `|`, classes otherwise.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::FileTree;
use convoy_common::manifest::LabelKind;
use convoy_common::spec::{Data, Task};

use super::listed::{Ignored, Listed, ListedImage, RawLabel};
use crate::error::ScanError;

/// Whether the file is a table by its name.
pub(crate) fn is_table(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extension.eq_ignore_ascii_case("csv") || extension.eq_ignore_ascii_case("tsv")
}

/// A table as text.
struct Table {
    path: PathBuf,
    folder: PathBuf,
    path_column: String,
    label_columns: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    line: u64,
    path: String,
    labels: Vec<String>,
}

/// The entries of the table at `path`, in byte order of their paths; for validation data, `train` tells the kind of
/// labels.
pub(crate) fn list(
    tree: &dyn FileTree,
    path: &Path,
    data: &Data,
    task: Task,
    train: Option<&Listed>,
) -> Result<Listed, ScanError> {
    let table = Table::read(tree, path, data, train)?;
    let kind = match train {
        Some(train) => train.labels,
        None => table.kind(task),
    };
    if kind != LabelKind::Values && table.label_columns.len() != 1 {
        let text = format!(
            "columns {} hold text; name the one that holds the label with data.label_columns",
            quoted(&table.label_columns)
        );
        return Err(table.fail(None, text));
    }
    let mut entries = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        let (path, label) = (table.image_path(tree, row)?, table.label(row, kind)?);
        entries.push(ListedImage { path, label, line: Some(row.line) });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let targets = if kind == LabelKind::Values { table.label_columns } else { Vec::new() };
    Ok(Listed { origin: table.path, root: table.folder, labels: kind, targets, entries, ignored: Ignored::default() })
}

impl Table {
    fn read(tree: &dyn FileTree, path: &Path, data: &Data, train: Option<&Listed>) -> Result<Self, ScanError> {
        let fail = |line: Option<u64>, problem: String| ScanError::Table { path: path.to_owned(), line, problem };
        let io = |source| ScanError::Io { path: path.to_owned(), source };
        let wrong = |error: csv::Error| {
            let line = error.position().map(csv::Position::line);
            match error.into_kind() {
                csv::ErrorKind::Io(source) => io(source),
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    fail(line, format!("has {len} fields, but the first line names {expected_len} columns"))
                }
                csv::ErrorKind::Utf8 { .. } => fail(line, "is not UTF-8; save the table as UTF-8".to_owned()),
                _ => fail(line, "cannot be read as a table".to_owned()),
            }
        };
        let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
        let bytes = tree.read(path).map_err(io)?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(if tabs { b'\t' } else { b',' })
            .trim(csv::Trim::All)
            .from_reader(bytes.as_slice());
        let header = reader.headers().map_err(wrong)?.clone();
        let columns: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let position = |name: &str, key: &str| {
            columns.iter().position(|column| column == name).ok_or_else(|| {
                fail(Some(1), format!("there is no column `{name}`; it has {}. Set {key}", quoted(&columns)))
            })
        };
        let path_at = position(&data.path_column, "data.path_column")?;
        let asked = match train {
            Some(train) if !train.targets.is_empty() => &train.targets,
            _ => &data.label_columns,
        };
        let label_at: Vec<usize> = match asked.is_empty() {
            true => (0..columns.len()).filter(|at| *at != path_at).collect(),
            false => asked.iter().map(|name| position(name, "data.label_columns")).collect::<Result<_, _>>()?,
        };
        if label_at.is_empty() {
            return Err(fail(Some(1), format!("there is no label beside column `{}`", data.path_column)));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let field = |at: &usize| record.get(*at).unwrap_or_default().to_owned();
            let line = record.position().map_or(0, csv::Position::line);
            rows.push(Row { line, path: field(&path_at), labels: label_at.iter().map(field).collect() });
        }
        if rows.is_empty() {
            return Err(fail(None, "holds no rows beside the names of its columns".to_owned()));
        }
        Ok(Table {
            path: path.to_owned(),
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            path_column: data.path_column.clone(),
            label_columns: label_at.iter().map(|at| columns[*at].clone()).collect(),
            rows,
        })
    }

    fn fail(&self, line: Option<u64>, problem: String) -> ScanError {
        ScanError::Table { path: self.path.clone(), line, problem }
    }

    fn kind(&self, task: Task) -> LabelKind {
        let fields = || self.rows.iter().flat_map(|row| &row.labels);
        match task {
            Task::Regression => LabelKind::Values,
            Task::Multilabel => LabelKind::Set,
            Task::Multiclass | Task::Binary => LabelKind::Class,
            Task::Auto if fields().all(|field| number(field).is_some()) => LabelKind::Values,
            Task::Auto if fields().any(|field| field.contains('|')) => LabelKind::Set,
            Task::Auto => LabelKind::Class,
        }
    }

    /// The row's path, relative to the table's folder.
    fn image_path(&self, tree: &dyn FileTree, row: &Row) -> Result<String, ScanError> {
        let fail = |problem: String| self.fail(Some(row.line), format!("column `{}`: {problem}", self.path_column));
        if row.path.is_empty() {
            return Err(fail("is empty".to_owned()));
        }
        let path = Path::new(&row.path);
        let relative = if path.is_absolute() {
            path.strip_prefix(&self.folder).map_err(|_| {
                fail(format!("{} does not lie in the table's folder; write paths relative to it", row.path))
            })?
        } else {
            path.strip_prefix(".").unwrap_or(path)
        };
        if !tree.is_file(&self.folder.join(relative)) {
            return Err(fail(format!("there is no file {}; paths start at the table's folder", row.path)));
        }
        Ok(relative.to_str().unwrap_or(&row.path).to_owned())
    }

    fn label(&self, row: &Row, kind: LabelKind) -> Result<RawLabel, ScanError> {
        let first = &row.labels[0];
        match kind {
            LabelKind::Class if first.is_empty() => {
                Err(self.fail(Some(row.line), format!("column `{}` is empty", self.label_columns[0])))
            }
            LabelKind::Class => Ok(RawLabel::Class(first.clone())),
            LabelKind::Set => {
                let labels = first.split('|').map(str::trim).filter(|label| !label.is_empty());
                Ok(RawLabel::Set(labels.map(str::to_owned).collect()))
            }
            LabelKind::Values => {
                let value = |(field, column): (&String, &String)| {
                    number(field).ok_or_else(|| {
                        let text = format!("column `{column}`: `{field}` is not a number that a float can hold");
                        self.fail(Some(row.line), text)
                    })
                };
                let values = row.labels.iter().zip(&self.label_columns).map(value).collect::<Result<_, _>>()?;
                Ok(RawLabel::Values(values))
            }
        }
    }
}

/// A finite number.
fn number(field: &str) -> Option<f32> {
    field.parse::<f32>().ok().filter(|number| number.is_finite())
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
