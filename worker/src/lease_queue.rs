//! The leases of a worker and the shards of them that nobody computes yet: what its threads wait at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_scheduler::{LeaseRef, StepId};
use parking_lot::{Condvar, Mutex};

use crate::lease_work::LeaseWork;

/// Leases in work. A shard waits until the parameters of its step are here.
#[derive(Debug, Default)]
pub(crate) struct LeaseQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Shards nobody computes yet, in the order of their leases.
    shards: VecDeque<(Arc<LeaseWork>, u32)>,
    leases: BTreeMap<LeaseRef, Arc<LeaseWork>>,
    parameters: Option<(StepId, Arc<Vec<f32>>)>,
    closed: bool,
}

/// What a thread computes next.
#[derive(Debug)]
pub(crate) struct NextShard {
    pub(crate) work: Arc<LeaseWork>,
    pub(crate) shard: u32,
    /// The step that the parameters belong to.
    pub(crate) step: StepId,
    pub(crate) parameters: Arc<Vec<f32>>,
    /// How long the thread waited for parameters with shards in the queue.
    pub(crate) waited: Duration,
}

impl LeaseQueue {
    /// Takes a lease in.
    pub(crate) fn add(&self, work: LeaseWork) {
        let (lease, work) = (work.lease, Arc::new(work));
        let mut state = self.state.lock();
        state.leases.insert(lease.at, work.clone());
        state.shards.extend(lease.node.leaves().map(|shard| (work.clone(), shard.0)));
        drop(state);
        self.changed.notify_all();
    }

    /// Takes out a lease, if it is still there: nobody else may answer it or give it up from now on.
    pub(crate) fn remove(&self, at: LeaseRef) -> Option<Arc<LeaseWork>> {
        let mut state = self.state.lock();
        state.shards.retain(|(work, _)| work.lease.at != at);
        state.leases.remove(&at)
    }

    /// The parameters of `step` are committed and here. Leases of earlier steps are stale and given up. Gives the
    /// earlier parameters, which threads may still hold.
    pub(crate) fn set_parameters(&self, step: StepId, flat: Arc<Vec<f32>>) -> Option<Arc<Vec<f32>>> {
        let mut state = self.state.lock();
        let old = state.parameters.replace((step, flat));
        state.shards.retain(|(work, _)| work.lease.at.step >= step);
        state.leases.retain(|at, work| {
            let current = at.step >= step;
            if !current {
                work.give_up();
            }
            current
        });
        drop(state);
        self.changed.notify_all();
        old.map(|(_, flat)| flat)
    }

    /// Waits for the next shard whose parameters are here; `None` when the queue is closed.
    pub(crate) fn next(&self) -> Option<NextShard> {
        let mut state = self.state.lock();
        let mut waited = Duration::ZERO;
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = state.ready(waited) {
                return Some(next);
            }
            let (begun, starving) = (Instant::now(), !state.shards.is_empty());
            self.changed.wait(&mut state);
            if starving {
                waited += begun.elapsed();
            }
        }
    }

    /// Wakes all threads that wait, for good.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

