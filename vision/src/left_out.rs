//! What lies in a folder and is left out, by which rule. All such rules stand here, but which files are pictures.

use std::fmt;

use convoy_common::file_tree::FileKind;
use serde::Serialize;

/// Names that operating systems, archives and network storage leave behind, beside those that begin with a dot.
const OF_SYSTEMS: [&str; 9] = [
    "Thumbs.db",
    "desktop.ini",
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "@Recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
];

/// Why something is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its name begins with a dot, or is one that systems leave behind; of a folder, all that is in it.
    OfSystem,
    /// A pipe, a socket or a device.
    NoFile,
    /// Its name is not UTF-8.
    NotUtf8,
    /// It is not a picture.
    NoPicture,
    /// A file beside the class folders.
    BesideClasses,
    /// A class folder of validation data without a picture.
    EmptyClass,
    /// Rows of a table that belong to the test split.
    TestRows,
    /// A folder that a name calls test data, which training does not look at.
    TestFolder,
    /// A column of a table without a name.
    UnnamedColumn,
    /// A column that is no label.
    OtherColumn,
    /// A link in an archive.
    Link,
    /// A file in an archive whose path leads out of it.
    Elsewhere,
    /// A file in an archive that is stored as pieces.
    Sparse,
    /// A file in an archive that a later one of the same name replaces.
    Replaced,
    /// A picture in an archive without a label beside it.
    NoLabel,
    /// An archive or samples whose name tells no split, beside others whose names do.
    NoSplit,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::OfSystem => "hidden, or left behind by a system",
            Why::NoFile => "no file: a pipe, a socket or a device",
            Why::NotUtf8 => "a name that is not UTF-8",
            Why::NoPicture => "not a picture",
            Why::BesideClasses => "a file beside the class folders",
            Why::EmptyClass => "a class folder without a picture",
            Why::TestRows => "of the test split",
            Why::TestFolder => "test data, for `convoy eval`",
            Why::UnnamedColumn => "a column without a name",
            Why::OtherColumn => "a column that is not taken for a label; data.label_columns names others",
            Why::Link => "a link in an archive",
            Why::Elsewhere => "a path that leads out of its archive",
            Why::Sparse => "a sparse file in an archive",
            Why::Replaced => "replaced by a later file of that name in its archive",
            Why::NoLabel => "no label beside it",
            Why::NoSplit => "of no split by its name",
        })
    }
}

/// What was left out: each by its name, with the rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LeftOut(pub Vec<(Why, String)>);

/// Names that are shown of each rule.
const SHOWN: usize = 3;

impl LeftOut {
    pub(crate) fn add(&mut self, why: Why, name: impl Into<String>) {
        self.0.push((why, name.into()));
    }

    /// How many were left out by `why`.
    pub fn count(&self, why: Why) -> usize {
        self.0.iter().filter(|(by, _)| *by == why).count()
    }

    /// A line for each rule that left something out: how many, why, and the first names.
    pub fn lines(&self) -> Vec<String> {
        let mut rules: Vec<Why> = self.0.iter().map(|(why, _)| *why).collect();
        rules.sort();
        rules.dedup();
        let line = |why: Why| {
            let names = || self.0.iter().filter(|(by, _)| *by == why).map(|(_, name)| name.as_str());
            let (count, shown) = (names().count(), names().take(SHOWN).collect::<Vec<_>>().join(", "));
            let rest = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
            format!("{count} ({why}): {shown}{rest}")
        };
        rules.into_iter().map(line).collect()
    }
}

/// Why an entry of a folder is left out whatever it holds, if it is.
pub(crate) fn by_name_or_kind(name: &str, kind: FileKind) -> Option<Why> {
    if name.starts_with('.') || OF_SYSTEMS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Some(Why::OfSystem);
    }
    (kind == FileKind::Other).then_some(Why::NoFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_decide() {
        for name in [".DS_Store", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "thumbs.db"]
        {
            assert_eq!(by_name_or_kind(name, FileKind::Folder), Some(Why::OfSystem), "{name}");
        }
        assert_eq!(by_name_or_kind("pipe.png", FileKind::Other), Some(Why::NoFile));
        assert_eq!(by_name_or_kind("a.png", FileKind::File), None);
        assert_eq!(by_name_or_kind("lost", FileKind::Folder), None);
    }

    #[test]
    fn what_is_left_out_is_counted_and_named() {
        let mut left_out = LeftOut::default();
        ["a.txt", "b.txt", "c.txt", "d.txt"].into_iter().for_each(|name| left_out.add(Why::NoPicture, name));
        left_out.add(Why::OfSystem, "@eaDir");
        let lines =
            ["1 (hidden, or left behind by a system): @eaDir", "4 (not a picture): a.txt, b.txt, c.txt and 1 more"];
        assert_eq!(left_out.lines(), lines);
        assert_eq!(left_out.count(Why::NoPicture), 4);
    }
}
