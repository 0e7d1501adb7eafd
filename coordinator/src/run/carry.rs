//! Carrying a run: the threads and queues of one start, and starting again where an audit took steps back.

use std::sync::Arc;
use std::thread::JoinHandle;

use convoy_model::ParameterFormat;
use convoy_reduce::ParameterBoard;
use convoy_scheduler::{Driver, JobId, Outcome, Run};
use tokio::sync::mpsc;

use super::brought_questions::BroughtQuestions;
use super::checkpoint_writer::CheckpointWriter;
use super::config::Config;
use super::delivery::Delivery;
use super::effects::EffectHandler;
use super::error::RunError;
use super::folder::checkpoint::forget_after;
use super::folder::events::{Events, RunEvent};
use super::folder::worker_logs::WorkerLogs;
use super::handle::{FlatVector, RunHandle};
use super::leases::Leases;
use super::members::RunMembers;
use super::reduction::reducer::Reducer;
use super::reduction::reducer_queue::ReducerQueue;
use super::report::{RunReport, report};
use super::run_log::RunLog;
use super::run_loop::RunLoop;
use super::start::{LoadedRun, load};
use super::tracker::Tracker;
use super::worker_links::WorkerLinks;
use crate::queue::queue;

/// Inputs that may wait for the loop of a run before its workers are read no further.
const INPUTS_WAITING: usize = 4096;

/// Carries a run with the workers that come to it over `links`, until it is over; `stop` asks it to finish the step in
/// flight, save and end.
///
/// When a worker was found to compute wrongly, the run goes on from the newest checkpoint that has nothing of it.
///
/// # Errors
/// When the run does not end as planned. What was saved before stays.
pub(crate) async fn carry(
    mut loaded: LoadedRun,
    job: JobId,
    links: Arc<dyn WorkerLinks>,
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
        let config = match carry_once(loaded, job, &links, until).await {
            Carried::Ended(report) => return *report,
            Carried::RolledBack(config) => *config,
        };
        let loading = tokio::task::spawn_blocking(move || load(config));
        loaded = loading.await.map_err(|error| RunError::Crashed(format!("opening the run crashed: {error}")))??;
    }
}

/// How far one start of a run came.
enum Carried {
    Ended(Box<Result<RunReport, RunError>>),
    /// It goes on from an older checkpoint.
    RolledBack(Box<Config>),
}

async fn carry_once(
    loaded: LoadedRun,
    job: JobId,
    links: &Arc<dyn WorkerLinks>,
    stop: impl Future<Output = ()>,
) -> Carried {
    let config = loaded.config.clone();
    let OpenRun { mut run_loop, reducer } = match open(loaded, job, links) {
        Ok(open) => open,
        Err(error) => return Carried::Ended(Box::new(Err(error))),
    };
    let closing = Closing { links: links.clone(), job };
    let outcome = run_loop.run(stop).await;
    drop(closing);
    let carried = match outcome {
        Ok(Outcome::RolledBack { to, worker }) => {
            tracing::warn!(%to, %worker, "goes on from the newest checkpoint up to there");
            forget_after(&config.dir.checkpoints(), to.0);
            Carried::RolledBack(Box::new(config))
        }
        outcome => Carried::Ended(Box::new(report(&mut run_loop, &config, outcome))),
    };
    drop(run_loop);
    if reducer.join().is_err() {
        tracing::error!("the reducer's thread crashed");
    }
    convoy_reduce::forget_spare();
    carried
}

/// Lets the workers of a run go, also where the run panics.
struct Closing {
    links: Arc<dyn WorkerLinks>,
    job: JobId,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.links.close(self.job, "the run is over");
    }
}

/// A run on its way.
struct OpenRun {
    run_loop: RunLoop,
    reducer: JoinHandle<()>,
}

/// Starts what a run needs, and lets workers come.
fn open(loaded: LoadedRun, job: JobId, links: &Arc<dyn WorkerLinks>) -> Result<OpenRun, RunError> {
    let LoadedRun { config, journal, run, generation, state, history } = loaded;
    evict_known(&run, job, &**links);
    let mut events = Events::open(&config.dir.events(), config.listener.clone());
    events.tell(RunEvent::Started { generation: generation.0, step: state.step, steps: config.plan.total_steps() });
    let (input_sender, inputs) = queue(INPUTS_WAITING);
    // It does not grow: news of nodes have the room that their summaries had, and of all else there is one for each
    // opening.
    let (news_sender, news) = mpsc::unbounded_channel();
    let (reducer_queue, commands) = ReducerQueue::new();
    let state = Arc::new(state);
    let format = ParameterFormat::of(&config.plan, &config.network);
    let handle = Arc::new(RunHandle {
        plan_json: config.plan.to_json().into(),
        manifest_bytes: config.manifest.to_bytes().into(),
        plan: config.plan.clone(),
        manifest: config.manifest.clone(),
        files: config.files.clone(),
        generation,
        vector: FlatVector::of(&config.plan, &config.network),
        inputs: input_sender.clone(),
        reducer: reducer_queue,
        board: Arc::new(ParameterBoard::new(state.step, &state.flat, format)),
        leases: Arc::new(Leases::default()),
        delivery: Arc::new(Delivery::default()),
        questions: Arc::new(BroughtQuestions::default()),
        worker_logs: WorkerLogs::new(config.dir.path()),
    });
    let digest = state.flat.digest(&config.network);
    let (plan, network) = (config.plan.clone(), config.network.clone());
    let writer = CheckpointWriter::start(config.dir.checkpoints(), plan, network, journal.syncer(), input_sender);
    let (plan, network) = (config.plan.clone(), config.network.clone());
    let reducer = Reducer::new(plan, network, handle.board.clone(), state, config.carriage.audit_every, news_sender);
    let reducer = std::thread::Builder::new()
        .name("reducer".to_owned())
        .spawn(move || reducer.run(commands))
        .map_err(|error| RunError::Socket(error.to_string()))?;
    let log = RunLog::new(Tracker::new(config.plan.clone(), history), events, config.dir.path());
    let members = RunMembers::new(links.clone(), job);
    let effects = EffectHandler::new(&handle, members, log, writer, digest);
    let driver = Driver::new(run, journal, effects);
    let run_loop = RunLoop::new(config.plan.spec.train.batch, driver, inputs, news, config.status);
    links.open(job, handle);
    Ok(OpenRun { run_loop, reducer })
}

/// Whoever an earlier start proved to compute wrongly is not taken in again.
fn evict_known(run: &Run, job: JobId, links: &dyn WorkerLinks) {
    for (machine, name) in run.evicted() {
        links.evict(machine, format!("`{name}` ({machine}) was proven to compute wrongly in job {}", job.0));
    }
}
