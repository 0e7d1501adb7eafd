//! `convoy audit`: the proof that every sample was counted exactly once.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use convoy_coordinator::{Audit, audit, read_ledger};
use convoy_proto::v1;

use super::cluster::fetch::fetch;
use crate::cluster::{Where, block_on};
use crate::error::CliError;
use crate::out;

/// What an audit reads of a job.
const FILES: [&str; 3] = ["plan.json", "manifest.json", "journal"];

/// Prove from the journal of a run that every sample of every epoch was counted exactly once, and by whom.
///
/// The exit code is 1 when it was not. A worker is named START.WORKER: its number in a start of the coordinator, as the
/// run's log has it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy audit runs/fashion-mnist-1\n  convoy audit last --samples ledger.csv")]
pub struct Args {
    /// A run folder; or a job of a coordinator, by name, number, or `last`.
    run: PathBuf,
    /// Write a row for each sample that was counted: epoch, step, shard, sample, file, worker.
    #[arg(long, value_name = "CSV")]
    samples: Option<PathBuf>,
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
    let files = FILES.map(str::to_owned).to_vec();
    let request = v1::FetchRequest { job: text.into_owned(), all: true, files };
    block_on(fetch(&args.at, request, folder.path()))?;
    audit_folder(args, folder.path())
}

fn audit_folder(args: &Args, folder: &std::path::Path) -> Result<ExitCode, CliError> {
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

fn print(audit: &Audit) -> Result<(), CliError> {
    out::line(format_args!(
        "{} of {} steps committed in {} starts; {} computed again, with the digests they had\n\n{:>5}  {:>7}  {:>9}  {:>6}  \
         {:>8}  WORKERS (START.WORKER: SAMPLES)",
        audit.steps, audit.total_steps, audit.starts, audit.repeated, "EPOCH", "STEPS", "ONCE", "MORE", "NOT YET"
    ))?;
    for epoch in &audit.epochs {
        let workers: Vec<String> = epoch.workers.iter().map(|(worker, count)| format!("{worker}: {count}")).collect();
        out::line(format_args!(
            "{:>5}  {:>7}  {:>9}  {:>6}  {:>8}  {}",
            epoch.epoch,
            epoch.steps,
            epoch.once,
            epoch.more,
            epoch.not_yet,
            workers.join(", ")
        ))?;
    }
    for problem in &audit.problems {
        out::line(format_args!("wrong: {problem}"))?;
    }
    out::line(if audit.exact { "\nexact: no sample was counted twice or left out" } else { "\nNOT exact" })
}
