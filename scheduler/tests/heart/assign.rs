//! The assignment: exact, in nodes of the tree, and as even as can be.

use convoy_scheduler::assign::{Assignee, assign, deal, finish, quotas, speeds};
use convoy_scheduler::*;
use proptest::prelude::*;

fn assignee(worker: u32, threads: u32, speed: Option<u64>) -> Assignee {
    Assignee { worker: WorkerId(worker), threads, speed: speed.map(Micros), load: 0 }
}

/// Who gets what, as `worker: first..last`.
fn check(shards: u32, assignees: &[Assignee], largest: u32, expected: &str) {
    let show = |(worker, node): &(WorkerId, Node)| format!("{}: {}..{}", worker.0, node.first, node.last);
    let found: Vec<String> = assign(shards, assignees, largest).iter().map(show).collect();
    assert_eq!(found.join(", "), expected);
}

#[test]
fn one_member_gets_the_root() {
    check(11, &[assignee(1, 2, None)], 64, "1: 0..11");
}

#[test]
fn nobody_gets_more_than_the_largest_lease() {
    check(11, &[assignee(1, 2, None)], 4, "1: 0..4, 1: 4..8, 1: 8..11");
}

#[test]
fn equal_members_get_whole_subtrees() {
    let assignees = [assignee(1, 1, None), assignee(2, 1, None)];
    check(8, &assignees, 64, "1: 0..4, 2: 4..8");
    check(11, &assignees, 64, "1: 0..4, 2: 4..8, 1: 8..10, 2: 10..11");
}

#[test]
fn more_members_than_shards_leave_some_without() {
    let assignees = [assignee(1, 1, None), assignee(2, 1, None), assignee(3, 1, None)];
    check(2, &assignees, 64, "1: 0..1, 2: 1..2");
}

#[test]
fn threads_count() {
    check(12, &[assignee(1, 1, None), assignee(2, 2, None)], 64, "2: 0..8, 1: 8..12");
}

#[test]
fn speed_counts_and_the_unknown_are_average() {
    let assignees = [assignee(1, 1, Some(100)), assignee(2, 1, Some(300)), assignee(3, 1, None)];
    assert_eq!(speeds(&assignees), [Micros(100), Micros(300), Micros(200)]);
    assert_eq!(quotas(11, &assignees), [6, 2, 3]);
}

#[test]
fn a_half_empty_round_is_spread() {
    let assignees = [assignee(1, 4, None), assignee(2, 4, None)];
    check(4, &assignees, 64, "1: 0..2, 2: 2..4");
}

#[test]
fn who_has_much_to_do_gets_less() {
    let assignees = [Assignee { load: 3, ..assignee(1, 1, None) }, assignee(2, 1, None)];
    assert_eq!(quotas(5, &assignees), [1, 4]);
}

#[test]
fn a_lost_node_stays_whole_where_it_fits() {
    let busy = Assignee { load: 9, ..assignee(1, 1, None) };
    let lost = [Node { first: 4, last: 8 }, Node { first: 10, last: 11 }];
    let placed = deal(&lost, &[busy, assignee(2, 1, None)], 64);
    assert_eq!(placed, [(WorkerId(2), lost[0]), (WorkerId(2), lost[1])]);
}

fn assignees() -> impl Strategy<Value = Vec<Assignee>> {
    let one = (1u32..5, prop::option::of(1u64..2000), 0u32..20);
    prop::collection::vec(one, 1..7).prop_map(|list| {
        let assignee = |(i, (threads, speed, load)): (usize, (u32, Option<u64>, u32))| Assignee {
            load,
            ..assignee(i as u32, threads, speed)
        };
        list.into_iter().enumerate().map(assignee).collect()
    })
}

/// When the last is done.
fn makespan(assignees: &[Assignee], quotas: &[u32]) -> u64 {
    let speeds = speeds(assignees);
    let finish = |i: usize| if quotas[i] == 0 { 0 } else { finish(&assignees[i], speeds[i], quotas[i]).0 };
    (0..assignees.len()).map(finish).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn every_shard_goes_to_one_member_in_nodes_of_the_tree(
        shards in 1u32..200, assignees in assignees(), largest in 1u32..80,
    ) {
        let root = tree::root(shards);
        let placed = assign(shards, &assignees, largest);
        let ledger: Vec<LedgerEntry> =
            placed.iter().map(|(worker, node)| LedgerEntry { node: *node, worker: *worker, auditor: None }).collect();
        prop_assert_eq!(check_ledger(&ledger, shards), Ok(()));
        prop_assert!(placed.iter().all(|(_, node)| node.is_node_of(root) && node.size() <= largest));
        for (assignee, quota) in assignees.iter().zip(quotas(shards, &assignees)) {
            let got: u32 = placed.iter().filter(|(w, _)| *w == assignee.worker).map(|(_, node)| node.size()).sum();
            prop_assert_eq!(got, quota);
        }
    }

    /// No two siblings at one assignee: they would have been one node.
    #[test]
    fn nodes_are_as_few_as_quotas_allow(shards in 1u32..200, assignees in assignees()) {
        let root = tree::root(shards);
        let placed = assign(shards, &assignees, shards);
        for (worker, node) in &placed {
            let sibling = node.sibling(root);
            prop_assert!(!placed.iter().any(|(other, n)| other == worker && Some(*n) == sibling), "{} is split", node);
        }
    }

    /// The imbalance is bounded by one round: moving a shard from whoever is last cannot help.
    #[test]
    fn no_other_deal_is_done_earlier(shards in 1u32..9, assignees in assignees()) {
        let found = makespan(&assignees, &quotas(shards, &assignees));
        let mut deals: Vec<Vec<u32>> = vec![Vec::new()];
        for left in (0..assignees.len()).rev() {
            let extend = |deal: Vec<u32>| {
                let rest = shards - deal.iter().sum::<u32>();
                let range = if left == 0 { rest..=rest } else { 0..=rest };
                range.map(move |quota| deal.iter().copied().chain([quota]).collect())
            };
            deals = deals.into_iter().flat_map(extend).collect();
        }
        let best = deals.iter().map(|deal| makespan(&assignees, deal)).min();
        prop_assert_eq!(Some(found), best);
    }
}
