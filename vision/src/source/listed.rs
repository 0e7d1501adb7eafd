//! The images of a split as a source lists them: paths and labels, nothing decoded.

use std::path::PathBuf;

use convoy_common::manifest::LabelKind;

/// An image file with its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListedImage {
    /// Relative to the root, with `/` between its parts.
    pub path: String,
    pub label: RawLabel,
    /// The line of the table that names the image, for messages; `None` where there is no table.
    pub line: Option<u64>,
}

/// A label by name: names have no numbers yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawLabel {
    Class(String),
    Set(Vec<String>),
    Values(Vec<f32>),
}

/// The files of a split, in byte order of their paths.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// The folder or the table that the user named.
    pub origin: PathBuf,
    /// Folder that paths start from.
    pub root: PathBuf,
    pub labels: LabelKind,
    /// Names of the values' columns; empty for classes and sets.
    pub targets: Vec<String>,
    pub entries: Vec<ListedImage>,
    /// Files passed over because they are no JPEG or PNG by name.
    pub ignored: u64,
}

/// Names that validation data goes by.
pub(crate) const VALIDATION_NAMES: [&str; 4] = ["val", "valid", "validation", "dev"];
