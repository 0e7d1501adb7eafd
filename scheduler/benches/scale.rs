//! How the scheduler's work grows with workers: `cargo bench -p convoy-scheduler --bench scale`.
//!
//! A run of four shards for each worker is played step by step, in the order in which events come from workers of equal
//! speed; and a fleet is joined by all workers at once. Prints for each number of workers the events of a step and the
//! time of a step, of an event, and of all joins, at 10, 100 and 1,000 workers. The time is that of the processor, as
//! Linux tells it.

use std::collections::VecDeque;
use std::time::Duration;

use convoy_scheduler::{
    Effect, Event, Fleet, FleetEvent, FleetPlan, JobId, JobRequest, LeaseRef, NodeResult, OwnersVersion, Run, RunPlan,
    RunTime, StepId, WorkerId,
};

/// Steps, times workers.
const WORK: u64 = 20_000;
const SHARDS: u32 = 4;
/// What a shard takes.
const SHARD_MICROS: u64 = 10_000;

/// A run, and the answers of its workers that are on their way.
struct Play {
    run: Run,
    now: RunTime,
    answers: VecDeque<(WorkerId, LeaseRef)>,
    events: u64,
}

impl Play {
    fn tell(&mut self, event: Event) {
        self.now.0 += 1;
        self.events += 1;
        let mut effects = Vec::new();
        self.run.handle(self.now, event, &mut effects);
        let sent = effects.iter().filter_map(|effect| match effect {
            Effect::Send { worker, lease, .. } => Some((*worker, lease.at)),
            _ => None,
        });
        self.answers.extend(sent);
    }

    fn step(&mut self, step: StepId, workers: u32) {
        (1..=workers).for_each(|worker| self.tell(Event::WorkerReady { worker: WorkerId(worker), step }));
        while let Some((worker, at)) = self.answers.pop_front() {
            self.tell(Event::NodeComputed { worker, at });
            let (version, result) = (OwnersVersion(0), NodeResult::Good);
            self.tell(Event::NodeDone { worker, at, shard_micros: SHARD_MICROS, version, result, digest: None });
        }
        self.tell(Event::StepReduced { step, digest: [0; 32] });
    }
}

/// Processor time of this thread so far.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number comes first"))
}

fn steps_of(workers: u32, steps: u64) -> (u64, Duration) {
    let shards = workers * SHARDS;
    let run = Run::new(RunPlan::new(1, steps + 1, shards, shards));
    let mut play = Play { run, now: RunTime(0), answers: VecDeque::new(), events: 0 };
    for worker in 1..=workers {
        let (machine, name) = (format!("member {worker}"), format!("worker {worker}"));
        play.tell(Event::WorkerJoined { worker: WorkerId(worker), machine, name, threads: 1 });
    }
    // The first step is dealt before all workers are there.
    play.step(StepId(0), workers);
    let (before, begun) = (play.events, used());
    (1..=steps).for_each(|step| play.step(StepId(step), workers));
    (play.events - before, used() - begun)
}

fn joins_of(workers: u32) -> Duration {
    let mut fleet = Fleet::new(FleetPlan::default());
    let mut effects = Vec::new();
    for job in 1..=16 {
        let request = JobRequest { numerics: 1, ..JobRequest::default() };
        fleet.handle(RunTime(0), FleetEvent::JobAdded { job: JobId(job), request, started: true }, &mut effects);
    }
    let begun = used();
    let joins = (1..=workers).map(|worker| FleetEvent::WorkerJoined {
        worker: WorkerId(worker),
        numerics: vec![1],
        computes: true,
    });
    fleet.handle_all(RunTime(1), joins, &mut effects);
    used() - begun
}

fn main() {
    println!("| workers | events a step | ms a step | us an event | ms for all joins |");
    println!("|---|---|---|---|---|");
    for workers in [10, 100, 1000] {
        let steps = WORK / u64::from(workers);
        let ((events, time), joins) = (steps_of(workers, steps), joins_of(workers));
        let (micros, joins) = (time.as_secs_f64() * 1e6, joins.as_secs_f64() * 1e3);
        println!(
            "| {workers} | {} | {:.2} | {:.2} | {joins:.2} |",
            events / steps,
            micros / 1e3 / steps as f64,
            micros / events as f64
        );
    }
}
