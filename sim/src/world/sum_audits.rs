//! Audits of sums: the coordinator adds chunks of owners anew, of what those have kept who the nodes are done by.

use convoy_common::counted_sum::CountedSum;
use convoy_scheduler::*;

use super::World;
use super::peer::Number;
use crate::facts::Fact;
use crate::oracle;
use crate::scenario::Fault;

/// A chunk of a node as the worker sends it that the node is done by.
struct SentChunk {
    at: LeaseRef,
    holder: WorkerId,
    value: u64,
}

/// Why a sum cannot be compared.
enum NoAudit {
    /// Somebody is gone who must say something.
    Gone,
    /// A worker does not say what it is asked.
    Unanswered(WorkerId),
}

impl World<'_> {
    /// All sums of the step in work are there: audits some, and tells what came of it. The answer is whether the run
    /// still waits for them.
    pub(super) fn audit_sums(&mut self) -> bool {
        let (start, opening) = (self.coordinator.start, self.coordinator.reduction.opening);
        for (owner, chunk) in self.sums_to_audit() {
            match self.add_anew(owner, chunk) {
                Ok(finding) => {
                    self.story.audited_sums += u64::from(finding == SumFinding::Equal);
                    self.watch.see(&Fact::SumFound { owner, chunk, finding });
                    self.tell(Event::SumAudited { owner, opening, finding }, None);
                }
                Err(NoAudit::Gone) => self.coordinator.sums_due.owe(owner),
                Err(NoAudit::Unanswered(worker)) => {
                    self.coordinator.sums_due.owe(owner);
                    self.watch.see(&Fact::Unanswered { worker });
                    self.tell(Event::Unanswered { worker, opening }, None);
                }
            }
            let same = (start, opening) == (self.coordinator.start, self.coordinator.reduction.opening);
            if !(same && self.coordinator.waits_for_sums()) {
                return false;
            }
        }
        true
    }

    /// Of each owner's chunks one at first and then one in `audit_every`, which nobody can foresee.
    fn sums_to_audit(&mut self) -> Vec<(WorkerId, usize)> {
        let every = u64::from(self.watch.books.plan.audit_every);
        let Some(told) = self.coordinator.told().filter(|_| every > 0) else { return Vec::new() };
        let mut chosen = Vec::new();
        for owner in told.owners() {
            let chunks: Vec<usize> = told.chunks_of(Owner::Worker(owner)).collect();
            if self.coordinator.sums_due.is_due(owner) || self.dice.below(every) < chunks.len() as u64 {
                chosen.push((owner, self.dice.pick(&chunks)));
            }
        }
        chosen
    }

    /// Adds a chunk anew, and compares that with its owner's sum.
    fn add_anew(&mut self, owner: WorkerId, chunk: usize) -> Result<SumFinding, NoAudit> {
        let shards = self.coordinator.told().map_or(0, |told| told.shards);
        let counted = self.watch.books.open.as_ref().map(|open| open.counted.clone()).unwrap_or_default();
        let (mut sum, mut sent) = (CountedSum::over(shards), Vec::new());
        for (node, holder, at) in counted {
            let value = self.send_kept(owner, holder, at, chunk)?;
            sum.insert(node, holder, Number(value)).expect("each node is counted once");
            sent.push(SentChunk { at, holder, value });
        }
        let anew = sum.total().ok_or(NoAudit::Gone)?.0;
        if self.coordinator.sum_of(chunk) == Some(anew) {
            return Ok(SumFinding::Equal);
        }
        self.ask_owner(owner, chunk, &sent)
    }

    /// A worker sends what it has kept of a node. One that lies may send something else, or nothing. An owner does not
    /// make up for its own sum: that would be a node that it has computed wrongly.
    fn send_kept(&mut self, owner: WorkerId, holder: WorkerId, at: LeaseRef, chunk: usize) -> Result<u64, NoAudit> {
        let i = self.who_is_asked(holder)?;
        let process = &self.processes[i];
        let value = process.peer.kept.get(&at).map(|kept| kept.answer.chunks[chunk]).ok_or(NoAudit::Gone)?;
        let other = self.watch.books.machine(owner) != self.watch.books.machine(holder);
        if other && process.honesty.lies && self.throw(Fault::Missend) {
            self.count(Fault::Missend, Some(i));
            self.watch.see(&Fact::Misled { worker: holder });
            return Ok(oracle::mix(value, self.processes[i].machine as u64));
        }
        Ok(value)
    }

    /// An owner whose sum is another one says what it was brought. One that lies may name anybody.
    fn ask_owner(&mut self, owner: WorkerId, chunk: usize, sent: &[SentChunk]) -> Result<SumFinding, NoAudit> {
        let i = self.who_is_asked(owner)?;
        if self.processes[i].honesty.lies && self.throw(Fault::Misreport) {
            self.count(Fault::Misreport, Some(i));
            self.watch.see(&Fact::Misled { worker: owner });
            let holders: Vec<WorkerId> = sent.iter().map(|sent| sent.holder).collect();
            return Ok(SumFinding::Disagrees(self.dice.pick(&holders)));
        }
        let brought = &self.coordinator.reduction.brought;
        let other =
            |sent: &&SentChunk| brought.of(sent.at, chunk, owner).map(|brought| brought.was) != Some(sent.value);
        Ok(sent.iter().find(other).map_or(SumFinding::Wrong, |sent| SumFinding::Disagrees(sent.holder)))
    }

    /// The process that is asked something, if it answers.
    fn who_is_asked(&mut self, worker: WorkerId) -> Result<usize, NoAudit> {
        let there = |process: &super::process::Process| process.connection.worker == Some(worker);
        let i = self.processes.iter().position(there).ok_or(NoAudit::Gone)?;
        let trouble = &self.processes[i].trouble;
        if trouble.hung || trouble.paused_until > self.now {
            return Err(NoAudit::Unanswered(worker));
        }
        if self.processes[i].honesty.lies && self.throw(Fault::Mute) {
            self.count(Fault::Mute, Some(i));
            return Err(NoAudit::Unanswered(worker));
        }
        Ok(i)
    }
}
