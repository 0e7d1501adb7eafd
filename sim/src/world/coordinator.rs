//! A coordinator around the run: driver, journal, reducer and disk. It can be killed at any write to the journal and
//! started again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use convoy_common::counted_sum::{Contradiction, CountedSum};
use convoy_scheduler::*;

use super::answer::{Answer, Sent};
use super::brought::{BroughtChunks, SumsDue};
use super::peer::{Made, Number, RootSum, Told};
use crate::dice::Dice;
use crate::facts::{Fact, Fence};
use crate::invariant_watch::Watch;
use crate::mutants::{Act, Mutant, Sabotage};
use crate::oracle::{self, Model};
use crate::scenario::{CrashPoint, Scenario, Tail};

/// Checkpoints that are kept.
const KEPT: usize = 3;

/// Both ends of the driver: it collects records and effects in their order, and fails at the write where the
/// coordinator is to be killed.
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
    shards: u32,
    chunks: Vec<ChunkSum>,
    /// All nodes in the order in which they came.
    arrived: u64,
    /// The parameters that follow, once the sum is there.
    next: Option<Model>,
}

/// The sum of a chunk: the coordinator's own, or that of another owner.
struct ChunkSum {
    own: CountedSum<Number>,
    root: Option<u64>,
}

impl ChunkSum {
    fn total(&self) -> Option<u64> {
        self.root.or_else(|| self.own.total().map(|total| total.0))
    }
}

impl Reducer {
    /// The sums of all shards, once all of them are there. A mutant does without one of them.
    fn totals(&self, without: bool) -> Option<Vec<u64>> {
        let lacks = self.chunks.iter().filter(|chunk| chunk.total().is_none()).count();
        let complete = lacks == 0 || (without && lacks == 1 && self.chunks.len() > 1);
        complete.then(|| self.chunks.iter().map(|chunk| chunk.total().unwrap_or_default()).collect())
    }
}

/// The contents of a checkpoint.
#[derive(Clone, Debug)]
struct Checkpoint {
    model: Model,
    evaluation_pending: bool,
}

impl Checkpoint {
    /// The initialisation.
    fn initial(chunks: u32) -> Checkpoint {
        Checkpoint { model: Model::first(chunks), evaluation_pending: false }
    }
}

/// A coordinator with its disk, which outlives it. Many fields: it is all the parts that the real one has.
pub struct Coordinator {
    /// The parameters that it goes on with.
    pub committed: Committed,
    /// The step that it adds up.
    pub reduction: Reduction,
    /// Whose sums it adds anew.
    pub sums_due: SumsDue,
    /// Who owns which chunk.
    owners: Owners,
    /// Counts the starts, whatever generation they say they are.
    pub start: u64,
    /// It is stopped until then.
    pub asleep_until: RunTime,
    /// Counts the workers of this start.
    workers: u32,
    plan: RunPlan,
    driver: Option<Driver<Wire, Wire>>,
    wire: Wire,
    sabotage: Sabotage,
    doubles: bool,
    /// Checkpoints on their way to the disk.
    being_written: BTreeMap<StepId, Checkpoint>,
    waited_for: Option<Waiting>,
    /// When its run wants to be told the time, if it lives.
    pub deadline: Option<RunTime>,
    disk: Disk,
}

/// The parameters that the coordinator goes on with.
pub struct Committed {
    /// The number of steps that have made them.
    pub step: StepId,
    /// The parameters and the optimizer's state.
    pub model: Model,
    /// Whether they are evaluated, or need no evaluation.
    evaluated: bool,
}

/// A start of the coordinator, an opening, and the owners of chunks.
pub type Reduced = (u64, Opening, OwnersVersion);

/// Who owns which chunk.
struct Owners {
    version: OwnersVersion,
    of: Vec<Owner>,
    /// The owners whose sums the run was told are all there, for what opening and version.
    reduced: BTreeSet<(Opening, OwnersVersion, WorkerId)>,
}

/// The sums of the step in work.
#[derive(Default)]
pub struct Reduction {
    reducer: Option<Reducer>,
    /// What the reducer was opened for last.
    pub opening: Opening,
    /// The leases of the step in work, each with its worker, and whether its answer is counted, compared, or both.
    out: BTreeMap<LeaseRef, (WorkerId, Check)>,
    /// What owners were brought, and what they say.
    pub brought: BroughtChunks,
}

