//! The start of a run: its folder is read, and it is ready to be carried.

use convoy_proto::chunk_count;
use convoy_reduce::{Flat, ParameterState};
use convoy_scheduler::{Journal, Micros, Record, Run, RunGeneration, RunPlan, StepId};

use super::config::{Config, Exchange};
use super::error::RunError;
use super::folder::checkpoint::{self, Checkpoint, KnownSteps};
use super::folder::earlier_plans::earlier_plans;
use super::folder::history::History;
use super::folder::journal::JournalFile;

/// A run that is ready to be carried: its folder was read, nothing has happened yet.
pub(crate) struct LoadedRun {
    /// What it was loaded with.
    pub(crate) config: Config,
    /// Its journal, open for appending.
    pub(crate) journal: JournalFile,
    /// Its scheduler.
    pub(crate) run: Run,
    /// The start that this is.
    pub(crate) generation: RunGeneration,
    /// The parameters that it goes on from.
    pub(crate) state: ParameterState,
    /// What is known of it.
    pub(crate) history: History,
}

/// Reads journal and checkpoints. Takes long where they are large.
///
/// # Errors
/// When the run cannot begin.
pub(crate) fn load(mut config: Config) -> Result<LoadedRun, RunError> {
    let (mut journal, mut records) = JournalFile::open(&config.dir.journal())?;
    let earlier = earlier_plans(config.dir.path(), &config.plan)?;
    let (folder, plan) = (config.dir.checkpoints(), &config.plan);
    let known = KnownSteps::of(&records);
    let start = checkpoint::newest(&folder, &known, plan, &earlier, &config.network)?;
    let Checkpoint { state, history } = match start {
        Some(checkpoint) => checkpoint,
        None => {
            let initial = initial(&mut config);
            beginning(&config, initial)
        }
    };
    if !may_begin_again(&config) {
        config.initial = Vec::new();
    }
    if state.step > known.reach() {
        let lost = Record::Lost { at_most: state.step - known.reach() };
        journal.append(&lost)?;
        records.push(lost);
    }
    let run_plan = run_plan(&config, state.step, &history, &records);
    run_plan.check().map_err(RunError::Plan)?;
    let generation = run_plan.generation;
    let run = Run::resume(run_plan, records).map_err(RunError::Resume)?;
    Ok(LoadedRun { config, journal, run, generation, state, history })
}

/// Whether the initial values must be kept: an audit may take everything back, and the seed does not make them again.
fn may_begin_again(config: &Config) -> bool {
    config.carriage.audit_every > 0 && config.plan.spec.network.init.is_some()
}

/// Parameters and buffers before the first step.
fn initial(config: &mut Config) -> Vec<f32> {
    match config.initial.is_empty() {
        true => config.network.initial(config.plan.spec.seed),
        false if may_begin_again(config) => config.initial.clone(),
        false => std::mem::take(&mut config.initial),
    }
}

/// The state before the first step.
fn beginning(config: &Config, initial: Vec<f32>) -> Checkpoint {
    let flat = Flat::of(&initial);
    // The state then lies in its memory.
    drop(initial);
    let state = ParameterState::first(flat, config.network.parameters, &config.plan.spec.optimizer);
    Checkpoint { state, history: History::default() }
}

/// The start that this is, unlike all before it. Each record that is lost may have been one.
fn next_generation(records: &[Record]) -> RunGeneration {
    let last = records.iter().fold(0, |last, record| match record {
        Record::Started { generation, .. } => generation.0.max(last),
        Record::Lost { at_most } => last.saturating_add(*at_most),
        _ => last,
    });
    RunGeneration(last.saturating_add(1))
}

/// The time that the slowest link takes for which a run waits without a word: 4 Mbit/s, for the gradients of a node.
fn send_floor(parameters: usize) -> Micros {
    const MICROS_A_BYTE: u64 = 2;
    Micros((4 * parameters as u64).saturating_mul(MICROS_A_BYTE)).max(Micros::seconds(2))
}

/// What the scheduler is told of the run, which goes on from the parameters of `step`.
fn run_plan(config: &Config, step: u64, history: &History, records: &[Record]) -> RunPlan {
    let plan = &config.plan;
    let (train, evaluate) = (plan.train_cut(), plan.evaluate_cut());
    let steps = train.steps();
    let evaluate_shards = if plan.validation_samples == 0 { 0 } else { evaluate.shards(0) };
    let mut run_plan = RunPlan::new(plan.spec.train.epochs, steps, train.shards(0), train.shards(steps - 1));
    run_plan.generation = next_generation(records);
    run_plan.evaluate_shards = evaluate_shards;
    run_plan.first_step = StepId(step);
    run_plan.evaluation_pending =
        evaluate_shards > 0 && step > 0 && step.is_multiple_of(steps) && history.evaluated_step != step;
    run_plan.checkpoint.steps = plan.spec.checkpoint.every_steps;
    run_plan.checkpoint.time = Micros::seconds(plan.spec.checkpoint.every_seconds);
    run_plan.audit_every = config.carriage.audit_every;
    if config.carriage.exchange == Exchange::Sliced {
        run_plan.chunks = chunk_count(config.network.len()) as u32;
    }
    run_plan.timeouts.send_floor = send_floor(config.network.parameters);
    run_plan
}
