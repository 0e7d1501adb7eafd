//! The simulated world: workers, connections, a coordinator and time. Everything that is going to happen stands on one
//! agenda.

mod answer;
mod brought;
mod connections;
mod coordinator;
mod exchange;
mod faults;
mod peer;
mod process;
mod sum_audits;

use std::collections::BTreeMap;

use convoy_scheduler::*;

use self::answer::{Answer, Sent};
use self::coordinator::{Coordinator, Reduced};
use self::peer::PeerMessage;
use self::process::{Link, Message, Process, Stream, Way};
use crate::dice::Dice;
use crate::facts::Fact;
use crate::invariant_watch::{Violation, Watch};
use crate::mutants::{Mutant, Sabotage};
use crate::oracle;
use crate::scenario::{Fault, Scenario, Tail, Weather};
use crate::story::Story;

/// A run must end within this time after its last fault, plus the time that its slowest worker alone would need.
const PATIENCE: Micros = Micros::seconds(3600);
/// A run that needs more happenings than this does not end.
const MOST_HAPPENINGS: u64 = 500_000;

/// Something that is going to happen.
#[derive(Clone, Debug)]
enum Happening {
    /// The coordinator's process starts.
    Start,
    /// A process connects.
    Connect(usize),
    /// A process's heartbeat thread wakes up.
    Beat(usize, Link),
    /// The first message of a stream arrives.
    Arrive(usize, Link, Stream),
    /// Bytes of a stream come, or are taken.
    Flow(usize, Link, Stream),
    /// A process finishes a lease.
    Computed(usize, LeaseRef),
    /// A message of another process arrives.
    Peer(usize, PeerMessage),
    /// A process looks whether what it sent to others was taken.
    SendAgain(usize, Link),
    /// A process finds out whom it reaches.
    Probe(usize, Link),
    /// An answer arrives once more, under the number that its process has then.
    Again(usize, Answer),
    /// A checkpoint of this start of the coordinator is on disk, and the coordinator hears of it so much later.
    Saved(u64, StepId, Micros),
    /// The reducer has finished this.
    Reduced(Reduced, Event),
    /// This start of the coordinator is told something that no connection carries: by its disk, or that a connection
    /// closed.
    Told(u64, Event),
    /// The journal of this start is synced.
    Sync(u64),
    /// Time for faults.
    Weather,
    /// A connection carries nothing any more in a direction, or again.
    Clog(usize, Way, bool),
    /// A process that pulses falls asleep.
    Pulse(usize),
    /// A process dies, if it still has this connection.
    Die(usize, Link),
}

impl Happening {
    /// The process that must be awake for it.
    fn process(&self) -> Option<usize> {
        match self {
            Happening::Connect(i)
            | Happening::Beat(i, _)
            | Happening::Flow(i, ..)
            | Happening::Computed(i, _)
            | Happening::Peer(i, _)
            | Happening::SendAgain(i, _)
            | Happening::Probe(i, _) => Some(*i),
            Happening::Arrive(i, _, Stream::DownControl | Stream::DownBulk) => Some(*i),
            _ => None,
        }
    }

    /// Whether the coordinator must be awake for it.
    fn is_coordinators(&self) -> bool {
        matches!(
            self,
            Happening::Connect(_)
                | Happening::Arrive(_, _, Stream::UpControl | Stream::UpPush)
                | Happening::Flow(..)
                | Happening::Again(..)
                | Happening::Saved(..)
                | Happening::Reduced(..)
                | Happening::Told(..)
                | Happening::Sync(_)
        )
    }
}

/// A run and all that is around it. Many fields: each is a part of the world.
pub(crate) struct World<'a> {
    weather: Weather,
    poison: Option<(StepId, ShardId)>,
    sabotage: Sabotage,
    dice: Dice,
    now: RunTime,
    agenda: BTreeMap<(RunTime, u64), Happening>,
    planned: u64,
    processes: Vec<Process>,
    links: u64,
    /// Whether processes exchange chunks.
    peers: bool,
    /// Whether the coordinator is on the first machine.
    shared: bool,
    /// The first process of a pair cannot connect to the second until then; what either sends there is lost.
    parted: BTreeMap<(usize, usize), RunTime>,
    coordinator: Coordinator,
    watch: Watch<'a>,
    story: Story,
}

