use convoy_common::file_tree::{FileKind, FileTree, Files};
use convoy_common::manifest::Manifest;
use convoy_common::planner::{Planned, Planner};
use convoy_common::{Plan, Spec};
use tonic::Code;

use super::*;
use crate::disk_use::{DiskLimits, DiskUse};
use crate::fixtures::{FakeLinks, plan};
use crate::fleet::open_runs::OpenRuns;
use crate::fleet::waiting::WaitingReasons;
use crate::jobs::limits::JobLimits;
use crate::jobs::queue::{JobSurroundings, JobTerms};
use crate::jobs::record::{JobRecord, JobState};
use crate::jobs::store::JobStore;
use crate::queue::queue;
use crate::run::config::Carriage;
use crate::run::folder::run_dir_error::RunDirError;
use crate::store_error::StoreError;

#[test]
fn each_reason_has_its_status() {
    let text = || "why".to_owned();
    let too_much = LimitError::TooMuch { what: "train.batch", value: 2, limit: 1, remedy: "lower it", flag: "-b" };
    let table: Vec<(Code, JobError)> = vec![
        (Code::NotFound, JobError::Unknown(text())),
        (Code::FailedPrecondition, JobError::State { job: text(), state: JobState::Stopped, wanted: "paused" }),
        (Code::InvalidArgument, convoy_common::spec::parse("nonsense", &[]).expect_err("it is no spec").into()),
        (Code::InvalidArgument, too_much.into()),
        (Code::ResourceExhausted, LimitError::Full { kept: 1, most: 1 }.into()),
        (Code::InvalidArgument, Refusal::BadSpec(text()).into()),
        (Code::InvalidArgument, Refusal::BadData(text()).into()),
        (Code::NotFound, Refusal::Missing(text()).into()),
        (Code::PermissionDenied, Refusal::NotAllowed(text()).into()),
        (Code::FailedPrecondition, Refusal::Unreadable(text()).into()),
        (Code::FailedPrecondition, Refusal::DataChanged(text()).into()),
        (Code::FailedPrecondition, RunDirError::not_a_run(Path::new("x")).into()),
        (Code::FailedPrecondition, JobError::DataGoes("flowers".parse().expect("a name"))),
        (Code::Internal, StoreError::InUse(text()).into()),
    ];
    for (code, error) in table {
        let said = error.to_string();
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (code, said.as_str()));
    }
}

#[test]
fn a_reason_fits_into_the_header_that_it_travels_in() {
    let status = Status::from(JobError::Refused(Refusal::BadSpec("\u{fc}".repeat(1 << 20))));
    let response = status.clone().into_http::<tonic::body::Body>();
    let bytes: usize = response.headers().values().map(|value| value.len()).sum();
    assert!(bytes < 15 << 10, "{bytes}");
    assert!(status.message().ends_with("(cut)"));
    assert_eq!(short("as it is".to_owned()), "as it is");
}

/// Plans nothing, of no data.
#[derive(Debug)]
struct Nothing;

impl Planner for Nothing {
    fn plan(&self, _: &Arc<dyn FileTree>, _: Spec, _: &str) -> Result<Planned, Refusal> {
        Err(Refusal::BadSpec("nothing is planned".to_owned()))
    }

    fn unchanged(&self, _: &Arc<dyn FileTree>, _: Plan, _: Option<Manifest>) -> Result<Planned, Refusal> {
        Err(Refusal::DataChanged("nothing is planned".to_owned()))
    }
}

impl Files for Nothing {
    fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

impl FileTree for Nothing {
    fn kind(&self, _: &Path) -> std::io::Result<Option<FileKind>> {
        Ok(None)
    }

    fn entries(&self, _: &Path) -> std::io::Result<Vec<(PathBuf, FileKind)>> {
        Ok(Vec::new())
    }
}

/// The jobs of a coordinator in `folder`, of which the only one is paused.
fn one_paused_job(folder: &Path) -> Arc<Jobs> {
    let store = JobStore::open(&folder.join("jobs")).expect("a store");
    let id = store.next_id().expect("room");
    let record = JobRecord::new(id, &plan("", 40, 0), "anna (1)".to_owned());
    store.put(&JobRecord { state: JobState::Paused, ..record }).expect("room");
    let terms = JobTerms { planner: Arc::new(Nothing), limits: JobLimits::default(), carriage: Carriage::default() };
    let (fleet, _) = queue(16);
    let links = Arc::new(FakeLinks::default());
    let around = JobSurroundings {
        data: Arc::new(Nothing),
        fleet,
        waiting: WaitingReasons::default(),
        links,
        open_runs: OpenRuns::default(),
        disk: DiskUse::new(folder, DiskLimits::default()),
    };
    Arc::new(Jobs::open(folder, terms, around).expect("the jobs"))
}

/// Tasks of this test that have not ended.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until all tasks but those of before have ended.
async fn only(before: usize) {
    let gone = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("they end with their readers");
}

#[tokio::test]
async fn watches_and_logs_end_with_their_readers_though_nothing_happens() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = one_paused_job(folder.path());
    let before = tasks();
    let mut open = Vec::new();
    for _ in 0..1000 {
        let (sender, mut replies) = mpsc::channel(WAITING);
        tokio::spawn(watch(jobs.clone(), JobId(1), 0, sender));
        assert!(replies.recv().await.expect("the job as it is").is_ok());
        open.push(replies);
        let (sender, replies) = mpsc::channel(WAITING);
        tokio::spawn(logs(jobs.clone(), JobId(1), folder.path().join("log"), true, sender));
        drop(replies);
    }
    assert!(tasks() >= before + 1000, "they are watched");
    drop(open);
    only(before).await;
}

#[tokio::test]
async fn who_watches_is_told_what_happens_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = one_paused_job(folder.path());
    let (sender, mut replies) = mpsc::channel(WAITING);
    tokio::spawn(watch(jobs.clone(), JobId(1), 0, sender));
    let state = |reply: Option<Result<v1::WatchReply, Status>>| {
        let json = reply.expect("more").expect("no failure").json;
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["state"].as_str().map(str::to_owned)
    };
    assert_eq!(state(replies.recv().await).as_deref(), Some("paused"));
    jobs.resume(JobId(1)).expect("it goes on");
    assert_eq!(state(replies.recv().await).as_deref(), Some("queued"));
    jobs.around.waiting.set([(JobId(1), "workers".to_owned())].into());
    let told = replies.recv().await.expect("more").expect("no failure").json;
    assert!(told.contains("workers"), "{told}");
    jobs.stop(JobId(1)).expect("it ends");
    assert_eq!(state(replies.recv().await).as_deref(), Some("stopped"));
    assert!(replies.recv().await.is_none(), "nothing more happens to it");
}

#[tokio::test]
async fn who_follows_a_log_is_told_the_rest_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, path) = (one_paused_job(folder.path()), folder.path().join("log"));
    std::fs::write(&path, "one\n").unwrap();
    let (sender, mut replies) = mpsc::channel(WAITING);
    tokio::spawn(logs(jobs.clone(), JobId(1), path.clone(), true, sender));
    assert_eq!(replies.recv().await.expect("a line").expect("no failure").text, "one\n");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    jobs.stop(JobId(1)).expect("it ends");
    assert_eq!(replies.recv().await.expect("a line").expect("no failure").text, "two\n");
    assert!(replies.recv().await.is_none(), "the job is over");
}
