use proptest::prelude::*;

use convoy_scheduler::tree::root;

use super::*;

const LIAR: WorkerId = WorkerId(9);

/// Text that tells the order of additions.
impl Summand for String {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_bytes(self.as_bytes())
    }

    fn add(&mut self, right: &Self) {
        *self = format!("({self}+{right})");
    }
}

fn node(first: u32, last: u32) -> Node {
    Node { first, last }
}

/// What an honest worker gets for `node`.
fn honest(node: Node) -> String {
    let mut sum = TreeSum::new(node);
    for shard in node.leaves() {
        sum.insert(Node { first: shard.0, last: shard.0 + 1 }, shard.0.to_string(), String::add);
    }
    sum.take().expect("all shards are there")
}

fn bring(sum: &mut CountedSum<String>, worker: u32, node: Node) -> Result<(), Contradiction> {
    sum.insert(node, WorkerId(worker), honest(node))
}

fn lie(sum: &mut CountedSum<String>, node: Node) -> Result<(), Contradiction> {
    sum.insert(node, LIAR, format!("a lie about {node}"))
}

#[test]
fn a_second_copy_is_compared_with_the_first_one() {
    let mut sum = CountedSum::over(2);
    lie(&mut sum, node(0, 1)).unwrap();
    let workers = vec![LIAR, WorkerId(1)];
    assert_eq!(bring(&mut sum, 1, node(0, 1)), Err(Contradiction { node: node(0, 1), workers }));
    let mut sum = CountedSum::over(2);
    bring(&mut sum, 1, node(0, 1)).unwrap();
    assert_eq!(bring(&mut sum, 2, node(0, 1)), Ok(()));
    assert!(lie(&mut sum, node(0, 1)).is_err());
}

#[test]
fn copies_are_compared_after_the_sum_was_taken() {
    let mut sum = CountedSum::over(2);
    bring(&mut sum, 1, node(0, 1)).unwrap();
    lie(&mut sum, node(1, 2)).unwrap();
    assert!(sum.take().is_some());
    assert!(bring(&mut sum, 2, node(1, 2)).is_err());
    assert_eq!(sum.take(), None);
}

#[test]
fn a_node_that_was_cut_is_compared_with_the_sum_of_its_parts() {
    let mut sum = CountedSum::over(4);
    lie(&mut sum, root(4)).unwrap();
    bring(&mut sum, 1, node(0, 2)).unwrap();
    bring(&mut sum, 2, node(2, 3)).unwrap();
    let contradiction = bring(&mut sum, 3, node(3, 4)).unwrap_err();
    assert_eq!(contradiction, Contradiction { node: root(4), workers: [9, 1, 2, 3].map(WorkerId).to_vec() });
}

#[test]
fn a_lie_in_a_part_cannot_hide_behind_one_about_the_whole() {
    // Two of the liar's machines agree about the whole; the one with the part dies before its node is done.
    let mut sum = CountedSum::over(2);
    let lie = "0 and a half".to_owned();
    sum.insert(root(2), LIAR, format!("({lie}+1)")).unwrap();
    sum.insert(node(0, 1), WorkerId(8), lie).unwrap();
    bring(&mut sum, 1, node(1, 2)).unwrap();
    assert!(bring(&mut sum, 2, node(0, 1)).is_err(), "an honest worker completes the part");
}

#[test]
fn a_copy_of_a_whole_that_was_cut_since_counts_for_nothing() {
    let mut sum = CountedSum::over(2);
    bring(&mut sum, 1, node(0, 1)).unwrap();
    lie(&mut sum, root(2)).unwrap();
    bring(&mut sum, 2, node(1, 2)).unwrap();
    assert_eq!(sum.take().as_deref(), Some("(0+1)"));
}

#[test]
fn equal_bits_have_one_fingerprint_and_others_another() {
    let print = |values: &[f64]| values.to_vec().fingerprint();
    assert_eq!(print(&[1.0; 1000]), print(&[1.0; 1000]));
    for (i, other) in [(0, 1.0 + f64::EPSILON), (999, -1.0), (500, 0.0)] {
        let mut values = [1.0; 1000];
        values[i] = other;
        assert_ne!(print(&values), print(&[1.0; 1000]), "{i}");
    }
    assert_ne!(print(&[0.0]), print(&[-0.0]), "bits, not numbers");
    assert_ne!(vec![1.0, 2.0].fingerprint(), vec![2.0, 1.0].fingerprint());
}

/// Nodes of a step as a scheduler lends them: the tree is cut finer as time goes by, and copies of what was lent before
/// still come. `true` for those that their workers complete: the last cut, in which each shard is once.
fn lent(shards: u32, cuts: &[(u32, u32)], seed: u32) -> Vec<(Node, bool)> {
    let mut now = vec![root(shards)];
    let mut all = vec![];
    for &(at, copies) in cuts {
        let whole = now[at as usize % now.len()];
        all.extend((0..copies).map(|_| (whole, false)));
        if let Some((left, right)) = whole.children() {
            now.retain(|other| *other != whole);
            now.extend([left, right]);
        }
    }
    all.extend(now.into_iter().map(|node| (node, true)));
    // Copies of lost workers may come at any time after they were lent; here they may as well come before.
    all.sort_by_key(|(node, done)| {
        (node.first ^ seed).wrapping_mul(2_654_435_761) ^ (node.last ^ u32::from(*done)).wrapping_mul(0x9e37_79b9)
    });
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn honest_workers_never_contradict_each_other_and_get_the_sum(
        shards in 1u32..40,
        cuts in prop::collection::vec((0u32..40, 0u32..3), 0..30),
        seed in any::<u32>(),
    ) {
        let mut sum = CountedSum::over(shards);
        for (worker, (node, _)) in lent(shards, &cuts, seed).into_iter().enumerate() {
            prop_assert_eq!(bring(&mut sum, worker as u32, node), Ok(()));
        }
        prop_assert_eq!(sum.take(), Some(honest(root(shards))));
    }

    /// Whatever a liar brings and never completes: when all nodes are done, either the sum is right or it was seen.
    #[test]
    fn what_a_liar_leaves_behind_is_never_counted_unseen(
        shards in 1u32..40,
        cuts in prop::collection::vec((0u32..40, 0u32..3), 0..30),
        lies in any::<u64>(),
        seed in any::<u32>(),
    ) {
        let mut sum = CountedSum::over(shards);
        let mut seen = false;
        for (at, (node, done)) in lent(shards, &cuts, seed).into_iter().enumerate() {
            let lies = !done && lies >> (at % 64) & 1 == 1;
            let brought = if lies { lie(&mut sum, node) } else { bring(&mut sum, at as u32, node) };
            seen |= brought.is_err();
        }
        prop_assert!(seen || sum.take() == Some(honest(root(shards))));
    }
}
