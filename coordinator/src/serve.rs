//! One start of the coordinator, from the run folder to the report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use convoy_common::epoch_order::EpochOrder;
use convoy_common::file_tree::Files;
use convoy_common::manifest::Manifest;
use convoy_common::metrics::Metrics;
use convoy_common::{Digest, Plan};
use convoy_model::Network;
use convoy_scheduler::{
    Driver, FleetEvent, Halt, JobId, JobRequest, Micros, Node, Outcome, PlanError, Record, ResumeError, Run,
    RunGeneration, RunPlan, StepId, Work, believed,
};
use convoy_security::{Limits, incoming};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::access::{Access, AccessLayer, CallsLayer};
use crate::buffer;
use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::events::{Events, RunEvent};
use crate::fleet_loop::{Ended, FleetLoop, Waiting};
use crate::hub::Hub;
use crate::journal::{JournalError, JournalFile};
use crate::leases::{Leases, Opening};
use crate::published::Board;
use crate::reducer::Reducer;
use crate::run_dir::RunDir;
use crate::run_loop::RunLoop;
use crate::service::{Service, Shared};
use crate::shell::Shell;
use crate::status::Status;
use crate::tracker::{Best, History, Tracker, Waits};
use crate::update::{Flat, Generation, moment_names};
use crate::worker_logs::WorkerLogs;
use crate::writer::Writer;

/// Chunks that may wait for the reducer, 256 KiB each: few enough to be in the caches still when it comes to them.
const CHUNKS_WAITING: usize = 32;
/// How long workers may take to hear that the run is over.
const GOODBYE: Duration = Duration::from_secs(2);
/// Samples that an error names.
const NAMED_SAMPLES: usize = 8;

/// What one start needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The run's folder.
    pub dir: Arc<RunDir>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The network that the plan means.
    pub network: Arc<Network>,
    /// The data.
    pub manifest: Arc<Manifest>,
    /// Where the data is read, for workers that do not see it themselves.
    pub files: Arc<dyn Files>,
    /// Initial parameters and buffers; used when there is no checkpoint.
    pub initial: Vec<f32>,
    /// One in so many shards that a worker computes is computed by another one as well, and compared; 0 for none.
    pub audit_every: u32,
    /// Who wants to hear of events.
    pub listener: Option<mpsc::UnboundedSender<RunEvent>>,
    /// Where the state of the run is shown.
    pub status: watch::Sender<Status>,
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No checkpoint can be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Journal and checkpoint do not fit.
    #[error("{0}")]
    Resume(ResumeError),
    /// The plan makes no sense to the scheduler.
    #[error("{0}")]
    Plan(PlanError),
    /// The last checkpoint could not be written.
    #[error("the last checkpoint could not be written: {reason}; `convoy resume {}` goes on from the one before", dir.display())]
    LastCheckpoint {
        /// Why.
        reason: String,
        /// The run folder.
        dir: PathBuf,
    },
    /// A NaN or an infinity.
    #[error(
        "the loss became NaN or infinite in {what} (samples {samples}); the checkpoint before it is kept. Lower optimizer.lr, \
         set optimizer.clip_norm, or look at these samples"
    )]
    NotFinite {
        /// Step and shard.
        what: String,
        /// The first samples of the shard, by path.
        samples: String,
    },
    /// All shards were finite, and what was made of them is not.
    #[error(
        "the parameters became NaN or infinite after step {step}; the checkpoint before it is kept. Lower optimizer.lr, or \
         set optimizer.clip_norm"
    )]
    Overflow {
        /// The step.
        step: u64,
    },
    /// The run ended otherwise than by its plan.
    #[error("{outcome}; `convoy resume {}` tries again from the last checkpoint", dir.display())]
    Outcome {
        /// How.
        outcome: Outcome,
        /// The run folder.
        dir: PathBuf,
    },
    /// The socket failed.
    #[error("the coordinator's socket failed: {0}")]
    Socket(String),
}

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

/// A run that is ready to be carried: its folder was read, nothing has happened yet.
pub(crate) struct Loaded {
    config: Config,
    journal: JournalFile,
    run: Run,
    number: RunGeneration,
    generation: Generation,
    history: History,
}

