use std::collections::BTreeMap;

use convoy_common::manifest::{Label, Sample, Split};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::*;
use crate::fixtures::{Job, ROOT, SPEC, STRIPES, lease};
use crate::node_parts::{ComputedNode, NodePart, NodeParts, node_parts};

/// A pool that computes a job, and what becomes of its leases.
struct Started {
    pool: ComputePool,
    failures: mpsc::UnboundedReceiver<LeaseFailure>,
    nodes: mpsc::UnboundedReceiver<Node>,
    sender: mpsc::UnboundedSender<Node>,
    runtime: Runtime,
}

/// A node that came whole.
#[derive(Debug)]
struct Node {
    lease: Lease,
    gradient: Vec<f32>,
    computed: ComputedNode,
}

/// What comes of a node; `None` if it is given up.
async fn collect(lease: Lease, mut parts: NodeParts) -> Option<Node> {
    let mut chunks = BTreeMap::new();
    loop {
        match parts.next().await? {
            NodePart::Chunk(index, values) => assert!(chunks.insert(index, values.to_vec()).is_none(), "once each"),
            NodePart::Computed(computed) => {
                return Some(Node { lease, gradient: chunks.into_values().flatten().collect(), computed });
            }
        }
    }
}

impl Started {
    fn new(job: &Job, threads: usize) -> Self {
        let (to, failures) = mpsc::unbounded_channel();
        let pool = ComputePool::start(&job.plan, &job.network, job.shards(), (Device::Cpu, threads), to).unwrap();
        let (sender, nodes) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        Started { pool, failures, nodes, sender, runtime }
    }

    fn add(&self, lease: Lease) {
        let (sender, parts, _) = node_parts();
        let nodes = self.sender.clone();
        self.runtime.spawn(async move {
            if let Some(node) = collect(lease, parts).await {
                _ = nodes.send(node);
            }
        });
        self.pool.add(lease, sender);
    }

    fn node(&mut self) -> Node {
        self.nodes.blocking_recv().expect("the test holds a sender")
    }

    fn failure(&mut self) -> LeaseFailure {
        self.failures.blocking_recv().expect("the pool lives")
    }
}

fn bits(gradient: &[f32]) -> Vec<u32> {
    gradient.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn any_number_of_threads_makes_the_same_node() {
    let job = Job::at(ROOT);
    let node_of = |threads| {
        let mut started = Started::new(&job, threads);
        started.pool.set_parameters(StepId(1), Arc::new(job.parameters(1)));
        started.add(lease(Work::Train, 1, 1, 0..4));
        started.node()
    };
    let one = node_of(1);
    let mut expected: Vec<Vec<f32>> = (0..4).map(|shard| job.gradient(1, shard)).collect();
    let add = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(left, right)| left + right).collect();
    while expected.len() > 1 {
        expected = expected.chunks(2).map(|pair| add(&pair[0], &pair[1])).collect();
    }
    assert_eq!(bits(&one.gradient), bits(&expected[0]), "shards are added as the tree says");
    assert_eq!(one.computed.sums[0], 8.0, "all samples of the step");
    for threads in 2..=4 {
        let node = node_of(threads);
        assert_eq!(bits(&node.gradient), bits(&one.gradient), "{threads} threads");
        assert_eq!(node.computed.sums, one.computed.sums, "{threads} threads");
    }
}

#[test]
fn one_thread_computes_leases_in_their_order() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 1);
    for (number, shards) in [(5, 2..4), (4, 0..1), (6, 1..2)] {
        started.add(lease(Work::Train, 0, number, shards));
    }
    started.pool.set_parameters(StepId(0), Arc::new(job.parameters(0)));
    let order = [(); 3].map(|()| started.node().lease.at.lease.0);
    assert_eq!(order, [5, 4, 6]);
}

#[test]
fn an_evaluation_sums_the_metrics_of_the_validation_split() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 2);
    started.pool.set_parameters(StepId(3), Arc::new(job.parameters(3)));
    started.add(lease(Work::Evaluate, 3, 1, 0..4));
    let node = started.node();
    assert_eq!((node.gradient.len(), node.computed.sums[0], node.computed.not_finite), (0, 8.0, None));
}

