//! The queue of jobs: changes that come at once, and room on the disk.

use std::sync::Barrier;
use std::sync::mpsc;
use std::thread;

use convoy_files::Disk;

use super::*;
use crate::disk_use::DiskLimits;
use crate::fixtures::{FakeLinks, manifest, plan};
use crate::queue::{QueueReceiver, queue};

/// Plans the same small network for every spec.
struct SamePlan;

impl Planner for SamePlan {
    fn plan(&self, _: &Arc<dyn FileTree>, spec: Spec, _: &str) -> Result<Planned, Refusal> {
        let text = format!("[checkpoint]\nkeep = {}", spec.checkpoint.keep);
        let mut plan = (*plan(&text, 40, 0)).clone();
        plan.spec.data.train = spec.data.train;
        Ok(Planned { plan, manifest: manifest(40), init: None, taken: None })
    }

    fn unchanged(&self, _: &Arc<dyn FileTree>, plan: Plan, known: Option<Manifest>) -> Result<Planned, Refusal> {
        Ok(Planned { plan, manifest: known.expect("it is whole"), init: None, taken: None })
    }
}

/// Jobs in a folder, and what the fleet is told of them.
struct Bench {
    folder: tempfile::TempDir,
    jobs: Arc<Jobs>,
    events: QueueReceiver<FleetEvent>,
    open_runs: OpenRuns,
}

const SPEC: &str = "[data]\ntrain = \"dataset:flowers\"\n[network]\nname = \"lenet5\"\n";

impl Bench {
    fn new(disk: DiskLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (fleet, events) = queue(1024);
        let open_runs = OpenRuns::default();
        let around = JobSurroundings {
            data: Arc::new(Disk),
            fleet,
            waiting: WaitingReasons::default(),
            links: Arc::new(FakeLinks::default()),
            open_runs: open_runs.clone(),
            disk: DiskUse::new(folder.path(), DiskLimits { reserve: Some(0), ..disk }),
        };
        let terms =
            JobTerms { planner: Arc::new(SamePlan), limits: JobLimits::default(), carriage: Carriage::default() };
        let jobs = Arc::new(Jobs::open(folder.path(), terms, around).unwrap());
        Bench { folder, jobs, events, open_runs }
    }

    fn submit(&self, keep: u32) -> Result<JobId, JobError> {
        let spec = format!("{SPEC}[checkpoint]\nkeep = {keep}\n");
        let (priority, min_workers, submitted_by) = (0, 1, "anna (1)".to_owned());
        let wishes = Submission { priority, min_workers, max_workers: None, submitted_by };
        self.jobs.submit(&spec, wishes).map(|view| view.record.id())
    }

    /// Whether the fleet has the job, after all that it was told.
    fn fleet_has(&mut self, job: JobId) -> bool {
        let mut has = false;
        while let Some(event) = self.events.try_recv() {
            match event {
                FleetEvent::JobAdded { job: added, .. } if added == job => has = true,
                FleetEvent::JobEnded { job: ended } if ended == job => has = false,
                _ => {}
            }
        }
        has
    }
}

fn at_once<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let a = scope.spawn(|| {
            barrier.wait();
            a()
        });
        barrier.wait();
        let b = b();
        (a.join().unwrap(), b)
    })
}

#[test]
fn a_job_is_removed_or_goes_on_and_never_both() {
    let mut bench = Bench::new(DiskLimits::default());
    for round in 0..100 {
        let id = bench.submit(1).unwrap();
        bench.jobs.stop(id).unwrap();
        let jobs = bench.jobs.clone();
        let (removed, resumed) = at_once(|| jobs.remove(id), || jobs.resume(id));
        let there = bench.jobs.folder_of(id.0).is_dir();
        assert_eq!((removed.is_ok(), resumed.is_ok()), (!there, there), "round {round}");
        assert_eq!((bench.jobs.view(id).is_some(), bench.fleet_has(id)), (there, there), "round {round}");
    }
    let left = std::fs::read_dir(bench.folder.path().join("jobs")).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn the_fleet_hears_of_changes_in_their_order() {
    let mut bench = Bench::new(DiskLimits::default());
    let id = bench.submit(1).unwrap();
    for round in 0..200 {
        let jobs = bench.jobs.clone();
        _ = at_once(|| jobs.stop(id), || jobs.resume(id));
        let over = bench.jobs.view(id).unwrap().record.state.is_over();
        // A fleet that was told nothing new has what it had.
        _ = bench.jobs.stop(id);
        assert!(!bench.fleet_has(id), "round {round}: the fleet has a job that was stopped ({over})");
        bench.jobs.resume(id).unwrap();
        assert!(bench.fleet_has(id), "round {round}");
    }
}

#[test]
fn a_job_starts_again_once_the_fleet_knows_of_its_end() {
    let bench = Bench::new(DiskLimits::default());
    let id = bench.submit(1).unwrap();
    bench.open_runs.begin(id);
    bench.jobs.note(id, |job| job.record.state = JobState::Failed);
    let (sender, done) = mpsc::channel();
    let jobs = bench.jobs.clone();
    let resuming = thread::spawn(move || sender.send(jobs.resume(id).unwrap().record.state));
    thread::yield_now();
    assert!(done.try_recv().is_err(), "its run is open still");
    assert_eq!(bench.jobs.view(id).unwrap().record.state, JobState::Failed);
    bench.open_runs.end(id);
    assert_eq!(done.recv().unwrap(), JobState::Queued);
    resuming.join().unwrap().unwrap();
}

#[test]
fn a_data_set_that_a_job_needs_is_not_removed() {
    let bench = Bench::new(DiskLimits::default());
    let flowers: DataName = "flowers".parse().unwrap();
    let claim = bench.jobs.claim_removal(&flowers).unwrap();
    assert!(matches!(bench.submit(1), Err(JobError::DataGoes(name)) if name == flowers));
    drop(claim);
    let id = bench.submit(1).unwrap();
    assert_eq!(bench.jobs.claim_removal(&flowers).err(), Some(format!("job-{}", id.0)));
    bench.jobs.stop(id).unwrap();
    assert!(bench.jobs.claim_removal(&flowers).is_ok());
}

#[test]
fn checkpoints_that_a_job_may_keep_count_on_the_disk() {
    let limits = DiskLimits { all: Some(100 << 20), member: Some(20 << 20), ..DiskLimits::default() };
    let bench = Bench::new(limits);
    let error = bench.submit(100).unwrap_err();
    assert!(matches!(&error, JobError::NoRoom(NoRoom::Member { .. })), "{error}");
    assert!(std::fs::read_dir(bench.folder.path().join("jobs")).unwrap().next().is_none(), "nothing was made");
    let mut ids = Vec::new();
    while let Ok(id) = bench.submit(1) {
        ids.push(id);
        assert!(ids.len() < 20, "there is no end");
    }
    bench.jobs.stop(ids[0]).unwrap();
    bench.jobs.remove(ids[0]).unwrap();
    bench.submit(1).unwrap();
}
