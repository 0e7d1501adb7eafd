//! The machines, what is on its way between them, and the run that lends the work.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use convoy_scheduler::{
    Contact, Effect, Event, Lease, LeaseId, LeaseRef, NodeResult, Opening, OwnersVersion, Run, RunTime, StepId,
    WorkerId,
};

use super::figures::{Rates, StepFigures};
use super::network::{Carried, Network, Parcel, Rank};
use super::plan::RatesPlan;
use super::routes::{COORDINATOR, Routes};

/// Bytes of a message that carries no numbers.
const CONTROL: u64 = 200;
/// How often workers are heard of, and the scheduler is asked whether it waits for time.
const BEAT: u64 = 100_000_000;

/// What a parcel carries.
#[derive(Clone, Debug)]
enum Load {
    /// An event, to the coordinator.
    Tell(Box<Event>),
    /// A lease, to a worker.
    Lease(Box<Lease>),
    /// The parameters that are the committed ones, to a worker.
    Committed(StepId),
    /// Who owns which chunk, to a worker. It comes before any lease that goes by it.
    Owners,
    /// A chunk of so many shards' gradient, to its owner.
    Gradient { lease: LeaseId, chunk: u32, shards: u32 },
    /// A chunk of the parameters that this step makes, to a worker.
    Parameters(StepId),
    /// The sum of a chunk, to the coordinator.
    Sum,
}

/// Something that is going to happen.
#[derive(Debug)]
enum CalmHappening {
    /// An up link has carried what it carried.
    Free(usize),
    /// The last byte of a parcel is there.
    Arrive(Parcel<Load>),
    /// A worker has computed the lease that it began with.
    Computed(usize),
    /// A worker knows that all owners have its node.
    Acknowledged(usize, LeaseId),
    /// Time to hear of all workers.
    Beat,
}

/// What is going to happen, in order of time, and then in the order in which that was known.
#[derive(Debug, Default)]
struct Agenda {
    entries: BTreeMap<(u64, u64), CalmHappening>,
    known: u64,
}

impl Agenda {
    fn add(&mut self, at: u64, happening: CalmHappening) {
        self.entries.insert((at, self.known), happening);
        self.known += 1;
    }

    fn next(&mut self) -> Option<(u64, CalmHappening)> {
        self.entries.pop_first().map(|((at, _), happening)| (at, happening))
    }
}

/// A worker process.
#[derive(Debug, Default)]
struct Worker {
    /// Leases that it has not computed; it computes the first of them when it holds the parameters.
    leases: VecDeque<Lease>,
    computes: bool,
    /// Nodes that not all owners have, and how many chunks of them are missing.
    sending: BTreeMap<LeaseId, (LeaseRef, u32)>,
    /// The parameters that it holds.
    held: StepId,
    /// The newest that it was told are committed.
    committed: StepId,
    /// Chunks that it has of the parameters that a step makes.
    has: BTreeMap<StepId, u32>,
    contact: Contact,
}

/// The step in work.
#[derive(Debug, Default)]
struct Step {
    id: StepId,
    shards: u32,
    /// Shards that the owner of each chunk has added.
    added: Vec<u32>,
    /// Sums of each owner that are with the coordinator.
    sums: BTreeMap<usize, usize>,
}

/// What was counted so far, and where the last step ended.
#[derive(Debug, Default)]
struct Counted {
    steps: Vec<StepFigures>,
    story: DefaultHasher,
    since: u64,
    carried: Vec<Carried>,
    events: u64,
    heart: Duration,
}

/// Plays a run. `clock` tells the processor's time; it is shown in [`StepFigures::heart`], and nothing goes by it.
///
/// # Errors
/// What the scheduler did that it should not do in calm weather.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use convoy_sim::rates::{RatesPlan, play};
///
/// let plan = RatesPlan { gradient: 2_000_000, ..RatesPlan::of_workers(4) };
/// let rates = play(&plan, || Duration::ZERO).expect("the weather is calm");
/// // Each worker sends three quarters of its gradient to others, and a quarter of the parameters to three of them.
/// let sent = rates.steady().worker_out_most;
/// assert!(sent > 3_000_000 && sent < 4_000_000);
/// ```
pub fn play(plan: &RatesPlan, clock: impl Fn() -> Duration) -> Result<Rates, String> {
    CalmWorld::new(plan, clock).play()
}

