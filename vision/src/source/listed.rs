//! The images of a split as a source lists them: paths and labels, nothing decoded.

use std::fmt;
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
    /// Files passed over because they are no pictures by name.
    pub ignored: Ignored,
}

/// Files of a source that were passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ignored {
    /// How many.
    pub count: u64,
    /// The first of them, relative to the source's folder.
    pub examples: Vec<String>,
}

impl Ignored {
    const SHOWN: usize = 3;

    /// Counts a file.
    pub(crate) fn add(&mut self, path: &str) {
        self.count += 1;
        if self.examples.len() < Self::SHOWN {
            self.examples.push(path.trim_start_matches('/').to_owned());
        }
    }
}

/// `3 files`, and where there are some, the first of them by name.
impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.count > self.examples.len() as u64 { ", ..." } else { "" };
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} file{plural} ({}{more})", self.count, self.examples.join(", "))
    }
}

/// Names that validation data goes by.
pub(crate) const VALIDATION_NAMES: [&str; 4] = ["val", "valid", "validation", "dev"];
