//! A lease in work: the sums of its shards as they are computed, and the node that they make.

use std::time::Duration;

use convoy_common::spec::Compression;
use convoy_common::tree_sum::{TreeSum, add_f64};
use convoy_reduce::NodeSums;
use convoy_scheduler::{Failure, Lease, LeaseRef, Node};
use parking_lot::Mutex;

use crate::node_parts::{ComputedNode, NodeSender, Times};

/// Why a lease could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseFailure {
    pub(crate) at: LeaseRef,
    pub(crate) failure: Failure,
    /// For people.
    pub(crate) reason: String,
}

/// A lease in work. Threads add its shards in any order; the sums are those of the reduce tree, always `left + right`.
#[derive(Debug)]
pub(crate) struct LeaseWork {
    pub(crate) lease: Lease,
    gradient: NodeSums,
    sums: Mutex<LeaseSums>,
    /// Where the node goes, until it has gone or is given up.
    sender: Mutex<Option<NodeSender>>,
}

#[derive(Debug)]
struct LeaseSums {
    shards_left: u32,
    sums: TreeSum<Vec<f64>>,
    not_finite: Option<u32>,
    failed: bool,
    times: Times,
}

/// A shard that was computed. Its gradient has been added already, chunk by chunk.
#[derive(Debug)]
pub(crate) struct ComputedShard {
    pub(crate) shard: u32,
    pub(crate) sums: Vec<f64>,
    /// Whether all numbers are finite.
    pub(crate) finite: bool,
    pub(crate) computing: Duration,
    /// Waiting for the shard's samples.
    pub(crate) data: Duration,
}

impl LeaseWork {
    /// No shard is computed yet. Gradients have `elements` elements, rounded as `compression` says, and the node goes
    /// to `sender`.
    pub(crate) fn new(lease: Lease, elements: usize, compression: Compression, sender: NodeSender) -> Self {
        let sums = LeaseSums {
            shards_left: lease.node.size(),
            sums: TreeSum::new(lease.node),
            not_finite: None,
            failed: false,
            times: Times::default(),
        };
        let gradient = NodeSums::new(lease.node, elements, compression);
        LeaseWork { lease, gradient, sums: Mutex::new(sums), sender: Mutex::new(Some(sender)) }
    }

    /// A thread had nothing to do but wait for the parameters of one of these shards.
    pub(crate) fn waited_for_parameters(&self, time: Duration) {
        self.sums.lock().times.parameters += time;
    }

    /// Adds chunk `index` of the gradient of `shard`, and hands the node's on where it is whole.
    pub(crate) fn add_chunk(&self, shard: u32, index: usize, values: &[f32]) {
        if self.sender.lock().is_none() {
            return;
        }
        if let Some(sum) = self.gradient.add(shard, index, values)
            && let Some(sender) = &*self.sender.lock()
        {
            sender.chunk(index, sum);
        }
    }

    /// Adds a shard, and gives what the node ends with after the last one unless the lease has failed.
    pub(crate) fn add(&self, computed: ComputedShard) -> Option<ComputedNode> {
        let ComputedShard { shard, sums, finite, computing, data } = computed;
        let mut so_far = self.sums.lock();
        so_far.times.computing += computing;
        so_far.times.data += data;
        if !finite {
            so_far.not_finite = Some(so_far.not_finite.map_or(shard, |first| first.min(shard)));
        }
        so_far.sums.insert(Node { first: shard, last: shard + 1 }, sums, add_f64);
        so_far.shards_left -= 1;
        if so_far.shards_left > 0 || so_far.failed {
            return None;
        }
        Some(ComputedNode {
            sums: so_far.sums.take().unwrap_or_default(),
            not_finite: so_far.not_finite,
            absurd: false,
            digests: Vec::new(),
            times: so_far.times,
        })
    }

    /// All of the node is computed.
    pub(crate) fn finish(&self, node: ComputedNode) {
        if let Some(sender) = self.sender.lock().take() {
            sender.finish(node);
        }
    }

    /// Nobody wants the node any more, or it cannot be computed: what is left of it is not sent.
    pub(crate) fn give_up(&self) {
        *self.sender.lock() = None;
    }

