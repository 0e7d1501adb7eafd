//! `convoy coordinator`: a queue of jobs, or one run, for workers in processes of their own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use convoy_common::memory;
use convoy_coordinator::{Carriage, ClusterConfig, DiskLimits, Exchange, JobLimits, RunDir, keep_private};
use convoy_planning::{Job, LocalPlanner, Looking};
use convoy_security::Secret;
use convoy_vision::LookCache;

use super::resume;
use super::train::{self, create};
use crate::address::bind;
use crate::error::CliError;
use crate::looking::LookArgs;
use crate::member::{Home, user_secret};
use crate::progress::counter;
use crate::{runner, time};

/// Coordinate: a queue of jobs with --state, or one run. Loopback only, unless `convoy cluster init` made the state
/// folder a cluster's; then everything is encrypted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy coordinator --state DIR\n  \
    convoy coordinator --state DIR --listen 0.0.0.0:7070\n  \
    convoy coordinator examples/fashion-mnist.toml --listen 127.0.0.1:7070\n  \
    convoy worker --coordinator 127.0.0.1:7070")]
pub struct CoordinatorArgs {
    /// One run: a spec (.toml) or a folder of images; or the folder of a run to go on with.
    #[arg(required_unless_present = "state")]
    job: Option<PathBuf>,
    /// Keep a queue of jobs in this folder, for `convoy submit`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["job", "overrides", "out", "json"])]
    state: Option<PathBuf>,
    /// A folder that workers see as well, for data whose path in a spec begins with `shared:`.
    #[arg(long, value_name = "DIR", requires = "state", conflicts_with = "job")]
    data: Option<PathBuf>,
    /// Override a key of the spec: key.path=value. May be repeated. For a run folder as with `convoy resume`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run folder; runs/NAME-N when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Percent of all shards that are computed a second time, by another worker, and compared: so a machine that
    /// computes wrongly is found and evicted. About as many percent of the sums that workers add are added a second
    /// time as well, by the coordinator. 0 for none; the first shard and the first sum of each worker are always among
    /// them otherwise.
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    audit: f64,
    /// Who adds the gradients of a step: `sliced` for the workers that all others reach (`convoy worker
    /// --peer-listen`), each for a part of them, so that more workers do not need a faster link, and for the
    /// coordinator where there are no such workers; `star` for the coordinator always. The parameters have the same
    /// bits.
    #[arg(long, value_enum, default_value_t = ExchangeArg::Sliced)]
    exchange: ExchangeArg,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    listen: String,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    disk: Disk,
    /// Memory for what others ask for, in MiB: pictures that are decoded to look at them and files that are read for
    /// it, what is pushed, replies that are not read yet. What does not fit waits, or is refused with the figures. Runs
    /// have memory of their own (--max-memory-mib).
    #[arg(long, conflicts_with = "job", default_value_t = 4096, value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(256..1 << 30))]
    memory_mib: u64,
    /// Life of the cluster's certificates: a number with s, m, h or d, at least 2s. Members and the coordinator renew
    /// theirs after two thirds of it, by themselves.
    #[arg(long, conflicts_with = "job", default_value = "1d", value_parser = certificate_life, value_name = "TIME")]
    certificate_life: Duration,
}

/// Who adds gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ExchangeArg {
    Star,
    Sliced,
}

/// The most that a submitted job may ask for. It is refused otherwise; jobs that are queued already stay.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on submitted jobs (with --state)")]
struct Limits {
    /// Elements of a network's parameters and buffers.
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().parameters)]
    max_parameters: u64,
    /// Samples of a step (train.batch).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().batch)]
    max_batch: u64,
    /// Height and width of the network's input, in pixels (prepare.size).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().image_side)]
    max_image_side: u64,
    /// Width and height of images that are decoded to look at them, in pixels (data.max_image_side).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().decoded_side)]
    max_decoded_side: u64,
    /// Shards of a step, or of an evaluation (samples / train.shard).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().shards)]
    max_shards: u64,
    /// Steps of a whole run (train.epochs * samples / train.batch).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().steps)]
    max_steps: u64,
    /// Checkpoints that are kept of a run (checkpoint.keep).
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().checkpoints)]
    max_checkpoints: u64,
    /// Memory that a run takes at the coordinator, as `convoy describe` estimates it.
    #[arg(long, conflicts_with = "job", value_name = "MIB", default_value_t = JobLimits::default().memory_mib)]
    max_memory_mib: u64,
    /// Jobs that are kept, those that are over included.
    #[arg(long, conflicts_with = "job", value_name = "N", default_value_t = JobLimits::default().jobs)]
    max_jobs: u64,
}

