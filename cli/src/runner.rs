//! Running a coordinator, alone or with workers in the same process.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::Plan;
use convoy_common::file_tree::Files;
use convoy_coordinator::{ClusterConfig, Config, Ready, RunReport, Status, Summary, export, serve, serve_cluster};
use convoy_proto::channel::Link;
use convoy_worker::RunData;
use tokio::sync::{mpsc, watch};

use crate::device::Device;
use crate::error::CliError;
use crate::progress::{duration, show_run};
use crate::signals::Stop;
use crate::{job, logging, out};

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
    run(ready, bind("127.0.0.1:0", false)?, Some(carry), 0, json)
}

/// Runs `ready` with workers in this process, which read `files`, until step `last` is committed, and shows progress.
///
/// # Errors
/// When the run does not get there; above all when a step has another digest than before.
pub fn replay(ready: Ready, files: Arc<dyn Files>, carry: &Carry, last: u64) -> Result<(), CliError> {
    let listener = bind("127.0.0.1:0", false)?;
    let way = Way { files, carry: Some(carry), audit_every: 0, last: Some(last) };
    let (report, _) = block_on_run(ready, listener, &way)?;
    match report.steps > last {
        true => Ok(()),
        false => Err(CliError::Answer { code: 5, message: format!("stopped after {} steps", report.steps) }),
    }
}

/// Runs `ready` for workers that come to `listener` from elsewhere; one in `audit_every` shards is computed twice.
///
/// # Errors
/// When the run does not end as planned.
pub fn coordinate(ready: Ready, audit_every: u32, listener: TcpListener, json: bool) -> Result<ExitCode, CliError> {
    run(ready, listener, None, audit_every, json)
}

fn run(
    ready: Ready,
    listener: TcpListener,
    carry: Option<&Carry>,
    audit_every: u32,
    json: bool,
) -> Result<ExitCode, CliError> {
    let path = ready.dir.path().to_owned();
    if let Err(source) = logging::to_file(&path.join("log")) {
        tracing::warn!(%source, "the run folder gets no log");
    }
    let (plan, network) = (ready.plan.clone(), ready.network.clone());
    let (report, stop) = block_on_run(ready, listener, &Way { files: job::disk(), carry, audit_every, last: None })?;
    let summary = export(&path, &plan, &network, &report)?;
    out::unless_closed(if json { out::json(&summary) } else { print(&summary, &plan) })?;
    Ok(ExitCode::from(if report.can_resume { stop.exit_code().max(5) } else { 0 }))
}

/// How a run is carried here.
struct Way<'a> {
    /// Where images are read.
    files: Arc<dyn Files>,
    /// Workers in this process, if there shall be some.
    carry: Option<&'a Carry>,
    /// One in so many shards is computed twice; 0 for none. Workers of one process are one machine.
    audit_every: u32,
    /// A step after which it stops.
    last: Option<u64>,
}

fn block_on_run(ready: Ready, listener: TcpListener, way: &Way<'_>) -> Result<(RunReport, Stop), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sockets")
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { path: "tokio".into(), source })?;
    let done = runtime.block_on(async {
        let stop = Stop::listen("finishing the step and saving; press Ctrl-C again to leave at once")
            .map_err(|source| CliError::Io { path: "signals".into(), source })?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|source| CliError::Io { path: "socket".into(), source })?;
        let report = with_workers(ready, listener, way, &stop).await?;
        Ok::<_, CliError>((report, stop))
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(done)
}

/// Serves jobs for workers and commands that come to `listener`, until it is asked to stop.
///
/// # Errors
/// When the folder cannot be used.
pub fn serve_jobs(config: ClusterConfig, listener: TcpListener) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sockets")
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { path: "tokio".into(), source })?;
    let stop = runtime.block_on(async {
        let stop = Stop::listen("runs finish their step and save; press Ctrl-C again to leave at once")
            .map_err(|source| CliError::Io { path: "signals".into(), source })?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|source| CliError::Io { path: "socket".into(), source })?;
        let address = listener.local_addr().map_err(|source| CliError::Io { path: "socket".into(), source })?;
        out::note(format_args!("listening on {address}; jobs are kept in {}", config.state.display()));
        serve_cluster(config, listener, stop.asked()).await?;
        Ok::<_, CliError>(stop)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::from(stop.exit_code()))
}

