//! `convoy worker`: computes for a coordinator, or adds what others compute.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use convoy_files::cache_folder;
use convoy_proto::channel::Link;
use convoy_proto::patience::Patience;
use convoy_proto::{MOST_PEER_ADDRESSES, is_peer_address};
use convoy_security::Token;
use convoy_worker::{Config, DiskCache, Ended, PeerConfig};
use tokio::sync::watch;

use crate::address::is_loopback;
use crate::device::Device;
use crate::error::CliError;
use crate::logging;
use crate::member::{self, JoinError, Signed};
use crate::runtime;

/// Compute for a coordinator, one job after the other. A coordinator on another machine wants a token.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy worker --coordinator 127.0.0.1:7070 --threads 4\n  \
    convoy worker --coordinator gpu-box.lan:7070 --token-file worker.token\n  \
    convoy worker --coordinator gpu-box.lan:7070 --token-file worker.token --peer-listen 0.0.0.0:7071\n  \
    convoy worker --coordinator gpu-box.lan:7070 --token-file worker.token --peer-listen 0.0.0.0:7071 --no-compute")]
pub struct WorkerArgs {
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
    /// A folder of this machine that holds data: data sets as NAME/..., and what specs call `shared:`. What is not
    /// there comes from the coordinator.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where files that come from the coordinator are kept; $XDG_CACHE_HOME/convoy when absent.
    #[arg(long, value_name = "DIR", env = "CONVOY_CACHE")]
    cache: Option<PathBuf>,
    /// How large the cache may become, in MiB.
    #[arg(long, default_value_t = 10_240, value_name = "MIB")]
    cache_mib: u64,
    /// How much memory this worker may take, in MiB; when absent, what the machine, its control groups and its limits
    /// leave. With less than a job needs on all threads it computes on fewer; a job that does not fit is declined.
    #[arg(long, value_name = "MIB", env = "CONVOY_MAX_MEMORY_MIB")]
    max_memory_mib: Option<u64>,
    /// Where this worker listens for other workers of its job, which prove to be those that the coordinator told it of.
    /// Without it none can connect to this one. `convoy workers` shows who reaches whom.
    #[arg(long, value_name = "ADDRESS:PORT", env = "CONVOY_PEER_LISTEN")]
    peer_listen: Option<SocketAddr>,
    /// How other workers reach it, if not at the address that the coordinator sees and the port of --peer-listen. May
    /// be given several times.
    #[arg(long, value_name = "HOST:PORT", requires = "peer_listen", value_parser = peer_address)]
    peer_address: Vec<String>,
    /// Compute nothing, and only add gradients for workers that reach it: they then send less, and no more than one
    /// gradient a step where there are as many such workers as others. It needs --peer-listen, and no data.
    #[arg(long, value_parser = FalseyValueParser::new(), env = "CONVOY_NO_COMPUTE")]
    no_compute: bool,
    #[command(flatten)]
    device: Device,
}

impl WorkerArgs {
    /// Shards computed at a time.
    ///
    /// # Errors
    /// When nothing is to be computed, and it is said with what, or not where others reach it. An environment may say
    /// that all is to be as ever, so this is no rule among options.
    fn threads(&self) -> Result<usize, CliError> {
        // 0 says as much as nothing: compose files hand it on where nobody has said anything.
        let said = self.threads.filter(|threads| *threads > 0);
        if !self.no_compute {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok(said.map_or_else(|| self.device.threads(cores), |threads| threads as usize));
        }
        let wrong = if said.is_some() {
            "--no-compute computes nothing; leave --threads out"
        } else if !self.device.is_default() {
            "--no-compute computes nothing; leave --device out"
        } else if self.peer_listen.is_none() {
            "--no-compute adds what other workers send; say with --peer-listen where they reach it"
        } else {
            return Ok(0);
        };
        Err(CliError::Usage(wrong.to_owned()))
    }
}

