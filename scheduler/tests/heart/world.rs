//! A small world around a run: worker processes that compute, stall, fall silent, die and come back; messages that are
//! late, repeated or stale; a coordinator that is killed and resumes. All from one seed, in virtual time.

mod coordinator;
pub mod oracle;
mod process;

use std::collections::BTreeMap;

use convoy_scheduler::*;

use coordinator::Coordinator;
use process::{Health, Process};

/// A generator of random numbers for the world (never for the run): splitmix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        oracle::mix(self.0, 0) % bound.max(1)
    }

    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }
}

/// How rough it is: chances in a thousand.
#[derive(Clone, Debug)]
pub struct Weather {
    pub seed: u64,
    pub processes: usize,
    /// How long faults happen, in milliseconds.
    pub storm_ms: u64,
    /// A fault that hits a process or the coordinator, every 50 ms.
    pub kill: u32,
    pub silence: u32,
    pub hang: u32,
    pub drain: u32,
    pub crash: u32,
    pub stop: u32,
    /// Faults of a lease, a message or a checkpoint.
    pub failure: u32,
    pub repeat: u32,
    pub disk_full: u32,
}

/// What is going to happen.
#[derive(Clone, Debug)]
enum Happening {
    /// A process connects.
    Connect(usize),
    /// A process's heartbeat thread wakes up.
    Beat(usize, WorkerId),
    /// Parameters arrive at a process.
    Parameters(usize, WorkerId, StepId, u64),
    /// A process finishes a lease.
    Computed(usize, LeaseRef),
    /// A message from a process arrives. The value is the node's, for a lease that is done.
    FromProcess(usize, Event, Option<u64>),
    /// The coordinator notices that a connection closed.
    Closed(WorkerId),
    /// The reducer or the disk of this generation of the coordinator is done with something.
    Internal(RunGeneration, Event),
    /// Time for a fault.
    Fault,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Story {
    pub outcome: Outcome,
    pub committed: StepId,
    pub starts: u64,
    pub overdue: usize,
    pub copies: usize,
    pub ignored: usize,
    /// Every effect of every start, in order.
    pub effects: Vec<Effect>,
}

pub struct World {
    weather: Weather,
    dice: Dice,
    now: RunTime,
    agenda: BTreeMap<(RunTime, u64), Happening>,
    planned: u64,
    processes: Vec<Process>,
    next_worker: u32,
    coordinator: Coordinator,
    story: Vec<Effect>,
}

impl World {
    /// Plays a run of `plan` in this weather to its end.
    ///
    /// # Panics
    /// If a promise is broken, or the run does not end although the storm is over.
    pub fn play(plan: RunPlan, weather: Weather) -> Story {
        let mut dice = Dice(weather.seed);
        let processes: Vec<Process> = (0..weather.processes).map(|_| Process::new(&mut dice)).collect();
        let mut world = World {
            dice,
            now: RunTime(0),
            agenda: BTreeMap::new(),
            planned: 0,
            processes,
            next_worker: 0,
            coordinator: Coordinator::new(plan),
            story: Vec::new(),
            weather,
        };
        for i in 0..world.processes.len() {
            world.later(1_000_000, Happening::Connect(i));
        }
        world.later(1, Happening::Fault);
        world.run()
    }

