//! Tables of paths and labels: `.csv` and `.tsv`; the first line names the columns. What the label columns mean is
//! decided in `task.rs`.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::FileTree;
use convoy_common::spec::{Data, Task};

use super::listed::{Listed, ListedImage, Read};
use super::places::{Places, root_of};
use super::split_names::{Role, role_of_field};
use super::table::{Row, RowsAre, Table, quoted};
use super::task::{self, Column, DEFAULT_SEPARATOR, Decision, Meaning};
use crate::error::ScanError;
use crate::left_out::{LeftOut, Why};

/// Whether the file is a table by its name.
pub(crate) fn is_table(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extension.eq_ignore_ascii_case("csv") || extension.eq_ignore_ascii_case("tsv")
}

/// A table with the columns that matter.
struct Chosen<'a> {
    table: &'a Table,
    data: &'a Data,
    path_at: usize,
    split_at: Option<usize>,
    label_at: Vec<usize>,
    label_names: Vec<String>,
    left_out: LeftOut,
}

/// The entries of the table at `path`, in byte order of their paths, and those that a split column calls validation
/// data; for validation data, `train` tells how labels are read.
pub(crate) fn list(
    tree: &dyn FileTree,
    path: &Path,
    base: &Path,
    data: &Data,
    task: Task,
    train: Option<&Listed>,
) -> Result<(Listed, Option<Listed>), ScanError> {
    let table = Table::read(tree, path, data)?;
    list_table(&table, &Places::of(path, base, data), data, task, train, None)
}

/// As [`list`], of a table whose paths are followed as `places` say; where it is `known` what its columns mean, that
/// counts.
pub(crate) fn list_table(
    table: &Table,
    places: &Places,
    data: &Data,
    task: Task,
    train: Option<&Listed>,
    known: Option<Decision>,
) -> Result<(Listed, Option<Listed>), ScanError> {
    let chosen = Chosen::of(table, data, train)?;
    let separator = data.label_separator.as_deref();
    let columns = chosen.columns();
    let is_known = known.is_some();
    let (meaning, why) = match (train.and_then(|train| train.read.as_ref()), known) {
        (Some(read), _) => (read.meaning, String::new()),
        (None, Some(known)) => (known.meaning, known.why),
        (None, None) => {
            let decision = task::decide(task, &columns, separator).map_err(|(line, text)| table.fail(line, text))?;
            (decision.meaning, decision.why)
        }
    };
    if matches!(meaning, Meaning::Class | Meaning::Set) && columns.len() != 1 {
        let text = format!(
            "columns {}: name the one that holds the label with data.label_columns",
            quoted(&chosen.label_names)
        );
        return Err(table.fail(None, text));
    }
    let first = columns.first().filter(|_| !is_known);
    let warning = first.and_then(|column| task::looks_like_lists(meaning, column, chosen.separator()));
    let mut rows: [Vec<ListedImage>; 2] = Default::default();
    let (mut problems, mut left_out) = (table.problems.clone(), chosen.left_out.clone());
    for row in &table.rows {
        match (chosen.role(row), chosen.entry(row, meaning)) {
            (Ok(Role::Test), _) => left_out.add(Why::TestRows, row.fields[chosen.path_at].clone()),
            (Ok(role), Ok(entry)) => rows[usize::from(role == Role::Validation)].push(entry),
            (Err(problem), _) | (_, Err(problem)) => problems.push(format!("{}: {problem}", table.place(row))),
        }
    }
    let read = Read { meaning, columns: chosen.label_names.clone(), why };
    let [of_train, of_validation] = rows.map(|entries| listed(&table.path, places, read.clone(), entries));
    let train = Listed { problems, left_out, warnings: warning.into_iter().collect(), ..of_train };
    Ok((train, chosen.split_at.map(|_| of_validation)))
}

