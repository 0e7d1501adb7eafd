//! Running a coordinator, alone or with workers in the same process.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::Plan;
use convoy_common::durable::{WriteError, full_disk, is_full};
use convoy_common::file_tree::Files;
use convoy_coordinator::{
    Carriage, ClusterConfig, Config, Listener, Ready, RunReport, Status, Summary, export, serve, serve_cluster,
};
use convoy_planning::disk;
use convoy_proto::channel::Link;
use convoy_security::{Secret, in_process};
use convoy_worker::{Ended, RunData, WorkerError, threads_that_fit};
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::address::listen_on;
use crate::device::Device;
use crate::error::CliError;
use crate::member::{Home, user_secret};
use crate::metric_lines::metric_lines;
use crate::progress::show_run;
use crate::signals::Stop;
use crate::time::duration;
use crate::{logging, out, runtime};

/// What happens at the first signal.
const HINT: &str = "finishing the step and saving; press Ctrl-C again to leave at once";
/// How often a full disk is tried again.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// How long workers of this process are given to leave after the run.
const LEAVE: Duration = Duration::from_secs(1);

/// How a run is carried; nothing here changes what it computes.
#[derive(Debug, Clone, clap::Args)]
pub struct Carry {
    /// Workers in this process. One is fastest: it holds and sends everything once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Threads of each worker; by default the machine's cores are shared out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Where they compute.
    #[command(flatten)]
    pub device: Device,
}

impl Carry {
    /// Threads of each worker.
    pub fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = self.device.threads((cores / self.workers as usize).max(1));
        self.threads.map_or(share, |threads| threads as usize)
    }
}

/// Runs `ready` with workers in this process, shows progress, and ends with a summary.
///
/// # Errors
/// When the run does not end as planned.
pub fn train(ready: Ready, carry: &Carry, json: bool) -> Result<ExitCode, CliError> {
    run(ready, Carriers::Own(carry), Carriage::default(), json)
}

/// Runs `ready` with workers in this process, which read `files`, until step `last` is committed, and shows progress.
///
/// # Errors
/// When the run does not get there; above all when a step has another digest than before.
pub fn replay(ready: Ready, files: Arc<dyn Files>, carry: &Carry, last: u64) -> Result<(), CliError> {
    let way = Way { files, carriage: Carriage::default(), last: Some(last) };
    let report = runtime::serve(HINT, async |stop| with_workers(ready, Carriers::Own(carry), &way, &stop).await)?;
    match report.steps > last {
        true => Ok(()),
        false => Err(CliError::Answer { code: 5, message: format!("stopped after {} steps", report.steps) }),
    }
}

/// Runs `ready` for workers that come to `listener` from elsewhere.
///
/// # Errors
/// When the run does not end as planned.
pub fn coordinate(ready: Ready, carriage: Carriage, listener: TcpListener, json: bool) -> Result<ExitCode, CliError> {
    run(ready, Carriers::Others(listener), carriage, json)
}

fn run(ready: Ready, carriers: Carriers<'_>, carriage: Carriage, json: bool) -> Result<ExitCode, CliError> {
    let path = ready.dir.path().to_owned();
    if let Err(source) = logging::to_file(&path.join("log")) {
        tracing::warn!(%source, "the run folder gets no log");
    }
    let (plan, network) = (ready.plan.clone(), ready.network.clone());
    let way = Way { files: disk(), carriage, last: None };
    runtime::serve(HINT, async |stop| {
        let report = with_workers(ready, carriers, &way, &stop).await?;
        let exporting = || export(&path, &plan, &network, &report);
        let summary = when_there_is_room(exporting, stop.asked()).await?;
        out::unless_closed(if json { out::json(&summary) } else { out::line(text_of(&summary, &plan)) })?;
        Ok(ExitCode::from(if report.can_resume { stop.exit_code().max(5) } else { 0 }))
    })
}

/// Does `write` again and again as long as the disk is full, and says so, until `stop`.
async fn when_there_is_room<T>(
    write: impl Fn() -> Result<T, WriteError>,
    stop: impl Future<Output = ()>,
) -> Result<T, WriteError> {
    tokio::pin!(stop);
    let mut said = false;
    loop {
        let error = match write() {
            Err(error) if is_full(&error.source) => error,
            done => return done,
        };
        if !std::mem::replace(&mut said, true) {
            out::note(format_args!("{}; the model is written as soon as there is room", full_disk(&error.path)));
        }
        tokio::select! {
            () = &mut stop => return Err(error),
            () = tokio::time::sleep(TRY_EVERY) => {}
        }
    }
}

/// Who carries a run.
enum Carriers<'a> {
    /// Workers of this process.
    Own(&'a Carry),
    /// Workers that come from elsewhere.
    Others(TcpListener),
}