async fn with_workers(
    ready: Ready,
    listener: tokio::net::TcpListener,
    way: &Way<'_>,
    stop: &Stop,
) -> Result<RunReport, CliError> {
    let address = listener.local_addr().map_err(|source| CliError::Io { path: "socket".into(), source })?;
    let (status, watched) = watch::channel(Status::default());
    let (listening, events) = mpsc::unbounded_channel();
    let mut reached = watched.clone();
    let progress = tokio::spawn(show_run(watched, events));
    let mut workers = tokio::task::JoinSet::new();
    match way.carry {
        None => out::note(format_args!(
            "listening on {address}; start workers with `convoy worker --coordinator {address}`"
        )),
        Some(carry) => {
            let data = Arc::new(RunData::open(&ready.plan, ready.manifest.clone(), way.files.clone())?);
            for number in 1..=carry.workers {
                let config = convoy_worker::Config {
                    link: watch::channel(Link::plain(address.to_string())).1,
                    name: format!("local-{number}"),
                    threads: carry.threads(),
                    device: carry.device.get()?,
                    data: Some(data.clone()),
                    cache: None,
                    sees: None,
                    log: None,
                    patience: Some(Duration::from_secs(10)),
                };
                workers.spawn(convoy_worker::run(config, std::future::pending()));
            }
        }
    }
    let config = Config {
        dir: Arc::new(ready.dir),
        plan: ready.plan,
        network: ready.network,
        manifest: Arc::new(ready.manifest),
        initial: ready.initial,
        audit_every: way.audit_every,
        files: way.files.clone(),
        listener: Some(listening),
        status,
    };
    let last_step = async {
        match way.last {
            Some(last) => _ = reached.wait_for(|status| status.step > last).await,
            None => std::future::pending().await,
        }
    };
    let stopped = async {
        tokio::select! {
            () = stop.asked() => {}
            () = last_step => {}
        }
    };
    let serving = serve(config, listener, stopped);
    tokio::pin!(serving);
    let report = loop {
        tokio::select! {
            report = &mut serving => break report?,
            Some(ended) = workers.join_next(), if !workers.is_empty() => {
                // A worker of this process that cannot work is a failure of this process.
                ended.map_err(|error| CliError::Crashed(error.to_string()))??;
            }
        }
    };
    // Whoever was between two connections when the run ended would look for the coordinator until its patience ends.
    let leaving = async { while workers.join_next().await.is_some() {} };
    _ = tokio::time::timeout(LEAVE, leaving).await;
    drop(workers);
    _ = progress.await;
    Ok(report)
}

/// Opens the socket; loopback only unless connections are `encrypted`.
///
/// # Errors
/// When the address is not allowed, or in use.
pub fn bind(listen: &str, encrypted: bool) -> Result<TcpListener, CliError> {
    let found = addresses(listen)?;
    if !encrypted && !found.iter().all(|address| address.ip().is_loopback()) {
        return Err(CliError::NotLoopback { address: listen.to_owned() });
    }
    let bound = TcpListener::bind(&found[..]).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| CliError::Listen { address: listen.to_owned(), source })
}

/// Whether `HOST:PORT` means this machine.
///
/// # Errors
/// When it means nothing.
pub fn is_loopback(address: &str) -> Result<bool, CliError> {
    Ok(addresses(address)?.iter().all(|address| address.ip().is_loopback()))
}

fn addresses(address: &str) -> Result<Vec<SocketAddr>, CliError> {
    let found: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| CliError::Usage(format!("`{address}` is no HOST:PORT: {error}")))?
        .collect();
    match found.is_empty() {
        true => Err(CliError::Usage(format!("`{address}` means no address"))),
        false => Ok(found),
    }
}

fn print(summary: &Summary<'_>, plan: &Plan) -> Result<(), CliError> {
    let report = summary.report;
    let mut text = format!("\n{} after {} steps, {}", report.outcome, report.steps, duration(report.seconds));
    if report.images_per_second > 0.0 {
        text.push_str(&format!(", {:.0} images/s", report.images_per_second));
    }
    if report.train_loss.is_finite() {
        text.push_str(&format!("\ntrain loss  {:.4}", report.train_loss));
    }
    for (name, value) in &report.validation {
        text.push_str(&format!("\n{name:<11} {value:.4}"));
    }
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
    out::line(text)
}