/// The disk, which outlives the coordinator's process.
struct Disk {
    journal: Vec<Record>,
    /// How many of the journal's records are synced.
    synced: usize,
    checkpoints: BTreeMap<StepId, Checkpoint>,
}

impl Disk {
    /// The newest checkpoint whose parameters the journal believes, or if that is damaged the one before it; the
    /// initialisation if there is none.
    fn newest_checkpoint(&self, damaged: bool, chunks: u32) -> (StepId, Checkpoint) {
        let digests = believed(&self.journal);
        let is_believed = |(step, checkpoint): &(&StepId, &Checkpoint)| {
            let digest = oracle::digest(checkpoint.model.whole());
            step.0 == 0 || digests.get(&StepId(step.0 - 1)) == Some(&digest)
        };
        let mut good =
            self.checkpoints.iter().rev().filter(is_believed).map(|(step, checkpoint)| (*step, checkpoint.clone()));
        let newest = good.next().unwrap_or((StepId(0), Checkpoint::initial(chunks)));
        if damaged { good.next().unwrap_or(newest) } else { newest }
    }

    /// Writes a checkpoint. Older ones go, but for the newest few and the newest that no audit can find wrong.
    fn save(&mut self, step: StepId, checkpoint: Checkpoint, trusted: StepId) {
        self.checkpoints.insert(step, checkpoint);
        let known_good = self.checkpoints.range(..=trusted).next_back().map(|(step, _)| *step);
        let old = self.checkpoints.keys().copied().take(self.checkpoints.len().saturating_sub(KEPT));
        for old in old.filter(|old| Some(*old) != known_good).collect::<Vec<_>>() {
            self.checkpoints.remove(&old);
        }
    }

    /// Loses some of the last records that were not synced.
    fn lose(&mut self, tail: Tail, dice: &mut Dice) {
        let unsynced = (self.journal.len() - self.synced.min(self.journal.len())) as u64;
        let lost = match tail {
            Tail::Kept => 0,
            Tail::Lost => unsynced,
            Tail::Random => dice.below(unsynced + 1),
        };
        self.journal.truncate(self.journal.len() - lost as usize);
        self.synced = self.synced.min(self.journal.len());
    }
}

impl Owners {
    fn of_coordinator(chunks: u32) -> Owners {
        let of = vec![Owner::Coordinator; chunks as usize];
        Owners { version: OwnersVersion(0), of, reduced: BTreeSet::new() }
    }
}

impl Coordinator {
    /// A coordinator that was never started.
    pub fn new(scenario: &Scenario) -> Coordinator {
        let wire = Wire::default();
        wire.0.borrow_mut().crash = scenario.crash_at;
        let chunks = scenario.plan.chunks;
        let checkpoints = BTreeMap::from([(StepId(0), Checkpoint::initial(chunks))]);
        Coordinator {
            committed: Committed { step: StepId(0), model: Model::first(chunks), evaluated: true },
            reduction: Reduction::default(),
            sums_due: SumsDue::default(),
            owners: Owners::of_coordinator(chunks),
            start: 0,
            asleep_until: RunTime(0),
            workers: 0,
            plan: RunPlan { generation: RunGeneration(0), ..scenario.plan.clone() },
            driver: None,
            wire,
            sabotage: Sabotage(scenario.mutant),
            // Other mutants do things that no run would do; other invariants must catch them.
            doubles: scenario.doubles && matches!(scenario.mutant, None | Some(Mutant::SwapEffects)),
            being_written: BTreeMap::new(),
            waited_for: None,
            deadline: None,
            disk: Disk { journal: Vec::new(), synced: 0, checkpoints },
        }
    }