/// The `entries` of the table at `origin`, whose paths are followed as `places` say.
fn listed(origin: &Path, places: &Places, read: Read, entries: Vec<ListedImage>) -> Listed {
    let (paths, absolute): (Vec<PathBuf>, Vec<bool>) = entries.iter().map(|entry| places.find(&entry.path)).unzip();
    let (root, paths) = root_of(&places.base, &paths);
    let mut entries: Vec<ListedImage> =
        entries.into_iter().zip(paths).map(|(entry, path)| ListedImage { path, ..entry }).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let named = matches!(read.meaning, Meaning::Values | Meaning::Indicators);
    Listed {
        origin: origin.to_owned(),
        root,
        absolute: absolute.contains(&true),
        labels: read.meaning.kind(),
        targets: if named { read.columns.clone() } else { Vec::new() },
        entries,
        read: Some(read),
        problems: Vec::new(),
        left_out: LeftOut::default(),
        warnings: Vec::new(),
        lists: vec![origin.to_owned()],
        empty: Vec::new(),
        archives: Vec::new(),
    }
}

impl<'a> Chosen<'a> {
    fn of(table: &'a Table, data: &'a Data, train: Option<&Listed>) -> Result<Self, ScanError> {
        let path_at = table.position(&data.path_column, "data.path_column")?;
        let split_at = match &data.split_column {
            Some(name) if train.is_none() => Some(table.position(name, "data.split_column")?),
            _ => None,
        };
        let has = |name: &String| table.columns.contains(name);
        let asked = match train.and_then(|train| train.read.as_ref()) {
            Some(read) if read.columns.len() > 1 || read.columns.iter().all(has) => &read.columns,
            _ => &data.label_columns,
        };
        let mut left_out = LeftOut::default();
        let label_at: Vec<usize> = match asked.is_empty() {
            false => asked.iter().map(|name| table.position(name, "data.label_columns")).collect::<Result<_, _>>()?,
            true => {
                let others = (0..table.columns.len()).filter(|at| *at != path_at && Some(*at) != split_at);
                let (named, unnamed): (Vec<usize>, Vec<usize>) =
                    others.partition(|at| !is_unnamed(&table.columns[*at]));
                unnamed.iter().for_each(|at| left_out.add(Why::UnnamedColumn, format!("column {}", at + 1)));
                // Refuses names that stand twice.
                named.iter().try_for_each(|at| table.position(&table.columns[*at], "").map(drop))?;
                named
            }
        };
        if label_at.is_empty() {
            return Err(table.fail_at_header(format!("there is no label beside column `{}`", data.path_column)));
        }
        let label_names = label_at.iter().map(|at| table.columns[*at].clone()).collect();
        Ok(Chosen { table, data, path_at, split_at, label_at, label_names, left_out })
    }

    /// The label columns, without the rows of the test split.
    fn columns(&self) -> Vec<Column<'_>> {
        let column = |(at, name): (&usize, &'a String)| -> Column<'_> {
            let rows = self.table.rows.iter().filter(|row| self.role(row) != Ok(Role::Test));
            Column { name, fields: rows.map(|row| (row.line, row.fields[*at].as_str())).collect() }
        };
        self.label_at.iter().map(|at| column((at, &self.table.columns[*at]))).collect()
    }

    fn separator(&self) -> &str {
        self.data.label_separator.as_deref().unwrap_or(DEFAULT_SEPARATOR)
    }

    fn role(&self, row: &Row) -> Result<Role, String> {
        let Some(at) = self.split_at else { return Ok(Role::Train) };
        let (column, field) = (&self.table.columns[at], &row.fields[at]);
        role_of_field(column, field)
            .ok_or_else(|| format!("column `{column}`: `{field}` names no split; write `train`, `val` or `test`"))
    }

    /// The row's image, its path as it is written but for the extension.
    fn entry(&self, row: &Row, meaning: Meaning) -> Result<ListedImage, String> {
        let mut path = row.fields[self.path_at].clone();
        if path.is_empty() {
            return Err(format!("column `{}`: is empty", self.data.path_column));
        }
        if let Some(extension) = self.data.extension.as_deref().map(|given| given.trim_start_matches('.'))
            && !path.strip_suffix(extension).is_some_and(|rest| rest.ends_with('.'))
        {
            path = format!("{path}.{extension}");
        }
        let fields: Vec<&str> = self.label_at.iter().map(|at| row.fields[*at].as_str()).collect();
        let label = meaning.label(&self.label_names, &fields, self.separator())?;
        let line = (self.table.rows_are == RowsAre::Lines).then_some(row.line);
        Ok(ListedImage { path, label, line })
    }
}

/// Whether a column has no name: as saved, or as pandas calls it when it reads such a column.
fn is_unnamed(name: &str) -> bool {
    name.is_empty() || name.starts_with("Unnamed: ")
}
