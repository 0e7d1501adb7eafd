//! Who is connected, and which run each worker computes for: the exchange between workers, runs and the fleet. It
//! decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{WireError, v1};
use convoy_scheduler::{
    Event, Failure, FleetEvent, GoneReason, JobId, Opening, OwnersVersion, RunTime, StepId, WorkerId,
};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::time::Instant;
use tonic::Status;

use crate::access::caller::Caller;
use crate::fleet::peers::{Left, PeerPlace, PeerRow, Peers, PeersKnown};
use crate::queue::QueueSender;
use crate::run::handle::RunHandle;
use crate::run::outbox::WorkerOutbox;
use crate::run::run_inputs::RunInput;
use crate::run::worker_contact::WorkerContact;
use crate::run::worker_links::WorkerLinks;

/// Workers that an owner may say have brought one node.
const MOST_BRINGERS: usize = 1024;
/// How often workers say that they live.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// All connections and all open runs.
#[derive(Debug)]
pub(crate) struct Connections {
    runs: RwLock<BTreeMap<JobId, Arc<RunHandle>>>,
    workers: Mutex<BTreeMap<WorkerId, ConnectedWorker>>,
    next_worker: AtomicU32,
    /// Machines that were proven to compute wrongly, and what is said to them.
    evicted: Mutex<BTreeMap<String, String>>,
    fleet: QueueSender<FleetEvent>,
    /// The numerics class of all runs, where there is just one run.
    only: Option<String>,
    /// Who reaches whom.
    peers: Peers,
}

/// A worker that says hello.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) machine: String,
    pub(crate) name: String,
    /// 0 where it computes nothing.
    pub(crate) threads: u32,
    /// The classes that it computes, by number.
    pub(crate) numerics: Vec<u32>,
    /// Whose connection it is.
    pub(crate) caller: Caller,
    pub(crate) place: PeerPlace,
}

/// A connected worker.
#[derive(Debug)]
struct ConnectedWorker {
    machine: String,
    name: String,
    threads: u32,
    /// Whose connection this is; others may not speak for it.
    caller: Caller,
    outbox: WorkerOutbox,
    place: WorkerPlace,
    /// Where other workers find it.
    peer: PeerPlace,
    /// Whether it knows of its assignment.
    called: bool,
    draining: bool,
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerPlace {
    Free,
    /// It was told to go to a job and has not joined its run.
    Assigned(JobId),
    /// It is a member of the job's run.
    Member(JobId),
}

impl WorkerPlace {
    /// The job that the worker is at, or on its way to.
    fn job(self) -> Option<JobId> {
        match self {
            WorkerPlace::Free => None,
            WorkerPlace::Assigned(job) | WorkerPlace::Member(job) => Some(job),
        }
    }
}

/// A connected worker, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct WorkerRow {
    pub(crate) worker: u32,
    pub(crate) name: String,
    pub(crate) threads: u32,
    pub(crate) job: Option<u64>,
    pub(crate) draining: bool,
    /// Of members of a run: which others they reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peers: Option<PeerRow>,
}

impl Connections {
    /// No connections; `fleet` is told who comes and goes.
    pub(crate) fn new(fleet: QueueSender<FleetEvent>) -> Self {
        Connections {
            runs: RwLock::default(),
            workers: Mutex::default(),
            next_worker: AtomicU32::new(1),
            evicted: Mutex::default(),
            fleet,
            only: None,
            peers: Peers::default(),
        }
    }

    /// No connections, of workers for one run of the class `numerics`.
    pub(crate) fn of_one_run(fleet: QueueSender<FleetEvent>, numerics: &str) -> Self {
        Connections { only: Some(numerics.to_owned()), ..Connections::new(fleet) }
    }

    /// The numerics class of all that a worker can do here, if there is just one.
    pub(crate) fn only_numerics(&self) -> Option<&str> {
        self.only.as_deref()
    }

    /// Takes a worker in that says hello.
    pub(crate) fn connect(&self, newcomer: Newcomer, outbox: WorkerOutbox) -> WorkerId {
        let Newcomer { machine, name, threads, numerics, caller, place: peer } = newcomer;
        let worker = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let welcome = v1::Welcome { worker: worker.0, heartbeat_ms: HEARTBEAT.as_millis() as u32 };
        outbox.say(Message::Welcome(welcome));
        tracing::info!(%worker, name, threads, "connected");
        let place = WorkerPlace::Free;
        let connected =
            ConnectedWorker { machine, name, threads, caller, outbox, place, peer, called: false, draining: false };
        self.workers().insert(worker, connected);
        self.tell_fleet(FleetEvent::WorkerJoined { worker, numerics, computes: threads > 0 });
        worker
    }

