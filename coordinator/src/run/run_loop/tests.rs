use std::path::Path;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_model::Network;
use convoy_proto::v1;
use convoy_reduce::{Flat, ParameterState, Scales};
use convoy_scheduler::{
    Failure, GoneReason, JobId, LeaseId, LeaseRef, Node, NodeResult, Opening, Owner, OwnersVersion, RunGeneration,
    RunPlan,
};

use super::*;
use crate::fixtures::{FakeLinks, RunEnds, permit, plan, run_handle};
use crate::queue::{QueueSender, queue};
use crate::run::checkpoint_writer::CheckpointWriter;
use crate::run::folder::events::Events;
use crate::run::folder::history::History;
use crate::run::members::RunMembers;
use crate::run::reduction::reducer_queue::Command;
use crate::run::run_log::RunLog;
use crate::run::tracker::Tracker;

/// A loop, and what stands around it in a run.
struct Bench {
    run_loop: RunLoop,
    links: Arc<FakeLinks>,
    inputs: QueueSender<RunInput>,
    news: mpsc::UnboundedSender<News>,
    status: watch::Receiver<Status>,
    ends: RunEnds,
}

/// One epoch of one step of one shard, without validation.
fn bench(folder: &Path) -> Bench {
    bench_of(folder, RunPlan::new(1, 1, 1, 1))
}

/// One epoch of steps of one shard, without validation.
fn bench_of(folder: &Path, run_plan: RunPlan) -> Bench {
    let samples = 8 * run_plan.steps_per_epoch as u32;
    let plan = plan("[train]\nepochs = 1\nbatch = 8\nshard = 8", samples, 0);
    let network = Arc::new(Network::of(&plan).unwrap());
    let (journal, _) = JournalFile::open(&folder.join("journal")).unwrap();
    let (handle, ends) = run_handle(&plan, 1, folder);
    let (inputs, input_receiver) = queue(16);
    let (news, news_receiver) = mpsc::unbounded_channel();
    let links = Arc::new(FakeLinks::default());
    let writer = CheckpointWriter::start(folder.to_owned(), plan.clone(), network, journal.syncer(), inputs.clone());
    let log =
        RunLog::new(Tracker::new(plan.clone(), History::default()), Events::open(&folder.join("events"), None), folder);
    let members = RunMembers::new(links.clone(), JobId(1));
    let effects = EffectHandler::new(&handle, members, log, writer, Digest::default());
    let driver = Driver::new(Run::new(run_plan), journal, effects);
    let (status_sender, status) = watch::channel(Status::default());
    let run_loop = RunLoop::new(8, driver, input_receiver, news_receiver, status_sender);
    Bench { run_loop, links, inputs, news, status, ends }
}

fn join(worker: u32) -> Event {
    let (machine, name) = (worker.to_string(), worker.to_string());
    Event::WorkerJoined { worker: WorkerId(worker), machine, name, threads: 1 }
}

/// The news that `worker` computed the step's only node by its lease.
fn node_of(worker: u32, lease: u64, epoch: u32) -> News {
    let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(lease), epoch };
    node_at(worker, at, 0)
}

/// As [`node_of`], for the lease `at`, under a version of the owners.
fn node_at(worker: u32, at: LeaseRef, version: u64) -> News {
    let (worker, version, result) = (WorkerId(worker), OwnersVersion(version), NodeResult::Good);
    let event_after = Event::NodeDone { worker, at, shard_micros: 1, version, result, digest: None };
    News::Node { event_after, not_finite: None, permit: permit() }
}

#[test]
fn what_was_made_of_a_lost_workers_node_waits_until_the_node_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, .. } = bench(folder.path());
    let committed = |run_loop: &RunLoop| run_loop.scheduled().progress().committed.0;
    run_loop.event(join(1)).unwrap();
    let reason = GoneReason::Closed;
    run_loop.input(RunInput::Event(Event::WorkerGone { worker: WorkerId(1), reason })).unwrap();
    // The reducer had all bytes of the node before the worker was lost.
    run_loop.news(node_of(1, 0, 0)).unwrap();
    let sums = vec![8.0, 1.0, 8.0, 4.0];
    let opening = run_loop.effects().opening.expect("a step is open");
    run_loop.news(News::Reduced { opening, step: StepId(0), digest: Digest::default(), sums, norm: None }).unwrap();
    assert_eq!(committed(&run_loop), 0, "nobody may be credited with the node yet");
    run_loop.event(join(2)).unwrap();
    run_loop.news(node_of(2, 1, 1)).unwrap();
    assert_eq!(committed(&run_loop), 1);
    assert_eq!(run_loop.effects().log.tracker.history().rows.len(), 1, "an epoch without validation has its row");
}

