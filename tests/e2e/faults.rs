//! Faults around a run: numbers, disks, damage, versions. Nothing saved is lost, and the error says what to do.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use convoy_faults::cluster::free_address;

use crate::errors::check;
use crate::job::{GOLDEN, Job, Process, convoy, local_link, report, wait_for};

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")));
    found.sort();
    found
}

fn coordinator(job: &Job, address: &str, run: &str) -> Command {
    let mut command = convoy();
    command.arg("coordinator").arg(job.spec()).arg("--json").arg("--listen").arg(address);
    command.arg("--out").arg(job.path(run)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn worker(address: &str) -> Process {
    let mut command = convoy();
    command.args(["worker", "--coordinator", address, "--threads", "1"]).stderr(Stdio::null());
    Process(command.spawn().expect("convoy starts"))
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_step_and_samples() {
    let job = Job::new();
    let (spec, run) = (job.spec().display().to_string(), job.path("run"));
    let out = run.display().to_string();
    let args = ["train", &spec, "--out", &out, "--set", "optimizer.lr=1e30", "--set", "checkpoint.every_steps=1"];
    check(&args, 1, &["NaN or infinite", "training of step", "train-images-idx3-ubyte", "optimizer.lr"]);
    assert!(!checkpoints(&run).is_empty(), "the last good checkpoint is kept");
    for file in checkpoints(&run) {
        let digest = convoy().arg("digest").arg(&file).output().expect("convoy starts");
        assert!(digest.status.success(), "{} can be read", file.display());
    }
}

#[test]
fn a_run_that_gets_no_better_stops_early_and_stays_stopped() {
    let job = Job::new();
    let stop = ["--set", "train.early_stopping={patience=2}", "--set", "optimizer.lr=1e-9", "--set", "train.epochs=9"];
    let report = job.train("run", &stop);
    assert_eq!((report["outcome"].as_str(), &report["steps"]), (Some("stopped early"), &15.into()));
    assert_eq!(report["best"]["step"], 5, "nothing was better than the first epoch");
    let again = job.resume("run");
    assert_eq!(again["parameters_digest"], report["parameters_digest"]);
    assert!(job.path("run/model-best/model.safetensors").is_file());
}

#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_on_a_full_disk_is_tried_again() {
    let job = Job::new();
    let address = free_address();
    let child = coordinator(&job, &address, "run").spawn().expect("convoy starts");
    let folder = job.path("run/checkpoints");
    // The plan is written last: before, hidden files in the folder are cleared away as left by a killed process.
    wait_for("the run's plan", || job.path("run/plan.json").is_file().then_some(()));
    // From step 10 on, checkpoints go to a device that is always full, the first time.
    for step in 10..=15 {
        let name = format!(".step-{step:08}.safetensors.{}.tmp", child.id());
        std::os::unix::fs::symlink("/dev/full", folder.join(name)).expect("the folder is writable");
    }
    let worker = worker(&address);
    let output = child.wait_with_output().expect("the coordinator ends");
    drop(worker);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("was not written: the disk is full: ") && stderr.contains("it is tried again"), "{stderr}");
    assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim());
}

#[cfg(unix)]
#[test]
fn a_journal_that_cannot_grow_ends_the_run_and_loses_nothing() {
    let job = Job::new();
    // Many steps and few parameters, so the journal reaches the limit before any other file does.
    let long = ["--set", "train.epochs=60", "--set", "train.shard=1", "--set", "checkpoint.every_steps=20"];
    let alone = job.train("alone", &long);
    let address = free_address();
    let command = coordinator(&job, &address, "run");
    let mut limited = Command::new("sh");
    // 64 blocks of 512 bytes. A write beyond them fails as on a full disk, once the signal is ignored.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]).arg(command.get_program());
    limited
        .args(command.get_args())
        .args(long)
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = limited.spawn().expect("sh starts");
    let worker = worker(&address);
    let output = child.wait_with_output().expect("the coordinator ends");
    drop(worker);
    let (journal, stderr) = (job.path("run/journal"), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let told =
        [journal.display().to_string().as_str(), "File too large", "convoy resume"].map(|said| stderr.contains(said));
    assert_eq!(told, [true; 3], "{stderr}");
    assert_eq!(fs::metadata(&journal).expect("a journal").len(), 32 << 10, "it is as long as it may be");
    let saved = checkpoints(&job.path("run")).pop().expect("a checkpoint");
    assert_eq!(job.resume("run")["parameters_digest"], alone["parameters_digest"]);
    let text = fs::read_to_string(&journal).expect("a journal");
    let started = text.lines().rfind(|line| line.contains("\"started\"")).expect("it was started again");
    let step = started.rsplit_once(':').expect("a number").1.trim_end_matches('}');
    let name = saved.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(name, format!("step-{:0>8}.safetensors", step), "it goes on from what was saved");
    let audit = report(&convoy().arg("audit").arg(job.path("run")).arg("--json").output().expect("convoy starts"));
    assert_eq!((&audit["exact"], &audit["starts"]), (&true.into(), &2.into()));
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn a_process_that_dies_at_an_act_on_its_disk_goes_on() {
    use std::os::unix::process::ExitStatusExt;
    let job = Job::new();
    let (run, spec) = (job.path("run"), job.spec().display().to_string());
    let out = run.display().to_string();
    // Some of the fail points; tests of the coordinator take them all.
    for point in (1..).step_by(17) {
        _ = fs::remove_dir_all(&run);
        let mut command = convoy();
        command.args(["train", &spec, "--json", "--out", &out]).env("CONVOY_FAULT", format!("crash@{point}"));
        let died = command.output().expect("convoy starts");
        if died.status.success() {
            assert!(point > 100, "only {point} points");
            break;
        }
        assert_eq!(died.status.signal(), Some(6), "{point}: {}", String::from_utf8_lossy(&died.stderr));
        let again = if run.join("plan.json").is_file() { job.resume("run") } else { job.train("run", &[]) };
        assert_eq!(again["parameters_digest"], GOLDEN.trim(), "{point}");
        let audit = report(&convoy().args(["audit", &out, "--json"]).output().expect("convoy starts"));
        assert_eq!(audit["exact"], true, "{point}");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_a_foreign_one_refused() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let run = job.path("run");
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let newest = checkpoints(&run).pop().expect("a checkpoint");
        let mut bytes = fs::read(&newest).expect("it can be read");
        change(&mut bytes);
        fs::write(&newest, bytes).expect("it can be written");
        newest.display().to_string()
    };
    let flipped = damage(&|bytes| *bytes.last_mut().expect("it is not empty") ^= 1);
    check(&["digest", &flipped], 1, &[&flipped, "damaged"]);
    assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim(), "an older one is used");
    let truncated = damage(&|bytes| bytes.truncate(bytes.len() / 2));
    check(&["digest", &truncated], 1, &[&truncated]);
    assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim());

    let other = ["--workers", "1", "--set", "optimizer.lr=0.1"];
    job.train("other", &other);
    for path in checkpoints(&run) {
        fs::remove_file(path).expect("it can be removed");
    }
    let foreign = checkpoints(&job.path("other")).pop().expect("a checkpoint");
    let name = foreign.file_name().expect("a name").to_string_lossy().into_owned();
    fs::copy(&foreign, run.join("checkpoints").join(&name)).expect("it can be copied");
    check(&["resume", &run.display().to_string()], 1, &[&name, "another plan"]);
}

