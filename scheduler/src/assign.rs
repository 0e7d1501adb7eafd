//! Who gets which nodes: pure functions over plain data.
//!
//! There are two questions. *How many* shards should each worker get, so that all finish as early as possible?
//! [`quotas`] deals shards one by one, each to the worker that would finish it first; this is optimal because shards
//! are alike. *Which* shards, in as few and as large nodes as possible, so that little travels? [`deal`] gives the
//! largest node whole to a worker with room for it, and halves the node only if no worker has.

use std::collections::{BTreeSet, BinaryHeap};

use crate::ids::{Micros, WorkerId};
use crate::tree::{Node, root};

/// A worker as the assignment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assignee {
    /// Its number.
    pub worker: WorkerId,
    /// Shards it computes at a time; at least one.
    pub threads: u32,
    /// Time that a shard takes it on one thread; `None` before it was measured (the mean of the others then counts).
    pub speed: Option<Micros>,
    /// Shards it has to compute already.
    pub load: u32,
}

/// When an assignee would be done with its load and `extra` shards more, in microseconds from now if a shard takes
/// `speed` on one of its threads. Compare the first number, which counts whole rounds of its threads, and where that is
/// equal the second, which is the time if shards could be cut: so a half-empty round is spread over workers.
pub fn finish(assignee: &Assignee, speed: Micros, extra: u32) -> (u64, u64) {
    let (shards, threads) = (u64::from(assignee.load) + u64::from(extra), u64::from(assignee.threads));
    (shards.div_ceil(threads).saturating_mul(speed.0), shards.saturating_mul(speed.0) / threads)
}

/// Time that a shard takes each assignee on one thread: as measured, or the mean of the measured ones (one second if
/// there is none) for those never measured.
pub fn speeds(assignees: &[Assignee]) -> Vec<Micros> {
    let known: Vec<u64> = assignees.iter().filter_map(|assignee| assignee.speed).map(|speed| speed.0).collect();
    let sum = known.iter().fold(0u64, |sum, speed| sum.saturating_add(*speed));
    let mean = sum.checked_div(known.len() as u64).unwrap_or(1_000_000);
    assignees.iter().map(|assignee| Micros(assignee.speed.map_or(mean, |speed| speed.0).max(1))).collect()
}

/// How many of `shards` shards each assignee gets, in the order of `assignees`, so that the last of them is done as
/// early as possible. Ties go to the lower position.
///
/// # Panics
/// When there are shards and no assignee.
pub fn quotas(shards: u32, assignees: &[Assignee]) -> Vec<u32> {
    let speeds = speeds(assignees);
    let mut quotas = vec![0; assignees.len()];
    let finish_with_next = |i: usize, quota: u32| (finish(&assignees[i], speeds[i], quota + 1), i);
    let mut by_finish: BTreeSet<_> = (0..assignees.len()).map(|i| finish_with_next(i, 0)).collect();
    for _ in 0..shards {
        let (_, i) = by_finish.pop_first().expect("somebody to deal to");
        quotas[i] += 1;
        by_finish.insert(finish_with_next(i, quotas[i]));
    }
    quotas
}

/// Deals all of `[0, shards)` to `assignees` as nodes of at most `largest` shards, from left to right.
///
/// # Panics
/// When there is no shard or no assignee.
pub fn assign(shards: u32, assignees: &[Assignee], largest: u32) -> Vec<(WorkerId, Node)> {
    deal(&[root(shards)], assignees, largest)
}

/// Deals `nodes` to `assignees`, split where that lets all finish earlier or a node has more than `largest` shards. The
/// answer is sorted by node, from left to right. Each assignee gets exactly its quota.
///
/// # Panics
/// When there is no assignee.
pub fn deal(nodes: &[Node], assignees: &[Assignee], largest: u32) -> Vec<(WorkerId, Node)> {
    let shards = nodes.iter().map(|node| node.size()).sum();
    let quotas = quotas(shards, assignees);
    // Room left by assignee: the largest first, then the lower position.
    let mut rooms: BinaryHeap<_> =
        quotas.into_iter().enumerate().map(|(i, room)| (room, std::cmp::Reverse(i))).collect();
    let mut waiting: BTreeSet<_> = nodes.iter().map(|node| (std::cmp::Reverse(node.size()), *node)).collect();
    let mut dealt = Vec::new();
    while let Some((_, node)) = waiting.pop_first() {
        let mut room = rooms.peek_mut().expect("somebody to give it to");
        match node.children() {
            Some((left, right)) if node.size() > room.0.min(largest) => {
                waiting.extend([left, right].map(|child| (std::cmp::Reverse(child.size()), child)));
            }
            _ => {
                room.0 -= node.size();
                dealt.push((assignees[room.1.0].worker, node));
            }
        }
    }
    dealt.sort_unstable_by_key(|(_, node)| *node);
    dealt
}
