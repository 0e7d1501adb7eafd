//! Who gets which nodes: pure functions over plain data.
//!
//! Two questions, answered one after the other. *How many* shards should each worker get, so that all finish as early as
//! they can? That is [`quotas`]: shards are dealt one by one to whoever would finish it first, which is optimal because
//! shards are alike. *Which* ones, in as few and as large nodes as possible, so that little travels? That is [`place`]:
//! the largest node goes whole to whoever has room for it, and is halved only if nobody has.

use std::collections::{BTreeSet, BinaryHeap};

use crate::ids::{Micros, WorkerId};
use crate::tree::{Node, root};

/// A worker as the assignment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name.
    pub worker: WorkerId,
    /// Shards it computes at a time; at least one.
    pub threads: u32,
    /// What a shard takes it on one thread; `None` before it was measured (it then counts as the mean of the others).
    pub speed: Option<Micros>,
    /// Shards it has to compute already.
    pub load: u32,
}

/// When a member would be done with its load and `extra` shards more: first in whole rounds of its threads, then, where
/// that is equal, as if shards could be cut (so that a half-empty round is spread over workers).
pub fn finish(member: &Member, speed: Micros, extra: u32) -> (u64, u64) {
    let (shards, threads) = (u64::from(member.load) + u64::from(extra), u64::from(member.threads));
    (shards.div_ceil(threads).saturating_mul(speed.0), shards.saturating_mul(speed.0) / threads)
}

/// What a shard takes each member, with the mean of the known ones (or one second) for those never measured.
pub fn speeds(members: &[Member]) -> Vec<Micros> {
    let known: Vec<u64> = members.iter().filter_map(|member| member.speed).map(|speed| speed.0).collect();
    let sum = known.iter().fold(0u64, |sum, speed| sum.saturating_add(*speed));
    let mean = sum.checked_div(known.len() as u64).unwrap_or(1_000_000);
    members.iter().map(|member| Micros(member.speed.map_or(mean, |speed| speed.0).max(1))).collect()
}

/// How many of `shards` shards each member gets, in the order of `members`, so that the last of them is done as early as
/// possible. Ties go to the lower position.
pub fn quotas(shards: u32, members: &[Member]) -> Vec<u32> {
    let speeds = speeds(members);
    let mut quotas = vec![0; members.len()];
    let finish_with_next = |i: usize, quota: u32| (finish(&members[i], speeds[i], quota + 1), i);
    let mut by_finish: BTreeSet<_> = (0..members.len()).map(|i| finish_with_next(i, 0)).collect();
    for _ in 0..shards {
        let (_, i) = by_finish.pop_first().expect("somebody to deal to");
        quotas[i] += 1;
        by_finish.insert(finish_with_next(i, quotas[i]));
    }
    quotas
}

/// Deals all of `[0, shards)` to `members` as nodes of at most `largest` shards, from left to right.
///
/// # Panics
/// If there is no shard or no member.
pub fn assign(shards: u32, members: &[Member], largest: u32) -> Vec<(WorkerId, Node)> {
    place(&[root(shards)], members, largest)
}

/// Deals `nodes` to `members`, split where that lets all finish earlier or a node is larger than `largest`; from left to
/// right. Each member gets exactly its quota.
///
/// # Panics
/// If there is no member.
pub fn place(nodes: &[Node], members: &[Member], largest: u32) -> Vec<(WorkerId, Node)> {
    let shards = nodes.iter().map(|node| node.size()).sum();
    let quotas = quotas(shards, members);
    // Room left by member: the largest first, then the lower position.
    let mut rooms: BinaryHeap<_> =
        quotas.into_iter().enumerate().map(|(i, room)| (room, std::cmp::Reverse(i))).collect();
    let mut waiting: BTreeSet<_> = nodes.iter().map(|node| (std::cmp::Reverse(node.size()), *node)).collect();
    let mut placed = Vec::new();
    while let Some((_, node)) = waiting.pop_first() {
        let mut room = rooms.peek_mut().expect("somebody to give it to");
        match node.children() {
            Some((left, right)) if node.size() > room.0.min(largest) => {
                waiting.extend([left, right].map(|child| (std::cmp::Reverse(child.size()), child)));
            }
            _ => {
                room.0 -= node.size();
                placed.push((members[room.1.0].worker, node));
            }
        }
    }
    placed.sort_unstable_by_key(|(_, node)| *node);
    placed
}