/// Carries the run in the background, with the test as its reducer: it answers snapshots with `state`.
fn snapshots(ends: RunEnds, state: ParameterState) -> std::thread::JoinHandle<()> {
    let RunEnds { mut commands, .. } = ends;
    let state = Arc::new(state);
    std::thread::spawn(move || {
        while let Some(command) = commands.blocking_recv() {
            if let Command::Snapshot { reply } = command {
                _ = reply.send(state.clone());
            }
        }
    })
}

fn initial() -> ParameterState {
    let network = Network::of(&plan("[train]\nepochs = 1\nbatch = 8\nshard = 8", 8, 0)).unwrap();
    let moments = vec![Flat::zeros(network.parameters)];
    ParameterState { step: 0, flat: Flat::of(&network.initial(0)), moments }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_asked_to_stop_saves_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, inputs: _inputs, news: _news, status, ends } = bench(folder.path());
    let reducer = snapshots(ends, initial());
    let outcome = run_loop.run(async {}).await.unwrap();
    assert_eq!(outcome, Outcome::Stopped);
    assert_eq!(run_loop.checkpoint_failed(), None);
    assert_eq!(status.borrow().steps, 1, "it shows itself at the end");
    assert!(folder.path().join("step-00000000.safetensors").is_file());
    drop(run_loop);
    reducer.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_cannot_be_written_is_remembered_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, inputs: _inputs, news: _news, ends, .. } = bench(folder.path());
    // Without a reducer nobody hands the parameters out.
    drop(ends);
    let outcome = run_loop.run(async {}).await.unwrap();
    assert_eq!(outcome, Outcome::Unsaved { step: StepId(0) });
    assert!(run_loop.checkpoint_failed().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_reducer_that_ended_is_a_crash_before_it_is_a_checkpoint_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, inputs, news, ends, .. } = bench(folder.path());
    drop((ends, news));
    let failed = RunInput::CheckpointFailed { step: 0, reason: "its parameters never came".to_owned() };
    assert!(inputs.send(failed));
    let error = run_loop.run(std::future::pending()).await.unwrap_err();
    assert!(matches!(&error, RunError::Crashed(text) if text.contains("the reducer's thread ended")), "{error}");
    assert_eq!(run_loop.checkpoint_failed(), None);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_falls_silent_is_disconnected_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links, inputs, news: _news, status, ends: _ends } = bench(folder.path());
    let (outbox, mut messages) = WorkerOutbox::new(16);
    let [machine, name] = ["ox", "ox"].map(str::to_owned);
    assert!(inputs.send(RunInput::Attach { worker: WorkerId(1), machine, name, threads: 1, outbox }));
    let begun = Instant::now();
    let run = tokio::spawn(async move {
        _ = run_loop.run(std::future::pending()).await;
    });
    let first = messages.recv().await.unwrap().unwrap().message;
    assert!(
        matches!(&first, Some(Message::Committed(v1::Committed { step: 0, digest })) if digest.len() == 32),
        "it hears where the run is: {first:?}"
    );
    let lease = messages.recv().await.unwrap().unwrap().message;
    assert!(matches!(lease, Some(Message::Lease(_))), "{lease:?}");
    let mut asked = Vec::new();
    while asked.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        asked = links.asked();
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing happens");
    }
    assert!(asked[0].starts_with("disconnect worker 1: not heard of for"), "{asked:?}");
    assert!((1..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    tokio::time::sleep(STATUS_EVERY * 2).await;
    assert_eq!(status.borrow().workers, 0);
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_bytes_flow_is_not_silent() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links, inputs, news: _news, status: _status, ends: _ends } = bench(folder.path());
    let (outbox, _messages) = WorkerOutbox::new(16);
    let contact = outbox.contact().clone();
    let [machine, name] = ["ox", "ox"].map(str::to_owned);
    assert!(inputs.send(RunInput::Attach { worker: WorkerId(1), machine, name, threads: 1, outbox }));
    let run = tokio::spawn(async move {
        _ = run_loop.run(std::future::pending()).await;
    });
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1900)).await;
        contact.pushed();
    }
    assert!(links.asked().is_empty(), "it is a member");
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_however_much_waits_to_be_handled() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, inputs, news: _news, status: _status, ends } = bench(folder.path());
    drop(ends);
    for _ in 0..10_000 {
        assert!(inputs.send(RunInput::Event(Event::WorkerDraining { worker: WorkerId(1) })));
    }
    let mut still_waiting = false;
    let stop = async {
        still_waiting = tokio::time::timeout(Duration::ZERO, inputs.room()).await.is_err();
    };
    run_loop.run(stop).await.unwrap();
    assert!(still_waiting, "it was not asked before all of them were handled");
}