impl Limits {
    fn of_jobs(&self) -> JobLimits {
        JobLimits {
            parameters: self.max_parameters,
            batch: self.max_batch,
            image_side: self.max_image_side,
            decoded_side: self.max_decoded_side,
            shards: self.max_shards,
            steps: self.max_steps,
            checkpoints: self.max_checkpoints,
            memory_mib: self.max_memory_mib,
            jobs: self.max_jobs,
        }
    }
}

/// The most that data sets and jobs may take of the disk that the state folder is on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on the disk (with --state)")]
struct Disk {
    /// Data sets and jobs of everybody together; nine tenths of the disk when absent.
    #[arg(long, conflicts_with = "job", value_name = "GIB", value_parser = gib)]
    max_disk_gib: Option<u64>,
    /// Data sets and jobs of one member of the cluster; half of all when absent.
    #[arg(long, conflicts_with = "job", value_name = "GIB", value_parser = gib)]
    max_member_disk_gib: Option<u64>,
    /// What is left free, for jobs that run: nothing is taken in that would need it. A twentieth of the disk when
    /// absent, at most 1.
    #[arg(long, conflicts_with = "job", value_name = "GIB", value_parser = gib)]
    disk_reserve_gib: Option<u64>,
}

impl Disk {
    fn limits(&self) -> DiskLimits {
        DiskLimits { all: self.max_disk_gib, member: self.max_member_disk_gib, reserve: self.disk_reserve_gib }
    }
}

/// Bytes of so many GiB, a number that may have a fraction.
fn gib(text: &str) -> Result<u64, String> {
    let gib: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    match (0.0..=1e9).contains(&gib) {
        true => Ok((gib * f64::from(1 << 30)) as u64),
        false => Err("must be from 0 to 1e9".to_owned()),
    }
}

/// Life of certificates.
fn certificate_life(text: &str) -> Result<Duration, String> {
    let life = time::life(text)?;
    let allowed = Duration::from_secs(2)..=Duration::from_secs(365 * 24 * 3600);
    allowed.contains(&life).then_some(life).ok_or_else(|| "certificates live from 2s to 365d".to_owned())
}

/// From none to every shard.
fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    match (0.0..=100.0).contains(&percent) {
        true => Ok(percent),
        false => Err("must be from 0 to 100".to_owned()),
    }
}

/// One in how many shards that is; 0 for none.
fn one_in(percent: f64) -> u32 {
    if percent > 0.0 { (100.0 / percent).round().min(f64::from(u32::MAX)) as u32 } else { 0 }
}

/// How runs are carried.
fn carriage(audit: f64, exchange: ExchangeArg) -> Carriage {
    let exchange = match exchange {
        ExchangeArg::Star => Exchange::Star,
        ExchangeArg::Sliced => Exchange::Sliced,
    };
    Carriage { audit_every: one_in(audit), exchange }
}

