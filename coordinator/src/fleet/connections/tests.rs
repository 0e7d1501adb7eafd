use std::path::Path;

use convoy_proto::v1::worker_message::Message as Said;
use convoy_scheduler::{Check, Lease, LeaseId, LeaseRef, Node, RunGeneration, Work};
use convoy_security::Role;
use tokio::sync::mpsc;

use super::*;
use crate::fixtures::{RunEnds, plan, run_handle};
use crate::queue::{QueueReceiver, queue};
use crate::run::outbox::WorkerInbox;

const JOB: JobId = JobId(7);
const OTHER: JobId = JobId(8);

/// Connections, and what the fleet hears of them.
struct Bench {
    connections: Connections,
    fleet: QueueReceiver<FleetEvent>,
}

/// A worker's end of its connection.
struct Worker {
    id: WorkerId,
    messages: WorkerInbox,
}

impl Worker {
    /// What it was told since the last call.
    fn told(&mut self) -> Vec<Message> {
        let all = std::iter::from_fn(|| self.messages.try_recv().ok());
        all.filter_map(|message| message.expect("messages only").message).collect()
    }

    /// Whether its connection is closed, all messages apart.
    fn is_disconnected(&mut self) -> bool {
        loop {
            match self.messages.try_recv() {
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => return false,
                Err(mpsc::error::TryRecvError::Disconnected) => return true,
            }
        }
    }
}

fn member(id: u64) -> Caller {
    Caller::Member { id, name: format!("member {id}"), role: Role::Worker }
}

impl Bench {
    fn new() -> Self {
        let (sender, fleet) = queue(16);
        Bench { connections: Connections::new(sender), fleet }
    }

    fn connect_as(&self, name: &str, caller: Caller, room: usize) -> Worker {
        self.connect_at(name, caller, room, PeerPlace::default())
    }

    fn connect_at(&self, name: &str, caller: Caller, room: usize, place: PeerPlace) -> Worker {
        let (outbox, messages) = WorkerOutbox::new(room);
        let (machine, name, numerics) = (caller.machine(name), name.to_owned(), vec![1]);
        let newcomer = Newcomer { machine, name, threads: 2, numerics, caller, place };
        let id = self.connections.connect(newcomer, outbox);
        Worker { id, messages }
    }

    fn connect(&self, name: &str) -> Worker {
        self.connect_as(name, Caller::Local, 16)
    }

    /// A worker that has joined the run of `job`, and has read all that it was told.
    fn join(&self, name: &str, job: JobId) -> Worker {
        self.join_as(self.connect(name), job)
    }

    /// As [`Bench::join`], of a worker that listens for others.
    fn join_listening(&self, name: &str, job: JobId) -> Worker {
        let peer_addresses = vec![format!("{name}:7071")];
        let hello =
            v1::Hello { fingerprint: vec![1; 32].into(), peer_addresses, peer_port: 7071, ..Default::default() };
        let place = PeerPlace::of(&hello, None, false).expect("it is a place");
        self.join_as(self.connect_at(name, Caller::Local, 16, place), job)
    }

    fn join_as(&self, mut worker: Worker, job: JobId) -> Worker {
        self.connections.assign(worker.id, job);
        let generation = self.connections.run(job).expect("the run is open").generation.0;
        self.says(&worker, Said::Joined(v1::Joined { job: job.0, generation, threads: 1 }));
        worker.told();
        worker
    }

    fn says(&self, worker: &Worker, message: Said) {
        let message = v1::WorkerMessage { message: Some(message) };
        self.connections.heard(worker.id, message).expect("it is a message");
    }

    /// What the fleet heard since the last call, but for arrivals.
    fn fleet_heard(&mut self) -> Vec<FleetEvent> {
        let all = std::iter::from_fn(|| self.fleet.try_recv());
        all.filter(|event| !matches!(event, FleetEvent::WorkerJoined { .. })).collect()
    }

