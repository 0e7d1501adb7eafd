//! A sample as WebDataset means it: files with one name but for what follows its first point.

use std::path::{Path, PathBuf};

use convoy_common::file_tree::Member;

use crate::formats::is_picture_name;

/// The key of a sample, and what of it a member is: what follows the first point of the file's name.
pub(crate) fn split_name(name: &str) -> (&str, &str) {
    let file_at = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file_at..].find('.') {
        Some(point) => (&name[..file_at + point], &name[file_at + point + 1..]),
        None => (name, ""),
    }
}

/// A sample: its picture, and what else belongs to it.
pub(crate) struct Sample<'a> {
    /// Full path of the key, for messages and to read parts.
    pub key: PathBuf,
    pub parts: Vec<(&'a str, &'a Member)>,
}

impl<'a> Sample<'a> {
    /// The member that is the part `wanted`.
    pub(crate) fn part(&self, wanted: &str) -> Option<&'a Member> {
        self.parts.iter().find(|(part, _)| *part == wanted).map(|(_, member)| *member)
    }

    /// The picture: the only one, or the only one that is called by its format alone.
    pub(crate) fn picture(&self) -> Result<Option<&'a Member>, String> {
        let all = || self.parts.iter().filter(|(_, member)| is_picture_name(Path::new(&member.name)));
        let plain: Vec<_> = all().filter(|(part, _)| !part.contains('.')).collect();
        match (all().count(), plain.as_slice()) {
            (0, _) => Ok(None),
            (_, [(_, only)]) => Ok(Some(only)),
            (1, _) => Ok(all().next().map(|(_, member)| *member)),
            (count, _) => {
                let names: Vec<String> = all().map(|(part, _)| format!(".{part}")).collect();
                Err(format!("has {count} pictures ({}); a sample has one", names.join(", ")))
            }
        }
    }
}
