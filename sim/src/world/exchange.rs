//! Chunks between processes: owners add them, make the next parameters and hand them out.

use std::collections::BTreeSet;

use convoy_scheduler::*;

use super::answer::Answer;
use super::peer::{Arrived, Kept, Made, Number, PeerMessage, RootSum, Told, What, WrongArrivals};
use super::process::{Link, Message, Process, Stream};
use super::{Happening, World};
use crate::facts::{Fact, Fence};
use crate::mutants::Mutant;
use crate::oracle;
use crate::scenario::Fault;

/// A process sends again what was not taken after this time.
const AGAIN: Micros = Micros::millis(400);
/// An owner that has taken nothing for so long is complained of, and one that has not taken all of a node for so long,
/// though it takes something.
const PATIENCE: Micros = Micros::seconds(1);
const PATIENCE_WITH_SLOW: Micros = Micros::seconds(8);
/// An owner that takes at a trickle takes a chunk of each other worker in so long a time.
const TRICKLE: Micros = Micros::millis(700);

impl World<'_> {
    /// Tells all processes of the step in work and of its owners.
    pub(super) fn tell_all_of_owners(&mut self) {
        (0..self.processes.len()).for_each(|i| self.tell_of_owners(i));
    }

    /// Tells a process of parameters that were committed: of their digest where owners have them, or else all of them.
    pub(super) fn hand_out_committed(&mut self, i: usize) {
        let committed = &self.coordinator.committed;
        let (step, digest) = (committed.step, oracle::digest(committed.model.whole()));
        match self.processes[i].connection.worker {
            Some(worker) if self.coordinator.is_sliced() => {
                let own = self.coordinator.own_chunks();
                self.send(worker, Stream::DownControl, Message::Committed(step, digest, own));
            }
            _ => self.send_parameters(i),
        }
    }

    /// Tells a process of the step in work and of its owners, if it is connected.
    pub(super) fn tell_of_owners(&mut self, i: usize) {
        if let (Some(worker), Some(told)) = (self.processes[i].connection.worker, self.coordinator.told())
            && self.peers
        {
            self.send(worker, Stream::DownControl, Message::Open(told));
        }
    }

    /// A process finds out whom it reaches, and says so where that is news.
    pub(super) fn probe(&mut self, i: usize, link: Link) {
        if self.processes[i].worker_on(link).is_none() {
            return;
        }
        let there = |j: &usize| *j != i && !self.is_parted(i, *j);
        let others = (0..self.processes.len()).filter(there);
        let reached: BTreeSet<WorkerId> = others.filter_map(|j| self.processes[j].connection.worker).collect();
        if self.processes[i].peer.reached.as_ref() != Some(&reached) {
            self.processes[i].peer.reached = Some(reached.clone());
            let Some(worker) = self.processes[i].connection.worker else { return };
            self.say(i, Event::PeersReached { worker, reached });
        }
    }

    /// Has all processes find out anew whom they reach.
    pub(super) fn probe_all(&mut self) {
        if !self.peers {
            return;
        }
        for i in 0..self.processes.len() {
            let link = self.processes[i].connection.link;
            self.later(300_000, Happening::Probe(i, link));
        }
    }

    /// Whether one process cannot connect to another.
    fn is_parted(&self, from: usize, to: usize) -> bool {
        self.parted.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    /// Sends a message to another process. It is lost if that is not there or not reached.
    fn send_peer(&mut self, i: usize, to: WorkerId, what: What) {
        let (Some(by), Some(told)) = (self.processes[i].connection.worker, &self.processes[i].peer.told) else {
            return;
        };
        let message = PeerMessage { by, to, fence: told.fence, what };
        let Some(j) = self.processes.iter().position(|process| process.connection.worker == Some(to)) else { return };
        // Answers take the connection that the other one has opened.
        let (from, into) = match &message.what {
            What::Push(..) | What::Pull => (i, j),
            What::Taken(..) | What::Made(..) => (j, i),
        };
        if self.is_parted(from, into) {
            return;
        }
        let mut wait = Micros(1 + self.dice.below(5_000));
        if self.throw(Fault::Delay) {
            self.count(Fault::Delay, Some(i));
            wait = wait.times(100);
        }
        if [i, j].iter().any(|process| self.processes[*process].trouble.slow_peer_until > self.now) {
            wait = Micros(self.dice.below(4_000_000));
        }
        self.at(self.now.after(wait), Happening::Peer(j, message));
    }

    /// A process has computed a node that is to be counted: it goes to the owners, and is kept.
    pub(super) fn keep(&mut self, i: usize, answer: Answer) {
        let peer = &mut self.processes[i].peer;
        let opened = peer.told.as_ref().map(|told| told.fence.step);
        if opened == Some(answer.lease.at.step) {
            let at = answer.lease.at;
            peer.kept.insert(at, Kept { answer, taken: Default::default(), sent: Default::default(), told: None });
            self.push(i);
        }
    }

    /// A process hears what is open, and who owns which chunk.
    pub(super) fn opened(&mut self, i: usize, told: Told) {
        let Some(me) = self.processes[i].connection.worker else { return };
        let (step, owners) = (told.fence.step, told.owners());
        let lost = self.processes[i].peer.open(told, me);
        if self.sabotage.is(Mutant::OldOwner) {
            lost.into_iter().for_each(|chunk| {
                let value = oracle::mix(step.0, chunk as u64);
                self.send_root(i, RootSum { chunk, value, wrong: false });
            });
        }
        let lacks = self.processes[i].peer.lacks_state();
        if !lacks.is_empty() {
            self.send(me, Stream::UpControl, Message::WantState(step, lacks));
        }
        let pulls = |owner: &WorkerId| *owner != me && self.processes[i].computes();
        let pulled: Vec<WorkerId> = owners.into_iter().filter(pulls).collect();
        pulled.into_iter().for_each(|owner| self.send_peer(i, owner, What::Pull));
        let early = std::mem::take(&mut self.processes[i].peer.early);
        early.into_iter().for_each(|message| self.heard_peer(i, message));
        self.push(i);
        self.make(i);
    }

    /// Sends what the owners do not have, and tells the coordinator of nodes that they all have.
    fn push(&mut self, i: usize) {
        let Some(me) = self.processes[i].connection.worker else { return };
        for (owner, at, chunks) in self.processes[i].peer.untaken() {
            if self.sabotage.is(Mutant::ForgetResend) && self.forgets_to_send(i, at) {
                continue;
            }
            let answer = &self.processes[i].peer.kept[&at].answer;
            let values = chunks.iter().map(|chunk| (*chunk, answer.chunks[*chunk])).collect();
            let what = What::Push(at, answer.lease.node, values);
            if owner == me {
                let fence = self.processes[i].peer.told.as_ref().expect("it knows of owners").fence;
                self.heard_peer(i, PeerMessage { by: me, to: me, fence, what });
            } else {
                let peer = &mut self.processes[i].peer;
                peer.unheard.entry(owner).or_insert(self.now);
                if let Some(kept) = peer.kept.get_mut(&at) {
                    kept.sent.entry(owner).or_insert(self.now);
                }
                self.send_peer(i, owner, what);
            }
        }
        self.tell_done(i);
        if !self.processes[i].peer.unheard.is_empty() && !self.processes[i].peer.looks_again {
            self.processes[i].peer.looks_again = true;
            let link = self.processes[i].connection.link;
            self.at(self.now.after(AGAIN), Happening::SendAgain(i, link));
        }
    }

    /// A mutant takes everything for taken that any owner has ever taken.
    fn forgets_to_send(&mut self, i: usize, at: LeaseRef) -> bool {
        let peer = &mut self.processes[i].peer;
        let (Some(told), Some(kept)) = (&peer.told, peer.kept.get_mut(&at)) else { return false };
        if kept.told.is_none() {
            return false;
        }
        for owner in told.owners() {
            kept.taken.extend(told.chunks_of(Owner::Worker(owner)).map(|chunk| (chunk, owner)));
        }
        true
    }

    /// A process looks whether owners took what it sent. Who took nothing for a while is complained of.
    pub(super) fn send_again(&mut self, i: usize, link: Link) {
        let Some(worker) = self.processes[i].worker_on(link) else { return };
        self.processes[i].peer.looks_again = false;
        let Some(told) = &self.processes[i].peer.told else { return };
        let version = told.fence.version;
        let (now, untaken) = (self.now, self.processes[i].peer.untaken());
        let peer = &mut self.processes[i].peer;
        peer.unheard.retain(|owner, _| untaken.iter().any(|(other, ..)| other == owner));
        let mut lost = BTreeSet::new();
        for (owner, at, _) in &untaken {
            let sent = peer.kept.get_mut(at).and_then(|kept| kept.sent.get_mut(owner));
            for (since, patience) in [(sent, PATIENCE_WITH_SLOW), (peer.unheard.get_mut(owner), PATIENCE)] {
                if let Some(since) = since.filter(|since| now.since(**since) >= patience) {
                    *since = now;
                    lost.insert(*owner);
                }
            }
        }
        lost.into_iter().for_each(|peer| self.say(i, Event::PeerLost { worker, peer, version }));
        self.push(i);
    }

    fn tell_done(&mut self, i: usize) {
        let Some(worker) = self.processes[i].connection.worker else { return };
        for answer in self.processes[i].peer.take_complete() {
            self.repeat(i, &answer);
            self.send(worker, Stream::UpPush, Message::Answer(answer));
        }
    }

    /// A message of another process arrives, or one's own.
    pub(super) fn heard_peer(&mut self, i: usize, message: PeerMessage) {
        let Process { connection, trouble, peer, .. } = &mut self.processes[i];
        if connection.worker != Some(message.to) || (trouble.hung && trouble.deaf) {
            return;
        }
        let Some(told) = &peer.told else { return peer.early.push(message) };
        let (knows, sent) = (told.fence, message.fence);
        let stale = (sent.generation, sent.step, sent.opening) < (knows.generation, knows.step, knows.opening);
        if sent > knows {
            return peer.early.push(message);
        }
        if stale && !self.sabotage.is(Mutant::StaleOpening) {
            return;
        }
        match message.what {
            What::Push(at, node, ref chunks) => self.add(i, &message, at, node, chunks),
            What::Taken(at, chunks) => self.taken(i, message.by, at, &chunks),
            What::Pull => self.pulled(i, message.by),
            What::Made(chunk, value) => {
                let from = Some((message.by, sent.version));
                peer.arrived.entry(chunk).or_insert(Arrived { value, from });
            }
        }
    }

    /// An owner takes in chunks of a node. What is not its own it refuses: whose it is will be told to the sender.
    fn add(&mut self, i: usize, message: &PeerMessage, at: LeaseRef, node: Node, chunks: &[(usize, u64)]) {
        let Some(owner) = self.processes[i].connection.worker else { return };
        let Some(told) = &self.processes[i].peer.told else { return };
        let (knows, sent, shards) = (told.fence, message.fence, told.shards);
        let mut taken = Vec::new();
        let most = self.takes(i, message.by, chunks.len());
        for (chunk, value) in chunks.iter().copied().take(most) {
            if self.sabotage.is(Mutant::EarlyTaken) && chunk == 0 {
                taken.push(chunk);
                continue;
            }
            let sums = &mut self.processes[i].peer.sums;
            if self.sabotage.is(Mutant::TwoOwners) {
                sums.entry(chunk).or_insert_with(|| convoy_common::counted_sum::CountedSum::over(shards));
            }
            let Some(sum) = sums.get_mut(&chunk) else { continue };
            if let Err(differs) = sum.insert(node, message.by, Number(value)) {
                let (node, workers) = (differs.node, differs.workers);
                let event = Event::NodeContradicted { step: knows.step, work: Work::Train, node, workers };
                self.send(owner, Stream::UpControl, Message::Contradicted(knows.opening, event));
                continue;
            }
            self.watch.see(&Fact::Added { owner, knows, sent, chunk, node });
            self.note_brought(i, owner, at, (chunk, value));
            taken.push(chunk);
        }
        if message.by == owner {
            self.taken(i, owner, at, &taken);
        } else {
            self.send_peer(i, message.by, What::Taken(at, taken));
        }
        self.make(i);
    }

    /// Notes what an owner was brought of a chunk of a node, and what it says; the coordinator hears of it in time.
    fn note_brought(&mut self, i: usize, owner: WorkerId, at: LeaseRef, (chunk, was): (usize, u64)) {
        let machine = self.processes[i].machine;
        let brought = &self.coordinator.reduction.brought;
        let fresh = brought.of(at, chunk, owner).is_none() && brought.may_misreport(at, machine);
        let lies = fresh && self.processes[i].honesty.lies && self.throw(Fault::Misreport);
        let says = if lies { oracle::mix(was, machine as u64) } else { was };
        if lies {
            self.count(Fault::Misreport, Some(i));
            self.watch.see(&Fact::Misled { worker: owner });
        }
        self.coordinator.reduction.brought.note(at, (chunk, owner), machine, [was, says]);
    }

    /// How many chunks an owner takes of so many that another sends.
    fn takes(&mut self, i: usize, by: WorkerId, chunks: usize) -> usize {
        let trouble = &mut self.processes[i].trouble;
        if trouble.trickles_until <= self.now {
            return chunks;
        }
        let last = trouble.trickled.entry(by).or_default();
        if self.now.since(*last) < TRICKLE {
            return 0;
        }
        *last = self.now;
        1
    }

    /// An owner has said that it has chunks of a node.
    fn taken(&mut self, i: usize, owner: WorkerId, at: LeaseRef, chunks: &[usize]) {
        let peer = &mut self.processes[i].peer;
        if chunks.is_empty() {
            return;
        }
        peer.unheard.remove(&owner);
        let Some(kept) = peer.kept.get_mut(&at) else { return };
        kept.taken.extend(chunks.iter().map(|chunk| (*chunk, owner)));
        if peer.untaken().iter().any(|(other, ..)| *other == owner) {
            peer.unheard.insert(owner, self.now);
        }
        if let Some(worker) = self.processes[i].connection.worker {
            self.send(worker, Stream::UpControl, Message::Taken);
        }
        self.tell_done(i);
    }

    /// Another process wants the next parameters of what this one owns.
    fn pulled(&mut self, i: usize, by: WorkerId) {
        self.processes[i].peer.pulled.insert(by);
        let made: Vec<(usize, u64)> = self.processes[i].peer.made.iter().map(|(c, made)| (*c, made.value)).collect();
        made.into_iter().for_each(|(chunk, value)| self.hand_out(i, by, chunk, value));
    }

    fn hand_out(&mut self, i: usize, to: WorkerId, chunk: usize, value: u64) {
        let lies = self.processes[i].honesty.lies && self.throw(Fault::Misserve);
        if lies {
            self.count(Fault::Misserve, Some(i));
            self.processes[i].connection.worker.into_iter().for_each(|worker| self.watch.see(&Fact::Misled { worker }));
        }
        self.send_peer(i, to, What::Made(chunk, value ^ u64::from(lies)));
    }

    /// An owner makes the next parameters of chunks whose sums are complete, and sends these to the coordinator.
    pub(super) fn make(&mut self, i: usize) {
        let Some(owner) = self.processes[i].connection.worker else { return };
        let peer = &self.processes[i].peer;
        let Some(told) = peer.told.as_ref().filter(|_| !self.processes[i].trouble.hung) else { return };
        let step = told.fence.step;
        let any_state = self.sabotage.is(Mutant::OldState);
        let Process { machine, ref honesty, .. } = self.processes[i];
        let wrong = honesty.adds_wrongly;
        let ready = |(chunk, sum): (&usize, &convoy_common::counted_sum::CountedSum<Number>)| {
            let before = peer.state.get(chunk).filter(|(at, _)| *at == step || any_state)?.1;
            let right = sum.total().filter(|_| !peer.made.contains_key(chunk))?.0;
            let sum = if wrong { oracle::mix(right, machine as u64) } else { right };
            let (value, state) = oracle::next_chunk(before.value, before.state, sum);
            Some((RootSum { chunk: *chunk, value: sum, wrong }, Made { value, state }))
        };
        let (step, made): (StepId, Vec<_>) = (step.next(), peer.sums.iter().filter_map(ready).collect());
        for (sum, made) in made {
            let (chunk, value) = (sum.chunk, made.value);
            let peer = &mut self.processes[i].peer;
            peer.made.insert(chunk, made);
            peer.arrived.insert(chunk, Arrived { value, from: None });
            let pulled: Vec<WorkerId> = peer.pulled.iter().copied().collect();
            if wrong {
                self.count(Fault::Misadd, Some(i));
            }
            self.watch.see(&Fact::MadeChunk { owner, step, chunk, value, wrong });
            pulled.into_iter().for_each(|to| self.hand_out(i, to, chunk, value));
            self.send_root(i, sum);
        }
    }

    fn send_root(&mut self, i: usize, sum: RootSum) {
        let process = &self.processes[i];
        if let (Some(worker), Some(told)) = (process.connection.worker, &process.peer.told) {
            let fence: Fence = told.fence;
            self.send(worker, Stream::UpPush, Message::Root(fence, sum));
            if self.throw(Fault::Flee) {
                self.count(Fault::Flee, Some(i));
                self.dies_soon(i);
            }
        }
    }

    /// A step is committed: what a process has of the next parameters is used if it is all of them and has their
    /// digest.
    pub(super) fn committed(&mut self, i: usize, step: StepId, digest: [u8; 32], own: Vec<(usize, u64)>) {
        let Some(worker) = self.processes[i].connection.worker else { return };
        let (any, computes) = (self.sabotage.is(Mutant::TrustPeers), self.processes[i].computes());
        let peer = &mut self.processes[i].peer;
        let Some(told) = &peer.told else { return };
        let chunks = told.of.len();
        let in_step = told.fence.step.next() == step;
        if in_step {
            peer.state.extend(peer.made.iter().map(|(chunk, made)| (*chunk, (step, *made))));
            peer.kept.clear();
            peer.unheard.clear();
            let own = own.into_iter().map(|(chunk, value)| (chunk, Arrived { value, from: None }));
            peer.arrived.extend(own);
        }
        if !computes {
            return;
        }
        let values: Vec<u64> =
            (0..chunks).map_while(|chunk| peer.arrived.get(&chunk).map(|arrived| arrived.value)).collect();
        if in_step && values.len() == chunks && (any || oracle::digest(oracle::whole(&values)) == digest) {
            self.processes[i].parameters = Some((step, values));
            self.say(i, Event::WorkerReady { worker, step });
            self.compute(i);
        } else {
            if in_step {
                let (version, chunks) = (told.fence.version, peer.arrived.clone());
                peer.wrong_arrivals = Some(WrongArrivals { step, version, chunks });
            }
            self.send(worker, Stream::UpControl, Message::Want);
        }
        if in_step {
            self.accuse(i, worker);
        }
    }

    /// A process that lies may say of any owner that it was handed wrong parameters.
    fn accuse(&mut self, i: usize, worker: WorkerId) {
        let told = self.processes[i].peer.told.as_ref();
        let owners: Vec<WorkerId> = told.map(Told::owners).into_iter().flatten().filter(|o| *o != worker).collect();
        if !owners.is_empty() && self.processes[i].honesty.lies && self.throw(Fault::Accuse) {
            self.count(Fault::Accuse, Some(i));
            self.watch.see(&Fact::Misled { worker });
            let owner = self.dice.pick(&owners);
            self.say(i, Event::WrongParameters { worker, owner });
        }
    }
}
