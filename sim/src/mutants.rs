//! Deliberate faults of Convoy itself, between the scheduler and the world. Each must be caught by an invariant. A
//! mutant that none catches shows a fault that the invariants are blind to.

use convoy_scheduler::{
    Check, Contact, DisconnectReason, Effect, Event, EvictionProof, IgnoreReason, LedgerEntry, Micros, NodeDigest,
    Owner, OwnersReason, Record, RevokeReason, RunPlan, RunTime, StepId, SumFinding, WorkerId,
};

use crate::bookkeeping::Books;

/// Longer than any run.
const NEVER: Micros = Micros::seconds(1 << 30);

macro_rules! mutants {
    ($($mutant:ident = $name:literal, $about:literal;)*) => {
        /// A deliberate fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant { $(#[doc = $about] $mutant,)* }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)*];

            /// Its name, as it is typed.
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$mutant => $name,)* }
            }

            /// Its effect, in words.
            pub fn about(self) -> &'static str {
                match self { $(Mutant::$mutant => $about,)* }
            }

            /// The mutant of this name.
            pub fn named(name: &str) -> Option<Mutant> {
                Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
            }
        }
    };
}

mutants! {
    CountTwice = "count-twice", "a node that arrives again is added again";
    ArrivalOrder = "arrival-order", "nodes are added in the order in which they arrive";
    ForgetEntry = "forget-entry", "the journal loses an entry of a ledger";
    CreditAnother = "credit-another", "the ledger names another worker for one of its entries";
    NextSamples = "next-samples", "a worker takes the samples of the next step for one of its leases";
    SendFirst = "send-first", "effects leave before their records are in the journal";
    LoseRecord = "lose-record", "a start loses the last record of the journal and nobody notices";
    EarlyWritten = "early-written", "a checkpoint is said to be written before it is";
    SkipReplay = "skip-replay", "a start goes on with the step after its checkpoint's without computing that one again";
    SameGeneration = "same-generation", "a start does not get a generation of its own";
    NoFence = "no-fence", "an answer to an earlier start is taken for one of this start's leases";
    IgnoreSilence = "ignore-silence", "silent workers are taken for alive";
    ForgetBytes = "forget-bytes", "a worker whose bytes flow is taken for one that sends nothing";
    BoundlessSending = "boundless-sending", "a node whose bytes flow may take for ever";
    DropDisconnect = "drop-disconnect", "a worker that is lost or has drained is not disconnected";
    LendTwice = "lend-twice", "a lease goes out to two workers";
    ForgetReduced = "forget-reduced", "the reducer's word that a step is complete is lost";
    CommitTwice = "commit-twice", "a step is committed a second time";
    StaleAnswer = "stale-answer", "the run says what it waited for before the last event";
    TrustAll = "trust-all", "whatever an auditor computed is taken for equal";
    BlameJudge = "blame-judge", "one of those that agree is evicted, not the one that does not";
    BelieveLiar = "believe-liar", "a run goes on from the step in which a liar was found out, whatever it did before";
    NameIsMachine = "name-is-machine", "a worker's name, which it chooses, is taken for its machine";
    FirstCopy = "first-copy", "of a node that is sent twice the first copy is counted and the last one's digest is taken";
    IgnoreContradiction = "ignore-contradiction", "of copies that differ the first is counted, and nobody hears of it";
    BlameNewest = "blame-newest", "where copies differ only who brought the last one is suspected";
    LendSuspects = "lend-suspects", "where copies differ the step is lent to one who brought them";
    IgnoreQuiet = "ignore-quiet", "workers that were not heard of for a second get leases";
    IgnoreDeaths = "ignore-deaths", "a node of which all workers die is lent again for ever";
    ForgetEviction = "forget-eviction", "a start does not know who was evicted before";
    UnsyncedEviction = "unsynced-eviction", "an eviction is acted on before it is on disk";
    FlipBit = "flip-bit", "a checkpoint has another bit than the parameters";
    DropRevoke = "drop-revoke", "nobody is told that another was first";
    RevokeAnother = "revoke-another", "another worker than the one that holds a lease is told to drop it";
    ShortLease = "short-lease", "a lease goes out without its last shard";
    OldParameters = "old-parameters", "a worker computes a lease with the parameters that it has";
    IgnoreLimit = "ignore-limit", "more workers are taken in than the plan allows";
    LongQueue = "long-queue", "workers are sent more leases than their queues hold";
    StaleOpening = "stale-opening", "an owner adds nodes that were sent for an earlier opening of the step";
    OldOwner = "old-owner", "what an owner has of a chunk when it loses it is taken for the sum";
    TwoOwners = "two-owners", "a worker adds chunks that others own";
    ForgetResend = "forget-resend", "a worker does not send its nodes to new owners, and says that it has";
    EarlyTaken = "early-taken", "an owner says that it has the first chunk of nodes, and has not";
    AnyVersion = "any-version", "what earlier owners have is taken for what the owners of now have";
    FirstRoot = "first-root", "the sum of a chunk counts although its owner has lost it";
    OldState = "old-state", "an owner begins with the optimizer's state of an earlier step";
    MissingRoot = "missing-root", "a step is committed although the sum of a chunk is missing";
    TrustPeers = "trust-peers", "a worker computes with what others say are the committed parameters";
    UnreachedOwner = "unreached-owner", "a worker becomes owner that others do not reach";
    GoneOwner = "gone-owner", "chunks of a worker that is gone stay with it";
    ForgetOwners = "forget-owners", "nobody is told where the chunks of a lost owner are";
    IgnoreComplaint = "ignore-complaint", "an owner that takes nothing from others stays owner";
    PatientSums = "patient-sums", "an owner whose sums do not come stays owner";
    TrustOwner = "trust-owner", "whatever an owner has added is taken for equal";
    BlameHolder = "blame-holder", "where an owner has added wrongly a worker is named that has brought it a node";
    BlameOwner = "blame-owner", "where a worker sends another chunk than before its owner is said to add wrongly";
    BlameAnother = "blame-another", "another worker is named than the one that handed out wrong parameters";
    WholeDigest = "whole-digest", "who computed a node is blamed for what an owner says of it";
    IgnoreUnanswered = "ignore-unanswered", "who does not answer an audit goes on as before";
    CreditOwner = "credit-owner", "the journal says that sums of all owners were audited";
    KeepDisputed = "keep-disputed", "an owner that another machine disagrees with goes on to own chunks";
    LendAdders = "lend-adders", "a worker that computes nothing is lent what another should compute";
    CountAdders = "count-adders", "with nobody there but adders the run does not say that it waits for workers";
    ForgetDisagreement = "forget-disagreement", "a start does not know who disagreed before";
    UnsyncedDisagreement = "unsynced-disagreement", "a disagreement is acted on before it is on disk";
    BelieveOwner = "believe-owner", "a run goes on from the step in which an owner was found out";
    BelieveDisputed = "believe-disputed", "what two that disagree had a part in before is believed";
    KeepOutvoted = "keep-outvoted", "who disagrees with too many is not evicted";
    SwapEffects = "swap-effects", "the last two effects of an event are carried out in the wrong order";
}

