//! Labels as a source writes them.

/// A label by name: names have no numbers yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawLabel {
    Class(String),
    Set(Vec<String>),
    Values(Vec<f32>),
}
