use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use convoy_common::durable::faults::{Fault, FaultPlan, Faults};
use convoy_common::file_tree::{FileKind, FileTree, Files};
use convoy_common::manifest::Manifest;
use convoy_common::planner::{Planned, Planner, Refusal};
use convoy_common::{Plan, Spec};
use convoy_scheduler::WorkerId;

use super::*;
use crate::disk_use::{DiskLimits, DiskUse};
use crate::fixtures::{manifest_of, plan};
use crate::fleet::open_runs::OpenRuns;
use crate::fleet::waiting::WaitingReasons;
use crate::jobs::limits::JobLimits;
use crate::jobs::queue::{JobSurroundings, JobTerms, JobView, Submission, keep_records};
use crate::jobs::record::JobRecord;
use crate::jobs::store::JobStore;
use crate::queue::queue;
use crate::run::config::Carriage;
use crate::run::folder::audit::{audit, read_ledger};
use crate::run::handle::RunHandle;
use crate::run::honest::{HonestLinks, Sabotage, SpoiledLinks};
use crate::run::worker_links::WorkerLinks;

const PATIENCE: Duration = Duration::from_secs(60);
const SPEC: &str = "[train]\nepochs = 2\nbatch = 8\nshard = 4\n\
                    [network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 2 }]";

/// Plans the same whatever is asked for.
#[derive(Debug)]
struct Same;

impl Planner for Same {
    fn plan(&self, _: &Arc<dyn FileTree>, _: Spec, _: &str) -> Result<Planned, Refusal> {
        let plan = Plan::clone(&plan(SPEC, 16, 4));
        Ok(Planned { plan, manifest: manifest_of(16, 4), init: None, taken: None })
    }

    fn unchanged(&self, _: &Arc<dyn FileTree>, plan: Plan, manifest: Option<Manifest>) -> Result<Planned, Refusal> {
        let manifest = manifest.unwrap_or_else(|| manifest_of(16, 4));
        Ok(Planned { plan, manifest, init: None, taken: None })
    }
}

impl Files for Same {
    fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

impl FileTree for Same {
    fn kind(&self, _: &Path) -> std::io::Result<Option<FileKind>> {
        Ok(None)
    }

    fn entries(&self, _: &Path) -> std::io::Result<Vec<(PathBuf, FileKind)>> {
        Ok(Vec::new())
    }
}

/// Connections that panic so many times when a run opens.
struct Panics(AtomicU32);

impl WorkerLinks for Panics {
    fn open(&self, job: JobId, run: Arc<RunHandle>) {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
            panic!("a defect of the test");
        }
        HonestLinks.open(job, run);
    }

    fn close(&self, _: JobId, _: &str) {}

    fn release(&self, _: WorkerId, _: JobId, _: &str) {}

    fn lose(&self, _: WorkerId) {}

    fn disconnect(&self, _: WorkerId, _: &str) {}

    fn evict(&self, _: &str, _: String) {}
}

/// A coordinator's jobs, of which one was submitted.
struct Bench {
    folder: tempfile::TempDir,
    jobs: Arc<Jobs>,
    stop: watch::Sender<bool>,
}

const JOB: JobId = JobId(1);

fn bench(panics: u32) -> Bench {
    bench_with(Arc::new(Panics(AtomicU32::new(panics))))
}

fn bench_with(links: Arc<dyn WorkerLinks>) -> Bench {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let terms = JobTerms { planner: Arc::new(Same), limits: JobLimits::default(), carriage: Carriage::default() };
    let around = JobSurroundings {
        data: Arc::new(Same),
        fleet: queue(16).0,
        waiting: WaitingReasons::default(),
        links,
        open_runs: OpenRuns::default(),
        disk: DiskUse::new(folder.path(), DiskLimits { reserve: Some(0), ..DiskLimits::default() }),
    };
    let jobs = Arc::new(Jobs::open(folder.path(), terms, around).unwrap());
    let wishes = Submission { priority: 0, min_workers: 1, max_workers: None, submitted_by: "anna".to_owned() };
    jobs.submit("[data]\ntrain = \"dataset:x\"\n[network]\nname = \"lenet5\"", wishes).unwrap();
    Bench { folder, jobs, stop: watch::Sender::new(false) }
}