    /// Opens a run of `job` as the start `generation`.
    fn open(&self, job: JobId, generation: u64, folder: &Path) -> RunEnds {
        let (handle, ends) = run_handle(&plan("[train]\nbatch = 8\nshard = 8", 8, 0), generation, folder);
        self.connections.open(job, handle);
        ends
    }
}

/// What the run heard since the last call.
fn inputs(ends: &mut RunEnds) -> Vec<RunInput> {
    std::iter::from_fn(|| ends.inputs.try_recv()).collect()
}

/// Whom workers reach, as the run heard since the last call.
fn reached(ends: &mut RunEnds) -> Vec<(u32, Vec<u32>)> {
    let of = |input| match input {
        RunInput::Event(Event::PeersReached { worker, reached }) => {
            Some((worker.0, reached.into_iter().map(|peer| peer.0).collect()))
        }
        _ => None,
    };
    inputs(ends).into_iter().filter_map(of).collect()
}

#[test]
fn a_worker_is_welcomed_under_a_number_of_its_own() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (bench.connect("ox"), bench.connect("yak"));
    assert_ne!(one.id, two.id);
    for worker in [&mut one, &mut two] {
        assert!(matches!(worker.told()[..], [Message::Welcome(welcome)] if welcome.worker == worker.id.0));
    }
    let joined = |worker| FleetEvent::WorkerJoined { worker, numerics: vec![1], computes: true };
    assert_eq!(bench.fleet.try_recv(), Some(joined(one.id)));
    assert_eq!(bench.fleet.try_recv(), Some(joined(two.id)));
}

#[test]
fn two_connections_of_one_name_are_two_workers() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let (mut first, mut second) = (bench.join("ox", JOB), bench.join("ox", JOB));
    let joined: Vec<WorkerId> = inputs(&mut ends)
        .into_iter()
        .filter_map(|input| match input {
            RunInput::Attach { worker, name, .. } if name == "ox" => Some(worker),
            _ => None,
        })
        .collect();
    assert_eq!(joined, [first.id, second.id]);
    bench.connections.lose(first.id);
    assert!(first.is_disconnected() && !second.is_disconnected());
    assert_eq!(bench.fleet_heard(), [FleetEvent::WorkerGone { worker: first.id }]);
    bench.says(&second, Said::Ready(v1::Ready { job: JOB.0, step: 0 }));
    let heard = inputs(&mut ends);
    assert!(
        matches!(heard[..], [
            RunInput::Event(Event::WorkerGone { worker: lost, .. }),
            RunInput::Event(Event::WorkerReady { worker: alive, .. })
        ] if (lost, alive) == (first.id, second.id)),
        "{heard:?}"
    );
}

#[test]
fn a_heartbeat_is_no_event() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let worker = bench.join("ox", JOB);
    inputs(&mut ends);
    bench.fleet_heard();
    (0..1000).for_each(|_| bench.says(&worker, Said::Heartbeat(v1::Heartbeat {})));
    assert!(inputs(&mut ends).is_empty() && bench.fleet_heard().is_empty());
}

#[test]
fn a_lease_that_is_computed_is_told_to_the_run_of_its_worker() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let worker = bench.join("ox", JOB);
    inputs(&mut ends);
    let at = v1::LeaseRef { generation: 1, step: 4, lease: 7, epoch: 0 };
    for job in [OTHER, JOB] {
        bench.says(&worker, Said::Computed(v1::Computed { job: job.0, at: Some(at) }));
    }
    let heard = inputs(&mut ends);
    assert!(matches!(heard[..], [RunInput::Event(Event::NodeComputed { at, .. })] if at.lease.0 == 7), "{heard:?}");
}

#[test]
fn a_worker_is_lost_once() {
    let mut bench = Bench::new();
    let worker = bench.connect("ox");
    bench.connections.lose(worker.id);
    bench.connections.lose(worker.id);
    bench.connections.disconnect(worker.id, "too late");
    assert_eq!(bench.fleet_heard(), [FleetEvent::WorkerGone { worker: worker.id }]);
}

