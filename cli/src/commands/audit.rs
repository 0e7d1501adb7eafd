//! `convoy audit`: the proof that every sample was counted exactly once.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::data_place::DataPlace;
use convoy_common::file_tree::{FileKind, FileTree, Files};
use convoy_coordinator::{Audit, Ready, RunDir, audit, prepare_replay, read_ledger};
use convoy_model::Network;
use convoy_proto::v1;
use convoy_vision::Disk;
use serde::Serialize;

use super::cluster::fetch::fetch;
use crate::cluster::{Where, block_on};
use crate::error::CliError;
use crate::runner::{self, Carry};
use crate::{job, out};

/// What an audit reads of a job.
const FILES: [&str; 3] = ["plan.json", "manifest.json", "journal"];

/// Prove from the journal of a run that every sample of every epoch was counted exactly once, and by whom.
///
/// The exit code is 1 when it was not. AUDITED are samples that two workers computed, and came out the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy audit runs/fashion-mnist-1\n  convoy audit last --samples ledger.csv\n  \
    convoy audit runs/fashion-mnist-1 --replay 500")]
pub struct Args {
    /// A run folder; or a job of a coordinator, by name, number, or `last`.
    run: PathBuf,
    /// Write a row for each sample that was counted: epoch, step, shard, sample, file, worker.
    #[arg(long, value_name = "CSV")]
    samples: Option<PathBuf>,
    /// Compute this step (counted from 0) again, from the nearest checkpoint before it, and compare its digest, and those of
    /// the steps between, with the journal. Nothing in the run changes.
    #[arg(long, value_name = "STEP")]
    replay: Option<u64>,
    /// With --replay, for data that a coordinator kept: the folder with the files of the data set.
    #[arg(long, value_name = "DIR", requires = "replay")]
    data: Option<PathBuf>,
    #[command(flatten)]
    carry: Carry,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    if args.run.exists() {
        return audit_folder(args, &args.run);
    }
    let text = args.run.to_string_lossy();
    if text.contains(std::path::MAIN_SEPARATOR) {
        let hint = "name a run folder, or a job of a coordinator".to_owned();
        return Err(CliError::NotFound { path: args.run.clone(), hint });
    }
    let folder = tempfile::tempdir().map_err(|source| CliError::Io { path: std::env::temp_dir(), source })?;
    // Checkpoints are large, and only a replay needs them.
    let files = if args.replay.is_some() { Vec::new() } else { FILES.map(str::to_owned).to_vec() };
    let request = v1::FetchRequest { job: text.into_owned(), all: true, files };
    block_on(fetch(&args.at, request, folder.path()))?;
    audit_folder(args, folder.path())
}