/// How a run is carried here.
struct Way {
    /// Where images are read.
    files: Arc<dyn Files>,
    /// One in so many shards is computed twice; 0 for none. Workers of one process are one machine.
    carriage: Carriage,
    /// A step after which it stops.
    last: Option<u64>,
}

/// Serves jobs for workers and commands that come to `socket`, until it is asked to stop.
///
/// # Errors
/// When the folder cannot be used.
pub fn serve_jobs(config: ClusterConfig, socket: TcpListener) -> Result<ExitCode, CliError> {
    runtime::serve("runs finish their step and save; press Ctrl-C again to leave at once", async |stop| {
        let (listener, address) = listen_on(socket)?;
        out::note(format_args!("listening on {address}; jobs are kept in {}", config.state.display()));
        serve_cluster(config, listener, Box::pin(stop.asked())).await?;
        Ok(ExitCode::from(stop.exit_code()))
    })
}

async fn with_workers(ready: Ready, carriers: Carriers<'_>, way: &Way, stop: &Stop) -> Result<RunReport, CliError> {
    // Workers of this process know it from memory; those of other processes of this user read it.
    let (mut workers, listener, secret) = match carriers {
        Carriers::Own(carry) => {
            let (secret, (coordinator, connections)) = (Secret::random(), in_process());
            let link = Link::in_process(coordinator, secret.clone());
            (start_workers(carry, &ready, &way.files, link)?, Listener::InProcess(connections), secret)
        }
        Carriers::Others(socket) => {
            let (listener, address) = listen_on(socket)?;
            out::note(format_args!(
                "listening on {address}; start workers with `convoy worker --coordinator {address}`"
            ));
            (JoinSet::new(), listener.into(), user_secret(&Home::folder())?)
        }
    };
    let (status, watched) = watch::channel(Status::default());
    let (event_sender, events) = mpsc::unbounded_channel();
    let stopped = Box::pin(until_asked_or_past(stop, way.last, watched.clone()));
    let progress = tokio::spawn(show_run(watched, events));
    let config = ready.config(way.files.clone(), way.carriage, status);
    let report =
        serve_beside(&mut workers, Config { listener: Some(event_sender), ..config }, secret, listener, stopped)
            .await?;
    // Whoever was between two connections when the run ended would look for the coordinator until its patience ends.
    let leaving = async { while workers.join_next().await.is_some() {} };
    _ = tokio::time::timeout(LEAVE, leaving).await;
    drop(workers);
    _ = progress.await;
    Ok(report)
}

/// Workers of this process, on their way to the coordinator.
type Workers = JoinSet<Result<Ended, WorkerError>>;

fn start_workers(carry: &Carry, ready: &Ready, files: &Arc<dyn Files>, link: Link) -> Result<Workers, CliError> {
    let data = Arc::new(RunData::open(&ready.plan, ready.manifest.clone(), files.clone())?);
    let mut workers = JoinSet::new();
    let device = carry.device.get()?;
    let threads = match device {
        convoy_nn::Device::Cpu => {
            threads_that_fit(&ready.plan, &ready.network, carry.threads(), carry.workers, None, false)?
        }
        convoy_nn::Device::Cuda(_) => carry.threads(),
    };
    if threads < carry.threads() {
        out::note(format_args!("each worker takes {threads} of {} threads: memory is short", carry.threads()));
    }
    for number in 1..=carry.workers {
        let config = convoy_worker::Config {
            link: watch::channel(link.clone()).1,
            name: format!("local-{number}"),
            threads,
            device,
            data: Some(data.clone()),
            cache: None,
            sees: None,
            log: None,
            patience: Some(Duration::from_secs(10)),
            most_memory: None,
            declines: false,
            peers: convoy_worker::PeerConfig::default(),
        };
        workers.spawn(convoy_worker::run(config, Box::pin(std::future::pending())));
    }
    Ok(workers)
}

