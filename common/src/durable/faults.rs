//! Fail points, in builds for tests alone. Each act in a folder has two, before it and after it, counted from 1: at one
//! of them, or from it on, the system refuses, the process dies or the power fails.
//!
//! A test enumerates them: fail point 1, 2, 3, ... until one is never reached. For a whole process the variable
//! `CONVOY_FAULT` names the fault: `crash@17`, `full@3`, or `eio@5+` for all from the fifth on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};
use std::{fs, io};

use parking_lot::{Condvar, Mutex};

use super::acts::Act;

/// What happens at a fail point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The system refuses for a reason of its own.
    Eio,
    /// The system refuses, as the disk is full.
    Full,
    /// Half of what is written finds room.
    Short,
    /// The process dies: nothing that follows is done. Of a process that is one test, it is only as if.
    Crash,
    /// As `Crash`, and what was not synced is lost.
    PowerCut,
}

/// Which fail point strikes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// The point, from 1.
    pub point: u64,
    /// What happens there.
    pub fault: Fault,
    /// Whether it happens at all later points, too.
    pub lasting: bool,
}

/// The faults of a folder. They end with their last owner.
#[derive(Debug)]
pub struct Faults {
    folder: PathBuf,
    state: Mutex<Points>,
    changed: Condvar,
    /// Whether a crash ends the process.
    real: bool,
}

#[derive(Debug, Default)]
struct Points {
    plan: Option<FaultPlan>,
    passed: u64,
    struck: bool,
    crashed: bool,
    /// Acts of this kind on files whose names hold this text wait.
    held: Option<(Act, &'static str)>,
    waiting: usize,
    durable: Durable,
}

static ALL: Mutex<Vec<Weak<Faults>>> = Mutex::new(Vec::new());

/// What the environment asks for.
static OF_PROCESS: LazyLock<Option<Arc<Faults>>> = LazyLock::new(|| {
    let text = std::env::var("CONVOY_FAULT").ok()?;
    let plan = parse(&text).unwrap_or_else(|| panic!("CONVOY_FAULT is `{text}`; say for example crash@17 or full@3+"));
    let state = Mutex::new(Points { plan: Some(plan), ..Points::default() });
    Some(Arc::new(Faults { folder: PathBuf::new(), state, changed: Condvar::new(), real: true }))
});

fn parse(text: &str) -> Option<FaultPlan> {
    let (fault, point) = text.split_once('@')?;
    let fault = match fault {
        "eio" => Fault::Eio,
        "full" => Fault::Full,
        "short" => Fault::Short,
        "crash" => Fault::Crash,
        _ => return None,
    };
    let lasting = point.ends_with('+');
    Some(FaultPlan { point: point.trim_end_matches('+').parse().ok()?, fault, lasting })
}

/// The faults of the folder in which `path` is.
pub(super) fn of(path: &Path) -> Option<Arc<Faults>> {
    let found = ALL.lock().iter().filter_map(Weak::upgrade).find(|faults| path.starts_with(&faults.folder));
    found.or_else(|| OF_PROCESS.clone())
}

/// A file has taken another name.
pub(super) fn renamed(from: &Path, to: &Path) {
    if let Some(faults) = of(to) {
        faults.state.lock().durable.renamed(from, to);
    }
}

impl Faults {
    /// All acts in `folder` pass their points from now on; `plan` says where one strikes.
    pub fn in_folder(folder: &Path, plan: Option<FaultPlan>) -> Arc<Faults> {
        let state = Mutex::new(Points { plan, ..Points::default() });
        let faults = Arc::new(Faults { folder: folder.to_owned(), state, changed: Condvar::new(), real: false });
        let mut all = ALL.lock();
        all.retain(|faults| faults.strong_count() > 0);
        all.push(Arc::downgrade(&faults));
        faults
    }

    /// Whether the fault has struck.
    pub fn struck(&self) -> bool {
        self.state.lock().struck
    }

    /// Points that were passed.
    pub fn passed(&self) -> u64 {
        self.state.lock().passed
    }

    /// From now on nothing strikes.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        (state.plan, state.crashed) = (None, false);
    }

    /// Acts of this kind on files whose names hold `name` wait until [`release`](Self::release).
    pub fn hold(&self, act: Act, name: &'static str) {
        self.state.lock().held = Some((act, name));
    }