#[test]
fn a_worker_that_does_not_read_is_lost_when_there_is_something_to_say() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    // The welcome fills its queue.
    let mut deaf = bench.connect_as("ox", Caller::Local, 1);
    let mut reads = bench.connect("yak");
    reads.told();
    bench.connections.assign(deaf.id, JOB);
    bench.connections.assign(reads.id, JOB);
    assert!(bench.fleet_heard().is_empty(), "nothing was said yet");
    let _ends = bench.open(JOB, 1, folder.path());
    assert_eq!(bench.fleet_heard(), [FleetEvent::WorkerGone { worker: deaf.id }]);
    assert!(deaf.is_disconnected());
    assert!(matches!(reads.told()[..], [Message::Assigned(_)]), "others are not touched");
}

#[test]
fn workers_are_called_once_and_only_when_the_run_is_open() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut early = bench.connect("ox");
    early.told();
    bench.connections.assign(early.id, JOB);
    assert!(early.told().is_empty());
    let _ends = bench.open(JOB, 3, folder.path());
    assert!(matches!(early.told()[..], [Message::Assigned(v1::Assigned { job: 7, generation: 3 })]));
    let mut late = bench.connect("yak");
    late.told();
    bench.connections.assign(late.id, JOB);
    assert!(matches!(late.told()[..], [Message::Assigned(_)]));
    assert!(early.told().is_empty(), "it knows");
}

#[test]
fn only_who_was_assigned_joins_and_only_this_start_of_the_run() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 2, folder.path());
    let (assigned, free) = (bench.connect("ox"), bench.connect("yak"));
    bench.connections.assign(assigned.id, JOB);
    // It has memory for one of its two threads.
    let joined = |generation| Said::Joined(v1::Joined { job: JOB.0, generation, threads: 1 });
    bench.says(&free, joined(2));
    bench.says(&assigned, joined(1));
    assert!(inputs(&mut ends).is_empty());
    bench.says(&assigned, joined(2));
    bench.says(&assigned, joined(2));
    let heard = inputs(&mut ends);
    assert!(
        matches!(heard[..], [
            RunInput::Attach { worker, threads: 1, .. },
            RunInput::Event(Event::PeersReached { .. })
        ] if worker == assigned.id),
        "{heard:?}"
    );
}

#[test]
fn what_a_worker_says_of_a_run_it_is_not_a_member_of_is_stale() {
    let bench = Bench::new();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut ends, mut other_ends) = (bench.open(JOB, 1, folder.path()), bench.open(OTHER, 1, other.path()));
    let worker = bench.join("ox", JOB);
    inputs(&mut ends);
    let ready = |job: JobId| Said::Ready(v1::Ready { job: job.0, step: 4 });
    bench.says(&worker, ready(OTHER));
    let log = |job: JobId| Said::Log(v1::Log { job: job.0, line: "hello".to_owned() });
    bench.says(&worker, log(OTHER));
    bench.says(&worker, log(JOB));
    assert!(inputs(&mut other_ends).is_empty() && inputs(&mut ends).is_empty());
    assert!(!other.path().join("workers").exists() && folder.path().join("workers/ox.log").exists());
    bench.says(&worker, ready(JOB));
    let heard = inputs(&mut ends);
    assert!(matches!(heard[..], [RunInput::Event(Event::WorkerReady { step: StepId(4), .. })]), "{heard:?}");
}

#[test]
fn a_failed_lease_is_one_input_with_its_reason() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let worker = bench.join("ox", JOB);
    inputs(&mut ends);
    let at = Some(v1::LeaseRef { generation: 1, step: 2, lease: 3, epoch: 0 });
    let failure = v1::Failure::DataUnreadable.into();
    let reason = "the disk is gone".to_owned();
    bench.says(&worker, Said::LeaseFailed(v1::LeaseFailed { job: JOB.0, at, failure, reason }));
    let heard = inputs(&mut ends);
    let [RunInput::LeaseFailed { at, failure: Failure::DataUnreadable, reason, .. }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!((at.step, &**reason), (StepId(2), "the disk is gone"));
}