fn audit_folder(args: &Args, folder: &Path) -> Result<ExitCode, CliError> {
    if let Some(step) = args.replay {
        return replay(args, folder, step);
    }
    let (plan, manifest, records, damaged) = read_ledger(folder)?;
    let mut rows = None;
    if let Some(path) = &args.samples {
        let fail = |source| CliError::Io { path: path.clone(), source };
        let mut file = BufWriter::new(File::create(path).map_err(fail)?);
        writeln!(file, "epoch,step,shard,sample,file,worker").map_err(fail)?;
        rows = Some((path, file));
    }
    let mut failed = None;
    let mut found = audit(&plan, &manifest, &records, |counted| {
        let Some((path, file)) = &mut rows else { return };
        let split = &manifest.train;
        let name = &split.files[split.samples[counted.sample as usize].file as usize].path;
        let name = name.replace('"', "\"\"");
        let (epoch, step, shard, sample) = (counted.epoch, counted.step, counted.shard, counted.sample);
        let written = writeln!(file, "{epoch},{step},{shard},{sample},\"{name}\",{}", counted.worker);
        if let Err(source) = written {
            failed.get_or_insert(CliError::Io { path: (*path).clone(), source });
        }
    });
    if let Some((path, mut file)) = rows {
        file.flush().map_err(|source| CliError::Io { path: path.clone(), source })?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(line) = damaged {
        found.exact = false;
        found.problems.push(format!("line {line} of the journal is damaged or was not written to its end"));
    }
    if args.json {
        out::json(&found)?
    } else {
        print(&found)?
    }
    Ok(ExitCode::from(u8::from(!found.exact)))
}

/// What a replay ends with.
#[derive(Serialize)]
struct Replayed {
    from_step: u64,
    step: u64,
    steps_computed: u64,
    parameters_digest: Digest,
    equal: bool,
}

fn replay(args: &Args, folder: &Path, step: u64) -> Result<ExitCode, CliError> {
    let work = tempfile::tempdir().map_err(|source| CliError::Io { path: std::env::temp_dir(), source })?;
    let Some(replay) = prepare_replay(folder, step, work.path())? else {
        let hint = format!("its journal knows no step {step}; `convoy audit` tells how many there are");
        return Err(CliError::NotFound { path: args.run.clone(), hint });
    };
    let steps = step + 1 - replay.from;
    out::note(format_args!("{steps} steps are computed again, from the checkpoint at step {}", replay.from));
    let (dir, plan, manifest) = RunDir::open(work.path())?;
    args.carry.device.fits(&plan)?;
    let network = Network::of(&plan)?;
    let files: Arc<dyn FileTree> = match &args.data {
        Some(folder) => Arc::new(Elsewhere { folder: folder.clone() }),
        None => job::disk(),
    };
    let init = job::init_file(files.as_ref(), &plan.spec)?;
    let (initial, _) = job::initial(&plan, &network, init.as_deref())?;
    let ready = Ready { dir, plan: Arc::new(plan), network: Arc::new(network), manifest, initial };
    runner::replay(ready, files, &args.carry, step)?;
    let done =
        Replayed { from_step: replay.from, step, steps_computed: steps, parameters_digest: replay.digest, equal: true };
    match args.json {
        true => out::json(&done)?,
        false => out::line(format_args!("step {step} has the digest of the journal: {}", replay.digest))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The files of data sets where they lie on this machine: the path in the data set, under a folder.
#[derive(Debug)]
struct Elsewhere {
    folder: PathBuf,
}

impl Elsewhere {
    fn at(&self, path: &Path) -> PathBuf {
        match path.to_str().map(DataPlace::parse) {
            Some(Ok(DataPlace::DataSet(_, inner) | DataPlace::Shared(inner))) => self.folder.join(inner.as_str()),
            _ => path.to_owned(),
        }
    }
}

impl Files for Elsewhere {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        Disk.read(&self.at(path))
    }
}

impl FileTree for Elsewhere {
    fn kind(&self, path: &Path) -> std::io::Result<Option<FileKind>> {
        Disk.kind(&self.at(path))
    }

    fn entries(&self, folder: &Path) -> std::io::Result<Vec<(PathBuf, FileKind)>> {
        Disk.entries(&self.at(folder))
    }
}

fn print(audit: &Audit) -> Result<(), CliError> {
    out::line(format_args!(
        "{} of {} steps committed in {} starts; {} computed again, with the digests they had\n\n{:>5}  {:>7}  {:>9}  {:>6}  \
         {:>8}  {:>7}  WORKERS: SAMPLES",
        audit.steps,
        audit.total_steps,
        audit.starts,
        audit.repeated,
        "EPOCH",
        "STEPS",
        "ONCE",
        "MORE",
        "NOT YET",
        "AUDITED"
    ))?;
    for epoch in &audit.epochs {
        let workers: Vec<String> = epoch.workers.iter().map(|(worker, count)| format!("{worker}: {count}")).collect();
        out::line(format_args!(
            "{:>5}  {:>7}  {:>9}  {:>6}  {:>8}  {:>7}  {}",
            epoch.epoch,
            epoch.steps,
            epoch.once,
            epoch.more,
            epoch.not_yet,
            epoch.audited,
            workers.join(", ")
        ))?;
    }
    for problem in &audit.problems {
        out::line(format_args!("wrong: {problem}"))?;
    }
    out::line(if audit.exact { "\nexact: no sample was counted twice or left out" } else { "\nNOT exact" })
}