/// Returns when somebody asked to stop, or the step `last` is committed.
async fn until_asked_or_past(stop: &Stop, last: Option<u64>, mut status: watch::Receiver<Status>) {
    let last_step = async {
        match last {
            Some(last) => _ = status.wait_for(|status| status.step > last).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.asked() => {}
        () = last_step => {}
    }
}

/// Serves a run. A worker of this process that cannot work is a failure of this process.
async fn serve_beside(
    workers: &mut Workers,
    config: Config,
    secret: Secret,
    listener: Listener,
    stopped: BoxFuture<'_, ()>,
) -> Result<RunReport, CliError> {
    let mut serving = serve(config, secret, listener, stopped);
    loop {
        tokio::select! {
            report = &mut serving => return Ok(report?),
            Some(ended) = workers.join_next(), if !workers.is_empty() => {
                ended.map_err(|error| CliError::Crashed(error.to_string()))??;
            }
        }
    }
}

/// What a run ended with, for people.
fn text_of(summary: &Summary<'_>, plan: &Plan) -> String {
    let report = summary.report;
    let mut text = format!("\n{} after {} steps, {}", report.outcome, report.steps, duration(report.seconds));
    if report.images_per_second > 0.0 {
        text.push_str(&format!(", {:.0} images/s", report.images_per_second));
    }
    if report.train_loss.is_finite() {
        text.push_str(&format!("\ntrain loss  {:.4}", report.train_loss));
    }
    text.push_str(&metric_lines(&report.validation));
    if let Some(best) = report.best {
        let name = plan.spec.checkpoint.best_by.as_deref().unwrap_or("loss");
        text.push_str(&format!("\nbest {name:<6} {:.4} at step {}", best.value, best.step));
    }
    text.push_str(&format!("\nparameters  {}\nrun folder  {}", report.parameters_digest, summary.run_dir.display()));
    text.push_str(&if report.can_resume {
        format!("\n\ngo on with:  convoy resume {}", summary.run_dir.display())
    } else {
        let model = summary.best_model.as_ref().unwrap_or(&summary.model);
        format!("\n\nnext:  convoy predict {} IMAGE...", model.display())
    });
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use convoy_common::Digest;
    use convoy_coordinator::Best;
    use convoy_planning::{Assumed, plan_without_data, spec_or_network};
    use expect_test::expect;

    use super::*;

    fn full() -> WriteError {
        WriteError { path: "/m".into(), source: std::io::ErrorKind::StorageFull.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_is_written_when_there_is_room() {
        let left = std::cell::Cell::new(3);
        let write = || match left.get() {
            0 => Ok("written"),
            tries => {
                left.set(tries - 1);
                Err(full())
            }
        };
        assert_eq!(when_there_is_room(write, std::future::pending()).await.unwrap(), "written");
        let error = when_there_is_room(|| Err::<(), _>(full()), tokio::time::sleep(TRY_EVERY * 5)).await.unwrap_err();
        assert!(is_full(&error.source));
        let broken = || Err::<(), _>(WriteError { path: "/m".into(), source: std::io::ErrorKind::NotFound.into() });
        assert!(when_there_is_room(broken, std::future::pending()).await.is_err());
    }

    fn report() -> RunReport {
        RunReport {
            outcome: "completed".to_owned(),
            can_resume: false,
            steps: 15,
            parameters_digest: Digest::default(),
            train_loss: 0.25,
            validation: [("top1".to_owned(), 0.75)].into(),
            best: Some(Best { step: 10, value: 0.8 }),
            images_per_second: 1234.5,
            seconds: 61.0,
            waits: Default::default(),
            history: Default::default(),
            flat: Default::default(),
        }
    }

    fn text(report: &RunReport, best_model: Option<&str>) -> String {
        let given = ["checkpoint.best_by=top1".to_owned()];
        let file = spec_or_network(Path::new("lenet5"), &given, "a spec").unwrap();
        let (plan, _) = plan_without_data(file, Assumed::default()).unwrap();
        let run_dir = Path::new("runs/x");
        let model = run_dir.join("model");
        text_of(&Summary { run_dir, report, model, best_model: best_model.map(Into::into) }, &plan)
    }

    #[test]
    fn a_run_ends_with_what_it_came_to() {
        expect![[r#"

            completed after 15 steps, 1m01s, 1234 images/s
            train loss  0.2500
            top1        0.7500
            best top1   0.8000 at step 10
            parameters  0000000000000000000000000000000000000000000000000000000000000000
            run folder  runs/x

            next:  convoy predict runs/x/model-best IMAGE..."#]]
        .assert_eq(&text(&report(), Some("runs/x/model-best")));
    }

    #[test]
    fn a_run_that_was_stopped_can_go_on() {
        let stopped = RunReport {
            outcome: "stopped".to_owned(),
            can_resume: true,
            train_loss: f64::NAN,
            validation: [].into(),
            best: None,
            images_per_second: 0.0,
            ..report()
        };
        expect![[r#"

            stopped after 15 steps, 1m01s
            parameters  0000000000000000000000000000000000000000000000000000000000000000
            run folder  runs/x

            go on with:  convoy resume runs/x"#]]
        .assert_eq(&text(&stopped, None));
    }

    #[tokio::test]
    async fn a_run_stops_behind_the_last_step_that_is_wanted() {
        let stop = Stop::listen("stopping").unwrap();
        let (status, shown) = watch::channel(Status::default());
        let waiting = tokio::spawn(async move { until_asked_or_past(&stop, Some(3), shown).await });
        for step in 1..=3 {
            status.send_replace(Status { step, ..Status::default() });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished(), "step {step}");
        }
        status.send_replace(Status { step: 4, ..Status::default() });
        waiting.await.unwrap();
    }
}
