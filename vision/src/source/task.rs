//! What the label columns of a table mean: the one rule by which a table's task is chosen.
//!
//! A task that the spec names is taken. Else, in this order:
//! 1. Several columns that hold 0 and 1 alone: labels, those of a row being the columns with a 1.
//! 2. Columns that hold numbers alone: numbers; but a single column of few different whole numbers is classes. Few are
//!    at most 10, in five times as many rows; or numbers without a gap from 0 or 1 upward, each in 10 rows or more.
//! 3. A column of which more than half of the fields are numbers, and others are not: nothing, and the first of the
//!    others is named.
//! 4. One column: labels where a field has the separator, else classes.

use std::collections::BTreeMap;

use convoy_common::manifest::LabelKind;
use convoy_common::spec::Task;

use super::raw_label::RawLabel;

/// A label column: its name, and its fields with their lines.
pub(crate) struct Column<'a> {
    pub name: &'a str,
    pub fields: Vec<(u64, &'a str)>,
}

/// How label columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// One column; its text is the class.
    Class,
    /// Columns of 0 and 1, one of them 1; its name is the class.
    OneHot,
    /// One column of labels with a separator between them.
    Set,
    /// Columns of 0 and 1; the names of those with a 1 are the labels.
    Indicators,
    /// Columns of numbers.
    Values,
}

/// A meaning with the reason for it, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub meaning: Meaning,
    pub why: String,
}

/// Why columns have no meaning: the line where there is one, and what is wrong with what to do.
pub(crate) type NoMeaning = (Option<u64>, String);

/// Different whole numbers that are few in any case, and how many rows for each make many.
const FEW: (usize, usize) = (10, 5);
/// Rows in which each of numbers without a gap must be, to be classes.
const EACH: usize = 10;

impl Meaning {
    /// The kind of labels.
    pub(crate) fn kind(self) -> LabelKind {
        match self {
            Meaning::Class | Meaning::OneHot => LabelKind::Class,
            Meaning::Set | Meaning::Indicators => LabelKind::Set,
            Meaning::Values => LabelKind::Values,
        }
    }

    /// The label that the `fields` of a row under the columns `names` hold.
    pub(crate) fn label(self, names: &[String], fields: &[&str], separator: &str) -> Result<RawLabel, String> {
        match self {
            Meaning::Class if fields[0].is_empty() => Err(format!("column `{}` is empty", names[0])),
            Meaning::Class => Ok(RawLabel::Class(fields[0].to_owned())),
            Meaning::Set => Ok(RawLabel::Set(labels(fields[0], separator))),
            Meaning::OneHot | Meaning::Indicators => {
                let mut held = Vec::new();
                for (name, field) in names.iter().zip(fields) {
                    match indicator(field) {
                        Some(true) => held.push(name.clone()),
                        Some(false) => {}
                        None => return Err(format!("column `{name}`: `{field}` is neither 0 nor 1")),
                    }
                }
                match (self, held.as_slice()) {
                    (Meaning::Indicators, _) => Ok(RawLabel::Set(held)),
                    (_, [class]) => Ok(RawLabel::Class(class.clone())),
                    _ => Err(format!("has {} columns with a 1; a class is exactly one", held.len())),
                }
            }
            Meaning::Values => {
                let value = |(name, field): (&String, &&str)| number(field).ok_or_else(|| no_number(name, field));
                Ok(RawLabel::Values(names.iter().zip(fields).map(value).collect::<Result<_, _>>()?))
            }
        }
    }
}

