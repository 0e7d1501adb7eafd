//! Audits of the open step's sums: which chunks are added anew, what has come for that, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use convoy_common::Digest;
use convoy_common::counted_sum::Fingerprint;
use convoy_reduce::{ChunkBuffer, NodeHolders, SumAudit, SumAuditSchedule};
use convoy_scheduler::{Node, SumFinding, WorkerId};

/// The audits of a run's sums. It asks for what it needs and waits for it; the step is not told of before all of its
/// audits are over.
#[derive(Debug)]
pub(crate) struct SumAudits {
    schedule: SumAuditSchedule,
    random: RandomState,
    drawn: u64,
    holders: NodeHolders,
    shards: u32,
    /// By chunk.
    open: BTreeMap<usize, OpenAudit>,
    /// Owners of whose sums one was equal.
    audited: BTreeSet<WorkerId>,
    /// Audits of a step.
    most: usize,
    /// Whether something has come of what was asked for, since that was asked last.
    came: bool,
}

/// Audits of a step times workers that send for each: so many chunks are held at a time.
const AT_ONCE: usize = 128;

/// An audit that is not over.
#[derive(Debug)]
struct OpenAudit {
    owner: WorkerId,
    /// `None` until the owner has brought its sum: only then is anything asked.
    audit: Option<SumAudit>,
    /// Whether it is known who was asked for what it keeps.
    told: bool,
    /// Workers whose answers are on their way.
    asked: BTreeSet<WorkerId>,
    /// Those that were asked once more, as they had not the node yet when they were asked first.
    again: BTreeSet<WorkerId>,
    /// The sums differ, and the owner was asked what it was brought.
    differs: bool,
    /// What the owner has said to be the digest of a node of its own.
    said: Option<(Node, Digest)>,
}

impl OpenAudit {
    fn of(owner: WorkerId) -> Self {
        let (asked, again) = (BTreeSet::new(), BTreeSet::new());
        OpenAudit { owner, audit: None, told: false, asked, again, differs: false, said: None }
    }

    /// Whether the owner has sent another chunk of its own node than it has said to have.
    fn belies_itself(&self) -> bool {
        let said = self.said.as_ref().zip(self.audit.as_ref());
        said.is_some_and(|((node, digest), audit)| audit.digest_of(self.owner, *node).is_some_and(|is| is != *digest))
    }
}

/// What an audit wants to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuditWish {
    /// Have workers send a chunk of what they keep: one of them, or all there are.
    AskKept {
        /// The chunk.
        index: usize,
        /// Whom, if not all.
        of: Option<WorkerId>,
    },
    /// Have the owner say what it was brought of a chunk.
    AskBrought {
        /// The chunk.
        index: usize,
        /// Its owner.
        owner: WorkerId,
    },
    /// Tell what was found.
    Found(WorkerId, SumFinding),
    /// Tell that a worker has not answered.
    Unanswered(WorkerId),
    /// The owner's sum is wrong, or it was brought something else than others keep, and it does not say which: the step
    /// cannot stand.
    Unexplained(WorkerId),
}

impl SumAudits {
    /// Nothing is open. One chunk in `every` of an owner is audited; 0 for none.
    pub(crate) fn new(every: u32) -> Self {
        SumAudits {
            schedule: SumAuditSchedule::new(every),
            random: RandomState::new(),
            drawn: 0,
            holders: NodeHolders::default(),
            shards: 0,
            open: BTreeMap::new(),
            audited: BTreeSet::new(),
            most: 1,
            came: false,
        }
    }

    /// A step of `shards` shards is opened. By owner, the chunks that it adds; there are so many workers.
    pub(crate) fn open(&mut self, shards: u32, chunks: &BTreeMap<WorkerId, Vec<usize>>, workers: usize) {
        self.close();
        self.shards = shards;
        self.most = (AT_ONCE / workers.max(1)).max(1);
        // Where not all can have their turn, anybody may be first.
        let first = self.draw(chunks.len().max(1) as u64) as usize;
        for (owner, chunks) in chunks.iter().cycle().skip(first).take(chunks.len()) {
            let due = self.schedule.due(*owner, chunks.len() as u64, workers as u64);
            for _ in 0..due.min(self.most.saturating_sub(self.open.len()) as u64) {
                let index = chunks[self.draw(chunks.len() as u64) as usize];
                self.open.insert(index, OpenAudit::of(*owner));
            }
        }
    }