/// An address that other workers can be told.
fn peer_address(text: &str) -> Result<String, String> {
    match is_peer_address(text) {
        true => Ok(text.to_owned()),
        false => Err("it is no HOST:PORT (IPv6 in brackets: [::1]:7071)".to_owned()),
    }
}

/// Computes, or adds, until there is nothing more to do.
///
/// # Errors
/// When the coordinator cannot be reached or refuses, or the device is not there.
pub fn run(args: WorkerArgs) -> Result<ExitCode, CliError> {
    if args.peer_address.len() > MOST_PEER_ADDRESSES {
        return Err(CliError::Usage(format!("--peer-address may be given {MOST_PEER_ADDRESSES} times at most")));
    }
    let threads = args.threads()?;
    let device = args.device.get()?;
    args.device.announce()?;
    let token = args.token_file.as_deref().map(member::read_token).transpose()?;
    if token.is_none() && !is_loopback(&args.coordinator)? {
        return Err(CliError::NotMember { address: args.coordinator });
    }
    // Who computes nothing fetches no files.
    let folder = (threads > 0).then(|| args.cache.unwrap_or_else(cache_folder));
    let open = |folder: PathBuf| match DiskCache::open(&folder, args.cache_mib.saturating_mul(1 << 20)) {
        Ok(cache) => Ok(Arc::new(cache)),
        Err(source) => Err(CliError::Io { path: folder, source }),
    };
    let cache = folder.map(open).transpose()?;
    let name = args.name.unwrap_or_else(own_name);
    let patience = args.patience.map(Duration::from_secs);
    runtime::serve("finishing what this worker holds; press Ctrl-C again to leave at once", async |stop| {
        let link = tokio::select! {
            link = link(&args.coordinator, token, &name, patience) => link?,
            () = stop.asked() => return Ok(ExitCode::from(stop.exit_code())),
        };
        let (sees, log) = (args.data, Some(logging::collect()));
        let most_memory = args.max_memory_mib.map(|mib| mib.saturating_mul(1 << 20));
        let (data, declines) = (None, true);
        let peers = PeerConfig { listen: args.peer_listen, addresses: args.peer_address };
        let config =
            Config { link, name, threads, device, data, cache, sees, log, patience, most_memory, declines, peers };
        let asked = stop.clone();
        let ended = convoy_worker::run(config, Box::pin(async move { asked.asked().await })).await?;
        Ok(ExitCode::from(if ended == Ended::Drained { stop.exit_code() } else { 0 }))
    })
}

/// How the coordinator is reached: plainly, or as a member that has joined with the token and renews its certificate.
async fn link(
    coordinator: &str,
    token: Option<Token>,
    name: &str,
    patience: Option<Duration>,
) -> Result<watch::Receiver<Link>, CliError> {
    let Some(token) = token else {
        let secret = member::user_secret(&member::Home::folder())?;
        return Ok(watch::channel(Link::local(coordinator.to_owned(), secret)).1);
    };
    let mut patience = Patience::new(patience);
    let Signed { identity, life, .. } = loop {
        match member::join(coordinator, &token, name).await {
            Ok(signed) => break signed,
            Err(JoinError::Fatal(error)) => return Err(error),
            Err(JoinError::Unreachable(reason)) => {
                let Some(pause) = patience.pause() else {
                    return Err(CliError::Unreachable { address: coordinator.to_owned(), reason });
                };
                tracing::info!(reason, "no coordinator");
                tokio::time::sleep(pause).await;
            }
        }
    };
    let (sender, link) = watch::channel(Link::member(coordinator.to_owned(), token.pin, Some(identity)));
    tokio::spawn(member::keep_fresh(sender, life));
    Ok(link)
}

fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", if host.trim().is_empty() { "worker" } else { host.trim() }, std::process::id())
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;
    use crate::typed::{mistyped, typed};

    #[test]
    fn a_coordinator_is_enough() {
        let args: WorkerArgs = typed(&["--coordinator", "127.0.0.1:1"]).unwrap();
        assert_eq!((args.coordinator.as_str(), args.threads, args.patience), ("127.0.0.1:1", None, None));
        assert_eq!((args.name, args.data, args.cache_mib), (None, None, 10_240));
    }

    #[test]
    fn what_makes_no_sense_is_not_taken() {
        for (option, value) in [
            ("--threads", "1025"),
            ("--patience", "-1"),
            ("--cache-mib", "much"),
            ("--peer-listen", "7071"),
            ("--peer-listen", "ox:7071"),
        ] {
            let words = ["--coordinator", "127.0.0.1:1", option, value];
            let kind = mistyped::<WorkerArgs>(&words);
            assert!(matches!(kind, ErrorKind::ValueValidation | ErrorKind::UnknownArgument), "{words:?}: {kind:?}");
        }
    }

    #[test]
    fn other_workers_are_told_addresses_where_it_listens() {
        let words = ["--coordinator", "127.0.0.1:1", "--peer-listen", "0.0.0.0:7071"];
        let args: WorkerArgs =
            typed(&[&words[..], &["--peer-address", "ox.lan:9", "--peer-address", "[::1]:9"]].concat()).unwrap();
        assert_eq!(args.peer_listen, Some("0.0.0.0:7071".parse().unwrap()));
        assert_eq!(args.peer_address, ["ox.lan:9", "[::1]:9"]);
        for wrong in ["ox", "ox:0", ":7071", "ox:99999", "::1:7071"] {
            let kind = mistyped::<WorkerArgs>(&[&words[..], &["--peer-address", wrong]].concat());
            assert_eq!(kind, ErrorKind::ValueValidation, "{wrong}");
        }
        let deaf = mistyped::<WorkerArgs>(&["--coordinator", "127.0.0.1:1", "--peer-address", "ox:9"]);
        assert_eq!(deaf, ErrorKind::MissingRequiredArgument, "it does not listen");
    }

    #[test]
    fn who_computes_nothing_listens_and_says_nothing_of_threads_or_devices() {
        let words = ["--coordinator", "127.0.0.1:1", "--no-compute"];
        let deaf = typed::<WorkerArgs>(&words).unwrap().threads().unwrap_err();
        assert_eq!((deaf.exit_code(), deaf.to_string().contains("--peer-listen")), (2, true), "{deaf}");
        let with = |more: &[&str]| {
            let args: WorkerArgs = typed(&[&words[..], &["--peer-listen", "0.0.0.0:7071"], more].concat()).unwrap();
            args.threads()
        };
        assert!(matches!(with(&[]), Ok(0)) && matches!(with(&["--threads", "0"]), Ok(0)));
        let error = with(&["--threads", "2"]).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("--threads")), (2, true), "{error}");
        let all: WorkerArgs = typed(&[words[0], words[1], "--threads", "0"]).unwrap();
        assert!(all.threads().unwrap() > 0, "as many as there are cores");
    }

    #[test]
    fn a_coordinator_elsewhere_wants_a_token() {
        let args: WorkerArgs = typed(&["--coordinator", "192.0.2.1:7070"]).unwrap();
        let error = run(WorkerArgs { token_file: None, ..args }).unwrap_err();
        assert!(matches!(&error, CliError::NotMember { address } if address == "192.0.2.1:7070"), "{error}");
    }

    #[test]
    fn a_worker_has_a_name_of_its_own() {
        let name = own_name();
        assert!(name.ends_with(&format!("-{}", std::process::id())) && !name.contains(char::is_whitespace), "{name}");
    }

    #[tokio::test]
    async fn without_a_token_the_connection_is_plain() {
        let link = link("127.0.0.1:1", None, "w", None).await.unwrap();
        assert_eq!(link.borrow().address, "127.0.0.1:1");
        assert!(link.borrow().cluster.is_none());
    }
}