/// Reads journal and checkpoints. Takes long where they are large.
///
/// # Errors
/// When the run cannot begin.
pub(crate) fn load(mut config: Config) -> Result<Loaded, RunError> {
    let (journal, records) = JournalFile::open(&config.dir.journal())?;
    let start = checkpoint::newest(&config.dir.checkpoints(), &believed(&records), &config.plan, &config.network)?;
    let Checkpoint { generation, history } = match start {
        Some(checkpoint) => checkpoint,
        None => {
            let initial = initial(&mut config);
            beginning(&config, initial)
        }
    };
    if !may_begin_again(&config) {
        config.initial = Vec::new();
    }
    let run_plan = run_plan(&config, generation.step, &history, &records);
    run_plan.check().map_err(RunError::Plan)?;
    let number = run_plan.generation;
    let run = Run::resume(run_plan, records).map_err(RunError::Resume)?;
    Ok(Loaded { config, journal, run, number, generation, history })
}

/// Carries a run with the workers that the hub sends to it, until it is over; `stop` asks it to finish the step in
/// flight, save and end.
///
/// When a worker was found to compute wrongly, the run goes on from the newest checkpoint that has nothing of it.
///
/// # Errors
/// When the run does not end as planned. What was saved before stays.
pub(crate) async fn carry(
    mut loaded: Loaded,
    job: JobId,
    hub: Arc<Hub>,
    stop: impl Future<Output = ()>,
) -> Result<RunReport, RunError> {
    tokio::pin!(stop);
    let mut stopping = false;
    loop {
        let until = async {
            if !stopping {
                stop.as_mut().await;
                stopping = true;
            }
        };
        let config = match carry_once(loaded, job, &hub, until).await {
            Carried::Ended(report) => return *report,
            Carried::RolledBack(config) => *config,
        };
        let loading = tokio::task::spawn_blocking(move || load(config));
        loaded = loading.await.map_err(|error| RunError::Socket(format!("opening the run crashed: {error}")))??;
    }
}

/// How far one start of a run came.
enum Carried {
    Ended(Box<Result<RunReport, RunError>>),
    /// It goes on from an older checkpoint.
    RolledBack(Box<Config>),
}

async fn carry_once(loaded: Loaded, job: JobId, hub: &Arc<Hub>, stop: impl Future<Output = ()>) -> Carried {
    let config = loaded.config.clone();
    let mut run_loop = match open(loaded, job, hub) {
        Ok(run_loop) => run_loop,
        Err(error) => return Carried::Ended(Box::new(Err(error))),
    };
    let outcome = run_loop.run_loop.run(stop).await;
    hub.close(job, "the run is over");
    let carried = match outcome {
        Ok(Outcome::RolledBack { to, worker }) => {
            tracing::warn!(%to, %worker, "goes on from the newest checkpoint up to there");
            Carried::RolledBack(Box::new(config))
        }
        outcome => Carried::Ended(Box::new(report(&mut run_loop.run_loop, &config, outcome))),
    };
    run_loop.run_loop.driver.outbox().end();
    drop(run_loop.run_loop);
    _ = run_loop.reducer.join();
    buffer::forget_spare();
    carried
}

/// A run on its way.
struct OpenRun {
    run_loop: RunLoop,
    reducer: std::thread::JoinHandle<()>,
}