impl QueueState {
    /// Takes out the first shard whose parameters are here, for a thread that has `waited` for them.
    fn ready(&mut self, waited: Duration) -> Option<NextShard> {
        let (step, parameters) = self.parameters.clone()?;
        let position = self.shards.iter().position(|(work, _)| work.lease.at.step == step)?;
        let (work, shard) = self.shards.remove(position)?;
        Some(NextShard { work, shard, step, parameters, waited })
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::spec::Compression;
    use convoy_scheduler::{Lease, Work};
    use convoy_testing::wait_for;

    use super::*;
    use crate::fixtures::lease;
    use crate::node_parts::node_parts;

    /// Takes in a lease whose node goes nowhere.
    fn add(queue: &LeaseQueue, lease: Lease) {
        queue.add(LeaseWork::new(lease, 1, Compression::None, node_parts().0));
    }

    fn parameters(queue: &LeaseQueue, step: u64) {
        queue.set_parameters(StepId(step), Arc::new(vec![step as f32]));
    }

    /// Step, lease and shard of the shards that can be computed now.
    fn drain(queue: &LeaseQueue) -> Vec<(u64, u64, u32)> {
        let mut state = queue.state.lock();
        std::iter::from_fn(|| state.ready(Duration::ZERO))
            .map(|next| (next.step.0, next.work.lease.at.lease.0, next.shard))
            .collect()
    }

    #[test]
    fn shards_come_in_the_order_of_their_leases() {
        let queue = LeaseQueue::default();
        parameters(&queue, 3);
        add(&queue, lease(Work::Train, 3, 8, 4..6));
        add(&queue, lease(Work::Evaluate, 3, 7, 0..2));
        assert_eq!(drain(&queue), [(3, 8, 4), (3, 8, 5), (3, 7, 0), (3, 7, 1)]);
    }

    #[test]
    fn a_shard_waits_for_the_parameters_of_its_step() {
        let queue = LeaseQueue::default();
        add(&queue, lease(Work::Train, 4, 1, 0..1));
        assert!(drain(&queue).is_empty());
        parameters(&queue, 3);
        assert!(drain(&queue).is_empty());
        add(&queue, lease(Work::Train, 3, 2, 0..1));
        assert_eq!(drain(&queue), [(3, 2, 0)], "the lease behind does not wait for the one before it");
        parameters(&queue, 4);
        assert_eq!(drain(&queue), [(4, 1, 0)]);
    }

    #[tokio::test]
    async fn leases_of_earlier_steps_are_stale() {
        let queue = LeaseQueue::default();
        let (old, new) = (lease(Work::Train, 3, 1, 0..4), lease(Work::Train, 4, 2, 0..1));
        let (sender, mut parts, _) = node_parts();
        queue.add(LeaseWork::new(old, 1, Compression::None, sender));
        add(&queue, new);
        parameters(&queue, 4);
        assert_eq!(queue.state.lock().shards.len(), 1, "their shards are forgotten");
        assert!(queue.remove(old.at).is_none() && !parts.begun().await, "nothing of them is sent");
        assert_eq!(drain(&queue), [(4, 2, 0)]);
        assert!(queue.remove(new.at).is_some(), "a lease is there until it is answered, though its shards are taken");
    }

    #[test]
    fn a_lease_that_is_removed_takes_its_shards_along() {
        let queue = LeaseQueue::default();
        parameters(&queue, 0);
        let (first, second) = (lease(Work::Train, 0, 1, 0..2), lease(Work::Train, 0, 2, 2..4));
        add(&queue, first);
        add(&queue, second);
        assert!(queue.remove(first.at).is_some() && queue.remove(first.at).is_none());
        assert_eq!(drain(&queue), [(0, 2, 2), (0, 2, 3)]);
    }

    #[test]
    fn earlier_parameters_are_given_back() {
        let queue = LeaseQueue::default();
        assert_eq!(queue.set_parameters(StepId(0), Arc::new(vec![1.0])), None);
        assert_eq!(queue.set_parameters(StepId(1), Arc::new(vec![2.0])), Some(Arc::new(vec![1.0])));
    }

    #[test]
    fn a_thread_is_woken_by_parameters_and_by_the_end() {
        let queue = Arc::new(LeaseQueue::default());
        add(&queue, lease(Work::Train, 0, 1, 0..1));
        let thread = std::thread::spawn({
            let queue = queue.clone();
            move || {
                let first = queue.next().map(|next| (next.step, next.shard, next.parameters[0]));
                (first, queue.next().is_none())
            }
        });
        parameters(&queue, 0);
        wait_for("the shard to be taken", || queue.state.lock().shards.is_empty().then_some(()));
        queue.close();
        assert_eq!(thread.join().expect("no panic"), (Some((StepId(0), 0, 0.0)), true));
    }

    #[test]
    fn a_shard_that_is_ready_was_not_waited_for() {
        let queue = LeaseQueue::default();
        add(&queue, lease(Work::Train, 0, 1, 0..1));
        parameters(&queue, 0);
        assert_eq!(queue.next().expect("a shard").waited, Duration::ZERO);
    }
}