    /// Starts from its disk. If the newest checkpoint is damaged, the one before it is read.
    pub fn start(&mut self, watch: &mut Watch, damaged: bool) {
        let (mut first_step, checkpoint) = self.disk.newest_checkpoint(damaged, self.plan.chunks);
        if self.sabotage.is(Mutant::SkipReplay) && self.start > 0 && first_step < self.plan.last_parameters() {
            first_step = first_step.next();
        }
        if self.sabotage.is(Mutant::LoseRecord) && self.start > 0 {
            self.disk.journal.pop();
        }
        let again = self.start > 0 && self.sabotage.is(Mutant::SameGeneration);
        self.plan.generation.0 += u64::from(!again);
        self.plan.first_step = first_step;
        self.plan.evaluation_pending = checkpoint.evaluation_pending;
        self.start += 1;
        self.workers = 0;
        self.reduction.out.clear();
        self.sums_due = SumsDue::default();
        self.owners = Owners::of_coordinator(self.plan.chunks);
        let Checkpoint { model, evaluation_pending } = checkpoint;
        let parameters = model.number();
        self.committed = Committed { step: first_step, model, evaluated: !evaluation_pending };
        watch.see(&Fact::Started { plan: &self.plan, parameters, read: &self.disk.journal });
        if watch.broken.is_some() {
            return;
        }
        let journal = self.disk.journal.iter().map(|record| self.sabotage.read(record));
        match Run::resume(self.sabotage.plan(self.plan.clone()), journal) {
            Ok(run) => self.driver = Some(Driver::new(run, self.wire.clone(), self.wire.clone())),
            Err(error) => watch.see(&Fact::Refused(&error)),
        }
        self.note_deadline();
    }

    /// Dies. Of the records that were not synced, the last may be lost.
    pub fn die(&mut self, watch: &mut Watch, tail: Tail, dice: &mut Dice) {
        self.disk.lose(tail, dice);
        self.driver = None;
        self.deadline = None;
        self.reduction.reducer = None;
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

    /// Whether its process lives.
    pub fn is_up(&self) -> bool {
        self.driver.is_some()
    }

    /// How its run ended, if it lives and the run has ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.driver.as_ref()?.run().outcome()
    }

    fn note_deadline(&mut self) {
        self.deadline = self.driver.as_ref().and_then(|driver| driver.run().deadline());
    }

    /// What its run waits for, in words.
    pub fn waiting_for(&self) -> String {
        self.driver.as_ref().map_or("its start".to_owned(), |driver| driver.run().waiting_for().to_string())
    }

    /// Syncs the journal.
    pub fn sync(&mut self, watch: &mut Watch) {
        self.disk.synced = self.disk.journal.len();
        watch.see(&Fact::Synced);
    }

    /// Writes a checkpoint to the disk, after the journal.
    pub fn saved(&mut self, step: StepId, watch: &mut Watch) {
        let Some(checkpoint) = self.being_written.remove(&step) else { return };
        self.sync(watch);
        let trusted = self.driver.as_ref().map_or(step, |driver| driver.run().trusted());
        let parameters = checkpoint.model.number();
        self.disk.save(step, checkpoint, trusted);
        watch.see(&Fact::Saved { step, parameters });
    }

    /// Notes when a worker was last in contact.
    pub fn heard(&mut self, worker: WorkerId, contact: Contact, watch: &mut Watch) {
        if let Some(driver) = &mut self.driver {
            driver.heard(worker, self.sabotage.contact(contact));
            self.note_deadline();
            watch.see(&Fact::Heard { worker, contact });
        }
    }