/// A record or an effect that left the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Append(Record),
    Out(Effect),
}

/// A mutant that changes what happens; or none, which changes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sabotage(pub Option<Mutant>);

impl Sabotage {
    /// Whether this mutant is at work.
    pub fn is(self, mutant: Mutant) -> bool {
        self.0 == Some(mutant)
    }

    /// The events that the driver is told instead of `event`.
    pub fn hear(self, event: Event, books: &Books) -> Vec<Event> {
        match (self.0, event) {
            (Some(Mutant::NoFence), Event::NodeDone { worker, at, shard_micros, version, result, digest }) => {
                let stale = at.generation != books.plan.generation;
                let other = books.members.get(&worker).and_then(|member| member.held.values().next());
                let at = other.filter(|_| stale).map_or(at, |lease| lease.at);
                vec![Event::NodeDone { worker, at, shard_micros, version, result, digest }]
            }
            (
                Some(Mutant::TrustAll),
                Event::NodeDone { worker, at, shard_micros, version, result, digest: Some(_) },
            ) => {
                vec![Event::NodeDone {
                    worker,
                    at,
                    shard_micros,
                    version,
                    result,
                    digest: Some(NodeDigest::whole([0; 32])),
                }]
            }
            (Some(Mutant::IgnoreUnanswered), Event::Unanswered { .. }) => Vec::new(),
            (Some(Mutant::BlameAnother), Event::WrongParameters { worker, owner }) => {
                let another = books.members.keys().copied().find(|other| *other != worker && *other != owner);
                vec![Event::WrongParameters { worker, owner: another.unwrap_or(owner) }]
            }
            (Some(mutant), Event::SumAudited { owner, opening, finding }) => {
                let finding = mistaken(mutant, owner, finding, books);
                vec![Event::SumAudited { owner, opening, finding }]
            }
            (Some(Mutant::NameIsMachine), Event::WorkerJoined { worker, name, threads, .. }) => {
                vec![Event::WorkerJoined { worker, machine: name.clone(), name, threads }]
            }
            (Some(Mutant::AnyVersion), Event::NodeDone { worker, at, shard_micros, result, digest, .. }) => {
                let version = books.exchange.version;
                vec![Event::NodeDone { worker, at, shard_micros, version, result, digest }]
            }
            (Some(Mutant::IgnoreComplaint), Event::PeerLost { .. }) => Vec::new(),
            (Some(Mutant::IgnoreContradiction), Event::NodeContradicted { .. }) => Vec::new(),
            (Some(Mutant::BlameNewest), Event::NodeContradicted { step, work, node, workers }) => {
                let workers = workers.last().copied().into_iter().collect();
                vec![Event::NodeContradicted { step, work, node, workers }]
            }
            (Some(Mutant::ForgetReduced), Event::StepReduced { step: StepId(5), .. }) => Vec::new(),
            (_, event) => vec![event],
        }
    }

