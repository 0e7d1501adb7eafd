//! A coordinator around the run: driver, journal, reducer and disk, and every promise checked as it is made.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::rc::Rc;

use convoy_scheduler::*;

use super::oracle;

/// Records and effects in the order in which they left the driver.
#[derive(Clone, Debug, Default)]
struct Log(Rc<RefCell<Vec<Effect>>>);

impl Journal for Log {
    type Error = Infallible;

    fn append(&mut self, record: &Record) -> Result<(), Infallible> {
        self.0.borrow_mut().push(Effect::Record(record.clone()));
        Ok(())
    }
}

impl Outbox for Log {
    fn carry_out(&mut self, effect: Effect) {
        assert!(!matches!(effect, Effect::Record(_)), "records go to the journal");
        self.0.borrow_mut().push(effect);
    }
}

/// The sums of the step in work.
struct Reducer {
    step: StepId,
    work: Work,
    fold: Fold,
    values: BTreeMap<Node, u64>,
    told: bool,
}

/// What is on disk.
struct Checkpoint {
    step: StepId,
    evaluation_pending: bool,
    /// How much of the journal was synced when it was written.
    journal: usize,
}

pub struct Coordinator {
    pub plan: RunPlan,
    pub committed: StepId,
    pub parameters: u64,
    driver: Driver<Log, Log>,
    log: Log,
    journal: Vec<Record>,
    disk: Checkpoint,
    being_written: BTreeMap<StepId, bool>,
    evaluated: bool,
    reducer: Option<Reducer>,
    /// Threads and leases by member.
    members: BTreeMap<WorkerId, (u32, BTreeMap<LeaseId, Lease>)>,
    given: BTreeSet<LeaseId>,
    history: Vec<u64>,
}

impl Coordinator {
    pub fn new(plan: RunPlan) -> Coordinator {
        let log = Log::default();
        let run = Run::new(plan.clone());
        let history = oracle::history(&plan);
        Coordinator {
            committed: plan.first_step,
            parameters: oracle::FIRST_PARAMETERS,
            driver: Driver::new(run, log.clone(), log.clone()),
            log,
            journal: Vec::new(),
            disk: Checkpoint { step: StepId(0), evaluation_pending: false, journal: 0 },
            being_written: BTreeMap::new(),
            evaluated: true,
            reducer: None,
            members: BTreeMap::new(),
            given: BTreeSet::new(),
            history,
            plan,
        }
    }

    /// Killed and started again. Of what the journal was told after the last checkpoint, up to `lost` records are gone.
    pub fn restart(&mut self, lost: usize) {
        self.journal.truncate(self.disk.journal.max(self.journal.len().saturating_sub(lost)));
        self.plan.generation.0 += 1;
        self.plan.first_step = self.disk.step;
        self.plan.evaluation_pending = self.disk.evaluation_pending;
        let run = Run::resume(self.plan.clone(), self.journal.iter().cloned()).expect("the journal is whole");
        self.log = Log::default();
        self.driver = Driver::new(run, self.log.clone(), self.log.clone());
        self.committed = self.disk.step;
        self.parameters = self.history[self.committed.0 as usize];
        self.evaluated = !self.disk.evaluation_pending;
        self.being_written.clear();
        self.reducer = None;
        self.members.clear();
        self.given.clear();
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.driver.run().outcome().cloned()
    }

    pub fn deadline(&self) -> Option<RunTime> {
        self.driver.run().deadline()
    }

    pub fn waiting_for(&self) -> String {
        self.driver.run().waiting_for().to_string()
    }

    /// Hands the driver an event and looks at everything that follows.
    pub fn handle(&mut self, now: RunTime, event: Event, value: Option<u64>) -> Vec<Effect> {
        let mut twin = self.driver.run().clone();
        let mut twins = Vec::new();
        twin.handle(now, event.clone(), &mut twins);
        self.driver.handle(now, event.clone()).expect("this journal cannot fail");
        let effects = self.log.0.take();
        assert_eq!(effects, twins, "the driver carries out every effect in order");
        assert_eq!(&twin, self.driver.run(), "equal events make equal states");
        self.waiting_for();
        self.before(&event, effects.iter().any(|effect| matches!(effect, Effect::Ignore { .. })), value);
        for (i, effect) in effects.iter().enumerate() {
            self.look_at(effect, i.checked_sub(1).map(|before| &effects[before]));
        }
        effects
    }

    /// What the event itself means, unless it was ignored.
    fn before(&mut self, event: &Event, ignored: bool, value: Option<u64>) {
        if ignored {
            return;
        }
        match event {
            Event::WorkerJoined { worker, threads } => {
                self.members.insert(*worker, (*threads, BTreeMap::new()));
            }
            Event::WorkerLeft { worker, .. } => {
                self.members.remove(worker);
            }
            Event::NodeDone { worker, at, .. } => {
                let (_, held) = self.members.get_mut(worker).expect("a stranger's answer counts for nothing");
                let lease = held.remove(&at.lease).expect("only what is held is done");
                assert_eq!(lease.at, *at, "an answer counts only under its lease's full name");
                self.reduce(lease, value.expect("a node has a value"));
            }
            Event::LeaseFailed { worker, at, .. } => {
                let (_, held) = self.members.get_mut(worker).expect("a stranger's failure counts for nothing");
                held.remove(&at.lease).expect("only what is held can fail");
            }
            Event::CheckpointWritten { step } => {
                let evaluation_pending = self.being_written.remove(step).expect("it was asked for");
                if *step >= self.disk.step {
                    self.disk = Checkpoint { step: *step, evaluation_pending, journal: self.journal.len() };
                }
            }
            Event::CheckpointFailed { step } => {
                self.being_written.remove(step).expect("it was asked for");
            }
            _ => {}
        }
    }