/// Chooses the meaning of `columns`, of which there is at least one.
pub(crate) fn decide(task: Task, columns: &[Column<'_>], separator: Option<&str>) -> Result<Decision, NoMeaning> {
    let said = |meaning| Ok(Decision { meaning, why: "as the key task says".to_owned() });
    let several = columns.len() > 1;
    let indicators = several && columns.iter().all(|column| column.all(|field| indicator(field).is_some()));
    match task {
        Task::Regression => said(Meaning::Values),
        Task::Multilabel if several && indicators => said(Meaning::Indicators),
        Task::Multiclass | Task::Binary if several && indicators => said(Meaning::OneHot),
        Task::Multilabel | Task::Multiclass | Task::Binary | Task::Auto if several && !numeric(columns) => {
            Err(several_of_text(columns))
        }
        Task::Multilabel | Task::Multiclass | Task::Binary if several => Err((
            None,
            format!(
                "columns {} hold numbers; name the one that holds the label with data.label_columns",
                names(columns)
            ),
        )),
        Task::Multilabel => said(Meaning::Set),
        Task::Multiclass | Task::Binary => said(Meaning::Class),
        Task::Auto if indicators => Ok(Decision {
            meaning: Meaning::Indicators,
            why: format!(
                "columns {} hold 0 and 1 alone, so they are labels; for numbers set task = \"regression\"{}",
                names(columns),
                if one_hot(columns) { ", for one class a row task = \"multiclass\"" } else { "" }
            ),
        }),
        Task::Auto if several => Ok(Decision {
            meaning: Meaning::Values,
            why: format!("columns {} hold numbers; name others with data.label_columns", names(columns)),
        }),
        Task::Auto => decide_single(&columns[0], separator),
    }
}

/// The meaning of a single column where nobody said the task.
fn decide_single(column: &Column<'_>, separator: Option<&str>) -> Result<Decision, NoMeaning> {
    let (name, rows) = (column.name, column.fields.len());
    let mut different: BTreeMap<&str, usize> = BTreeMap::new();
    column.fields.iter().for_each(|(_, field)| *different.entry(field).or_default() += 1);
    let count = different.len();
    if column.all(|field| number(field).is_some()) {
        return Ok(match few_whole_numbers(&different, rows) {
            true => Decision {
                meaning: Meaning::Class,
                why: format!(
                    "`{name}` holds {count} different whole numbers in {rows} rows, few against many, so they are \
                     classes; for numbers set task = \"regression\""
                ),
            },
            false => Decision {
                meaning: Meaning::Values,
                why: format!(
                    "`{name}` holds numbers, {count} different ones in {rows} rows; for classes set task = \"multiclass\""
                ),
            },
        });
    }
    if let Some((line, field)) = column.exception() {
        let text = format!(
            "{}; more than half of the column are numbers. Correct or remove it, or set task = \"multiclass\" if these \
             are classes",
            no_number(name, field)
        );
        return Err((Some(line), text));
    }
    let mark = separator.unwrap_or(DEFAULT_SEPARATOR);
    if separator.is_some() || different.keys().any(|field| field.contains(mark)) {
        let why =
            format!("`{name}` holds labels with `{mark}` between them; for one class a row set task = \"multiclass\"");
        return Ok(Decision { meaning: Meaning::Set, why });
    }
    Ok(Decision {
        meaning: Meaning::Class,
        why: format!("`{name}` holds text, {count} different labels in {rows} rows"),
    })
}

/// What separates labels where nobody says it.
pub(crate) const DEFAULT_SEPARATOR: &str = "|";

/// A warning where labels look like lists that nobody separates: some separator makes fewer different labels, or one
/// that stands alone in another row.
pub(crate) fn looks_like_lists(meaning: Meaning, column: &Column<'_>, separator: &str) -> Option<String> {
    if !matches!(meaning, Meaning::Class | Meaning::Set) {
        return None;
    }
    let fields = || column.fields.iter().map(|(_, field)| *field);
    let different = |separator: &str| {
        let mut all: Vec<String> = fields().flat_map(|field| labels(field, separator)).collect();
        all.sort();
        all.dedup();
        all.len()
    };
    let now = different(separator);
    let alone = |label: &String| fields().any(|field| labels(field, separator) == std::slice::from_ref(label));
    let held_alone = |mark: &str| {
        let mut lists = fields().filter(|field| field.contains(mark));
        lists.any(|list| labels(list, mark).iter().any(alone))
    };
    let better = |mark: &&str| {
        *mark != separator && fields().any(|field| field.contains(*mark)) && (different(mark) < now || held_alone(mark))
    };
    let mark = [",", ";", "|", "/"].into_iter().find(better)?;
    let example = fields().find(|field| field.contains(mark))?;
    Some(format!(
        "column `{}` looks like lists of labels, for example `{example}`: if they are, set data.label_separator = \
         \"{mark}\" and task = \"multilabel\"",
        column.name
    ))
}

/// The labels of a field; a list as Python writes it (`['a', 'b']`) loses its brackets and quotes.
fn labels(field: &str, separator: &str) -> Vec<String> {
    let inner = field.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = |label: &str| match inner {
        Some(_) => label.trim().trim_matches(['\'', '"']).to_owned(),
        None => label.trim().to_owned(),
    };
    inner.unwrap_or(field).split(separator).map(bare).filter(|label| !label.is_empty()).collect()
}

fn few_whole_numbers(different: &BTreeMap<&str, usize>, rows: usize) -> bool {
    let mut whole: Vec<i64> = different.keys().filter_map(|field| field.parse().ok()).collect();
    whole.sort_unstable();
    whole.dedup();
    let count = whole.len();
    if count != different.len() || count < 2 {
        return false;
    }
    let few = count <= FEW.0 && rows >= count * FEW.1;
    let gapless = [0, 1].contains(&whole[0]) && whole[count - 1] - whole[0] == count as i64 - 1;
    few || gapless && different.values().all(|rows| *rows >= EACH)
}

impl Column<'_> {
    fn all(&self, is: impl Fn(&str) -> bool) -> bool {
        self.fields.iter().all(|(_, field)| is(field))
    }

    /// The first field that is no number in a column that is mostly numbers.
    fn exception(&self) -> Option<(u64, &str)> {
        let numbers = self.fields.iter().filter(|(_, field)| number(field).is_some()).count();
        let exception = self.fields.iter().find(|(_, field)| number(field).is_none())?;
        (2 * numbers > self.fields.len()).then_some(*exception)
    }
}

