//! What a data set is.

use convoy_common::Digest;
use convoy_common::data_place::{DataName, InnerPath};
use serde::{Deserialize, Serialize};

/// What is known of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// Its name.
    pub name: DataName,
    /// Number of files.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// blake3 over paths, sizes and digests in byte order of the paths.
    pub digest: Digest,
    /// When it was pushed.
    pub pushed: String,
    /// Files of which what is kept is damaged or gone: they come back when the data set is pushed again.
    #[serde(default)]
    pub damaged: u64,
}

/// A file of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetFile {
    pub(crate) path: InnerPath,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl DataSet {
    /// The data set of `files`, which are in the order of their paths.
    pub(super) fn of(name: DataName, files: &[SetFile], pushed: String) -> DataSet {
        let bytes = files.iter().fold(0, |bytes: u64, file| bytes.saturating_add(file.size));
        DataSet { name, files: files.len() as u64, bytes, digest: digest_of(files), pushed, damaged: 0 }
    }
}

fn digest_of(files: &[SetFile]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.path.as_str().len() as u64).to_le_bytes()).update(file.path.as_str().as_bytes());
        hasher.update(&file.size.to_le_bytes()).update(&file.digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}
