//! Sums of owners that are added anew: of what, and what follows where the two are not equal.

use std::collections::BTreeMap;

use convoy_common::Digest;
use convoy_common::counted_sum::{Fingerprint, Summand};
use convoy_model::digest_elements;
use convoy_scheduler::{Node, SumFinding, WorkerId, tree};

use crate::ChunkBuffer;

/// Who has computed the nodes of a step that are done, and keeps them, unless it is gone.
#[derive(Debug, Default)]
pub struct NodeHolders(BTreeMap<Node, (WorkerId, bool)>);

impl NodeHolders {
    /// Nothing is done.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// `node` is done by `worker`. The first that has done a node, or parts of it, counts until it is gone: then the
    /// node may be computed anew, whole or cut.
    pub fn done(&mut self, node: Node, worker: WorkerId) {
        let near = |other: &Node| other.contains(node) || node.contains(*other);
        let there = self.0.iter().any(|(other, (_, gone))| near(other) && !gone);
        if !there {
            self.0.retain(|other, _| !near(other));
            self.0.insert(node, (worker, false));
        }
    }

    /// A worker is gone, and keeps nothing any more.
    pub fn gone(&mut self, worker: WorkerId) {
        self.0.values_mut().filter(|(holder, _)| *holder == worker).for_each(|(_, gone)| *gone = true);
    }

    /// Whether some that are done are kept by nobody.
    pub fn are_gone(&self) -> bool {
        self.0.values().any(|(_, gone)| *gone)
    }

    /// Whether all shards of a step of `shards` are done.
    pub fn cover(&self, shards: u32) -> bool {
        self.0.keys().map(|node| node.size()).sum::<u32>() == shards
    }

    /// Who has done which node.
    pub fn iter(&self) -> impl Iterator<Item = (Node, WorkerId)> {
        self.0.iter().map(|(node, (worker, _))| (*node, *worker))
    }
}

/// The sum of a chunk that is added anew, of what the holders of its nodes send.
#[derive(Debug)]
pub struct SumAudit {
    /// The owner's sum.
    sum: Fingerprint,
    shards: u32,
    sent: BTreeMap<(WorkerId, Node), ChunkBuffer>,
}

impl SumAudit {
    /// The owner's sum over so many shards is `sum`; nothing was sent.
    pub fn new(sum: Fingerprint, shards: u32) -> Self {
        SumAudit { sum, shards, sent: BTreeMap::new() }
    }

    /// `from` sends the chunk of a node that it keeps. A second one does not count.
    pub fn sent(&mut self, from: WorkerId, node: Node, values: ChunkBuffer) {
        self.sent.entry((from, node)).or_insert(values);
    }

    /// Holders that have not sent what they must.
    pub fn missing(&self, holders: &NodeHolders) -> Vec<WorkerId> {
        let missing = holders.iter().filter(|(node, worker)| !self.sent.contains_key(&(*worker, *node)));
        missing.map(|(_, worker)| worker).collect()
    }

    /// The digest of what `from` has sent of a node.
    pub fn digest_of(&self, from: WorkerId, node: Node) -> Option<Digest> {
        self.sent.get(&(from, node)).map(|values| digest_elements(values))
    }

    /// Whether the owner's sum is that of what the holders sent, added over the reduce tree, always `left + right`.
    /// `None` while something is missing, or elements are.
    pub fn is_equal(&self, holders: &NodeHolders) -> Option<bool> {
        Some(self.value(tree::root(self.shards), holders)?.fingerprint() == self.sum)
    }

    /// Who is wrong where the sums are not equal, given what the owner says to have been brought: the digest of what it
    /// counted of each node. It must be of all shards, and may be of a node around several that are done, since a node
    /// is cut where its worker is lost. `None` where it says to have been brought parts of a node that is done whole:
    /// somebody has sent them who was not asked to, or it lies.
    pub fn finding(&self, holders: &NodeHolders, brought: &BTreeMap<Node, Digest>) -> Option<SumFinding> {
        let is_part = |node: &Node| holders.iter().any(|(held, _)| held != *node && held.contains(*node));
        if brought.keys().any(is_part) {
            return None;
        }
        for (node, digest) in brought {
            let Some(value) = self.value(*node, holders) else { continue };
            if digest_elements(&value) != *digest {
                let holder = holders.iter().find(|(held, _)| node.contains(*held));
                return Some(holder.map_or(SumFinding::Wrong, |(_, holder)| SumFinding::Disagrees(holder)));
            }
        }
        // Who leaves something out has not made its sum of what it says.
        Some(SumFinding::Wrong)
    }

    /// The sum of `node` over what its holders sent.
    fn value(&self, node: Node, holders: &NodeHolders) -> Option<ChunkBuffer> {
        if let Some((worker, _)) = holders.0.get(&node) {
            return self.sent.get(&(*worker, node)).map(ChunkBuffer::copy_of);
        }
        let (left, right) = node.children()?;
        let (mut left, right) = (self.value(left, holders)?, self.value(right, holders)?);
        (left.len() == right.len()).then(|| Summand::add(&mut left, &right))?;
        Some(left)
    }
}

/// When sums of owners are audited. The owner cannot know: how many of its chunks come between two audits is random,
/// from none up to one and a half times `every`, and so is the chunk.
#[derive(Debug)]
pub struct SumAuditSchedule {
    /// Chunks of an owner from one audit to the next, or fewer; 0 for no audits.
    every: u64,
    owners: BTreeMap<WorkerId, AuditCount>,
}

/// How far an owner is from its next audit.
#[derive(Debug)]
struct AuditCount {
    /// Chunks that it has added since the last one.
    added: u64,
    /// An audit is due with so many.
    due: u64,
}

/// So many workers send what is audited without that being more than the sums themselves. Where there are more, fewer
/// sums are audited.
const WORKERS: u64 = 64;

impl SumAuditSchedule {
    /// One chunk in `every` of an owner is audited; 0 for none.
    pub fn new(every: u32) -> Self {
        SumAuditSchedule { every: every.into(), owners: BTreeMap::new() }
    }

    /// How many of the `chunks` that an owner adds in the next step are audited, where there are so many workers: one
    /// of the first that it ever adds, and so many that it never adds more than 1.5 `every` without an audit.
    pub fn due(&self, owner: WorkerId, chunks: u64, workers: u64) -> u64 {
        let every = self.every * workers.div_ceil(WORKERS).max(1);
        if every == 0 || chunks == 0 {
            return 0;
        }
        let due = self.owners.get(&owner).is_none_or(|count| {
            let longer = every - self.every;
            count.added + chunks >= count.due + longer || count.added + 2 * chunks > every + every / 2
        });
        if due { (chunks / every).max(1) } else { 0 }
    }

    /// A step is over in which an owner has added `chunks`, and whether one of them was audited. `random` gives a
    /// number below its argument.
    pub fn added(&mut self, owner: WorkerId, chunks: u64, audited: bool, random: impl FnOnce(u64) -> u64) {
        if self.every == 0 {
            return;
        }
        if audited {
            let due = 1 + random(self.every + self.every / 2);
            self.owners.insert(owner, AuditCount { added: 0, due });
        } else if let Some(count) = self.owners.get_mut(&owner) {
            count.added += chunks;
        }
    }

    /// Forgets all owners but those for which `stays` holds.
    pub fn retain(&mut self, stays: impl Fn(WorkerId) -> bool) {
        self.owners.retain(|owner, _| stays(*owner));
    }
}

#[cfg(test)]
mod tests;
