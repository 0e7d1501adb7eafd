//! Who is connected, and which run each worker computes for: the exchange between workers, runs and the fleet. It
//! decides nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{WireError, v1};
use convoy_scheduler::{Event, Failure, FleetEvent, GoneReason, JobId, StepId, WorkerId};
use tokio::sync::mpsc;
use tonic::Status;

use crate::access::Caller;
use crate::inputs::Input;
use crate::service::{HEARTBEAT, Shared};
use crate::shell::WorkerOutbox;

/// All connections and all runs.
#[derive(Debug)]
pub(crate) struct Hub {
    runs: RwLock<BTreeMap<JobId, Arc<Shared>>>,
    members: Mutex<BTreeMap<WorkerId, Member>>,
    next_worker: AtomicU32,
    /// Names of machines that were proven to compute wrongly, and what is said to them.
    distrusted: Mutex<BTreeMap<String, String>>,
    fleet: mpsc::UnboundedSender<FleetEvent>,
    /// The numerics class of all runs, where there is just one run.
    only: Option<String>,
}

/// A connected worker.
#[derive(Debug)]
struct Member {
    name: String,
    threads: u32,
    /// Whose connection this is; others may not speak for it.
    caller: Caller,
    outbox: WorkerOutbox,
    place: Place,
    /// Whether it knows of its assignment.
    called: bool,
    draining: bool,
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    /// It was told to go to a job and has not joined its run.
    Assigned(JobId),
    /// It is a member of the job's run.
    Member(JobId),
}

/// A connected worker, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct WorkerRow {
    pub(crate) worker: u32,
    pub(crate) name: String,
    pub(crate) threads: u32,
    pub(crate) job: Option<u64>,
    pub(crate) draining: bool,
}

impl Hub {
    /// A hub that tells `fleet` who comes and goes.
    pub(crate) fn new(fleet: mpsc::UnboundedSender<FleetEvent>) -> Self {
        Hub {
            runs: RwLock::default(),
            members: Mutex::default(),
            next_worker: AtomicU32::new(1),
            distrusted: Mutex::default(),
            fleet,
            only: None,
        }
    }

    /// A hub for one run, of the class `numerics`.
    pub(crate) fn of_one_run(fleet: mpsc::UnboundedSender<FleetEvent>, numerics: &str) -> Self {
        Hub { only: Some(numerics.to_owned()), ..Hub::new(fleet) }
    }

    /// The numerics class of all that a worker can do here, if there is just one.
    pub(crate) fn only_numerics(&self) -> Option<&str> {
        self.only.as_deref()
    }

    /// Takes a worker in that says hello.
    pub(crate) fn connect(
        &self,
        name: String,
        threads: u32,
        numerics: Vec<u32>,
        caller: Caller,
        outbox: WorkerOutbox,
    ) -> WorkerId {
        let worker = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let welcome = v1::Welcome { worker: worker.0, heartbeat_ms: HEARTBEAT.as_millis() as u32 };
        say(&outbox, Message::Welcome(welcome));
        tracing::info!(%worker, name, threads, "connected");
        let member = Member { name, threads, caller, outbox, place: Place::Free, called: false, draining: false };
        self.members().insert(worker, member);
        self.tell(FleetEvent::WorkerJoined { worker, numerics });
        worker
    }

    /// Nobody of this name is taken in any more; the first reason is what they are told.
    pub(crate) fn distrust(&self, name: &str, reason: String) {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_insert(reason);
    }

