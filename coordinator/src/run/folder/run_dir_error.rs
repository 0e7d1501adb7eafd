//! Why a run folder cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use convoy_common::durable::WriteError;

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refused.
    #[error("run folder: {}: {source}; make it readable and writable, or choose another folder", path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of it cannot be written.
    #[error("run folder: {0}")]
    Write(#[from] WriteError),
    /// Another run lies there.
    #[error("{dir} holds a run already; `convoy resume {dir}` goes on with it, or choose another folder with --out", dir = .0.display())]
    Taken(PathBuf),
    /// There is no run.
    #[error("{} is not a run folder: it has no plan.json; {hint}", path.display())]
    NotARun {
        /// What was taken for one.
        path: PathBuf,
        /// What could have been meant.
        hint: String,
    },
    /// Another process works in it.
    #[error("{} is in use by another process; wait until it ends, or stop it", .0.display())]
    Locked(PathBuf),
    /// A file of it is not what was written.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Runs that a hint names.
const NAMED_RUNS: usize = 8;

impl RunDirError {
    /// The error for a `path` where no run is, with what could have been meant.
    pub(crate) fn not_a_run(path: &Path) -> Self {
        RunDirError::NotARun { path: path.to_owned(), hint: hint(path) }
    }
}

fn hint(path: &Path) -> String {
    let is_run = |folder: &&Path| folder.join("plan.json").is_file();
    if let Some(run) = path.ancestors().skip(1).take(2).find(is_run).filter(|_| path.exists()) {
        return format!("name the run: {}", run.display());
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) && path.is_file() {
        return "it is a spec; name the folder of a run of it, which `convoy train` said at its start".to_owned();
    }
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<PathBuf> = inside.filter(|inside| is_run(&inside.as_path())).collect();
    if runs.is_empty() {
        return "a run folder is what `convoy train` makes: runs/NAME-N, or what --out names".to_owned();
    }
    // The newest first: it is most likely the one.
    runs.sort();
    runs.sort_by_key(|run| std::cmp::Reverse(run.metadata().and_then(|run| run.modified()).ok()));
    let names: Vec<String> = runs.iter().take(NAMED_RUNS).map(|run| run.display().to_string()).collect();
    let more = if runs.len() > NAMED_RUNS { ", ..." } else { "" };
    format!("it holds runs; name one: {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_have_been_meant_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("runs/a-1/model")).unwrap();
        std::fs::create_dir_all(at("runs/other")).unwrap();
        for file in ["runs/a-1/plan.json", "runs/a-1/spec.toml", "job.toml"] {
            std::fs::write(at(file), "").unwrap();
        }
        let run = at("runs/a-1").display().to_string();
        let hint = |name: &str| RunDirError::not_a_run(&at(name)).to_string();
        for inside in ["runs/a-1/model", "runs/a-1/spec.toml"] {
            assert!(hint(inside).ends_with(&format!("; name the run: {run}")), "{}", hint(inside));
        }
        assert!(hint("runs").ends_with(&format!("; it holds runs; name one: {run}")), "{}", hint("runs"));
        assert!(hint("job.toml").contains("it is a spec"), "{}", hint("job.toml"));
        for nothing in ["runs/a-2", "runs/other", "nowhere"] {
            assert!(hint(nothing).contains("a run folder is what `convoy train` makes"), "{}", hint(nothing));
        }
    }
}
