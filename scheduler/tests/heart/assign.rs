//! The assignment: exact, in nodes of the tree, and as even as can be.

use convoy_scheduler::assign::{Assignee, assign, deal, finish, quotas, speeds};
use convoy_scheduler::*;
use proptest::prelude::*;
use std::ops::Range;

fn assignee(worker: u32, threads: u32, speed: Option<u64>) -> Assignee {
    Assignee {
        worker: WorkerId(worker),
        threads,
        speed: speed.map(Micros),
        node_cost: Micros(0),
        delay: Micros(0),
        load: 0,
        nodes: 0,
    }
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
    assert_eq!(quotas(11, &assignees, 64), [6, 2, 3]);
}

/// Eight workers with a thread each, measured on a machine with other work.
fn noisy(node_cost: u64) -> Vec<Assignee> {
    let speeds = [20, 55, 31, 24, 48, 62, 22, 35];
    let noisy = |(i, speed)| Assignee { node_cost: Micros(node_cost), ..assignee(i, 1, Some(speed)) };
    (1..).zip(speeds).map(noisy).collect()
}

#[test]
fn speeds_that_differ_by_little_against_sending_are_not_worth_an_uneven_deal() {
    assert_eq!(quotas(8, &noisy(3000), 64), [1; 8]);
    assert_eq!(quotas(8, &noisy(0), 64), [2, 0, 1, 2, 0, 0, 2, 1]);
    let slow = Assignee { speed: Some(Micros(3000)), ..noisy(3000)[2] };
    let with_slow: Vec<Assignee> = noisy(3000).into_iter().take(7).chain([slow]).collect();
    assert_eq!(quotas(8, &with_slow, 64), [2, 1, 1, 1, 1, 1, 1, 0], "a hundred times slower is not little");
}

#[test]
fn who_would_send_two_nodes_pays_for_both() {
    let three = |node_cost| [1, 2, 3].map(|i| Assignee { node_cost: Micros(node_cost), ..assignee(i, 1, Some(100)) });
    check(16, &three(0), 64, "1: 0..4, 2: 4..8, 3: 8..12, 1: 12..14, 2: 14..15, 3: 15..16");
    check(16, &three(300), 64, "1: 0..8, 2: 8..12, 3: 12..16");
}

#[test]
fn who_sends_slowly_gets_nothing_where_others_are_done_earlier_without_it() {
    let with =
        |node_cost| [assignee(1, 1, Some(100)), Assignee { node_cost: Micros(node_cost), ..assignee(2, 1, Some(100)) }];
    assert_eq!(quotas(8, &with(200), 64), [6, 2]);
    assert_eq!(quotas(8, &with(2000), 64), [8, 0]);
}

#[test]
fn a_half_empty_round_is_spread() {
    let assignees = [assignee(1, 4, None), assignee(2, 4, None)];
    check(4, &assignees, 64, "1: 0..2, 2: 2..4");
}

#[test]
fn who_has_much_to_do_gets_less() {
    let assignees = [Assignee { load: 3, ..assignee(1, 1, None) }, assignee(2, 1, None)];
    assert_eq!(quotas(5, &assignees, 64), [1, 4]);
}

#[test]
fn a_lost_node_stays_whole_where_it_fits() {
    let busy = Assignee { load: 9, ..assignee(1, 1, None) };
    let lost = [Node { first: 4, last: 8 }, Node { first: 10, last: 11 }];
    let placed = deal(&lost, &[busy, assignee(2, 1, None)], 64);
    assert_eq!(placed, [(WorkerId(2), lost[0]), (WorkerId(2), lost[1])]);
}

fn assignees() -> impl Strategy<Value = Vec<Assignee>> {
    costly_assignees(1..7, 0..1)
}

fn costly_assignees(number: Range<usize>, node_cost: Range<u64>) -> impl Strategy<Value = Vec<Assignee>> {
    let late = prop_oneof![Just(0), 0u64..3000];
    let one = (1u32..5, prop::option::of(1u64..2000), 0u32..20, node_cost, 0u32..3, late);
    prop::collection::vec(one, number).prop_map(|list| {
        let assignee = |(i, (threads, speed, load, node_cost, nodes, delay))| Assignee {
            node_cost: Micros(node_cost),
            delay: Micros(delay),
            load,
            nodes,
            ..assignee(i, threads, speed)
        };
        (0..).zip(list).map(assignee).collect()
    })
}

