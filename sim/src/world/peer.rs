//! A process's part in the exchange of chunks: what it has computed and keeps, and what it adds as an owner.

use std::collections::{BTreeMap, BTreeSet};

use convoy_common::counted_sum::{CountedSum, Fingerprint, Summand};
use convoy_scheduler::*;

use super::answer::Answer;
use crate::facts::Fence;
use crate::oracle;

/// A chunk of a node.
pub struct Number(pub u64);

impl Summand for Number {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_bytes(&self.0.to_le_bytes())
    }

    fn add(&mut self, right: &Self) {
        self.0 = oracle::mix(self.0, right.0);
    }
}

/// The step in work, as the coordinator tells of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The step, its opening, and the version of the owners.
    pub fence: Fence,
    /// The step's shards.
    pub shards: u32,
    /// The owner of each chunk.
    pub of: Vec<Owner>,
}

impl Told {
    /// The chunks that `owner` owns.
    pub fn chunks_of(&self, owner: Owner) -> impl Iterator<Item = usize> {
        self.of.iter().enumerate().filter(move |(_, other)| **other == owner).map(|(chunk, _)| chunk)
    }

    /// The workers that own chunks.
    pub fn owners(&self) -> BTreeSet<WorkerId> {
        let worker = |owner: &Owner| match owner {
            Owner::Worker(worker) => Some(*worker),
            Owner::Coordinator => None,
        };
        self.of.iter().filter_map(worker).collect()
    }
}

/// A message between processes.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    /// The number of the process that sends it.
    pub by: WorkerId,
    /// The number of the process that it is for.
    pub to: WorkerId,
    /// What it belongs to.
    pub fence: Fence,
    /// What it says.
    pub what: What,
}

/// What a message between processes says.
#[derive(Clone, Debug)]
pub enum What {
    /// Chunks of a node, for their owner.
    Push(LeaseRef, Node, Vec<(usize, u64)>),
    /// The owner has these chunks of the node of a lease.
    Taken(LeaseRef, Vec<usize>),
    /// The next parameters are wanted, as they are made.
    Pull,
    /// A chunk of the next parameters.
    Made(usize, u64),
}

/// A node that a process has computed and keeps until its step is committed.
pub struct Kept {
    /// The node.
    pub answer: Answer,
    /// The owner that has each chunk.
    pub taken: BTreeMap<usize, WorkerId>,
    /// When it was first sent to each owner.
    pub sent: BTreeMap<WorkerId, RunTime>,
    /// The version of the owners under which the coordinator was told that all have it.
    pub told: Option<OwnersVersion>,
}

/// The sum of a chunk, as its owner tells the coordinator.
#[derive(Clone, Copy, Debug)]
pub struct RootSum {
    /// The chunk.
    pub chunk: usize,
    /// The sum.
    pub value: u64,
    /// Whether it was added wrongly.
    pub wrong: bool,
}

/// Next parameters of a chunk that have arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// The parameters.
    pub value: u64,
    /// The owner that has handed them out, under which owners; none for one's own and the coordinator's.
    pub from: Option<(WorkerId, OwnersVersion)>,
}

/// Next parameters that are not those that were committed.
#[derive(Clone, Debug)]
pub struct WrongArrivals {
    /// The step that they are said to be of.
    pub step: StepId,
    /// The owners under which it was committed.
    pub version: OwnersVersion,
    /// The chunks that have arrived.
    pub chunks: BTreeMap<usize, Arrived>,
}

impl WrongArrivals {
    /// The owners that have handed out something else than `right`. Of what came under other owners than those of the
    /// commit nothing follows: it may hold a node that was computed anew since.
    pub fn by_whom(&self, right: &[u64]) -> BTreeSet<WorkerId> {
        let wrong = |(chunk, arrived): (&usize, &Arrived)| {
            let (owner, version) = arrived.from?;
            (version == self.version && right.get(*chunk) != Some(&arrived.value)).then_some(owner)
        };
        self.chunks.iter().filter_map(wrong).collect()
    }
}

/// What an owner has of a chunk, or has made of it.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// The parameters.
    pub value: u64,
    /// The optimizer's state.
    pub state: u64,
}

