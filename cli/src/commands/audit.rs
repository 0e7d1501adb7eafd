//! `convoy audit`: the proof that every sample was counted exactly once.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::data_place::DataPlace;
use convoy_common::file_tree::{Contents, FileKind, FileTree, Files};
use convoy_common::planner::Planned;
use convoy_coordinator::{Audit, Ready, RunDir, audit, earlier_plans, prepare_replay, read_ledger, read_manifest};
use convoy_files::here;
use convoy_planning::{disk, init_file};
use convoy_proto::v1;
use serde::Serialize;

use super::jobs::get::fetch;
use crate::endpoint::Endpoint;
use crate::error::CliError;
use crate::out;
use crate::runner::{self, Carry};
use crate::runtime::block_on;

/// What an audit reads of a job.
const FILES: [&str; 5] = ["plan.json", "plan-copy.json", "earlier-plans.json", "manifest.bin", "journal"];

/// Prove from the journal of a run that every sample of every epoch was counted exactly once, and by whom.
///
/// The exit code is 1 when it was not. AUDITED are samples that two workers computed, and came out the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy audit runs/fashion-mnist-1\n  convoy audit last --samples ledger.csv\n  \
    convoy audit runs/fashion-mnist-1 --replay 500")]
pub struct AuditArgs {
    /// A run folder; or a job of a coordinator, by name, number, or `last`.
    run: PathBuf,
    /// Write a row for each sample that was counted: epoch, step, shard, sample, file, worker.
    #[arg(long, value_name = "CSV")]
    samples: Option<PathBuf>,
    /// Compute this step (counted from 0) again, from the nearest checkpoint before it, and compare its digest, and
    /// those of the steps between, with the journal. Nothing in the run changes.
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
    at: Endpoint,
}

