//! `convoy worker`: computes for a coordinator.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_proto::channel::Link;
use convoy_security::Token;
use convoy_worker::{Cache, Config, Ended};
use tokio::sync::watch;

use crate::device::Device;
use crate::error::CliError;
use crate::logging;
use crate::member::{self, JoinError, Signed};
use crate::runner::is_loopback;
use crate::signals::Stop;

/// Before a coordinator that is not there is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Compute for a coordinator, one job after the other. A coordinator on another machine wants a token.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy worker --coordinator 127.0.0.1:7070 --threads 4\n  \
    convoy worker --coordinator gpu-box.lan:7070 --token-file worker.token")]
pub struct Args {
    /// Address of the coordinator.
    #[arg(long, value_name = "HOST:PORT", env = "CONVOY_COORDINATOR")]
    coordinator: String,
    /// The file that holds a token with the role worker; - for standard input.
    #[arg(long, value_name = "FILE", env = "CONVOY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Shards computed at a time; when absent or 0 as many as the machine has cores, on a GPU one.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1024), env = "CONVOY_THREADS")]
    threads: Option<u32>,
    /// A name for people; host and process number when absent.
    #[arg(long)]
    name: Option<String>,
    /// Seconds for which an unreachable coordinator is tried again; without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
    /// A folder of this machine that holds data: data sets as NAME/..., and what specs call `shared:`. What is not there
    /// comes from the coordinator.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where files that come from the coordinator are kept; $XDG_CACHE_HOME/convoy when absent.
    #[arg(long, value_name = "DIR", env = "CONVOY_CACHE")]
    cache: Option<PathBuf>,
    /// How large the cache may become, in MiB.
    #[arg(long, default_value_t = 10_240, value_name = "MIB")]
    cache_mib: u64,
    #[command(flatten)]
    device: Device,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let device = args.device.get()?;
    args.device.announce()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let token = args.token_file.as_deref().map(member::read_token).transpose()?;
    if token.is_none() && !is_loopback(&args.coordinator)? {
        return Err(CliError::NotMember { address: args.coordinator });
    }
    let folder = args.cache.unwrap_or_else(cache_folder);
    let cache = Cache::open(&folder, args.cache_mib.saturating_mul(1 << 20));
    let cache = Arc::new(cache.map_err(|source| CliError::Io { path: folder, source })?);
    let name = args.name.unwrap_or_else(own_name);
    let patience = args.patience.map(Duration::from_secs);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sockets")
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { path: "tokio".into(), source })?;
    let (ended, stop) = runtime.block_on(async {
        let stop = Stop::listen("finishing what this worker holds; press Ctrl-C again to leave at once")
            .map_err(|source| CliError::Io { path: "signals".into(), source })?;
        let link = tokio::select! {
            link = link(&args.coordinator, token, &name, patience) => link?,
            () = stop.asked() => return Ok((Ended::Drained, stop)),
        };
        let threads = args.threads.filter(|threads| *threads > 0);
        let threads = threads.map_or_else(|| args.device.threads(cores), |threads| threads as usize);
        let (cache, sees, log) = (Some(cache), args.data, Some(logging::collect()));
        let config = Config { link, name, threads, device, data: None, cache, sees, log, patience };
        let asked = stop.clone();
        let ended = convoy_worker::run(config, Box::pin(async move { asked.asked().await })).await?;
        Ok::<_, CliError>((ended, stop))
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::from(if ended == Ended::Drained { stop.exit_code() } else { 0 }))
}

/// How the coordinator is reached: plainly, or as a member that has joined with the token and renews its certificate.
async fn link(
    coordinator: &str,
    token: Option<Token>,
    name: &str,
    patience: Option<Duration>,
) -> Result<watch::Receiver<Link>, CliError> {
    let Some(token) = token else {
        return Ok(watch::channel(Link::plain(coordinator.to_owned())).1);
    };
    let begun = Instant::now();
    let Signed { identity, life, .. } = loop {
        match member::join(coordinator, &token, name).await {
            Ok(signed) => break signed,
            Err(JoinError::Fatal(error)) => return Err(error),
            Err(JoinError::Unreachable(reason)) => {
                if patience.is_some_and(|patience| begun.elapsed() + AGAIN > patience) {
                    return Err(CliError::Unreachable { address: coordinator.to_owned(), reason });
                }
                tracing::info!(reason, "no coordinator");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let cluster = Some((token.pin, Some(identity)));
    let (sender, link) = watch::channel(Link { address: coordinator.to_owned(), cluster });
    tokio::spawn(member::keep_fresh(sender, life));
    Ok(link)
}

fn cache_folder() -> PathBuf {
    let given = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || given("HOME").map(|home| home.join(".cache"));
    given("XDG_CACHE_HOME").or_else(home).unwrap_or_else(std::env::temp_dir).join("convoy")
}

fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", if host.trim().is_empty() { "worker" } else { host.trim() }, std::process::id())
}
