//! `convoy resume`: a run goes on from its newest good checkpoint; a job of a coordinator goes on.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::process::ExitCode;

use convoy_common::Plan;
use convoy_coordinator::{Ready, RunDir};
use convoy_files::here;
use convoy_planning::{PlanningError, changed, unchanged};

use super::jobs::change::{self, Change, ChangeArgs};
use crate::device::Device;
use crate::endpoint::Endpoint;
use crate::error::CliError;
use crate::looking::LookArgs;
use crate::out;
use crate::runner::{self, Carry};

/// Go on with a run that was stopped or killed, or with a paused job; it ends in the very digest of the uninterrupted
/// run.
///
/// Data may have moved, as long as its files are the same: the run keeps the place that --set names. With --set
/// train.epochs=N a run, also one that is over, goes on as if it had been planned for N epochs from its start. So its
/// learning rates must be those that it had: `constant` and `step` schedules can go on, `cosine` and `one_cycle`, which
/// are spread over all epochs, cannot.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy resume runs/fashion-mnist-1\n  \
    convoy resume runs/fashion-mnist-1 --set data.train=/mnt/disk2/photos\n  \
    convoy resume runs/fashion-mnist-1 --set train.epochs=30\n  convoy resume fashion-mnist-3")]
pub struct ResumeArgs {
    /// The run folder; or a job of a coordinator, by name, number, or `last`.
    run: PathBuf,
    /// For a run folder: where data lies now (data.train, data.validation, data.images, network.init), or for how many
    /// epochs it is planned (train.epochs). May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    carry: Carry,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: LookArgs,
    #[command(flatten)]
    at: Endpoint,
}

/// Lets the run, or the job, go on.
///
/// # Errors
/// When there is none, its data has changed, it cannot go on as asked, or it does not end as planned.
pub fn run(args: ResumeArgs) -> Result<ExitCode, CliError> {
    let text = args.run.to_string_lossy();
    if !args.run.exists() && !text.contains(MAIN_SEPARATOR) {
        if !args.overrides.is_empty() {
            let hint = format!(
                "--set is for run folders on this machine; of a job of a coordinator, `convoy get {text} --all --out DIR` \
                 makes one"
            );
            return Err(CliError::NotFound { path: args.run, hint });
        }
        let job = ChangeArgs { job: text.into_owned(), json: args.json, at: args.at };
        match change::run(job, Change::Resume) {
            // Then a run folder was meant, and it is not there.
            Err(CliError::Unreachable { .. }) => {}
            done => return done,
        }
    }
    let ready = ready(&args.run, &args.overrides, Some(args.carry.device), args.look)?;
    runner::train(ready, &args.carry, args.json)
}

/// The run in `folder` with `overrides`, after its data on this machine was compared with the manifest; for `device`,
/// if workers of this process will carry it.
///
/// # Errors
/// When it is no run, its data has changed, or it cannot go on so. Then it is left as it was.
pub fn ready(folder: &Path, overrides: &[String], device: Option<Device>, look: LookArgs) -> Result<Ready, CliError> {
    let (dir, before, manifest) = RunDir::open(folder)?;
    let lost = manifest.is_none();
    let after = changed(&before, overrides)?;
    dir.may_change(&before, &after)?;
    device.map_or(Ok(()), |device| device.fits(&after))?;
    let moved = before.spec.paths() != after.spec.paths();
    let planned = unchanged(&*here(), after, manifest, &look.looking())
        .map_err(|error| with_hint(error, folder, &before, moved))?;
    if lost {
        dir.write_manifest(&planned.manifest)?;
    }
    if planned.plan != before {
        dir.change(&before, &planned.plan, &planned.manifest)?;
        out::note(what_changed(&before, &planned.plan));
    }
    Ok(Ready::new(dir, planned)?)
}