    /// The plan that the run is told of instead of `plan`.
    pub fn plan(self, mut plan: RunPlan) -> RunPlan {
        match self.0 {
            Some(Mutant::IgnoreQuiet) => plan.timeouts.quiet = plan.timeouts.heartbeat_silence,
            Some(Mutant::BoundlessSending) => plan.timeouts.send_floor = Micros(u64::MAX),
            Some(Mutant::PatientSums) => (plan.timeouts.stall, plan.timeouts.send_floor) = (NEVER, NEVER),
            Some(Mutant::IgnoreDeaths) => plan.limits.deaths = u32::MAX,
            Some(Mutant::IgnoreLimit) => plan.limits.workers = u32::MAX,
            Some(Mutant::LongQueue) => plan.limits.queue_per_thread += 1,
            _ => {}
        }
        plan
    }

    /// A record of the journal as a start reads it.
    pub fn read(self, record: &Record) -> Record {
        match record {
            Record::Evicted { since, .. } if self.is(Mutant::ForgetEviction) => Record::Disbelieved { since: *since },
            Record::Disagreed { since, .. } if self.is(Mutant::ForgetDisagreement) => {
                Record::Disbelieved { since: *since }
            }
            record => record.clone(),
        }
    }

    /// Whether a record that must be on disk at once is not.
    pub fn is_unsynced(self, record: &Record) -> bool {
        match record {
            Record::Evicted { .. } => self.is(Mutant::UnsyncedEviction),
            Record::Disagreed { .. } => self.is(Mutant::UnsyncedDisagreement),
            _ => false,
        }
    }

    /// The contact with a worker that the run is told of instead of `contact`.
    pub fn contact(self, contact: Contact) -> Contact {
        match self.0 {
            Some(Mutant::ForgetBytes) => Contact { pushed: RunTime(0), fetched: RunTime(0), ..contact },
            _ => contact,
        }
    }

