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
    /// Rows that make no sense by themselves.
    pub problems: Vec<String>,
    pub rows_are: RowsAre,
}

/// Where the rows of a table come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowsAre {
    /// Lines of a text, of which the first names the columns.
    Lines,
    /// Samples of a file, counted from 0, whose first field is the path.
    Samples,
}

/// A row with the line that it begins in, or its number.
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
        let (rows, problems, rows_are) = (Vec::new(), Vec::new(), RowsAre::Lines);
        let mut table = Table { path: path.to_owned(), columns, rows, problems, rows_are };
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

    /// An error about this table, at a row by its `line`.
    pub(crate) fn fail(&self, line: Option<u64>, problem: String) -> ScanError {
        let row = line.and_then(|row| self.rows.get(row as usize));
        match (self.rows_are, row) {
            (RowsAre::Lines, _) => fail(&self.path, line, problem),
            (RowsAre::Samples, Some(row)) => fail(&self.path, None, format!("{}: {problem}", self.place(row))),
            (RowsAre::Samples, None) => fail(&self.path, None, problem),
        }
    }

    /// An error about the columns.
    pub(crate) fn fail_at_header(&self, problem: String) -> ScanError {
        fail(&self.path, (self.rows_are == RowsAre::Lines).then_some(1), problem)
    }

    /// Where a row is, for messages.
    pub(crate) fn place(&self, row: &Row) -> String {
        match self.rows_are {
            RowsAre::Lines => format!("line {}", row.line),
            RowsAre::Samples => row.fields.first().cloned().unwrap_or_default(),
        }
    }

    /// Where the column called `name` is; `key` of the spec asks for it.
    pub(crate) fn position(&self, name: &str, key: &str) -> Result<usize, ScanError> {
        let mut found = self.columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => {
                Err(self.fail_at_header(format!("two columns are called `{name}`; give each a name of its own")))
            }
            _ if self.columns.iter().any(|column| is_picture_name(Path::new(column))) => {
                Err(self.fail_at_header(format!(
                    "holds {}, which seems to be data: the first line names the columns. Add one, such as `path,label`",
                    quoted(&self.columns)
                )))
            }
            _ => {
                let one = self.columns.len() == 1;
                let delimiter = if one { ", or data.delimiter to what separates the columns" } else { "" };
                let has = quoted(&self.columns);
                Err(self.fail_at_header(format!("there is no column `{name}`; it has {has}. Set {key}{delimiter}")))
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
