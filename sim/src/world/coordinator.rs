//! A coordinator around the run: driver, journal, reducer and disk. It can be killed at any write and started again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use convoy_scheduler::*;

use super::process::Answer;
use crate::dice::Dice;
use crate::facts::Fact;
use crate::mutants::{Act, Mutant, Sabotage};
use crate::oracle;
use crate::scenario::{CrashPoint, Scenario, Tail};
use crate::watch::Watch;

/// Checkpoints that are kept.
const KEPT: usize = 3;

/// What leaves the driver, in its order, and where it is killed.
#[derive(Clone, Debug, Default)]
struct Wire(Rc<RefCell<Acts>>);

#[derive(Debug, Default)]
struct Acts {
    acts: Vec<Act>,
    writes: u64,
    crash: Option<CrashPoint>,
}

/// The process was killed while it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Killed;

impl Journal for Wire {
    type Error = Killed;

    fn append(&mut self, record: &Record) -> Result<(), Killed> {
        let mut wire = self.0.borrow_mut();
        wire.writes += 1;
        let crash = wire.crash.filter(|crash| crash.write == wire.writes);
        if crash.is_none_or(|crash| crash.written) {
            wire.acts.push(Act::Append(record.clone()));
        }
        if crash.is_some() { Err(Killed) } else { Ok(()) }
    }
}

impl Outbox for Wire {
    fn carry_out(&mut self, effect: Effect) {
        self.0.borrow_mut().acts.push(Act::Out(effect));
    }
}

/// The sums of the step in work.
struct Reducer {
    step: StepId,
    work: Work,
    fold: Fold,
    values: BTreeMap<Node, u64>,
    /// All values in the order in which they came.
    arrived: u64,
    /// The parameters that follow, once the sum is there.
    next: Option<u64>,
}

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    parameters: u64,
    evaluation_pending: bool,
}

pub struct Coordinator {
    pub committed: StepId,
    pub parameters: u64,
    /// Counts the starts, whatever generation they say they are.
    pub start: u64,
    workers: u32,
    plan: RunPlan,
    driver: Option<Driver<Wire, Wire>>,
    wire: Wire,
    sabotage: Sabotage,
    doubles: bool,
    reducer: Option<Reducer>,
    /// Counts what the reducer was opened for.
    pub openings: u64,
    /// What is done with the answers to leases.
    checks: BTreeMap<LeaseRef, Check>,
    evaluated: bool,
    being_written: BTreeMap<StepId, Checkpoint>,
    waited_for: Option<Waiting>,
    journal: Vec<Record>,
    synced: usize,
    checkpoints: BTreeMap<StepId, Checkpoint>,
}

impl Coordinator {
    pub fn new(scenario: &Scenario) -> Coordinator {
        let wire = Wire::default();
        wire.0.borrow_mut().crash = scenario.crash_at;
        let initial = Checkpoint { parameters: oracle::FIRST_PARAMETERS, evaluation_pending: false };
        Coordinator {
            committed: StepId(0),
            parameters: oracle::FIRST_PARAMETERS,
            start: 0,
            workers: 0,
            plan: RunPlan { generation: RunGeneration(0), ..scenario.plan.clone() },
            driver: None,
            wire,
            sabotage: Sabotage(scenario.mutant),
            // Other mutants do what no run would do; other invariants must catch them.
            doubles: scenario.doubles && matches!(scenario.mutant, None | Some(Mutant::SwapEffects)),
            reducer: None,
            openings: 0,
            checks: BTreeMap::new(),
            evaluated: true,
            being_written: BTreeMap::new(),
            waited_for: None,
            journal: Vec::new(),
            synced: 0,
            checkpoints: BTreeMap::from([(StepId(0), initial)]),
        }
    }