    /// The records and effects that the world sees instead of those that left the driver.
    pub fn act(self, mut acts: Vec<Act>, books: &Books) -> Vec<Act> {
        let Some(mutant) = self.0 else { return acts };
        match mutant {
            Mutant::ForgetEntry => change_ledgers(&mut acts, |ledger| _ = ledger.pop()),
            Mutant::CreditAnother => change_ledgers(&mut acts, |ledger| ledger[0].worker.0 += 1),
            Mutant::SendFirst => acts.sort_by_key(|act| matches!(act, Act::Append(_))),
            Mutant::DropDisconnect => acts.retain(|act| !is_lost_or_drained(act)),
            Mutant::LendTwice => acts.extend(second_lease(&acts, books)),
            Mutant::UnreachedOwner | Mutant::GoneOwner | Mutant::KeepDisputed => {
                acts.iter_mut().for_each(|act| wrong_owner(act, mutant, books))
            }
            Mutant::ForgetOwners => acts.retain(|act| !is_moving(act)),
            Mutant::CommitTwice => {
                let commit = |act: &Act| matches!(act, Act::Out(Effect::Commit { step: StepId(5), .. }));
                if let Some(i) = acts.iter().position(commit) {
                    acts.insert(i, acts[i].clone());
                }
            }
            Mutant::BlameJudge => acts.iter_mut().for_each(|act| blame_judge(act, books)),
            Mutant::CreditOwner => acts.iter_mut().for_each(credit_owners),
            Mutant::BelieveOwner if acts.iter().any(|act| is_evicted_for(act, &EvictionProof::Sum)) => {
                acts.iter_mut().for_each(|act| believe(act, books.committed));
            }
            Mutant::BelieveDisputed => acts.iter_mut().for_each(|act| {
                if let Act::Append(Record::Disagreed { since, .. }) = act {
                    *since = books.committed;
                }
            }),
            Mutant::KeepOutvoted if acts.iter().any(is_outvoted) => {
                let evicts = |act: &Act| matches!(act, Act::Append(Record::Evicted { .. })) || is_outvoted(act);
                acts.retain(|act| !evicts(act));
            }
            Mutant::BelieveLiar => acts.iter_mut().for_each(|act| believe(act, books.committed)),
            Mutant::LendSuspects => lend_suspects(&mut acts, books),
            Mutant::LendAdders => lend_adders(&mut acts, books),
            Mutant::DropRevoke => {
                let first = RevokeReason::AnotherWasFirst;
                acts.retain(|act| !matches!(act, Act::Out(Effect::Revoke { why, .. }) if *why == first));
            }
            Mutant::RevokeAnother => acts.iter_mut().for_each(|act| {
                if let Act::Out(Effect::Revoke { worker, .. }) = act {
                    worker.0 += 1;
                }
            }),
            Mutant::ShortLease => acts.iter_mut().for_each(|act| {
                if let Act::Out(Effect::Send { lease, .. }) = act
                    && lease.node.size() > 1
                {
                    lease.node.last -= 1;
                }
            }),
            Mutant::SwapEffects => {
                if let [.., before, last] = acts.as_mut_slice() {
                    std::mem::swap(before, last);
                }
            }
            _ => {}
        }
        acts
    }

    /// Whether the reducer counts an answer, given whether and why the run ignored it.
    pub fn counts(self, ignored: Option<IgnoreReason>) -> bool {
        match ignored {
            None => true,
            Some(why) => self.is(Mutant::CountTwice) && matches!(why, IgnoreReason::LeaseOver(_)),
        }
    }

    /// The step whose samples a worker takes for a lease of `step`.
    pub fn data_of(self, step: StepId) -> StepId {
        if self.is(Mutant::NextSamples) && step.0 % 4 == 3 { step.next() } else { step }
    }
}

/// Changes the ledger of every fourth step.
fn change_ledgers(acts: &mut [Act], change: impl Fn(&mut Vec<LedgerEntry>)) {
    for act in acts {
        if let Act::Append(Record::StepCommitted { step, ledger, .. }) = act
            && step.0 % 4 == 3
        {
            change(ledger);
        }
    }
}

/// What comes of adding a sum anew, as a mutant tells it.
fn mistaken(mutant: Mutant, owner: WorkerId, finding: SumFinding, books: &Books) -> SumFinding {
    let machine = books.machine(owner);
    let other = books.members.keys().copied().find(|other| books.machine(*other) != machine);
    match (mutant, finding) {
        (Mutant::TrustOwner, _) => SumFinding::Equal,
        (Mutant::BlameOwner, SumFinding::Disagrees(_)) => SumFinding::Wrong,
        (Mutant::BlameHolder, SumFinding::Wrong) => other.map_or(finding, SumFinding::Disagrees),
        _ => finding,
    }
}