impl Bench {
    fn fail(&self, point: u64, fault: Fault, lasting: bool) -> Arc<Faults> {
        Faults::in_folder(&self.folder.path().join("jobs"), Some(FaultPlan { point, fault, lasting }))
    }

    /// Carries the job in the background.
    fn carry(&self) -> tokio::task::JoinHandle<Ended> {
        tokio::spawn(self.jobs.clone().carry(JOB, self.stop.subscribe()))
    }

    /// Carries the job until it is over.
    async fn over(&self) -> JobView {
        self.ends(self.carry()).await;
        tokio::time::timeout(PATIENCE, self.jobs.close()).await.expect("a stop waits for ever");
        self.view()
    }

    async fn ends(&self, carried: tokio::task::JoinHandle<Ended>) -> Ended {
        tokio::time::timeout(PATIENCE, carried).await.expect("it does not end").unwrap()
    }

    fn view(&self) -> JobView {
        self.jobs.view(JOB).unwrap()
    }

    /// What the job waits for, as soon as it waits for its disk.
    async fn waits(&self) -> String {
        let waits = async {
            loop {
                if let Some(reason) = self.view().waiting_for {
                    return reason;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.expect("it does not wait")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_crashes_goes_on_from_its_last_checkpoint() {
    let JobView { record, .. } = bench(1).over().await;
    assert_eq!((record.state, record.error), (JobState::Completed, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_crashes_again_and_again_has_failed_and_a_stop_waits_for_nothing() {
    let JobView { record, .. } = bench(u32::MAX).over().await;
    assert_eq!(record.state, JobState::Failed);
    let error = record.error.unwrap();
    assert!(error.contains("a defect of the test") && error.contains("a defect of Convoy"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_once_fails_no_job() {
    for point in [9, 11, 15, 21, 27, 35] {
        let bench = bench(0);
        let faults = bench.fail(point, Fault::Eio, false);
        let JobView { record, .. } = bench.over().await;
        assert!(faults.struck(), "{point}");
        assert_eq!((record.state, record.error), (JobState::Completed, None), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_waits_for_room_wherever_the_disk_is_full_and_goes_on_by_itself() {
    for point in [1, 3, 5, 7, 9, 15, 21, 35, 61, 71] {
        let bench = bench(0);
        let faults = bench.fail(point, Fault::Full, true);
        let carried = bench.carry();
        let reason = bench.waits().await;
        assert!(reason.contains("the disk is full: ") && reason.contains("MiB free"), "{point}: {reason}");
        assert_eq!(bench.view().record.state, JobState::Running, "{point}");
        faults.heal();
        bench.ends(carried).await;
        let JobView { record, waiting_for, .. } = bench.view();
        assert_eq!((record.state, record.error, waiting_for), (JobState::Completed, None, None), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_on_a_full_disk_can_be_stopped() {
    for point in [1, 7, 21, 61] {
        let bench = bench(0);
        let faults = bench.fail(point, Fault::Full, true);
        let carried = bench.carry();
        bench.waits().await;
        tokio::time::timeout(PATIENCE, bench.jobs.close()).await.expect("a stop waits for ever");
        bench.ends(carried).await;
        assert_eq!(bench.view().record.state, JobState::Running, "{point}: it goes on when the coordinator does");
        faults.heal();
    }
}

/// Carries a job beside whom somebody spoils the reducer.
async fn spoiled(sabotage: Arc<Sabotage>) -> (Bench, JobView) {
    let bench = bench_with(Arc::new(SpoiledLinks(sabotage)));
    let view = bench.over().await;
    (bench, view)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reducer_that_panics_at_any_time_costs_nothing_that_was_committed() {
    let digest = |view: &JobView| view.record.result.as_ref().map(|result| result["parameters_digest"].clone());
    let undisturbed = digest(&bench(0).over().await).expect("it comes to its end");
    let mut places = 0;
    loop {
        let sabotage = Sabotage::new(places + 1, 1);
        let (bench, view) = spoiled(sabotage.clone()).await;
        let JobRecord { state, error, .. } = &view.record;
        assert_eq!((*state, error, digest(&view)), (JobState::Completed, &None, Some(undisturbed.clone())), "{places}");
        let (plan, manifest, records, damaged) = read_ledger(&bench.jobs.folder_of(JOB.0)).unwrap();
        let found = audit(&plan, Vec::new(), &manifest, &records, |_| {});
        assert!(found.exact && damaged.is_none(), "{places}: {:?}", found.problems);
        if !sabotage.is_over() {
            break;
        }
        places += 1;
    }
    assert!(places >= 12, "before and after each of the leases of four steps and two evaluations: {places}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reducer_that_always_panics_fails_the_job_and_says_what_it_is() {
    let (_bench, view) = spoiled(Sabotage::new(1, u64::MAX)).await;
    let error = view.record.error.unwrap();
    assert_eq!(view.record.state, JobState::Failed);
    assert!(error.contains("the reducer's thread ended") && error.contains("a defect of Convoy"), "{error}");
}

/// The job as a coordinator finds it that is started anew.
fn on_disk(bench: &Bench) -> JobRecord {
    JobStore::open(&bench.folder.path().join("jobs")).unwrap().all().unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_paused_and_stopped_on_a_full_disk_at_once_and_on_paper_when_there_is_room() {
    for (wished, after) in [(JobState::Pausing, JobState::Paused), (JobState::Stopping, JobState::Stopped)] {
        for fault in [Fault::Full, Fault::Eio] {
            for point in [1, 7, 21, 61] {
                let bench = bench(0);
                let faults = bench.fail(point, Fault::Full, true);
                let carried = bench.carry();
                bench.waits().await;
                // It takes over from the first one.
                let later = bench.fail(1, fault, true);
                drop(faults);
                let case = format!("{after} {fault:?} {point}");
                let wish = if after == JobState::Paused { bench.jobs.pause(JOB) } else { bench.jobs.stop(JOB) };
                let view = wish.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(view.record.state, wished, "{case}");
                let said = view.waiting_for.unwrap();
                assert!(said.contains(&format!("that it is {wished} is not on disk yet")), "{case}: {said}");
                // What the fleet does when it hears of it.
                bench.stop.send_replace(true);
                bench.ends(carried).await;
                assert_eq!(bench.view().record.state, after, "{case}");
                assert!(!matches!(on_disk(&bench).state, JobState::Paused | JobState::Stopped), "{case}");
                let refused = bench.jobs.resume(JOB).unwrap_err().to_string();
                assert!(refused.contains("check the disk"), "{case}: {refused}");
                let kept = tokio::spawn(keep_records(bench.jobs.clone()));
                later.heal();
                let written = async {
                    while bench.view().waiting_for.is_some() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                tokio::time::timeout(PATIENCE, written).await.expect("it is never written");
                kept.abort();
                assert_eq!(on_disk(&bench), bench.view().record, "{case}");
                assert_eq!(on_disk(&bench).state, after, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_before_there_is_room_goes_on_with_a_job_that_was_to_wait() {
    let bench = bench(0);
    let faults = bench.fail(1, Fault::Full, true);
    bench.jobs.pause(JOB).unwrap();
    assert_eq!(bench.view().record.state, JobState::Paused);
    bench.jobs.close().await;
    assert_eq!(on_disk(&bench).state, JobState::Queued);
    faults.heal();
    bench.jobs.close().await;
    assert_eq!(on_disk(&bench).state, JobState::Paused, "the last try of a coordinator that goes");
}
