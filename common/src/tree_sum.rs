//! Sums over the reduce tree: nodes arrive in any order and are always added `left + right`.

use std::collections::BTreeMap;

use convoy_scheduler::Node;
use convoy_scheduler::tree::root;

/// Values that wait for their siblings in a reduce tree.
///
/// A value of a node is the same whoever computed it, so the first to arrive counts and a repeated node is dropped,
/// as is one whose shards are partly or wholly there already as a node above it.
#[derive(Debug, Clone)]
pub struct TreeSum<T> {
    root: Node,
    present: BTreeMap<Node, T>,
}

impl<T> TreeSum<T> {
    /// An empty tree over the shards of `root`, which may be any node of a larger tree.
    pub fn new(root: Node) -> Self {
        TreeSum { root, present: BTreeMap::new() }
    }

    /// An empty tree over `shards` shards.
    pub fn over(shards: u32) -> Self {
        TreeSum::new(root(shards))
    }

    /// Takes in the value of `node` and does every addition that is possible now with `add(left, right)`, which leaves
    /// the sum in `left`. Returns the values that are no longer needed (repeated ones and right summands), so that
    /// their memory can be used again. The value of a node that is not in this tree is returned as it came.
    pub fn insert(&mut self, node: Node, value: T, mut add: impl FnMut(&mut T, &T)) -> Vec<T> {
        if !node.is_node_of(self.root) || self.present.keys().any(|have| have.contains(node)) {
            return vec![value];
        }
        let below: Vec<Node> = self.present.keys().copied().filter(|have| node.contains(*have)).collect();
        let mut spent: Vec<T> = below.iter().filter_map(|part| self.present.remove(part)).collect();
        let (mut node, mut value) = (node, value);
        while let Some((parent, sibling)) = node.parent(self.root).zip(node.sibling(self.root)) {
            let Some(other) = self.present.remove(&sibling) else { break };
            let (mut left, right) = if node < sibling { (value, other) } else { (other, value) };
            add(&mut left, &right);
            spent.push(right);
            (node, value) = (parent, left);
        }
        self.present.insert(node, value);
        spent
    }

    /// Takes out the value of `node`'s sibling, if it is there, with their parent. The caller adds the value of `node`
    /// to it, which then needs no memory of its own, and inserts the sum for the parent.
    pub fn take_sibling(&mut self, node: Node) -> Option<(Node, T)> {
        let (parent, sibling) = node.parent(self.root).zip(node.sibling(self.root))?;
        Some((parent, self.present.remove(&sibling)?))
    }

    /// The sum of all shards, once it is there.
    pub fn total(&self) -> Option<&T> {
        self.present.get(&self.root)
    }

    /// Takes the sum of all shards out, once it is there.
    pub fn take(&mut self) -> Option<T> {
        self.present.remove(&self.root)
    }
}

/// `left = left + right`, element by element, for the f64 sums of metrics.
///
/// # Panics
/// When the lengths differ.
#[allow(clippy::ptr_arg, reason = "the shape that TreeSum::insert asks for")]
pub fn add_f64(left: &mut Vec<f64>, right: &Vec<f64>) {
    assert_eq!(left.len(), right.len(), "sums of one layout have one length");
    left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::tree::cover;
    use proptest::prelude::*;

    use super::*;

    /// Sums that tell their order: text in brackets.
    fn add(left: &mut String, right: &String) {
        *left = format!("({left}+{right})");
    }

    fn value(node: Node) -> String {
        let mut sum = TreeSum::new(node);
        for shard in node.leaves() {
            sum.insert(Node { first: shard.0, last: shard.0 + 1 }, shard.0.to_string(), add);
        }
        sum.take().unwrap()
    }

    #[test]
    fn five_shards() {
        assert_eq!(value(root(5)), "(((0+1)+(2+3))+4)");
    }

    #[test]
    fn a_value_may_be_added_to_its_siblings_as_it_is_made() {
        let mut sum = TreeSum::over(5);
        let leaf = |shard: u32| Node { first: shard, last: shard + 1 };
        assert_eq!(sum.take_sibling(leaf(1)), None);
        sum.insert(leaf(0), "0".to_owned(), add);
        sum.insert(Node { first: 2, last: 4 }, "(2+3)".to_owned(), add);
        let (parent, mut both) = sum.take_sibling(leaf(1)).unwrap();
        assert_eq!(sum.take_sibling(leaf(1)), None);
        add(&mut both, &"1".to_owned());
        sum.insert(parent, both, add);
        let (parent, mut all) = sum.take_sibling(leaf(4)).unwrap();
        add(&mut all, &"4".to_owned());
        sum.insert(parent, all, add);
        assert_eq!(sum.take().unwrap(), value(root(5)));
        assert_eq!(sum.take_sibling(root(5)), None);
    }

    proptest! {
        /// Any cover of the tree by nodes, in any order, with repeats and overlaps, gives the one sum.
        #[test]
        fn the_order_of_arrival_does_not_matter(
            shards in 1u32..40,
            cuts in proptest::collection::vec((0u32..40, 0u32..40, any::<u32>()), 0..20),
        ) {
            let mut nodes: Vec<(u32, Node)> = root(shards).leaves()
                .map(|shard| (shard.0.wrapping_mul(2_654_435_761), Node { first: shard.0, last: shard.0 + 1 }))
                .collect();
            for (a, b, key) in cuts {
                let (first, last) = (a.min(b) % shards, a.max(b).min(shards - 1) + 1);
                nodes.extend(cover(root(shards), first.min(last - 1), last).into_iter().map(|node| (key, node)));
            }
            nodes.sort();
            let mut sum = TreeSum::over(shards);
            for (_, node) in nodes {
                sum.insert(node, value(node), add);
            }
            prop_assert_eq!(sum.take().unwrap(), value(root(shards)));
        }
    }
}
