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

/// The files of a split, in byte order of their paths.
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
    /// Class folders without a picture, with what they hold.
    pub empty: Vec<(String, String)>,
}
