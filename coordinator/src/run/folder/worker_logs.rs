//! What workers log while they are at a run, one file for each name in the run folder's `workers/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Bytes kept of one worker in one start; what comes after is dropped.
const KEPT: usize = 4 << 20;
/// Bytes kept of all workers in one start.
const KEPT_OF_ALL: usize = 256 << 20;
/// Longest line that is kept.
const LINE: usize = 4096;
/// Files of one start; workers beyond are not kept.
const FILES: usize = 1024;

/// The logs of a run's workers. None is open between two lines, however many workers come and go.
#[derive(Debug)]
pub(crate) struct WorkerLogs {
    folder: PathBuf,
    /// Bytes of each file in this start.
    written: Mutex<BTreeMap<PathBuf, usize>>,
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
        WorkerLogs { folder: folder.to_owned(), written: Mutex::default() }
    }

    /// Keeps a line. A log that cannot be written stops nothing.
    pub(crate) fn append(&self, name: &str, line: &str) {
        let path = path(&self.folder, name);
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = line.chars().take(LINE).map(clean).chain(['\n']).collect();
        let mut written = self.written.lock();
        let (before, of_all) = (written.get(&path).copied(), written.values().sum::<usize>());
        let is_new = before.is_none();
        let now = before.unwrap_or(0) + line.len();
        if now > KEPT || of_all + line.len() > KEPT_OF_ALL || is_new && written.len() >= FILES {
            return;
        }
        if is_new {
            _ = fs::create_dir_all(self.folder.join("workers"));
        }
        let open = File::options().create(true).append(true).open(&path);
        if open.and_then(|mut file| file.write_all(line.as_bytes())).is_ok() {
            written.insert(path, now);
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

    /// Open files below `folder` in this process.
    #[cfg(target_os = "linux")]
    fn open_below(folder: &Path) -> usize {
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.filter(|file| fs::read_link(file.path()).is_ok_and(|path| path.starts_with(folder))).count()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_that_came_and_went_hold_no_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let logs = WorkerLogs::new(folder.path());
        (0..FILES + 100).for_each(|number| logs.append(&format!("worker-{number}"), "a line"));
        assert_eq!(open_below(folder.path()), 0);
        assert_eq!(fs::read_dir(folder.path().join("workers")).unwrap().count(), FILES);
    }
}
