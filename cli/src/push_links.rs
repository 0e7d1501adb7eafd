//! Links in what is pushed: whoever pushes a folder of somebody else shall not give away what its links lead to.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// The option that lets links lead out of what is pushed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FollowLinks {
    /// Push what links lead to outside of the folder, too. Without this they are refused: in a folder that somebody
    /// else made, a link may lead to any file of yours.
    #[arg(long)]
    pub follow_links: bool,
}

impl FollowLinks {
    /// Checks that all `files`, which are found below `root`, lie there, unless links may lead elsewhere.
    ///
    /// # Errors
    /// How many do not, and where one of them leads; or what could not be looked at.
    pub fn check<'a>(self, root: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Result<(), CliError> {
        if self.follow_links {
            return Ok(());
        }
        let out = leading_out(root, files).map_err(|(path, source)| CliError::Io { path, source })?;
        let Some((path, to)) = out.first() else { return Ok(()) };
        let (root, count) = (root.display(), out.len());
        let files = if count == 1 { "file is a link" } else { "files are links" };
        Err(CliError::Usage(format!(
            "{count} {files} out of {root}, for example {} to {}; push them with --follow-links if that is what you want",
            path.display(),
            to.display()
        )))
    }
}

/// The files that lie outside of `root`, and where they do.
fn leading_out<'a>(
    root: &Path,
    files: impl Iterator<Item = &'a PathBuf>,
) -> Result<Vec<(&'a Path, PathBuf)>, (PathBuf, io::Error)> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|error| (path.to_owned(), error));
    let root = real(root)?;
    // A folder has many files: the links on the way to it are followed once.
    let mut folders = HashMap::<&Path, PathBuf>::new();
    let mut out = Vec::new();
    for path in files {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let folder = match folders.get(folder) {
            Some(real) => real,
            None => folders.entry(folder).or_insert(real(if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            })?),
        };
        let at = folder.join(name);
        let is_link = fs::symlink_metadata(&at).is_ok_and(|facts| facts.is_symlink());
        let at = if is_link { real(&at)? } else { at };
        if !at.starts_with(&root) {
            out.push((path.as_path(), at));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_lead_out_are_counted_and_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (path, text) in [("data/a/1.png", "1"), ("data/b/2.png", "2"), ("data-2/secret", "s"), ("secret", "s")] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        }
        symlink("1.png", at("data/a/inside.png")).unwrap();
        symlink(at("data/b"), at("data/c")).unwrap();
        let inside = ["data/a/1.png", "data/a/inside.png", "data/c/2.png"].map(at);
        let check = |files: &[PathBuf], follow_links| FollowLinks { follow_links }.check(&at("data"), files.iter());
        check(&inside, false).unwrap();
        symlink("../../secret", at("data/a/3.png")).unwrap();
        symlink(at("data-2"), at("data/d")).unwrap();
        let all = ["data/a/1.png", "data/a/3.png", "data/d/secret"].map(at);
        let text = check(&all, false).unwrap_err().to_string();
        let real = fs::canonicalize(at("secret")).unwrap();
        assert!(
            text.contains("2 files are links out of ") && text.contains(&format!(" to {}; ", real.display())),
            "{text}"
        );
        check(&all, true).unwrap();
        symlink(at("data"), at("link")).unwrap();
        let check = FollowLinks { follow_links: false }.check(&at("link"), ["link/a/1.png"].map(at).iter());
        check.expect("the folder itself may be a link");
    }
}