fn numeric(columns: &[Column<'_>]) -> bool {
    columns.iter().all(|column| column.all(|field| number(field).is_some()))
}

fn one_hot(columns: &[Column<'_>]) -> bool {
    let held = |row: usize| columns.iter().filter(|column| indicator(column.fields[row].1) == Some(true)).count();
    (0..columns[0].fields.len()).all(|row| held(row) == 1)
}

fn several_of_text(columns: &[Column<'_>]) -> NoMeaning {
    if let Some((column, (line, field))) = columns.iter().find_map(|column| Some((column, column.exception()?))) {
        let text = format!(
            "{}; more than half of the column are numbers. Correct or remove it, or name the columns that hold labels \
             with data.label_columns",
            no_number(column.name, field)
        );
        return (Some(line), text);
    }
    let text: Vec<&Column<'_>> = columns.iter().filter(|column| !numeric(std::slice::from_ref(*column))).collect();
    let split =
        text.iter().find(|column| column.all(|field| super::split_names::role_of_field(column.name, field).is_some()));
    let hint = split.map_or_else(String::new, |column| {
        format!("; `{0}` seems to say which rows are training data: then set data.split_column = \"{0}\"", column.name)
    });
    let quoted: Vec<String> = text.iter().map(|column| format!("`{}`", column.name)).collect();
    let all = if columns.len() == text.len() { String::new() } else { format!(" of {}", names(columns)) };
    (
        None,
        format!(
            "columns {}{all} hold text; name the one that holds the label with data.label_columns{hint}",
            quoted.join(", ")
        ),
    )
}

/// A finite number.
fn number(field: &str) -> Option<f32> {
    field.parse::<f32>().ok().filter(|number| number.is_finite())
}

fn no_number(name: &str, field: &str) -> String {
    let comma = number(&field.replacen(',', ".", 1)).is_some();
    let hint = if comma { "; write decimals with a point" } else { "" };
    match field.is_empty() {
        true => format!("column `{name}` is empty, not a number"),
        false => format!("column `{name}`: `{field}` is not a number that a float can hold{hint}"),
    }
}

/// 0 or 1, as tables write them.
fn indicator(field: &str) -> Option<bool> {
    match field.to_lowercase().as_str() {
        "1" | "1.0" | "true" => Some(true),
        "0" | "0.0" | "false" => Some(false),
        _ => None,
    }
}

fn names(columns: &[Column<'_>]) -> String {
    columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column<'a>(name: &'a str, fields: &[&'a str]) -> Column<'a> {
        Column { name, fields: (2..).zip(fields.iter().copied()).collect() }
    }

    fn meaning(fields: &[&str]) -> Result<Meaning, NoMeaning> {
        decide(Task::Auto, &[column("y", fields)], None).map(|decision| decision.meaning)
    }

    #[test]
    fn few_whole_numbers_in_many_rows_are_classes() {
        let rows = |different: usize, each: usize| -> Vec<String> {
            (0..different * each).map(|row| (row % different).to_string()).collect()
        };
        let of = |different, each| {
            let rows = rows(different, each);
            meaning(&rows.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(of(3, 12), Meaning::Class);
        assert_eq!(of(2, 5), Meaning::Class);
        assert_eq!(of(2, 4), Meaning::Values);
        assert_eq!(of(1, 50), Meaning::Values);
        assert_eq!((of(100, 10), of(100, 9)), (Meaning::Class, Meaning::Values));
    }

    #[test]
    fn counts_with_rare_ends_are_numbers() {
        // Cells in 205 pictures: 20 different counts with a gap, some of them once.
        let counts: Vec<String> = (0..205).map(|row| (if row < 200 { 8 + row % 19 } else { 40 }).to_string()).collect();
        assert_eq!(meaning(&counts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap(), Meaning::Values);
    }

    #[test]
    fn one_field_that_is_no_number_is_named() {
        for (bad, said) in [("NA", "`NA`"), ("", "empty"), ("nan", "`nan`"), ("None", "`None`"), ("8,75", "a point")] {
            let (line, text) = meaning(&["0.5", bad, "2", "3"]).unwrap_err();
            assert!(line == Some(3) && text.contains(said) && text.contains("`y`"), "{bad}: {text}");
            assert!(text.contains("task = \"multiclass\""), "{text}");
        }
        assert_eq!(meaning(&["1", "x", "y"]).unwrap(), Meaning::Class);
        let named = decide(Task::Multiclass, &[column("y", &["1", "NA", "2"])], None).unwrap();
        assert_eq!(named.meaning, Meaning::Class);
    }

    #[test]
    fn columns_of_0_and_1_are_labels() {
        let columns = [column("cat", &["1", "0", "1"]), column("dog", &["0", "1.0", "1"])];
        let decision = decide(Task::Auto, &columns, None).unwrap();
        assert_eq!(decision.meaning, Meaning::Indicators);
        assert!(!decision.why.contains("multiclass"), "the last row has two");
        let names = ["cat".to_owned(), "dog".to_owned()];
        let set = |fields: &[&str]| Meaning::Indicators.label(&names, fields, "|").unwrap();
        assert_eq!(set(&["1", "0"]), RawLabel::Set(vec!["cat".to_owned()]));
        assert_eq!(set(&["0", "0.0"]), RawLabel::Set(vec![]));
        assert_eq!(Meaning::OneHot.label(&names, &["0", "1"], "|"), Ok(RawLabel::Class("dog".to_owned())));
        assert!(Meaning::OneHot.label(&names, &["1", "1"], "|").is_err());
        assert_eq!(decide(Task::Regression, &columns, None).unwrap().meaning, Meaning::Values);
        assert_eq!(decide(Task::Multiclass, &columns, None).unwrap().meaning, Meaning::OneHot);
    }

    #[test]
    fn several_columns_of_text_name_what_to_set() {
        let columns = [column("label", &["a", "b"]), column("split", &["train", "valid"])];
        let (_, text) = decide(Task::Auto, &columns, None).unwrap_err();
        assert!(text.contains("data.label_columns") && text.contains("data.split_column = \"split\""), "{text}");
        let (line, text) =
            decide(Task::Auto, &[column("a", &["1", "2", "x"]), column("b", &["1", "2", "3"])], None).unwrap_err();
        assert!(line == Some(4) && text.contains("`x`"), "{text}");
    }

    #[test]
    fn labels_are_separated_as_said_and_lists_are_noticed() {
        let set = |field: &str, mark: &str| Meaning::Set.label(&["y".to_owned()], &[field], mark).unwrap();
        let both = RawLabel::Set(vec!["red".to_owned(), "green".to_owned()]);
        for (field, mark) in [("red|green", "|"), ("red, green", ","), ("['red', 'green']", ",")] {
            assert_eq!(set(field, mark), both, "{field}");
        }
        let warned = |fields: &[&str]| looks_like_lists(Meaning::Class, &column("y", fields), "|");
        assert!(warned(&["red", "green,blue", "blue"]).unwrap().contains("data.label_separator = \",\""));
        assert!(warned(&["['red']", "['green', 'blue']", "['blue', 'red']", "['red', 'green']"]).is_some());
        assert_eq!(warned(&["cat, big", "dog", "dog"]), None);
        assert_eq!(decide(Task::Auto, &[column("y", &["a,b"])], Some(",")).unwrap().meaning, Meaning::Set);
    }
}
