//! What workers log while they are at a run, one file for each name in the run folder's `workers/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Bytes kept of one worker in one start; what comes after is dropped.
const KEPT: usize = 4 << 20;
/// Longest line that is kept.
const LINE: usize = 4096;
/// Files open at the same time; workers beyond are not kept.
const FILES: usize = 1024;

/// The logs of a run's workers.
#[derive(Debug)]
pub(crate) struct WorkerLogs {
    folder: PathBuf,
    open: Mutex<BTreeMap<PathBuf, (File, usize)>>,
}

/// Where the log of the worker `name` is kept for the run in `folder`. Nothing in a name leads out of it.
pub(crate) fn path(folder: &Path, name: &str) -> PathBuf {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).take(100).collect();
    folder.join("workers").join(format!("{name}.log"))
}

impl WorkerLogs {
    /// Logs for the run in `folder`; nothing is made before the first line.
    pub(crate) fn new(folder: &Path) -> Self {
        WorkerLogs { folder: folder.to_owned(), open: Mutex::default() }
    }

    /// Keeps a line. A log that cannot be written stops nothing.
    pub(crate) fn append(&self, name: &str, line: &str) {
        let path = path(&self.folder, name);
        let mut open = self.open.lock();
        if !open.contains_key(&path) {
            _ = fs::create_dir_all(self.folder.join("workers"));
            let file = File::options().create(true).append(true).open(&path);
            let Some(file) = file.ok().filter(|_| open.len() < FILES) else { return };
            open.insert(path.clone(), (file, 0));
        }
        let Some((file, written)) = open.get_mut(&path) else { return };
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = line.chars().take(LINE).map(clean).chain(['\n']).collect();
        if *written + line.len() <= KEPT {
            *written += line.len();
            _ = file.write_all(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_and_files_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let logs = WorkerLogs::new(folder.path());
        logs.append("../../etc/passwd", "one\ntwo");
        logs.append("../../etc/passwd", "three");
        let path = path(folder.path(), "../../etc/passwd");
        assert_eq!(path.parent(), Some(&*folder.path().join("workers")));
        assert_eq!(fs::read_to_string(path).unwrap(), "one two\nthree\n");
        (0..2000).for_each(|_| logs.append("loud", &"x".repeat(5000)));
        let size = fs::metadata(super::path(folder.path(), "loud")).unwrap().len();
        assert!(size <= KEPT as u64 && size > KEPT as u64 / 2, "{size}");
    }
}