#[test]
fn a_shard_that_cannot_be_computed_fails_its_lease_alone() {
    let mut manifest = STRIPES.manifest(ROOT);
    // A class that there is not, in one sample of the epoch.
    let train = &manifest.train;
    let wrong = Sample { label: Label::Class(77), ..train.samples.at(0) };
    let samples = std::iter::once(wrong).chain(train.samples.iter().skip(1)).collect();
    manifest.train = Arc::new(Split { samples, ..Split::clone(train) });
    let job = Job::of(STRIPES.plan(ROOT, SPEC), manifest);
    let mut started = Started::new(&job, 2);
    let mut failed = Vec::new();
    for step in 0..3 {
        started.pool.set_parameters(StepId(step), Arc::new(job.parameters(step)));
        for shard in 0..4 {
            started.add(lease(Work::Train, step, 1 + u64::from(shard), shard..shard + 1));
        }
        for _ in 0..4 {
            let next = async {
                tokio::select! {
                    Some(node) = started.nodes.recv() => Ok(node),
                    Some(failure) = started.failures.recv() => Err(failure),
                }
            };
            match started.runtime.block_on(next) {
                Ok(node) => assert_eq!(node.computed.sums[0], 2.0),
                Err(failure) => failed.push(failure),
            }
        }
    }
    let [failed] = &failed[..] else { panic!("the sample is in one shard of the epoch: {failed:?}") };
    assert_eq!(failed.failure, Failure::Internal);
    assert!(failed.reason.contains("label 77"), "{failed:?}");
}

#[test]
fn a_panic_fails_the_lease_and_not_the_thread() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 1);
    started.pool.set_parameters(StepId(0), Arc::new(job.parameters(0)));
    // A step has four shards.
    started.add(lease(Work::Train, 0, 1, 4..5));
    let failed = started.failure();
    assert_eq!(failed.failure, Failure::Internal);
    assert!(failed.reason.contains("4 shards, not shard 4"), "{failed:?}");
    started.add(lease(Work::Train, 0, 2, 3..4));
    assert_eq!(started.node().lease.at.lease.0, 2);
}

#[test]
fn a_lease_without_its_data_fails_once() {
    let job = Job::without_training_files();
    let mut started = Started::new(&job, 2);
    started.pool.set_parameters(StepId(0), Arc::new(job.parameters(0)));
    started.add(lease(Work::Train, 0, 1, 0..4));
    let failed = started.failure();
    assert_eq!(failed.failure, Failure::DataUnreadable);
    assert!(failed.reason.contains("missing"), "the file is named: {failed:?}");
    started.add(lease(Work::Evaluate, 0, 2, 0..4));
    assert_eq!(started.node().lease.at.lease.0, 2, "nothing more came of the first");
}

#[test]
fn parameters_of_another_length_fail_the_lease() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 1);
    started.pool.set_parameters(StepId(0), Arc::new(vec![0.0; 3]));
    started.add(lease(Work::Train, 0, 1, 0..2));
    let failed = started.failure();
    assert_eq!(failed.failure, Failure::Internal);
    assert!(failed.reason.contains("numbers"), "{failed:?}");
    started.pool.set_parameters(StepId(1), Arc::new(job.parameters(1)));
    started.add(lease(Work::Train, 1, 2, 0..2));
    assert_eq!(started.node().lease.at.lease.0, 2);
}

#[test]
fn numbers_that_are_not_finite_are_reported_with_their_first_shard() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 2);
    started.pool.set_parameters(StepId(0), Arc::new(vec![f32::NAN; job.network.len()]));
    started.add(lease(Work::Train, 0, 1, 2..4));
    assert_eq!(started.node().computed.not_finite, Some(2));
}

#[test]
fn a_revoked_lease_gives_nothing() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 1);
    let (first, second) = (lease(Work::Train, 0, 1, 0..2), lease(Work::Train, 0, 2, 2..4));
    started.add(first);
    started.add(second);
    started.pool.revoke(first.at);
    started.pool.set_parameters(StepId(0), Arc::new(job.parameters(0)));
    assert_eq!(started.node().lease, second);
    assert!(started.nodes.try_recv().is_err() && started.failures.try_recv().is_err());
}

#[test]
fn memory_of_gradients_is_used_again() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 1);
    started.pool.set_parameters(StepId(0), Arc::new(job.parameters(0)));
    for step in 0..3 {
        started.add(lease(Work::Train, 0, step, 0..4));
        started.node();
        assert_eq!(started.pool.buffers().count(), 1, "the thread's, which it gives back before the node is whole");
    }
}

#[test]
fn the_end_of_a_pool_ends_its_threads_though_leases_are_left() {
    let job = Job::at(ROOT);
    let mut started = Started::new(&job, 3);
    started.add(lease(Work::Train, 0, 1, 0..4));
    drop(started.pool);
    assert!(started.failures.blocking_recv().is_none(), "all senders are gone, so all threads are");
}
