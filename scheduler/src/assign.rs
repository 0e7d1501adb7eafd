//! Who gets which nodes: pure functions over plain data.
//!
//! There are two questions. *How many* shards should each worker get, so that all have computed and sent them as early
//! as possible? [`quotas`] finds the least time within which all shards fit, given what a shard and what a node cost
//! each worker; shards are alike, so only their numbers count. *Which* shards, in as few and as large nodes as
//! possible, so that little travels? [`deal`] gives the largest node whole to a worker with room for it, and halves the
//! node only if no worker has.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::ids::{Micros, WorkerId};
use crate::tree::{Node, root};

/// A more even deal may be done later by one part in so many of what a node costs: that is noise in a step's time.
const NOISE: u64 = 8;

/// A worker as the assignment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assignee {
    /// Its number.
    pub worker: WorkerId,
    /// Shards it computes at a time; at least one.
    pub threads: u32,
    /// Time that a shard takes it on one thread; `None` before it was measured (the mean of the others then counts).
    pub speed: Option<Micros>,
    /// Time that it takes it to send a node; zero where nothing was measured.
    pub node_cost: Micros,
    /// Time before it begins, so much longer than others take; zero for one that has begun.
    pub delay: Micros,
    /// Shards it has to compute already.
    pub load: u32,
    /// Nodes that it has to send already.
    pub nodes: u32,
}

