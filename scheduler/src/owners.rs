//! Who adds which chunk of a step, and makes its next parameters: pure functions over plain data.
//!
//! A step's vector of gradients is cut into chunks. Each has one *owner*: a worker that all others reach, or the
//! coordinator. Sums never cross chunks, so it does not matter to a single bit who owns which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ids::WorkerId;

/// Who adds a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The coordinator: the owner of last resort.
    Coordinator,
    /// A worker that all others reach.
    Worker(WorkerId),
}

impl Owner {
    /// The workers that own something of `of`.
    pub fn workers_among(of: &[Owner]) -> BTreeSet<WorkerId> {
        workers(of).collect()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Coordinator => f.write_str("the coordinator"),
            Owner::Worker(worker) => worker.fmt(f),
        }
    }
}

/// The owners of all chunks when a step begins: those of `able` own as many each, give or take one. Where none is able,
/// the coordinator owns everything. Only as many chunks move from those that owned them `before` as must: with a chunk
/// moves the optimizer's state of it. Neighbouring chunks have different owners, as far as that goes: all workers make
/// the same chunks at the same time, and must not send them to one and the same.
pub(crate) fn deal(before: &[Owner], able: &[WorkerId]) -> Vec<Owner> {
    let least = before.len() / able.len().max(1);
    let larger = before.len() % able.len().max(1);
    move_chunks(before, able, |owned, at_most| owned < least || (owned == least && at_most < larger))
}

/// The owners of all chunks after some own nothing any more: what they owned is spread over those of the others that
/// `stay`, or goes to the coordinator where there is none.
pub(crate) fn pass_on(before: &[Owner], stays: impl Fn(WorkerId) -> bool) -> Vec<Owner> {
    let mut others: Vec<WorkerId> = workers(before).filter(|worker| stays(*worker)).collect();
    others.sort_unstable();
    others.dedup();
    move_chunks(before, &others, |_, _| true)
}

/// The workers that own something, each as often as it does.
pub(crate) fn workers(of: &[Owner]) -> impl Iterator<Item = WorkerId> {
    of.iter().filter_map(|owner| match owner {
        Owner::Worker(worker) => Some(*worker),
        Owner::Coordinator => None,
    })
}

/// Leaves a chunk with its owner where that is `able` and `may_keep` it, given how many it has kept so far and how many
/// others have kept one more than the least; all others go to whoever has fewest.
fn move_chunks(before: &[Owner], able: &[WorkerId], may_keep: impl Fn(usize, usize) -> bool) -> Vec<Owner> {
    if able.is_empty() {
        return vec![Owner::Coordinator; before.len()];
    }
    let least = before.len() / able.len();
    let mut owned: BTreeMap<WorkerId, usize> = able.iter().map(|worker| (*worker, 0)).collect();
    let (mut of, mut larger, mut moving) = (before.to_vec(), 0, Vec::new());
    for chunk in spread(before.len()) {
        match before[chunk] {
            Owner::Worker(worker) if owned.get(&worker).is_some_and(|owned| may_keep(*owned, larger)) => {
                let owned = owned.entry(worker).or_default();
                larger += usize::from(*owned == least);
                *owned += 1;
            }
            _ => moving.push(chunk),
        }
    }
    moving.sort_unstable();
    for chunk in moving {
        let (worker, owned) = owned.iter_mut().min_by_key(|(_, owned)| **owned).expect("somebody is able");
        of[chunk] = Owner::Worker(*worker);
        *owned += 1;
    }
    of
}