/// Audits a run, or computes one of its steps again.
///
/// # Errors
/// When there is no such run, or its files cannot be used.
pub fn run(args: &AuditArgs) -> Result<ExitCode, CliError> {
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

fn audit_folder(args: &AuditArgs, folder: &Path) -> Result<ExitCode, CliError> {
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
    let mut found = audit(&plan, earlier_plans(folder, &plan)?, &manifest, &records, |counted| {
        let Some((path, file)) = &mut rows else { return };
        let split = &manifest.train;
        let name = split.file_of(counted.sample as usize).path;
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
        out::line(text_of(&found))?
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

fn replay(args: &AuditArgs, folder: &Path, step: u64) -> Result<ExitCode, CliError> {
    let work = tempfile::tempdir().map_err(|source| CliError::Io { path: std::env::temp_dir(), source })?;
    let Some(replay) = prepare_replay(folder, step, work.path())? else {
        let hint = format!("its journal knows no step {step}; `convoy audit` tells how many there are");
        return Err(CliError::NotFound { path: args.run.clone(), hint });
    };
    let steps = step + 1 - replay.from;
    out::note(format_args!("{steps} steps are computed again, from the checkpoint at step {}", replay.from));
    let (dir, plan, _) = RunDir::open(work.path())?;
    let manifest = read_manifest(work.path())?;
    args.carry.device.fits(&plan)?;
    let files: Arc<dyn FileTree> = match &args.data {
        Some(folder) => Arc::new(Elsewhere { folder: folder.clone() }),
        None => disk(),
    };
    let init = init_file(files.as_ref(), &plan.spec)?;
    let ready = Ready::new(dir, Planned { plan, manifest, init, taken: None })?;
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
        here().read(&self.at(path))
    }
}

impl FileTree for Elsewhere {
    fn kind(&self, path: &Path) -> std::io::Result<Option<FileKind>> {
        here().kind(&self.at(path))
    }

    fn entries(&self, folder: &Path) -> std::io::Result<Vec<(PathBuf, FileKind)>> {
        here().entries(&self.at(folder))
    }

    fn contents(&self, path: &Path) -> std::io::Result<Option<Contents>> {
        here().contents(&self.at(path))
    }
}

/// What an audit found, for people.
fn text_of(audit: &Audit) -> String {
    let mut text = format!(
        "{} of {} steps committed in {} starts; {} computed again, with the digests they had\n",
        audit.steps, audit.total_steps, audit.starts, audit.repeated,
    );
    for earlier in &audit.earlier_plans {
        let (epochs, plan) = (earlier.epochs, earlier.plan.short());
        text.push_str(&format!("planned for {epochs} epochs (plan {plan}) until {} steps were done\n", earlier.steps));
    }
    if audit.damaged > 0 {
        text.push_str(&format!("the journal was damaged in {} place(s); the records there are lost\n", audit.damaged));
    }
    text.push_str(&format!(
        "\n{:>5}  {:>7}  {:>9}  {:>6}  {:>8}  {:>7}  WORKERS: SAMPLES",
        "EPOCH", "STEPS", "ONCE", "MORE", "NOT YET", "AUDITED"
    ));
    for epoch in &audit.epochs {
        let workers: Vec<String> = epoch.workers.iter().map(|(worker, count)| format!("{worker}: {count}")).collect();
        text.push_str(&format!(
            "\n{:>5}  {:>7}  {:>9}  {:>6}  {:>8}  {:>7}  {}",
            epoch.epoch,
            epoch.steps,
            epoch.once,
            epoch.more,
            epoch.not_yet,
            epoch.audited,
            workers.join(", ")
        ));
    }
    for problem in &audit.problems {
        text.push_str(&format!("\nwrong: {problem}"));
    }
    text.push_str(if audit.exact { "\n\nexact: no sample was counted twice or left out" } else { "\n\nNOT exact" });
    text
}

#[cfg(test)]
mod tests {
    use convoy_coordinator::{EarlierPlan, EpochAudit};
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_audit_is_a_table_and_a_verdict() {
        let epoch = EpochAudit {
            epoch: 1,
            steps: 5,
            complete: true,
            once: 150,
            more: 0,
            not_yet: 0,
            audited: 12,
            workers: [("left".to_owned(), 90), ("right".to_owned(), 60)].into(),
        };
        let audit = Audit {
            exact: true,
            steps: 7,
            total_steps: 15,
            repeated: 2,
            disbelieved: 0,
            distrusted: Vec::new(),
            disagreed: Vec::new(),
            starts: 2,
            damaged: 1,
            earlier_plans: vec![EarlierPlan { epochs: 1, plan: Digest::default(), steps: 5 }],
            epochs: vec![epoch.clone(), EpochAudit { epoch: 2, steps: 2, once: 64, not_yet: 86, ..epoch }],
            problems: Vec::new(),
        };
        expect![[r#"
            7 of 15 steps committed in 2 starts; 2 computed again, with the digests they had
            planned for 1 epochs (plan 00000000) until 5 steps were done
            the journal was damaged in 1 place(s); the records there are lost

            EPOCH    STEPS       ONCE    MORE   NOT YET  AUDITED  WORKERS: SAMPLES
                1        5        150       0         0       12  left: 90, right: 60
                2        2         64       0        86       12  left: 90, right: 60

            exact: no sample was counted twice or left out"#]]
        .assert_eq(&text_of(&audit));
        let wrong = Audit { exact: false, epochs: Vec::new(), problems: vec!["step 3 is missing".to_owned()], ..audit };
        assert!(text_of(&wrong).ends_with("\nwrong: step 3 is missing\n\nNOT exact"), "{}", text_of(&wrong));
    }

    #[test]
    fn files_of_a_data_set_are_found_under_a_folder() {
        let tree = Elsewhere { folder: "/mirror".into() };
        let at = |path: &str| tree.at(Path::new(path));
        assert_eq!(at("dataset:flowers/train/a.png"), Path::new("/mirror/train/a.png"));
        assert_eq!(at("shared:b.png"), Path::new("/mirror/b.png"));
        assert_eq!(at("/elsewhere/c.png"), Path::new("/elsewhere/c.png"));
    }
}
