//! Who sends what to whom, and in which order.

use convoy_scheduler::Owner;

/// The coordinator among the machines; worker `n` is machine `n`.
pub const COORDINATOR: usize = 0;

/// Chunks by owner.
#[derive(Debug)]
pub struct Routes {
    /// The machine that owns each chunk.
    owners: Vec<usize>,
    /// One chunk of each owner, then a second one of each that has two, and so on.
    rounds: Vec<Vec<u32>>,
}

impl Routes {
    /// The ways to these owners.
    pub fn to(owners: &[Owner]) -> Routes {
        let machine = |owner: &Owner| match owner {
            Owner::Coordinator => COORDINATOR,
            Owner::Worker(worker) => worker.0 as usize,
        };
        let owners: Vec<usize> = owners.iter().map(machine).collect();
        let mut rounds: Vec<Vec<u32>> = Vec::new();
        let mut owned = vec![0; owners.iter().max().map_or(0, |most| most + 1)];
        let mut order: Vec<u32> = (0..).take(owners.len()).collect();
        order.sort_by_key(|chunk| owners[*chunk as usize]);
        for chunk in order {
            let round = &mut owned[owners[chunk as usize]];
            if rounds.len() == *round {
                rounds.push(Vec::new());
            }
            rounds[*round].push(chunk);
            *round += 1;
        }
        Routes { owners, rounds }
    }

    /// The machine that owns a chunk.
    pub fn owner(&self, chunk: u32) -> usize {
        self.owners[chunk as usize]
    }

    /// The chunks that a machine owns.
    pub fn owned(&self, machine: usize) -> usize {
        self.owners.iter().filter(|owner| **owner == machine).count()
    }

    /// Workers that own chunks.
    pub fn owning(&self) -> usize {
        let workers = |round: &Vec<u32>| round.iter().filter(|chunk| self.owner(**chunk) != COORDINATOR).count();
        self.rounds.iter().map(workers).max().unwrap_or(0)
    }

    /// All chunks in the order in which a worker sends them. Each worker begins at another owner, and goes to the next
    /// one after each chunk: so no owner is flooded by all at a time. All send the first chunk of each owner before the
    /// second of any: then owners can pass on the one while the other comes.
    pub fn pushes(&self, worker: usize) -> impl Iterator<Item = u32> {
        self.rounds.iter().flat_map(move |round| rotated(round.len(), worker).map(|i| round[i]))
    }

    /// Everybody that an owner sends something of a chunk to that it has added up, in this order: the parameters to all
    /// other workers, its sum to the coordinator. As with gradients, each owner begins with another one; the
    /// coordinator is one of them, so that sums do not come there from all owners at once when nothing else is left to
    /// be sent.
    pub fn answers(owner: usize, workers: usize) -> impl Iterator<Item = usize> {
        rotated(workers + 1, owner + 1).filter(move |machine| *machine != owner)
    }
}

/// All of `0..count`, beginning with `first`, or that less than `count` that is left of it.
fn rotated(count: usize, first: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (first + i) % count)
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::WorkerId;

    use super::*;

    fn of(owners: &[u32]) -> Routes {
        Routes::to(&owners.iter().map(|worker| Owner::Worker(WorkerId(*worker))).collect::<Vec<_>>())
    }

    #[test]
    fn each_begins_at_another_owner_and_ends_with_second_chunks() {
        let routes = of(&[1, 2, 3, 3, 1]);
        let order = |worker| routes.pushes(worker).collect::<Vec<_>>();
        assert_eq!(order(1), [1, 2, 0, 3, 4]);
        assert_eq!(order(2), [2, 0, 1, 4, 3]);
        assert_eq!(order(3), [0, 1, 2, 3, 4]);
        assert_eq!((routes.owner(3), routes.owned(3), routes.owned(2), routes.owning()), (3, 2, 1, 3));
    }

    #[test]
    fn owners_answer_all_others() {
        let order = |owner| Routes::answers(owner, 3).collect::<Vec<_>>();
        assert_eq!([order(1), order(2), order(3)], [[2, 3, 0], [3, 0, 1], [0, 1, 2]]);
        assert_eq!(order(COORDINATOR), [1, 2, 3]);
    }

    #[test]
    fn in_a_star_chunks_come_one_after_the_other() {
        let routes = Routes::to(&[Owner::Coordinator; 4]);
        assert_eq!(routes.pushes(7).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((routes.owned(COORDINATOR), routes.owning()), (4, 0));
    }
}