/// Starts what a run needs, and lets workers come.
fn open(loaded: Loaded, job: JobId, hub: &Arc<Hub>) -> Result<OpenRun, RunError> {
    let Loaded { config, journal, run, number, generation, history } = loaded;
    let Config { dir, plan, network, manifest, files, listener, status, .. } = config;
    let mut events = Events::open(&dir.events(), listener);
    events.tell(RunEvent::Started { generation: number.0, step: generation.step, steps: plan.total_steps() });
    let (input_sender, inputs) = mpsc::unbounded_channel();
    let (command_sender, commands) = mpsc::unbounded_channel();
    let (news_sender, news) = mpsc::unbounded_channel();
    let generation = Arc::new(generation);
    let board = Arc::new(Board::new(generation.step, &generation.flat));
    let leases = Arc::new(Leases::default());
    let digest = generation.flat.digest(&network);
    let trusted = run.trusted();
    for name in run.evicted_names() {
        hub.distrust(name, format!("`{name}` was proven to compute wrongly in job {}", job.0));
    }
    let shared = Shared {
        data: manifest.clone(),
        files,
        plan: serde_json::to_vec(&*plan).expect("a plan is plain data").into(),
        manifest: Bytes::from(serde_json::to_vec(&*manifest).expect("a manifest is plain data")),
        generation: number,
        meaning: plan.clone(),
        elements: network.len(),
        evaluate_sums: plan.metric_layout().len(),
        inputs: input_sender.clone(),
        commands: command_sender.clone(),
        board: board.clone(),
        leases: leases.clone(),
        room: Arc::new(Semaphore::new(CHUNKS_WAITING)),
        worker_logs: WorkerLogs::new(dir.path()),
    };
    let writer = Writer::start(dir.checkpoints(), plan.clone(), network.clone(), journal.syncer(), input_sender);
    let reducer = Reducer::new(plan.clone(), network, board.clone(), generation, news_sender);
    let reducer = std::thread::Builder::new()
        .name("reducer".to_owned())
        .spawn(move || reducer.run(commands))
        .map_err(|error| RunError::Socket(error.to_string()))?;
    let shell = Shell {
        hub: hub.clone(),
        job,
        workers: BTreeMap::new(),
        commands: command_sender,
        leases,
        board,
        opening: Opening::default(),
        writer,
        tracker: Tracker::new(plan.clone(), history),
        events,
        folder: dir.path().to_owned(),
        reduced: Vec::new(),
        trusted,
        digest,
        finished: None,
    };
    let run_loop = RunLoop {
        plan,
        driver: Driver::new(run, journal, shell),
        inputs,
        news,
        status,
        begun: Instant::now(),
        made: None,
        not_finite: None,
        checkpoint_failed: None,
    };
    hub.open(job, Arc::new(shared));
    Ok(OpenRun { run_loop, reducer })
}

/// Runs the coordinator of one run on `listener` until the run is over; `stop` asks it to finish the step in flight,
/// save and end.
///
/// Goes on from the newest good checkpoint in the run folder; steps that the journal knows beyond it are computed
/// again and compared with their digests.
///
/// # Errors
/// When the run cannot begin, or does not end as planned. What was saved before stays.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<RunReport, RunError> {
    let loaded = load(config)?;
    let (events, fleet_inputs) = mpsc::unbounded_channel();
    let numerics = loaded.config.plan.spec.numerics.clone();
    let hub = Arc::new(Hub::of_one_run(events.clone(), &numerics));
    let (close, closed) = oneshot::channel::<()>();
    let connections = incoming(listener, None, Limits::default());
    let server = convoy_proto::channel::server()
        .layer(AccessLayer(Access::loopback()))
        .layer(CallsLayer::default())
        .add_service(convoy_proto::channel::service(Service(hub.clone())))
        .serve_with_incoming_shutdown(connections, async { _ = closed.await });
    let server = tokio::spawn(server);
    let job = JobId(1);
    let (done, report) = oneshot::channel();
    let (asked, ask) = watch::channel(false);
    let mut only = Some((loaded, done));
    let carried = hub.clone();
    let start = move |job, _| {
        let (run, hub, mut ask) = (only.take(), carried.clone(), ask.clone());
        let stop = async move { _ = ask.wait_for(|asked| *asked).await };
        async move {
            if let Some((loaded, done)) = run {
                _ = done.send(carry(loaded, job, hub, stop).await);
            }
            Ended::Over
        }
    };
    let fleet = tokio::spawn(FleetLoop::new(hub.clone(), fleet_inputs, Waiting::default(), start).run());
    let request = JobRequest { numerics: crate::numerics_number(&numerics), ..JobRequest::default() };
    _ = events.send(FleetEvent::JobAdded { job, request, started: true });
    tokio::pin!(report, stop);
    let report = tokio::select! {
        report = &mut report => report,
        () = &mut stop => {
            asked.send_replace(true);
            report.await
        }
    };
    hub.farewell(true, "the run is over");
    _ = close.send(());
    if tokio::time::timeout(GOODBYE, server).await.is_err() {
        tracing::debug!("some workers did not hang up");
    }
    fleet.abort();
    report.map_err(|_| RunError::Socket("the run's task crashed".to_owned()))?
}

/// Whether the initial values must be kept: an audit may take everything back, and the seed does not make them again.
fn may_begin_again(config: &Config) -> bool {
    config.audit_every > 0 && config.plan.spec.network.init.is_some()
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
    let moments = moment_names(&config.plan.spec.optimizer);
    let moments = moments.iter().map(|_| vec![0.0; config.network.parameters]).collect();
    Checkpoint { generation: Generation { step: 0, flat, moments }, history: History::default() }
}

