//! A lease in work: the sums of its shards as they are computed, and the node that they make.

use std::time::{Duration, Instant};

use convoy_common::tree_sum::{TreeSum, add_f64};
use convoy_kernels::tree::add_into;
use convoy_scheduler::{Failure, Lease, LeaseRef, Node};
use parking_lot::Mutex;

use crate::stages;

/// What became of a lease.
#[derive(Debug)]
pub(crate) enum LeaseResult {
    /// Its node.
    Done(ComputedNode),
    /// It could not be done.
    Failed(LeaseFailure),
}

/// A node, ready to be sent.
#[derive(Debug)]
pub(crate) struct ComputedNode {
    /// The lease that asked for it.
    pub(crate) lease: Lease,
    /// Flat sum of gradients and batch statistics; empty for an evaluation and where something is not finite.
    pub(crate) gradient: Vec<f32>,
    /// Sums of the metrics, in the layout of the lease's work.
    pub(crate) sums: Vec<f64>,
    /// The first shard with a NaN or an infinity.
    pub(crate) not_finite: Option<u32>,
    pub(crate) times: Times,
}

/// Why a lease could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseFailure {
    pub(crate) at: LeaseRef,
    pub(crate) failure: Failure,
    /// For people.
    pub(crate) reason: String,
}

/// Thread time that went into a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) computing: Duration,
    /// Waiting for samples.
    pub(crate) data: Duration,
    /// Waiting for parameters while there was nothing else to compute.
    pub(crate) parameters: Duration,
}

/// A lease in work. Threads add its shards in any order; the sums are those of the reduce tree, always `left + right`.
#[derive(Debug)]
pub(crate) struct LeaseWork {
    pub(crate) lease: Lease,
    sums: Mutex<LeaseSums>,
}

#[derive(Debug)]
struct LeaseSums {
    shards_left: u32,
    gradient: TreeSum<Vec<f32>>,
    sums: TreeSum<Vec<f64>>,
    not_finite: Option<u32>,
    failed: bool,
    times: Times,
}

/// A shard that was computed.
#[derive(Debug)]
pub(crate) struct ComputedShard {
    pub(crate) shard: u32,
    /// The node that the gradient is the sum of, and the gradient: the shard's own, or that of its parent where it was
    /// added to its sibling's as it was made. None for an evaluation.
    pub(crate) gradient: Option<(Node, Vec<f32>)>,
    pub(crate) sums: Vec<f64>,
    /// Whether all numbers are finite.
    pub(crate) finite: bool,
    pub(crate) computing: Duration,
    /// Waiting for the shard's samples.
    pub(crate) data: Duration,
}

/// The node of shard `shard` alone.
pub(crate) fn leaf(shard: u32) -> Node {
    Node { first: shard, last: shard + 1 }
}

impl LeaseWork {
    /// No shard is computed yet.
    pub(crate) fn new(lease: Lease) -> Self {
        let sums = LeaseSums {
            shards_left: lease.node.size(),
            gradient: TreeSum::new(lease.node),
            sums: TreeSum::new(lease.node),
            not_finite: None,
            failed: false,
            times: Times::default(),
        };
        LeaseWork { lease, sums: Mutex::new(sums) }
    }

    /// A thread had nothing to do but wait for the parameters of one of these shards.
    pub(crate) fn waited_for_parameters(&self, time: Duration) {
        self.sums.lock().times.parameters += time;
    }

    /// Takes out the gradient of the shard's sibling if it is there, to be added to in place. It saves the memory for
    /// the shard's own gradient and the addition afterwards. The sum is that of the node that comes with it.
    pub(crate) fn take_sibling(&self, shard: u32) -> Option<(Node, Vec<f32>)> {
        self.sums.lock().gradient.take_sibling(leaf(shard))
    }

    /// Adds a shard, and gives the node with the last one unless the lease has failed. The buffers are those that the
    /// additions left over.
    pub(crate) fn add(&self, computed: ComputedShard) -> (Option<ComputedNode>, Vec<Vec<f32>>) {
        let ComputedShard { shard, gradient, sums, finite, computing, data } = computed;
        let mut so_far = self.sums.lock();
        so_far.times.computing += computing;
        so_far.times.data += data;
        if !finite {
            so_far.not_finite = Some(so_far.not_finite.map_or(shard, |first| first.min(shard)));
        }
        let mut spent = Vec::new();
        if let Some((node, gradient)) = gradient {
            let begun = Instant::now();
            spent = so_far.gradient.insert(node, gradient, |left, right| add_into(left, right));
            stages::over("tree", self.lease.at.step, begun);
        }
        so_far.sums.insert(leaf(shard), sums, add_f64);
        so_far.shards_left -= 1;
        if so_far.shards_left > 0 || so_far.failed {
            return (None, spent);
        }
        let node = ComputedNode {
            lease: self.lease,
            gradient: so_far.gradient.take().unwrap_or_default(),
            sums: so_far.sums.take().unwrap_or_default(),
            not_finite: so_far.not_finite,
            times: so_far.times,
        };
        (Some(node), spent)
    }