    /// A number below `bound` that nobody can foresee.
    fn draw(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        self.random.hash_one(self.drawn) % bound
    }

    /// No step is open.
    pub(crate) fn close(&mut self) {
        self.holders.clear();
        self.open.clear();
        self.audited.clear();
    }

    /// The open step is committed, in which these owners have added so many chunks.
    pub(crate) fn committed(&mut self, chunks: &BTreeMap<WorkerId, Vec<usize>>) {
        for (owner, chunks) in chunks {
            let (drawn, audited) = (self.draw(u64::MAX), self.audited.contains(owner));
            self.schedule.added(*owner, chunks.len() as u64, audited, |bound| drawn % bound);
        }
        self.schedule.retain(|owner| chunks.contains_key(&owner));
        self.close();
    }

    /// Chunks have other owners: their audits are no more.
    pub(crate) fn moved(&mut self, moved: impl IntoIterator<Item = usize>) {
        moved.into_iter().for_each(|index| _ = self.open.remove(&index));
    }

    /// Whether nothing is waited for.
    pub(crate) fn are_over(&self) -> bool {
        self.open.is_empty()
    }

    /// The owner of a chunk has brought its sum.
    pub(crate) fn summed(&mut self, index: usize, sum: Fingerprint) -> Vec<AuditWish> {
        let shards = self.shards;
        let Some(open) = self.open.get_mut(&index).filter(|open| open.audit.is_none()) else { return Vec::new() };
        open.audit = Some(SumAudit::new(sum, shards));
        vec![AuditWish::AskKept { index, of: None }]
    }

    /// The owner of chunks has said what it was brought of a node of its own, which is audited: nobody else has seen
    /// it. So one of these chunks is audited as well, of which it must send what it has said. `sum` gives the sum of a
    /// chunk where its owner has brought it.
    pub(crate) fn said(
        &mut self,
        owner: WorkerId,
        node: Node,
        digests: &[(usize, Digest)],
        sum: impl Fn(usize) -> Option<Fingerprint>,
    ) -> Vec<AuditWish> {
        if digests.is_empty() {
            return Vec::new();
        }
        let (index, digest) = digests[self.draw(digests.len() as u64) as usize];
        if self.open.len() >= self.most && !self.open.contains_key(&index) {
            return Vec::new();
        }
        let open = self.open.entry(index).or_insert_with(|| OpenAudit::of(owner));
        open.said = Some((node, digest));
        sum(index).map(|sum| self.summed(index, sum)).unwrap_or_default()
    }

    /// These workers were asked for a chunk that they keep.
    pub(crate) fn asked(&mut self, index: usize, workers: impl IntoIterator<Item = WorkerId>) {
        if let Some(open) = self.open.get_mut(&index) {
            open.told = true;
            open.asked.extend(workers);
        }
    }

    /// A node is done by `worker`.
    pub(crate) fn done(&mut self, node: Node, worker: WorkerId) -> Vec<AuditWish> {
        self.holders.done(node, worker);
        self.advance()
    }

    /// A worker sends the chunk of a node that it keeps.
    pub(crate) fn kept(&mut self, from: WorkerId, index: usize, node: Node, values: ChunkBuffer) {
        self.came = true;
        if let Some(audit) = self.open.get_mut(&index).and_then(|open| open.audit.as_mut()) {
            audit.sent(from, node, values);
        }
    }

    /// Whether something has come since this was asked last.
    pub(crate) fn have_come(&mut self) -> bool {
        std::mem::take(&mut self.came)
    }

    /// A worker has sent all that it keeps of a chunk.
    pub(crate) fn sent(&mut self, from: WorkerId, index: usize) -> Vec<AuditWish> {
        if let Some(open) = self.open.get_mut(&index) {
            open.asked.remove(&from);
        }
        self.advance()
    }

