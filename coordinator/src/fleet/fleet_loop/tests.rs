use std::collections::VecDeque;

use convoy_proto::v1;
use convoy_scheduler::{JobRequest, WorkerId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;
use crate::access::caller::Caller;
use crate::fleet::connections::Newcomer;
use crate::fleet::peers::PeerPlace;
use crate::queue::{QueueSender, queue};
use crate::run::outbox::{WorkerInbox, WorkerOutbox};

const JOB: JobId = JobId(1);

/// The task of a run, which ends as the test says.
struct Run {
    job: JobId,
    stop: watch::Receiver<bool>,
    end: oneshot::Sender<Ended>,
}

/// A fleet at work, and what stands around it.
struct Bench {
    connections: Arc<Connections>,
    events: QueueSender<FleetEvent>,
    waiting: WaitingReasons,
    started: Arc<Mutex<VecDeque<Run>>>,
}

impl Bench {
    fn new() -> Self {
        let (events, receiver) = queue(16);
        let connections = Arc::new(Connections::new(events.clone()));
        let (waiting, started) = (WaitingReasons::default(), Arc::new(Mutex::new(VecDeque::new())));
        let starts = started.clone();
        let start = move |job, stop| {
            let (end, ended) = oneshot::channel();
            starts.lock().push_back(Run { job, stop, end });
            async move { ended.await.expect("the test ends it, or lets it crash") }
        };
        tokio::spawn(
            FleetLoop::new(connections.clone(), receiver, (waiting.clone(), OpenRuns::default()), start).run(),
        );
        Bench { connections, events, waiting, started }
    }

    fn add(&self, job: JobId) {
        let request = JobRequest { numerics: 1, ..JobRequest::default() };
        assert!(self.events.send(FleetEvent::JobAdded { job, request, started: false }), "the loop listens");
    }

    fn connect(&self, name: &str) -> (WorkerId, WorkerInbox) {
        let (outbox, messages) = WorkerOutbox::new(16);
        let (machine, name) = (Caller::Local.machine(name), name.to_owned());
        let (numerics, caller, place) = (vec![1], Caller::Local, PeerPlace::default());
        (self.connections.connect(Newcomer { machine, name, threads: 1, numerics, caller, place }, outbox), messages)
    }

    /// The next run that was started, as soon as it is.
    async fn started(&self) -> Run {
        loop {
            if let Some(run) = self.started.lock().pop_front() {
                return run;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lets the loop come to all that it was told.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn jobs(&self) -> Vec<Option<u64>> {
        self.connections.rows().iter().map(|row| row.job).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_starts_when_a_worker_is_there_which_is_sent_to_it() {
    let bench = Bench::new();
    bench.add(JOB);
    bench.settle().await;
    assert!(bench.started.lock().is_empty());
    assert!(bench.waiting.get(JOB).is_some(), "people are told what it waits for");
    let _worker = bench.connect("ox");
    let run = bench.started().await;
    bench.settle().await;
    assert_eq!((run.job, bench.jobs()), (JOB, vec![Some(JOB.0)]));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_falls_silent_is_disconnected_in_time() {
    let bench = Bench::new();
    let ((silent, _to_silent), (alive, _to_alive)) = (bench.connect("ox"), bench.connect("yak"));
    let begun = Instant::now();
    while bench.connections.rows().len() == 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.connections.contact(alive.0).expect("it is connected").heard();
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody was disconnected");
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "silence takes its time");
    let left: Vec<u32> = bench.connections.rows().iter().map(|row| row.worker).collect();
    assert_eq!(left, [alive.0], "{silent} is the silent one");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_makes_room_for_the_next_job() {
    let bench = Bench::new();
    let _worker = bench.connect("ox");
    bench.add(JOB);
    let first = bench.started().await;
    bench.add(JobId(2));
    bench.settle().await;
    assert!(bench.started.lock().is_empty() && bench.waiting.get(JobId(2)).is_some(), "there is one worker");
    first.end.send(Ended::Over).expect("it is carried");
    let second = bench.started().await;
    bench.settle().await;
    assert_eq!((second.job, bench.jobs()), (JobId(2), vec![Some(2)]));
    assert!(bench.waiting.get(JOB).is_none(), "a job that is over waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_task_crashes_is_over() {
    let bench = Bench::new();
    let _worker = bench.connect("ox");
    bench.add(JOB);
    drop(bench.started().await);
    bench.add(JobId(2));
    let second = bench.started().await;
    assert_eq!(second.job, JobId(2));
    second.end.send(Ended::Over).expect("it is carried");
    bench.settle().await;
    assert!(bench.started.lock().is_empty(), "the first does not start again");
}

#[tokio::test(start_paused = true)]
async fn a_paused_job_is_asked_to_stop_and_starts_again_when_it_goes_on() {
    let bench = Bench::new();
    let _worker = bench.connect("ox");
    bench.add(JOB);
    let mut run = bench.started().await;
    assert!(!*run.stop.borrow());
    assert!(bench.events.send(FleetEvent::JobPaused { job: JOB }), "the loop listens");
    run.stop.wait_for(|stop| *stop).await.expect("the loop lives");
    run.end.send(Ended::Suspended).expect("it is carried");
    bench.settle().await;
    assert!(bench.started.lock().is_empty());
    assert!(bench.events.send(FleetEvent::JobContinued { job: JOB }), "the loop listens");
    let again = bench.started().await;
    assert!(again.job == JOB && !*again.stop.borrow());
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_when_nobody_can_tell_it_anything() {
    let (events, receiver) = queue(16);
    let (unused, _) = queue(16);
    let connections = Arc::new(Connections::new(unused));
    let start = |_, _| async { Ended::Over };
    let fleet = tokio::spawn(FleetLoop::new(connections, receiver, Default::default(), start).run());
    drop(events);
    fleet.await.expect("it does not crash");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_declined_a_job_is_sent_there_again_after_a_pause() {
    let bench = Bench::new();
    let (worker, _messages) = bench.connect("ox");
    bench.add(JOB);
    let _run = bench.started().await;
    bench.settle().await;
    let reason = "needs 3.1 GiB".to_owned();
    let declined = v1::Declined { job: JOB.0, reason, cause: v1::DeclineCause::Memory.into() };
    let said = v1::WorkerMessage { message: Some(v1::worker_message::Message::Declined(declined)) };
    bench.connections.heard(worker, said).expect("it is a message");
    bench.settle().await;
    assert_eq!(bench.jobs(), [None]);
    let waiting = bench.waiting.get(JOB).expect("it waits");
    assert!(waiting.contains("needs 3.1 GiB"), "{waiting}");
    let begun = Instant::now();
    while bench.jobs() == [None] {
        bench.connections.contact(worker.0).expect("it is connected").heard();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "it is never asked again");
    }
    assert!(begun.elapsed() >= Duration::from_secs(4), "a pause takes its time");
}
