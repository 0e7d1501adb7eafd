//! The images of a split as a source lists them: paths and labels, nothing decoded.

use std::path::PathBuf;

use convoy_common::manifest::LabelKind;

use super::raw_label::RawLabel;
use super::task::Meaning;
use crate::left_out::LeftOut;

/// An image file with its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListedImage {
    /// Relative to the root, with `/` between its parts.
    pub path: String,
    pub label: RawLabel,
    /// The line of the table that names the image, for messages; `None` where there is no table.
    pub line: Option<u64>,
}

/// How a table was read.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub meaning: Meaning,
    /// The label columns.
    pub columns: Vec<String>,
    /// The reason for the meaning; empty where another table gave it.
    pub why: String,
}

impl Listed {
    /// The classes of its entries, each once where they lie in class folders.
    pub(crate) fn classes(&self) -> Vec<String> {
        let class = |entry: &ListedImage| match &entry.label {
            RawLabel::Class(class) => Some(class.clone()),
            _ => None,
        };
        let mut classes: Vec<String> = self.entries.iter().filter_map(class).collect();
        classes.dedup();
        classes
    }

    /// What people know the split by: its archive where it is one, else its folder.
    pub(crate) fn shown(&self) -> PathBuf {
        match self.archives.as_slice() {
            [only] if !self.root.starts_with(only) => only.clone(),
            _ => self.root.clone(),
        }
    }
}

/// The files of a split, in byte order of their paths.
///
/// Many fields: each is something that a source says of its list.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// The folder or the table that the user named.
    pub origin: PathBuf,
    /// Folder that paths start from.
    pub root: PathBuf,
    /// Whether a table names files by absolute paths of which the spec does not say where they lead.
    pub absolute: bool,
    pub labels: LabelKind,
    /// Names of the columns that are targets or labels; empty where names stand in the fields.
    pub targets: Vec<String>,
    pub entries: Vec<ListedImage>,
    /// How the table was read; `None` where there is none.
    pub read: Option<Read>,
    /// Rows that make no sense, each with its line.
    pub problems: Vec<String>,
    pub left_out: LeftOut,
    /// What may not be meant, in words.
    pub warnings: Vec<String>,
    /// Files that the list stands in.
    pub lists: Vec<PathBuf>,
    /// Class folders without a picture, with what they hold.
    pub empty: Vec<(String, String)>,
    /// The archives that hold the files; none where files lie in folders.
    pub archives: Vec<PathBuf>,
}