#[test]
fn a_damaged_journal_is_mended_where_it_breaks() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let journal = job.path("run/journal");
    let whole = fs::read(&journal).expect("a journal");
    fs::write(&journal, &whole[..whole.len() - 7]).expect("it can be written");
    assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim(), "a torn last line is no harm");
    let mut flipped = fs::read(&journal).expect("a journal");
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    fs::write(&journal, flipped).expect("it can be written");
    assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim(), "a damaged line is passed over");
    assert_eq!(fs::read(job.path("run/journal.damaged")).expect("a copy")[middle], whole[middle] ^ 4);
    fs::remove_file(job.path("run/journal.damaged")).expect("it is there");
    assert_eq!(job.resume("run")["parameters_digest"], GOLDEN.trim());
    assert!(!job.path("run/journal.damaged").exists(), "the journal is whole again");
}

#[test]
fn data_that_changed_since_is_named() {
    let job = Job::new();
    job.train("run", &["--workers", "1"]);
    let images = job.path("data/train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).expect("a file");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    fs::write(&images, bytes).expect("the file is writable");
    let run = job.path("run").display().to_string();
    check(&["resume", &run], 1, &["train-images-idx3-ubyte", "changed since the run began"]);
}

#[test]
fn a_run_folder_that_cannot_be_written_and_a_port_in_use() {
    let job = Job::new();
    let spec = job.spec().display().to_string();
    let file = job.path("file");
    fs::write(&file, "").expect("the folder is writable");
    let inside = file.join("run").display().to_string();
    check(&["train", &spec, "--out", &inside], 1, &[&file.display().to_string()]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let out = job.path("run").display().to_string();
    check(&["coordinator", &spec, "--out", &out, "--listen", &address], 75, &[&address, "--listen"]);
}

#[tokio::test]
async fn a_worker_of_another_version_is_told_so() {
    let job = Job::new();
    let address = free_address();
    let child = Process(coordinator(&job, &address, "run").spawn().expect("convoy starts"));
    let mut client = loop {
        match local_link(&address).coordinator().await {
            Ok(client) => break client,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut hello = async |version: &str, numerics: &str| {
        let hello = convoy_proto::v1::Hello {
            version: version.to_owned(),
            name: "stranger".to_owned(),
            threads: 1,
            numerics: vec![numerics.to_owned()],
            process: String::new(),
            ..Default::default()
        };
        let message = Some(convoy_proto::v1::worker_message::Message::Hello(hello));
        client.control(tokio_stream::once(convoy_proto::v1::WorkerMessage { message })).await
    };
    let refused = hello("0.0.0", "cpu-f32-v1").await.expect_err("another version");
    assert!(refused.message().contains("0.0.0") && refused.message().contains("same version"), "{refused}");
    let refused = hello(convoy_proto::VERSION, "cuda-f32").await.expect_err("another class");
    assert!(refused.message().contains("cpu-f32-v1"), "{refused}");
    let refused = hello(convoy_proto::VERSION, "cuda-f32-v1/X").await.expect_err("a GPU's class, not the run's");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(["class `cpu-f32-v1`", "`cuda-f32-v1/X`"].iter().all(|name| refused.message().contains(name)), "{refused}");
    let refused = hello(convoy_proto::VERSION, "cpu-f32-direct-v1").await.expect_err("known, but not the run's");
    assert!(refused.message().contains("cpu-f32-direct-v1"), "{refused}");
    hello(convoy_proto::VERSION, "cpu-f32-v1").await.expect("a worker");
    drop(child);
}

#[test]
fn a_second_process_does_not_touch_a_run_in_work() {
    let job = Job::new();
    let address = free_address();
    let child = coordinator(&job, &address, "run").spawn().expect("convoy starts");
    wait_for("the run folder", || job.path("run/journal").is_file().then_some(()));
    check(&["resume", &job.path("run").display().to_string()], 75, &["run"]);
    let worker = worker(&address);
    let output = child.wait_with_output().expect("the coordinator ends");
    drop(worker);
    assert_eq!(report(&output)["parameters_digest"], GOLDEN.trim());
}
