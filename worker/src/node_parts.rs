//! A node between the threads that compute it and the connection that carries it: its chunks, as they are made.

use std::collections::BTreeMap;
use std::time::Duration;

use convoy_reduce::ChunkBuffer;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// What a node has beside its chunks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComputedNode {
    /// Sums of the metrics, in the layout of the lease's work.
    pub(crate) sums: Vec<f64>,
    /// The first shard with a NaN or an infinity.
    pub(crate) not_finite: Option<u32>,
    /// Some of its numbers are so large that they are not believed. Known of nodes whose chunks go to other workers.
    pub(crate) absurd: bool,
    /// blake3 of each of its chunks, in order, where these are wanted in their place.
    pub(crate) digests: Vec<u8>,
    pub(crate) times: Times,
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

/// What a node consists of, for whoever carries it.
#[derive(Debug, PartialEq)]
pub(crate) enum NodePart {
    /// A chunk: its index, and the sum over all of the node's shards.
    Chunk(usize, ChunkBuffer),
    /// What comes last.
    Computed(ComputedNode),
}

/// The end of the threads that compute. Dropped before the node is computed, it gives the node up.
#[derive(Debug)]
pub(crate) struct NodeSender {
    parts: mpsc::UnboundedSender<NodePart>,
    computed: oneshot::Sender<()>,
}

/// The end of the connection.
#[derive(Debug)]
pub(crate) struct NodeParts {
    parts: mpsc::UnboundedReceiver<NodePart>,
    /// Those that came and are not carried yet.
    chunks: BTreeMap<usize, ChunkBuffer>,
    computed: Option<ComputedNode>,
}

/// Both ends of a node; and what is told at once when it is computed, however much waits to be carried. It is an error
/// if the node is given up.
pub(crate) fn node_parts() -> (NodeSender, NodeParts, oneshot::Receiver<()>) {
    let (sender, parts) = mpsc::unbounded_channel();
    let (computed, told) = oneshot::channel();
    let parts = NodeParts { parts, chunks: BTreeMap::new(), computed: None };
    (NodeSender { parts: sender, computed }, parts, told)
}

impl NodeSender {
    /// Hands on a chunk of the node. It is dropped where the other end is.
    pub(crate) fn chunk(&self, index: usize, values: ChunkBuffer) {
        _ = self.parts.send(NodePart::Chunk(index, values));
    }

    /// All of the node is computed.
    pub(crate) fn finish(self, node: ComputedNode) {
        _ = self.parts.send(NodePart::Computed(node));
        _ = self.computed.send(());
    }
}

impl NodeParts {
    /// What is carried next: of the chunks that are there the one with the lowest index, since it is wanted first, and
    /// when there are no more what comes last. Nobody wants the chunks of a node that is not finite. `None` when the
    /// node is given up.
    pub(crate) async fn next(&mut self) -> Option<NodePart> {
        loop {
            if !self.look() {
                return None;
            }
            if let Some((index, values)) = self.chunks.pop_first() {
                return Some(NodePart::Chunk(index, values));
            }
            if let Some(node) = self.computed.take() {
                return Some(NodePart::Computed(node));
            }
            let part = self.parts.recv().await?;
            self.came(part);
        }
    }

    /// Whether all of the node is computed and not all of it carried.
    pub(crate) fn is_computed(&mut self) -> bool {
        self.look() && self.computed.is_some()
    }

    /// Waits until something of the node is there. False when it is given up.
    pub(crate) async fn begun(&mut self) -> bool {
        if self.look() && self.chunks.is_empty() && self.computed.is_none() {
            match self.parts.recv().await {
                Some(part) => self.came(part),
                None => return false,
            }
        }
        self.look()
    }

    /// Waits until all of the node is computed, or it is given up.
    pub(crate) async fn ended(&mut self) {
        while self.look() && self.computed.is_none() {
            match self.parts.recv().await {
                Some(part) => self.came(part),
                None => return,
            }
        }
    }

    /// Takes in what came. False when the node is given up.
    fn look(&mut self) -> bool {
        loop {
            match self.parts.try_recv() {
                Ok(part) => self.came(part),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return self.computed.is_some(),
            }
        }
    }

    fn came(&mut self, part: NodePart) {
        match part {
            NodePart::Chunk(index, values) => _ = self.chunks.insert(index, values),
            NodePart::Computed(node) => {
                if node.not_finite.is_some() {
                    self.chunks.clear();
                }
                self.computed = Some(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(not_finite: Option<u32>) -> ComputedNode {
        ComputedNode { sums: vec![1.0], not_finite, absurd: false, digests: Vec::new(), times: Times::default() }
    }

    fn chunk(index: usize) -> Option<NodePart> {
        Some(NodePart::Chunk(index, ChunkBuffer::of(&[index as f32])))
    }

    fn send(sender: &NodeSender, index: usize) {
        sender.chunk(index, ChunkBuffer::of(&[index as f32]));
    }

    #[tokio::test]
    async fn of_what_is_there_the_lowest_chunk_is_next_and_the_end_is_last() {
        let (sender, mut parts, told) = node_parts();
        [7, 5, 6].iter().for_each(|index| send(&sender, *index));
        assert_eq!(parts.next().await, chunk(5));
        [2, 9].iter().for_each(|index| send(&sender, *index));
        assert!(!parts.is_computed());
        sender.finish(computed(None));
        assert!(told.await.is_ok() && parts.is_computed(), "it is known before the chunks are carried");
        for index in [2, 6, 7, 9] {
            assert_eq!(parts.next().await, chunk(index));
        }
        assert_eq!(parts.next().await, Some(NodePart::Computed(computed(None))));
        assert!(!parts.is_computed());
    }

    #[tokio::test]
    async fn a_node_is_waited_for() {
        for first in [chunk(3), Some(NodePart::Computed(computed(None)))] {
            let (sender, mut parts, _told) = node_parts();
            let waiting = tokio::spawn(async move { (parts.begun().await, parts.next().await) });
            tokio::task::yield_now().await;
            match &first {
                Some(NodePart::Computed(_)) => sender.finish(computed(None)),
                _ => send(&sender, 3),
            }
            assert_eq!(waiting.await.unwrap().1, first);
        }
    }

    #[tokio::test]
    async fn a_node_that_is_given_up_ends_though_chunks_wait() {
        let (sender, mut parts, told) = node_parts();
        send(&sender, 1);
        assert!(parts.begun().await);
        send(&sender, 2);
        drop(sender);
        assert!(!parts.begun().await && !parts.is_computed() && told.await.is_err());
        assert_eq!(parts.next().await, None);
    }

    #[tokio::test]
    async fn of_a_node_that_is_not_finite_nothing_more_is_carried_but_its_end() {
        let (sender, mut parts, _told) = node_parts();
        send(&sender, 1);
        send(&sender, 2);
        assert_eq!(parts.next().await, chunk(1));
        sender.finish(computed(Some(0)));
        assert_eq!(parts.next().await, Some(NodePart::Computed(computed(Some(0)))));
    }
}