    /// Starts on what the disk holds. If the newest checkpoint is damaged, the one before it is read.
    pub fn start(&mut self, watch: &mut Watch, damaged: bool) {
        let (mut first_step, checkpoint) = self.newest(damaged);
        if self.sabotage.is(Mutant::SkipReplay) && self.start > 0 && first_step < self.plan.last_parameters() {
            first_step = first_step.next();
        }
        if self.sabotage.is(Mutant::LoseRecord) && self.start > 0 {
            self.journal.pop();
        }
        let again = self.start > 0 && self.sabotage.is(Mutant::SameGeneration);
        self.plan.generation.0 += u64::from(!again);
        self.plan.first_step = first_step;
        self.plan.evaluation_pending = checkpoint.evaluation_pending;
        self.start += 1;
        self.workers = 0;
        self.checks.clear();
        self.committed = first_step;
        self.parameters = checkpoint.parameters;
        self.evaluated = !checkpoint.evaluation_pending;
        watch.see(&Fact::Started { plan: &self.plan, parameters: self.parameters, read: &self.journal });
        if watch.broken.is_some() {
            return;
        }
        match Run::resume(self.plan.clone(), self.journal.iter().cloned()) {
            Ok(run) => self.driver = Some(Driver::new(run, self.wire.clone(), self.wire.clone())),
            Err(error) => watch.see(&Fact::Refused(&error)),
        }
    }

    /// The newest checkpoint whose parameters the journal believes, or the one before it; the initialisation if there is
    /// none.
    fn newest(&self, damaged: bool) -> (StepId, Checkpoint) {
        let digests = believed(&self.journal);
        let is_believed = |(step, checkpoint): &(&StepId, &Checkpoint)| {
            let digest = oracle::digest(checkpoint.parameters);
            step.0 == 0 || digests.get(&StepId(step.0 - 1)) == Some(&digest)
        };
        let mut good = self.checkpoints.iter().rev().filter(is_believed).map(|(step, checkpoint)| (*step, *checkpoint));
        let first = (StepId(0), Checkpoint { parameters: oracle::FIRST_PARAMETERS, evaluation_pending: false });
        let newest = good.next().unwrap_or(first);
        if damaged { good.next().unwrap_or(newest) } else { newest }
    }

    /// Dies. Of what was not synced, the tail may be lost.
    pub fn die(&mut self, watch: &mut Watch, tail: Tail, dice: &mut Dice) {
        let unsynced = (self.journal.len() - self.synced.min(self.journal.len())) as u64;
        let lost = match tail {
            Tail::Kept => 0,
            Tail::Lost => unsynced,
            Tail::Random => dice.below(unsynced + 1),
        };
        self.journal.truncate(self.journal.len() - lost as usize);
        self.synced = self.synced.min(self.journal.len());
        self.driver = None;
        self.reducer = None;
        self.being_written.clear();
        self.waited_for = None;
        watch.see(&Fact::Died);
    }

    /// Kills it at one of the next writes to the journal.
    pub fn kill_at_write(&mut self, next: u64, written: bool) {
        let mut wire = self.wire.0.borrow_mut();
        wire.crash = Some(CrashPoint { write: wire.writes + next, written, tail: Tail::Random });
    }

    /// A number for a worker; each start counts from 1.
    pub fn next_worker(&mut self) -> WorkerId {
        self.workers += 1;
        WorkerId(self.workers)
    }

    pub fn is_up(&self) -> bool {
        self.driver.is_some()
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.driver.as_ref()?.run().outcome()
    }

    pub fn deadline(&self) -> Option<RunTime> {
        self.driver.as_ref()?.run().deadline()
    }

    pub fn waiting_for(&self) -> String {
        self.driver.as_ref().map_or("its start".to_owned(), |driver| driver.run().waiting_for().to_string())
    }

    /// The journal is synced.
    pub fn sync(&mut self, watch: &mut Watch) {
        self.synced = self.journal.len();
        watch.see(&Fact::Synced);
    }