    /// Why nobody on this machine is taken in; `None` when they are.
    pub(crate) fn evicted(&self, machine: &str) -> Option<String> {
        self.evicted.lock().get(machine).cloned()
    }

    /// Waits until `message` of `worker` has room at the fleet and at the run that it is for. A heartbeat needs none.
    pub(crate) async fn room(&self, worker: WorkerId, message: &v1::WorkerMessage) {
        if let Some(v1::worker_message::Message::Heartbeat(_)) = message.message {
            return;
        }
        self.fleet.room().await;
        let job = self.place_of(worker).and_then(WorkerPlace::job);
        if let Some(run) = job.and_then(|job| self.run(job)) {
            run.inputs.room().await;
        }
    }

    /// What a worker said on its control stream.
    pub(crate) fn heard(&self, worker: WorkerId, message: v1::WorkerMessage) -> Result<(), WireError> {
        use v1::worker_message::Message;
        match message.message.ok_or(WireError::Missing { field: "message" })? {
            Message::Hello(_) => {
                return Err(WireError::Invalid { field: "message", value: "a second hello".to_owned() });
            }
            // Whoever read it has noted when.
            Message::Heartbeat(_) => {}
            Message::Joined(joined) => self.joined(worker, joined),
            Message::Ready(ready) => {
                let event = Event::WorkerReady { worker, step: StepId(ready.step) };
                self.tell_run_of_member(worker, JobId(ready.job), RunInput::Event(event));
            }
            Message::Computed(computed) => {
                let at = computed.at.ok_or(WireError::Missing { field: "at" })?.into();
                let event = Event::NodeComputed { worker, at };
                self.tell_run_of_member(worker, JobId(computed.job), RunInput::Event(event));
            }
            Message::LeaseFailed(failed) => {
                let (job, failure) = (JobId(failed.job), Failure::try_from(failed.failure())?);
                let at = failed.at.ok_or(WireError::Missing { field: "at" })?.into();
                let input = RunInput::LeaseFailed { worker, at, failure, reason: told(&failed.reason) };
                self.tell_run_of_member(worker, job, input);
            }
            Message::Declined(declined) => self.declined(worker, &declined),
            Message::Draining(_) => self.draining(worker),
            Message::PeerReached(reached) => {
                let job = JobId(reached.job);
                let known = self.peers.reached(worker, reached);
                self.tell_reached(job, known);
            }
            Message::PeerLost(v1::PeerLost { job, worker: peer, version, reason }) => {
                let (peer, version) = (WorkerId(peer), OwnersVersion(version));
                tracing::info!(%worker, %peer, %version, reason = told(&reason), "does not get through to an owner");
                let event = Event::PeerLost { worker, peer, version };
                self.tell_run_of_member(worker, JobId(job), RunInput::Event(event));
                if !self.peers.lost(worker, peer) {
                    self.lose(worker);
                }
            }
            Message::PeersTake(takes) => self.peers_take(worker, takes),
            Message::NodeContradicted(v1::NodeContradicted { job, opening, node, workers }) => {
                let node = node.ok_or(WireError::Missing { field: "node" })?.try_into()?;
                if workers.len() > MOST_BRINGERS {
                    return Err(WireError::Invalid { field: "workers", value: format!("{} of them", workers.len()) });
                }
                let workers = workers.into_iter().map(WorkerId).collect();
                let input = RunInput::Contradicted { owner: worker, opening: Opening(opening), node, workers };
                self.tell_run_of_member(worker, JobId(job), input);
            }
            Message::WrongParameters(wrong) => self.wrong_parameters(worker, wrong)?,
            Message::Log(log) => self.keep_log(worker, JobId(log.job), &log.line),
        }
        Ok(())
    }

    /// Owners handed a worker wrong parameters.
    fn wrong_parameters(&self, worker: WorkerId, wrong: v1::WrongParameters) -> Result<(), WireError> {
        let v1::WrongParameters { job, step, workers } = wrong;
        if workers.len() > MOST_BRINGERS {
            return Err(WireError::Invalid { field: "workers", value: format!("{} of them", workers.len()) });
        }
        let owners = workers.into_iter().map(WorkerId).collect();
        self.tell_run_of_member(worker, JobId(job), RunInput::WrongParameters { worker, step: StepId(step), owners });
        Ok(())
    }

