//! A tiny job: 150 grey images of 8x8 in three classes, a network of a thousand parameters, 15 steps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use convoy_faults::job::{TINY, write_data};
pub use convoy_faults::process::Process;
use convoy_proto::channel::Link;
pub use convoy_testing::wait_for;
use convoy_vision::Pixels;

/// The digest of the tiny job's last parameters. It changes only when the numerics do.
pub const GOLDEN: &str = include_str!("../golden/tiny.txt");

pub struct Job {
    pub dir: tempfile::TempDir,
}

impl Job {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write_data(dir.path());
        let job = Job { dir };
        fs::write(job.spec(), TINY).expect("the folder is writable");
        job
    }

    pub fn spec(&self) -> PathBuf {
        self.dir.path().join("job.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `convoy train` into the folder `out`, and the object it ends with.
    pub fn train(&self, out: &str, more: &[&str]) -> serde_json::Value {
        let out = self.path(out);
        let mut args = vec!["train".into(), self.spec().into_os_string(), "--json".into(), "--out".into(), out.into()];
        args.extend(more.iter().map(Into::into));
        report(&convoy().args(args).output().expect("convoy starts"))
    }

    pub fn resume(&self, run: &str) -> serde_json::Value {
        report(&convoy().arg("resume").arg(self.path(run)).arg("--json").output().expect("convoy starts"))
    }
}

/// Writes a grey picture of 8x8.
pub fn write_grey(path: impl AsRef<Path>, value: impl Fn(u32, u32) -> u8) {
    let values = (0..64).map(|at| value(at % 8, at / 8)).collect();
    fs::write(path, Pixels::new(8, 8, 1, values).to_png()).expect("the folder is writable");
}

/// A cache that workers of the tests share, as those of one machine do.
fn cache() -> &'static Path {
    static CACHE: LazyLock<PathBuf> = LazyLock::new(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    &CACHE
}

pub fn convoy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoy"));
    command.env_remove("RUST_LOG").env("CONVOY_CACHE", cache()).env("CONVOY_HOME", home()).stdin(Stdio::null());
    command
}

/// Where the tests' processes keep the secret that they know each other by.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("home")
}

/// A way to a coordinator without a cluster, as processes of its user have it.
pub fn local_link(address: &str) -> Link {
    convoy_faults::liar::local_link(address, &home())
}

/// The JSON object that a command ended with.
pub fn report(output: &Output) -> serde_json::Value {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{stdout}\n{stderr}", output.status);
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"))
}
