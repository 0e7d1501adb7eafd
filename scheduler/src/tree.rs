//! The reduce tree: the one order in which the shards of a step are added.
//!
//! The root over `n` shards is `[0, n)`. A node of more than one shard has two children: it is halved at the largest
//! power of two below its size. The tree depends on `n` alone, and values meet as `left + right`, whoever computed them
//! and whenever they arrive; so the sum has the same bits for any number of workers.

use std::fmt;

use crate::ids::ShardId;

/// A node of the reduce tree: the sum of the shards `[first, last)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The first shard in it.
    pub first: u32,
    /// One past the last shard in it.
    pub last: u32,
}

/// `shards 4..8`, or `shard 4` where there is only one.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size() {
            1 => write!(f, "shard {}", self.first),
            _ => write!(f, "shards {}..{}", self.first, self.last),
        }
    }
}

/// The root of the tree over `shards` shards.
///
/// # Panics
/// When there is no shard.
pub fn root(shards: u32) -> Node {
    assert!(shards > 0, "a reduce tree has a shard at least");
    Node { first: 0, last: shards }
}

impl Node {
    /// How many shards are in it.
    pub fn size(self) -> u32 {
        self.last - self.first
    }

    /// Whether it is a single shard.
    pub fn is_leaf(self) -> bool {
        self.size() == 1
    }

    /// Left and right child; `None` of a leaf.
    pub fn children(self) -> Option<(Node, Node)> {
        if self.size() < 2 {
            return None;
        }
        let half = 1 << (self.size() - 1).ilog2();
        let middle = self.first + half;
        Some((Node { first: self.first, last: middle }, Node { first: middle, last: self.last }))
    }

    /// Whether every shard of `other` is in this one.
    pub fn contains(self, other: Node) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether it is a node of the tree under `root`.
    pub fn is_node_of(self, root: Node) -> bool {
        self.first < self.last && path(root, self).last() == Some(self)
    }

    /// Its parent in the tree under `root`; `None` for the root itself and for a node of another tree.
    pub fn parent(self, root: Node) -> Option<Node> {
        let (mut above, mut parent) = (None, None);
        for node in path(root, self) {
            parent = above.replace(node);
        }
        parent.filter(|_| above == Some(self))
    }

    /// The other child of its parent in the tree under `root`; `None` where it has no parent.
    pub fn sibling(self, root: Node) -> Option<Node> {
        let (left, right) = self.parent(root)?.children()?;
        Some(if self == left { right } else { left })
    }

    /// The shards in it, in order.
    pub fn leaves(self) -> impl Iterator<Item = ShardId> {
        (self.first..self.last).map(ShardId)
    }
}

/// The nodes from `root` down that contain `goal`.
fn path(root: Node, goal: Node) -> impl Iterator<Item = Node> {
    let below = move |node: &Node| {
        let (left, right) = node.children()?;
        [left, right].into_iter().find(|child| child.contains(goal))
    };
    std::iter::successors(root.contains(goal).then_some(root), below)
}

/// The fewest nodes of the tree under `root` that make up exactly the shards `[first, last)`, from left to right.
pub fn cover(root: Node, first: u32, last: u32) -> Vec<Node> {
    let range = Node { first, last };
    let (mut cover, mut stack) = (Vec::new(), vec![root]);
    while let Some(node) = stack.pop() {
        if node.last <= first || last <= node.first {
            continue;
        }
        match node.children() {
            Some((left, right)) if !range.contains(node) => stack.extend([right, left]),
            _ => cover.push(node),
        }
    }
    cover
}