/// All machines and their run. Machine 0 is the coordinator, machine `n` is worker `n`. Many fields: each is a part of
/// the world.
struct CalmWorld<'a, C> {
    plan: &'a RatesPlan,
    clock: C,
    run: Run,
    now: u64,
    agenda: Agenda,
    links: Network<Load>,
    /// The first is of no use: it stands where the coordinator is.
    workers: Vec<Worker>,
    routes: Routes,
    version: OwnersVersion,
    opening: Opening,
    step: Step,
    counted: Counted,
    /// What the scheduler did first that nobody expects in calm weather.
    odd: Option<String>,
}

impl<'a, C: Fn() -> Duration> CalmWorld<'a, C> {
    /// A world in which nothing has happened.
    fn new(plan: &'a RatesPlan, clock: C) -> CalmWorld<'a, C> {
        let machines = plan.workers as usize + 1;
        let run = Run::new(plan.run());
        CalmWorld {
            plan,
            clock,
            now: 0,
            agenda: Agenda::default(),
            links: Network::new(plan.cable(), machines),
            workers: (0..machines).map(|_| Worker::default()).collect(),
            routes: Routes::to(run.owners().1),
            version: OwnersVersion(0),
            opening: Opening(0),
            step: Step::default(),
            counted: Counted { carried: vec![Carried::default(); machines], ..Counted::default() },
            odd: None,
            run,
        }
    }

    /// Plays until all steps are committed.
    ///
    /// # Errors
    /// What the scheduler did that it should not do in calm weather.
    fn play(mut self) -> Result<Rates, String> {
        self.begin();
        while self.counted.steps.len() < self.plan.steps as usize {
            let (at, happening) = self.agenda.next().expect("the next beat is always there");
            self.now = at;
            if matches!(happening, CalmHappening::Beat) && self.agenda.entries.is_empty() {
                self.odd = Some(format!("nothing happens any more: waiting for {}", self.run.waiting_for()));
            }
            self.happen(happening);
            if let Some(odd) = self.odd {
                return Err(format!("{} ms, step {}: {odd}", at / 1_000_000, self.step.id.0));
            }
        }
        let Counted { steps, story, .. } = self.counted;
        Ok(Rates { owners: self.routes.owning(), steps, story: story.finish() })
    }

    /// All workers join, hold the first parameters, and say whom they reach.
    fn begin(&mut self) {
        let ids: Vec<WorkerId> = (1..=self.plan.workers).map(WorkerId).collect();
        for worker in ids.iter().copied() {
            let (machine, name) = (format!("member {}", worker.0), format!("worker {}", worker.0));
            self.tell(Event::WorkerJoined { worker, machine, name, threads: self.plan.threads });
        }
        for worker in ids.iter().copied() {
            self.send_event(Event::WorkerReady { worker, step: StepId(0) }, CONTROL);
            if !self.plan.star {
                let reached = ids.iter().copied().filter(|other| *other != worker).collect();
                self.send_event(Event::PeersReached { worker, reached }, CONTROL + 4 * ids.len() as u64);
            }
        }
        self.agenda.add(BEAT, CalmHappening::Beat);
    }

    fn happen(&mut self, happening: CalmHappening) {
        match happening {
            CalmHappening::Free(machine) => self.depart(machine),
            CalmHappening::Arrive(parcel) => self.arrive(parcel),
            CalmHappening::Computed(worker) => self.computed(worker),
            CalmHappening::Acknowledged(worker, lease) => self.acknowledged(worker, lease),
            CalmHappening::Beat => self.beat(),
        }
    }

    fn time(&self) -> RunTime {
        RunTime(self.now / 1000)
    }

    fn send(&mut self, rank: Rank, from: usize, to: usize, bytes: u64, load: Load) {
        self.links.queue(Parcel { rank, from, to, bytes, load });
        self.depart(from);
    }

    fn send_control(&mut self, from: usize, to: usize, load: Load) {
        self.send(Rank::Control, from, to, CONTROL, load);
    }

    fn send_event(&mut self, event: Event, bytes: u64) {
        let from = event.worker().map_or(COORDINATOR, |worker| worker.0 as usize);
        self.send(Rank::Control, from, COORDINATOR, bytes, Load::Tell(Box::new(event)));
    }

    /// Begins what is next on an up link, if that is free.
    fn depart(&mut self, machine: usize) {
        if let Some(departure) = self.links.depart(self.now, machine) {
            self.agenda.add(departure.free, CalmHappening::Free(machine));
            self.agenda.add(departure.arrives, CalmHappening::Arrive(departure.parcel));
        }
    }

    fn arrive(&mut self, parcel: Parcel<Load>) {
        self.links.taken(&parcel);
        self.depart(parcel.from);
        let Parcel { from, to, load, .. } = parcel;
        let time = self.time();
        match load {
            Load::Tell(event) => self.told(*event),
            Load::Lease(lease) => {
                self.workers[to].leases.push_back(*lease);
                self.compute(to);
            }
            Load::Committed(step) => {
                self.workers[to].committed = step;
                self.hold(to);
            }
            Load::Owners => {}
            Load::Gradient { lease, chunk, shards } => {
                self.workers[from].contact.pushed = time;
                self.pushed(from, lease);
                self.added(chunk, shards);
            }
            Load::Parameters(step) => {
                self.workers[to].contact.fetched = time;
                self.has_chunk(to, step);
            }
            Load::Sum => {
                self.workers[from].contact.pushed = time;
                self.summed(from);
            }
        }
    }

    /// Has a worker begin its first lease, if it can.
    fn compute(&mut self, worker: usize) {
        let Worker { leases, computes, held, .. } = &mut self.workers[worker];
        if let Some(lease) = leases.front().filter(|lease| !*computes && lease.at.step == *held) {
            *computes = true;
            let rounds = u64::from(lease.node.size().div_ceil(self.plan.threads));
            self.agenda.add(self.now + rounds * self.plan.compute, CalmHappening::Computed(worker));
        }
    }

    /// A worker sends what it has computed, and computes what is next.
    fn computed(&mut self, worker: usize) {
        let lease = self.workers[worker].leases.pop_front().expect("it has computed a lease");
        self.workers[worker].computes = false;
        let (at, shards) = (lease.at, lease.node.size());
        self.send_event(Event::NodeComputed { worker: WorkerId(worker as u32), at }, CONTROL);
        let chunks: Vec<u32> = self.routes.pushes(worker).collect();
        let (own, others): (Vec<u32>, Vec<u32>) =
            chunks.into_iter().partition(|chunk| self.routes.owner(*chunk) == worker);
        self.workers[worker].sending.insert(at.lease, (at, others.len() as u32 + 1));
        for chunk in others {
            let load = Load::Gradient { lease: at.lease, chunk, shards };
            self.send(Rank::Gradient, worker, self.routes.owner(chunk), self.plan.bytes_of(chunk), load);
        }
        own.into_iter().for_each(|chunk| self.added(chunk, shards));
        // Its own chunks count as one that is there at once.
        self.pushed(worker, at.lease);
        self.compute(worker);
    }

    /// A chunk of a node is with its owner, who says so.
    fn pushed(&mut self, worker: usize, lease: LeaseId) {
        let (_, left) = self.workers[worker].sending.get_mut(&lease).expect("a node is sent till all of it is there");
        *left -= 1;
        if *left == 0 {
            self.agenda.add(self.now + self.plan.latency, CalmHappening::Acknowledged(worker, lease));
        }
    }

    fn acknowledged(&mut self, worker: usize, lease: LeaseId) {
        let (at, _) = self.workers[worker].sending.remove(&lease).expect("a node is acknowledged once");
        let (shard_micros, version, result) = (self.plan.compute / 1000, self.version, NodeResult::Good);
        let worker = WorkerId(worker as u32);
        self.send_event(Event::NodeDone { worker, at, shard_micros, version, result, digest: None }, CONTROL);
    }

    /// The owner of a chunk has added shards to it. With all of them it makes the next parameters, which all others
    /// want, and has a sum for the coordinator.
    fn added(&mut self, chunk: u32, shards: u32) {
        let added = &mut self.step.added[chunk as usize];
        *added += shards;
        if *added < self.step.shards {
            return;
        }
        let (owner, step, bytes) = (self.routes.owner(chunk), self.step.id, self.plan.bytes_of(chunk));
        for machine in Routes::answers(owner, self.workers.len() - 1) {
            let load = if machine == COORDINATOR { Load::Sum } else { Load::Parameters(step) };
            self.send(Rank::Parameters, owner, machine, bytes, load);
        }
        if owner == COORDINATOR {
            self.summed(owner);
        } else {
            self.has_chunk(owner, step);
        }
    }

    fn has_chunk(&mut self, worker: usize, step: StepId) {
        *self.workers[worker].has.entry(step).or_default() += 1;
        self.hold(worker);
    }

    /// A worker that has all chunks of parameters which are committed holds them.
    fn hold(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        if it.committed > it.held && it.has.get(&it.held) == Some(&self.plan.chunks()) {
            it.has.remove(&it.held);
            it.held = it.held.next();
            let step = it.held;
            self.send_event(Event::WorkerReady { worker: WorkerId(worker as u32), step }, CONTROL);
            self.compute(worker);
        }
    }

    /// The coordinator has the sum of one more chunk of an owner.
    fn summed(&mut self, owner: usize) {
        let sums = self.step.sums.entry(owner).or_default();
        *sums += 1;
        if *sums == self.routes.owned(owner) && owner != COORDINATOR {
            let (opening, version) = (self.opening, self.version);
            self.tell(Event::OwnerReduced { worker: WorkerId(owner as u32), opening, version });
        }
        self.reduce();
    }

    /// An event comes to the coordinator.
    fn told(&mut self, event: Event) {
        let done = matches!(event, Event::NodeDone { .. });
        self.tell(event);
        if done {
            self.reduce();
        }
    }

    /// Tells that the step is reduced, when all nodes are done and all sums are there.
    fn reduce(&mut self) {
        let here: usize = self.step.sums.values().sum();
        if here == self.step.added.len() && self.run.expects().is_some() {
            self.tell(Event::StepReduced { step: self.step.id, digest: [0; 32] });
        }
    }

    fn beat(&mut self) {
        let time = self.time();
        for (worker, it) in (0..).zip(&mut self.workers).skip(1) {
            (it.contact.heard, it.contact.came) = (time, time);
            self.run.heard(WorkerId(worker), it.contact);
        }
        if self.run.deadline().is_some_and(|at| at <= time) {
            self.tell(Event::Deadline);
        }
        self.agenda.add(self.now + BEAT, CalmHappening::Beat);
    }

    /// Tells the run an event, and does what follows.
    fn tell(&mut self, event: Event) {
        (self.now, &event).hash(&mut self.counted.story);
        self.counted.events += 1;
        let mut effects = Vec::new();
        let (time, begun) = (self.time(), (self.clock)());
        self.run.handle(time, event, &mut effects);
        self.counted.heart += (self.clock)().saturating_sub(begun);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn carry_out(&mut self, effect: Effect) {
        let workers = 1..self.workers.len();
        match effect {
            Effect::OpenStep { step, shards, opening, .. } => {
                self.opening = opening;
                let added = vec![0; self.plan.chunks() as usize];
                self.step = Step { id: step, shards, added, ..Step::default() };
            }
            Effect::Owners { version, of, .. } => {
                (self.version, self.routes) = (version, Routes::to(&of));
                let bytes = CONTROL + 2 * of.len() as u64;
                workers.for_each(|to| self.send(Rank::Control, COORDINATOR, to, bytes, Load::Owners));
            }
            Effect::Send { worker, lease, .. } => {
                self.send_control(COORDINATOR, worker.0 as usize, Load::Lease(Box::new(lease)));
            }
            Effect::Commit { step, .. } => {
                self.count_step();
                workers.for_each(|to| self.send_control(COORDINATOR, to, Load::Committed(step.next())));
            }
            Effect::Record(_) | Effect::Checkpoint { .. } | Effect::Finish { .. } => {}
            odd => self.odd = self.odd.take().or_else(|| Some(format!("{odd:?}"))),
        }
    }

    /// A step ends now.
    fn count_step(&mut self) {
        let carried = self.links.carried();
        let grown = |(now, before): (&Carried, &Carried)| (now.taken - before.taken, now.given - before.given);
        let grown: Vec<(u64, u64)> = carried.iter().zip(&self.counted.carried).map(grown).collect();
        let (taken, given): (Vec<u64>, Vec<u64>) = grown.into_iter().unzip();
        let mean = |of: &[u64]| of.iter().sum::<u64>() / of.len() as u64;
        let took = self.now - self.counted.since;
        self.counted.steps.push(StepFigures {
            took,
            exchange: took.saturating_sub(self.plan.compute),
            events: std::mem::take(&mut self.counted.events),
            heart: std::mem::take(&mut self.counted.heart),
            coordinator_in: taken[COORDINATOR],
            coordinator_out: given[COORDINATOR],
            worker_in_most: taken[1..].iter().copied().max().unwrap_or(0),
            worker_out_most: given[1..].iter().copied().max().unwrap_or(0),
            worker_in_mean: mean(&taken[1..]),
            worker_out_mean: mean(&given[1..]),
        });
        (self.counted.since, self.counted.carried) = (self.now, carried);
    }
}