    fn reduce(&mut self, lease: Lease, value: u64) {
        let reducer = self.reducer.as_mut().expect("a step is open");
        assert_eq!((reducer.step, reducer.work), (lease.at.step, lease.work), "only the open step takes nodes");
        reducer.values.insert(lease.node, value);
        for Merge { left, right, into } in reducer.fold.arrive(lease.node).expect("no shard is counted twice") {
            let sum = oracle::mix(reducer.values[&left], reducer.values[&right]);
            reducer.values.insert(into, sum);
        }
    }

    /// The reducer's news, once per step: its sum is complete.
    pub fn reduced(&mut self) -> Option<Event> {
        let reducer = self.reducer.as_mut().filter(|reducer| reducer.fold.is_complete() && !reducer.told)?;
        reducer.told = true;
        let step = reducer.step;
        let sum = reducer.values[&reducer.fold.present().next().expect("it is complete")];
        Some(match reducer.work {
            Work::Train => {
                let digest = oracle::digest(oracle::next_parameters(self.parameters, sum));
                Event::StepReduced { step, digest }
            }
            Work::Evaluate => {
                let stop_early = oracle::stop_early(self.parameters);
                Event::EvaluationReduced { step, stop_early }
            }
        })
    }

    /// Checks an effect, and does the coordinator's own part of it.
    fn look_at(&mut self, effect: &Effect, before: Option<&Effect>) {
        match effect {
            Effect::Record(record) => self.record(record),
            Effect::OpenStep { step, work, shards } => {
                assert_eq!(*step, self.committed, "the next step starts from what is committed");
                let due = !self.evaluated && self.plan.evaluate_shards > 0;
                assert_eq!(*work == Work::Evaluate, due, "an epoch's end is evaluated before anything else");
                let (fold, values) = (Fold::new(*shards), BTreeMap::new());
                self.reducer = Some(Reducer { step: *step, work: *work, fold, values, told: false });
            }
            Effect::AbandonStep { .. } => self.reducer = None,
            Effect::Send { worker, lease } => self.sent(*worker, *lease),
            Effect::Revoke { worker, at, .. } => {
                let (_, held) = self.members.get_mut(worker).expect("only a member is told");
                assert!(held.remove(&at.lease).is_some(), "only what is held is revoked");
            }
            Effect::Evict { worker, .. } => {
                self.members.remove(worker);
            }
            Effect::Commit { step, digest } => {
                let recorded = |record: &Effect| {
                    matches!(record, Effect::Record(Record::StepCommitted { step: s, digest: d, .. })
                        if (s, d) == (step, digest))
                };
                assert!(before.is_some_and(recorded), "a commit is recorded first");
                assert_eq!(*step, self.committed, "each step is committed once, in order");
                assert!(self.members.values().all(|(_, held)| held.is_empty()), "nothing is out for a step behind us");
                self.committed = step.next();
                self.parameters = self.history[self.committed.0 as usize];
                assert_eq!(*digest, oracle::digest(self.parameters), "the bits are those of one machine alone");
                self.evaluated = !self.plan.ends_epoch(self.committed) || self.plan.evaluate_shards == 0;
                self.reducer = None;
            }
            Effect::Checkpoint { step, .. } => {
                assert_eq!(*step, self.committed, "what is committed is what is saved");
                assert_eq!(self.being_written.insert(*step, !self.evaluated), None, "and once at a time");
            }
            Effect::Finish { outcome } => {
                assert!(matches!(before, Some(Effect::Record(Record::Finished { .. }))), "an end is recorded first");
                let saved = self.disk.step == self.committed;
                assert!(
                    saved || matches!(outcome, Outcome::Unsaved { .. }),
                    "at the end all is on disk, or it is said"
                );
            }
            Effect::Overdue { .. } | Effect::Doubt { .. } | Effect::Ignore { .. } => {}
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::StepCommitted { step, ledger, .. } => {
                assert_eq!(check_ledger(ledger, self.plan.shards(*step)), Ok(()), "{step}");
            }
            Record::Evaluated { step, .. } => {
                assert_eq!((*step, self.evaluated), (self.committed, false), "an epoch's end is evaluated once");
                self.evaluated = true;
            }
            _ => {}
        }
        self.journal.push(record.clone());
    }

    fn sent(&mut self, worker: WorkerId, lease: Lease) {
        let reducer = self.reducer.as_ref().expect("a step is opened before it is lent");
        assert_eq!((reducer.step, reducer.work), (lease.at.step, lease.work));
        let shards = match lease.work {
            Work::Train => self.plan.shards(lease.at.step),
            Work::Evaluate => self.plan.evaluate_shards,
        };
        assert!(lease.node.is_node_of(tree::root(shards)), "{} is no node", lease.node);
        assert_eq!(lease.at.generation, self.plan.generation);
        assert!(self.given.insert(lease.at.lease), "{} is given twice", lease.at.lease);
        let (threads, held) = self.members.get_mut(&worker).expect("only a member is sent a lease");
        assert!(held.values().all(|other| other.node != lease.node), "{worker} holds {} already", lease.node);
        held.insert(lease.at.lease, lease);
        assert!(held.len() <= (*threads * self.plan.queue_per_thread) as usize, "{worker} holds too much");
        assert!(lease.node.size() <= self.plan.limits.lease_shards, "{} is too large", lease.node);
    }
}