#[tokio::test(start_paused = true)]
async fn a_run_shows_itself_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, inputs, news: _news, mut status, ends: _ends } = bench(folder.path());
    let run = tokio::spawn(async move {
        _ = run_loop.run(std::future::pending()).await;
    });
    status.wait_for(|status| !status.waiting_for.is_empty()).await.unwrap();
    let (outbox, _messages) = WorkerOutbox::new(16);
    let [machine, name] = ["ox", "ox"].map(str::to_owned);
    assert!(inputs.send(RunInput::Attach { worker: WorkerId(1), machine, name, threads: 1, outbox }));
    let waiting = status.wait_for(|status| status.workers == 1).await.unwrap().waiting_for.clone();
    assert!(waiting.ends_with("(ox)"), "people know workers by name: {waiting}");
    run.abort();
}

#[test]
fn a_failed_lease_is_told_to_people_and_to_the_scheduler() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, .. } = bench(folder.path());
    let (worker, [machine, name]) = (WorkerId(1), ["ox", "ox"].map(str::to_owned));
    let (outbox, mut messages) = WorkerOutbox::new(16);
    run_loop.input(RunInput::Attach { worker, machine, name, threads: 1, outbox }).unwrap();
    let mut leases = || {
        let all = std::iter::from_fn(|| messages.try_recv().ok()?.ok()?.message);
        all.filter(|message| matches!(message, Message::Lease(_))).count()
    };
    assert_eq!(leases(), 1);
    let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(0), epoch: 0 };
    let (failure, reason) = (Failure::Internal, "out of memory".to_owned());
    run_loop.input(RunInput::LeaseFailed { worker, at, failure, reason }).unwrap();
    let held = run_loop.scheduled().progress().workers[0].leases;
    assert!(held == 0 || leases() == 1, "the lease that failed is over");
    let (cause, reason) = (convoy_proto::v1::DeclineCause::Data, "no disk".to_owned());
    run_loop.input(RunInput::Declined { worker: WorkerId(2), cause, reason }).unwrap();
    let events = std::fs::read_to_string(folder.path().join("events")).unwrap();
    assert!(events.contains("out of memory") && events.contains("no disk"), "{events}");
}

#[test]
fn the_shard_that_was_not_finite_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, .. } = bench(folder.path());
    run_loop.event(join(1)).unwrap();
    let News::Node { event_after, permit, .. } = node_of(1, 0, 0) else { unreachable!("it is a node") };
    run_loop.news(News::Node { event_after, not_finite: Some(0), permit }).unwrap();
    assert_eq!(run_loop.not_finite(), Some((StepId(0), 0)));
}

#[test]
fn what_was_made_for_an_earlier_opening_is_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, .. } = bench(folder.path());
    run_loop.event(join(1)).unwrap();
    let earlier = Opening(0);
    assert_ne!(Some(earlier), run_loop.effects().opening);
    let sums = vec![8.0, 1.0, 8.0, 4.0];
    let news = News::Reduced { opening: earlier, step: StepId(0), digest: Digest::default(), sums, norm: None };
    run_loop.news(news).unwrap();
    run_loop.news(node_of(1, 0, 0)).unwrap();
    assert_eq!(run_loop.scheduled().progress().committed, StepId(0));
}

/// A run in whose second step, the last one, workers 1 and 2 own one chunk each; worker 3 computes as well.
fn sliced(folder: &Path) -> Bench {
    let mut bench = bench_of(folder, RunPlan { chunks: 2, ..RunPlan::new(1, 2, 1, 1) });
    let run_loop = &mut bench.run_loop;
    let ids = |workers: &[u32]| workers.iter().copied().map(WorkerId).collect();
    for (worker, reached) in [(1, ids(&[2])), (2, ids(&[1])), (3, ids(&[1, 2]))] {
        run_loop.event(join(worker)).unwrap();
        run_loop.event(Event::WorkerReady { worker: WorkerId(worker), step: StepId(0) }).unwrap();
        run_loop.event(Event::PeersReached { worker: WorkerId(worker), reached }).unwrap();
    }
    run_loop.news(node_of(1, 0, 0)).unwrap();
    let made = reduced(run_loop, 0);
    run_loop.news(made).unwrap();
    let (version, of) = run_loop.scheduled().owners();
    assert_eq!((version, of), (OwnersVersion(1), &[1, 2].map(|worker| Owner::Worker(WorkerId(worker)))[..]));
    bench
}

/// The news that `step` is made.
fn reduced(run_loop: &mut RunLoop, step: u64) -> News {
    let opening = opening(run_loop);
    let sums = vec![8.0, 1.0, 8.0, 4.0];
    News::Reduced { opening, step: StepId(step), digest: Digest::default(), sums, norm: None }
}

fn opening(run_loop: &mut RunLoop) -> Opening {
    run_loop.effects().opening.expect("a step is open")
}