#[test]
fn a_worker_that_declines_is_free_and_its_reason_is_kept_short() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let mut worker = bench.connect("ox");
    let cause = v1::DeclineCause::Memory;
    let declined =
        |reason: &str| Said::Declined(v1::Declined { job: JOB.0, reason: reason.to_owned(), cause: cause.into() });
    bench.says(&worker, declined("too early"));
    assert!(inputs(&mut ends).is_empty() && bench.fleet_heard().is_empty(), "it was not sent there");
    bench.connections.assign(worker.id, JOB);
    worker.told();
    bench.says(&worker, declined(&format!("no\x1b memory{}", "!".repeat(10_000))));
    let reason = format!("no memory{}", "!".repeat(REASON - 9));
    assert_eq!(
        bench.fleet_heard(),
        [FleetEvent::WorkerDeclined { worker: worker.id, job: JOB, reason: reason.clone() }]
    );
    let heard = inputs(&mut ends);
    assert!(
        matches!(&heard[..], [RunInput::Declined { cause: v1::DeclineCause::Memory, reason: said, .. }] if *said == reason),
        "{heard:?}"
    );
    assert_eq!(bench.connections.rows()[0].job, None);
    bench.connections.assign(worker.id, JOB);
    assert!(matches!(&worker.told()[..], [Message::Assigned(_)]), "it may be sent there again");
}

#[test]
fn a_worker_with_bad_memory_is_put_out_and_not_taken_in_again() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let mut worker = bench.join("ox", JOB);
    inputs(&mut ends);
    let (reason, cause) = ("another digest twice".to_owned(), v1::DeclineCause::Faulty.into());
    bench.says(&worker, Said::Declined(v1::Declined { job: JOB.0, reason, cause }));
    assert!(matches!(inputs(&mut ends)[..], [RunInput::Declined { .. }, RunInput::Event(Event::WorkerGone { .. })]));
    assert_eq!(bench.fleet_heard(), [FleetEvent::WorkerGone { worker: worker.id }]);
    assert!(matches!(&worker.told()[..], [Message::Goodbye(_)]) && worker.is_disconnected());
    assert!(bench.connections.evicted("ox").is_some_and(|reason| reason.contains("another digest twice")));
}

#[test]
fn a_second_hello_and_an_empty_message_are_mistakes() {
    let bench = Bench::new();
    let worker = bench.connect("ox");
    let hello = v1::WorkerMessage { message: Some(Said::Hello(v1::Hello::default())) };
    assert!(bench.connections.heard(worker.id, hello).is_err());
    assert!(bench.connections.heard(worker.id, v1::WorkerMessage { message: None }).is_err());
}

#[test]
fn a_free_worker_that_drains_is_disconnected_and_a_member_finishes_first() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let (mut free, mut member) = (bench.connect("ox"), bench.join("yak", JOB));
    free.told();
    inputs(&mut ends);
    bench.says(&free, Said::Draining(v1::Draining {}));
    assert!(matches!(&free.told()[..], [Message::Goodbye(v1::Goodbye { over: false, .. })]));
    let heard = [FleetEvent::WorkerDraining { worker: free.id }, FleetEvent::WorkerGone { worker: free.id }];
    assert_eq!(bench.fleet_heard(), heard);
    bench.says(&member, Said::Draining(v1::Draining {}));
    assert!(member.told().is_empty(), "its run lets it go");
    assert!(matches!(inputs(&mut ends)[..], [RunInput::Event(Event::WorkerDraining { .. })]));
    bench.connections.release(member.id, JOB, "drained");
    assert!(matches!(&member.told()[..], [Message::Goodbye(goodbye)] if goodbye.reason == "drained"));
}