/// A process's part in the exchange. Many fields: it sends, adds and receives.
#[derive(Default)]
pub struct Peer {
    /// What it was told last.
    pub told: Option<Told>,
    /// The nodes of this opening that it has computed.
    pub kept: BTreeMap<LeaseRef, Kept>,
    /// The sums of its chunks.
    pub sums: BTreeMap<usize, CountedSum<Number>>,
    /// The parameters and the optimizer's state of chunks, each with the step before which they are that.
    pub state: BTreeMap<usize, (StepId, Made)>,
    /// What it has made of its chunks.
    pub made: BTreeMap<usize, Made>,
    /// Who wants what it makes.
    pub pulled: BTreeSet<WorkerId>,
    /// The next parameters, as they arrive.
    pub arrived: BTreeMap<usize, Arrived>,
    /// What had arrived of the step that was committed last, if that was not it: whose fault that is shows when the
    /// right parameters are there.
    pub wrong_arrivals: Option<WrongArrivals>,
    /// Messages that belong to what it was not told of yet.
    pub early: Vec<PeerMessage>,
    /// Since when an owner that was sent something has taken nothing.
    pub unheard: BTreeMap<WorkerId, RunTime>,
    /// It will look whether anything must be sent again.
    pub looks_again: bool,
    /// Those whom it said last it reaches.
    pub reached: Option<BTreeSet<WorkerId>>,
}

impl Peer {
    /// Takes in what is open now. In another opening all of the one before is worth nothing; under other owners sums of
    /// chunks that stay are kept. The answer is the chunks that it has lost to others.
    pub fn open(&mut self, told: Told, me: WorkerId) -> Vec<usize> {
        let opened = |told: &Told| (told.fence.step, told.fence.opening);
        let same = self.told.as_ref().is_some_and(|before| opened(before) == opened(&told));
        if !same {
            self.kept.clear();
            self.sums.clear();
            self.made.clear();
            self.arrived.clear();
            self.pulled.clear();
        }
        self.unheard.clear();
        let mine: BTreeSet<usize> = told.chunks_of(Owner::Worker(me)).collect();
        let lost = self.sums.keys().copied().filter(|chunk| !mine.contains(chunk)).collect();
        self.sums.retain(|chunk, _| mine.contains(chunk));
        self.made.retain(|chunk, _| mine.contains(chunk));
        if let Some(before) = &self.told {
            self.arrived.retain(|chunk, _| before.of[*chunk] == told.of[*chunk]);
        }
        for chunk in mine {
            self.sums.entry(chunk).or_insert_with(|| CountedSum::over(told.shards));
        }
        self.told = Some(told);
        lost
    }

    /// Chunks that it owns and of which it has not the optimizer's state.
    pub fn lacks_state(&self) -> Vec<usize> {
        let step = self.told.as_ref().map(|told| told.fence.step);
        let has = |chunk: &usize| self.state.get(chunk).map(|(step, _)| *step) == step;
        self.sums.keys().copied().filter(|chunk| !has(chunk)).collect()
    }

    /// By owner and lease, the chunks that the owner has not said to have.
    pub fn untaken(&self) -> Vec<(WorkerId, LeaseRef, Vec<usize>)> {
        let Some(told) = &self.told else { return Vec::new() };
        let mut all = Vec::new();
        for owner in told.owners() {
            for (at, kept) in &self.kept {
                let lacks = |chunk: &usize| kept.taken.get(chunk) != Some(&owner);
                let chunks: Vec<usize> = told.chunks_of(Owner::Worker(owner)).filter(lacks).collect();
                if !chunks.is_empty() && kept.answer.is_finite() {
                    all.push((owner, *at, chunks));
                }
            }
        }
        all
    }

    /// Answers whose chunks are all with their owners, and that the coordinator was not told of under these owners.
    pub fn take_complete(&mut self) -> Vec<Answer> {
        let Some(told) = &self.told else { return Vec::new() };
        let untaken: BTreeSet<LeaseRef> = self.untaken().into_iter().map(|(_, at, _)| at).collect();
        let version = told.fence.version;
        let to_coordinator: Vec<usize> = told.chunks_of(Owner::Coordinator).collect();
        let fresh = self.kept.iter_mut().filter(|(at, kept)| kept.told != Some(version) && !untaken.contains(at));
        let tell = fresh.map(|(_, kept)| {
            kept.told = Some(version);
            Answer { version, to_coordinator: to_coordinator.clone(), ..kept.answer.clone() }
        });
        tell.collect()
    }
}