    /// A checkpoint is on disk, and the journal before it.
    pub fn saved(&mut self, step: StepId, watch: &mut Watch) {
        let Some(checkpoint) = self.being_written.remove(&step) else { return };
        self.sync(watch);
        self.checkpoints.insert(step, checkpoint);
        let trusted = self.driver.as_ref().map_or(step, |driver| driver.run().trusted());
        let known_good = self.checkpoints.range(..=trusted).next_back().map(|(step, _)| *step);
        let old = self.checkpoints.keys().copied().take(self.checkpoints.len().saturating_sub(KEPT));
        for old in old.filter(|old| Some(*old) != known_good).collect::<Vec<_>>() {
            self.checkpoints.remove(&old);
        }
        watch.see(&Fact::Saved { step, parameters: checkpoint.parameters });
    }

    /// Hands the driver an event and does the coordinator's own part of what follows. The rest is the answer; or how it
    /// died.
    pub fn handle(
        &mut self,
        event: Event,
        answer: Option<&Answer>,
        watch: &mut Watch,
    ) -> Result<Vec<Effect>, CrashPoint> {
        if self.driver.is_none() {
            return Ok(Vec::new());
        }
        let mut killed = false;
        let event = self.with_digest(event, answer);
        let heard = self.sabotage.hear(event, &watch.books);
        let Some(event) = heard.last().cloned() else { return Ok(Vec::new()) };
        let Some(driver) = &mut self.driver else { return Ok(Vec::new()) };
        let mut double = self.doubles.then(|| (driver.run().clone(), Vec::new()));
        for event in heard {
            if let Some((run, effects)) = &mut double {
                run.handle(watch.books.now, event.clone(), effects);
            }
            killed |= driver.handle(watch.books.now, event).is_err();
        }
        let acts = std::mem::take(&mut self.wire.0.borrow_mut().acts);
        let acts = self.sabotage.act(acts, &watch.books);
        if let Some((run, effects)) = double
            && !killed
            && !(run == *driver.run() && same(&effects, &acts))
        {
            watch.see(&Fact::Differed);
        }
        let why = acts.iter().find_map(|act| match act {
            Act::Out(Effect::Ignore { why, .. }) => Some(*why),
            _ => None,
        });
        if let (Event::NodeDone { worker, .. }, Some(answer), false) = (&event, answer, killed)
            && self.sabotage.counts(why)
            && self.checks.get(&answer.lease.at) != Some(&Check::Digest)
            && answer.result != NodeResult::NotFinite
        {
            self.count(*worker, answer, watch);
        }
        watch.see(&Fact::Told { event: &event, ignored: killed || why.is_some() });
        let effects = acts.into_iter().filter_map(|act| self.carry_out(act, watch)).collect();
        if killed {
            let crash = self.wire.0.borrow_mut().crash.take();
            return Err(crash.expect("the journal fails where it was told to"));
        }
        self.rest(watch);
        Ok(effects)
    }

    /// As the coordinator's service hands an answer on: with the digest that it took of the numbers.
    fn with_digest(&self, event: Event, answer: Option<&Answer>) -> Event {
        match (event, answer) {
            (Event::NodeDone { worker, at, shard_micros, result, .. }, Some(answer)) => {
                let asked = self.checks.get(&at).is_some_and(|check| *check != Check::Count);
                let digest = (asked && result != NodeResult::NotFinite).then(|| oracle::digest(answer.value));
                Event::NodeDone { worker, at, shard_micros, result, digest }
            }
            (event, _) => event,
        }
    }

    /// All is done: what does the run wait for?
    fn rest(&mut self, watch: &mut Watch) {
        let Some(driver) = &self.driver else { return };
        let waiting = driver.run().waiting_for();
        let said = match self.waited_for.replace(waiting.clone()) {
            Some(before) if self.sabotage.is(Mutant::StaleAnswer) => before,
            _ => waiting,
        };
        watch.see(&Fact::Rested { waiting: &said, deadline: driver.run().deadline() });
    }

