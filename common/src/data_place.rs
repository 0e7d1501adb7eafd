//! Where a spec's data is: on the machine that reads the spec, in a data set of a coordinator, or in a folder that
//! machines share.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The prefix of paths in a data set that a coordinator keeps: `dataset:NAME` or `dataset:NAME/inner/path`.
pub const DATA_SET: &str = "dataset:";
/// The prefix of paths in the folder that coordinator and workers share: `shared:inner/path`.
pub const SHARED: &str = "shared:";

/// The name of a data set: 1 to 63 of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataName(String);

impl DataName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DataName> for String {
    fn from(name: DataName) -> String {
        name.0
    }
}

impl TryFrom<String> for DataName {
    type Error = DataPlaceError;

    fn try_from(text: String) -> Result<Self, DataPlaceError> {
        text.parse()
    }
}

impl FromStr for DataName {
    type Err = DataPlaceError;

    fn from_str(text: &str) -> Result<Self, DataPlaceError> {
        let known = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        match begins && text.len() <= 63 && text.bytes().all(|byte| known(&byte)) {
            true => Ok(DataName(text.to_owned())),
            false => Err(DataPlaceError::Name(text.to_owned())),
        }
    }
}

/// Why a path of a data set or of the shared folder cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataPlaceError {
    /// The name of the data set cannot be one.
    #[error(
        "`{0}` cannot be the name of a data set; use 1 to 63 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or a \
         digit"
    )]
    Name(String),
    /// The path does not stay in its folder.
    #[error("`{0}` does not stay in its folder; write it as names with `/` between them, without `..`")]
    Leaves(String),
}

/// A path inside some folder, which it cannot leave: names with `/` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InnerPath(String);

impl InnerPath {
    /// The path as text; empty for the folder itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InnerPath {
    type Err = DataPlaceError;

    fn from_str(text: &str) -> Result<Self, DataPlaceError> {
        let mut parts = Vec::new();
        for part in Path::new(text).components() {
            match part {
                Component::Normal(name) => parts.push(name.to_str().unwrap_or_default()),
                Component::CurDir => {}
                _ => return Err(DataPlaceError::Leaves(text.to_owned())),
            }
        }
        match text.contains(['\0', '\\']) {
            true => Err(DataPlaceError::Leaves(text.to_owned())),
            false => Ok(InnerPath(parts.join("/"))),
        }
    }
}

/// The place that a path in a spec means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlace {
    /// A path of the machine that reads the spec.
    Local(PathBuf),
    /// In a data set that a coordinator keeps.
    DataSet(DataName, InnerPath),
    /// In the folder that coordinator and workers share.
    Shared(InnerPath),
}

impl DataPlace {
    /// Reads a path.
    ///
    /// # Errors
    /// When it begins like that of a data set or a shared folder, and is not one.
    pub fn parse(path: &str) -> Result<DataPlace, DataPlaceError> {
        if let Some(rest) = path.strip_prefix(DATA_SET) {
            let (name, inner) = rest.split_once('/').unwrap_or((rest, ""));
            return Ok(DataPlace::DataSet(name.parse()?, inner.parse()?));
        }
        match path.strip_prefix(SHARED) {
            Some(inner) => Ok(DataPlace::Shared(inner.parse()?)),
            None => Ok(DataPlace::Local(path.into())),
        }
    }

    /// Whether it is on the machine that reads the spec.
    pub fn is_local(&self) -> bool {
        matches!(self, DataPlace::Local(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_stay_where_they_are() {
        for name in ["", "A", ".a", "-a", "a/b", "a b", "..", &"a".repeat(64)] {
            assert!(name.parse::<DataName>().is_err(), "{name}");
        }
        assert_eq!("flowers-2.1_x".parse::<DataName>().unwrap().as_str(), "flowers-2.1_x");
        for path in ["/etc", "../x", "a/../b", "a\\b", "a\0b"] {
            assert!(path.parse::<InnerPath>().is_err(), "{path:?}");
            assert!(DataPlace::parse(&format!("{SHARED}{path}")).is_err(), "{path:?}");
            assert!(DataPlace::parse(&format!("{DATA_SET}x/{path}")).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_path_says_where_it_leads() {
        let name: DataName = "f".parse().unwrap();
        assert_eq!(DataPlace::parse("dataset:f"), Ok(DataPlace::DataSet(name.clone(), InnerPath::default())));
        assert_eq!(DataPlace::parse("dataset:f/a//./b/"), Ok(DataPlace::DataSet(name, "a/b".parse().unwrap())));
        assert_eq!(DataPlace::parse("shared:a"), Ok(DataPlace::Shared("a".parse().unwrap())));
        assert!(DataPlace::parse("data set/x").unwrap().is_local());
    }
}
