//! What the machine is made to do: small file systems, frozen threads, memory that ends, failing system calls.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::network::is_there;

/// A program that starts another one and lets the system calls `calls` (`fsync,fdatasync`) fail as `what` says:
/// `error=EIO:when=3`, `delay_exit=300000`, `signal=SIGKILL:when=7`. Only calls that name `path`, if there is one.
///
/// The process that is started is the program itself: `strace` watches it from beside. It
/// counts the calls of each thread for itself.
pub fn strace(calls: &str, what: &str, path: Option<&Path>) -> Vec<String> {
    let mut words =
        vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    words.extend(path.into_iter().flat_map(|path| ["-P".to_owned(), path.display().to_string()]));
    words.extend(["-e".into(), format!("trace={calls}"), "-e".into(), format!("inject={calls}:{what}")]);
    words
}

/// Why there can be no [`strace`] here.
pub fn no_strace() -> Option<String> {
    (!is_there("strace")).then(|| "there is no `strace`: apt-get install strace".to_owned())
}

/// A file system in memory, unmounted when it is dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// One of that many KiB.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn mount(kib: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let size = format!("size={kib}k,mode=700");
        let mut command = Command::new("mount");
        let output = command.args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then(|| SmallDisk(folder)).ok_or(said)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Nothing can be written from now on.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.folder()).status();
        assert!(status.is_ok_and(|status| status.success()), "{} becomes read-only", self.folder().display());
    }

    /// Writes a file that takes all that is left but so many KiB.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn fill(&self, but_kib: u64) {
        let page = [0; 4 << 10];
        let mut file = fs::File::create(self.ballast()).expect("the disk has room for a name");
        let mut pages = 0;
        while file.write_all(&page).is_ok() {
            pages += 1;
        }
        _ = file.set_len(pages * page.len() as u64 - but_kib * 1024);
    }

    /// Removes that file.
    pub fn relieve(&self) {
        _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.folder().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(self.folder()).status();
    }
}

/// A control group (version 1), removed when it is dropped.
pub struct Group(PathBuf);

impl Group {
    /// Makes a group of that controller: `freezer`, `memory`.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn make(controller: &str) -> Result<Self, String> {
        let folder = PathBuf::from(format!("/sys/fs/cgroup/{controller}/convoy-faults-{}", std::process::id()));
        let fail = |error| format!("no control group of version 1: {}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(fail)?;
        Ok(Group(folder))
    }

    /// Writes `value` to one of its files.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What starts a program in the group.
    pub fn within(&self) -> Vec<String> {
        let script = format!("echo $$ > {}/tasks; exec \"$@\"", self.0.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).into()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        _ = fs::remove_dir(&self.0);
    }
}
