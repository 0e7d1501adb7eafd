//! Sums over the reduce tree of what workers bring, in which nothing is counted that another copy contradicts.
//!
//! The first copy of a node counts at once, whoever brings it, and its parameters go out as soon as the root is there.
//! What became of the one who brought it is not known then: it may die before its node is done, and others bring the
//! node again, whole or in parts. So a fingerprint of each first copy is kept, and **every further copy is compared
//! with it**: a copy of the same node directly; copies of its parts by their sum, once that is whole. A node is done
//! when somebody has brought all of it. Then what is counted for it equals what that worker brought, bit by bit, and it
//! is right to credit and to audit that worker for it. Honest workers get the same bits, so between them there is never
//! a contradiction, in whatever order they bring what.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use convoy_scheduler::{Node, WorkerId};
use twox_hash::XxHash3_128;

use crate::tree_sum::{TreeSum, add_f64};

/// A hash under a key of this process, which nobody outside of it knows: equal for equal bits, and nobody can choose
/// other bits that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// That of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
        Fingerprint(XxHash3_128::oneshot_with_seed(*KEY, bytes))
    }
}

/// What may stand in a [`CountedSum`].
pub trait Summand {
    /// Tells it from others.
    fn fingerprint(&self) -> Fingerprint;

    /// `self + right`, in `self`.
    fn add(&mut self, right: &Self);
}

impl Summand for Vec<f64> {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_bytes(bytemuck::cast_slice(self))
    }

    fn add(&mut self, right: &Self) {
        add_f64(self, right);
    }
}

/// Two copies of a node are not equal: one of these workers has computed, or sent, something else than its lease is
/// for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The node.
    pub node: Node,
    /// Who brought it, in one piece or in parts.
    pub workers: Vec<WorkerId>,
}

/// A sum over the reduce tree, and fingerprints of all that it was made of.
#[derive(Debug)]
pub struct CountedSum<T> {
    root: Node,
    sum: TreeSum<T>,
    firsts: BTreeMap<Node, First>,
    /// Parts of nodes that have come in one piece before, to be compared when all of them are there.
    parts: BTreeMap<Node, TreeSum<T>>,
}

/// The first copy of a node.
#[derive(Debug, Clone, Copy)]
struct First {
    fingerprint: Fingerprint,
    from: WorkerId,
}

impl<T: Summand> CountedSum<T> {
    /// An empty tree over `shards` shards.
    pub fn over(shards: u32) -> Self {
        let root = convoy_scheduler::tree::root(shards);
        CountedSum { root, sum: TreeSum::new(root), firsts: BTreeMap::new(), parts: BTreeMap::new() }
    }

    /// Who has brought parts of `node`, where it was not brought in one piece before them.
    pub fn in_parts(&self, node: Node) -> Vec<WorkerId> {
        let whole = self.firsts.contains_key(&node);
        self.parts_of(node).filter(|_| !whole).map(|(_, part)| part.from).collect()
    }

    /// Counts the copy of `node` that `from` has brought, or compares it with what is counted.
    ///
    /// A node of which parts were brought before is not looked at: whoever had it has lost its lease, or it would not
    /// have been cut.
    ///
    /// # Errors
    /// When it is not what was brought before; it is not counted.
    pub fn insert(&mut self, node: Node, from: WorkerId, value: T) -> Result<(), Contradiction> {
        if !node.is_node_of(self.root) {
            return Ok(());
        }
        let fingerprint = value.fingerprint();
        if let Some(first) = self.firsts.get(&node) {
            let same = first.fingerprint == fingerprint;
            return if same { Ok(()) } else { Err(Contradiction { node, workers: vec![first.from, from] }) };
        }
        if self.parts_of(node).next().is_some() {
            return Ok(());
        }
        self.firsts.insert(node, First { fingerprint, from });
        match self.whole_around(node) {
            None => {
                self.sum.insert(node, value, T::add);
                Ok(())
            }
            Some(whole) => self.insert_part(whole, node, value),
        }
    }

    /// Adds `node` to the parts of `whole`, which was brought in one piece, and compares when they are all there.
    fn insert_part(&mut self, whole: Node, node: Node, value: T) -> Result<(), Contradiction> {
        let parts = self.parts.entry(whole).or_insert_with(|| TreeSum::new(whole));
        parts.insert(node, value, T::add);
        let Some(sum) = parts.take() else { return Ok(()) };
        let first = self.firsts[&whole];
        if sum.fingerprint() == first.fingerprint {
            return Ok(());
        }
        let workers = std::iter::once(first.from).chain(self.parts_of(whole).map(|(_, part)| part.from)).collect();
        Err(Contradiction { node: whole, workers })
    }

    /// The smallest node around `node` that was brought.
    fn whole_around(&self, node: Node) -> Option<Node> {
        let above = std::iter::successors(node.parent(self.root), |above| above.parent(self.root));
        above.into_iter().find(|above| self.firsts.contains_key(above))
    }

    /// What was brought of the inside of `node`.
    fn parts_of(&self, node: Node) -> impl Iterator<Item = (Node, First)> {
        let begin = |shard| Node { first: shard, last: 0 };
        let near = self.firsts.range(begin(node.first)..begin(node.last));
        near.map(|(part, first)| (*part, *first)).filter(move |(part, _)| *part != node && node.contains(*part))
    }

    /// The sum of all shards, once it is there.
    pub fn total(&self) -> Option<&T> {
        self.sum.total()
    }

    /// Takes the sum of all shards out, once it is there. What comes later is still compared.
    pub fn take(&mut self) -> Option<T> {
        self.sum.take()
    }
}

#[cfg(test)]
mod tests;