fn run_plan(config: &Config, step: u64, history: &History, records: &[Record]) -> RunPlan {
    let plan = &config.plan;
    let (train, evaluate) = (plan.train_cut(), plan.evaluate_cut());
    let steps = train.steps();
    let started = records.iter().filter(|record| matches!(record, Record::Started { .. })).count() as u64;
    let evaluate_shards = if plan.validation_samples == 0 { 0 } else { evaluate.shards(0) };
    let mut run_plan = RunPlan::new(plan.spec.train.epochs, steps, train.shards(0), train.shards(steps - 1));
    run_plan.generation = RunGeneration(started + 1);
    run_plan.evaluate_shards = evaluate_shards;
    run_plan.first_step = StepId(step);
    run_plan.evaluation_pending =
        evaluate_shards > 0 && step > 0 && step.is_multiple_of(steps) && history.evaluated_step != step;
    run_plan.checkpoint.steps = plan.spec.checkpoint.every_steps;
    run_plan.checkpoint.time = Micros::seconds(plan.spec.checkpoint.every_seconds);
    run_plan.audit_every = config.audit_every;
    run_plan
}

fn report(
    run_loop: &mut RunLoop,
    config: &Config,
    outcome: Result<Outcome, Halt<JournalError>>,
) -> Result<RunReport, RunError> {
    let (dir, manifest) = (&config.dir, &config.manifest);
    let outcome = outcome.map_err(|halt| match halt {
        Halt::Journal(error) => RunError::Journal(error),
        Halt::Before => unreachable!("the loop ends at the first halt"),
    })?;
    let step = run_loop.driver.run().progress().committed.0;
    let not_finite = run_loop.not_finite;
    let failed = run_loop.checkpoint_failed.take();
    let shell = run_loop.driver.outbox();
    shell.events.tell(RunEvent::Finished { outcome: outcome.to_string(), step, parameters_digest: shell.digest });
    match outcome {
        Outcome::Completed | Outcome::StoppedEarly | Outcome::Stopped => {}
        Outcome::NotFinite { step, work, .. } => {
            let Some((_, shard)) = not_finite.filter(|(at, _)| *at == step) else {
                return Err(RunError::Overflow { step: step.0 });
            };
            let node = Node { first: shard, last: shard + 1 };
            let samples = samples_of(&run_loop.plan, manifest, step.0, work, shard);
            return Err(RunError::NotFinite { what: format!("the {work} of {step}, {node}"), samples });
        }
        Outcome::Unsaved { .. } => {
            let reason = failed.unwrap_or_else(|| "for an unknown reason".to_owned());
            return Err(RunError::LastCheckpoint { reason, dir: dir.path().to_owned() });
        }
        outcome => return Err(RunError::Outcome { outcome, dir: dir.path().to_owned() }),
    }
    let (reply, snapshot) = std::sync::mpsc::sync_channel(1);
    _ = shell.commands.send(crate::reducer::Command::Snapshot { reply });
    let last = snapshot.recv().expect("the reducer lives as long as the loop");
    let history = shell.tracker.history();
    let row = history.rows.last();
    Ok(RunReport {
        can_resume: outcome == Outcome::Stopped,
        outcome: outcome.to_string(),
        steps: step,
        parameters_digest: shell.digest,
        train_loss: row.map_or(shell.tracker.epoch_loss(), |row| row.train_loss),
        validation: row.map(|row| row.validation.clone()).unwrap_or_default(),
        best: history.best,
        images_per_second: shell.tracker.images_per_second(),
        seconds: shell.tracker.seconds(),
        waits: shell.tracker.waits(),
        flat: last.flat.clone(),
        history,
    })
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
        let sample = &split.samples[*index as usize];
        let path = split.files.get(sample.file as usize).map_or("?", |file| file.path.as_str());
        if sample.index == 0 { path.to_owned() } else { format!("{path}#{}", sample.index) }
    };
    let mut text = samples.iter().take(NAMED_SAMPLES).map(name).collect::<Vec<_>>().join(", ");
    if samples.len() > NAMED_SAMPLES {
        text.push_str(&format!(" and {} more", samples.len() - NAMED_SAMPLES));
    }
    text
}