#[test]
fn a_worker_that_drained_before_it_joined_is_known_to_drain() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let worker = bench.connect("ox");
    bench.connections.assign(worker.id, JOB);
    bench.connections.workers().get_mut(&worker.id).unwrap().draining = true;
    bench.says(&worker, Said::Joined(v1::Joined { job: JOB.0, generation: 1, threads: 1 }));
    let heard = inputs(&mut ends);
    assert!(
        matches!(heard[..], [RunInput::Attach { .. }, RunInput::Event(Event::WorkerDraining { .. }), ..]),
        "{heard:?}"
    );
}

#[test]
fn all_workers_of_a_closed_run_are_free_and_no_others() {
    let mut bench = Bench::new();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _ends = (bench.open(JOB, 1, folder.path()), bench.open(OTHER, 1, other.path()));
    let (mut member, mut elsewhere) = (bench.join("ox", JOB), bench.join("yak", OTHER));
    let mut assigned = bench.connect("gnu");
    bench.connections.assign(assigned.id, JOB);
    assigned.told();
    let run = bench.connections.run(JOB).expect("it is open");
    let at = LeaseRef { generation: RunGeneration(1), step: StepId(4), lease: LeaseId(3), epoch: 0 };
    let lease = Lease { at, work: Work::Train, node: Node { first: 0, last: 1 } };
    run.leases.add(WorkerId(1), lease, Check::Count);
    bench.connections.close(JOB, "the run is over");
    assert!(!run.leases.is_out(at), "its node is not waited for");
    for worker in [&mut member, &mut assigned] {
        assert!(matches!(&worker.told()[..], [Message::Released(released)] if released.job == JOB.0));
    }
    assert!(elsewhere.told().is_empty());
    let released = |worker| FleetEvent::WorkerReleased { worker };
    assert_eq!(bench.fleet_heard(), [released(member.id), released(assigned.id)]);
    assert!(bench.connections.run(JOB).is_none() && bench.connections.run(OTHER).is_some());
    let jobs: Vec<Option<u64>> = bench.connections.rows().iter().map(|row| row.job).collect();
    assert_eq!(jobs, [None, Some(OTHER.0), None]);
}

#[test]
fn a_member_is_asked_back_through_its_run_and_others_at_once() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let member = bench.join("ox", JOB);
    let mut assigned = bench.connect("yak");
    bench.connections.assign(assigned.id, JOB);
    assigned.told();
    inputs(&mut ends);
    bench.connections.ask_back(member.id, OTHER);
    assert!(inputs(&mut ends).is_empty(), "it is at another job");
    bench.connections.ask_back(member.id, JOB);
    assert!(matches!(inputs(&mut ends)[..], [RunInput::Event(Event::WorkerDraining { .. })]));
    assert!(bench.fleet_heard().is_empty());
    bench.connections.ask_back(assigned.id, JOB);
    assert!(matches!(&assigned.told()[..], [Message::Released(_)]));
    assert_eq!(bench.fleet_heard(), [FleetEvent::WorkerReleased { worker: assigned.id }]);
}

#[test]
fn nobody_speaks_for_the_worker_of_another_certificate() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let _ends = bench.open(JOB, 1, folder.path());
    let worker = bench.connect_as("ox", member(1), 16);
    let code = |caller, worker: u32, job: JobId| {
        bench.connections.run_for(&caller, worker, job.0).err().map(|status| status.code())
    };
    let at = |job| bench.connections.assign(worker.id, job);
    assert_eq!(code(member(1), worker.id.0, JOB), Some(tonic::Code::Aborted), "it is at no job");
    at(OTHER);
    assert_eq!(code(member(1), worker.id.0, JOB), Some(tonic::Code::Aborted), "it is at another job");
    at(JOB);
    assert_eq!(code(member(1), worker.id.0, JOB), None);
    assert_eq!(code(member(2), worker.id.0, JOB), Some(tonic::Code::PermissionDenied));
    assert_eq!(code(Caller::Local, worker.id.0, JOB), Some(tonic::Code::PermissionDenied));
    assert_eq!(code(member(1), worker.id.0 + 1, JOB), Some(tonic::Code::Aborted));
    assert_eq!(code(member(1), worker.id.0, OTHER), Some(tonic::Code::Aborted));
}