    /// Bytes flow between a worker and others.
    fn peers_take(&self, worker: WorkerId, takes: v1::PeersTake) {
        let workers = self.workers();
        let member = workers.get(&worker).filter(|member| member.place == WorkerPlace::Member(JobId(takes.job)));
        if let Some(contact) = member.map(|member| member.outbox.contact()) {
            if takes.nodes {
                contact.pushed();
            }
            if takes.parameters {
                contact.fetched();
            }
        }
    }

    /// `worker` is no member of a run any more.
    fn leave_peers(&self, worker: WorkerId) {
        let Left { job, deaf, known } = self.peers.leave(worker);
        self.tell_reached(job, known);
        deaf.into_iter().for_each(|deaf| self.lose(deaf));
    }

    /// Tells the run of a job whom its workers reach.
    fn tell_reached(&self, job: JobId, known: impl IntoIterator<Item = PeersKnown>) {
        for PeersKnown { worker, reached } in known {
            self.tell_run_of_member(worker, job, RunInput::Event(Event::PeersReached { worker, reached }));
        }
    }

    /// Keeps a line of a worker's log with its job.
    fn keep_log(&self, worker: WorkerId, job: JobId, line: &str) {
        let workers = self.workers();
        let Some(member) = workers.get(&worker).filter(|member| member.place == WorkerPlace::Member(job)) else {
            return;
        };
        let name = member.name.clone();
        drop(workers);
        if let Some(run) = self.run(job) {
            run.worker_logs.append(&name, line);
        }
    }

    fn joined(&self, worker: WorkerId, v1::Joined { job, generation, threads }: v1::Joined) {
        let job = JobId(job);
        let mut workers = self.workers();
        let assigned = |worker: &&mut ConnectedWorker| worker.place == WorkerPlace::Assigned(job);
        let Some(member) = workers.get_mut(&worker).filter(assigned) else { return };
        let Some(run) = self.run(job).filter(|run| run.generation.0 == generation) else { return };
        member.place = WorkerPlace::Member(job);
        let (machine, name, outbox) = (member.machine.clone(), member.name.clone(), member.outbox.clone());
        // Who computes nothing says so when it connects.
        let threads = threads.max(1).min(member.threads);
        let deaf = self.peers.join(worker, job, member.peer.clone(), outbox.clone());
        _ = run.tell(RunInput::Attach { worker, machine, name, threads, outbox });
        if member.peer.is_beside() {
            _ = run.tell(RunInput::Event(Event::WorkerBeside { worker }));
        }
        if member.draining {
            _ = run.tell(RunInput::Event(Event::WorkerDraining { worker }));
        }
        drop(workers);
        self.tell_reached(job, self.peers.known(worker));
        deaf.into_iter().for_each(|worker| self.lose(worker));
    }

    /// A worker that cannot do the job that it was sent to is free for others.
    fn declined(&self, worker: WorkerId, declined: &v1::Declined) {
        let job = JobId(declined.job);
        let reason = told(&declined.reason);
        if declined.cause() == v1::DeclineCause::Faulty {
            return self.faulty(worker, job, reason);
        }
        let mut workers = self.workers();
        let assigned = |worker: &&mut ConnectedWorker| worker.place == WorkerPlace::Assigned(job);
        let Some(state) = workers.get_mut(&worker).filter(assigned) else { return };
        (state.place, state.called) = (WorkerPlace::Free, false);
        drop(workers);
        self.tell_run(job, RunInput::Declined { worker, cause: declined.cause(), reason: reason.clone() });
        self.tell_fleet(FleetEvent::WorkerDeclined { worker, job, reason });
    }

    /// A machine whose memory does not hold what is put there counts as one that was proven to compute wrongly.
    fn faulty(&self, worker: WorkerId, job: JobId, reason: String) {
        let Some(name) = self.workers().get(&worker).map(|worker| worker.name.clone()) else { return };
        tracing::error!(%worker, name, reason, "its memory is bad; put out");
        self.tell_run(job, RunInput::Declined { worker, cause: v1::DeclineCause::Faulty, reason: reason.clone() });
        self.evict(&name, format!("`{name}` was put out: {reason}"));
        self.disconnect(worker, &reason);
    }