    /// Why nobody of this name is taken in.
    pub(crate) fn distrusted(&self, name: &str) -> Option<String> {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// What a worker said on its control stream.
    pub(crate) fn heard(&self, worker: WorkerId, message: v1::WorkerMessage) -> Result<(), WireError> {
        use v1::worker_message::Message;
        match message.message.ok_or(WireError::Missing { field: "message" })? {
            Message::Hello(_) => {
                return Err(WireError::Invalid { field: "message", value: "a second hello".to_owned() });
            }
            Message::Heartbeat(_) => {
                self.tell(FleetEvent::Heartbeat { worker });
                if let Some(job) = self.job_of(worker) {
                    self.input(job, Input::Event(Event::Heartbeat { worker }));
                }
            }
            Message::Joined(joined) => self.joined(worker, JobId(joined.job), joined.generation),
            Message::Ready(ready) => {
                let event = Event::WorkerReady { worker, step: StepId(ready.step) };
                self.input_of(worker, JobId(ready.job), Input::Event(event));
            }
            Message::LeaseFailed(failed) => {
                let (job, failure) = (JobId(failed.job), Failure::try_from(failed.failure())?);
                let at = failed.at.ok_or(WireError::Missing { field: "at" })?.into();
                self.input_of(worker, job, Input::LeaseFailed { worker, reason: failed.reason });
                self.input_of(worker, job, Input::Event(Event::LeaseFailed { worker, at, failure }));
            }
            Message::Declined(declined) => {
                let input = Input::LeaseFailed { worker, reason: declined.reason };
                self.input(JobId(declined.job), input);
            }
            Message::Draining(_) => self.drains(worker),
            Message::Log(log) => self.keep(worker, JobId(log.job), &log.line),
        }
        Ok(())
    }

    /// Keeps a line of a worker's log with its job.
    fn keep(&self, worker: WorkerId, job: JobId, line: &str) {
        let members = self.members();
        let Some(member) = members.get(&worker).filter(|member| member.place == Place::Member(job)) else { return };
        let name = member.name.clone();
        drop(members);
        if let Some(run) = self.run(job) {
            run.worker_logs.append(&name, line);
        }
    }

    fn joined(&self, worker: WorkerId, job: JobId, generation: u64) {
        let mut members = self.members();
        let Some(member) = members.get_mut(&worker).filter(|member| member.place == Place::Assigned(job)) else {
            return;
        };
        let Some(run) = self.run(job).filter(|run| run.generation.0 == generation) else { return };
        member.place = Place::Member(job);
        let (name, threads, outbox) = (member.name.clone(), member.threads, member.outbox.clone());
        _ = run.inputs.send(Input::Attach { worker, name, threads, outbox });
        if member.draining {
            _ = run.inputs.send(Input::Event(Event::WorkerDraining { worker }));
        }
    }

    fn drains(&self, worker: WorkerId) {
        let mut members = self.members();
        let Some(member) = members.get_mut(&worker) else { return };
        member.draining = true;
        let place = member.place;
        drop(members);
        self.tell(FleetEvent::WorkerDraining { worker });
        match place {
            Place::Member(job) => self.input(job, Input::Event(Event::WorkerDraining { worker })),
            Place::Free | Place::Assigned(_) => self.put_out(worker, "drained"),
        }
    }

    /// A worker's control stream ended.
    pub(crate) fn gone(&self, worker: WorkerId, reason: GoneReason) {
        let Some(member) = self.members().remove(&worker) else { return };
        tracing::info!(%worker, name = member.name, ?reason, "disconnected");
        if let Place::Member(job) = member.place {
            self.input(job, Input::Event(Event::WorkerGone { worker, reason }));
        }
        self.tell(FleetEvent::WorkerGone { worker });
    }

    /// Closes a worker's connection; it may come back.
    pub(crate) fn put_out(&self, worker: WorkerId, reason: &str) {
        let goodbye = v1::Goodbye { over: false, reason: reason.to_owned() };
        if let Some(member) = self.members().get(&worker) {
            say(&member.outbox, Message::Goodbye(goodbye));
        }
        self.gone(worker, GoneReason::Closed);
    }

    /// Closes every connection whose caller is `unwanted`.
    pub(crate) fn put_out_where(&self, unwanted: impl Fn(&Caller) -> bool, reason: &str) {
        let found: Vec<WorkerId> =
            self.members().iter().filter(|(_, member)| unwanted(&member.caller)).map(|(worker, _)| *worker).collect();
        found.into_iter().for_each(|worker| self.put_out(worker, reason));
    }

    /// Tells everybody that there is nothing more to do.
    pub(crate) fn farewell(&self, over: bool, reason: &str) {
        let members = std::mem::take(&mut *self.members());
        for member in members.into_values() {
            say(&member.outbox, Message::Goodbye(v1::Goodbye { over, reason: reason.to_owned() }));
        }
    }

    /// Sends a free worker to a job, as soon as its run is open.
    pub(crate) fn assign(&self, worker: WorkerId, job: JobId) {
        if let Some(member) = self.members().get_mut(&worker) {
            member.place = Place::Assigned(job);
        }
        self.call_up(job);
    }

    /// Tells the workers of a job, once its run is open, to come.
    fn call_up(&self, job: JobId) {
        let Some(run) = self.run(job) else { return };
        let assigned = v1::Assigned { job: job.0, generation: run.generation.0 };
        let mut deaf = Vec::new();
        for (worker, member) in self.members().iter_mut() {
            if member.place == Place::Assigned(job) && !std::mem::replace(&mut member.called, true) {
                deaf.extend((!say(&member.outbox, Message::Assigned(assigned))).then_some(*worker));
            }
        }
        deaf.into_iter().for_each(|worker| self.gone(worker, GoneReason::Closed));
    }

    /// Asks for a worker back; its run lets it go at a step boundary.
    pub(crate) fn release(&self, worker: WorkerId, job: JobId) {
        let place = self.members().get(&worker).map(|member| member.place);
        match place {
            Some(Place::Member(at)) if at == job => {
                self.input(job, Input::Event(Event::WorkerDraining { worker }));
            }
            Some(Place::Assigned(at)) if at == job => self.let_go(worker, job, "wanted elsewhere"),
            _ => {}
        }
    }

    /// A run has let a worker go.
    pub(crate) fn let_go(&self, worker: WorkerId, job: JobId, reason: &str) {
        let mut members = self.members();
        let Some(member) = members.get_mut(&worker) else { return };
        if ![Place::Assigned(job), Place::Member(job)].contains(&member.place) {
            return;
        }
        (member.place, member.called) = (Place::Free, false);
        if member.draining {
            drop(members);
            return self.put_out(worker, reason);
        }
        let said = say(&member.outbox, Message::Released(v1::Released { job: job.0, reason: reason.to_owned() }));
        drop(members);
        match said {
            true => self.tell(FleetEvent::WorkerReleased { worker }),
            false => self.gone(worker, GoneReason::Closed),
        }
    }

    /// A run has begun: workers may ask for its plan and its parameters.
    pub(crate) fn open(&self, job: JobId, run: Arc<Shared>) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).insert(job, run);
        self.call_up(job);
    }

    /// A run is over: all of its workers are free.
    pub(crate) fn close(&self, job: JobId, reason: &str) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).remove(&job);
        let at = [Place::Assigned(job), Place::Member(job)];
        let workers: Vec<WorkerId> =
            self.members().iter().filter(|(_, member)| at.contains(&member.place)).map(|(worker, _)| *worker).collect();
        workers.into_iter().for_each(|worker| self.let_go(worker, job, reason));
    }

    /// The open run of a job.
    pub(crate) fn run(&self, job: JobId) -> Option<Arc<Shared>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    /// The run that `worker` may ask about in a call of its own.
    pub(crate) fn run_for(&self, caller: &Caller, worker: u32, job: u64) -> Result<Arc<Shared>, Status> {
        let members = self.members();
        let member = members.get(&WorkerId(worker)).ok_or_else(|| Status::aborted("this worker is not connected"))?;
        if !member.caller.is(caller) {
            return Err(Status::permission_denied(format!("worker {worker} belongs to another certificate")));
        }
        drop(members);
        self.run(JobId(job)).ok_or_else(|| Status::aborted(format!("job {job} does not run")))
    }

    /// All connected workers.
    pub(crate) fn rows(&self) -> Vec<WorkerRow> {
        let row = |(worker, member): (&WorkerId, &Member)| WorkerRow {
            worker: worker.0,
            name: member.name.clone(),
            threads: member.threads,
            job: match member.place {
                Place::Free => None,
                Place::Assigned(job) | Place::Member(job) => Some(job.0),
            },
            draining: member.draining,
        };
        self.members().iter().map(row).collect()
    }

    fn job_of(&self, worker: WorkerId) -> Option<JobId> {
        match self.members().get(&worker)?.place {
            Place::Member(job) => Some(job),
            Place::Free | Place::Assigned(_) => None,
        }
    }

    /// Tells the run that `worker` is a member of; what it says of another one is stale.
    fn input_of(&self, worker: WorkerId, job: JobId, input: Input) {
        if self.job_of(worker) == Some(job) {
            self.input(job, input);
        }
    }

    fn input(&self, job: JobId, input: Input) {
        if let Some(run) = self.run(job) {
            // A run that ends takes no more news.
            _ = run.inputs.send(input);
        }
    }

    fn tell(&self, event: FleetEvent) {
        // The fleet's loop ends last.
        _ = self.fleet.send(event);
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues a message; `false` when the worker does not read or is gone.
fn say(outbox: &WorkerOutbox, message: Message) -> bool {
    outbox.try_send(Ok(v1::CoordinatorMessage { message: Some(message) })).is_ok()
}
