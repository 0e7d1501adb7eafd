//! Tables that lie in one file with the pictures of their rows.

use std::fmt::Debug;
use std::io;

/// A column of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleColumn {
    /// Its name.
    pub name: String,
    /// What its fields are.
    pub kind: ColumnKind,
}

/// What the fields of a column are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text or numbers, as they would stand in a table of text.
    Plain,
    /// Numbers of these names, from 0.
    Classes(Vec<String>),
    /// Several of either in a field, with [`LIST_MARK`] between them; names where the elements are numbers of names.
    Lists(Option<Vec<String>>),
    /// What cannot be a label.
    Other,
}

/// What CIFAR's own files call themselves as a source.
pub const CIFAR: &str = "CIFAR";

/// What stands between the elements of a list; no text has it.
pub const LIST_MARK: char = '\u{1f}';

/// The samples of one split of a file.
pub trait Samples: Send + Sync + Debug {
    /// What the file is, for people.
    fn source(&self) -> &'static str;

    /// What the file calls the split; empty where the name of the file alone tells.
    fn split(&self) -> &str;

    /// How many samples there are.
    fn count(&self) -> usize;

    /// The paths of the pictures, one for each sample, as they follow the folder that the file lies in.
    ///
    /// # Errors
    /// When they cannot be read.
    fn paths(&self) -> io::Result<Vec<String>>;

    /// Whether the pictures lie in the file itself.
    fn holds_pictures(&self) -> bool {
        true
    }

    /// The names of other files in its folder that it was read with.
    fn read_with(&self) -> Vec<String> {
        Vec::new()
    }

    /// The columns, without those that hold pictures.
    fn columns(&self) -> &[SampleColumn];

    /// The fields of the column at `at` of [`Samples::columns`], one for each sample; empty where there is none.
    ///
    /// # Errors
    /// When they cannot be read.
    fn fields(&self, at: usize) -> io::Result<Vec<String>>;
}
