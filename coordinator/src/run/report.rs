//! How a run went.

use convoy_common::epoch_order::EpochOrder;
use convoy_common::manifest::Manifest;
use convoy_common::metrics::Metrics;
use convoy_common::{Digest, Plan};
use convoy_reduce::Flat;
use convoy_scheduler::{Node, Outcome, Work};
use serde::Serialize;

use super::config::Config;
use super::error::RunError;
use super::folder::events::RunEvent;
use super::folder::history::{Best, History};
use super::run_loop::RunLoop;
use super::tracker::Waits;

/// Samples that an error names.
const NAMED_SAMPLES: usize = 8;

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// How it ended: `completed`, `stopped early` or `stopped`.
    pub outcome: String,
    /// Whether it can go on.
    pub can_resume: bool,
    /// Steps done.
    pub steps: u64,
    /// Digest of the last parameters.
    pub parameters_digest: Digest,
    /// Mean loss over the last epoch's samples.
    pub train_loss: f64,
    /// Metrics of the last evaluation.
    pub validation: Metrics,
    /// The best epoch's parameters.
    pub best: Option<Best>,
    /// Training samples over the time of steps after the first, without validation.
    pub images_per_second: f64,
    /// Seconds of training, all starts together.
    pub seconds: f64,
    /// Thread time of workers by what they did, in this start.
    pub waits: Waits,
    /// Rows of `metrics.csv`.
    #[serde(skip)]
    pub history: History,
    /// The last parameters and buffers.
    #[serde(skip)]
    pub flat: Flat,
}

/// What is reported of the run that `run_loop` carried to its `outcome`; tells people that it ended.
///
/// # Errors
/// When it did not end by its plan or by somebody's wish.
pub(crate) fn report(
    run_loop: &mut RunLoop,
    config: &Config,
    outcome: Result<Outcome, RunError>,
) -> Result<RunReport, RunError> {
    let outcome = outcome?;
    let step = run_loop.scheduled().progress().committed.0;
    let parameters_digest = run_loop.effects().digest;
    run_loop.effects().log.tell(RunEvent::Finished { outcome: outcome.to_string(), step, parameters_digest });
    if let Some(error) = failure(run_loop, config, &outcome) {
        return Err(error);
    }
    let gone = |_| RunError::Crashed("the reducer's thread ended".to_owned());
    let last = run_loop.effects().snapshot().recv().map_err(gone)?;
    let tracker = &run_loop.effects().log.tracker;
    let history = tracker.history();
    let row = history.rows.last();
    Ok(RunReport {
        can_resume: outcome == Outcome::Stopped,
        outcome: outcome.to_string(),
        steps: step,
        parameters_digest,
        train_loss: row.map_or(tracker.epoch_loss(), |row| row.train_loss),
        validation: row.map(|row| row.validation.clone()).unwrap_or_default(),
        best: history.best,
        images_per_second: tracker.images_per_second(),
        seconds: tracker.seconds(),
        waits: tracker.waits(),
        flat: last.flat.clone(),
        history,
    })
}

/// Why a run that ended so did not come to its end; `None` when it did, or when somebody stopped it.
fn failure(run_loop: &RunLoop, config: &Config, outcome: &Outcome) -> Option<RunError> {
    let dir = config.dir.path().to_owned();
    match outcome {
        Outcome::Completed | Outcome::StoppedEarly | Outcome::Stopped => None,
        Outcome::NotFinite { step, work, .. } => {
            let Some((_, shard)) = run_loop.not_finite().filter(|(at, _)| at == step) else {
                return Some(RunError::Overflow { step: step.0 });
            };
            let node = Node { first: shard, last: shard + 1 };
            let samples = samples_of(&config.plan, &config.manifest, step.0, *work, shard);
            Some(RunError::NotFinite { what: format!("the {work} of {step}, {node}"), samples })
        }
        Outcome::Unsaved { .. } => {
            let reason = run_loop.checkpoint_failed().unwrap_or("for an unknown reason").to_owned();
            Some(RunError::LastCheckpoint { reason, dir })
        }
        outcome => Some(RunError::Outcome { outcome: outcome.clone(), dir }),
    }
}

/// The first samples of a shard, by path.
fn samples_of(plan: &Plan, manifest: &Manifest, step: u64, work: Work, shard: u32) -> String {
    let (split, cut, step, order) = match work {
        Work::Train => {
            let cut = plan.train_cut();
            let epoch = (step / cut.steps()) as u32;
            let order = EpochOrder::shuffled(plan.spec.seed, epoch, &manifest.train.usable());
            (&manifest.train, cut, step % cut.steps(), order)
        }
        Work::Evaluate => {
            let order = EpochOrder::sequential(&manifest.validation.usable());
            (&manifest.validation, plan.evaluate_cut(), 0, order)
        }
    };
    let samples = order.samples(cut.shard(step, shard));
    let name = |index: &u32| {
        let sample = split.samples.at(*index as usize);
        let path = split.files.get(sample.file as usize).map_or("?", |file| file.path);
        if sample.index == 0 { path.to_owned() } else { format!("{path}#{}", sample.index) }
    };
    let mut text = samples.iter().take(NAMED_SAMPLES).map(name).collect::<Vec<_>>().join(", ");
    if samples.len() > NAMED_SAMPLES {
        text.push_str(&format!(" and {} more", samples.len() - NAMED_SAMPLES));
    }
    text
}
