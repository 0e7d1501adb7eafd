//! The assignment: exact, in nodes of the tree, and as even as can be.

use convoy_scheduler::assign::{Member, assign, finish, place, quotas, speeds};
use convoy_scheduler::*;
use proptest::prelude::*;

fn member(worker: u32, threads: u32, speed: Option<u64>) -> Member {
    Member { worker: WorkerId(worker), threads, speed: speed.map(Micros), load: 0 }
}

/// Who gets what, as `worker: first..last`.
fn check(shards: u32, members: &[Member], largest: u32, expected: &str) {
    let show = |(worker, node): &(WorkerId, Node)| format!("{}: {}..{}", worker.0, node.first, node.last);
    let found: Vec<String> = assign(shards, members, largest).iter().map(show).collect();
    assert_eq!(found.join(", "), expected);
}

#[test]
fn one_member_gets_the_root() {
    check(11, &[member(1, 2, None)], 64, "1: 0..11");
}

#[test]
fn nobody_gets_more_than_the_largest_lease() {
    check(11, &[member(1, 2, None)], 4, "1: 0..4, 1: 4..8, 1: 8..11");
}

#[test]
fn equal_members_get_whole_subtrees() {
    let members = [member(1, 1, None), member(2, 1, None)];
    check(8, &members, 64, "1: 0..4, 2: 4..8");
    check(11, &members, 64, "1: 0..4, 2: 4..8, 1: 8..10, 2: 10..11");
}

#[test]
fn more_members_than_shards_leave_some_without() {
    let members = [member(1, 1, None), member(2, 1, None), member(3, 1, None)];
    check(2, &members, 64, "1: 0..1, 2: 1..2");
}

#[test]
fn threads_count() {
    check(12, &[member(1, 1, None), member(2, 2, None)], 64, "2: 0..8, 1: 8..12");
}

#[test]
fn speed_counts_and_the_unknown_are_average() {
    let members = [member(1, 1, Some(100)), member(2, 1, Some(300)), member(3, 1, None)];
    assert_eq!(speeds(&members), [Micros(100), Micros(300), Micros(200)]);
    assert_eq!(quotas(11, &members), [6, 2, 3]);
}

#[test]
fn a_half_empty_round_is_spread() {
    let members = [member(1, 4, None), member(2, 4, None)];
    check(4, &members, 64, "1: 0..2, 2: 2..4");
}

#[test]
fn who_has_much_to_do_gets_less() {
    let members = [Member { load: 3, ..member(1, 1, None) }, member(2, 1, None)];
    assert_eq!(quotas(5, &members), [1, 4]);
}

#[test]
fn a_lost_node_stays_whole_where_it_fits() {
    let busy = Member { load: 9, ..member(1, 1, None) };
    let lost = [Node { first: 4, last: 8 }, Node { first: 10, last: 11 }];
    let placed = place(&lost, &[busy, member(2, 1, None)], 64);
    assert_eq!(placed, [(WorkerId(2), lost[0]), (WorkerId(2), lost[1])]);
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let one = (1u32..5, prop::option::of(1u64..2000), 0u32..20);
    prop::collection::vec(one, 1..7).prop_map(|list| {
        let member = |(i, (threads, speed, load)): (usize, (u32, Option<u64>, u32))| Member {
            load,
            ..member(i as u32, threads, speed)
        };
        list.into_iter().enumerate().map(member).collect()
    })
}

/// When the last is done.
fn makespan(members: &[Member], quotas: &[u32]) -> u64 {
    let speeds = speeds(members);
    let finish = |i: usize| if quotas[i] == 0 { 0 } else { finish(&members[i], speeds[i], quotas[i]).0 };
    (0..members.len()).map(finish).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn every_shard_goes_to_one_member_in_nodes_of_the_tree(
        shards in 1u32..200, members in members(), largest in 1u32..80,
    ) {
        let root = tree::root(shards);
        let placed = assign(shards, &members, largest);
        let ledger: Vec<LedgerEntry> =
            placed.iter().map(|(worker, node)| LedgerEntry { node: *node, worker: *worker, auditor: None }).collect();
        prop_assert_eq!(check_ledger(&ledger, shards), Ok(()));
        prop_assert!(placed.iter().all(|(_, node)| node.is_node_of(root) && node.size() <= largest));
        for (member, quota) in members.iter().zip(quotas(shards, &members)) {
            let got: u32 = placed.iter().filter(|(w, _)| *w == member.worker).map(|(_, node)| node.size()).sum();
            prop_assert_eq!(got, quota);
        }
    }

    /// No two siblings at one member: they would have been one node.
    #[test]
    fn nodes_are_as_few_as_quotas_allow(shards in 1u32..200, members in members()) {
        let root = tree::root(shards);
        let placed = assign(shards, &members, shards);
        for (worker, node) in &placed {
            let sibling = node.sibling(root);
            prop_assert!(!placed.iter().any(|(other, n)| other == worker && Some(*n) == sibling), "{} is split", node);
        }
    }

    /// The imbalance is bounded by one round: moving a shard from whoever is last cannot help.
    #[test]
    fn no_other_deal_is_done_earlier(shards in 1u32..9, members in members()) {
        let found = makespan(&members, &quotas(shards, &members));
        let mut deals: Vec<Vec<u32>> = vec![Vec::new()];
        for left in (0..members.len()).rev() {
            let extend = |deal: Vec<u32>| {
                let rest = shards - deal.iter().sum::<u32>();
                let range = if left == 0 { rest..=rest } else { 0..=rest };
                range.map(move |quota| deal.iter().copied().chain([quota]).collect())
            };
            deals = deals.into_iter().flat_map(extend).collect();
        }
        let best = deals.iter().map(|deal| makespan(&members, deal)).min();
        prop_assert_eq!(Some(found), best);
    }
}