/// Serves jobs, or one run, until it is over or asked to stop.
///
/// # Errors
/// When the address, the folder or the job cannot be used, or the run does not end as planned.
pub fn run(args: CoordinatorArgs) -> Result<ExitCode, CliError> {
    // First, as reading the data may take long.
    let encrypted = args.state.as_ref().is_some_and(|state| convoy_coordinator::is_cluster(state));
    let carriage = carriage(args.audit, args.exchange);
    let listener = bind(&args.listen, encrypted)?;
    if let Some(state) = args.state {
        keep_private();
        memory::bound(args.memory_mib << 20);
        let limits = args.limits.of_jobs();
        let looking = Looking { counters: counter, cache: Some(LookCache::in_folder(state.join("looks"))) };
        let config = ClusterConfig {
            state,
            shared: args.data,
            carriage,
            planner: Arc::new(LocalPlanner { looking }),
            limits,
            disk: args.disk.limits(),
            certificate_life: args.certificate_life,
            // A cluster knows its members.
            secret: if encrypted { Secret::random() } else { user_secret(&Home::folder())? },
        };
        return runner::serve_jobs(config, listener);
    }
    let job = args.job.ok_or_else(|| CliError::Usage("name a spec, a folder, or --state".to_owned()))?;
    if job.join("plan.json").is_file() {
        if args.out.is_some() {
            return Err(CliError::Usage("--out does not go with a run folder, in which the run goes on".to_owned()));
        }
        let ready = resume::ready(&job, &args.overrides, None, LookArgs::default())?;
        return runner::coordinate(ready, carriage, listener, args.json);
    }
    args.out.as_deref().map_or(Ok(()), RunDir::check_free)?;
    let (job, _) = Job::here(&job, &args.overrides, &LookArgs::default().looking())?;
    let dir = create(&job, args.out.as_deref())?;
    runner::coordinate(train::ready(job, dir), carriage, listener, args.json)
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;
    use crate::typed::{mistyped, typed};

    #[test]
    fn a_queue_or_one_run_is_served() {
        let queue: CoordinatorArgs = typed(&["--state", "s"]).unwrap();
        assert_eq!((queue.state, queue.job), (Some("s".into()), None));
        assert_eq!((queue.listen.as_str(), queue.certificate_life), ("127.0.0.1:7070", Duration::from_secs(86_400)));
        let run: CoordinatorArgs = typed(&["job.toml", "--listen", "127.0.0.1:0", "--set", "a=1"]).unwrap();
        assert_eq!((run.state, run.job), (None, Some("job.toml".into())));
        assert_eq!(mistyped::<CoordinatorArgs>(&[]), ErrorKind::MissingRequiredArgument);
        assert_eq!(mistyped::<CoordinatorArgs>(&["--data", "d"]), ErrorKind::MissingRequiredArgument);
        for more in [&["job.toml"][..], &["--out", "o"], &["--json"], &["--set", "a=1"]] {
            let words = [&["--state", "s"], more].concat();
            assert_eq!(mistyped::<CoordinatorArgs>(&words), ErrorKind::ArgumentConflict, "{words:?}");
        }
        for option in ["--max-batch", "--data"] {
            assert_eq!(mistyped::<CoordinatorArgs>(&["j", option, "1"]), ErrorKind::ArgumentConflict, "{option}");
        }
    }

    #[test]
    fn each_limit_has_its_option() {
        let limits =
            |words: &[&str]| typed::<CoordinatorArgs>(&[&["--state", "s"], words].concat()).unwrap().limits.of_jobs();
        let usual = JobLimits::default();
        assert_eq!(limits(&[]), usual);
        let table = [
            ("--max-parameters", JobLimits { parameters: 7, ..usual }),
            ("--max-batch", JobLimits { batch: 7, ..usual }),
            ("--max-image-side", JobLimits { image_side: 7, ..usual }),
            ("--max-decoded-side", JobLimits { decoded_side: 7, ..usual }),
            ("--max-shards", JobLimits { shards: 7, ..usual }),
            ("--max-steps", JobLimits { steps: 7, ..usual }),
            ("--max-checkpoints", JobLimits { checkpoints: 7, ..usual }),
            ("--max-memory-mib", JobLimits { memory_mib: 7, ..usual }),
            ("--max-jobs", JobLimits { jobs: 7, ..usual }),
        ];
        table.into_iter().for_each(|(option, expected)| assert_eq!(limits(&[option, "7"]), expected, "{option}"));
    }

    #[test]
    fn the_disk_is_bounded_by_three_numbers() {
        let limits =
            |words: &[&str]| typed::<CoordinatorArgs>(&[&["--state", "s"], words].concat()).unwrap().disk.limits();
        assert_eq!(limits(&[]), DiskLimits::default());
        let given = limits(&["--max-disk-gib", "4", "--max-member-disk-gib", "0.5", "--disk-reserve-gib", "0"]);
        assert_eq!(given, DiskLimits { all: Some(4 << 30), member: Some(1 << 29), reserve: Some(0) });
        assert!(["", "-1", "1e10", "NaN", "much"].iter().all(|text| gib(text).is_err()));
    }

    #[test]
    fn memory_has_a_bound() {
        let memory =
            |words: &[&str]| typed::<CoordinatorArgs>(&[&["--state", "s"], words].concat()).unwrap().memory_mib;
        assert_eq!([memory(&[]), memory(&["--memory-mib", "256"])], [4096, 256]);
        assert_eq!(mistyped::<CoordinatorArgs>(&["--state", "s", "--memory-mib", "1"]), ErrorKind::ValueValidation);
        assert_eq!(mistyped::<CoordinatorArgs>(&["j", "--memory-mib", "256"]), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn audits_are_a_share_of_all_shards() {
        let percents = ["0", "1", "2.5", "100", "1e-9"].map(|text| percent(text).map(one_in));
        assert_eq!(percents, [0, 100, 40, 1, u32::MAX].map(Ok));
        assert!(["-1", "100.1", "NaN", "all", ""].iter().all(|text| percent(text).is_err()));
    }

    #[test]
    fn certificates_live_from_two_seconds_to_a_year() {
        let read = |text| certificate_life(text).map(|life| life.as_secs());
        assert_eq!([read("2s"), read("1d"), read("365d")], [2, 86_400, 31_536_000].map(Ok));
        assert!(["1s", "366d", "day"].iter().all(|text| certificate_life(text).is_err()));
    }

    #[test]
    fn a_run_goes_on_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plan.json"), "{}").unwrap();
        let folder = dir.path().display().to_string();
        let error = run(typed(&[&folder, "--listen", "127.0.0.1:0", "--out", "o"]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("--out does not go with a run folder"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