fn credit_owners(act: &mut Act) {
    if let Act::Append(Record::StepCommitted { owners, audited_owners, .. }) = act {
        audited_owners.clone_from(owners);
    }
}

fn is_evicted_for(act: &Act, expected: &EvictionProof) -> bool {
    matches!(act, Act::Out(Effect::Evict { proof, .. }) if proof == expected)
}

fn is_outvoted(act: &Act) -> bool {
    matches!(act, Act::Out(Effect::Evict { proof: EvictionProof::Disagreements(_), .. }))
}

fn is_lost_or_drained(act: &Act) -> bool {
    let Act::Out(Effect::Disconnect { why, .. }) = act else { return false };
    matches!(why, DisconnectReason::Silent { .. } | DisconnectReason::Drained)
}

/// One lease in fifty once more, to another member.
fn second_lease(acts: &[Act], books: &Books) -> Option<Act> {
    let (first, lease) = acts.iter().find_map(|act| match act {
        Act::Out(Effect::Send { worker, lease, .. }) if lease.at.lease.0 % 50 == 49 => Some((*worker, *lease)),
        _ => None,
    })?;
    let worker = books.members.keys().copied().find(|worker| *worker != first)?;
    Some(Act::Out(Effect::Send { worker, lease, check: Check::Count }))
}

/// Lends what follows from a contradiction to one of those who brought the node, if any of them is there.
fn lend_suspects(acts: &mut [Act], books: &Books) {
    let there = |worker: &WorkerId| books.members.contains_key(worker);
    let suspect = acts.iter().find_map(|act| match act {
        Act::Out(Effect::Contradict { workers, .. }) => workers.iter().copied().find(there),
        _ => None,
    });
    for act in acts {
        if let (Some(suspect), Act::Out(Effect::Send { worker, .. })) = (suspect, act) {
            *worker = suspect;
        }
    }
}

/// Lends what one worker gets to one that computes nothing, if any is there.
fn lend_adders(acts: &mut [Act], books: &Books) {
    let adder = books.members.iter().find(|(_, member)| member.threads == 0).map(|(worker, _)| *worker);
    for act in acts {
        if let (Some(adder), Act::Out(Effect::Send { worker, .. })) = (adder, act) {
            *worker = adder;
        }
    }
}

/// Has somebody own the first chunk who must not: a worker that is gone, or one that another does not reach or does not
/// agree with.
fn wrong_owner(act: &mut Act, mutant: Mutant, books: &Books) {
    let Act::Out(Effect::Owners { of, why, .. }) = act else { return };
    let wrong = match (mutant, &why) {
        (Mutant::KeepDisputed, OwnersReason::StepBegins) => {
            let disputed = |worker: &WorkerId| books.disputed_machines.contains(&books.machine(*worker));
            books.members.keys().copied().find(disputed)
        }
        (Mutant::GoneOwner, OwnersReason::Gone(worker)) => Some(*worker),
        (Mutant::UnreachedOwner, OwnersReason::StepBegins) => {
            let reach = &books.exchange.reach;
            let is_unreached =
                |worker: &WorkerId| reach.iter().any(|(by, said)| by != worker && !said.contains(worker));
            reach.keys().copied().find(|worker| books.members.contains_key(worker) && is_unreached(worker))
        }
        _ => None,
    };
    if let (Some(worker), Some(first)) = (wrong, of.first_mut()) {
        *first = Owner::Worker(worker);
    }
}

/// Whether it moves chunks in mid-step.
fn is_moving(act: &Act) -> bool {
    matches!(act, Act::Out(Effect::Owners { why, .. }) if !why.opens_step())
}

fn blame_judge(act: &mut Act, books: &Books) {
    if let Act::Out(Effect::Evict { machine, proof: EvictionProof::Node { judges: [judge, _], .. }, .. }) = act {
        *machine = books.machines.get(judge).cloned().unwrap_or_default();
    }
}

/// Has a worker that is evicted believed up to the step `committed`.
fn believe(act: &mut Act, committed: StepId) {
    if let Act::Append(Record::Evicted { since, .. }) | Act::Out(Effect::Evict { since, .. }) = act {
        *since = committed;
    }
}