    /// A shard could not be computed. True for the first one.
    pub(crate) fn fail(&self) -> bool {
        !std::mem::replace(&mut self.sums.lock().failed, true)
    }
}

#[cfg(test)]
mod tests {
    use convoy_reduce::ChunkBuffer;
    use convoy_scheduler::Work;

    use super::*;
    use crate::fixtures::lease;
    use crate::node_parts::{NodePart, NodeParts, node_parts};

    const MS: Duration = Duration::from_millis(1);

    /// A lease of gradients of two elements, and where its node goes.
    fn work(work: Work, shards: std::ops::Range<u32>) -> (LeaseWork, NodeParts) {
        let (sender, parts, _) = node_parts();
        (LeaseWork::new(lease(work, 0, 1, shards), 2, Compression::None, sender), parts)
    }

    fn shard(shard: u32, value: f64) -> ComputedShard {
        ComputedShard { shard, sums: vec![value], finite: true, computing: 3 * MS, data: MS }
    }

    #[tokio::test]
    async fn shards_are_added_as_the_tree_says_in_whatever_order_they_come() {
        let values = [1.0e8f32, 1.0, -1.0e8, 3.0];
        let expected = (values[0] + values[1]) + (values[2] + values[3]);
        assert_ne!(expected, values[0] + values[1] + values[2] + values[3], "the order of additions shows");
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let (work, mut parts) = work(Work::Train, 0..4);
            for index in order {
                work.add_chunk(index, 0, &[values[index as usize]; 2]);
            }
            assert_eq!(parts.next().await, Some(NodePart::Chunk(0, ChunkBuffer::of(&[expected; 2]))), "{order:?}");
            let mut added = order.map(|index| work.add(shard(index, f64::from(values[index as usize]))));
            assert!(added[..3].iter().all(Option::is_none), "the last shard makes the node");
            let node = added[3].take().expect("the node");
            assert_eq!(node.sums, [values.map(f64::from).iter().sum::<f64>()], "{order:?}");
            work.finish(node.clone());
            assert_eq!(parts.next().await, Some(NodePart::Computed(node)));
        }
    }

    #[tokio::test]
    async fn nothing_of_a_lease_that_is_given_up_is_sent() {
        let (work, mut parts) = work(Work::Train, 0..1);
        work.give_up();
        work.add_chunk(0, 0, &[1.0; 2]);
        work.finish(work.add(shard(0, 1.0)).expect("the node"));
        assert_eq!(parts.next().await, None);
    }

    #[test]
    fn the_first_shard_that_is_not_finite_is_named() {
        let (work, _parts) = work(Work::Train, 0..4);
        work.add(ComputedShard { finite: false, ..shard(3, 1.0) });
        work.add(shard(0, 1.0));
        work.add(ComputedShard { finite: false, ..shard(1, 1.0) });
        let node = work.add(shard(2, 1.0));
        assert_eq!(node.expect("the node").not_finite, Some(1));
    }

    #[test]
    fn a_lease_fails_once_and_makes_no_node() {
        let (work, _parts) = work(Work::Train, 0..2);
        assert!(work.fail() && !work.fail());
        assert!(work.add(shard(0, 1.0)).is_none());
        assert!(work.add(shard(1, 1.0)).is_none());
    }

    #[test]
    fn times_are_those_of_all_threads_together() {
        let (work, _parts) = work(Work::Train, 0..2);
        work.waited_for_parameters(5 * MS);
        work.waited_for_parameters(2 * MS);
        work.add(shard(1, 1.0));
        let node = work.add(shard(0, 1.0)).expect("the node");
        assert_eq!(node.times, Times { computing: 6 * MS, data: 2 * MS, parameters: 7 * MS });
    }

    #[tokio::test]
    async fn an_evaluation_has_sums_and_no_gradient() {
        let (work, mut parts) = work(Work::Evaluate, 2..4);
        work.add(shard(2, 1.0));
        work.finish(work.add(shard(3, 2.0)).expect("the node"));
        let Some(NodePart::Computed(node)) = parts.next().await else { panic!("it has no chunks") };
        assert_eq!(node.sums, [3.0]);
    }
}