    /// An owner says what it was brought of a chunk; `None` where it does not.
    pub(crate) fn brought(&mut self, index: usize, brought: Option<&BTreeMap<Node, Digest>>) -> Vec<AuditWish> {
        let Some(open) = self.open.get(&index).filter(|open| open.differs) else { return Vec::new() };
        let (Some(brought), Some(audit)) = (brought, &open.audit) else { return self.unexplained(index) };
        let owner = open.owner;
        let found = audit.finding(&self.holders, brought).map(|finding| AuditWish::Found(owner, finding));
        self.open.remove(&index);
        vec![found.unwrap_or(AuditWish::Unexplained(owner))]
    }

    fn unexplained(&mut self, index: usize) -> Vec<AuditWish> {
        let owner = self.open.remove(&index).map(|open| open.owner);
        owner.into_iter().flat_map(|owner| [AuditWish::Unanswered(owner), AuditWish::Unexplained(owner)]).collect()
    }

    /// A worker is gone. What it keeps does not come any more. Where it is the owner of an audited chunk itself, its
    /// sum does not stand: leaving must not help.
    pub(crate) fn gone(&mut self, worker: WorkerId) -> Vec<AuditWish> {
        self.holders.gone(worker);
        let asked: Vec<usize> = self.open.iter().filter(|(_, open)| open.audit.is_some()).map(|(i, _)| *i).collect();
        let mut wishes = Vec::new();
        for index in asked {
            let open = &self.open[&index];
            let misses = open.audit.as_ref().is_some_and(|audit| audit.missing(&self.holders).contains(&worker));
            if open.owner == worker && (open.differs || misses) {
                wishes.extend(self.unexplained(index));
            } else if misses && !open.differs {
                self.open.remove(&index);
            }
        }
        wishes.extend(self.advance());
        wishes
    }

    /// What is missing does not come. Owners that were asked what they were brought have time of their own.
    pub(crate) fn give_up(&mut self) -> Vec<AuditWish> {
        let waiting: Vec<usize> = self.open.iter().filter(|(_, open)| !open.differs).map(|(index, _)| *index).collect();
        let (mut silent, mut hidden) = (BTreeSet::new(), Vec::new());
        for index in waiting {
            let Some(OpenAudit { owner, audit, .. }) = self.open.remove(&index) else { continue };
            let missing = audit.map(|audit| audit.missing(&self.holders)).unwrap_or_default();
            hidden.extend(missing.contains(&owner).then_some(AuditWish::Unexplained(owner)));
            silent.extend(missing);
        }
        silent.into_iter().map(AuditWish::Unanswered).chain(hidden).collect()
    }

    /// Looks what follows from all that has come.
    fn advance(&mut self) -> Vec<AuditWish> {
        let mut wishes = Vec::new();
        if !self.holders.cover(self.shards) {
            return wishes;
        }
        if self.holders.are_gone() {
            // Of nodes that nobody keeps any more no sum can be added anew.
            self.open.retain(|_, open| open.differs);
            return wishes;
        }
        let mut over = Vec::new();
        for (index, open) in self.open.iter_mut().filter(|(_, open)| !open.differs) {
            let (index, Some(audit)) = (*index, &open.audit) else { continue };
            let missing = audit.missing(&self.holders);
            for worker in missing.iter().filter(|worker| open.told && !open.asked.contains(worker)) {
                if open.again.insert(*worker) {
                    wishes.push(AuditWish::AskKept { index, of: Some(*worker) });
                }
            }
            if !missing.is_empty() {
                continue;
            }
            match audit.is_equal(&self.holders) {
                Some(true) if open.belies_itself() => {
                    over.push(index);
                    wishes.push(AuditWish::Found(open.owner, SumFinding::Wrong));
                }
                Some(true) => {
                    self.audited.insert(open.owner);
                    over.push(index);
                    wishes.push(AuditWish::Found(open.owner, SumFinding::Equal));
                }
                Some(false) => {
                    open.differs = true;
                    wishes.push(AuditWish::AskBrought { index, owner: open.owner });
                }
                None => {}
            }
        }
        over.iter().for_each(|index| _ = self.open.remove(index));
        wishes
    }
}

#[cfg(test)]
mod tests;