/// The news that the only node of the second step of [`sliced`] is with its owners, and the worker that computed it.
fn second_node(run_loop: &RunLoop, version: u64) -> (u32, News) {
    let computes = run_loop.scheduled().progress().workers.into_iter().find(|worker| worker.leases > 0);
    let worker = computes.expect("somebody does").worker.0;
    let at = LeaseRef { generation: RunGeneration(1), step: StepId(1), lease: LeaseId(1), epoch: 0 };
    (worker, node_at(worker, at, version))
}

/// All sums of an owner are there, under a version of the owners. The answer is how many steps are committed.
fn owner_reduced(run_loop: &mut RunLoop, worker: u32, version: u64) -> u64 {
    let (opening, version, worker) = (opening(run_loop), OwnersVersion(version), WorkerId(worker));
    run_loop.news(News::OwnerReduced { opening, version, worker }).unwrap();
    run_loop.scheduled().progress().committed.0
}

#[test]
fn a_step_waits_until_it_is_told_that_all_sums_of_its_owners_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, ends: _ends, .. } = sliced(folder.path());
    let (_, node) = second_node(&run_loop, 1);
    run_loop.news(node).unwrap();
    let made = reduced(&mut run_loop, 1);
    run_loop.news(made).unwrap();
    assert_eq!(owner_reduced(&mut run_loop, 1, 1), 1);
    assert_eq!(owner_reduced(&mut run_loop, 2, 0), 1, "that was about the owners before");
    assert_eq!(owner_reduced(&mut run_loop, 2, 1), 2);
}

#[test]
fn what_was_made_before_chunks_moved_waits_for_the_sums_of_their_new_owner() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, ends: _ends, .. } = sliced(folder.path());
    let (computes, _) = second_node(&run_loop, 1);
    let (stays, lost) = if computes == 1 { (1, 2) } else { (2, 1) };
    let made = reduced(&mut run_loop, 1);
    run_loop.news(made).unwrap();
    let (worker, reason) = (WorkerId(lost), GoneReason::Closed);
    run_loop.input(RunInput::Event(Event::WorkerGone { worker, reason })).unwrap();
    let (_, node) = second_node(&run_loop, 2);
    run_loop.news(node).unwrap();
    assert_eq!(run_loop.scheduled().progress().committed.0, 1, "the sums of one chunk were never compared");
    assert_eq!(owner_reduced(&mut run_loop, stays, 2), 2);
}

#[test]
fn a_contradiction_that_an_owner_has_found_counts_for_the_step_in_work_alone() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, ends: _ends, .. } = sliced(folder.path());
    let begun = opening(&mut run_loop);
    let mut contradicted = |owner: u32, opening_told: Opening| {
        let (node, workers) = (Node { first: 0, last: 1 }, vec![WorkerId(1), WorkerId(2)]);
        let input = RunInput::Contradicted { owner: WorkerId(owner), opening: opening_told, node, workers };
        run_loop.input(input).unwrap();
        opening(&mut run_loop)
    };
    assert_eq!(contradicted(3, begun), begun, "it owns nothing");
    assert_eq!(contradicted(1, Opening(begun.0 - 1)), begun, "that is over");
    assert_eq!(contradicted(1, begun), begun.next(), "the step begins anew");
    let told = std::fs::read_to_string(folder.path().join("events")).unwrap();
    assert_eq!(told.lines().filter(|line| line.contains("contradict")).count(), 1, "{told}");
}

#[test]
fn who_comes_while_a_step_is_in_work_is_told_of_its_owners_after_the_committed_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let Bench { mut run_loop, links: _links, ends: _ends, .. } = sliced(folder.path());
    let opening = opening(&mut run_loop);
    let scales = Scales { gradient: 0.5, statistics: 0.25 };
    run_loop.news(News::Scaled { opening: Opening(opening.0 - 1), scales }).unwrap();
    let mut told = |worker: u32| {
        let (outbox, mut messages) = WorkerOutbox::new(16);
        let [machine, name] = ["ox", "ox"].map(str::to_owned);
        run_loop.input(RunInput::Attach { worker: WorkerId(worker), machine, name, threads: 1, outbox }).unwrap();
        run_loop.news(News::Scaled { opening, scales }).unwrap();
        let all = std::iter::from_fn(|| messages.try_recv().ok()?.ok()?.message);
        let word = |message: Message| match message {
            Message::Committed(v1::Committed { step: 1, .. }) => "committed",
            Message::Owners(v1::Owners { version: 1, .. }) => "owners",
            Message::StepOpened(opened) if opened.opening == opening.0 => "opened",
            Message::Scales(scales) if scales.opening == opening.0 => "scales",
            other => panic!("{other:?}"),
        };
        all.map(word).collect::<Vec<_>>()
    };
    assert_eq!(told(4), ["committed", "owners", "opened", "scales"], "scales as they are known");
    assert_eq!(told(5)[..4], ["committed", "owners", "opened", "scales"], "scales that were known");
}