/// When the last is done, given how many shards each has and in how many nodes.
fn makespan(assignees: &[Assignee], dealt: &[(u32, u32)]) -> u64 {
    let finish = |((assignee, speed), (shards, nodes)): ((&Assignee, Micros), &(u32, u32))| {
        if *shards == 0 { 0 } else { finish(assignee, speed, *shards, *nodes).0 }
    };
    assignees.iter().zip(speeds(assignees)).zip(dealt).map(finish).max().unwrap_or(0)
}

/// What each of so many holders has to send, given the holder of each shard: shards and nodes.
fn held(node: Node, holders: &[usize], number: usize) -> Vec<(u32, u32)> {
    fn count(node: Node, holders: &[usize], held: &mut Vec<(u32, u32)>) {
        let holder = holders[node.first as usize];
        let alone = node.leaves().all(|ShardId(shard)| holders[shard as usize] == holder);
        match node.children().filter(|_| !alone) {
            Some((left, right)) => [left, right].into_iter().for_each(|child| count(child, holders, held)),
            None => held[holder] = (held[holder].0 + node.size(), held[holder].1 + 1),
        }
    }
    let mut held = vec![(0, 0); number];
    count(node, holders, &mut held);
    held
}

proptest! {
    #[test]
    fn every_shard_goes_to_one_member_in_nodes_of_the_tree(
        shards in 1u32..200, assignees in costly_assignees(1..7, 0..4000), largest in 1u32..80,
    ) {
        let root = tree::root(shards);
        let placed = assign(shards, &assignees, largest);
        let ledger: Vec<LedgerEntry> =
            placed.iter().map(|(worker, node)| LedgerEntry { node: *node, worker: *worker, auditor: None }).collect();
        prop_assert_eq!(check_ledger(&ledger, shards), Ok(()));
        prop_assert!(placed.iter().all(|(_, node)| node.is_node_of(root) && node.size() <= largest));
        for (assignee, quota) in assignees.iter().zip(quotas(shards, &assignees, largest)) {
            let got: u32 = placed.iter().filter(|(w, _)| *w == assignee.worker).map(|(_, node)| node.size()).sum();
            prop_assert_eq!(got, quota);
        }
    }

    /// No two siblings at one assignee: they would have been one node.
    #[test]
    fn nodes_are_as_few_as_quotas_allow(shards in 1u32..200, assignees in costly_assignees(1..7, 0..4000)) {
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
        let one_node = |quotas: &[u32]| quotas.iter().map(|quota| (*quota, 1)).collect::<Vec<_>>();
        let found = makespan(&assignees, &one_node(&quotas(shards, &assignees, shards)));
        let mut deals: Vec<Vec<u32>> = vec![Vec::new()];
        for left in (0..assignees.len()).rev() {
            let extend = |deal: Vec<u32>| {
                let rest = shards - deal.iter().sum::<u32>();
                let range = if left == 0 { rest..=rest } else { 0..=rest };
                range.map(move |quota| deal.iter().copied().chain([quota]).collect())
            };
            deals = deals.into_iter().flat_map(extend).collect();
        }
        let best = deals.iter().map(|deal| makespan(&assignees, &one_node(deal))).min();
        prop_assert_eq!(Some(found), best);
    }

    /// Compared with every way to deal the shards of a tree of a power of two, given what nodes cost. The trees of
    /// other numbers have nodes of odd sizes; what is found for them is no worse than the best by more than some nodes.
    #[test]
    fn no_other_deal_is_sent_earlier(shards in 1u32..9, assignees in costly_assignees(1..4, 0..4000)) {
        let (root, number) = (tree::root(shards), assignees.len());
        let mut holders = vec![0; shards as usize];
        for (worker, node) in assign(shards, &assignees, shards) {
            node.leaves().for_each(|ShardId(shard)| holders[shard as usize] = worker.0 as usize);
        }
        let found = makespan(&assignees, &held(root, &holders, number));
        let ways = (0..number.pow(shards)).map(|way| {
            let holders: Vec<usize> = (0..shards).map(|shard| way / number.pow(shard) % number).collect();
            makespan(&assignees, &held(root, &holders, number))
        });
        let best = ways.min().expect("there is a way");
        let costs = || assignees.iter().map(|assignee| assignee.node_cost.0);
        let (least, most) = (costs().min().unwrap_or(0), costs().max().unwrap_or(0));
        let allowed = best + least / 8 + if shards.is_power_of_two() { 0 } else { 2 * most };
        prop_assert!(best <= found && found <= allowed, "{} and not {}", found, best);
    }
}