    fn draining(&self, worker: WorkerId) {
        let mut workers = self.workers();
        let Some(member) = workers.get_mut(&worker) else { return };
        member.draining = true;
        let place = member.place;
        drop(workers);
        self.tell_fleet(FleetEvent::WorkerDraining { worker });
        match place {
            WorkerPlace::Member(job) => self.tell_run(job, RunInput::Event(Event::WorkerDraining { worker })),
            WorkerPlace::Free | WorkerPlace::Assigned(_) => self.disconnect(worker, "drained"),
        }
    }

    /// Disconnects every worker whose caller is `unwanted`.
    pub(crate) fn disconnect_where(&self, unwanted: impl Fn(&Caller) -> bool, reason: &str) {
        let found: Vec<WorkerId> =
            self.workers().iter().filter(|(_, worker)| unwanted(&worker.caller)).map(|(id, _)| *id).collect();
        found.into_iter().for_each(|worker| self.disconnect(worker, reason));
    }

    /// Tells everybody that there is nothing more to do. `over`: whether they need not come back.
    pub(crate) fn disconnect_all(&self, over: bool, reason: &str) {
        let workers = std::mem::take(&mut *self.workers());
        for worker in workers.into_values() {
            worker.outbox.say(Message::Goodbye(v1::Goodbye { over, reason: reason.to_owned() }));
        }
    }

    /// Sends a free worker to a job, as soon as its run is open.
    pub(crate) fn assign(&self, worker: WorkerId, job: JobId) {
        if let Some(worker) = self.workers().get_mut(&worker) {
            worker.place = WorkerPlace::Assigned(job);
        }
        self.call(job);
    }

    /// Tells the workers of a job, once its run is open, to come.
    fn call(&self, job: JobId) {
        let Some(run) = self.run(job) else { return };
        let assigned = v1::Assigned { job: job.0, generation: run.generation.0 };
        let mut deaf = Vec::new();
        for (id, worker) in self.workers().iter_mut() {
            if worker.place == WorkerPlace::Assigned(job) && !std::mem::replace(&mut worker.called, true) {
                deaf.extend((!worker.outbox.say(Message::Assigned(assigned))).then_some(*id));
            }
        }
        deaf.into_iter().for_each(|worker| self.lose(worker));
    }

    /// Asks for a worker back; its run releases it at a step boundary.
    pub(crate) fn ask_back(&self, worker: WorkerId, job: JobId) {
        match self.place_of(worker) {
            Some(WorkerPlace::Member(at)) if at == job => {
                self.tell_run(job, RunInput::Event(Event::WorkerDraining { worker }));
            }
            Some(WorkerPlace::Assigned(at)) if at == job => self.release(worker, job, "wanted elsewhere"),
            _ => {}
        }
    }

    /// The open run of a job.
    pub(crate) fn run(&self, job: JobId) -> Option<Arc<RunHandle>> {
        self.runs.read().get(&job).cloned()
    }

    /// The run that `worker` may ask about in a call of its own: the one of the job that it is at, no other.
    pub(crate) fn run_for(&self, caller: &Caller, worker: u32, job: u64) -> Result<Arc<RunHandle>, Status> {
        let workers = self.workers();
        let connected =
            workers.get(&WorkerId(worker)).ok_or_else(|| Status::aborted("this worker is not connected"))?;
        if !connected.caller.is(caller) {
            return Err(Status::permission_denied(format!("worker {worker} belongs to another certificate")));
        }
        let at = connected.place.job() == Some(JobId(job));
        drop(workers);
        if !at {
            return Err(Status::aborted(format!("worker {worker} is not at job {job}")));
        }
        self.run(JobId(job)).ok_or_else(|| Status::aborted(format!("job {job} does not run")))
    }

    /// When `worker` was last in contact, to be noted there; `None` when it is not connected.
    pub(crate) fn contact(&self, worker: u32) -> Option<Arc<WorkerContact>> {
        self.workers().get(&WorkerId(worker)).map(|worker| worker.outbox.contact().clone())
    }

    /// When each worker was last heard of, in time since `begun`.
    pub(crate) fn heard_at(&self, begun: Instant) -> Vec<(WorkerId, RunTime)> {
        let heard = |(id, worker): (&WorkerId, &ConnectedWorker)| (*id, worker.outbox.contact().read(begun).heard);
        self.workers().iter().map(heard).collect()
    }

