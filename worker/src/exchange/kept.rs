//! The nodes that a worker has computed of the open step, chunk by chunk: kept until the step is committed, and sent to
//! whoever owns the chunks now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use convoy_reduce::{ChunkBuffer, FrozenChunks};
use convoy_scheduler::{Lease, LeaseId, Node, Opening, Owner, OwnersVersion, WorkerId};
use tokio::time::Instant;

use super::told::{Fence, ToldStep};
use crate::node_parts::ComputedNode;
use crate::stages;

/// An owner that has taken nothing for so long, while something waits for it, is lost.
const SILENCE: Duration = Duration::from_millis(1500);
/// So is one that has not taken all of a node for so long, though it takes something.
const TRICKLE: Duration = Duration::from_secs(8);

/// All nodes of the open step, in this opening. It decides what is sent to whom, and who is lost; it sends nothing.
#[derive(Debug)]
pub(crate) struct KeptNodes {
    chunks: usize,
    frozen: Arc<FrozenChunks>,
    told: Option<ToldStep>,
    nodes: BTreeMap<LeaseId, KeptNode>,
    queues: BTreeMap<WorkerId, OwnerQueue>,
}

#[derive(Debug)]
struct KeptNode {
    lease: Lease,
    chunks: BTreeMap<usize, Arc<ChunkBuffer>>,
    /// The owner that has each chunk.
    taken: BTreeMap<usize, WorkerId>,
    computed: Option<ComputedNode>,
    /// A chunk of it holds numbers that no owner takes.
    doubtful: bool,
    /// When its first chunk was there.
    begun: Option<std::time::Instant>,
    /// The version of the owners under which the coordinator was told that all have it.
    told: Option<OwnersVersion>,
}

/// What waits for an owner.
#[derive(Debug, Default)]
struct OwnerQueue {
    /// Not sent, the lowest chunk first.
    waiting: BTreeSet<(usize, LeaseId)>,
    /// Sent, and not taken.
    sent: BTreeSet<(usize, LeaseId)>,
    /// Since when it has taken nothing although something waits.
    since: Option<Instant>,
    /// Nodes of which something waits.
    nodes: BTreeMap<LeaseId, WaitingNode>,
}

#[derive(Debug)]
struct WaitingNode {
    since: Instant,
    /// How many chunks of it.
    chunks: usize,
}

impl OwnerQueue {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    fn put(&mut self, index: usize, lease: LeaseId, now: Instant) {
        if self.waiting.insert((index, lease)) {
            self.since.get_or_insert(now);
            self.nodes.entry(lease).or_insert(WaitingNode { since: now, chunks: 0 }).chunks += 1;
        }
    }

    /// The owner has taken a chunk that was sent.
    fn take(&mut self, index: usize, lease: LeaseId, now: Instant) -> bool {
        let taken = self.sent.remove(&(index, lease));
        if let Some(node) = self.nodes.get_mut(&lease).filter(|_| taken) {
            node.chunks -= 1;
            if node.chunks == 0 {
                self.nodes.remove(&lease);
            }
            self.since = (!self.is_empty()).then_some(now);
        }
        taken
    }

    /// Nothing of a node waits any more.
    fn forget(&mut self, lease: LeaseId) {
        if self.nodes.remove(&lease).is_some() {
            self.waiting.retain(|(_, other)| *other != lease);
            self.sent.retain(|(_, other)| *other != lease);
            self.since = self.since.filter(|_| !self.is_empty());
        }
    }
}

/// A chunk for its owner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutgoingChunk {
    pub(crate) fence: Fence,
    pub(crate) lease: LeaseId,
    pub(crate) node: Node,
    pub(crate) index: usize,
    pub(crate) values: Arc<ChunkBuffer>,
}

/// A node of which the coordinator is to be told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeliveredNode {
    pub(crate) lease: Lease,
    /// The owners that have its chunks.
    pub(crate) version: OwnersVersion,
    pub(crate) computed: ComputedNode,
    /// What the coordinator owns of it.
    pub(crate) chunks: Vec<(usize, Arc<ChunkBuffer>)>,
}

impl KeptNodes {
    /// Nothing is open. Vectors have `chunks` chunks.
    pub(crate) fn new(chunks: usize, frozen: Arc<FrozenChunks>) -> Self {
        KeptNodes { chunks, frozen, told: None, nodes: BTreeMap::new(), queues: BTreeMap::new() }
    }