#[test]
fn only_who_is_at_a_job_says_why_it_does_not_do_it() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let (stranger, worker) = (bench.connect("ox"), bench.connect("yak"));
    bench.connections.assign(worker.id, JOB);
    inputs(&mut ends);
    let declines = |worker: &Worker, reason: String| {
        bench.says(worker, Said::Declined(v1::Declined { job: JOB.0, reason, cause: v1::DeclineCause::Memory.into() }));
    };
    declines(&stranger, "\u{1b}]0;OWNED\u{7}".to_owned());
    assert_eq!(inputs(&mut ends).len(), 0, "it is at no job");
    declines(&worker, "\u{fc}".repeat(60_000));
    match &inputs(&mut ends)[..] {
        [RunInput::Declined { worker: said_by, reason, .. }] => {
            assert_eq!(*said_by, worker.id);
            assert_eq!(reason.chars().count(), REASON);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn unwanted_callers_are_disconnected_with_all_their_workers() {
    let mut bench = Bench::new();
    let mut workers = [1, 2, 1].map(|id| bench.connect_as("ox", member(id), 16));
    bench.connections.disconnect_where(|caller| *caller == member(1), "its certificate was revoked");
    let gone = workers.each_mut().map(Worker::is_disconnected);
    assert_eq!(gone, [true, false, true]);
    let left = |worker: &Worker| FleetEvent::WorkerGone { worker: worker.id };
    assert_eq!(bench.fleet_heard(), [left(&workers[0]), left(&workers[2])]);
}

#[test]
fn the_first_reason_of_an_eviction_is_told() {
    let bench = Bench::new();
    assert_eq!(bench.connections.evicted("ox"), None);
    bench.connections.evict("ox", "first".to_owned());
    bench.connections.evict("ox", "second".to_owned());
    assert_eq!(bench.connections.evicted("ox").as_deref(), Some("first"));
    assert_eq!(bench.connections.evicted("yak"), None);
}

#[test]
fn everybody_hears_the_end() {
    let bench = Bench::new();
    let mut workers = ["ox", "yak"].map(|name| bench.connect(name));
    bench.connections.disconnect_all(true, "the run is over");
    for worker in &mut workers {
        let told = worker.told();
        assert!(matches!(&told[..], [Message::Welcome(_), Message::Goodbye(goodbye)] if goodbye.over), "{told:?}");
        assert!(worker.is_disconnected());
    }
    assert!(bench.connections.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_read_no_further_while_its_run_or_the_fleet_is_behind() {
    let mut bench = Bench::new();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ends = bench.open(JOB, 1, folder.path());
    let mut other_ends = bench.open(OTHER, 1, other.path());
    let (worker, elsewhere) = (bench.join("ox", JOB), bench.join("yak", OTHER));
    let ready = v1::WorkerMessage { message: Some(Said::Ready(v1::Ready { job: JOB.0, step: 0 })) };
    let limit = std::time::Duration::from_secs(3600);
    let is_behind = async |bench: &Bench, worker: &Worker| {
        tokio::time::timeout(limit, bench.connections.room(worker.id, &ready)).await.is_err()
    };
    inputs(&mut ends);
    inputs(&mut other_ends);
    bench.fleet_heard();
    assert!(!is_behind(&bench, &worker).await);
    for _ in 0..16 {
        bench.says(&worker, Said::Ready(v1::Ready { job: JOB.0, step: 0 }));
    }
    assert!(is_behind(&bench, &worker).await && !is_behind(&bench, &elsewhere).await, "each run has its own queue");
    inputs(&mut ends);
    assert!(!is_behind(&bench, &worker).await);
    for _ in 0..16 {
        bench.says(&worker, Said::Draining(v1::Draining {}));
    }
    inputs(&mut ends);
    assert!(is_behind(&bench, &elsewhere).await, "all workers share the fleet");
    bench.fleet_heard();
    assert!(!is_behind(&bench, &worker).await);
}

#[test]
fn whom_workers_reach_is_told_to_their_run() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut ends = bench.open(JOB, 1, folder.path());
    let one = bench.join_listening("ox", JOB);
    let heard = inputs(&mut ends);
    assert!(
        matches!(&heard[..], [
            RunInput::Attach { .. },
            RunInput::Event(Event::PeersReached { worker, reached })
        ] if *worker == one.id && reached.is_empty()),
        "nobody else is there: {heard:?}"
    );
    let (two, three) = (bench.join_listening("yak", JOB), bench.join_listening("gnu", JOB));
    let says = |worker: &Worker, peer: &Worker, job: JobId| {
        bench
            .says(worker, Said::PeerReached(v1::PeerReached { job: job.0, worker: peer.id.0, problem: String::new() }));
    };
    says(&two, &one, OTHER);
    says(&two, &one, JOB);
    assert_eq!(reached(&mut ends), [], "whether it reaches the third is not known");
    says(&one, &two, JOB);
    assert_eq!(reached(&mut ends), [(one.id.0, vec![two.id.0])]);
    bench.connections.lose(three.id);
    assert_eq!(reached(&mut ends), [(two.id.0, vec![one.id.0])]);
}

#[test]
fn what_a_worker_finds_wrong_with_owners_and_nodes_is_told_to_its_run() {
    let bench = Bench::new();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut ends, mut other_ends) = (bench.open(JOB, 1, folder.path()), bench.open(OTHER, 1, other.path()));
    let worker = bench.join("ox", JOB);
    inputs(&mut ends);
    let node = v1::Node { first: 2, last: 4 };
    let contradicted = |job: JobId, node| v1::NodeContradicted { job: job.0, opening: 5, node, workers: vec![8, 9] };
    for job in [OTHER, JOB] {
        bench.says(&worker, Said::PeerLost(v1::PeerLost { job: job.0, worker: 9, version: 3, reason: String::new() }));
        bench.says(&worker, Said::NodeContradicted(contradicted(job, Some(node))));
    }
    assert_eq!(inputs(&mut other_ends).len(), 0, "it is no member there");
    let heard = inputs(&mut ends);
    let [
        RunInput::Event(Event::PeerLost { worker: loser, peer: WorkerId(9), version: OwnersVersion(3) }),
        RunInput::Contradicted { owner, opening: Opening(5), node: Node { first: 2, last: 4 }, workers },
    ] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!(([*loser, *owner], &workers[..]), ([worker.id; 2], &[WorkerId(8), WorkerId(9)][..]));
    for wrong in [None, Some(v1::Node { first: 4, last: 4 })] {
        let message = v1::WorkerMessage { message: Some(Said::NodeContradicted(contradicted(JOB, wrong))) };
        assert!(bench.connections.heard(worker.id, message).is_err(), "{wrong:?} is no node");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_flow_between_workers_are_contact() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let _ends = bench.open(JOB, 1, folder.path());
    let begun = Instant::now();
    let worker = bench.join("ox", JOB);
    let mut times = Vec::new();
    for (job, nodes, parameters) in [(OTHER, true, true), (JOB, true, false), (JOB, false, true)] {
        tokio::time::advance(Duration::from_secs(1)).await;
        bench.says(&worker, Said::PeersTake(v1::PeersTake { job: job.0, nodes, parameters }));
        let contact = bench.connections.contact(worker.id.0).expect("it is connected").read(begun);
        times.push((contact.pushed.0 / 1_000_000, contact.fetched.0 / 1_000_000));
    }
    assert_eq!(times, [(0, 0), (2, 0), (2, 3)]);
}