    /// All connected workers.
    pub(crate) fn rows(&self) -> Vec<WorkerRow> {
        let row = |(id, worker): (&WorkerId, &ConnectedWorker)| WorkerRow {
            worker: id.0,
            name: worker.name.clone(),
            threads: worker.threads,
            job: worker.place.job().map(|job| job.0),
            draining: worker.draining,
            peers: self.peers.row(*id),
        };
        self.workers().iter().map(row).collect()
    }

    /// The job whose run `worker` is a member of.
    fn run_of(&self, worker: WorkerId) -> Option<JobId> {
        match self.place_of(worker)? {
            WorkerPlace::Member(job) => Some(job),
            WorkerPlace::Free | WorkerPlace::Assigned(_) => None,
        }
    }

    fn place_of(&self, worker: WorkerId) -> Option<WorkerPlace> {
        self.workers().get(&worker).map(|worker| worker.place)
    }

    /// Tells the run that `worker` is a member of; what it says of another one is stale.
    fn tell_run_of_member(&self, worker: WorkerId, job: JobId, input: RunInput) {
        if self.run_of(worker) == Some(job) {
            self.tell_run(job, input);
        }
    }

    fn tell_run(&self, job: JobId, input: RunInput) {
        if let Some(run) = self.run(job) {
            // A run that ends takes no more news.
            _ = run.tell(input);
        }
    }

    fn tell_fleet(&self, event: FleetEvent) {
        // The fleet's loop ends last.
        _ = self.fleet.send(event);
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<WorkerId, ConnectedWorker>> {
        self.workers.lock()
    }
}

/// Characters of a worker's reason that are kept.
const REASON: usize = 4 << 10;

/// What a worker gives as its reason, without control characters and not longer than any reason is.
fn told(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON).collect()
}

impl WorkerLinks for Connections {
    fn open(&self, job: JobId, run: Arc<RunHandle>) {
        self.runs.write().insert(job, run);
        self.call(job);
    }

    fn close(&self, job: JobId, reason: &str) {
        if let Some(run) = self.runs.write().remove(&job) {
            // A node that a worker still sends is not waited for.
            run.leases.clear();
        }
        let at = [WorkerPlace::Assigned(job), WorkerPlace::Member(job)];
        let workers: Vec<WorkerId> =
            self.workers().iter().filter(|(_, worker)| at.contains(&worker.place)).map(|(id, _)| *id).collect();
        workers.into_iter().for_each(|worker| self.release(worker, job, reason));
    }

    fn release(&self, worker: WorkerId, job: JobId, reason: &str) {
        let mut workers = self.workers();
        let Some(member) = workers.get_mut(&worker) else { return };
        if ![WorkerPlace::Assigned(job), WorkerPlace::Member(job)].contains(&member.place) {
            return;
        }
        (member.place, member.called) = (WorkerPlace::Free, false);
        let draining = member.draining;
        let released = Message::Released(v1::Released { job: job.0, reason: reason.to_owned() });
        let said = draining || member.outbox.say(released);
        drop(workers);
        self.leave_peers(worker);
        match said {
            true if draining => self.disconnect(worker, reason),
            true => self.tell_fleet(FleetEvent::WorkerReleased { worker }),
            false => self.lose(worker),
        }
    }

    fn lose(&self, worker: WorkerId) {
        let Some(lost) = self.workers().remove(&worker) else { return };
        tracing::info!(%worker, name = lost.name, "disconnected");
        self.leave_peers(worker);
        if let WorkerPlace::Member(job) = lost.place {
            self.tell_run(job, RunInput::Event(Event::WorkerGone { worker, reason: GoneReason::Closed }));
        }
        self.tell_fleet(FleetEvent::WorkerGone { worker });
    }

    fn disconnect(&self, worker: WorkerId, reason: &str) {
        if let Some(connected) = self.workers().get(&worker) {
            connected.outbox.say(Message::Goodbye(v1::Goodbye { over: false, reason: reason.to_owned() }));
        }
        self.lose(worker);
    }

    fn evict(&self, machine: &str, reason: String) {
        self.evicted.lock().entry(machine.to_owned()).or_insert(reason);
    }
}

#[cfg(test)]
mod tests;