    /// A step is open, or chunks of it have other owners. What was computed for another opening is worth nothing.
    pub(crate) fn open(&mut self, told: ToldStep, now: Instant) {
        if self.told.as_ref().is_none_or(|before| before.fence.opening != told.fence.opening) {
            self.nodes.clear();
        }
        self.queues.clear();
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.usable()) {
            for index in node.chunks.keys() {
                if let Some(owner) = node.lacking(&told, *index) {
                    self.queues.entry(owner).or_default().put(*index, *id, now);
                }
            }
        }
        self.told = Some(told);
    }

    /// The step is over.
    pub(crate) fn close(&mut self) {
        self.told = None;
        self.nodes.clear();
        self.queues.clear();
    }

    /// The node of `lease` will come. False where its step is not open.
    pub(crate) fn begin(&mut self, lease: Lease) -> bool {
        let open = self.told.as_ref().is_some_and(|told| told.step == lease.at.step.0);
        if open {
            let (chunks, taken) = (BTreeMap::new(), BTreeMap::new());
            self.nodes.insert(
                lease.at.lease,
                KeptNode { lease, chunks, taken, computed: None, doubtful: false, begun: None, told: None },
            );
        }
        open
    }

    /// A chunk of a node is there. It is sent from `now` on; of a node that is in doubt it is only kept.
    pub(crate) fn add(&mut self, lease: LeaseId, index: usize, values: Arc<ChunkBuffer>, now: Option<Instant>) {
        let (Some(told), Some(node)) = (&self.told, self.nodes.get_mut(&lease)) else { return };
        node.begun.get_or_insert_with(std::time::Instant::now);
        node.chunks.insert(index, values);
        match now {
            None if !std::mem::replace(&mut node.doubtful, true) => {
                self.queues.values_mut().for_each(|queue| queue.forget(lease));
            }
            None => {}
            Some(now) => {
                if let Some(owner) = node.lacking(told, index) {
                    self.queues.entry(owner).or_default().put(index, lease, now);
                }
            }
        }
    }

    /// All of a node is computed. Of one whose numbers are in doubt, no owner takes anything.
    pub(crate) fn computed(&mut self, lease: LeaseId, computed: ComputedNode) {
        if let Some(node) = self.nodes.get_mut(&lease) {
            node.computed = Some(computed);
            if !node.usable() {
                self.queues.values_mut().for_each(|queue| queue.forget(lease));
            }
        }
    }

    /// Nobody wants a node any more.
    pub(crate) fn drop_node(&mut self, lease: LeaseId) {
        if self.nodes.remove(&lease).is_some() {
            self.queues.values_mut().for_each(|queue| queue.forget(lease));
        }
    }

    /// What is to be sent to `owner` next: the lowest chunk.
    pub(crate) fn next(&mut self, owner: WorkerId) -> Option<OutgoingChunk> {
        let fence = self.told.as_ref()?.fence;
        let queue = self.queues.get_mut(&owner)?;
        let (index, lease) = queue.waiting.pop_first()?;
        queue.sent.insert((index, lease));
        let node = self.nodes.get(&lease)?;
        let values = node.chunks.get(&index)?.clone();
        Some(OutgoingChunk { fence, lease, node: node.lease.node, index, values })
    }

    /// Chunk `index` of all nodes of an opening that can be used.
    pub(crate) fn chunks(&self, opening: Opening, index: usize) -> Vec<(Node, Arc<ChunkBuffer>)> {
        let open = self.told.as_ref().is_some_and(|told| told.fence.opening == opening);
        let nodes = self.nodes.values().filter(|node| open && node.usable());
        nodes.filter_map(|node| Some((node.lease.node, node.chunks.get(&index)?.clone()))).collect()
    }

    /// An owner has added a chunk.
    pub(crate) fn taken(&mut self, owner: WorkerId, lease: LeaseId, index: usize, now: Instant) {
        if let Some(queue) = self.queues.get_mut(&owner)
            && queue.take(index, lease, now)
            && let Some(node) = self.nodes.get_mut(&lease)
        {
            node.taken.insert(index, owner);
        }
    }

    /// The connection to an owner is no more: what it has not said to have may be lost.
    pub(crate) fn broken(&mut self, owner: WorkerId) {
        if let Some(queue) = self.queues.get_mut(&owner) {
            let mut sent = std::mem::take(&mut queue.sent);
            queue.waiting.append(&mut sent);
        }
    }

    /// Owners that take nothing, or too little. Each is named once in so long a time.
    pub(crate) fn lost(&mut self, now: Instant) -> Vec<(OwnersVersion, WorkerId, &'static str)> {
        let mut lost = Vec::new();
        let Some(version) = self.told.as_ref().map(|told| told.fence.version) else { return lost };
        for (owner, queue) in &mut self.queues {
            let silent = queue.since.is_some_and(|since| now - since >= SILENCE);
            let trickles = queue.nodes.values().any(|node| now - node.since >= TRICKLE);
            if silent || trickles {
                queue.since = queue.since.map(|_| now);
                queue.nodes.values_mut().for_each(|node| node.since = now);
                lost.push((version, *owner, if silent { "it takes nothing" } else { "it takes a node too slowly" }));
            }
        }
        lost
    }

    /// The coordinator did not take what it was told of a node under `version`: it is told again, if that still holds.
    pub(crate) fn not_taken(&mut self, lease: LeaseId, version: OwnersVersion) {
        if let Some(node) = self.nodes.get_mut(&lease).filter(|node| node.told == Some(version)) {
            node.told = None;
        }
    }

    /// Nodes that are all with their owners, and those whose numbers are in doubt. Each is given once for each version
    /// of the owners.
    pub(crate) fn delivered(&mut self) -> Vec<DeliveredNode> {
        let Some(told) = &self.told else { return Vec::new() };
        let version = told.fence.version;
        let travel = self.chunks - self.frozen.at(told.step).count();
        let mut delivered = Vec::new();
        for (id, node) in self.nodes.iter_mut().filter(|(_, node)| node.told != Some(version)) {
            let Some(computed) = node.computed.clone() else { continue };
            let waits = self.queues.values().any(|queue| queue.nodes.contains_key(id));
            if !node.usable() || (!waits && node.chunks.len() == travel) {
                node.told = Some(version);
                node.begun.take().into_iter().for_each(|begun| stages::over("exchange", node.lease.at.step, begun));
                let own = |(index, _): &(&usize, _)| told.of.get(**index) == Some(&Owner::Coordinator);
                let chunks = node.chunks.iter().filter(own).map(|(index, values)| (*index, values.clone())).collect();
                delivered.push(DeliveredNode { lease: node.lease, version, computed, chunks });
            }
        }
        delivered
    }
}