    /// Hands the driver an event that is said to have happened at `at`, and carries out the coordinator's own part of
    /// the effects. The answer is the effects that the world must carry out.
    ///
    /// # Errors
    /// Where it was killed.
    pub fn handle(
        &mut self,
        at: RunTime,
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
        if self.sabotage.is(Mutant::IgnoreSilence) && event == Event::Deadline {
            let alive = Contact::of_message(watch.books.now);
            watch.books.members.keys().for_each(|worker| driver.heard(*worker, alive));
        }
        let mut double = self.doubles.then(|| (driver.run().clone(), Vec::new()));
        for event in heard {
            if let Some((run, effects)) = &mut double {
                run.handle(at, event.clone(), effects);
            }
            killed |= driver.handle(at, event).is_err();
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
            && self.reduction.out.get(&answer.lease.at).is_none_or(|(_, check)| *check != Check::Digest)
            && answer.result != NodeResult::NotFinite
        {
            let (answered, node) = (answer.lease.at, answer.lease.node);
            watch.see(&Fact::Counted { worker: *worker, answered, node });
        }
        watch.see(&Fact::Told { event: &event, at, ignored: killed || why.is_some() });
        let effects = acts.into_iter().filter_map(|act| self.carry_out(act, watch)).collect();
        if killed {
            let crash = self.wire.0.borrow_mut().crash.take();
            self.note_deadline();
            return Err(crash.expect("the journal fails where it was told to"));
        }
        self.rest(at, watch);
        Ok(effects)
    }

    /// Adds the digest of an answer's numbers to its event, as the coordinator's service does.
    fn with_digest(&self, event: Event, answer: Option<&Answer>) -> Event {
        let event = match (event.worker(), answer) {
            (Some(worker), Some(answer)) if answer.sent != Sent::Whole && self.sabotage.is(Mutant::FirstCopy) => {
                Answer { sent: Sent::Whole, ..answer.clone() }.event(worker)
            }
            _ => event,
        };
        match (event, answer) {
            (Event::NodeDone { worker, at, shard_micros, version, result, .. }, Some(answer)) => {
                let check = self.reduction.out.get(&at).map(|(_, check)| *check).filter(|check| *check != Check::Count);
                let finite = result != NodeResult::NotFinite;
                let digest = check.filter(|_| finite).map(|check| self.node_digest(answer, check == Check::Digest));
                Event::NodeDone { worker, at, shard_micros, version, result, digest }
            }
            (event, _) => event,
        }
    }

    /// The digest of an answer's numbers in parts. Of a node that is to be counted, each is what the owner says to have
    /// been brought, and otherwise all are what the worker says itself.
    fn node_digest(&self, answer: &Answer, itself: bool) -> NodeDigest {
        if answer.lease.work == Work::Evaluate {
            return NodeDigest::whole(answer.digest());
        }
        let says = |chunk: usize, owner: Owner| match owner {
            Owner::Worker(owner) if !itself => {
                self.reduction.brought.of(answer.lease.at, chunk, owner).map_or(0, |brought| brought.says)
            }
            _ => answer.chunks[chunk],
        };
        let mut parts: BTreeMap<Owner, Vec<u64>> = BTreeMap::from([(Owner::Coordinator, Vec::new())]);
        for (chunk, owner) in self.owners.of.iter().enumerate() {
            let part = if self.sabotage.is(Mutant::WholeDigest) { Owner::Coordinator } else { *owner };
            parts.entry(part).or_default().push(says(chunk, *owner));
        }
        NodeDigest::of_parts(parts.into_iter().map(|(owner, part)| (owner, oracle::digest(oracle::whole(&part)))))
    }

    /// All effects are carried out: asks the run what it waits for.
    fn rest(&mut self, told: RunTime, watch: &mut Watch) {
        self.note_deadline();
        let Some(driver) = &self.driver else { return };
        let waiting = driver.run().waiting_for();
        let said = match self.waited_for.replace(waiting.clone()) {
            Some(before) if self.sabotage.is(Mutant::StaleAnswer) => before,
            _ if self.sabotage.is(Mutant::CountAdders) => watch.books.counting_adders(waiting),
            _ => waiting,
        };
        watch.see(&Fact::Rested { waiting: &said, deadline: self.deadline, told });
    }

    /// Takes in the bytes of an answer, if its lease is out: they are counted, or compared with what is counted. Where
    /// they are not equal, that is what the run must be told before anything else.
    pub fn receive(&mut self, worker: WorkerId, answer: &Answer) -> Option<Event> {
        let (holder, check) = *self.reduction.out.get(&answer.lease.at)?;
        if holder != worker || check == Check::Digest {
            return None;
        }
        let reducer = self.reduction.reducer.as_mut()?;
        let Lease { at: LeaseRef { step, .. }, work, node } = answer.lease;
        let came = answer.came(self.sabotage.is(Mutant::FirstCopy));
        if came.len() == reducer.chunks.len() {
            reducer.arrived = oracle::mix(reducer.arrived, answer.number());
        }
        let own = came.into_iter().filter(|(index, _)| {
            answer.to_coordinator.contains(index)
                && (work == Work::Evaluate || self.owners.of[*index] == Owner::Coordinator)
        });
        let counted = own.map(|(index, value)| reducer.chunks[index].own.insert(node, worker, Number(value)));
        let differs = counted.filter_map(Result::err).reduce(|first, _| first);
        differs.map(|Contradiction { node, workers }| Event::NodeContradicted { step, work, node, workers })
    }

    /// The reducer's event that its sum is complete, once for each opening and its owners, whose numbers come with it.
    pub fn reduced(&mut self) -> Option<(Reduced, Event)> {
        let model = &self.committed.model;
        // The run may still wait for an audit.
        self.driver.as_ref()?.run().expects()?;
        let reducer = self.reduction.reducer.as_mut().filter(|reducer| reducer.next.is_none())?;
        let (step, totals) = (reducer.step, reducer.totals(self.sabotage.is(Mutant::MissingRoot))?);
        let in_order = self.sabotage.is(Mutant::ArrivalOrder);
        let totals = if in_order { vec![reducer.arrived; totals.len()] } else { totals };
        let next = model.next(&totals);
        let event = match reducer.work {
            Work::Train => Event::StepReduced { step, digest: oracle::digest(next.whole()) },
            Work::Evaluate => Event::EvaluationReduced { step, stop_early: oracle::stop_early(model.whole()) },
        };
        reducer.next = Some(next);
        Some((self.reducing(), event))
    }

    /// What it reduces.
    pub fn reducing(&self) -> Reduced {
        (self.start, self.reduction.opening, self.owners.version)
    }

    /// Whether its run waits for the sums. If it does not, they are worth telling later.
    pub fn waits_for_sums(&mut self) -> bool {
        let waits = self.driver.as_ref().is_some_and(|driver| driver.run().expects().is_some());
        if let Some(reducer) = self.reduction.reducer.as_mut().filter(|_| !waits) {
            reducer.next = None;
        }
        waits
    }

    /// The step in work and its owners, if one is in work.
    pub fn told(&self) -> Option<Told> {
        let reducer = self.reduction.reducer.as_ref().filter(|reducer| reducer.work == Work::Train)?;
        let (opening, version) = (self.reduction.opening, self.owners.version);
        let fence = Fence { generation: self.plan.generation, step: reducer.step, opening, version };
        Some(Told { fence, shards: reducer.shards, of: self.owners.of.clone() })
    }

    /// Whether workers own chunks.
    pub fn is_sliced(&self) -> bool {
        self.owners.of.iter().any(|owner| *owner != Owner::Coordinator)
    }

    /// The chunks that it has made itself of the committed parameters.
    pub fn own_chunks(&self) -> Vec<(usize, u64)> {
        let own = |(chunk, _): &(usize, &u64)| self.owners.of[*chunk] == Owner::Coordinator;
        self.committed.model.values.iter().enumerate().filter(own).map(|(chunk, value)| (chunk, *value)).collect()
    }

    /// The optimizer's state of chunks before `step`, if that is the next one.
    pub fn state(&self, step: StepId, chunks: &[usize]) -> Option<Vec<(usize, Made)>> {
        let model = &self.committed.model;
        let made = |chunk: &usize| (*chunk, Made { value: model.values[*chunk], state: model.state[*chunk] });
        (step == self.committed.step).then(|| chunks.iter().map(made).collect())
    }

    /// Takes in the sum of a chunk that its owner has made. What was made for another opening is worth nothing, and
    /// neither is the sum of an owner that has lost the chunk.
    pub fn take_root(&mut self, owner: WorkerId, fence: Fence, sum: RootSum, watch: &mut Watch) {
        let RootSum { chunk, value, wrong } = sum;
        let own = self.owners.of[chunk] == Owner::Worker(owner)
            || self.sabotage.is(Mutant::FirstRoot)
            || self.sabotage.is(Mutant::OldOwner);
        let current = own && fence.generation == self.plan.generation && fence.opening == self.reduction.opening;
        if let Some(reducer) = self.reduction.reducer.as_mut().filter(|_| current) {
            let root = &mut reducer.chunks[chunk].root;
            if root.is_none() {
                *root = Some(value);
                watch.see(&Fact::SumTaken { owner, chunk, wrong });
            }
        }
    }

    /// The sum of a chunk, if its owner has sent it.
    pub fn sum_of(&self, chunk: usize) -> Option<u64> {
        self.reduction.reducer.as_ref()?.chunks[chunk].root
    }

    /// The news that all sums of an owner are there, once for each opening and version.
    pub fn owners_reduced(&mut self) -> Vec<Event> {
        let Some(Told { fence, of, .. }) = self.told() else { return Vec::new() };
        let Some(reducer) = &self.reduction.reducer else { return Vec::new() };
        let mut complete: BTreeMap<WorkerId, bool> = BTreeMap::new();
        for (owner, chunk) in of.iter().zip(&reducer.chunks) {
            if let Owner::Worker(worker) = owner {
                *complete.entry(*worker).or_insert(true) &= chunk.root.is_some();
            }
        }
        let Fence { opening, version, .. } = fence;
        let reduced = &mut self.owners.reduced;
        let fresh = complete.into_iter().filter(|(owner, all)| *all && reduced.insert((opening, version, *owner)));
        fresh.map(|(worker, _)| Event::OwnerReduced { worker, opening, version }).collect()
    }

    /// Carries out the coordinator's own part of a record or an effect. The answer is an effect that the world must
    /// carry out.
    fn carry_out(&mut self, act: Act, watch: &mut Watch) -> Option<Effect> {
        let effect = match act {
            Act::Append(record) => {
                watch.see(&Fact::Appended(&record));
                self.committed.evaluated |= matches!(record, Record::Evaluated { .. });
                let at_once = record.is_urgent() && !self.sabotage.is_unsynced(&record);
                self.disk.journal.push(record);
                if at_once {
                    self.sync(watch);
                }
                return None;
            }
            Act::Out(effect) => effect,
        };
        watch.see(&Fact::CarriedOut(&effect));
        match &effect {
            Effect::Owners { version, of, .. } => {
                let before = std::mem::replace(&mut self.owners.of, of.clone());
                self.owners.version = *version;
                let kept = self.sabotage.is(Mutant::FirstRoot);
                // What was made of sums of before is worth nothing.
                self.reduction.reducer.iter_mut().for_each(|reducer| reducer.next = None);
                let chunks = self.reduction.reducer.iter_mut().flat_map(|reducer| &mut reducer.chunks);
                for ((chunk, before), now) in chunks.zip(&before).zip(of) {
                    if before != now && !kept {
                        chunk.root = None;
                    }
                }
            }
            Effect::OpenStep { step, work, shards, opening } => {
                self.reduction.opening = *opening;
                self.reduction.out.clear();
                self.reduction.brought.clear();
                let chunk = |_| ChunkSum { own: CountedSum::over(*shards), root: None };
                let chunks = (0..self.plan.chunks).map(chunk).collect();
                let (step, work, shards) = (*step, *work, *shards);
                self.reduction.reducer = Some(Reducer { step, work, shards, chunks, arrived: 0, next: None });
            }
            Effect::AbandonStep { .. } => {
                self.reduction.out.clear();
                self.reduction.reducer = None;
            }
            Effect::Send { worker, lease, check } => _ = self.reduction.out.insert(lease.at, (*worker, *check)),
            Effect::Commit { step, .. } => {
                let (step, made) = (step.next(), self.reduction.reducer.take().and_then(|reducer| reducer.next));
                let model = made.unwrap_or_else(|| self.committed.model.clone());
                let evaluated = !self.plan.ends_epoch(step) || self.plan.evaluate_shards == 0;
                watch.see(&Fact::Made { step, parameters: model.number() });
                self.committed = Committed { step, model, evaluated };
            }
            Effect::Checkpoint { step, .. } => {
                let mut model = self.committed.model.clone();
                model.values[0] ^= u64::from(self.sabotage.is(Mutant::FlipBit));
                let evaluation_pending = !self.committed.evaluated;
                self.being_written.insert(*step, Checkpoint { model, evaluation_pending });
            }
            _ => {}
        }
        Some(effect)
    }
}

/// Whether `acts` are `effects`, in their order.
fn same(effects: &[Effect], acts: &[Act]) -> bool {
    let one = |(effect, act): (&Effect, &Act)| match (effect, act) {
        (Effect::Record(record), Act::Append(appended)) => record == appended,
        (effect, Act::Out(carried_out)) => effect == carried_out,
        _ => false,
    };
    effects.len() == acts.len() && effects.iter().zip(acts).all(one)
}