/// All of `0..chunks` in an order in which neighbours are far apart, so that what one owner keeps or gets of it is
/// spread over all of them: the golden section of the circle, over and over.
fn spread(chunks: usize) -> impl Iterator<Item = usize> {
    let coprime = |stride: &usize| gcd(*stride, chunks) == 1;
    let stride = (chunks * 618 / 1000 + 1..).find(coprime).unwrap_or(1);
    (0..chunks).map(move |i| i * stride % chunks)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(workers: &[u32]) -> Vec<WorkerId> {
        workers.iter().copied().map(WorkerId).collect()
    }

    fn counts(of: &[Owner]) -> Vec<(u32, usize)> {
        let mut counts = BTreeMap::new();
        workers(of).for_each(|worker| *counts.entry(worker.0).or_default() += 1);
        counts.into_iter().collect()
    }

    fn moved(before: &[Owner], after: &[Owner]) -> usize {
        before.iter().zip(after).filter(|(before, after)| before != after).count()
    }

    const NOBODY: [Owner; 10] = [Owner::Coordinator; 10];

    #[test]
    fn without_workers_the_coordinator_owns_everything() {
        assert_eq!(deal(&NOBODY, &[]), NOBODY);
        let alone = deal(&NOBODY, &ids(&[7]));
        assert_eq!(counts(&alone), [(7, 10)]);
        assert_eq!(pass_on(&alone, |_| false), NOBODY);
        assert_eq!(deal(&[], &ids(&[7])), []);
    }

    #[test]
    fn each_owns_as_much_and_as_little_moves_as_can() {
        let three = deal(&NOBODY, &ids(&[1, 2, 3]));
        assert_eq!(counts(&three), [(1, 4), (2, 3), (3, 3)]);
        assert_eq!(deal(&three, &ids(&[1, 2, 3])), three, "nothing moves where nothing changed");
        let four = deal(&three, &ids(&[1, 2, 3, 4]));
        assert_eq!((counts(&four), moved(&three, &four)), (vec![(1, 2), (2, 3), (3, 3), (4, 2)], 2));
        let without = deal(&four, &ids(&[1, 3, 4]));
        assert_eq!((counts(&without), moved(&four, &without)), (vec![(1, 4), (3, 3), (4, 3)], 3));
    }

    #[test]
    fn within_a_step_only_what_was_lost_moves() {
        let four = deal(&[Owner::Coordinator; 12], &ids(&[1, 2, 3, 4]));
        let without = pass_on(&four, |worker| worker != WorkerId(2));
        assert_eq!((counts(&without), moved(&four, &without)), (vec![(1, 4), (3, 4), (4, 4)], 3));
        assert_eq!(pass_on(&without, |_| true), without);
    }

    #[test]
    fn what_an_owner_has_is_spread_over_all_chunks() {
        let owners = |of: &[Owner]| workers(of).collect::<BTreeSet<_>>().len();
        let eight = deal(&[Owner::Coordinator; 171], &ids(&[1, 2, 3, 4, 5, 6, 7, 8]));
        let nine = deal(&eight, &ids(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
        let fewest = |of: &[Owner], row| of.windows(row).map(owners).min();
        assert_eq!(fewest(&eight, 8), Some(8));
        assert!(fewest(&nine, 9) >= Some(6) && fewest(&nine, 18) >= Some(8), "what moves is spread, too");
    }

    #[test]
    fn any_change_leaves_every_chunk_with_an_able_owner_and_a_fair_share() {
        for chunks in 0..40 {
            let mut of = vec![Owner::Coordinator; chunks];
            for able in [&[1, 2, 3][..], &[2, 3, 4, 5, 6], &[6], &[1, 6], &[], &[1, 2, 3, 4, 5, 6, 7]] {
                let ids = ids(able);
                of = deal(&of, &ids);
                assert!(workers(&of).all(|worker| ids.contains(&worker)));
                let counts = counts(&of);
                let (least, most) = (counts.iter().map(|c| c.1).min(), counts.iter().map(|c| c.1).max());
                let even = chunks < able.len() || most.unwrap_or(0) - least.unwrap_or(0) <= 1;
                assert!(even && (able.is_empty() || workers(&of).count() == chunks), "{chunks} chunks: {counts:?}");
            }
        }
    }
}