    fn run(mut self) -> Story {
        for _ in 0..30_000 {
            match self.coordinator.outcome() {
                Some(Outcome::Stopped | Outcome::Unsaved { .. }) => self.restart(0),
                Some(outcome) => return self.end(outcome),
                None => {}
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.coordinator.deadline();
            if deadline.is_some_and(|at| next.is_none_or(|next| at < next)) {
                self.now = self.now.max(deadline.expect("it is some"));
                self.tell(Event::Deadline, None);
                assert!(self.coordinator.deadline().is_none_or(|at| at > self.now), "a deadline that stays is spun on");
            } else {
                let ((at, _), happening) = self.agenda.pop_first().expect("something always happens");
                self.now = at;
                self.happen(happening);
            }
        }
        for e in &self.story[self.story.len() - 60..] {
            println!("{e:?}");
        }
        let last = &self.story[self.story.len().saturating_sub(30)..];
        panic!("the run does not end; it waits for {}; last it did {last:#?}", self.coordinator.waiting_for());
    }

    fn end(self, outcome: Outcome) -> Story {
        let count = |is: fn(&Effect) -> bool| self.story.iter().filter(|effect| is(effect)).count();
        Story {
            outcome,
            committed: self.coordinator.committed,
            starts: self.coordinator.plan.generation.0,
            overdue: count(|effect| matches!(effect, Effect::Overdue { .. })),
            copies: count(|effect| matches!(effect, Effect::Revoke { why: RevokeReason::AnotherWasFirst, .. })),
            ignored: count(|effect| matches!(effect, Effect::Ignore { .. })),
            effects: self.story,
        }
    }

    /// Puts something on the agenda, at most `within_us` from now.
    fn later(&mut self, within_us: u64, happening: Happening) {
        let wait = Micros(1 + self.dice.below(within_us));
        self.at(self.now.after(wait), happening);
    }

    fn at(&mut self, at: RunTime, happening: Happening) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), happening);
    }

    fn storm(&self) -> bool {
        self.now.0 < self.weather.storm_ms * 1000
    }

    /// Tells the coordinator, and carries out what follows.
    fn tell(&mut self, event: Event, value: Option<u64>) {
        let effects = self.coordinator.handle(self.now, event, value);
        for effect in effects {
            self.carry_out(&effect);
            self.story.push(effect);
        }
        if let Some(reduced) = self.coordinator.reduced() {
            self.later(20_000, Happening::Internal(self.coordinator.plan.generation, reduced));
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Send { worker, lease } => {
                if let Some(i) = self.process_of(*worker) {
                    self.processes[i].queue.push(*lease);
                    self.compute(i);
                }
            }
            Effect::Revoke { worker, at, .. } => {
                if let Some(i) = self.process_of(*worker) {
                    self.processes[i].drop_lease(*at);
                    self.compute(i);
                }
            }
            Effect::Evict { worker, .. } => {
                if let Some(i) = self.process_of(*worker) {
                    self.disconnect(i);
                }
            }
            Effect::Commit { .. } => (0..self.processes.len()).for_each(|i| self.send_parameters(i)),
            Effect::Checkpoint { step, .. } => {
                let fails = self.storm() && self.dice.chance(self.weather.disk_full);
                let step = *step;
                let event = if fails { Event::CheckpointFailed { step } } else { Event::CheckpointWritten { step } };
                self.later(700_000, Happening::Internal(self.coordinator.plan.generation, event));
            }
            _ => {}
        }
    }

    fn process_of(&self, worker: WorkerId) -> Option<usize> {
        self.processes.iter().position(|process| process.worker == Some(worker))
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Connect(i) => self.connect(i),
            Happening::Beat(i, worker) => {
                if self.processes[i].worker == Some(worker) {
                    if self.processes[i].health != Health::Silent {
                        self.tell(Event::Heartbeat { worker }, None);
                    }
                    self.at(self.now.after(Micros::millis(500)), Happening::Beat(i, worker));
                }
            }
            Happening::Parameters(i, worker, step, value) => {
                if self.processes[i].worker == Some(worker) && self.processes[i].health != Health::Silent {
                    let parameters = &mut self.processes[i].parameters;
                    *parameters = (*parameters).max(Some((step, value)));
                    self.tell(Event::WorkerReady { worker, step }, None);
                    self.compute(i);
                }
            }
            Happening::Computed(i, at) => self.computed(i, at),
            Happening::FromProcess(i, event, value) => self.arrived(i, event, value),
            Happening::Closed(worker) => self.tell(Event::WorkerLeft { worker, reason: LeaveReason::Closed }, None),
            Happening::Internal(generation, event) => {
                if generation == self.coordinator.plan.generation {
                    self.tell(event, None);
                }
            }
            Happening::Fault => self.fault(),
        }
    }

    fn connect(&mut self, i: usize) {
        if self.processes[i].worker.is_some() {
            return;
        }
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        let process = &mut self.processes[i];
        process.worker = Some(worker);
        process.health = Health::Good;
        process.queue.clear();
        process.parameters = None;
        let threads = process.threads;
        self.tell(Event::WorkerJoined { worker, threads }, None);
        self.later(500_000, Happening::Beat(i, worker));
        self.send_parameters(i);
    }

    fn disconnect(&mut self, i: usize) {
        self.processes[i].worker = None;
        self.later(1_500_000, Happening::Connect(i));
    }

    fn send_parameters(&mut self, i: usize) {
        if let Some(worker) = self.processes[i].worker {
            let (step, value) = (self.coordinator.committed, self.coordinator.parameters);
            self.later(30_000, Happening::Parameters(i, worker, step, value));
        }
    }

    /// Starts the next lease of a process, if it can.
    fn compute(&mut self, i: usize) {
        let process = &mut self.processes[i];
        if let Some((at, micros)) = process.start() {
            let wobble = self.dice.below(micros / 4);
            self.at(self.now.after(Micros(micros + wobble)), Happening::Computed(i, at));
        }
    }

    fn computed(&mut self, i: usize, at: LeaseRef) {
        let (storm, failing) = (self.storm(), self.dice.chance(self.weather.failure));
        let process = &mut self.processes[i];
        // A hung process holds on to what it has; a silent one does so, too, and would not be heard.
        if process.health != Health::Good || process.computing.is_none_or(|(computing, _)| computing != at) {
            return;
        }
        let parameters = process.computing.take().expect("it is this lease").1;
        let (Some(worker), Some(lease)) = (process.worker, process.drop_lease(at)) else {
            return self.compute(i);
        };
        let value = oracle::node_value(parameters, lease.work, lease.node);
        let shard_micros = process.shard_micros;
        let event = if storm && failing {
            let failure = if self.dice.chance(500) { Failure::Internal } else { Failure::DataUnreadable };
            Event::LeaseFailed { worker, at, failure }
        } else {
            Event::NodeDone { worker, at, shard_micros, result: NodeResult::Good }
        };
        if storm && self.dice.chance(self.weather.repeat) {
            self.later(3_000_000, Happening::FromProcess(i, event.clone(), Some(value)));
        }
        self.later(10_000, Happening::FromProcess(i, event, Some(value)));
        self.compute(i);
    }

    /// A message arrives: under the name the process has now, however old it is, or under its old one if it has none.
    fn arrived(&mut self, i: usize, mut event: Event, value: Option<u64>) {
        if let (Some(now), Event::NodeDone { worker, .. } | Event::LeaseFailed { worker, .. }) =
            (self.processes[i].worker, &mut event)
        {
            *worker = now;
        }
        self.tell(event, value);
    }

    fn fault(&mut self) {
        if !self.storm() {
            return self.calm();
        }
        let i = self.dice.below(self.processes.len() as u64) as usize;
        if self.dice.chance(self.weather.kill)
            && let Some(worker) = self.processes[i].worker
        {
            self.disconnect(i);
            self.later(100_000, Happening::Closed(worker));
        }
        if self.dice.chance(self.weather.silence) {
            self.processes[i].health = Health::Silent;
        }
        if self.dice.chance(self.weather.hang) {
            self.processes[i].health = Health::Hung;
        }
        if self.dice.chance(self.weather.drain)
            && let Some(worker) = self.processes[i].worker
        {
            self.tell(Event::WorkerDraining { worker }, None);
        }
        if self.dice.chance(self.weather.stop) {
            self.tell(Event::StopRequested, None);
        }
        if self.dice.chance(self.weather.crash) {
            let lost = self.dice.below(20) as usize;
            self.restart(lost);
        }
        self.at(self.now.after(Micros::millis(50)), Happening::Fault);
    }

    /// The coordinator was killed or stopped, and is started again on what the disk holds, which may lack the journal's
    /// last records.
    fn restart(&mut self, lost: usize) {
        self.coordinator.restart(lost);
        for i in 0..self.processes.len() {
            self.disconnect(i);
        }
    }

    /// The storm is over: one process at least computes from now on. The others stay as they are.
    fn calm(&mut self) {
        let process = &mut self.processes[0];
        if process.health != Health::Good {
            process.health = Health::Good;
            if let Some(worker) = process.worker {
                self.disconnect(0);
                self.tell(Event::WorkerLeft { worker, reason: LeaveReason::Closed }, None);
            }
        }
    }
}