/// When an assignee would be done with what it has and `extra` shards more in so many nodes, in microseconds from now
/// if a shard takes `speed` on one of its threads. Compare the first number, which counts whole rounds of its threads,
/// and where that is equal the second, which is the time if shards could be cut: so a half-empty round is spread over
/// workers.
pub fn finish(assignee: &Assignee, speed: Micros, extra: u32, nodes: u32) -> (u64, u64) {
    let (shards, threads) = (u64::from(assignee.load) + u64::from(extra), u64::from(assignee.threads));
    let delay = if shards > 0 { assignee.delay.0 } else { 0 };
    let sending = assignee.node_cost.times(u64::from(assignee.nodes) + u64::from(nodes)).0.saturating_add(delay);
    let (whole, part) = (shards.div_ceil(threads).saturating_mul(speed.0), shards.saturating_mul(speed.0) / threads);
    (whole.saturating_add(sending), part.saturating_add(sending))
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
/// early as possible, if they travel as nodes of at most `largest` shards. Ties go to the lower position. Where sending
/// takes long, small differences of speed are not worth an uneven deal: a more even one is taken if it is done hardly
/// later.
///
/// A quota is thought to travel as the powers of two that it is the sum of, which is so in a tree of a power of two. In
/// other trees some nodes are larger or smaller, and another deal may be done earlier by what a node costs.
///
/// # Panics
/// When there are shards and no assignee.
pub fn quotas(shards: u32, assignees: &[Assignee], largest: u32) -> Vec<u32> {
    if shards == 0 {
        return vec![0; assignees.len()];
    }
    assert!(!assignees.is_empty(), "somebody to deal to");
    let dealer = Dealer { shards, assignees, speeds: speeds(assignees), largest };
    let best = dealer.quotas();
    let noise = assignees.iter().map(|assignee| assignee.node_cost.0).min().unwrap_or(0) / NOISE;
    if noise == 0 {
        return best;
    }
    let latest = dealer.makespan(&best).saturating_add(noise);
    // All alike, or all but those that are much slower or faster than most.
    [u64::MAX, noise]
        .into_iter()
        .map(|spread| dealer.evened(spread).quotas())
        .find(|quotas| dealer.makespan(quotas) <= latest)
        .unwrap_or(best)
}

fn sum(quotas: &[u32]) -> u64 {
    quotas.iter().map(|quota| u64::from(*quota)).sum()
}

/// The least positive number for which `holds` does, if it holds for `high` and for all numbers above the first.
fn least(mut high: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let mut low = 0;
    while high - low > 1 {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

/// The largest power of two in `number`, which is positive.
fn largest_power(number: u32) -> u32 {
    1 << number.ilog2()
}

/// Shards to be dealt, and to whom.
struct Dealer<'a> {
    shards: u32,
    assignees: &'a [Assignee],
    speeds: Vec<Micros>,
    largest: u32,
}

impl Dealer<'_> {
    /// The quotas with which the last is done first, in whole rounds and then in parts of them.
    fn quotas(&self) -> Vec<u32> {
        let whole = least(self.even_share(), |whole| self.fit_within((whole, u64::MAX)));
        // Parts of rounds take no longer than whole ones.
        let part = least(whole, |part| self.fit_within((whole, part)));
        // What all can do sooner than that is not enough, so some are filled up.
        let mut quotas: Vec<u32> = (0..self.assignees.len()).map(|i| self.most(i, (whole, part - 1))).collect();
        let mut missing = u64::from(self.shards).saturating_sub(sum(&quotas));
        for (i, quota) in quotas.iter_mut().enumerate() {
            let exact = u32::try_from(u64::from(*quota) + missing).ok();
            let exact = exact.filter(|exact| self.fits(i, *exact, (whole, part)));
            let filled = exact.unwrap_or_else(|| self.most(i, (whole, part)));
            missing = missing.saturating_sub(u64::from(filled - *quota));
            *quota = filled;
        }
        if sum(&quotas) == u64::from(self.shards) { quotas } else { self.trim(&quotas) }
    }

    /// The same with one speed for all that differ from the median by less than what makes a difference of `spread` in
    /// the step.
    fn evened(&self, spread: u64) -> Dealer<'_> {
        let mut sorted = self.speeds.clone();
        sorted.sort_unstable();
        let median = sorted[(sorted.len() - 1) / 2];
        let threads: u64 = self.assignees.iter().map(|assignee| u64::from(assignee.threads)).sum();
        let near = spread / u64::from(self.shards).div_ceil(threads);
        let even = |speed: &Micros| if speed.0.abs_diff(median.0) <= near { median } else { *speed };
        Dealer { speeds: self.speeds.iter().map(even).collect(), ..*self }
    }

    /// When the last is done that has any shard.
    fn makespan(&self, quotas: &[u32]) -> u64 {
        let busy = quotas.iter().enumerate().filter(|(_, quota)| **quota > 0);
        busy.map(|(i, quota)| self.finish(i, *quota).0).max().unwrap_or(0)
    }

    /// When assignee `i` is done with so many shards.
    fn finish(&self, i: usize, shards: u32) -> (u64, u64) {
        let whole = largest_power(self.largest);
        let nodes = shards / whole + (shards % whole).count_ones();
        finish(&self.assignees[i], self.speeds[i], shards, nodes)
    }

    /// Whether assignee `i` is done with so many shards within these two times.
    fn fits(&self, i: usize, shards: u32, within: (u64, u64)) -> bool {
        let (whole, part) = self.finish(i, shards);
        whole <= within.0 && part <= within.1
    }

    /// A time within which all shards are done: that of shares by threads alone.
    fn even_share(&self) -> u64 {
        let threads: u64 = self.assignees.iter().map(|assignee| u64::from(assignee.threads)).sum();
        let share =
            |i: usize| u64::from(self.shards).saturating_mul(u64::from(self.assignees[i].threads)).div_ceil(threads);
        let finish = |i| self.finish(i, share(i).min(u64::from(self.shards)) as u32).0;
        (0..self.assignees.len()).map(finish).max().unwrap_or(1).max(1)
    }

    /// The most shards with which assignee `i` is done within these two times. The more nodes it sends, the fewer
    /// shards it has the time for.
    fn most(&self, i: usize, within: (u64, u64)) -> u32 {
        let mut most = 0;
        for nodes in 1..=self.shards {
            let room = self.room(i, nodes, within);
            if room <= most {
                break;
            }
            let made = self.made_of(nodes, room);
            most = most.max(made);
            if made == room {
                break;
            }
        }
        most
    }

    /// The most shards that assignee `i` has the time for if it sends so many nodes.
    fn room(&self, i: usize, nodes: u32, within: (u64, u64)) -> u32 {
        let Assignee { threads, node_cost, delay, load, nodes: held, .. } = self.assignees[i];
        let sending = node_cost.times(u64::from(held) + u64::from(nodes)).0.saturating_add(delay.0);
        let (Some(whole), Some(part)) = (within.0.checked_sub(sending), within.1.checked_sub(sending)) else {
            return 0;
        };
        let (threads, speed) = (u64::from(threads), self.speeds[i].0);
        let by_rounds = (whole / speed).saturating_mul(threads);
        let by_part = (part.saturating_add(1).saturating_mul(threads) - 1) / speed;
        by_rounds.min(by_part).saturating_sub(u64::from(load)).min(u64::from(self.shards)) as u32
    }

    /// The most shards, at most `room`, that are made of so many nodes.
    fn made_of(&self, nodes: u32, room: u32) -> u32 {
        let whole = largest_power(self.largest);
        if room / whole >= nodes {
            return nodes * whole;
        }
        let mut rest = room % whole;
        while rest.count_ones() > nodes - room / whole {
            rest &= rest - 1;
        }
        room / whole * whole + rest
    }

    /// Whether all shards are done within these two times.
    fn fit_within(&self, within: (u64, u64)) -> bool {
        let mut left = u64::from(self.shards);
        (0..self.assignees.len()).any(|i| {
            left = left.saturating_sub(u64::from(self.most(i, within)));
            left == 0
        })
    }

    /// Quotas of all shards, given some with too many: the largest powers of two stay. What is left over after that,
    /// where no power has the right size, goes to whoever is done first with it.
    fn trim(&self, quotas: &[u32]) -> Vec<u32> {
        let powers = |(i, quota): (usize, &u32)| {
            let quota = *quota;
            (0..u32::BITS).map(|bit| 1 << bit).filter(move |power| quota & power != 0).map(move |power| (power, i))
        };
        let mut powers: Vec<(u32, usize)> = quotas.iter().enumerate().flat_map(powers).collect();
        powers.sort_unstable_by_key(|(power, i)| (Reverse(*power), *i));
        let (mut trimmed, mut left) = (vec![0; quotas.len()], self.shards);
        for (power, i) in powers {
            if left == 0 {
                break;
            }
            let kept = power.min(largest_power(left));
            trimmed[i] += kept;
            left -= kept;
        }
        for _ in 0..left {
            let first = (0..trimmed.len()).min_by_key(|i| self.finish(*i, trimmed[*i] + 1));
            trimmed[first.expect("somebody to deal to")] += 1;
        }
        trimmed
    }
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
    let quotas = quotas(shards, assignees, largest);
    // Room left by assignee: the largest first, then the lower position.
    let mut rooms: BinaryHeap<_> = quotas.into_iter().enumerate().map(|(i, room)| (room, Reverse(i))).collect();
    let mut waiting: BTreeSet<_> = nodes.iter().map(|node| (Reverse(node.size()), *node)).collect();
    let mut dealt = Vec::new();
    while let Some((_, node)) = waiting.pop_first() {
        let mut room = rooms.peek_mut().expect("somebody to give it to");
        match node.children() {
            Some((left, right)) if node.size() > room.0.min(largest) => {
                waiting.extend([left, right].map(|child| (Reverse(child.size()), child)));
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