impl<'a> World<'a> {
    /// A world in which nothing has happened.
    pub fn new(scenario: &Scenario, trace: Option<&'a mut Vec<String>>) -> World<'a> {
        let mut dice = Dice::new(!scenario.seed);
        // The last two may be of one machine.
        let machines = scenario.workers - usize::from(scenario.twins);
        let process = |i: usize| Process::new(i.min(machines - 1), &mut dice);
        let mut processes: Vec<Process> = (0..scenario.workers).map(process).collect();
        processes.extend((0..scenario.adders).map(|i| Process::adder(machines + i)));
        let all = processes.len();
        let story = Story {
            took: Micros(0),
            outcome: Outcome::Stopped,
            committed: StepId(0),
            commits: 0,
            starts: 0,
            overdue: 0,
            copies: 0,
            ignored: 0,
            contradictions: 0,
            sliced: 0,
            moved: [0; 3],
            audited_sums: 0,
            wrong_sums: 0,
            disagreements: 0,
            outvoted: 0,
            faults: vec![0; Fault::ALL.len()],
            after_storm: Micros(0),
            effects: 0,
        };
        let mut world = World {
            weather: scenario.weather.clone(),
            poison: scenario.poison,
            sabotage: Sabotage(scenario.mutant),
            dice,
            now: RunTime(0),
            agenda: BTreeMap::new(),
            planned: 0,
            processes,
            links: 0,
            peers: scenario.peers,
            shared: scenario.seed.is_multiple_of(3),
            parted: scenario.parted.iter().map(|pair| (*pair, RunTime(u64::MAX))).collect(),
            coordinator: Coordinator::new(scenario),
            watch: Watch::new(scenario, trace),
            story,
        };
        world.at(RunTime(0), Happening::Start);
        for i in scenario.workers - scenario.pulsing..scenario.workers {
            world.processes[i].trouble.pulses_until = RunTime(u64::MAX);
            world.at(RunTime(1_000_000), Happening::Pulse(i));
        }
        if let (Some(takes), Some(last)) = (scenario.dawdle, world.processes.get_mut(scenario.workers - 1)) {
            (last.trouble.dawdles_until, last.trouble.dawdle) = (RunTime(u64::MAX), takes);
        }
        for i in 0..all {
            let late = world.storm() && world.dice.chance(200);
            world.later(if late { 20_000_000 } else { 1_000_000 }, Happening::Connect(i));
        }
        world.at(RunTime(1), Happening::Weather);
        world
    }

    /// Lets everything happen until the run is over or a promise is broken.
    pub fn run(mut self) -> Result<Story, Violation> {
        let last = self.calm_from().after(self.alone()).after(PATIENCE);
        for _ in 0..MOST_HAPPENINGS {
            if let Some(broken) = self.watch.broken.take() {
                return Err(broken);
            }
            if let Some(outcome) = self.coordinator.outcome().cloned() {
                if !self.goes_on_after(&outcome) {
                    self.watch.see(&Fact::Ended(&outcome));
                    return self.watch.broken.take().map_or(Ok(self.end(outcome)), Err);
                }
                self.crash(Tail::Kept);
            }
            if !self.advance() || self.now > last {
                break;
            }
        }
        let waiting = self.coordinator.waiting_for();
        self.watch.see(&Fact::Overtime { waiting: &waiting });
        Err(self.watch.broken.take().expect("overtime is a violation"))
    }

    /// Whether somebody starts the run again after this end. A divergence is the work of a liar, if there is one.
    fn goes_on_after(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Stopped | Outcome::Unsaved { .. } | Outcome::RolledBack { .. } => true,
            Outcome::Diverged { .. } => self.processes.iter().any(|process| process.honesty.lies),
            _ => false,
        }
    }

    /// Lets the next thing on the agenda happen, or the run's deadline pass if that is earlier. False if there is
    /// nothing.
    fn advance(&mut self) -> bool {
        let next = self.agenda.first_key_value().map_or(RunTime(u64::MAX), |((at, _), _)| *at);
        let awake = self.coordinator.asleep_until;
        if let Some(deadline) = self.coordinator.deadline.map(|at| at.max(awake)).filter(|at| *at < next) {
            self.pass(deadline);
            self.tell(Event::Deadline, None);
            if self.coordinator.deadline.is_some_and(|at| at <= self.now) {
                self.watch.see(&Fact::Overtime { waiting: "a deadline that is past" });
            }
            return true;
        }
        let Some(((at, _), happening)) = self.agenda.pop_first() else { return false };
        self.pass(at);
        self.happen(happening);
        true
    }

