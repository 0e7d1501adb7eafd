//! The reduce tree against its definition.

use convoy_scheduler::*;
use proptest::prelude::*;

fn node(first: u32, last: u32) -> Node {
    Node { first, last }
}

/// All nodes of the tree under `root`, from the top down.
fn nodes(root: Node) -> Vec<Node> {
    let mut nodes = vec![root];
    if let Some((left, right)) = root.children() {
        nodes.extend(self::nodes(left));
        nodes.extend(self::nodes(right));
    }
    nodes
}

#[test]
fn a_node_is_halved_at_the_largest_power_of_two_below_its_size() {
    let children = |shards| tree::root(shards).children();
    assert_eq!(children(1), None);
    assert_eq!(children(2), Some((node(0, 1), node(1, 2))));
    assert_eq!(children(3), Some((node(0, 2), node(2, 3))));
    assert_eq!(children(5), Some((node(0, 4), node(4, 5))));
    assert_eq!(children(8), Some((node(0, 4), node(4, 8))));
    assert_eq!(children(11), Some((node(0, 8), node(8, 11))));
    assert_eq!(node(8, 11).children(), Some((node(8, 10), node(10, 11))));
    let most = tree::root(u32::MAX);
    assert_eq!(most.children(), Some((node(0, 1 << 31), node(1 << 31, u32::MAX))));
}

#[test]
fn a_cover_takes_whole_nodes() {
    let root = tree::root(11);
    assert_eq!(tree::cover(root, 0, 11), [root]);
    assert_eq!(tree::cover(root, 3, 9), [node(3, 4), node(4, 8), node(8, 9)]);
    assert_eq!(tree::cover(root, 8, 11), [node(8, 11)]);
    assert_eq!(tree::cover(root, 5, 5), []);
}

#[test]
fn nodes_read_as_a_person_would_say() {
    assert_eq!((node(4, 8).to_string(), node(4, 5).to_string()), ("shards 4..8".into(), "shard 4".into()));
}

proptest! {
    #[test]
    fn relations_are_those_of_the_tree(shards in 1u32..70, first in 0u32..80, size in 0u32..80) {
        let (root, any) = (tree::root(shards), node(first, first + size));
        let nodes = nodes(root);
        prop_assert_eq!(any.is_node_of(root), nodes.contains(&any));
        let parent = nodes.iter().find(|above| {
            above.children().is_some_and(|(left, right)| left == any || right == any)
        });
        prop_assert_eq!(any.parent(root), parent.copied());
        let sibling = parent.and_then(|parent| parent.children()).map(|(l, r)| if l == any { r } else { l });
        prop_assert_eq!(any.sibling(root), sibling);
    }

    #[test]
    fn a_cover_is_exact_and_cannot_be_smaller(shards in 1u32..70, a in 0u32..70, b in 0u32..70) {
        let root = tree::root(shards);
        let (first, last) = (a.min(b).min(shards), a.max(b).min(shards));
        let cover = tree::cover(root, first, last);
        let leaves: Vec<u32> = cover.iter().flat_map(|node| node.leaves()).map(|shard| shard.0).collect();
        prop_assert_eq!(leaves, (first..last).collect::<Vec<u32>>());
        for node in cover {
            prop_assert!(node.is_node_of(root));
            if let Some(parent) = node.parent(root) {
                prop_assert!(parent.first < first || last < parent.last, "{} would do", parent);
            }
        }
    }
}