    /// A shard could not be computed. True for the first one.
    pub(crate) fn fail(&self) -> bool {
        !std::mem::replace(&mut self.sums.lock().failed, true)
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::Work;

    use super::*;
    use crate::fixtures::lease;

    const MS: Duration = Duration::from_millis(1);

    fn shard(shard: u32, value: f32) -> ComputedShard {
        ComputedShard {
            shard,
            gradient: Some((leaf(shard), vec![value; 2])),
            sums: vec![f64::from(value)],
            finite: true,
            computing: 3 * MS,
            data: MS,
        }
    }

    /// The node that the shards make when they come in this order.
    fn node_of(order: [u32; 4], values: [f32; 4]) -> ComputedNode {
        let work = LeaseWork::new(lease(Work::Train, 0, 1, 0..4));
        let mut added = order.map(|index| work.add(shard(index, values[index as usize])).0);
        assert!(added[..3].iter().all(Option::is_none), "the last shard makes the node");
        added[3].take().expect("the node")
    }

    #[test]
    fn shards_are_added_as_the_tree_says_in_whatever_order_they_come() {
        let values = [1.0e8, 1.0, -1.0e8, 3.0];
        let expected = (values[0] + values[1]) + (values[2] + values[3]);
        assert_ne!(expected, values[0] + values[1] + values[2] + values[3], "the order of additions shows");
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let node = node_of(order, values);
            assert_eq!(node.gradient, [expected; 2], "{order:?}");
            assert_eq!(node.sums, [values.map(f64::from).iter().sum::<f64>()], "{order:?}");
        }
    }

    #[test]
    fn additions_leave_buffers_over() {
        let work = LeaseWork::new(lease(Work::Train, 0, 1, 0..2));
        assert!(work.add(shard(0, 1.0)).1.is_empty());
        let (node, spent) = work.add(shard(1, 2.0));
        assert_eq!((node.expect("the node").gradient, spent), (vec![3.0; 2], vec![vec![2.0; 2]]));
    }

    #[test]
    fn a_shard_may_be_added_to_its_sibling_as_it_is_made() {
        let work = LeaseWork::new(lease(Work::Train, 0, 1, 0..2));
        assert!(work.take_sibling(0).is_none(), "shard 1 is not there");
        work.add(shard(1, 2.0));
        let (parent, mut sum) = work.take_sibling(0).expect("shard 1 is there");
        assert_eq!(parent, Node { first: 0, last: 2 });
        sum.iter_mut().for_each(|value| *value += 1.0);
        let (node, spent) = work.add(ComputedShard { gradient: Some((parent, sum)), ..shard(0, 1.0) });
        assert_eq!((node.expect("the node").gradient, spent.len()), (vec![3.0; 2], 0));
    }

    #[test]
    fn the_first_shard_that_is_not_finite_is_named() {
        let work = LeaseWork::new(lease(Work::Train, 0, 1, 0..4));
        work.add(ComputedShard { finite: false, ..shard(3, f32::NAN) });
        work.add(shard(0, 1.0));
        work.add(ComputedShard { finite: false, ..shard(1, f32::INFINITY) });
        let (node, _) = work.add(shard(2, 1.0));
        assert_eq!(node.expect("the node").not_finite, Some(1));
    }

    #[test]
    fn a_lease_fails_once_and_makes_no_node() {
        let work = LeaseWork::new(lease(Work::Train, 0, 1, 0..2));
        assert!(work.fail() && !work.fail());
        assert!(work.add(shard(0, 1.0)).0.is_none());
        assert!(work.add(shard(1, 1.0)).0.is_none());
    }

    #[test]
    fn times_are_those_of_all_threads_together() {
        let work = LeaseWork::new(lease(Work::Train, 0, 1, 0..2));
        work.waited_for_parameters(5 * MS);
        work.waited_for_parameters(2 * MS);
        work.add(shard(1, 1.0));
        let node = work.add(shard(0, 1.0)).0.expect("the node");
        assert_eq!(node.times, Times { computing: 6 * MS, data: 2 * MS, parameters: 7 * MS });
    }

    #[test]
    fn an_evaluation_has_sums_and_no_gradient() {
        let work = LeaseWork::new(lease(Work::Evaluate, 0, 1, 2..4));
        work.add(ComputedShard { gradient: None, ..shard(2, 1.0) });
        let node = work.add(ComputedShard { gradient: None, ..shard(3, 2.0) }).0.expect("the node");
        assert_eq!((node.gradient.len(), &node.sums[..]), (0, &[3.0][..]));
    }
}
