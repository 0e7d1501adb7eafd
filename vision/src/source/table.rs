//! A table as text: its columns by name, and its rows with their lines.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::FileTree;
use convoy_common::spec::Data;

use super::dialect;
use crate::error::ScanError;
use crate::formats::is_picture_name;

/// A table as text.
pub(crate) struct Table {
    pub path: PathBuf,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// Rows that are not as long as the first line.
    pub problems: Vec<String>,
}

/// A row with the line that it begins in.
pub(crate) struct Row {
    pub line: u64,
    pub fields: Vec<String>,
}

impl Table {
    /// Reads the table at `path`.
    pub(crate) fn read(tree: &dyn FileTree, path: &Path, data: &Data) -> Result<Self, ScanError> {
        let io = |source| ScanError::Io { path: path.to_owned(), source };
        let bytes = tree.read(path).map_err(io)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            fail(path, Some(line), "is not UTF-8; save the table as UTF-8".to_owned())
        })?;
        let text = text.trim_start_matches('\u{feff}');
        let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
        let first = text.lines().next().unwrap_or_default();
        let found = || dialect::delimiter(first, &data.path_column, tabs);
        let delimiter = data.delimiter.as_ref().map_or_else(found, |given| given.as_bytes()[0]);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .flexible(true)
            .from_reader(text.as_bytes());
        let wrong = |error: csv::Error| {
            fail(path, error.position().map(csv::Position::line), "cannot be read as a table".to_owned())
        };
        let columns: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        let mut table = Table { path: path.to_owned(), columns, rows: Vec::new(), problems: Vec::new() };
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            match record.len() == table.columns.len() {
                true => table.rows.push(Row { line, fields: record.iter().map(str::to_owned).collect() }),
                false => table.problems.push(format!(
                    "line {line}: has {} fields, but the first line names {} columns{}",
                    record.len(),
                    table.columns.len(),
                    if delimiter == b',' { "" } else { "; say what separates them with data.delimiter" }
                )),
            }
        }
        if table.rows.is_empty() && table.problems.is_empty() {
            return Err(table.fail(None, "holds no rows beside the names of its columns".to_owned()));
        }
        Ok(table)
    }

    /// An error about this table.
    pub(crate) fn fail(&self, line: Option<u64>, problem: String) -> ScanError {
        fail(&self.path, line, problem)
    }

    /// Where the column called `name` is; `key` of the spec asks for it.
    pub(crate) fn position(&self, name: &str, key: &str) -> Result<usize, ScanError> {
        let mut found = self.columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => {
                Err(self.fail(Some(1), format!("two columns are called `{name}`; give each a name of its own")))
            }
            _ if self.columns.iter().any(|column| is_picture_name(Path::new(column))) => Err(self.fail(
                Some(1),
                format!(
                    "holds {}, which seems to be data: the first line names the columns. Add one, such as `path,label`",
                    quoted(&self.columns)
                ),
            )),
            _ => {
                let one = self.columns.len() == 1;
                let delimiter = if one { ", or data.delimiter to what separates the columns" } else { "" };
                let has = quoted(&self.columns);
                Err(self.fail(Some(1), format!("there is no column `{name}`; it has {has}. Set {key}{delimiter}")))
            }
        }
    }
}

fn fail(path: &Path, line: Option<u64>, problem: String) -> ScanError {
    ScanError::Table { path: path.to_owned(), line, problem }
}

/// Names in words.
pub(crate) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