    fn count(&mut self, worker: WorkerId, answer: &Answer, watch: &mut Watch) {
        let node = answer.lease.node;
        watch.see(&Fact::Counted { worker, answered: answer.lease.at, node });
        let Some(reducer) = &mut self.reducer else { return };
        reducer.arrived = oracle::mix(reducer.arrived, answer.value);
        match reducer.fold.arrive(node) {
            Ok(merges) => {
                reducer.values.insert(node, answer.value);
                for Merge { left, right, into } in merges {
                    let sum = oracle::mix(reducer.values[&left], reducer.values[&right]);
                    reducer.values.insert(into, sum);
                }
            }
            Err(_) => {
                let twice = reducer.values.get(&node).map(|value| oracle::mix(*value, answer.value));
                reducer.values.extend(twice.map(|value| (node, value)));
            }
        }
    }

    /// The reducer's news, once per step: its sum is complete.
    pub fn reduced(&mut self) -> Option<(u64, Event)> {
        let parameters = self.parameters;
        // The run may still wait for an audit.
        let Waiting::Reducer { .. } = self.driver.as_ref()?.run().waiting_for() else { return None };
        let reducer = self.reducer.as_mut().filter(|reducer| reducer.fold.is_complete() && reducer.next.is_none())?;
        let step = reducer.step;
        let root = reducer.fold.present().next().expect("it is complete");
        let sum = if self.sabotage.is(Mutant::ArrivalOrder) { reducer.arrived } else { reducer.values[&root] };
        let next = oracle::next_parameters(parameters, sum);
        reducer.next = Some(next);
        let event = match reducer.work {
            Work::Train => Event::StepReduced { step, digest: oracle::digest(next) },
            Work::Evaluate => Event::EvaluationReduced { step, stop_early: oracle::stop_early(parameters) },
        };
        Some((self.openings, event))
    }

    /// Does the coordinator's own part; the answer is what the world must do.
    fn carry_out(&mut self, act: Act, watch: &mut Watch) -> Option<Effect> {
        let effect = match act {
            Act::Append(record) => {
                watch.see(&Fact::Appended(&record));
                self.evaluated |= matches!(record, Record::Evaluated { .. });
                let at_once = record.is_urgent();
                self.journal.push(record);
                if at_once {
                    self.sync(watch);
                }
                return None;
            }
            Act::Out(effect) => effect,
        };
        watch.see(&Fact::Left(&effect));
        match &effect {
            Effect::OpenStep { step, work, shards } => {
                self.openings += 1;
                let (fold, values) = (Fold::new(*shards), BTreeMap::new());
                self.reducer = Some(Reducer { step: *step, work: *work, fold, values, arrived: 0, next: None });
            }
            Effect::AbandonStep { .. } => self.reducer = None,
            Effect::Send { lease, check, .. } => _ = self.checks.insert(lease.at, *check),
            Effect::Commit { step, .. } => {
                self.parameters = self.reducer.take().and_then(|reducer| reducer.next).unwrap_or(self.parameters);
                self.committed = step.next();
                self.evaluated = !self.plan.ends_epoch(self.committed) || self.plan.evaluate_shards == 0;
                watch.see(&Fact::Made { step: self.committed, parameters: self.parameters });
            }
            Effect::Checkpoint { step, .. } => {
                let checkpoint = Checkpoint { parameters: self.parameters, evaluation_pending: !self.evaluated };
                self.being_written.insert(*step, checkpoint);
            }
            _ => {}
        }
        Some(effect)
    }
}

fn same(effects: &[Effect], acts: &[Act]) -> bool {
    let one = |(effect, act): (&Effect, &Act)| match (effect, act) {
        (Effect::Record(record), Act::Append(appended)) => record == appended,
        (effect, Act::Out(carried_out)) => effect == carried_out,
        _ => false,
    };
    effects.len() == acts.len() && effects.iter().zip(acts).all(one)
}