impl KeptNode {
    /// Whether its numbers can be added.
    fn usable(&self) -> bool {
        !self.doubtful
            && self.computed.as_ref().is_none_or(|computed| computed.not_finite.is_none() && !computed.absurd)
    }

    /// The worker that owns chunk `index` and does not have it.
    fn lacking(&self, told: &ToldStep, index: usize) -> Option<WorkerId> {
        match told.of.get(index)? {
            Owner::Worker(owner) if self.taken.get(&index) != Some(owner) => Some(*owner),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::{Opening, Work};

    use super::*;
    use crate::fixtures::lease;
    use crate::node_parts::Times;

    const CHUNKS: usize = 4;
    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);
    const ME: WorkerId = WorkerId(3);

    /// Step 3 in an opening, with an owner of each chunk; 0 for the coordinator.
    fn told(opening: u64, version: u64, of: [u32; CHUNKS]) -> ToldStep {
        let owner = |worker| if worker == 0 { Owner::Coordinator } else { Owner::Worker(WorkerId(worker)) };
        let fence = Fence { opening: Opening(opening), version: OwnersVersion(version) };
        ToldStep { fence, step: 3, shards: 8, of: of.map(owner).into() }
    }

    fn computed() -> ComputedNode {
        ComputedNode { sums: vec![1.0], not_finite: None, absurd: false, digests: Vec::new(), times: Times::default() }
    }

    /// Kept nodes, in which the node of lease 9 was begun.
    fn begun(told: ToldStep) -> KeptNodes {
        let mut kept = KeptNodes::new(CHUNKS, Arc::default());
        kept.open(told, Instant::now());
        assert!(kept.begin(lease(Work::Train, 3, 9, 0..2)));
        kept
    }

    fn add(kept: &mut KeptNodes, indices: impl IntoIterator<Item = usize>) {
        for index in indices {
            let values = Arc::new(ChunkBuffer::of(&[index as f32]));
            kept.add(LeaseId(9), index, values, Some(Instant::now()));
        }
    }

    /// The chunks that are sent to a worker now.
    fn sent(kept: &mut KeptNodes, owner: WorkerId) -> Vec<usize> {
        std::iter::from_fn(|| kept.next(owner)).map(|chunk| chunk.index).collect()
    }

    fn take(kept: &mut KeptNodes, owner: WorkerId, indices: impl IntoIterator<Item = usize>) {
        for index in indices {
            kept.taken(owner, LeaseId(9), index, Instant::now());
        }
    }

    /// The versions for which the node was given as delivered, and how many chunks are the coordinator's.
    fn delivered(kept: &mut KeptNodes) -> Vec<(u64, usize)> {
        kept.delivered().into_iter().map(|node| (node.version.0, node.chunks.len())).collect()
    }

    #[tokio::test]
    async fn each_owner_gets_its_chunks_as_they_are_made_the_lowest_first() {
        let mut kept = begun(told(1, 1, [1, 2, 1, 3]));
        assert_eq!(kept.next(ONE), None);
        add(&mut kept, [3, 2]);
        assert_eq!((sent(&mut kept, ONE), sent(&mut kept, TWO)), (vec![2], vec![]));
        add(&mut kept, [1, 0]);
        let chunk = kept.next(ONE).expect("a chunk");
        let fence = Fence { opening: Opening(1), version: OwnersVersion(1) };
        assert_eq!((chunk.fence, chunk.lease, chunk.index, &chunk.values[..]), (fence, LeaseId(9), 0, &[0.0][..]));
        assert_eq!((chunk.node, sent(&mut kept, ONE)), (Node { first: 0, last: 2 }, vec![]));
        assert_eq!((sent(&mut kept, TWO), sent(&mut kept, ME)), (vec![1], vec![3]), "its own as well");
        assert!(!kept.begin(lease(Work::Train, 4, 10, 0..2)), "that step is not open");
    }

    #[tokio::test]
    async fn a_node_is_delivered_when_it_is_computed_and_all_of_it_taken_by_its_owners() {
        let mut kept = begun(told(1, 1, [1, 2, 1, 3]));
        add(&mut kept, 0..CHUNKS);
        [ONE, TWO, ME].into_iter().for_each(|owner| _ = sent(&mut kept, owner));
        take(&mut kept, ONE, [0, 2]);
        take(&mut kept, TWO, [1]);
        take(&mut kept, TWO, [3]);
        assert_eq!(delivered(&mut kept), [], "who does not own a chunk cannot have taken it");
        take(&mut kept, ME, [3]);
        assert_eq!(delivered(&mut kept), [], "its sums are not known");
        kept.computed(LeaseId(9), computed());
        assert_eq!(delivered(&mut kept), [(1, 0)]);
        assert_eq!(delivered(&mut kept), [], "once");
    }

    #[tokio::test]
    async fn chunks_that_move_are_sent_to_their_new_owner_and_the_node_is_delivered_again() {
        let mut kept = begun(told(1, 1, [1, 2, 1, 3]));
        add(&mut kept, 0..CHUNKS);
        [ONE, TWO, ME].into_iter().for_each(|owner| _ = sent(&mut kept, owner));
        take(&mut kept, ONE, [0, 2]);
        take(&mut kept, ME, [3]);
        kept.computed(LeaseId(9), computed());
        kept.open(told(1, 2, [2, 2, 1, 3]), Instant::now());
        assert_eq!((sent(&mut kept, ONE), sent(&mut kept, ME)), (vec![], vec![]), "they have theirs");
        assert_eq!(sent(&mut kept, TWO), [0, 1], "what was not taken is sent anew");
        take(&mut kept, TWO, [0, 1]);
        assert_eq!(delivered(&mut kept), [(2, 0)]);
        kept.open(told(1, 3, [0; CHUNKS]), Instant::now());
        assert_eq!(delivered(&mut kept), [(3, CHUNKS)], "the coordinator gets all of it");
    }

    #[tokio::test]
    async fn another_opening_forgets_everything() {
        let mut kept = begun(told(1, 1, [1; CHUNKS]));
        add(&mut kept, 0..CHUNKS);
        kept.computed(LeaseId(9), computed());
        kept.open(told(2, 1, [1; CHUNKS]), Instant::now());
        assert_eq!((sent(&mut kept, ONE), delivered(&mut kept)), (vec![], vec![]));
        kept.close();
        assert!(!kept.begin(lease(Work::Train, 3, 9, 0..2)));
    }

    #[tokio::test]
    async fn what_was_on_its_way_when_a_connection_broke_is_sent_again() {
        let mut kept = begun(told(1, 1, [1; CHUNKS]));
        add(&mut kept, 0..CHUNKS);
        assert_eq!(sent(&mut kept, ONE), [0, 1, 2, 3]);
        take(&mut kept, ONE, [1]);
        kept.broken(ONE);
        assert_eq!(sent(&mut kept, ONE), [0, 2, 3]);
    }

    #[tokio::test]
    async fn a_node_in_doubt_is_delivered_at_once_and_nothing_more_of_it_is_sent() {
        for doubt in [ComputedNode { absurd: true, ..computed() }, ComputedNode { not_finite: Some(1), ..computed() }] {
            let mut kept = begun(told(1, 1, [1; CHUNKS]));
            add(&mut kept, 0..2);
            kept.computed(LeaseId(9), doubt);
            assert_eq!((sent(&mut kept, ONE), delivered(&mut kept)), (vec![], vec![(1, 0)]));
        }
    }

    #[tokio::test]
    async fn an_absurd_node_goes_to_the_coordinator_whole_where_that_owns_its_chunks() {
        let mut kept = begun(told(1, 1, [1; CHUNKS]));
        add(&mut kept, 0..2);
        for index in 2..CHUNKS {
            kept.add(LeaseId(9), index, Arc::new(ChunkBuffer::of(&[f32::MAX])), None);
        }
        assert!(sent(&mut kept, ONE).is_empty(), "nothing of it is sent any more");
        kept.computed(LeaseId(9), ComputedNode { absurd: true, ..computed() });
        assert_eq!(delivered(&mut kept), [(1, 0)]);
        kept.open(told(1, 2, [0; CHUNKS]), Instant::now());
        assert_eq!(delivered(&mut kept), [(2, CHUNKS)]);
    }

    #[tokio::test]
    async fn a_chunk_of_all_nodes_that_can_be_used_is_there_for_an_audit() {
        let mut kept = begun(told(1, 1, [1; CHUNKS]));
        add(&mut kept, 0..2);
        let node = |index| kept.chunks(Opening(1), index).into_iter().map(|(node, _)| node).collect::<Vec<_>>();
        assert_eq!((node(1), node(3)), (vec![Node { first: 0, last: 2 }], vec![]));
        assert!(kept.chunks(Opening(2), 1).is_empty(), "another opening");
        kept.add(LeaseId(9), 3, Arc::new(ChunkBuffer::of(&[f32::MAX])), None);
        assert!(kept.chunks(Opening(1), 1).is_empty(), "nobody has taken anything of it");
    }

    #[tokio::test]
    async fn a_node_that_the_coordinator_did_not_take_is_told_again() {
        let mut kept = begun(told(1, 1, [0; CHUNKS]));
        add(&mut kept, 0..CHUNKS);
        kept.computed(LeaseId(9), computed());
        assert_eq!((delivered(&mut kept).len(), delivered(&mut kept).len()), (1, 0));
        kept.not_taken(LeaseId(9), OwnersVersion(1));
        assert_eq!(delivered(&mut kept).len(), 1);
        kept.open(told(1, 2, [0; CHUNKS]), Instant::now());
        assert_eq!(delivered(&mut kept).len(), 1);
        kept.not_taken(LeaseId(9), OwnersVersion(1));
        assert_eq!(delivered(&mut kept).len(), 0, "that was about other owners");
    }

    #[tokio::test]
    async fn nothing_of_a_node_that_is_not_wanted_is_sent() {
        let mut kept = begun(told(1, 1, [1; CHUNKS]));
        add(&mut kept, 0..CHUNKS);
        kept.drop_node(LeaseId(9));
        assert!(sent(&mut kept, ONE).is_empty());
        assert!(kept.lost(Instant::now() + 2 * SILENCE).is_empty());
    }

    #[tokio::test]
    async fn an_owner_that_takes_nothing_is_lost_and_so_is_one_that_takes_too_little() {
        let mut kept = begun(told(1, 5, [1, 2, 1, 1]));
        add(&mut kept, 0..CHUNKS);
        _ = (sent(&mut kept, ONE), sent(&mut kept, TWO));
        let now = Instant::now();
        assert!(kept.lost(now + SILENCE / 2).is_empty());
        kept.taken(ONE, LeaseId(9), 0, now + SILENCE / 2);
        let lost = kept.lost(now + SILENCE * 5 / 4);
        assert_eq!(lost, [(OwnersVersion(5), TWO, "it takes nothing")]);
        assert!(kept.lost(now + SILENCE * 11 / 8).is_empty(), "it is not named at once again");
        kept.taken(TWO, LeaseId(9), 1, now + SILENCE * 3 / 2);
        kept.taken(ONE, LeaseId(9), 2, now + TRICKLE - SILENCE / 2);
        let lost = kept.lost(now + TRICKLE + SILENCE / 4);
        assert_eq!(lost, [(OwnersVersion(5), ONE, "it takes a node too slowly")]);
    }
}