    /// How many acts wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// Nothing waits any more.
    pub fn release(&self) {
        self.state.lock().held = None;
        self.changed.notify_all();
    }

    /// Leaves of the folder what a loss of power would: names and bytes that were synced. To be called when nobody
    /// works in it.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn cut_power(&self) {
        self.state.lock().durable.restore();
    }

    /// Does an act between its two points.
    pub(super) fn act<T>(&self, act: Act, path: &Path, carry_out: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.wait(act, path);
        self.point(act)?;
        self.state.lock().durable.before(act, path);
        let done = carry_out()?;
        self.state.lock().durable.after(act, path);
        self.point(act)?;
        Ok(done)
    }

    /// How many of the `bytes` bytes that are written next come to the disk before it is full; `None` when it is not.
    pub(super) fn torn(&self, bytes: usize) -> Option<usize> {
        let mut state = self.state.lock();
        let next = state.passed + 1;
        let plan = state.plan.filter(|plan| plan.fault == Fault::Short)?;
        if plan.point != next && !(plan.lasting && plan.point < next) {
            return None;
        }
        (state.passed, state.struck) = (next, true);
        Some(bytes / 2)
    }

    fn wait(&self, act: Act, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.held.is_some_and(|(held, part)| held == act && name.contains(part)) {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }

    /// Passes a point of `act`.
    fn point(&self, act: Act) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.crashed {
            return Err(io::Error::other("the process is dead"));
        }
        state.passed += 1;
        let passed = state.passed;
        let strikes = |plan: &FaultPlan| passed == plan.point || plan.lasting && passed > plan.point;
        let Some(plan) = state.plan.filter(strikes) else { return Ok(()) };
        state.struck = true;
        match plan.fault {
            Fault::Eio => Err(io::Error::other("input/output error")),
            // That takes no room.
            Fault::Full | Fault::Short if matches!(act, Act::Cut | Act::Remove) => Ok(()),
            Fault::Full | Fault::Short => Err(io::ErrorKind::StorageFull.into()),
            Fault::Crash | Fault::PowerCut if self.real => std::process::abort(),
            Fault::Crash | Fault::PowerCut => {
                state.crashed = true;
                Err(io::Error::other("the process is dead"))
            }
        }
    }
}

/// What a loss of power leaves of the files that were touched.
#[derive(Debug, Default)]
struct Durable {
    /// By name, what is there afterwards; `None` for nothing.
    names: BTreeMap<PathBuf, Option<Vec<u8>>>,
    /// By the name it has now, the bytes of a file that are on disk.
    synced: BTreeMap<PathBuf, Vec<u8>>,
}

impl Durable {
    fn before(&mut self, act: Act, path: &Path) {
        if act != Act::SyncFolder && !self.names.contains_key(path) {
            // What nobody touched so far lies on disk.
            let there = fs::read(path).ok();
            self.synced.extend(there.clone().map(|bytes| (path.to_owned(), bytes)));
            self.names.insert(path.to_owned(), there);
        }
    }

    fn after(&mut self, act: Act, path: &Path) {
        match act {
            Act::Sync => {
                let bytes = fs::read(path).unwrap_or_default();
                if let Some(there) = self.names.get_mut(path).filter(|there| there.is_some()) {
                    *there = Some(bytes.clone());
                }
                self.synced.insert(path.to_owned(), bytes);
            }
            Act::SyncFolder => {
                for (name, there) in self.names.iter_mut().filter(|(name, _)| name.parent() == Some(path)) {
                    *there = name.exists().then(|| self.synced.get(name).cloned().unwrap_or_default());
                }
            }
            Act::Remove => _ = self.synced.remove(path),
            Act::Create | Act::Write | Act::Cut | Act::Rename => {}
        }
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        let bytes = self.synced.remove(from).unwrap_or_default();
        self.synced.insert(to.to_owned(), bytes);
    }

    fn restore(&mut self) {
        for (name, there) in std::mem::take(self).names {
            match there {
                // Who failed to make a folder has removed it.
                Some(_) if !name.parent().is_some_and(Path::exists) => {}
                Some(bytes) => fs::write(&name, bytes).expect("the folder is writable"),
                None => _ = fs::remove_file(&name),
            }
        }
    }
}