    fn end(self, outcome: Outcome) -> Story {
        let (committed, starts) = (self.coordinator.committed.step, self.coordinator.start);
        Story {
            took: Micros(self.now.0),
            outcome,
            committed,
            starts,
            after_storm: self.now.since(self.calm_from()),
            ..self.story
        }
    }

    /// The time that the slowest worker alone needs, on one thread.
    fn alone(&self) -> Micros {
        let plan = &self.watch.books.plan;
        let shards = plan.last_parameters().0 * u64::from(plan.shards_full_step.max(plan.shards_last_step))
            + u64::from(plan.epochs) * u64::from(plan.evaluate_shards);
        let slowest = self.processes.iter().map(|process| process.shard_micros(self.now)).max().unwrap_or(0);
        Micros(slowest).times(shards)
    }

    fn pass(&mut self, to: RunTime) {
        self.now = self.now.max(to);
        self.watch.books.now = self.now;
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

    /// When the last fault may be.
    fn calm_from(&self) -> RunTime {
        RunTime(self.weather.storm.0)
    }

    fn storm(&self) -> bool {
        self.now < self.calm_from()
    }

    /// Whether this fault strikes now.
    fn throw(&mut self, fault: Fault) -> bool {
        self.storm() && self.dice.chance(self.weather.chance(fault))
    }

    fn count(&mut self, fault: Fault, process: Option<usize>) {
        self.story.faults[fault as usize] += 1;
        self.watch.note(|| match process {
            Some(i) => format!("!! {} (process {i})", fault.name()),
            None => format!("!! {}", fault.name()),
        });
    }

    /// Tells the coordinator of an event, and carries out its effects.
    fn tell(&mut self, event: Event, answer: Option<&Answer>) {
        let mut at = self.now;
        // Two parts of the coordinator read the clock one after the other, and are heard in another order.
        if event != Event::Deadline && self.throw(Fault::ClockBack) {
            self.count(Fault::ClockBack, None);
            at.0 = at.0.saturating_sub(self.dice.below(5_000_000));
        }
        match self.coordinator.handle(at, event, answer, &mut self.watch) {
            Ok(effects) => {
                for effect in effects {
                    self.carry_out(&effect);
                }
            }
            Err(crash) => {
                self.count(Fault::CrashAtWrite, None);
                return self.crash(crash.tail);
            }
        }
        self.reduce();
    }

    /// Has the coordinator look whether sums are complete.
    fn reduce(&mut self) {
        let start = self.coordinator.start;
        for event in self.coordinator.owners_reduced() {
            self.later(2_000, Happening::Told(start, event));
        }
        if let Some((what, reduced)) = self.coordinator.reduced() {
            self.later(20_000, Happening::Reduced(what, reduced));
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        self.story.effects = oracle::mix(self.story.effects, fingerprint(effect));
        match effect {
            Effect::OpenStep { work: Work::Train, .. } => self.tell_all_of_owners(),
            // Before a step begins, all that follows from new owners is told with the step.
            Effect::Owners { why, .. } => {
                match why {
                    OwnersReason::StepBegins | OwnersReason::Doubt => return,
                    OwnersReason::Gone(_) => self.story.moved[0] += 1,
                    OwnersReason::Unreached { .. } => self.story.moved[1] += 1,
                    OwnersReason::Late(_) => self.story.moved[2] += 1,
                }
                self.tell_all_of_owners();
            }
            Effect::Send { worker, lease, check } => {
                let audits = *check == Check::Digest;
                self.send(*worker, Stream::DownControl, Message::Send(*lease, audits));
            }
            Effect::Revoke { worker, at, why } => {
                self.story.copies += u64::from(*why == RevokeReason::AnotherWasFirst);
                self.send(*worker, Stream::DownControl, Message::Revoke(*at));
            }
            Effect::Disconnect { worker, why } => self.send(*worker, Stream::DownControl, Message::Disconnect(*why)),
            Effect::Commit { .. } => {
                self.story.commits += 1;
                self.story.sliced += u64::from(self.coordinator.is_sliced());
                (0..self.processes.len()).for_each(|i| self.hand_out_committed(i));
            }
            Effect::Checkpoint { step, .. } => self.checkpoint(*step),
            Effect::Overdue { .. } => self.story.overdue += 1,
            Effect::Contradict { .. } => self.story.contradictions += 1,
            Effect::Disagree { .. } => self.story.disagreements += 1,
            Effect::Evict { proof, .. } => {
                self.story.wrong_sums += u64::from(*proof == EvictionProof::Sum);
                self.story.outvoted += u64::from(matches!(proof, EvictionProof::Disagreements(_)));
            }
            Effect::Ignore { .. } => self.story.ignored += 1,
            _ => {}
        }
    }

    fn checkpoint(&mut self, step: StepId) {
        let start = self.coordinator.start;
        let at = self.now.after(Micros(1 + self.dice.below(700_000)));
        if self.throw(Fault::DiskFull) {
            self.count(Fault::DiskFull, None);
            return self.at(at, Happening::Told(start, Event::CheckpointFailed { step }));
        }
        if self.sabotage.is(Mutant::EarlyWritten) {
            self.at(self.now, Happening::Told(start, Event::CheckpointWritten { step }));
        }
        let told_after = Micros(self.dice.below(5_000));
        self.at(at, Happening::Saved(start, step, told_after));
    }

    fn saved(&mut self, start: u64, step: StepId, told_after: Micros) {
        if start == self.coordinator.start {
            self.coordinator.saved(step, &mut self.watch);
            self.at(self.now.after(told_after), Happening::Told(start, Event::CheckpointWritten { step }));
        }
    }

    fn happen(&mut self, happening: Happening) {
        let asleep = happening
            .process()
            .map(|i| self.processes[i].trouble.paused_until.max(self.processes[i].trouble.away_until));
        let coordinator = happening.is_coordinators().then_some(self.coordinator.asleep_until);
        if let Some(until) = asleep.max(coordinator).filter(|until| *until > self.now) {
            return self.at(until, happening);
        }
        match happening {
            Happening::Start => self.start(),
            Happening::Connect(i) => self.connect(i),
            Happening::Beat(i, link) => self.beat(i, link),
            Happening::Arrive(i, link, stream) => {
                if !self.processes[i].connection.clogged[stream.way() as usize] {
                    self.deliver(i, link, stream);
                }
            }
            Happening::Flow(i, link, stream) => self.flow(i, link, stream),
            Happening::Computed(i, at) => self.computed(i, at),
            Happening::Peer(i, message) => self.heard_peer(i, message),
            Happening::SendAgain(i, link) => self.send_again(i, link),
            Happening::Probe(i, link) => self.probe(i, link),
            Happening::Again(i, answer) => {
                if let Some(worker) = self.processes[i].connection.worker {
                    self.answered(worker, &answer);
                }
            }
            Happening::Weather => self.faults(),
            Happening::Clog(i, way, clogged) => {
                if self.storm() || !clogged {
                    self.clog(i, way, clogged);
                }
            }
            Happening::Pulse(i) => self.pulse(i),
            Happening::Die(i, link) => self.die(i, link),
            // The coordinator that these were for may be dead.
            Happening::Saved(start, step, told_after) => self.saved(start, step, told_after),
            Happening::Reduced(what, event) => {
                // Chunks may have moved since: it is told when the owners of now have what they need.
                let waits = what == self.coordinator.reducing() && self.coordinator.waits_for_sums();
                if waits && self.audit_sums() {
                    self.tell(event, None);
                }
            }
            Happening::Told(start, event) => {
                if start == self.coordinator.start {
                    self.tell(event, None);
                }
            }
            Happening::Sync(start) => {
                if start == self.coordinator.start && self.coordinator.is_up() {
                    self.coordinator.sync(&mut self.watch);
                    self.at(self.now.after(Micros::millis(200)), Happening::Sync(start));
                }
            }
        }
    }

    fn beat(&mut self, i: usize, link: Link) {
        if let Some(worker) = self.processes[i].worker_on(link) {
            self.send(worker, Stream::UpControl, Message::Beat);
            self.at(self.now.after(Micros::millis(500)), Happening::Beat(i, link));
        }
    }

    /// A process that pulses falls asleep.
    fn pulse(&mut self, i: usize) {
        let trouble = &mut self.processes[i].trouble;
        if trouble.pulses_until > self.now {
            trouble.paused_until = trouble.paused_until.max(self.now.after(Micros::millis(1800)));
            self.at(self.now.after(Micros::millis(1900)), Happening::Pulse(i));
        }
    }

    fn start(&mut self) {
        let damaged = self.throw(Fault::Damage);
        if damaged {
            self.count(Fault::Damage, None);
        }
        self.coordinator.start(&mut self.watch, damaged);
        self.at(self.now.after(Micros::millis(200)), Happening::Sync(self.coordinator.start));
    }

    /// Kills the coordinator, which starts again later from its disk.
    fn crash(&mut self, tail: Tail) {
        self.coordinator.die(&mut self.watch, tail, &mut self.dice);
        self.coordinator.asleep_until = RunTime(0);
        for i in 0..self.processes.len() {
            if self.processes[i].connection.worker.is_some() {
                self.disconnect(i);
            }
        }
        self.later(2_000_000, Happening::Start);
    }

    /// Starts the next lease of a process, if it can.
    fn compute(&mut self, i: usize) {
        if let Some((at, micros)) = self.processes[i].start(self.now, self.sabotage.is(Mutant::OldParameters)) {
            let parameters = self.processes[i].computing.map_or(0, |(_, parameters)| parameters);
            if self.processes[i].connection.worker.is_some() {
                self.watch.see(&Fact::Began { step: at.step, parameters });
            }
            let wobble = self.dice.below(micros / 4);
            self.at(self.now.after(Micros(micros + wobble)), Happening::Computed(i, at));
        }
    }

    fn computed(&mut self, i: usize, at: LeaseRef) {
        let process = &mut self.processes[i];
        // A hung process holds on to what it has.
        if process.trouble.hung || process.computing.is_none_or(|(computing, _)| computing != at) {
            return;
        }
        let parameters = process.computing.take().expect("it is this lease").1;
        let (Some(worker), Some(lease)) = (process.connection.worker, process.drop_lease(at)) else {
            return self.compute(i);
        };
        let dies =
            |(step, ShardId(shard))| at.step == step && lease.node.contains(Node { first: shard, last: shard + 1 });
        if self.poison.is_some_and(dies) {
            self.kill(i, 1_500_000);
            return;
        }
        let shard_micros = process.measured(&lease, self.now);
        let failure = self.throw(Fault::Failure).then(|| {
            self.count(Fault::Failure, Some(i));
            self.dice.pick(&[Failure::Internal, Failure::DataUnreadable])
        });
        let lied = failure.is_none() && self.lies_about(i, &lease);
        self.watch.see(&Fact::Computed { worker, lease, data_of: self.sabotage.data_of(at.step), lied });
        let answer = self.answer(i, lease, parameters, shard_micros, failure);
        self.hand_in(i, worker, answer, lied);
    }

    /// Whether a process computes a lease wrongly.
    fn lies_about(&mut self, i: usize, lease: &Lease) -> bool {
        let Process { honesty, audits, peer, .. } = &self.processes[i];
        let sliced = lease.work == Work::Train && peer.told.as_ref().is_some_and(|told| !told.owners().is_empty());
        let (lies, rightly) = (honesty.lies, honesty.computes_rightly);
        let careful = honesty.careful && sliced && audits.contains(&lease.at);
        if careful && !rightly {
            self.count(Fault::Careful, Some(i));
        }
        lies && !careful && !rightly
    }

    /// The honest answer to a lease.
    fn answer(&self, i: usize, lease: Lease, parameters: u64, shard_micros: u64, failure: Option<Failure>) -> Answer {
        let chunks = self.watch.books.plan.chunks as usize;
        let told = self.processes[i].peer.told.as_ref().filter(|told| told.fence.step == lease.at.step);
        let (version, to_coordinator) = match told {
            Some(told) if lease.work == Work::Train => {
                (told.fence.version, told.chunks_of(Owner::Coordinator).collect())
            }
            _ => (OwnersVersion(0), (0..chunks).collect()),
        };
        Answer {
            lease,
            chunks: oracle::node_values(parameters, lease.work, lease.node, chunks),
            to_coordinator,
            version,
            sent: Sent::Whole,
            shard_micros,
            failure,
            result: NodeResult::Good,
        }
    }

    /// A process sends an answer, or a part of it, or makes something else of it.
    fn hand_in(&mut self, i: usize, worker: WorkerId, mut answer: Answer, lied: bool) {
        let at = answer.lease.at;
        let honest = answer.chunks.clone();
        let alone = answer.to_coordinator.len() == honest.len();
        if lied {
            self.lie(i, &mut answer, alone);
        }
        if let Sent::Half(_) = answer.sent {
            self.receive(worker, &answer);
            self.kill(i, 1_500_000);
            return;
        }
        self.say(i, Event::NodeComputed { worker, at });
        let exchanged = self.processes[i].peer.told.is_some() && answer.lease.work == Work::Train;
        if exchanged && answer.failure.is_none() && !self.processes[i].audits.contains(&at) {
            self.keep(i, answer);
            if lied && self.throw(Fault::Half) {
                self.count(Fault::Half, Some(i));
                self.dies_soon(i);
            }
            return self.compute(i);
        }
        self.repeat(i, &answer);
        let otherwise = Answer { chunks: honest, ..answer.clone() };
        let again = lied && (answer.sent, answer.result) == (Sent::Whole, NodeResult::Good);
        self.processes[i].audits.remove(&at);
        self.send(worker, Stream::UpPush, Message::Answer(answer));
        if again && self.throw(Fault::Otherwise) {
            self.count(Fault::Otherwise, Some(i));
            self.send(worker, Stream::UpPush, Message::Answer(otherwise));
        }
        self.compute(i);
    }

    fn die(&mut self, i: usize, link: Link) {
        if self.processes[i].worker_on(link).is_some() {
            self.kill(i, 1_500_000);
        }
    }

    /// A process dies within some milliseconds.
    fn dies_soon(&mut self, i: usize) {
        let link = self.processes[i].connection.link;
        self.later(20_000, Happening::Die(i, link));
    }

    /// An answer may arrive once more, much later.
    pub(super) fn repeat(&mut self, i: usize, answer: &Answer) {
        if self.throw(Fault::Repeat) {
            self.count(Fault::Repeat, Some(i));
            let within = if self.dice.chance(500) { 50_000 } else { 3_000_000 };
            self.later(within, Happening::Again(i, answer.clone()));
        }
    }

    /// Puts something wrong into some chunks of an answer, and may have it sent twice or by half.
    fn lie(&mut self, i: usize, answer: &mut Answer, alone: bool) {
        let machine = self.processes[i].machine as u64;
        let wrong: Vec<u64> = answer.chunks.iter().map(|right| oracle::mix(*right, machine)).collect();
        let good = NodeResult::Good;
        answer.result = self.dice.pick(&[good, good, good, good, NodeResult::NotFinite, NodeResult::Absurd]);
        if alone && answer.result == good && self.throw(Fault::Twice) {
            self.count(Fault::Twice, Some(i));
            answer.sent = Sent::Twice(wrong[0]);
            return;
        }
        // All processes of a machine lie in the same chunks.
        let chunks = wrong.len() as u64;
        match (wrong[0] % (chunks + 1)) as usize {
            0 => answer.chunks = wrong,
            index => answer.chunks[index - 1] = wrong[index - 1],
        }
        if alone && self.throw(Fault::Half) {
            self.count(Fault::Half, Some(i));
            answer.sent = Sent::Half(self.dice.below(chunks) as usize);
        }
    }

    /// All of an answer has come.
    fn answered(&mut self, worker: WorkerId, answer: &Answer) {
        self.receive(worker, answer);
        self.tell(answer.event(worker), Some(answer));
    }

    /// Bytes of an answer have come: the run hears at once where they are not what came before.
    fn receive(&mut self, worker: WorkerId, answer: &Answer) {
        if let Some(contradiction) = self.coordinator.receive(worker, answer) {
            self.tell(contradiction, None);
        }
    }
}

/// A number for an effect, to compare stories by.
fn fingerprint(effect: &Effect) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    effect.hash(&mut hasher);
    hasher.finish()
}