/// The error with what to do about it, where the data of the run of `plan` in `folder` is not what it was, or not where
/// it is looked for, which is another place than before if it has `moved`.
fn with_hint(error: PlanningError, folder: &Path, plan: &Plan, moved: bool) -> CliError {
    let hint = match &error {
        PlanningError::DataChanged { .. } if moved => "nothing in the run folder was changed".to_owned(),
        // An empty folder may be a disk that is not there.
        PlanningError::DataChanged { .. } | PlanningError::Missing { .. } | PlanningError::Scan(_) => {
            let keys: Vec<String> = plan.spec.paths().iter().map(|(key, _)| format!("--set {key}=PATH")).collect();
            format!("if it lies elsewhere now: `convoy resume {} {}`", folder.display(), keys.join("` or `"))
        }
        _ => return error.into(),
    };
    CliError::Resume { error, hint }
}

/// What is otherwise from now on, for people.
fn what_changed(before: &Plan, after: &Plan) -> String {
    let (was, now) = (before.spec.train.epochs, after.spec.train.epochs);
    let mut lines = Vec::new();
    if was != now {
        lines.push(format!(
            "planned for {now} epochs in place of {was}; learning rates and results are those of a run of {now} epochs from \
             its start"
        ));
    }
    for (key, path) in after.spec.paths() {
        if !before.spec.paths().contains(&(key, path)) {
            lines.push(format!("{key} is {path} from now on; its files are those that the run began with"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use convoy_planning::{Assumed, plan_without_data, spec_or_network};
    use convoy_vision::ScanError;

    use super::*;
    use crate::typed::typed;

    fn plan(set: &[&str]) -> Arc<Plan> {
        let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
        let file = spec_or_network(Path::new("lenet5"), &set, "a spec").unwrap();
        plan_without_data(file, Assumed::default()).unwrap().0
    }

    #[test]
    fn keys_may_be_set_again_and_again() {
        let args: ResumeArgs = typed(&["runs/x", "--set", "train.epochs=3", "--set", "data.train=y"]).unwrap();
        assert_eq!(
            (args.run, args.overrides),
            ("runs/x".into(), ["train.epochs=3", "data.train=y"].map(Into::into).into())
        );
    }

    #[test]
    fn what_is_otherwise_from_now_on_is_said() {
        let [short, long] = ["train.epochs=3", "train.epochs=9"].map(|epochs| plan(&[epochs]));
        assert_eq!(what_changed(&short, &short), "");
        assert!(what_changed(&short, &long).starts_with("planned for 9 epochs in place of 3; "));
        let mut moved = Plan::clone(&short);
        (moved.spec.data.train, moved.spec.network.init) = ("/moved".to_owned(), Some("/m".to_owned()));
        let text = what_changed(&short, &moved);
        assert!(
            text.starts_with("data.train is /moved from now on") && text.contains("\nnetwork.init is /m"),
            "{text}"
        );
    }

    #[test]
    fn data_that_is_not_there_may_lie_elsewhere() {
        let changed = || PlanningError::DataChanged { difference: "x is gone".to_owned() };
        let mut plan = Plan::clone(&plan(&[]));
        let text = |error, moved| with_hint(error, Path::new("runs/x"), &plan, moved).to_string();
        assert!(text(changed(), false).ends_with("`convoy resume runs/x --set data.train=PATH`"));
        assert!(text(changed(), true).ends_with("; nothing in the run folder was changed"));
        let missing = || ScanError::Missing { path: "y".into(), key: "data.train" }.into();
        let said = text(missing(), true);
        assert!(said.starts_with("data.train: y does not exist") && said.contains("--set data.train=PATH"), "{said}");
        let other = text(PlanningError::KeptElsewhere { key: "data.train", path: "dataset:x".to_owned() }, true);
        assert!(!other.contains("resume"), "{other}");
        plan.spec.data.images = Some("z".to_owned());
        let both = with_hint(changed(), Path::new("runs/x"), &plan, false).to_string();
        assert!(both.ends_with("resume runs/x --set data.train=PATH` or `--set data.images=PATH`"), "{both}");
    }
}
